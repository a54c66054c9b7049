package arch

// This file is policy. See the package comment before changing a line of it.

// may is one row of the import table: what the code of a package may import of ours.
type may struct {
	pkg     string
	imports []string // patterns; "folder/..." is the folder and all below
	never   []string // patterns taken out of imports
}

// importTable has a row for every package; one without a row may not exist. The first row that
// matches counts.
func importTable() []may {
	return []may{
		{pkg: "esp/ts"},
		{pkg: "esp/replay"},
		{pkg: "esp/sad"},
		{pkg: "esp/spd", imports: []string{"esp/ts"}},
		{pkg: "esp", imports: []string{"esp/replay"}},

		{pkg: "ike/wire"},
		{pkg: "ike/suite", imports: []string{"ike/wire"}},
		{pkg: "ike/auth", imports: []string{"ike/wire", "ike/suite"}},
		{pkg: "ike/pad", imports: []string{"ike/wire", "ike/auth", "esp/ts"}},
		{pkg: "ike/gate", imports: []string{"ike/wire"}},
		{pkg: "ike/iketest", imports: []string{"ike/...", "esp", "esp/ts"}},
		{pkg: "ike", imports: []string{"ike/wire", "ike/suite", "esp/ts"}},

		{pkg: "tokens", imports: []string{"esp/ts"}},
		{pkg: "latch", imports: []string{"esp/ts"}},
		{pkg: "netstack", imports: []string{"esp/ts"}},

		{pkg: "tun"},
		{pkg: "tun/udp", imports: []string{"tun"}},
		{pkg: "tun/outer", imports: []string{"tun"}},
		{pkg: "tun/raw", imports: []string{"tun"}},
		{pkg: "tun/tuntest", imports: []string{"tun/..."}},

		{pkg: "sockets/internal/hold", imports: []string{"esp/ts"}},
		{pkg: "sockets/internal/control"},
		{pkg: "sockets/internal/datapath", imports: []string{"esp/...", "tun", "netstack", "latch", "sockets/internal/hold"}},
		{pkg: "sockets/internal/engine",
			imports: []string{"esp/...", "ike/...", "tun/...", "netstack", "latch", "tokens", "sockets/internal/datapath", "sockets/internal/hold"},
			never:   []string{"ike/iketest", "tun/tuntest"}},
		{pkg: "sockets/pins", imports: []string{"ike/pad"}},
		{pkg: "sockets/config", imports: []string{"sockets", "esp/...", "ike/wire", "ike/suite", "ike/auth", "ike/pad", "tun/..."},
			never: []string{"tun/tuntest"}},
		// tun/udp, because the zero sockets.Config opens a UDP socket (DESIGN, Section 6).
		{pkg: "sockets", imports: []string{"sockets/internal/...", "tokens", "latch", "netstack", "esp/...", "ike/pad", "ike/auth", "ike/suite", "ike/wire", "tun", "tun/udp"}},

		{pkg: "bench/...", imports: []string{"..."}, never: []string{"cmd/..."}},
		{pkg: "cmd/...", imports: []string{"..."}},
	}
}

// testDoubles may be imported by tests of any package.
func testDoubles() []string { return []string{"ike/iketest", "tun/tuntest", "esp/ts"} }

// testRooms says what tests of a room may import besides: those of sockets set up whole hosts.
func testRooms() map[string][]string {
	return map[string][]string{
		"sockets": {"esp/...", "ike/...", "tun/...", "netstack", "latch", "tokens"},
	}
}

// outside says who alone may import a foreign package.
type outside struct {
	prefix string
	only   []string
}

func outsideTable() []outside {
	return []outside{
		{"gvisor.dev", []string{"netstack"}},
		{"golang.org/x/sys/unix", []string{"tun/...", "sockets/internal/control", "cmd/internal/..."}},
		{"golang.org/x/sys/windows", []string{"tun/...", "sockets/internal/control"}},
		{"github.com/spf13/cobra", []string{"cmd/..."}},
		{"github.com/goccy/go-yaml", []string{"sockets/config", "cmd/..."}},
	}
}

// pure packages get time, randomness and packets as arguments. Their code starts no goroutine,
// reads no clock and imports none of pureNever.
func pure() []string {
	return []string{
		"esp", "esp/ts", "esp/replay", "esp/spd", "esp/sad",
		"ike", "ike/wire", "ike/suite", "ike/gate", "ike/pad", "ike/auth", "latch", "tokens",
	}
}

func pureNever() []string { return []string{"os/exec", "syscall", "net/http"} }

// secretive packages draw what an attacker must not guess; math/rand is not for that.
func secretive() []string { return []string{"ike/...", "esp", "esp/sad", "tokens", "sockets/pins"} }

// pureOS may import os: key files are read where keys are parsed.
func pureOS() []string { return []string{"ike/auth"} }

// clockCalls are what a pure package does not call in package time.
func clockCalls() []string {
	return []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
}

// topFolders are DESIGN's nine; topFiles what else stands at the top level, besides dotfiles.
func topFolders() []string {
	return []string{"bench", "cmd", "esp", "ike", "latch", "netstack", "sockets", "tokens", "tun"}
}

func topFiles() []string { return []string{"LICENSE", "README.md", "go.mod", "go.sum"} }

// folders of DESIGN, Section 2; each exists and holds Go files.
func folders() []string {
	return []string{
		"bench", "cmd/btns", "cmd/internal/arch", "cmd/internal/conformance", "cmd/internal/interop",
		"esp", "esp/replay", "esp/sad", "esp/spd", "esp/ts",
		"ike", "ike/auth", "ike/gate", "ike/iketest", "ike/pad", "ike/suite", "ike/wire",
		"latch", "netstack", "sockets", "sockets/config", "sockets/internal/control",
		"sockets/internal/datapath", "sockets/internal/engine", "sockets/internal/hold", "sockets/pins",
		"tokens", "tun", "tun/outer", "tun/raw", "tun/tuntest", "tun/udp",
	}
}

// maxLines is the longest Go file.
const maxLines = 1000

// maySleep lists test files that call time.Sleep on the real clock, with the reason. Files that use
// testing/synctest need no row: their sleeps are virtual.
func maySleep() map[string]string {
	return map[string]string{
		"cmd/internal/interop/...": "waits for other programs",
	}
}

// mayVary lists packages with package variables that change, with the reason.
func mayVary() map[string]string {
	return map[string]string{
		"cmd/internal/interop/...": "names of namespaces and guests are the machine's: unique per process",
	}
}
