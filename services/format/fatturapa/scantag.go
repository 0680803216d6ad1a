package fatturapa

import "strings"

// openTag reads a start tag or an empty-element tag.
func (p *parser) openTag() error {
	start := p.pos
	n := nameLen(p.s[start+1:])
	if n == 0 {
		return p.fail(ErrMalformed, start, "'<' starts no tag; write &lt;")
	}
	if n > p.lim.MaxName {
		return p.fail(ErrTooMany, start, "an element name has %d bytes, the limit is %d", n, p.lim.MaxName)
	}
	if len(p.stack) == 0 && p.root {
		return p.fail(ErrMalformed, start, "there is a second root element")
	}
	if len(p.stack) >= p.lim.MaxDepth {
		return p.fail(ErrTooDeep, start, "elements are nested more than %d deep", p.lim.MaxDepth)
	}
	if len(p.f.nodes) >= p.lim.MaxElements {
		return p.fail(ErrTooMany, start, "there are more than %d elements", p.lim.MaxElements)
	}
	id := NodeID(len(p.f.nodes))
	fr := frame{id: id, nameEnd: uint32(start + 1 + n), binds: len(p.binds)}
	nd := node{off: uint32(start), name: uint16(n)}
	if len(p.stack) > 0 {
		top := &p.stack[len(p.stack)-1]
		fr.defaultNS = top.defaultNS
		nd.parent = top.id
		p.adopt(top, id)
	}
	p.f.nodes = append(p.f.nodes, nd)
	p.pos = start + 1 + n
	selfClosed := false
	if p.pos < len(p.s) && p.s[p.pos] == '>' {
		p.pos++
		if p.root && p.leaf(id, start+1, n) {
			return p.nameElement(&fr, p.s[start+1:start+1+n])
		}
	} else {
		var err error
		if selfClosed, err = p.attributes(&fr); err != nil {
			return err
		}
	}
	if err := p.nameElement(&fr, p.s[start+1:start+1+n]); err != nil {
		return err
	}
	if selfClosed {
		p.binds = p.binds[:fr.binds]
		return nil
	}
	p.stack = append(p.stack, fr)
	return nil
}

// leaf is the short way through most of an invoice: <Name>text</Name> with nothing
// to decode. It takes the whole element, or nothing.
func (p *parser) leaf(id NodeID, name, n int) bool {
	k := strings.IndexByte(p.s[p.pos:], '<')
	if k < 0 {
		return false
	}
	end := p.pos + k + 2 + n
	if end >= len(p.s) || p.s[end] != '>' || p.s[end-n-1] != '/' || p.s[end-n:end] != p.s[name:name+n] {
		return false
	}
	if k > 0 {
		text := p.s[p.pos : p.pos+k]
		if p.hasRef && strings.IndexByte(text, '&') >= 0 || p.hasCR && strings.IndexByte(text, '\r') >= 0 ||
			p.hasBracket && strings.Contains(text, "]]>") {
			return false
		}
		p.f.nodes[id].val = textRef{uint32(p.pos), uint32(k)}
	}
	p.pos = end + 1
	return true
}

// adopt links a new child to the open element.
func (p *parser) adopt(top *frame, id NodeID) {
	n := &p.f.nodes[top.id]
	if top.last != 0 {
		p.f.nodes[top.last].next = id
	} else {
		n.flags |= flagChildren
		if top.some && !isBlank(p.textOf(top.text)) {
			n.flags |= flagMixed
		}
	}
	top.last = id
}

func (p *parser) textOf(r textRef) string {
	if r.off&decodedBit != 0 {
		off := r.off &^ decodedBit
		return string(p.extra[off : off+r.len])
	}
	return p.s[r.off : r.off+r.len]
}

// nameElement resolves the prefix of an element and finds its tag. The root
// decides what the file is.
func (p *parser) nameElement(fr *frame, qname string) error {
	nd := &p.f.nodes[fr.id]
	local := qname
	nd.ns = fr.defaultNS
	if strings.IndexByte(qname, ':') >= 0 {
		var prefix string
		prefix, local = splitName(qname)
		ns, ok := p.bound(prefix)
		if !ok {
			return p.fail(ErrNamespace, int(nd.off), "the prefix of <%s> is not bound to a namespace", qname)
		}
		nd.ns = ns
	}
	nd.tag = lookupTag(local)
	if p.root {
		if nd.tag == tagSignature && nd.ns == nsSignature {
			p.f.Signed = true
		}
		return nil
	}
	p.root = true
	old := nd.ns
	if err := p.checkRoot(nd, local); err != nil {
		return err
	}
	if fr.defaultNS == old {
		fr.defaultNS = nsInvoice
	}
	return nil
}

// checkRoot accepts the four kinds of invoice and nothing else.
func (p *parser) checkRoot(nd *node, local string) error {
	if nd.tag != tagFatturaElettronica && nd.tag != tagFatturaElettronicaSemplificata {
		return p.fail(ErrRoot, int(nd.off), "the root element is <%s>, not an invoice", local)
	}
	schema := schemaOf[p.f.namespaces[nd.ns]]
	if schema == 0 || (schema == SchemaSimplified) != (nd.tag == tagFatturaElettronicaSemplificata) {
		return p.fail(ErrNamespace, int(nd.off), "<%s> is in namespace %q, which is not that of an invoice", local, p.f.namespaces[nd.ns])
	}
	p.f.Schema = schema
	p.f.namespaces[nsInvoice] = p.f.namespaces[nd.ns]
	old := nd.ns
	nd.ns = nsInvoice
	for i := range p.binds { // give the namespace its fixed number
		if p.binds[i].ns == old {
			p.binds[i].ns = nsInvoice
		}
	}
	p.f.namespaces[old] = "\x00" + p.f.namespaces[old]
	return nil
}

// closeTag reads an end tag.
func (p *parser) closeTag() error {
	if len(p.stack) == 0 {
		return p.fail(ErrMalformed, p.pos, "an end tag without its start tag")
	}
	top := &p.stack[len(p.stack)-1]
	nd := &p.f.nodes[top.id]
	name := p.s[nd.off+1 : top.nameEnd]
	rest := p.s[p.pos+2:]
	if !strings.HasPrefix(rest, name) {
		if len(rest) < len(name) && strings.HasPrefix(name, rest) {
			return p.fail(ErrTruncated, p.pos, "the document ends inside the end tag of <%s>", name)
		}
		return p.fail(ErrMalformed, p.pos, "found </%s> where </%s> was expected (opened on line %d)",
			rest[:nameLen(rest)], name, p.f.Line(top.id))
	}
	i := len(name)
	for i < len(rest) && isSpace(rest[i]) {
		i++
	}
	if i >= len(rest) {
		return p.fail(ErrTruncated, p.pos, "the document ends inside the end tag of <%s>", name)
	}
	if rest[i] != '>' {
		return p.fail(ErrMalformed, p.pos, "found </%s> where </%s> was expected", rest[:max(i, nameLen(rest))], name)
	}
	nd.val = top.text
	p.pos += 2 + i + 1
	p.binds = p.binds[:top.binds]
	p.stack = p.stack[:len(p.stack)-1]
	return nil
}

// attributes reads the attributes and the end of a start tag.
func (p *parser) attributes(fr *frame) (selfClosed bool, perr error) {
	first := len(p.f.attrs)
	count := 0
	for {
		spaced := false
		for p.pos < len(p.s) && isSpace(p.s[p.pos]) {
			p.pos++
			spaced = true
		}
		if p.pos >= len(p.s) {
			return false, p.fail(ErrTruncated, len(p.s), "the document ends inside a tag")
		}
		switch p.s[p.pos] {
		case '>':
			p.pos++
			return false, p.resolveAttributes(fr, first)
		case '/':
			if !strings.HasPrefix(p.s[p.pos:], "/>") {
				return false, p.fail(ErrMalformed, p.pos, "'/' inside a tag")
			}
			p.pos += 2
			return true, p.resolveAttributes(fr, first)
		}
		if !spaced {
			return false, p.fail(ErrMalformed, p.pos, "white space is missing before an attribute")
		}
		if count++; count > p.lim.MaxAttributes {
			return false, p.fail(ErrTooMany, p.pos, "an element has more than %d attributes", p.lim.MaxAttributes)
		}
		if err := p.attribute(fr); err != nil {
			return false, err
		}
	}
}

// maxBindings bounds the prefixes in scope, so that looking one up stays cheap.
const maxBindings = 128

// attribute reads name = "value": a namespace declaration becomes a binding,
// anything else an attribute with its qualified name.
func (p *parser) attribute(fr *frame) error {
	at := p.pos
	n := nameLen(p.s[at:])
	if n == 0 || n > p.lim.MaxName {
		return p.fail(ErrMalformed, at, "an attribute has no usable name")
	}
	name := p.s[at : at+n]
	i := p.skipSpace(at + n)
	if i >= len(p.s) || p.s[i] != '=' {
		return p.fail(ErrMalformed, at, "attribute %s has no value", name)
	}
	i = p.skipSpace(i + 1)
	if i >= len(p.s) {
		return p.fail(ErrTruncated, at, "the document ends inside attribute %s", name)
	}
	quote := p.s[i]
	if quote != '"' && quote != '\'' {
		return p.fail(ErrMalformed, at, "the value of attribute %s is not quoted", name)
	}
	end := strings.IndexByte(p.s[i+1:], quote)
	if end < 0 {
		return p.fail(ErrTruncated, at, "the value of attribute %s has no end", name)
	}
	val, err := p.attributeValue(i+1, i+1+end)
	if err != nil {
		return err
	}
	p.pos = i + 1 + end + 1
	switch {
	case name == "xmlns":
		if p.boundHere(fr, "") {
			return p.fail(ErrMalformed, at, "attribute xmlns is written twice")
		}
		ns, err := p.namespace(at, val)
		if err != nil {
			return err
		}
		fr.defaultNS = ns
		p.binds = append(p.binds, binding{"", ns})
	case strings.HasPrefix(name, "xmlns:"):
		if len(p.binds) >= maxBindings {
			return p.fail(ErrTooMany, at, "more than %d namespace prefixes are in scope", maxBindings)
		}
		if val == "" || p.boundHere(fr, name[6:]) {
			return p.fail(ErrNamespace, at, "prefix %s is bound to nothing, or twice", name[6:])
		}
		ns, err := p.namespace(at, val)
		if err != nil {
			return err
		}
		p.binds = append(p.binds, binding{name[6:], ns})
	default:
		p.f.attrs = append(p.f.attrs, attribute{node: fr.id, name: name, val: val, off: uint32(at)})
	}
	return nil
}

func (p *parser) skipSpace(i int) int {
	for i < len(p.s) && isSpace(p.s[i]) {
		i++
	}
	return i
}

// attributeValue resolves references and turns white space into spaces
// (XML 1.0 §3.3.3).
func (p *parser) attributeValue(from, to int) (string, error) {
	raw := p.s[from:to]
	if k := strings.IndexByte(raw, '<'); k >= 0 {
		return "", p.fail(ErrMalformed, from+k, "'<' is not allowed in an attribute value")
	}
	if !strings.ContainsAny(raw, "&\t\r\n") {
		return raw, nil
	}
	var b strings.Builder
	for i := from; i < to; {
		switch c := p.s[i]; c {
		case '&':
			out, n, err := p.reference(i, to)
			if err != nil {
				return "", err
			}
			b.WriteString(out)
			i += n
		case '\t', '\n', '\r':
			if c == '\r' && i+1 < to && p.s[i+1] == '\n' {
				i++
			}
			b.WriteByte(' ')
			i++
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

// resolveAttributes gives the attributes of one element their namespaces, once
// all declarations of the tag are known, and refuses doubles.
func (p *parser) resolveAttributes(fr *frame, first int) error {
	attrs := p.f.attrs[first:]
	for i := range attrs {
		a := &attrs[i]
		if strings.IndexByte(a.name, ':') >= 0 {
			prefix, local := splitName(a.name)
			ns, ok := p.bound(prefix)
			if !ok {
				return p.fail(ErrNamespace, int(a.off), "the prefix of attribute %s is not bound to a namespace", a.name)
			}
			a.ns, a.name = ns, local
		}
		for j := range i {
			if attrs[j].name == a.name && attrs[j].ns == a.ns {
				return p.fail(ErrMalformed, int(a.off), "attribute %s is written twice", a.name)
			}
		}
	}
	p.f.nodes[fr.id].attrs = uint16(len(attrs))
	return nil
}

// namespace returns the number of a namespace URI.
func (p *parser) namespace(at int, uri string) (uint8, error) {
	for i, u := range p.f.namespaces {
		if u == uri {
			return uint8(i), nil
		}
	}
	if len(p.f.namespaces) > 200 {
		return 0, p.fail(ErrTooMany, at, "there are more than 200 namespaces")
	}
	p.f.namespaces = append(p.f.namespaces, uri)
	return uint8(len(p.f.namespaces) - 1), nil
}

// bound finds the namespace of a prefix, the innermost first.
func (p *parser) bound(prefix string) (uint8, bool) {
	for i := len(p.binds) - 1; i >= 0; i-- {
		if p.binds[i].prefix == prefix && prefix != "" {
			return p.binds[i].ns, true
		}
	}
	if prefix == "xml" {
		return nsXML, true
	}
	return 0, false
}

func (p *parser) boundHere(fr *frame, prefix string) bool {
	for _, b := range p.binds[fr.binds:] {
		if b.prefix == prefix {
			return true
		}
	}
	return false
}
