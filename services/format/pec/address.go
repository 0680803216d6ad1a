package pec

import "strings"

// Address is a mailbox of a header.
type Address struct {
	Name string // decoded, "" when there is none
	Addr string // local@domain as written
}

// ParseAddresses reads a list of addresses as mail really has them: groups, names without
// quotes, encoded words, a missing bracket, raw 8-bit. What has no "@" is given with its text as
// Name and no Addr. It never fails; who must be strict uses CheckSubmission.
func ParseAddresses(s string) []Address {
	var out []Address
	for _, item := range splitAddresses(s) {
		if a, ok := parseAddress(item); ok {
			out = append(out, a)
		}
	}
	return out
}

// splitAddresses cuts at commas and at the signs of a group, outside of quotes, brackets and comments.
func splitAddresses(s string) []string {
	var out []string
	depth, start := 0, 0
	quoted, angle := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && (quoted || depth > 0):
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == ',' && !angle, c == ';' && !angle:
			out = append(out, s[start:i])
			start = i + 1
		case c == ':' && !angle: // the name of a group
			start = i + 1
		}
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

func parseAddress(item string) (Address, bool) {
	item = strings.TrimSpace(item)
	if item == "" {
		return Address{}, false
	}
	if i := strings.LastIndexByte(item, '<'); i >= 0 {
		addr := item[i+1:]
		if j := strings.IndexByte(addr, '>'); j >= 0 {
			addr = addr[:j]
		}
		return Address{Name: displayName(item[:i]), Addr: cleanAddr(addr)}, true
	}
	if name, comment, ok := cutComment(item); ok {
		return Address{Name: displayName(comment), Addr: cleanAddr(name)}, true
	}
	if i := strings.LastIndexAny(item, " \t"); i >= 0 && strings.Contains(item[i:], "@") && !strings.HasPrefix(strings.TrimSpace(item[i:]), "@") {
		return Address{Name: displayName(item[:i]), Addr: cleanAddr(item[i:])}, true // the "<" is missing
	}
	if !strings.Contains(item, "@") {
		return Address{Name: displayName(item)}, true
	}
	return Address{Addr: cleanAddr(item)}, true
}

// cutComment reads "addr (name)", the form of old mailers.
func cutComment(item string) (addr, comment string, ok bool) {
	i := strings.IndexByte(item, '(')
	if i <= 0 || !strings.HasSuffix(item, ")") || !strings.Contains(item[:i], "@") {
		return "", "", false
	}
	return item[:i], item[i+1 : len(item)-1], true
}

func cleanAddr(s string) string {
	return cleanText(guess([]byte(strings.Trim(strings.TrimSpace(s), "<>"))))
}

func displayName(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		s = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(s[1 : len(s)-1])
	}
	return strings.TrimSpace(DecodeText(s))
}

// SameAddress compares whole addresses without case: providers change the case of local parts.
func SameAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

// Domain is what stands after the last "@" in lower case, "" when there is none.
func Domain(addr string) string {
	i := strings.LastIndexByte(addr, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(addr[i+1:]))
}

// validAddr is the strict form that may go into a header and an SMTP command: ASCII dot-atoms
// around one "@". spec: RFC5321 §4.1.2, §4.5.3.1
func validAddr(addr string) bool {
	local, domain, ok := strings.Cut(addr, "@")
	if !ok || len(local) == 0 || len(local) > 64 || len(domain) == 0 || len(domain) > 255 || strings.Contains(domain, "@") {
		return false
	}
	for _, label := range strings.Split(local, ".") {
		if label == "" {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !alnum(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(c)) {
				return false
			}
		}
	}
	for _, label := range strings.Split(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !alnum(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
