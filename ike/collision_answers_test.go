package ike_test

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"testing"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// What a peer is answered while something of ours is under way that concerns the same SA,
// cell by cell from RFC 7296, Sections 2.25, 2.25.1 and 2.25.2 (ADV-F11: TEMPORARY_FAILURE
// where stated).
func TestADV_F11_WhatIsAnsweredMeanwhile(t *testing.T) {
	const (
		usual = "SA"      // as usual: what was asked for is made
		half  = "D"       // as usual, with our half
		empty = "nothing" // without a Delete payload, or there is nothing to say
		later = "TEMPORARY_FAILURE"
		gone  = "CHILD_SA_NOT_FOUND"
	)
	requests := []string{"create child", "rekey this child", "rekey unknown child", "close this child", "close unknown child", "rekey IKE", "close IKE"}
	for _, row := range []struct {
		underWay string
		start    func(s *iketest.Sim, e *iketest.End, c *iketest.Child)
		answers  [7]string // to requests
	}{
		{"nothing", func(*iketest.Sim, *iketest.End, *iketest.Child) {},
			[7]string{usual, usual, gone, half, empty, usual, empty}},
		// 2.25.1: "a request to rekey a Child SA that it is currently rekeying ... as usual",
		// "a request to close a Child SA that it is currently rekeying ... with a Delete payload",
		// "a request to rekey the IKE SA, and it is currently creating, rekeying, or closing a
		// Child SA ... TEMPORARY_FAILURE". The unknown child may be the one that our request has
		// made, whose answer is on its way: a temporary condition (2.25), not one that is not there.
		{"rekeying this child", func(s *iketest.Sim, e *iketest.End, c *iketest.Child) { rekeyChild(s, e, c.InSPI) },
			[7]string{usual, usual, later, half, empty, later, empty}},
		{"creating a child", func(s *iketest.Sim, e *iketest.End, _ *iketest.Child) {
			e.CreateChild(e.Host.Request("more", iketest.Pair("10.5.0.0/16", "10.6.0.0/16")))
		}, [7]string{usual, usual, later, half, empty, later, empty}},
		// 2.25.1: "a request to rekey a Child SA that it is currently trying to close ...
		// TEMPORARY_FAILURE", "a request to close a Child SA that it is currently trying to
		// close ... without a Delete payload".
		{"closing this child", func(s *iketest.Sim, e *iketest.End, c *iketest.Child) {
			e.Do(func(m *ike.Machine) { m.DeleteChild(s.Now, c.InSPI) })
		}, [7]string{usual, later, gone, empty, empty, later, empty}},
		// 2.25.2: "a request to create or rekey a Child SA when it is currently rekeying the IKE
		// SA ... TEMPORARY_FAILURE", "a request to delete a Child SA ... with a Delete payload",
		// "a request to rekey an IKE SA that it is currently rekeying ... as usual", "a request to
		// close an IKE SA that it is currently rekeying ... as usual".
		{"rekeying the IKE SA", func(s *iketest.Sim, e *iketest.End, _ *iketest.Child) { rekeyIKE(s, e) },
			[7]string{later, later, later, half, empty, usual, empty}},
		// 2.25.2: "a request to rekey an IKE SA that it is currently trying to close ...
		// TEMPORARY_FAILURE", "a request to close an IKE SA that it is currently trying to close
		// ... as usual". Its child SAs have gone with it.
		{"closing the IKE SA", func(s *iketest.Sim, e *iketest.End, _ *iketest.Child) {
			e.Do(func(m *ike.Machine) { m.Delete(s.Now) })
		}, [7]string{later, later, later, empty, empty, later, empty}},
	} {
		for i, want := range row.answers {
			t.Run(row.underWay+" and "+requests[i], func(t *testing.T) {
				s, a, b := hosts(t, 970)
				e, o := up(t, s, a, b)
				c := only(t, e)
				var got []string
				asked := 0
				a.Answer = func(w ike.Work, r ike.WorkResult) ike.WorkResult {
					if _, ok := w.(*ike.WorkDecide); ok {
						asked++
					}
					return r
				}
				s.Tap = func(d iketest.Datagram) []iketest.Datagram {
					m := s.Open(d.Data)
					if m == nil || m.From != e || !m.Header.Flags.Response() {
						return nil // ours stays under way
					}
					said := empty
					for _, p := range m.Payloads {
						switch p := p.(type) {
						case *wire.SA:
							said = usual
						case *wire.Delete:
							said = half
							if len(p.SPIs) != 1 || p.SPIs[0] != c.InSPI {
								said = "D of another"
							}
						case *wire.Notify:
							said = p.NType.String()
							if p.NType == wire.NotifyChildSANotFound && !bytes.Equal(p.SPI, unknownSPI()) {
								said += " of another" // 2.25: copied from REKEY_SA
							}
						}
					}
					got = append(got, said)
					return nil
				}
				row.start(s, e, c)
				typ, ps := askFor(t, requests[i], c)
				s.Forge(o, wire.Header{Exchange: typ, MessageID: 0}, ps...)
				s.Run(50*time.Millisecond, nil)
				if len(got) != 1 || got[0] != want {
					t.Errorf("answered %q, want %q", got, want)
				}
				if made := want == usual && requests[i] != "rekey IKE"; (asked == 1) != made {
					t.Errorf("asked %d times to decide about what is answered %q", asked, want)
				}
				clean(t, s)
			})
		}
	}
}

func unknownSPI() []byte { return []byte{0x12, 0x34, 0x56, 0x78} }

// askFor returns a peer's request about c, or about what there is not.
func askFor(t *testing.T, what string, c *iketest.Child) (wire.ExchangeType, []wire.Payload) {
	t.Helper()
	sel := wire.TrafficSelector{Type: 7, EndPort: 65535, Start: mustAddr("10.1.0.0"), End: mustAddr("10.2.255.255")}
	esp := iketest.MustESP("aes256gcm16")[0]
	esp.Num, esp.SPI = 1, spi32(0x5000)
	child := []wire.Payload{&wire.SA{Proposals: []wire.Proposal{esp}}, &wire.Nonce{Data: bytes.Repeat([]byte{1}, 32)},
		&wire.TS{Initiator: true, Selectors: []wire.TrafficSelector{sel}}, &wire.TS{Selectors: []wire.TrafficSelector{sel}}}
	rekey := func(spi []byte) []wire.Payload {
		return append([]wire.Payload{&wire.Notify{Protocol: wire.ProtocolESP, SPI: spi, NType: wire.NotifyRekeySA}}, child...)
	}
	switch what {
	case "create child":
		return wire.ExchangeCreateChildSA, child
	case "rekey this child":
		return wire.ExchangeCreateChildSA, rekey(spi32(c.OutSPI))
	case "rekey unknown child":
		return wire.ExchangeCreateChildSA, rekey(unknownSPI())
	case "close this child":
		return wire.ExchangeInformational, []wire.Payload{&wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{c.OutSPI}}}
	case "close unknown child":
		return wire.ExchangeInformational, []wire.Payload{&wire.Delete{Protocol: wire.ProtocolESP, SPIs: []uint32{binary.BigEndian.Uint32(unknownSPI())}}}
	case "rekey IKE":
		p := iketest.MustIKE("aes256gcm16-prfsha256-x25519")[0]
		p.Num, p.SPI = 1, bytes.Repeat([]byte{7}, 8)
		k, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{9}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return wire.ExchangeCreateChildSA, []wire.Payload{&wire.SA{Proposals: []wire.Proposal{p}}, &wire.Nonce{Data: bytes.Repeat([]byte{2}, 32)},
			&wire.KE{Group: wire.GroupX25519, Data: k.PublicKey().Bytes()}}
	case "close IKE":
		return wire.ExchangeInformational, []wire.Payload{&wire.Delete{Protocol: wire.ProtocolIKE}}
	}
	t.Fatalf("no request %q", what)
	return 0, nil
}
