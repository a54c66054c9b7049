package ike_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// The tests in this file have somebody between the two ends who changes what he can't read.

// Payloads are taken out of an IKE_SA_INIT message, put in, or put elsewhere, in all its copies:
// the handshake may fail in any way but never succeeds, since AUTH covers the messages whole
// (RFC 7296, Section 2.15). So nothing in front of the keys can be removed unseen (ADV-C9).
func TestADV_C9_CVE_2023_48795_PayloadsOfInit(t *testing.T) {
	type change struct {
		name string
		do   func(ps []wire.Payload) []wire.Payload
	}
	var changes []change
	for i := range 8 {
		changes = append(changes,
			change{"remove", func(ps []wire.Payload) []wire.Payload {
				if i < len(ps) {
					return slices.Delete(ps, i, i+1)
				}
				return ps
			}},
			change{"insert", func(ps []wire.Payload) []wire.Payload {
				return slices.Insert(ps, min(i, len(ps)), wire.Payload(&wire.Vendor{Data: []byte{byte(i)}}))
			}},
			change{"swap", func(ps []wire.Payload) []wire.Payload {
				if i+1 < len(ps) {
					ps[i], ps[i+1] = ps[i+1], ps[i]
				}
				return ps
			}})
	}
	changes = append(changes, change{"keep the first", func(ps []wire.Payload) []wire.Payload { return ps[:1] }},
		change{"only what is needed", func(ps []wire.Payload) []wire.Payload {
			return slices.DeleteFunc(ps, func(p wire.Payload) bool { _, ok := p.(*wire.Notify); return ok })
		}})
	removed := 0
	for _, response := range []bool{false, true} {
		for _, c := range changes {
			s, a, b := hosts(t, 830)
			a.Config.Retransmit.Sends, a.Config.Retransmit.Factor = 2, 1
			b.Config.HalfOpenLife = 2 * time.Second
			a.Config.HashAlgs, b.Config.HashAlgs = []uint16{2, 3, 5}, []uint16{2, 3, 5}
			changed := false
			s.Tap = func(d iketest.Datagram) []iketest.Datagram {
				m, err := wire.Parse(d.Data)
				if err != nil || m.Exchange != wire.ExchangeIKESAInit || m.Flags.Response() != response {
					return []iketest.Datagram{d}
				}
				was := bytes.Clone(d.Data)
				m.Payloads = c.do(slices.Clone(m.Payloads))
				d.Data = iketest.Encode(m)
				changed = changed || !bytes.Equal(was, d.Data)
				return []iketest.Datagram{d}
			}
			e := a.Connect(b, nil)
			s.Run(10*time.Second, nil)
			if (e.Established != nil || len(b.Established()) != 0) != !changed {
				t.Errorf("%s (in the response: %v): changed %v, established %v\n%s", c.name, response, changed, e.Established != nil, s.Summary())
			}
			if changed {
				removed++
			}
			for _, err := range s.Errors {
				t.Error(err)
			}
		}
	}
	if removed < 40 {
		t.Errorf("only %d changes", removed)
	}
}

// Whole datagrams of a session never arrive: one end may wait, fail or try again, but the two
// never stand with different ideas of what was said.
func TestCVE_2023_48795_DatagramsRemoved(t *testing.T) {
	for n := range 8 {
		for _, all := range []bool{false, true} { // with those behind it in this direction
			s, a, b := hosts(t, 831)
			a.Config.DPDDelay, b.Config.DPDDelay = time.Minute, time.Minute
			var target []byte
			var from iketest.Datagram
			seen := -1
			distinct := map[string]bool{}
			s.Tap = func(d iketest.Datagram) []iketest.Datagram {
				if !distinct[string(d.Data)] {
					distinct[string(d.Data)] = true
					if seen++; seen == n {
						target, from = bytes.Clone(d.Data), d
					}
				}
				if target != nil && (bytes.Equal(d.Data, target) || all && d.From == from.From) {
					return nil
				}
				return []iketest.Datagram{d}
			}
			e := a.Connect(b, nil)
			s.Run(100*time.Millisecond, nil)
			e.CreateChild(a.Request("two", iketest.Pair("10.3.0.0/16", "10.4.0.0/16")))
			s.Run(100*time.Millisecond, nil)
			rekeyIKE(s, e.Last())
			s.Run(15*time.Minute, nil)
			s.Settle(15 * time.Minute)
			clean(t, s)
		}
	}
}

// The same name and secret at both ends, and somebody who sends us our own messages: as they
// are, with other flags, and as two legs with an SPI of his own on each.
func TestADV_D16_Selfie(t *testing.T) {
	for _, how := range []string{"as they are", "other flags", "two legs"} {
		s, a, b := hosts(t, 832)
		b.Config.Local = a.Config.Local
		a.WantID = id("moon")
		a.Config.Retransmit.Sends = 3
		// legs maps the SPIs of one leg to those of the other.
		const mask = 0x5555
		s.Tap = func(d iketest.Datagram) []iketest.Datagram {
			d.Data = bytes.Clone(d.Data)
			switch how {
			case "other flags":
				d.Data[19] ^= byte(wire.FlagInitiator | wire.FlagResponse)
			case "two legs":
				spii := binary.BigEndian.Uint64(d.Data)
				binary.BigEndian.PutUint64(d.Data, spii^mask)
			}
			d.From, d.To = b.Addr, a.Addr
			return []iketest.Datagram{d}
		}
		e := a.Connect(b, nil)
		s.Run(10*time.Minute, nil)
		if e.Established != nil || len(a.Established()) != 0 || s.Panics() != 0 {
			t.Errorf("%s: talks to itself\n%s", how, s.Summary())
		}
		if legs := len(a.Ends) > 1; legs != (how == "two legs") {
			t.Errorf("%s: %d ends\n%s", how, len(a.Ends), s.Summary())
		}
	}
}
