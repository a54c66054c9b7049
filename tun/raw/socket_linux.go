package raw

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-go/btns/tun"
)

// controlWords is the room for control messages, in 8-byte words: packet information 40
// bytes, traffic class 24.
const controlWords = 8

// A socket is one raw protocol-50 socket.
type socket struct {
	conn  *net.IPConn
	rc    syscall.RawConn
	inet6 bool
	bound netip.Addr // invalid: all

	in  call // owned by the one goroutine that receives
	mu  sync.Mutex
	out call // under mu
}

// A call is a system call in preparation; all its memory is made once.
type call struct {
	hdr   unix.Msghdr
	iov   unix.Iovec
	name  unix.RawSockaddrInet6
	ctl   [controlWords]uint64
	try   func(fd uintptr) bool
	n     int
	errno syscall.Errno
}

func openSockets(cfg *Config) ([]*socket, error) {
	type listen struct {
		network string
		addr    netip.Addr
	}
	var want []listen
	for _, a := range cfg.Addrs {
		a = a.Unmap()
		if a.Is4() {
			want = append(want, listen{"ip4:50", a})
		} else {
			want = append(want, listen{"ip6:50", a})
		}
	}
	all := len(want) == 0
	if all {
		want = []listen{{"ip4:50", netip.Addr{}}, {"ip6:50", netip.Addr{}}}
	}
	var socks []*socket
	for _, l := range want {
		s, err := openSocket(l.network, l.addr, cfg)
		if err != nil && all && len(socks) > 0 && !errors.Is(err, os.ErrPermission) {
			continue // a host without IPv6
		}
		if err != nil {
			for _, s := range socks {
				err = errors.Join(err, s.close())
			}
			return nil, err
		}
		socks = append(socks, s)
	}
	return socks, nil
}

func openSocket(network string, addr netip.Addr, cfg *Config) (*socket, error) {
	var at *net.IPAddr
	if addr.IsValid() {
		at = &net.IPAddr{IP: addr.AsSlice(), Zone: addr.Zone()}
	}
	conn, err := net.ListenIP(network, at)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, inet6: network == "ip6:50", bound: addr.WithZone("")}
	if s.rc, err = conn.SyscallConn(); err == nil {
		err = s.setOptions(cfg)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.in.try = s.recvmsg
	s.out.try = s.sendmsg
	return s, nil
}

func (s *socket) setOptions(cfg *Config) error {
	discover := unix.IP_PMTUDISC_DONT
	if cfg.DontFragment {
		discover = unix.IP_PMTUDISC_PROBE
	}
	var err error
	cerr := s.rc.Control(func(f uintptr) {
		fd := int(f)
		if !s.inet6 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover)
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, discover)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
	})
	return errors.Join(cerr, err)
}

func (s *socket) close() error { return s.conn.Close() }

// fits reports whether s can send on p.
func (s *socket) fits(p tun.Path) bool {
	local := p.Local.Addr()
	return p.Remote.Addr().Unmap().Is6() == s.inet6 &&
		(!local.IsValid() || local.IsUnspecified() || !s.bound.IsValid() || local == s.bound)
}

// receive waits for one packet. It returns a reason if the packet is to be dropped.
func (s *socket) receive(p *tun.Packet) (tun.Drop, error) {
	c := &s.in
	// An IPv4 header comes first.
	c.iov.Base = &p.Buf[tun.Headroom]
	c.iov.SetLen(len(p.Buf) - tun.Headroom)
	c.prepare()
	c.hdr.Namelen = unix.SizeofSockaddrInet6
	c.hdr.Control = (*byte)(unsafe.Pointer(&c.ctl))
	c.hdr.SetControllen(len(c.ctl) * 8)
	err := s.rc.Read(c.try)
	if err == nil && c.errno != 0 {
		err = os.NewSyscallError("recvmsg", c.errno)
	}
	if err != nil {
		return tun.DropUnset, err
	}
	if c.hdr.Flags&unix.MSG_TRUNC != 0 {
		return tun.DropTruncated, nil
	}
	b := p.Buf[tun.Headroom : tun.Headroom+c.n]
	var src, dst netip.Addr
	if s.inet6 {
		p.Off, p.Len = tun.Headroom, c.n
		src = netip.AddrFrom16(c.name.Addr)
		dst, p.ECN = c.control()
	} else {
		var off, end int
		var ok bool
		if src, dst, p.ECN, off, end, ok = parse4(b); !ok {
			return tun.DropHeader, nil
		}
		p.Off, p.Len = tun.Headroom+off, end-off
	}
	return finish(p, src, dst), nil
}

// control reads the control messages that the kernel wrote.
func (c *call) control() (dst netip.Addr, ecn uint8) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&c.ctl)), len(c.ctl)*8)
	b = b[:min(int(c.hdr.Controllen), len(b))]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			break
		}
		d := b[unix.CmsgLen(0):size]
		switch {
		case h.Level != unix.IPPROTO_IPV6:
		case h.Type == unix.IPV6_PKTINFO && len(d) >= unix.SizeofInet6Pktinfo:
			dst = netip.AddrFrom16([16]byte(d[:16]))
		case h.Type == unix.IPV6_TCLASS && len(d) >= 4:
			ecn = uint8(binary.NativeEndian.Uint32(d)) & 3
		}
		b = b[min(unix.CmsgSpace(size-unix.SizeofCmsghdr), len(b)):]
	}
	return dst, ecn
}

// prepare points the message at its parts.
func (c *call) prepare() {
	c.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&c.name)), Iov: &c.iov}
	c.hdr.SetIovlen(1)
}

func (s *socket) send(p *tun.Packet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.out
	data := p.Data()
	c.iov.Base = &data[0]
	c.iov.SetLen(len(data))
	c.prepare()
	remote := p.Path.Remote.Addr().Unmap()
	if s.inet6 {
		c.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: remote.As16()}
		if z := remote.Zone(); z != "" {
			ifi, err := net.InterfaceByName(z)
			if err != nil {
				return tun.ErrPath
			}
			c.name.Scope_id = uint32(ifi.Index)
		}
		c.hdr.Namelen = unix.SizeofSockaddrInet6
	} else {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&c.name)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: remote.As4()}
		c.hdr.Namelen = unix.SizeofSockaddrInet4
	}
	c.putControl(p, s.inet6)
	err := s.rc.Write(c.try)
	c.iov.Base = nil // the caller's memory is not ours any more
	switch {
	case err != nil:
		return err
	case c.errno == unix.EMSGSIZE:
		return tun.ErrTooBig
	case c.errno != 0:
		return os.NewSyscallError("sendmsg", c.errno)
	}
	return nil
}

// putControl writes the control messages for source address and ECN.
func (c *call) putControl(p *tun.Packet, inet6 bool) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&c.ctl)), len(c.ctl)*8)
	clear(b)
	end := 0
	add := func(level, typ int32, n int) []byte {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[end]))
		h.Level, h.Type = level, typ
		h.SetLen(unix.CmsgLen(n))
		d := b[end+unix.CmsgLen(0) : end+unix.CmsgLen(n)]
		end += unix.CmsgSpace(n)
		return d
	}
	level, info, class := int32(unix.IPPROTO_IP), int32(unix.IP_PKTINFO), int32(unix.IP_TOS)
	if inet6 {
		level, info, class = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.IPV6_TCLASS
	}
	if a := p.Path.Local.Addr(); a.IsValid() && !a.IsUnspecified() {
		if inet6 {
			v := a.As16()
			copy(add(level, info, unix.SizeofInet6Pktinfo), v[:])
		} else {
			v := a.As4()
			copy(add(level, info, unix.SizeofInet4Pktinfo)[4:], v[:]) // ipi_spec_dst
		}
	}
	if p.ECN&3 != 0 {
		binary.NativeEndian.PutUint32(add(level, class, 4), uint32(p.ECN&3))
	}
	c.hdr.Control = nil
	if end > 0 {
		c.hdr.Control = &b[0]
	}
	c.hdr.SetControllen(end)
}

func (s *socket) recvmsg(fd uintptr) bool {
	return s.in.do(unix.SYS_RECVMSG, fd, unix.MSG_DONTWAIT)
}

func (s *socket) sendmsg(fd uintptr) bool {
	return s.out.do(unix.SYS_SENDMSG, fd, unix.MSG_DONTWAIT)
}

// do makes the system call, or reports false if the socket is not ready.
func (c *call) do(trap, fd, flags uintptr) bool {
	for {
		n, _, e := unix.Syscall(trap, fd, uintptr(unsafe.Pointer(&c.hdr)), flags)
		switch e {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		c.errno, c.n = e, 0
		if e == 0 {
			c.n = int(n)
		}
		return true
	}
}
