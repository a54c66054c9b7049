package tuntest

import (
	"errors"
	"io"
	"net/netip"
	"time"
)

// RelayConfig says what a Relay joins.
type RelayConfig struct {
	// Listen is the UDP address to listen on; the zero value means 127.0.0.1 and any port.
	Listen netip.AddrPort
	// Target is one of the two ends; what comes from elsewhere first is the other one. If
	// it is the zero value, the first two distinct sources are the ends.
	Target netip.AddrPort
	// Recorder gets a copy of every datagram; nil records nothing.
	Recorder *Recorder
}

// A Relay passes UDP datagrams between two ends and records them.
type Relay struct{}

// NewRelay starts a relay.
func NewRelay(cfg RelayConfig) (*Relay, error) { return nil, errors.ErrUnsupported }

// Addr returns the address to which both ends send.
func (r *Relay) Addr() netip.AddrPort { return netip.AddrPort{} }

// Close stops the relay and waits for it.
func (r *Relay) Close() error { return nil }

// A Recorder keeps datagrams as a pcapng file in memory, up to a limit, and watches for
// byte strings in all of them, kept or not. It is safe for concurrent use.
type Recorder struct{}

// NewRecorder returns a recorder that keeps at most limit bytes of file; 0 means 64 MiB.
// It looks for each of watch in every datagram, also in those beyond the limit.
func NewRecorder(limit int, watch ...[]byte) *Recorder { return &Recorder{} }

// Record adds one UDP datagram.
func (r *Recorder) Record(now time.Time, src, dst netip.AddrPort, payload []byte) {}

// Watched returns in how many datagrams watch[i] was seen.
func (r *Recorder) Watched(i int) int { return 0 }

// Search returns the number of kept datagrams that contain needle.
func (r *Recorder) Search(needle []byte) int { return 0 }

// Counts returns the number of datagrams and of their bytes, and how many of the datagrams were kept.
func (r *Recorder) Counts() (datagrams, bytes, kept int) { return 0, 0, 0 }

// WriteTo writes the pcapng file.
func (r *Recorder) WriteTo(w io.Writer) (int64, error) { return 0, errors.ErrUnsupported }

// SearchFile reads a pcapng file as written by Recorder.WriteTo and returns the number of
// packets in it and how many of them contain needle.
func SearchFile(r io.Reader, needle []byte) (packets, hits int, err error) {
	return 0, 0, errors.ErrUnsupported
}
