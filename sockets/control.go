package sockets

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"time"

	"github.com/btns-go/btns/sockets/internal/control"
)

// A Control is a Unix socket where `btns status`, `events`, `initiate`, `terminate` and
// `rekey` ask about a host. It is its owner's and root's alone.
type Control struct{ s *control.Server }

// ListenControl takes the control socket at path. Who asks there waits for Serve.
func ListenControl(path string) (*Control, error) {
	s, err := control.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("sockets: %w", err)
	}
	return &Control{s}, nil
}

// Serve answers questions about a host until Close. It is called once.
func (c *Control) Serve(st *Stack) {
	c.s.Serve(func(ctx context.Context, r control.Request) (any, error) {
		name := r.Args["name"]
		switch r.Op {
		case "status":
			return st.Status(), nil
		case "events":
			return control.Stream(st.streamEvents), nil
		case "initiate":
			if d, err := time.ParseDuration(r.Args["within"]); err == nil {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, d)
				defer cancel()
			}
			return 1, st.Initiate(ctx, name)
		case "terminate":
			return st.Terminate(name)
		case "rekey":
			return st.Rekey(name)
		}
		return nil, fmt.Errorf("this host does not know %q", r.Op)
	})
}

// Close removes the socket and waits for the last answers.
func (c *Control) Close() error { return c.s.Close() }

// ServeControl is ListenControl and Serve.
func (st *Stack) ServeControl(path string) (*Control, error) {
	c, err := ListenControl(path)
	if err != nil {
		return nil, err
	}
	c.Serve(st)
	return c, nil
}

// AskControl puts one question to the host that serves the control socket at path, and
// decodes the answer into v: "status" into a *Status; "initiate", "terminate" and "rekey",
// with the name of a child or a connection, into an *int, the number of SAs it was about.
//
// The host is told of ctx's deadline, so that it can say in time what it was waiting for.
func AskControl(ctx context.Context, path, op, name string, v any) error {
	args := map[string]string{"name": name}
	if at, ok := ctx.Deadline(); ok {
		left := time.Until(at)
		args["within"] = (left - min(left/10, answerTime)).String()
	}
	return control.Call(ctx, path, control.Request{Op: op, Args: args}, v)
}

// answerTime is what a host has of a caller's time to say that it was not enough.
const answerTime = time.Second

// streamEvents sends every event until the client has enough or the host is closed.
func (st *Stack) streamEvents(ctx context.Context, send func(any) error) error {
	w := st.Watch()
	defer w.Close()
	st.log.Debug("events are watched")
	for err := send(nil); ; {
		if err != nil {
			return err
		}
		var e Event
		if e, err = w.Next(ctx); errors.Is(err, net.ErrClosed) {
			return errors.New("the host has stopped")
		} else if err == nil {
			err = send(e)
		}
	}
}

// WatchControl yields the events of the host that serves the control socket at path, from
// now on, as its Watch does. It ends with an error: the context's if that has ended, or why
// the host has no more of them.
func WatchControl(ctx context.Context, path string) iter.Seq2[Event, error] {
	return control.Watch[Event](ctx, path, control.Request{Op: "events"})
}

// Initiate sets up the child SA of that name, or the first one of the connection of that
// name, and waits until it is up or has failed.
func (st *Stack) Initiate(ctx context.Context, name string) error { return st.e.Initiate(ctx, name) }

// Terminate deletes all child SAs of a child, or all IKE SAs of a connection, by name, and
// tells the peers. What is being set up is given up. It returns how many there were.
func (st *Stack) Terminate(name string) (int, error) { return st.e.Terminate(name) }

// Rekey gives new keys to all child SAs of a child, or all IKE SAs of a connection, by
// name. It returns how many there were, or an error if there were none; Status and events
// tell what came of it.
func (st *Stack) Rekey(name string) (int, error) { return st.e.Rekey(name) }
