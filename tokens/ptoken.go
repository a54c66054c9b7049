package tokens

import (
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
)

// Kind tells what a PToken is.
type Kind uint8

// The kinds. The zero value is a template.
const (
	KindTemplate Kind = iota // writable, describes nothing
	KindBound                // the snapshot set on a socket
	KindLive                 // a connection or a datagram
)

// String returns "template", "bound" or "live".
func (k Kind) String() string {
	switch k {
	case KindTemplate:
		return "template"
	case KindBound:
		return "bound"
	case KindLive:
		return "live"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Request is what a template asks for. Zero fields leave it to the system's policy, which always
// limits what is asked.
type Request struct {
	Peer, Local IToken  // the zero IToken is anybody, and the default identity
	Methods     Methods // which methods of authentication will do for the peer
	Privacy     Level
	Integrity   Level
	Compression Level
	Mode        Mode     // ModeUnknown is any
	Suites      []string // suites that will do; nil is any
	Policy      string   // a policy by its name; "" is any
	Narrow      bool     // SAs for the flow alone (RFC 5660, Section 2.1)
	Disposition Disposition
	Bypass      bool // the flow may pass in clear; needs the application's privilege
}

// Methods holds a Level for each Method.
type Methods [methodCount]Level

// Allows reports whether the method will do: not disabled, and enabled if any is.
func (m *Methods) Allows(x Method) bool {
	if x == MethodUnknown || x >= methodCount || m[x] == LevelDisable {
		return false
	}
	if m[x].Enabled() {
		return true
	}
	for _, l := range m {
		if l.Enabled() {
			return false
		}
	}
	return true
}

// PToken tells, or asks, how a connection or a datagram is protected. The zero PToken is an empty
// template. It must not be copied; see Clone.
type PToken struct {
	kind   Kind
	req    Request
	live   func() (Info, error)
	closed atomic.Bool
}

// NewLive returns the token of a connection or a datagram, which reads its Info from read each
// time. read must be safe for concurrent use, must not block, and fails with ErrNotYet while
// nothing is proven and with an error that matches net.ErrClosed once the connection is gone.
func NewLive(read func() (Info, error)) *PToken { return &PToken{kind: KindLive, live: read} }

// NewFixed returns the live token of something that will not change, such as a datagram that was
// received.
func NewFixed(i Info) *PToken {
	return NewLive(func() (Info, error) { return i, nil })
}

// Kind returns what p is.
func (p *PToken) Kind() Kind { return p.kind }

// Bind returns the read-only snapshot that is set on a socket: later changes of p are not seen.
// A live token cannot be set on one: ErrLatched.
func (p *PToken) Bind() (*PToken, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	if p.kind == KindLive {
		return nil, ErrLatched
	}
	return &PToken{kind: KindBound, req: p.req.clone()}, nil
}

// Clone returns an equal token: ipsec_dup_pToken. Of a bound one it returns a template.
func (p *PToken) Clone() *PToken {
	q := &PToken{kind: p.kind, req: p.req.clone(), live: p.live}
	if q.kind == KindBound {
		q.kind = KindTemplate
	}
	q.closed.Store(p.closed.Load())
	return q
}

func (r Request) clone() Request {
	r.Suites = slices.Clone(r.Suites)
	return r
}

// Close makes further use of p fail with an error that matches net.ErrClosed. It is never
// required, may be called twice, and does nothing to the connection or to other tokens.
func (p *PToken) Close() error {
	p.closed.Store(true)
	return nil
}

func (p *PToken) open() error {
	if p == nil || p.closed.Load() {
		return ErrClosed
	}
	return nil
}

// Request returns what a template or a bound token asks for. Of a live one it is zero.
func (p *PToken) Request() Request { return p.req.clone() }

// Info returns one consistent snapshot of a live token; ErrNotYet for the others.
func (p *PToken) Info() (Info, error) {
	if err := p.open(); err != nil {
		return Info{}, err
	}
	if p.kind != KindLive {
		return Info{}, ErrNotYet
	}
	return p.live()
}

// Peer returns the peer: who it proved to be, or whom a template asks for.
func (p *PToken) Peer() (IToken, error) {
	return read(p, func(i *Info) IToken { return i.Remote }, func(r *Request) IToken { return r.Peer })
}

// Local returns this end: who we proved to be, or as whom a template asks to appear.
func (p *PToken) Local() (IToken, error) {
	return read(p, func(i *Info) IToken { return i.Local }, func(r *Request) IToken { return r.Local })
}

// Privacy returns whether the payload is encrypted, or is asked to be.
func (p *PToken) Privacy() (Level, error) {
	return read(p, func(i *Info) Level { return levelOf(i.Confidentiality) }, func(r *Request) Level { return r.Privacy })
}

// Integrity returns whether packets are authenticated, or are asked to be.
func (p *PToken) Integrity() (Level, error) {
	return read(p, func(i *Info) Level { return levelOf(i.Integrity) }, func(r *Request) Level { return r.Integrity })
}

// Compression returns whether payloads are compressed, or are asked to be.
func (p *PToken) Compression() (Level, error) {
	return read(p, func(i *Info) Level { return levelOf(i.Compression) }, func(r *Request) Level { return r.Compression })
}

// Mode returns the encapsulation, or the one asked for.
func (p *PToken) Mode() (Mode, error) {
	return read(p, func(i *Info) Mode { return i.Mode }, func(r *Request) Mode { return r.Mode })
}

// PolicyName returns the name of the policy, or of the one asked for.
func (p *PToken) PolicyName() (string, error) {
	return read(p, func(i *Info) string { return i.Policy }, func(r *Request) string { return r.Policy })
}

// read answers from the connection or from the request.
func read[T any](p *PToken, live func(*Info) T, asked func(*Request) T) (T, error) {
	var zero T
	if err := p.open(); err != nil {
		return zero, err
	}
	if p.kind != KindLive {
		return asked(&p.req), nil
	}
	i, err := p.live()
	if err != nil {
		return zero, err
	}
	return live(&i), nil
}

// change applies f to a template.
func (p *PToken) change(f func(*Request) error) error {
	if err := p.open(); err != nil {
		return err
	}
	switch p.kind {
	case KindTemplate:
		return f(&p.req)
	case KindBound:
		return ErrReadOnly
	case KindLive:
	}
	return ErrLatched
}

// SetPeer asks for this peer and no other; the zero IToken takes it back.
func (p *PToken) SetPeer(t IToken) error {
	return p.change(func(r *Request) error { r.Peer = t; return nil })
}

// SetLocal asks to appear as this identity, which needs its credential. It implies SetNarrow.
func (p *PToken) SetLocal(t IToken) error {
	return p.change(func(r *Request) error { r.Local = t; return nil })
}

// SetMethod enables or disables a method of authenticating the peer. Once one is enabled, those
// left at LevelAny will not do.
func (p *PToken) SetMethod(m Method, l Level) error {
	return p.change(func(r *Request) error {
		switch {
		case m == MethodUnknown || m >= methodCount || l > LevelEnable:
			return fmt.Errorf("%w: method %v %v", ErrValue, m, l)
		case l == LevelEnable && (m == MethodXAuth || m == MethodEAP || m == MethodGroupKey):
			return fmt.Errorf("%w: method %v", ErrUnsupported, m)
		}
		r.Methods[m] = l
		return nil
	})
}

// SetPrivacy asks for encryption, or for none.
func (p *PToken) SetPrivacy(l Level) error {
	return p.change(func(r *Request) error { return setLevel(&r.Privacy, l) })
}

// SetIntegrity asks for authenticated packets. ESP here never goes without, so LevelDisable can
// only be had together with Bypass.
func (p *PToken) SetIntegrity(l Level) error {
	return p.change(func(r *Request) error { return setLevel(&r.Integrity, l) })
}

// SetCompression asks for compression, of which there is none: enabling it is ErrUnsupported.
func (p *PToken) SetCompression(l Level) error {
	return p.change(func(r *Request) error {
		if l.Enabled() {
			return fmt.Errorf("%w: compression", ErrUnsupported)
		}
		return setLevel(&r.Compression, l)
	})
}

func setLevel(to *Level, l Level) error {
	if l >= levelCount {
		return fmt.Errorf("%w: level %d", ErrValue, uint16(l))
	}
	*to = l
	return nil
}

// SetMode asks for tunnel or transport mode; ModeUnknown takes it back.
func (p *PToken) SetMode(m Mode) error {
	return p.change(func(r *Request) error {
		if m > ModeTransport {
			return fmt.Errorf("%w: mode %d", ErrValue, uint8(m))
		}
		r.Mode = m
		return nil
	})
}

// SetSuites asks for one of these suites and, by that, for SAs of the flow's own (RFC 5660,
// Section 2.1). None takes it back.
func (p *PToken) SetSuites(suites ...string) error {
	return p.change(func(r *Request) error {
		if len(suites) > MaxSuites {
			return fmt.Errorf("%w: %d suites, at most %d", ErrValue, len(suites), MaxSuites)
		}
		for _, s := range suites {
			if s == "" || !clean(s, 64) {
				return fmt.Errorf("%w: suite %q", ErrValue, Escape(s, 64))
			}
		}
		r.Suites = slices.Clone(suites)
		return nil
	})
}

// SetPolicyName asks for the policy of that name.
func (p *PToken) SetPolicyName(name string) error {
	return p.change(func(r *Request) error {
		if !clean(name, MaxPolicyName) {
			return fmt.Errorf("%w: policy name", ErrValue)
		}
		r.Policy = name
		return nil
	})
}

// SetNarrow asks for SAs of the flow's own.
func (p *PToken) SetNarrow(on bool) error {
	return p.change(func(r *Request) error { r.Narrow = on; return nil })
}

// SetDisposition chooses beforehand what becomes of the connection if its latch breaks.
func (p *PToken) SetDisposition(d Disposition) error {
	return p.change(func(r *Request) error {
		if d > DispositionWait {
			return fmt.Errorf("%w: disposition %d", ErrValue, uint8(d))
		}
		r.Disposition = d
		return nil
	})
}

// SetBypass asks that the flow may pass in clear (RFC 5660, Section 3.1, "optional protection").
func (p *PToken) SetBypass(on bool) error {
	return p.change(func(r *Request) error { r.Bypass = on; return nil })
}

// Equal compares as ipsec_cmp_pToken does. Two live tokens are equal if their SAs cover identical
// SPD ranges and have equivalent cryptographic properties; two others if they ask for the same. A
// token that cannot be read is equal to none.
func (p *PToken) Equal(q *PToken) bool {
	if p.open() != nil || q.open() != nil || (p.kind == KindLive) != (q.kind == KindLive) {
		return false
	}
	if p.kind != KindLive {
		return p.req.equal(&q.req)
	}
	a, err1 := p.live()
	b, err2 := q.live()
	return err1 == nil && err2 == nil && a.Equivalent(b)
}

func (r *Request) equal(o *Request) bool {
	return r.Peer == o.Peer && r.Local == o.Local && r.Methods == o.Methods &&
		r.Privacy == o.Privacy && r.Integrity == o.Integrity && r.Compression == o.Compression &&
		r.Mode == o.Mode && slices.Equal(r.Suites, o.Suites) && r.Policy == o.Policy &&
		r.Narrow == o.Narrow && r.Disposition == o.Disposition && r.Bypass == o.Bypass
}

// AuditString returns one line for people and logs.
func (p *PToken) AuditString() string {
	if err := p.open(); err != nil {
		return err.Error()
	}
	if p.kind != KindLive {
		return Escape(fmt.Sprintf("%v: peer %v", p.kind, p.req.Peer), MaxAudit)
	}
	i, err := p.live()
	if err != nil {
		return Escape(err.Error(), MaxAudit)
	}
	return i.Audit()
}

// String is AuditString.
func (p *PToken) String() string { return p.AuditString() }

// GoString keeps %#v from walking into the token.
func (p *PToken) GoString() string { return "tokens.PToken(" + p.AuditString() + ")" }

// LogValue logs the audit string.
func (p *PToken) LogValue() slog.Value { return slog.StringValue(p.AuditString()) }

// MarshalJSON fails: a PToken means nothing outside its process.
func (p *PToken) MarshalJSON() ([]byte, error) { return nil, ErrSerialize }

// UnmarshalJSON fails, as MarshalJSON does.
func (p *PToken) UnmarshalJSON([]byte) error { return ErrSerialize }

// MarshalText fails, as MarshalJSON does.
func (p *PToken) MarshalText() ([]byte, error) { return nil, ErrSerialize }

// UnmarshalText fails, as MarshalJSON does.
func (p *PToken) UnmarshalText([]byte) error { return ErrSerialize }

// MarshalBinary fails, as MarshalJSON does; package gob asks for it.
func (p *PToken) MarshalBinary() ([]byte, error) { return nil, ErrSerialize }

// UnmarshalBinary fails, as MarshalJSON does.
func (p *PToken) UnmarshalBinary([]byte) error { return ErrSerialize }
