//go:build linux

package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Plaintext is in everything that is sent through the tunnels, every 64 bytes. A capture
// of the link must not have it.
const Plaintext = "btns interop plaintext"

// Page is what the web server answers to /.
const Page = "<h1>" + Plaintext + "</h1>\n"

// Big is n bytes of text that is different everywhere, so that reordered or lost pieces
// change its hash.
func Big(n int) []byte {
	const line = 64
	b := make([]byte, 0, n+line)
	for i := uint64(0); len(b) < n; i++ {
		b = append(b, Plaintext...)
		b = hex.AppendEncode(append(b, ' '), binary.BigEndian.AppendUint64(nil, i))
		for len(b)%line != line-1 {
			b = append(b, '.')
		}
		b = append(b, '\n')
	}
	return b[:n]
}

// A Web is a web server on a host: / is Page, /big is a file.
type Web struct {
	File []byte
	Hash string // of File
}

// NewWeb makes a web with a file of n bytes.
func NewWeb(n int) *Web {
	w := &Web{File: Big(n)}
	sum := sha256.Sum256(w.File)
	w.Hash = hex.EncodeToString(sum[:])
	return w
}

// Serve serves on a host's address until the test ends.
func (w *Web) Serve(t testing.TB, ns *NS, addr string) {
	t.Helper()
	srv := w.server()
	ln := ns.Listen(t, addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

func (w *Web) server() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, Page) })
	mux.HandleFunc("GET /big", func(rw http.ResponseWriter, r *http.Request) {
		http.ServeContent(rw, r, "big", time.Time{}, bytes.NewReader(w.File))
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: patience}
}

// Forever serves on this very host, and says on standard output when it does.
func (w *Web) Forever(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("serving", ln.Addr())
	return w.server().Serve(ln)
}

// A Fetch is what curl got.
type Fetch struct {
	Size int64
	Hash string
	Head string // the first bytes
	Took time.Duration
	Gap  time.Duration // the longest time without a byte
	Err  error         // with what curl printed
}

// Rate is the transfer's in Mbit/s.
func (f *Fetch) Rate() float64 { return float64(f.Size) * 8 / f.Took.Seconds() / 1e6 }

// Curl fetches a URL from a host, as anybody there would.
func Curl(t testing.TB, ns *NS, url string, args ...string) *Fetch {
	t.Helper()
	Need(t, "curl")
	cmd := ns.Command(append([]string{"curl", "-sS", "--fail", "--noproxy", "*", "-m", "120", url}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	sum, head := sha256.New(), &headWriter{}
	count := &countWriter{last: time.Now()}
	cmd.Stdout = io.MultiWriter(sum, head, count)
	start := time.Now()
	err := cmd.Run()
	f := &Fetch{Size: count.n, Hash: hex.EncodeToString(sum.Sum(nil)), Head: head.String(), Took: time.Since(start), Gap: count.gap}
	if err != nil {
		f.Err = fmt.Errorf("curl %s: %w: %s", url, err, strings.TrimSpace(stderr.String()))
	}
	return f
}

// FetchPage fetches a page that must be Page.
func FetchPage(t testing.TB, ns *NS, base string) {
	t.Helper()
	f := Curl(t, ns, base+"/")
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	if f.Head != Page {
		t.Fatalf("%s/: got %q, want %q", base, f.Head, Page)
	}
}

// FetchBig fetches the web's file, which must arrive as it was.
func (w *Web) FetchBig(t testing.TB, ns *NS, base string) *Fetch {
	t.Helper()
	f := Curl(t, ns, base+"/big")
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	if f.Size != int64(len(w.File)) || f.Hash != w.Hash {
		t.Fatalf("%s/big: %d bytes with hash %s, want %d with %s", base, f.Size, f.Hash, len(w.File), w.Hash)
	}
	return f
}

type headWriter struct{ bytes.Buffer }

// Write keeps the first kilobyte.
func (w *headWriter) Write(b []byte) (int, error) {
	w.Buffer.Write(b[:min(len(b), max(0, 1024-w.Len()))])
	return len(b), nil
}

type countWriter struct {
	n    int64
	last time.Time
	gap  time.Duration
}

// Write counts, and times the silence.
func (w *countWriter) Write(b []byte) (int, error) {
	now := time.Now()
	w.gap, w.last = max(w.gap, now.Sub(w.last)), now
	w.n += int64(len(b))
	return len(b), nil
}

// Ask sends a datagram, again if it is lost, and returns the answer.
func Ask(c net.Conn, msg string) (string, error) {
	buf := make([]byte, 65536)
	var err error
	for range 5 {
		if _, err = io.WriteString(c, msg); err != nil {
			return "", err
		}
		if err = c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return "", err
		}
		var n int
		if n, err = c.Read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", err
}
