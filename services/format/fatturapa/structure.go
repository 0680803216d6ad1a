package fatturapa

import (
	"fmt"
	"strings"
)

// maxFormatFindings is where SdI stops: beyond it there is 00201 and no further
// control is made.
//
// spec: AllA-1.9 App.1, control 00201
const maxFormatFindings = 50

const (
	codeFormat    = "00200"
	codeTooMany   = "00201"
	clauseFormat  = "AllA-1.9 App.1 (00200); schema "
	clauseTooMany = "AllA-1.9 App.1 (00201)"
)

// StructureOptions chooses the version of the schema.
type StructureOptions struct {
	// Version is a version of the schema of the file, e.g. "1.2.1"; "" is the
	// newest. Archive files have one version each.
	Version string
}

// CheckStructure compares a file with the official schema: elements, order,
// occurrence, types, lengths, patterns and closed lists. Every violation is a
// finding with code 00200; after fifty of them one with 00201 ends the report and
// Omitted says how many more there are. An unknown version is an error.
//
// What XML Signature and the schema agree on is checked too; what XAdES adds
// inside ds:Object is not, since its schema is not part of the format.
func CheckStructure(f *File, o StructureOptions) (*Report, error) {
	version := o.Version
	if version == "" {
		version = versionsAt(f.Schema, 0)[0]
	}
	t := tableFor(f.Schema, version)
	if t == nil || t.version != version || !belongs(f.Schema, version) {
		return nil, fmt.Errorf("fatturapa: schema %s has no version %q", f.Schema, version)
	}
	r := &Report{SchemaVersion: version}
	checkStructure(f, t, r)
	return r, nil
}

func belongs(s Schema, version string) bool {
	for _, v := range schemaVersions {
		if v.family == s && v.version == version {
			return true
		}
	}
	return false
}

// checkStructure adds the violations of a table to a report and returns their number.
func checkStructure(f *File, t *schemaTable, r *Report) int {
	c := structureCheck{f: f, t: t, r: r}
	for _, d := range f.Deviations {
		c.deviation(d)
	}
	c.element(0, t.root, "")
	if c.count > maxFormatFindings {
		r.Findings = append(r.Findings, Finding{
			Code: codeTooMany, Severity: SeverityError, Clause: clauseTooMany,
			Message: Text{"Il file contiene più di 50 errori di formato: gli altri controlli non vengono eseguiti",
				"The file has more than 50 format errors: no further control is made"},
			Hint:   Text{"Correggere gli errori 00200 elencati e ripetere il controllo", "Mend the errors 00200 that are listed and check again"},
			Actual: fmt.Sprint(c.count), Expected: "0-50",
		})
	}
	r.Omitted += max(0, c.count-maxFormatFindings)
	return c.count
}

type structureCheck struct {
	f     *File
	t     *schemaTable
	r     *Report
	count int
	ids   map[string]bool
}

var nothing = Text{}

// add records a violation at an element.
func (c *structureCheck) add(id NodeID, path string, msg, hint Text, actual string, expected Text) {
	c.count++
	if c.count > maxFormatFindings {
		return
	}
	x := Finding{
		Code: codeFormat, Severity: SeverityError, Message: msg, Hint: hint,
		XPath: c.f.XPath(id) + path, JSONPath: c.f.JSONPath(id) + strings.Replace(path, "/", ".", 1), Line: c.f.Line(id),
		Actual: clip(actual), Expected: expected.EN, Clause: clauseFormat + c.t.version,
	}
	if expected.IT != expected.EN {
		x.ExpectedIT = expected.IT
	}
	c.r.Findings = append(c.r.Findings, x)
}

func (c *structureCheck) deviation(d Deviation) {
	c.add(0, "", Text{"Byte estranei prima o dopo il documento XML (" + d.Name + ")", "Stray bytes before or after the XML document (" + d.Name + ")"},
		Text{"Eliminare quanto precede la dichiarazione XML e quanto segue l'elemento radice", "Remove what comes before the XML declaration and after the root element"},
		d.Name, nothing)
}

// element checks one element against its type.
func (c *structureCheck) element(id NodeID, d *typeDef, byDef string) {
	n := &c.f.nodes[id]
	if n.attrs != 0 || d.attrs != nil {
		c.attributes(id, d)
	}
	if d.facets != nil {
		c.value(id, d, byDef)
		return
	}
	if !d.mixed && (n.flags&flagMixed != 0 || n.flags&flagChildren == 0 && n.val.len != 0 && !isBlank(c.f.ref(n.val))) {
		c.add(id, "", Text{"L'elemento " + c.f.localName(id) + " non può contenere testo", "Element " + c.f.localName(id) + " cannot hold text"},
			Text{"Togliere il testo fra gli elementi figli", "Remove the text between the child elements"}, c.f.text(id), nothing)
	}
	c.children(id, d)
}

// children walks the automaton of the content model. After a violation it goes
// on from the most likely place, so that one fault gives one finding.
func (c *structureCheck) children(id NodeID, d *typeDef) {
	f := c.f
	state := 0
	for ch := f.firstChild(id); ch != 0; ch = f.nodes[ch].next {
		n := &f.nodes[ch]
		key := keyOf(n.tag, n.ns)
		q := d.step(state, key)
		if q == 0 {
			c.unexpected(id, ch, d, state)
			if q = d.reachable(state, key); q != 0 {
				state = q
			} else if q = d.anywhere(key); q == 0 {
				continue
			}
		} else {
			state = q
		}
		if p := &d.pos[q]; p.wild == wildNone {
			c.element(ch, p.typ, p.byDef)
		} else {
			c.wild(ch, p.wild == wildAnyLax || p.wild == wildOtherLax)
		}
	}
	if !d.accept[state] {
		want := strings.Join(d.expected(state), ", ")
		name := f.localName(id)
		c.add(id, "", Text{"Nell'elemento " + name + " manca un elemento obbligatorio", "Element " + name + " lacks a mandatory element"},
			Text{"Aggiungere in fondo a " + name + ": " + want, "Add at the end of " + name + ": " + want}, "", plain(want))
	}
}

func (c *structureCheck) unexpected(parent, ch NodeID, d *typeDef, state int) {
	name := c.f.localName(ch)
	want := strings.Join(d.expected(state), ", ")
	if want == "" {
		want = "/" + c.f.localName(parent)
	}
	hint := Text{"Rispettare l'ordine dello schema; qui è ammesso: " + want, "Keep the order of the schema; allowed here: " + want}
	switch {
	case c.f.nodes[ch].ns == nsInvoice:
		hint = Text{"Solo l'elemento radice ha il prefisso del namespace: togliere prefisso o xmlns predefinito", "Only the root carries the namespace: remove the prefix or the default xmlns"}
	case d.anywhere(keyOf(c.f.nodes[ch].tag, c.f.nodes[ch].ns)) == 0:
		hint = Text{"Lo schema non prevede " + name + " in " + c.f.localName(parent) + ": toglierlo; qui è ammesso: " + want,
			"The schema has no " + name + " in " + c.f.localName(parent) + ": remove it; allowed here: " + want}
	}
	c.add(ch, "", Text{"L'elemento " + name + " non è ammesso in questa posizione", "Element " + name + " is not allowed in this place"}, hint, name, plain(want))
}

// value checks the text of an element without children.
func (c *structureCheck) value(id NodeID, d *typeDef, byDef string) {
	n := &c.f.nodes[id]
	if n.flags&flagChildren != 0 {
		name := c.f.localName(id)
		c.add(id, "", Text{"L'elemento " + name + " non può contenere altri elementi", "Element " + name + " cannot hold other elements"},
			Text{"Scrivere in " + name + " solo il valore", "Write only the value into " + name}, c.f.localName(id+1), nothing)
		return
	}
	s := ""
	if n.val.len != 0 {
		s = c.f.ref(n.val)
	} else {
		s = byDef // an empty element takes the default of the schema
	}
	if d.facets.valid(s) {
		if d.facets.kind == kindID {
			c.unique(id, s, "")
		}
		return
	}
	name := c.f.localName(id)
	it, en := d.facets.describe()
	hint := Text{"Valore ammesso: " + it, "Allowed value: " + en}
	if s == "" {
		hint = Text{"Un elemento facoltativo senza valore va omesso; valore ammesso: " + it, "Leave an optional element without value out; allowed value: " + en}
	}
	c.add(id, "", Text{"Il valore di " + name + " non rispetta il formato", "The value of " + name + " does not fit the format"}, hint, s, Text{it, en})
}

// attributes checks the attributes of one element. Those of XML Schema instance
// are allowed everywhere, but an element of ours can be neither nil nor retyped.
func (c *structureCheck) attributes(id NodeID, d *typeDef) {
	f := c.f
	found := 0
	lo, hi := f.attrsOf(id)
	for i := lo; i < hi; i++ {
		a := &f.attrs[i]
		if a.ns == nsInstance {
			c.instance(id, a, d)
			continue
		}
		decl := -1
		for j := range d.attrs {
			if a.ns == nsNone && d.attrs[j].name == a.name {
				decl = j
			}
		}
		if decl < 0 {
			c.add(id, "/@"+a.name, Text{"L'attributo " + a.name + " non è ammesso", "Attribute " + a.name + " is not allowed"},
				Text{"Togliere l'attributo", "Remove the attribute"}, a.val, nothing)
			continue
		}
		found |= 1 << decl
		st := d.attrs[decl].typ.facets
		if !st.valid(a.val) {
			it, en := st.describe()
			c.add(id, "/@"+a.name, Text{"Il valore dell'attributo " + a.name + " non rispetta il formato", "The value of attribute " + a.name + " does not fit the format"},
				Text{"Valore ammesso: " + it, "Allowed value: " + en}, a.val, Text{it, en})
		} else if st.kind == kindID {
			c.unique(id, a.val, "/@"+a.name)
		}
	}
	for j := range d.attrs {
		if d.attrs[j].required && found&(1<<j) == 0 {
			name := d.attrs[j].name
			c.add(id, "/@"+name, Text{"Manca l'attributo obbligatorio " + name, "The mandatory attribute " + name + " is missing"},
				Text{"Aggiungere " + name + " all'elemento " + f.localName(id), "Add " + name + " to element " + f.localName(id)}, "", plain(name))
		}
	}
}

// instance checks an attribute of the XML Schema instance namespace.
func (c *structureCheck) instance(id NodeID, a *attribute, d *typeDef) {
	switch a.name {
	case "schemaLocation", "noNamespaceSchemaLocation":
		return
	case "type":
		if _, local := splitName(a.val); local == d.name {
			return
		}
	}
	c.add(id, "/@"+a.name, Text{"L'attributo xsi:" + a.name + " non è ammesso", "Attribute xsi:" + a.name + " is not allowed"},
		Text{"Togliere l'attributo; un elemento senza valore va omesso", "Remove the attribute; leave an element without value out"}, a.val, nothing)
}

// attrsOf finds the attributes of an element: they are stored in document order.
func (f *File) attrsOf(id NodeID) (lo, hi int) {
	n := int(f.nodes[id].attrs)
	if n == 0 {
		return 0, 0
	}
	lo, hi = 0, len(f.attrs)
	for lo < hi {
		if mid := (lo + hi) / 2; f.attrs[mid].node < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo + n
}

// unique checks that an identifier is used once in the file.
func (c *structureCheck) unique(id NodeID, val, path string) {
	val = trim(val)
	if c.ids == nil {
		c.ids = map[string]bool{}
	}
	if c.ids[val] {
		c.add(id, path, Text{"L'identificativo " + val + " è ripetuto", "Identifier " + val + " is used twice"},
			Text{"Usare identificativi diversi", "Use different identifiers"}, val, nothing)
	}
	c.ids[val] = true
}

// wild checks an element that a wildcard let in: against its declaration when
// there is one, which strict processing demands.
func (c *structureCheck) wild(id NodeID, lax bool) {
	n := &c.f.nodes[id]
	if d := c.t.globals[keyOf(n.tag, n.ns)]; d != nil && n.tag != tagUnknown {
		c.element(id, d, "")
		return
	}
	if !lax {
		name := c.f.localName(id)
		c.add(id, "", Text{"L'elemento " + name + " non è dichiarato in alcuno schema", "Element " + name + " is declared in no schema"},
			Text{"Togliere l'elemento", "Remove the element"}, name, nothing)
		return
	}
	for ch := c.f.firstChild(id); ch != 0; ch = c.f.nodes[ch].next {
		c.wild(ch, true)
	}
}
