package imap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Limits of what a server may make us keep. Bytes of messages are streamed and do not count.
const (
	maxWord  = 64 << 10 // an atom, a quoted string
	maxText  = 1000     // of a text that is kept for people
	maxValue = 1 << 20  // a literal that is no message
	maxDepth = 20       // of parentheses
)

// response is one response of the server while it is being read: nothing of it is kept but what is
// asked for. err sticks: after it every word is empty.
type response struct {
	tag string
	r   *bufio.Reader
	err error
	end bool // the line is over
}

// next begins to read a response.
func (c *Client) next() (*response, error) {
	p := &response{r: c.r}
	p.tag = p.word()
	if p.err != nil {
		return nil, p.err
	}
	if p.tag == "" {
		return nil, fmt.Errorf("%w: an empty line", ErrProtocol)
	}
	return p, nil
}

func (p *response) fail(err error) {
	if p.err == nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		p.err = fmt.Errorf("imap: %w", err)
	}
}

func (p *response) bad(format string, a ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, a...))
	}
}

// peek looks at the next byte of the line; 0 at its end or after an error.
func (p *response) peek() byte {
	if p.err != nil || p.end {
		return 0
	}
	b, err := p.r.Peek(1)
	if err != nil {
		p.fail(err)
		return 0
	}
	if b[0] == '\r' || b[0] == '\n' {
		return 0
	}
	return b[0]
}

func (p *response) take() byte {
	b, err := p.r.ReadByte()
	if err != nil {
		p.fail(err)
		return 0
	}
	return b
}

func (p *response) skip() {
	for p.peek() == ' ' {
		p.take()
	}
}

// word reads an atom; "" at the end of the line or before something else. An atom may hold brackets
// with anything in them, as BODY[HEADER.FIELDS (A B)] does.
func (p *response) word() string {
	p.skip()
	var b []byte
	brackets := 0
	for {
		ch := p.peek()
		if ch == 0 || brackets == 0 && (ch == ' ' || ch == '(' || ch == ')' || ch == '"' || ch == '{') {
			return string(b)
		}
		switch ch {
		case '[':
			brackets++
		case ']':
			brackets = max(0, brackets-1)
		}
		b = append(b, p.take())
		if len(b) > maxWord {
			p.bad("a word of more than %d bytes", maxWord)
			return ""
		}
	}
}

// respCode reads [CODE ...] in upper case; "" when there is none.
func (p *response) respCode() string {
	p.skip()
	if p.peek() != '[' {
		return ""
	}
	p.take()
	var b []byte
	for {
		ch := p.peek()
		if ch == 0 {
			return strings.ToUpper(string(b))
		}
		p.take()
		if ch == ']' {
			return strings.ToUpper(string(b))
		}
		b = append(b, ch)
		if len(b) > maxWord {
			p.bad("a response code of more than %d bytes", maxWord)
			return ""
		}
	}
}

// text reads the rest of the line as words for people, without control characters.
func (p *response) text() string {
	p.skip()
	var b []byte
	for ch := p.peek(); ch != 0; ch = p.peek() {
		p.take()
		if len(b) < maxText && ch >= ' ' && ch != 0x7f {
			b = append(b, ch)
		}
	}
	return strings.ToValidUTF8(string(b), "?")
}

// rest passes over what is left of the response, literals included.
func (p *response) rest() error {
	for p.err == nil && !p.end {
		ch := p.peek()
		switch {
		case p.err != nil:
		case ch == 0:
			p.newline()
		case ch == '{':
			p.literal(func(int64, io.Reader) error { return nil })
		default:
			p.take()
		}
	}
	return p.err
}

// newline ends the line. A lone LF is taken: servers behind proxies write it.
func (p *response) newline() {
	ch := p.take()
	if ch == '\r' {
		ch = p.take()
	}
	if p.err == nil && ch != '\n' {
		p.bad("CR without LF")
	}
	p.end = true
}

// literal reads {n} CRLF and gives its bytes to fn, which may leave some: they are passed over.
func (p *response) literal(fn func(size int64, r io.Reader) error) {
	p.take() // {
	var digits []byte
	for ch := p.peek(); ch != '}' && ch != 0; ch = p.peek() {
		digits = append(digits, p.take())
		if len(digits) > 19 {
			break
		}
	}
	size, err := strconv.ParseInt(strings.TrimSuffix(string(digits), "+"), 10, 64)
	if p.peek() != '}' || err != nil || size < 0 {
		p.bad("%.30q is no size of a literal", digits)
		return
	}
	p.take()
	if p.peek() != 0 {
		p.bad("text behind the size of a literal")
		return
	}
	p.newline()
	p.end = false
	if p.err != nil {
		return
	}
	body := &literalReader{r: p.r, left: size}
	err = fn(size, body)
	if err != nil {
		p.err = err
		return
	}
	_, err = io.Copy(io.Discard, body)
	if err != nil {
		p.fail(err)
	}
}

// literalReader ends with io.ErrUnexpectedEOF when the connection does.
type literalReader struct {
	r    io.Reader
	left int64
}

func (l *literalReader) Read(b []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	if errors.Is(err, io.EOF) && l.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// str reads an atom, a quoted string or a small literal. NIL is "".
func (p *response) str() string {
	p.skip()
	switch p.peek() {
	case '"':
		return p.quoted()
	case '{':
		var b []byte
		p.literal(func(size int64, r io.Reader) (err error) {
			if size > maxValue {
				return fmt.Errorf("%w: a string of %d bytes", ErrProtocol, size)
			}
			b, err = io.ReadAll(r)
			return err
		})
		return string(b)
	}
	w := p.word()
	if strings.EqualFold(w, "NIL") {
		return ""
	}
	return w
}

func (p *response) quoted() string {
	p.take()
	var b []byte
	for {
		ch := p.peek()
		if ch == 0 {
			p.bad("a quoted string without its end")
			return ""
		}
		p.take()
		switch ch {
		case '"':
			return string(b)
		case '\\':
			ch = p.take()
		}
		b = append(b, ch)
		if len(b) > maxWord {
			p.bad("a string of more than %d bytes", maxWord)
			return ""
		}
	}
}

// open takes an opening parenthesis if there is one.
func (p *response) open() bool {
	p.skip()
	if p.peek() != '(' {
		return false
	}
	p.take()
	return true
}

// more says whether another element of a list follows; it takes the closing parenthesis.
func (p *response) more() bool {
	p.skip()
	switch p.peek() {
	case ')':
		p.take()
		return false
	case 0:
		p.bad("a list without its end")
		return false
	}
	return p.err == nil
}

// value passes over one value of any kind.
func (p *response) value(depth int) {
	if depth > maxDepth {
		p.bad("lists in lists, more than %d deep", maxDepth)
		return
	}
	if p.open() {
		for p.more() {
			p.value(depth + 1)
		}
		return
	}
	switch p.peek() {
	case '"':
		p.quoted()
	case '{':
		p.literal(func(int64, io.Reader) error { return nil })
	default:
		if p.word() == "" {
			p.bad("no value where one has to be")
		}
	}
}

func (p *response) number() uint64 {
	w := p.word()
	n, err := strconv.ParseUint(w, 10, 63)
	if err != nil {
		p.bad("%.30q is no number", w)
	}
	return n
}
