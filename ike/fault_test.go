package ike_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/btns-go/btns/ike"
)

var faults = flag.Uint("fault", 0, "run with these historic mistakes switched on (see fault.go)")

// Each historic mistake, switched on, turns the test red that stands for it.
func TestFaultsAreCaught(t *testing.T) {
	if *faults != 0 || testing.Short() {
		t.Skip("not within itself, and not in a hurry")
	}
	tests := map[ike.Fault]string{
		ike.FaultEarlyChild:   "TestAuthenticButMalformed",
		ike.FaultNonceOrder:   "TestADV_F11_ROW_54_RightLoser",
		ike.FaultNoICV:        "TestADV_D1_D3_CVE_2019_10155_FlippedAndTruncated",
		ike.FaultCloseTwice:   "TestADV_F9_CVE_2023_38712_DeleteAndMore",
		ike.FaultEarlyMove:    "TestADV_F18_ROW_50_PathFollowsAuthenticFreshMessages",
		ike.FaultEachResend:   "TestADV_G6_G9_ROW_51_Replayed",
		ike.FaultFirstSeen:    "TestADV_G5_ROW_53_EveryOrder",
		ike.FaultMissing:      "TestADV_D8_D9_OmittedAndRepeated",
		ike.FaultWiden:        "TestADV_E3_SelectionsBeyondTheOffer",
		ike.FaultExecuteTwice: "TestADV_F2_F3_F5_Window",
		ike.FaultShowSPI:      "TestResponderInit",
		ike.FaultNoVerify:     "TestWrongPSK",
		ike.FaultEchoSPI:      "TestADV_F10_RekeyOfNothing",
		ike.FaultHasty:        "TestRekeyLosesNothing",
	}
	for f, name := range tests {
		t.Run(name, func(t *testing.T) {
			for _, on := range []ike.Fault{0, f} {
				cmd := exec.Command(os.Args[0], "-test.run", "^"+name+"$", "-fault", fmt.Sprint(on))
				out, err := cmd.CombinedOutput()
				red := err != nil && bytes.Contains(out, []byte("FAIL"))
				if red != (on != 0) {
					t.Errorf("fault %d: red %v\n%s", on, red, strings.TrimSpace(string(out)))
				}
			}
		})
	}
	t.Logf("%d mistakes", len(tests))
}
