package ike

import (
	"crypto/sha256"
	"errors"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// This file is IKE fragmentation (RFC 7383). A message that was sent in fragments is kept
// as its datagrams one after the other; their headers say where each ends.

// reassembly is one message whose fragments are being collected. There is at most one
// request and one response at a time: the window allows no more.
type reassembly struct {
	id     uint32
	first  wire.PayloadType // of fragment 1
	digest [digestLen]byte  // of fragment 1, to know its retransmission
	parts  [][]byte         // decrypted; nil: not here yet
	have   int
	size   int
	until  time.Time
}

// fragmentNotify says that we take fragments; nil if we do not.
func (m *Machine) fragmentNotify() *wire.Notify {
	if m.cfg.Fragments == FragmentsNo {
		return nil
	}
	return notify(wire.NotifyFragmentationSupported, nil)
}

// agreeFragments notes that both ends have said so (RFC 7383, Section 2.3).
func (m *Machine) agreeFragments(peer bool) {
	m.setFlag(flagFragments, peer && m.cfg.Fragments != FragmentsNo)
}

// datagramMost is the longest IKE datagram that is sent whole.
func (m *Machine) datagramMost() int {
	n := m.cfg.FragmentSize
	if n == 0 {
		n = defaultFragmentSize
	}
	n = max(n, minFragmentSize) - 8 - 4 // UDP, non-ESP marker
	if m.path.Remote.Addr().Unmap().Is4() {
		return n - 20
	}
	return n - 40
}

// sealFragments makes the fragments of a message, or nil if it may go whole.
func (m *Machine) sealFragments(h wire.Header, first wire.PayloadType, inner []byte) ([]byte, error) {
	most := m.datagramMost()
	if !m.has(flagFragments) || m.cfg.Fragments == FragmentsAccept || m.out.Overhead(len(inner))+len(inner) <= most {
		return nil, nil
	}
	const numbers = 4 // fragment number and total
	chunk := most - numbers - m.out.Overhead(0)
	for chunk > 1 && chunk+numbers+m.out.Overhead(chunk) > most {
		chunk--
	}
	total := (len(inner) + chunk - 1) / chunk
	if total > maxFragments {
		return nil, errors.New("ike: message needs too many fragments")
	}
	out := make([]byte, 0, len(inner)+total*(m.out.Overhead(chunk)+numbers))
	for i := range total {
		part := inner[i*chunk : min((i+1)*chunk, len(inner))]
		b, err := m.out.SealFragment(h, first, uint16(i+1), uint16(total), part, m.cfg.Rand)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
		first = wire.PayloadNone // RFC 7383, Section 2.5: only in the first
	}
	return out, nil
}

// transmit sends a message, in as many datagrams as it has.
func (m *Machine) transmit(path Path, raw []byte) {
	for len(raw) > 0 {
		n := len(raw)
		if h, err := wire.ParseHeader(raw); err == nil && int(h.Length) <= n && h.Length > 0 {
			n = int(h.Length)
		}
		m.emit(&Send{Path: path, Data: raw[:n:n]})
		raw = raw[n:]
	}
}

// collect takes one fragment, and returns the message when it is whole. Nothing changes
// before the fragment's integrity is verified.
func (m *Machine) collect(now time.Time, h wire.Header, dir direction, b []byte, f *wire.EncryptedFragment) (whole *reassembly, d Drop) {
	if !m.has(flagFragments) || f.Total > maxFragments || (f.Num == 1) == (f.First == wire.PayloadNone) {
		return nil, DropFragment // ADV-G1, ADV-G7
	}
	r := m.frags[dir]
	if r != nil && (r.id != h.MessageID || !now.Before(r.until)) {
		r = nil
	}
	if r != nil && (int(f.Total) < len(r.parts) || int(f.Total) == len(r.parts) && r.parts[f.Num-1] != nil) {
		return nil, DropFragment // ADV-G4, ADV-G6
	}
	part, err := m.in.OpenFragment(b, f)
	if err != nil {
		return nil, DropICV // ADV-G3; padded wrongly counts as well
	}
	m.count(func(c *Counters) { c.Verified.Add(1) })
	m.heard = now
	if r == nil || int(f.Total) > len(r.parts) {
		// RFC 7383, Section 2.6: cut anew for a smaller path, start over.
		r = &reassembly{id: h.MessageID, parts: make([][]byte, f.Total), until: now.Add(fragmentsLife)}
		m.frags[dir] = r
	}
	most := maxFragmented
	if m.peer == nil {
		most = maxFragmentedEarly
	}
	if r.size+len(part) > most {
		m.frags[dir] = nil
		return nil, DropFragment // ADV-G7
	}
	if part == nil {
		part = []byte{} // here, though empty
	}
	r.parts[f.Num-1] = part
	r.have++
	r.size += len(part)
	leads := f.Num == 1
	if m.faulty(faultFirstSeen) {
		leads = r.have == 1
	}
	if leads {
		r.first, r.digest = f.First, sha256.Sum256(b)
	}
	if r.have < len(r.parts) {
		return nil, 0
	}
	m.frags[dir] = nil
	return r, 0
}

// inner is the message's payloads.
func (r *reassembly) inner() []byte {
	out := make([]byte, 0, r.size)
	for _, p := range r.parts {
		out = append(out, p...)
	}
	return out
}

// firstFragment reports whether b is an authentic first fragment: of a request that was
// answered already, it alone asks for the answer again (RFC 7383, Section 2.6.1).
func (m *Machine) firstFragment(b []byte) bool {
	if !m.has(flagFragments) || m.in == nil {
		return false
	}
	msg, err := wire.Parse(b)
	if err != nil {
		return false
	}
	f, ok := wire.Get[*wire.EncryptedFragment](msg.Payloads)
	if !ok || f.Num != 1 && !m.faulty(faultEachResend) {
		return false
	}
	_, err = m.in.OpenFragment(b, f)
	return err == nil
}

// fragmentsEnd is when collected fragments are thrown away.
func (m *Machine) fragmentsEnd() (d time.Time) {
	for _, r := range m.frags {
		if r != nil {
			sooner(&d, r.until)
		}
	}
	return d
}

// dropFragments throws away what is too old.
func (m *Machine) dropFragments(now time.Time) {
	for i, r := range m.frags {
		if r != nil && due(r.until, now) {
			m.frags[i] = nil
		}
	}
}
