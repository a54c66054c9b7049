package wire

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

// samples returns payloads of every type that can stand in a clear chain, each
// with all its variants.
func samples() []Payload {
	return []Payload{
		&SA{Proposals: []Proposal{
			{Num: 1, Protocol: ProtocolIKE, Transforms: []Transform{
				{Type: TransformEncr, ID: EncrAESGCM16, KeyBits: 256},
				{Type: TransformPRF, ID: PRFHMACSHA256},
				{Type: TransformKE, ID: GroupX25519},
			}},
			{Num: 2, Protocol: ProtocolIKE, SPI: fill(8, 7), Transforms: []Transform{
				{Type: TransformEncr, ID: EncrAESCBC, KeyBits: 128},
				{Type: TransformInteg, ID: IntegHMACSHA256},
			}},
		}},
		&SA{Proposals: []Proposal{{Num: 9, Protocol: ProtocolESP, SPI: []byte{1, 2, 3, 4}, Transforms: []Transform{
			{Type: TransformEncr, ID: EncrChaCha20Poly1305},
			{Type: TransformESN, ID: ESNYes},
		}}}},
		&KE{Group: GroupX25519, Data: fill(32, 1)},
		&ID{IType: IDFQDN, Data: []byte("moon.example")},
		&ID{IType: IDIPv4Addr, Data: []byte{192, 0, 2, 1}, Responder: true},
		&ID{IType: IDIPv6Addr, Data: fill(16, 2)},
		&ID{IType: IDNull},
		&Cert{Encoding: CertRawPublicKey, Data: fill(44, 3)},
		&CertReq{Encoding: CertX509, Authority: fill(20, 4)},
		&CertReq{Encoding: CertRawPublicKey},
		&Auth{Method: AuthMethodDigitalSignature, Data: fill(72, 5)},
		&Nonce{Data: fill(MinNonce, 6)},
		&Nonce{Data: fill(MaxNonce, 6)},
		&Notify{NType: NotifyCookie, Data: fill(20, 7)},
		&Notify{NType: NotifyRekeySA, Protocol: ProtocolESP, SPI: []byte{1, 2, 3, 4}},
		&Delete{Protocol: ProtocolIKE},
		&Delete{Protocol: ProtocolESP, SPIs: []uint32{0x01020304, 0xfffefdfc}},
		&Vendor{Data: []byte("vendor")},
		&Vendor{},
		&TS{Initiator: true, Selectors: []TrafficSelector{
			{Type: TSIPv4AddrRange, Proto: 6, StartPort: 80, EndPort: 80,
				Start: netip.MustParseAddr("10.0.0.0"), End: netip.MustParseAddr("10.0.0.255")},
			{Type: TSIPv6AddrRange, StartPort: 65535, EndPort: 0,
				Start: netip.MustParseAddr("fd00::"), End: netip.MustParseAddr("fd00::ffff")},
		}},
		&TS{Selectors: []TrafficSelector{{Type: 10, Data: []byte("label")}}},
		&Configuration{CType: ConfigRequest, Attributes: []ConfigAttribute{
			{Type: ConfigInternalIP4Address},
			{Type: ConfigInternalIP6Address, Value: fill(17, 8)},
		}},
		&EAP{Data: []byte{1, 2, 0, 5, 1}},
		&Unknown{PType: 200, Data: []byte{1, 2, 3}},
	}
}

// closed returns the two payloads that only end a clear chain.
func closed() []Payload {
	return []Payload{
		&Encrypted{First: PayloadIDi, Body: fill(40, 9)},
		&EncryptedFragment{First: PayloadIDi, Num: 1, Total: 2, Body: fill(40, 9)},
		&EncryptedFragment{Num: 2, Total: 2, Body: fill(40, 9)},
	}
}

// body encodes a payload without its generic header.
func body(p Payload) []byte { return p.appendBody([]byte{}) }

// chain encodes one payload with its generic header.
func chain(t PayloadType, body []byte) []byte {
	_, b := AppendPayloads([]byte{}, []Payload{&Unknown{PType: t, Data: body}})
	return b
}

// initRequest returns a plausible IKE_SA_INIT request.
func initRequest() *Message {
	return &Message{
		Header: Header{SPIi: 0x0102030405060708, Exchange: ExchangeIKESAInit, Flags: FlagInitiator},
		Payloads: []Payload{
			samples()[0],
			&KE{Group: GroupX25519, Data: fill(32, 1)},
			&Nonce{Data: fill(32, 2)},
			&Notify{NType: NotifyNATDetectionSourceIP, Data: fill(20, 3)},
			&Notify{NType: NotifyNATDetectionDestinationIP, Data: fill(20, 4)},
			&Notify{NType: NotifySignatureHashAlgorithms, Data: []byte{0, 2, 0, 5}},
			&Unknown{PType: 199, Data: []byte{1}},
			&Vendor{Data: []byte("v")},
		},
	}
}

// protectedMessage returns a message with an SK payload.
func protectedMessage() *Message {
	return &Message{
		Header:   Header{SPIi: 1, SPIr: 2, Exchange: ExchangeIKEAuth, Flags: FlagInitiator, MessageID: 1},
		Payloads: []Payload{&Notify{NType: NotifyInitialContact}, &Encrypted{First: PayloadIDi, Body: fill(64, 1)}},
	}
}

func options() cmp.Option {
	return cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmpopts.IgnoreFields(Header{}, "Next", "Version", "Length"),
		cmpopts.IgnoreFields(Encrypted{}, "Off"),
		cmpopts.IgnoreFields(EncryptedFragment{}, "Off"),
	}
}

func diff(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, options()); d != "" {
		t.Errorf("differs (-want +got):\n%s", d)
	}
}
