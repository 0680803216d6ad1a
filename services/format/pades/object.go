package pades

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// object is a PDF value: nil (null), bool, int64, real, name, text, array, *dict, ref, *stream.
// spec: ISO32000-1 §7.3
type object any

type (
	name  string // decoded, without the solidus
	real  string // as written in the file, so that it is written back unchanged
	array []object
	ref   struct {
		num uint32
		gen uint16
	}
	// text is a string with the place where it stands; off is -1 inside an object stream.
	text struct {
		val      []byte
		off, end int64 // of the token, delimiters included
		hex      bool
	}
	// stream is known by its dictionary and the place where its data begins.
	stream struct {
		*dict
		off int64
	}
)

// dict keeps the order of its entries. Of a repeated key the first is taken and repeated says so.
type dict struct {
	keys     []name
	vals     []object
	index    map[name]int
	repeated []name
}

func (d *dict) find(k name) int {
	if d == nil {
		return -1
	}
	if d.index != nil {
		if i, ok := d.index[k]; ok {
			return i
		}
		return -1
	}
	for i, have := range d.keys {
		if have == k {
			return i
		}
	}
	return -1
}

func (d *dict) get(k name) object {
	if i := d.find(k); i >= 0 {
		return d.vals[i]
	}
	return nil
}

func (d *dict) has(k name) bool { return d.find(k) >= 0 }

// set replaces or adds.
func (d *dict) set(k name, v object) {
	if i := d.find(k); i >= 0 {
		d.vals[i] = v
		return
	}
	d.add(k, v)
}

func (d *dict) add(k name, v object) {
	if d.find(k) >= 0 {
		d.repeated = append(d.repeated, k)
		return
	}
	d.keys = append(d.keys, k)
	d.vals = append(d.vals, v)
	switch {
	case d.index != nil:
		d.index[k] = len(d.keys) - 1
	case len(d.keys) > 16:
		d.index = make(map[name]int, 64)
		for i, have := range d.keys {
			d.index[have] = i
		}
	}
}

// clone copies the entries, not what they hold.
func (d *dict) clone() *dict {
	c := &dict{}
	if d != nil {
		for i, k := range d.keys {
			c.add(k, d.vals[i])
		}
	}
	return c
}

func newDict(pairs ...any) *dict {
	d := &dict{}
	for i := 0; i+1 < len(pairs); i += 2 {
		d.add(name(pairs[i].(string)), pairs[i+1])
	}
	return d
}

// number reads an integer or a real.
func number(o object) (float64, bool) {
	switch v := o.(type) {
	case int64:
		return float64(v), true
	case real:
		f, err := strconv.ParseFloat(string(v), 64)
		return f, err == nil
	}
	return 0, false
}

// appendObject writes a value. Streams are written by their owners.
func appendObject(b []byte, o object) []byte {
	switch v := o.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case real:
		return append(b, v...)
	case name:
		return appendName(b, v)
	case text:
		if v.hex {
			b = append(b, '<')
			b = hex.AppendEncode(b, v.val)
			return append(b, '>')
		}
		return appendLiteral(b, v.val)
	case ref:
		b = strconv.AppendUint(b, uint64(v.num), 10)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(v.gen), 10)
		return append(b, " R"...)
	case array:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ' ')
			}
			b = appendObject(b, e)
		}
		return append(b, ']')
	case *dict:
		b = append(b, "<<"...)
		for i, k := range v.keys {
			if i > 0 {
				b = append(b, '\n')
			}
			b = appendName(b, k)
			b = append(b, ' ')
			b = appendObject(b, v.vals[i])
		}
		return append(b, ">>"...)
	}
	return append(b, "null"...)
}

// appendName: spec: ISO32000-1 §7.3.5
func appendName(b []byte, n name) []byte {
	b = append(b, '/')
	for i := 0; i < len(n); i++ {
		if c := n[i]; c <= ' ' || c >= 0x7f || c == '#' || isDelimiter(c) {
			b = append(b, '#')
			b = hex.AppendEncode(b, []byte{c})
		} else {
			b = append(b, c)
		}
	}
	return b
}

// appendLiteral: spec: ISO32000-1 §7.3.4.2
func appendLiteral(b, val []byte) []byte {
	b = append(b, '(')
	for _, c := range val {
		switch c {
		case '(', ')', '\\':
			b = append(b, '\\', c)
		case '\r':
			b = append(b, "\\r"...)
		case '\n':
			b = append(b, "\\n"...)
		default:
			b = append(b, c)
		}
	}
	return append(b, ')')
}

// encodeText makes a text string: ASCII as it is, anything else in UTF-16BE.
// spec: ISO32000-1 §7.9.2.2
func encodeText(s string) text {
	ascii := true
	for i := 0; i < len(s); i++ {
		ascii = ascii && s[i] >= ' ' && s[i] < 0x7f
	}
	if ascii {
		return text{val: []byte(s)}
	}
	out := []byte{0xFE, 0xFF}
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u>>8), byte(u))
	}
	return text{val: out, hex: true}
}

// decodeText reads a text string; bytes that belong to no encoding become Latin-1.
func decodeText(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte{0xFE, 0xFF}):
		units := make([]uint16, 0, len(b)/2)
		for i := 2; i+1 < len(b); i += 2 {
			units = append(units, uint16(b[i])<<8|uint16(b[i+1]))
		}
		return string(utf16.Decode(units))
	case bytes.HasPrefix(b, []byte{0xEF, 0xBB, 0xBF}) && utf8.Valid(b):
		return string(b[3:])
	}
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}
