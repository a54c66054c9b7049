package uml

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btns-go/btns/esp"
)

// marker is what must never be on the wire in the clear; ping takes 16 octets.
const marker = "btns-plain-text!"

const (
	xfrmSPI     = 0x1000 // ours; the guest's is one more
	pings       = 3
	replyWithin = 5 * time.Second
)

// xfrmCase is one pair of SAs with keys set by hand on both ends.
type xfrmCase struct {
	suite        string
	mode         esp.Mode
	esn          bool
	outer6       bool
	inner6       bool
	kernelStarts uint32 // last number that the kernel believes to have sent
}

func (c xfrmCase) String() string {
	family := func(v6 bool) string {
		if v6 {
			return "v6"
		}
		return "v4"
	}
	s := fmt.Sprintf("%s/%s/%s-in-%s", c.suite, c.mode, family(c.inner6), family(c.outer6))
	if c.mode == esp.ModeTransport {
		s = fmt.Sprintf("%s/%s/%s", c.suite, c.mode, family(c.outer6))
	}
	if c.esn {
		s += "/esn"
	}
	if c.kernelStarts != 0 {
		s += "/rollover"
	}
	return s
}

func xfrmCases() []xfrmCase {
	var out []xfrmCase
	for _, suite := range []string{"aes256gcm16", "chacha20poly1305"} {
		for _, esn := range []bool{false, true} {
			for _, v6 := range []bool{false, true} {
				out = append(out, xfrmCase{suite: suite, mode: esp.ModeTransport, esn: esn, outer6: v6, inner6: v6})
				for _, inner6 := range []bool{false, true} {
					out = append(out, xfrmCase{suite: suite, mode: esp.ModeTunnel, esn: esn, outer6: v6, inner6: inner6})
				}
			}
		}
	}
	// The other suites once each, ESN where its ICV differs most.
	for _, suite := range []string{"aes128gcm16", "aes128-sha256", "aes256-sha384", "aes256-sha512", "null-sha256"} {
		out = append(out, xfrmCase{suite: suite, mode: esp.ModeTunnel, esn: strings.HasSuffix(suite, "512") || strings.HasPrefix(suite, "null")})
	}
	// ADV-P14 against the kernel: its numbers cross 2^32 under way.
	for _, suite := range []string{"aes256gcm16", "aes256-sha512"} {
		out = append(out, xfrmCase{suite: suite, mode: esp.ModeTunnel, esn: true, kernelStarts: 1<<32 - 3})
	}
	return out
}

func addrs(v6 bool, v4a, v4b, v6a, v6b string) [2]netip.Addr {
	if v6 {
		return [2]netip.Addr{netip.MustParseAddr(v6a), netip.MustParseAddr(v6b)}
	}
	return [2]netip.Addr{netip.MustParseAddr(v4a), netip.MustParseAddr(v4b)}
}

func (c xfrmCase) outer() [2]netip.Addr {
	return addrs(c.outer6, "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")
}

func (c xfrmCase) inner() [2]netip.Addr {
	if c.mode == esp.ModeTransport {
		return c.outer()
	}
	return addrs(c.inner6, "10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1")
}

// algorithm returns ip-xfrm's words for a suite with this key.
func algorithm(t *testing.T, s esp.Suite, key []byte) string {
	t.Helper()
	hash := map[uint16]string{esp.IntegSHA256_128: "sha256", esp.IntegSHA384_192: "sha384", esp.IntegSHA512_256: "sha512"}[s.Integ]
	split := int(s.KeyBits) / 8
	switch s.Encr {
	case esp.EncrAESGCM16:
		return fmt.Sprintf("aead 'rfc4106(gcm(aes))' 0x%x 128", key)
	case esp.EncrChaCha20Poly1305:
		return fmt.Sprintf("aead 'rfc7539esp(chacha20,poly1305)' 0x%x 128", key)
	case esp.EncrAESCBC:
		return fmt.Sprintf("auth-trunc 'hmac(%s)' 0x%x %d enc 'cbc(aes)' 0x%x", hash, key[split:], (len(key)-split)*4, key[:split])
	case esp.EncrNull:
		return fmt.Sprintf("auth-trunc 'hmac(%s)' 0x%x %d enc 'ecb(cipher_null)' ''", hash, key, len(key)*4)
	}
	t.Fatalf("no words for %s", s)
	return ""
}

// setup returns the script that gives the guest its half of the case, and counts
// errors from here on.
func (c xfrmCase) setup(t *testing.T, s esp.Suite, toGuest, toUs []byte) string {
	o, i := c.outer(), c.inner()
	flags, extra := "replay-window 32", ""
	switch {
	case c.esn:
		flags = "replay-window 128 flag esn"
		if c.inner6 != c.outer6 {
			flags += " flag af-unspec"
		}
	case c.inner6 != c.outer6:
		flags += " flag af-unspec"
	}
	if c.kernelStarts != 0 {
		extra = fmt.Sprintf(" replay-oseq %d", c.kernelStarts)
	}
	bits := i[0].BitLen()
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("set -e; ip -batch - <<'END'") // one process: they are slow to start in the guest
	say("xfrm policy flush\nxfrm state flush")
	say("xfrm state add src %s dst %s proto esp spi %#x mode %s %s %s", o[0], o[1], xfrmSPI+1, c.mode, algorithm(t, s, toGuest), flags)
	say("xfrm state add src %s dst %s proto esp spi %#x mode %s %s %s%s", o[1], o[0], xfrmSPI, c.mode, algorithm(t, s, toUs), flags, extra)
	for _, dir := range []struct {
		name string
		to   int // 0 us, 1 the guest
	}{{"out", 0}, {"in", 1}} {
		say("xfrm policy add src %s/%d dst %s/%d dir %s tmpl src %s dst %s proto esp mode %s",
			i[1-dir.to], bits, i[dir.to], bits, dir.name, o[1-dir.to], o[dir.to], c.mode)
	}
	say("END")
	say("cat /proc/net/xfrm_stat")
	return b.String()
}

// TestXfrm speaks ESP with the kernel of a guest under keys set by hand: echo
// requests both ways through Seal and Open. The kernel's counters and the frames
// on the tap are the judges.
func TestXfrm(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a kernel")
	}
	g := ForTest(t, Config{ // no addresses on the host's end: its kernel has no part in this
		Guest: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64"),
			netip.MustParsePrefix("10.2.0.1/32"), netip.MustParsePrefix("fd02::1/128"),
		},
		Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	seg := newSegment(t, g)
	var neigh strings.Builder
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		fmt.Fprintf(&neigh, "ip neigh replace %s lladdr %s dev eth0 nud permanent\n", a, seg.hostMAC)
	}
	g.MustRun(ctx, t, neigh.String())

	t.Run("control", func(t *testing.T) { clearControl(ctx, t, g, seg) })
	for _, c := range xfrmCases() {
		t.Run(c.String(), func(t *testing.T) { c.run(ctx, t, g, seg) })
	}
}

// clearControl shows that the search for clear text finds it where it is: without
// policies the guest pings in the clear.
func clearControl(ctx context.Context, t *testing.T, g *Guest, seg *segment) {
	seg.take(nil)
	g.MustRun(ctx, t, "ping -c 1 -W 1 -p "+hex.EncodeToString([]byte(marker))+" 10.1.0.1 || true")
	n := 0
	for _, f := range seg.take(nil) {
		if bytes.Contains(f, []byte(marker)) {
			n++
		}
	}
	if n == 0 {
		t.Fatal("a ping in the clear was not found on the tap: the other cases prove nothing")
	}
}

func (c xfrmCase) run(ctx context.Context, t *testing.T, g *Guest, seg *segment) {
	suite, err := esp.ParseSuite(c.suite)
	if err != nil {
		t.Fatal(err)
	}
	toGuest, toUs := make(esp.Key, suite.KeyLen()), make(esp.Key, suite.KeyLen())
	for k := range toGuest {
		toGuest[k], toUs[k] = byte(k+1), byte(0xff-k)
	}
	h := &host{
		seg: seg, mode: c.mode, outer: c.outer(), inner: c.inner(),
		replies: make(chan []byte, 16), drops: map[esp.Drop]int{},
	}
	cfg := esp.Config{SPI: xfrmSPI + 1, Suite: suite, Key: toGuest, Mode: c.mode, ESN: c.esn}
	if h.out, err = esp.NewOutbound(cfg); err != nil {
		t.Fatal(err)
	}
	cfg.SPI, cfg.Key = xfrmSPI, toUs
	if h.in, err = esp.NewInbound(cfg); err != nil {
		t.Fatal(err)
	}
	before := xfrmStat(t, g.MustRun(ctx, t, c.setup(t, suite, toGuest, toUs)))
	seg.take(h.receive)
	defer seg.take(nil)

	// We ask, the kernel answers.
	data := bytes.Repeat([]byte(marker), 4)
	for seq := range uint16(pings) {
		h.send(echo(h.inner[0], h.inner[1], 0x7777, seq, data[:len(data)-int(seq)])) // every padding
		select {
		case r := <-h.replies:
			if binary.BigEndian.Uint16(r[4:]) != 0x7777 || binary.BigEndian.Uint16(r[6:]) != seq || !bytes.Equal(r[8:], data[:len(data)-int(seq)]) {
				t.Errorf("reply %x", r)
			}
		case <-time.After(replyWithin):
			t.Fatalf("no reply to request %d; verdicts here: %v, other packets %x; kernel: %v", seq, h.drops, h.odd,
				grown(before, xfrmStat(t, g.MustRun(ctx, t, "cat /proc/net/xfrm_stat"))))
		}
	}
	// What the wire carried again is not answered again.
	again, d := h.seal(echo(h.inner[0], h.inner[1], 1, 1, data))
	if d != esp.Pass {
		t.Fatal(d)
	}
	for range 2 {
		if err := seg.send(again); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-h.replies:
	case <-time.After(replyWithin):
		t.Fatal("no reply to a packet that was sent twice")
	}

	// The kernel asks, we answer.
	out := g.MustRun(ctx, t, fmt.Sprintf(
		"ping -c %d -i 0.05 -w 10 -p %x -I %s %s; echo ====; ip -s xfrm state; echo ====; cat /proc/net/xfrm_stat",
		pings, marker, h.inner[1], h.inner[0]))
	part := strings.Split(out, "====\n")
	if len(part) != 3 || !strings.Contains(part[0], " 0% packet loss") {
		t.Fatalf("guest's ping:\n%s", part[0])
	}
	frames := seg.take(nil)
	h.mu.Lock()
	defer h.mu.Unlock()

	// The kernel's view: both SAs were used, for as many packets as there were, and
	// the one copy is all it complains of.
	// (A reply that is late makes ping ask once more.)
	sentByUs, sentByGuest := pings+1+h.requests, pings+1+h.requests
	counts := saPackets(t, part[1])
	if got := counts[xfrmSPI+1]; got != sentByUs {
		t.Errorf("the kernel opened %d packets, want %d:\n%s", got, sentByUs, part[1])
	}
	if got := counts[xfrmSPI]; got != sentByGuest {
		t.Errorf("the kernel sealed %d packets, want %d:\n%s", got, sentByGuest, part[1])
	}
	errs := grown(before, xfrmStat(t, part[2]))
	if errs["XfrmInStateSeqError"] != 1 || len(errs) != 1 {
		t.Errorf("errors of the kernel: %v, want one XfrmInStateSeqError", errs)
	}
	// Ours.
	if h.requests < pings || h.drops[esp.Pass] != sentByGuest || len(h.drops) != 1 || len(h.odd) != 0 {
		t.Errorf("%d requests answered, verdicts %v, other packets %x", h.requests, h.drops, h.odd)
	}
	if c.kernelStarts != 0 && h.highest != uint64(c.kernelStarts)+uint64(sentByGuest) {
		t.Errorf("highest number %#x, want %#x", h.highest, uint64(c.kernelStarts)+uint64(sentByGuest))
	}
	// The wire's: ESP, and nothing to read in it.
	esps := 0
	for _, f := range frames {
		proto, _, _, _, ok := parseIP(f[ethLen:])
		if ok && proto == protoESP {
			esps++
		} else {
			t.Errorf("something else on the wire: %x", f)
		}
		if suite.Confidential() && bytes.Contains(f, []byte(marker)) {
			t.Errorf("clear text on the wire: %x", f)
		}
	}
	if want := sentByUs + 1 + sentByGuest; esps != want {
		t.Errorf("%d ESP packets on the wire, want %d", esps, want)
	}
}

// xfrmStat parses /proc/net/xfrm_stat.
func xfrmStat(t *testing.T, s string) map[string]int {
	t.Helper()
	m := map[string]int{}
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatalf("xfrm_stat: %q", line)
		}
		m[f[0]] = n
	}
	if len(m) < 10 {
		t.Fatalf("xfrm_stat:\n%s", s)
	}
	return m
}

// grown returns the counters that went up, and by how much.
func grown(before, after map[string]int) map[string]int {
	m := map[string]int{}
	for k, n := range after {
		if d := n - before[k]; d != 0 {
			m[k] = d
		}
	}
	return m
}

// saPackets returns the packets counted per SPI by ip -s xfrm state.
func saPackets(t *testing.T, s string) map[uint32]int {
	t.Helper()
	spi := regexp.MustCompile(`spi 0x([0-9a-f]+)`)
	lifetime := regexp.MustCompile(`lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)`)
	m := map[uint32]int{}
	ids, counts := spi.FindAllStringSubmatch(s, -1), lifetime.FindAllStringSubmatch(s, -1)
	if len(ids) != 2 || len(counts) != 2 {
		t.Fatalf("ip -s xfrm state:\n%s", s)
	}
	for k := range ids {
		id, err1 := strconv.ParseUint(ids[k][1], 16, 32)
		n, err2 := strconv.Atoi(counts[k][1])
		if err1 != nil || err2 != nil {
			t.Fatalf("ip -s xfrm state:\n%s", s)
		}
		m[uint32(id)] = n
	}
	return m
}
