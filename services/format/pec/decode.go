package pec

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Open decodes the transfer encoding as a stream: base64 passes over foreign bytes, quoted-printable
// keeps what is not well-formed, unknown encodings are given as they stand. It fails only when
// the source does.
func (p *Part) Open() io.Reader {
	switch p.Encoding {
	case "base64":
		return base64.NewDecoder(base64.RawStdEncoding, &base64Filter{in: p.buffered()})
	case "quoted-printable":
		return &qpReader{in: p.buffered()}
	case "x-uuencode", "uuencode", "x-uue":
		return &uuReader{in: p.buffered()}
	}
	return p.Body()
}

// buffered reads the body with a buffer that a small one does not outgrow.
func (p *Part) buffered() *bufio.Reader {
	return bufio.NewReaderSize(p.Body(), int(min(p.End-p.BodyStart+64, 32<<10)))
}

// Bytes is what Open gives, at most limit bytes (0: the limit of decoded parts); more is a *LimitError.
func (p *Part) Bytes(limit int) ([]byte, error) {
	if limit <= 0 {
		limit = p.m.lim.Decoded
	}
	if p.Encoding == "base64" && p.End-p.BodyStart <= wholeBase64 {
		return p.smallBase64(limit)
	}
	var b bytes.Buffer
	if size := p.End - p.BodyStart; size < int64(limit) {
		b.Grow(int(size) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(p.Open(), int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("pec: read part %d: %w", p.index, err)
	}
	if n > int64(limit) {
		return nil, &LimitError{"a decoded part", int64(limit)}
	}
	return b.Bytes(), nil
}

// wholeBase64 bounds the bodies that are decoded at once: signatures and certification data are far smaller.
const wholeBase64 = 256 << 10

// smallBase64 is Open's decoding without its buffers.
func (p *Part) smallBase64(limit int) ([]byte, error) {
	raw := make([]byte, p.End-p.BodyStart, p.End-p.BodyStart+1)
	if _, err := io.ReadFull(p.Body(), raw); err != nil {
		return nil, fmt.Errorf("pec: read part %d: %w", p.index, err)
	}
	clean := raw[:0]
	for _, c := range raw {
		if alphabet64[c] {
			clean = append(clean, c)
		}
	}
	if len(clean)%4 == 1 {
		clean = append(clean, 'A') // as base64Filter.last
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
	n, err := base64.RawStdEncoding.Decode(out, clean)
	if err != nil {
		return nil, fmt.Errorf("pec: read part %d: %w", p.index, err)
	}
	if n > limit {
		return nil, &LimitError{"a decoded part", int64(limit)}
	}
	return out[:n], nil
}

// Text is the decoded body as UTF-8 by its charset. exact is false when the charset is unknown
// or lies: then it is the best guess.
func (p *Part) Text() (text string, exact bool, err error) {
	raw, err := p.Bytes(0)
	if err != nil {
		return "", false, err
	}
	text, exact = decodeCharset(p.Params["charset"], raw)
	return text, exact, nil
}

// Message is the message inside a message/rfc822. One that is encoded, against RFC 2046 §5.2.1
// but seen, is decoded into memory and read as a message of its own.
func (p *Part) Message() (*Part, error) {
	if len(p.Parts) == 1 {
		return p.Parts[0], nil
	}
	raw, err := p.Bytes(0)
	if err != nil {
		return nil, err
	}
	m, err := Parse(bytes.NewReader(raw), int64(len(raw)), p.m.lim)
	if err != nil {
		return nil, err
	}
	return m.Root, nil
}

// base64Filter lets the alphabet through. The decoder behind it has no padding, so "=" in the
// middle, where two pieces were joined, ends nothing; a dangling letter at the end is dropped.
type base64Filter struct {
	in  *bufio.Reader
	n   int
	end bool
}

func (f *base64Filter) Read(b []byte) (int, error) {
	if f.end {
		return 0, io.EOF
	}
	n := 0
	for n < len(b) {
		chunk, err := f.in.Peek(1)
		if len(chunk) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return n, err
			}
			return f.last(b, n)
		}
		chunk, _ = f.in.Peek(min(f.in.Buffered(), len(b)-n))
		for _, c := range chunk {
			if alphabet64[c] {
				b[n] = c
				n++
			}
		}
		if _, err := f.in.Discard(len(chunk)); err != nil {
			return n, err
		}
	}
	f.n += n
	return n, nil
}

// last completes the last group, so that the decoder does not end with an error.
func (f *base64Filter) last(b []byte, n int) (int, error) {
	f.end = true
	f.n += n
	if f.n%4 == 1 && n < len(b) {
		b[n] = 'A' // a dangling letter has six bits, no byte: with one more it gives a byte at most
		n++
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// qpReader decodes quoted-printable line by line. spec: RFC2045 §6.7
type qpReader struct {
	in    *bufio.Reader
	out   []byte
	carry []byte // "=" or "=X" at the end of a piece of a very long line
	err   error
}

func (r *qpReader) Read(b []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		raw, err := r.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			r.err = err
		}
		whole := err == nil || errors.Is(err, io.EOF)
		if len(r.carry) > 0 {
			raw = append(r.carry, raw...)
			r.carry = nil
		}
		if i := bytes.LastIndexByte(raw, '='); !whole && i >= 0 && i >= len(raw)-2 {
			r.carry = bytes.Clone(raw[i:])
			raw = raw[:i]
		}
		r.out = decodeQPLine(r.out[:0], raw, whole)
	}
	n := copy(b, r.out)
	r.out = r.out[n:]
	return n, nil
}

func decodeQPLine(dst, raw []byte, whole bool) []byte {
	var end []byte
	line := raw
	if whole {
		line = bytes.TrimRight(raw, "\r\n")
		end = raw[len(line):]
		line = bytes.TrimRight(line, " \t") // blanks at the end were added on the way
		if bytes.HasSuffix(line, []byte("=")) {
			line, end = line[:len(line)-1], nil
		}
	}
	for i := 0; i < len(line); i++ {
		if line[i] == '=' && i+2 < len(line) {
			if hi, lo := unhex(line[i+1]), unhex(line[i+2]); hi >= 0 && lo >= 0 {
				dst = append(dst, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		dst = append(dst, line[i])
	}
	return append(dst, end...)
}

// uuReader decodes uuencode between "begin" and "end".
type uuReader struct {
	in    *bufio.Reader
	out   []byte
	begun bool
	err   error
}

func (r *uuReader) Read(b []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		raw, err := r.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			r.err = err
		}
		line := bytes.TrimRight(raw, "\r\n")
		switch {
		case !r.begun:
			r.begun = bytes.HasPrefix(line, []byte("begin "))
		case string(line) == "end":
			r.err = io.EOF
		default:
			r.out = decodeUULine(r.out[:0], line)
		}
	}
	n := copy(b, r.out)
	r.out = r.out[n:]
	return n, nil
}

func decodeUULine(dst, line []byte) []byte {
	if len(line) == 0 {
		return dst
	}
	want := int(line[0]-' ') & 0x3f
	six := func(i int) byte {
		if i >= len(line) {
			return 0
		}
		return (line[i] - ' ') & 0x3f
	}
	start := len(dst)
	for i := 1; len(dst)-start < want; i += 4 {
		a, b, c, d := six(i), six(i+1), six(i+2), six(i+3)
		dst = append(dst, a<<2|b>>4, b<<4|c>>2, c<<6|d)
	}
	return dst[:start+want]
}
