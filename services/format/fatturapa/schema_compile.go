package fatturapa

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// schemaTable is a compiled table for one version: what structure.go walks.
type schemaTable struct {
	family  Schema
	version string
	root    *typeDef
	globals map[elementKey]*typeDef // declarations that wildcards may meet
}

// elementKey is the expanded name of an element: tag and namespace.
type elementKey uint32

func keyOf(t tag, ns uint8) elementKey { return elementKey(t)<<8 | elementKey(ns) }

// typeDef is a type. A simple one has only facets; a complex one has an
// automaton over its child elements.
type typeDef struct {
	name   string
	facets *simpleType // of a simple type, or the content of a complex one without children
	mixed  bool
	attrs  []attrDecl
	pos    []particle // one for each element of the content model; 0 is the start
	next   [][]uint16 // positions that may follow each position
	accept []bool     // whether the content may end after each position
}

// particle is one element, or wildcard, of a content model.
type particle struct {
	key     elementKey
	typ     *typeDef
	repeats bool // the element may occur more than once
	wild    wildcard
	byDef   string // default value of the schema, for an empty element
}

type wildcard uint8

const (
	wildNone wildcard = iota
	wildAnyStrict
	wildAnyLax
	wildOtherStrict
	wildOtherLax
)

type attrDecl struct {
	name     string
	typ      *typeDef
	required bool
}

// Versions of each family and when they are in force at SdI: from (inclusive) is
// the first day on which files of the version are taken, until the last.
//
// spec: AllA-1.9 change log; the end of 2020 knew two versions side by side
var schemaVersions = []struct {
	family      Schema
	version     string
	from, until int // ordinals; 0 is open
}{
	{SchemaArchive10, "1.0", 0, 0},
	{SchemaArchive11, "1.1", 0, 0},
	{SchemaOrdinary, "1.2.3", 20250401, 0},
	{SchemaOrdinary, "1.2.2", 20221001, 20250331},
	{SchemaOrdinary, "1.2.1", 20201001, 20220930},
	{SchemaOrdinary, "1.2", 0, 20201231},
	{SchemaSimplified, "1.0.2", 20250401, 0},
	{SchemaSimplified, "1.0.1", 20201001, 20250331},
	{SchemaSimplified, "1.0.0", 0, 20201231},
}

// versionsAt lists the versions in force on a day, the newest first. Ordinal 0
// means the newest of all.
func versionsAt(family Schema, day int) []string {
	var out []string
	for _, v := range schemaVersions {
		if v.family != family {
			continue
		}
		if day == 0 {
			return []string{v.version}
		}
		if day >= v.from && (v.until == 0 || day <= v.until) {
			out = append(out, v.version)
		}
	}
	return out
}

var compiled struct {
	sync.Mutex
	tables map[string]*schemaTable
}

// tableFor compiles a table when it is first needed.
func tableFor(family Schema, version string) *schemaTable {
	compiled.Lock()
	defer compiled.Unlock()
	key := family.String() + "/" + version
	if t := compiled.tables[key]; t != nil {
		return t
	}
	text, versions := ordinaryTable, ordinaryVersions
	if family == SchemaSimplified {
		text, versions = simplifiedTable, simplifiedVersions
	}
	c := compiler{versions: versions, version: slices.Index(versions, version), types: map[string]*typeDef{}}
	if c.version < 0 {
		return nil
	}
	t := &schemaTable{family: family, version: version, globals: map[elementKey]*typeDef{}}
	c.compile(text, t)
	t.root = c.typeNamed("FatturaElettronicaType")
	rootTag := tagFatturaElettronica
	if family == SchemaSimplified {
		rootTag = tagFatturaElettronicaSemplificata
	}
	t.globals[keyOf(rootTag, nsInvoice)] = t.root
	if compiled.tables == nil {
		compiled.tables = map[string]*schemaTable{}
	}
	compiled.tables[key] = t
	return t
}

// compiler reads the notation of schema_ordinary.go. The tables are constants of
// this package, and a test compiles each: a fault in them is a fault of the
// program, so it panics.
type compiler struct {
	versions []string
	version  int
	types    map[string]*typeDef
	lines    [][]string
	at       int
}

// expr is a node of a content model.
type expr struct {
	op   byte // 'e' element or wildcard, 's' sequence, 'c' choice
	occ  byte // 0, '?', '*', '+'
	kids []*expr
	p    particle
	pos  int
}

func (c *compiler) typeNamed(name string) *typeDef {
	if c.types[name] == nil {
		c.types[name] = &typeDef{name: name}
	}
	return c.types[name]
}

// applies cuts "since V", "until V" off a line and says whether it holds for the
// version that is compiled.
func (c *compiler) applies(words []string) ([]string, bool) {
	ok := true
	for len(words) >= 2 {
		kind := words[len(words)-2]
		if kind != "since" && kind != "until" {
			break
		}
		v := slices.Index(c.versions, words[len(words)-1])
		if v < 0 {
			panic("fatturapa: schema table: unknown version in " + strings.Join(words, " "))
		}
		if kind == "since" && c.version < v || kind == "until" && c.version > v {
			ok = false
		}
		words = words[:len(words)-2]
	}
	return words, ok
}

func (c *compiler) compile(text string, t *schemaTable) {
	for line := range strings.Lines(text) {
		words, ok := c.applies(strings.Fields(line))
		if len(words) > 0 && (ok || words[0] == "type") {
			c.lines = append(c.lines, words)
		}
	}
	for c.at < len(c.lines) {
		w := c.lines[c.at]
		c.at++
		switch w[0] {
		case "type":
			c.complexType(w)
		case "simple":
			c.typeNamed(w[1]).facets = newSimpleType(w[1], w[2:])
		case "enum":
			c.enum(w)
		case "global":
			tg, ns := elementName(w[1])
			t.globals[keyOf(tg, ns)] = c.typeNamed(w[2])
		default:
			panic("fatturapa: schema table: " + strings.Join(w, " "))
		}
	}
	for name, d := range c.types {
		if d.facets == nil && d.next == nil {
			panic("fatturapa: schema table: type " + name + " is not defined")
		}
	}
}

func (c *compiler) enum(w []string) {
	values := expandRanges(w[2:])
	for c.at < len(c.lines) && c.lines[c.at][0] == "+" {
		values = append(values, expandRanges(c.lines[c.at][1:])...)
		c.at++
	}
	slices.Sort(values)
	c.typeNamed(w[1]).facets = &simpleType{name: w[1], kind: kindEnum, values: values}
}

// expandRanges turns A01-A03 into A01 A02 A03.
func expandRanges(words []string) []string {
	var out []string
	for _, w := range words {
		from, to, ok := strings.Cut(w, "-")
		if !ok {
			out = append(out, w)
			continue
		}
		i := len(from)
		for i > 0 && from[i-1] >= '0' && from[i-1] <= '9' {
			i--
		}
		lo, err1 := strconv.Atoi(from[i:])
		hi, err2 := strconv.Atoi(to[i:])
		if err1 != nil || err2 != nil {
			panic("fatturapa: schema table: range " + w)
		}
		for n := lo; n <= hi; n++ {
			out = append(out, fmt.Sprintf("%s%0*d", from[:i], len(from)-i, n))
		}
	}
	return out
}

// elementName reads ELEMENT or ds:ELEMENT.
func elementName(s string) (tag, uint8) {
	ns := nsNone
	if rest, ok := strings.CutPrefix(s, "ds:"); ok {
		s, ns = rest, nsSignature
	}
	t := lookupTag(s)
	if t == tagUnknown {
		panic("fatturapa: schema table: element " + s + " is not in names.go")
	}
	return t, ns
}

// complexType reads the lines of one type and builds its automaton.
func (c *compiler) complexType(w []string) {
	d := c.typeNamed(w[1])
	for i := 2; i < len(w); i++ {
		switch w[i] {
		case "mixed":
			d.mixed = true
		case "content":
			i++
			d.facets = newSimpleType(w[i], []string{"base64"})
		}
	}
	root := &expr{op: 's'}
	c.sequence(root, d)
	d.pos = []particle{{}}
	d.next = [][]uint16{nil}
	d.number(root)
	d.follow(root)
	first, _, nullable := root.ends()
	d.next[0] = first
	d.accept = make([]bool, len(d.pos))
	d.accept[0] = nullable
	_, last, _ := root.ends()
	for _, p := range last {
		d.accept[p] = true
	}
	d.markRepeats()
}

// sequence reads lines into e until something that is not content.
func (c *compiler) sequence(e *expr, d *typeDef) {
	for c.at < len(c.lines) {
		w := c.lines[c.at]
		switch {
		case w[0] == "attr":
			c.at++
			d.attrs = append(d.attrs, attrDecl{name: w[1], typ: c.typeNamed(w[2]), required: len(w) > 3 && w[3] == "!"})
		case strings.HasPrefix(w[0], "choice"):
			c.at++
			ch := &expr{op: 'c', occ: occurrence(strings.TrimPrefix(w[0], "choice"))}
			for more := true; more; {
				alt := &expr{op: 's'}
				c.sequence(alt, d)
				ch.kids = append(ch.kids, alt)
				more = c.lines[c.at][0] == "or"
				c.at++
			}
			e.kids = append(e.kids, ch)
		case w[0] == "any":
			c.at++
			leaf := &expr{op: 'e', p: particle{wild: wildcardOf(w[1], w[2])}}
			if len(w) > 3 {
				leaf.occ = occurrence(w[3])
			}
			e.kids = append(e.kids, leaf)
		case slices.Contains([]string{"type", "simple", "enum", "global", "or", "end"}, w[0]):
			return
		default:
			c.at++
			e.kids = append(e.kids, c.element(w))
		}
	}
}

func (c *compiler) element(w []string) *expr {
	t, ns := elementName(w[0])
	leaf := &expr{op: 'e', p: particle{key: keyOf(t, ns), typ: c.typeNamed(w[1])}}
	switch {
	case len(w) == 4 && w[2] == "default":
		leaf.p.byDef = w[3]
	case len(w) == 3:
		leaf.occ = occurrence(w[2])
	case len(w) != 2:
		panic("fatturapa: schema table: " + strings.Join(w, " "))
	}
	return leaf
}

func wildcardOf(space, process string) wildcard {
	switch space + " " + process {
	case "any strict":
		return wildAnyStrict
	case "any lax":
		return wildAnyLax
	case "other strict":
		return wildOtherStrict
	case "other lax":
		return wildOtherLax
	}
	panic("fatturapa: schema table: any " + space + " " + process)
}

func occurrence(s string) byte {
	switch s {
	case "":
		return 0
	case "?", "*", "+":
		return s[0]
	}
	panic("fatturapa: schema table: occurrence " + s)
}
