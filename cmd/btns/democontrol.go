package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/btns-go/btns/tun"
)

// controlPatience is how long a datagram may take through loopback, and a relay on a busy
// machine.
const controlPatience = 20 * time.Second

// callControl sends a text in clear over a wire that no host has taken yet, and returns
// what comes back.
func callControl(w tun.Wire, to netip.AddrPort, text string) (string, error) {
	if err := sendClear(w, tun.Path{Remote: to}, text); err != nil {
		return "", err
	}
	_, got, err := awaitClear(w)
	return got, err
}

// answerControl sends back what comes.
func answerControl(w tun.Wire) (string, error) {
	path, got, err := awaitClear(w)
	if err != nil {
		return "", err
	}
	return got, sendClear(w, path, got)
}

// sendClear sends the text as a datagram of its own. To the wire that is ESP: it is no IKE.
func sendClear(w tun.Wire, path tun.Path, text string) error {
	buf := append(make([]byte, tun.Headroom), text...)
	if _, err := w.Send([]tun.Packet{{Buf: buf, Off: tun.Headroom, Len: len(text), Path: path, Kind: tun.KindESP}}); err != nil {
		return fmt.Errorf("control transfer: %w", err)
	}
	return nil
}

func awaitClear(w tun.Wire) (tun.Path, string, error) {
	late := time.AfterFunc(controlPatience, func() { _ = w.Close() })
	defer late.Stop()
	in, err := tun.NewBatch(1, 0).Receive(w)
	switch {
	case errors.Is(err, net.ErrClosed):
		return tun.Path{}, "", fmt.Errorf("the control transfer did not arrive within %s", controlPatience)
	case err != nil:
		return tun.Path{}, "", fmt.Errorf("control transfer: %w", err)
	case len(in) == 0:
		return tun.Path{}, "", errors.New("control transfer: received nothing")
	}
	return in[0].Path, string(in[0].Data()), nil
}
