//go:build linux

package interop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// A Capture records a host's link.
type Capture struct {
	File string

	t  testing.TB
	p  *Process
	ns *NS
}

// lastWords are in a datagram that ends a capture, and in the answer to it.
const lastWords = "the end of this capture"

// NewCapture starts a recording of the first snap bytes of every frame; 0 is all of them.
func NewCapture(t testing.TB, ns *NS, snap int) *Capture {
	t.Helper()
	Need(t, "tcpdump")
	c := &Capture{t: t, ns: ns, File: filepath.Join(Dir(t), "link.pcap")}
	c.p = Start(t, "tcpdump", ns.Command("tcpdump", "-i", ns.Link, "-n", "--immediate-mode", "-U", "-B", "32768",
		"-s", fmt.Sprint(snap), "-Z", "root", "-w", c.File))
	c.p.Await(`listening on`)
	return c
}

// Seen is what a capture holds.
type Seen struct {
	IKE       int // datagrams
	IKE500    int // of them, from or to port 500
	ESPUDP    int // ESP packets in UDP
	ESPNative int // ESP packets in IP
	Keepalive int
	// Unreachable counts the kernels' answers to IKE and ESP in UDP for a port that
	// nobody has, while a daemon is dead (RFC 792).
	Unreachable int
	SPIs        map[uint32]int // ESP packets by SPI
	Clear       []string       // everything else that went between hosts
	Plaintext   int            // frames with Plaintext in them
}

// ESP is the number of ESP packets.
func (s *Seen) ESP() int { return s.ESPUDP + s.ESPNative }

func (s *Seen) String() string {
	return fmt.Sprintf("%d IKE, %d ESP in UDP, %d native ESP, %d keepalives, %d in clear", s.IKE, s.ESPUDP, s.ESPNative, s.Keepalive, len(s.Clear))
}

// Stop ends the recording, once everything that passed so far is in it.
func (c *Capture) Stop() {
	c.t.Helper()
	if c.p.Ended() {
		return
	}
	conn := c.ns.DialUDP(c.t, c.ns.Peer+":9")
	for deadline := time.Now().Add(patience); !c.ends(); Wake() {
		_, _ = io.WriteString(conn, lastWords) // the port is closed: errors are expected
		if time.Now().After(deadline) {
			c.t.Fatalf("tcpdump did not write what passed in %s", patience)
		}
	}
	c.p.Signal(syscall.SIGINT)
	if err := c.p.Wait(); err != nil {
		c.t.Fatalf("tcpdump: %v", err)
	}
}

// ends tells whether the last words are at the file's end.
func (c *Capture) ends() bool {
	f, err := os.Open(c.File)
	if err != nil {
		return false
	}
	defer f.Close()
	tail := make([]byte, 1<<20)
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-int64(len(tail))), io.SeekStart)
	}
	n, _ := io.ReadFull(f, tail)
	return bytes.Contains(tail[:n], []byte(lastWords))
}

// Look ends the recording and says what is in it.
func (c *Capture) Look() *Seen {
	c.t.Helper()
	c.Stop()
	f, err := os.Open(c.File)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		c.t.Fatal(err)
	}
	s := &Seen{SPIs: map[uint32]int{}}
	for {
		frame, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			c.t.Fatal(err)
		}
		s.frame(frame)
	}
}

// Judge ends the recording and fails the test if anything but IKE and ESP passed the link,
// or a piece of Plaintext, or no ESP at all.
func (c *Capture) Judge() *Seen {
	c.t.Helper()
	s := c.Look()
	for i, clear := range s.Clear {
		if i == 10 {
			c.t.Errorf("the link saw %d more in clear", len(s.Clear)-i)
			break
		}
		c.t.Errorf("the link saw in clear: %s", clear)
	}
	if s.Plaintext > 0 {
		c.t.Errorf("the link saw plaintext in %d frames", s.Plaintext)
	}
	if s.ESP() == 0 || s.IKE == 0 {
		c.t.Errorf("the link saw no IPsec: %s", s)
	}
	return s
}

func (s *Seen) frame(b []byte) {
	if bytes.Contains(b, []byte(Plaintext)) {
		s.Plaintext++
	}
	if bytes.Contains(b, []byte(lastWords)) {
		return
	}
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	if p.Layer(layers.LayerTypeARP) != nil {
		return
	}
	var proto layers.IPProtocol
	var payload []byte
	var from, to netip.Addr
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		proto, payload = ip.Protocol, ip.Payload
		from, _ = netip.AddrFromSlice(ip.SrcIP.To4())
		to, _ = netip.AddrFromSlice(ip.DstIP.To4())
	case *layers.IPv6:
		proto, payload = ip.NextHeader, ip.Payload
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		to, _ = netip.AddrFromSlice(ip.DstIP)
		if from.IsLinkLocalUnicast() || from.IsUnspecified() || to.IsMulticast() {
			return // the kernels' neighbour discovery
		}
		if proto == layers.IPProtocolICMPv6 && len(payload) > 0 && payload[0] >= 133 && payload[0] <= 136 {
			return // as well, RFC 4861
		}
	}
	switch {
	case proto == layers.IPProtocolESP && len(payload) >= 8:
		s.ESPNative++
		s.SPIs[binary.BigEndian.Uint32(payload)]++
	case proto == layers.IPProtocolUDP && s.udp(payload):
	case proto == layers.IPProtocolICMPv4 && unreachable(payload):
		s.Unreachable++
	default:
		s.Clear = append(s.Clear, fmt.Sprintf("%s > %s %s: %.80s", from, to, proto, p.String()))
	}
}

// udp tells IKE and ESP in UDP from everything else (RFC 3948, Section 2.2).
func (s *Seen) udp(b []byte) bool {
	if len(b) < 9 {
		return false
	}
	from, to, b := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[8:]
	if from == 500 || to == 500 {
		s.IKE500++
		return s.ike(b)
	}
	if len(b) == 1 && b[0] == 0xff {
		s.Keepalive++
		return true
	}
	if len(b) < 8 {
		return false
	}
	if spi := binary.BigEndian.Uint32(b); spi != 0 {
		s.ESPUDP++
		s.SPIs[spi]++
		return spi > 255
	}
	return s.ike(b[4:])
}

// unreachable tells whether an ICMP message says that a port is closed and quotes nothing
// but IKE or ESP in UDP.
func unreachable(b []byte) bool {
	if len(b) < 8+20 || b[0] != 3 || b[1] != 3 || b[8]>>4 != 4 || b[8+9] != byte(layers.IPProtocolUDP) {
		return false
	}
	quoted := b[8:]
	var s Seen
	s.SPIs = map[uint32]int{}
	head := int(quoted[0]&15) * 4
	return head >= 20 && len(quoted) > head && s.udp(quoted[head:])
}

// ike tells whether b begins with the header of an IKEv2 message.
func (s *Seen) ike(b []byte) bool {
	if len(b) < 28 || b[17] != 0x20 || b[18] < 34 || b[18] > 37 {
		return false
	}
	s.IKE++
	return true
}
