package render

import (
	"slices"

	"ceralacca.dev/services/format/fatturapa"
)

// documents shows every body of the file under its title.
func (v *view) documents(titles []string) {
	n := 0
	for c := range v.business(v.f.Root()) {
		if v.named(c) != "FatturaElettronicaBody" {
			continue
		}
		title := wordDocument[v.lang]
		v.currency = ""
		if n < len(titles) {
			title = titles[n]
			v.currency = v.f.Bodies[n].Documento().Divisa
		}
		v.out.document(n, title)
		if c.HasChildren() {
			v.sections(c, n)
		} else {
			v.out.open(markParagraph)
			v.out.text(c.Text())
			v.out.shut(markParagraph)
		}
		v.out.shut(markDocument)
		n++
	}
}

// sections shows the blocks of a body in the order of the file; blocks that
// repeat and make one table or list are shown where the first of them stands.
func (v *view) sections(body fatturapa.Element, n int) {
	var goods, files []fatturapa.Element
	for c := range v.business(body) {
		switch v.block(c) {
		case "DatiBeniServizi":
			goods = append(goods, c)
		case "Allegati":
			files = append(files, c)
		}
	}
	for c := range v.business(body) {
		switch v.block(c) {
		case "DatiGenerali":
			v.general(c)
		case "DatiBeniServizi":
			if c.ID() == goods[0].ID() {
				v.goods(goods, n)
			}
		case "DatiPagamento":
			v.section(c, markPayment, markHeading)
		case "Allegati":
			if c.ID() == files[0].ID() {
				v.attachments(files)
			}
		default:
			v.section(c, markSection, markHeading)
		}
	}
}

// block is the name of an element that has children: one without, where the
// format wants some, is shown as the text that it is.
func (v *view) block(e fatturapa.Element) string {
	if !e.HasChildren() {
		return ""
	}
	return v.named(e)
}

// related are the blocks that refer to other documents, shown in one table.
func related(name string) bool {
	switch name {
	case "DatiOrdineAcquisto", "DatiContratto", "DatiConvenzione", "DatiRicezione", "DatiFattureCollegate",
		"DatiDDT", "DatiSAL", "FatturaPrincipale":
		return true
	}
	return false
}

func (v *view) general(e fatturapa.Element) {
	var refs []fatturapa.Element
	for c := range v.business(e) {
		if related(v.block(c)) {
			refs = append(refs, c)
		}
	}
	for c := range v.business(e) {
		if !related(v.block(c)) {
			v.section(c, markSection, markHeading)
			continue
		}
		if c.ID() == refs[0].ID() {
			v.out.open(markSection)
			v.out.open(markHeading)
			v.say(wordRelated)
			v.out.shut(markHeading)
			v.table(wordRelated, refs, true, nil)
			v.out.shut(markSection)
		}
	}
}

// goods shows lines and summaries. In a simplified invoice each block is a line.
func (v *view) goods(blocks []fatturapa.Element, n int) {
	if v.f.Schema == fatturapa.SchemaSimplified {
		v.out.open(markSection)
		v.out.open(markHeading)
		v.say(labelOf("DatiBeniServizi"))
		v.out.shut(markHeading)
		v.table(labelOf("DatiBeniServizi"), blocks, false, func(columns []string, rest bool) { v.simplifiedFoot(columns, rest, n) })
		v.out.shut(markSection)
		return
	}
	for _, b := range blocks {
		var lines, sums []fatturapa.Element
		for c := range v.business(b) {
			switch v.block(c) {
			case "DettaglioLinee":
				lines = append(lines, c)
			case "DatiRiepilogo":
				sums = append(sums, c)
			}
		}
		if len(lines) > 0 {
			v.out.open(markSection)
			v.out.open(markHeading)
			v.say(labelOf("DatiBeniServizi"))
			v.out.shut(markHeading)
			v.lines(lines)
			v.out.shut(markSection)
		}
		if len(sums) > 0 {
			v.out.open(markSection)
			v.out.open(markHeading)
			v.say(labelOf("DatiRiepilogo"))
			v.out.shut(markHeading)
			v.table(labelOf("DatiRiepilogo"), sums, false, func(columns []string, rest bool) { v.summaryFoot(columns, rest, n) })
			v.out.shut(markSection)
		}
		for c := range v.business(b) {
			if name := v.block(c); name != "DettaglioLinee" && name != "DatiRiepilogo" {
				v.section(c, markSection, markHeading)
			}
		}
	}
}

// The columns of a line; everything else of it is shown below its description.
var lineColumns = []struct {
	label  words
	number bool
	names  []string
}{
	{words{"N.", "No."}, false, []string{"NumeroLinea"}},
	{words{"Descrizione", "Description"}, false, []string{"Descrizione"}},
	{words{"Quantità", "Quantity"}, true, []string{"Quantita", "UnitaMisura"}},
	{words{"Prezzo unitario", "Unit price"}, true, []string{"PrezzoUnitario"}},
	{words{"Sconto o maggiorazione", "Discount or surcharge"}, true, []string{"ScontoMaggiorazione"}},
	{words{"Prezzo totale", "Total price"}, true, []string{"PrezzoTotale"}},
	{words{"IVA", "VAT"}, true, []string{"AliquotaIVA", "Natura"}},
}

// lineColumn is the column of an element of a line, -1 for the details.
func lineColumn(name string) int {
	for i := range lineColumns {
		if slices.Contains(lineColumns[i].names, name) {
			return i
		}
	}
	return -1
}

// lineCells is the number of columns, and one for the details.
const lineCells = 8

// usedColumns says which columns are shown: those that every invoice has, and those
// in which some line has something.
func (v *view) usedColumns(lines []fatturapa.Element) [lineCells]bool {
	used := [lineCells]bool{0: true, 1: true, 5: true, 6: true}
	for _, line := range lines {
		for c := range v.business(line) {
			if i := lineColumn(v.named(c)); i >= 0 {
				used[i] = true
			}
		}
		if used[2] && used[3] && used[4] {
			break
		}
	}
	return used
}

func (v *view) lines(lines []fatturapa.Element) {
	used := v.usedColumns(lines)
	heads := make([]column, 0, lineCells)
	for i, col := range lineColumns {
		if used[i] {
			heads = append(heads, column{label: col.label[v.lang], number: col.number, long: i == 1})
		}
	}
	v.out.table(labelOf("DettaglioLinee")[v.lang], heads)
	var cells [lineCells][]fatturapa.Element
	for _, line := range lines {
		for i := range cells {
			cells[i] = cells[i][:0]
		}
		for c := range v.business(line) {
			i := lineColumn(v.named(c))
			if i < 0 {
				i = lineCells - 1
			}
			cells[i] = append(cells[i], c)
		}
		v.line(&cells, &used)
	}
	v.out.shut(markTable)
}

func (v *view) line(cells *[lineCells][]fatturapa.Element, used *[lineCells]bool) {
	v.out.open(markRow)
	for i, col := range lineColumns {
		if !used[i] {
			continue
		}
		v.out.cell(cell{head: i == 0, number: col.number, long: i == 1})
		for j, c := range cells[i] {
			name := v.named(c)
			switch {
			case j == 0:
			case name == "ScontoMaggiorazione" || c.HasChildren():
				v.out.next()
			default:
				v.out.text(" ")
			}
			if name == "Natura" && !c.HasChildren() {
				v.out.text(c.Text()) // what it means is in the summary
				continue
			}
			v.cell(c)
		}
		if more := cells[lineCells-1]; i == 1 && len(more) > 0 {
			v.out.open(markMore)
			for _, c := range more {
				v.inline(c)
			}
			v.out.shut(markMore)
		}
		v.out.shut(markCell)
	}
	v.out.shut(markRow)
}

// summaryFoot adds up what the summaries say. The sums are ours, and named so:
// the total of the document is shown as the file has it.
func (v *view) summaryFoot(columns []string, rest bool, n int) {
	if n >= len(v.f.Bodies) {
		return
	}
	sums := map[string]fatturapa.Decimal{}
	for _, r := range v.f.Bodies[n].DatiBeniServizi.DatiRiepilogo {
		if !add(sums, "ImponibileImporto", r.ImponibileImporto) || !add(sums, "Imposta", r.Imposta) {
			return
		}
	}
	v.foot(columns, rest, sums)
}

func (v *view) simplifiedFoot(columns []string, rest bool, n int) {
	if n >= len(v.f.Bodies) {
		return
	}
	sums := map[string]fatturapa.Decimal{}
	for _, l := range v.f.Bodies[n].BeniServizi {
		if !add(sums, "Importo", l.Importo) {
			return
		}
	}
	v.foot(columns, rest, sums)
}

// add is false when a value is no number: then no sum is shown at all.
func add(sums map[string]fatturapa.Decimal, name string, v fatturapa.Decimal) bool {
	if !v.Valid() {
		return false
	}
	have, ok := sums[name]
	if !ok {
		sums[name] = v
		return true
	}
	sum, ok := have.Add(v)
	sums[name] = sum
	return ok
}

func (v *view) foot(columns []string, rest bool, sums map[string]fatturapa.Decimal) {
	before := 0
	for before < len(columns) {
		if _, ok := sums[columns[before]]; ok {
			break
		}
		before++
	}
	if before == len(columns) {
		return
	}
	v.out.open(markFoot)
	if before > 0 {
		v.out.cell(cell{head: true, span: before})
		v.say(wordSum)
		v.out.shut(markCell)
	}
	for _, name := range columns[before:] {
		v.out.cell(cell{number: true})
		if sum, ok := sums[name]; ok {
			v.value(kindMoney, sum.String())
		}
		v.out.shut(markCell)
	}
	if rest {
		v.out.cell(cell{})
		v.out.shut(markCell)
	}
	v.out.shut(markFoot)
}
