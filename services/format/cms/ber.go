package cms

import "fmt"

// Limits of the guarded reader. The zero value takes the defaults.
type Limits struct {
	Size     int // bytes of the whole file, 256 MiB by default
	Depth    int // nested elements, 64 by default
	Elements int // elements in all, 262,144 by default
}

const (
	defaultSize     = 256 << 20
	defaultDepth    = 64
	defaultElements = 1 << 18
)

func (l Limits) orDefaults() Limits {
	if l.Size <= 0 {
		l.Size = defaultSize
	}
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Elements <= 0 {
		l.Elements = defaultElements
	}
	return l
}

// SyntaxError says what is wrong with the file and at which byte of its binary form.
type SyntaxError struct {
	Offset int
	Reason string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("cms: byte %d: %s", e.Offset, e.Reason) }

// node is one BER element. Nodes stand in document order; a node's first child, if any, is
// the next node and its next sibling is nodes[next].
type node struct {
	id    byte // class, constructed bit and low tag number (0x1f: long form)
	indef bool
	ber   bool // it, or something in it, is not DER
	off   int  // of the identifier
	body  int  // of the contents
	end   int  // of the contents
	after int  // first byte past the element (end-of-contents included)
	next  int  // index of the node after this one's subtree
}

// tree is the index over one file.
type tree struct {
	raw   []byte
	nodes []node
	ber   bool // something is not DER (indefinite, chunked or a padded length)
}

// scan indexes the first element of raw without recursion. Bytes after it are left alone.
// spec: X690 §8.1
func scan(raw []byte, lim Limits) (*tree, error) {
	lim = lim.orDefaults()
	if len(raw) > lim.Size {
		return nil, &SyntaxError{0, fmt.Sprintf("file has %d bytes, the limit is %d", len(raw), lim.Size)}
	}
	s := scanner{tree: &tree{raw: raw, nodes: make([]node, 0, 256)}, lim: lim}
	if err := s.run(); err != nil {
		return nil, err
	}
	return s.tree, nil
}

type scanner struct {
	*tree
	lim  Limits
	pos  int
	open []int // indices of the constructed elements not yet closed
}

func (s *scanner) run() error {
	for {
		if len(s.open) > 0 {
			if closed, err := s.tryClose(); err != nil {
				return err
			} else if closed {
				if len(s.open) == 0 {
					return nil
				}
				continue
			}
		}
		if err := s.element(); err != nil {
			return err
		}
		if len(s.open) == 0 {
			return nil // the root was primitive
		}
	}
}

// bound is the last byte + 1 that the innermost open element with a definite length allows.
func (s *scanner) bound() int {
	for i := len(s.open) - 1; i >= 0; i-- {
		if n := &s.nodes[s.open[i]]; !n.indef {
			return n.end
		}
	}
	return len(s.raw)
}

func (s *scanner) tryClose() (bool, error) {
	top := &s.nodes[s.open[len(s.open)-1]]
	switch {
	case !top.indef && s.pos == top.end:
		top.after = s.pos
	case top.indef && s.pos+1 < s.bound() && s.raw[s.pos] == 0 && s.raw[s.pos+1] == 0:
		top.end = s.pos
		s.pos += 2
		top.after = s.pos
	case top.indef && s.pos >= s.bound():
		return false, &SyntaxError{s.pos, fmt.Sprintf("the element opened at byte %d is not closed: the file is cut off", top.off)}
	default:
		return false, nil
	}
	top.next = len(s.nodes)
	s.open = s.open[:len(s.open)-1]
	s.inside(top.ber)
	return true, nil
}

// inside tells the innermost open element that one in it is not DER.
func (s *scanner) inside(ber bool) {
	if ber && len(s.open) > 0 {
		s.nodes[s.open[len(s.open)-1]].ber = true
	}
}

// element reads one identifier and length; a primitive's contents are skipped.
func (s *scanner) element() error {
	if len(s.nodes) >= s.lim.Elements {
		return &SyntaxError{s.pos, fmt.Sprintf("more than %d elements", s.lim.Elements)}
	}
	bound := s.bound()
	n := node{off: s.pos}
	if s.pos >= bound {
		return &SyntaxError{s.pos, "an element is missing: the file is cut off"}
	}
	n.id = s.raw[s.pos]
	s.pos++
	if n.id&0x1f == 0x1f {
		for more := true; more; s.pos++ {
			if s.pos >= bound || s.pos-n.off > 5 {
				return &SyntaxError{n.off, "tag number is cut off or too long"}
			}
			more = s.raw[s.pos]&0x80 != 0
		}
	}
	length, err := s.length(bound, &n)
	if err != nil {
		return err
	}
	n.body = s.pos
	constructed := n.id&bitConstructed != 0
	if n.indef {
		s.ber, n.ber = true, true
		if !constructed {
			return &SyntaxError{n.off, "a primitive element has no length"}
		}
	} else {
		if length > bound-s.pos {
			return &SyntaxError{n.off, fmt.Sprintf("element of %d bytes, but only %d are left: the file is cut off", length, bound-s.pos)}
		}
		n.end = s.pos + length
	}
	if !constructed {
		s.pos = n.end
		n.after = n.end
		n.next = len(s.nodes) + 1
		s.nodes = append(s.nodes, n)
		s.inside(n.ber)
		return nil
	}
	if len(s.open) >= s.lim.Depth {
		return &SyntaxError{n.off, fmt.Sprintf("elements are nested deeper than %d", s.lim.Depth)}
	}
	if n.id == tagOctets|bitConstructed { // not DER, whatever its lengths
		s.ber, n.ber = true, true
	}
	s.open = append(s.open, len(s.nodes))
	s.nodes = append(s.nodes, n)
	return nil
}

func (s *scanner) length(bound int, n *node) (int, error) {
	if s.pos >= bound {
		return 0, &SyntaxError{s.pos, "a length is missing: the file is cut off"}
	}
	first := s.raw[s.pos]
	s.pos++
	if first < 0x80 {
		return int(first), nil
	}
	octets := int(first & 0x7f)
	if octets == 0 {
		n.indef = true
		return 0, nil
	}
	if octets > bound-s.pos {
		return 0, &SyntaxError{s.pos, "a length is cut off"}
	}
	length := 0
	for i := range octets {
		if length > s.lim.Size>>8 {
			return 0, &SyntaxError{n.off, "an element's length is beyond the limit"}
		}
		length = length<<8 | int(s.raw[s.pos+i])
	}
	s.pos += octets
	if headerSize(int64(length)) != int64(1+1+octets) {
		s.ber, n.ber = true, true
	}
	return length, nil
}

// constructed says whether node i has children.
func (t *tree) constructed(i int) bool { return t.nodes[i].id&bitConstructed != 0 }

// children lists the indices of node i's children.
func (t *tree) children(i int) []int {
	if !t.constructed(i) {
		return nil
	}
	var out []int
	for c := i + 1; c < t.nodes[i].next; c = t.nodes[c].next {
		out = append(out, c)
	}
	return out
}

// slice is the element as it stands in the file, end-of-contents included.
func (t *tree) slice(i int) []byte { return t.raw[t.nodes[i].off:t.nodes[i].after] }

// body is the contents of a primitive element.
func (t *tree) body(i int) []byte { return t.raw[t.nodes[i].body:t.nodes[i].end] }

// octets gives the value of an octet string (any tag), its chunks joined.
// A primitive one is not copied. spec: X690 §8.7
func (t *tree) octets(i int) ([]byte, error) {
	if !t.constructed(i) {
		return t.body(i), nil
	}
	size := 0
	for c := i + 1; c < t.nodes[i].next; c++ {
		switch t.nodes[c].id {
		case tagOctets:
			size += t.nodes[c].end - t.nodes[c].body
		case tagOctets | bitConstructed: // its own chunks follow in the index
		default:
			return nil, &SyntaxError{t.nodes[c].off, fmt.Sprintf("tag %#02x inside an octet string", t.nodes[c].id)}
		}
	}
	out := make([]byte, 0, size)
	for c := i + 1; c < t.nodes[i].next; c++ {
		if t.nodes[c].id == tagOctets {
			out = append(out, t.body(c)...)
		}
	}
	return out, nil
}

// der gives element i in DER. What is DER already is not copied, which the certificates in a BER file usually are.
// The recursion is as deep as the scanner's nesting limit, no deeper.
func (t *tree) der(i int) ([]byte, error) {
	if !t.ber || !t.nodes[i].ber {
		return t.slice(i), nil
	}
	n := t.nodes[i]
	if n.id&0x1f == 0x1f {
		if n.indef {
			return nil, &SyntaxError{n.off, "long tag with indefinite length"}
		}
		return t.slice(i), nil
	}
	if !t.constructed(i) {
		return tlv(n.id, t.body(i)), nil
	}
	if n.id == tagOctets|bitConstructed {
		value, err := t.octets(i)
		if err != nil {
			return nil, err
		}
		return tlv(tagOctets, value), nil
	}
	kids := t.children(i)
	parts := make([][]byte, len(kids))
	for k, c := range kids {
		der, err := t.der(c)
		if err != nil {
			return nil, err
		}
		parts[k] = der
	}
	return tlv(n.id, parts...), nil
}
