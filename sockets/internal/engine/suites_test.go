package engine

import (
	"slices"
	"testing"

	"github.com/btns-go/btns/ike/suite"
)

func TestSuites(t *testing.T) {
	ps, err := suite.ESPProposals("aes256gcm16-chacha20poly1305-x25519", "aes256-aes128-sha256-sha512")
	if err != nil {
		t.Fatal(err)
	}
	all := suites(ps)
	want := []string{"aes256gcm16", "chacha20poly1305", "aes256-sha256", "aes256-sha512", "aes128-sha256", "aes128-sha512"}
	if !slices.Equal(all, want) {
		t.Errorf("suites %q, want %q", all, want)
	}
	for _, name := range want {
		if got := suites(onlySuites(ps, []string{name})); !slices.Equal(got, []string{name}) {
			t.Errorf("only %s: %q", name, got)
		}
	}
	if got := onlySuites(ps, []string{"null-sha256"}); len(got) != 0 {
		t.Errorf("a suite that the policy lacks: %v", got)
	}
	if only := onlySuites(ps, want[:1])[0]; len(only.Transforms) != len(ps[0].Transforms)-1 {
		t.Errorf("more than the other cipher went: %s", suite.String(only))
	}
}
