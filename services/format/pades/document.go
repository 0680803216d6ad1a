package pades

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// entry says where an object is. spec: ISO32000-1 §7.5.4, §7.5.8.3
type entry struct {
	pos  int64 // kindFile: offset; kindStream: number of the object stream << 32 | index in it
	num  uint32
	gen  uint16
	kind uint8
}

const (
	kindFree   = 0
	kindFile   = 1
	kindStream = 2
)

// document is the state of a file (or of the first bytes of it: a revision) that its newest
// cross-reference section describes.
type document struct {
	src  io.ReaderAt
	size int64
	lim  Limits
	// header is where %PDF- stands; places in the file are counted from its first byte all the same.
	header int64
	work   *int64 // bytes that may still be looked at; shared by the revisions of a file

	entries  []entry // sorted by number, each number once
	trailer  *dict
	sections []int64 // offsets of the sections, newest first; empty when repaired
	asStream bool    // the newest section is a stream
	repaired string  // why the cross-reference table was rebuilt; empty when it was not

	buf    []byte
	loaded []*objectStream // least recently used first
}

// open reads the structure of a file. Errors: ErrEncrypted, *LimitError, *SyntaxError, those of src.
func open(src io.ReaderAt, size int64, lim Limits) (*document, error) {
	lim = lim.orDefaults(size)
	if size > lim.Size {
		return nil, beyond("the file has %d bytes, the limit is %d", size, lim.Size)
	}
	work := lim.Work
	return openWith(src, size, lim, &work, true)
}

func openWith(src io.ReaderAt, size int64, lim Limits, work *int64, mayRepair bool) (*document, error) {
	d := &document{src: src, size: size, lim: lim, work: work}
	if err := d.checkHeader(); err != nil {
		return nil, err
	}
	err := d.loadSections()
	if err == nil {
		err = d.checkRoot()
	}
	var broken *SyntaxError
	if errors.As(err, &broken) && mayRepair {
		d.repaired = broken.Error()
		if err = d.repair(); err == nil {
			err = d.checkRoot()
		}
		if err != nil {
			return nil, fmt.Errorf("%w (the cross-reference table could not be rebuilt: %w)", broken, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// checkHeader: spec: ISO32000-1 §7.5.2; the header may stand within the first 1024 bytes.
func (d *document) checkHeader() error {
	head := make([]byte, min(d.size, 1024))
	if err := d.readAt(head, 0); err != nil {
		return err
	}
	if d.header = int64(bytes.Index(head, []byte("%PDF-"))); d.header < 0 {
		return syntax(0, "not a PDF file: there is no %%PDF- header")
	}
	return nil
}

// readAt fills b and charges the work.
func (d *document) readAt(b []byte, off int64) error {
	if *d.work -= int64(len(b)); *d.work < 0 {
		return beyond("the structure of the file makes reading it more work than the limit allows")
	}
	n, err := d.src.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("pades: read at byte %d: %w", off, err)
}

// parse runs f on ever larger windows from off until it has enough.
func (d *document) parse(off int64, f func(*lexer) error) error {
	if off < 0 || off >= d.size {
		return syntax(off, "the file ends at byte %d", d.size)
	}
	for want := int64(1024); ; want *= 4 {
		n := min(want, d.size-off, int64(d.lim.Object))
		if int64(cap(d.buf)) < n {
			d.buf = make([]byte, n)
		}
		window := d.buf[:n]
		if err := d.readAt(window, off); err != nil {
			return err
		}
		err := f(&lexer{b: window, base: off, last: off+n == d.size, left: d.lim.Elements})
		if !errors.Is(err, errMore) {
			return err
		}
		if n == int64(d.lim.Object) {
			return beyond("the object at byte %d is longer than %d bytes", off, d.lim.Object)
		}
	}
}

// indirect reads "num gen obj value"; a stream is given with the place of its data.
// spec: ISO32000-1 §7.3.8, §7.3.10
func (d *document) indirect(off int64) (r ref, value object, err error) {
	err = d.parse(off, func(l *lexer) error {
		num, err := l.natural()
		if err != nil {
			return err
		}
		gen, err := l.natural()
		if err != nil {
			return err
		}
		if num > maxObjectNumber || gen > 65535 {
			return l.bad("no object has the number %d %d", num, gen)
		}
		r = ref{uint32(num), uint16(gen)}
		if ok, err := l.keyword("obj"); err != nil || !ok {
			if err == nil {
				err = l.bad("obj is expected")
			}
			return err
		}
		if value, err = l.object(0); err != nil {
			return err
		}
		di, ok := value.(*dict)
		if !ok {
			return nil
		}
		if ok, err = l.keyword("stream"); err != nil || !ok {
			return err
		}
		if l.pos+1 >= len(l.b) && !l.last {
			return errMore
		}
		if l.pos < len(l.b) && l.b[l.pos] == '\r' {
			l.pos++
		}
		if l.pos < len(l.b) && l.b[l.pos] == '\n' {
			l.pos++
		}
		value = &stream{di, l.at(l.pos)}
		return nil
	})
	return r, value, err
}

func (d *document) lookup(num uint32) (entry, bool) {
	i, ok := slices.BinarySearchFunc(d.entries, num, func(e entry, n uint32) int {
		switch {
		case e.num < n:
			return -1
		case e.num > n:
			return 1
		}
		return 0
	})
	if !ok || d.entries[i].kind == kindFree {
		return entry{}, false
	}
	return d.entries[i], true
}

// load gives the object that a reference names, nil for one that does not exist.
// spec: ISO32000-1 §7.3.10
func (d *document) load(r ref) (object, error) {
	e, ok := d.lookup(r.num)
	if !ok || e.gen != r.gen {
		return nil, nil
	}
	if e.kind == kindStream {
		return d.compressed(e)
	}
	got, value, err := d.indirect(e.pos)
	if err != nil {
		return nil, err
	}
	if got != r {
		return nil, syntax(e.pos, "object %d %d is expected here, %d %d is found", r.num, r.gen, got.num, got.gen)
	}
	return value, nil
}

// resolve follows a reference.
func (d *document) resolve(o object) (object, error) {
	for range 8 {
		r, ok := o.(ref)
		if !ok {
			return o, nil
		}
		var err error
		if o, err = d.load(r); err != nil {
			return nil, err
		}
	}
	return nil, beyond("references point to references")
}

// dict resolves to a dictionary (that of a stream too); nil for anything else.
func (d *document) dict(o object) (*dict, error) {
	v, err := d.resolve(o)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *dict:
		return v, nil
	case *stream:
		return v.dict, nil
	}
	return nil, nil
}

// array resolves to an array; nil for anything else.
func (d *document) array(o object) (array, error) {
	v, err := d.resolve(o)
	if err != nil {
		return nil, err
	}
	a, _ := v.(array)
	return a, nil
}

// root gives the catalog. spec: ISO32000-1 §7.7.2
func (d *document) root() (ref, *dict, error) {
	r, ok := d.trailer.get("Root").(ref)
	if !ok {
		return ref{}, nil, syntax(d.size, "the trailer names no catalog")
	}
	c, err := d.dict(r)
	if err != nil {
		return ref{}, nil, err
	}
	if c == nil || !c.has("Pages") {
		return ref{}, nil, syntax(d.size, "object %d %d is not a catalog", r.num, r.gen)
	}
	return r, c, nil
}

func (d *document) checkRoot() error {
	if d.trailer.has("Encrypt") {
		return ErrEncrypted
	}
	_, _, err := d.root()
	return err
}

// next is a number that no object has or had.
func (d *document) next() uint32 {
	n := uint32(1)
	if len(d.entries) > 0 {
		n = d.entries[len(d.entries)-1].num + 1
	}
	if size, ok := d.trailer.get("Size").(int64); ok && size > int64(n) && size < maxObjectNumber {
		n = uint32(size)
	}
	return n
}
