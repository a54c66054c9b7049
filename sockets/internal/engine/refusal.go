package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
)

// This file is why this host refuses a peer, as errors that an operator can act on. The
// peer is told a notify and nothing more.

// An AuthError says that a peer did not prove to be whom the PAD allows.
type AuthError struct {
	Conn    string // of an initiator; "" where the peer came to us
	Claimed string // what the peer says it is
	Asked   string // whom the initiator asked for; "" for none
	Method  string // how the peer tried: "psk" or "pubkey"
	Err     error  // what the PAD, or the check of AUTH, said
}

// Error names the method, the identities and the reason.
func (e *AuthError) Error() string {
	asked := "nobody by name"
	if e.Asked != "" {
		asked = e.Asked
	}
	return fmt.Sprintf("engine: %s presents itself by %s, the initiator asked for %s: %v", e.Claimed, e.Method, asked, e.Err)
}

// Unwrap returns the cause.
func (e *AuthError) Unwrap() error { return e.Err }

func (k *keyer) authError(s *ikeSA, w *ike.WorkVerify, err error) *AuthError {
	e := &AuthError{Claimed: identity(&w.AssertedID), Method: "pubkey", Err: err}
	if w.Auth.Method == wire.AuthMethodPSK {
		e.Method = "psk"
	}
	asked := w.AskedID
	if s.initiator {
		e.Conn, asked = s.conn.Name, s.conn.RemoteID
	}
	if asked != nil {
		e.Asked = identity(asked)
	}
	return e
}

// identity is an ID payload as configurations write it.
func identity(w *wire.ID) string {
	id, err := pad.FromWire(w)
	if err != nil {
		return w.String()
	}
	return id.Canonical()
}

// A signError says that we could not make our own AUTH payload.
type signError struct{ err error }

func (e *signError) Error() string { return "engine: own AUTH payload: " + e.err.Error() }
func (e *signError) Unwrap() error { return e.err }

// An AdmissionError says that a peer proved who it is, and is refused for another reason.
type AdmissionError struct {
	Conn, Peer string
	Anonymous  bool
	Err        error // *RoomError or *UniqueError
}

func (e *AdmissionError) Error() string {
	return fmt.Sprintf("engine: the peer is %s of connection %s, but %v", e.Peer, e.Conn, e.Err)
}

// Unwrap returns the reason.
func (e *AdmissionError) Unwrap() error { return e.Err }

// A RoomError says that a limit stands in the way of a peer.
type RoomError struct {
	What  string
	Limit int
}

func (e *RoomError) Error() string { return fmt.Sprintf("%d %s stand already", e.Limit, e.What) }

// A UniqueError says that a peer has an IKE SA, and is to keep it.
type UniqueError struct{ From netip.AddrPort }

func (e *UniqueError) Error() string {
	return fmt.Sprintf("unique: keep: it has an IKE SA from %s already", e.From)
}

// A TakenError says that an anonymous peer wants what another one holds: an address, or a
// flow that is latched.
type TakenError struct {
	Peer   string
	Wanted string
	Holder string // "" if a latch holds it
}

func (e *TakenError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("engine: %s conflicts with the latch of %s", e.Peer, e.Wanted)
	}
	return fmt.Sprintf("engine: %s claims %s, which %s holds", e.Peer, e.Wanted, e.Holder)
}

// A SelectorError says that no child allows any of the traffic a peer asked for.
type SelectorError struct {
	Peer     string
	Asked    ts.Pair // from our view
	Own      ts.Set  // what the peer may own, as the PAD says
	Conn     string
	Children []ChildSelectors // of Conn
}

// ChildSelectors are what one child allows.
type ChildSelectors struct {
	Name string
	Pair ts.Pair
}

// Error names what was asked and what each child allows.
func (e *SelectorError) Error() string {
	return fmt.Sprintf("engine: %s asks for %s; it may own %s, and connection %s allows %s: %s",
		e.Peer, e.Asked, e.Own, e.Conn, orNothing(strings.Join(e.allowed(), ", ")), e.First())
}

// First names the first thing that did not match.
func (e *SelectorError) First() string {
	if len(e.Asked.Remote.Intersect(e.Own)) == 0 {
		return fmt.Sprintf("remote: the peer asks for %s and may own %s", e.Asked.Remote, e.Own)
	}
	for _, c := range e.Children { // the first one that fits on one side
		if len(e.Asked.Local.Intersect(c.Pair.Local)) > 0 {
			return fmt.Sprintf("remote: the peer asks for %s, child %s allows %s", e.Asked.Remote, c.Name, c.Pair.Remote)
		}
	}
	for _, c := range e.Children {
		return fmt.Sprintf("local: the peer asks for %s, child %s allows %s", e.Asked.Local, c.Name, c.Pair.Local)
	}
	return "the connection has no child"
}

func (e *SelectorError) allowed() []string {
	out := make([]string, len(e.Children))
	for i, c := range e.Children {
		out[i] = fmt.Sprintf("%s: %s", c.Name, c.Pair)
	}
	return out
}

func (e *SelectorError) offers() Offers {
	return Offers{Peer: []string{e.Asked.String()}, Ours: e.allowed(), First: e.First()}
}

func selectorError(p *peer, asked ts.Pair) *SelectorError {
	e := &SelectorError{Peer: p.canonical, Asked: asked, Own: p.mayOwn(), Conn: p.conn.Name}
	for _, cc := range p.conn.Children {
		e.Children = append(e.Children, ChildSelectors{cc.Name, cc.Pair})
	}
	return e
}

// A SuiteError says that a socket demands suites of which a child allows none.
type SuiteError struct {
	Child           string
	Wanted, Allowed []string
}

func (e *SuiteError) Error() string {
	return fmt.Sprintf("engine: the socket wants one of %v, child %s allows %v", e.Wanted, e.Child, e.Allowed)
}

// errWide is why a socket that wants SAs of its own does not take one.
var errWide = errors.New("it is not for the flow alone")

// unsuited fails the request of a packet whose socket demands what child SAs have not, and
// says so. That the socket asks again is bounded by the data path.
func (k *keyer) unsuited(now time.Time, e Event, id uint64, f ts.Flow, err error) {
	e.Kind, e.Flow, e.Err = EventProposalMismatchChild, f.String(), err
	var suite *SuiteError
	var mis *latch.MismatchError
	switch {
	case errors.As(err, &suite):
		e.Offers = Offers{Ours: suite.Allowed, First: "the socket wants one of " + strings.Join(suite.Wanted, ", ")}
	case errors.As(err, &mis):
		e.Offers = Offers{Ours: []string{mis.Want}, Peer: []string{mis.Got}, First: mis.Field}
	}
	k.report(now, e)
	k.dp.FailAcquire(id, err, true)
}

// A ModeError says that a peer asks for tunnel mode where a child wants transport mode.
type ModeError struct{ Peer, Child string }

func (e *ModeError) Error() string {
	return fmt.Sprintf("engine: %s asks for tunnel mode, child %s wants transport mode", e.Peer, e.Child)
}

func (e *ModeError) offers() Offers {
	return Offers{Peer: []string{"tunnel"}, Ours: []string{"transport"}, First: "mode"}
}
