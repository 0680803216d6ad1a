package fatturapa

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// simpleType checks the text of an element or attribute. The kinds are those
// that the schemas need; each does its white space as its base type asks.
type simpleType struct {
	name     string
	kind     valueKind
	alphabet alphabet
	min, max int      // characters, or value of an integer; max -1 is open
	values   []string // of a closed list, sorted
	signed   bool     // decimals
	intMax   int
	fracMin  int
	fracMax  int
	max100   bool
	since70  bool
	collapse bool
}

type valueKind uint8

const (
	kindChars valueKind = iota
	kindToken
	kindEnum
	kindDecimal
	kindInteger
	kindDate
	kindDateTime
	kindBase64
	kindIBAN
	kindBIC
	kindEmailLoose
	kindEmailStrict
	kindID
)

// alphabet is a set of characters that a pattern repeats.
type alphabet uint8

const (
	anyChars   alphabet = iota
	basicLatin          // U+0000 to U+007F
	latin1              // and U+0080 to U+00FF
	upperCase           // A-Z
	upperDigit          // A-Z 0-9
	digitsOnly          // 0-9
)

var alphabets = map[string]alphabet{"any": anyChars, "basic": basicLatin, "latin": latin1,
	"upper": upperCase, "upnum": upperDigit, "digit": digitsOnly}

// newSimpleType reads what follows the name on a "simple" line.
func newSimpleType(name string, w []string) *simpleType {
	st := &simpleType{name: name}
	num := func(i int) int {
		n, err := strconv.Atoi(w[i])
		if err != nil {
			panic("fatturapa: schema table: simple " + name + " " + strings.Join(w, " "))
		}
		return n
	}
	switch w[0] {
	case "chars", "token":
		if w[0] == "token" {
			st.kind = kindToken
		}
		a, ok := alphabets[w[1]]
		if !ok {
			panic("fatturapa: schema table: alphabet " + w[1])
		}
		st.alphabet, st.min, st.max = a, num(2), num(3)
	case "decimal":
		st.kind, st.signed = kindDecimal, w[1] == "signed"
		st.intMax, st.fracMin, st.fracMax = num(2), num(3), num(4)
		st.max100 = len(w) > 5 && w[5] == "max100"
	case "integer":
		st.kind, st.max = kindInteger, -1
		if w[1] != "any" {
			st.min, st.max = num(1), num(2)
		}
	case "date":
		st.kind, st.since70 = kindDate, len(w) > 1 && w[1] == "from1970"
	case "datetime":
		st.kind = kindDateTime
	case "base64":
		st.kind = kindBase64
	case "iban":
		st.kind, st.min, st.max = kindIBAN, num(1), num(2)
	case "bic":
		st.kind = kindBIC
	case "emailloose":
		st.kind, st.min, st.max = kindEmailLoose, num(1), num(2)
	case "emailstrict":
		st.kind, st.collapse, st.max = kindEmailStrict, w[1] == "collapse", num(2)
	case "id":
		st.kind = kindID
	default:
		panic("fatturapa: schema table: kind " + w[0])
	}
	return st
}

// valid reports whether a text has the type.
func (st *simpleType) valid(s string) bool {
	switch st.kind {
	case kindChars:
		return st.validChars(s)
	case kindToken:
		return st.validChars(collapseSpace(s))
	case kindEnum:
		return slices.Contains(st.values, s)
	case kindDecimal:
		return st.validDecimal(trim(s))
	case kindInteger:
		return st.validInteger(trim(s))
	case kindDate:
		_, ok := validDate(trim(s), st.since70)
		return ok
	case kindDateTime:
		return validDateTime(trim(s))
	case kindBase64:
		return validBase64(s)
	case kindIBAN:
		return validIBAN(s, st.min, st.max)
	case kindBIC:
		return validBIC(s)
	case kindEmailLoose:
		return validEmailLoose(s, st.min, st.max)
	case kindEmailStrict:
		if st.collapse {
			s = collapseSpace(s)
		}
		return validEmailStrict(s, st.max)
	case kindID:
		return validNCName(trim(s))
	}
	return false
}

// validChars counts characters of an alphabet. Replacing line ends by spaces, as
// xs:normalizedString asks, changes neither the count nor the alphabet.
func (st *simpleType) validChars(s string) bool {
	n := 0
	switch st.alphabet {
	case basicLatin:
		for i := 0; i < len(s); i++ {
			if s[i] >= 0x80 {
				return false
			}
		}
		n = len(s)
	case latin1, anyChars:
		i := 0
		for ; i+8 <= len(s); i += 8 { // eight bytes of ASCII are eight characters
			b := s[i : i+8]
			if (b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7])&0x80 != 0 {
				break
			}
		}
		n = i
		for ; i < len(s); i++ {
			// U+0080 to U+00FF start with C2 or C3 in UTF-8.
			if c := s[i]; c < 0x80 || c >= 0xC0 {
				if c > 0xC3 && st.alphabet == latin1 {
					return false
				}
				n++
			}
		}
	default:
		for i := 0; i < len(s); i++ {
			c := s[i]
			isDigit := c >= '0' && c <= '9'
			isUpper := c >= 'A' && c <= 'Z'
			if st.alphabet == upperCase && !isUpper || st.alphabet == digitsOnly && !isDigit || !isUpper && !isDigit {
				return false
			}
		}
		n = len(s)
	}
	return n >= st.min && (st.max < 0 || n <= st.max)
}

// validDecimal checks the pattern [-]?[0-9]{1,intMax}.[0-9]{fracMin,fracMax}.
func (st *simpleType) validDecimal(s string) bool {
	if st.signed && strings.HasPrefix(s, "-") {
		s = s[1:]
	}
	point := strings.IndexByte(s, '.')
	if point < 1 || point > st.intMax {
		return false
	}
	frac := len(s) - point - 1
	if frac < st.fracMin || frac > st.fracMax {
		return false
	}
	for i := 0; i < len(s); i++ {
		if i != point && s[i]-'0' > 9 {
			return false
		}
	}
	if st.max100 && point == 3 {
		return s[0] == '0' || s == "100.00"
	}
	return true
}

func (st *simpleType) validInteger(s string) bool {
	neg := strings.HasPrefix(s, "-")
	if neg || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	if s == "" {
		return false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i] - '0'
		if c > 9 {
			return false
		}
		n = min(n*10+int(c), 1<<30)
	}
	if neg {
		n = -n
	}
	return st.max < 0 || n >= st.min && n <= st.max
}

// collapseSpace does the white space of xs:token.
func collapseSpace(s string) string {
	for i := 0; i < len(s); i++ {
		if isSpace(s[i]) && (s[i] != ' ' || i == 0 || i == len(s)-1 || isSpace(s[i+1])) {
			return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
				return r == ' ' || r == '\t' || r == '\n' || r == '\r'
			}), " ")
		}
	}
	return s
}

// describe says in both languages what a value must look like.
func (st *simpleType) describe() (it, en string) {
	span := strconv.Itoa(st.min)
	if st.max != st.min {
		span += "-" + strconv.Itoa(st.max)
	}
	switch st.kind {
	case kindChars, kindToken:
		names := map[alphabet][2]string{
			anyChars:   {"caratteri", "characters"},
			basicLatin: {"caratteri ASCII (Basic Latin)", "ASCII characters (Basic Latin)"},
			latin1:     {"caratteri Latin-1 (niente €, virgolette o trattini tipografici)", "Latin-1 characters (no €, no typographic quotes or dashes)"},
			upperCase:  {"lettere maiuscole A-Z", "capital letters A-Z"},
			upperDigit: {"lettere maiuscole A-Z o cifre", "capital letters A-Z or digits"},
			digitsOnly: {"cifre", "digits"},
		}[st.alphabet]
		if st.max < 0 {
			return names[0], names[1]
		}
		return span + " " + names[0], span + " " + names[1]
	case kindEnum:
		list := strings.Join(st.values, ", ")
		return "uno fra: " + list, "one of: " + list
	case kindDecimal:
		return st.describeDecimal()
	case kindInteger:
		if st.max < 0 {
			return "un numero intero", "a whole number"
		}
		return fmt.Sprintf("un numero intero da %d a %d", st.min, st.max), fmt.Sprintf("a whole number from %d to %d", st.min, st.max)
	case kindDate:
		if st.since70 {
			return "una data AAAA-MM-GG dal 1970-01-01", "a date YYYY-MM-DD from 1970-01-01"
		}
		return "una data AAAA-MM-GG", "a date YYYY-MM-DD"
	case kindDateTime:
		return "data e ora AAAA-MM-GGThh:mm:ss", "date and time YYYY-MM-DDThh:mm:ss"
	case kindBase64:
		return "testo base64", "base64 text"
	case kindIBAN:
		return "un IBAN: due lettere, due cifre, " + span + " lettere o cifre", "an IBAN: two letters, two digits, " + span + " letters or digits"
	case kindBIC:
		return "un BIC di 8 o 11 caratteri", "a BIC of 8 or 11 characters"
	case kindEmailLoose, kindEmailStrict:
		return fmt.Sprintf("un indirizzo di posta elettronica, al massimo %d caratteri", st.max), fmt.Sprintf("an e-mail address of at most %d characters", st.max)
	}
	return "un identificativo XML", "an XML identifier"
}

func (st *simpleType) describeDecimal() (it, en string) {
	frac := strconv.Itoa(st.fracMin)
	if st.fracMax != st.fracMin {
		frac += "-" + strconv.Itoa(st.fracMax)
	}
	it = fmt.Sprintf("un numero con al massimo %d cifre, il punto e %s decimali", st.intMax, frac)
	en = fmt.Sprintf("a number of at most %d digits, a point and %s decimals", st.intMax, frac)
	if !st.signed {
		it, en = it+", senza segno", en+", without sign"
	}
	if st.max100 {
		it, en = it+", non oltre 100.00", en+", not above 100.00"
	}
	return it, en
}
