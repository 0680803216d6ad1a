package pec

import (
	"slices"
	"strconv"
	"strings"
)

// maxParams bounds the parameters of one field.
const maxParams = 64

// parseParams reads "value; name=value; ..." as mail really has it: quoted or not, blanks
// anywhere, stray semicolons, continuations and charsets of RFC 2231. A name that stands twice
// keeps its first value. It never fails.
func parseParams(s string) (value string, params map[string]string) {
	s = stripComments(s)
	value, rest, _ := strings.Cut(s, ";")
	value = strings.ToLower(strings.TrimSpace(value))
	if i := strings.IndexAny(value, " \t\""); i >= 0 {
		value = value[:i]
	}
	raw := map[string]string{}
	for n := 0; rest != "" && n < maxParams; n++ {
		var name, v string
		name, v, rest = nextParam(rest)
		if name == "" {
			continue
		}
		if _, have := raw[name]; !have {
			raw[name] = v
		}
	}
	return value, joinParams(raw)
}

// nextParam takes one parameter off s.
func nextParam(s string) (name, value, rest string) {
	s = strings.TrimLeft(s, " \t;")
	i := strings.IndexAny(s, "=;")
	if i < 0 {
		return "", "", ""
	}
	if s[i] == ';' {
		return "", "", s[i+1:]
	}
	name = strings.ToLower(strings.TrimSpace(s[:i]))
	s = strings.TrimLeft(s[i+1:], " \t")
	if !strings.HasPrefix(s, `"`) {
		v, rest, _ := strings.Cut(s, ";")
		return name, strings.TrimSpace(v), rest
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case c == '"':
			_, rest, _ := strings.Cut(s[i+1:], ";")
			return name, b.String(), rest
		default:
			b.WriteByte(c)
		}
	}
	return name, b.String(), "" // the quote is never closed
}

// oneBoundary says whether every reader finds the same boundary in the Content-Type of a multipart: it stands once, not in
// pieces, no quote stands where none may, and there is no comment, allowed as it is. (Python's parser looks for the end of a quote
// that we take for a letter, and takes a comment for a part of a name.)
// spec: RFC2045 §5.1
func oneBoundary(s string) bool {
	if stripComments(s) != s {
		return false
	}
	_, rest, _ := strings.Cut(s, ";")
	found := 0
	for rest = strings.TrimLeft(rest, " \t;"); rest != ""; rest = strings.TrimLeft(rest, " \t;") {
		i := strings.IndexAny(rest, "=;\"")
		if i >= 0 && rest[i] == '"' {
			return false
		}
		name, value, after := nextParam(rest)
		if base, _, _ := strings.Cut(name, "*"); base == "boundary" {
			found++
			if base != name {
				return false
			}
		}
		if i < 0 || rest[i] == ';' {
			rest = rest[max(i, 0):]
			if i < 0 {
				break
			}
			continue
		}
		taken := strings.TrimSpace(strings.TrimSuffix(rest[i+1:len(rest)-len(after)], ";"))
		quoted := strings.HasPrefix(taken, `"`)
		if quoted && (len(taken) < 2 || !strings.HasSuffix(taken, `"`)) || !quoted && strings.ContainsAny(value, `"()`) || strings.ContainsAny(name, "()") {
			return false
		}
		rest = after
	}
	return found == 1
}

// stripComments takes (comments) out, outside of quotes. spec: RFC5322 §3.2.2
func stripComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			if depth == 0 {
				b.WriteString(s[i : i+2])
			}
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
			b.WriteByte(c)
		case c == '(' && !quoted:
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	if depth > 0 || quoted {
		return s // unbalanced: no comment at all
	}
	return b.String()
}

// segment is one piece of a continued parameter.
type segment struct {
	n       int
	encoded bool
	text    string
}

// joinParams puts name*0, name*1* ... together and decodes charset'language'%xx.
// spec: RFC2231 §3, §4
func joinParams(raw map[string]string) map[string]string {
	extended := false
	for name := range raw {
		extended = extended || strings.IndexByte(name, '*') >= 0
	}
	if !extended {
		return raw
	}
	out := make(map[string]string, len(raw))
	pieces := map[string][]segment{}
	for name, v := range raw {
		base, star, found := strings.Cut(name, "*")
		if !found {
			continue
		}
		encoded := star == "" || strings.HasSuffix(star, "*")
		num := strings.TrimSuffix(star, "*")
		n := 0
		if num != "" {
			parsed, err := strconv.Atoi(num)
			if err != nil || parsed < 0 || parsed > 999 {
				continue
			}
			n = parsed
		}
		pieces[base] = append(pieces[base], segment{n, encoded, v})
	}
	for name, v := range raw {
		if !strings.Contains(name, "*") {
			out[name] = v
		}
	}
	for base, list := range pieces {
		slices.SortFunc(list, func(a, b segment) int { return a.n - b.n })
		if v := joinSegments(list); v != "" {
			out[base] = v // spec: RFC2231 §4: the extended form goes before the plain one
		}
	}
	return out
}

func joinSegments(list []segment) string {
	var raw []byte
	charset := ""
	for i, s := range list {
		if !s.encoded {
			raw = append(raw, s.text...)
			continue
		}
		text := s.text
		if i == 0 {
			if cs, rest, ok := strings.Cut(text, "'"); ok {
				if _, rest2, ok := strings.Cut(rest, "'"); ok {
					charset, text = cs, rest2
				}
			}
		}
		raw = append(raw, unpercent(text)...)
	}
	if charset == "" {
		return string(raw)
	}
	v, _ := decodeCharset(charset, raw)
	return v
}

func unpercent(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return out
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
