package fatturapa

import "strings"

// validDate checks xs:date: [-]YYYY-MM-DD with an optional time zone. With
// since70 the date must surely not be before 1970-01-01: with a time zone the
// comparison with a date without one is certain only beyond 14 hours.
func validDate(s string, since70 bool) (rest string, ok bool) {
	year, month, day, rest, ok := dateParts(s)
	if !ok {
		return "", false
	}
	zone, ok := zoneMinutes(rest)
	if !ok {
		return "", false
	}
	if !since70 {
		return "", true
	}
	if rest == "" {
		return "", year >= 1970
	}
	if year != 1970 || month != 1 || day > 2 {
		return "", year >= 1970
	}
	return "", (day-1)*24*60-zone > 14*60
}

// dateParts reads the date at the start of s.
func dateParts(s string) (year, month, day int, rest string, ok bool) {
	neg := strings.HasPrefix(s, "-")
	if neg {
		s = s[1:]
	}
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		year = min(year*10+int(s[i]-'0'), 1<<30)
		i++
	}
	if i < 4 || i > 4 && s[0] == '0' || year == 0 || len(s) < i+6 || s[i] != '-' || s[i+3] != '-' {
		return 0, 0, 0, "", false
	}
	month, ok1 := digits(s[i+1 : i+3])
	day, ok2 := digits(s[i+4 : i+6])
	if !ok1 || !ok2 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, 0, 0, "", false
	}
	if neg {
		year = -year
	}
	return year, month, day, s[i+6:], true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// zoneMinutes reads a time zone: "", "Z" or ±hh:mm up to 14:00.
func zoneMinutes(s string) (int, bool) {
	if s == "" || s == "Z" {
		return 0, true
	}
	if len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, false
	}
	h, ok1 := digits(s[1:3])
	m, ok2 := digits(s[4:6])
	if !ok1 || !ok2 || h > 14 || m > 59 || h == 14 && m != 0 {
		return 0, false
	}
	z := h*60 + m
	if s[0] == '-' {
		z = -z
	}
	return z, true
}

// validDateTime checks xs:dateTime.
func validDateTime(s string) bool {
	_, _, _, rest, ok := dateParts(s)
	if !ok || len(rest) < 9 || rest[0] != 'T' || rest[3] != ':' || rest[6] != ':' {
		return false
	}
	h, ok1 := digits(rest[1:3])
	m, ok2 := digits(rest[4:6])
	sec, ok3 := digits(rest[7:9])
	if !ok1 || !ok2 || !ok3 || m > 59 || sec > 59 {
		return false
	}
	rest = rest[9:]
	fraction := false
	if strings.HasPrefix(rest, ".") {
		i := 1
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			fraction = fraction || rest[i] != '0'
			i++
		}
		if i == 1 {
			return false
		}
		rest = rest[i:]
	}
	if h > 24 || h == 24 && (m > 0 || sec > 0 || fraction) {
		return false
	}
	_, ok = zoneMinutes(rest)
	return ok
}

// base64Value gives the six bits of each base64 character: 0xFF for none, 0xFE
// for white space, 0xFD for the padding.
var base64Value = buildBase64Value()

func buildBase64Value() (t [256]uint8) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		t[i] = 0xFF
	}
	for i := range len(alphabet) {
		t[alphabet[i]] = uint8(i)
	}
	t[' '], t['\t'], t['\n'], t['\r'] = 0xFE, 0xFE, 0xFE, 0xFE
	t['='] = 0xFD
	return t
}

// validBase64 checks xs:base64Binary: whole groups of four, and no bits left
// over before the padding. Nothing at all is valid.
func validBase64(s string) bool {
	n, pad := 0, 0
	var last uint8
	for i := 0; i < len(s); i++ {
		v := base64Value[s[i]]
		if v < 64 && pad == 0 {
			last = v
			n++
			continue
		}
		switch {
		case v == 0xFE:
		case v == 0xFD && pad < 2:
			pad++
		default:
			return false
		}
	}
	switch pad {
	case 1:
		return n%4 == 3 && last&3 == 0
	case 2:
		return n%4 == 2 && last&15 == 0
	}
	return n%4 == 0
}

// validIBAN checks the pattern of the schema, not the check digits.
func validIBAN(s string, minRest, maxRest int) bool {
	if len(s) < 4+minRest || len(s) > 4+maxRest {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		isDigit := c >= '0' && c <= '9'
		isLetter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if i < 2 && !isLetter || (i == 2 || i == 3) && !isDigit || !isLetter && !isDigit {
			return false
		}
	}
	return true
}

// validBIC checks [A-Z]{6}[A-Z2-9][A-NP-Z0-9]([A-Z0-9]{3})?.
func validBIC(s string) bool {
	if len(s) != 8 && len(s) != 11 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		isDigit := c >= '0' && c <= '9'
		isUpper := c >= 'A' && c <= 'Z'
		switch {
		case !isDigit && !isUpper, i < 6 && !isUpper, i == 6 && c < '2', i == 7 && c == 'O':
			return false
		}
	}
	return true
}

// validEmailLoose checks .+@.+[.]+.+ and the length in characters.
func validEmailLoose(s string, minLen, maxLen int) bool {
	st := simpleType{alphabet: anyChars, min: minLen, max: maxLen}
	if !st.validChars(s) || strings.ContainsAny(s, "\n\r") || len(s) < 2 {
		return false
	}
	at := strings.IndexByte(s[1:], '@') + 1
	dot := strings.LastIndexByte(s[:len(s)-1], '.')
	return at > 0 && dot >= at+2
}

// isAtom holds the characters that the strict pattern allows between dots.
func isAtom(c byte) bool {
	return c == '!' || c >= '#' && c <= '\'' || c == '*' || c == '+' || c >= '/' && c <= '9' ||
		c == '=' || c == '?' || c >= 'A' && c <= 'Z' || c >= '^' && c <= '~' || c == '-'
}

// dotAtoms returns the length of the longest run of atoms separated by single dots.
func dotAtoms(s string) int {
	end := 0
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && isAtom(s[i]) {
			i++
		}
		if i == start {
			return end
		}
		end = i
		if i < len(s) && s[i] == '.' {
			i++
			continue
		}
		return end
	}
	return end
}

// validEmailStrict checks the long pattern of PECDestinatario, taken literally:
// its quoted form is stranger than the one of the standards for mail.
func validEmailStrict(s string, maxLen int) bool {
	st := simpleType{alphabet: anyChars, max: maxLen}
	if !st.validChars(s) {
		return false
	}
	n := dotAtoms(s)
	if strings.HasPrefix(s, `"`) {
		n = quotedLocal(s)
	}
	if n == 0 || n >= len(s) || s[n] != '@' {
		return false
	}
	domain := s[n+1:]
	if strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "]") && len(domain) >= 2 {
		for i := 1; i < len(domain)-1; i++ {
			if c := domain[i]; c != '\t' && (c < ' ' || c > 'Z') && (c < '^' || c > '~') {
				return false
			}
		}
		return true
	}
	return domain != "" && dotAtoms(domain) == len(domain)
}

// quotedLocal returns the length of "(\[\]!#-[^-~ \t]|(\\[\t -~]))+" at the start
// of s, 0 when it does not match.
func quotedLocal(s string) int {
	i, parts := 1, 0
	for {
		rest := s[i:]
		if strings.HasPrefix(rest, "[]!#-") && len(rest) > 5 && !strings.ContainsRune("-~ \t", rune(rest[5])) {
			i += 6
			for i < len(s) && s[i]&0xC0 == 0x80 { // the rest of one character
				i++
			}
		} else if len(rest) > 1 && rest[0] == '\\' && (rest[1] == '\t' || rest[1] >= ' ' && rest[1] <= '~') {
			i += 2
		} else {
			break
		}
		parts++
	}
	if parts == 0 || i >= len(s) || s[i] != '"' {
		return 0
	}
	return i + 1
}

// validNCName checks the form of an identifier.
func validNCName(s string) bool {
	return s != "" && nameLen(s) == len(s) && !strings.Contains(s, ":")
}
