package sockets

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// An expiring context is one whose deadline passes when its parent is cancelled.
type expiring struct{ context.Context }

func (c expiring) Err() error {
	if c.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// Value hides that the parent is one of package context's, who would pass on its own error.
func (expiring) Value(any) any { return nil }

// until returns a context whose deadline passes once st has told of an event of this kind.
func until(t *testing.T, st *Stack, kind EventKind) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := st.Watch()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			e, err := w.Next(context.Background())
			if err != nil {
				return
			}
			if e.Kind == kind {
				cancel()
			}
		}
	}()
	t.Cleanup(func() {
		_ = w.Close()
		<-done
		cancel()
	})
	return expiring{ctx}
}

// between returns two hosts over loopback that key with BTNS and these IKE proposals.
func between(t *testing.T, ours, theirs []string) (a, b *Stack) {
	b = newStack(t, "b", Config{Connections: []Connection{{Name: "anybody", Proposals: theirs}}})
	a = newStack(t, "a", Config{Connections: []Connection{{Name: "b", RemoteAddrs: []string{b.LocalAddr().String()}, Proposals: ours}}})
	return a, b
}

// A responder refuses without an SA of its own, with SPI 0, and the refusal must leave
// (RFC 7296, Section 1.2): the group it wants instead, or that no proposal fits.
func TestRefusedInit(t *testing.T) {
	t.Run("INVALID_KE_PAYLOAD", func(t *testing.T) {
		a, b := between(t, []string{"aes256gcm16-prfsha256-ecp256-x25519"}, []string{"aes256gcm16-prfsha256-x25519"})
		echo(t, b, ":7")
		roundTrip(t, dial(t, a, "tcp", inner(b, "7")), []byte("in the other group"))
	})
	t.Run("NO_PROPOSAL_CHOSEN", func(t *testing.T) {
		a, b := between(t, []string{"aes128-sha256-ecp256"}, []string{"aes256gcm16-prfsha256-x25519"})
		_, err := a.DialContext(until(t, a, EventProposalMismatchIKE), "tcp", inner(b, "7"))
		if err == nil || !strings.Contains(err.Error(), "NO_PROPOSAL_CHOSEN") {
			t.Errorf("got %v", err)
		}
		if d := (*DialError)(nil); !errors.As(err, &d) {
			t.Errorf("an unprotected refusal failed the dial at once: %v", err)
		}
		if st := b.Status(); len(st.IKE) != 0 || st.Gate.HalfOpen != 0 {
			t.Errorf("the responder keeps %+v, %+v", st.IKE, st.Gate)
		}
	})
}
