package spd

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

func manual() *Manual {
	return &Manual{InSPI: 0x1000, OutSPI: 0x2000, Suite: "aes256-sha256", InKey: Key{1, 2, 3}, OutKey: Key{4, 5, 6},
		Mode: ModeTunnel, Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.2")}
}

func TestManualCheck(t *testing.T) {
	if err := manual().Check(false); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]func(*Manual){
		"reserved":     func(m *Manual) { m.InSPI = 255 },
		"up to 255":    func(m *Manual) { m.OutSPI = 0 },
		"no suite":     func(m *Manual) { m.Suite = "" },
		"key is":       func(m *Manual) { m.InKey = nil },
		"a key":        func(m *Manual) { m.OutKey = Key{} },
		"mode unset":   func(m *Manual) { m.Mode = 0 },
		"address is":   func(m *Manual) { m.Local = netip.Addr{} },
		"two families": func(m *Manual) { m.Remote = netip.MustParseAddr("fd00::1") },
		"window -1":    func(m *Manual) { m.ReplayWindow = -1 },
	} {
		m := manual()
		f(m)
		if err := m.Check(true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := New([]Policy{{Sel: pair(t, "10.0.0.1", "10.0.0.2"), Word: Private, Manual: m}}); err == nil {
			t.Errorf("%s: New takes it", want)
		}
	}
}

func TestCVE_2024_28860_ManualAEADRefused(t *testing.T) {
	for suite, aead := range map[string]bool{
		"aes256gcm16": true, "aes128gcm16": true, "AES256GCM16": true, "chacha20poly1305": true, "aes128ccm8": true,
		"aes128ctr-sha256": true, "aes128gmac": true,
		"aes256-sha256": false, "aes128-sha512": false, "null-sha256": false, "aes192-sha384": false,
	} {
		m := manual()
		m.Suite = suite
		if m.AEAD() != aead {
			t.Errorf("%s: AEAD %v", suite, m.AEAD())
		}
		if err := m.Check(false); errors.Is(err, ErrManualAEAD) != aead {
			t.Errorf("%s: %v", suite, err)
		}
		if err := m.Check(true); err != nil {
			t.Errorf("%s in a test: %v", suite, err)
		}
		db := mustNew(t, Policy{Sel: pair(t, "10.0.0.1", "10.0.0.2"), Word: Private, Manual: m})
		if err := db.Check(Allow{}); errors.Is(err, ErrManualAEAD) != aead {
			t.Errorf("%s in a DB: %v", suite, err)
		}
		if err := db.Check(Allow{ManualAEAD: true}); err != nil {
			t.Errorf("%s in a test's DB: %v", suite, err)
		}
	}
}

func TestKeysRedactThemselves(t *testing.T) {
	m := manual()
	m.InKey = Key("very secret key!")
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "key", m.InKey, "manual", *m)
	js, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(m.InKey), fmt.Sprintf("%s %q %x %d %v %+v %#v", m.InKey, m.InKey, m.InKey, m.InKey, m.InKey, m.InKey, m.InKey),
		fmt.Sprintf("%+v", *m), fmt.Sprintf("%#v", *m), string(js), logged.String()} {
		if strings.Contains(s, "secret") || strings.Contains(s, "76657279") || strings.Contains(s, "118") {
			t.Errorf("key in %q", s)
		}
	}
}
