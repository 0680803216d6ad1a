package invoice

import (
	"fmt"
	"strconv"
	"strings"

	"ceralacca.dev/services/internal/fault"
)

// maxNumber is the length of a number of a document. spec: schema VFPR12 1.2.3, Numero (String20Type)
const maxNumber = 20

// pattern is how the numbers of a series are written: text with one {number}, which may ask for a least
// count of digits ({number:05}), and any of {year} and {yy}.
type pattern struct {
	parts  []patternPart
	digits int
}

// patternPart is text, or one of the words of the language.
type patternPart struct{ text, word string }

// parsePattern reads a pattern. Invalid PATTERN_INVALID with the field given.
func parsePattern(s, field string) (pattern, error) {
	refuse := func(format string, a ...any) (pattern, error) {
		why := fmt.Sprintf(format, a...)
		return pattern{}, fault.Invalid("PATTERN_INVALID", "%s: %q %s: write for example FE/{year}/{number:04}", field, s, why).
			WithField(field, "PATTERN_INVALID", why)
	}
	var p pattern
	numbers := 0
	for rest := s; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`}<>&"'`, r) }) {
			return refuse(`has a character that a number cannot have: letters, digits, space and signs of ASCII but { } < > & " ' are allowed`)
		}
		if text != "" {
			p.parts = append(p.parts, patternPart{text: text})
		}
		if !found {
			break
		}
		word, next, closed := strings.Cut(after, "}")
		if !closed {
			return refuse("has a { without a }")
		}
		rest = next
		name, digits, counted := strings.Cut(word, ":")
		switch {
		case word == "year" || word == "yy":
		case name == "number":
			numbers++
			if counted {
				n, err := strconv.Atoi(digits)
				if err != nil || len(digits) < 2 || digits[0] != '0' || n < 1 || n > 18 {
					return refuse("has {%s}: the digits are written as {number:05}, at most {number:018}", word)
				}
				p.digits = n
			}
		default:
			return refuse("has {%s}, which is none of {number}, {number:05}, {year}, {yy}", word)
		}
		p.parts = append(p.parts, patternPart{word: name})
	}
	if numbers != 1 {
		return refuse("has {number} %d times: once is needed", numbers)
	}
	if strings.TrimSpace(s) != s {
		return refuse("begins or ends with a space")
	}
	if written := p.write(1, 2000); len(written) > maxNumber {
		return refuse("gives numbers such as %q of %d characters: at most %d are allowed", written, len(written), maxNumber)
	}
	return p, nil
}

// write gives the text of a number.
func (p pattern) write(number int64, year int) string {
	var b strings.Builder
	for _, part := range p.parts {
		switch part.word {
		case "":
			b.WriteString(part.text)
		case "year":
			fmt.Fprintf(&b, "%04d", year)
		case "yy":
			fmt.Fprintf(&b, "%02d", year%100)
		default:
			fmt.Fprintf(&b, "%0*d", p.digits, number)
		}
	}
	return b.String()
}

// fits checks that a number can be written at all. Precondition SERIES_EXHAUSTED.
func (p pattern) fits(series string, number int64, year int) (string, error) {
	written := p.write(number, year)
	if len(written) > maxNumber {
		return "", fault.Precondition("SERIES_EXHAUSTED", "number %q of %s has %d characters and at most %d are allowed: use another series with a shorter pattern",
			written, series, len(written), maxNumber).WithField("series", "SERIES_EXHAUSTED", "has no numbers left")
	}
	return written, nil
}
