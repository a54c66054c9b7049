package engine

import (
	"github.com/btns-go/btns/netstack"
	"github.com/btns-go/btns/tun"
)

// This file is what the ends of a host have counted, its wire and its stack: they drop what they
// must and tell nobody, so the numbers are all there is to see.

// A WireStatus counts outer packets.
type WireStatus struct {
	InPackets  uint64            `json:"in_packets"`
	InBytes    uint64            `json:"in_bytes"`
	OutPackets uint64            `json:"out_packets"`
	OutBytes   uint64            `json:"out_bytes"`
	TooBig     uint64            `json:"too_big"` // told of by the path (ICMP)
	Drops      map[string]uint64 `json:"drops"`
}

// A StackStatus counts inner packets of the TCP/IP stack.
type StackStatus struct {
	Output    uint64            `json:"output"`
	Delivered uint64            `json:"delivered"`
	Looped    uint64            `json:"looped"` // from own to own addresses
	Panics    uint64            `json:"panics"` // recovered; anything but 0 is a bug
	Drops     map[string]uint64 `json:"drops"`
}

func wireStatus(s tun.Stats) WireStatus {
	return WireStatus{InPackets: s.RxPackets, InBytes: s.RxBytes, OutPackets: s.TxPackets, OutBytes: s.TxBytes, TooBig: s.TooBig,
		Drops: above(s.Drops[:], func(i int) string { return tun.Drop(i).String() })}
}

func stackStatus(s netstack.Stats) StackStatus {
	return StackStatus{Output: s.Output, Delivered: s.Delivered, Looped: s.Looped, Panics: s.Panics,
		Drops: above(s.Drops[:], func(i int) string { return netstack.Drop(i).String() })}
}

// above names the counts above zero.
func above(counts []uint64, name func(int) string) map[string]uint64 {
	m := map[string]uint64{}
	for i, n := range counts {
		if n > 0 {
			m[name(i)] = n
		}
	}
	return m
}
