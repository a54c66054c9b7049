package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/pad"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// A pool does key agreement and signatures beside the keyer's goroutine. It queues
// without bound, but holds at most one piece of work per IKE SA, and those are capped.
type pool struct {
	mu    sync.Mutex
	ready sync.Cond
	jobs  []func()
	done  bool
	wg    sync.WaitGroup
}

func newPool() *pool {
	p := &pool{}
	p.ready.L = &p.mu
	for range runtime.GOMAXPROCS(0) {
		p.wg.Go(p.run)
	}
	return p
}

func (p *pool) run() {
	for {
		p.mu.Lock()
		for len(p.jobs) == 0 && !p.done {
			p.ready.Wait()
		}
		if len(p.jobs) == 0 {
			p.mu.Unlock()
			return
		}
		job := p.jobs[0]
		p.jobs[0] = nil
		p.jobs = p.jobs[1:]
		p.mu.Unlock()
		job()
	}
}

func (p *pool) do(job func()) {
	p.mu.Lock()
	p.jobs = append(p.jobs, job)
	p.mu.Unlock()
	p.ready.Signal()
}

// close lets the queued work finish and waits for it.
func (p *pool) close() {
	p.mu.Lock()
	p.done = true
	p.mu.Unlock()
	p.ready.Broadcast()
	p.wg.Wait()
}

// offload computes a result in the pool and completes the machine's work with it.
func (k *keyer) offload(s *ikeSA, id ike.WorkID, compute func() ike.WorkResult) {
	k.pool.do(func() {
		r := compute()
		k.mail.post(func(now time.Time) {
			s.m.Complete(now, id, r)
			k.drain(now, s)
		})
	})
}

func (k *keyer) keyExchange(s *ikeSA, w *ike.WorkKE) {
	k.offload(s, w.ID, func() ike.WorkResult {
		r := &ike.KEResult{Key: w.Key}
		if r.Key == nil {
			if r.Key, r.Err = suite.GenerateKE(w.Group, rand.Reader); r.Err != nil {
				return r
			}
		}
		if w.Peer != nil {
			r.Shared, r.Err = r.Key.Shared(w.Peer)
		}
		return r
	})
}

func (k *keyer) sign(now time.Time, s *ikeSA, w *ike.WorkSign) {
	conn := s.conn
	if p, ok := w.Peer.(*peer); ok && p != nil {
		conn = p.conn
	}
	others := k.others(s)
	s.contact = s.initiator && conn.greets() && !others
	if conn.Local.Key == nil {
		data, err := auth.PSKAuth(w.PRF, conn.PSK, w.Octets)
		s.m.Complete(now, w.ID, &ike.SignResult{
			Auth: wire.Auth{Method: wire.AuthMethodPSK, Data: data}, Err: signed(err), Others: others})
		return
	}
	key := conn.Local.Key
	k.offload(s, w.ID, func() ike.WorkResult {
		a, err := auth.Sign(key, w.Octets, w.PeerHashes)
		return &ike.SignResult{Auth: a, Err: signed(err), Others: others}
	})
}

func signed(err error) error {
	if err != nil {
		err = &signError{err}
	}
	return err
}

// verify finds the peer's PAD entry (RFC 5386, Section 2, in that order) and checks AUTH
// with the credential the entry holds. Nothing else makes a peer.
func (k *keyer) verify(now time.Time, s *ikeSA, w *ike.WorkVerify) {
	refuse := func(now time.Time, err error) {
		s.m.Complete(now, w.ID, &ike.VerifyResult{Err: k.authError(s, w, err)})
	}
	id, err := pad.FromWire(&w.AssertedID)
	if err != nil {
		refuse(now, err)
		return
	}
	method := pad.MethodPublicKey
	if w.Auth.Method == wire.AuthMethodPSK {
		method = pad.MethodPSK
	}
	entry, found := k.lookup(s, id, method, w.SPKI)
	var conn *Conn
	if entry != nil {
		conn = k.conns[entry.Conn]
	}
	var wrong error
	if method == pad.MethodPSK {
		// Done for names that nobody has as well: the time tells no more than the answer (ADV-D17).
		secret := k.decoy
		if conn != nil && !conn.PSK.Empty() {
			secret = conn.PSK
		}
		wrong = auth.VerifyPSK(w.PRF, secret, &w.Auth, w.Octets)
	}
	if err := found.Err(); err != nil {
		refuse(now, err)
		return
	}
	if conn == nil {
		refuse(now, fmt.Errorf("PAD entry %s belongs to no connection", entry.Name))
		return
	}
	if w.Childless && conn.Childless == ike.ChildlessNever {
		refuse(now, fmt.Errorf("%s wants an IKE SA without child SA, which connection %s never takes", id, conn.Name))
		return
	}
	p := &peer{conn: conn, entry: entry, id: id, outer: w.Path.Remote.Addr(), contact: w.Contact, path: w.Path}

	if method == pad.MethodPSK {
		if wrong != nil {
			refuse(now, fmt.Errorf("it does not hold the shared key of connection %s: %w", conn.Name, wrong))
			return
		}
		k.accept(now, s, w.ID, p)
		return
	}

	keys, a, octets := found.Keys, w.Auth, w.Octets
	rules := auth.Rules{Legacy: len(w.PeerHashes) == 0}
	k.pool.do(func() {
		var proven []byte
		var errs []error
		for _, spki := range keys {
			err := auth.VerifySPKI(spki, &a, octets, rules)
			if err == nil {
				proven = spki
				break
			}
			errs = append(errs, err)
		}
		k.mail.post(func(now time.Time) {
			switch {
			case s.ended():
				return // while this was waited for: nobody is to be made of its peer
			case proven == nil:
				refuse(now, fmt.Errorf("it does not hold the key of connection %s: %w", conn.Name, errors.Join(errs...)))
			default:
				p.spki = proven
				k.accept(now, s, w.ID, p)
			}
			k.drain(now, s)
		})
	})
}

// decoy is a key that nobody has.
func decoy() auth.PSK {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return auth.NewPSK(b[:])
}

// lookup searches the PAD. An initiator that asked for one peer must not end up with
// another, however well that one authenticates (ADV-D14).
func (k *keyer) lookup(s *ikeSA, id pad.ID, method pad.Method, spki []byte) (*pad.Entry, pad.Outcome) {
	if s.initiator {
		return k.cfg.PAD.LookupDialled(k.cfg.PAD.Entry(s.conn.Entry.Name), id, method, spki)
	}
	return k.cfg.PAD.Lookup(id, method, spki)
}

// accept completes a verification with the identity that was proven.
func (k *keyer) accept(now time.Time, s *ikeSA, id ike.WorkID, p *peer) {
	c := p.conn
	p.canonical = p.entry.Identity(p.id, p.spki)
	err := k.mayCome(s, p)
	if err == nil {
		err = k.room(s, p)
	}
	if err != nil {
		s.m.Complete(now, id, &ike.VerifyResult{Err: &AdmissionError{Conn: c.Name, Peer: p.canonical, Anonymous: p.entry.Kind.BTNS(), Err: err}})
		return
	}
	p.sole = soleAddr(p.mayOwn())
	method := "psk"
	switch {
	case p.entry.Kind.BTNS():
		method = "btns"
	case p.spki != nil:
		method = "pubkey"
	}
	p.data = &datapath.Peer{
		Name: c.Name, ID: p.canonical, LocalID: c.Local.Canonical, Method: method,
		SPKI: p.spki, LocalSPKI: c.Local.SPKI, Anonymous: method == "btns", V: p,
	}
	s.peer, s.conn = p, c // whatever conn was thought to be
	k.roster.enter(s)
	r := &ike.VerifyResult{OK: true, Peer: p}
	if !s.initiator {
		l := c.Local.local()
		r.Local = &l
	}
	s.m.Complete(now, id, r)
}
