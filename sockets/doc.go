// Package sockets is IPsec for Go programs: a host with its own TCP/IP, keyed by IKEv2 and
// protected by ESP, in this process and without privilege. Dial and Listen are package
// net's; beyond that a program can ask who is at the other end and how the connection is
// protected, and it stays with them.
//
//	st, err := sockets.New(sockets.Config{
//		Connections: []sockets.Connection{{RemoteAddrs: []string{"192.0.2.1"}}},
//	})
//	conn, err := st.DialContext(ctx, "tcp", "[fd62:746e:…]:80")
//	pt, err := sockets.PTokenFrom(conn)
//	info, err := pt.Info()
//
// # What happens
//
// The first packet of a flow finds its policy (RFC 4301, Section 4.4.1), waits while IKEv2
// makes an SA for it (RFC 7296), and the flow is latched: from then on it uses SAs of the
// same peer, with the same protection, or none (RFC 5660). Nothing is sent or accepted in
// the clear. A Connection without credentials is BTNS: the peers know each other's keys and
// nothing else (RFC 5386), and by default each may own only the address derived from its
// key, so that whoever answers for an address holds its key.
//
// # Configuration
//
// A Config's zero value is safe and runs. Package sockets/config reads one from YAML.
//
// # Events
//
// Watch yields what becomes of SAs, and why not, as typed Events: both sides' offers and
// the first thing that did not match where a negotiation failed. They are in the log too.
// What nobody has authenticated is marked, and its number bounded.
//
// # Concurrency
//
// Everything is safe for concurrent use, as package net's types are. Config values must
// not be modified while New reads them.
//
// # Memory
//
// Buffers given to Read and Write are the caller's again on return. A Stack owns its wire,
// its goroutines and all SAs until Close, which waits for them.
//
// # Errors
//
// Errors are *net.OpError around typed causes; time-outs match os.ErrDeadlineExceeded and
// net.Error, closed things net.ErrClosed. Sentinels name their errno in their comments.
//
// # Limits
//
// One process is one end of its tunnels: this package forwards nothing between peers. EAP,
// certificates, channel binding and leap of faith are not here yet.
package sockets
