package control

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// checkPeer admits root and the user this process runs as.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if cerr != nil {
		return fmt.Errorf("control: who asks: %w", cerr)
	}
	return admit(int(cred.Uid), os.Geteuid())
}

// admit lets root and the host's own user ask.
func admit(uid, own int) error {
	if uid != 0 && uid != own {
		return fmt.Errorf("control: uid %d may not speak to a host of uid %d", uid, own)
	}
	return nil
}
