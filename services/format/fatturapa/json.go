package fatturapa

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// JSON returns the data of the file as JSON. The root element is the object: its
// attributes are "@versione" and "@SistemaEmittente", its namespace is "@xmlns".
// Elements are keys with their statutory names; every value is a string, exactly
// as in the file; elements that the schema lets occur more than once are always
// arrays. Nothing of a file that fits the schema is lost, except an XML signature,
// which no other form of the file could keep valid. [FromJSON] is the way back.
func (f *File) JSON() []byte {
	w := jsonWriter{f: f, b: make([]byte, 0, len(f.src))}
	w.b = append(w.b, `{"@xmlns":`...)
	w.str(f.namespaces[nsInvoice])
	for _, name := range []string{"versione", "SistemaEmittente"} {
		if v, ok := f.Root().Attr(name); ok {
			w.b = append(w.b, `,"@`+name+`":`...)
			w.str(v)
		}
	}
	w.members(0, f.newestTable().root, true)
	w.b = append(w.b, "}\n"...)
	return w.b
}

type jsonWriter struct {
	f *File
	b []byte
}

// members writes the child elements, those of the same name together: one pass
// collects them, so that a file of many names costs no more than one of few.
func (w *jsonWriter) members(id NodeID, d *typeDef, comma bool) {
	f := w.f
	groups := map[string][]NodeID{}
	var order []string
	for c := f.firstChild(id); c != 0; c = f.nodes[c].next {
		if f.nodes[c].ns == nsSignature {
			continue
		}
		name := f.localName(c)
		if groups[name] == nil {
			order = append(order, name)
		}
		groups[name] = append(groups[name], c)
	}
	for _, name := range order {
		if comma {
			w.b = append(w.b, ',')
		}
		comma = true
		w.str(name)
		w.b = append(w.b, ':')
		list := groups[name]
		var below *typeDef
		repeats := len(list) > 1
		if q := d.position(&f.nodes[list[0]]); q > 0 {
			below = d.pos[q].typ
			repeats = repeats || d.pos[q].repeats
		}
		if !repeats {
			w.value(list[0], below)
			continue
		}
		w.b = append(w.b, '[')
		for i, c := range list {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.value(c, below)
		}
		w.b = append(w.b, ']')
	}
}

func (w *jsonWriter) value(id NodeID, d *typeDef) {
	if w.f.nodes[id].flags&flagChildren == 0 && (d == nil || d.facets != nil) {
		w.str(w.f.text(id))
		return
	}
	w.b = append(w.b, '{')
	w.members(id, d, false)
	w.b = append(w.b, '}')
}

// str writes a JSON string (RFC 8259 §7).
func (w *jsonWriter) str(s string) {
	const hex = "0123456789abcdef"
	w.b = append(w.b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			w.b = append(w.b, '\\', c)
		case c == '\n':
			w.b = append(w.b, `\n`...)
		case c < 0x20 || c == 0x7F:
			w.b = append(w.b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			w.b = append(w.b, c)
		}
	}
	w.b = append(w.b, '"')
}

// FromJSON writes the XML of an invoice from the form that [File.JSON] gives:
// elements in the order of the schema, whatever the order of the keys. Values may
// also be JSON numbers, taken as they are written. "@xmlns" may be left out when
// "@versione" tells the format.
//
// It refuses with an error that names the path: keys that the schema does not
// know, objects where a value belongs and the other way round, null and booleans,
// keys written twice, and characters that XML cannot hold. It does not judge: an
// invoice that lacks something is written all the same, for Check to say.
func FromJSON(data []byte) ([]byte, error) {
	if limit := 2 * DefaultLimits().MaxBytes; len(data) > limit {
		return nil, fmt.Errorf("fatturapa: JSON of %d bytes, the limit is %d", len(data), limit)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("fatturapa: the JSON is not UTF-8")
	}
	root, err := readJSON(data)
	if err != nil {
		return nil, err
	}
	if root.kind != jsonObject {
		return nil, fmt.Errorf("fatturapa: the JSON must be an object with the keys FatturaElettronicaHeader and FatturaElettronicaBody")
	}
	family, err := familyOf(root)
	if err != nil {
		return nil, err
	}
	return writeXML(root, family)
}

// familyOf finds the format from "@xmlns", or else from "@versione".
func familyOf(root *jsonValue) (Schema, error) {
	if x := root.member("@xmlns"); x != nil {
		if s := schemaOf[x.text]; s != 0 {
			return s, nil
		}
		return 0, fmt.Errorf("fatturapa: $.@xmlns %q is not the namespace of an invoice", clip(x.text))
	}
	if v := root.member("@versione"); v != nil {
		switch v.text {
		case "FPA12", "FPR12":
			return SchemaOrdinary, nil
		case "FSM10":
			return SchemaSimplified, nil
		case "1.0":
			return SchemaArchive10, nil
		case "1.1":
			return SchemaArchive11, nil
		}
	}
	return 0, fmt.Errorf("fatturapa: $.@versione must be FPA12, FPR12 or FSM10")
}

func writeXML(root *jsonValue, family Schema) ([]byte, error) {
	w := xmlWriter{}
	name := "FatturaElettronica"
	if family == SchemaSimplified {
		name = "FatturaElettronicaSemplificata"
	}
	w.b = append(w.b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<p:"+name...)
	for _, a := range []string{"versione", "SistemaEmittente"} {
		v := root.member("@" + a)
		if v == nil {
			continue
		}
		if v.kind != jsonText || firstForbidden(v.text) >= 0 {
			return nil, fmt.Errorf("fatturapa: $.@%s must be a text", a)
		}
		w.b = append(w.b, ' ')
		w.b = append(w.b, a...)
		w.b = append(w.b, '=', '"')
		w.escape(v.text, true)
		w.b = append(w.b, '"')
	}
	w.b = append(w.b, " xmlns:p=\""+family.Namespace()+"\">\n"...)
	d := tableFor(family, versionsAt(family, 0)[0]).root
	if err := w.members(root, d, "$", 1, []string{"@xmlns", "@versione", "@SistemaEmittente"}); err != nil {
		return nil, err
	}
	w.b = append(w.b, "</p:"+name+">\n"...)
	return w.b, nil
}

type xmlWriter struct{ b []byte }

// members writes the keys of an object in the order of the schema.
func (w *xmlWriter) members(v *jsonValue, d *typeDef, path string, depth int, known []string) error {
	for i := 1; i < len(d.pos); i++ {
		p := &d.pos[i]
		name := tagNames[p.key>>8]
		if uint8(p.key) != nsNone || slices.Contains(known, name) {
			continue
		}
		known = append(known, name)
		m := v.member(name)
		if m == nil {
			continue
		}
		list := []*jsonValue{m}
		if m.kind == jsonArray {
			list = m.items
		}
		for j, item := range list {
			at := path + "." + name
			if m.kind == jsonArray {
				at = fmt.Sprintf("%s[%d]", at, j)
			}
			if err := w.element(item, p.typ, name, at, depth); err != nil {
				return err
			}
		}
	}
	for _, key := range v.keys {
		if !slices.Contains(known, key) {
			return fmt.Errorf("fatturapa: %s.%s is not in the schema; it knows %s", path, clip(key), strings.Join(known, ", "))
		}
	}
	return nil
}

func (w *xmlWriter) element(v *jsonValue, d *typeDef, name, path string, depth int) error {
	for range depth {
		w.b = append(w.b, ' ')
	}
	w.b = append(append(append(w.b, '<'), name...), '>')
	switch {
	case d.facets != nil && v.kind == jsonText:
		if firstForbidden(v.text) >= 0 {
			return fmt.Errorf("fatturapa: %s holds a character that XML does not allow", path)
		}
		w.escape(v.text, false)
	case d.facets == nil && v.kind == jsonObject:
		if len(v.keys) == 0 {
			break // no line end: it would be a text
		}
		w.b = append(w.b, '\n')
		if err := w.members(v, d, path, depth+1, nil); err != nil {
			return err
		}
		for range depth {
			w.b = append(w.b, ' ')
		}
	case d.facets != nil:
		return fmt.Errorf("fatturapa: %s must be a text, not %s", path, v.kind)
	default:
		return fmt.Errorf("fatturapa: %s must be an object, not %s", path, v.kind)
	}
	w.b = append(append(append(w.b, "</"...), name...), ">\n"...)
	return nil
}

// escape writes text so that a parser gives it back unchanged.
func (w *xmlWriter) escape(s string, attribute bool) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '&':
			w.b = append(w.b, "&amp;"...)
		case c == '<':
			w.b = append(w.b, "&lt;"...)
		case c == '>':
			w.b = append(w.b, "&gt;"...)
		case c == '\r':
			w.b = append(w.b, "&#13;"...)
		case attribute && c == '"':
			w.b = append(w.b, "&quot;"...)
		case attribute && c == '\n':
			w.b = append(w.b, "&#10;"...)
		case attribute && c == '\t':
			w.b = append(w.b, "&#9;"...)
		default:
			w.b = append(w.b, c)
		}
	}
}
