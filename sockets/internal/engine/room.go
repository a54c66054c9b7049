package engine

import "github.com/btns-go/btns/sockets/internal/datapath"

// This file is how much one peer may take, and all peers together that nobody vouches for
// (RFC 8019, Section 5): each IKE SA and each child SA that they ask for costs memory for as
// long as they like.

// room says whether the peer of s may have it.
func (k *keyer) room(s *ikeSA, p *peer) error {
	if s.initiator {
		return nil // by our own wish
	}
	n := 0
	for range k.roster.ofPeer(p) {
		if n++; n == maxSAsPerPeer {
			return &RoomError{"IKE SAs with this peer", maxSAsPerPeer}
		}
	}
	if !p.entry.Kind.BTNS() {
		return nil
	}
	// Anybody can make keys: strangers share a quota, and never use that of known peers.
	if k.strangers >= maxStrangers {
		return &RoomError{"IKE SAs with anonymous peers", maxStrangers}
	}
	k.strangers++
	s.stranger = true
	return nil
}

// childRoom says whether a peer may have one more child SA.
func (k *keyer) childRoom(p *peer) error {
	n := 0
	for s := range k.roster.ofPeer(p) {
		n += len(s.children)
	}
	switch {
	case n >= maxChildrenPerPeer:
		return &RoomError{"child SAs with this peer", maxChildrenPerPeer}
	case p.data.Anonymous && k.strangeChildren >= maxStrangerChildren:
		return &RoomError{"child SAs with anonymous peers", maxStrangerChildren}
	}
	return nil
}

// occupy counts a child SA that was made (1) or is gone (-1).
func (k *keyer) occupy(c *datapath.Child, n int) {
	if c.Peer.Anonymous {
		k.strangeChildren += n
	}
}
