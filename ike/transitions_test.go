package ike

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/wire"
)

const stateCount = StateLinger + 1

// everyExchange is every value of the exchange octet.
func everyExchange() []wire.ExchangeType {
	var out []wire.ExchangeType
	for e := range 256 {
		out = append(out, wire.ExchangeType(e))
	}
	return out
}

// roleOf returns the roles that can be in a state.
func roleOf(s State) []Role {
	switch s {
	case StateIdle, StateInitKey, StateInitSent, StateInitDone, StateAuthSent, StateAuthCheck:
		return []Role{Initiator}
	case StateInitBusy, StateHalfOpen, StateAuthBusy:
		return []Role{Responder}
	case StateClosed, StateEstablished, StateDeleting, StateReplaced, StateLinger:
		return []Role{Initiator, Responder}
	}
	return nil
}

// Every cell of state × exchange × role × direction is a transition or a named drop,
// and no two transitions claim the same one.
func TestEveryCell(t *testing.T) {
	cells, entries := 0, 0
	used := map[*transition]bool{}
	for s := range stateCount {
		if strings.Contains(s.String(), "invalid") || len(roleOf(s)) == 0 {
			t.Errorf("state %d has no name or role", s)
		}
		for _, role := range roleOf(s) {
			for _, e := range everyExchange() {
				for _, d := range []direction{request, response} {
					cells++
					tr, drop := cell(s, role, e, d)
					switch {
					case tr != nil && drop != 0, tr == nil && drop == 0:
						t.Errorf("%v %v %v %v: transition %v, drop %v", s, role, e, d, tr, drop)
					case tr == nil && strings.Contains(drop.String(), "invalid"):
						t.Errorf("%v %v %v %v: drop without name", s, role, e, d)
					case tr != nil:
						entries++
						used[tr] = true
						if !tr.from.has(s) || tr.dir != d || tr.role != 0 && tr.role != role || tr.exchange != e && tr.exchange != anyExchange {
							t.Errorf("%v %v %v %v: wrong entry %q", s, role, e, d, tr.story)
						}
					}
				}
			}
		}
	}
	for i := range transitions {
		tr := &transitions[i]
		if !used[tr] {
			t.Errorf("no cell leads to %q", tr.story)
		}
		if tr.story == "" || tr.do == 0 || tr.from == 0 || tr.need&tr.may != 0 {
			t.Errorf("incomplete entry %+v", tr)
		}
		for j := range i {
			o := &transitions[j]
			if tr.from&o.from != 0 && tr.exchange == o.exchange && tr.dir == o.dir && (tr.role == 0 || o.role == 0 || tr.role == o.role) {
				t.Errorf("%q and %q claim the same cell", tr.story, o.story)
			}
		}
	}
	t.Logf("%d cells, %d of them transitions\n%s", cells, entries, dump())
}

// A handler sees the payloads that its transition names and no other.
func TestUnnamedPayloadsArePassedOver(t *testing.T) {
	for i := range transitions {
		tr := &transitions[i]
		var all []wire.Payload
		var want []string
		for typ := wire.PayloadType(33); typ <= 96; typ++ {
			all = append(all, &wire.Unknown{PType: typ})
			if tr.need&bit(typ)|tr.may&bit(typ) != 0 {
				want = append(want, typ.String())
			}
		}
		all = append(all, &wire.Unknown{PType: 200})
		var got []string
		for _, p := range tr.only(all) {
			got = append(got, p.Type().String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", tr.story, got, want)
		}
	}
}

// No request but IKE_AUTH can lead to ESTABLISHED before it (ADV-D6, CVE-2014-2338,
// CVE-2026-78135, CVE-2019-12312).
func TestADV_D6_OnlyAuthLeadsToEstablished(t *testing.T) {
	for i := range transitions {
		tr := &transitions[i]
		if tr.to == StateEstablished && tr.from&^in(StateEstablished, StateDeleting, StateReplaced) != 0 {
			t.Errorf("%q leads to ESTABLISHED", tr.story)
		}
		if tr.do == actChildRequest || tr.do == actInformational {
			if tr.from.has(StateHalfOpen) || tr.from.has(StateAuthBusy) || tr.from.has(StateAuthSent) || tr.from.has(StateAuthCheck) {
				t.Errorf("%q before authentication", tr.story)
			}
		}
		if tr.clear && tr.exchange != wire.ExchangeIKESAInit {
			t.Errorf("%q in clear", tr.story)
		}
	}
}

func TestNames(t *testing.T) {
	for d := Drop(1); int(d) < dropCount; d++ {
		if d.String() == "" || d.String() == "invalid" {
			t.Errorf("drop %d has no name", d)
		}
	}
	for _, s := range []string{Drop(0).String(), Drop(200).String(), State(99).String(), Role(0).String(), Reason(0).String()} {
		if s != "invalid" && s != "invalid role" && s != "unknown" {
			t.Errorf("%q", s)
		}
	}
	for r := ReasonFailed; r <= ReasonRefused; r++ {
		if r.String() == "unknown" {
			t.Errorf("reason %d", r)
		}
	}
	var c Counters
	if c.Dropped(200) != 0 || c.Drops() != 0 {
		t.Error("counters")
	}
}

func TestRetransmitSchedule(t *testing.T) {
	var total float64
	r := Retransmit{}
	for n := 1; n <= r.sends(); n++ {
		if n > 1 && r.wait(n) <= r.wait(n-1) {
			t.Errorf("wait %d does not grow", n)
		}
		total += r.wait(n).Seconds()
	}
	if r.sends() != 13 || total < 180 || total > 300 {
		t.Errorf("%d sends within %v s", r.sends(), total)
	}
	if DefaultHalfOpenLife.Seconds() < total {
		t.Error("a responder forgets before its initiator gives up")
	}
	if got := (Retransmit{Sends: 100}).sends(); got != 13 {
		t.Errorf("%d sends", got)
	}
	if got := (Retransmit{Initial: 1, Factor: 0.1}).wait(9); got != 1 {
		t.Errorf("factor below 1: %v", got)
	}
	if got := (Retransmit{Initial: maxTotal, Factor: 10}).wait(13); got != maxTotal {
		t.Errorf("wait %v", got)
	}
	if got := (Retransmit{Initial: 4, Factor: 2, Max: 10}).wait(3); got != 10 {
		t.Errorf("wait %v", got)
	}
}

// dump prints the table, for people.
func dump() string {
	var b strings.Builder
	for i := range transitions {
		t := &transitions[i]
		var from []string
		for s := range stateCount {
			if t.from.has(s) {
				from = append(from, s.String())
			}
		}
		role := "both"
		if t.role != 0 {
			role = t.role.String()
		}
		fmt.Fprintf(&b, "%-24s %-9s %-15s %-8s → %-11s %s\n",
			strings.Join(from, ","), role, t.exchange, t.dir, t.to, t.story)
	}
	return b.String()
}
