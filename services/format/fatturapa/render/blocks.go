package render

import (
	"slices"
	"strings"

	"ceralacca.dev/services/format/fatturapa"
)

// section shows a block with a heading of its own; level is "h2" or "h3".
func (p *page) section(e fatturapa.Element, level, class string) {
	p.raw("<section")
	if class != "" {
		p.raw(" class=\"", class, "\"")
	}
	p.raw(">\n<", level, ">")
	p.label(e)
	p.raw("</", level, ">\n<dl class=\"kv\">\n")
	if e.HasChildren() {
		p.fields(e)
	} else {
		p.field(e)
	}
	p.raw("</dl>\n</section>\n")
}

// label writes the words for an element, or its own name when it is unknown.
func (p *page) label(e fatturapa.Element) {
	name := p.named(e)
	if name == "Data" && p.named(e.Parent()) == "DatiVeicoli" {
		p.say(wordRegistered)
		return
	}
	if d, ok := elements[name]; ok && name != "" {
		p.say(d.label)
		return
	}
	p.text(e.Name())
}

// fields shows the children of a block as rows of the list that is open.
func (p *page) fields(e fatturapa.Element) {
	for c := range p.business(e) {
		p.field(c)
	}
}

// field shows one element as a row: a value, an identifier or an address in one
// line, or a list inside the list. Blocks that only group are not shown as such.
func (p *page) field(e fatturapa.Element) {
	d := elements[p.named(e)]
	if e.HasChildren() && d.kind == kindGroup {
		p.fields(e)
		return
	}
	p.raw("<div")
	if e.HasChildren() && d.kind != kindID && d.kind != kindAddress {
		p.raw(" class=\"sub\"")
	}
	p.raw("><dt>")
	p.label(e)
	p.raw("</dt><dd>")
	p.content(e, d)
	p.raw("</dd></div>\n")
}

// content shows what an element holds.
func (p *page) content(e fatturapa.Element, d element) {
	switch {
	case !e.HasChildren():
		p.leaf(d, e.Text())
	case d.kind == kindID:
		p.joined(e, idSeparators)
	case d.kind == kindAddress:
		p.joined(e, addressSeparators)
	default:
		p.raw("\n<dl class=\"in\">\n")
		p.fields(e)
		p.raw("</dl>\n")
	}
}

// leaf shows a value; one that is not there is a dash.
func (p *page) leaf(d element, v string) {
	if strings.TrimSpace(v) == "" {
		p.raw("–")
		return
	}
	if d.list != noList {
		p.code(d.list, v)
		return
	}
	p.value(d.kind, v)
}

// code shows a code with what it means.
func (p *page) code(list codeList, v string) {
	code := strings.TrimSpace(v)
	w, ok := codeLists[list][code]
	if !ok {
		p.text(v)
		return
	}
	if !list.bare() {
		p.raw("<span class=\"code\">")
		p.text(code)
		p.raw("</span> ")
	}
	p.say(w)
}

// separator is what goes before and after a part of a value in one line.
type separator struct{ before, after string }

var idSeparators = map[string]separator{
	"IdPaese": {}, "IdCodice": {before: " "},
}

var addressSeparators = map[string]separator{
	"Indirizzo": {}, "NumeroCivico": {before: ", "}, "CAP": {before: " – "}, "Comune": {before: " "},
	"Provincia": {before: " (", after: ")"}, "Nazione": {before: ", "},
}

// joined shows the children of a block in one line. A child that does not belong
// there is shown with its name.
func (p *page) joined(e fatturapa.Element, separators map[string]separator) {
	first := true
	for c := range p.business(e) {
		s, ok := separators[p.named(c)]
		if c.HasChildren() || !ok {
			p.raw(" ")
			p.inline(c)
			first = false
			continue
		}
		v := strings.TrimSpace(c.Text())
		if v == "" {
			continue
		}
		if !first {
			p.raw(s.before)
		}
		p.text(v)
		if !first {
			p.raw(s.after)
		}
		first = false
	}
}

// inline shows an element within a line or a cell, its name before its value.
func (p *page) inline(e fatturapa.Element) {
	d := elements[p.named(e)]
	p.raw("<span class=\"item\">")
	if e.HasChildren() && d.kind == kindGroup {
		for c := range p.business(e) {
			p.inline(c)
		}
		p.raw("</span> ")
		return
	}
	p.raw("<span class=\"name\">")
	p.label(e)
	p.raw(":</span> ")
	switch {
	case !e.HasChildren():
		p.leaf(d, e.Text())
	case d.kind == kindID:
		p.joined(e, idSeparators)
	case d.kind == kindAddress:
		p.joined(e, addressSeparators)
	default:
		for c := range p.business(e) {
			p.inline(c)
		}
	}
	p.raw("</span> ")
}

// table shows blocks of one shape as rows. Columns are the names of their
// children in the order of the rows; kinds, when asked for, says in a
// first column which block a row is.
func (p *page) table(caption words, rows []fatturapa.Element, kinds bool, foot func(columns []string, rest bool)) {
	columns, rest := p.columns(rows)
	p.raw("<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"")
	p.say(caption)
	p.raw("\">\n<table>\n<caption>")
	p.say(caption)
	p.raw("</caption>\n<thead><tr>")
	if kinds {
		p.raw("<th scope=\"col\">")
		p.say(wordKind)
		p.raw("</th>")
	}
	for _, name := range columns {
		p.raw("<th scope=\"col\"", numberClass(elements[name].kind), ">")
		p.say(labelOf(name))
		p.raw("</th>")
	}
	if rest {
		p.raw("<th scope=\"col\">")
		p.say(labelOf("AltriDatiGestionali"))
		p.raw("</th>")
	}
	p.raw("</tr></thead>\n<tbody>\n")
	for _, row := range rows {
		p.row(row, columns, rest, kinds)
	}
	p.raw("</tbody>\n")
	if foot != nil {
		foot(columns, rest)
	}
	p.raw("</table>\n</div>\n")
}

// mostColumns is more than any block of the formats needs. What a file brings
// beyond them, or under names of its own, shares the last column: a hostile file
// cannot make a table of a thousand columns.
const mostColumns = 20

// columns names the columns, and says whether a last one is needed for the rest.
func (p *page) columns(rows []fatturapa.Element) (columns []string, rest bool) {
	for _, row := range rows {
		at := len(columns) // a name that earlier rows lack belongs behind the one before it
		for c := range p.business(row) {
			name := p.named(c)
			i := slices.Index(columns, name)
			if i < 0 {
				if _, ok := elements[name]; !ok || len(columns) == mostColumns {
					rest = true
					continue
				}
				columns = slices.Insert(columns, at, name)
				i = at
			}
			at = i + 1
		}
	}
	return columns, rest
}

// row shows a block; elements of one name share a cell.
func (p *page) row(row fatturapa.Element, columns []string, rest, kinds bool) {
	p.raw("<tr>")
	if kinds {
		p.raw("<th scope=\"row\">")
		p.label(row)
		p.raw("</th>")
	}
	for _, name := range columns {
		p.raw("<td", numberClass(elements[name].kind), ">")
		first := true
		for c := range p.business(row) {
			if p.named(c) != name {
				continue
			}
			if !first {
				p.raw("<br>")
			}
			first = false
			p.cell(c)
		}
		p.raw("</td>")
	}
	if rest {
		p.raw("<td>")
		for c := range p.business(row) {
			if !slices.Contains(columns, p.named(c)) {
				p.inline(c)
			}
		}
		p.raw("</td>")
	}
	p.raw("</tr>\n")
}

func (p *page) cell(c fatturapa.Element) {
	d := elements[p.named(c)]
	if !c.HasChildren() {
		p.leaf(d, c.Text())
		return
	}
	for g := range p.business(c) {
		p.inline(g)
	}
}

// numberClass sets numbers to the right.
func numberClass(k kind) string {
	switch k {
	case kindMoney, kindRate, kindQuantity:
		return ` class="n"`
	}
	return ""
}
