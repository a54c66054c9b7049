package udp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A poller waits until one of several sockets has something, without a thread or goroutine
// for each: an epoll instance, itself registered with the runtime's poller.
type poller struct {
	file   *os.File
	rc     syscall.RawConn
	wake   func(fd uintptr) bool
	events [8]unix.EpollEvent
	errno  error
}

func newPoller(socks []*socketReader) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	for _, s := range socks {
		var ctl error
		err := s.rc.Control(func(sock uintptr) {
			ctl = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(sock), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(sock)})
		})
		if err == nil {
			err = os.NewSyscallError("epoll_ctl", ctl)
		}
		if err != nil {
			_ = p.file.Close()
			return nil, err
		}
	}
	if p.rc, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, err
	}
	p.wake = p.check
	return p, nil
}

// wait blocks until a socket is readable. It is called by one goroutine at a time.
func (p *poller) wait() error {
	if err := p.rc.Read(p.wake); err != nil {
		return err
	}
	return os.NewSyscallError("epoll_wait", p.errno)
}

// check reports whether some socket is readable.
func (p *poller) check(fd uintptr) bool {
	for {
		n, err := unix.EpollWait(int(fd), p.events[:], 0)
		if err == unix.EINTR {
			continue
		}
		p.errno = err
		return n > 0 || err != nil
	}
}

func (p *poller) close() { _ = p.file.Close() }
