package xades

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
)

// Canonicalisation algorithms. spec: XMLC14N; EXCC14N
const (
	algC14N10         = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
	algC14N10Comments = algC14N10 + "#WithComments"
	algC14N11         = "http://www.w3.org/2006/12/xml-c14n11"
	algC14N11Comments = algC14N11 + "#WithComments"
	algExcC14N        = "http://www.w3.org/2001/10/xml-exc-c14n#"
	algExcC14NComment = algExcC14N + "WithComments"
)

// canonicalizer is one way of writing canonical XML.
type canonicalizer struct {
	exclusive bool
	v11       bool
	comments  bool
	prefixes  []string // InclusiveNamespaces PrefixList of the exclusive form; "" is #default
	skip      func(*node) bool
}

// byAlgorithm gives the canonicalizer that an Algorithm attribute names; el may hold an
// InclusiveNamespaces parameter.
func byAlgorithm(alg string, el *node) (canonicalizer, bool) {
	var c canonicalizer
	switch alg {
	case algC14N10:
	case algC14N10Comments:
		c.comments = true
	case algC14N11:
		c.v11 = true
	case algC14N11Comments:
		c.v11, c.comments = true, true
	case algExcC14N, algExcC14NComment:
		c.exclusive, c.comments = true, alg == algExcC14NComment
		if list, ok := el.child(algExcC14N, "InclusiveNamespaces").attr("PrefixList"); ok {
			for _, p := range strings.Fields(list) {
				if p == "#default" {
					p = ""
				}
				c.prefixes = append(c.prefixes, p)
			}
		}
	default:
		return c, false
	}
	return c, true
}

var errXMLBase = errors.New("xades: Canonical XML 1.1 of a part of a document with xml:base is not supported")

// write gives the canonical form of the subtree at n, or of the whole document when n is the
// document's top.
func (c canonicalizer) write(w io.Writer, n *node) error {
	out := &c14nWriter{Writer: bufio.NewWriterSize(w, 1024), canonicalizer: c}
	if n.parent == nil && n.kind == kindElement && n.local == "" {
		out.document(n)
	} else if err := out.apex(n); err != nil {
		return err
	}
	return out.Flush()
}

type c14nWriter struct {
	*bufio.Writer
	canonicalizer
}

// document writes what stands around the root on lines of its own. spec: XMLC14N §2.3
func (w *c14nWriter) document(top *node) {
	seenRoot := false
	for _, n := range top.children {
		if n.kind == kindElement {
			w.element(n, nil, nil, nil)
			seenRoot = true
			continue
		}
		if n.kind == kindComment && !w.comments {
			continue
		}
		if seenRoot {
			w.put("\n")
		}
		w.other(n)
		if !seenRoot {
			w.put("\n")
		}
	}
}

// put drops the error: bufio keeps it for Flush.
func (w *c14nWriter) put(s string) { _, _ = w.WriteString(s) }

// apex writes a part of the document; the inclusive form takes namespaces and xml attributes
// from the ancestors. spec: XMLC14N §2.4
func (w *c14nWriter) apex(n *node) error {
	if w.exclusive {
		w.element(n, nil, nil, nil)
		return nil
	}
	var inherited []attr
	for p := n.parent; p != nil; p = p.parent {
		for _, a := range p.attrs {
			if a.ns != xmlNS || hasXML(n.attrs, a.local) || hasXML(inherited, a.local) {
				continue
			}
			if w.v11 {
				if a.local == "base" {
					return errXMLBase
				}
				if a.local == "id" {
					continue
				}
			}
			inherited = append(inherited, a)
		}
	}
	var inScope []*binding
	for b := n.scope; b != nil; b = b.outer {
		if !slices.ContainsFunc(inScope, func(x *binding) bool { return x.prefix == b.prefix }) {
			inScope = append(inScope, b)
		}
	}
	w.element(n, nil, inScope, inherited)
	return nil
}

func hasXML(list []attr, local string) bool {
	return slices.ContainsFunc(list, func(a attr) bool { return a.ns == xmlNS && a.local == local })
}

// element writes n. rendered is what the output's ancestors declare; apexScope and extra are
// what an apex takes over.
func (w *c14nWriter) element(n *node, rendered *binding, apexScope []*binding, extra []attr) {
	if w.skip != nil && w.skip(n) {
		return
	}
	w.put("<")
	w.name(n.prefix, n.local)
	var show []*binding
	switch {
	case w.exclusive:
		show = w.visible(n, rendered)
	case apexScope != nil:
		show = apexScope
	case n.declares:
		show = ownBindings(n)
	}
	rendered = w.namespaces(show, rendered)
	w.attributes(n.attrs, extra)
	w.put(">")
	for _, c := range n.children {
		switch c.kind {
		case kindElement:
			w.element(c, rendered, nil, nil)
		case kindText:
			w.escape(c.text, textEscapes)
		default:
			if c.kind == kindPI || w.comments {
				w.other(c)
			}
		}
	}
	w.put("</")
	w.name(n.prefix, n.local)
	w.put(">")
}

func (w *c14nWriter) name(prefix, local string) {
	if prefix != "" {
		w.put(prefix)
		w.put(":")
	}
	w.put(local)
}

// ownBindings are the declarations on the element itself.
func ownBindings(n *node) []*binding {
	var outer *binding
	if n.parent != nil {
		outer = n.parent.scope
	}
	var out []*binding
	for b := n.scope; b != outer; b = b.outer {
		out = append(out, b)
	}
	return out
}

// visible are the namespaces that the exclusive form shows. spec: EXCC14N §3
func (w *c14nWriter) visible(n *node, rendered *binding) []*binding {
	var out []*binding
	use := func(prefix string) {
		if prefix == "xml" || slices.ContainsFunc(out, func(b *binding) bool { return b.prefix == prefix }) {
			return
		}
		uri, _ := n.scope.lookup(prefix)
		if had, ok := rendered.lookup(prefix); ok && had == uri {
			return // already said by an ancestor in the output (or no default namespace at all)
		}
		out = append(out, &binding{prefix: prefix, uri: uri})
	}
	use(n.prefix)
	for _, a := range n.attrs {
		if a.prefix != "" {
			use(a.prefix)
		}
	}
	for _, p := range w.prefixes {
		if _, ok := n.scope.lookup(p); ok {
			use(p)
		}
	}
	return out
}

// namespaces writes those that the output does not have yet and gives the new state.
func (w *c14nWriter) namespaces(show []*binding, rendered *binding) *binding {
	if len(show) > 1 {
		slices.SortFunc(show, func(a, b *binding) int { return strings.Compare(a.prefix, b.prefix) })
	}
	out := rendered
	for _, b := range show {
		if had, ok := rendered.lookup(b.prefix); ok && had == b.uri {
			continue
		}
		if b.prefix == "" {
			w.put(` xmlns="`)
		} else {
			w.put(" xmlns:")
			w.put(b.prefix)
			w.put(`="`)
		}
		w.escape(b.uri, attrEscapes)
		w.put(`"`)
		out = &binding{prefix: b.prefix, uri: b.uri, outer: out}
	}
	return out
}

func (w *c14nWriter) attributes(attrs, extra []attr) {
	list := attrs
	if len(extra) > 0 {
		list = append(slices.Clone(attrs), extra...)
	}
	if len(list) > 1 {
		list = slices.Clone(list)
		slices.SortFunc(list, func(a, b attr) int {
			if c := strings.Compare(a.ns, b.ns); c != 0 {
				return c
			}
			return strings.Compare(a.local, b.local)
		})
	}
	for _, a := range list {
		w.put(" ")
		w.name(a.prefix, a.local)
		w.put(`="`)
		w.escape(a.value, attrEscapes)
		w.put(`"`)
	}
}

// other writes a comment or a processing instruction.
func (w *c14nWriter) other(n *node) {
	if n.kind == kindComment {
		w.put("<!--")
		w.put(n.text)
		w.put("-->")
		return
	}
	w.put("<?")
	w.put(n.local)
	if n.text != "" {
		w.put(" ")
		w.put(n.text)
	}
	w.put("?>")
}

const (
	textEscapes = "&<>\r"
	attrEscapes = "&<\"\t\n\r"
)

// escape: spec: XMLC14N §2.3
func (w *c14nWriter) escape(s, which string) {
	for {
		i := strings.IndexAny(s, which)
		if i < 0 {
			w.put(s)
			return
		}
		w.put(s[:i])
		switch s[i] {
		case '&':
			w.put("&amp;")
		case '<':
			w.put("&lt;")
		case '>':
			w.put("&gt;")
		case '"':
			w.put("&quot;")
		case '\t':
			w.put("&#x9;")
		case '\n':
			w.put("&#xA;")
		case '\r':
			w.put("&#xD;")
		}
		s = s[i+1:]
	}
}
