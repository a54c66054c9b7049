package sockets

import (
	"context"
	"fmt"
	"io"

	"github.com/btns-go/btns/sockets/internal/control"
)

// ServeControl answers questions about the host on a Unix socket, until it is closed: what
// `btns status` asks. The socket is its owner's and root's alone.
func (st *Stack) ServeControl(path string) (io.Closer, error) {
	s, err := control.Listen(path, func(_ context.Context, r control.Request) (any, error) {
		if r.Op == "status" {
			return st.Status(), nil
		}
		return nil, fmt.Errorf("this host does not know %q", r.Op)
	})
	if err != nil {
		return nil, fmt.Errorf("sockets: %w", err)
	}
	return s, nil
}

// AskControl puts one question to the host that serves the control socket at path, and
// decodes the answer into v: "status" into a *Status.
func AskControl(ctx context.Context, path, op string, v any) error {
	return control.Call(ctx, path, control.Request{Op: op}, v)
}
