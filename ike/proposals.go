package ike

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/btns-go/btns/ike/suite"
	"github.com/btns-go/btns/ike/wire"
)

// numbered returns the proposals as an offer: numbers from 1 (RFC 7296, Section
// 3.3.1) and our SPI. The transforms are shared.
func numbered(ps []wire.Proposal, spi []byte) []wire.Proposal {
	out := slices.Clone(ps)
	for i := range out {
		out[i].Num = uint8(i + 1)
		out[i].SPI = spi
	}
	return out
}

// firstGroup returns the first key exchange method of the first proposal that has
// one other than NONE.
func firstGroup(ps []wire.Proposal) uint16 {
	for _, p := range ps {
		for _, t := range p.Transforms {
			if t.Type == wire.TransformKE && t.ID != wire.GroupNone {
				return t.ID
			}
		}
	}
	return wire.GroupNone
}

func offersGroup(ps []wire.Proposal, group uint16) bool {
	return slices.ContainsFunc(ps, func(p wire.Proposal) bool {
		return slices.ContainsFunc(p.Transforms, func(t wire.Transform) bool {
			return t.Type == wire.TransformKE && t.ID == group
		})
	})
}

func proposalList(ps []wire.Proposal) string {
	parts := make([]string, len(ps))
	for i, p := range ps {
		parts[i] = suite.String(p)
	}
	return strings.Join(parts, ", ")
}

func spi32(spi uint32) []byte { return binary.BigEndian.AppendUint32(nil, spi) }

// espSPI reads the SPI of an ESP proposal; 0 if it has no usable one: four octets,
// not reserved (RFC 7296, Section 3.3.1; RFC 4303, Section 2.1; ADV-E7).
func espSPI(p wire.Proposal) uint32 {
	if p.Protocol != wire.ProtocolESP || len(p.SPI) != 4 {
		return 0
	}
	if spi := binary.BigEndian.Uint32(p.SPI); spi >= minSPI {
		return spi
	}
	return 0
}

// espOffers returns the proposals that can be chosen at all.
func espOffers(ps []wire.Proposal) []wire.Proposal {
	var out []wire.Proposal
	for _, p := range ps {
		if espSPI(p) != 0 {
			out = append(out, p)
		}
	}
	return out
}
