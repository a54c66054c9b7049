package tokens

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes text from outside fit to be shown and logged: control characters, line and
// direction marks, backslashes and bytes that are not UTF-8 become escapes, and what would pass
// max bytes is cut and marked with "…". The result is at most max bytes, for max of at least 8.
func Escape(s string, max int) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		var piece string
		switch {
		case r == utf8.RuneError && n == 1:
			piece = fmt.Sprintf(`\x%02x`, s[i])
		case r == '\\':
			piece = `\\`
		case r < 0x80 && !unicode.IsPrint(r):
			piece = fmt.Sprintf(`\x%02x`, r)
		case !unicode.IsPrint(r):
			piece = fmt.Sprintf(`\u{%x}`, r)
		default:
			piece = s[i : i+n]
		}
		if i += n; b.Len()+len(piece) > max-3 {
			// Room for the mark, unless this is the end and fits exactly.
			if i == len(s) && b.Len()+len(piece) <= max {
				b.WriteString(piece)
				return b.String()
			}
			b.WriteString("…")
			return b.String()
		}
		b.WriteString(piece)
	}
	return b.String()
}

// clean reports whether s is printable UTF-8 of at most max bytes.
func clean(s string, max int) bool {
	if len(s) > max || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
