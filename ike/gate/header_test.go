package gate

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

func TestADV_A1_ShortDatagrams(t *testing.T) {
	g := newGate(t, Config{})
	req := initReq(1, nonce(1))
	for n := range 28 {
		wantDrop(t, g.Classify(epoch(), peer(), req[:n]), ReasonShort)
	}
	wantDrop(t, g.Classify(epoch(), peer(), nil), ReasonShort)
	wantDrop(t, g.Classify(epoch(), peer(), []byte{0xff}), ReasonShort) // ADV-A2, if a wire lets one through
	if g.Stats().Count(ReasonShort) != 30 || g.HalfOpen() != 0 || g.Len() != 0 {
		t.Errorf("stats %+v", g.Stats())
	}
}

func TestADV_A3_CVE_2013_4564_HeaderLength(t *testing.T) {
	g := newGate(t, Config{})
	req := initReq(1, nonce(1))
	for _, n := range []uint32{0, 27, 28, uint32(len(req)) - 1, uint32(len(req)) + 1, 1 << 16, 1<<32 - 1} {
		b := bytes.Clone(req)
		binary.BigEndian.PutUint32(b[24:], n)
		wantDrop(t, g.Classify(epoch(), peer(), b), ReasonLength)
	}
	wantDrop(t, g.Classify(epoch(), peer(), append(bytes.Clone(req), 0)), ReasonLength)
	for n := 28; n < len(req); n++ {
		wantDrop(t, g.Classify(epoch(), peer(), req[:n]), ReasonLength)
	}
	wantKind(t, g.Classify(epoch(), peer(), req), NewResponder)
}

// wantError checks an unprotected error answer octet for octet (RFC 7296, Sections 1.5, 2.21.4).
func wantError(t *testing.T, v Verdict, request []byte, code wire.NotifyType) {
	t.Helper()
	wantKind(t, v, Reply)
	want := bytes.Clone(request[:28])
	want[16], want[17] = byte(wire.PayloadNotify), 0x20
	want[19] = byte(wire.FlagResponse) | ^request[19]&byte(wire.FlagInitiator)
	binary.BigEndian.PutUint32(want[24:], 36)
	want = append(want, 0, 0, 0, 8, 0, 0, byte(code>>8), byte(code))
	if !bytes.Equal(v.Reply, want) {
		t.Errorf("answer\n%x, want\n%x", v.Reply, want)
	}
	if m, err := wire.Parse(v.Reply); err != nil || m.Payloads[0].(*wire.Notify).NType != code {
		t.Errorf("the answer does not parse: %v", err)
	}
}

func TestADV_A4_NewerVersion(t *testing.T) {
	for _, version := range []byte{0x30, 0xf0, 0x3f} {
		g := newGate(t, Config{})
		req := initReq(1, nonce(1))
		req[17] = version
		wantError(t, g.Classify(epoch(), peer(), req), req, wire.NotifyInvalidMajorVersion)
		for range 10 {
			wantDrop(t, g.Classify(epoch().Add(answerGap-1), peer(), req), ReasonRateLimited)
		}
		wantError(t, g.Classify(epoch().Add(answerGap), peer(), req), req, wire.NotifyInvalidMajorVersion)

		// Header only: an answer would be longer.
		head := header(1, 0, 0, wire.ExchangeIKESAInit, wire.FlagInitiator, 0, 28)
		head[17] = version
		wantDrop(t, g.Classify(epoch(), peer(), head), ReasonAmplifies)
		req[19] |= byte(wire.FlagResponse)
		wantDrop(t, g.Classify(epoch().Add(time.Hour), peer(), req), ReasonResponse)
	}
}

func TestADV_A5_OlderVersion(t *testing.T) {
	g := newGate(t, Config{})
	for _, version := range []byte{0x00, 0x10, 0x1f} {
		req := initReq(1, nonce(1))
		req[17], req[18] = version, 2 // identity protection (Main Mode)
		wantDrop(t, g.Classify(epoch(), peer(), req), ReasonOldVersion)
	}
}

func TestADV_A6_MinorVersionAndReservedBits(t *testing.T) {
	g := newGate(t, Config{})
	req := initReq(1, nonce(1))
	req[17] = 0x2f
	req[19] = byte(wire.FlagInitiator|wire.FlagVersion) | 0xc7
	for off := 28; off < len(req); off += int(binary.BigEndian.Uint16(req[off+2:])) {
		req[off+1] |= 0x7f // RESERVED of each payload header
	}
	wantKind(t, g.Classify(epoch(), peer(), req), NewResponder)
}

func TestADV_A7_ZeroInitiatorSPI(t *testing.T) {
	g := newGate(t, Config{})
	wantDrop(t, g.Classify(epoch(), peer(), initReq(0, nonce(1))), ReasonZeroSPI)
	wantDrop(t, g.Classify(epoch(), peer(), encrypted(0, 5, wire.ExchangeInformational, wire.FlagInitiator, 0)), ReasonZeroSPI)
	wantDrop(t, g.Classify(epoch(), peer(), encrypted(0, 0, wire.ExchangeInformational, 0, 0)), ReasonZeroSPI)
}

func TestADV_A8_InitWithResponderSPI(t *testing.T) {
	g := newGate(t, Config{})
	req := initReq(1, nonce(1))
	req[15] = 9
	wantDrop(t, g.Classify(epoch(), peer(), req), ReasonInitSPI)
}

func TestADV_A9_InitWithMessageID(t *testing.T) {
	g := newGate(t, Config{})
	for _, id := range []uint32{1, 1 << 31, 1<<32 - 1} {
		req := initReq(1, nonce(1))
		binary.BigEndian.PutUint32(req[20:], id)
		wantDrop(t, g.Classify(epoch(), peer(), req), ReasonInitMessageID)
	}
}

func TestADV_A10_UnknownResponse(t *testing.T) {
	g := newGate(t, Config{})
	for _, flags := range []wire.Flags{wire.FlagResponse, wire.FlagResponse | wire.FlagInitiator} {
		for x := range 256 {
			wantDrop(t, g.Classify(epoch(), peer(), encrypted(7, 8, wire.ExchangeType(x), flags, 3)), ReasonResponse)
			wantDrop(t, g.Classify(epoch(), peer(), encrypted(7, 0, wire.ExchangeType(x), flags, 0)), ReasonResponse)
		}
	}
}

func TestADV_A11_UnknownSPI(t *testing.T) {
	g := newGate(t, Config{})
	now := epoch()
	for _, flags := range []wire.Flags{wire.FlagInitiator, 0} {
		for _, x := range []wire.ExchangeType{wire.ExchangeIKEAuth, wire.ExchangeCreateChildSA, wire.ExchangeInformational} {
			now = now.Add(answerGap)
			req := encrypted(0x1122334455667788, 0x99aabbccddeeff00, x, flags, 0xfeedbeef)
			wantError(t, g.Classify(now, peer(), req), req, wire.NotifyInvalidIKESPI)
			wantDrop(t, g.Classify(now, peer(), req), ReasonRateLimited)
		}
	}
	// Not even encrypted: two forgetful nodes must not talk for ever.
	wantDrop(t, g.Classify(now.Add(time.Hour), peer(), header(1, 2, wire.PayloadNotify, wire.ExchangeInformational, wire.FlagInitiator, 0, 36)), ReasonClear)
	wantDrop(t, g.Classify(now.Add(time.Hour), peer(), header(1, 2, wire.PayloadEncrypted, wire.ExchangeIKEAuth, wire.FlagInitiator, 1, 28)), ReasonAmplifies)
}

// TestErrorAnswersAreRateLimited counts answers to many sources over time (RFC 7296, Section 2.21.4).
func TestErrorAnswersAreRateLimited(t *testing.T) {
	g := newGate(t, Config{})
	rnd := newSources(7)
	answered := 0
	const seconds, perSecond = 10, 5000
	for i := range seconds * perSecond {
		now := epoch().Add(time.Duration(i) * time.Second / perSecond)
		if g.Classify(now, rnd.path(), encrypted(1, 2, wire.ExchangeIKEAuth, wire.FlagInitiator, 1)).Kind == Reply {
			answered++
		}
	}
	if most := answerBurst + seconds*answerRate; answered > most || answered < most*9/10 {
		t.Errorf("%d answers in %d s, want about %d", answered, seconds, most)
	}
}

func TestADV_A12_ReflectionAndWrongRole(t *testing.T) {
	g := newGate(t, Config{})
	g.Add(Key{SPI: 0xa1, Initiator: true}) // we are the initiator: SPIi is ours
	g.Add(Key{SPI: 0xb2})                  // we are the responder: SPIr is ours
	before := g.Len()

	v := g.Classify(epoch(), peer(), encrypted(0xa1, 0x99, wire.ExchangeInformational, 0, 0))
	if v.Kind != Existing || v.Key != (Key{0xa1, true}) {
		t.Errorf("the responder's request: %+v", v)
	}
	v = g.Classify(epoch(), peer(), encrypted(0x99, 0xb2, wire.ExchangeInformational, wire.FlagInitiator|wire.FlagResponse, 0))
	if v.Kind != Existing || v.Key != (Key{0xb2, false}) {
		t.Errorf("the initiator's response: %+v", v)
	}

	for name, b := range map[string][]byte{
		"our request":         encrypted(0xa1, 0x99, wire.ExchangeIKEAuth, wire.FlagInitiator, 1),
		"our response":        encrypted(0x99, 0xb2, wire.ExchangeIKEAuth, wire.FlagResponse, 1),
		"our INIT request":    initReq(0xa1, nonce(1)),
		"wrong role, as init": encrypted(0x99, 0xb2, wire.ExchangeInformational, 0, 2),
		"wrong role, as resp": encrypted(0xa1, 0x99, wire.ExchangeInformational, wire.FlagInitiator|wire.FlagResponse, 2),
	} {
		v := g.Classify(epoch(), peer(), b)
		if v.Kind != Drop || v.Reason != ReasonReflected {
			t.Errorf("%s: %v (%v)", name, v.Kind, v.Reason)
		}
	}
	// The SPIs of one role are no SPIs of the other.
	if v := g.Classify(epoch(), peer(), encrypted(0x99, 0xa1, wire.ExchangeInformational, wire.FlagInitiator, 0)); v.Kind == Existing {
		t.Error("an initiator SPI was found as a responder's")
	}
	if g.Len() != before {
		t.Error("something was registered")
	}
}

func TestADV_A13_CVE_2009_0790_ExchangeTypes(t *testing.T) {
	g := newGate(t, Config{})
	now := epoch()
	for x := range 256 {
		now = now.Add(answerGap)
		ex := wire.ExchangeType(x)
		req := initReq(1, nonce(1))
		req[18] = byte(x)
		v := g.Classify(now, peer(), req)
		if ex == wire.ExchangeIKESAInit {
			wantKind(t, v, NewResponder)
			continue
		}
		wantDrop(t, v, ReasonExchange) // SPIr is zero
		v = g.Classify(now, peer(), encrypted(1, 2, ex, wire.FlagInitiator, 0))
		switch ex {
		case wire.ExchangeIKEAuth, wire.ExchangeCreateChildSA, wire.ExchangeInformational,
			wire.ExchangeIKEIntermediate, wire.ExchangeIKEFollowupKE:
			wantKind(t, v, Reply)
		default:
			wantDrop(t, v, ReasonExchange)
		}
	}
	req := initReq(1, nonce(1))
	req[19] = 0 // IKE_SA_INIT request by who is not the initiator
	wantDrop(t, g.Classify(now, peer(), req), ReasonExchange)
}

func TestADV_A18_SourcesThatCannotBeAnswered(t *testing.T) {
	g := newGate(t, Config{})
	req := initReq(1, nonce(1))
	for _, remote := range []string{
		"198.51.100.7:0", "192.0.2.1:500", "224.0.0.1:500", "255.255.255.255:500", "0.0.0.0:500",
		"[ff02::1]:500", "[::]:500", "[2001:db8::1]:0",
	} {
		wantDrop(t, g.Classify(epoch(), from(remote), req), ReasonSource)
	}
	wantDrop(t, g.Classify(epoch(), Path{}, req), ReasonSource)
	// The host's own address from another port is another program, and may be a peer.
	wantKind(t, g.Classify(epoch(), from("192.0.2.1:4501"), req), NewResponder)
}

// TestEstablishedSAsPassEveryLimit shows that load decides about strangers only (ADV-H1).
func TestEstablishedSAsPassEveryLimit(t *testing.T) {
	g := newGate(t, Config{MaxHalfOpen: 1, MaxPerAddr: 1, MaxPerPrefix: 1, CookieThreshold: -1, InitRate: 1})
	g.Add(Key{SPI: 0xb2})
	for i := range 1000 {
		if v := g.Classify(epoch(), peer(), encrypted(1, 0xb2, wire.ExchangeCreateChildSA, wire.FlagInitiator, uint32(i))); v.Kind != Existing {
			t.Fatalf("verdict %v (%v)", v.Kind, v.Reason)
		}
	}
	g.Remove(Key{SPI: 0xb2})
	if v := g.Classify(epoch(), peer(), encrypted(1, 0xb2, wire.ExchangeCreateChildSA, wire.FlagInitiator, 0)); v.Kind != Reply {
		t.Errorf("after Remove: %v (%v)", v.Kind, v.Reason)
	}
}

// TestZeroSPIOfAnotherVersion: INVALID_MAJOR_VERSION would go to an SPI that nobody can have.
func TestZeroSPIOfAnotherVersion(t *testing.T) {
	g := newGate(t, Config{})
	b := initReq(0, nonce(1))
	b[offVersion] = 0x30
	wantDrop(t, g.Classify(epoch(), peer(), b), ReasonZeroSPI)
}
