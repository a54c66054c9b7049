package datapath

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/btns-go/btns/esp/sad"
	"github.com/btns-go/btns/esp/spd"
	"github.com/btns-go/btns/sockets/internal/hold"
)

func newPath(cfg Config) (*Path, error) {
	if cfg.Wire == nil || cfg.Latches == nil {
		return nil, errors.New("datapath: a wire and a latch database are needed")
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	nothing, err := spd.New(nil)
	if err != nil {
		return nil, err
	}
	p := &Path{
		cfg: cfg, caps: cfg.Wire.Caps(), now: cfg.Now, log: cfg.Log,
		sad:      sad.New[Child](cfg.Rand),
		backoff:  hold.NewBackoff[acquireKey](cfg.Backoff),
		cache:    spd.NewCache[decision](0),
		nothing:  nothing,
		done:     make(chan struct{}),
		torn:     make(chan struct{}),
		fragging: make(map[*Child]struct{}),
	}
	p.held = hold.New[peerKey](cfg.Hold, func(h heldPacket) {
		if h.sent == nil {
			p.count.drop(DropHoldExpired)
		}
		h.pkt.Release()
	})
	p.requests.out = make(map[uint64]*request)
	p.index.init()
	p.embryos.init()
	p.clear.tag.V = &clearMark{}
	if cfg.Policy == nil {
		cfg.Policy = nothing
	}
	p.policy.Store(cfg.Policy)
	// Fragment identifications begin somewhere, so that they don't repeat those of the process before.
	var id [4]byte
	if _, err := io.ReadFull(cfg.Rand, id[:]); err != nil {
		return nil, err
	}
	p.fragID.Store(binary.BigEndian.Uint32(id[:]))
	return p, nil
}

// run is Run. It starts one goroutine, for Tick, and stops it before it returns.
func (p *Path) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(p.ticker)
	err := p.newReceiver().loop()
	_ = p.Close()
	<-p.torn // whoever called Close first may still be at it
	wg.Wait()
	return err
}

func (p *Path) ticker() {
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.Tick()
		case <-p.done:
			return
		}
	}
}

// pause waits, or until Close.
func (p *Path) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.done:
	}
}

func (p *Path) tick() {
	p.tickMu.Lock()
	defer p.tickMu.Unlock()
	now := p.now()
	p.held.Expire(now)
	p.backoff.Expire(now)
	p.requests.takeMatch(func(q *request) bool { return !now.Before(q.until) })
	p.sweepEmbryos(now)
	p.sweepFragments(now)
	p.sweepEarly(now)
	p.sweepRetired(now)
}

func (p *Path) close() error {
	if !p.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	defer close(p.torn)
	close(p.done)
	err := p.cfg.Wire.Close()
	p.held.Close()
	p.requests.takeMatch(func(*request) bool { return true })
	// Whoever was installing has p.mu, or sees closed.
	p.mu.Lock()
	var spis []uint32
	p.sad.Range(func(spi uint32, _ *Child) bool {
		spis = append(spis, spi)
		return true
	})
	p.mu.Unlock()
	for _, spi := range spis {
		p.remove(spi)
	}
	p.count.dropN(DropFragmentTime, p.clear.reasm.close(p))
	p.count.dropN(DropEarly, len(p.early.take(func(*earlyPacket) bool { return true })))
	for _, f := range p.embryos.old(p.now().Add(time.Hour)) {
		if e := p.embryos.take(f); e != nil && e.grip != nil {
			e.grip.release(p.cfg.Latches)
		}
	}
	return err
}

// coarse is the time for LastSent.
func (p *Path) coarse() int64 { return p.now().UnixNano() }
