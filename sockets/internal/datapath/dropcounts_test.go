package datapath

import (
	"encoding/json"
	"testing"
)

// What a host's control socket writes, the command that asks it must be able to read.
func TestDropCountsRoundTrip(t *testing.T) {
	var in DropCounts
	for i := range in {
		in[i] = uint64(i % 5)
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out DropCounts
	out[0] = 99 // overwritten
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if in != out {
		t.Errorf("got %v, want %v", out, in)
	}
	if err := json.Unmarshal([]byte(`{"a reason of tomorrow": 3}`), &out); err != nil || out.Total() != 0 {
		t.Errorf("unknown reason: %v, total %d", err, out.Total())
	}
	if err := json.Unmarshal([]byte(`[1]`), &out); err == nil {
		t.Error("an array was accepted")
	}
}
