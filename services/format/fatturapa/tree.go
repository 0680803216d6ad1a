package fatturapa

import (
	"iter"
	"strconv"
	"strings"
)

// NodeID names an element of a [File]: its place in document order. The root is
// 0, so a block of the typed view whose Node is 0 was not in the file.
type NodeID int32

// node is one element. It holds no pointer, so a large tree costs the garbage
// collector nothing. The name is read from the text at off.
type node struct {
	off    uint32 // byte of '<' in the text
	name   uint16 // length of the qualified name
	tag    tag
	parent NodeID
	next   NodeID // next sibling; 0: none
	val    textRef
	ns     uint8
	flags  uint8
	attrs  uint16 // number of attributes
}

// textRef is a piece of the text, or of the decoded text when high is set.
type textRef struct{ off, len uint32 }

const decodedBit = 1 << 31

const (
	flagChildren uint8 = 1 << iota // has child elements
	flagMixed                      // has text that is not white space beside child elements
)

// attribute is one attribute of the element node; namespace declarations are
// not attributes.
type attribute struct {
	node NodeID
	ns   uint8
	name string // local name
	val  string
	off  uint32
}

// The namespaces that every file may use; others get numbers as they appear.
const (
	nsNone uint8 = iota
	nsInvoice
	nsSignature
	nsInstance
	nsXML
	nsFirstFree
)

const (
	uriSignature = "http://www.w3.org/2000/09/xmldsig#"
	uriInstance  = "http://www.w3.org/2001/XMLSchema-instance"
	uriXML       = "http://www.w3.org/XML/1998/namespace"
)

// Element is one XML element of a parsed file: the lossless view, in document
// order, from which the typed view is made.
type Element struct {
	f  *File
	id NodeID
}

// Root returns the root element.
func (f *File) Root() Element { return Element{f, 0} }

// Element returns the element with the given id, as found in the Node field of
// the typed view.
func (f *File) Element(id NodeID) Element { return Element{f, id} }

// ID returns the id of the element.
func (e Element) ID() NodeID { return e.id }

// Name returns the local name.
func (e Element) Name() string { return e.f.localName(e.id) }

// Namespace returns the namespace URI, "" for none.
func (e Element) Namespace() string { return e.f.namespaces[e.f.nodes[e.id].ns] }

// Text returns the text of an element without children, references resolved and
// line ends as LF; "" for an element with children.
func (e Element) Text() string { return e.f.text(e.id) }

// HasChildren reports whether the element has child elements.
func (e Element) HasChildren() bool { return e.f.nodes[e.id].flags&flagChildren != 0 }

// Parent returns the parent element; the root is its own parent.
func (e Element) Parent() Element { return Element{e.f, e.f.nodes[e.id].parent} }

// Line returns the line, from 1, on which the element starts.
func (e Element) Line() int { return e.f.Line(e.id) }

// XPath returns the path of the element, e.g.
// /FatturaElettronica/FatturaElettronicaBody[2]/DatiGenerali. A position is
// written where siblings of the same name exist. Prefixes are left out.
func (e Element) XPath() string { return e.f.XPath(e.id) }

// Children iterates over the child elements in document order.
func (e Element) Children() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for c := e.f.firstChild(e.id); c != 0; c = e.f.nodes[c].next {
			if !yield(Element{e.f, c}) {
				return
			}
		}
	}
}

// Attr returns the value of an attribute without namespace.
func (e Element) Attr(name string) (string, bool) {
	lo, hi := e.f.attrsOf(e.id)
	for i := lo; i < hi; i++ {
		if a := &e.f.attrs[i]; a.ns == nsNone && a.name == name {
			return a.val, true
		}
	}
	return "", false
}

// firstChild returns the first child element, 0 when there is none.
func (f *File) firstChild(id NodeID) NodeID {
	if f.nodes[id].flags&flagChildren == 0 {
		return 0
	}
	return id + 1
}

// child returns the first child with a tag, 0 when there is none.
func (f *File) child(id NodeID, t tag) NodeID {
	for c := f.firstChild(id); c != 0; c = f.nodes[c].next {
		if f.nodes[c].tag == t {
			return c
		}
	}
	return 0
}

// ref resolves a piece of text.
func (f *File) ref(r textRef) string {
	if r.off&decodedBit != 0 {
		off := r.off &^ decodedBit
		return f.decoded[off : off+r.len]
	}
	return f.src[r.off : r.off+r.len]
}

func (f *File) text(id NodeID) string {
	n := &f.nodes[id]
	if n.val.len == 0 || n.flags&flagChildren != 0 {
		return ""
	}
	return f.ref(n.val)
}

// localName reads the name of an element from the text.
func (f *File) localName(id NodeID) string {
	n := &f.nodes[id]
	if n.tag != tagUnknown {
		return tagNames[n.tag]
	}
	_, local := splitName(f.src[n.off+1 : n.off+1+uint32(n.name)])
	return local
}

// Line returns the line, from 1, on which an element starts.
func (f *File) Line(id NodeID) int {
	f.lineOnce.Do(func() {
		for i, from := 0, 0; ; i++ {
			k := strings.IndexByte(f.src[from:], '\n')
			if k < 0 {
				return
			}
			from += k + 1
			f.lineStarts = append(f.lineStarts, uint32(from))
		}
	})
	off := f.nodes[id].off
	lo, hi := 0, len(f.lineStarts)
	for lo < hi {
		if mid := (lo + hi) / 2; f.lineStarts[mid] <= off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo + 1
}

// place counts the siblings with the same name: index from 1, and how many.
func (f *File) place(id NodeID) (index, count int) {
	if id == 0 {
		return 1, 1
	}
	n := &f.nodes[id]
	for c := f.firstChild(n.parent); c != 0; c = f.nodes[c].next {
		m := &f.nodes[c]
		if m.tag == n.tag && m.ns == n.ns && (n.tag != tagUnknown || f.localName(c) == f.localName(id)) {
			count++
			if c == id {
				index = count
			}
		}
	}
	return index, count
}

// XPath returns the path of an element, see [Element.XPath].
func (f *File) XPath(id NodeID) string {
	var parts []string
	for {
		p := f.localName(id)
		if i, n := f.place(id); n > 1 {
			p += "[" + strconv.Itoa(i) + "]"
		}
		parts = append(parts, p)
		if id == 0 {
			break
		}
		id = f.nodes[id].parent
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(parts[i])
	}
	return b.String()
}
