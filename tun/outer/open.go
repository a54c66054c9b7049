package outer

import (
	"errors"
	"fmt"
	"io/fs"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// defaultMTU is Ethernet's.
const defaultMTU = 1500

// Open makes the TUN device name, or attaches to it if it exists, and sets it up if the
// system and our privileges allow that. Addresses and routes on the kernel's side are left
// to whoever owns the host: the kernel needs a route to the wire's addresses through the
// device. An MTU of 0 means 1500.
func Open(name string, mtu int) (wgtun.Device, error) {
	if mtu <= 0 {
		mtu = defaultMTU
	}
	dev, err := wgtun.CreateTUN(name, mtu)
	if err != nil {
		return nil, &OpenError{Name: name, Err: err}
	}
	if actual, err := dev.Name(); err == nil {
		name = actual
	}
	if err := setUp(name); err != nil {
		return nil, &OpenError{Name: name, Err: errors.Join(err, dev.Close())}
	}
	return dev, nil
}

// An OpenError says why a TUN device could not be opened.
type OpenError struct {
	Name string
	Err  error
}

// Error returns one sentence.
func (e *OpenError) Error() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("outer: cannot open TUN device %q: this system has none (on Linux, /dev/net/tun)", e.Name)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("outer: no permission to open TUN device %q (on Linux, CAP_NET_ADMIN)", e.Name)
	}
	return fmt.Sprintf("outer: cannot open TUN device %q: %v", e.Name, e.Err)
}

// Unwrap returns the operating system's error.
func (e *OpenError) Unwrap() error { return e.Err }
