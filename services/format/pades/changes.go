package pades

import (
	"bytes"
	"context"
	"fmt"
)

// comparison walks the graph of the file beside that of a signed revision, from the catalog down.
// What an allowed place alone refers to is not walked: a changed object matters only where it can
// be reached by a way that had to stay as it was, and every such way is walked. So an object that
// was swapped, defined later, hidden or brought back is found where it shows.
// spec: ISO32000-1 §12.8.2.2.2 (what DocMDP lets change)
type comparison struct {
	ctx       context.Context
	old, now  *document
	certified Certification
	locks     *locks
	before    map[ref]field
	after     map[ref]field
	seen      map[uint64]bool
	todo      []difference
	changes   []Change
	worst     Modification
	visible   int // boxes of further signatures
}

// difference is a place to be compared: the same one before and after.
type difference struct {
	a, b  object
	rank  Modification // what a change here counts as
	owner uint32
	key   name
}

const maxChanges = 32

func compare(ctx context.Context, old, now *document) (*comparison, error) {
	c := &comparison{ctx: ctx, old: old, now: now, seen: map[uint64]bool{}, before: map[ref]field{}, after: map[ref]field{}}
	var err error
	if c.certified, err = old.certification(); err != nil {
		return nil, err
	}
	fields, err := old.fields()
	if err != nil {
		return nil, err
	}
	if c.locks, err = old.locks(fields); err != nil {
		return nil, err
	}
	later, err := now.fields()
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		c.before[f.r] = f
	}
	for _, f := range later {
		c.after[f.r] = f
	}
	if err := c.start(); err != nil {
		return nil, err
	}
	for n := 0; len(c.todo) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("pades: %w", ctx.Err())
		}
		next := c.todo[len(c.todo)-1]
		c.todo = c.todo[:len(c.todo)-1]
		if err := c.step(next); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *comparison) note(rank Modification, owner uint32, format string, args ...any) {
	c.worst = max(c.worst, rank)
	if len(c.changes) < maxChanges {
		c.changes = append(c.changes, Change{rank, owner, fmt.Sprintf(format, args...)})
	}
}

func (c *comparison) start() error {
	oldRoot, oldCatalog, err := c.old.root()
	if err != nil {
		return err
	}
	nowRoot, nowCatalog, err := c.now.root()
	if err != nil {
		return err
	}
	if oldRoot != nowRoot {
		c.note(Content, nowRoot.num, "another catalog took the place of object %d", oldRoot.num)
		return nil
	}
	c.push(difference{c.old.trailer.get("Info"), c.now.trailer.get("Info"), LongTerm, 0, "Info"})
	c.seen[uint64(oldRoot.num)<<4|uint64(Content)] = true
	return c.catalog(oldRoot.num, oldCatalog, nowCatalog)
}

func (c *comparison) push(p difference) {
	if p.rank == Unchanged {
		return
	}
	switch p.a.(type) {
	case bool, int64, real, name:
		switch p.b.(type) {
		case bool, int64, real, name:
			if p.a == p.b {
				return
			}
		}
	}
	c.todo = append(c.todo, p)
}

// same says whether an object is at the very same place in both: then its bytes are signed.
func (c *comparison) same(num uint32) bool {
	a, okA := c.old.lookup(num)
	b, okB := c.now.lookup(num)
	if okA != okB || a != b {
		return false
	}
	if okA && a.kind == kindStream {
		box := uint32(a.pos >> 32)
		a, okA = c.old.lookup(box)
		b, okB = c.now.lookup(box)
		return okA && okB && a == b
	}
	return true
}

func (c *comparison) step(p difference) error {
	ra, refA := p.a.(ref)
	rb, refB := p.b.(ref)
	if !refA && !refB {
		c.values(p)
		return nil
	}
	if !refA || !refB || ra != rb {
		// A reference to nothing and null are the same; writers turn one into the other.
		a, err := c.old.resolve(p.a)
		if err != nil {
			return err
		}
		b, err := c.now.resolve(p.b)
		if err != nil {
			return err
		}
		if a == nil && b == nil {
			return nil
		}
		c.note(p.rank, p.owner, "%s refers to something else", p.key)
		return nil
	}
	mark := uint64(ra.num)<<4 | uint64(p.rank)
	if c.seen[mark] {
		return nil
	}
	c.seen[mark] = true
	a, err := c.old.load(ra)
	if err != nil {
		return err
	}
	b := a
	if same := c.same(ra.num); !same {
		if b, err = c.now.load(rb); err != nil {
			return err
		}
		if _, ok := a.(*stream); ok {
			c.note(p.rank, ra.num, "a stream was written anew")
		}
	}
	p.owner, p.a, p.b = ra.num, a, b
	return c.object(ra, p)
}

// object decides by what the object was, never by what it is now.
func (c *comparison) object(r ref, p difference) error {
	a, ok := p.a.(*dict)
	b, okB := p.b.(*dict)
	if !ok || !okB {
		c.values(p)
		return nil
	}
	if len(b.repeated) > 0 && len(a.repeated) == 0 {
		c.note(Content, r.num, "the key %s stands there twice", b.repeated[0])
	}
	f, isField := c.before[r]
	switch {
	case a.get("Type") == name("Page"):
		return c.page(r.num, a, b)
	case isField:
		c.field(r.num, f, a, b)
	case a.get("Type") == name("Annot") || (a.has("Subtype") && a.has("Rect")):
		c.annotation(r.num, a, b)
	default:
		c.values(p)
	}
	return nil
}

// values compares two values that are not references themselves.
func (c *comparison) values(p difference) {
	switch a := p.a.(type) {
	case *stream:
		b, ok := p.b.(*stream)
		if !ok {
			c.note(p.rank, p.owner, "%s is no stream any more", p.key)
			return
		}
		c.keys(p.owner, a.dict, b.dict, func(name) Modification { return p.rank })
	case *dict:
		b, ok := p.b.(*dict)
		if !ok {
			c.note(p.rank, p.owner, "%s is no dictionary any more", p.key)
			return
		}
		c.keys(p.owner, a, b, func(name) Modification { return p.rank })
	case array:
		b, ok := p.b.(array)
		if !ok || len(a) != len(b) {
			c.note(p.rank, p.owner, "%s has other members", p.key)
			return
		}
		for i := range a {
			c.push(difference{a[i], b[i], p.rank, p.owner, p.key})
		}
	case text:
		if b, ok := p.b.(text); !ok || !bytes.Equal(a.val, b.val) {
			c.note(p.rank, p.owner, "%s was changed", p.key)
		}
	case nil:
		if p.b != nil {
			c.note(p.rank, p.owner, "%s was added", p.key)
		}
	default: // bool, int64, real, name: comparable; anything else differs
		switch p.b.(type) {
		case bool, int64, real, name:
			if p.a == p.b {
				return
			}
		}
		c.note(p.rank, p.owner, "%s was changed", p.key)
	}
}

// keys compares two dictionaries; rank says what a change under a key counts as, and Unchanged
// that the key does not matter.
func (c *comparison) keys(owner uint32, a, b *dict, rank func(name) Modification) {
	for i, k := range a.keys {
		c.push(difference{a.vals[i], b.get(k), rank(k), owner, k})
	}
	if b == nil {
		return
	}
	for i, k := range b.keys {
		if !a.has(k) {
			c.push(difference{nil, b.vals[i], rank(k), owner, k})
		}
	}
}

func (c *comparison) catalog(owner uint32, a, b *dict) error {
	c.keys(owner, a, b, func(k name) Modification {
		switch k {
		case "AcroForm":
			return Unchanged // compared below
		case "DSS", "Extensions", "Metadata", "Version":
			return LongTerm
		}
		return Content
	})
	oldForm, err := c.old.dict(a.get("AcroForm"))
	if err != nil {
		return err
	}
	nowForm, err := c.now.dict(b.get("AcroForm"))
	if err != nil {
		return err
	}
	if oldForm == nil {
		oldForm = newDict()
	}
	if nowForm == nil {
		nowForm = newDict()
	}
	c.keys(owner, oldForm, nowForm, func(k name) Modification {
		switch k {
		case "Fields":
			return Unchanged
		case "SigFlags":
			return Signing
		case "DR", "DA", "NeedAppearances":
			return FormFilling
		}
		return Content
	})
	was, err := c.old.array(oldForm.get("Fields"))
	if err != nil {
		return err
	}
	is, err := c.now.array(nowForm.get("Fields"))
	if err != nil {
		return err
	}
	c.members(owner, "Fields", was, is, func(o object) Modification { return Content }, func(r ref) {
		if f, ok := c.after[r]; ok && f.signature() {
			c.newSignature(r, f)
			return
		}
		c.note(Content, r.num, "a form field was added")
	})
	return nil
}

// newSignature is a field that was not there before.
func (c *comparison) newSignature(r ref, f field) {
	if f.value == nil {
		c.note(Annotations, r.num, "the empty signature field %q was added", f.full)
		return
	}
	rank := Signing
	if v, err := c.now.dict(f.value); err == nil && v.get("SubFilter") == name("ETSI.RFC3161") {
		rank = LongTerm // spec: EN319142-1 §5.4.3: a document time-stamp is validation data
	}
	rect, ok, err := c.now.rectangle(f.d.get("Rect"))
	if shown := err == nil && ok && rect[2] > rect[0] && rect[3] > rect[1]; !shown {
		c.note(rank, r.num, "the signature %q was added", f.full)
		return
	}
	c.visible++
	if c.certified != NotCertified {
		c.note(Content, r.num, "the visible signature %q was added, which the certification does not allow", f.full)
		return
	}
	c.note(rank, r.num, "the signature %q was added with a visible box", f.full)
}

// members compares two lists of references. What stays is walked, what went is judged by gone,
// what came by added.
func (c *comparison) members(owner uint32, key name, was, is array, gone func(object) Modification, added func(ref)) {
	have := map[ref]bool{}
	for _, o := range is {
		if r, ok := o.(ref); ok {
			have[r] = true
		}
	}
	had := map[ref]bool{}
	for i, o := range was {
		r, ok := o.(ref)
		switch {
		case !ok: // stands in the list itself: has to stay at its place
			var b object
			if i < len(is) {
				b = is[i]
			}
			c.push(difference{o, b, Content, owner, key})
		case !have[r]:
			c.note(gone(o), r.num, "it was taken out of %s", key)
		default:
			had[r] = true
			c.push(difference{r, r, Content, owner, key})
		}
	}
	for i, o := range is {
		r, ok := o.(ref)
		switch {
		case !ok && i >= len(was):
			c.note(Content, owner, "%s has a further member", key)
		case ok && !had[r]:
			had[r] = true
			added(r)
		}
	}
}

func (c *comparison) page(owner uint32, a, b *dict) error {
	c.keys(owner, a, b, func(k name) Modification {
		switch k {
		case "Annots":
			return Unchanged // compared below
		case "LastModified":
			return LongTerm
		}
		return Content
	})
	was, err := c.old.array(a.get("Annots"))
	if err != nil {
		return err
	}
	is, err := c.now.array(b.get("Annots"))
	if err != nil {
		return err
	}
	var failed error
	gone := func(o object) Modification {
		d, err := c.old.dict(o)
		if err != nil {
			failed = err
		}
		if d.get("Subtype") == name("Widget") {
			return Content
		}
		return Annotations
	}
	c.members(owner, "Annots", was, is, gone, func(r ref) {
		d, err := c.now.dict(r)
		if err != nil {
			failed = err
			return
		}
		f, isField := c.after[r]
		_, old := c.before[r]
		switch {
		case d.get("Subtype") != name("Widget"):
			c.note(Annotations, r.num, "an annotation was added")
		case isField && f.signature() && !old:
			c.newSignature(r, f)
		default:
			c.note(Content, r.num, "the widget of a form field was added to a page")
		}
	})
	return failed
}

// field: a signed signature stays as it is; a field may be filled in unless it is locked.
func (c *comparison) field(owner uint32, f field, a, b *dict) {
	filling := FormFilling
	switch {
	case f.signature() && f.value != nil:
		filling = Content
	case c.locks.locked(f.full):
		filling = Content
	case f.signature():
		filling = Signing
	}
	c.keys(owner, a, b, func(k name) Modification {
		switch k {
		case "V", "AP", "AS", "M", "MK":
			return filling
		case "I", "RV", "Ff", "F":
			if !f.signature() {
				return filling
			}
		}
		return Content
	})
}

// annotation: a widget of a field that has several shows its value; another one is a comment.
func (c *comparison) annotation(owner uint32, a, b *dict) {
	rank, look := Annotations, Annotations
	if a.get("Subtype") == name("Widget") {
		rank, look = Content, Content
		if r, ok := a.get("Parent").(ref); ok {
			if f, ok := c.before[r]; ok && !c.locks.locked(f.full) && !(f.signature() && f.value != nil) {
				look = FormFilling
			}
		}
	}
	c.keys(owner, a, b, func(k name) Modification {
		switch k {
		case "AP", "AS", "MK":
			return look
		}
		return rank
	})
}
