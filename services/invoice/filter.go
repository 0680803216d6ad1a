package invoice

import (
	"fmt"
	"strings"

	"ceralacca.dev/services/internal/fault"
)

// condition is one comparison of a filter.
type condition struct {
	field string
	op    string // = != < <= > >= :
	value string
	at    int // character of the field, from 1
}

// parseFilter reads the part of AIP-160 that lists here understand: comparisons joined by AND.
//
//	filter     = [ condition { "AND" condition } ]
//	condition  = field operator value
//	operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":"
//	value      = quoted text, or a word of letters, digits and - _ . : + /
//
// The fault is Invalid FILTER_INVALID and says at which character.
func parseFilter(s string) ([]condition, error) {
	p := filterParser{s: s}
	var out []condition
	p.space()
	for p.i < len(p.s) {
		if len(out) > 0 {
			at := p.i
			word := p.word()
			if word != "AND" {
				return nil, p.fail(at, "expected AND, found %q; only AND is understood", clip(p.s[at:]))
			}
			p.space()
		}
		c, err := p.condition()
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		p.space()
	}
	return out, nil
}

type filterParser struct {
	s string
	i int
}

func (p *filterParser) condition() (condition, error) {
	c := condition{at: p.i + 1}
	c.field = p.field()
	if c.field == "" {
		return c, p.fail(p.i, "expected the name of a field, found %q", clip(p.s[p.i:]))
	}
	p.space()
	for _, op := range []string{"!=", "<=", ">=", "=", "<", ">", ":"} {
		if strings.HasPrefix(p.s[p.i:], op) {
			c.op = op
			break
		}
	}
	if c.op == "" {
		return c, p.fail(p.i, "expected one of = != < <= > >= : after %s", c.field)
	}
	p.i += len(c.op)
	p.space()
	var err error
	c.value, err = p.value(c)
	return c, err
}

func (p *filterParser) value(c condition) (string, error) {
	if p.i < len(p.s) && (p.s[p.i] == '"' || p.s[p.i] == '\'') {
		return p.quoted()
	}
	v := p.word()
	if v == "" {
		return "", p.fail(p.i, "expected a value after %s %s", c.field, c.op)
	}
	return v, nil
}

// quoted reads a text between quotes; a backslash takes the next character as it is.
func (p *filterParser) quoted() (string, error) {
	start, quote := p.i, p.s[p.i]
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch ch := p.s[p.i]; {
		case ch == quote:
			p.i++
			return b.String(), nil
		case ch == '\\' && p.i+1 < len(p.s):
			p.i++
			b.WriteByte(p.s[p.i])
		default:
			b.WriteByte(ch)
		}
	}
	return "", p.fail(start, "the quote that opens here is never closed")
}

// field reads the name of a field: a word that ends where the operator : begins.
func (p *filterParser) field() string {
	start := p.i
	for p.i < len(p.s) && isWordByte(p.s[p.i]) && p.s[p.i] != ':' {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *filterParser) word() string {
	start := p.i
	for p.i < len(p.s) && isWordByte(p.s[p.i]) {
		p.i++
	}
	return p.s[start:p.i]
}

func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-_.:+/", b) >= 0
}

func (p *filterParser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t' || p.s[p.i] == '\n') {
		p.i++
	}
}

func (p *filterParser) fail(at int, format string, a ...any) error {
	return filterFault(at+1, format, a...)
}

func filterFault(at int, format string, a ...any) error {
	why := fmt.Sprintf("character %d: ", at) + fmt.Sprintf(format, a...)
	return fault.Invalid("FILTER_INVALID", "filter: %s", why).WithField("filter", "FILTER_INVALID", why)
}

func clip(s string) string {
	const shown = 20
	if len(s) > shown {
		return s[:shown] + "..."
	}
	return s
}
