package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// counting answers "count" with 0, 1, 2 … and tells when a stream ends.
func counting(ended chan<- error) Handler {
	return func(_ context.Context, r Request) (any, error) {
		if r.Op != "count" {
			return nil, fmt.Errorf("unknown operation %q", r.Op)
		}
		return Stream(func(ctx context.Context, send func(any) error) (err error) {
			defer func() { ended <- err }()
			if err := send(nil); err != nil {
				return err
			}
			for i := 0; ; i++ {
				if r.Args["to"] == fmt.Sprint(i) {
					return errors.New("counted")
				}
				if err := send(i); err != nil {
					return err
				}
				if i == 3 && r.Args["to"] == "" { // then silence
					<-ctx.Done()
					return context.Cause(ctx)
				}
			}
		}), nil
	}
}

func TestStream(t *testing.T) {
	ended := make(chan error, 1)
	path := listen(t, counting(ended))
	t.Run("the server ends it", func(t *testing.T) {
		n := 0
		for v, err := range Watch[int](t.Context(), path, Request{Op: "count", Args: map[string]string{"to": "1000"}}) {
			var remote *RemoteError
			if n == 1000 && errors.As(err, &remote) && remote.Msg == "counted" {
				n = -1
				continue
			}
			if err != nil || v != n {
				t.Fatalf("got %d, %v at %d", v, err, n)
			}
			n++
		}
		if n != -1 {
			t.Errorf("it ended at %d", n)
		}
		<-ended
	})
	t.Run("the client goes", func(t *testing.T) {
		for v, err := range Watch[int](t.Context(), path, Request{Op: "count"}) {
			if err != nil || v == 3 {
				break
			}
		}
		if err := <-ended; err == nil {
			t.Error("the stream ended by itself")
		}
	})
	t.Run("the client's context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		why := errors.New("enough")
		var last error
		for v, err := range Watch[int](ctx, path, Request{Op: "count"}) {
			if v == 3 {
				cancel(why)
			}
			last = err
		}
		if !errors.Is(last, why) {
			t.Errorf("got %v", last)
		}
		<-ended
	})
	t.Run("no such stream", func(t *testing.T) {
		for _, err := range Watch[int](t.Context(), path, Request{Op: "nope"}) {
			if err == nil || !strings.Contains(err.Error(), "nope") {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("values of another kind", func(t *testing.T) {
		for _, err := range Watch[string](t.Context(), path, Request{Op: "count"}) {
			if err == nil || !strings.Contains(err.Error(), "expected") {
				t.Errorf("got %v", err)
			}
		}
		<-ended
	})
}

// A server that closes ends its streams, also one whose client reads nothing.
func TestStreamEndsWithTheServer(t *testing.T) {
	ended := make(chan error, 2)
	path := t.TempDir() + "/s"
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(counting(ended))
	deaf, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if _, err := deaf.Write([]byte(`{"op":"count","args":{"to":"-1"}}` + "\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(deaf, make([]byte, len("{}\n"))); err != nil { // its stream has begun
		t.Fatal(err)
	}
	done := make(chan error, 1)
	begun := make(chan bool)
	go func() {
		var last error
		for v, err := range Watch[int](context.Background(), path, Request{Op: "count"}) {
			if last = err; v == 3 {
				close(begun)
			}
		}
		done <- last
	}()
	<-begun
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	<-ended
	<-ended
}

// Watchers have places of their own: an operator's question is answered beside them.
func TestStreamsAreLimited(t *testing.T) {
	ended := make(chan error, maxStreams)
	path := listen(t, func(ctx context.Context, r Request) (any, error) {
		if r.Op == "ask" {
			return 1, nil
		}
		return counting(ended)(ctx, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan bool, maxStreams)
	for range maxStreams {
		go func() {
			for v, err := range Watch[int](ctx, path, Request{Op: "count"}) {
				if err == nil && v == 0 {
					begun <- true
				}
			}
		}()
	}
	for range maxStreams {
		<-begun
	}
	for _, err := range Watch[int](t.Context(), path, Request{Op: "count"}) {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxStreams)) {
			t.Errorf("one too many: %v", err)
		}
	}
	if err := Call(t.Context(), path, Request{Op: "ask"}, nil); err != nil {
		t.Error(err)
	}
	cancel()
	for range maxStreams {
		<-ended
	}
}

// What a client says into its stream ends it.
func TestStreamTakesNoRequests(t *testing.T) {
	ended := make(chan error, 1)
	path := listen(t, counting(ended))
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte(`{"op":"count"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for _, want := range []string{"{}", `{"value":0}`, `{"value":1}`, `{"value":2}`, `{"value":3}`} {
		if line, err := in.ReadString('\n'); err != nil || line != want+"\n" {
			t.Fatalf("got %q, %v; want %s", line, err, want)
		}
	}
	if _, err := c.Write([]byte(`{"op":"count"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	<-ended
	if line, err := in.ReadString('\n'); err == nil {
		t.Errorf("got %q", line)
	}
}
