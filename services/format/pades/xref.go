package pades

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"strconv"
)

// startxref is how far from the end the last startxref is looked for.
const startxrefWindow = 2048

// startxref finds the newest cross-reference section. spec: ISO32000-1 §7.5.5
func (d *document) startxref() (int64, error) {
	n := min(d.size, startxrefWindow)
	tail := make([]byte, n)
	if err := d.readAt(tail, d.size-n); err != nil {
		return 0, err
	}
	i := bytes.LastIndex(tail, []byte("startxref"))
	if i < 0 {
		return 0, syntax(d.size, "there is no startxref in the last %d bytes: the file is cut off", n)
	}
	l := &lexer{b: tail, base: d.size - n, pos: i + len("startxref"), last: true}
	off, err := l.natural()
	if err != nil {
		return 0, err
	}
	if off >= d.size {
		return 0, syntax(l.at(i), "startxref points to byte %d, the file has %d", off, d.size)
	}
	return off, nil
}

// loadSections walks the chain of sections, newest first.
func (d *document) loadSections() error {
	off, err := d.startxref()
	if err != nil {
		return err
	}
	seen := map[int64]bool{}
	for {
		if seen[off] {
			return syntax(off, "cross-reference sections point to each other in a circle")
		}
		if len(d.sections) >= d.lim.Sections {
			return beyond("the file has more than %d cross-reference sections", d.lim.Sections)
		}
		seen[off] = true
		trailer, isStream, err := d.section(off)
		if err != nil {
			return err
		}
		if len(d.sections) == 0 {
			d.trailer, d.asStream = trailer, isStream
		} else if trailer.has("Encrypt") {
			return ErrEncrypted
		}
		d.sections = append(d.sections, off)
		prev, ok := trailer.get("Prev").(int64)
		if !ok {
			if trailer.has("Prev") {
				return syntax(off, "Prev is not a whole number")
			}
			break
		}
		off = prev
	}
	d.settle()
	return nil
}

// settle sorts the entries; of one number the first, which is the newest, stays.
func (d *document) settle() {
	slices.SortStableFunc(d.entries, func(a, b entry) int { return cmp.Compare(a.num, b.num) })
	d.entries = slices.CompactFunc(d.entries, func(a, b entry) bool { return a.num == b.num })
}

func (d *document) section(off int64) (trailer *dict, isStream bool, err error) {
	var table bool
	err = d.parse(off, func(l *lexer) error {
		var err error
		table, err = l.keyword("xref")
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if !table {
		trailer, err = d.xrefStream(off)
		return trailer, true, err
	}
	first := len(d.entries)
	trailer, err = d.xrefTable(off)
	if err != nil {
		return nil, false, err
	}
	if hybrid, ok := trailer.get("XRefStm").(int64); ok {
		// spec: ISO32000-1 §7.5.8.4: what the table hides as free is looked up in the stream
		table := slices.Clone(d.entries[first:])
		d.entries = d.entries[:first]
		if _, err := d.xrefStream(hybrid); err != nil {
			return nil, false, err
		}
		hidden := map[uint32]bool{}
		for _, e := range d.entries[first:] {
			hidden[e.num] = true
		}
		table = slices.DeleteFunc(table, func(e entry) bool { return e.kind == kindFree && hidden[e.num] })
		d.entries = slices.Concat(d.entries[:first], table, d.entries[first:])
	}
	return trailer, false, nil
}

func (d *document) addEntry(e entry) error {
	if len(d.entries) >= d.lim.Objects {
		return beyond("the cross-reference sections have more than %d entries", d.lim.Objects)
	}
	if e.kind == kindFile && (e.pos <= 0 || e.pos >= d.size) {
		e.kind = kindFree // an object that is not in the file does not exist
	}
	d.entries = append(d.entries, e)
	return nil
}

// tableReader reads the tokens of a cross-reference table without holding it.
type tableReader struct {
	r    *bufio.Reader
	work *int64
	pos  int64 // of the next byte
	back int64 // of the last token
}

func (t *tableReader) token() (string, error) {
	var tok [24]byte
	n := 0
	for {
		c, err := t.r.ReadByte()
		if err != nil {
			if n > 0 && errors.Is(err, io.EOF) {
				break
			}
			return "", syntax(t.pos, "the cross-reference table is cut off")
		}
		t.pos++
		if *t.work--; *t.work < 0 {
			return "", beyond("the cross-reference tables are more work than the limit allows")
		}
		if isSpace(c) {
			if n > 0 {
				break
			}
			continue
		}
		if n == 0 {
			t.back = t.pos - 1
		}
		if c == '<' && n > 0 { // "trailer<<" without white space
			break
		}
		if n == len(tok) {
			return "", syntax(t.pos, "the cross-reference table is malformed")
		}
		tok[n] = c
		n++
	}
	return string(tok[:n]), nil
}

func (t *tableReader) number(max uint64) (int64, error) {
	tok, err := t.token()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(tok, 10, 63)
	if err != nil || n > max {
		return 0, syntax(t.back, "the cross-reference table holds %q where a number is expected", tok)
	}
	return int64(n), nil
}

// xrefTable: spec: ISO32000-1 §7.5.4, §7.5.5
func (d *document) xrefTable(off int64) (*dict, error) {
	t := &tableReader{r: bufio.NewReaderSize(io.NewSectionReader(d.src, off, d.size-off), 32<<10), work: d.work, pos: off}
	if _, err := t.token(); err != nil {
		return nil, err
	}
	for {
		tok, err := t.token()
		if err != nil {
			return nil, err
		}
		if tok == "trailer" {
			return d.trailerAt(t.back + int64(len("trailer")))
		}
		start, err := strconv.ParseUint(tok, 10, 32)
		if err != nil {
			return nil, syntax(t.back, "the cross-reference table holds %q where a subsection or trailer is expected", tok)
		}
		count, err := t.number(maxObjectNumber - start)
		if err != nil {
			return nil, err
		}
		for i := range count {
			if err := d.tableEntry(t, uint32(start)+uint32(i)); err != nil {
				return nil, err
			}
		}
	}
}

func (d *document) tableEntry(t *tableReader, num uint32) error {
	pos, err := t.number(1 << 62)
	if err != nil {
		return err
	}
	gen, err := t.number(65535)
	if err != nil {
		return err
	}
	kind, err := t.token()
	if err != nil {
		return err
	}
	e := entry{pos: pos, num: num, gen: uint16(gen)}
	switch kind {
	case "n":
		e.kind = kindFile
	case "f":
	default:
		return syntax(t.back, "the cross-reference table holds %q where n or f is expected", kind)
	}
	return d.addEntry(e)
}

func (d *document) trailerAt(off int64) (*dict, error) {
	var out *dict
	err := d.parse(off, func(l *lexer) error {
		v, err := l.object(0)
		if err != nil {
			return err
		}
		var ok bool
		if out, ok = v.(*dict); !ok {
			return l.bad("the trailer is not a dictionary")
		}
		return nil
	})
	return out, err
}

// xrefStream: spec: ISO32000-1 §7.5.8
func (d *document) xrefStream(off int64) (*dict, error) {
	_, value, err := d.indirect(off)
	if err != nil {
		return nil, err
	}
	s, ok := value.(*stream)
	if !ok || s.get("Type") != name("XRef") {
		return nil, syntax(off, "neither a cross-reference table nor a cross-reference stream stands here")
	}
	if _, direct := s.get("Length").(int64); !direct {
		return nil, syntax(off, "the length of a cross-reference stream has to stand in its dictionary")
	}
	var width [3]int
	w, _ := s.get("W").(array)
	if len(w) != 3 {
		return nil, syntax(off, "W of the cross-reference stream has %d members, 3 are expected", len(w))
	}
	for i := range w {
		n := integer(w[i], -1)
		if n < 0 || n > 8 {
			return nil, syntax(off, "W of the cross-reference stream is out of range")
		}
		width[i] = int(n)
	}
	index, ok := s.get("Index").(array)
	if !ok {
		index = array{int64(0), integer(s.get("Size"), 0)}
	}
	r, err := d.data(s)
	if err != nil {
		return nil, err
	}
	row := make([]byte, width[0]+width[1]+width[2])
	if len(row) == 0 || len(index)%2 != 0 {
		return nil, syntax(off, "W or Index of the cross-reference stream is malformed")
	}
	for i := 0; i < len(index); i += 2 {
		start, count := integer(index[i], -1), integer(index[i+1], -1)
		if start < 0 || count < 0 || start > maxObjectNumber || count > maxObjectNumber-start {
			return nil, syntax(off, "Index of the cross-reference stream is out of range")
		}
		for k := range count {
			if _, err := io.ReadFull(r, row); err != nil {
				return nil, syntax(off, "the cross-reference stream ends after %d of %d entries: %v", k, count, err)
			}
			if err := d.streamEntry(uint32(start+k), row, width); err != nil {
				return nil, err
			}
		}
	}
	return s.dict, nil
}

func (d *document) streamEntry(num uint32, row []byte, width [3]int) error {
	var f [3]uint64
	at := 0
	for i, w := range width {
		for range w {
			f[i] = f[i]<<8 | uint64(row[at])
			at++
		}
	}
	if width[0] == 0 {
		f[0] = 1
	}
	e := entry{num: num}
	switch {
	case f[0] == 1 && f[1] < 1<<62 && f[2] <= 65535:
		e.kind, e.pos, e.gen = kindFile, int64(f[1]), uint16(f[2])
	case f[0] == 2 && f[1] > 0 && f[1] < 1<<31 && f[2] < 1<<32:
		e.kind, e.pos = kindStream, int64(f[1]<<32|f[2])
	}
	return d.addEntry(e)
}
