package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/sockets/config"
)

func upCmd() *cobra.Command {
	var file, keyLog, socket string
	var verbose bool
	cmd := &cobra.Command{
		Use: "up -c FILE", Short: "Run a host until it is stopped", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := new(slog.LevelVar)
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			f, err := load(cmd.Context(), file, log)
			if err != nil {
				return err
			}
			level.Set(f.LogLevel)
			if verbose {
				level.Set(slog.LevelDebug)
			}
			if socket != "" {
				f.Control = socket
			}
			h := &host{file: f, log: log}
			if keyLog != "" {
				w, err := openKeyLog(keyLog)
				if err != nil {
					return fmt.Errorf("key log: %w", err)
				}
				defer w.Close()
				log.Warn("keys are written to a file: who reads it reads the traffic", "file", keyLog)
				h.keyLog = w
			}
			return exitQuietly(cmd.Context(), h.run(cmd.Context()))
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&keyLog, "keylog", "", "write the keys of all SAs to this file, one tshark -o argument a line (Wireshark 4.0 cannot read ChaCha20-Poly1305, nor check ICVs with ESN)")
	cmd.Flags().StringVar(&socket, "control", "", "control socket (default: in the runtime directory)")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log at debug level")
	return cmd
}

// openKeyLog opens a file that only its owner may read, whatever its mode was. A pipe or a
// device is everybody's: its mode is left alone. A pipe's reader has to be there first,
// nobody waits for it.
func openKeyLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("nobody reads from %s", path)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Mode().IsRegular() {
		err = f.Chmod(0o600)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// A host is one running configuration.
type host struct {
	file   *config.File
	log    *slog.Logger
	keyLog io.Writer
}

// run starts everything the file asks for, or nothing, and stops it all when ctx ends. What
// may be refused is taken before the host starts: peers hear nothing of a start that fails.
func (h *host) run(ctx context.Context) (err error) {
	warnings, err := h.file.Check()
	if err != nil {
		return err
	}
	for _, w := range warnings {
		h.log.Warn("configuration", "warning", w)
	}
	if err := knownHosts(ctx, h.file, h.log); err != nil {
		return err
	}
	forwards, err := h.take("forwards", h.file.Forwards, machine())
	defer closeAll(forwards)
	if err != nil {
		return err
	}
	ctl, path, err := h.control()
	if err != nil {
		return err
	}
	if ctl != nil {
		defer ctl.Close() // after the host, so that who watches sees the end
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	st, err := h.start()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer func() {
		closeAll(forwards)
		if cerr := st.CloseWith(err); cerr != nil && err == nil {
			h.log.Warn("stopping", "error", cerr)
		}
		wg.Wait()
		h.log.Info("stopped")
	}()
	exposed, err := h.take("expose", h.file.Expose, tunnels(st))
	defer closeAll(exposed)
	if err != nil {
		return err
	}
	for _, f := range forwards {
		f.serve(tunnels(st), &wg)
	}
	for _, f := range exposed {
		f.serve(machine(), &wg)
	}
	if ctl != nil {
		ctl.Serve(st)
	}
	if cmd := h.file.Wire.Routes(); cmd != "" {
		h.log.Info("only what the kernel routes to the device arrives, and only if the network routes it here", "device", h.file.Wire.TUN, "run", cmd)
	}
	h.log.Info("up", "listen", st.LocalAddr().String(), "addresses", fmt.Sprint(st.Addrs()),
		"key", sockets.Fingerprint(st.PublicKey()), "control", path)
	select {
	case <-ctx.Done():
		h.log.Info("stopping")
		return nil
	case <-st.Done():
		return st.Close()
	}
}

// take takes the ports of all forwards of a kind, or says where in the file the one stands
// that cannot be had. Those it has are the caller's in any case.
func (h *host) take(key string, all []config.Forward, from side) ([]*forwarder, error) {
	var out []*forwarder
	for i, f := range all {
		fw, err := take(f, from, h.log)
		if err != nil {
			return out, h.file.Locate(&sockets.ConfigError{Path: fmt.Sprintf("%s[%d].listen", key, i), Err: err})
		}
		out = append(out, fw)
	}
	return out, nil
}

func closeAll(fs []*forwarder) {
	for _, f := range fs {
		_ = f.Close()
	}
}

// control takes the control socket, nil where nobody asked for one and there is no place
// for it, as with a read-only root.
func (h *host) control() (ctl *sockets.Control, path string, err error) {
	if path = h.file.Control; path == "" {
		path = defaultControl()
	}
	ctl, err = sockets.ListenControl(path)
	if err != nil && h.file.Control == "" {
		h.log.Warn("no control socket", "error", err)
		return nil, "none", nil
	}
	return ctl, path, err
}

// start starts the host itself.
func (h *host) start() (*sockets.Stack, error) {
	cfg := h.file.Host
	cfg.Logger, cfg.KeyLog = h.log, h.keyLog
	wire, err := h.file.Wire.Open()
	if err != nil {
		return nil, err
	}
	if wire != nil {
		cfg.Wire = wire
	}
	st, err := sockets.New(cfg)
	if err != nil {
		if wire != nil {
			err = errors.Join(err, wire.Close())
		}
		return nil, h.file.Locate(err)
	}
	return st, nil
}

// defaultControl is the one host's socket in the runtime directory.
func defaultControl() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "btns", "control")
	}
	if os.Geteuid() == 0 {
		return "/run/btns/control"
	}
	return filepath.Join(os.TempDir(), "btns-"+strconv.Itoa(os.Geteuid()), "control")
}
