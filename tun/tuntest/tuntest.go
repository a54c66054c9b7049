// Package tuntest has wires and devices in memory, faults for them, a conformance test for
// every wire, and a relay that records what passes.
package tuntest
