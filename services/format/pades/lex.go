package pades

import (
	"encoding/hex"
	"errors"
	"strconv"
)

// errMore: the window ends inside a token; try again with a larger one.
var errMore = errors.New("pades: more bytes are needed")

// lexer reads values from a window of the file or from a decoded object stream. What it returns
// does not alias the window.
type lexer struct {
	b    []byte
	base int64 // file offset of b[0]; -1 for decoded data
	pos  int
	last bool // nothing comes after b
	left int  // values that may still be read
}

func (l *lexer) at(pos int) int64 {
	if l.base < 0 {
		return -1
	}
	return l.base + int64(pos)
}

func (l *lexer) bad(format string, args ...any) error { return syntax(l.at(l.pos), format, args...) }

// short is what to answer when the window ends too early.
func (l *lexer) short(what string) error {
	if !l.last {
		return errMore
	}
	return l.bad("%s is cut off", what)
}

// spec: ISO32000-1 §7.2.2
func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f' || c == 0
}

func isDelimiter(c byte) bool {
	switch c {
	case '(', ')', '<', '>', '[', ']', '{', '}', '/', '%':
		return true
	}
	return false
}

func isRegular(c byte) bool { return !isSpace(c) && !isDelimiter(c) }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// space passes over white space and comments.
func (l *lexer) space() {
	for l.pos < len(l.b) {
		switch c := l.b[l.pos]; {
		case isSpace(c):
			l.pos++
		case c == '%':
			for l.pos < len(l.b) && l.b[l.pos] != '\n' && l.b[l.pos] != '\r' {
				l.pos++
			}
		default:
			return
		}
	}
}

// keyword takes word when it stands next as a token of its own.
func (l *lexer) keyword(word string) (bool, error) {
	l.space()
	end := l.pos + len(word)
	if end >= len(l.b) && !l.last {
		return false, errMore
	}
	if end > len(l.b) || string(l.b[l.pos:end]) != word || (end < len(l.b) && isRegular(l.b[end])) {
		return false, nil
	}
	l.pos = end
	return true, nil
}

// natural reads an unsigned integer token.
func (l *lexer) natural() (int64, error) {
	l.space()
	start := l.pos
	for l.pos < len(l.b) && isDigit(l.b[l.pos]) {
		l.pos++
	}
	if l.pos == len(l.b) && !l.last {
		return 0, errMore
	}
	n, err := strconv.ParseInt(string(l.b[start:l.pos]), 10, 63)
	if err != nil || (l.pos < len(l.b) && isRegular(l.b[l.pos])) {
		l.pos = start
		return 0, l.bad("a whole number is expected")
	}
	return n, nil
}

// object reads one value; depth counts what is open around it. spec: ISO32000-1 §7.3
func (l *lexer) object(depth int) (object, error) {
	l.space()
	if l.pos >= len(l.b) {
		return nil, l.short("a value")
	}
	if l.left--; l.left < 0 {
		return nil, beyond("an object holds too many values")
	}
	if depth > maxDepth {
		return nil, beyond("values are nested deeper than %d", maxDepth)
	}
	switch c := l.b[l.pos]; {
	case c == '/':
		return l.name()
	case c == '(':
		return l.literal()
	case c == '[':
		return l.array(depth)
	case c == '<':
		if l.pos+1 >= len(l.b) {
			return nil, l.short("a string or dictionary")
		}
		if l.b[l.pos+1] == '<' {
			return l.dict(depth)
		}
		return l.hexString()
	case isDigit(c) || c == '+' || c == '-' || c == '.':
		return l.number()
	}
	return l.word()
}

func (l *lexer) word() (object, error) {
	start := l.pos
	for l.pos < len(l.b) && isRegular(l.b[l.pos]) && l.pos-start < 16 {
		l.pos++
	}
	if l.pos == len(l.b) && !l.last {
		return nil, errMore
	}
	switch string(l.b[start:l.pos]) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "null":
		return nil, nil
	}
	l.pos = start
	return nil, l.bad("a value is expected")
}

func (l *lexer) name() (object, error) {
	start := l.pos + 1
	end := start
	for end < len(l.b) && isRegular(l.b[end]) {
		end++
	}
	if end == len(l.b) && !l.last {
		return nil, errMore
	}
	out := make([]byte, 0, end-start)
	for i := start; i < end; i++ {
		c := l.b[i]
		if c == '#' && i+2 < end {
			var v [1]byte
			if _, err := hex.Decode(v[:], l.b[i+1:i+3]); err == nil {
				c = v[0]
				i += 2
			}
		}
		out = append(out, c)
	}
	l.pos = end
	return name(out), nil
}

// number reads an integer, a real or, when two integers and R follow, a reference.
func (l *lexer) number() (object, error) {
	start := l.pos
	dots, digits := 0, 0
	for l.pos < len(l.b) && isRegular(l.b[l.pos]) {
		switch c := l.b[l.pos]; {
		case isDigit(c):
			digits++
		case c == '.':
			dots++
		case (c == '-' || c == '+') && l.pos == start:
		default:
			return nil, l.bad("a number is malformed")
		}
		if l.pos++; l.pos-start > 64 {
			return nil, l.bad("a number has more than 64 characters")
		}
	}
	if l.pos == len(l.b) && !l.last {
		return nil, errMore
	}
	token := string(l.b[start:l.pos])
	if digits == 0 || dots > 1 {
		return nil, syntax(l.at(start), "a number is malformed")
	}
	if dots == 1 {
		return real(token), nil
	}
	n, err := strconv.ParseInt(token, 10, 64)
	if err != nil {
		return real(token), nil // larger than any integer that matters here; kept as written
	}
	if isDigit(token[0]) && n <= maxObjectNumber {
		return l.reference(n)
	}
	return n, nil
}

const maxObjectNumber = 1<<32 - 2

// reference looks whether "G R" follows the integer n.
func (l *lexer) reference(n int64) (object, error) {
	back := l.pos
	p := l.pos
	for p < len(l.b) && isSpace(l.b[p]) {
		p++
	}
	start := p
	for p < len(l.b) && isDigit(l.b[p]) && p-start < 6 {
		p++
	}
	digits := p
	for p < len(l.b) && isSpace(l.b[p]) {
		p++
	}
	if p+1 >= len(l.b) && !l.last {
		return nil, errMore
	}
	if digits == start || p == digits || p >= len(l.b) || l.b[p] != 'R' || (p+1 < len(l.b) && isRegular(l.b[p+1])) {
		l.pos = back
		return n, nil
	}
	gen, err := strconv.ParseUint(string(l.b[start:digits]), 10, 16)
	if err != nil {
		return nil, l.bad("a generation number is beyond 65535")
	}
	l.pos = p + 1
	return ref{uint32(n), uint16(gen)}, nil
}

func (l *lexer) array(depth int) (object, error) {
	l.pos++
	out := array{}
	for {
		l.space()
		if l.pos >= len(l.b) {
			return nil, l.short("an array")
		}
		if l.b[l.pos] == ']' {
			l.pos++
			return out, nil
		}
		v, err := l.object(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

func (l *lexer) dict(depth int) (object, error) {
	l.pos += 2
	out := &dict{}
	for {
		l.space()
		if l.pos+1 >= len(l.b) {
			return nil, l.short("a dictionary")
		}
		if l.b[l.pos] == '>' && l.b[l.pos+1] == '>' {
			l.pos += 2
			return out, nil
		}
		if l.b[l.pos] != '/' {
			return nil, l.bad("a name is expected as key of a dictionary")
		}
		key, err := l.name()
		if err != nil {
			return nil, err
		}
		v, err := l.object(depth + 1)
		if err != nil {
			return nil, err
		}
		out.add(key.(name), v)
	}
}

// hexString: an odd last digit is followed by 0. spec: ISO32000-1 §7.3.4.3
func (l *lexer) hexString() (object, error) {
	start := l.pos
	end := start + 1
	digits := 0
	for ; end < len(l.b) && l.b[end] != '>'; end++ {
		if c := l.b[end]; unhex(c) >= 0 {
			digits++
		} else if !isSpace(c) {
			l.pos = end
			return nil, l.bad("a hexadecimal string holds %q", c)
		}
	}
	if end >= len(l.b) {
		return nil, l.short("a hexadecimal string")
	}
	out := make([]byte, (digits+1)/2)
	k := 0
	for _, c := range l.b[start+1 : end] {
		if v := unhex(c); v >= 0 {
			out[k/2] |= byte(v) << (4 * (1 - k&1))
			k++
		}
	}
	l.pos = end + 1
	return text{val: out, off: l.at(start), end: l.at(end + 1), hex: true}, nil
}

func unhex(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// literal: spec: ISO32000-1 §7.3.4.2
func (l *lexer) literal() (object, error) {
	start := l.pos
	var out []byte
	open := 0
	for p := start; p < len(l.b); p++ {
		switch c := l.b[p]; c {
		case '(':
			if open++; open > 1 {
				out = append(out, c)
			}
		case ')':
			if open--; open == 0 {
				l.pos = p + 1
				return text{val: out, off: l.at(start), end: l.at(p + 1)}, nil
			}
			out = append(out, c)
		case '\\':
			if p+3 >= len(l.b) && !l.last {
				return nil, errMore
			}
			var used int
			out, used = escape(out, l.b[p+1:])
			p += used
		case '\r':
			out = append(out, '\n')
			if p+1 < len(l.b) && l.b[p+1] == '\n' {
				p++
			}
		default:
			out = append(out, c)
		}
	}
	return nil, l.short("a string")
}

// escape reads what follows a reverse solidus and says how many bytes it took.
func escape(out, rest []byte) ([]byte, int) {
	if len(rest) == 0 {
		return out, 0
	}
	switch c := rest[0]; c {
	case 'n':
		return append(out, '\n'), 1
	case 'r':
		return append(out, '\r'), 1
	case 't':
		return append(out, '\t'), 1
	case 'b':
		return append(out, '\b'), 1
	case 'f':
		return append(out, '\f'), 1
	case '\n':
		return out, 1
	case '\r':
		if len(rest) > 1 && rest[1] == '\n' {
			return out, 2
		}
		return out, 1
	default:
		v, n := 0, 0
		for n < 3 && n < len(rest) && rest[n] >= '0' && rest[n] <= '7' {
			v = v<<3 | int(rest[n]-'0')
			n++
		}
		if n > 0 {
			return append(out, byte(v)), n
		}
		return append(out, c), 1
	}
}
