package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlWords is the room for control messages of one packet, in 8-byte words: packet
// information 40 bytes, traffic class 24, GSO or GRO size 24, rounded up.
const controlWords = 16

// A control is a buffer for control messages, aligned as the kernel wants them.
type control [controlWords]uint64

func (c *control) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(c)), len(c)*8)
}

// add appends a control message with n bytes of data at offset off. It returns the data to
// fill in and the next offset. c is large enough for all that are ever added.
func (c *control) add(off int, level, typ int32, n int) (data []byte, next int) {
	b := c.bytes()[off:]
	clear(b[:unix.CmsgSpace(n)])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(n))
	at := unix.CmsgLen(0)
	return b[at : at+n], off + unix.CmsgSpace(n)
}

// putSource adds the source address of a packet: RFC 3542, Section 6.2 for IPv6, ip(7) for IPv4.
func (c *control) putSource(off int, a netip.Addr) int {
	if a.Is4() {
		d, next := c.add(off, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		b := a.As4()
		copy(d[4:8], b[:]) // ipi_spec_dst
		return next
	}
	d, next := c.add(off, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
	b := a.As16()
	copy(d, b[:])
	return next
}

// putECN adds the ECN field; the rest of the byte, the DSCP, stays 0.
func (c *control) putECN(off int, is4 bool, ecn uint8) int {
	level, typ := int32(unix.IPPROTO_IPV6), int32(unix.IPV6_TCLASS)
	if is4 {
		level, typ = unix.IPPROTO_IP, unix.IP_TOS
	}
	d, next := c.add(off, level, typ, 4)
	binary.NativeEndian.PutUint32(d, uint32(ecn&3))
	return next
}

// putSegment adds the size of GSO segments.
func (c *control) putSegment(off, size int) int {
	d, next := c.add(off, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
	binary.NativeEndian.PutUint16(d, uint16(size))
	return next
}

// A received is what the control messages of a datagram say.
type received struct {
	local   netip.Addr
	ecn     uint8
	segment int // size of the datagrams that GRO joined; 0 if it did not
}

// parse reads the first n bytes of control messages. The kernel wrote them.
func (c *control) parse(n int) (r received) {
	b := c.bytes()
	b = b[:min(max(n, 0), len(b))]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			return r
		}
		d := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(d) >= unix.SizeofInet4Pktinfo:
			r.local = netip.AddrFrom4([4]byte(d[8:12])) // ipi_addr: the destination in the header
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(d) >= unix.SizeofInet6Pktinfo:
			r.local = netip.AddrFrom16([16]byte(d[:16])).Unmap()
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(d) >= 1:
			r.ecn = d[0] & 3
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(d) >= 4:
			r.ecn = uint8(binary.NativeEndian.Uint32(d)) & 3
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(d) >= 4:
			r.segment = int(binary.NativeEndian.Uint32(d))
		}
		b = b[min(unix.CmsgSpace(size-unix.SizeofCmsghdr), len(b)):]
	}
	return r
}

// putSockaddr writes an address and returns its length.
func putSockaddr(sa *unix.RawSockaddrInet6, inet6 bool, ap netip.AddrPort) uint32 {
	if !inet6 {
		s4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*s4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: ap.Addr().Unmap().As4()}
		putPort(&s4.Port, ap.Port())
		return unix.SizeofSockaddrInet4
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: ap.Addr().As16()}
	putPort(&sa.Port, ap.Port())
	if z := ap.Addr().Zone(); z != "" {
		sa.Scope_id = zoneIndex(z)
	}
	return unix.SizeofSockaddrInet6
}

// sockaddr reads an address that the kernel wrote.
func sockaddr(sa *unix.RawSockaddrInet6, zones *zoneNames) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		s4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(s4.Addr), port(&s4.Port))
	case unix.AF_INET6:
		a := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 && a.Is6() {
			a = a.WithZone(zones.name(sa.Scope_id))
		}
		return netip.AddrPortFrom(a, port(&sa.Port))
	}
	return netip.AddrPort{}
}

// Ports are in network order whatever the machine's is.
func putPort(p *uint16, v uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], v)
}

func port(p *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:])
}

// zoneNames remembers the decimal form of interface numbers.
// A host has few interfaces, which bounds it.
type zoneNames map[uint32]string

func (z *zoneNames) name(index uint32) string {
	if s, ok := (*z)[index]; ok {
		return s
	}
	if *z == nil {
		*z = make(zoneNames)
	}
	s := strconv.FormatUint(uint64(index), 10)
	(*z)[index] = s
	return s
}

// zoneIndex returns the number of the interface that a zone names, 0 if there is none.
// Received addresses have numbers as zones, so that only configured names are looked up.
func zoneIndex(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil || ifi.Index < 0 {
		return 0
	}
	return uint32(ifi.Index)
}
