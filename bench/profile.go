package bench

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A Share is what one package took of the CPU time that was profiled, by itself.
type Share struct {
	Package string  `json:"package"`
	Percent float64 `json:"percent"`
}

var errProfile = errors.New("bench: malformed profile")

// shares adds up a CPU profile, as runtime/pprof writes it, by the package of the function
// that ran. Samples with a function on the stack whose name contains without are left out.
func shares(profile []byte, without string) ([]Share, error) {
	z, err := gzip.NewReader(bytes.NewReader(profile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProfile, err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProfile, err)
	}
	// The message Profile of github.com/google/pprof/proto/profile.proto.
	var samples [][]byte
	var text []string
	lines := map[uint64][]uint64{} // by location: its functions
	names := map[uint64]uint64{}   // by function: index into text
	err = fields(raw, func(field int, _ uint64, b []byte) error {
		switch field {
		case 2:
			samples = append(samples, b)
		case 4:
			var id uint64
			var in []uint64
			err := fields(b, func(field int, n uint64, b []byte) error {
				switch field {
				case 1:
					id = n
				case 4:
					return fields(b, func(field int, n uint64, _ []byte) error {
						if field == 1 {
							in = append(in, n)
						}
						return nil
					})
				}
				return nil
			})
			lines[id] = in
			return err
		case 5:
			var id uint64
			return fields(b, func(field int, n uint64, _ []byte) error {
				switch field {
				case 1:
					id = n
				case 2:
					names[id] = n
				}
				return nil
			})
		case 6:
			text = append(text, string(b))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	name := func(f uint64) string {
		if i := names[f]; i < uint64(len(text)) {
			return text[i]
		}
		return ""
	}
	total, by := 0.0, map[string]float64{}
	for _, s := range samples {
		var stack, values []uint64
		if err := fields(s, func(field int, n uint64, b []byte) error {
			switch field {
			case 1:
				stack = numbers(stack, n, b)
			case 2:
				values = numbers(values, n, b)
			}
			return nil
		}); err != nil {
			return nil, err
		}
		if len(values) == 0 || slices.ContainsFunc(stack, func(l uint64) bool {
			return slices.ContainsFunc(lines[l], func(f uint64) bool { return strings.Contains(name(f), without) })
		}) {
			continue
		}
		leaf := ""
		if len(stack) > 0 && len(lines[stack[0]]) > 0 {
			leaf = packageOf(name(lines[stack[0]][0]))
		}
		n := float64(values[len(values)-1]) // the last type is time
		by[leaf] += n
		total += n
	}
	var out []Share
	for _, p := range slices.Sorted(maps.Keys(by)) {
		out = append(out, Share{p, 100 * by[p] / total})
	}
	slices.SortStableFunc(out, func(a, b Share) int { return cmp.Compare(b.Percent, a.Percent) })
	return out, nil
}

// packageOf is the package of a function such as "a.example/b.(*T).f" or "runtime.f".
func packageOf(f string) string {
	f, _, _ = strings.Cut(f, "[") // type arguments may name other packages
	slash := strings.LastIndexByte(f, '/') + 1
	if dot := strings.IndexByte(f[slash:], '.'); dot >= 0 {
		return f[:slash+dot]
	}
	return f
}

// fields calls f for each field of a protocol buffer, with its number or its octets.
func fields(b []byte, f func(field int, n uint64, b []byte) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return errProfile
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return errProfile
		}
		b = b[n:]
		var octets []byte
		switch key & 7 {
		case 0:
		case 2:
			if v > uint64(len(b)) {
				return errProfile
			}
			octets, b = b[:v], b[v:]
		default: // nothing else occurs in a profile
			return errProfile
		}
		if err := f(int(key>>3), v, octets); err != nil {
			return err
		}
	}
	return nil
}

// numbers appends a repeated number, packed into b or by itself.
func numbers(out []uint64, n uint64, b []byte) []uint64 {
	if b == nil {
		return append(out, n)
	}
	for len(b) > 0 {
		v, k := binary.Uvarint(b)
		if k <= 0 {
			return out
		}
		out, b = append(out, v), b[k:]
	}
	return out
}
