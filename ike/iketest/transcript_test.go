package iketest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike/iketest"
	"github.com/btns-go/btns/ike/wire"
)

// transcripts are conversations with real peers; cmd/internal/interop records them.
func transcripts(t *testing.T) map[string]*iketest.Transcript {
	t.Helper()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	all := map[string]*iketest.Transcript{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := iketest.ParseTranscript(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if tr.String() != string(text) {
			t.Fatalf("%s: what was read is not what is written again", file)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".txt")] = tr
	}
	return all
}

// TestTranscripts gives the host of each transcript what a real peer sent: it must say and
// do again what it said and did then, octet for octet. Where an answer was changed on
// purpose, cmd/internal/interop records them anew: go test -run TestTranscripts -update.
func TestTranscripts(t *testing.T) {
	for name, tr := range transcripts(t) {
		t.Run(name, func(t *testing.T) {
			c := tr.Replay()
			if why := tr.Differs(c.Transcript()); why != "" {
				t.Errorf("%s with %s: %s", tr.Title, tr.Peer, why)
			}
			for _, e := range c.Sim.Errors {
				t.Error(e)
			}
		})
	}
}

// TestTranscriptsChanged changes an octet in what the peer sent, each message in turn. The
// host must notice in all that are protected (an IKE_SA_INIT may have no consequence).
func TestTranscriptsChanged(t *testing.T) {
	for name, tr := range transcripts(t) {
		t.Run(name, func(t *testing.T) {
			for i, l := range tr.Lines {
				if l.Kind != iketest.Came {
					continue
				}
				changed := *tr
				changed.Lines = slices.Clone(tr.Lines)
				changed.Lines[i].Data = bytes.Clone(l.Data)
				changed.Lines[i].Data[len(l.Data)-1] ^= 1
				c := changed.Replay()
				if h, err := wire.ParseHeader(l.Data); err != nil {
					t.Error(err)
				} else if h.Exchange != wire.ExchangeIKESAInit && changed.Differs(c.Transcript()) == "" {
					t.Errorf("line %d: the host does not notice", i+1)
				}
				for _, e := range c.Sim.Errors {
					if !strings.Contains(e, "told to") { // of an SA that does not stand now
						t.Errorf("line %d: %s", i+1, e)
					}
				}
			}
		})
	}
}

func TestParseTranscript(t *testing.T) {
	head := "# btns transcript 1: ! told, > sent, < came, = event\ntitle t\n\n"
	for _, x := range []struct{ text, want string }{
		{"", ""},
		{"something else\n", "line 1: not a transcript"},
		{strings.Replace(head, "title", "titel", 1), `line 2: unknown key "titel"`},
		{head + "0.1\n", "line 4: want time"},
		{head + "x ! initiate\n", "line 4: time: invalid duration"},
		{head + "0.1 ? initiate\n", `line 4: unknown sign "?"`},
		{head + "0.1 < 192.0.2.1:500 00\n", "line 4: want two addresses"},
		{head + "0.1 < 192.0.2.1:500 192.0.2.2 00\n", "line 4:"},
		{head + "0.1 < 192.0.2.1:500 192.0.2.2:500 0\n", "line 4: encoding/hex"},
	} {
		_, err := iketest.ParseTranscript([]byte(x.text))
		if got := ""; x.want == "" {
			if err != nil {
				t.Errorf("%q: %v", x.text, err)
			}
		} else if err != nil {
			if got = err.Error(); !strings.HasPrefix(got, x.want) {
				t.Errorf("%q: got %q, want %q", x.text, got, x.want)
			}
		} else {
			t.Errorf("%q: no error, want %q", x.text, x.want)
		}
	}
}
