package auth

import (
	"crypto/hmac"
	"fmt"

	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// keyPad is hashed with the shared secret (RFC 7296, Section 2.15: "17 ASCII characters without
// null termination").
const keyPad = "Key Pad for IKEv2"

// SignedOctets returns what an end signs (RFC 7296, Section 2.15):
//
//	RealMessage | NonceData | prf(SK_p, RestOfIDPayload)
//
// message is that end's own IKE_SA_INIT message as it was on the wire, from the first SPI on and
// without non-ESP marker; nonce the other end's nonce data; skp that end's SK_pi or SK_pr; idBody
// its ID payload without the generic header. prf is an IANA transform ID; one that is not
// implemented is an error.
func SignedOctets(prf uint16, skp, message, nonce, idBody []byte) ([]byte, error) {
	mac, err := computePRF(prf, skp, idBody)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(message)+len(nonce)+len(mac))
	out = append(out, message...)
	out = append(out, nonce...)
	return append(out, mac...), nil
}

// PSKAuth returns the AUTH data for a pre-shared key (RFC 7296, Section 2.15):
//
//	prf(prf(Shared Secret, "Key Pad for IKEv2"), octets)
//
// An empty PSK and a PRF that is not implemented are errors.
func PSKAuth(prf uint16, psk PSK, octets []byte) ([]byte, error) {
	if psk.Empty() {
		return nil, refuse(ReasonKey, wire.AuthMethodPSK, "there is no pre-shared key")
	}
	key, err := computePRF(prf, psk.secret, []byte(keyPad))
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return computePRF(prf, key, octets)
}

// VerifyPSK checks an AUTH payload made with a pre-shared key, in constant time. An empty PSK
// verifies nothing.
func VerifyPSK(prf uint16, psk PSK, a *wire.Auth, octets []byte) error {
	if a.Method != wire.AuthMethodPSK {
		return refuse(ReasonMethod, a.Method, "a pre-shared key is wanted from this peer")
	}
	want, err := PSKAuth(prf, psk, octets)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, a.Data) {
		return refuse(ReasonWrong, a.Method, "the pre-shared keys differ, or the messages were changed on the way")
	}
	return nil
}

// computePRF is suite.PRF with an error in place of nil: no MAC must not pass for an empty one.
func computePRF(id uint16, key, data []byte) ([]byte, error) {
	mac := suite.PRF(id, key, data)
	if len(mac) == 0 {
		return nil, fmt.Errorf("auth: PRF %d is not implemented", id)
	}
	return mac, nil
}
