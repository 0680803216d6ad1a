package pec

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// decodeCharset turns bytes of a charset into UTF-8. ok is false when the charset is unknown or
// the bytes are not in it: then the best guess is given.
func decodeCharset(charset string, raw []byte) (text string, ok bool) {
	name := strings.ToLower(strings.Trim(charset, " \t\"'"))
	if i := strings.IndexByte(name, '*'); i >= 0 {
		name = name[:i] // language. spec: RFC2231 §5
	}
	switch name {
	case "", "us-ascii", "ascii", "utf-8", "utf8", "unknown-8bit", "x-unknown", "ansi_x3.4-1968":
		if utf8.Valid(raw) {
			return string(raw), true
		}
		return guess(raw), false
	case "cp850", "ibm850", "850":
		return decodeWith(charmap.CodePage850, raw)
	case "cp437", "ibm437":
		return decodeWith(charmap.CodePage437, raw)
	}
	// htmlindex takes iso-8859-1 for windows-1252, which is what such mail really holds
	enc, err := htmlindex.Get(name)
	if err != nil {
		return guess(raw), false
	}
	out, err := enc.NewDecoder().Bytes(raw)
	if err != nil {
		return guess(raw), false
	}
	return string(out), true
}

func decodeWith(cm *charmap.Charmap, raw []byte) (string, bool) {
	out, err := cm.NewDecoder().Bytes(raw)
	if err != nil {
		return guess(raw), false
	}
	return string(out), true
}

// guess reads bytes of no known charset: UTF-8 when they are, else Windows-1252.
func guess(raw []byte) string {
	if utf8.Valid(raw) {
		return string(raw)
	}
	out, err := charmap.Windows1252.NewDecoder().Bytes(raw)
	if err != nil {
		return strings.ToValidUTF8(string(raw), "\ufffd")
	}
	return string(out)
}

// DecodeText reads the value of a field as text: encoded words, raw bytes above 127, and no
// control characters (a CR or LF in a name is how headers are forged). It never fails: what
// cannot be decoded stands as it came. spec: RFC2047 §6
func DecodeText(s string) string { return cleanText(decodeText(s)) }

// decodeText is DecodeText with whatever characters stand there.
func decodeText(s string) string {
	if !strings.Contains(s, "=?") {
		return guess([]byte(s))
	}
	var out strings.Builder
	var pending []byte // bytes of adjacent words of one charset: a character may be split over words
	charset := ""
	flush := func() {
		if pending != nil {
			text, _ := decodeCharset(charset, pending)
			out.WriteString(text)
			pending = nil
		}
	}
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		cs, raw, n := encodedWord(s[i:])
		if n == 0 {
			flush()
			out.WriteString(guess([]byte(s[:i+2])))
			s = s[i+2:]
			continue
		}
		between := s[:i]
		if pending == nil || strings.Trim(between, " \t") != "" {
			flush()
			out.WriteString(guess([]byte(between)))
		} else if !strings.EqualFold(cs, charset) {
			flush()
		}
		charset = cs
		pending = append(pending, raw...)
		if pending == nil {
			pending = []byte{}
		}
		s = s[i+n:]
	}
	flush()
	out.WriteString(guess([]byte(s)))
	return out.String()
}

// maxWord bounds an encoded word: 75 by the rules, far more in real mail.
const maxWord = 4 << 10

// encodedWord reads one word at the beginning of s; n is its length, 0 when it is none.
// Blanks inside the text are tolerated, since they occur. spec: RFC2047 §2
func encodedWord(s string) (charset string, raw []byte, n int) {
	s = s[:min(len(s), maxWord)] // or many beginnings without an end would cost their square
	rest := s[2:]
	charset, rest, ok := strings.Cut(rest, "?")
	if !ok || charset == "" || len(charset) > 64 || strings.ContainsAny(charset, " \t=") {
		return "", nil, 0
	}
	enc, rest, ok := strings.Cut(rest, "?")
	if !ok || len(enc) != 1 {
		return "", nil, 0
	}
	end := strings.Index(rest, "?=")
	if end < 0 {
		return "", nil, 0
	}
	// "=?utf-8?Q?=3D?=": the first "?=" may be "?" and an encoded byte
	if enc == "Q" || enc == "q" {
		for end+2 < len(rest) && end == 0 && unhex(rest[2]) >= 0 {
			next := strings.Index(rest[2:], "?=")
			if next < 0 {
				return "", nil, 0
			}
			end = next + 2
		}
	}
	text := rest[:end]
	n = len(s) - len(rest) + end + 2
	switch enc {
	case "B", "b":
		return charset, lenientBase64([]byte(text)), n
	case "Q", "q":
		return charset, unQ(text), n
	}
	return "", nil, 0
}

func unQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

// lenientBase64 decodes what is in the alphabet and passes over the rest.
func lenientBase64(b []byte) []byte {
	clean := make([]byte, 0, len(b))
	for _, c := range b {
		if alphabet64[c] {
			clean = append(clean, c)
		}
	}
	if len(clean)%4 == 1 {
		clean = clean[:len(clean)-1]
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
	n, err := base64.RawStdEncoding.Decode(out, clean)
	if err != nil {
		return out[:max(n, 0)]
	}
	return out[:n]
}

// alphabet64 says which bytes are of the alphabet of base64. spec: RFC4648 §4
var alphabet64 = func() (is [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		is[c] = true
	}
	return is
}()

// cleanText takes control characters and those that turn the direction of text out.
func cleanText(s string) string {
	bad := func(r rune) bool {
		return unicode.IsControl(r) && r != '\t' || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 || r == 0x200E || r == 0x200F || r == 0xFEFF
	}
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r' || r == '\n':
			return ' '
		case bad(r):
			return -1
		}
		return r
	}, s)
}

// maxName is the length in bytes that file systems and archives take.
const maxName = 200

// SafeName turns the name of an attachment into one that can be a file: no path, no control or
// direction characters, no reserved characters, not too long, never empty. The extension stays.
func SafeName(name string) string {
	name = cleanText(strings.ToValidUTF8(name, "_"))
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`<>:"|?*`, r) || r == '\t' {
			return '_'
		}
		return r
	}, name)
	name = strings.Trim(name, " .")
	if name == "" {
		return "unnamed"
	}
	if len(name) <= maxName {
		return name
	}
	ext := ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i <= 16 {
		ext = name[i:]
	}
	cut := maxName - len(ext)
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return strings.TrimRight(name[:cut], " .") + ext // the cut may have come behind one
}

// unique makes name different from those used, whatever their case.
func unique(name string, used map[string]bool) string {
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		stem, ext = name[:i], name[i:]
	}
	candidate := name
	for n := 2; used[strings.ToLower(candidate)]; n++ {
		candidate = stem + " (" + itoa(n) + ")" + ext
	}
	used[strings.ToLower(candidate)] = true
	return candidate
}
