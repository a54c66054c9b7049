package iketest

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// work answers Work, inline or later.
func (e *End) work(w ike.Work) {
	s := e.Host.Sim
	complete := func(r ike.WorkResult) { e.M.Complete(s.Now, w.WorkID(), r) }
	if s.Faults.Work == 0 {
		complete(e.answer(w))
		return
	}
	s.After(time.Duration(s.rand.Int64N(int64(s.Faults.Work))), func() {
		e.input(func() { complete(e.answer(w)) })
	})
}

func (e *End) answer(w ike.Work) ike.WorkResult {
	var r ike.WorkResult
	switch w := w.(type) {
	case *ike.WorkKE, *ike.WorkSign:
		r = e.Host.Credentials.Answer(w, reader{e.Host.rand})
	case *ike.WorkVerify:
		r = e.verify(w)
	case *ike.WorkDecide:
		r = e.decide(w)
	case *ike.WorkRekey:
		if st := e.Host.SPIs[w.InSPI]; st != SPIInstalled && st != SPIRemoved {
			e.fail("asked to rekey child %08x that never was", w.InSPI)
		}
		r = &ike.RekeyResult{SPI: e.Host.Reserve(), Proposals: e.Host.RekeyESP, Terms: e.Host.Terms}
	default:
		e.fail("unknown work %T", w)
	}
	if e.Host.Answer != nil {
		r = e.Host.Answer(w, r)
	}
	if v, ok := r.(*ike.VerifyResult); ok && v.OK {
		e.verified = true
	}
	return r
}

func (e *End) verify(w *ike.WorkVerify) ike.WorkResult {
	h := e.Host
	if want := h.WantID; want != nil && (w.AssertedID.IType != want.IType || !bytes.Equal(w.AssertedID.Data, want.Data)) {
		return &ike.VerifyResult{Err: fmt.Errorf("identity %s is not %s", w.AssertedID.String(), want.String())}
	}
	return h.Credentials.Answer(w, reader{h.rand})
}

func (e *End) decide(w *ike.WorkDecide) *ike.DecideResult {
	h := e.Host
	if !e.verified {
		e.fail("I1: asked to decide before AUTH is verified")
	}
	if w.Peer == nil {
		e.fail("asked to decide for nobody")
	}
	if h.Refuse != 0 {
		return &ike.DecideResult{Refuse: h.Refuse}
	}
	transport := w.Transport && h.Transport
	pair := w.Pair
	if !transport {
		pair = w.Asked
	}
	narrowed, ok := h.Allow.Intersect(pair)
	if !ok {
		return &ike.DecideResult{Refuse: wire.NotifyTSUnacceptable, Err: errors.New("nothing in common")}
	}
	ours := h.ESP
	if w.First {
		ours = suite.WithoutKE(ours)
	}
	s, _, chosen, mis := suite.ChooseESP(w.Proposals, ours)
	if mis != nil {
		return &ike.DecideResult{Refuse: wire.NotifyNoProposalChosen, Err: mis}
	}
	e.decided++
	h.ref++
	return &ike.DecideResult{SPI: h.Reserve(), Pair: narrowed, Chosen: chosen, Suite: s, Transport: transport,
		Name: "net", Ref: h.ref, Terms: h.Terms}
}
