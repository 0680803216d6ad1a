package submit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds on what a server may say. RFC 5321 §4.5.3.1.5 gives a reply line 512 bytes; real servers
// write a little more.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
	maxReplyBytes = 32 << 10
)

// Reply is a server's answer. spec: RFC5321 §4.2
type Reply struct {
	Code     int
	Enhanced string // RFC 3463 status such as 5.1.1, "" for none
	Lines    []string
}

// Text is the answer in one line, printable and bounded.
func (r *Reply) Text() string {
	const shown = 1000
	s := strings.Join(r.Lines, " / ")
	if len(s) > shown {
		s = strings.ToValidUTF8(s[:shown], "") + "…"
	}
	return s
}

// class is the first digit.
func (r *Reply) class() int { return r.Code / 100 }

// ReplyError is an answer that is no SMTP.
type ReplyError struct{ What string }

func (e *ReplyError) Error() string { return "submit: the server's answer is no SMTP reply: " + e.What }

// replyReader reads replies from a connection. What a hostile server may make it keep is bounded.
type replyReader struct{ r *bufio.Reader }

func newReplyReader(r io.Reader) *replyReader {
	return &replyReader{bufio.NewReaderSize(r, maxReplyLine)}
}

// pending says whether bytes are here that nobody asked for.
func (rr *replyReader) pending() bool { return rr.r.Buffered() > 0 }

// read reads one reply. Lines end with CRLF, LF alone is tolerated. Errors: ReplyError, else the
// connection's.
func (rr *replyReader) read() (*Reply, error) {
	r := &Reply{}
	total := 0
	for {
		line, err := rr.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, &ReplyError{fmt.Sprintf("a line of more than %d bytes", maxReplyLine)}
		}
		if err != nil {
			if err == io.EOF && (len(line) > 0 || len(r.Lines) > 0) { //nolint:errorlint // bufio gives it bare
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		total += len(line)
		code, text, last, err := replyLine(line)
		switch {
		case err != nil:
			return nil, err
		case r.Code != 0 && code != r.Code:
			return nil, &ReplyError{fmt.Sprintf("one answer with the codes %d and %d", r.Code, code)}
		case total > maxReplyBytes || len(r.Lines) == maxReplyLines:
			return nil, &ReplyError{fmt.Sprintf("an answer of more than %d lines or %d bytes", maxReplyLines, maxReplyBytes)}
		}
		r.Code, r.Lines = code, append(r.Lines, text)
		if last {
			r.Enhanced = enhanced(code, r.Lines[0])
			return r, nil
		}
	}
}

// replyLine takes one line apart.
func replyLine(line []byte) (code int, text string, last bool, err error) {
	s := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || !digit(s[1]) || !digit(s[2]) {
		return 0, "", false, &ReplyError{fmt.Sprintf("%q does not begin with a code", clean(s, 60))}
	}
	code = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	if len(s) == 3 {
		return code, "", true, nil
	}
	if s[3] != ' ' && s[3] != '-' {
		return 0, "", false, &ReplyError{fmt.Sprintf("%q has no blank after the code", clean(s, 60))}
	}
	return code, clean(s[4:], maxReplyLine), s[3] == ' ', nil
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// enhanced reads a status code at the beginning of a text. spec: RFC2034 §4, RFC3463 §2
func enhanced(code int, text string) string {
	word, _, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || int(parts[0][0]-'0') != code/100 {
		return ""
	}
	for _, p := range parts[1:] {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return ""
		}
	}
	return word
}

// clean makes a text printable: what a server writes ends in logs, databases and terminals.
func clean(s string, most int) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == utf8.RuneError || r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			r = '?'
		case r == '\t':
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > most {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
