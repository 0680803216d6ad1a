package pec

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// lineLimit is where fields are folded. spec: RFC5322 §2.1.1
const lineLimit = 76

// writeField writes one field, folded at blanks, without line ends and zero bytes of its value:
// a subject cannot forge a field.
func writeField(b *bytes.Buffer, name, value string) {
	value = strings.Map(func(r rune) rune {
		switch r {
		case '\r', '\n':
			return ' '
		case 0:
			return -1
		}
		return r
	}, value)
	b.WriteString(name)
	b.WriteByte(':')
	used := len(name) + 1
	for i, word := range strings.Fields(value) {
		if i > 0 && used+1+len(word) > lineLimit {
			b.WriteString("\r\n")
			used = 0
		}
		b.WriteByte(' ')
		b.WriteString(word)
		used += 1 + len(word)
	}
	b.WriteString("\r\n")
}

// writeText writes a field of text: encoded words when it is not plain ASCII. spec: RFC2047
func writeText(b *bytes.Buffer, name, text string) { writeField(b, name, encodeText(text)) }

// encodeText encodes all of a text that is not plain, that could be taken for an encoded word, or
// whose blanks folding would change.
func encodeText(text string) string {
	text = cleanText(strings.ToValidUTF8(text, "\ufffd"))
	plain := !strings.Contains(text, "=?") && !strings.Contains(text, "  ") && !strings.Contains(text, "\t") && strings.TrimSpace(text) == text
	for _, w := range strings.Fields(text) {
		if len(w) > lineLimit-10 {
			plain = false
		}
	}
	for i := 0; i < len(text) && plain; i++ {
		plain = text[i] < utf8.RuneSelf
	}
	if plain {
		return text
	}
	return encodeWords(text)
}

// encodeWords writes encoded words of 75 characters at most, no character split over two.
func encodeWords(text string) string {
	const room = 45 // bytes that fit into one word in base64
	var words []string
	for text != "" {
		n := min(len(text), room)
		for n < len(text) && n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		words = append(words, "=?utf-8?B?"+base64.StdEncoding.EncodeToString([]byte(text[:n]))+"?=")
		text = text[n:]
	}
	return strings.Join(words, " ")
}

// formatAddress writes a mailbox.
func formatAddress(a Address) string {
	if a.Name == "" {
		return a.Addr
	}
	name := cleanText(a.Name)
	for i := 0; i < len(name); i++ {
		if name[i] >= utf8.RuneSelf || strings.Contains(name, "=?") {
			return encodeWords(name) + " <" + a.Addr + ">"
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `" <` + a.Addr + ">"
}

func formatAddresses(list []Address) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = formatAddress(a)
	}
	return strings.Join(out, ", ")
}

// param is one parameter of a field.
type param struct{ name, value string }

// writeParamField writes a field with parameters, one on each line.
func writeParamField(b *bytes.Buffer, name, value string, params ...param) {
	b.WriteString(name + ": " + value)
	for _, p := range params {
		for _, s := range formatParam(p) {
			b.WriteString(";\r\n\t" + s)
		}
	}
	b.WriteString("\r\n")
}

// formatParam gives name="value", or the pieces of name*0*=utf-8”... when the value is not plain
// or too long for a line. spec: RFC2231 §3, §4
func formatParam(p param) []string {
	value := cleanText(strings.ToValidUTF8(p.value, "\ufffd"))
	plain := len(p.name)+len(value) < lineLimit-8
	for i := 0; i < len(value) && plain; i++ {
		plain = value[i] < utf8.RuneSelf && value[i] != '"' && value[i] != '\\' && value[i] >= ' '
	}
	if plain {
		return []string{p.name + `="` + value + `"`}
	}
	var pieces []string
	var cur strings.Builder
	cur.WriteString("utf-8''")
	for i := 0; i < len(value); i++ {
		c := value[i]
		if cur.Len() > lineLimit-len(p.name)-14 {
			pieces = append(pieces, cur.String())
			cur.Reset()
		}
		if alnum(c) || strings.IndexByte("-._~", c) >= 0 {
			cur.WriteByte(c)
		} else {
			fmt.Fprintf(&cur, "%%%02X", c)
		}
	}
	pieces = append(pieces, cur.String())
	if len(pieces) == 1 {
		return []string{p.name + "*=" + pieces[0]}
	}
	for i := range pieces {
		pieces[i] = p.name + "*" + itoa(i) + "*=" + pieces[i]
	}
	return pieces
}

// base64Lines encodes in lines with CRLF; Close ends the last one.
type base64Lines struct {
	w     io.Writer
	rest  []byte
	buf   []byte
	width int // bytes in a line: 57 give 76 letters
}

func (l *base64Lines) Write(p []byte) (int, error) {
	n := len(p)
	l.rest = append(l.rest, p...)
	whole := len(l.rest) / l.width * l.width
	if err := l.flush(l.rest[:whole]); err != nil {
		return 0, err
	}
	l.rest = append(l.rest[:0], l.rest[whole:]...)
	return n, nil
}

func (l *base64Lines) flush(b []byte) error {
	l.buf = l.buf[:0]
	for len(b) > 0 {
		n := min(len(b), l.width)
		l.buf = base64.StdEncoding.AppendEncode(l.buf, b[:n])
		l.buf = append(l.buf, '\r', '\n')
		b = b[n:]
	}
	_, err := l.w.Write(l.buf)
	return err
}

// Close writes the last, shorter line.
func (l *base64Lines) Close() error { return l.flush(l.rest) }

// crlfWriter turns bare LF and bare CR into CRLF on their way.
type crlfWriter struct {
	w    io.Writer
	buf  []byte
	last byte
}

func (c *crlfWriter) Write(p []byte) (int, error) {
	c.buf = c.buf[:0]
	for _, b := range p {
		if c.last == '\r' && b != '\n' {
			c.buf = append(c.buf, '\n')
		}
		if b == '\n' && c.last != '\r' {
			c.buf = append(c.buf, '\r')
		}
		c.buf = append(c.buf, b)
		c.last = b
	}
	if _, err := c.w.Write(c.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close completes a CR at the very end.
func (c *crlfWriter) Close() error {
	if c.last == '\r' {
		_, err := c.w.Write([]byte{'\n'})
		return err
	}
	return nil
}

// countWriter counts what passes.
type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// token gives n random bytes in hex.
func token(random io.Reader, n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("pec: random source: %w", err)
	}
	return hex.EncodeToString(b), nil
}
