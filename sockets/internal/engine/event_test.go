package engine

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fill sets every field of a struct to something that is not zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 5).UTC()))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(*n)}), uint16(*n))))
		return
	case error:
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.String:
		v.SetString("text " + string(rune('a'+*n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Int:
		v.SetInt(int64(*n))
	case reflect.Slice:
		v.Set(reflect.ValueOf([]string{"one", "two"}))
	default:
	}
}

func TestEventJSON(t *testing.T) {
	for _, k := range append(EventKinds(), EventUnknown) {
		for _, full := range []bool{false, true} {
			var e Event
			if full {
				var n int
				fill(reflect.ValueOf(&e).Elem(), &n)
				e.Err = errors.New("engine: why\nand why else")
			}
			e.Kind = k
			b, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var got Event
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			same := cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error()) })
			addr := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
			if d := cmp.Diff(e, got, same, addr); d != "" {
				t.Errorf("%s: %s", b, d)
			}
			if s := e.String(); strings.Contains(s, "\n") || !strings.HasPrefix(s, k.String()+": ") {
				t.Errorf("%q", s)
			}
			if kv := e.attrs(); len(kv)%2 != 0 {
				t.Errorf("%v", kv)
			}
			if !full && len(b) > 70 {
				t.Errorf("zero fields in %s", b)
			}
		}
	}
}

// Names in JSON are for programs of other people: they do not change.
func TestEventNames(t *testing.T) {
	var e Event
	var n int
	fill(reflect.ValueOf(&e).Elem(), &n)
	e.Kind, e.Err = EventIKEUpDown, errors.New("why")
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"": {"time", "kind", "up", "unauthenticated", "suppressed", "connection", "peer", "ike", "child", "request", "offers",
			"protected", "flow", "reason", "retry", "lost", "error"},
		"peer": {"local_id", "remote_id", "claimed_id", "asked_id", "auth", "anonymous"},
		"ike": {"uniqueid", "old_uniqueid", "initiator", "initiator_spi", "responder_spi", "local", "remote", "old_remote",
			"proposal"},
		"child":   {"name", "mode", "proposal", "spi_in", "spi_out", "old_spi_in", "local_ts", "remote_ts"},
		"request": {"exchange", "message_id", "sends"},
		"offers":  {"peer", "ours", "first_mismatch"},
	}
	for group, names := range want {
		var top map[string]json.RawMessage
		if err := json.Unmarshal(b, &top); err != nil {
			t.Fatal(err)
		}
		if group != "" {
			raw := top[group]
			top = nil
			if err := json.Unmarshal(raw, &top); err != nil {
				t.Fatalf("%s: %v", group, err)
			}
		}
		for _, name := range names {
			if _, ok := top[name]; !ok {
				t.Errorf("%s has no %s: %s", group, name, b)
			}
			delete(top, name)
		}
		if len(top) > 0 {
			t.Errorf("%s has %v too", group, top)
		}
	}
}

func TestEventKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range EventKinds() {
		name := k.String()
		if name == "" || seen[name] || name != strings.ToLower(name) || strings.ContainsAny(name, " _") || k.what() == "" {
			t.Errorf("kind %d is %q", k, name)
		}
		seen[name] = true
		var back EventKind
		if err := back.UnmarshalText([]byte(name)); err != nil || back != k {
			t.Errorf("%q became %v, %v", name, back, err)
		}
	}
	later := EventLost
	if err := later.UnmarshalText([]byte("of-a-newer-host")); err != nil || later != EventUnknown {
		t.Errorf("got %v, %v", later, err)
	}
	if s := EventKind(255).String(); s != "unknown" {
		t.Error(s)
	}
	for _, bad := range []string{"", "x", "-1"} {
		var s IKESPI
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is SPI %s", bad, s)
		}
	}
}

func (k EventKind) what() string { return (&Event{Kind: k}).what() }
