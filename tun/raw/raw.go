// Package raw is the wire over raw protocol-50 sockets, for those who have CAP_NET_RAW and
// no TUN device: native ESP as the kernel's IP carries it, while IKE and ESP in UDP go
// through a UDP wire that is given to it. It works on Linux.
//
// # Sources
//
// RFC 4303 (ESP over IP), raw(7), RFC 3542, Section 3 (IPv6 raw sockets). An IPv4 raw
// socket delivers the IP header with each packet, an IPv6 one does not; fragments are
// reassembled and made by the kernel. Linux shows each ESP packet to every raw socket, so
// packets for SPIs of others arrive too, and have to be expected.
//
// # Ownership and concurrency
//
// As package tun says. One goroutine reads each socket and one the UDP wire; what they read
// is copied into the caller's buffers. Close ends them and waits for them. The wire owns
// the UDP wire and closes it.
//
// # Limits
//
// Each reading goroutine holds one batch until Receive has taken it; nothing else is queued.
package raw

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/btns-go/btns/tun"
)

// readBatch is the number of packets that a goroutine reads before it hands them over.
const readBatch = 64

// Config describes a wire. It must not be changed after use.
type Config struct {
	// UDP carries IKE, and ESP in UDP: usually package udp's wire on ports 500 and 4500. The
	// raw wire owns it, unless Listen returns an error. It is required.
	UDP tun.Wire
	// Addrs are the local addresses to receive native ESP on; none means all of them.
	Addrs []netip.Addr
	// DontFragment sets DF on everything and refuses what exceeds the interface's MTU.
	DontFragment bool
}

// A ListenError says why raw sockets could not be opened.
type ListenError struct{ Err error }

// Error returns one sentence.
func (e *ListenError) Error() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return "raw: no permission for raw ESP sockets (CAP_NET_RAW); the UDP wire needs none"
	}
	if errors.Is(e.Err, errors.ErrUnsupported) {
		return "raw: this system has no raw ESP sockets for us; use the UDP wire or a TUN device"
	}
	return fmt.Sprintf("raw: cannot open raw ESP sockets: %v", e.Err)
}

// Unwrap returns the operating system's error.
func (e *ListenError) Unwrap() error { return e.Err }

// A Wire is a tun.Wire over raw sockets and a UDP wire.
type Wire struct {
	// Constant after Listen.
	udp   tun.Wire
	socks []*socket
	lots  chan *lot
	done  chan struct{}

	count  tun.Counters
	closed atomic.Bool
	wg     sync.WaitGroup

	mu      sync.Mutex // held by the one Receive at work
	current *lot       // handed over and not yet taken whole
}

var _ tun.Wire = (*Wire)(nil)

// A lot is a batch that a reading goroutine lends to Receive.
type lot struct {
	pkts []tun.Packet
	err  error
	back chan struct{} // a token gives it back
}

// Listen opens the sockets. Its errors are of type *ListenError.
func Listen(cfg Config) (*Wire, error) {
	if cfg.UDP == nil {
		return nil, &ListenError{Err: errors.New("no UDP wire for IKE")}
	}
	socks, err := openSockets(&cfg)
	if err != nil {
		return nil, &ListenError{Err: err}
	}
	w := &Wire{udp: cfg.UDP, socks: socks, lots: make(chan *lot), done: make(chan struct{})}
	w.wg.Go(w.readUDP)
	for _, s := range socks {
		w.wg.Go(func() { w.readRaw(s) })
	}
	return w, nil
}

// readUDP passes on what the UDP wire receives.
func (w *Wire) readUDP() {
	batch := tun.NewBatch(max(readBatch, w.udp.Caps().Batch), 0)
	l := &lot{back: make(chan struct{}, 1)}
	for {
		l.pkts, l.err = batch.Receive(w.udp)
		if !w.lend(l) {
			return
		}
	}
}

// readRaw passes on what one raw socket receives.
func (w *Wire) readRaw(s *socket) {
	buf := make([]byte, tun.BufSize)
	l := &lot{back: make(chan struct{}, 1)}
	pkts := make([]tun.Packet, 1)
	for {
		pkts[0].Buf = buf
		drop, err := s.receive(&pkts[0])
		l.pkts, l.err = pkts, err
		if err != nil {
			l.pkts = nil
		} else if drop != tun.DropUnset {
			w.count.Drop(drop)
			continue
		}
		if !w.lend(l) {
			return
		}
	}
}

// lend hands a lot to Receive and waits until it is given back. It reports false at the end.
func (w *Wire) lend(l *lot) bool {
	if errors.Is(l.err, net.ErrClosed) {
		// Without one of its parts the wire is none.
		w.shut()
		return false
	}
	select {
	case w.lots <- l:
	case <-w.done:
		return false
	}
	select {
	case <-l.back:
		return true
	case <-w.done:
		return false
	}
}

// Receive implements tun.Wire.
func (w *Wire) Receive(pkts []tun.Packet) (n int, err error) {
	for i := range pkts {
		if len(pkts[i].Buf) < tun.Headroom {
			return 0, tun.ErrPacket
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for n == 0 && len(pkts) > 0 {
		if w.closed.Load() {
			return 0, net.ErrClosed
		}
		if w.current == nil {
			select {
			case w.current = <-w.lots:
			case <-w.done:
				return 0, net.ErrClosed
			}
		}
		l := w.current
		bytes, taken := 0, 0
		for taken < len(l.pkts) && n < len(pkts) {
			if copyPacket(&pkts[n], &l.pkts[taken]) {
				bytes += pkts[n].Len
				n++
			} else {
				w.count.Drop(tun.DropTruncated)
			}
			taken++
		}
		w.count.Received(n, bytes)
		err := l.err
		if l.pkts = l.pkts[taken:]; len(l.pkts) == 0 {
			w.current = nil
			l.back <- struct{}{}
			if err != nil && n == 0 {
				return 0, err
			}
		}
	}
	return n, nil
}

// copyPacket copies src into the buffer of dst and reports whether it fits.
func copyPacket(dst, src *tun.Packet) bool {
	if src.Len > len(dst.Buf)-tun.Headroom {
		return false
	}
	buf := dst.Buf[:len(dst.Buf):len(dst.Buf)]
	copy(buf[tun.Headroom:], src.Data())
	*dst = *src
	dst.Buf, dst.Off = buf, tun.Headroom
	return true
}

// Send implements tun.Wire. Packets with ports go to the UDP wire, in runs.
func (w *Wire) Send(pkts []tun.Packet) (n int, err error) {
	bytes := 0
	for n < len(pkts) && err == nil && !w.closed.Load() {
		k := 0
		if native(&pkts[n]) {
			k, err = w.sendRaw(&pkts[n])
		} else {
			end := n + 1
			for end < len(pkts) && !native(&pkts[end]) {
				end++
			}
			k, err = w.udp.Send(pkts[n:end])
		}
		for i := n; i < n+k; i++ {
			bytes += pkts[i].Len
		}
		n += k
	}
	if w.closed.Load() {
		return n, net.ErrClosed
	}
	w.count.Sent(n, bytes)
	return n, err
}

// native reports whether p goes directly over IP.
func native(p *tun.Packet) bool {
	return p.Kind == tun.KindESP && p.Path.Native() && p.Path.Remote.IsValid()
}

// sendRaw sends one packet from the socket that fits its path.
func (w *Wire) sendRaw(p *tun.Packet) (int, error) {
	err := tun.ErrPath
	for _, s := range w.socks {
		if !s.fits(p.Path) {
			continue
		}
		if err = tun.ErrPacket; len(p.Data()) > 0 {
			err = s.send(p)
		}
		break
	}
	if err != nil {
		w.count.Drop(tun.DropSend)
		return 0, err
	}
	return 1, nil
}

// LocalAddr implements tun.Wire.
func (w *Wire) LocalAddr(remote netip.Addr) []netip.AddrPort { return w.udp.LocalAddr(remote) }

// Caps implements tun.Wire.
func (w *Wire) Caps() tun.Caps {
	c := w.udp.Caps()
	c.NativeESP = true
	return c
}

// Stats implements tun.Wire. The UDP wire's drops are included.
func (w *Wire) Stats() tun.Stats {
	s, u := w.count.Snapshot(), w.udp.Stats()
	s.TooBig += u.TooBig
	for i, n := range u.Drops {
		s.Drops[i] += n
	}
	return s
}

// Close implements tun.Wire.
func (w *Wire) Close() error {
	if w.closed.Swap(true) {
		w.wg.Wait()
		return net.ErrClosed
	}
	close(w.done)
	err := w.closeParts()
	w.wg.Wait()
	return err
}

// shut is Close for the reading goroutines, which cannot wait for themselves.
func (w *Wire) shut() {
	if !w.closed.Swap(true) {
		close(w.done)
		_ = w.closeParts() // one of them is closed already
	}
}

func (w *Wire) closeParts() error {
	errs := []error{w.udp.Close()}
	for _, s := range w.socks {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// parse4 reads the IPv4 header that a raw socket delivers, and returns the payload's place.
func parse4(b []byte) (src, dst netip.Addr, ecn uint8, off, end int, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return src, dst, 0, 0, 0, false
	}
	off = int(b[0]&15) * 4
	end = int(b[2])<<8 | int(b[3])
	if off < 20 || off > end || end > len(b) {
		return src, dst, 0, 0, 0, false
	}
	return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[1] & 3, off, end, true
}

// finish judges a received packet and sets its path.
func finish(p *tun.Packet, src, dst netip.Addr) tun.Drop {
	p.Kind = tun.KindESP
	p.Path = tun.Path{Local: netip.AddrPortFrom(dst, 0), Remote: netip.AddrPortFrom(src, 0)}
	switch {
	case !p.Path.Plausible() || src.IsLoopback() != dst.IsLoopback():
		return tun.DropSource
	case dst.IsMulticast() || dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return tun.DropDest
	case p.Len < 8: // SPI and sequence number: RFC 4303, Section 2
		return tun.DropShort
	}
	return tun.DropUnset
}
