package wire

import (
	"net/netip"
	"strconv"
)

// ID is an identification payload, IDi or IDr (RFC 7296, Section 3.5). Data is
// what the peer sent: it is neither canonical nor proven.
type ID struct {
	IType     IDType
	Data      []byte
	Responder bool // IDr
}

// Type implements Payload.
func (i *ID) Type() PayloadType {
	if i.Responder {
		return PayloadIDr
	}
	return PayloadIDi
}

func parseID(t PayloadType, b []byte) (*ID, string) {
	c := cursor{b}
	var it uint8
	if !c.u8(&it) || !c.skip(3) {
		return nil, "cut short"
	}
	i := &ID{IType: IDType(it), Data: c.rest(), Responder: t == PayloadIDr}
	switch i.IType {
	case 0:
		return nil, "identification type is zero"
	case IDIPv4Addr:
		if len(i.Data) != 4 {
			return nil, "IPv4 identification is not 4 octets"
		}
	case IDIPv6Addr:
		if len(i.Data) != 16 {
			return nil, "IPv6 identification is not 16 octets"
		}
	case IDNull:
		// RFC 7619, Section 2.2: the data is to be ignored; it may be absent.
	case IDFQDN, IDRFC822Addr, IDDERASN1DN, IDDERASN1GN, IDKeyID, IDFCName:
		if len(i.Data) == 0 {
			return nil, "identification is empty" // ADV-D15
		}
	}
	return i, ""
}

func (i *ID) appendBody(dst []byte) []byte {
	return i.AppendBody(dst)
}

// AppendBody appends the payload without its generic header: the octets that
// AUTH covers as RestOfInitIDPayload and RestOfRespIDPayload (RFC 7296, Section
// 2.15). Use it for our own ID only; for a peer's, take the received octets.
func (i *ID) AppendBody(dst []byte) []byte {
	dst = append(dst, byte(i.IType), 0, 0, 0)
	return append(dst, i.Data...)
}

// String returns type and data for a log, with everything unprintable quoted, and no more of it
// than a line can take: who asserts it may be anybody.
func (i *ID) String() string {
	if i == nil {
		return "%any"
	}
	switch i.IType {
	case IDIPv4Addr, IDIPv6Addr:
		if a, ok := netip.AddrFromSlice(i.Data); ok {
			return a.String()
		}
	case IDNull:
		return "ID_NULL"
	case IDFQDN, IDRFC822Addr, IDDERASN1DN, IDDERASN1GN, IDKeyID, IDFCName:
	}
	if n := len(i.Data); n > maxShownID {
		return i.IType.String() + ":" + strconv.QuoteToASCII(string(i.Data[:maxShownID])) + "… (" + strconv.Itoa(n) + " octets)"
	}
	return i.IType.String() + ":" + strconv.QuoteToASCII(string(i.Data))
}
