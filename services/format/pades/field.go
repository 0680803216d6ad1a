package pades

import (
	"slices"
	"strings"
)

// field is a terminal form field. spec: ISO32000-1 §12.7.3
type field struct {
	r     ref // zero when the dictionary stands in its parent
	d     *dict
	full  string // fully qualified name
	ft    name
	value object // V, inherited too
}

func (f field) signature() bool { return f.ft == "Sig" }

// maxFields bounds the form of a file.
const maxFields = 1 << 16

type fieldNode struct {
	o     object
	name  string
	ft    name
	value object
	depth int
}

// fields lists the terminal fields of the form, in order.
func (d *document) fields() ([]field, error) {
	_, catalog, err := d.root()
	if err != nil {
		return nil, err
	}
	form, err := d.dict(catalog.get("AcroForm"))
	if err != nil || form == nil {
		return nil, err
	}
	top, err := d.array(form.get("Fields"))
	if err != nil {
		return nil, err
	}
	stack := pushNodes(nil, top, fieldNode{})
	seen := map[ref]bool{}
	var out []field
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		r, isRef := n.o.(ref)
		if isRef && seen[r] {
			continue // a field is in the form once; a tree that bites its tail ends here
		}
		seen[r] = isRef
		fd, err := d.dict(n.o)
		if err != nil {
			return nil, err
		}
		if fd == nil {
			continue
		}
		if n, err = d.descend(n, fd); err != nil {
			return nil, err
		}
		kids, err := d.array(fd.get("Kids"))
		if err != nil {
			return nil, err
		}
		inner, err := d.fieldKids(kids)
		if err != nil {
			return nil, err
		}
		if inner && n.depth < maxTreeDepth {
			stack = pushNodes(stack, kids, n)
			continue
		}
		if len(out) >= maxFields {
			return nil, beyond("the form has more than %d fields", maxFields)
		}
		out = append(out, field{r: r, d: fd, full: n.name, ft: n.ft, value: n.value})
	}
	return out, nil
}

func pushNodes(stack []fieldNode, kids array, parent fieldNode) []fieldNode {
	for _, k := range slices.Backward(kids) {
		n := parent
		n.o = k
		n.depth++
		stack = append(stack, n)
	}
	return stack
}

// descend takes over what a field inherits. spec: ISO32000-1 §12.7.3.1, §12.7.3.2
func (d *document) descend(n fieldNode, fd *dict) (fieldNode, error) {
	t, err := d.resolve(fd.get("T"))
	if err != nil {
		return n, err
	}
	if s, ok := t.(text); ok {
		if n.name != "" {
			n.name += "."
		}
		n.name += decodeText(s.val)
	}
	ft, err := d.resolve(fd.get("FT"))
	if err != nil {
		return n, err
	}
	if v, ok := ft.(name); ok {
		n.ft = v
	}
	if fd.has("V") {
		n.value = fd.get("V")
	}
	return n, nil
}

// fieldKids says whether the kids are fields (they have a partial name), not widgets.
func (d *document) fieldKids(kids array) (bool, error) {
	for _, k := range kids[:min(len(kids), 8)] {
		kd, err := d.dict(k)
		if err != nil {
			return false, err
		}
		if kd.has("T") {
			return true, nil
		}
	}
	return false, nil
}

// page is a leaf of the page tree with what it inherits that matters here.
type page struct {
	r      ref
	d      *dict
	number int
	box    object // CropBox, else MediaBox
	rotate object
}

type pageNode struct {
	o           object
	media, crop object
	rotate      object
	depth       int
}

// page finds a page: 1 is the first, -1 the last. spec: ISO32000-1 §7.7.3
func (d *document) page(number int) (*page, error) {
	_, catalog, err := d.root()
	if err != nil {
		return nil, err
	}
	stack := []pageNode{{o: catalog.get("Pages")}}
	seen := map[ref]bool{}
	count := 0
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		r, ok := n.o.(ref)
		if !ok || seen[r] || n.depth > maxTreeDepth {
			continue
		}
		seen[r] = true
		pd, err := d.dict(r)
		if err != nil {
			return nil, err
		}
		if pd == nil {
			continue
		}
		n.inherit(pd)
		if !pd.has("Kids") {
			if count++; number == -1 || count == number {
				p := &page{r: r, d: pd, number: number, box: n.crop, rotate: n.rotate}
				if p.box == nil {
					p.box = n.media
				}
				return p, nil
			}
			continue
		}
		kids, err := d.array(pd.get("Kids"))
		if err != nil {
			return nil, err
		}
		for i := range kids {
			next := n
			next.o = kids[i]
			if number > 0 {
				next.o = kids[len(kids)-1-i] // the stack turns the order round
			}
			next.depth++
			stack = append(stack, next)
		}
	}
	return nil, syntax(d.size, "there is no page %d: the file has %d", number, count)
}

func (n *pageNode) inherit(pd *dict) {
	take := func(k name, to *object) {
		if v := pd.get(k); v != nil {
			*to = v
		}
	}
	take("MediaBox", &n.media)
	take("CropBox", &n.crop)
	take("Rotate", &n.rotate)
}

// rectangle reads four numbers, lower left corner first. spec: ISO32000-1 §7.9.5
func (d *document) rectangle(o object) (r [4]float64, ok bool, err error) {
	a, err := d.array(o)
	if err != nil || len(a) != 4 {
		return r, false, err
	}
	for i := range a {
		v, err := d.resolve(a[i])
		if err != nil {
			return r, false, err
		}
		if r[i], ok = number(v); !ok {
			return r, false, nil
		}
	}
	r[0], r[2] = min(r[0], r[2]), max(r[0], r[2])
	r[1], r[3] = min(r[1], r[3]), max(r[1], r[3])
	return r, true, nil
}

// freeName gives "Signature1" or the next one that no field has.
func freeName(all []field) string {
	taken := map[string]bool{}
	for _, f := range all {
		top, _, _ := strings.Cut(f.full, ".")
		taken[top] = true
	}
	for i := 1; ; i++ {
		if n := "Signature" + itoa(i); !taken[n] {
			return n
		}
	}
}
