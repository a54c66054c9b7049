package suite

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/btns-go/btns/ike/wire"
)

// KE is one side's key exchange: a private key that is used for one exchange.
type KE struct {
	group uint16
	ec    *ecdh.PrivateKey // elliptic curve groups
	modp  *big.Int         // MODP groups: the exponent
	pub   []byte
}

var (
	errGroup     = errors.New("suite: key exchange method is not implemented")
	errPublicLen = errors.New("suite: public value has the wrong length for its group")
	errPublic    = errors.New("suite: public value is not valid in its group")
)

// KELen returns the octets of a public value of the group; 0 = not implemented.
func KELen(group uint16) int {
	switch group {
	case wire.GroupX25519:
		return 32 // RFC 8031, Section 3.1
	case wire.GroupECP256:
		return 64 // RFC 5903, Section 7: x and y
	case wire.GroupECP384:
		return 96
	case wire.GroupMODP2048:
		return modpLen // RFC 7296, Section 3.4: as long as the modulus
	}
	return 0
}

func curveOf(group uint16) (c ecdh.Curve, scalarLen int) {
	switch group {
	case wire.GroupX25519:
		return ecdh.X25519(), 32
	case wire.GroupECP256:
		return ecdh.P256(), 32
	case wire.GroupECP384:
		return ecdh.P384(), 48
	}
	return nil, 0
}

// GenerateKE makes a private key of the group from rand.
func GenerateKE(group uint16, rand io.Reader) (*KE, error) {
	if group == wire.GroupMODP2048 {
		return generateMODP(rand)
	}
	curve, n := curveOf(group)
	if curve == nil {
		return nil, fmt.Errorf("%w: %s", errGroup, wire.GroupName(group))
	}
	// The scalar is read here and not by GenerateKey, which ignores its reader:
	// simulations replay from a seed. A scalar outside [1, n-1] is drawn again;
	// with an honest reader that happens once in 2³² draws at most.
	b := make(Secret, n)
	defer b.Zero()
	for range 64 {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("suite: random source: %w", err)
		}
		if k, err := curve.NewPrivateKey(b); err == nil {
			return newECKE(group, k), nil
		}
	}
	return nil, errors.New("suite: random source yields no valid scalar")
}

func newECKE(group uint16, k *ecdh.PrivateKey) *KE {
	pub := k.PublicKey().Bytes()
	if group != wire.GroupX25519 {
		pub = pub[1:] // RFC 5903, Section 7: without the leading 04 of SEC 1
	}
	return &KE{group: group, ec: k, pub: pub}
}

// Group returns the transform ID of the group.
func (k *KE) Group() uint16 { return k.group }

// Public returns our public value as the KE payload carries it. It is shared
// and must not be changed.
func (k *KE) Public() []byte { return k.pub }

// Format keeps the private key out of logs, whatever the verb.
func (k KE) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, wire.GroupName(k.group)+" "+redacted)
}

// Shared checks the peer's public value (RFC 6989, Section 2; RFC 8031, Section
// 2) and returns g^ir in the fixed length of the group.
func (k *KE) Shared(peer []byte) (Secret, error) {
	if len(peer) != KELen(k.group) { // ADV-B15
		return nil, fmt.Errorf("%w: %d octets for %s", errPublicLen, len(peer), wire.GroupName(k.group))
	}
	if k.group == wire.GroupMODP2048 {
		return k.sharedMODP(peer)
	}
	curve, _ := curveOf(k.group)
	raw := peer
	if k.group != wire.GroupX25519 {
		raw = append([]byte{4}, peer...)
	}
	// NewPublicKey refuses coordinates out of range, points off the curve and
	// infinity (RFC 6989, Section 2.3); ECDH refuses the all-zero result of a
	// low-order point (RFC 8031, Section 2). ADV-B16
	pub, err := curve.NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", errPublic, wire.GroupName(k.group))
	}
	s, err := k.ec.ECDH(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", errPublic, wire.GroupName(k.group))
	}
	return s, nil // RFC 5903, Section 7: x alone
}
