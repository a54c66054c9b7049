package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/tokens"
	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/udp"
)

// clientResult is what the client saw.
type clientResult struct {
	held
	Answer string `json:"answer"`
	Bytes  int    `json:"bytes"`
	Nanos  int64  `json:"nanos"`
}

// demoHostCmd is one of the demo's two processes.
func demoHostCmd() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use: "demo-host", Hidden: true, Args: cobra.RangeArgs(3, 4),
		RunE: func(cmd *cobra.Command, args []string) error {
			log := slog.New(slog.DiscardHandler)
			if verbose {
				log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", args[0])
			}
			h := &demoHost{out: json.NewEncoder(cmd.OutOrStdout()), in: bufio.NewScanner(cmd.InOrStdin()), log: log, secret: args[1], control: args[2]}
			err := h.run(cmd.Context(), args[0], args[3:])
			if err != nil {
				_ = h.out.Encode(map[string]string{"error": err.Error()})
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log at debug level")
	return cmd
}

// A demoHost says where its socket is, what came in clear, who it is, what it saw of the
// transfer, and how its SAs ended. The end of its input ends it.
type demoHost struct {
	in      *bufio.Scanner
	out     *json.Encoder
	log     *slog.Logger
	secret  string
	control string
}

func (h *demoHost) tell(v any) error { return h.out.Encode(map[string]any{"value": v}) }

func (h *demoHost) run(ctx context.Context, role string, args []string) error {
	var relay netip.AddrPort
	conn := sockets.Connection{Name: "anybody"}
	if role == "client" && len(args) == 1 {
		conn = sockets.Connection{Name: "server", RemoteAddrs: args}
		var err error
		if relay, err = netip.ParseAddrPort(args[0]); err != nil {
			return err
		}
	} else if role != "server" || len(args) != 0 {
		return errors.New("demo-host: not for use by hand")
	}
	wire, err := udp.Listen(udp.Config{Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)}})
	if err != nil {
		return err
	}
	st, err := h.start(wire, relay, sockets.Config{Name: role, Logger: h.log, Wire: wire, Connections: []sockets.Connection{conn}})
	if err != nil {
		return errors.Join(err, wire.Close())
	}
	events := st.Watch()
	if role == "server" {
		err = h.serve(ctx, st)
	} else {
		err = h.call(ctx, st)
	}
	if err := errors.Join(err, st.Close()); err != nil {
		return err
	}
	var end hostEnd
	for {
		e, err := events.Next(ctx)
		if errors.Is(err, net.ErrClosed) {
			return h.tell(end)
		}
		if err != nil {
			return err
		}
		if e.Kind == sockets.EventIKEUpDown || e.Kind == sockets.EventChildUpDown || e.Kind == sockets.EventLost {
			end.Events = append(end.Events, e)
		}
	}
}

// start has the wire carry the control transfer, and gives it to a host.
func (h *demoHost) start(wire tun.Wire, relay netip.AddrPort, cfg sockets.Config) (st *sockets.Stack, err error) {
	if err := h.tell(wire.LocalAddr(netip.Addr{})[0]); err != nil {
		return nil, err
	}
	var got string
	if relay.IsValid() {
		got, err = callControl(wire, relay, h.control)
	} else {
		got, err = answerControl(wire)
	}
	if err == nil {
		err = h.tell(got)
	}
	if err != nil {
		return nil, err
	}
	if st, err = sockets.New(cfg); err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKIXPublicKey(st.PublicKey())
	if err == nil {
		err = h.tell(hostUp{Key: key, Address: st.Addrs()[0]})
	}
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

// hold is what the end of a connection knows of it.
func hold(info tokens.Info, hash []byte) held {
	return held{
		Hash: hex.EncodeToString(hash), Token: info.String(), Method: info.Method.String(), Privacy: info.Integrity && info.Confidentiality,
		Local: info.Local.Fingerprint(), Remote: info.Remote.Fingerprint(), UDP: info.OuterLocal, SPIIn: info.SPIIn, SPIOut: info.SPIOut,
	}
}

// serve answers HTTP until its input ends. Each line of input asks what the server has seen of
// a transfer. The client may have all of it, and be ahead of the handler, which is not done.
func (h *demoHost) serve(ctx context.Context, st *sockets.Stack) error {
	ln, err := st.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	transfers := make(chan held, 1)
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
		var seen held
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
		seen = hold(info, sum.Sum(nil))
	})
	srv := &http.Server{Handler: mux, ConnContext: sockets.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	for err == nil && h.in.Scan() {
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

// call is the client's part: its input's first line names the server and the size, and it
// stays until there is no more.
func (h *demoHost) call(ctx context.Context, st *sockets.Stack) error {
	var server string
	var mb int
	if !h.in.Scan() {
		return errors.Join(errors.New("told nothing to do"), h.in.Err())
	}
	if _, err := fmt.Sscan(h.in.Text(), &server, &mb); err != nil {
		return fmt.Errorf("told to do %q: %w", h.in.Text(), err)
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
	res.held = hold(info, sum.Sum(nil))
	if err := h.tell(res); err != nil {
		return err
	}
	for h.in.Scan() {
	}
	return h.in.Err()
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
