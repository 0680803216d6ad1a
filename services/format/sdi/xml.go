package sdi

import (
	"bytes"
)

// The reader below is written by hand because every invoice passes it at least three times
// (request, answer, receipt) and encoding/xml costs more than the TLS record. It is a pull
// parser over one slice: namespaces resolved, tags matched, the five predefined entities
// and character references only, no DTD ever.

const (
	maxDepth = 64 // envelopes and receipts need 8; signatures with embedded chains 20
	maxAttrs = 64
)

type binding struct{ prefix, uri string }

type openTag struct {
	raw    []byte // qualified name as written
	nsMark int    // bindings in force before this element
}

type attribute struct {
	prefix, local []byte
	value         []byte // raw, entities not yet resolved
}

type tokenKind uint8

const (
	tokStart tokenKind = iota + 1
	tokEnd
	tokText
	tokEOF
)

// xmlReader walks one document. After next returns tokStart, local, space and attrs describe
// the element; after tokText, text holds the raw characters and cdata whether they are literal.
type xmlReader struct {
	doc   string
	b     []byte
	pos   int
	stack []openTag
	ns    []binding
	attrs []attribute

	space  string
	local  []byte
	text   []byte
	cdata  bool
	selfCl bool // an empty-element tag owes an end token
	seen   bool // the root has been opened
}

func newXMLReader(doc string, data []byte) (*xmlReader, error) {
	data, err := toUTF8(doc, data)
	if err != nil {
		return nil, err
	}
	return &xmlReader{doc: doc, b: data}, nil
}

func (r *xmlReader) fail(err error, format string, args ...any) error {
	return at(r.doc, r.b, r.pos, err, format, args...)
}

// next returns the next token. Comments and processing instructions are passed over.
func (r *xmlReader) next() (tokenKind, error) {
	if r.selfCl {
		r.selfCl = false
		r.pop()
		return tokEnd, nil
	}
	for {
		if r.pos >= len(r.b) {
			if len(r.stack) > 0 {
				return 0, r.fail(ErrTruncated, "the document ends inside <%s>", clip(string(r.stack[len(r.stack)-1].raw), 60))
			}
			if !r.seen {
				return 0, r.fail(ErrXML, "no root element")
			}
			return tokEOF, nil
		}
		if r.b[r.pos] != '<' {
			if len(r.stack) > 0 {
				return r.chars()
			}
			if !isBlank(r.b[r.pos]) {
				return 0, r.fail(ErrXML, "text outside the root element")
			}
			r.pos++
			continue
		}
		rest := r.b[r.pos:]
		switch {
		case bytes.HasPrefix(rest, []byte("<?")):
			if err := r.jump("<?", "?>"); err != nil {
				return 0, err
			}
		case bytes.HasPrefix(rest, []byte("<!--")):
			if err := r.jump("<!--", "-->"); err != nil {
				return 0, err
			}
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			if len(r.stack) == 0 {
				return 0, r.fail(ErrXML, "character data outside the root element")
			}
			start := r.pos + len("<![CDATA[")
			if err := r.jump("<![CDATA[", "]]>"); err != nil {
				return 0, err
			}
			r.text, r.cdata = r.b[start:r.pos-len("]]>")], true
			return tokText, nil
		case bytes.HasPrefix(rest, []byte("<!")):
			return 0, r.fail(ErrDTD, "remove the <!DOCTYPE ...> declaration")
		case bytes.HasPrefix(rest, []byte("</")):
			return r.endTag()
		default:
			return r.startTag()
		}
	}
}

func (r *xmlReader) jump(open, end string) error {
	i := bytes.Index(r.b[r.pos+len(open):], []byte(end))
	if i < 0 {
		return r.fail(ErrTruncated, "%s without %s", open, end)
	}
	r.pos += len(open) + i + len(end)
	return nil
}

func (r *xmlReader) chars() (tokenKind, error) {
	i := bytes.IndexByte(r.b[r.pos:], '<')
	if i < 0 {
		i = len(r.b) - r.pos
	}
	r.text, r.cdata = r.b[r.pos:r.pos+i], false
	r.pos += i
	return tokText, nil
}

func (r *xmlReader) endTag() (tokenKind, error) {
	i := bytes.IndexByte(r.b[r.pos:], '>')
	if i < 0 {
		return 0, r.fail(ErrTruncated, "end tag without '>'")
	}
	name := bytes.TrimRight(r.b[r.pos+2:r.pos+i], " \t\r\n")
	if len(r.stack) == 0 {
		return 0, r.fail(ErrXML, "unexpected </%s>", clip(string(name), 60))
	}
	if open := r.stack[len(r.stack)-1].raw; !bytes.Equal(name, open) {
		return 0, r.fail(ErrXML, "</%s> closes <%s>", clip(string(name), 60), clip(string(open), 60))
	}
	r.pos += i + 1
	r.pop()
	return tokEnd, nil
}

func (r *xmlReader) pop() {
	top := r.stack[len(r.stack)-1]
	r.stack = r.stack[:len(r.stack)-1]
	r.ns = r.ns[:top.nsMark]
}

func (r *xmlReader) startTag() (tokenKind, error) {
	if len(r.stack) == 0 && r.seen {
		return 0, r.fail(ErrXML, "a second root element")
	}
	if len(r.stack) >= maxDepth {
		return 0, r.fail(ErrTooDeep, "more than %d levels", maxDepth)
	}
	r.pos++
	raw := r.name()
	if len(raw) == 0 {
		return 0, r.fail(ErrXML, "'<' must begin a tag; write &lt; for the character")
	}
	mark := len(r.ns)
	r.attrs = r.attrs[:0]
	for {
		spaced := r.blanks()
		if r.pos >= len(r.b) {
			return 0, r.fail(ErrTruncated, "the document ends inside <%s>", clip(string(raw), 60))
		}
		c := r.b[r.pos]
		if c == '>' {
			r.pos++
			break
		}
		if c == '/' {
			if r.pos+1 >= len(r.b) || r.b[r.pos+1] != '>' {
				return 0, r.fail(ErrXML, "'/' without '>' in <%s>", clip(string(raw), 60))
			}
			r.pos += 2
			r.selfCl = true
			break
		}
		if !spaced {
			return 0, r.fail(ErrXML, "attributes of <%s> must be separated by blanks", clip(string(raw), 60))
		}
		if err := r.attribute(raw); err != nil {
			return 0, err
		}
	}
	r.seen = true
	r.stack = append(r.stack, openTag{raw: raw, nsMark: mark})
	prefix, local := cutName(raw)
	uri, ok := r.lookup(prefix)
	if !ok {
		return 0, r.fail(ErrXML, "namespace prefix %q is not declared", clip(string(prefix), 40))
	}
	r.space, r.local = uri, local
	return tokStart, nil
}

func (r *xmlReader) attribute(tag []byte) error {
	name := r.name()
	if len(name) == 0 {
		return r.fail(ErrXML, "malformed attribute in <%s>", clip(string(tag), 60))
	}
	r.blanks()
	if r.pos >= len(r.b) || r.b[r.pos] != '=' {
		return r.fail(ErrXML, "attribute %s has no value", clip(string(name), 60))
	}
	r.pos++
	r.blanks()
	if r.pos >= len(r.b) || r.b[r.pos] != '"' && r.b[r.pos] != '\'' {
		return r.fail(ErrXML, "the value of attribute %s must be quoted", clip(string(name), 60))
	}
	quote := r.b[r.pos]
	r.pos++
	i := bytes.IndexByte(r.b[r.pos:], quote)
	if i < 0 {
		return r.fail(ErrTruncated, "the value of attribute %s has no closing quote", clip(string(name), 60))
	}
	value := r.b[r.pos : r.pos+i]
	if bytes.IndexByte(value, '<') >= 0 {
		return r.fail(ErrXML, "'<' in the value of attribute %s; write &lt;", clip(string(name), 60))
	}
	r.pos += i + 1
	prefix, local := cutName(name)
	if len(prefix) == 0 && string(local) == "xmlns" || string(prefix) == "xmlns" {
		uri, err := r.uri(value)
		if err != nil {
			return err
		}
		p := ""
		if len(prefix) > 0 {
			p = string(local)
		}
		if len(r.ns) >= maxDepth*4 {
			return r.fail(ErrXML, "too many namespace declarations")
		}
		r.ns = append(r.ns, binding{prefix: p, uri: uri})
		return nil
	}
	if len(r.attrs) >= maxAttrs {
		return r.fail(ErrXML, "more than %d attributes in <%s>", maxAttrs, clip(string(tag), 60))
	}
	for _, a := range r.attrs {
		if bytes.Equal(a.prefix, prefix) && bytes.Equal(a.local, local) {
			return r.fail(ErrXML, "attribute %s is given twice", clip(string(name), 60))
		}
	}
	r.attrs = append(r.attrs, attribute{prefix: prefix, local: local, value: value})
	return nil
}

func (r *xmlReader) name() []byte {
	start := r.pos
	for r.pos < len(r.b) {
		c := r.b[r.pos]
		if alnumByte(c) || c == '_' || c == ':' || c >= 0x80 || (c == '-' || c == '.') && r.pos > start {
			r.pos++
			continue
		}
		break
	}
	return r.b[start:r.pos]
}

func (r *xmlReader) blanks() bool {
	start := r.pos
	for r.pos < len(r.b) && isBlank(r.b[r.pos]) {
		r.pos++
	}
	return r.pos > start
}

func (r *xmlReader) lookup(prefix []byte) (string, bool) {
	for i := len(r.ns) - 1; i >= 0; i-- {
		if r.ns[i].prefix == string(prefix) {
			return r.ns[i].uri, true
		}
	}
	if string(prefix) == "xml" {
		return "http://www.w3.org/XML/1998/namespace", true
	}
	return "", len(prefix) == 0
}

// attr returns the value of an attribute of the element just opened. space is "" for
// attributes without a prefix.
func (r *xmlReader) attr(space, local string) (string, bool) {
	for _, a := range r.attrs {
		if string(a.local) != local {
			continue
		}
		uri := ""
		if len(a.prefix) > 0 {
			uri, _ = r.lookup(a.prefix)
		}
		if uri != space {
			continue
		}
		v, err := r.unescape(a.value)
		if err != nil {
			return "", false
		}
		return v, true
	}
	return "", false
}

// root opens the document and leaves the reader inside its root element.
func (r *xmlReader) root() error {
	k, err := r.next()
	if err != nil {
		return err
	}
	if k != tokStart {
		return r.fail(ErrXML, "no root element")
	}
	return nil
}

// each calls fn for every child element of the open element, up to its end tag. fn must
// consume the child with each, value or skip.
func (r *xmlReader) each(fn func() error) error {
	for {
		k, err := r.next()
		if err != nil {
			return err
		}
		switch k {
		case tokEnd:
			return nil
		case tokStart:
			depth := len(r.stack)
			if err := fn(); err != nil {
				return err
			}
			if len(r.stack) >= depth {
				return r.fail(ErrXML, "internal: element not consumed")
			}
		}
	}
}

// skip consumes the open element and all it holds, still checking that it is well formed.
func (r *xmlReader) skip() error {
	for depth := 1; depth > 0; {
		k, err := r.next()
		if err != nil {
			return err
		}
		switch k {
		case tokStart:
			depth++
		case tokEnd:
			depth--
		case tokEOF:
			return r.fail(ErrTruncated, "the document ends inside an element")
		}
	}
	return nil
}

// value consumes the open element and returns its text, blanks at both ends removed. Child
// elements are passed over.
func (r *xmlReader) value() (string, error) {
	var first []byte
	var all []byte
	for {
		k, err := r.next()
		if err != nil {
			return "", err
		}
		switch k {
		case tokEnd:
			if all == nil {
				all = first
			}
			return string(bytes.TrimSpace(all)), nil
		case tokStart:
			if err := r.skip(); err != nil {
				return "", err
			}
		case tokText:
			chunk := r.text
			if !r.cdata && bytes.IndexByte(chunk, '&') >= 0 {
				s, err := r.unescape(chunk)
				if err != nil {
					return "", err
				}
				chunk = []byte(s)
			}
			if first == nil {
				first = chunk
				continue
			}
			if all == nil {
				all = append(make([]byte, 0, len(first)+len(chunk)), first...)
			}
			all = append(all, chunk...)
		}
	}
}

// end reads what may follow the root element and refuses anything but comments and blanks.
func (r *xmlReader) end() error {
	k, err := r.next()
	if err != nil {
		return err
	}
	if k != tokEOF {
		return r.fail(ErrXML, "content after the root element")
	}
	return nil
}

// uri resolves a namespace name; the well-known ones cost no allocation.
func (r *xmlReader) uri(value []byte) (string, error) {
	switch string(value) {
	case nsEnvelope:
		return nsEnvelope, nil
	case nsTrasmissione:
		return nsTrasmissione, nil
	case nsXOP:
		return nsXOP, nil
	case NamespacePA:
		return NamespacePA, nil
	case NamespacePrivati:
		return NamespacePrivati, nil
	case nsDSig:
		return nsDSig, nil
	}
	return r.unescape(value)
}

func cutName(raw []byte) (prefix, local []byte) {
	i := bytes.IndexByte(raw, ':')
	if i < 0 {
		return nil, raw
	}
	return raw[:i], raw[i+1:]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
