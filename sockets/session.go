package sockets

import (
	"fmt"

	"github.com/btns-go/btns/sockets/internal/engine"
)

// fragmentSizes bounds FragmentSize: what every IPv4 path takes whole is longer than the
// least (RFC 7383, Section 2.5.1).
const (
	minFragmentSize = 256
	maxFragmentSize = 65535
)

// sessions compiles what a Connection says about its IKE SAs as such.
func sessions(in *Connection, out *engine.Conn, path func(...string) []string) error {
	if out.Unique = in.Unique; out.Unique > UniqueReplace {
		return bad(fmt.Errorf("no such rule"), path("unique")...)
	}
	if in.Remote.Method == AuthBTNS && in.Unique > UniqueNever {
		// RFC 7619, Section 2.5.
		return bad(fmt.Errorf("a peer without identity is never taken for another: only no and never go with btns"), path("unique")...)
	}
	switch in.Childless {
	case ChildlessAllow:
		out.Childless = engine.ChildlessAllow
	case ChildlessPrefer:
		out.Childless = engine.ChildlessPrefer
	case ChildlessForce:
		out.Childless = engine.ChildlessForce
	case ChildlessNever:
		out.Childless = engine.ChildlessNever
	default:
		return bad(fmt.Errorf("no such rule"), path("childless")...)
	}
	switch in.Fragmentation {
	case FragmentationYes:
		out.Fragments = engine.FragmentsYes
	case FragmentationAccept:
		out.Fragments = engine.FragmentsAccept
	case FragmentationNo:
		out.Fragments = engine.FragmentsNo
	default:
		return bad(fmt.Errorf("no such rule"), path("fragmentation")...)
	}
	if out.FragmentSize = in.FragmentSize; in.FragmentSize != 0 && (in.FragmentSize < minFragmentSize || in.FragmentSize > maxFragmentSize) {
		return bad(fmt.Errorf("%d is outside %d to %d", in.FragmentSize, minFragmentSize, maxFragmentSize), path("fragment_size")...)
	}
	return nil
}

// compile checks the limits.
func (h *HalfOpen) compile() (engine.Limits, error) {
	switch {
	case h.Limit < 0:
		return engine.Limits{}, bad(fmt.Errorf("%d is no number of peers", h.Limit), "half_open", "limit")
	case h.AddressLimit < 0:
		return engine.Limits{}, bad(fmt.Errorf("%d is no number of peers", h.AddressLimit), "half_open", "block_threshold")
	case h.Timeout < 0:
		return engine.Limits{}, bad(fmt.Errorf("%s is over already", h.Timeout), "half_open", "timeout")
	}
	return engine.Limits{CookieThreshold: h.CookieThreshold, MaxHalfOpen: h.Limit, MaxPerAddr: h.AddressLimit, HalfOpenLife: h.Timeout}, nil
}
