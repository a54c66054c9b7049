//go:build linux

package interop_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// What all tests of this package share.
var (
	binary interop.Binary
	report interop.Report
)

// serveEnv turns the test program into a web server at the address it holds, for hosts that
// have nothing else.
const serveEnv = "BTNS_INTEROP_SERVE"

func TestMain(m *testing.M) {
	if addr := os.Getenv(serveEnv); addr != "" {
		fmt.Fprintln(os.Stderr, kernelWeb().Forever(addr))
		os.Exit(1)
	}
	code := m.Run()
	if err := report.Write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := binary.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
