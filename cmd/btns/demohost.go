package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/tokens"
)

// hostUp is a demo host's first message.
type hostUp struct {
	Fingerprint string `json:"fingerprint"`
	Address     string `json:"address"`
	UDP         string `json:"udp"`
}

// clientResult is what the client saw.
type clientResult struct {
	Answer    string `json:"answer"`
	Bytes     int    `json:"bytes"`
	Nanos     int64  `json:"nanos"`
	Hash      string `json:"hash"`
	Token     string `json:"token"`
	RemoteKey string `json:"remote_key"`
}

// serverResult is what the server saw.
type serverResult struct {
	Hash      string `json:"hash"`
	Token     string `json:"token"`
	RemoteKey string `json:"remote_key"`
}

// demoHostCmd is one of the demo's two processes.
func demoHostCmd() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use: "demo-host", Hidden: true, Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			log := slog.New(slog.DiscardHandler)
			if verbose {
				log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", args[0])
			}
			h := &demoHost{out: json.NewEncoder(cmd.OutOrStdout()), in: cmd.InOrStdin(), log: log, secret: args[1]}
			err := h.run(cmd.Context(), args[0], args[2:])
			if err != nil {
				_ = h.out.Encode(map[string]string{"error": err.Error()})
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log at debug level")
	return cmd
}

type demoHost struct {
	in     io.Reader
	out    *json.Encoder
	log    *slog.Logger
	secret string
}

func (h *demoHost) tell(v any) error { return h.out.Encode(map[string]any{"value": v}) }

func (h *demoHost) run(ctx context.Context, role string, args []string) error {
	cfg := sockets.Config{Name: role, Logger: h.log, Listen: []string{"127.0.0.1:0"}}
	switch {
	case role == "server" && len(args) == 0:
		cfg.Connections = []sockets.Connection{{Name: "anybody"}}
	case role == "client" && len(args) == 3:
		cfg.Connections = []sockets.Connection{{Name: "server", RemoteAddrs: []string{args[0]}}}
	default:
		return fmt.Errorf("demo-host: not for use by hand")
	}
	st, err := sockets.New(cfg)
	if err != nil {
		return err
	}
	err = h.tell(hostUp{Fingerprint: sockets.Fingerprint(st.PublicKey()), Address: st.Addrs()[0].String(), UDP: st.LocalAddr().String()})
	if err == nil && role == "server" {
		err = h.serve(ctx, st)
	} else if err == nil {
		err = h.call(ctx, st, args[1], args[2])
	}
	if cerr := st.Close(); err == nil {
		err = cerr
	}
	return err
}

// serve answers HTTP until its input ends. Each line of input asks what the server has seen of
// a transfer. The client may have all of it, and be ahead of the handler, which is not done.
func (h *demoHost) serve(ctx context.Context, st *sockets.Stack) error {
	ln, err := st.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	transfers := make(chan serverResult, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /whoami", func(w http.ResponseWriter, r *http.Request) {
		pt, err := sockets.PTokenFromContext(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		info, err := pt.Info()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "you are %s", info.Remote.Fingerprint())
	})
	mux.HandleFunc("GET /transfer", func(w http.ResponseWriter, r *http.Request) {
		pt, err := sockets.PTokenFromContext(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		n, _ := strconv.Atoi(r.URL.Query().Get("bytes"))
		sum := sha256.New()
		var seen serverResult
		defer func() { transfers <- seen }()
		w.Header().Set("Content-Length", strconv.Itoa(n))
		for src := h.text(n); ; {
			b := src()
			if len(b) == 0 {
				break
			}
			sum.Write(b)
			if _, err := w.Write(b); err != nil {
				h.log.Warn("transfer", "error", err)
				return
			}
		}
		info, err := pt.Info()
		if err != nil {
			h.log.Warn("token", "error", err)
			return
		}
		seen = serverResult{Hash: hex.EncodeToString(sum.Sum(nil)), Token: info.String(), RemoteKey: info.Remote.Fingerprint()}
	})
	srv := &http.Server{Handler: mux, ConnContext: sockets.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	sc := bufio.NewScanner(h.in)
	for err == nil && sc.Scan() {
		select {
		case seen := <-transfers:
			err = h.tell(seen)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	_ = srv.Close()
	<-done
	return err
}

// text gives n bytes of plaintext in which the secret stands again and again.
func (h *demoHost) text(n int) func() []byte {
	block := make([]byte, 0, 64<<10)
	for i := 0; len(block) < 60<<10; i++ {
		block = fmt.Appendf(block, "%s line %d\n", h.secret, i)
	}
	return func() []byte {
		b := block[:min(n, len(block))]
		n -= len(b)
		return b
	}
}

// call is the client's part.
func (h *demoHost) call(ctx context.Context, st *sockets.Stack, server, megabytes string) error {
	mb, err := strconv.Atoi(megabytes)
	if err != nil || mb < 1 {
		return fmt.Errorf("--megabytes must be 1 or more")
	}
	var last net.Conn
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := st.DialContext(ctx, network, addr)
		if err == nil {
			last = c
		}
		return c, err
	}}}
	defer client.CloseIdleConnections()
	base := "http://" + net.JoinHostPort(server, "80")

	var res clientResult
	answer, err := get(ctx, client, base+"/whoami", func(r io.Reader) error {
		b, err := io.ReadAll(io.LimitReader(r, 4<<10))
		res.Answer = string(b)
		return err
	})
	if err != nil {
		return err
	}
	if answer != http.StatusOK {
		return fmt.Errorf("the server answered %d: %s", answer, res.Answer)
	}
	sum := sha256.New()
	start := time.Now()
	if _, err := get(ctx, client, base+"/transfer?bytes="+strconv.Itoa(mb<<20), func(r io.Reader) error {
		buf := make([]byte, 256<<10)
		n, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{r}, buf)
		res.Bytes = int(n)
		return err
	}); err != nil {
		return err
	}
	res.Nanos = time.Since(start).Nanoseconds()
	res.Hash = hex.EncodeToString(sum.Sum(nil))
	if res.Bytes != mb<<20 {
		return fmt.Errorf("received %d bytes of %d", res.Bytes, mb<<20)
	}
	var pt *tokens.PToken
	if pt, err = sockets.PTokenFrom(last); err != nil {
		return err
	}
	info, err := pt.Info()
	if err != nil {
		return err
	}
	res.Token, res.RemoteKey = info.String(), info.Remote.Fingerprint()
	if err := h.tell(res); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, h.in) // stay until told to end
	return err
}

func get(ctx context.Context, c *http.Client, url string, read func(io.Reader) error) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, read(resp.Body)
}
