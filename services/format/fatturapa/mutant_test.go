package fatturapa_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tnode is a small tree for changing documents in tests. It is read with
// encoding/xml, so that a fault of our parser cannot hide in it.
type tnode struct {
	name  string // qualified; "" is text
	attrs []xml.Attr
	text  string
	kids  []*tnode
}

func readTree(t testing.TB, raw []byte) *tnode {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(string(raw)))
	top := &tnode{}
	stack := []*tnode{top}
	for {
		tok, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		last := stack[len(stack)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			n := &tnode{name: qualified(tok.Name), attrs: slices.Clone(tok.Attr)}
			last.kids = append(last.kids, n)
			stack = append(stack, n)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(stack) > 1 {
				last.kids = append(last.kids, &tnode{text: string(tok)})
			}
		}
	}
	require.Len(t, top.kids, 1)
	return top.kids[0]
}

func qualified(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

func (n *tnode) write(b *strings.Builder) {
	if n.name == "" {
		_ = xml.EscapeText(b, []byte(n.text))
		return
	}
	b.WriteString("<" + n.name)
	for _, a := range n.attrs {
		b.WriteString(" " + qualified(a.Name) + `="`)
		_ = xml.EscapeText(b, []byte(a.Value))
		b.WriteString(`"`)
	}
	if len(n.kids) == 0 {
		b.WriteString("/>")
		return
	}
	b.WriteString(">")
	for _, k := range n.kids {
		k.write(b)
	}
	b.WriteString("</" + n.name + ">")
}

func (n *tnode) bytes() []byte {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	n.write(&b)
	return []byte(b.String())
}

func (n *tnode) clone() *tnode {
	c := &tnode{name: n.name, attrs: slices.Clone(n.attrs), text: n.text}
	for _, k := range n.kids {
		c.kids = append(c.kids, k.clone())
	}
	return c
}

// elements lists the child elements.
func (n *tnode) elements() []*tnode {
	var out []*tnode
	for _, k := range n.kids {
		if k.name != "" {
			out = append(out, k)
		}
	}
	return out
}

// all lists every element below and including n, with its parent.
func (n *tnode) all(parent *tnode, f func(n, parent *tnode)) {
	f(n, parent)
	for _, k := range n.elements() {
		k.all(n, f)
	}
}

// find follows a path such as "FatturaElettronicaBody[2]/DatiGenerali"; nil when
// there is no such element.
func (n *tnode) find(path string) *tnode {
	for _, step := range strings.Split(path, "/") {
		name, idx := step, 1
		if at := strings.IndexByte(step, '['); at > 0 {
			name = step[:at]
			_, _ = fmt.Sscanf(step[at:], "[%d]", &idx)
		}
		var next *tnode
		for _, k := range n.elements() {
			if k.name == name {
				if idx--; idx == 0 {
					next = k
					break
				}
			}
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}

// set replaces the text of an element.
func (n *tnode) set(text string) { n.kids = []*tnode{{text: text}} }

func (n *tnode) value() string {
	s := ""
	for _, k := range n.kids {
		s += k.text
	}
	return s
}

// nasty values go into elements: edges of every simple type and some nonsense.
var nasty = []string{
	"", " ", "x", "IT", "it", "ITA", "00000", "0000", "000000", "0", "1", "-1", "+1", "0001", "9999", "10000", "999", "1000",
	"1.0", "1.00", "10.005", "1.123456789", "1.12345678", "-1.00", "+1.00", "-0.00", "100.00", "100.01", "099.99", "1,00", ".50", "5.", "1e2",
	"12345678901.00", "123456789012.00", "1234567890123.00", "1000.00", "99999999999.99999999",
	"2026-03-16", "2026-3-16", "2026-02-29", "2024-02-29", "1969-12-31", "1970-01-01", "1970-01-01Z", "1970-01-02Z", "2026-03-16Z", "2026-03-16+01:00", "2026-03-16+14:01", "02026-03-16", "12026-03-16", "0000-01-01", "-2026-01-01", "2026-13-01", "2026-04-31", "16/03/2026",
	"2026-03-16T10:00:00", "2026-03-16T24:00:00", "2026-03-16T24:00:01", "2026-03-16T10:00", "2026-03-16T10:00:00.5Z", "2026-03-16T10:00:60", "2026-03-16T10:00:00.",
	"TD01", "TD07", "TD29", "TD30", "RF03", "RF20", "N2", "N2.1", "N6.9", "N8", "MP23", "MP24", "SI", "NO", "SC", "Z", "ZO", "I", "S", "FPA12", "FPR12", "FSM10", "SU", "LS", "CC", "EUR", "eur",
	"UGVy", "UGV=", "UGU=", "UA==", "UB==", "U===", "UGVy UGVy", "UGVy\nUGVy", "é===", "=", "UGVyX",
	"a@b.c", "a@b", "aaa@bbb.cc", "a b@c.de", "@b.cc", "a@.cc", "\"a\"@b.cc", "a..b@c.de", "a@[1.2.3.4]", "a@b.c.", "abc.de@fg\n.hi", ".a@b.cc", "\"\\a\"@b.cc", "\"[]!#-x\"@b.cc", "a,b@c.de", "(a)@b.cc", "à@b.cc",
	"IT60X0542811101000000123456", "IT60X05428", "BLOPIT22", "BLOPIT22XXX", "BLOPIT2", "BLOPIT1O", "blopit22",
	"€", "è", "’", "Ā", "ÿ", "\u0080", "\u00a0", "日本", "a\tb", "a\nb", " a", "a ", " a ", "a  b", "\t", "😀", "\u017f",
	"BNCLRA80A41G224F", "BNCLRA80A41G22", "bnclra80a41g224f", "ABCDEFG", "ABCDEF", "abcdef", "ABCDE", "ABCDEFGH",
	strings.Repeat("a", 8), strings.Repeat("a", 9), strings.Repeat("a", 10), strings.Repeat("a", 11), strings.Repeat("a", 12), strings.Repeat("a", 13), strings.Repeat("a", 15), strings.Repeat("a", 16), strings.Repeat("a", 20), strings.Repeat("a", 21),
	strings.Repeat("à", 20), strings.Repeat("à", 28), strings.Repeat("à", 29), strings.Repeat("a", 35), strings.Repeat("a", 36), strings.Repeat("à", 60), strings.Repeat("à", 61), strings.Repeat("a", 80), strings.Repeat("a", 81), strings.Repeat("è", 100), strings.Repeat("è", 101), strings.Repeat("è", 200), strings.Repeat("è", 201), strings.Repeat("è", 1000), strings.Repeat("è", 1001),
	strings.Repeat("a", 250) + "@b.cc", strings.Repeat("a", 252) + "@b.cc",
}

// mutate changes a document in one place and says how. Two or three changes in a
// row make the mutants in which recovery after the first fault matters.
func mutate(r *rand.Rand, root *tnode, names []string) string {
	var nodes, parents []*tnode
	root.all(nil, func(n, p *tnode) {
		nodes = append(nodes, n)
		parents = append(parents, p)
	})
	i := 1 + r.IntN(len(nodes)-1)
	n, p := nodes[i], parents[i]
	at := slices.Index(p.kids, n)
	pick := func() string { return names[r.IntN(len(names))] }
	switch r.IntN(16) {
	case 0:
		p.kids = slices.Delete(p.kids, at, at+1)
		return "delete " + n.name
	case 1:
		p.kids = slices.Insert(p.kids, at, n.clone())
		return "duplicate " + n.name
	case 2:
		o := p.kids[r.IntN(len(p.kids))]
		j := slices.Index(p.kids, o)
		p.kids[at], p.kids[j] = p.kids[j], p.kids[at]
		return "swap " + n.name + " with " + o.name
	case 3:
		old := n.name
		n.name = pick()
		return "rename " + old + " to " + n.name
	case 4:
		name := pick()
		p.kids = slices.Insert(p.kids, at, &tnode{name: name, kids: []*tnode{{text: nasty[r.IntN(len(nasty))]}}})
		return "insert " + name + " before " + n.name
	case 5:
		n.kids = nil
		return "empty " + n.name
	case 6:
		n.attrs = append(n.attrs, xml.Attr{Name: xml.Name{Local: []string{"versione", "x", "xml:lang", "Id", "Algorithm"}[r.IntN(5)]}, Value: "v"})
		return "attribute on " + n.name
	case 7:
		n.kids = append(n.kids, &tnode{text: []string{" ", "\n", "x", "\u00a0"}[r.IntN(4)]})
		return "text in " + n.name
	case 8:
		if len(root.attrs) > 0 {
			a := &root.attrs[r.IntN(len(root.attrs))]
			if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
				a.Value = nasty[r.IntN(len(nasty))]
				return "root attribute " + a.Name.Local + "=" + a.Value
			}
		}
		return "nothing"
	case 9:
		moved := nodes[1+r.IntN(len(nodes)-1)].clone()
		p.kids = slices.Insert(p.kids, at, moved)
		return "copy " + moved.name + " before " + n.name
	}
	for tries := 0; len(n.elements()) > 0 && tries < 20; tries++ {
		n = nodes[1+r.IntN(len(nodes)-1)]
	}
	v := nasty[r.IntN(len(nasty))]
	if r.IntN(8) == 0 {
		v = n.value() + " "
	}
	if r.IntN(16) == 0 {
		v = "\n" + n.value() + "\n"
	}
	n.set(v)
	return fmt.Sprintf("set %s to %q", n.name, v)
}
