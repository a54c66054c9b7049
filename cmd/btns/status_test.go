package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/btns-go/btns/sockets"
)

// TestPrintStatus: what people who know swanctl --list-sas look for is where they look.
func TestPrintStatus(t *testing.T) {
	now := time.Now()
	st := sockets.Status{Latches: 3, IKE: []sockets.IKEStatus{{
		Name: "moon", Num: 7, State: "ESTABLISHED", Initiator: true, SPIi: "6fd55d95f66b4a67", SPIr: "cea64d4a303e0ca2",
		LocalID: "fqdn:sun.example", Local: "192.0.2.1:4500", RemoteID: "fqdn:moon.example", Remote: "192.0.2.2:4500", Method: "psk",
		Suite: "aes256gcm16-prfsha256-x25519", Encap: true, Age: 5 * time.Second,
		Rekey: now.Add(4*time.Hour + 400*time.Millisecond), Reauth: now.Add(9*time.Hour + 400*time.Millisecond),
		Children: []sockets.ChildStatus{{
			Name: "net", State: "REKEYING", Mode: "tunnel", Suite: "aes256gcm16", ESN: true, InSPI: "c8931e89", OutSPI: "0a0b0c0d",
			LocalTS: "10.1.0.0/24", RemoteTS: "10.2.0.0/24", Installed: now.Add(-time.Minute),
			Rekey: now.Add(time.Hour + 400*time.Millisecond), Expires: now.Add(2*time.Hour + 400*time.Millisecond),
		}},
	}, {
		State: "CONNECTING", SPIi: "01", SPIr: "02", Num: 9, Local: "192.0.2.1:4500", Remote: "192.0.2.9:4500", Error: "no answer",
	}}}
	var b strings.Builder
	printStatus(&b, &st)
	want := `moon: #7, ESTABLISHED, IKEv2, 6fd55d95f66b4a67_i* cea64d4a303e0ca2_r
  local  'fqdn:sun.example' @ 192.0.2.1:4500
  remote 'fqdn:moon.example' @ 192.0.2.2:4500, psk
  aes256gcm16-prfsha256-x25519
  established 5s ago, rekeying in 4h0m0s, reauthenticating in 9h0m0s
  net: REKEYING, tunnel-in-UDP, ESP:aes256gcm16/ESN
    installed 1m0s ago, rekeying in 1h0m0s, expires in 2h0m0s
    in  c8931e89,          0 bytes,        0 packets
    out 0a0b0c0d,          0 bytes,        0 packets
    local  10.1.0.0/24
    remote 10.2.0.0/24
(unknown): #9, CONNECTING, IKEv2, 01_i 02_r*
  local  '' @ 192.0.2.1:4500
  remote '%any' @ 192.0.2.9:4500
  no answer
IKE SAs: 1 authenticated, 0 anonymous, 2 in all; latches: 3
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}
