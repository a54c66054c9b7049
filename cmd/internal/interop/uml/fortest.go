package uml

import (
	"context"
	"os"
	"testing"
)

// RequireEnv is the environment variable that turns a missing peer from a skipped
// test into a failed one, by the value "require"; "skip" leaves the tests to another run.
const RequireEnv = "BTNS_INTEROP"

// ForTest starts a guest that ends with the test. Where no guest can run it skips
// the test with the reason, or fails it if RequireEnv says so. The console is
// logged if the test fails.
func ForTest(t testing.TB, cfg Config) *Guest {
	t.Helper()
	if os.Getenv(RequireEnv) == "skip" {
		t.Skip(RequireEnv + "=skip")
	}
	if err := Available(); err != nil {
		if os.Getenv(RequireEnv) == "require" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	g, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("guest's console:\n%s", g.Console())
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// MustRun is Run for tests: an error ends the test.
func (g *Guest) MustRun(ctx context.Context, t testing.TB, script string) string {
	t.Helper()
	out, err := g.Run(ctx, script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
