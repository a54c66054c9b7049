// Package tuntest has what tests and the demo need around wires:
//
//   - [Net], [Pair] and [Wire]: a network in memory, with seeded [Faults] (loss,
//     duplication, reordering, delay, corruption, congestion marks);
//   - [NewDevices]: two ends of a TUN device in memory, with the interface of
//     golang.zx2c4.com/wireguard/tun;
//   - [Conformance]: the cases that every tun.Wire has to pass;
//   - [Poison]: a wrapper that makes broken rules of ownership visible;
//   - [Relay] and [Recorder]: a UDP relay that records what passes as pcapng.
//
// It uses no package of testing, so that a program can contain the relay.
//
// # Concurrency
//
// Everything here is safe for concurrent use. The in-memory parts start no goroutine and
// take the time from package time, so they work on virtual time (testing/synctest). A
// Relay owns one goroutine, which Close ends.
//
// # Limits
//
// Queues hold queuePackets packets and queueBytes bytes; what exceeds them is dropped and
// counted, as a socket's buffer would. A Recorder keeps no more than it was told.
package tuntest
