package ts

import (
	"math/bits"
	"net/netip"
)

// Prefixes covers the addresses of the set with prefixes, each once. They may overlap where
// the selectors do.
func (s Set) Prefixes() []netip.Prefix {
	if len(s) == 1 {
		return rangePrefixes(s[0].First, s[0].Last)
	}
	var out []netip.Prefix
	seen := make(map[netip.Prefix]struct{})
	for _, x := range s {
		for _, q := range rangePrefixes(x.First, x.Last) {
			if _, dup := seen[q]; !dup {
				seen[q] = struct{}{}
				out = append(out, q)
			}
		}
	}
	return out
}

// rangePrefixes splits an address range into the fewest prefixes: at most two for each bit of an address.
func rangePrefixes(first, last netip.Addr) (out []netip.Prefix) {
	if !first.IsValid() || first.BitLen() != last.BitLen() || last.Less(first) {
		return nil
	}
	n := first.BitLen()
	if first == last {
		return []netip.Prefix{netip.PrefixFrom(first, n)}
	}
	for {
		// Grow the block at first while it is aligned and stays within the range.
		size := 0
		for size < n && trailingZeros(first) > size && !last.Less(lastOf(first, size+1)) {
			size++
		}
		out = append(out, netip.PrefixFrom(first, n-size))
		end := lastOf(first, size)
		if !end.Less(last) {
			return out
		}
		first = end.Next()
	}
}

// trailingZeros counts the zero bits at the end of a.
func trailingZeros(a netip.Addr) int {
	b := a.AsSlice()
	n := 0
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return n + bits.TrailingZeros8(b[i])
		}
		n += 8
	}
	return n
}

// lastOf returns a with its last size bits set.
func lastOf(a netip.Addr, size int) netip.Addr {
	b := a.AsSlice()
	for i := len(b) - 1; i >= 0 && size > 0; i-- {
		k := min(size, 8)
		b[i] |= byte(1<<k - 1)
		size -= k
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}
