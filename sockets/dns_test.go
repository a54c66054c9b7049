package sockets

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// answer is a name server's: "known.example" has two addresses, "long.example" more than a
// datagram holds, everything else none.
func answer(t testing.TB, b []byte, tcp bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || len(m.Questions) != 1 {
		t.Errorf("question %x: %v", b, err)
		return nil
	}
	q := m.Questions[0]
	m.Response = true
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}, Body: body})
	}
	switch name := q.Name.String(); {
	case name == "known.example." && q.Type == dnsmessage.TypeA:
		add(&dnsmessage.AResource{A: [4]byte{10, 2, 0, 1}})
	case name == "known.example." || name == "long.example." && tcp && q.Type == dnsmessage.TypeAAAA:
		add(&dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()})
	case name == "long.example.":
		m.Truncated = !tcp
	case name == "broken.example.":
		m.RCode = dnsmessage.RCodeServerFailure
	default:
		m.RCode = dnsmessage.RCodeNameError
	}
	out, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return out
}

func TestDNSThroughTheTunnel(t *testing.T) {
	b := newStack(t, "b", Config{Connections: []Connection{{Name: "anybody"}}})
	pc := listenPacket(t, b, ":53")
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, pt, err := pc.ReadMsg(buf)
			if err != nil {
				return
			}
			out := answer(t, buf[:n], false)
			forged := bytes.Clone(out)
			forged[0] ^= 1 // another ID: to be passed over
			_, _ = pc.WriteMsg(forged, from, pt)
			_, _ = pc.WriteMsg(out, from, pt)
		}
	}()
	ln, err := b.Listen("tcp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			_, _ = io.ReadFull(c, size[:])
			buf := make([]byte, binary.BigEndian.Uint16(size[:]))
			_, _ = io.ReadFull(c, buf)
			out := answer(t, buf, true)
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
			_ = c.Close()
		}
	}()
	a := newStack(t, "a", Config{
		DNS:         []netip.AddrPort{netip.AddrPortFrom(b.Addrs()[0], 53)},
		Connections: []Connection{{RemoteAddrs: []string{b.LocalAddr().String()}}},
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := a.resolve(ctx, "known.example"); err != nil || len(got) != 2 || !got[0].Is6() || !got[1].Is4() {
		t.Errorf("known: %v, %v", got, err)
	}
	if got, err := a.resolve(ctx, "long.example"); err != nil || len(got) != 1 {
		t.Errorf("truncated: %v, %v", got, err)
	}
	// localhost is in every system's hosts file, which says nothing about the inside.
	for _, host := range []string{"localhost", "nobody.example"} {
		var de *net.DNSError
		if got, err := a.resolve(ctx, host); !errors.As(err, &de) || !de.IsNotFound {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	var de *net.DNSError
	if got, err := a.resolve(ctx, "broken.example"); !errors.As(err, &de) || de.IsNotFound {
		t.Errorf("broken: %v, %v", got, err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("known.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{q}}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer(f, b, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		if addrs, _, _ := parseAnswer(b, 7, q); len(addrs) > maxAnswers {
			t.Errorf("%d addresses", len(addrs))
		}
	})
}
