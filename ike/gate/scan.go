package gate

import (
	"encoding/binary"

	"github.com/btns-go/btns/ike/wire"
)

// initRequest is what the gate must know of an IKE_SA_INIT request. The slices alias it.
type initRequest struct {
	nonce  []byte
	cookie []byte // nil if there is none, or one that counts as absent
}

const payloadHeader = 4 // RFC 7296, Section 3.2

// scanInit walks the payload chain of an IKE_SA_INIT request without keeping or allocating
// anything, and finds the nonce and the cookie. It accepts every chain that [wire.Parse] could
// accept with exactly one SA, KE and Nonce payload; what is inside them is the machine's business.
func scanInit(b []byte) (initRequest, Reason) {
	var req initRequest
	var sas, kes, nonces, cookies int
	next, rest := wire.PayloadType(b[offNext]), b[headerLen:]
	for n := 0; next != wire.PayloadNone; n++ {
		if n == wire.MaxPayloads || len(rest) < payloadHeader {
			return req, ReasonChain
		}
		size := int(binary.BigEndian.Uint16(rest[2:]))
		if size < payloadHeader || size > len(rest) {
			return req, ReasonChain
		}
		body := rest[payloadHeader:size]
		switch next {
		case wire.PayloadSA:
			sas++
		case wire.PayloadKE:
			kes++
		case wire.PayloadNonce:
			nonces++
			req.nonce = body
		case wire.PayloadNotify:
			if data, ok := cookieNotify(body); ok {
				if cookies++; n == 0 {
					req.cookie = data
				}
			}
		case wire.PayloadEncrypted, wire.PayloadEncryptedFragment:
			return req, ReasonChain // there are no keys yet
		default:
			// Unknown payloads, critical or not, are for the machine to answer.
		}
		next, rest = wire.PayloadType(rest[0]), rest[size:]
	}
	switch {
	case len(rest) != 0:
		return req, ReasonChain
	case sas != 1 || kes != 1 || nonces != 1:
		return req, ReasonPayloads
	case len(req.nonce) < wire.MinNonce || len(req.nonce) > wire.MaxNonce:
		return req, ReasonNonce // RFC 7296, Section 3.9
	case cookies != 1:
		req.cookie = nil // RFC 7296, Section 2.6: "the first payload"; two of them are none
	}
	return req, ReasonNone
}

// cookieNotify returns the data of a COOKIE notification. Its length is judged by who checks it.
func cookieNotify(body []byte) ([]byte, bool) {
	if len(body) < 4 || wire.NotifyType(binary.BigEndian.Uint16(body[2:])) != wire.NotifyCookie {
		return nil, false
	}
	if body[1] != 0 { // no SPI belongs to it
		return nil, true
	}
	return body[4:], true
}
