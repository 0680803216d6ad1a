package pades

import (
	"bufio"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math"
)

// data opens the decoded data of a stream: no filter, or FlateDecode with PNG predictors, which
// is what cross-reference and object streams are written with. spec: ISO32000-1 §7.4.4
func (d *document) data(s *stream) (io.Reader, error) {
	length, err := d.plain(s.get("Length"))
	if err != nil {
		return nil, err
	}
	n, ok := length.(int64)
	if !ok || n < 0 || n > d.size-s.off {
		return nil, syntax(s.off, "the length of a stream is missing or beyond the end of the file")
	}
	if *d.work -= n; *d.work < 0 {
		return nil, beyond("the streams of the file make reading it more work than the limit allows")
	}
	raw := io.NewSectionReader(d.src, s.off, n)
	filter, err := d.only(s.get("Filter"))
	if err != nil {
		return nil, err
	}
	switch filter {
	case nil:
		return bufio.NewReader(raw), nil
	case name("FlateDecode"), name("Fl"):
	default:
		return nil, syntax(s.off, "filter %v is not read in structural streams", filter)
	}
	z, err := zlib.NewReader(bufio.NewReader(raw))
	if err != nil {
		return nil, syntax(s.off, "FlateDecode: %v", err)
	}
	metered := &meter{z, d.work}
	parms, err := d.only(s.get("DecodeParms"))
	if err != nil {
		return nil, err
	}
	pd, _ := parms.(*dict)
	return predictor(metered, pd, s.off)
}

// plain is resolve for what object streams are read with: it may not come out of one itself,
// or reading would never end.
func (d *document) plain(o object) (object, error) {
	r, ok := o.(ref)
	if !ok {
		return o, nil
	}
	if e, ok := d.lookup(r.num); ok && e.kind != kindFile {
		return nil, syntax(d.size, "object %d describes a structural stream and is in an object stream itself", r.num)
	}
	v, err := d.load(r)
	if _, again := v.(ref); again && err == nil {
		return nil, syntax(d.size, "object %d is a reference", r.num)
	}
	return v, err
}

// only gives the single member of an array, or the value itself.
func (d *document) only(o object) (object, error) {
	v, err := d.plain(o)
	if err != nil {
		return nil, err
	}
	if a, ok := v.(array); ok {
		switch len(a) {
		case 0:
			return nil, nil
		case 1:
			return d.plain(a[0])
		}
		return nil, syntax(-1, "more than one filter on a structural stream")
	}
	return v, nil
}

// meter charges decoded bytes as work: a small stream may hold a great many.
type meter struct {
	r    io.Reader
	work *int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if *m.work -= int64(n); *m.work < 0 {
		return 0, beyond("the streams of the file make reading it more work than the limit allows")
	}
	return n, err
}

func predictor(r io.Reader, parms *dict, off int64) (io.Reader, error) {
	kind := integer(parms.get("Predictor"), 1)
	if kind == 1 {
		return bufio.NewReader(r), nil
	}
	if kind < 10 || kind > 15 {
		return nil, syntax(off, "predictor %d is not read in structural streams", kind)
	}
	columns, colours, bits := integer(parms.get("Columns"), 1), integer(parms.get("Colors"), 1), integer(parms.get("BitsPerComponent"), 8)
	if columns < 1 || columns > 1<<16 || colours < 1 || colours > 32 || bits < 1 || bits > 16 {
		return nil, syntax(off, "parameters of the predictor are out of range")
	}
	pixel := int(max(1, colours*bits/8))
	row := int((columns*colours*bits + 7) / 8)
	return bufio.NewReader(&png{r: r, pixel: pixel, row: make([]byte, row), above: make([]byte, row)}), nil
}

func integer(o object, missing int64) int64 {
	if v, ok := o.(int64); ok {
		return v
	}
	return missing
}

// png undoes the PNG filters row by row.
type png struct {
	r          io.Reader
	pixel      int
	row, above []byte
	left       []byte
}

func (p *png) Read(out []byte) (int, error) {
	if len(p.left) == 0 {
		if err := p.next(); err != nil {
			return 0, err
		}
	}
	n := copy(out, p.left)
	p.left = p.left[n:]
	return n, nil
}

func (p *png) next() error {
	var kind [1]byte
	if _, err := io.ReadFull(p.r, kind[:]); err != nil {
		return err
	}
	p.row, p.above = p.above, p.row
	if _, err := io.ReadFull(p.r, p.row); err != nil {
		return fmt.Errorf("pades: a row of a stream is cut off: %w", err)
	}
	for i := range p.row {
		var left, upLeft int
		up := int(p.above[i])
		if i >= p.pixel {
			left, upLeft = int(p.row[i-p.pixel]), int(p.above[i-p.pixel])
		}
		switch kind[0] {
		case 0:
		case 1:
			p.row[i] += byte(left)
		case 2:
			p.row[i] += byte(up)
		case 3:
			p.row[i] += byte((left + up) / 2)
		case 4:
			p.row[i] += byte(paeth(left, up, upLeft))
		default:
			return fmt.Errorf("pades: a row of a stream has the unknown PNG filter %d", kind[0])
		}
	}
	p.left = p.row
	return nil
}

func paeth(a, b, c int) int {
	abs := func(v int) int { return max(v, -v) }
	p := a + b - c
	pa, pb, pc := abs(p-a), abs(p-b), abs(p-c)
	switch {
	case pa <= pb && pa <= pc:
		return a
	case pb <= pc:
		return b
	}
	return c
}

// objectStream is a decoded one with the places of its objects. spec: ISO32000-1 §7.5.7
type objectStream struct {
	num  uint32
	pos  int64
	nums []uint32
	at   []int
	data []byte
}

// cacheBytes bounds the decoded object streams that are kept.
const cacheBytes = 12 << 20

// objectStream gives the object stream with the number num.
func (d *document) objectStream(num uint32) (*objectStream, error) {
	e, ok := d.lookup(num)
	if !ok || e.kind != kindFile {
		return nil, syntax(d.size, "object stream %d is not in the file", num)
	}
	for i, s := range d.loaded {
		if s.num == num && s.pos == e.pos {
			copy(d.loaded[i:], d.loaded[i+1:])
			d.loaded[len(d.loaded)-1] = s
			return s, nil
		}
	}
	s, err := d.decodeObjects(e)
	if err != nil {
		return nil, err
	}
	total := len(s.data)
	for i := len(d.loaded) - 1; i >= 0; i-- {
		if total += len(d.loaded[i].data); total > cacheBytes {
			d.loaded = append([]*objectStream(nil), d.loaded[i+1:]...)
			break
		}
	}
	d.loaded = append(d.loaded, s)
	return s, nil
}

func (d *document) decodeObjects(e entry) (*objectStream, error) {
	got, value, err := d.indirect(e.pos)
	if err != nil {
		return nil, err
	}
	s, ok := value.(*stream)
	if !ok || got.num != e.num || s.get("Type") != name("ObjStm") {
		return nil, syntax(e.pos, "object %d is not an object stream", e.num)
	}
	r, err := d.data(s)
	if err != nil {
		return nil, err
	}
	out := &objectStream{num: e.num, pos: e.pos}
	// What is cut off inside is found when the object is read.
	out.data, err = io.ReadAll(io.LimitReader(r, int64(d.lim.Stream)+1))
	var limit *LimitError
	if errors.As(err, &limit) {
		return nil, err
	}
	if len(out.data) > d.lim.Stream {
		return nil, beyond("object stream %d decodes to more than %d bytes", e.num, d.lim.Stream)
	}
	n, first := integer(s.get("N"), -1), integer(s.get("First"), -1)
	if n < 0 || first < 0 || first > int64(len(out.data)) || n > first/2+1 {
		return nil, syntax(e.pos, "object stream %d states sizes that cannot be", e.num)
	}
	l := &lexer{b: out.data[:first], base: -1, last: true}
	for range n {
		num, err := l.natural()
		if err != nil {
			return nil, err
		}
		at, err := l.natural()
		if err != nil {
			return nil, err
		}
		if num > maxObjectNumber || at > int64(len(out.data))-first {
			return nil, syntax(e.pos, "object stream %d lists an object beyond its end", e.num)
		}
		out.nums = append(out.nums, uint32(num))
		out.at = append(out.at, int(first+at))
	}
	return out, nil
}

// compressed gives an object out of an object stream.
func (d *document) compressed(e entry) (object, error) {
	s, err := d.objectStream(uint32(e.pos >> 32))
	if err != nil {
		return nil, err
	}
	i := int(e.pos & math.MaxUint32)
	if i >= len(s.nums) || s.nums[i] != e.num {
		if i = indexOf(s.nums, e.num); i < 0 {
			return nil, syntax(s.pos, "object %d is not in object stream %d", e.num, s.num)
		}
	}
	l := &lexer{b: s.data, base: -1, pos: s.at[i], last: true, left: d.lim.Elements}
	v, err := l.object(0)
	if *d.work -= int64(max(0, l.pos-s.at[i])); *d.work < 0 {
		return nil, beyond("the structure of the file makes reading it more work than the limit allows")
	}
	return v, err
}

func indexOf(nums []uint32, num uint32) int {
	for i, n := range nums {
		if n == num {
			return i
		}
	}
	return -1
}
