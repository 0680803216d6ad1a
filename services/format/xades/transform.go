package xades

import (
	"fmt"
	"strings"
)

// cover is what a reference's digest is over.
type cover struct {
	apex  *node // the document's top, or an element
	canon canonicalizer
	whole bool // the document without its signatures, and nothing else left out
}

// resolve follows a Reference's URI and transforms.
// spec: XMLDSIG §4.4.3; SdI wants a URI on each reference ("" or "#id")
func (d *document) resolve(ref, signature *node) (cover, error) {
	uri, ok := ref.attr("URI")
	if !ok {
		return cover{}, fmt.Errorf("reference without URI")
	}
	c := cover{}
	switch {
	case uri == "":
		c.apex, c.whole = d.top, true
	case uri == "#xpointer(/)" && d.lenient: // spec: XMLDSIG §4.4.3.3
		c.apex, c.whole = d.top, true
	case strings.HasPrefix(uri, "#") && !strings.HasPrefix(uri, "#xpointer"):
		found := d.ids[uri[1:]]
		if len(found) != 1 {
			// Two elements of one Id are how a signature is made to cover another text.
			return cover{}, fmt.Errorf("%d elements have the Id %q, exactly 1 is expected", len(found), uri[1:])
		}
		c.apex, c.whole = found[0], found[0] == d.root
	default:
		return cover{}, fmt.Errorf("reference to %q leaves the document", uri)
	}
	canonSet := false
	for _, t := range ref.child(nsDSig, "Transforms").all(nsDSig, "Transform") {
		if canonSet {
			return cover{}, fmt.Errorf("a transform follows the canonicalisation")
		}
		alg, _ := t.attr("Algorithm")
		switch alg {
		case algEnveloped:
			c.leaveOut(func(n *node) bool { return n == signature })
		case algXPath, algFilter2:
			below, err := d.readXPath(t, alg)
			if err != nil {
				return cover{}, err
			}
			c.leaveOut(func(n *node) bool { return n.is(nsDSig, "Signature") && (below == nil || n.parent == below) })
		default:
			skip := c.canon.skip
			if c.canon, canonSet = byAlgorithm(alg, t); !canonSet {
				return cover{}, fmt.Errorf("transform %q is not supported", alg)
			}
			c.canon.skip = skip
		}
	}
	// A same-document reference has no comments in it, but for an XPointer. spec: XMLDSIG §4.4.3.3
	c.canon.comments = c.canon.comments && strings.HasPrefix(uri, "#xpointer")
	return c, nil
}

func (c *cover) leaveOut(f func(*node) bool) {
	if before := c.canon.skip; before != nil {
		c.canon.skip = func(n *node) bool { return before(n) || f(n) }
		return
	}
	c.canon.skip = f
}

// readXPath takes the two expressions that leave out all signatures, which is what Italian
// software and SdI write, and no other; of other archives' files also the one that leaves out those right below
// the root, which it gives. spec: XPFILTER2 §3; XMLDSIG §6.6.3
func (d *document) readXPath(t *node, alg string) (below *node, err error) {
	ns := nsDSig
	if alg == algFilter2 {
		ns = algFilter2
	}
	list := t.all(ns, "XPath")
	if len(list) != 1 {
		return nil, fmt.Errorf("%d XPath elements in a transform, exactly 1 is supported", len(list))
	}
	x := list[0]
	expr := strings.Join(strings.Fields(x.value()), "")
	if alg == algFilter2 {
		if f, _ := x.attr("Filter"); f != "subtract" {
			return nil, fmt.Errorf("XPath filter %q is not supported, only subtract", f)
		}
		if name, ok := strings.CutPrefix(expr, "/*/"); ok && d.lenient {
			expr, below = "//"+name, d.root
		}
	} else {
		inner, opened := strings.CutPrefix(expr, "not(ancestor-or-self::")
		inner, closed := strings.CutSuffix(inner, ")")
		if !opened || !closed {
			return nil, fmt.Errorf("XPath expression %q is not supported", x.value())
		}
		expr = "//" + inner
	}
	name, ok := strings.CutPrefix(expr, "/descendant::")
	if !ok {
		if name, ok = strings.CutPrefix(expr, "//"); !ok {
			return nil, fmt.Errorf("XPath expression %q is not supported", x.value())
		}
	}
	prefix, local, ok := strings.Cut(name, ":")
	uri, known := x.scope.lookup(prefix)
	if !ok || local != "Signature" || !known || uri != nsDSig {
		return nil, fmt.Errorf("XPath expression %q is not supported: it does not leave out the signatures alone", x.value())
	}
	return below, nil
}
