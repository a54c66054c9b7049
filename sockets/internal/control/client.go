package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"syscall"
)

// RemoteError is what the running host answered instead of a value.
type RemoteError struct{ Msg string }

func (e *RemoteError) Error() string { return e.Msg }

// ErrGone says that the host closed the socket, as it does when it stops.
var ErrGone = errors.New("control: the host has closed the control socket")

// A client is one connection to a host.
type client struct {
	path string
	c    net.Conn
	in   *bufio.Reader
	stop func() bool
}

// ask connects and sends a request. The connection closes when ctx ends.
func ask(ctx context.Context, path string, r Request) (*client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("control: no host answers at %s: is `btns up` running?", path)
		}
		return nil, fmt.Errorf("control: %w", err)
	}
	cl := &client{path: path, c: c, in: bufio.NewReader(c), stop: context.AfterFunc(ctx, func() { _ = c.Close() })}
	b, err := json.Marshal(r)
	if err == nil {
		_, err = c.Write(append(b, '\n'))
	}
	if err != nil {
		cl.close()
		return nil, fmt.Errorf("control: %s: %w", path, err)
	}
	return cl, nil
}

func (cl *client) close() {
	cl.stop()
	_ = cl.c.Close()
}

// next reads one answer. An error of the socket is ctx's if that has ended.
func (cl *client) next(ctx context.Context) (a answer, err error) {
	line, err := readLine(cl.in, maxAnswer)
	switch {
	case ctx.Err() != nil:
		return a, context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return a, fmt.Errorf("%w at %s", ErrGone, cl.path)
	case err != nil:
		return a, fmt.Errorf("control: %s: no answer: %w", cl.path, err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("control: %s: not an answer: %w", cl.path, err)
	}
	if a.Error != "" {
		return a, &RemoteError{a.Error}
	}
	return a, nil
}

func (cl *client) decode(a answer, v any) error {
	if err := json.Unmarshal(a.Value, v); err != nil {
		return fmt.Errorf("control: %s: not the expected answer: %w", cl.path, err)
	}
	return nil
}

// Call asks the host behind the socket at path once and decodes its answer into
// v, which may be nil.
func Call(ctx context.Context, path string, r Request, v any) error {
	cl, err := ask(ctx, path, r)
	if err != nil {
		return err
	}
	defer cl.close()
	a, err := cl.next(ctx)
	if err != nil || v == nil {
		return err
	}
	return cl.decode(a, v)
}

// Watch asks for a stream and yields its values. It ends with an error, the
// context's if that has ended.
func Watch[T any](ctx context.Context, path string, r Request) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		cl, err := ask(ctx, path, r)
		if err != nil {
			yield(none, err)
			return
		}
		defer cl.close()
		for {
			a, err := cl.next(ctx)
			if err == nil && len(a.Value) == 0 {
				continue // the stream has begun
			}
			var v T
			if err == nil {
				err = cl.decode(a, &v)
			}
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}
