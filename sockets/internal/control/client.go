package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// RemoteError is what the running host answered instead of a value.
type RemoteError struct{ Msg string }

func (e *RemoteError) Error() string { return e.Msg }

// Call asks the host behind the socket at path once and decodes its answer into
// v, which may be nil.
func Call(ctx context.Context, path string, r Request, v any) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("control: no host answers at %s: is `btns up` running?", path)
		}
		return fmt.Errorf("control: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if _, err := c.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("control: %s: %w", path, err)
	}
	line, err := readLine(bufio.NewReader(c), maxAnswer)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("control: %s: no answer: %w", path, err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("control: %s: not an answer: %w", path, err)
	}
	if a.Error != "" {
		return &RemoteError{a.Error}
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(a.Value, v); err != nil {
		return fmt.Errorf("control: %s: not the expected answer: %w", path, err)
	}
	return nil
}
