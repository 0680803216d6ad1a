package submit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxTextLine is the longest line without its end. spec: RFC5321 §4.5.3.1.6
const maxTextLine = 998

// ContentError says why bytes may not be sent: servers read them differently, which is how one
// message is made to look like two.
type ContentError struct {
	Offset int64
	What   string
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("submit: the message cannot be sent as it is: byte %d: %s", e.Offset, e.What)
}

// CheckContent reads a whole message and says whether it may travel over plain SMTP: ASCII, no NUL,
// every line ends with CRLF and is at most 998 bytes long; the last line may lack its end. It gives
// the number of bytes. Errors: ContentError, else the reader's. spec: RFC5321 §2.3.8, §4.5.3.1.6
func CheckContent(r io.Reader) (int64, error) {
	var c scanner
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if bad := c.scan(buf[:n]); bad != nil {
			return c.at, bad
		}
		switch {
		case errors.Is(err, io.EOF):
			if c.cr {
				return c.at, &ContentError{c.at, "CR without LF"}
			}
			if c.at == 0 {
				return 0, &ContentError{0, "there is nothing"}
			}
			return c.at, nil
		case err != nil:
			return c.at, err
		}
	}
}

type scanner struct {
	at   int64
	line int
	cr   bool
}

func (c *scanner) scan(p []byte) error {
	for _, b := range p {
		switch {
		case b == '\n' && !c.cr:
			return &ContentError{c.at, "LF without CR"}
		case c.cr && b != '\n':
			return &ContentError{c.at, "CR without LF"}
		case b == 0:
			return &ContentError{c.at, "a zero byte"}
		case b >= 0x80:
			return &ContentError{c.at, "a byte outside ASCII"}
		case b == '\n':
			c.line, c.cr = -1, false
		case b == '\r':
			c.cr = true
			c.line--
		}
		c.line++
		c.at++
		if c.line > maxTextLine {
			return &ContentError{c.at, fmt.Sprintf("a line of more than %d bytes", maxTextLine)}
		}
	}
	return nil
}

// stuffer writes content as DATA wants it: a dot at the beginning of a line is doubled.
// spec: RFC5321 §4.5.2
type stuffer struct {
	w     io.Writer
	mid   bool // not at the beginning of a line
	taken int64
}

func (s *stuffer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if !s.mid && p[0] == '.' {
			if _, err := s.w.Write([]byte{'.'}); err != nil {
				return n - len(p), err
			}
		}
		end := len(p)
		s.mid = true
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			end, s.mid = i+1, false
		}
		if _, err := s.w.Write(p[:end]); err != nil {
			return n - len(p), err
		}
		s.taken += int64(end)
		p = p[end:]
	}
	return n, nil
}

// finish ends the last line.
func (s *stuffer) finish() error {
	if !s.mid {
		return nil
	}
	s.mid = false
	_, err := io.WriteString(s.w, "\r\n")
	return err
}
