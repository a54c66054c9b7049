package udp

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/btns-go/btns/tun"
)

// A kernel is a RawConn whose sendmmsg is a function of the test.
type kernel struct{ syscall.RawConn }

func (kernel) Write(f func(uintptr) bool) error {
	for !f(0) {
	}
	return nil
}

// TestGSORefused: packets that the kernel does not take joined leave one by one, in order.
func TestGSORefused(t *testing.T) {
	for _, c := range []struct {
		name     string
		errno    syscall.Errno
		gsoAfter bool
	}{
		{"the interface does no checksums", unix.EIO, false},
		{"larger than the MTU", unix.EINVAL, true},
		{"nothing to refuse", 0, true},
	} {
		s := &socket{bound: netip.MustParseAddrPort("[::]:4500"), v4: true, v6: true}
		f := newFastSender(s, kernel{}, options{inet6: true, gso: true})
		var got []int // lengths, as sent
		calls := 0
		f.try = func(uintptr) bool {
			if calls++; calls%3 == 1 {
				return false // not ready
			}
			f.sent, f.errno = 0, 0
			h := &f.hdrs[f.from].Hdr
			if h.Iovlen > 1 && f.packets[f.from] > 1 && c.errno != 0 {
				f.errno = c.errno
				return true
			}
			// One message at a time, as if the socket's buffer were nearly full.
			first := 0
			for i := range f.from {
				first += int(f.hdrs[i].Hdr.Iovlen)
			}
			for _, v := range f.iovs[first : first+int(h.Iovlen)] {
				got = append(got, int(v.Len))
			}
			f.sent = 1
			return true
		}
		var pkts []tun.Packet
		for i := range 150 {
			p := esp(tun.Path{Remote: netip.MustParseAddrPort("192.0.2.1:4500")}, 100, byte(i))
			if i%40 == 39 {
				p = esp(tun.Path{Remote: netip.MustParseAddrPort("[2001:db8::1]:4500")}, 60+i, byte(i))
			}
			pkts = append(pkts, p)
		}
		n, err := f.send(pkts)
		if n != len(pkts) || err != nil || len(got) != len(pkts) {
			t.Fatalf("%s: sent %d of %d, %v; the kernel got %d", c.name, n, len(pkts), err, len(got))
		}
		for i := range got {
			if got[i] != pkts[i].Len {
				t.Fatalf("%s: packet %d has %d bytes, want %d", c.name, i, got[i], pkts[i].Len)
			}
		}
		if f.gso.Load() != c.gsoAfter {
			t.Errorf("%s: GSO is %v afterwards", c.name, f.gso.Load())
		}
	}
}

// TestSendRefused: an error belongs to the packet it is about.
func TestSendRefused(t *testing.T) {
	s := &socket{bound: netip.MustParseAddrPort("0.0.0.0:4500"), v4: true}
	f := newFastSender(s, kernel{}, options{})
	f.try = func(uintptr) bool {
		f.sent, f.errno = 0, 0
		if f.from == 2 {
			f.errno = unix.EMSGSIZE
			return true
		}
		f.sent = min(2, f.to-f.from)
		return true
	}
	var pkts []tun.Packet
	for i := range 5 {
		pkts = append(pkts, esp(tun.Path{Remote: netip.MustParseAddrPort("192.0.2.1:4500")}, 100, byte(i)))
	}
	if n, err := f.send(pkts); n != 2 || !errors.Is(err, tun.ErrTooBig) {
		t.Errorf("%d, %v", n, err)
	}
	for _, v := range f.iovs[:cap(f.iovs)] {
		if v.Base != nil {
			t.Error("a buffer of the caller is still known")
		}
	}
}
