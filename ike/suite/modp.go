package suite

import (
	"fmt"
	"io"
	"math/big"

	"github.com/btns-go/btns/ike/wire"
)

// modpLen is the length of the 2048-bit modulus, and so of public values and
// shared secrets, in octets.
const modpLen = 256

// modpExponent is the length of a private exponent in octets. 256 bits are more
// than the 220 that RFC 3526, Section 8 estimates for the group.
const modpExponent = 32

// modp2048Hex is the prime of group 14, 2^2048 - 2^1984 - 1 + 2^64 * { [2^1918 pi]
// + 124476 } (RFC 3526, Section 3). The generator is 2.
const modp2048Hex = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD1" +
	"29024E088A67CC74020BBEA63B139B22514A08798E3404DD" +
	"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245" +
	"E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
	"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3D" +
	"C2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F" +
	"83655D23DCA3AD961C62F356208552BB9ED529077096966D" +
	"670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B" +
	"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9" +
	"DE2BCBF6955817183995497CEA956AE515D2261898FA0510" +
	"15728E5A8AACAA68FFFFFFFFFFFFFFFF"

func modpPrime() *big.Int {
	p, _ := new(big.Int).SetString(modp2048Hex, 16)
	return p
}

func generateMODP(rand io.Reader) (*KE, error) {
	b := make(Secret, modpExponent)
	defer b.Zero()
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("suite: random source: %w", err)
	}
	b[0] |= 0x80 // full length: the public value is never a small power of 2
	return newMODP(new(big.Int).SetBytes(b)), nil
}

func newMODP(x *big.Int) *KE {
	y := new(big.Int).Exp(big.NewInt(2), x, modpPrime())
	return &KE{group: wire.GroupMODP2048, modp: x, pub: y.FillBytes(make([]byte, modpLen))}
}

func (k *KE) sharedMODP(peer []byte) (Secret, error) {
	p := modpPrime()
	y := new(big.Int).SetBytes(peer)
	// RFC 6989, Section 2.1: 1 < y < p-1. In a safe-prime group that leaves no
	// small subgroup. ADV-B16
	one := big.NewInt(1)
	if y.Cmp(one) <= 0 || y.Cmp(new(big.Int).Sub(p, one)) >= 0 {
		return nil, fmt.Errorf("%w: %s", errPublic, wire.GroupName(k.group))
	}
	// RFC 7296, Section 2.14: g^ir is padded to the length of the modulus.
	return y.Exp(y, k.modp, p).FillBytes(make([]byte, modpLen)), nil
}
