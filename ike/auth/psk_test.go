package auth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// TestPSKAuth spells out RFC 7296, Section 2.15 and compares.
func TestPSKAuth(t *testing.T) {
	for _, prf := range []uint16{wire.PRFHMACSHA256, wire.PRFHMACSHA384, wire.PRFHMACSHA512} {
		msg, nonce, id, skp := []byte("the whole message"), []byte("the other's nonce"), []byte("\x02\x00\x00\x00moon"), []byte("SK_p")
		octets, err := SignedOctets(prf, skp, msg, nonce, id)
		if err != nil {
			t.Fatal(err)
		}
		want := []byte("the whole messagethe other's nonce" + string(suite.PRF(prf, skp, id)))
		if !bytes.Equal(octets, want) {
			t.Errorf("signed octets %x", octets)
		}
		psk := NewPSK([]byte("secret"))
		data, err := PSKAuth(prf, psk, octets)
		if err != nil {
			t.Fatal(err)
		}
		if want := suite.PRF(prf, suite.PRF(prf, []byte("secret"), []byte("Key Pad for IKEv2")), octets); !bytes.Equal(data, want) {
			t.Errorf("AUTH %x, want %x", data, want)
		}
		a := &wire.Auth{Method: wire.AuthMethodPSK, Data: data}
		if err := VerifyPSK(prf, psk, a, octets); err != nil {
			t.Error(err)
		}
		for i := range data {
			bad := bytes.Clone(data)
			bad[i] ^= 1
			wantReason(t, VerifyPSK(prf, psk, &wire.Auth{Method: wire.AuthMethodPSK, Data: bad}, octets), ReasonWrong)
			wantReason(t, VerifyPSK(prf, psk, &wire.Auth{Method: wire.AuthMethodPSK, Data: data[:i]}, octets), ReasonWrong)
		}
		wantReason(t, VerifyPSK(prf, psk, &wire.Auth{Method: wire.AuthMethodPSK, Data: append(data, 0)}, octets), ReasonWrong)
		wantReason(t, VerifyPSK(prf, NewPSK([]byte("secreT")), a, octets), ReasonWrong)
		wantReason(t, VerifyPSK(prf, PSK{}, a, octets), ReasonKey)
		wantReason(t, VerifyPSK(prf, PSK{}, &wire.Auth{Method: wire.AuthMethodPSK}, octets), ReasonKey)
	}
}

// TestCVE_2018_10811_PRFWithoutImplementation shows that a PRF without an implementation matches nothing, not the empty MAC.
func TestCVE_2018_10811_PRFWithoutImplementation(t *testing.T) {
	for _, prf := range []uint16{0, wire.PRFHMACMD5, wire.PRFHMACSHA1, wire.PRFAESXCBC, 9999} {
		if VerifyPSK(prf, NewPSK([]byte("secret")), &wire.Auth{Method: wire.AuthMethodPSK}, nil) == nil {
			t.Errorf("PRF %d verified an empty AUTH", prf)
		}
		if _, err := SignedOctets(prf, nil, nil, nil, nil); err == nil {
			t.Errorf("PRF %d made signed octets", prf)
		}
	}
}

// TestADV_D10_ROW_55_Methods offers every method number to both verifiers.
func TestADV_D10_ROW_55_Methods(t *testing.T) {
	octets := []byte("octets")
	key := generate(t, KindECDSAP256)
	right := mustSign(t, key, octets, Hashes())
	mac, err := PSKAuth(wire.PRFHMACSHA256, NewPSK([]byte("secret")), octets)
	if err != nil {
		t.Fatal(err)
	}
	for m := range 256 {
		if wire.AuthMethod(m) != wire.AuthMethodDigitalSignature {
			wantReason(t, Verify(key.Public(), &wire.Auth{Method: wire.AuthMethod(m), Data: right.Data}, octets, Rules{}), ReasonMethod)
		}
		if wire.AuthMethod(m) != wire.AuthMethodPSK {
			wantReason(t, VerifyPSK(wire.PRFHMACSHA256, NewPSK([]byte("secret")), &wire.Auth{Method: wire.AuthMethod(m), Data: mac}, octets), ReasonMethod)
		}
	}
}

func TestParsePSK(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"plain words", "plain words"},
		{"0x00ff41", "\x00\xffA"},
		{"0X41", "0X41"},
		{"0sQUJD", "ABC"},
		{strings.Repeat("a", 100), strings.Repeat("a", 100)},
	} {
		p, err := ParsePSK(tc.in)
		if err != nil || string(p.secret) != tc.want {
			t.Errorf("%q: %q, %v", tc.in, p.secret, err)
		}
	}
	for _, in := range []string{"", "0x", "0x0", "0xzz", "0s", "0s***", "0sQUJ"} {
		_, err := ParsePSK(in)
		if err == nil {
			t.Errorf("%q is accepted", in)
		} else if len(in) > 4 && strings.Contains(err.Error(), in[2:]) {
			t.Errorf("%v repeats the secret", err)
		}
	}
}

// TestWeakPSK shows which keys the configuration is told to refuse (ADV-D18).
func TestWeakPSK(t *testing.T) {
	for s, weak := range map[string]bool{
		"":                                 true,
		"swordfish":                        true,
		"0123456789abcde":                  true,
		"0123456789abcdef":                 false,
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": true,
		"abababababababababababababababab": true,
		"correct horse battery staple":     false,
	} {
		if got := NewPSK([]byte(s)).Weak(); (got != "") != weak {
			t.Errorf("%q: %q", s, got)
		}
	}
}

// TestPSKRedacts tries every way a value gets printed.
func TestPSKRedacts(t *testing.T) {
	const secret = "hunter2hunter2hunter2"
	p := NewPSK([]byte(secret))
	type config struct {
		Name string
		PSK  PSK
		Ptr  *PSK
	}
	c := config{"moon", p, &p}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "psk", p, "config", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "psk", p, "config", c)
	js, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprint(p, &p, c) + fmt.Sprintf("%v %+v %#v %s %x %q %d %X", p, p, p, p, p, p, p, p) + fmt.Sprintf("%v %+v %#v", c, c, c) + string(js) + log.String()
	for _, form := range []string{secret, "hunter", fmt.Sprintf("%x", "hunter"), "104 117 110", "aHVudGVy"} {
		if strings.Contains(all, form) {
			t.Errorf("printed %q in %s", form, all)
		}
	}
	p.Zero()
	if bytes.Contains(p.secret, []byte("hunter")) {
		t.Error("Zero left it")
	}
}
