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
			f, err := config.Load(file, log)
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
// device is everybody's: its mode is left alone.
func openKeyLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
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

// run starts everything the file asks for, or nothing, and stops it all when ctx ends.
func (h *host) run(ctx context.Context) (err error) {
	if err := knownHosts(ctx, h.file, h.log); err != nil {
		return err
	}
	cfg := h.file.Host
	cfg.Logger, cfg.KeyLog = h.log, h.keyLog
	wire, err := h.file.Wire.Open()
	if err != nil {
		return err
	}
	if wire != nil {
		cfg.Wire = wire
	}
	warnings, err := h.file.Check()
	if err != nil {
		return err
	}
	for _, w := range warnings {
		h.log.Warn("configuration", "warning", w)
	}
	st, err := sockets.New(cfg)
	if err != nil {
		if wire != nil {
			err = errors.Join(err, wire.Close())
		}
		return h.file.Locate(err)
	}
	var wg sync.WaitGroup
	var closers []io.Closer
	var ctl io.Closer
	defer func() {
		for _, c := range closers {
			_ = c.Close()
		}
		if cerr := st.Close(); cerr != nil && err == nil {
			h.log.Warn("stopping", "error", cerr)
		}
		if ctl != nil { // last, so that who watches sees the end
			_ = ctl.Close()
		}
		wg.Wait()
		h.log.Info("stopped")
	}()

	for _, f := range h.file.Forwards {
		c, err := forward(f, outward(st), h.log, &wg)
		if err != nil {
			return err
		}
		closers = append(closers, c)
	}
	for _, f := range h.file.Expose {
		c, err := forward(f, inward(st), h.log, &wg)
		if err != nil {
			return err
		}
		closers = append(closers, c)
	}
	path := h.file.Control
	if path == "" {
		path = defaultControl()
	}
	switch ctl, err = st.ServeControl(path); {
	case err == nil:
	case h.file.Control != "":
		return err
	default:
		// Nobody asked for it, and a read-only root has no place for it.
		h.log.Warn("no control socket", "error", err)
		path = "none"
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
