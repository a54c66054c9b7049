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
func Claims() []string {
	return []string{
		// Before an IKE SA exists (ike/gate, ike/wire, tun).
		"ADV-A1", "ADV-A3-A18",
		"ADV-B1-B5", "ADV-B7", "ADV-B11", "ADV-B14-B23",
		"ADV-H1-H4", "ADV-H6",
		// Authentication (ike/auth, ike/suite).
		"ADV-D1", "ADV-D3-D5", "ADV-D10-D12", "ADV-D15", "ADV-D18",
	}
}
