package sockets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/sockets/internal/control"
	"github.com/btns-go/btns/tokens"
	"github.com/btns-go/btns/tun/tuntest"
)

// A diary has a host's events from its beginning on.
type diary struct {
	t    *testing.T
	host string

	mu   sync.Mutex
	list []Event
	more chan struct{} // closed when the list grows
	done chan struct{} // closed when the host has ended and the list is complete
}

// watch keeps the events of a host until it ends, and what kinds there were in seen.
func watch(t *testing.T, st *Stack, seen *kindSet) *diary {
	d := &diary{t: t, host: st.cfg.Name, more: make(chan struct{}), done: make(chan struct{})}
	w := st.Watch()
	go func() {
		defer close(d.done)
		for {
			e, err := w.Next(context.Background())
			if err != nil {
				return
			}
			d.mu.Lock()
			d.list = append(d.list, e)
			close(d.more)
			d.more = make(chan struct{})
			d.mu.Unlock()
			seen.add(e.Kind)
		}
	}()
	t.Cleanup(func() {
		_ = st.Close()
		<-d.done
		_ = w.Close()
	})
	return d
}

func (d *diary) events() []Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

// await waits for an event of a kind that ok takes, nil for any, and wants its line to have
// all words.
func (d *diary) await(kind EventKind, ok func(e *Event) bool, words ...string) Event {
	d.t.Helper()
	var found *Event
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		d.mu.Lock()
		list, more := d.list, d.more
		d.mu.Unlock()
		i := slices.IndexFunc(list, func(e Event) bool { return e.Kind == kind && (ok == nil || ok(&e)) })
		if i >= 0 {
			found = &list[i]
			break
		}
		select {
		case <-more:
		case <-timeout.C:
			d.t.Fatalf("%s: no %s in %v", d.host, kind, list)
		}
	}
	for _, w := range words {
		if !strings.Contains(found.String(), w) {
			d.t.Errorf("%s: %q does not say %q", d.host, found, w)
		}
	}
	d.t.Logf("%s: %s", d.host, found)
	return *found
}

// kindSet collects kinds.
type kindSet struct{ bits atomic.Uint64 }

func (s *kindSet) add(k EventKind)      { s.bits.Or(1 << k) }
func (s *kindSet) has(k EventKind) bool { return s.bits.Load()&(1<<k) != 0 }

// A scene is two hosts on a network in memory, of which a dials b. Each knows the other as
// one connection, "b" and "a", with one child "net" and a shared key.
type scene struct {
	t    *testing.T
	net  *tuntest.Net
	seen *kindSet
	a, b Config

	hostA, hostB   *Stack
	diaryA, diaryB *diary
}

const (
	addrA = "192.0.2.1:4500"
	addrB = "192.0.2.2:4500"
)

func newScene(t *testing.T, seen *kindSet) *scene {
	s := &scene{t: t, net: tuntest.NewNet(tuntest.Faults{}), seen: seen}
	secret := auth.NewPSK([]byte("a shared key with enough in it"))
	s.a = Config{Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, Connections: []Connection{{
		Name: "b", RemoteAddrs: []string{addrB}, Proposals: []string{"aes256gcm16-prfsha256-x25519"},
		Local: Auth{Method: AuthPSK, ID: "a.example"}, Remote: Auth{Method: AuthPSK, ID: "b.example", Secret: secret},
		Children: []Child{{Name: "net", LocalTS: []string{"10.1.0.0/24"}, RemoteTS: []string{"10.2.0.0/24"}, Proposals: []string{"aes256gcm16"}}},
	}}}
	s.b = Config{Addrs: []netip.Prefix{netip.MustParsePrefix("10.2.0.1/24")}, Connections: []Connection{{
		Name: "a", Proposals: []string{"aes256gcm16-prfsha256-x25519"},
		Local: Auth{Method: AuthPSK, ID: "b.example"}, Remote: Auth{Method: AuthPSK, ID: "a.example", Secret: secret},
		Children: []Child{{Name: "net", LocalTS: []string{"10.2.0.0/24"}, RemoteTS: []string{"10.1.0.0/24"}, Proposals: []string{"aes256gcm16"}}},
	}}}
	return s
}

func (s *scene) start() *scene {
	s.t.Helper()
	s.hostB, s.diaryB = s.host("b", addrB, s.b)
	s.hostA, s.diaryA = s.host("a", addrA, s.a)
	return s
}

func (s *scene) host(name, addr string, cfg Config) (*Stack, *diary) {
	s.t.Helper()
	if cfg.Wire == nil && cfg.Listen == nil {
		w, err := s.net.Listen(netip.MustParseAddrPort(addr))
		if err != nil {
			s.t.Fatal(err)
		}
		cfg.Wire = w
	}
	st := newStack(s.t, name, cfg)
	return st, watch(s.t, st, s.seen)
}

// initiate asks a for its child SA and returns what came of it.
func (s *scene) initiate() error {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	return s.hostA.Initiate(ctx, "net")
}

func (s *scene) up() *scene {
	s.t.Helper()
	s.start()
	if err := s.initiate(); err != nil {
		s.t.Fatal(err)
	}
	s.diaryB.await(EventChildUpDown, isUp)
	return s
}

func isUp(e *Event) bool   { return e.Up }
func isDown(e *Event) bool { return !e.Up }

// elsewhere are the kinds that take a test of package engine's: it can let hours pass.
func elsewhere() []EventKind {
	return []EventKind{EventAuthorizationFailed, EventHalfOpenTimeout, EventIKESAExpired, EventPeerInitUnreachable,
		EventRetransmitSendTimeout, EventPeerSuspect, EventPeerCleared, EventLost}
}

// TestEveryEvent provokes every kind of event on whole hosts. What a negotiation that
// failed is told with names both sides' offers and the first thing that did not match.
func TestEveryEvent(t *testing.T) {
	seen := new(kindSet)
	scenes := []struct {
		name string
		test func(t *testing.T, s *scene)
	}{
		{"life of an SA", testEventsOfLife},
		{"wrong shared key", testEventsOfWrongPSK},
		{"another identity than asked for", testEventsOfWrongID},
		{"a key nobody configured", testEventsOfWrongKey},
		{"our own key fails", testEventsOfBadSigner},
		{"IKE proposals", testEventsOfIKEProposals},
		{"key exchange groups", testEventsOfGroups},
		{"the other group is taken", testNoEventOfAnotherGroup},
		{"ESP proposals", testEventsOfESPProposals},
		{"a suite that a socket demands", testEventsOfDemandedSuite},
		{"what a socket demands and its child lacks", testEventsOfDemands},
		{"transport mode", testEventsOfMode},
		{"traffic selectors", testEventsOfSelectors},
		{"narrowed traffic selectors", testEventsOfNarrowing},
		{"a packet that narrowing leaves out", testEventsOfPacketLeftOut},
		{"unknown host", testEventsOfUnknownHost},
		{"lost and repeated messages", testEventsOfLoss},
		{"stray datagrams", testEventsOfStrays},
		{"forged datagrams", testEventsOfForgeries},
		{"an impossible public value", testEventsOfBadKE},
		{"restart of the peer", testEventsOfRestart},
		{"one SA for each peer", testEventsOfUnique},
		{"reauthentication", testEventsOfReauth},
		{"another address", testEventsOfMove},
		{"anonymous peers", testEventsOfAnonymous},
		{"broken latch", testEventsOfLatch},
	}
	all := len(scenes)
	for _, tt := range scenes {
		t.Run(tt.name, func(t *testing.T) {
			all--
			tt.test(t, newScene(t, seen))
		})
	}
	if all > 0 { // only some were asked for
		return
	}
	for _, k := range EventKinds() {
		if !seen.has(k) && !slices.Contains(elsewhere(), k) {
			t.Errorf("nothing here brought about %s", k)
		}
	}
}

func testEventsOfLife(t *testing.T, s *scene) {
	s.up()
	for _, d := range []*diary{s.diaryA, s.diaryB} {
		peer, local := "fqdn:b.example", "fqdn:a.example"
		if d == s.diaryB {
			peer, local = local, peer
		}
		e := d.await(EventIKEUpDown, isUp, "established", peer, "aes256gcm16-prfsha256-x25519")
		if e.Peer.Remote != peer || e.Peer.Local != local || e.Peer.Method != "psk" || e.IKE.Num != 1 || e.IKE.SPIi == 0 || e.IKE.SPIr == 0 ||
			e.IKE.Initiator != (d == s.diaryA) || e.Unauthenticated || e.Peer.Anonymous || e.Time.IsZero() || e.Err != nil {
			t.Errorf("%+v", e)
		}
		e = d.await(EventChildUpDown, isUp, "CHILD_SA net established", "aes256gcm16", "10.1.0.0/24")
		if e.Child.Mode != "tunnel" || e.Child.SPIIn == 0 || e.Child.SPIOut == 0 {
			t.Errorf("%+v", e)
		}
	}
	first := s.diaryA.await(EventChildUpDown, isUp)
	if n, err := s.hostA.Rekey("net"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for _, d := range []*diary{s.diaryA, s.diaryB} {
		old := d.await(EventChildUpDown, isUp)
		e := d.await(EventChildRekey, nil, "CHILD_SA net rekeyed", "replaces "+old.Child.SPIIn.String())
		if e.Child.OldSPIIn != old.Child.SPIIn || e.Child.SPIIn == old.Child.SPIIn {
			t.Errorf("%+v", e)
		}
	}
	if n, err := s.hostA.Rekey("b"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for _, d := range []*diary{s.diaryA, s.diaryB} {
		if e := d.await(EventIKERekey, nil, "replaces [1]"); e.IKE.Num != 2 || e.IKE.OldNum != 1 {
			t.Errorf("%+v", e)
		}
	}
	if err := s.hostB.Close(); err != nil {
		t.Fatal(err)
	}
	s.diaryB.await(EventShutdown, nil)
	s.diaryB.await(EventIKEUpDown, isDown, "deleted by us")
	e := s.diaryA.await(EventIKEUpDown, isDown, "closed", "deleted by peer")
	if e.IKE.Num != 2 {
		t.Errorf("%+v", e)
	}
	if e = s.diaryA.await(EventChildUpDown, isDown); e.Child.SPIIn == first.Child.SPIIn {
		t.Error("the child SA that was replaced went down as well")
	}
	ups := 0
	for _, e := range s.diaryA.events() {
		if e.Kind == EventIKEUpDown || e.Kind == EventChildUpDown {
			ups++
		}
	}
	if ups != 4 {
		t.Errorf("up and down: %v", s.diaryA.events())
	}
}

func testEventsOfWrongPSK(t *testing.T, s *scene) {
	s.b.Connections[0].Remote.Secret = auth.NewPSK([]byte("another shared key altogether"))
	s.start()
	err := s.initiate()
	var no *ike.NotifyError
	if !errors.As(err, &no) || no.Type != wire.NotifyAuthenticationFailed || !no.Remote {
		t.Errorf("got %v", err)
	}
	e := s.diaryB.await(EventPeerAuthFailed, nil, "192.0.2.1:4500", "psk", "fqdn:a.example", "asked for fqdn:b.example", "shared key of connection a", "(unauthenticated)")
	var why *AuthError
	if !errors.As(e.Err, &why) || why.Claimed != "fqdn:a.example" || e.Peer.Claimed != why.Claimed || e.Peer.Asked != "fqdn:b.example" ||
		e.Peer.Method != "psk" || e.Peer.Remote != "" || !e.Unauthenticated || e.Connection != "" {
		t.Errorf("%+v", e)
	}
	e = s.diaryA.await(EventLocalAuthFailed, nil, "b[1]", addrB, "AUTHENTICATION_FAILED", "a.example")
	if e.Peer.Local != "fqdn:a.example" || !errors.As(e.Err, &no) {
		t.Errorf("%+v", e)
	}
}

func testEventsOfWrongID(t *testing.T, s *scene) {
	s.a.Connections[0].Remote.ID = "c.example"
	s.start()
	if s.initiate() == nil {
		t.Fatal("no error")
	}
	e := s.diaryA.await(EventPeerAuthFailed, nil, "b[1]", "fqdn:b.example", "asked for fqdn:c.example", "AUTHENTICATION_FAILED")
	if e.Peer.Claimed != "fqdn:b.example" || e.Peer.Asked != "fqdn:c.example" || !e.Unauthenticated {
		t.Errorf("%+v", e)
	}
	// b had let a in, until a said so.
	s.diaryB.await(EventLocalAuthFailed, nil, "fqdn:a.example", "AUTHENTICATION_FAILED")
	s.diaryB.await(EventIKEUpDown, isDown)
}

func testEventsOfWrongKey(t *testing.T, s *scene) {
	other := newKey(t)
	for i, c := range []*Config{&s.a, &s.b} {
		c.Key = newKey(t)
		conn := &c.Connections[0]
		conn.Local.Method, conn.Remote.Method, conn.Remote.Secret = AuthPubKey, AuthPubKey, auth.PSK{}
		if i == 1 {
			s.a.Connections[0].Remote.PublicKeys = pub(c.Key)
			conn.Remote.PublicKeys = pub(other)
		}
	}
	s.start()
	if s.initiate() == nil {
		t.Fatal("no error")
	}
	e := s.diaryB.await(EventPeerAuthFailed, nil, "192.0.2.1:4500", "pubkey", "fqdn:a.example", "AUTHENTICATION_FAILED")
	if e.Peer.Method != "pubkey" || e.Peer.Asked != "fqdn:b.example" {
		t.Errorf("%+v", e)
	}
	s.diaryA.await(EventLocalAuthFailed, nil, "AUTHENTICATION_FAILED")
}

func testEventsOfBadSigner(t *testing.T, s *scene) {
	s.a.Key = badSigner{newKey(t)}
	s.a.Connections[0].Local = Auth{Method: AuthPubKey, ID: "a.example"}
	s.start()
	if s.initiate() == nil {
		t.Fatal("no error")
	}
	s.diaryA.await(EventLocalAuthFailed, nil, "own AUTH payload", "the token was removed")
}

func testEventsOfIKEProposals(t *testing.T, s *scene) {
	s.b.Connections[0].Proposals = []string{"aes128-sha256-ecp256", "aes256-sha256-ecp256"}
	s.start()
	if s.hostA.Initiate(until(t, s.hostA, EventProposalMismatchIKE), "net") == nil {
		t.Fatal("no error")
	}
	path := filepath.Join(t.TempDir(), "control")
	ctl, err := s.hostA.ServeControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	err = control.Call(t.Context(), path, control.Request{Op: "initiate", Args: map[string]string{"name": "net", "within": "100ms"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "connection b: no answer to IKE_SA_INIT from "+addrB) ||
		!strings.Contains(err.Error(), "NO_PROPOSAL_CHOSEN (unauthenticated): we offer aes256gcm16-prfsha256-x25519") {
		t.Errorf("who asked from outside is told %v", err)
	}
	e := s.diaryB.await(EventProposalMismatchIKE, nil, "192.0.2.1:4500", "peer offers aes256gcm16, we accept aes128",
		"peer offers [aes256gcm16-prfsha256-x25519]", "we accept [aes128-sha256-ecp256, aes256-sha256-ecp256]", "(unauthenticated)")
	var mis *suite.Mismatch
	if !errors.As(e.Err, &mis) || !e.Unauthenticated || !slices.Equal(e.Offers.Peer, s.a.Connections[0].Proposals) ||
		!slices.Equal(e.Offers.Ours, s.b.Connections[0].Proposals) || e.Offers.First != mis.First() {
		t.Errorf("%+v", e)
	}
	e = s.diaryA.await(EventProposalMismatchIKE, nil, "b[1]", addrB, "NO_PROPOSAL_CHOSEN", "we offer aes256gcm16-prfsha256-x25519", "(unauthenticated)")
	if !e.Unauthenticated || len(e.Offers.Peer) != 0 || !slices.Equal(e.Offers.Ours, s.a.Connections[0].Proposals) {
		t.Errorf("%+v", e)
	}
}

func testEventsOfGroups(t *testing.T, s *scene) {
	s.b.Connections[0].Proposals = []string{"aes256gcm16-prfsha256-ecp384-modp2048"}
	s.start()
	if s.hostA.Initiate(until(t, s.hostA, EventProposalMismatchIKE), "net") == nil {
		t.Fatal("no error")
	}
	s.diaryB.await(EventProposalMismatchIKE, nil, "KE: peer offers x25519, we accept ecp384 modp2048")
	s.diaryA.await(EventProposalMismatchIKE, nil, "we offer aes256gcm16-prfsha256-x25519")
}

// A responder that only wants another of the groups offered is understood: nothing failed,
// though a slow machine may repeat itself.
func testNoEventOfAnotherGroup(t *testing.T, s *scene) {
	s.a.Connections[0].Proposals = []string{"aes256gcm16-prfsha256-ecp256-x25519"}
	s.up()
	for _, d := range []*diary{s.diaryA, s.diaryB} {
		for _, e := range d.events() {
			switch e.Kind {
			case EventIKEUpDown, EventChildUpDown, EventRetransmitSend, EventRetransmitSendCleared, EventRetransmitReceive:
			default:
				t.Errorf("%s: %s", d.host, e)
			}
		}
	}
}

func testEventsOfESPProposals(t *testing.T, s *scene) {
	s.b.Connections[0].Children[0].Proposals = []string{"chacha20poly1305"}
	s.start()
	if s.initiate() == nil {
		t.Fatal("no error")
	}
	e := s.diaryB.await(EventProposalMismatchChild, nil, "a[1]", "fqdn:a.example", "CHILD_SA net", "ENCR: peer offers aes256gcm16, we accept chacha20poly1305")
	if e.Unauthenticated || !slices.Equal(e.Offers.Peer, []string{"aes256gcm16"}) || !slices.Equal(e.Offers.Ours, []string{"chacha20poly1305"}) {
		t.Errorf("%+v", e)
	}
	e = s.diaryA.await(EventProposalMismatchChild, nil, "b[1]", "CHILD_SA net", "NO_PROPOSAL_CHOSEN", "we offer aes256gcm16")
	if !slices.Equal(e.Offers.Ours, []string{"aes256gcm16"}) {
		t.Errorf("%+v", e)
	}
	for _, d := range []*diary{s.diaryA, s.diaryB} {
		d.await(EventKeepOnChildSAFailure, nil, "CHILD_SA net")
		d.await(EventIKEUpDown, isUp)
	}
}

func testEventsOfDemandedSuite(t *testing.T, s *scene) {
	s.a.Connections[0].Children[0].Proposals = []string{"aes256gcm16", "chacha20poly1305"}
	s.up()
	echo(t, s.hostB, ":7")
	demand := func(suites ...string) error {
		d := Dialer{Stack: s.hostA, PToken: demanding(t, suites...)}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := d.DialContext(ctx, "tcp", "10.2.0.1:7")
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	err := demand("chacha20poly1305")
	if err == nil || !strings.Contains(err.Error(), "we offer chacha20poly1305") || !strings.Contains(err.Error(), "NO_PROPOSAL_CHOSEN") {
		t.Errorf("got %v", err)
	}
	// Not all that the child allows: what the socket left of it.
	e := s.diaryA.await(EventProposalMismatchChild, nil, "CHILD_SA net", "we offer chacha20poly1305")
	if !slices.Equal(e.Offers.Ours, []string{"chacha20poly1305"}) {
		t.Errorf("%+v", e)
	}
	s.diaryB.await(EventProposalMismatchChild, nil, "peer offers chacha20poly1305, we accept aes256gcm16")
	if err = demand("aes128gcm16"); err == nil || !strings.Contains(err.Error(), "aes128gcm16") || !strings.Contains(err.Error(), "aes256gcm16 chacha20poly1305") {
		t.Errorf("a suite that is not the child's: %v", err)
	}
}

func testEventsOfMode(t *testing.T, s *scene) {
	host := func(c *Config, addr string) {
		c.Addrs = []netip.Prefix{netip.MustParsePrefix(addr + "/32")}
		c.Connections[0].Children[0].LocalTS, c.Connections[0].Children[0].RemoteTS = nil, nil
	}
	host(&s.a, "192.0.2.1")
	host(&s.b, "192.0.2.2")
	s.a.Connections[0].Children[0].RemoteTS = []string{"192.0.2.2"}
	s.b.Connections[0].Children[0].RemoteTS = []string{"192.0.2.1"}
	s.a.Connections[0].Children[0].Mode = esp.ModeTransport
	s.start()
	if s.initiate() == nil {
		t.Fatal("no error")
	}
	s.diaryA.await(EventInstallChildSAFailed, nil, "CHILD_SA net", "expected transport, got tunnel")

	o := newScene(t, s.seen)
	host(&o.a, "192.0.2.1")
	host(&o.b, "192.0.2.2")
	o.a.Connections[0].Children[0].RemoteTS = []string{"192.0.2.2"}
	o.b.Connections[0].Children[0].RemoteTS = []string{"192.0.2.1"}
	o.b.Connections[0].Children[0].Mode = esp.ModeTransport
	o.start()
	if o.initiate() == nil {
		t.Fatal("no error")
	}
	e := o.diaryB.await(EventProposalMismatchChild, nil, "fqdn:a.example", "asks for tunnel mode, child net wants transport mode")
	var mode *ModeError
	if !errors.As(e.Err, &mode) || !slices.Equal(e.Offers.Peer, []string{"tunnel"}) || !slices.Equal(e.Offers.Ours, []string{"transport"}) {
		t.Errorf("%+v", e)
	}
}

func testEventsOfSelectors(t *testing.T, s *scene) {
	s.a.Connections[0].Children[0].RemoteTS = []string{"10.9.0.0/24"}
	s.start()
	if s.initiate() == nil {
		t.Fatal("no error")
	}
	e := s.diaryB.await(EventTSMismatch, nil, "a[1]", "fqdn:a.example", "asks for 10.9.0.0/24 === 10.1.0.0/24", "net: 10.2.0.0/24 === 10.1.0.0/24",
		"local: the peer asks for 10.9.0.0/24, child net allows 10.2.0.0/24")
	var sel *SelectorError
	if !errors.As(e.Err, &sel) || len(sel.Children) != 1 || e.Offers.First != sel.First() || len(e.Offers.Peer) != 1 || len(e.Offers.Ours) != 1 {
		t.Errorf("%+v", e)
	}
	e = s.diaryA.await(EventTSMismatch, nil, "b[1]", "CHILD_SA net", "TS_UNACCEPTABLE", "we ask for 10.1.0.0/24 === 10.9.0.0/24")
	if !slices.Equal(e.Offers.Ours, []string{"10.1.0.0/24 === 10.9.0.0/24"}) {
		t.Errorf("%+v", e)
	}
}

func testEventsOfNarrowing(t *testing.T, s *scene) {
	s.a.Connections[0].Children[0].RemoteTS = []string{"10.0.0.0/8"}
	s.up()
	e := s.diaryB.await(EventTSNarrowed, nil, "asked for 10.0.0.0/8 === 10.1.0.0/24, made with 10.2.0.0/24 === 10.1.0.0/24")
	if len(e.Offers.Peer) != 1 || e.Child.LocalTS != "10.2.0.0/24" {
		t.Errorf("%+v", e)
	}
	e = s.diaryA.await(EventTSNarrowed, nil, "asked for 10.1.0.0/24 === 10.0.0.0/8, made with 10.1.0.0/24 === 10.2.0.0/24")
	if len(e.Offers.Ours) != 1 || e.Child.RemoteTS != "10.2.0.0/24" {
		t.Errorf("%+v", e)
	}
}

func testEventsOfPacketLeftOut(t *testing.T, s *scene) {
	s.a.Connections[0].Children[0].RemoteTS = []string{"10.2.0.0/16"}
	s.start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.hostA.DialContext(ctx, "tcp", "10.2.9.1:7")
	if err == nil || !strings.Contains(err.Error(), "10.2.9.1") {
		t.Errorf("got %v", err)
	}
	s.diaryA.await(EventTSMismatch, nil, "10.2.9.1")
}

func testEventsOfUnknownHost(t *testing.T, s *scene) {
	s.a.Connections[0].RemoteAddrs = []string{"a..b"}
	s.start()
	if s.initiate() == nil {
		t.Fatal("no error")
	}
	s.diaryA.await(EventPeerAddrFailed, nil, "b: ", "unknown host a..b")
}

func testEventsOfLoss(t *testing.T, s *scene) {
	s.start()
	s.net.SetFaults(tuntest.Faults{Drop: 1})
	done := make(chan error, 1)
	go func() { done <- s.initiate() }()
	e := s.diaryA.await(EventRetransmitSend, nil, "retransmit 1 of IKE_SA_INIT request with message ID 0", addrB)
	if e.Request.Sends < 2 || e.Unauthenticated {
		t.Errorf("%+v", e)
	}
	s.net.SetFaults(tuntest.Faults{Duplicate: 1})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	e = s.diaryA.await(EventRetransmitSendCleared, nil, "IKE_SA_INIT request with message ID 0 answered after", "sends")
	if e.Request.Sends < 2 {
		t.Errorf("%+v", e)
	}
	e = s.diaryB.await(EventRetransmitReceive, nil, "received retransmit of")
	if !e.Unauthenticated { // anybody can repeat what it has seen
		t.Errorf("%+v", e)
	}
	s.net.SetFaults(tuntest.Faults{})
}

func testEventsOfStrays(t *testing.T, s *scene) {
	s.start()
	from, to := netip.MustParseAddrPort("198.51.100.7:4500"), netip.MustParseAddrPort(addrB)
	send := func(h wire.Header, body ...byte) {
		b := h.Append(nil)
		b = append(b, body...)
		b[27] = byte(len(b))
		s.net.Inject(from, to, append(make([]byte, 4), b...)) // non-ESP marker
	}
	short := wire.Header{SPIi: 1, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}
	s.net.Inject(from, to, append(make([]byte, 4), short.Append(nil)...)) // its length is wrong
	e := s.diaryB.await(EventParseErrorHeader, nil, "198.51.100.7:4500", "length", "(unauthenticated)")
	if !e.Unauthenticated || e.Connection != "" || e.IKE.Remote != from {
		t.Errorf("%+v", e)
	}
	init := short
	init.Next = wire.PayloadSA
	send(init, 0, 0, 0, 200)
	s.diaryB.await(EventParseErrorBody, nil, "198.51.100.7:4500", "payload-chain")
	gone := wire.Header{SPIi: 1, SPIr: 2, Exchange: wire.ExchangeInformational, Flags: wire.FlagInitiator, Next: wire.PayloadEncrypted, MessageID: 7}
	send(gone, slices.Concat([]byte{0, 0, 0, 36}, bytes.Repeat([]byte{9}, 32))...)
	s.diaryB.await(EventInvalidIKESPI, nil, "198.51.100.7:4500")

	// However many there are: some are told, all are counted, and the next one says so.
	start := time.Now()
	for range 500 {
		send(init, 0, 0, 0, 200)
	}
	eventually(t, "all are counted", func() bool { return s.hostB.Status().Gate.Refused["payload-chain"] == 501 })
	told := 0
	for _, e := range s.diaryB.events() {
		if e.Kind == EventParseErrorBody {
			told++
		}
	}
	if took := time.Since(start); told > 20+int(took/time.Second) { // one more each second
		t.Errorf("told %d of 501 in %v", told, took)
	}
	eventually(t, "the next ones say how many were not told", func() bool {
		send(init, 0, 0, 0, 200)
		untold, said := uint64(0), false
		for _, e := range s.diaryB.events() {
			untold += e.Suppressed
			said = said || strings.Contains(e.String(), "more since")
		}
		return said && untold > 400
	})
}

// Datagrams that name an IKE SA and are not its peer's.
func testEventsOfForgeries(t *testing.T, s *scene) {
	s.up()
	sa := s.hostA.Status().IKE[0]
	var h wire.Header
	for spi, to := range map[string]*uint64{sa.SPIi: &h.SPIi, sa.SPIr: &h.SPIr} {
		if _, err := fmt.Sscanf(spi, "%016x", to); err != nil {
			t.Fatal(err)
		}
	}
	h.Exchange, h.Next = wire.ExchangeInformational, wire.PayloadEncrypted
	from := netip.MustParseAddrPort("198.51.100.7:4500")
	send := func() {
		b := slices.Concat(h.Append(nil), []byte{0, 0, 0, 36}, bytes.Repeat([]byte{9}, 32))
		b[27] = byte(len(b))
		s.net.Inject(from, netip.MustParseAddrPort(addrA), append(make([]byte, 4), b...)) // non-ESP marker
	}
	send()
	e := s.diaryA.await(EventParseErrorBody, nil, "b[1] with 198.51.100.7:4500", "icv", "(unauthenticated)")
	if !e.Unauthenticated || e.IKE.Remote != from {
		t.Errorf("%+v", e)
	}
	const many = 200
	for i := range uint64(many) {
		send()
		eventually(t, "it is counted", func() bool { return s.hostA.Status().Counts.Dropped["icv"] == i+2 })
	}
	told := 0
	for _, e := range s.diaryA.events() {
		if e.Kind == EventParseErrorBody {
			told++
		}
	}
	if told == many+1 || told > 20 {
		t.Errorf("told %d of %d", told, many+1)
	}
	c := s.hostA.Status().Counts
	if c.Verified == 0 || c.Requests == 0 || c.Panics != 0 {
		t.Errorf("%+v", c)
	}
	if st := s.hostA.Status().IKE; len(st) != 1 || st[0].State != "ESTABLISHED" {
		t.Errorf("%+v", st)
	}
}

// A socket wants what its child SA has not.
func testEventsOfDemands(t *testing.T, s *scene) {
	s.start()
	d := Dialer{Stack: s.hostA, PToken: demanding(t, "chacha20poly1305")}
	if _, err := d.DialContext(t.Context(), "tcp", "10.2.0.1:7"); err == nil {
		t.Error("dialled")
	}
	e := s.diaryA.await(EventProposalMismatchChild, nil, "b: CHILD_SA net", "the socket wants one of [chacha20poly1305]", "allows [aes256gcm16]")
	if e.Unauthenticated || !strings.Contains(e.Flow, "10.2.0.1:7") || !slices.Equal(e.Offers.Ours, []string{"aes256gcm16"}) ||
		e.Offers.First != "the socket wants one of chacha20poly1305" {
		t.Errorf("%+v", e)
	}
	transport := new(tokens.PToken)
	if err := transport.SetMode(tokens.ModeTransport); err != nil {
		t.Fatal(err)
	}
	d.PToken = transport
	if _, err := d.DialContext(t.Context(), "tcp", "10.2.0.1:8"); err == nil {
		t.Error("dialled")
	}
	e = s.diaryA.await(EventProposalMismatchChild, func(e *Event) bool { return e.Child.SPIIn != 0 }, "b[1]", "mode is tunnel, wanted transport")
	if e.Unauthenticated || !strings.Contains(e.Flow, "10.2.0.1:8") || e.Offers.First != "mode" {
		t.Errorf("%+v", e)
	}
}

func testEventsOfBadKE(t *testing.T, s *scene) {
	s.start()
	ps, err := suite.IKEProposals(s.b.Connections[0].Proposals...)
	if err != nil {
		t.Fatal(err)
	}
	ps[0].Num = 1
	msg := wire.Message{Header: wire.Header{SPIi: 1, Exchange: wire.ExchangeIKESAInit, Flags: wire.FlagInitiator}, Payloads: []wire.Payload{
		&wire.SA{Proposals: ps}, &wire.KE{Group: wire.GroupX25519, Data: make([]byte, 32)}, &wire.Nonce{Data: make([]byte, 32)}}}
	s.net.Inject(netip.MustParseAddrPort("198.51.100.7:4500"), netip.MustParseAddrPort(addrB), append(make([]byte, 4), msg.Append(nil)...))
	e := s.diaryB.await(EventIKEFailed, nil, "198.51.100.7:4500", "public value", "(unauthenticated)")
	if !e.Unauthenticated {
		t.Errorf("%+v", e)
	}
}

func testEventsOfRestart(t *testing.T, s *scene) {
	s.up()
	s.net.SetFaults(tuntest.Faults{Drop: 1})
	if err := s.hostA.Close(); err != nil { // nobody hears of it
		t.Fatal(err)
	}
	s.net.SetFaults(tuntest.Faults{})
	s.a.Wire = nil
	s.hostA, s.diaryA = s.host("a", addrA, s.a)
	if err := s.initiate(); err != nil {
		t.Fatal(err)
	}
	e := s.diaryB.await(EventUniqueReplace, nil, "a[1]")
	if e.IKE.Num != 1 {
		t.Errorf("%+v", e)
	}
	s.diaryB.await(EventIKEUpDown, isDown, "a[1]", "replaced")
}

// A peer whose NAT gave it another port authenticates again, where it may have one IKE SA.
func testEventsOfUnique(t *testing.T, s *scene) {
	s.b.Connections[0].Unique = UniqueKeep
	s.a.Connections[0].ReauthTime, s.a.Connections[0].OverTime = 500*time.Millisecond, 20*time.Second
	s.behindNAT().Rebind(1)
	e := s.diaryB.await(EventUniqueKeep, nil, "[fqdn:a.example]", "it has an IKE SA from ")
	var unique *UniqueError
	if !errors.As(e.Err, &unique) || e.Peer.Remote != "fqdn:a.example" || e.Unauthenticated {
		t.Errorf("%+v", e)
	}
	s.diaryA.await(EventLocalAuthFailed, nil, "AUTHENTICATION_FAILED")
	for _, e := range s.diaryB.events() {
		if e.Kind == EventPeerAuthFailed {
			t.Errorf("told twice: %s", e)
		}
	}
}

func testEventsOfReauth(t *testing.T, s *scene) {
	s.a.Connections[0].ReauthTime, s.a.Connections[0].OverTime = 500*time.Millisecond, 20*time.Second
	s.up()
	if e := s.diaryA.await(EventIKEReauth, nil, "b[1]"); e.Retry.IsZero() {
		t.Errorf("%+v", e)
	}
	s.diaryA.await(EventIKEUpDown, func(e *Event) bool { return e.Up && e.IKE.Num == 2 })
	s.diaryA.await(EventIKEUpDown, isDown, "b[1]", "deleted by us")
}

// behindNAT has a come to b from behind a NAT.
func (s *scene) behindNAT() *tuntest.NATWire {
	s.t.Helper()
	s.hostB, s.diaryB = s.host("b", addrB, s.b)
	w, err := s.net.ListenBehind(netip.MustParseAddrPort("10.0.0.1:4500"),
		netip.MustParseAddrPort("198.51.100.1:1001"), netip.MustParseAddrPort("198.51.100.1:1002"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.a.Wire = w
	s.hostA, s.diaryA = s.host("a", "", s.a)
	if err := s.initiate(); err != nil {
		s.t.Fatal(err)
	}
	return w
}

func testEventsOfMove(t *testing.T, s *scene) {
	n := s.behindNAT()
	before := s.diaryB.await(EventIKEUpDown, isUp).IKE.Remote
	n.Rebind(1)
	echo(t, s.hostB, ":7")
	roundTrip(t, dial(t, s.hostA, "tcp", "10.2.0.1:7"), []byte("from elsewhere"))
	e := s.diaryB.await(EventIKEUpdate, nil, "moved", before.String())
	if e.IKE.OldRemote != before || e.IKE.Remote == before {
		t.Errorf("%+v", e)
	}
}

func testEventsOfAnonymous(t *testing.T, s *scene) {
	anybody := func(name string, remotes ...string) []Connection {
		return []Connection{{Name: name, RemoteAddrs: remotes, Remote: Auth{Owns: OwnsAny},
			Children: []Child{{Name: "net", LocalTS: []string{"10.1.0.0/16", "10.2.0.0/16"}, RemoteTS: []string{"10.1.0.0/16", "10.2.0.0/16"}}}}}
	}
	s.b.Connections = anybody("anybody")
	s.a.Connections = anybody("b", addrB)
	s.a.Connections[0].Children[0].LocalTS = []string{"10.1.0.1"}
	s.a.Connections[0].Children[0].RemoteTS = []string{"10.2.0.1"}
	s.b.Connections[0].Children[0].LocalTS = []string{"10.2.0.1"}
	s.b.Connections[0].Children[0].RemoteTS = []string{"10.1.0.0/16"}
	s.up()
	first := s.diaryB.await(EventIKEUpDown, isUp, "SHA256:")
	if !first.Peer.Anonymous || first.Peer.Method != "btns" || first.Unauthenticated {
		t.Errorf("%+v", first)
	}
	other := newScene(t, s.seen)
	other.net, other.a = s.net, s.a
	other.a.Wire, other.a.Key = nil, newKey(t)
	other.hostA, other.diaryA = other.host("c", "192.0.2.3:4500", other.a)
	if other.initiate() == nil {
		t.Fatal("the second one got the first one's address")
	}
	e := s.diaryB.await(EventAnonymousConflict, nil, "claims 10.1.0.1/32", "which "+first.Peer.Remote+" holds")
	var taken *TakenError
	if !errors.As(e.Err, &taken) || taken.Holder != first.Peer.Remote || !e.Peer.Anonymous {
		t.Errorf("%+v", e)
	}
	other.diaryA.await(EventTSMismatch, nil, "TS_UNACCEPTABLE")
}

// Two peers of one connection may own the same address: the later one, who asks for it and
// nothing else, takes it, and the earlier one's connections are cut.
func testEventsOfLatch(t *testing.T, s *scene) {
	s.b.Connections[0].Remote.ID = "*.example"
	s.a.Connections[0].Children[0].LocalTS = []string{"10.1.0.1"}
	s.a.Connections[0].Children[0].RemoteTS = []string{"10.2.0.1"}
	s.start()
	cfg := s.a
	cfg.Wire, cfg.Connections = nil, slices.Clone(s.a.Connections)
	cfg.Connections[0].Local.ID = "c.example"
	c, _ := s.host("c", "192.0.2.3:4500", cfg)
	echo(t, s.hostB, ":7")
	roundTripOnce(t, dial(t, c, "tcp", "10.2.0.1:7"))
	if err := s.initiate(); err != nil {
		t.Fatal(err)
	}
	e := s.diaryB.await(EventLatchBroken, nil, "10.2.0.1", "10.1.0.1", latch.ReasonConflict.String(), "fqdn:a.example")
	if e.Peer.Remote != "fqdn:c.example" || e.Peer.Local != "fqdn:b.example" || e.Flow == "" {
		t.Errorf("%+v", e)
	}
}

// TestWatchControl: another process sees the same events, until the host stops.
func TestWatchControl(t *testing.T) {
	a, _ := pair(t)
	path := filepath.Join(t.TempDir(), "control")
	ctl, err := a.ServeControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	d := watch(t, a, new(kindSet))
	got := make(chan Event, 64)
	begun := make(chan error, 1)
	go func() {
		var last error
		for e, err := range WatchControl(context.Background(), path) {
			if last = err; err == nil {
				got <- e
			}
		}
		begun <- last
		close(got)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var first Event
	eventually(t, "an event comes", func() bool {
		if err := a.Initiate(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		select {
		case first = <-got:
			return true
		default:
			_, err := a.Terminate("b")
			return err != nil
		}
	})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-begun; err == nil || err.Error() != "the host has stopped" {
		t.Errorf("it ended with %v", err)
	}
	there := []Event{first}
	for e := range got {
		there = append(there, e)
	}
	<-d.done
	here := d.events()
	i := slices.IndexFunc(here, func(e Event) bool { return e.Time.Equal(first.Time) && e.Kind == first.Kind })
	if i < 0 || len(here[i:]) != len(there) {
		t.Fatalf("there %v, here %v", there, here)
	}
	for j, e := range here[i:] {
		if fmt.Sprint(e) != fmt.Sprint(there[j]) {
			t.Errorf("there %v, here %v", there[j], e)
		}
	}
}

// TestWatchEnds: a closed host has no events, and leaves nobody waiting.
func TestWatchEnds(t *testing.T) {
	st := newStack(t, "a", Config{})
	w := st.Watch()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing has happened: %v", err)
	}
	done := make(chan []error, 1)
	go func() {
		var errs []error
		for range 2 {
			_, err := w.Next(context.Background())
			errs = append(errs, err)
		}
		done <- errs
	}()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if errs := <-done; errs[0] != nil || !errors.Is(errs[1], net.ErrClosed) { // shutdown-signal, and the end
		t.Errorf("got %v", errs)
	}
	if _, err := st.Watch().Next(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("watched after the end: %v", err)
	}
}
