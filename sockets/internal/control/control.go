// Package control is the Unix socket through which the command speaks to a
// running host: one JSON request a line, one JSON answer a line. A request may
// also be answered by a stream: an empty answer, one answer for each value, and one
// with an error at last, until either side closes.
//
// It knows nothing of hosts: a Server passes requests to the Handler it is given.
// The socket has mode 0600 in a directory that is not open to everybody, and is the
// host's or root's; on Linux the peer's uid is checked as well, so that a socket handed around by file
// descriptor or left in a shared directory opens nothing.
//
// Ownership: request and answer lines are copied; nothing of a connection outlives
// it. Concurrency: Handler is called by several goroutines at once, at most
// maxClients, of which maxStreams may be streams. Limits: maxRequest bytes a request,
// maxAnswer bytes an answer, idleTimeout between requests and for a client to take an
// answer.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

const (
	maxRequest  = 64 << 10         // a request names an operation and a few words
	maxAnswer   = 256 << 20        // a status of 100,000 SAs, about a KiB each
	maxPath     = 95               // Unix sockets have room for 104 bytes at the least, and listenPrivate adds some
	maxClients  = 16               // one operator, a few scrapers
	maxStreams  = 8                // of maxClients, so that watchers leave room for the operator
	idleTimeout = 30 * time.Second // a client that went quiet gives its place back
)

// A Request is one question to a running host.
type Request struct {
	Op   string            `json:"op"`
	Args map[string]string `json:"args,omitempty"`
}

// An answer carries the handler's value or why there is none.
type answer struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// A Handler answers one request; its value is sent as JSON. A Stream as its value is
// called to send many.
type Handler func(ctx context.Context, r Request) (any, error)

// A Stream sends values until ctx ends, which it does when the client or the server
// closes, or until send fails. It sends nil first, which tells the client that nothing is
// missed from then on.
type Stream func(ctx context.Context, send func(v any) error) error

// A Server answers on one Unix socket.
type Server struct {
	path   string
	ln     *net.UnixListener
	handle Handler
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	slots  chan struct{}
	stream chan struct{} // a place for each Stream
}

// Listen makes the socket at path, with its directory if need be. Clients wait for Serve,
// until Close. A socket that nobody answers on any more is replaced; a live one
// is an error, since two hosts must not share a name.
func Listen(path string) (*Server, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("control: %s: a socket's path has at most %d bytes", path, maxPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	// Whoever may replace files there could answer in our place. In a sticky directory,
	// as /tmp is, they may not.
	if fi, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	} else if fi.Mode().Perm()&0o002 != 0 && fi.Mode()&os.ModeSticky == 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("control: %s is open to everybody for writing", dir)
	} else if err := checkOwner(dir, fi); err != nil {
		return nil, err
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("control: %s: another host already answers there", path)
	} else if fi, serr := os.Lstat(path); serr == nil {
		if fi.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("control: %s exists and is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control: %w", err)
		}
	}
	ln, err := listenPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{path: path, ln: ln, ctx: ctx, cancel: cancel, slots: make(chan struct{}, maxClients), stream: make(chan struct{}, maxStreams)}
	return s, nil
}

// Serve answers by h until Close. It is called once.
func (s *Server) Serve(h Handler) {
	s.handle = h
	s.wg.Go(s.accept)
}

// Close stops answering, removes the socket and waits for running handlers.
func (s *Server) Close() error {
	s.cancel()
	// In this order: once nobody answers there, the socket may be the next host's.
	err := errors.Join(os.Remove(s.path), s.ln.Close())
	s.wg.Wait()
	return err
}

// listenPrivate makes the socket under a name of its own, gives it its mode and
// only then moves it to where clients look: it is never open to others, whatever
// the process's umask is.
func listenPrivate(path string) (*net.UnixListener, error) {
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(tmp)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = ln.Close()
		_ = os.Remove(tmp)
		return nil, err
	}
	return ln, nil
}

func (s *Server) accept() {
	for {
		c, err := s.ln.AcceptUnix()
		if err != nil {
			if s.ctx.Err() != nil {
				return
			}
			select { // out of descriptors: wait for one to come back
			case <-s.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
			s.wg.Go(func() {
				defer func() { <-s.slots }()
				s.serve(c)
			})
		default:
			_ = c.Close()
		}
	}
}

func (s *Server) serve(c *net.UnixConn) {
	defer c.Close()
	stop := context.AfterFunc(s.ctx, func() { _ = c.Close() })
	defer stop()
	if err := checkPeer(c); err != nil {
		writeAnswer(c, nil, err)
		return
	}
	in := bufio.NewReaderSize(c, 4<<10)
	for {
		_ = c.SetReadDeadline(time.Now().Add(idleTimeout))
		line, err := readLine(in, maxRequest)
		if err != nil {
			if errors.Is(err, errTooLong) {
				writeAnswer(c, nil, err)
			}
			return
		}
		r, err := parseRequest(line)
		if err != nil {
			writeAnswer(c, nil, err)
			return
		}
		v, err := s.handle(s.ctx, r)
		if f, ok := v.(Stream); ok && err == nil {
			s.send(c, f)
			return
		}
		if !writeAnswer(c, v, err) {
			return
		}
	}
}

var errStreams = fmt.Errorf("control: %d clients watch already", maxStreams)

// send runs a stream. The client has nothing more to say: whatever comes from it, its end
// most of all, ends the stream.
func (s *Server) send(c *net.UnixConn, f Stream) {
	select {
	case s.stream <- struct{}{}:
		defer func() { <-s.stream }()
	default:
		writeAnswer(c, nil, errStreams)
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	_ = c.SetReadDeadline(time.Time{})
	s.wg.Go(func() {
		_, _ = c.Read(make([]byte, 1))
		cancel()
	})
	err := f(ctx, func(v any) error {
		if v == nil && write(c, answer{}) || v != nil && writeAnswer(c, v, nil) {
			return nil
		}
		return net.ErrClosed
	})
	if err != nil && ctx.Err() == nil {
		writeAnswer(c, nil, err)
	}
}

var errTooLong = errors.New("control: line too long")

// readLine reads one line of at most limit bytes, without its newline.
func readLine(in *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, errTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return nil, err
		}
	}
}

func parseRequest(line []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return Request{}, fmt.Errorf("control: not a request: %w", err)
	}
	if r.Op == "" {
		return Request{}, errors.New(`control: not a request: no "op"`)
	}
	return r, nil
}

func writeAnswer(c net.Conn, v any, err error) bool {
	var a answer
	if err == nil {
		a.Value, err = json.Marshal(v)
	}
	if err != nil {
		a = answer{Error: err.Error()}
	}
	return write(c, a)
}

func write(c net.Conn, a answer) bool {
	b, err := json.Marshal(a)
	if err != nil || len(b) > maxAnswer {
		b, _ = json.Marshal(answer{Error: "control: the answer is too long"})
	}
	_ = c.SetWriteDeadline(time.Now().Add(idleTimeout))
	_, err = c.Write(append(b, '\n'))
	return err == nil
}
