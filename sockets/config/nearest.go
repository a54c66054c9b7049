package config

import (
	"slices"
	"strings"
)

// nearest names the word that was probably meant; "" where none is near enough to be a slip
// of the fingers.
func nearest(got string, words []string) string {
	best, dist := "", (len(got)+2)/4+1
	for _, w := range slices.Sorted(slices.Values(words)) {
		if d := distance(got, w); d < dist {
			best, dist = w, d
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// list names all words there are.
func list(words []string) string {
	return strings.Join(slices.Sorted(slices.Values(words)), ", ")
}

// distance is the number of letters to change, add, drop or swap with their neighbour to
// get from a to b.
func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	var d [maxWord + 1][maxWord + 1]int
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			switch {
			case i == 0:
				d[i][j] = j
				continue
			case j == 0:
				d[i][j] = i
				continue
			}
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// maxWord bounds what is compared: no key is as long.
const maxWord = 40
