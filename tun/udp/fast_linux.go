package udp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// startFast sets w up with batched system calls. If the kernel refuses an option that they
// rely on, as a sandbox might, it reports false and the plain implementation serves.
func (w *Wire) startFast(cfg *Config) (bool, error) {
	r := &fastReceiver{w: w}
	for _, s := range w.socks {
		rc, err := s.conn.SyscallConn()
		if err != nil {
			return false, err
		}
		o, err := setOptions(rc, s, cfg)
		if err != nil {
			w.log.Warn("batched system calls are not usable here", "err", err)
			return false, nil
		}
		s.out = newFastSender(s, rc, o)
		r.socks = append(r.socks, newSocketReader(s, rc))
	}
	if len(r.socks) > 1 {
		var err error
		if r.poll, err = newPoller(r.socks); err != nil {
			w.log.Warn("cannot wait for several sockets at once", "err", err)
			return false, nil
		}
	}
	if !cfg.NoOffload {
		// Last, since the plain implementation could not take apart what GRO joins.
		for _, s := range r.socks {
			if s.startGRO() {
				w.caps.Batch = joinedBatch
			}
		}
	}
	w.in = r
	return true, nil
}

// What a socket turned out to be and to have.
type options struct {
	inet6 bool // family of the socket's addresses
	gso   bool
}

// setOptions turns on what the wire needs, and finds out what the kernel has.
func setOptions(rc syscall.RawConn, s *socket, cfg *Config) (o options, err error) {
	cerr := rc.Control(func(f uintptr) {
		fd := int(f)
		var domain int
		if domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
			return
		}
		o.inet6 = domain == unix.AF_INET6
		if o.inet6 {
			if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
				return
			}
			// ECN and DF are worth having, not worth failing for.
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, discover(cfg))
		} else if err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
			return
		}
		if s.v4 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover(cfg))
		}
		if cfg.SocketBuffer >= 0 {
			size := cfg.SocketBuffer
			if size == 0 {
				size = socketBuffer
			}
			// Beyond the limits for everybody, where CAP_NET_ADMIN allows it.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size)
		}
		if !cfg.NoOffload {
			_, e := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
			o.gso = e == nil
		}
	})
	if cerr != nil {
		return o, cerr
	}
	return o, os.NewSyscallError("setsockopt", err)
}

// discover returns the value of IP_MTU_DISCOVER and IPV6_MTU_DISCOVER; they share numbers.
// PROBE sets DF and takes no notice of what ICMP says; DONT leaves DF clear.
func discover(cfg *Config) int {
	if cfg.DontFragment {
		return unix.IP_PMTUDISC_PROBE
	}
	return unix.IP_PMTUDISC_DONT
}
