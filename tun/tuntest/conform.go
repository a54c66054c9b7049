package tuntest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/btns-go/btns/tun"
)

// An Opener makes two fresh wires that reach each other, and the path from a to b. Local of
// the path may be left out. The wires are closed by the case that asked for them.
type Opener func() (a, b tun.Wire, ab tun.Path, err error)

// A Case is one part of what a Wire has to do. Run returns what it found wrong.
type Case struct {
	Name string
	Run  func(Opener) error
}

// Conformance returns the cases that every tun.Wire has to pass, on every kind of path that
// it has. They suppose a path that loses nothing, and take packets of 60,000 bytes.
func Conformance() []Case {
	return []Case{
		{"Order", conformOrder},
		{"Reply", conformReply},
		{"Sizes", conformSizes},
		{"Buffers", conformBuffers},
		{"Ownership", conformOwnership},
		{"Refused", conformRefused},
		{"SmallBuffer", conformSmallBuffer},
		{"ADV_A2_Keepalive", conformKeepalive},
		{"LocalAddr", conformLocalAddr},
		{"ConcurrentSend", conformConcurrentSend},
		{"Close", conformClose},
		{"CloseWakesReceive", conformCloseWakes},
	}
}

// patience is how long a case waits for packets before it closes the wires.
const patience = 30 * time.Second

// A rig is two wires under test.
type rig struct {
	a, b  tun.Wire
	path  tun.Path // from a to b
	guard *time.Timer
}

func open(o Opener) (*rig, error) {
	a, b, path, err := o()
	if err != nil {
		return nil, err
	}
	r := &rig{a: a, b: b, path: path}
	r.guard = time.AfterFunc(patience, func() { r.shut() })
	return r, nil
}

// shut closes both wires; that they may be closed already is no fault.
func (r *rig) shut() {
	r.guard.Stop()
	_ = r.a.Close()
	_ = r.b.Close()
}

// with runs f with open wires.
func with(o Opener, f func(*rig) error) error {
	r, err := open(o)
	if err != nil {
		return err
	}
	defer r.shut()
	return f(r)
}

// packet builds a packet of n bytes in a buffer with full headroom and tailroom.
// ESP packets have the SPI 0x01020304; the rest is a pattern made from seed.
func packet(path tun.Path, kind tun.Kind, n int, seed byte) tun.Packet {
	buf := make([]byte, tun.Headroom+n+tun.Tailroom)
	fill(buf)
	p := tun.Packet{Buf: buf, Off: tun.Headroom, Len: n, Path: path, Kind: kind}
	for i, d := 0, p.Data(); i < len(d); i++ {
		d[i] = seed + byte(i) + byte(i>>8)
	}
	copy(p.Data(), []byte{1, 2, 3, 4})
	return p
}

// kinds returns the kinds that the path carries.
func (r *rig) kinds() []tun.Kind {
	switch {
	case r.path.Native():
		return []tun.Kind{tun.KindESP}
	case !r.path.Marked():
		return []tun.Kind{tun.KindIKE}
	}
	return []tun.Kind{tun.KindIKE, tun.KindESP}
}

// buffers returns n packets to receive into, with buffers of size bytes.
func buffers(n, size int) []tun.Packet {
	pkts := make([]tun.Packet, n)
	for i := range pkts {
		pkts[i].Buf = make([]byte, size)
	}
	return pkts
}

// mid is a buffer size for packets that are not large.
const mid = 4096

// receive reads exactly n packets from w into fresh buffers.
func receive(w tun.Wire, n int) ([]tun.Packet, error) { return receiveInto(w, n, mid) }

func receiveInto(w tun.Wire, n, size int) ([]tun.Packet, error) {
	var got []tun.Packet
	for len(got) < n {
		pkts := buffers(max(n-len(got), w.Caps().Batch), size)
		k, err := w.Receive(pkts)
		if err != nil {
			return got, fmt.Errorf("Receive after %d of %d packets: %w", len(got), n, err)
		}
		if k < 1 || k > len(pkts) {
			return got, fmt.Errorf("Receive returned %d packets for %d slots", k, len(pkts))
		}
		got = append(got, pkts[:k]...)
	}
	if len(got) > n {
		return got, fmt.Errorf("received %d packets, sent %d", len(got), n)
	}
	return got, nil
}

// same compares a received packet with the one sent.
func same(got, sent *tun.Packet) error {
	switch {
	case got.Kind != sent.Kind:
		return fmt.Errorf("kind %v, sent %v", got.Kind, sent.Kind)
	case got.Data() == nil:
		return fmt.Errorf("offset %d and length %d do not fit a buffer of %d", got.Off, got.Len, len(got.Buf))
	case !bytes.Equal(got.Data(), sent.Data()):
		return fmt.Errorf("%d bytes differ from the %d sent", got.Len, sent.Len)
	case got.Path.Local.Port() != sent.Path.Remote.Port():
		return fmt.Errorf("arrived at port %d, sent to %d", got.Path.Local.Port(), sent.Path.Remote.Port())
	case got.Path.Local.Addr() != sent.Path.Remote.Addr():
		return fmt.Errorf("arrived at %v, sent to %v", got.Path.Local, sent.Path.Remote)
	case got.Path.Remote.Addr().Is4In6():
		return fmt.Errorf("IPv4-mapped source %v", got.Path.Remote)
	}
	return nil
}

func sendAll(w tun.Wire, pkts []tun.Packet) error {
	if n, err := w.Send(pkts); n != len(pkts) || err != nil {
		return fmt.Errorf("Send accepted %d of %d packets: %w", n, len(pkts), err)
	}
	return nil
}

func conformOrder(o Opener) error {
	return with(o, func(r *rig) error {
		kinds := r.kinds()
		var sent []tun.Packet
		for i := range 150 {
			sent = append(sent, packet(r.path, kinds[i%len(kinds)], 40+i, byte(i)))
		}
		for i, step := 0, 1; i < len(sent); i, step = i+step, step+1 {
			if err := sendAll(r.a, sent[i:min(i+step, len(sent))]); err != nil {
				return err
			}
		}
		got, err := receive(r.b, len(sent))
		if err != nil {
			return err
		}
		bytes := 0
		for i := range got {
			if err := same(&got[i], &sent[i]); err != nil {
				return fmt.Errorf("packet %d: %w", i, err)
			}
			bytes += got[i].Len
		}
		a, b := r.a.Stats(), r.b.Stats()
		if a.TxPackets != uint64(len(sent)) || a.TxBytes != uint64(bytes) {
			return fmt.Errorf("counted %d packets, %d bytes out; sent %d, %d", a.TxPackets, a.TxBytes, len(sent), bytes)
		}
		if b.RxPackets != uint64(len(sent)) || b.RxBytes != uint64(bytes) || b.Dropped() != 0 {
			return fmt.Errorf("counted %d packets, %d bytes in, %d drops; sent %d, %d",
				b.RxPackets, b.RxBytes, b.Dropped(), len(sent), bytes)
		}
		return nil
	})
}

func conformReply(o Opener) error {
	return with(o, func(r *rig) error {
		kind := r.kinds()[0]
		if err := sendAll(r.a, []tun.Packet{packet(r.path, kind, 100, 1)}); err != nil {
			return err
		}
		got, err := receive(r.b, 1)
		if err != nil {
			return err
		}
		// The answer goes out on the very path that the question came in on.
		back := packet(got[0].Path, kind, 200, 2)
		if err := sendAll(r.b, []tun.Packet{back}); err != nil {
			return err
		}
		if got, err = receive(r.a, 1); err != nil {
			return err
		}
		if err := same(&got[0], &back); err != nil {
			return err
		}
		if got[0].Path.Remote != back.Path.Local {
			return fmt.Errorf("the answer came from %v, asked was %v", got[0].Path.Remote, back.Path.Local)
		}
		return nil
	})
}

func conformSizes(o Opener) error {
	return with(o, func(r *rig) error {
		for _, n := range []int{28, 29, 63, 64, 1400, 1401, 1472, 1473, 4096, 9000, 20000, 60000} {
			sent := packet(r.path, r.kinds()[0], n, byte(n))
			if err := sendAll(r.a, []tun.Packet{sent}); err != nil {
				return fmt.Errorf("%d bytes: %w", n, err)
			}
			got, err := receiveInto(r.b, 1, tun.BufSize)
			if err != nil {
				return fmt.Errorf("%d bytes: %w", n, err)
			}
			if err := same(&got[0], &sent); err != nil {
				return fmt.Errorf("%d bytes: %w", n, err)
			}
		}
		return nil
	})
}

// conformBuffers checks that what Receive returns is disjoint and capped.
func conformBuffers(o Opener) error {
	return with(o, func(r *rig) error {
		const count = 20
		var sent []tun.Packet
		for i := range count {
			sent = append(sent, packet(r.path, r.kinds()[0], 500, byte(i)))
		}
		if err := sendAll(r.a, sent); err != nil {
			return err
		}
		got, err := receive(r.b, count)
		if err != nil {
			return err
		}
		for i := range got {
			p := &got[i]
			if cap(p.Buf) != len(p.Buf) {
				return fmt.Errorf("packet %d: capacity %d beyond its %d bytes", i, cap(p.Buf), len(p.Buf))
			}
		}
		for i := range got {
			all := got[i].Buf
			for j := range all {
				all[j] = byte(i)
			}
			_ = append(got[i].Data(), 0xEE, 0xEE, 0xEE, 0xEE)
		}
		for i := range got {
			for j, v := range got[i].Buf {
				if v != byte(i) {
					return fmt.Errorf("byte %d of packet %d is shared with another", j, i)
				}
			}
		}
		return nil
	})
}

// conformOwnership checks that neither side keeps the other's memory.
func conformOwnership(o Opener) error {
	return with(o, func(r *rig) error {
		kind := r.kinds()[0]
		var first, second []tun.Packet
		for i := range 5 {
			first = append(first, packet(r.path, kind, 300, byte(i)))
			second = append(second, packet(r.path, kind, 300, byte(i+100)))
		}
		var copies [][]byte
		for i := range first {
			copies = append(copies, bytes.Clone(first[i].Buf))
		}
		if err := sendAll(r.a, first); err != nil {
			return err
		}
		for i := range first {
			p, was := &first[i], copies[i]
			if !bytes.Equal(p.Buf[p.Off:], was[p.Off:]) {
				return fmt.Errorf("Send changed packet %d or what is behind it", i)
			}
			if !bytes.Equal(p.Buf[:p.Off-tun.WireRoom], was[:p.Off-tun.WireRoom]) {
				return fmt.Errorf("Send wrote more than %d bytes in front of packet %d", tun.WireRoom, i)
			}
			fill(p.Buf) // it is ours again
		}
		got, err := receive(r.b, len(first))
		if err != nil {
			return err
		}
		if err := sendAll(r.a, second); err != nil {
			return err
		}
		if _, err := receive(r.b, len(second)); err != nil {
			return err
		}
		for i := range got {
			want := copies[i][tun.Headroom : tun.Headroom+300]
			if !bytes.Equal(got[i].Data(), want) {
				return fmt.Errorf("packet %d changed after a buffer was given back", i)
			}
		}
		return nil
	})
}

func conformRefused(o Opener) error {
	return with(o, func(r *rig) error {
		kind := r.kinds()[0]
		good := func() tun.Packet { return packet(r.path, kind, 100, 7) }
		bad := []struct {
			name string
			edit func(*tun.Packet)
			want error
		}{
			{"no kind", func(p *tun.Packet) { p.Kind = tun.KindInvalid }, tun.ErrKind},
			{"empty", func(p *tun.Packet) { p.Len = 0 }, tun.ErrPacket},
			{"negative offset", func(p *tun.Packet) { p.Off = -1 }, tun.ErrPacket},
			{"past the end", func(p *tun.Packet) { p.Len = len(p.Buf) }, tun.ErrPacket},
			{"overflowing length", func(p *tun.Packet) { p.Len = int(^uint(0) >> 1) }, tun.ErrPacket},
			{"no destination", func(p *tun.Packet) { p.Path.Remote = netip.AddrPort{} }, tun.ErrPath},
			{"port not ours", func(p *tun.Packet) {
				p.Path.Local = netip.AddrPortFrom(p.Path.Local.Addr(), 7)
				p.Path.Remote = netip.AddrPortFrom(p.Path.Remote.Addr(), 4500)
			}, tun.ErrPath},
			{"ESP on port 500", func(p *tun.Packet) {
				p.Kind = tun.KindESP
				p.Path.Local = netip.AddrPortFrom(p.Path.Local.Addr(), r.a.Caps().Ports[0])
				p.Path.Remote = netip.AddrPortFrom(p.Path.Remote.Addr(), 500)
			}, tun.ErrPath},
		}
		if !r.a.Caps().ClearPackets {
			bad = append(bad, bad[0])
			bad[len(bad)-1].name = "clear"
			bad[len(bad)-1].edit = func(p *tun.Packet) { p.Kind = tun.KindClear }
		}
		for _, c := range bad {
			pkts := []tun.Packet{good(), good(), good()}
			c.edit(&pkts[1])
			n, err := r.a.Send(pkts)
			if n != 1 || !errors.Is(err, c.want) {
				return fmt.Errorf("%s: Send returned %d, %w; want 1, %w", c.name, n, err, c.want)
			}
		}
		if d := r.a.Stats().Drops[tun.DropSend]; d != uint64(len(bad)) {
			return fmt.Errorf("counted %d refusals of %d", d, len(bad))
		}
		if n, err := r.a.Send(nil); n != 0 || err != nil {
			return fmt.Errorf("Send of nothing returned %d, %w", n, err)
		}
		_, err := receive(r.b, len(bad))
		return err
	})
}

func conformSmallBuffer(o Opener) error {
	return with(o, func(r *rig) error {
		kind := r.kinds()[0]
		small, large := packet(r.path, kind, 60, 1), packet(r.path, kind, 1000, 2)
		if err := sendAll(r.a, []tun.Packet{large, small}); err != nil {
			return err
		}
		pkts := make([]tun.Packet, max(1, r.b.Caps().Batch))
		for i := range pkts {
			pkts[i].Buf = make([]byte, tun.Headroom+200)
		}
		n, err := r.b.Receive(pkts)
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("received %d packets, 1 fits", n)
		}
		if err := same(&pkts[0], &small); err != nil {
			return err
		}
		if d := r.b.Stats().Drops[tun.DropTruncated]; d != 1 {
			return fmt.Errorf("counted %d truncated packets, was 1", d)
		}
		return nil
	})
}

// conformKeepalive sends what RFC 3948, Section 2.3 calls a NAT-keepalive.
func conformKeepalive(o Opener) error {
	return with(o, func(r *rig) error {
		if r.path.Native() || !r.path.Marked() {
			return nil // there are none on such a path
		}
		alive := tun.Packet{Buf: []byte{tun.Keepalive}, Len: 1, Path: r.path, Kind: tun.KindESP}
		after := packet(r.path, tun.KindESP, 100, 3)
		if err := sendAll(r.a, []tun.Packet{alive, after}); err != nil {
			return err
		}
		got, err := receive(r.b, 1)
		if err != nil {
			return err
		}
		if err := same(&got[0], &after); err != nil {
			return err
		}
		if d := r.b.Stats().Drops[tun.DropKeepalive]; d != 1 {
			return fmt.Errorf("counted %d keepalives, was 1", d)
		}
		return nil
	})
}

func conformLocalAddr(o Opener) error {
	return with(o, func(r *rig) error {
		ports := r.a.Caps().Ports
		if len(ports) == 0 {
			return errors.New("Caps reports no port")
		}
		at := r.a.LocalAddr(r.path.Remote.Addr())
		if len(at) == 0 {
			return fmt.Errorf("no local address for %v", r.path.Remote)
		}
		for _, ap := range at {
			if !ap.IsValid() || ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().Is4In6() {
				return fmt.Errorf("%v is not an address to send from", ap)
			}
			if ap.Addr().Is4() != r.path.Remote.Addr().Is4() {
				return fmt.Errorf("%v cannot send to %v", ap, r.path.Remote)
			}
		}
		if all := r.a.LocalAddr(netip.Addr{}); len(all) == 0 {
			return errors.New("LocalAddr of nothing returned nothing")
		}
		// What LocalAddr says is what the other end sees, which NAT detection relies on.
		if err := sendAll(r.a, []tun.Packet{packet(r.path, r.kinds()[0], 64, 9)}); err != nil {
			return err
		}
		got, err := receive(r.b, 1)
		if err != nil {
			return err
		}
		for _, ap := range at {
			if ap.Addr() == got[0].Path.Remote.Addr() && (r.path.Native() || ap.Port() == got[0].Path.Remote.Port()) {
				return nil
			}
		}
		return fmt.Errorf("came from %v, LocalAddr said %v", got[0].Path.Remote, at)
	})
}

func conformConcurrentSend(o Opener) error {
	return with(o, func(r *rig) error {
		const senders, each = 4, 25
		errs := make(chan error, senders)
		for s := range senders {
			go func() {
				var err error
				for i := 0; i < each && err == nil; i++ {
					err = sendAll(r.a, []tun.Packet{packet(r.path, r.kinds()[0], 100+s, byte(i))})
				}
				errs <- err
			}()
		}
		got, err := receive(r.b, senders*each)
		for range senders {
			err = errors.Join(err, <-errs)
		}
		if err != nil {
			return err
		}
		// The packets of one sender stay in order.
		next := make([]byte, senders)
		for i := range got {
			s := got[i].Len - 100
			want := packet(r.path, r.kinds()[0], got[i].Len, next[s])
			next[s]++
			if err := same(&got[i], &want); err != nil {
				return fmt.Errorf("sender %d: %w", s, err)
			}
		}
		return nil
	})
}

func conformClose(o Opener) error {
	return with(o, func(r *rig) error {
		if err := r.a.Close(); err != nil {
			return fmt.Errorf("Close: %w", err)
		}
		if _, err := r.a.Receive(buffers(1, mid)); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("Receive after Close: %w", err)
		}
		if _, err := r.a.Send([]tun.Packet{packet(r.path, r.kinds()[0], 64, 0)}); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("Send after Close: %w", err)
		}
		if err := r.a.Close(); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("second Close: %w", err)
		}
		r.a.LocalAddr(r.path.Remote.Addr())
		r.a.Caps()
		r.a.Stats()
		return nil
	})
}

func conformCloseWakes(o Opener) error {
	return with(o, func(r *rig) error {
		const waiting = 3
		errs := make(chan error, waiting)
		for range waiting {
			go func() {
				_, err := r.b.Receive(buffers(1, mid))
				errs <- err
			}()
		}
		// One packet through, so that some Receive is known to be at work.
		if err := sendAll(r.a, []tun.Packet{packet(r.path, r.kinds()[0], 64, 0)}); err != nil {
			return err
		}
		if err := <-errs; err != nil {
			return err
		}
		if err := r.b.Close(); err != nil {
			return err
		}
		for range waiting - 1 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("a Receive in progress returned %w", err)
			}
		}
		return nil
	})
}
