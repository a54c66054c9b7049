// Package netstack is one TCP/IP host inside this process: gVisor's TCP, UDP and ICMP between a link made of two hook
// functions below and sockets that behave as package net's above. It is the only importer of gVisor, and knows no security
// association, policy or latch: it carries the Tag that others put on sockets and packets (RFC 5660, Section 4: which
// protection a connection demands, and which one a packet came under).
//
// # Down
//
// Every packet the stack emits goes to Hooks.Output: TCP in super-packets of up to 64 KiB (Packet.MSS says how to cut them,
// one copy per segment), UDP datagrams of up to 65,507 bytes whole. Nothing is fragmented here, checksums of TCP and UDP are
// left to the one who copies (Packet.NeedsCsum), and nothing unsolicited leaves: no router or neighbour solicitation, no
// group membership report. A packet without a socket (Packet.Unowned) says which inbound packet provoked it where that is
// known (Packet.Provoker).
//
// # Up
//
// Deliver injects a packet with the tag of what protected it. Hooks.Admit is asked after the socket was chosen and before
// its transport changed anything, for every TCP segment, UDP datagram and ICMP message; for an ICMP error a second time, for
// the connection it would act on. The hook is a wrapper of gVisor's protocols that gVisor finds by a method's name: New sends
// packets through it and refuses to start when they come past it, and what comes past it reaches no socket.
//
// Packets to one of the stack's own addresses never reach Output: they turn round inside and come up with Stack.LoopbackTag
// and Inbound.Loopback set, so no policy is asked on the way out and Admit decides. From outside, packets that claim one of
// the stack's own addresses as source are dropped.
//
// # Ownership
//
// Deliver copies; its slices are the caller's again when it returns. A Packet is netstack's and only lent to Output, unless
// held. Slices given to sockets are the caller's again on return.
//
// # Concurrency
//
// Everything exported is safe for concurrent use, except one Packet. Hooks run with gVisor's locks held, many at a time:
// they must not block and must not call Stack or a socket. Stack.Close returns when every goroutine of the stack is gone;
// a Stack runs one per CPU for TCP, and two of its own.
//
// # Limits
//
// See limits.go. An idle TCP connection takes about 7 KiB, a UDP socket 6 KiB, both without a goroutine. TCP checksums of
// delivered packets are not looked at (the integrity check value of the packet around them was); VerifyChecksum is for
// packets whose origin lies behind the peer.
package netstack
