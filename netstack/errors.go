package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

var (
	// ErrHookBypassed is New's refusal to run on a gVisor that does not call the inbound hook.
	ErrHookBypassed = errors.New("gVisor does not call the inbound hook")

	// ErrBroken is what every call returns after a panic went through gVisor, whose locks are then in an unknown state.
	ErrBroken = errors.New("netstack: broken by a panic")
)

// errno translates gVisor's errors, which are no Go errors, into those that package net's users test for with errors.Is.
// This is the only place where that happens. Would-block and end-of-stream are the callers' affair.
func errno(e tcpip.Error) syscall.Errno {
	switch e.(type) {
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrHostDown:
		return syscall.EHOSTDOWN
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		return syscall.ENETUNREACH
	case *tcpip.ErrPortInUse:
		return syscall.EADDRINUSE
	case *tcpip.ErrNoPortAvailable, *tcpip.ErrBadLocalAddress:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrNotConnected:
		return syscall.ENOTCONN
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	case *tcpip.ErrDestinationRequired:
		return syscall.EDESTADDRREQ
	case *tcpip.ErrNotPermitted:
		return syscall.EPERM
	case *tcpip.ErrBroadcastDisabled:
		return syscall.EACCES
	case *tcpip.ErrAlreadyConnected:
		return syscall.EISCONN
	case *tcpip.ErrAlreadyConnecting:
		return syscall.EALREADY
	case *tcpip.ErrAddressFamilyNotSupported:
		return syscall.EAFNOSUPPORT
	case *tcpip.ErrUnknownProtocolOption, *tcpip.ErrUnknownProtocol:
		return syscall.ENOPROTOOPT
	case *tcpip.ErrNotSupported:
		return syscall.EOPNOTSUPP
	}
	return syscall.EINVAL
}

// sysErr is errno in package net's dress: "connect: connection refused".
func sysErr(call string, e tcpip.Error) error { return os.NewSyscallError(call, errno(e)) }

// sysErrno is sysErr for a number of our own.
func sysErrno(call string, n syscall.Errno) error { return os.NewSyscallError(call, n) }

// errCancelled says that a wait was ended by its context; it does not leave the package.
var errCancelled = errors.New("cancelled")

// opErr dresses an error as package net does; io.EOF stays bare.
func opErr(op, network string, local, remote net.Addr, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: network, Source: local, Addr: remote, Err: err}
}

// timeoutError is what a context's deadline becomes, as package net's: Timeout() and both sentinels match.
type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
func (timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// ctxErr is the error of an operation that its context ended: the context's cause, or a time-out.
func ctxErr(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return timeoutError{}
}

// isWouldBlock reports that the operation has to wait.
func isWouldBlock(e tcpip.Error) bool {
	_, ok := e.(*tcpip.ErrWouldBlock)
	return ok
}
