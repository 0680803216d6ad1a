package pec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Limits of the reader. The zero value takes the defaults.
type Limits struct {
	Size     int64 // bytes of the message, 256 MiB by default
	Parts    int   // parts in all, 10,000 by default
	Depth    int   // nested parts, 64 by default; deeper ones are left unopened with a finding
	Header   int   // bytes of one part's header, 1 MiB by default
	Headers  int   // bytes of all headers, 8 MiB by default
	Daticert int   // bytes of daticert.xml; by default 64 KiB and 200 bytes for each recipient
	Decoded  int   // bytes of an encoded part that is taken into memory (signature, text), 32 MiB by default
}

func (l Limits) orDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	if l.Size <= 0 {
		l.Size = 256 << 20
	}
	def(&l.Parts, 10_000)
	def(&l.Depth, 64)
	def(&l.Header, 1<<20)
	def(&l.Headers, 8<<20)
	def(&l.Decoded, 32<<20)
	return l
}

// LimitError says which limit a message passed. Such a message is to be set aside, not retried.
type LimitError struct {
	What  string
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("pec: %s is over the limit of %d", e.What, e.Limit)
}

// ErrEmpty: there is nothing to read.
var ErrEmpty = errors.New("pec: the message is empty")

// Message is a message that was read. The bytes stay in the source.
type Message struct {
	Root     *Part
	Size     int64
	Findings Findings

	src io.ReaderAt
	lim Limits
}

// Parse reads the structure of a message in one pass with a buffer of 64 KiB: headers are kept,
// bodies are not. It fails only when src fails, the message is empty, or a limit is passed
// (*LimitError); everything else is a finding. src must stay readable as long as the message is used.
func Parse(src io.ReaderAt, size int64, lim Limits) (*Message, error) {
	lim = lim.orDefaults()
	if size <= 0 {
		return nil, ErrEmpty
	}
	if size > lim.Size {
		return nil, &LimitError{"the size of the message", lim.Size}
	}
	m := &Message{Size: size, src: src, lim: lim}
	in := lineBuffers.Get().(*bufio.Reader)
	in.Reset(io.NewSectionReader(src, 0, size))
	defer func() {
		in.Reset(nil)
		lineBuffers.Put(in)
	}()
	s := &scanner{m: m, lim: lim, in: in}
	m.Root = s.start(nil, 0)
	if err := s.run(); err != nil {
		return nil, err
	}
	m.Root.Header.duplicates(0, &m.Findings)
	return m, nil
}

// lineBuffers are used again: most messages are smaller than the buffer that they are read with.
var lineBuffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

// ParseBytes is Parse over bytes under the default limits.
func ParseBytes(raw []byte) (*Message, error) {
	return Parse(bytes.NewReader(raw), int64(len(raw)), Limits{})
}

// Source is what the message was read from.
func (m *Message) Source() *io.SectionReader { return io.NewSectionReader(m.src, 0, m.Size) }

// open is a multipart whose delimiters are looked for.
type open struct {
	part   *Part
	delim  []byte // "--" and the boundary
	closed bool
}

type scanner struct {
	m   *Message
	lim Limits
	in  *bufio.Reader

	stack   []open
	cur     *Part
	header  bool // inside cur's header
	field   []byte
	inField bool // field holds one
	fieldAt int64
	pos     int64
	prevEnd int64 // bytes of the previous line's end, 0 at the start
	parts   int
	headers int
	crlf    bool
	lf      bool
	nul     bool
}

// line is one line of the message, or the first 64 KiB of one.
type line struct {
	text  []byte // without its end
	at    int64
	whole bool // false: the end is further on
	cont  bool // a later piece of a long line
	end   int64
}

func (s *scanner) run() error {
	cont := false
	for {
		raw, err := s.in.ReadSlice('\n')
		if len(raw) == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return fmt.Errorf("pec: read message: %w", err)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return fmt.Errorf("pec: read message: %w", err)
		}
		l := line{text: raw, at: s.pos, whole: true, cont: cont}
		s.pos += int64(len(raw))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			l.whole = false
		case err == nil && len(raw) > 1 && raw[len(raw)-2] == '\r':
			l.text, l.end, s.crlf = raw[:len(raw)-2], 2, true
		case err == nil:
			l.text, l.end, s.lf = raw[:len(raw)-1], 1, true
		}
		cont = !l.whole
		if err := s.take(l); err != nil {
			return err
		}
		s.prevEnd = l.end
		if err != nil && errors.Is(err, io.EOF) {
			break
		}
	}
	return s.finish()
}

// take decides what a line is: delimiter, header or body.
func (s *scanner) take(l line) error {
	if len(s.stack) > 0 && s.cur.depth <= aroundOriginal && bytes.Contains(l.text, []byte("\r--")) {
		s.odd(s.cur, CodeBoundaryAmbiguous, Ambiguous, l.at, "a carriage return alone stands before what may be a delimiter")
	}
	if !l.cont && len(l.text) > 2 && l.text[0] == '-' && l.text[1] == '-' && len(s.stack) > 0 {
		if k, closing, is := s.delimiter(l); is {
			return s.delimit(k, closing, l)
		}
	}
	if s.header {
		return s.headerLine(l)
	}
	if !s.nul && bytes.IndexByte(l.text, 0) >= 0 {
		s.nul = true
		s.odd(s.cur, CodeNUL, Notice, l.at, "zero bytes")
	}
	return nil
}

// delimiter says whether a line delimits an open multipart: exactly its boundary, then "--" or
// nothing, then blanks. The innermost one wins. A line that only begins so is no delimiter here,
// but OpenSSL and others take it for one: that is reported.
// spec: RFC2046 §5.1.1
func (s *scanner) delimiter(l line) (k int, closing, is bool) {
	text := bytes.TrimRight(l.text, " \t")
	ambiguous := -1
	for k := len(s.stack) - 1; k >= 0; k-- {
		o := &s.stack[k]
		if !bytes.HasPrefix(text, o.delim) {
			continue
		}
		rest := text[len(o.delim):]
		exact := l.whole && (len(rest) == 0 || string(rest) == "--")
		if exact && !o.closed {
			return k, len(rest) > 0, true
		}
		if exact {
			s.odd(o.part, CodeAfterClose, Ambiguous, o.part.Start, "at byte %d stands a delimiter of %q after its closing one", l.at, o.delim[2:])
			return 0, false, false
		}
		ambiguous = k
	}
	if ambiguous >= 0 {
		o := &s.stack[ambiguous]
		s.odd(o.part, CodeBoundaryAmbiguous, Ambiguous, o.part.Start, "the line at byte %d begins with the boundary %q and goes on", l.at, o.delim[2:])
	}
	return 0, false, false
}

// delimit ends the current part and everything below the multipart k.
func (s *scanner) delimit(k int, closing bool, l line) error {
	if s.header {
		s.odd(s.cur, CodeHeaderUnended, Notice, l.at, "a header ends at a delimiter, without an empty line")
		if err := s.endHeader(l.at, l.at); err != nil {
			return err
		}
	}
	// spec: RFC2046 §5.1.1 (the line end before a delimiter belongs to it)
	end := l.at - s.prevEnd
	container := s.stack[k].part
	s.cur.finish(container, end)
	for i := len(s.stack) - 1; i > k; i-- {
		if o := &s.stack[i]; !o.closed {
			s.unclosed(o)
		}
	}
	s.stack = s.stack[:k+1]
	s.cur, s.header = container, false
	if closing {
		s.stack[k].closed = true
		container.Closed = true
		return nil
	}
	if s.parts >= s.lim.Parts {
		return &LimitError{"the number of parts", int64(s.lim.Parts)}
	}
	s.start(container, s.pos)
	return nil
}

// unclosed, like all findings about boundaries, is said of the part that the boundary belongs to:
// what is odd inside an original is its sender's matter, what is odd around it is not.
func (s *scanner) unclosed(o *open) {
	s.odd(o.part, CodeUnclosed, Ambiguous, o.part.Start, "the multipart %q has no closing delimiter", o.delim[2:])
}

// start begins a part whose header is at offset at.
func (s *scanner) start(parent *Part, at int64) *Part {
	p := &Part{Parent: parent, m: s.m, Start: at, BodyStart: at, End: at, index: s.parts}
	if parent != nil {
		p.depth = parent.depth + 1
		parent.Parts = append(parent.Parts, p)
	}
	s.parts++
	s.cur, s.header, s.inField = p, true, false
	return p
}

// headerLine takes one line of a header.
func (s *scanner) headerLine(l line) error {
	if s.headers += len(l.text); s.headers > s.lim.Headers {
		return &LimitError{"the size of all headers", int64(s.lim.Headers)}
	}
	if s.pos-s.cur.Start > int64(s.lim.Header) {
		return &LimitError{"the size of a header", int64(s.lim.Header)}
	}
	if bytes.IndexByte(l.text, '\r') >= 0 { // Python's parser ends a line there. spec: RFC5322 §2.2
		s.odd(s.cur, CodeHeaderBroken, s.brokenSeverity(), l.at, "a carriage return stands inside a line of the header")
	}
	switch {
	case l.cont:
		s.more(l.text)
	case len(l.text) == 0:
		return s.endHeader(l.at, s.pos)
	case l.text[0] == ' ' || l.text[0] == '\t':
		if !s.inField && len(bytes.TrimSpace(l.text)) == 0 {
			return s.endHeader(l.at, s.pos) // a line of blanks right away: no header at all
		}
		if !s.inField {
			s.odd(s.cur, CodeHeaderBroken, Ambiguous, l.at, "a header begins with a continuation line")
		}
		s.more(l.text)
	case fieldName(l.text) < 0:
		if s.cur.Header == nil && !s.inField && s.mboxLine(l) {
			return nil
		}
		// Python's parser, and this one, begin the body here; others go on. spec: RFC5322 §2.1
		s.odd(s.cur, CodeHeaderBroken, s.brokenSeverity(), l.at, "a line of the header is no field: the body begins here")
		if err := s.endHeader(l.at, l.at); err != nil {
			return err
		}
		return s.take(l) // it may delimit the multipart that this header began
	default:
		s.endField()
		s.more(l.text)
		s.fieldAt = l.at
	}
	return nil
}

// aroundOriginal is how deep the parts are that a provider writes around an original: the whole, what is signed, and what is in it.
const aroundOriginal = 2

// odd reports something about a part.
func (s *scanner) odd(p *Part, code string, severity Severity, at int64, format string, args ...any) {
	s.m.Findings.put(p.depth > aroundOriginal, code, severity, at, format, args...)
}

// brokenSeverity: inside an original that somebody sent it is no matter of trust.
func (s *scanner) brokenSeverity() Severity {
	if s.cur.depth <= aroundOriginal {
		return Ambiguous
	}
	return Notice
}

// mboxLine passes over "From sender date", which mailbox files put before a message.
func (s *scanner) mboxLine(l line) bool {
	if s.cur.Parent != nil || !(bytes.HasPrefix(l.text, []byte("From ")) || bytes.HasPrefix(l.text, []byte(">From "))) {
		return false
	}
	s.odd(s.cur, CodeHeaderMbox, Notice, l.at, "a line of a mailbox file stands before the header")
	return true
}

// fieldName gives the length of a field's name, -1 when the line is no field. Names with blanks
// are taken, since they occur; control characters are not.
func fieldName(text []byte) int {
	i := bytes.IndexByte(text, ':')
	if i <= 0 {
		return -1
	}
	for _, c := range text[:i] {
		if c < ' ' && c != '\t' {
			return -1
		}
	}
	if len(bytes.TrimSpace(text[:i])) == 0 {
		return -1
	}
	return i
}

// oddName says whether a name has characters that RFC 5322 §2.2 does not allow in one.
func oddName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return true
		}
	}
	return false
}

// more takes a line, or a piece of one, into the field.
func (s *scanner) more(text []byte) {
	if !s.inField {
		s.field, s.inField = s.field[:0], len(text) > 0
	}
	s.field = append(s.field, text...)
}

func (s *scanner) endField() {
	if !s.inField {
		return
	}
	if i := fieldName(s.field); i > 0 {
		if oddName(s.field[:i]) {
			s.odd(s.cur, CodeHeaderBroken, s.brokenSeverity(), s.fieldAt, "the name %.40q is none of a field: some readers end the header here", s.field[:i])
		}
		text := string(s.field)
		s.cur.Header = append(s.cur.Header, Field{Name: strings.TrimSpace(text[:i]), Value: text[i+1:], Offset: s.fieldAt})
	}
	s.inField = false
}

// endHeader ends cur's header: the empty line is at at, the body begins at body. It decides
// whether the body holds parts.
func (s *scanner) endHeader(at, body int64) error {
	s.endField()
	s.header = false
	p := s.cur
	p.BodyStart, p.End = body, body
	p.readType()
	for _, name := range []string{"Content-Type", "Content-Transfer-Encoding", "Content-Disposition"} {
		if n := p.Header.Count(name); n > 1 && p.depth > 0 {
			s.odd(p, CodeHeaderDuplicate, s.brokenSeverity(), p.Start, "%s stands %d times in a part", name, n)
		}
	}
	if p.depth >= s.lim.Depth {
		if p.IsMultipart() || p.MediaType == "message/rfc822" {
			s.odd(p, CodeTooDeep, Notice, at, "parts nested deeper than %d are left unopened", s.lim.Depth)
		}
		return nil
	}
	switch {
	case p.IsMultipart():
		boundary := p.Params["boundary"]
		if boundary == "" {
			s.odd(p, CodeNoBoundary, s.brokenSeverity(), at, "%s without a boundary is left unopened", p.MediaType)
			return nil
		}
		if value, _ := p.Header.Lookup("Content-Type"); !oneBoundary(value) {
			s.odd(p, CodeBoundaryAmbiguous, s.brokenSeverity(), at, "the Content-Type of a multipart names its boundary in more than one way: %.200q", value)
		}
		delim := []byte("--" + boundary)
		for i := range s.stack {
			if bytes.Equal(s.stack[i].delim, delim) {
				s.odd(s.stack[i].part, CodeBoundaryReused, Ambiguous, s.stack[i].part.Start, "at byte %d the boundary %q is used again", at, boundary)
			}
		}
		s.stack = append(s.stack, open{part: p, delim: delim})
	case p.MediaType == "message/rfc822" && p.identity():
		if s.parts >= s.lim.Parts {
			return &LimitError{"the number of parts", int64(s.lim.Parts)}
		}
		s.start(p, body)
	}
	return nil
}

// finish closes what is open at the end of the message.
func (s *scanner) finish() error {
	for s.header { // twice when a message/rfc822 ends with its own header
		if err := s.endHeader(s.pos, s.pos); err != nil {
			return err
		}
	}
	s.cur.finish(nil, s.pos)
	for i := range s.stack {
		if o := &s.stack[i]; !o.closed {
			s.unclosed(o)
		}
	}
	switch {
	case s.lf && s.crlf:
		s.m.Findings.add(CodeMixedEnds, Notice, -1, "some lines end with CRLF and some with LF")
	case s.lf:
		s.m.Findings.add(CodeBareLF, Notice, -1, "lines end with LF: the copy was not kept as it travelled")
	}
	return nil
}
