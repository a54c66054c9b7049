package udp

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-go/btns/tun"
)

// A fastSender sends from one socket with sendmmsg. All its memory is made once.
type fastSender struct {
	rc    syscall.RawConn
	inet6 bool
	port  uint16
	gso   atomic.Bool // cleared when the interface turns out not to have it
	try   func(fd uintptr) bool
	zero  *[tun.MarkerLen]byte // the non-ESP marker

	mu    sync.Mutex // guards the rest
	hdrs  [batchSize]unix.Mmsghdr
	names [batchSize]unix.RawSockaddrInet6
	ctls  [batchSize]control
	iovs  []unix.Iovec
	// packets is how many packets each message holds.
	packets [batchSize]int
	// Arguments and results of try, which is made once so that it is not allocated.
	from, to, sent int
	errno          syscall.Errno
}

func newFastSender(s *socket, rc syscall.RawConn, o options) *fastSender {
	f := &fastSender{
		rc: rc, inet6: o.inet6, port: s.bound.Port(), zero: new([tun.MarkerLen]byte),
		// A message holds one packet and its marker, or up to maxSegments packets; build
		// stops when the vectors are used up.
		iovs: make([]unix.Iovec, 0, 4*batchSize),
	}
	f.gso.Store(o.gso)
	f.try = f.sendmmsg
	return f
}

func (f *fastSender) send(pkts []tun.Packet) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gso := f.gso.Load()
	for n < len(pkts) {
		msgs := f.build(pkts[n:], gso)
		k, segments, err := f.flush(msgs)
		n += k
		if err == nil {
			continue
		}
		if segments <= 1 {
			return n, err
		}
		// The kernel refuses a GSO message where it would take the packets one by one: if
		// they exceed the MTU (EINVAL), or for good if the interface does no checksums (EIO).
		gso = false
		if errors.Is(err, unix.EIO) {
			f.gso.Store(false)
		}
	}
	return n, nil
}

// build describes as many of pkts as there is room for, and returns the number of messages.
func (f *fastSender) build(pkts []tun.Packet, gso bool) (msgs int) {
	f.iovs = f.iovs[:0]
	for i := 0; i < len(pkts) && msgs < batchSize && cap(f.iovs)-len(f.iovs) >= 2; msgs++ {
		p := &pkts[i]
		h := &f.hdrs[msgs].Hdr
		first := len(f.iovs)
		count := 1
		if p.Kind == tun.KindIKE && tun.Marked(f.port, p.Path.Remote.Port()) {
			f.iovs = append(f.iovs, vector(f.zero[:]))
		}
		f.iovs = append(f.iovs, vector(p.Data()))
		if gso && p.Kind == tun.KindESP {
			count = f.join(pkts[i:])
		}
		h.Iov = &f.iovs[first]
		h.SetIovlen(len(f.iovs) - first)
		h.Name = (*byte)(unsafe.Pointer(&f.names[msgs]))
		h.Namelen = putSockaddr(&f.names[msgs], f.inet6, p.Path.Remote)

		ctl, end := &f.ctls[msgs], 0
		if a := p.Path.Local.Addr(); a.IsValid() && !a.IsUnspecified() {
			end = ctl.putSource(end, a)
		}
		if p.ECN&3 != 0 {
			end = ctl.putECN(end, isIPv4(p.Path.Remote.Addr()), p.ECN)
		}
		if count > 1 {
			end = ctl.putSegment(end, p.Len)
		}
		h.Control = nil
		if end > 0 {
			h.Control = &ctl.bytes()[0]
		}
		h.SetControllen(end)
		f.packets[msgs] = count
		i += count
	}
	return msgs
}

// join adds the packets behind pkts[0] that can be segments of the same message: the same
// path and ECN field, the same size, the last one perhaps shorter. It returns their number
// with the first.
func (f *fastSender) join(pkts []tun.Packet) int {
	p := &pkts[0]
	total := p.Len
	n := 1
	for n < len(pkts) && n < maxSegments && len(f.iovs) < cap(f.iovs) {
		q := &pkts[n]
		if q.Kind != tun.KindESP || q.Len > p.Len || total+q.Len > maxPayload || q.Path != p.Path || q.ECN != p.ECN {
			break
		}
		f.iovs = append(f.iovs, vector(q.Data()))
		total += q.Len
		n++
		if q.Len < p.Len {
			break
		}
	}
	return n
}

// flush sends the messages that build described. It returns the number of packets sent,
// and on an error how many packets the refused message holds.
func (f *fastSender) flush(msgs int) (packets, refused int, err error) {
	// The vectors are the only references to the caller's memory.
	defer clear(f.iovs)
	f.to = msgs
	for f.from = 0; f.from < msgs; f.from += f.sent {
		f.sent, f.errno = 0, 0
		err = f.rc.Write(f.try)
		if err == nil && f.errno != 0 {
			err = sendError(f.errno)
		}
		if err != nil {
			return packets, f.packets[f.from], err
		}
		for _, k := range f.packets[f.from : f.from+f.sent] {
			packets += k
		}
	}
	return packets, 0, nil
}

// sendmmsg makes one system call, or reports false if the socket is not ready.
func (f *fastSender) sendmmsg(fd uintptr) bool {
	for {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&f.hdrs[f.from])),
			uintptr(f.to-f.from), 0, 0, 0)
		switch e {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		if f.errno = e; e == 0 {
			f.sent = int(n)
		}
		return true
	}
}

func sendError(e syscall.Errno) error {
	if e == unix.EMSGSIZE {
		return tun.ErrTooBig
	}
	return os.NewSyscallError("sendmmsg", e)
}

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

func isIPv4(a netip.Addr) bool { return a.Is4() || a.Is4In6() }
