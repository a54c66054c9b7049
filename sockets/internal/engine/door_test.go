package engine

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/tun"
)

func newTestDoor(t *testing.T) *door {
	t.Helper()
	g, err := gate.New(gate.Config{}, rand.Reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return newDoor(g, time.Now())
}

// A forger makes IKE_SA_INIT requests from addresses that are not its own: every second
// one from IPv6, never two from one network.
type forger struct{ n uint64 }

// next returns a forged request of a realistic length.
func (f *forger) next() tun.Packet {
	f.n++
	var from netip.Addr
	if f.n%2 == 0 {
		from = netip.AddrFrom4([4]byte{byte(1 + f.n%99), byte(f.n >> 8), byte(f.n >> 16), byte(f.n >> 4)})
	} else {
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
		binary.BigEndian.PutUint64(a[4:], f.n*0x9e3779b97f4a7c15)
		from = netip.AddrFrom16(a)
	}
	to := netip.MustParseAddrPort("192.0.2.1:4500")
	if from.Is6() {
		to = netip.MustParseAddrPort("[2001:db8:1::1]:4500")
	}
	b := initRequest(f.n | 1<<63)
	return tun.Packet{Buf: b, Len: len(b), Path: tun.Path{Local: to, Remote: netip.AddrPortFrom(from, 4500)}, Kind: tun.KindIKE}
}

// initRequest is a well-formed IKE_SA_INIT request.
func initRequest(spii uint64) []byte {
	nonce := make([]byte, 32)
	binary.BigEndian.PutUint64(nonce, spii)
	m := wire.Message{Header: wire.Header{SPIi: spii, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}, Payloads: []wire.Payload{
		&wire.SA{Proposals: []wire.Proposal{{Num: 1, Protocol: wire.ProtocolIKE, Transforms: []wire.Transform{
			{Type: wire.TransformEncr, ID: wire.EncrAESGCM16, KeyBits: 256},
			{Type: wire.TransformPRF, ID: wire.PRFHMACSHA256},
			{Type: wire.TransformKE, ID: wire.GroupX25519},
		}}}},
		&wire.KE{Group: wire.GroupX25519, Data: append(make([]byte, 24), nonce[:8]...)}, &wire.Nonce{Data: nonce},
	}}
	return m.Append(nil)
}

// ofSA is a protected request of the peer of an SA.
func ofSA(key gate.Key, id uint32) tun.Packet {
	m := wire.Message{Header: wire.Header{SPIi: 7, SPIr: key.SPI, Exchange: wire.ExchangeInformational, Flags: wire.FlagInitiator, MessageID: id},
		Payloads: []wire.Payload{&wire.Encrypted{Body: make([]byte, 64)}}}
	b := m.Append(nil)
	return tun.Packet{Buf: b, Len: len(b), Kind: tun.KindIKE,
		Path: tun.Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("192.0.2.9:4500")}}
}

// While the keyer is busy, a flood fills the queue for strangers and nothing else.
func TestADV_H1_FloodDrownsNoSA(t *testing.T) {
	d := newTestDoor(t)
	key := gate.Key{SPI: 0xee}
	d.add(key)
	var f forger
	for range 20_000 {
		d.knock([]tun.Packet{f.next()})
	}
	for id := range uint32(maxShare) {
		d.knock([]tun.Packet{ofSA(key, id)})
	}
	if len(d.known) != maxShare || len(d.fresh) > maxFresh {
		t.Errorf("%d of %d datagrams of the SA, %d requests wait", len(d.known), maxShare, len(d.fresh))
	}
	letters, _ := d.take()
	if len(letters) != knownTurn+freshTurn || letters[0].verdict.Key != key {
		t.Errorf("the first turn is %d datagrams, the SA's not first", len(letters))
	}
	for n := len(letters); ; n += len(letters) {
		if letters, _ = d.take(); len(letters) == 0 {
			if n > maxShare+maxFresh {
				t.Errorf("%d datagrams waited", n)
			}
			break
		}
	}
	if d.bytes != 0 || len(d.shares) != 0 {
		t.Errorf("%d octets, %d shares after all is done", d.bytes, len(d.shares))
	}
}

// RFC 8019, Section 5: who is authenticated gets a share, and no more.
func TestADV_H5_OnePeerDrownsNoOther(t *testing.T) {
	d := newTestDoor(t)
	loud, quiet := gate.Key{SPI: 0xbad}, gate.Key{SPI: 0x900d}
	d.add(loud)
	d.add(quiet)
	for id := range uint32(10_000) {
		d.knock([]tun.Packet{ofSA(loud, id)})
	}
	d.knock([]tun.Packet{ofSA(quiet, 0)})
	if d.shares[loud] != maxShare || d.shares[quiet] != 1 || d.lost != 10_000-maxShare {
		t.Errorf("%d of the loud peer wait, %d of the quiet one; %d lost", d.shares[loud], d.shares[quiet], d.lost)
	}
}

// All peers together are bounded too.
func TestDoorBoundsBytes(t *testing.T) {
	d := newTestDoor(t)
	p := ofSA(gate.Key{SPI: 1}, 0)
	for i := range uint64(maxKnownBytes/p.Len + 1000) {
		key := gate.Key{SPI: 1<<32 + i}
		d.add(key)
		d.knock([]tun.Packet{ofSA(key, 0)})
	}
	if d.bytes > maxKnownBytes || d.bytes+p.Len <= maxKnownBytes {
		t.Errorf("%d octets wait, %d are allowed", d.bytes, maxKnownBytes)
	}
}

// Mistakes are told of, a few in words and the others as a number.
func TestDoorRemembersStrays(t *testing.T) {
	d := newTestDoor(t)
	p := ofSA(gate.Key{SPI: 1}, 0)
	p.Len = 10
	for range 100 {
		d.knock([]tun.Packet{p})
	}
	_, strays := d.take()
	total := uint64(len(strays))
	for _, s := range strays {
		total += s.more
	}
	if len(strays) != maxStrays || total != 100 || strays[0].kind != EventParseErrorHeader || strays[0].reason != gate.ReasonShort {
		t.Errorf("%d of %d remembered, the first is %+v", len(strays), total, strays[0])
	}
	if _, again := d.take(); len(again) != 0 {
		t.Error("told twice")
	}
}
