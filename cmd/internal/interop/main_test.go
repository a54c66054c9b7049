//go:build linux

package interop_test

import (
	"flag"
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
	if os.Getenv("BTNS_INTEROP") == "require" && flag.Lookup("test.run").Value.String() == "" {
		for _, s := range report.Lacking(scenarios()) {
			fmt.Fprintln(os.Stderr, "no test of this scenario:", s)
			code = 1
		}
	}
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

// scenarios are what was promised to be shown with peers that nobody here wrote.
func scenarios() (all []string) {
	for _, s := range []string{
		"PSK", "raw Ed25519 keys", "raw ECDSA P-256 keys", "wrong PSK",
		"rekey: we rekey the child SA", "rekey: we rekey the child SA with PFS", "rekey: charon rekeys the child SA with PFS",
		"rekey: both rekey the child SA", "rekey: we rekey the IKE SA", "rekey: charon rekeys the IKE SA",
		"rekey: both rekey the IKE SA", "charon rekeys the child SA under traffic",
		"charon is killed under traffic and returns", "our liveness checks find it dead",
		"childless: ", "on demand", "fragments of IKE messages", "both initiate at the same moment",
		"charon: delete the child SA, then the IKE SA", "we: delete the child SA, then the IKE SA",
		"charon deletes the child SA", "we delete the child SA", "tshark takes --keylog",
	} {
		all = append(all, "initiator: "+s, "responder: "+s)
	}
	return append(all,
		"initiator: reauthentication: we do", "responder: reauthentication: charon does", "responder: reauthentication: we ask for it",
		"initiator: cookies: charon wants one of us", "responder: cookies: we want one of charon",
		"responder: charon is killed and comes again", "initiator: btns is killed and comes again", "responder: btns is killed and returns",
		"initiator: netstack over TUN, CAP_NET_ADMIN alone", "tunnel mode: HTTP over native ESP, netstack over TUN",
		"initiator: up in an empty read-only root", "both: demo in an empty read-only root")
}
