package iketest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/btns-go/btns/esp/ts"
	"github.com/btns-go/btns/ike"
	"github.com/btns-go/btns/ike/auth"
	"github.com/btns-go/btns/ike/gate"
	"github.com/btns-go/btns/ike/wire"
)

// Setup is the host of a [Transcript], in words. Zero values are a Host's own.
type Setup struct {
	Seed              uint64 // gives nonces, SPIs, private keys and the host's Ed25519 key
	Local, Remote     netip.AddrPort
	ID                string // a domain name
	IKE, ESP          string // proposals, as swanctl.conf has them
	RekeyESP          string // for child SAs to be replaced
	LocalTS, RemoteTS string
	Secret            string // the shared key; "" for bare public keys
	Trust             []byte // the peer's SubjectPublicKeyInfo, with bare public keys
	Childless         ike.Childless
	FragmentSize      int
	Cookies           bool // demanded of everybody
	DPDDelay          time.Duration
}

// fields are the lines of a transcript's head.
func (u *Setup) fields() []field {
	return []field{
		{"seed", func() string { return strconv.FormatUint(u.Seed, 10) }, func(s string) (err error) { u.Seed, err = strconv.ParseUint(s, 10, 64); return }},
		{"local", func() string { return u.Local.String() }, func(s string) (err error) { u.Local, err = netip.ParseAddrPort(s); return }},
		{"remote", func() string { return u.Remote.String() }, func(s string) (err error) { u.Remote, err = netip.ParseAddrPort(s); return }},
		text("id", &u.ID),
		text("ike", &u.IKE),
		text("esp", &u.ESP),
		text("rekey-esp", &u.RekeyESP),
		text("local-ts", &u.LocalTS),
		text("remote-ts", &u.RemoteTS),
		text("secret", &u.Secret),
		{"trust", func() string { return base64.StdEncoding.EncodeToString(u.Trust) },
			func(s string) (err error) { u.Trust, err = base64.StdEncoding.DecodeString(s); return }},
		{"childless", func() string { return strconv.Itoa(int(u.Childless)) },
			func(s string) error {
				n, err := strconv.ParseUint(s, 10, 8)
				u.Childless = ike.Childless(n)
				return err
			}},
		{"fragment-size", func() string { return strconv.Itoa(u.FragmentSize) }, func(s string) (err error) { u.FragmentSize, err = strconv.Atoi(s); return }},
		{"cookies", func() string { return strconv.FormatBool(u.Cookies) }, func(s string) (err error) { u.Cookies, err = strconv.ParseBool(s); return }},
		{"dpd-delay", func() string { return u.DPDDelay.String() }, func(s string) (err error) { u.DPDDelay, err = time.ParseDuration(s); return }},
	}
}

type field struct {
	name string
	get  func() string
	set  func(string) error
}

func text(name string, p *string) field {
	return field{name, func() string { return *p }, func(s string) error { *p = s; return nil }}
}

func (u *Setup) write(w io.Writer) {
	zero := (&Setup{}).fields()
	for i, f := range u.fields() {
		if v := f.get(); v != zero[i].get() {
			fmt.Fprintf(w, "%s %s\n", f.name, v)
		}
	}
}

func (u *Setup) parse(key, value string) error {
	for _, f := range u.fields() {
		if f.name == key {
			return f.set(value)
		}
	}
	return fmt.Errorf("unknown key %q", key)
}

// PrivateKey returns the host's key, if it has one.
func (u *Setup) PrivateKey() ed25519.PrivateKey {
	if u.Secret != "" {
		return nil
	}
	seed := sha256.Sum256([]byte("btns transcript " + strconv.FormatUint(u.Seed, 10)))
	return ed25519.NewKeyFromSeed(seed[:])
}

func (u *Setup) pair() ts.Pair { return Pair(u.LocalTS, u.RemoteTS) }

// host makes the host.
func (u *Setup) host(s *Sim) *Host {
	h := s.AddHost(u.ID, u.Local.String())
	h.Allow, h.ESP = u.pair(), MustESP(strings.Fields(u.ESP)...)
	if u.RekeyESP != "" {
		h.RekeyESP = MustESP(strings.Fields(u.RekeyESP)...)
	}
	h.Config.Proposals = MustIKE(strings.Fields(u.IKE)...)
	h.Config.ForceEncap = true
	h.Config.InitialContact = true
	h.Config.Childless = u.Childless
	h.Config.FragmentSize = u.FragmentSize
	h.Config.DPDDelay = u.DPDDelay
	if u.Secret != "" {
		h.Secret = auth.NewPSK([]byte(u.Secret))
	} else {
		h.UseKey(u.PrivateKey())
		h.Trust, h.Answer = [][]byte{u.Trust}, u.known
	}
	h.Config.Local.ID = wire.ID{IType: wire.IDFQDN, Data: []byte(u.ID)}
	if u.Cookies {
		g, err := gate.New(gate.Config{CookieThreshold: -1}, reader{h.rand}, s.Now)
		if err != nil {
			s.fail("%s: %v", h.Name, err)
		}
		h.Gate = g
	}
	return h
}

// known verifies a peer that shows no bare key with the one we know.
func (u *Setup) known(w ike.Work, r ike.WorkResult) ike.WorkResult {
	v, ok := w.(*ike.WorkVerify)
	if !ok || v.SPKI != nil {
		return r
	}
	err := auth.VerifySPKI(u.Trust, &v.Auth, v.Octets, auth.Rules{})
	return &ike.VerifyResult{OK: err == nil, Err: err, Peer: v.AssertedID.String()}
}
