package udp

import (
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/btns-go/btns/tun"
)

// A fastReceiver reads all sockets of a wire with recvmmsg.
type fastReceiver struct {
	w     *Wire
	socks []*socketReader
	poll  *poller // only if there are several sockets

	mu   sync.Mutex // held by the one receive at work
	next int        // the socket to look at first, for fairness
}

// A socketReader reads one socket. All its memory is made once.
type socketReader struct {
	s     *socket
	rc    syscall.RawConn
	gro   *joined // nil without GRO
	wait  func(fd uintptr) bool
	peek  func(fd uintptr)
	zones zoneNames

	hdrs  [batchSize]unix.Mmsghdr
	names [batchSize]unix.RawSockaddrInet6
	ctls  [batchSize]control
	iovs  [batchSize]unix.Iovec
	// Arguments and results of the function above, which is made once.
	msgs, got int
	errno     syscall.Errno
}

func newSocketReader(s *socket, rc syscall.RawConn) *socketReader {
	r := &socketReader{s: s, rc: rc}
	r.wait = r.recvmmsg
	r.peek = func(fd uintptr) { r.recvmmsg(fd) }
	for i := range r.hdrs {
		h := &r.hdrs[i].Hdr
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = &r.ctls[i].bytes()[0]
	}
	return r
}

// startGRO lets the kernel join datagrams, and reports whether it can.
func (r *socketReader) startGRO() bool {
	var set error
	err := r.rc.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
	if err != nil || set != nil {
		return false
	}
	r.gro = newJoined()
	return true
}

func (f *fastReceiver) receive(pkts []tun.Packet) (n, bytes int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.poll == nil {
		return f.socks[0].read(f.w, pkts, true)
	}
	for {
		for range f.socks {
			r := f.socks[f.next]
			f.next = (f.next + 1) % len(f.socks)
			n, bytes, err = r.read(f.w, pkts, false)
			if n > 0 || err != nil {
				return n, bytes, err
			}
		}
		if err := f.poll.wait(); err != nil {
			return 0, 0, err
		}
	}
}

func (f *fastReceiver) close() {
	if f.poll != nil {
		f.poll.close()
	}
}

// read receives one batch, waiting for it if block is set. It may return none.
func (r *socketReader) read(w *Wire, pkts []tun.Packet, block bool) (n, bytes int, err error) {
	if r.gro != nil {
		if n, bytes = r.gro.rest(w, pkts); n > 0 {
			return n, bytes, nil
		}
	}
	r.prepare(pkts)
	if block {
		err = r.rc.Read(r.wait)
	} else {
		err = r.rc.Control(r.peek)
	}
	if err == nil && r.errno != 0 {
		err = os.NewSyscallError("recvmmsg", r.errno)
	}
	if err == nil {
		n, bytes = r.deliver(w, pkts)
	}
	clear(r.iovs[:r.msgs]) // the caller's memory is not ours any more
	return n, bytes, err
}

// prepare points the messages at the buffers of pkts.
func (r *socketReader) prepare(pkts []tun.Packet) {
	r.msgs = min(len(pkts), batchSize)
	if r.gro != nil {
		r.msgs = r.gro.messages(len(pkts))
	}
	for i := range r.msgs {
		into := pkts[i].Buf[tun.Headroom:]
		if r.gro != nil {
			into = r.gro.buffer(i, pkts[i].Buf)
		}
		r.iovs[i] = vector(into)
		h := &r.hdrs[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlWords * 8)
		h.Flags = 0
	}
}

// recvmmsg makes one system call, or reports false if nothing is there.
func (r *socketReader) recvmmsg(fd uintptr) bool {
	for {
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.hdrs[0])),
			uintptr(r.msgs), unix.MSG_DONTWAIT, 0, 0)
		r.got, r.errno = 0, 0
		switch e {
		case 0:
			r.got = int(n)
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			r.errno = e
		}
		return true
	}
}

// deliver turns the messages into packets at the front of pkts.
func (r *socketReader) deliver(w *Wire, pkts []tun.Packet) (n, bytes int) {
	for i := range r.got {
		h := &r.hdrs[i]
		c := r.ctls[i].parse(int(h.Hdr.Controllen))
		path := tun.Path{Local: r.local(c), Remote: sockaddr(&r.names[i], &r.zones)}
		if h.Hdr.Flags&unix.MSG_TRUNC != 0 {
			w.count.Drop(tun.DropTruncated)
			continue
		}
		if r.gro != nil {
			k, b := r.gro.split(w, pkts[n:], message{index: i, len: int(h.Len), segment: c.segment, path: path, ecn: c.ecn})
			n += k
			bytes += b
			continue
		}
		// A slot that stays empty gets the buffer of the one that takes its place.
		p := &pkts[n]
		p.Buf, pkts[i].Buf = pkts[i].Buf, p.Buf
		p.Buf = p.Buf[:len(p.Buf):len(p.Buf)]
		p.Off, p.Len, p.Path, p.ECN = tun.Headroom, int(h.Len), path, c.ecn
		if accept(w, p) {
			n++
			bytes += p.Len
		}
	}
	if n == 0 && r.gro != nil {
		return r.gro.rest(w, pkts)
	}
	return n, bytes
}

// accept judges a received datagram and strips the marker from it.
func accept(w *Wire, p *tun.Packet) bool {
	kind, skip, drop := w.classify(p.Path, p.Data())
	if kind == tun.KindInvalid {
		w.count.Drop(drop)
		return false
	}
	p.Kind = kind
	p.Off += skip
	p.Len -= skip
	return true
}

// local returns where a datagram was sent to.
func (r *socketReader) local(c received) netip.AddrPort {
	a := c.local
	if !a.IsValid() {
		a = r.s.bound.Addr()
	}
	return netip.AddrPortFrom(a, r.s.bound.Port())
}
