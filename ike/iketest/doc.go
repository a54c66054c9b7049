// Package iketest is the test bed of package ike: hosts with real machines, keys and
// gates, joined by a seeded network that loses, delays, duplicates, reorders and
// corrupts, on virtual time. A Host stands in for the engine: it answers Work inline or
// later, keeps the tables a data plane would keep, and checks after every step what must
// hold at all times; [Sim.Settle] checks what must hold when all is quiet.
//
// # Use
//
// Make a [Sim] with a seed, add hosts, [Host.Connect] one to another, [Sim.Run] for a
// while. A broken invariant is in [Sim.Errors] with the seed that shows it again. Faults
// are set per Sim; [Sim.Tap] sees every datagram sent and may change, drop or multiply
// it; [Sim.Rewrite] opens protected messages with the machines' own key log, so that a
// test plays a peer that breaks any rule it likes, and writes with encoders of its own
// ([Encode], [EncodeChain], closed.go), to whose octets those of the machines are held as
// well. [Host.Talk] has packets pass under real
// ESP while all that happens, and Sim.Traffic counts what becomes of them.
//
// A [Transcript] is a host's conversation with a peer that nobody here wrote: recorded by
// cmd/internal/interop, kept in testdata/transcripts, replayed octet for octet.
//
// # Concurrency
//
// A Sim and its hosts belong to one goroutine. Nothing in it sleeps or reads a clock.
//
// # Limits
//
// Made for tests: it is not fast, keeps all events, and its randomness is no secret.
package iketest
