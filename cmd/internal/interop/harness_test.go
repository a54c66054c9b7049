//go:build linux

package interop_test

import (
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// TestJudge shows that the judge of all other tests sees what must not be: the same page,
// fetched in the clear over the same link.
func TestJudge(t *testing.T) {
	near, far := interop.NewPair(t)
	link := interop.NewCapture(t, near, 512)
	row := report.Row(t, "none", "control: the same transfer in clear is noticed", "none", "none")
	smallWeb().Serve(t, far, interop.FarAddr+":80")
	interop.FetchPage(t, near, "http://"+interop.FarAddr)
	seen := link.Look()
	if seen.Plaintext == 0 || len(seen.Clear) == 0 || seen.ESP()+seen.IKE > 0 {
		t.Errorf("the link saw %s, plaintext in %d frames", seen, seen.Plaintext)
	}
	row.Note("%s; plaintext in %d frames", seen, seen.Plaintext)
}
