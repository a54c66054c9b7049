package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"runtime/pprof"
	"strings"
	"testing"
)

// TestShares profiles work of known kind.
func TestShares(t *testing.T) {
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Fatal(err)
	}
	p, err := newPrimitives(methodPSK)
	if err != nil {
		t.Fatal(err)
	}
	for range 400 { // of work, not of time: on a busy machine there are few samples in that
		if err := p.once(); err != nil {
			t.Fatal(err)
		}
	}
	pprof.StopCPUProfile()
	all, err := shares(profile.Bytes(), "no such function")
	if err != nil || len(all) == 0 {
		t.Fatalf("%d packages, %v", len(all), err)
	}
	sum, field := 0.0, 0.0
	for _, s := range all {
		sum += s.Percent
		if strings.HasSuffix(s.Package, "edwards25519/field") {
			field = s.Percent
		}
	}
	if sum < 99 || sum > 101 || field < 5 {
		t.Errorf("%+v", all)
	}
	without, err := shares(profile.Bytes(), "bench.(*primitives)")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range without {
		if strings.HasSuffix(s.Package, "edwards25519/field") {
			t.Errorf("the baseline is in it: %+v", without)
		}
	}
}

func TestSharesOfNothing(t *testing.T) {
	zipped := func(b ...byte) []byte {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(b)
		_ = w.Close()
		return z.Bytes()
	}
	for name, b := range map[string][]byte{"not zipped": []byte("x"), "cut": zipped(2<<3 | 2), "too long": zipped(2<<3|2, 9, 0), "of another kind": zipped(1<<3|5, 0, 0, 0, 0)} {
		if _, err := shares(b, "x"); !errors.Is(err, errProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for f, want := range map[string]string{
		"a.example/b.(*T).f": "a.example/b", "runtime.mallocgc": "runtime", "": "", "a.example/b/c.f[go.shape.x/y.Z]": "a.example/b/c",
	} {
		if got := packageOf(f); got != want {
			t.Errorf("%q is of %q, want %q", f, got, want)
		}
	}
}

// What falls short says why.
func TestIKESaysWhy(t *testing.T) {
	r := Report{Profile: []Share{{"runtime", 60}, {"crypto/x", 40}}}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil || !strings.Contains(b.String(), "60.0 %  runtime") {
		t.Errorf("%v\n%s", err, b.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := IKE(ctx, IKEOptions{Handshakes: 1, Rounds: 1}); err == nil {
		t.Error("goes on after its end")
	}
	if err := pprof.StartCPUProfile(&b); err != nil {
		t.Errorf("a profile goes on: %v", err)
	}
	pprof.StopCPUProfile()
}
