package pec

import (
	"bufio"
	"errors"
	"io"
)

// countingReader keeps the source's error, which the CMS report would take for the message's fault.
type countingReader struct {
	in  io.Reader
	err error
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// crlfReader turns a bare LF into CRLF.
type crlfReader struct {
	in   *bufio.Reader
	last byte
	owed bool
}

func (c *crlfReader) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if c.owed {
			b[n], c.owed, c.last = '\n', false, '\n'
			n++
			continue
		}
		ch, err := c.in.ReadByte()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if ch == '\n' && c.last != '\r' {
			b[n], c.owed = '\r', true
		} else {
			b[n], c.last = ch, ch
		}
		n++
	}
	return n, nil
}
