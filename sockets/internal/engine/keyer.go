package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/wire"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/sockets/internal/datapath"
)

// A keyer owns all IKE SAs. One goroutine runs it and alone touches what is below; others
// reach it through its mailbox and the door.
type keyer struct {
	// Constant.
	cfg     *Config
	log     *slog.Logger
	dp      *datapath.Path
	latches *latch.DB
	conns   map[string]*Conn
	confs   map[string]*ChildConf
	hashes  []uint16
	decoy   auth.PSK        // of peers that we do not know
	ctx     context.Context // ends with the keyer; for resolving host names
	mail    *mailbox
	door    *door
	pool    *pool

	resolving sync.WaitGroup
	events    hub

	// The keyer's goroutine's.
	sas             map[gate.Key]*ikeSA
	roster          roster
	greetings       *greetings
	holders         *holders
	byMachine       map[*ike.Machine]*ikeSA
	byChild         map[uint32]*ikeSA   // by our SPI
	byOut           map[uint32]uint32   // our SPI by the peer's; two peers may choose the same, one of them is here
	called          map[*Conn]time.Time // when its peer was last called because it still sends
	timers          timers
	wanted          wanted
	trapped         map[*ChildConf]bool // that their peers are to set up, but packets may bring up since they were lost
	delays          delays
	acquires        map[uint64]*acquire
	lookups         map[*Conn][]*acquire // that wait for where their peer's name leads
	lastRef         uint64
	lastNum         uint64
	strangers       int // IKE SAs with anonymous peers that came to us
	strangeChildren int // child SAs with anonymous peers
	strange         [numEventKinds]allowance
	counters        ike.Counters // of all machines; anybody may read them
	scratch         []byte
	stopping        bool
}

func (k *keyer) ref() uint64 { k.lastRef++; return k.lastRef }

// run is the keyer's goroutine. stop ends it once the peers were told, or after
// closeGrace.
func (k *keyer) run(stop <-chan error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var grace <-chan time.Time
	for {
		k.arm(timer)
		select {
		case <-k.mail.signal:
			now := time.Now()
			for _, f := range k.mail.take() {
				f(now)
			}
		case <-k.door.signal:
			now := time.Now()
			letters, strays := k.door.take()
			for i := range letters {
				k.datagram(now, &letters[i])
			}
			for i := range strays {
				k.stray(now, &strays[i])
			}
		case <-timer.C:
			k.tick(time.Now())
		case reason := <-stop:
			stop = nil
			grace = time.After(closeGrace)
			k.shutdown(time.Now(), reason)
		case <-grace:
			return
		}
		if k.stopping && len(k.sas) == 0 {
			return
		}
	}
}

func (k *keyer) arm(timer *time.Timer) {
	at, ok := k.timers.next()
	if d := k.door.deadline(); !d.IsZero() && (!ok || d.Before(at)) {
		at, ok = d, true
	}
	if len(k.delays) > 0 && (!ok || k.delays[0].at.Before(at)) {
		at, ok = k.delays[0].at, true
	}
	if !ok {
		at = time.Now().Add(time.Hour)
	}
	timer.Reset(max(0, time.Until(at)))
}

func (k *keyer) tick(now time.Time) {
	k.overdue(now)
	for s := k.timers.due(now); s != nil; s = k.timers.due(now) {
		if !s.until.IsZero() && !now.Before(s.until) {
			k.drop(s)
			continue
		}
		k.heard(s)
		s.m.Tick(now)
		k.drain(now, s)
	}
	for _, key := range k.door.expire(now) {
		if s := k.sas[key]; s != nil {
			k.failed(now, s, &ike.TimeoutError{Peer: s.name(), Path: s.path, Exchange: wire.ExchangeIKEAuth, Elapsed: now.Sub(s.made), Waited: true})
			s.m.Delete(now)
			k.drain(now, s)
		}
	}
}

// heard tells the machine of traffic, so that a busy peer is not asked whether it lives.
func (k *keyer) heard(s *ikeSA) {
	for spi, c := range s.children {
		if at := c.LastHeard(); !at.IsZero() {
			s.m.Heard(at, spi)
		}
		if at := c.LastSent(); !at.IsZero() {
			s.m.Used(at, spi)
		}
	}
}

// datagram takes one IKE datagram that the door let in.
func (k *keyer) datagram(now time.Time, l *letter) {
	switch l.verdict.Kind {
	case gate.NewResponder:
		if !k.stopping {
			k.respond(now, l)
		}
		return
	case gate.Hint:
		k.hint(now, l.path, l.verdict.SPI)
		return
	case gate.Existing, gate.Reply, gate.Drop:
	}
	if s := k.sas[l.verdict.Key]; s != nil {
		if s.est != nil {
			k.heard(s) // for what is only a hint
		}
		d := s.m.Datagram(now, l.path, l.data)
		k.drain(now, s)
		if kind := malformedKind(d); kind != EventUnknown {
			k.malformed(now, s, l.path, kind, d)
		}
	}
}

// respond starts a responder. Which connection the peer belongs to is known only once it
// has authenticated; until then we offer what any that could be meant would accept.
func (k *keyer) respond(now time.Time, l *letter) {
	path := l.path
	g := k.greetings.to(path.Remote.Addr(), k.config)
	if g == nil {
		k.log.Debug("nobody is expected", "from", path.Remote.String())
		return
	}
	m, err := ike.NewResponder(g.cfg, path, l.data, now)
	if err != nil {
		k.report(now, Event{Kind: EventParseErrorBody, Unauthenticated: true, IKE: EventIKE{Local: path.Local, Remote: path.Remote}, Err: err})
		return
	}
	// Without an SPI the machine answers with a refusal and is gone: no state to count.
	if m.LocalSPI() != 0 && !k.door.open(now, l.verdict, m.LocalSPI()) {
		return // its SPI is another's: nothing was sent yet, the peer will ask again
	}
	k.drain(now, k.add(now, m, gate.Key{SPI: m.LocalSPI()}, g.conn, path))
}

func (k *keyer) add(now time.Time, m *ike.Machine, key gate.Key, c *Conn, path ike.Path) *ikeSA {
	k.lastNum++
	s := newIKESA(now, m, key, c, path, k.lastNum)
	k.sas[key] = s
	k.byMachine[m] = s
	k.roster.enter(s)
	return s
}

// shutdown deletes all SAs and tells the peers (RFC 7296, Section 1.4.1).
func (k *keyer) shutdown(now time.Time, reason error) {
	k.stopping = true
	k.report(now, Event{Kind: EventShutdown, Err: reason})
	all := make([]*ikeSA, 0, len(k.sas))
	for _, s := range k.sas {
		all = append(all, s)
	}
	for _, s := range all {
		if !s.until.IsZero() {
			k.drop(s)
			continue
		}
		s.deleted = true
		s.m.Delete(now)
		k.drain(now, s)
	}
}
