package compose

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// alphabet is what an element may hold.
type alphabet rune

const (
	ascii  alphabet = 0x7F // Basic Latin
	latin1 alphabet = 0xFF // and Latin-1 Supplement
)

// Transliterate writes a text with the characters of Latin-1 only, which is all
// that the format takes: typographic signs become their plain forms, letters with
// foreign marks lose them, Greek and Cyrillic are romanised, line ends become
// spaces; what has no reading becomes "?". Spaces around it are removed. changed
// is false when only those were.
//
// spec: schema VFPR12 1.2.3, the types named ...LatinType
func Transliterate(s string) (out string, changed bool) { return transliterate(s, latin1) }

func transliterate(s string, set alphabet) (out string, changed bool) {
	s = strings.TrimSpace(s)
	if plain(s, set) {
		return s, false
	}
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range norm.NFC.String(s) {
		b.WriteString(reading(r, set))
	}
	out = strings.TrimSpace(b.String())
	return out, out != s
}

// plain reports whether a text needs no change.
func plain(s string, set alphabet) bool {
	for _, r := range s {
		if !allowed(r, set) {
			return false
		}
	}
	return true
}

// allowed leaves out control characters: the schema takes some, people never
// mean them.
func allowed(r rune, set alphabet) bool {
	return r >= 0x20 && r < 0x7F || r >= 0xA0 && r <= rune(set)
}

// reading is how one character is written with the set.
func reading(r rune, set alphabet) string {
	if allowed(r, set) {
		return string(r)
	}
	if s, ok := readings[r]; ok {
		if plain(s, set) {
			return s
		}
		out, _ := transliterate(s, set)
		return out
	}
	if r < 0x20 || r >= 0x7F && r < 0xA0 {
		return " "
	}
	var b strings.Builder
	for _, d := range norm.NFKD.String(string(r)) {
		switch {
		case d >= 0x300 && d <= 0x36F: // a mark on the letter before
		case allowed(d, set):
			b.WriteRune(d)
		default:
			if s, ok := readings[d]; ok && plain(s, set) {
				b.WriteString(s)
			}
		}
	}
	if b.Len() > 0 {
		return b.String()
	}
	if norm.NFKD.String(string(r)) != string(r) || r >= 0x300 && r <= 0x36F {
		return ""
	}
	return "?"
}
