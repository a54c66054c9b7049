package spd

import "fmt"

// Word says what becomes of a policy's packets. The zero value is Block.
type Word uint8

// The five words, after the policy groups of opportunistic encryption.
const (
	Block          Word = iota // discard
	Clear                      // pass in clear, never protect
	ClearOrPrivate             // pass in clear, but protect when the peer asks
	PrivateOrClear             // try to protect, pass in clear if that fails
	Private                    // protect or discard
)

var wordNames = [...]string{"block", "clear", "clear-or-private", "private-or-clear", "private"}

// ParseWord reads a word as String prints it.
func ParseWord(s string) (Word, error) {
	for i, name := range wordNames {
		if s == name {
			return Word(i), nil
		}
	}
	return Block, fmt.Errorf("spd: %.40q is not one of block, clear, clear-or-private, private-or-clear, private", s)
}

// String returns the word as configuration files spell it.
func (w Word) String() string {
	if int(w) < len(wordNames) {
		return wordNames[w]
	}
	return fmt.Sprintf("word(%d)", uint8(w))
}

// Action is what the data plane does with one packet. The zero value is Discard.
type Action uint8

// The three processing choices of RFC 4301, Section 4.4.1.
const (
	Discard Action = iota
	Bypass
	Protect
)

// String returns the action's name as RFC 4301 writes it.
func (a Action) String() string {
	switch a {
	case Discard:
		return "DISCARD"
	case Bypass:
		return "BYPASS"
	case Protect:
		return "PROTECT"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Action returns what the word wants while there is no SA for the packet: ClearOrPrivate passes
// in clear without asking anybody, PrivateOrClear asks first.
func (w Word) Action() Action {
	switch w {
	case Clear, ClearOrPrivate:
		return Bypass
	case PrivateOrClear, Private:
		return Protect
	case Block:
		return Discard
	}
	return Discard
}

// AllowsClear reports whether packets may pass in clear under the word in some circumstances,
// and so whether a clear inbound packet is acceptable (RFC 4301, Section 5.2, step 3b).
func (w Word) AllowsClear() bool {
	return w == Clear || w == ClearOrPrivate || w == PrivateOrClear
}

// AllowsSA reports whether an SA may be made for the policy, by us or by the peer.
func (w Word) AllowsSA() bool {
	return w == ClearOrPrivate || w == PrivateOrClear || w == Private
}

// Initiates reports whether a packet without an SA makes us ask for one.
func (w Word) Initiates() bool { return w.Action() == Protect }
