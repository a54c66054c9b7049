package tuntest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/btns-go/btns/tun/tuntest"
)

func listen(t *testing.T) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func exchange(t *testing.T, from, to *net.UDPConn, via netip.AddrPort, payload []byte) {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort(payload, via); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	n, src, err := to.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf[:n], payload) || src != via {
		t.Errorf("%d bytes from %v, want %d from %v", n, src, len(payload), via)
	}
}

func TestRelay(t *testing.T) {
	for _, target := range []bool{true, false} {
		t.Run(fmt.Sprintf("target=%v", target), func(t *testing.T) {
			a, atA := listen(t)
			b, atB := listen(t)
			third, _ := listen(t)
			secret, clear := []byte("the plaintext"), []byte("the control transfer")
			rec := tuntest.NewRecorder(0, secret, clear)
			cfg := tuntest.RelayConfig{Recorder: rec}
			if target {
				cfg.Target = atB
			}
			relay, err := tuntest.NewRelay(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer relay.Close()
			if !target {
				// The first one speaks to nobody yet.
				if _, err := a.WriteToUDPAddrPort([]byte("lost"), relay.Addr()); err != nil {
					t.Fatal(err)
				}
			}
			via := relay.Addr()
			payloads := [][]byte{[]byte("hello"), clear, {0xFF}, {0, 0, 0, 0, 9}, bytes.Repeat([]byte{7}, 60000)}
			if !target {
				exchange(t, b, a, via, []byte("now both are known"))
			}
			for _, p := range payloads {
				exchange(t, a, b, via, p)
				exchange(t, b, a, via, p)
			}
			if _, err := third.WriteToUDPAddrPort([]byte("not one of the ends"), via); err != nil {
				t.Fatal(err)
			}
			exchange(t, a, b, via, []byte("last"))
			if err := relay.Close(); err != nil {
				t.Error(err)
			}
			if err := relay.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			if rec.Watched(0) != 0 || rec.Watched(1) != 2 || rec.Search(secret) != 0 || rec.Search(clear) != 2 {
				t.Errorf("watched %d, %d; found %d, %d", rec.Watched(0), rec.Watched(1), rec.Search(secret), rec.Search(clear))
			}
			if rec.Search([]byte("not one of")) != 0 {
				t.Error("passed on a third party's datagram")
			}
			passed, dropped := relay.Counts()
			datagrams, _, kept := rec.Counts()
			if int(passed) != datagrams || kept != datagrams || dropped == 0 {
				t.Errorf("passed %d, dropped %d, recorded %d, kept %d", passed, dropped, datagrams, kept)
			}
			var file bytes.Buffer
			if _, err := rec.WriteTo(&file); err != nil {
				t.Fatal(err)
			}
			packets, hits, err := tuntest.SearchFile(bytes.NewReader(file.Bytes()), clear)
			if packets != datagrams || hits != 2 || err != nil {
				t.Errorf("the file has %d packets, %d hits, %v", packets, hits, err)
			}
			independent(t, file.Bytes(), datagrams, atA, atB)
		})
	}
}

// independent reads the file with gopacket.
func independent(t *testing.T, file []byte, want int, a, b netip.AddrPort) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		data, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if since := time.Since(ci.Timestamp); since < 0 || since > time.Minute || ci.Length != len(data) {
			t.Errorf("packet %d: time %v, length %d of %d", n, ci.Timestamp, len(data), ci.Length)
		}
		// gopacket's name for LINKTYPE_RAW decodes by the version nibble.
		p := gopacket.NewPacket(data, layers.LinkTypeRaw, gopacket.Default)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		u, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if ip == nil || u == nil {
			t.Fatalf("packet %d is %v", n, p)
		}
		src, dst := uint16(u.SrcPort), uint16(u.DstPort)
		if src != a.Port() && src != b.Port() || dst != a.Port() && dst != b.Port() || src == dst {
			t.Errorf("packet %d goes from %d to %d", n, src, dst)
		}
	}
	if n != want {
		t.Errorf("read %d packets of %d", n, want)
	}
}

// TestRecorderHeaders lets gopacket and, if it is there, tshark check what Record builds.
func TestRecorderHeaders(t *testing.T) {
	rec := tuntest.NewRecorder(0)
	now := time.Unix(1700000000, 123456789)
	native := func(ap netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(ap.Addr(), 0) }
	for n := range 10 {
		payload := bytes.Repeat([]byte{byte(n), 0xA5}, n)[:max(0, 2*n-1)]
		rec.Record(now, addrA, addrB, payload)
		rec.Record(now, addrA6, addrB6, payload)
		rec.Record(now, native(addrA6), native(addrB6), append([]byte{1, 2, 3, 4, 0, 0, 0, 1}, payload...))
		rec.Record(now, native(addrA), native(addrB), append([]byte{1, 2, 3, 4, 0, 0, 0, 1}, payload...))
	}
	var file bytes.Buffer
	if n, err := rec.WriteTo(&file); n != int64(file.Len()) || err != nil {
		t.Fatal(n, err)
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(file.Bytes()), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		data, ci, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		if !ci.Timestamp.Equal(now) {
			t.Errorf("time %v", ci.Timestamp)
		}
		p := gopacket.NewPacket(data, layers.LinkTypeRaw, gopacket.DecodeOptions{})
		if el := p.ErrorLayer(); el != nil && i%4 < 2 {
			t.Errorf("packet %d: %v", i, el.Error())
		}
		if i%4 >= 2 && p.Layer(layers.LayerTypeIPSecESP) == nil {
			t.Errorf("packet %d is not ESP", i)
		}
	}
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		return // gopacket agreed
	}
	name := filepath.Join(t.TempDir(), "relay.pcapng")
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-r", name, "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
		"-Y", "udp.checksum.status==0 || ip.checksum.status==0").CombinedOutput()
	if err != nil {
		t.Logf("tshark does not run: %v", err)
		return
	}
	if s := strings.TrimSpace(string(out)); strings.Contains(s, "→") {
		t.Errorf("tshark objects to:\n%s", s)
	}
}

// TestRecorderLimit: memory is bounded, and the watch goes on.
func TestRecorderLimit(t *testing.T) {
	const limit = 100_000
	rec := tuntest.NewRecorder(limit, []byte("needle"))
	payload := append(bytes.Repeat([]byte{1}, 1000), "needle"...)
	for range 1000 {
		rec.Record(time.Now(), addrA, addrB, payload)
	}
	rec.Record(time.Now(), addrA, addrB, []byte("x")) // would fit
	datagrams, total, kept := rec.Counts()
	if datagrams != 1001 || total != 1000*len(payload)+1 || kept < 90 || kept > 99 || rec.Watched(0) != 1000 {
		t.Errorf("%d datagrams, %d bytes, %d kept, seen %d", datagrams, total, kept, rec.Watched(0))
	}
	n, err := rec.WriteTo(io.Discard)
	if n > limit+200 || err != nil {
		t.Errorf("file of %d bytes, %v", n, err)
	}
	if rec.Search([]byte("needle")) != kept {
		t.Error("kept packets are not searched")
	}
}

func TestSearchFileRejects(t *testing.T) {
	rec := tuntest.NewRecorder(0)
	rec.Record(time.Now(), addrA, addrB, []byte("payload"))
	var file bytes.Buffer
	if _, err := rec.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	ends := map[int]bool{48: true, 80: true, len(whole): true} // between blocks
	for n := range len(whole) {
		_, _, err := tuntest.SearchFile(bytes.NewReader(whole[:n]), nil)
		if (err == nil) != ends[n] {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func FuzzSearchFile(f *testing.F) {
	rec := tuntest.NewRecorder(0)
	rec.Record(time.Now(), addrA, addrB, []byte("payload"))
	rec.Record(time.Now(), addrA6, addrB6, []byte("other"))
	var file bytes.Buffer
	if _, err := rec.WriteTo(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes(), []byte("payload"))
	f.Fuzz(func(t *testing.T, b, needle []byte) {
		packets, hits, _ := tuntest.SearchFile(bytes.NewReader(b), needle)
		if hits > packets || packets > len(b)/12 {
			t.Errorf("%d hits in %d packets in %d bytes", hits, packets, len(b))
		}
	})
}
