package raw_test

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/btns-go/btns/tun"
	"github.com/btns-go/btns/tun/raw"
	"github.com/btns-go/btns/tun/tuntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestListenErrors(t *testing.T) {
	var le *raw.ListenError
	if _, err := raw.Listen(raw.Config{}); !errors.As(err, &le) {
		t.Error(err)
	}
	for _, c := range []struct {
		err  error
		says string
	}{
		{fs.ErrPermission, "raw: no permission for raw ESP sockets (CAP_NET_RAW); the UDP wire needs none"},
		{errors.ErrUnsupported, "raw: this system has no raw ESP sockets for us; use the UDP wire or a TUN device"},
		{errors.New("busy"), "raw: cannot open raw ESP sockets: busy"},
	} {
		e := &raw.ListenError{Err: os.NewSyscallError("socket", c.err)}
		if c.err.Error() == "busy" {
			e.Err = c.err
		}
		if e.Error() != c.says || !errors.Is(e, c.err) {
			t.Error(e)
		}
	}
	if runtime.GOOS == "linux" {
		return
	}
	a, b := tuntest.Pair()
	defer a.Close()
	defer b.Close()
	if _, err := raw.Listen(raw.Config{UDP: a}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// TestUDPGone: when the UDP wire ends, the raw one does.
func TestUDPGone(t *testing.T) {
	a, b := tuntest.Pair()
	defer b.Close()
	w, err := raw.Listen(raw.Config{UDP: a, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Skip(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tun.NewBatch(1, 0).Receive(w); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := w.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
