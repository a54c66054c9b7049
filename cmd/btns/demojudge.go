package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	"github.com/btns-go/btns/sockets"
	"github.com/btns-go/btns/tokens"
	"github.com/btns-go/btns/tun/tuntest"
)

// A recording is what crossed the relay, as much as there is room for, and how often what
// is looked for was seen in all that did.
type recording struct {
	*tuntest.Recorder
	limit   int
	secret  string // stands in every line of the transfer
	request string // stands in the client's first request
	control string // crosses in clear before there is IPsec, so it is never beyond the limit
}

func newRecording(limit int, marker string) *recording {
	r := &recording{limit: limit, secret: "plaintext-" + marker, request: "GET /whoami", control: "control-" + marker}
	r.Recorder = tuntest.NewRecorder(limit, []byte(r.secret), []byte(r.request), []byte(r.control))
	return r
}

// judge looks for what must not be there, and for what must, or the search proves nothing.
// At least this many octets of plaintext were transferred.
func (r *recording) judge(transferred int, say func(string, ...any)) error {
	datagrams, size, kept := r.Counts()
	if size < transferred {
		return fmt.Errorf("demo: only %d bytes passed the relay: the transfer of %d went another way", size, transferred)
	}
	passing := func(i int, needle string) (n, inFile int) { return r.Watched(i), r.Search([]byte(needle)) }
	for i, p := range []string{r.secret, r.request} {
		if n, inFile := passing(i, p); n+inFile > 0 {
			return fmt.Errorf("demo: the plaintext %q crossed the relay in %d datagrams", p, max(n, inFile))
		}
	}
	n, inFile := passing(2, r.control)
	if n == 0 || inFile == 0 {
		return errors.New("demo: the clear control transfer was not found: the search proves nothing")
	}
	in := "all of them are in its recording, which was searched too"
	if kept < datagrams {
		in = fmt.Sprintf("the first %d are in its recording, which was searched too and has no room for more than %d bytes", kept, r.limit)
	}
	say("8. The relay searched every datagram: %d, of %d bytes; %s.", datagrams, size, in)
	say("9. The plaintext of the transfer, and of the request, is in none of them.")
	say("   The control is in %d of them.", n)
	return nil
}

// hostUp is what a demo host says of itself.
type hostUp struct {
	Key     []byte     `json:"key"` // SubjectPublicKeyInfo
	Address netip.Addr `json:"address"`
}

// check returns the key's fingerprint if the address is derived from the key.
func (u *hostUp) check() (fingerprint string, err error) {
	key, err := x509.ParsePKIXPublicKey(u.Key)
	if err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	addr, err := sockets.KeyAddress(key)
	if err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	if addr != u.Address {
		return "", fmt.Errorf("demo: a host has address %s, its key's is %s", u.Address, addr)
	}
	return sockets.Fingerprint(key), nil
}

// An endpoint is one of the demo's hosts as it introduced itself.
type endpoint struct {
	udp netip.AddrPort // its socket, which carried the control
	key string         // fingerprint
}

// held is what an end knows of its connection after the transfer.
type held struct {
	Hash    string         `json:"hash"` // of the transfer
	Token   string         `json:"token"`
	Method  string         `json:"method"`
	Privacy bool           `json:"privacy"` // and integrity
	Local   string         `json:"local"`   // fingerprints
	Remote  string         `json:"remote"`
	UDP     netip.AddrPort `json:"udp"`
	SPIIn   tokens.SPI     `json:"spi_in"`
	SPIOut  tokens.SPI     `json:"spi_out"`
}

// agree tells whether the ends saw the same transfer on the same SAs, made by their keys
// and carried by their sockets.
func agree(client, server *held, c, s endpoint) error {
	switch {
	case client.Hash != server.Hash || client.Hash == "":
		return fmt.Errorf("demo: the client received %s, the server sent %s", client.Hash, server.Hash)
	case client.Local != c.key || client.Remote != s.key || server.Local != s.key || server.Remote != c.key:
		return fmt.Errorf("demo: the ends do not agree on who they are: the client says %s and %s, the server %s and %s",
			client.Local, client.Remote, server.Remote, server.Local)
	case client.UDP != c.udp || server.UDP != s.udp:
		return fmt.Errorf("demo: the client used %s, the server %s; their sockets are %s and %s", client.UDP, server.UDP, c.udp, s.udp)
	case client.SPIIn != server.SPIOut || client.SPIOut != server.SPIIn || client.SPIIn == 0 || client.SPIOut == 0:
		return fmt.Errorf("demo: the ends hold different SAs: the client %s in and %s out, the server %s out and %s in",
			client.SPIIn, client.SPIOut, server.SPIOut, server.SPIIn)
	}
	for _, h := range []*held{client, server} {
		if want := tokens.MethodBTNS.String(); h.Method != want || !h.Privacy {
			return fmt.Errorf("demo: an end holds method %s, privacy and integrity %t; want %s and both", h.Method, h.Privacy, want)
		}
	}
	return nil
}

// hostEnd is a demo host's last message: how its SAs came and went.
type hostEnd struct {
	Events []sockets.Event `json:"events"`
}

// check tells whether there were SAs, and all of them went down; at the server because the
// client said so.
func (h *hostEnd) check(byPeer bool) error {
	up, seen := map[sockets.EventKind]int{}, map[sockets.EventKind]int{}
	for i := range h.Events {
		e := &h.Events[i]
		switch {
		case e.Kind == sockets.EventLost:
			return fmt.Errorf("%d events were lost", e.Lost)
		case e.Kind != sockets.EventIKEUpDown && e.Kind != sockets.EventChildUpDown:
		case e.Up:
			up[e.Kind]++
			seen[e.Kind]++
		case byPeer && e.Reason != deletedByPeer:
			return fmt.Errorf("not told that the SAs are deleted: %s", e)
		default:
			up[e.Kind]--
		}
	}
	for _, k := range []sockets.EventKind{sockets.EventIKEUpDown, sockets.EventChildUpDown} {
		if seen[k] == 0 || up[k] != 0 {
			return fmt.Errorf("%s: %d SAs came up, %d of them are left", k, seen[k], up[k])
		}
	}
	return nil
}

// deletedByPeer is an Event's Reason after the peer's DELETE.
const deletedByPeer = "deleted by peer"
