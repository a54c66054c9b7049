package conformance

import "strconv"

// List is a numbered list of requirements.
type List struct {
	Prefix string // "LATCH-", "BTNS-", "ADV-A" …
	Size   int
	About  string
}

func (l List) name() string { return l.Prefix + "n" }

func (l List) ids() []string {
	ids := make([]string, l.Size)
	for i := range ids {
		ids[i] = l.Prefix + strconv.Itoa(i+1)
	}
	return ids
}

// Lists are all requirements that have numbers.
func Lists() []List {
	return []List{
		{"LATCH-", 40, "RFC 5660, connection latching"},
		{"BTNS-", 14, "RFC 5386, better-than-nothing security"},
		{"ADV-A", 18, "datagram, header, payload chain"},
		{"ADV-B", 26, "IKE_SA_INIT request"},
		{"ADV-C", 11, "initiator, before authentication"},
		{"ADV-D", 25, "protected messages, IKE_AUTH, identity"},
		{"ADV-E", 12, "traffic selectors and child SAs"},
		{"ADV-F", 20, "message IDs, collisions, lifetime"},
		{"ADV-G", 10, "IKE fragmentation"},
		{"ADV-H", 7, "floods"},
		{"ADV-P", 48, "ESP, SAD, SPD"},
		{"ADV-L", 42, "latching and tokens"},
	}
}

// Claims are the requirements that this release says it meets. Each has a test that carries its
// number; a claim is added with the test, and never taken back to make a build pass.
//
// Of RFC 5660 there are tests in package latch; whole hosts are held to it in a later release, and
// claimed then.
func Claims() []string {
	return []string{
		// The PAD of RFC 5386 (ike/pad).
		"BTNS-3-10", "BTNS-12", "BTNS-14",

		// Before an IKE SA exists (ike/gate, ike/wire, tun).
		"ADV-A1-A18",
		"ADV-H1-H6",

		// IKE_SA_INIT, both roles (ike, ike/suite).
		"ADV-B1-B26",
		"ADV-C1-C11",

		// Authentication and what stands in protected messages (ike, ike/auth, ike/suite).
		"ADV-D1-D25",

		// Child SAs (ike, sockets/internal/engine).
		"ADV-E1-E12",

		// Message IDs, collisions, deletes, liveness; fragments (ike, sockets/internal/engine).
		"ADV-F1-F20",
		"ADV-G1-G10",

		// ESP, replay, selectors, policy (esp and below).
		"ADV-P1-P5", "ADV-P7-P16", "ADV-P18", "ADV-P24", "ADV-P26", "ADV-P40-P43", "ADV-P45",

		// The outer side (tun).
		"ADV-P23", "ADV-P25", "ADV-P31", "ADV-P36",

		// Pins, tokens (ike/pad, tokens).
		"ADV-L21-L23", "ADV-L25-L31",
	}
}
