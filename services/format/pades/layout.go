package pades

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// layout makes the increment with an empty place for the CMS.
type layout struct {
	d    *document
	o    Options
	room int

	u        *increment
	root     ref
	catalog  *dict
	all      []field
	target   *field // an empty field of the file; nil for a new one
	name     string
	page     *page
	rect     [4]float64
	turn     int
	gap, end int // of Contents in the increment
}

// build: spec: ISO32000-1 §12.7.4.5, §12.8.1
func (l *layout) build() error {
	var err error
	if l.root, l.catalog, err = l.d.root(); err != nil {
		return err
	}
	if l.all, err = l.d.fields(); err != nil {
		return err
	}
	if err := l.choose(); err != nil {
		return err
	}
	if err := l.permitted(); err != nil {
		return err
	}
	if l.u, err = newIncrement(l.d); err != nil {
		return err
	}
	sig := l.u.reserve()
	look, err := l.look()
	if err != nil {
		return err
	}
	if l.target != nil {
		err = l.fill(sig, look)
	} else {
		err = l.create(sig, look)
	}
	if err != nil {
		return err
	}
	if l.o.Certify != NotCertified {
		if err := l.certify(sig); err != nil {
			return err
		}
	}
	lock, err := l.lock()
	if err != nil {
		return err
	}
	byteRange := l.writeSignature(sig, lock)
	if err := l.u.finish(); err != nil {
		return err
	}
	before := l.d.size + int64(l.gap)
	after := l.d.size + int64(l.end)
	copy(l.u.b[byteRange:], fmt.Sprintf("[0 %d %d %d]", before, after, int64(len(l.u.b)-l.end)))
	return nil
}

// choose finds the field.
func (l *layout) choose() error {
	if l.name = l.o.Field; l.name == "" {
		l.name = freeName(l.all)
		return nil
	}
	for i := range l.all {
		f := &l.all[i]
		if f.full != l.name {
			continue
		}
		switch {
		case !f.signature():
			return fmt.Errorf("pades: the field %q is not for signatures", l.name)
		case f.value != nil:
			return fmt.Errorf("pades: the field %q is signed already", l.name)
		case f.r == ref{}:
			return fmt.Errorf("pades: the field %q is not an object of its own and cannot be changed", l.name)
		case f.d.has("SV"):
			return fmt.Errorf("pades: the field %q has seed values, which this program does not obey: choose another field", l.name)
		}
		l.target = f
		return nil
	}
	if strings.Contains(l.name, ".") {
		return fmt.Errorf("pades: there is no field %q, and the name of a new one has no full stop", l.name)
	}
	for _, f := range l.all {
		if strings.HasPrefix(f.full, l.name+".") {
			return fmt.Errorf("pades: %q is a group of fields, not a signature field", l.name)
		}
	}
	return nil
}

// permitted obeys what earlier signatures allow. spec: ISO32000-1 §12.8.2.2, §12.8.2.4
func (l *layout) permitted() error {
	form, err := l.d.dict(l.catalog.get("AcroForm"))
	if err != nil {
		return err
	}
	if needs, err := l.d.resolve(l.catalog.get("NeedsRendering")); err != nil {
		return err
	} else if needs == true && form.has("XFA") {
		return errors.New("pades: the file is a dynamic XFA form, whose pages are made when it is shown: print it to a PDF first")
	}
	certified, err := l.d.certification()
	if err != nil {
		return err
	}
	visible := l.o.Box != nil
	switch {
	case certified == NoChanges:
		return &ForbiddenError{"it is certified, and its certification allows no changes"}
	case certified != NotCertified && l.o.Certify != NotCertified:
		return &ForbiddenError{"it is certified already"}
	case certified != NotCertified && visible && l.target == nil:
		return &ForbiddenError{"it is certified, which allows signing but no new visible field: sign an empty field or without a box"}
	}
	signed := false
	for _, f := range l.all {
		signed = signed || (f.signature() && f.value != nil)
	}
	if signed && l.o.Certify != NotCertified {
		return &ForbiddenError{"it is signed already: a certification has to be the first signature"}
	}
	locks, err := l.d.locks(l.all)
	if err != nil {
		return err
	}
	if l.target != nil && locks.locked(l.name) {
		return &ForbiddenError{fmt.Sprintf("an earlier signature has locked the field %q", l.name)}
	}
	return nil
}

// look draws the box and gives its appearance, the zero reference when there is none.
func (l *layout) look() (ref, error) {
	b := l.o.Box
	number := 1
	if b != nil && b.Page != 0 {
		number = b.Page
	}
	if number < -1 || number == 0 {
		return ref{}, fmt.Errorf("pades: page %d: 1 is the first, -1 the last", number)
	}
	if l.target == nil {
		var err error
		if l.page, err = l.d.page(number); err != nil {
			return ref{}, err
		}
	}
	if b == nil {
		return ref{}, nil
	}
	width, height := b.Width, b.Height
	if l.target != nil {
		r, ok, err := l.d.rectangle(l.target.d.get("Rect"))
		if err != nil {
			return ref{}, err
		}
		if width, height = r[2]-r[0], r[3]-r[1]; !ok || width <= 0 || height <= 0 {
			return ref{}, fmt.Errorf("pades: the field %q has no place of its own to draw in: sign it without a box", l.name)
		}
		mk, err := l.d.dict(l.target.d.get("MK"))
		if err != nil {
			return ref{}, err
		}
		if l.turn = int(((integer(mk.get("R"), 0) % 360) + 360) % 360); l.turn == 90 || l.turn == 270 {
			width, height = height, width
		}
	} else {
		var err error
		if l.rect, l.turn, err = l.d.place(b, l.page); err != nil {
			return ref{}, err
		}
	}
	content, err := draw(l.lines(), width, height, b.Border)
	if err != nil {
		return ref{}, err
	}
	return l.u.appearance(content, width, height, l.turn), nil
}

func (l *layout) lines() []string {
	if len(l.o.Box.Lines) > 0 {
		return l.o.Box.Lines
	}
	var out []string
	for _, s := range []string{l.o.Name, l.o.SigningTime.Format("2006-01-02 15:04:05 -07:00"), l.o.Reason} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// fill signs an empty field of the file.
func (l *layout) fill(sig, look ref) error {
	fd, err := l.u.editDict(l.target.r)
	if err != nil {
		return err
	}
	fd.set("V", sig)
	if look != (ref{}) {
		fd.set("AP", newDict("N", look))
	}
	form, write, err := l.form()
	if err != nil {
		return err
	}
	if integer(form.get("SigFlags"), 0)&3 != 3 {
		edited, err := write()
		if err != nil {
			return err
		}
		edited.set("SigFlags", int64(3))
	}
	return nil
}

// create makes a new field that is its own widget, on the page even when nothing is seen.
// spec: ISO32000-1 §12.7.4.5, §12.5.6.19
func (l *layout) create(sig, look ref) error {
	const printAndLocked = int64(4 | 128)
	fd := newDict("Type", name("Annot"), "Subtype", name("Widget"), "FT", name("Sig"), "T", encodeText(l.name),
		"V", sig, "F", printAndLocked, "P", l.page.r,
		"Rect", array{coordinate(l.rect[0]), coordinate(l.rect[1]), coordinate(l.rect[2]), coordinate(l.rect[3])})
	if look != (ref{}) {
		fd.add("AP", newDict("N", look))
		if l.turn != 0 {
			fd.add("MK", newDict("R", int64(l.turn)))
		}
	}
	r := l.u.reserve()
	l.u.put(r, fd)
	pd := l.page.d
	if _, apart := pd.get("Annots").(ref); !apart {
		var err error
		if pd, err = l.u.editDict(l.page.r); err != nil {
			return err
		}
	}
	if a, err := l.d.array(pd.get("Annots")); err != nil {
		return err
	} else if a == nil && pd.has("Annots") { // a reference to nothing
		if pd, err = l.u.editDict(l.page.r); err != nil {
			return err
		}
		pd.set("Annots", array{})
	}
	if err := l.u.appendTo(pd, "Annots", r); err != nil {
		return err
	}
	_, write, err := l.form()
	if err != nil {
		return err
	}
	form, err := write()
	if err != nil {
		return err
	}
	form.set("SigFlags", int64(3)) // spec: ISO32000-1 §12.7.2 (signatures exist, append only)
	return l.u.appendTo(form, "Fields", r)
}

// form gives the interactive form and what opens it for change, wherever it stands.
func (l *layout) form() (*dict, func() (*dict, error), error) {
	form, err := l.d.dict(l.catalog.get("AcroForm"))
	if err != nil {
		return nil, nil, err
	}
	if r, apart := l.catalog.get("AcroForm").(ref); apart && form != nil {
		return form, func() (*dict, error) { return l.u.editDict(r) }, nil
	}
	return form, func() (*dict, error) {
		c := l.editCatalog()
		own, ok := c.get("AcroForm").(*dict)
		if !ok {
			own = nil
		}
		own = own.clone()
		c.set("AcroForm", own)
		return own, nil
	}, nil
}

func (l *layout) editCatalog() *dict {
	for _, e := range l.u.edits {
		if e.r == l.root {
			return e.o.(*dict)
		}
	}
	c := l.catalog.clone()
	l.u.edits = append(l.u.edits, edit{l.root, c})
	return c
}

// certify: spec: ISO32000-1 §12.8.4
func (l *layout) certify(sig ref) error {
	perms, err := l.d.dict(l.catalog.get("Perms"))
	if err != nil {
		return err
	}
	perms = perms.clone()
	perms.set("DocMDP", sig)
	l.editCatalog().set("Perms", perms)
	return nil
}

// lock gives the FieldMDP reference that the field asks for. spec: ISO32000-1 §12.8.2.4
func (l *layout) lock() (*dict, error) {
	if l.target == nil {
		return nil, nil
	}
	lock, err := l.d.dict(l.target.d.get("Lock"))
	if err != nil || lock == nil {
		return nil, err
	}
	action, err := l.d.resolve(lock.get("Action"))
	if err != nil {
		return nil, err
	}
	params := newDict("Type", name("TransformParams"), "V", name("1.2"), "Action", action)
	if lock.has("Fields") {
		a, err := l.d.array(lock.get("Fields"))
		if err != nil {
			return nil, err
		}
		params.add("Fields", a)
	}
	return newDict("Type", name("SigRef"), "TransformMethod", name("FieldMDP"), "Data", l.root, "TransformParams", params), nil
}

// byteRangeRoom holds "[0 a b c]" with numbers up to the largest file.
const byteRangeRoom = 4 + 3*20

// writeSignature writes the dictionary and gives the place of the byte range in the increment.
// spec: ISO32000-1 §12.8.1 table 252; EN319142-1 §6.3
func (l *layout) writeSignature(sig ref, lock *dict) int {
	u := l.u
	u.begin(sig)
	u.b = append(u.b, "<</Type /Sig\n/Filter /Adobe.PPKLite\n/SubFilter /ETSI.CAdES.detached\n/ByteRange "...)
	byteRange := len(u.b)
	u.b = append(u.b, bytes.Repeat([]byte{' '}, byteRangeRoom)...)
	u.b = append(u.b, "\n/Contents "...)
	l.gap = len(u.b)
	u.b = append(u.b, '<')
	u.b = append(u.b, bytes.Repeat([]byte{'0'}, 2*l.room)...)
	u.b = append(u.b, '>')
	l.end = len(u.b)
	rest := newDict("M", pdfDate(l.o.SigningTime.Truncate(time.Second)))
	for _, f := range []struct {
		key   name
		value string
	}{{"Name", l.o.Name}, {"Reason", l.o.Reason}, {"Location", l.o.Location}, {"ContactInfo", l.o.ContactInfo}} {
		if f.value != "" {
			rest.add(f.key, encodeText(f.value))
		}
	}
	var references array
	if l.o.Certify != NotCertified {
		references = append(references, newDict("Type", name("SigRef"), "TransformMethod", name("DocMDP"),
			"TransformParams", newDict("Type", name("TransformParams"), "P", int64(l.o.Certify), "V", name("1.2"))))
	}
	if lock != nil {
		references = append(references, lock)
	}
	if len(references) > 0 {
		rest.add("Reference", references)
	}
	for i, k := range rest.keys {
		u.b = append(u.b, '\n')
		u.b = appendName(u.b, k)
		u.b = append(u.b, ' ')
		u.b = appendObject(u.b, rest.vals[i])
	}
	u.b = append(u.b, ">>"...)
	u.end()
	return byteRange
}
