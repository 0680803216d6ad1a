package fatturapa

import (
	"strings"
)

// parser turns text into the node table in one pass. It checks well-formedness
// as XML 1.0 and Namespaces ask, and refuses what an invoice never needs.
type parser struct {
	f     *File
	s     string
	pos   int
	lim   Limits
	stack []frame
	extra []byte    // decoded texts
	binds []binding // namespace prefixes in scope
	root  bool      // the root element was seen

	// What the whole text never contains need not be looked for in each piece.
	hasRef, hasCR, hasBracket bool
}

// frame is an open element.
type frame struct {
	id        NodeID
	last      NodeID // last child so far
	nameEnd   uint32 // of the qualified name in the text
	defaultNS uint8
	binds     int // bindings in scope before this element
	text      textRef
	some      bool // text was seen
}

// binding is a prefix bound to a namespace.
type binding struct {
	prefix string
	ns     uint8
}

// fail makes an error at a place in the text.
func (p *parser) fail(code ParseCode, at int, format string, args ...any) *ParseError {
	line, col := position(p.s, at)
	return newParseError(code, line, col, format, args...)
}

// run parses the whole document.
func (p *parser) run() error {
	if at := firstForbidden(p.s); at >= 0 {
		end := len(strings.TrimRight(p.s, "\x00\x1a"))
		if at < end {
			return p.fail(ErrMalformed, at, "control character U+%04X is not allowed in XML", p.s[at])
		}
		// Mainframe and MIME tools pad with NUL or SUB after the last line.
		p.deviate("trailing_bytes", end)
		p.s = p.s[:end]
	}
	p.hasRef = strings.IndexByte(p.s, '&') >= 0
	p.hasCR = strings.IndexByte(p.s, '\r') >= 0
	p.hasBracket = strings.Contains(p.s, "]]>")
	estimate := strings.Count(p.s, "<")/2 + 2
	p.f.nodes = make([]node, 0, min(estimate, p.lim.MaxElements+1))
	p.f.namespaces = append(make([]string, 0, 8), "", "", uriSignature, uriInstance, uriXML)
	p.stack = make([]frame, 0, 16)
	if err := p.prolog(); err != nil {
		return err
	}
	for p.pos < len(p.s) {
		if err := p.content(); err != nil {
			return err
		}
	}
	switch {
	case len(p.stack) > 0:
		top := p.stack[len(p.stack)-1]
		return p.fail(ErrTruncated, len(p.s), "the document ends inside <%s>, opened on line %d", p.f.localName(top.id), p.f.Line(top.id))
	case !p.root:
		return p.fail(ErrNotXML, len(p.s), "there is no root element")
	}
	p.f.decoded = string(p.extra)
	return nil
}

func (p *parser) deviate(name string, at int) {
	line, _ := position(p.s, at)
	p.f.Deviations = append(p.f.Deviations, Deviation{Name: name, Line: line})
}

// prolog reads the XML declaration when there is one.
func (p *parser) prolog() error {
	start := 0
	for start < len(p.s) && isSpace(p.s[start]) {
		start++
	}
	if !strings.HasPrefix(p.s[start:], "<?xml") || start+5 >= len(p.s) || !isSpace(p.s[start+5]) {
		return nil
	}
	if start > 0 {
		p.deviate("leading_space", 0)
	}
	end := strings.Index(p.s[start:], "?>")
	if end < 0 {
		return p.fail(ErrTruncated, start, "the XML declaration has no end")
	}
	if !validDeclaration(p.s[start+5 : start+end]) {
		return p.fail(ErrMalformed, start, "the XML declaration is not well formed")
	}
	p.pos = start + end + 2
	return nil
}

// validDeclaration checks VersionInfo EncodingDecl? SDDecl? (XML 1.0 [23]).
func validDeclaration(s string) bool {
	want := []string{"version", "encoding", "standalone"}
	for first := true; ; first = false {
		t := strings.TrimLeft(s, " \t\r\n")
		if t == "" {
			return !first
		}
		if len(t) == len(s) {
			return false // white space must come before each part
		}
		name, rest, ok := strings.Cut(t, "=")
		name = strings.TrimRight(name, " \t\r\n")
		for len(want) > 0 && want[0] != name && !first {
			want = want[1:]
		}
		if !ok || len(want) == 0 || want[0] != name {
			return false
		}
		want = want[1:]
		rest = strings.TrimLeft(rest, " \t\r\n")
		if rest == "" || rest[0] != '"' && rest[0] != '\'' {
			return false
		}
		val, after, ok := strings.Cut(rest[1:], rest[:1])
		if !ok || !validDeclared(name, val) {
			return false
		}
		s = after
	}
}

func validDeclared(name, val string) bool {
	switch name {
	case "version":
		return strings.HasPrefix(val, "1.") && len(val) > 2 && strings.Trim(val[2:], "0123456789") == ""
	case "standalone":
		return val == "yes" || val == "no"
	}
	for i := range len(val) {
		if c := val[i]; charClass[c]&className == 0 {
			return false
		}
	}
	return startLen(val) > 0
}

// content reads up to and including the next markup.
func (p *parser) content() error {
	k := strings.IndexByte(p.s[p.pos:], '<')
	if k < 0 {
		k = len(p.s) - p.pos
	}
	if k > 0 {
		if err := p.characters(p.pos, p.pos+k); err != nil {
			return err
		}
		p.pos += k
	}
	if p.pos+1 >= len(p.s) {
		if p.pos < len(p.s) {
			return p.fail(ErrTruncated, p.pos, "the document ends with '<'")
		}
		return nil
	}
	switch p.s[p.pos+1] {
	case '/':
		return p.closeTag()
	case '!':
		return p.bang()
	case '?':
		return p.instruction()
	}
	return p.openTag()
}

// bang reads a comment or a CDATA section, and refuses a DTD.
func (p *parser) bang() error {
	rest := p.s[p.pos:]
	switch {
	case strings.HasPrefix(rest, "<!--"):
		end := strings.Index(rest[4:], "--")
		if end < 0 {
			return p.fail(ErrTruncated, p.pos, "a comment has no end")
		}
		if !strings.HasPrefix(rest[4+end:], "-->") {
			return p.fail(ErrMalformed, p.pos+4+end, "'--' is not allowed inside a comment")
		}
		p.pos += 4 + end + 3
		return nil
	case strings.HasPrefix(rest, "<![CDATA["):
		end := strings.Index(rest[9:], "]]>")
		if end < 0 {
			return p.fail(ErrTruncated, p.pos, "a CDATA section has no end")
		}
		if len(p.stack) == 0 {
			return p.fail(ErrMalformed, p.pos, "text outside the root element")
		}
		p.addText(p.pos+9, p.pos+9+end, false)
		p.pos += 9 + end + 3
		return nil
	case strings.HasPrefix(rest, "<!DOCTYPE"):
		return p.fail(ErrDTD, p.pos, "the document has a document type declaration")
	}
	return p.fail(ErrMalformed, p.pos, "'<!' starts neither a comment nor CDATA")
}

// instruction skips a processing instruction, such as xml-stylesheet.
func (p *parser) instruction() error {
	end := strings.Index(p.s[p.pos+2:], "?>")
	if end < 0 {
		return p.fail(ErrTruncated, p.pos, "a processing instruction has no end")
	}
	body := p.s[p.pos+2 : p.pos+2+end]
	n := nameLen(body)
	if n == 0 || n < len(body) && !isSpace(body[n]) {
		return p.fail(ErrMalformed, p.pos, "a processing instruction has no name")
	}
	if strings.EqualFold(body[:n], "xml") {
		return p.fail(ErrMalformed, p.pos, "the XML declaration must be the first thing in the file")
	}
	p.pos += end + 4
	return nil
}

// characters takes text between markup.
func (p *parser) characters(from, to int) error {
	if len(p.stack) == 0 {
		for i := from; i < to; i++ {
			if !isSpace(p.s[i]) {
				if p.root {
					return p.fail(ErrMalformed, i, "there is text after the root element")
				}
				return p.fail(ErrNotXML, i, "there is text before the root element")
			}
		}
		return nil
	}
	if p.hasBracket && strings.Contains(p.s[from:to], "]]>") {
		return p.fail(ErrMalformed, from, "']]>' is not allowed in text")
	}
	if p.hasRef {
		if k := strings.IndexByte(p.s[from:to], '&'); k >= 0 {
			return p.referencedText(from, to)
		}
	}
	p.addText(from, to, p.hasCR)
	return nil
}

// addText adds s[from:to] to the text of the open element, with line ends made
// LF when asked.
func (p *parser) addText(from, to int, newlines bool) {
	top := &p.stack[len(p.stack)-1]
	n := &p.f.nodes[top.id]
	if n.flags&flagChildren != 0 {
		if !isBlank(p.s[from:to]) {
			n.flags |= flagMixed
		}
		return
	}
	if from == to {
		return
	}
	cr := (newlines || p.hasCR) && strings.IndexByte(p.s[from:to], '\r') >= 0
	if !top.some && !cr {
		top.some = true
		top.text = textRef{uint32(from), uint32(to - from)}
		return
	}
	p.ownText(top)
	if !cr {
		p.extra = append(p.extra, p.s[from:to]...)
	} else {
		p.extra = appendNewlines(p.extra, p.s[from:to])
	}
	top.text.len = uint32(len(p.extra)) - top.text.off&^decodedBit
}

// ownText moves the text of an element to the decoded texts, to be added to.
// Texts of other elements cannot come in between: text after a child is not kept.
func (p *parser) ownText(top *frame) {
	if top.some && top.text.off&decodedBit != 0 {
		return
	}
	at := len(p.extra)
	if top.some {
		p.extra = append(p.extra, p.s[top.text.off:top.text.off+top.text.len]...)
	}
	top.some = true
	top.text = textRef{uint32(at) | decodedBit, uint32(len(p.extra) - at)}
}

// referencedText adds text that holds character or entity references.
func (p *parser) referencedText(from, to int) error {
	for from < to {
		k := strings.IndexByte(p.s[from:to], '&')
		if k < 0 {
			k = to - from
		}
		if k > 0 {
			p.addText(from, from+k, true)
			from += k
			continue
		}
		out, n, err := p.reference(from, to)
		if err != nil {
			return err
		}
		top := &p.stack[len(p.stack)-1]
		if nd := &p.f.nodes[top.id]; nd.flags&flagChildren != 0 {
			if !isBlank(out) {
				nd.flags |= flagMixed
			}
		} else {
			p.ownText(top)
			p.extra = append(p.extra, out...)
			top.text.len = uint32(len(p.extra)) - top.text.off&^decodedBit
		}
		from += n
	}
	return nil
}

// reference decodes one reference at '&'; n is its length in the source.
func (p *parser) reference(at, to int) (out string, n int, perr error) {
	end := strings.IndexByte(p.s[at:min(to, at+12)], ';')
	if end < 0 {
		end = strings.IndexByte(p.s[at:to], ';')
		if end < 0 || end > 12 {
			return "", 0, p.fail(ErrMalformed, at, "'&' starts no reference; write &amp;")
		}
	}
	name := p.s[at+1 : at+end]
	switch name {
	case "lt":
		return "<", end + 1, nil
	case "gt":
		return ">", end + 1, nil
	case "amp":
		return "&", end + 1, nil
	case "apos":
		return "'", end + 1, nil
	case "quot":
		return "\"", end + 1, nil
	}
	if strings.HasPrefix(name, "#") {
		r, ok := charReference(name[1:])
		if !ok {
			return "", 0, p.fail(ErrMalformed, at, "&%s; is no character of XML", name)
		}
		return string(r), end + 1, nil
	}
	if nameLen(name) != len(name) || name == "" {
		return "", 0, p.fail(ErrMalformed, at, "'&' starts no reference; write &amp;")
	}
	return "", 0, p.fail(ErrEntity, at, "entity &%s; is not defined in XML", name)
}

// charReference reads the digits of a numeric reference: 65 or x41.
func charReference(s string) (rune, bool) {
	base := rune(10)
	if strings.HasPrefix(s, "x") {
		base, s = 16, s[1:]
	}
	r := rune(0)
	for i := 0; i < len(s); i++ {
		var d rune
		switch c := rune(s[i]); {
		case c >= '0' && c <= '9':
			d = c - '0'
		case base == 16 && c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		case base == 16 && c >= 'A' && c <= 'F':
			d = c - 'A' + 10
		default:
			return 0, false
		}
		if r = r*base + d; r > 0x10FFFF {
			return 0, false
		}
	}
	ok := s != "" && (r >= 0x20 && r < 0xD800 || r == '\t' || r == '\n' || r == '\r' ||
		r >= 0xE000 && r <= 0xFFFD || r >= 0x10000)
	return r, ok
}
