package iketest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/wire"
)

// This file judges what can't be read off a machine's outputs: that what it drops changes
// nothing (I2), that it executes no request twice (I6), what it holds (I8), and how
// it writes.

// Judged counts what the judges have looked at, and what they found.
type Judged struct {
	IVs      int // IKE datagrams and ESP packets, by the (key, IV) they were sealed with
	Reused   int // of these, with one that had been used
	Clear    int // ESP packets with their plaintext in sight
	Dropped  int // datagrams that a machine dropped
	Changed  int // of these, that changed it
	Executed int // requests
	Again    int // of these, not for the first time
	Spelled  int // messages and fragments that machines sent
	Mistaken int // of these, that the second encoder writes in other octets
	Most     Held
}

// Add sums counters up, and keeps what is most.
func (j *Judged) Add(o Judged) {
	j.IVs += o.IVs
	j.Reused += o.Reused
	j.Clear += o.Clear
	j.Dropped += o.Dropped
	j.Changed += o.Changed
	j.Executed += o.Executed
	j.Again += o.Again
	j.Spelled += o.Spelled
	j.Mistaken += o.Mistaken
	j.Most.max(o.Most)
}

// Held is what one machine holds.
type Held struct {
	Octets   int // of all that it points to, its configuration apart
	Children int // child SAs, with those that wait for their Delete
	Queue    int // commands that wait
	Reserved int // SPIs
	Rivals   int // parked responses to its IKE_SA_INIT
	Asked    int // Work that is out
	HalfOpen int // of its host: SAs whose peer is not authenticated
}

func (h *Held) fields() [7]*int {
	return [...]*int{&h.Octets, &h.Children, &h.Queue, &h.Reserved, &h.Rivals, &h.Asked, &h.HalfOpen}
}

func (h *Held) max(o Held) {
	for i, p := range o.fields() {
		*h.fields()[i] = max(*h.fields()[i], *p)
	}
}

// within reports whether nothing is more than its cap.
func (h *Held) within(caps Held) bool {
	for i, p := range caps.fields() {
		if *h.fields()[i] > *p {
			return false
		}
	}
	return true
}

// machineCaps are the limits of package ike, and what follows from them: twice
// DefaultMaxChildren, for one that is rekeyed stays until its Delete; maxQueue commands, and a
// Delete for every child SA, which nothing can refuse; an SPI for each command, and a few in
// the making; maxResponses, one of which is in use; two messages in fragments, their answer,
// and 1 KiB for each child SA and each command. The half-open SAs are the host's gate's.
func machineCaps() Held {
	const children, queue = 2 * ike.DefaultMaxChildren, 128 + 2*ike.DefaultMaxChildren
	return Held{Octets: 3*wire.MaxMessage + (children+queue)<<10, Children: children, Queue: queue,
		Reserved: queue + 8, Rivals: 3, Asked: 16, HalfOpen: maxPerAddr}
}

// look is a machine at one moment.
type look struct {
	print    uint64 // of all that it holds
	state    ike.State
	verified uint64 // authentic messages and fragments so far, of its host
	held     Held
}

// looker walks a machine. What it can't see is private to other packages, and does not
// change: keys of the standard library, closures.
type looker struct {
	seed maphash.Seed
	b    []byte
	seen []uintptr
	n    int
}

func (e *End) look() look {
	l := &e.Host.Sim.looker
	l.b, l.seen, l.n = l.b[:0], l.seen[:0], 0
	v := reflect.ValueOf(e.M)
	l.walk(v)
	m := v.Elem()
	size := func(i int) int { return m.Field(i).Len() }
	return look{print: maphash.Bytes(l.seed, l.b), state: e.M.State(), verified: e.Host.Counters.Verified.Load(), held: Held{Octets: l.n, Children: size(children), Queue: size(queue),
		Reserved: size(reserved), Rivals: size(rivals), Asked: size(asked), HalfOpen: e.Host.Gate.HalfOpen()}}
}

var (
	machineType = reflect.TypeFor[ike.Machine]()
	timeType    = reflect.TypeFor[time.Time]()

	// notHeld are fields of a Machine: what it is given, and what it has handed out.
	notHeld = []int{machineField("cfg"), machineField("outq"), machineField("head")}

	children, queue, reserved = machineField("children"), machineField("queue"), machineField("reserved")
	rivals, asked             = machineField("rivals"), machineField("asked")
)

func machineField(name string) int {
	f, ok := machineType.FieldByName(name)
	if !ok || len(f.Index) != 1 {
		panic("iketest: a Machine has no field " + name)
	}
	return f.Index[0]
}

// ours reports whether a type is one of this module's, whose insides can change.
func ours(t reflect.Type) bool { return strings.HasPrefix(t.PkgPath(), "github.com/btns-go/btns/") }

func (l *looker) number(x uint64) { l.b = binary.NativeEndian.AppendUint64(l.b, x) }

func (l *looker) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		l.number(uint64(v.Pointer()))
		if v.IsNil() || !ours(v.Type().Elem()) || slices.Contains(l.seen, v.Pointer()) {
			return
		}
		l.seen = append(l.seen, v.Pointer())
		if v.Type().Elem() != machineType || len(l.seen) == 1 { // other machines are judged themselves
			l.n += int(v.Type().Elem().Size())
		}
		l.walk(v.Elem())
	case reflect.Interface:
		if !v.IsNil() {
			l.walk(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == timeType {
			l.number(v.Field(0).Uint())
			l.number(uint64(v.Field(1).Int()))
			return
		}
		skip := v.Type() == machineType
		for i := range v.NumField() {
			if !skip || !slices.Contains(notHeld, i) {
				l.walk(v.Field(i))
			}
		}
	case reflect.Slice:
		l.number(uint64(v.Len()))
		l.n += v.Len() * int(v.Type().Elem().Size())
		if v.Type().Elem().Kind() == reflect.Uint8 {
			l.b = append(l.b, v.Bytes()...)
			return
		}
		for i := range v.Len() {
			l.walk(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			l.walk(v.Index(i))
		}
	case reflect.String:
		l.n += v.Len()
		l.number(uint64(v.Len()))
		l.b = append(l.b, v.String()...)
	case reflect.Bool:
		if v.Bool() {
			l.b = append(l.b, 1)
		} else {
			l.b = append(l.b, 0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		l.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		l.number(v.Uint())
	case reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Map:
		l.number(uint64(v.Pointer()))
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128, reflect.Invalid: // there are none
	}
}

// datagram gives the machine a datagram. A request makes it work, or answer something new,
// once (I6).
func (e *End) datagram(p ike.Path, b []byte) {
	before := e.look()
	e.holds(before.held)
	e.bytesIn += len(b)
	e.acts = acts{}
	e.input(func() { e.dropped(e.M.Datagram(e.Host.Sim.Now, p, b), before) })
	e.silent = false
	if h, err := wire.ParseHeader(b); err == nil && !h.Flags.Response() && h.Exchange != wire.ExchangeIKESAInit {
		e.served(h.MessageID)
	}
}

// dropped judges what a datagram has done that was dropped and is nobody's: it changes nothing
// and has the machine say nothing (I2). Two kinds are hints, remembered in a bounded way: after
// one the machine may ask its peer for a sign of life, or doubt that its IKE_SA_INIT will be
// answered, but it stays in its state with what it has.
func (e *End) dropped(d ike.Drop, before look) {
	if d == 0 || e.Host.Counters.Verified.Load() != before.verified { // an authentic fragment too many
		return
	}
	s := e.Host.Sim
	s.Judged.Dropped++
	after := e.look()
	changed := after.print != before.print
	if d == ike.DropNotify || d == ike.DropSelection {
		changed = after.state != before.state || after.held.Children != before.held.Children
	} else {
		e.silent = true
	}
	if changed {
		s.Judged.Changed++
		e.fail("I2: a datagram dropped as %s changes the SA", d)
	}
}

// acts is what a machine did because of one input.
type acts struct{ worked, repeated, answered bool }

// act notes an output.
func (e *End) act(o ike.Output) {
	if e.silent {
		e.Host.Sim.Judged.Changed++
		e.fail("I2: %T because of a datagram that was dropped", o)
	}
	switch o.(type) {
	case ike.Work:
		e.acts.worked = true
	case *ike.Repeated:
		e.acts.repeated = true
	}
}

// served judges what a request has made the machine do.
func (e *End) served(id uint32) {
	if !e.acts.answered && (!e.acts.worked || e.acts.repeated) {
		return
	}
	s := e.Host.Sim
	s.Judged.Executed++
	if e.executed[id] {
		s.Judged.Again++
		e.fail("I6: request %d is executed again", id)
	}
	if e.executed == nil {
		e.executed = map[uint32]bool{}
	}
	e.executed[id] = true
}

// holds judges what the machine holds.
func (e *End) holds(h Held) {
	s := e.Host.Sim
	s.Judged.Most.max(h)
	if !h.within(s.caps) {
		e.fail("I8: %+v is more than %+v", h, s.caps)
	}
}

// spelled judges how a message is written: the second encoder has the same octets for the same
// values. Both read them with the parsers of package wire; what those read wrong is not the same
// when it is written again. Without a key log only IKE_SA_INIT is judged.
func (e *End) spelled(h wire.Header, b []byte) {
	s := e.Host.Sim
	if !e.Host.Config.KeyLog && h.Exchange != wire.ExchangeIKESAInit {
		return
	}
	s.Judged.Spelled++
	var c *closer
	if f := s.forger(e, h.SPIr); f != nil {
		c = f.closer
	}
	again, err := c.rewritten(h, b)
	if err != nil || !bytes.Equal(again, b) {
		s.Judged.Mistaken++
		e.fail("misspells a message (%v): %x, not %x", err, b, again)
	}
}

// rewritten reads a message and writes it again, with the keys of its sender; nil: there are none.
func (c *closer) rewritten(h wire.Header, b []byte) ([]byte, error) {
	if h.Exchange == wire.ExchangeIKESAInit {
		m, err := wire.Parse(b)
		if err != nil {
			return nil, err
		}
		return Encode(m), nil
	}
	if c == nil {
		return nil, errors.New("protected with keys that nobody knows")
	}
	first, fragment, inner, iv, err := c.open(b)
	if err != nil {
		return nil, err
	}
	if len(fragment) == 0 {
		ps, err := wire.ParsePayloads(first, inner)
		if err != nil {
			return nil, err
		}
		first, inner = EncodeChain(ps)
	}
	return c.close(h, first, fragment, inner, iv), nil
}
