//go:build linux

package interop_test

import (
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/btns-go/btns/cmd/internal/interop"
)

// TestKeyLog reads what we sent with somebody else's eyes: tshark takes every line of --keylog
// as -o, decrypts IKE and ESP with them, finds every ICV good, and finds nothing without them.
// Of ciphers that its tables do not know it shows nothing with them either.
func TestKeyLog(t *testing.T) {
	for _, s := range []setup{
		{},
		{responder: true, ike: "aes256-sha256-ecp256", esp: "aes256-sha256"},
		{esp: espChaCha},
		{ike: "chacha20poly1305-prfsha256-x25519"},
	} {
		s.keyLog, s.snap = true, 65535
		t.Run(s.role()+" "+s.suite(), func(t *testing.T) {
			t.Parallel()
			interop.Need(t, "tshark")
			w := s.start(t, smallWeb())
			row := report.Row(t, peer, "tshark takes --keylog", s.role(), s.suite())
			if s.responder {
				w.swan.MustInitiate("net")
			}
			w.page()
			w.pageThere()
			if err := w.host.Stop(); err != nil {
				t.Errorf("btns ended with %v", err)
			}
			w.cap.Judge()

			d := read(t, w.cap.File, w.host)
			ike, esp := !strings.HasPrefix(s.ike, espChaCha), s.esp != espChaCha // what its tables know
			d.shows(t, ike, "sun.example", "moon.example")
			d.shows(t, esp, interop.Plaintext, "GET / HTTP/1.1", "HTTP/1.1 200 OK")
			if (d.deletes > 0) != ike || (d.requests == 2) != esp {
				t.Errorf("tshark saw %d IKE messages with a Delete and %d HTTP requests", d.deletes, d.requests)
			}
			if !esp {
				if n := openChaCha(t, w.cap.File, d.keys); n != d.esp {
					t.Errorf("of %d ESP packets the keys in the comments open %d", d.esp, n)
				}
				row.Note("%d ESP packets that it cannot read, and the keys in the comments open; %d IKE messages with a Delete in clear to it", d.esp, d.deletes)
				return
			}
			if d.good != d.esp || d.bad != 0 {
				t.Errorf("of %d ESP packets %d have a good ICV, %d a bad one", d.esp, d.good, d.bad)
			}
			row.Note("%d ESP packets, ICVs good; %d HTTP requests and %d IKE messages with a Delete in clear to it", d.esp, d.requests, d.deletes)
		})
	}
}

// TestKeyLogOfTwo has two of our hosts, which agree on extended sequence numbers: tshark
// decrypts all, and finds every ICV good if its table has columns for the numbers. Wireshark 4.0
// has none, says so, and takes every ICV for wrong.
func TestKeyLogOfTwo(t *testing.T) {
	for _, esp := range []string{"default", "aes128-sha384-esn"} {
		t.Run(esp, func(t *testing.T) {
			t.Parallel()
			interop.Need(t, "ip", "setpriv", "tcpdump", "curl", "tshark")
			row := report.Row(t, "btns", "tshark takes --keylog", "both", esp)
			path, web := binary.Path(t), smallWeb()
			near, far := interop.NewPair(t)
			web.Serve(t, far, localWeb)
			link := interop.NewCapture(t, near, 65535)
			conf := func(id, inner, remote, there, conn, more string) string {
				return fmt.Sprintf(`
addresses: [%[2]s/32]
listen: [":4500"]
connections:
  two:
    %[5]s
    local:  {auth: psk, id: %[1]s}
    remote: {auth: psk, id: %[3]s}
    children:
      net: {local_ts: %[2]s, remote_ts: %[4]s, esp_proposals: %[6]s}
secrets:
  ike-1: {secret: %[7]q}
%[8]s`, id, inner, remote, there, conn, esp, goodPSK, more)
			}
			interop.Up(t, interop.HostConfig{NS: far, Binary: path, YAML: conf("moon.example", farInner, "sun.example", nearInner, "",
				fmt.Sprintf("expose:\n  - {listen: 80, to: %q}\n", localWeb))})
			host := interop.Up(t, interop.HostConfig{NS: near, Binary: path, KeyLog: true, YAML: conf("sun.example", nearInner, "moon.example", farInner,
				"remote_addrs: "+interop.FarAddr, fmt.Sprintf("forwards:\n  - {listen: %q, to: \"%s:80\"}\n", forwardWeb, farInner))})
			interop.FetchPage(t, near, "http://"+forwardWeb)
			if st := host.Status(); len(st.IKE) != 1 || len(st.IKE[0].Children) != 1 || !st.IKE[0].Children[0].ESN {
				t.Errorf("no ESN: %+v", st.IKE)
			}
			if err := host.Stop(); err != nil {
				t.Errorf("btns ended with %v", err)
			}
			link.Judge()

			d := read(t, link.File, host)
			d.shows(t, true, interop.Plaintext, "GET / HTTP/1.1", "HTTP/1.1 200 OK")
			if d.deletes == 0 || d.requests != 1 {
				t.Errorf("tshark saw %d IKE messages with a Delete and %d HTTP requests, want 1", d.deletes, d.requests)
			}
			seen := "ICVs good"
			if d.dropped {
				seen = "this tshark has no column for it and takes all ICVs for wrong"
				d.good, d.bad = d.bad, d.good
			}
			if d.good != d.esp || d.bad != 0 {
				t.Errorf("of %d ESP packets %d and %d have a good and a bad ICV; columns dropped: %t", d.esp, d.good, d.bad, d.dropped)
			}
			row.Note("%d ESP packets with ESN, %s; %d HTTP requests and %d IKE messages with a Delete in clear to it", d.esp, seen, d.requests, d.deletes)
		})
	}
}

// A dissection is what tshark shows of a capture, without and with the lines of a key log.
type dissection struct {
	keys           string
	blind, open    string
	esp, good, bad int  // ESP packets, and of them those with an ICV that tshark found so
	deletes        int  // IKE messages in which it saw a Delete payload
	requests       int  // HTTP requests it saw
	dropped        bool // columns of the lines, as too many for this tshark
}

// read has tshark read a capture with the key log of a host that had one IKE SA and one
// child SA.
func read(t *testing.T, file string, host *interop.Host) *dissection {
	t.Helper()
	info, err := os.Stat(host.KeyLog)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key log's mode is %v", info.Mode())
	}
	keys, err := os.ReadFile(host.KeyLog)
	if err != nil {
		t.Fatal(err)
	}
	var options []string
	for line := range strings.Lines(string(keys)) {
		options = append(options, "-o", strings.TrimSuffix(line, "\n"))
	}
	if len(options) != 6 {
		t.Errorf("%d lines, want one for IKE and one for each direction of ESP:\n%s", len(options)/2, keys)
	}
	count := func(filter string) int {
		out, _ := tshark(t, file, append(options, "-Y", filter, "-T", "fields", "-e", "frame.number")...)
		return strings.Count(out, "\n")
	}
	blind, _ := tshark(t, file, "-V")
	open, complaint := tshark(t, file, append(options, "-V")...)
	d := &dissection{
		keys: string(keys), blind: blind, open: open, dropped: strings.Contains(complaint, "More fields than required"),
		esp: count("esp"), good: count("esp.icv_good == 1"), bad: count("esp.icv_bad == 1"),
		deletes: count("isakmp.typepayload == 42 && udp"), requests: count("http.request"),
	}
	if d.esp == 0 {
		t.Error("tshark sees no ESP")
	}
	return d
}

// shows fails the test if tshark shows one of these words without the keys, or if it does not
// show it with them, or does though it cannot.
func (d *dissection) shows(t *testing.T, can bool, words ...string) {
	t.Helper()
	for _, word := range words {
		if strings.Contains(d.blind, word) {
			t.Errorf("without the keys tshark shows %q", word)
		}
		if strings.Contains(d.open, word) != can {
			t.Errorf("with the keys tshark shows %q: %t", word, !can)
		}
	}
}

// openChaCha counts the ESP packets of a capture that the keys of a key log's comments open
// (RFC 7634, Section 2), with no code of ours.
func openChaCha(t *testing.T, file, keys string) (opened int) {
	t.Helper()
	type sa struct {
		aead cipher.AEAD
		salt []byte
	}
	sas := map[string]sa{}
	for _, m := range regexp.MustCompile(`uat:esp_sa:# .*"0x([0-9a-f]{8})","ChaCha20 with Poly1305 \[RFC7634\]","0x([0-9a-f]{72})"`).FindAllStringSubmatch(keys, -1) {
		spi, err := hex.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		key, err := hex.DecodeString(m[2])
		if err != nil {
			t.Fatal(err)
		}
		aead, err := chacha20poly1305.New(key[:32])
		if err != nil {
			t.Fatal(err)
		}
		sas[string(spi)] = sa{aead, key[32:]}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			return opened
		}
		u, ok := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy).TransportLayer().(*layers.UDP)
		if !ok || len(u.Payload) < 16 {
			continue
		}
		p := u.Payload
		if s, ok := sas[string(p[:4])]; ok {
			if _, err := s.aead.Open(nil, slices.Concat(s.salt, p[8:16]), p[16:], p[:8]); err == nil {
				opened++
			}
		}
	}
}

// tshark reads a capture; ESP is decrypted and its ICVs are checked where keys are given.
func tshark(t *testing.T, file string, args ...string) (text, complaint string) {
	t.Helper()
	args = append([]string{"-r", file, "-n", "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}, args...)
	var stderr strings.Builder
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	return string(out), stderr.String()
}
