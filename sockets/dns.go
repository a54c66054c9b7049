package sockets

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Package net's resolver would read /etc/hosts first and add the system's search domains
// to the name, so questions are put here (RFC 1035, Section 7).

const (
	dnsTries   = 2               // rounds over all servers
	dnsTimeout = 5 * time.Second // for one answer, the first SA included
	maxAnswers = 64              // addresses of one name
)

var (
	errNoSuchHost = errors.New("no such host")
	errDNSAnswer  = errors.New("not an answer to the question")
)

// lookup asks the servers for a name's addresses, IPv6 and IPv4 at once.
func (st *Stack) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	name, err := dnsmessage.NewName(strings.TrimSuffix(host, ".") + ".")
	if err != nil {
		return nil, &net.DNSError{Err: "no name for DNS", UnwrapErr: err, Name: host, IsNotFound: true}
	}
	type result struct {
		addrs []netip.Addr
		err   error
	}
	kinds := [...]dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeA}
	var results [len(kinds)]chan result
	for i, kind := range kinds {
		results[i] = make(chan result, 1)
		go func() {
			addrs, err := st.ask(ctx, dnsmessage.Question{Name: name, Type: kind, Class: dnsmessage.ClassINET})
			results[i] <- result{addrs, err}
		}()
	}
	var addrs []netip.Addr
	for i := range results {
		r := <-results[i]
		addrs = append(addrs, r.addrs...)
		if err == nil || errors.Is(err, errNoSuchHost) {
			err = r.err // a server that fails says less about a name than one that answers
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	if err == nil {
		err = errNoSuchHost
	}
	var ne net.Error
	return nil, &net.DNSError{Err: err.Error(), UnwrapErr: err, Name: host, IsNotFound: errors.Is(err, errNoSuchHost),
		IsTimeout: errors.As(err, &ne) && ne.Timeout() || errors.Is(err, context.DeadlineExceeded)}
}

// ask puts one question to one server after the other.
func (st *Stack) ask(ctx context.Context, q dnsmessage.Question) ([]netip.Addr, error) {
	var last error
	for range dnsTries {
		for _, server := range st.cfg.DNS {
			addrs, truncated, err := st.exchange(ctx, "udp", server, q)
			if truncated {
				addrs, _, err = st.exchange(ctx, "tcp", server, q)
			}
			if err == nil || errors.Is(err, errNoSuchHost) {
				return addrs, err
			}
			last = fmt.Errorf("name server %s: %w", server, err)
			if ctx.Err() != nil {
				return nil, last
			}
		}
	}
	return nil, last
}

// exchange asks one server once.
func (st *Stack) exchange(ctx context.Context, network string, server netip.AddrPort, q dnsmessage.Question) (addrs []netip.Addr, truncated bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	c, err := st.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, false, err
	}
	defer c.Close()
	end, _ := ctx.Deadline()
	_ = c.SetDeadline(end)
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()

	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails (package crypto/rand)
	id := binary.BigEndian.Uint16(random[:])
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{q}}
	// RFC 1035, Section 4.2.2: two octets of length in TCP.
	b, err := m.AppendPack(make([]byte, 2, 512))
	if err != nil {
		return nil, false, err
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	buf := make([]byte, math.MaxUint16)
	if network == "tcp" {
		if _, err := c.Write(b); err != nil {
			return nil, false, err
		}
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return nil, false, err
		}
		buf = buf[:binary.BigEndian.Uint16(buf)]
		if _, err := io.ReadFull(c, buf); err != nil {
			return nil, false, err
		}
		return parseAnswer(buf, id, q)
	}
	if _, err := c.Write(b[2:]); err != nil {
		return nil, false, err
	}
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, false, err
		}
		// What answers another question is late or forged: the right one may still come.
		if addrs, truncated, err = parseAnswer(buf[:n], id, q); !errors.Is(err, errDNSAnswer) {
			return addrs, truncated, err
		}
	}
}

// parseAnswer reads an answer to q. Aliases are followed by the server, which is asked to
// recurse: all addresses in the answer are the name's.
func parseAnswer(b []byte, id uint16, q dnsmessage.Question) (addrs []netip.Addr, truncated bool, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || !h.Response || h.ID != id {
		return nil, false, errDNSAnswer
	}
	got, err := p.Question()
	if err != nil || got.Type != q.Type || got.Class != q.Class || !strings.EqualFold(got.Name.String(), q.Name.String()) {
		return nil, false, errDNSAnswer
	}
	switch {
	case h.RCode == dnsmessage.RCodeNameError:
		return nil, false, errNoSuchHost
	case h.RCode != dnsmessage.RCodeSuccess:
		return nil, false, fmt.Errorf("it answered %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	case h.Truncated:
		return nil, true, nil
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, false, err
	}
	for len(addrs) < maxAnswers {
		r, err := p.Answer()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return nil, false, err
		}
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			addrs = append(addrs, netip.AddrFrom4(body.A))
		case *dnsmessage.AAAAResource:
			addrs = append(addrs, netip.AddrFrom16(body.AAAA).Unmap())
		}
	}
	return addrs, false, nil
}
