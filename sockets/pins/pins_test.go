package pins

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/btns-go/btns/ike/pad"
)

func create(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pins.db")
	s, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func TestADV_L21_FirstContactPinsAndIsNeverOverwritten(t *testing.T) {
	s, path := create(t)
	if first, err := pad.CheckPin(s, "db.example", []byte("key one")); err != nil || !first {
		t.Fatalf("first contact: %v, %v", first, err)
	}
	if first, err := pad.CheckPin(s, "db.example", []byte("key one")); err != nil || first {
		t.Fatalf("second contact: %v, %v", first, err)
	}
	var other *pad.PinMismatchError
	if _, err := pad.CheckPin(s, "db.example", []byte("key two")); !errors.As(err, &other) {
		t.Fatalf("another key: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if k, err := s.Load("db.example"); err != nil || !bytes.Equal(k, []byte("key one")) {
		t.Fatalf("after reopening: %q, %v", k, err)
	}
	if err := s.Delete("db.example"); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Load("db.example"); err != nil || k != nil {
		t.Fatalf("after Delete: %q, %v", k, err)
	}
}

func TestADV_L22_TwoFirstContactsAtOnce(t *testing.T) {
	s, _ := create(t)
	var wg sync.WaitGroup
	stored := make(chan string, 8)
	for i := range 8 {
		key := []byte{'k', byte('0' + i)}
		wg.Go(func() {
			if _, loaded, err := s.LoadOrStore("x", key); err == nil && !loaded {
				stored <- string(key)
			}
		})
	}
	wg.Wait()
	close(stored)
	var winners []string
	for k := range stored {
		winners = append(winners, k)
	}
	if k, _ := s.Load("x"); len(winners) != 1 || string(k) != winners[0] {
		t.Fatalf("winners %q, pinned %q", winners, k)
	}
}

func TestADV_L23_BrokenStoresFail(t *testing.T) {
	s, path := create(t)
	if _, err := Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created over a store: %v", err)
	}
	if _, err := Open(path); err == nil {
		t.Error("two holders of one store")
	}
	if _, _, err := s.LoadOrStore("x", []byte("key")); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if _, err := s.Load("x"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := Open(path + ".missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 100, 4096} {
		broken := filepath.Join(t.TempDir(), "broken.db")
		if err := os.WriteFile(broken, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(broken); err == nil {
			t.Errorf("a store cut to %d bytes was opened", n)
			_ = s.Close()
		}
	}
}

func TestLimits(t *testing.T) {
	s, _ := create(t)
	for _, name := range []string{"", string(make([]byte, maxName+1))} {
		if _, _, err := s.LoadOrStore(name, []byte("k")); err == nil {
			t.Errorf("a name of %d bytes", len(name))
		}
	}
	for _, key := range [][]byte{nil, make([]byte, maxKey+1)} {
		if _, _, err := s.LoadOrStore("x", key); err == nil {
			t.Errorf("a key of %d bytes", len(key))
		}
	}
}
