package ts

import "testing"

// Extension headers of each kind that can repeat, to the limit and beyond.
func TestCVE_2026_89783_NestingDepth(t *testing.T) {
	for _, kind := range []uint8{43, 60} {
		for n := range MaxExtHeaders + 3 {
			chain := make([]ext, n)
			for i := range chain {
				chain[i] = hdr(kind, 0)
			}
			f, info, ok := ParseFlow(packet6(6, portBytes(1, 2), chain...))
			if ok != (n <= MaxExtHeaders) {
				t.Errorf("%d headers of kind %d: %v", n, kind, ok)
			}
			if ok && (info.HeaderLen != 40+8*n || f.SrcPort() != 1 || f.DstPort() != 2) {
				t.Errorf("%d headers of kind %d: %+v", n, kind, info)
			}
			// The limit counts a fragment header as well.
			if _, _, ok := ParseFlow(packet6(6, portBytes(1, 2), append(chain, frag6(0, false, 1))...)); ok != (n < MaxExtHeaders) {
				t.Errorf("%d headers of kind %d and a fragment header: %v", n, kind, ok)
			}
		}
	}
}
