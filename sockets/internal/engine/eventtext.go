package engine

import (
	"fmt"
	"log/slog"
	"strings"
)

// A kind is how an EventKind is told to people.
type kind struct {
	name  string // VICI's
	level slog.Level
	what  string // the log line's message; "X|Y" is X if Up, else Y
	cause cause
}

// A cause is who can bring an event about.
type cause uint8

const (
	ofPeer    cause = iota // the peer, or before it is proven whoever claims to be one
	ofUs                   // this host alone, by what it does, or does not hear
	ofAnybody              // whoever can send a datagram
)

// kinds describes all EventKinds. Info is what becomes of SAs, Warn what an operator should
// look at, Debug what the network does to single messages.
var kinds = [numEventKinds]kind{
	EventUnknown: {"unknown", slog.LevelInfo, "event", ofPeer},

	EventIKEUpDown:   {"ike-updown", slog.LevelInfo, "IKE SA established|IKE SA closed", ofPeer},
	EventIKERekey:    {"ike-rekey", slog.LevelInfo, "IKE SA rekeyed", ofPeer},
	EventIKEUpdate:   {"ike-update", slog.LevelInfo, "peer moved", ofPeer},
	EventIKEReauth:   {"ike-reauth", slog.LevelInfo, "IKE SA is to be reauthenticated", ofPeer},
	EventChildUpDown: {"child-updown", slog.LevelInfo, "child SA up|child SA down", ofPeer},
	EventChildRekey:  {"child-rekey", slog.LevelInfo, "child SA rekeyed", ofPeer},

	EventAuthorizationFailed:   {"authorization-failed", slog.LevelWarn, "no room for the peer", ofPeer},
	EventLocalAuthFailed:       {"local-auth-failed", slog.LevelWarn, "our authentication failed", ofPeer},
	EventPeerAuthFailed:        {"peer-auth-failed", slog.LevelWarn, "the peer's authentication failed", ofPeer},
	EventHalfOpenTimeout:       {"half-open-timeout", slog.LevelWarn, "a peer began and never authenticated", ofPeer},
	EventIKESAExpired:          {"ike-sa-expired", slog.LevelWarn, "IKE SA expired", ofPeer},
	EventInstallChildSAFailed:  {"install-child-sa-failed", slog.LevelWarn, "child SA failed", ofPeer},
	EventInvalidIKESPI:         {"invalid-ike-spi", slog.LevelWarn, "message for an unknown IKE SA", ofAnybody},
	EventParseErrorHeader:      {"parse-error-header", slog.LevelWarn, "not an IKEv2 message", ofAnybody},
	EventParseErrorBody:        {"parse-error-body", slog.LevelWarn, "malformed IKE message", ofPeer},
	EventPeerAddrFailed:        {"peer-addr-failed", slog.LevelWarn, "the peer's host name is unknown", ofUs},
	EventPeerInitUnreachable:   {"peer-init-unreachable", slog.LevelWarn, "the peer does not answer", ofUs},
	EventProposalMismatchIKE:   {"proposal-mismatch-ike", slog.LevelWarn, "no IKE proposal in common", ofPeer},
	EventProposalMismatchChild: {"proposal-mismatch-child", slog.LevelWarn, "no ESP proposal in common", ofPeer},
	EventRetransmitSend:        {"retransmit-send", slog.LevelInfo, "request sent again", ofUs},
	EventRetransmitSendCleared: {"retransmit-send-cleared", slog.LevelInfo, "request answered at last", ofUs},
	EventRetransmitSendTimeout: {"retransmit-send-timeout", slog.LevelWarn, "request never answered", ofUs},
	EventRetransmitReceive:     {"retransmit-receive", slog.LevelDebug, "request received again", ofAnybody},
	EventTSMismatch:            {"ts-mismatch", slog.LevelWarn, "no traffic selectors in common", ofPeer},
	EventTSNarrowed:            {"ts-narrowed", slog.LevelInfo, "traffic selectors narrowed", ofPeer},
	EventUniqueKeep:            {"unique-keep", slog.LevelInfo, "new IKE SA refused: the peer has one", ofPeer},
	EventUniqueReplace:         {"unique-replace", slog.LevelInfo, "IKE SA replaced by a new one", ofPeer},
	EventShutdown:              {"shutdown-signal", slog.LevelInfo, "the host stops", ofUs},
	EventKeepOnChildSAFailure:  {"keep-on-child-sa-failure", slog.LevelInfo, "IKE SA kept without its first child SA", ofPeer},

	EventIKEFailed:         {"ike-failed", slog.LevelWarn, "IKE SA failed", ofPeer},
	EventPeerSuspect:       {"peer-suspect", slog.LevelInfo, "the peer may have lost the IKE SA", ofUs},
	EventPeerCleared:       {"peer-cleared", slog.LevelInfo, "the peer has not lost the IKE SA", ofUs},
	EventLatchBroken:       {"latch-broken", slog.LevelWarn, "latch broken", ofPeer},
	EventAnonymousConflict: {"anonymous-conflict", slog.LevelWarn, "an anonymous peer wants what another holds", ofPeer},
	EventLost:              {"lost", slog.LevelWarn, "events lost", ofUs},
}

// what is the kind in words.
func (e *Event) what() string {
	what := "event"
	if e.Kind < numEventKinds {
		what = kinds[e.Kind].what
	}
	if up, down, ok := strings.Cut(what, "|"); ok && e.Up {
		return up
	} else if ok {
		return down
	}
	return what
}

// attrs are the fields that are not zero, for a log line.
func (e *Event) attrs() []any {
	kv := []any{"event", e.Kind.String()}
	text := func(key, v string) {
		if v != "" {
			kv = append(kv, key, v)
		}
	}
	when := func(yes bool, key string, v any) {
		if yes {
			kv = append(kv, key, v)
		}
	}
	text("connection", e.Connection)
	when(e.IKE.Num != 0, "ike", e.IKE.Num)
	when(e.IKE.OldNum != 0, "old", e.IKE.OldNum)
	text("peer", e.Peer.Remote)
	text("claims", e.Peer.Claimed)
	text("asked", e.Peer.Asked)
	when(e.IKE.Remote.IsValid(), "path", e.path())
	when(e.IKE.OldRemote.IsValid(), "from", e.IKE.OldRemote)
	text("child", e.Child.Name)
	text("mode", e.Child.Mode)
	text("suite", e.Child.Suite)
	if e.Child.Suite == "" {
		text("suite", e.IKE.Suite)
	}
	if e.Child.SPIIn == 0 && e.IKE.SPIi != 0 {
		kv = append(kv, "spi", e.IKE.SPIi.String()+"-"+e.IKE.SPIr.String())
	}
	when(e.Child.SPIIn != 0, "in", e.Child.SPIIn)
	when(e.Child.SPIOut != 0, "out", e.Child.SPIOut)
	when(e.Child.OldSPIIn != 0, "old", e.Child.OldSPIIn)
	when(e.Child.LocalTS != "", "ts", e.Child.LocalTS+" === "+e.Child.RemoteTS)
	text("exchange", e.Request.Exchange)
	when(e.Request.Sends > 0, "msgid", e.Request.MessageID)
	when(e.Request.Sends > 0, "sends", e.Request.Sends)
	if e.Err == nil { // which names them
		when(len(e.Offers.Peer) > 0, "theirs", e.Offers.Peer)
		when(len(e.Offers.Ours) > 0, "ours", e.Offers.Ours)
	}
	text("flow", e.Flow)
	text("reason", e.Reason)
	when(e.Err != nil, "error", e.Err)
	when(!e.Retry.IsZero(), "next", e.Retry)
	when(e.Unauthenticated, "unauthenticated", true)
	when(e.Protected, "protected", true)
	when(e.Suppressed > 0, "suppressed", e.Suppressed)
	return kv
}

func (e *Event) path() string { return e.IKE.Local.String() + "→" + e.IKE.Remote.String() }

// String is the event in one line, in the words of swanctl --log, without its time.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	add := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	sa := e.Connection
	if sa == "" {
		sa = "(unknown)"
	}
	if e.IKE.Num != 0 {
		sa += fmt.Sprintf("[%d]", e.IKE.Num)
	}
	if e.Connection != "" || e.IKE.Num != 0 || e.IKE.Remote.IsValid() {
		add(": %s", sa)
		if e.IKE.Remote.IsValid() {
			add(" with %s", e.peer())
		}
	}
	add(": %s", e.sentence())
	if e.Reason != "" {
		add(", %s", e.Reason)
	}
	if e.Err != nil {
		add(": %s", oneLine(e.Err.Error()))
	}
	switch {
	case e.Unauthenticated && e.Protected:
		add(" (protected, but the peer is not authenticated)")
	case e.Unauthenticated && !strings.Contains(b.String(), "(unauthenticated)"):
		add(" (unauthenticated)")
	}
	if e.Suppressed > 0 {
		add(" (and %d more since the last one told)", e.Suppressed)
	}
	return b.String()
}

// peer is "address[identity]", as charon writes it.
func (e *Event) peer() string {
	who := e.Peer.Remote
	if who == "" && e.Peer.Claimed != "" {
		who = e.Peer.Claimed + "?"
	}
	if who == "" {
		who = "%any"
	}
	return fmt.Sprintf("%s[%s]", e.IKE.Remote, who)
}

// sentence is what happened, without who and why.
func (e *Event) sentence() string {
	switch e.Kind {
	case EventIKEUpDown, EventIKERekey:
		s := strings.Replace(e.what(), "IKE SA", "IKE_SA", 1)
		if e.IKE.OldNum != 0 {
			s += fmt.Sprintf(", replaces [%d]", e.IKE.OldNum)
		}
		if e.IKE.Suite != "" && (e.Up || e.Kind == EventIKERekey) {
			s += ", " + e.IKE.Suite
		}
		return s
	case EventChildUpDown, EventChildRekey:
		s := "CHILD_SA " + e.Child.Name
		switch {
		case e.Kind == EventChildRekey:
			s += " rekeyed"
		case e.Up:
			s += " established"
		default:
			return fmt.Sprintf("%s closed, SPIs %s_i %s_o", s, e.Child.SPIIn, e.Child.SPIOut)
		}
		s += fmt.Sprintf(" with SPIs %s_i %s_o and TS %s === %s, %s", e.Child.SPIIn, e.Child.SPIOut, e.Child.LocalTS, e.Child.RemoteTS, e.Child.Suite)
		if e.Child.OldSPIIn != 0 {
			s += fmt.Sprintf(", replaces %s_i", e.Child.OldSPIIn)
		}
		return s
	case EventIKEUpdate:
		return fmt.Sprintf("%s from %s", e.what(), e.IKE.OldRemote)
	case EventRetransmitSend:
		return fmt.Sprintf("retransmit %d of %s request with message ID %d", e.Request.Sends-1, e.Request.Exchange, e.Request.MessageID)
	case EventRetransmitSendCleared:
		return fmt.Sprintf("%s request with message ID %d answered after %d sends", e.Request.Exchange, e.Request.MessageID, e.Request.Sends)
	case EventRetransmitReceive:
		return fmt.Sprintf("received retransmit of %s request with message ID %d, answered again", e.Request.Exchange, e.Request.MessageID)
	case EventTSNarrowed:
		return fmt.Sprintf("CHILD_SA %s: asked for %s, made with %s", e.Child.Name,
			strings.Join(e.Offers.asked(), ", "), e.Child.LocalTS+" === "+e.Child.RemoteTS)
	case EventLatchBroken:
		return fmt.Sprintf("%s of %s", e.what(), e.Flow)
	case EventLost:
		return fmt.Sprintf("%d events lost here: the reader is too slow", e.Lost)
	default:
		if e.Child.Name != "" {
			return "CHILD_SA " + e.Child.Name + ": " + e.what()
		}
		return e.what()
	}
}

// asked is the wider side of what was narrowed.
func (o *Offers) asked() []string {
	if len(o.Peer) > 0 {
		return o.Peer
	}
	return o.Ours
}

// oneLine keeps an error with several causes on its line.
func oneLine(s string) string { return strings.Join(strings.Split(s, "\n"), "; ") }
