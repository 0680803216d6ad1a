package pades

import (
	"bytes"
	"errors"
	"slices"
)

const (
	repairChunk   = 256 << 10
	repairLookout = 1024 // what is looked at after "obj" to know what the object is
	repairObjects = 4096 // structural streams that are remembered
)

// found is what one pass over the file remembers.
type found struct {
	entries  []entry // in the order of the file
	trailers []int64 // after the keyword
	streams  []int   // indices of entries that may be object streams
	xrefs    []int64 // offsets of objects that may be cross-reference streams
	catalog  ref
}

// repair rebuilds the cross-reference table from the objects themselves, in one pass: of objects
// with one number the last in the file counts.
func (d *document) repair() error {
	d.entries, d.sections, d.trailer, d.loaded = nil, nil, nil, nil
	f := &found{}
	buf := make([]byte, repairChunk+repairLookout)
	for off := int64(0); off < d.size; off += repairChunk {
		n := min(int64(len(buf)), d.size-off)
		if err := d.readAt(buf[:n], off); err != nil {
			return err
		}
		// The bytes before the window belong to the last one; an object header is short enough
		// to be looked for backwards in the overlap.
		if err := d.collect(f, buf[:n], off, off+n == d.size); err != nil {
			return err
		}
	}
	d.entries = slices.Clone(f.entries)
	slices.Reverse(d.entries)
	d.settle()
	all, err := d.withCompressed(f)
	if err != nil {
		return err
	}
	slices.Reverse(all)
	d.entries, d.loaded = all, nil
	d.settle()
	d.trailer = d.bestTrailer(f)
	d.asStream = slices.ContainsFunc(d.entries, func(e entry) bool { return e.kind == kindStream })
	return nil
}

// collect notes the objects that begin in a window. The last bytes of a window are the first of
// the next one: what begins there is left to it.
func (d *document) collect(f *found, b []byte, base int64, last bool) error {
	end := len(b)
	if !last {
		end = repairChunk + 32 // a header is at most 24 bytes long
	}
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("obj"))
		if i < 0 {
			break
		}
		i += at
		at = i + 3
		e, ok := header(b, i)
		if !ok || (e.pos >= repairChunk && !last) || i > end {
			continue
		}
		if e.pos == 0 && base > 0 {
			var before [1]byte
			if err := d.readAt(before[:], base-1); err != nil {
				return err
			}
			if isRegular(before[0]) {
				continue // the number begins in the window before
			}
		}
		head := b[i:min(len(b), i+repairLookout)]
		if k := bytes.Index(head, []byte("stream")); k >= 0 {
			head = head[:k]
		}
		if k := bytes.Index(head, []byte("endobj")); k >= 0 {
			head = head[:k]
		}
		e.pos += base
		if len(f.entries) >= d.lim.Objects {
			return beyond("the file has more than %d objects", d.lim.Objects)
		}
		f.entries = append(f.entries, e)
		if len(f.streams)+len(f.xrefs) < repairObjects {
			switch {
			case bytes.Contains(head, []byte("/ObjStm")):
				f.streams = append(f.streams, len(f.entries)-1)
			case bytes.Contains(head, []byte("/XRef")):
				f.xrefs = append(f.xrefs, e.pos)
			}
		}
		if bytes.Contains(head, []byte("/Catalog")) {
			f.catalog = ref{e.num, e.gen}
		}
	}
	collectTrailers(f, b, base, last)
	return nil
}

func collectTrailers(f *found, b []byte, base int64, last bool) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("trailer"))
		if i < 0 || (at+i >= repairChunk && !last) {
			return
		}
		at += i + len("trailer")
		if len(f.trailers) == repairObjects {
			f.trailers = f.trailers[1:]
		}
		f.trailers = append(f.trailers, base+int64(at))
	}
}

// header reads "num gen" backwards from obj at i. The position is that in b.
func header(b []byte, i int) (entry, bool) {
	p := i
	back := func() (v uint64, ok bool) {
		end := p
		for p > 0 && isSpace(b[p-1]) {
			p--
		}
		if p == end {
			return 0, false
		}
		scale := uint64(1)
		digits := p
		for p > 0 && isDigit(b[p-1]) && digits-p < 10 {
			p--
			v += uint64(b[p]-'0') * scale
			scale *= 10
		}
		return v, p < digits
	}
	gen, ok := back()
	if !ok || gen > 65535 {
		return entry{}, false
	}
	num, ok := back()
	if !ok || num == 0 || num > maxObjectNumber || (p > 0 && isRegular(b[p-1])) {
		return entry{}, false
	}
	return entry{pos: int64(p), num: uint32(num), gen: uint16(gen), kind: kindFile}, true
}

// withCompressed puts what object streams hold after the streams themselves.
func (d *document) withCompressed(f *found) ([]entry, error) {
	if len(f.streams) == 0 {
		return f.entries, nil
	}
	var out []entry
	at := 0
	for _, i := range f.streams {
		out = append(out, f.entries[at:i+1]...)
		at = i + 1
		if e, ok := d.lookup(f.entries[i].num); !ok || e.pos != f.entries[i].pos {
			continue // superseded: what it held is in a later one, or gone
		}
		s, err := d.decodeObjects(f.entries[i])
		var limit *LimitError
		if errors.As(err, &limit) {
			return nil, err
		}
		if err != nil {
			continue // not an object stream after all, or damaged: what it holds is lost
		}
		for k, num := range s.nums {
			if len(out) >= d.lim.Objects {
				return nil, beyond("the file has more than %d objects", d.lim.Objects)
			}
			out = append(out, entry{pos: int64(s.num)<<32 | int64(k), num: num, kind: kindStream})
		}
	}
	return append(out, f.entries[at:]...), nil
}

// bestTrailer takes the last trailer with a catalog, then the last cross-reference stream with
// one, then makes one for the last catalog in the file.
func (d *document) bestTrailer(f *found) *dict {
	clean := func(t *dict) *dict {
		out := newDict()
		for _, k := range []name{"Root", "Info", "ID", "Encrypt"} {
			if t.has(k) {
				out.add(k, t.get(k))
			}
		}
		return out
	}
	tries := 0
	for i := len(f.trailers) - 1; i >= 0 && tries < 16; i-- {
		tries++
		if t, err := d.trailerAt(f.trailers[i]); err == nil && t.has("Root") {
			return clean(t)
		}
	}
	for i := len(f.xrefs) - 1; i >= 0 && tries < 32; i-- {
		tries++
		if _, v, err := d.indirect(f.xrefs[i]); err == nil {
			if s, ok := v.(*stream); ok && s.has("Root") {
				return clean(s.dict)
			}
		}
	}
	return newDict("Root", f.catalog)
}
