package render

import (
	"slices"
	"strconv"

	"ceralacca.dev/services/format/fatturapa"
)

// documents shows every body of the file.
func (p *page) documents() {
	n := 0
	for c := range p.business(p.f.Root()) {
		if p.named(c) == "FatturaElettronicaBody" {
			p.document(c, n)
			n++
		}
	}
}

// document shows one body: n counts from 0 and is its place in the typed view.
func (p *page) document(body fatturapa.Element, n int) {
	id := "d" + strconv.Itoa(n+1)
	p.raw("<article id=\"", id, "\" aria-labelledby=\"", id, "h\">\n<h2 id=\"", id, "h\">")
	if n < len(p.f.Bodies) {
		p.heading(&p.f.Bodies[n])
	} else {
		p.say(wordDocument)
	}
	p.raw("</h2>\n")
	if n > 0 {
		p.courtesy() // each document of a lot starts a printed page
	}
	if body.HasChildren() {
		p.sections(body, n)
	} else {
		p.raw("<p>")
		p.text(body.Text())
		p.raw("</p>\n")
	}
	p.raw("</article>\n")
}

// sections shows the blocks of a body in the order of the file; blocks that
// repeat and make one table or list are shown where the first of them stands.
func (p *page) sections(body fatturapa.Element, n int) {
	var goods, files []fatturapa.Element
	for c := range p.business(body) {
		switch p.block(c) {
		case "DatiBeniServizi":
			goods = append(goods, c)
		case "Allegati":
			files = append(files, c)
		}
	}
	for c := range p.business(body) {
		switch p.block(c) {
		case "DatiGenerali":
			p.general(c)
		case "DatiBeniServizi":
			if c.ID() == goods[0].ID() {
				p.goods(goods, n)
			}
		case "DatiPagamento":
			p.section(c, "h3", "payment")
		case "Allegati":
			if c.ID() == files[0].ID() {
				p.attachments(files)
			}
		default:
			p.section(c, "h3", "")
		}
	}
}

// block is the name of an element that has children: one without, where the
// format wants some, is shown as the text that it is.
func (p *page) block(e fatturapa.Element) string {
	if !e.HasChildren() {
		return ""
	}
	return p.named(e)
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

func (p *page) general(e fatturapa.Element) {
	var refs []fatturapa.Element
	for c := range p.business(e) {
		if related(p.block(c)) {
			refs = append(refs, c)
		}
	}
	for c := range p.business(e) {
		if !related(p.block(c)) {
			p.section(c, "h3", "")
			continue
		}
		if c.ID() == refs[0].ID() {
			p.raw("<section>\n<h3>")
			p.say(wordRelated)
			p.raw("</h3>\n")
			p.table(wordRelated, refs, true, nil)
			p.raw("</section>\n")
		}
	}
}

// goods shows lines and summaries. In a simplified invoice each block is a line.
func (p *page) goods(blocks []fatturapa.Element, n int) {
	if p.f.Schema == fatturapa.SchemaSimplified {
		p.raw("<section>\n<h3>")
		p.say(labelOf("DatiBeniServizi"))
		p.raw("</h3>\n")
		p.table(labelOf("DatiBeniServizi"), blocks, false, func(columns []string, rest bool) { p.simplifiedFoot(columns, rest, n) })
		p.raw("</section>\n")
		return
	}
	for _, b := range blocks {
		var lines, sums []fatturapa.Element
		for c := range p.business(b) {
			switch p.block(c) {
			case "DettaglioLinee":
				lines = append(lines, c)
			case "DatiRiepilogo":
				sums = append(sums, c)
			}
		}
		if len(lines) > 0 {
			p.raw("<section>\n<h3>")
			p.say(labelOf("DatiBeniServizi"))
			p.raw("</h3>\n")
			p.lines(lines)
			p.raw("</section>\n")
		}
		if len(sums) > 0 {
			p.raw("<section>\n<h3>")
			p.say(labelOf("DatiRiepilogo"))
			p.raw("</h3>\n")
			p.table(labelOf("DatiRiepilogo"), sums, false, func(columns []string, rest bool) { p.summaryFoot(columns, rest, n) })
			p.raw("</section>\n")
		}
		for c := range p.business(b) {
			if name := p.block(c); name != "DettaglioLinee" && name != "DatiRiepilogo" {
				p.section(c, "h3", "")
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

func (p *page) lines(lines []fatturapa.Element) {
	p.raw("<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"")
	p.say(labelOf("DettaglioLinee"))
	p.raw("\">\n<table class=\"lines\">\n<caption>")
	p.say(labelOf("DettaglioLinee"))
	p.raw("</caption>\n<thead><tr>")
	for _, col := range lineColumns {
		p.raw("<th scope=\"col\"")
		if col.number {
			p.raw(" class=\"n\"")
		}
		p.raw(">")
		p.say(col.label)
		p.raw("</th>")
	}
	p.raw("</tr></thead>\n<tbody>\n")
	var cells [lineCells][]fatturapa.Element
	for _, line := range lines {
		for i := range cells {
			cells[i] = cells[i][:0]
		}
		for c := range p.business(line) {
			i := lineColumn(p.named(c))
			if i < 0 {
				i = lineCells - 1
			}
			cells[i] = append(cells[i], c)
		}
		p.line(&cells)
	}
	p.raw("</tbody>\n</table>\n</div>\n")
}

// lineCells is the number of columns, and one for the details.
const lineCells = 8

func (p *page) line(cells *[lineCells][]fatturapa.Element) {
	p.raw("<tr>")
	for i, col := range lineColumns {
		switch {
		case i == 0:
			p.raw("<th scope=\"row\">")
		case col.number:
			p.raw("<td class=\"n\">")
		default:
			p.raw("<td>")
		}
		for j, c := range cells[i] {
			if j > 0 {
				p.raw(" ")
			}
			switch {
			case c.HasChildren():
				p.raw("<span class=\"item\">")
				p.cell(c)
				p.raw("</span>")
			case p.named(c) == "Natura":
				p.raw("<span class=\"item\">") // what it means is in the summary
				p.text(c.Text())
				p.raw("</span>")
			default:
				p.leaf(elements[p.named(c)], c.Text())
			}
		}
		if i == 1 && len(cells[lineCells-1]) > 0 {
			p.raw("<div class=\"more\">")
			for _, c := range cells[lineCells-1] {
				p.inline(c)
			}
			p.raw("</div>")
		}
		if i == 0 {
			p.raw("</th>")
		} else {
			p.raw("</td>")
		}
	}
	p.raw("</tr>\n")
}

// summaryFoot adds up what the summaries say. The sums are ours, and named so:
// the total of the document is shown as the file has it.
func (p *page) summaryFoot(columns []string, rest bool, n int) {
	if n >= len(p.f.Bodies) {
		return
	}
	sums := map[string]fatturapa.Decimal{}
	for _, r := range p.f.Bodies[n].DatiBeniServizi.DatiRiepilogo {
		if !add(sums, "ImponibileImporto", r.ImponibileImporto) || !add(sums, "Imposta", r.Imposta) {
			return
		}
	}
	p.foot(columns, rest, sums)
}

func (p *page) simplifiedFoot(columns []string, rest bool, n int) {
	if n >= len(p.f.Bodies) {
		return
	}
	sums := map[string]fatturapa.Decimal{}
	for _, l := range p.f.Bodies[n].BeniServizi {
		if !add(sums, "Importo", l.Importo) {
			return
		}
	}
	p.foot(columns, rest, sums)
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

func (p *page) foot(columns []string, rest bool, sums map[string]fatturapa.Decimal) {
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
	p.raw("<tfoot><tr>")
	if before > 0 {
		p.raw("<th scope=\"row\" colspan=\"", strconv.Itoa(before), "\">")
		p.say(wordSum)
		p.raw("</th>")
	}
	for _, name := range columns[before:] {
		p.raw("<td class=\"n\">")
		if sum, ok := sums[name]; ok {
			p.value(kindMoney, sum.String())
		}
		p.raw("</td>")
	}
	if rest {
		p.raw("<td></td>")
	}
	p.raw("</tr></tfoot>\n")
}
