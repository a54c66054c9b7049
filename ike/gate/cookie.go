package gate

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"github.com/btns-go/btns/ike/wire"
)

// cookieJar makes and checks cookies without state per peer (RFC 7296, Section 2.6):
//
//	cookie = version | SHA-256(secret | SPIi | IPi | Ni)[:16]
//
// The version octet counts secrets. The source port is not in it: RFC 7296 does not bind it,
// and a NAT may change it between the two requests.
type cookieJar struct {
	random   io.Reader
	version  byte
	secret   [32]byte
	previous [32]byte
	hasPrev  bool
	since    time.Time
}

func (j *cookieJar) init(random io.Reader, now time.Time) error {
	j.random, j.since = random, now
	_, err := io.ReadFull(random, j.secret[:])
	return err
}

// rotate brings the secret up to date. If the source of randomness fails, the old secret stays:
// worse than a new one and better than none.
func (j *cookieJar) rotate(now time.Time) {
	age := now.Sub(j.since)
	if age < cookieRotation {
		return
	}
	var fresh [32]byte
	if _, err := io.ReadFull(j.random, fresh[:]); err != nil {
		return
	}
	j.previous, j.hasPrev = j.secret, age < 2*cookieRotation
	j.secret, j.since = fresh, now
	j.version++
}

func mac(secret *[32]byte, spii uint64, addr netip.Addr, nonce []byte) [cookieMAC]byte {
	var buf [32 + 8 + 16 + wire.MaxNonce]byte
	ip := addr.As16()
	b := append(buf[:0], secret[:]...)
	b = binary.BigEndian.AppendUint64(b, spii)
	b = append(b, ip[:]...)
	b = append(b, nonce...)
	sum := sha256.Sum256(b)
	return [cookieMAC]byte(sum[:cookieMAC])
}

// appendCookie appends the cookie for a request.
func (j *cookieJar) appendCookie(dst []byte, now time.Time, spii uint64, addr netip.Addr, nonce []byte) []byte {
	j.rotate(now)
	m := mac(&j.secret, spii, addr, nonce)
	return append(append(dst, j.version), m[:]...)
}

// check tells whether cookie was made for this request with the current or the last secret.
func (j *cookieJar) check(now time.Time, cookie []byte, spii uint64, addr netip.Addr, nonce []byte) bool {
	if len(cookie) != 1+cookieMAC {
		return false
	}
	j.rotate(now)
	secret := &j.secret
	switch {
	case cookie[0] == j.version:
	case j.hasPrev && cookie[0] == j.version-1:
		secret = &j.previous
	default:
		return false
	}
	m := mac(secret, spii, addr, nonce)
	return subtle.ConstantTimeCompare(cookie[1:], m[:]) == 1
}
