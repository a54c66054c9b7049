package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/tun/tuntest"
)

func TestDemo(t *testing.T) {
	pcap := filepath.Join(t.TempDir(), "demo.pcapng")
	out, err := command(t.Context(), "demo", "--megabytes", "2", "--pcap", pcap)
	if err != nil || !strings.HasSuffix(out, "Everything held.\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if fi, err := os.Stat(pcap); err != nil || fi.Size() < 2<<20 {
		t.Errorf("recording: %v, %v", fi, err)
	}
}

// A transfer that the recording has no room for is searched all the same, and the demo says
// how much it kept. The control is in the file.
func TestDemoBeyondItsRecording(t *testing.T) {
	const limit = 64 << 10
	pcap := filepath.Join(t.TempDir(), "demo.pcapng")
	var out bytes.Buffer
	if err := demo(t.Context(), &out, io.Discard, demoOptions{megabytes: 2, pcap: pcap, limit: limit}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	m := regexp.MustCompile(`searched every datagram: (\d+), of (\d+) bytes; the first (\d+) are in its recording, .* no room for more than 65536 bytes`).FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("it does not say how much it recorded:\n%s", &out)
	}
	file, err := os.Open(pcap)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if fi, err := file.Stat(); err != nil || fi.Size() > limit+200 {
		t.Errorf("a file of %d bytes, %v", fi.Size(), err)
	}
	packets, hits, err := tuntest.SearchFile(file, []byte("control-"))
	if seen, _ := strconv.Atoi(m[1]); strconv.Itoa(packets) != m[3] || packets >= seen || hits != 2 || err != nil {
		t.Errorf("%d packets in the file, the control in %d, %v; said: %s", packets, hits, err, m[0])
	}
	if size, _ := strconv.Atoi(m[2]); size < 2<<20 {
		t.Errorf("searched %d bytes of 2 MiB", size)
	}
}

// The demo's judge, seen red in each way.
func TestDemoJudge(t *testing.T) {
	const limit = 10_000
	noise := func(n int) string { return strings.Repeat("\x81", n) }
	full := []string{noise(limit)} // does not fit, and nothing does after it
	for _, tt := range []struct {
		name      string
		datagrams []string
		want      string // in the error; none if ""
		says      string
	}{
		{"good", []string{"CONTROL", noise(1000), noise(1000)}, "", "3, of 2041 bytes; all of them are in its recording"},
		{"good, recording full", append([]string{"CONTROL", noise(1000)}, full...), "", "3, of 11041 bytes; the first 2 are in its recording"},
		{"plaintext", []string{"CONTROL", noise(1000) + "SECRET" + noise(1000)}, "plaintext", ""},
		{"plaintext beyond the recording", append(append([]string{"CONTROL"}, full...), noise(1000)+"SECRET"), "plaintext", ""},
		{"request", []string{"CONTROL", "GET /whoami HTTP/1.1", noise(2000)}, "GET /whoami", ""},
		{"request beyond the recording", append(append([]string{"CONTROL"}, full...), "GET /whoami"), "GET /whoami", ""},
		{"no control", []string{noise(2000)}, "proves nothing", ""},
		{"control beyond the recording", append(full, "CONTROL"), "proves nothing", ""},
		{"control cut in two", []string{"control-6", "d61726b6572", noise(2000)}, "proves nothing", ""},
		{"another way", []string{"CONTROL", noise(1900)}, "another way", ""},
		{"nothing", nil, "another way", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecording(limit, "6d61726b6572")
			words := strings.NewReplacer("SECRET", r.secret, "CONTROL", "in clear, the "+r.control+" of old")
			for _, d := range tt.datagrams {
				r.Record(time.Now(), netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2"), []byte(words.Replace(d)))
			}
			var said strings.Builder
			err := r.judge(2000, func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) })
			switch {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case err != nil && said.Len() > 0:
				t.Errorf("it said %q, and then %v", &said, err)
			case !strings.Contains(said.String(), tt.says):
				t.Errorf("it said %q, not %q", &said, tt.says)
			}
		})
	}
}

// The border between datagrams may cut what is looked for in two, but the text repeats it
// so often that each datagram of a transfer in clear has it whole.
func TestDemoTextIsFoundHoweverItIsCut(t *testing.T) {
	r := newRecording(1<<20, strings.Repeat("0123456789abcdef", 2))
	next := (&demoHost{secret: r.secret}).text(200_000)
	var text []byte
	for b := next(); len(b) > 0; b = next() {
		text = append(text, b...)
	}
	const smallest = 536 // the least TCP segment size (RFC 9293, Section 3.7.1)
	for at := 0; at+smallest <= len(text); at++ {
		if !bytes.Contains(text[at:at+smallest], []byte(r.secret)) {
			t.Fatalf("a datagram with the octets from %d on shows nothing", at)
		}
	}
}

func TestDemoEndsAgree(t *testing.T) {
	c := endpoint{udp: netip.MustParseAddrPort("127.0.0.1:1"), key: "SHA256:c"}
	s := endpoint{udp: netip.MustParseAddrPort("127.0.0.1:2"), key: "SHA256:s"}
	for want, change := range map[string]func(client, server *held){
		"":                         func(_, _ *held) {},
		"the server sent":          func(_, server *held) { server.Hash = "h2" },
		"received ,":               func(client, server *held) { client.Hash, server.Hash = "", "" },
		"who they are":             func(_, server *held) { server.Remote = "SHA256:x" },
		"server SHA256:c and SHA2": func(client, _ *held) { client.Remote = "SHA256:x" },
		"their sockets are":        func(client, _ *held) { client.UDP = s.udp },
		"different SAs":            func(client, _ *held) { client.SPIIn++ },
		"privacy and integrity f":  func(_, server *held) { server.Privacy = false },
		"method psk":               func(client, _ *held) { client.Method = "psk" },
	} {
		client := held{Hash: "h", Method: "btns", Privacy: true, Local: c.key, Remote: s.key, UDP: c.udp, SPIIn: 1000, SPIOut: 2000}
		server := held{Hash: "h", Method: "btns", Privacy: true, Local: s.key, Remote: c.key, UDP: s.udp, SPIIn: 2000, SPIOut: 1000}
		change(&client, &server)
		if err := agree(&client, &server, c, s); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A host that still has an SA, never had one, or was not told of their end, has not shown
// that they were deleted.
func TestDemoEndOfSAs(t *testing.T) {
	const ike, child = sockets.EventIKEUpDown, sockets.EventChildUpDown
	up := []sockets.Event{{Kind: ike, Up: true}, {Kind: child, Up: true}}
	down := func(kind sockets.EventKind, reason string) sockets.Event {
		return sockets.Event{Kind: kind, Reason: reason}
	}
	for _, tt := range []struct {
		name   string
		events []sockets.Event
		byPeer bool
		want   string
	}{
		{"client", append(up, down(child, "deleted by us"), down(ike, "deleted by us")), false, ""},
		{"server", append(up, down(child, deletedByPeer), down(ike, deletedByPeer)), true, ""},
		{"server was not told", append(up, down(child, "deleted by us"), down(ike, "deleted by us")), true, "not told"},
		{"child left", append(up, down(ike, deletedByPeer)), true, "1 SAs came up, 1 of them are left"},
		{"IKE SA left", append(up, down(child, "deleted by us")), false, "1 SAs came up, 1 of them are left"},
		{"none", nil, false, "0 SAs came up"},
		{"events lost", append(up, sockets.Event{Kind: sockets.EventLost, Lost: 3}), false, "3 events were lost"},
	} {
		err := (&hostEnd{Events: tt.events}).check(tt.byPeer)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestDemoAddressIsDerived(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := sockets.KeyAddress(pub)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (&hostUp{Key: der, Address: addr}).check(); err != nil || got != sockets.Fingerprint(pub) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (&hostUp{Key: der, Address: addr.Next()}).check(); err == nil {
		t.Error("an address of another key passes")
	}
	if _, err := (&hostUp{Key: der[1:], Address: addr}).check(); err == nil {
		t.Error("half a key passes")
	}
}
