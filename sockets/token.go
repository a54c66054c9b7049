package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/btns-go/btns/esp"
	"github.com/btns-go/btns/latch"
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/sockets/internal/datapath"
	"github.com/btns-go/btns/tokens"
)

// PTokenFrom returns the live PToken of a connection: how it is protected and who is at
// the other end. It looks through wrappers that have a NetConn method, as *tls.Conn has.
// The error is ErrNotIPsec for connections that are not this package's.
func PTokenFrom(c net.Conn) (*tokens.PToken, error) {
	for range maxWrappers {
		switch w := c.(type) {
		case interface{ PToken() *tokens.PToken }:
			return w.PToken(), nil
		case interface{ NetConn() net.Conn }:
			c = w.NetConn()
		default:
			return nil, fmt.Errorf("%w: %T", ErrNotIPsec, c)
		}
	}
	return nil, fmt.Errorf("%w: more than %d wrappers", ErrNotIPsec, maxWrappers)
}

// maxWrappers ends the search in wrappers that wrap each other.
const maxWrappers = 16

// ptokenKey is the context key of ConnContext.
type ptokenKey struct{}

// ConnContext has the shape of http.Server.ConnContext: handlers then find the PToken of
// their request's connection with PTokenFromContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	pt, err := PTokenFrom(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, ptokenKey{}, pt)
}

// PTokenFromContext returns what ConnContext put there, or ErrNotIPsec.
func PTokenFromContext(ctx context.Context) (*tokens.PToken, error) {
	pt, ok := ctx.Value(ptokenKey{}).(*tokens.PToken)
	if !ok {
		return nil, ErrNotIPsec
	}
	return pt, nil
}

// ptoken is the socket's live token.
func (s *socket) ptoken() *tokens.PToken { return tokens.NewLive(s.info) }

// info is one snapshot: the latch says what is bound, the child SA what carries it now.
func (s *socket) info() (tokens.Info, error) {
	l := s.data.Latch()
	if l == nil || l.Params() == nil {
		return tokens.Info{}, tokens.ErrNotYet
	}
	snap := l.Inquire()
	if snap.State == latch.StateClosed {
		return tokens.Info{}, l.Err() // matches net.ErrClosed
	}
	flow := l.Flow()
	info := tokens.Info{
		Source: tokens.SourceLatched, State: snap.State.String(), Suites: snap.Suites,
		InnerLocal:  netip.AddrPortFrom(flow.Src(), flow.SrcPort()),
		InnerRemote: netip.AddrPortFrom(flow.Dst(), flow.DstPort()),
	}
	info.Suite, info.Indeterminate = l.Quality()
	if err := l.Err(); err != nil {
		info.Reason = err.Error()
	}
	p := snap.Params
	info.Integrity = p.Protection&latch.Integrity != 0
	info.Confidentiality = p.Protection&latch.Confidentiality != 0
	info.Replay, info.Mode = p.Replay, tokens.Mode(p.Mode)
	// Between two SAs the last one still tells who the peer is: the latch lets nobody else
	// follow it.
	if c := s.data.LastChild(); c != nil {
		if err := identify(&info, c.Peer); err != nil {
			return tokens.Info{}, err
		}
		if !c.Removed() {
			describe(&info, c)
		}
	}
	return info, nil
}

// identify adds who the two ends proved to be.
func identify(info *tokens.Info, p *datapath.Peer) error {
	var err error
	info.Method = method(p.Method)
	info.Remote, err = tokens.NewIToken(tokens.Identity{Method: info.Method, ID: p.ID, SPKI: p.SPKI})
	if err != nil {
		return fmt.Errorf("sockets: the peer's identity: %w", err)
	}
	local := info.Method
	if p.LocalSPKI == nil && local != tokens.MethodManual {
		local = tokens.MethodPreSharedKey
	}
	info.Local, err = tokens.NewIToken(tokens.Identity{Method: local, ID: p.LocalID, SPKI: p.LocalSPKI})
	if err != nil {
		return fmt.Errorf("sockets: our identity: %w", err)
	}
	return nil
}

// describe adds what the SAs say.
func describe(info *tokens.Info, c *datapath.Child) {
	path := c.CurrentPath()
	info.Policy, info.Suite = c.Name, c.Suite.String()
	info.SPIIn, info.SPIOut = tokens.SPI(c.InSPI), tokens.SPI(c.OutSPI())
	info.Selectors = c.Pair
	info.OuterLocal, info.OuterRemote = path.Local, path.Remote
	info.Encap = !path.Native()
}

func method(s string) tokens.Method {
	switch s {
	case "psk":
		return tokens.MethodPreSharedKey
	case "pubkey":
		return tokens.MethodPublicKey
	case "btns":
		return tokens.MethodBTNS
	case "manual":
		return tokens.MethodManual
	}
	return tokens.MethodUnknown
}

// ptokenOf is the token of one datagram, from the tag it arrived under.
func ptokenOf(tag *netstack.Tag) *tokens.PToken {
	c := childOf(tag)
	if c == nil {
		return tokens.NewFixed(tokens.Info{})
	}
	info := tokens.Info{Source: tokens.SourceConfigured, State: "ESTABLISHED"}
	info.Integrity, info.Confidentiality = true, c.Suite.Confidential()
	info.Replay, info.Mode = c.Params.Replay, tokens.Mode(c.Mode)
	if err := identify(&info, c.Peer); err != nil {
		return tokens.NewLive(func() (tokens.Info, error) { return tokens.Info{}, err })
	}
	describe(&info, c)
	return tokens.NewFixed(info)
}

func childOf(tag *netstack.Tag) *datapath.Child {
	if tag == nil {
		return nil
	}
	c, _ := tag.V.(*datapath.Child)
	return c
}

// want turns what an application asks for into what a latch demands.
func want(pt *tokens.PToken) (latch.Want, error) {
	if pt == nil {
		return latch.Want{}, nil
	}
	bound, err := pt.Bind()
	if err != nil {
		return latch.Want{}, err
	}
	r := bound.Request()
	var errs []error
	if r.Policy != "" {
		errs = append(errs, fmt.Errorf("%w: choosing a policy by name", tokens.ErrUnsupported))
	}
	if r.Bypass {
		errs = append(errs, fmt.Errorf("%w: passing in clear", tokens.ErrUnsupported))
	}
	if r.Methods != (tokens.Methods{}) {
		errs = append(errs, fmt.Errorf("%w: choosing a method for any peer; name the peer instead", tokens.ErrUnsupported))
	}
	w := latch.Want{
		Peer: r.Peer.ID(), Local: r.Local.ID(), Suites: r.Suites, Narrow: r.Narrow,
		Disposition: latch.Disposition(r.Disposition), Mode: uint8(r.Mode),
	}
	if r.Privacy.Enabled() {
		w.Protection |= latch.Confidentiality
	}
	if r.Integrity.Enabled() {
		w.Protection |= latch.Integrity
	}
	for _, s := range r.Suites {
		if _, err := esp.ParseSuite(s); err != nil {
			errs = append(errs, err)
		}
	}
	return w, errors.Join(errs...)
}

// demand is the tag that makes one datagram go under what pt describes: that of a live
// token under an SA with the same peer that protects as well, that of a template as it
// asks; both within what the socket demands.
func (s *socket) demand(pt *tokens.PToken) (*netstack.Tag, error) {
	own := s.data.Want()
	var w latch.Want
	if pt.Kind() == tokens.KindLive {
		info, err := pt.Info()
		if err != nil {
			return nil, err
		}
		if info.Remote.IsZero() {
			return nil, nil // came from this very host
		}
		if c := s.st.e.Data.Child(uint32(info.SPIIn)); c != nil && c.Peer.ID == info.Remote.ID() && c.Suite.String() == info.Suite {
			if err := own.Check(c.Params); err != nil {
				return nil, err
			}
			return c.Tag(), nil
		}
		w = latch.Want{Peer: info.Remote.ID(), Mode: uint8(info.Mode), Protection: latch.Integrity}
		if info.Confidentiality {
			w.Protection |= latch.Confidentiality
		}
	} else {
		var err error
		if w, err = want(pt); err != nil {
			return nil, err
		}
	}
	if err := tighten(&w, &own); err != nil {
		return nil, err
	}
	return s.st.e.Data.NewSocket(datapath.SocketConfig{Kind: datapath.SocketDatagram, Want: w, V: s}).Tag(), nil
}

// tighten adds to what one datagram demands what its socket does.
func tighten(w, own *latch.Want) error {
	same := func(field string, w *string, own string) error {
		if *w == "" {
			*w = own
		}
		if own != "" && *w != own {
			return &latch.MismatchError{Field: field, Want: own, Got: *w}
		}
		return nil
	}
	if err := errors.Join(same("peer identity", &w.Peer, own.Peer), same("local identity", &w.Local, own.Local)); err != nil {
		return err
	}
	if w.Mode == 0 {
		w.Mode = own.Mode
	}
	if own.Mode != 0 && w.Mode != own.Mode {
		return &latch.MismatchError{Field: "mode", Want: tokens.Mode(own.Mode).String(), Got: tokens.Mode(w.Mode).String()}
	}
	w.Protection |= own.Protection
	w.Narrow = w.Narrow || own.Narrow
	if len(own.Suites) > 0 {
		if len(w.Suites) == 0 {
			w.Suites = own.Suites
		}
		w.Suites = slices.DeleteFunc(slices.Clone(w.Suites), func(s string) bool { return !slices.Contains(own.Suites, s) })
		if len(w.Suites) == 0 {
			return &latch.MismatchError{Field: "suite", Want: fmt.Sprint(own.Suites), Got: "none of them"}
		}
	}
	return nil
}
