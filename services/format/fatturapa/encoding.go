package fatturapa

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
)

// decodeText turns the bytes of a file into UTF-8 text without byte order mark.
// It follows XML 1.0 appendix F: the mark first, then the declared encoding.
// name is the encoding that was used. The returned text has passed a check that
// every character is one that XML allows.
func decodeText(raw []byte) (text, name string, err *ParseError) {
	switch {
	case len(raw) >= 2 && (raw[0] == 0xFE && raw[1] == 0xFF || raw[0] == 0xFF && raw[1] == 0xFE):
		return decodeUTF16(raw[2:], raw[0] == 0xFE)
	case len(raw) >= 2 && raw[0] == 0 && raw[1] == '<':
		return decodeUTF16(raw, true)
	case len(raw) >= 2 && raw[0] == '<' && raw[1] == 0:
		return decodeUTF16(raw, false)
	}
	marked := len(raw) >= 3 && raw[0] == 0xEF && raw[1] == 0xBB && raw[2] == 0xBF
	if marked {
		raw = raw[3:]
	}
	name = declaredEncoding(raw)
	if name == "" || marked {
		// A mark wins over the declaration: this is what parsers in use do with
		// files that were converted to UTF-8 without touching their first line.
		name = "UTF-8"
	}
	switch name {
	case "UTF-8", "US-ASCII":
		text = string(raw)
		if at := firstInvalidUTF8(text); at >= 0 {
			return "", name, newEncodingError(text, at, "the bytes here are not %s", name)
		}
		return text, name, nil
	}
	cm := charmapFor(name)
	if cm == nil {
		return "", name, newParseError(ErrEncoding, 1, 1, "the declared encoding %s is not supported", name)
	}
	out, derr := cm.NewDecoder().Bytes(raw)
	if derr != nil {
		return "", name, newParseError(ErrEncoding, 0, 0, "the bytes are not %s", name)
	}
	return string(out), name, nil
}

// charmapFor knows the one-byte encodings met in invoices.
func charmapFor(name string) encoding.Encoding {
	switch name {
	case "ISO-8859-1", "LATIN1", "ISO_8859-1", "L1", "ISO8859-1":
		return charmap.ISO8859_1
	case "ISO-8859-15", "LATIN-9", "ISO8859-15":
		return charmap.ISO8859_15
	case "WINDOWS-1252", "CP1252":
		return charmap.Windows1252
	case "WINDOWS-1250", "CP1250":
		return charmap.Windows1250
	case "ISO-8859-2":
		return charmap.ISO8859_2
	case "IBM850", "CP850":
		return charmap.CodePage850
	}
	return nil
}

// declaredEncoding reads the encoding of the XML declaration, in capitals; ""
// when there is none. Every supported one-byte encoding agrees with ASCII here.
func declaredEncoding(raw []byte) string {
	head := string(raw[:min(len(raw), 256)])
	head = strings.TrimLeft(head, " \t\r\n")
	if !strings.HasPrefix(head, "<?xml") {
		return ""
	}
	end := strings.Index(head, "?>")
	if end < 0 {
		return ""
	}
	head = head[:end]
	at := strings.Index(head, "encoding")
	if at < 0 {
		return ""
	}
	rest := strings.TrimLeft(head[at+len("encoding"):], " \t\r\n")
	if !strings.HasPrefix(rest, "=") {
		return ""
	}
	rest = strings.TrimLeft(rest[1:], " \t\r\n")
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return ""
	}
	val, _, ok := strings.Cut(rest[1:], rest[:1])
	if !ok {
		return ""
	}
	val = strings.ToUpper(val)
	switch val {
	case "UTF8":
		return "UTF-8"
	case "ASCII":
		return "US-ASCII"
	}
	return val
}

// decodeUTF16 decodes the two byte orders of UTF-16.
func decodeUTF16(raw []byte, big bool) (string, string, *ParseError) {
	name := "UTF-16LE"
	if big {
		name = "UTF-16BE"
	}
	if len(raw)%2 != 0 {
		return "", name, newParseError(ErrEncoding, 0, 0, "UTF-16 text with an odd number of bytes")
	}
	var b strings.Builder
	b.Grow(len(raw)/2 + len(raw)/16)
	unit := func(i int) rune {
		if big {
			return rune(raw[i])<<8 | rune(raw[i+1])
		}
		return rune(raw[i+1])<<8 | rune(raw[i])
	}
	for i := 0; i < len(raw); i += 2 {
		r := unit(i)
		if utf16.IsSurrogate(r) {
			var r2 rune
			if i+2 < len(raw) {
				r2 = unit(i + 2)
			}
			if r = utf16.DecodeRune(r, r2); r == utf8.RuneError {
				return "", name, newEncodingError(b.String(), b.Len(), "half of a UTF-16 surrogate pair")
			}
			i += 2
		}
		b.WriteRune(r)
	}
	return b.String(), name, nil
}

// newEncodingError places an encoding fault at a byte of the text.
func newEncodingError(text string, at int, format string, args ...any) *ParseError {
	line, col := position(text, at)
	return newParseError(ErrEncoding, line, col, format, args...)
}

// firstInvalidUTF8 returns the first byte that is not UTF-8, -1 when all is.
func firstInvalidUTF8(s string) int {
	if utf8.ValidString(s) {
		return -1
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// firstForbidden returns the first byte of a character that XML 1.0 does not
// allow (production [2] Char), -1 when there is none. s is valid UTF-8.
//
// Eight bytes at a time: the bytes below 0x20 of a block, less its line ends and
// tabs. A borrow between bytes can only raise a false alarm, which the loop over
// the bytes of the block settles.
func firstForbidden(s string) int {
	const high = 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		b := s[i : i+8]
		x := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		low := (x - 0x2020202020202020) &^ x & high
		if low == 0 || low&^bytesEqual(x, '\n') == 0 || low&^(bytesEqual(x, '\n')|bytesEqual(x, '\r')|bytesEqual(x, '\t')) == 0 {
			continue
		}
		for j := i; j < i+8; j++ {
			if c := s[j]; c < 0x20 && c != '\n' && c != '\r' && c != '\t' {
				return j
			}
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 && c != '\n' && c != '\r' && c != '\t' {
			return i
		}
	}
	for at := 0; ; { // U+FFFE and U+FFFF
		k := strings.Index(s[at:], "\xEF\xBF")
		if k < 0 {
			return -1
		}
		at += k
		if at+2 < len(s) && (s[at+2] == 0xBE || s[at+2] == 0xBF) {
			return at
		}
		at += 2
	}
}

// position gives line and column (in characters), both from 1, of a byte.
func position(s string, at int) (line, col int) {
	at = min(max(at, 0), len(s))
	line = 1 + strings.Count(s[:at], "\n")
	start := strings.LastIndexByte(s[:at], '\n') + 1
	return line, 1 + utf8.RuneCountInString(s[start:at])
}

// bytesEqual sets the high bit of each byte of x that equals c.
func bytesEqual(x uint64, c byte) uint64 {
	const low7 = 0x7F7F7F7F7F7F7F7F
	v := x ^ uint64(c)*0x0101010101010101
	return ^((v&low7 + low7) | v | low7)
}
