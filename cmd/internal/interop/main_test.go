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

func TestMain(m *testing.M) {
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
