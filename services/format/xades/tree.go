package xades

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// Limits of what is read. They are far above any invoice (5 MB) or receipt.
const (
	maxSize     = 32 << 20
	maxDepth    = 256
	maxNodes    = 1 << 20
	maxAttrs    = 256  // of one element
	maxBindings = 1024 // namespace declarations in scope at one place
)

type kind uint8

const (
	kindElement kind = iota
	kindText
	kindComment
	kindPI
)

const xmlNS = "http://www.w3.org/XML/1998/namespace"

// attr is an attribute that is not a namespace declaration.
type attr struct{ prefix, local, ns, value string }

// binding is a namespace in scope; the list runs from the innermost outwards.
type binding struct {
	prefix, uri string
	outer       *binding
	count       int
}

func (b *binding) lookup(prefix string) (string, bool) {
	if prefix == "xml" {
		return xmlNS, true
	}
	for ; b != nil; b = b.outer {
		if b.prefix == prefix {
			return b.uri, true
		}
	}
	return "", prefix == ""
}

// node is a piece of the document. Of the fields, text is a text's or comment's contents or a
// processing instruction's data, whose target is local.
type node struct {
	kind              kind
	prefix, local, ns string
	attrs             []attr
	scope             *binding // namespaces in scope inside the element
	declares          bool     // the element declares namespaces itself
	text              string
	parent            *node
	children          []*node
}

// document is a parsed file: top has the root as its only element child.
type document struct {
	top  *node // children: processing instructions and comments around the root, and the root
	root *node
	ids  map[string][]*node

	lenient bool // see VerifyOptions.OtherArchives
}

// parse reads the document. Errors: *SyntaxError.
func parse(raw []byte) (*document, error) {
	if len(raw) > maxSize {
		return nil, malformed(0, "document has %d bytes, the limit is %d", len(raw), maxSize)
	}
	b, err := prepare(raw)
	if err != nil {
		return nil, err
	}
	dec := xml.NewDecoder(bytes.NewReader(b))
	// The bytes are UTF-8 already, whatever the declaration says.
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	p := &parser{dec: dec, doc: &document{top: &node{}, ids: map[string][]*node{}}}
	p.at = p.doc.top
	for {
		tok, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed(int(dec.InputOffset()), "%v", err)
		}
		if err := p.take(tok); err != nil {
			return nil, err
		}
	}
	if p.doc.root == nil || p.at != p.doc.top {
		return nil, malformed(len(b), "document is cut off")
	}
	return p.doc, nil
}

type parser struct {
	dec   *xml.Decoder
	doc   *document
	at    *node
	depth int
	nodes int
}

func (p *parser) bad(format string, args ...any) error {
	return malformed(int(p.dec.InputOffset()), format, args...)
}

func (p *parser) add(n *node) error {
	if p.nodes++; p.nodes > maxNodes {
		return p.bad("more than %d nodes", maxNodes)
	}
	n.parent = p.at
	p.at.children = append(p.at.children, n)
	return nil
}

func (p *parser) take(tok xml.Token) error {
	switch t := tok.(type) {
	case xml.StartElement:
		return p.open(t)
	case xml.EndElement:
		if p.depth == 0 || t.Name.Space != p.at.prefix || t.Name.Local != p.at.local {
			return p.bad("closing tag %s does not match", qname(t.Name.Space, t.Name.Local))
		}
		p.at = p.at.parent
		p.depth--
	case xml.CharData:
		if p.depth == 0 {
			if len(bytes.TrimSpace(t)) > 0 {
				return p.bad("text outside the root element")
			}
			return nil
		}
		// CDATA comes as text of its own: the canonical form knows no difference. Texts are not
		// joined, which would cost the square of their number.
		return p.add(&node{kind: kindText, text: string(t)})
	case xml.Comment:
		return p.add(&node{kind: kindComment, text: string(t)})
	case xml.ProcInst:
		if t.Target == "xml" {
			if p.nodes > 0 {
				return p.bad("XML declaration is not at the start")
			}
			return nil
		}
		return p.add(&node{kind: kindPI, local: t.Target, text: string(t.Inst)})
	case xml.Directive:
		return p.bad("document type declarations are not accepted")
	}
	return nil
}

func (p *parser) open(t xml.StartElement) error {
	if p.depth == 0 && p.doc.root != nil {
		return p.bad("more than one root element")
	}
	if p.depth++; p.depth > maxDepth {
		return p.bad("elements are nested deeper than %d", maxDepth)
	}
	if len(t.Attr) > maxAttrs {
		return p.bad("element has more than %d attributes", maxAttrs)
	}
	n := &node{kind: kindElement, prefix: t.Name.Space, local: t.Name.Local, scope: p.at.scope}
	if err := p.declare(n, t.Attr); err != nil {
		return err
	}
	var ok bool
	if n.ns, ok = n.scope.lookup(n.prefix); !ok {
		return p.bad("prefix %q is not declared", n.prefix)
	}
	if err := p.attributes(n, t.Attr); err != nil {
		return err
	}
	if err := p.add(n); err != nil {
		return err
	}
	if p.depth == 1 {
		p.doc.root = n
	}
	p.at = n
	return nil
}

// declare takes the namespace declarations.
func (p *parser) declare(n *node, attrs []xml.Attr) error {
	for _, a := range attrs {
		var prefix string
		switch {
		case a.Name.Space == "xmlns":
			prefix = a.Name.Local
			if prefix == "xml" && a.Value == xmlNS {
				continue
			}
			if a.Value == "" || prefix == "xml" || prefix == "xmlns" {
				return p.bad("namespace declaration of prefix %q is not allowed", prefix)
			}
		case a.Name.Space == "" && a.Name.Local == "xmlns":
		default:
			continue
		}
		count := 1
		if n.scope != nil {
			count += n.scope.count
		}
		if count > maxBindings {
			return p.bad("more than %d namespace declarations in scope", maxBindings)
		}
		n.scope = &binding{prefix: prefix, uri: a.Value, outer: n.scope, count: count}
		n.declares = true
	}
	return nil
}

func (p *parser) attributes(n *node, attrs []xml.Attr) error {
	if err := p.twice(attrs); err != nil {
		return err
	}
	for _, a := range attrs {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			continue
		}
		at := attr{prefix: a.Name.Space, local: a.Name.Local, value: a.Value}
		if at.prefix != "" {
			var ok bool
			if at.ns, ok = n.scope.lookup(at.prefix); !ok {
				return p.bad("prefix %q is not declared", at.prefix)
			}
			// two prefixes of one namespace; plain names were compared already
			for _, b := range n.attrs {
				if b.local == at.local && b.ns == at.ns {
					return p.bad("attribute %s stands twice", at.local)
				}
			}
		}
		n.attrs = append(n.attrs, at)
		if at.ns == "" && strings.EqualFold(at.local, "id") || at.ns == xmlNS && at.local == "id" {
			p.doc.ids[at.value] = append(p.doc.ids[at.value], n)
		}
	}
	return nil
}

// twice refuses an attribute name that is there twice. maxAttrs bounds the comparisons.
func (p *parser) twice(attrs []xml.Attr) error {
	for i, a := range attrs {
		for _, b := range attrs[:i] {
			if a.Name == b.Name {
				return p.bad("attribute %s stands twice", qname(a.Name.Space, a.Name.Local))
			}
		}
	}
	return nil
}

func qname(prefix, local string) string {
	if prefix == "" {
		return local
	}
	return prefix + ":" + local
}

// is says whether the node is this element.
func (n *node) is(ns, local string) bool {
	return n.kind == kindElement && n.local == local && n.ns == ns
}

// child finds the first child element of a name, nil when there is none.
func (n *node) child(ns, local string) *node {
	if n == nil {
		return nil
	}
	for _, c := range n.children {
		if c.is(ns, local) {
			return c
		}
	}
	return nil
}

// all lists the child elements of a name.
func (n *node) all(ns, local string) []*node {
	var out []*node
	if n != nil {
		for _, c := range n.children {
			if c.is(ns, local) {
				out = append(out, c)
			}
		}
	}
	return out
}

// attr gives the value of an attribute without namespace.
func (n *node) attr(local string) (string, bool) {
	if n != nil {
		for _, a := range n.attrs {
			if a.ns == "" && a.local == local {
				return a.value, true
			}
		}
	}
	return "", false
}

// value is the text right inside the element.
func (n *node) value() string {
	if n == nil {
		return ""
	}
	if len(n.children) == 1 && n.children[0].kind == kindText {
		return n.children[0].text
	}
	var b strings.Builder
	for _, c := range n.children {
		if c.kind == kindText {
			b.WriteString(c.text)
		}
	}
	return b.String()
}

// descendants calls f for every element of a name under n, n included, in document order.
// The recursion is bounded by maxDepth.
func (n *node) descendants(ns, local string, f func(*node)) {
	if n.is(ns, local) {
		f(n)
	}
	for _, c := range n.children {
		if c.kind == kindElement {
			c.descendants(ns, local, f)
		}
	}
}
