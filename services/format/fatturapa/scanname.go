package fatturapa

import (
	"strings"
	"unicode/utf8"
)

// splitName cuts a qualified name at its colon.
func splitName(q string) (prefix, local string) {
	if p, l, ok := strings.Cut(q, ":"); ok {
		return p, l
	}
	return "", q
}

// charClass marks the ASCII bytes of names and of white space.
var charClass = buildCharClass()

const (
	classStart uint8 = 1 << iota
	className        // but not the colon, which is looked at apart
	classSpace
)

func buildCharClass() (t [256]uint8) {
	for c := range t {
		b := byte(c)
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_':
			t[c] = classStart | className
		case b >= '0' && b <= '9', b == '-', b == '.':
			t[c] = className
		case b == ' ', b == '\t', b == '\r', b == '\n':
			t[c] = classSpace
		}
	}
	return t
}

func isSpace(c byte) bool { return charClass[c]&classSpace != 0 }

// nameLen returns the length of the XML name at the start of s, 0 for none. A
// name with a colon at an end, or with two, is no name in Namespaces.
func nameLen(s string) int {
	i, colon := startLen(s), false
	if i == 0 {
		return 0
	}
	for {
		for i < len(s) && charClass[s[i]]&className != 0 {
			i++
		}
		if i >= len(s) || s[i] < 0x80 && s[i] != ':' {
			return i
		}
		if s[i] == ':' {
			if colon || startLen(s[i+1:]) == 0 {
				return 0
			}
			colon = true
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !isNameRune(r) && !inRanges(r, moreNameRunes) {
			return i
		}
		i += n
	}
}

// startLen returns the length of the character that starts a name, 0 when s
// starts with none.
func startLen(s string) int {
	if s == "" {
		return 0
	}
	if s[0] < 0x80 {
		return int(charClass[s[0]] & classStart)
	}
	if r, n := utf8.DecodeRuneInString(s); isNameRune(r) {
		return n
	}
	return 0
}

// startRunes and moreNameRunes are the characters of names beyond ASCII (XML 1.0,
// productions [4] and [4a]): the first may start a name, the second only follow.
var (
	startRunes = [][2]rune{{0xC0, 0xD6}, {0xD8, 0xF6}, {0xF8, 0x2FF}, {0x370, 0x37D}, {0x37F, 0x1FFF}, {0x200C, 0x200D},
		{0x2070, 0x218F}, {0x2C00, 0x2FEF}, {0x3001, 0xD7FF}, {0xF900, 0xFDCF}, {0xFDF0, 0xFFFD}, {0x10000, 0xEFFFF}}
	moreNameRunes = [][2]rune{{0xB7, 0xB7}, {0x300, 0x36F}, {0x203F, 0x2040}}
)

func isNameRune(r rune) bool { return inRanges(r, startRunes) }

func inRanges(r rune, ranges [][2]rune) bool {
	for _, x := range ranges {
		if r >= x[0] && r <= x[1] {
			return true
		}
	}
	return false
}

// isBlank reports whether s is only white space.
func isBlank(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isSpace(s[i]) {
			return false
		}
	}
	return true
}

// appendNewlines appends text with CR LF and CR turned into LF (XML 1.0 §2.11).
func appendNewlines(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != '\r' {
			dst = append(dst, c)
			continue
		}
		dst = append(dst, '\n')
		if i+1 < len(s) && s[i+1] == '\n' {
			i++
		}
	}
	return dst
}
