package render

import (
	"slices"
	"strings"

	"ceralacca.dev/services/format/fatturapa"
)

// section shows a block with a heading of its own.
func (v *view) section(e fatturapa.Element, class, heading mark) {
	v.out.open(class)
	v.out.open(heading)
	v.label(e)
	v.out.shut(heading)
	v.out.open(markFields)
	if e.HasChildren() {
		v.fields(e)
	} else {
		v.field(e)
	}
	v.out.shut(markFields)
	v.out.shut(class)
}

// label writes the words for an element, or its own name when it is unknown.
func (v *view) label(e fatturapa.Element) {
	name := v.named(e)
	if name == "Data" && v.named(e.Parent()) == "DatiVeicoli" {
		v.say(wordRegistered)
		return
	}
	if d, ok := elements[name]; ok && name != "" {
		v.say(d.label)
		return
	}
	v.out.text(e.Name())
}

// fields shows the children of a block as rows of the list that is open.
func (v *view) fields(e fatturapa.Element) {
	for c := range v.business(e) {
		v.field(c)
	}
}

// field shows one element as a row: a value, an identifier or an address in one
// line, or a list inside the list. Blocks that only group are not shown as such.
func (v *view) field(e fatturapa.Element) {
	name := v.named(e)
	d := elements[name]
	if e.HasChildren() && d.kind == kindGroup {
		v.fields(e)
		return
	}
	m := markField
	switch {
	case name == "ImportoTotaleDocumento" && !e.HasChildren():
		m = markTotal
	case e.HasChildren() && !d.kind.line():
		m = markGroup
	}
	v.out.open(m)
	v.out.open(markTerm)
	v.label(e)
	v.out.shut(markTerm)
	v.out.open(markValue)
	switch {
	case m == markTotal:
		v.leaf(d, e.Text())
		if v.currency != "" {
			v.out.text("\u00a0")
			v.out.text(v.currency)
		}
	case name == "Denominazione" && !e.HasChildren():
		v.out.open(markStrong)
		v.leaf(d, e.Text())
		v.out.shut(markStrong)
	default:
		v.content(e, d)
	}
	v.out.shut(markValue)
	v.out.shut(m)
}

// line reports whether blocks of a kind are shown in one line.
func (k kind) line() bool { return k == kindID || k == kindAddress || k == kindChange }

// content shows what an element holds.
func (v *view) content(e fatturapa.Element, d element) {
	switch {
	case !e.HasChildren():
		v.leaf(d, e.Text())
	case d.kind.line():
		v.joined(e)
	default:
		v.out.open(markInner)
		v.fields(e)
		v.out.shut(markInner)
	}
}

// leaf shows a value; one that is not there is a dash.
func (v *view) leaf(d element, s string) {
	if strings.TrimSpace(s) == "" {
		v.out.text("–")
		return
	}
	if d.list != noList {
		v.code(d.list, s)
		return
	}
	v.value(d.kind, s)
}

// code shows a code with what it means.
func (v *view) code(list codeList, s string) {
	code := strings.TrimSpace(s)
	w, ok := codeLists[list][code]
	if !ok {
		v.out.text(s)
		return
	}
	if !list.bare() {
		v.out.open(markCode)
		v.out.text(code)
		v.out.shut(markCode)
	}
	v.say(w)
}

// separator is what goes before and after a part of a value in one line.
type separator struct{ before, after string }

// separators says which parts are shown in a line without their names.
var separators = map[string]separator{
	"IdPaese": {}, "IdCodice": {before: " "},
	"CodiceTipo": {}, "CodiceValore": {before: " "},
	"Tipo": {}, "Percentuale": {before: " "}, "Importo": {before: " "},
	"Indirizzo": {}, "NumeroCivico": {before: ", "}, "CAP": {before: " – "}, "Comune": {before: " "},
	"Provincia": {before: " (", after: ")"}, "Nazione": {before: ", "},
}

// joined shows the children of a block in one line. A child that does not belong
// there is shown with its name.
func (v *view) joined(e fatturapa.Element) {
	first := true
	for c := range v.business(e) {
		name := v.named(c)
		s, ok := separators[name]
		if c.HasChildren() || !ok {
			v.out.text(" ")
			v.inline(c)
			first = false
			continue
		}
		if strings.TrimSpace(c.Text()) == "" {
			continue
		}
		if !first {
			v.out.text(s.before)
		}
		v.leaf(elements[name], strings.TrimSpace(c.Text()))
		if !first {
			v.out.text(s.after)
		}
		first = false
	}
	if first {
		v.out.text("–")
	}
}

// inline shows an element within a line or a cell, its name before its value.
func (v *view) inline(e fatturapa.Element) {
	d := elements[v.named(e)]
	v.out.open(markItem)
	if e.HasChildren() && d.kind == kindGroup {
		for c := range v.business(e) {
			v.inline(c)
		}
		v.out.shut(markItem)
		return
	}
	v.out.open(markName)
	v.label(e)
	v.out.text(":")
	v.out.shut(markName)
	switch {
	case !e.HasChildren():
		v.leaf(d, e.Text())
	case d.kind.line():
		v.joined(e)
	default:
		for c := range v.business(e) {
			v.inline(c)
		}
	}
	v.out.shut(markItem)
}

// table shows blocks of one shape as rows. Columns are the names of their
// children in the order of the rows; kinds, when asked for, says in a
// first column which block a row is.
func (v *view) table(caption words, rows []fatturapa.Element, kinds bool, foot func(columns []string, rest bool)) {
	columns, rest := v.columns(rows)
	var heads []column
	if kinds {
		heads = append(heads, column{label: wordKind[v.lang]})
	}
	for _, name := range columns {
		heads = append(heads, column{label: elements[name].label[v.lang], number: elements[name].kind.number(), long: name == "Descrizione"})
	}
	if rest {
		heads = append(heads, column{label: labelOf("AltriDatiGestionali")[v.lang]})
	}
	v.out.table(caption[v.lang], heads)
	for _, row := range rows {
		v.row(row, columns, rest, kinds)
	}
	if foot != nil {
		foot(columns, rest)
	}
	v.out.shut(markTable)
}

// mostColumns is more than any block of the formats needs. What a file brings
// beyond them, or under names of its own, shares the last column: a hostile file
// cannot make a table of a thousand columns.
const mostColumns = 20

// sameColumn are elements of related documents that mean what others of another
// name mean there, so that one column holds both.
var sameColumn = map[string]string{
	"NumeroDDT": "IdDocumento", "DataDDT": "Data",
	"NumeroFatturaPrincipale": "IdDocumento", "DataFatturaPrincipale": "Data",
}

// columnName is the column of an element, "" for one of no known name.
func (v *view) columnName(c fatturapa.Element) string {
	name := v.named(c)
	if same, ok := sameColumn[name]; ok {
		return same
	}
	if _, ok := elements[name]; !ok {
		return ""
	}
	return name
}

// columns names the columns, and says whether a last one is needed for the rest.
func (v *view) columns(rows []fatturapa.Element) (columns []string, rest bool) {
	for _, row := range rows {
		at := len(columns) // a name that earlier rows lack belongs behind the one before it
		for c := range v.business(row) {
			name := v.columnName(c)
			i := slices.Index(columns, name)
			if i < 0 {
				if name == "" || len(columns) == mostColumns {
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
func (v *view) row(row fatturapa.Element, columns []string, rest, kinds bool) {
	v.out.open(markRow)
	if kinds {
		v.out.cell(cell{head: true})
		v.label(row)
		v.out.shut(markCell)
	}
	for _, name := range columns {
		v.out.cell(cell{number: elements[name].kind.number(), long: name == "Descrizione"})
		first := true
		for c := range v.business(row) {
			if v.columnName(c) != name {
				continue
			}
			switch {
			case first:
			case name == "RiferimentoNumeroLinea":
				v.out.text(", ")
			default:
				v.out.next()
			}
			first = false
			v.cell(c)
		}
		v.out.shut(markCell)
	}
	if rest {
		v.out.cell(cell{})
		for c := range v.business(row) {
			if !slices.Contains(columns, v.columnName(c)) {
				v.inline(c)
			}
		}
		v.out.shut(markCell)
	}
	v.out.shut(markRow)
}

func (v *view) cell(c fatturapa.Element) {
	d := elements[v.named(c)]
	switch {
	case !c.HasChildren():
		v.leaf(d, c.Text())
	case d.kind.line():
		v.joined(c)
	default:
		for g := range v.business(c) {
			v.inline(g)
		}
	}
}
