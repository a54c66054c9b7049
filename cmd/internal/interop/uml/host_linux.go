package uml

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

func supported() error {
	if setnsNumber() == 0 {
		return fmt.Errorf("uml: not supported on linux/%s", runtime.GOARCH)
	}
	return nil
}

// ownGroup makes the process the leader of a group of its own: User-Mode Linux has
// one host process per guest address space, and they end together.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func endGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) } // ESRCH: all gone already

// setnsNumber is the number of the setns system call, which package syscall lacks.
func setnsNumber() uintptr {
	switch runtime.GOARCH {
	case "amd64":
		return 308
	case "386":
		return 346
	case "arm64":
		return 268
	}
	return 0
}

// inNetNS calls f on a thread of its own. The thread is never unlocked, so that it
// ends with the goroutine and nobody else gets a thread in the namespace.
func inNetNS(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			ns, err := os.Open(path)
			if err != nil {
				return err
			}
			defer ns.Close()
			if _, _, errno := syscall.RawSyscall(setnsNumber(), ns.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
				return fmt.Errorf("uml: setns %s: %w", path, errno)
			}
			return f()
		}()
	}()
	return <-done
}
