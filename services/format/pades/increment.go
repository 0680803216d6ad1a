package pades

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
)

// increment is what is appended to a file. spec: ISO32000-1 §7.5.6
type increment struct {
	d       *document
	b       []byte
	placed  []entry // objects written, with their offsets in the finished file
	edits   []edit  // objects of the file that get a new version
	nextNum uint32
}

type edit struct {
	r ref
	o object
}

// maxNewNumber leaves room below the largest number that readers take.
// spec: ISO32000-1 Annex C.2
const maxNewNumber = 8388607 - 100

func newIncrement(d *document) (*increment, error) {
	u := &increment{d: d, nextNum: d.next()}
	if u.nextNum > maxNewNumber {
		return nil, beyond("the file numbers its objects up to %d: there is no number left that readers take", u.nextNum-1)
	}
	if d.size > 0 {
		var last [1]byte
		if err := d.readAt(last[:], d.size-1); err != nil {
			return nil, err
		}
		if last[0] != '\n' {
			u.b = append(u.b, '\n')
		}
	}
	return u, nil
}

// reserve gives the number of a new object.
func (u *increment) reserve() ref {
	r := ref{num: u.nextNum}
	u.nextNum++
	return r
}

// editDict gives a copy of a dictionary of the file that is written anew at the end.
func (u *increment) editDict(r ref) (*dict, error) {
	for _, e := range u.edits {
		if e.r == r {
			di, ok := e.o.(*dict)
			if !ok {
				return nil, syntax(u.d.size, "object %d is not a dictionary", r.num)
			}
			return di, nil
		}
	}
	v, err := u.d.load(r)
	if err != nil {
		return nil, err
	}
	di, ok := v.(*dict)
	if !ok {
		return nil, syntax(u.d.size, "object %d is not a dictionary", r.num)
	}
	c := di.clone()
	u.edits = append(u.edits, edit{r, c})
	return c, nil
}

// appendTo adds a value to an array under key, which may stand in the owner or on its own.
func (u *increment) appendTo(owner *dict, key name, v object) error {
	if r, ok := owner.get(key).(ref); ok {
		for i := range u.edits {
			if u.edits[i].r == r {
				a, _ := u.edits[i].o.(array)
				u.edits[i].o = append(slices.Clone(a), v)
				return nil
			}
		}
		a, err := u.d.array(r)
		if err != nil {
			return err
		}
		if a != nil {
			u.edits = append(u.edits, edit{r, append(slices.Clone(a), v)})
			return nil
		}
	}
	a, err := u.d.array(owner.get(key))
	if err != nil {
		return err
	}
	owner.set(key, append(slices.Clone(a), v))
	return nil
}

func (u *increment) offset() int64 { return u.d.size + int64(len(u.b)) }

// begin opens an object.
func (u *increment) begin(r ref) {
	u.placed = append(u.placed, entry{pos: u.offset(), num: r.num, gen: r.gen, kind: kindFile})
	u.b = fmt.Appendf(u.b, "%d %d obj\n", r.num, r.gen)
}

func (u *increment) end() { u.b = append(u.b, "\nendobj\n"...) }

func (u *increment) put(r ref, o object) {
	u.begin(r)
	u.b = appendObject(u.b, o)
	u.end()
}

func (u *increment) putStream(r ref, d *dict, data []byte) {
	d.set("Length", int64(len(data)))
	u.begin(r)
	u.b = appendObject(u.b, d)
	u.b = append(u.b, "\nstream\n"...)
	u.b = append(u.b, data...)
	u.b = append(u.b, "\nendstream"...)
	u.end()
}

// finish writes the edited objects, the cross-reference section in the form that the file uses,
// and the end. A file whose table was broken gets a whole new one.
func (u *increment) finish() error {
	for _, e := range u.edits {
		u.put(e.r, e.o)
	}
	asStream := u.d.asStream
	var self ref
	start := u.offset()
	if asStream {
		self = u.reserve()
		u.placed = append(u.placed, entry{pos: start, num: self.num, kind: kindFile})
	}
	list := slices.Clone(u.placed)
	if u.d.repaired != "" {
		list = append(list, u.d.entries...)
		list = append(list, entry{num: 0, gen: 65535})
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(a.num, b.num) })
	list = slices.CompactFunc(list, func(a, b entry) bool { return a.num == b.num })
	trailer := newDict("Size", int64(u.nextNum))
	for _, k := range []name{"Root", "Info"} {
		if v := u.d.trailer.get(k); v != nil {
			trailer.add(k, v)
		}
	}
	if len(u.d.sections) > 0 {
		trailer.add("Prev", u.d.sections[0])
	}
	trailer.add("ID", u.identifiers())
	if asStream {
		u.writeStream(self, list, trailer)
	} else {
		u.writeTable(list, trailer)
	}
	u.b = fmt.Appendf(u.b, "startxref\n%d\n%%%%EOF\n", start)
	return nil
}

// identifiers keeps the first file identifier and renews the second. spec: ISO32000-1 §14.4
func (u *increment) identifiers() array {
	sum := sha256.Sum256(u.b)
	second := text{val: sum[:16], hex: true}
	if old, ok := u.d.trailer.get("ID").(array); ok && len(old) == 2 {
		if first, ok := old[0].(text); ok {
			return array{first, second}
		}
	}
	return array{second, second}
}

// writeTable: spec: ISO32000-1 §7.5.4
func (u *increment) writeTable(list []entry, trailer *dict) {
	u.b = append(u.b, "xref\n"...)
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n].num == list[i].num+uint32(n) {
			n++
		}
		u.b = fmt.Appendf(u.b, "%d %d\n", list[i].num, n)
		for _, e := range list[i : i+n] {
			kind := 'n'
			if e.kind == kindFree {
				kind = 'f'
			}
			u.b = fmt.Appendf(u.b, "%010d %05d %c \n", e.pos, e.gen, kind)
		}
		i += n
	}
	u.b = append(u.b, "trailer\n"...)
	u.b = appendObject(u.b, trailer)
	u.b = append(u.b, '\n')
}

// writeStream: spec: ISO32000-1 §7.5.8
func (u *increment) writeStream(self ref, list []entry, trailer *dict) {
	var data []byte
	var index array
	for i, e := range list {
		if i == 0 || list[i-1].num+1 != e.num {
			index = append(index, int64(e.num), int64(0))
		}
		index[len(index)-1] = index[len(index)-1].(int64) + 1
		second, third := uint64(e.pos), uint64(e.gen)
		if e.kind == kindStream {
			second, third = uint64(e.pos>>32), uint64(uint32(e.pos))
		}
		data = append(data, e.kind, byte(second>>32), byte(second>>24), byte(second>>16), byte(second>>8), byte(second),
			byte(third>>24), byte(third>>16), byte(third>>8), byte(third))
	}
	d := newDict("Type", name("XRef"))
	for i, k := range trailer.keys {
		d.add(k, trailer.vals[i])
	}
	d.add("W", array{int64(1), int64(5), int64(4)})
	d.add("Index", index)
	d.add("Length", int64(len(data)))
	u.b = fmt.Appendf(u.b, "%d 0 obj\n", self.num)
	u.b = appendObject(u.b, d)
	u.b = append(u.b, "\nstream\n"...)
	u.b = append(u.b, data...)
	u.b = append(u.b, "\nendstream\nendobj\n"...)
}
