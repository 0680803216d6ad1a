package render

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"

	"ceralacca.dev/services/format/fatturapa"
)

// pdf is a view as the pages of a PDF. It gathers the runs of one block after the
// other and sets each on the pages when it is complete. Its methods never fail: the
// library keeps the first error.
type pdf struct {
	sheet
	o      *Options
	lang   language
	files  []attachment
	lost   bool // a character that the fonts lack was replaced
	links  []int
	titles []string

	gathering bool // of text, into runs
	runs      []run
	face      weight
	ink       ink
	label     bool // the name before a value is being gathered: it stays on one line with it
	inner     int  // depth of lists inside a value
	more      int  // depth of items inside the details of a line, from 1; 0 outside
	total     bool
	term      []run

	parties bool // the boxes that are side by side are being gathered
	boxes   []box
	grid    *grid
	row     gridRow
	cells   cell
}

// box is a party: its name and what is known of it.
type box struct {
	heading string
	rows    []field
}

// field is a name and its value.
type field struct{ term, value []run }

// longestLabel is as long as a name may be that is never broken.
const longestLabel = 40

// gather starts a block of text.
func (p *pdf) gather() {
	p.gathering, p.runs, p.face, p.ink, p.label = true, nil, regular, inkPlain, false
}

// take ends it.
func (p *pdf) take() []run {
	runs := p.runs
	p.gathering, p.runs = false, nil
	return runs
}

func (p *pdf) text(s string) {
	if !p.gathering || s == "" {
		return
	}
	s, lost := p.letters.clean(s)
	p.lost = p.lost || lost
	if p.label && len(s) <= longestLabel {
		s = strings.ReplaceAll(s, " ", "\u00a0")
	}
	p.runs = append(p.runs, run{text: s, weight: p.face, ink: p.ink})
}

func (p *pdf) number(b []byte)      { p.text(string(b)) }
func (p *pdf) date(_, shown string) { p.text(strings.ReplaceAll(shown, " ", "\u00a0")) }
func (p *pdf) next()                { p.special(runNext) }
func (p *pdf) special(kind runKind) { p.runs = append(p.runs, run{kind: kind}) }
func (p *pdf) plain(s string) (t string) {
	t, lost := p.letters.clean(s)
	p.lost = p.lost || lost
	return t
}

func (p *pdf) open(m mark) {
	switch m {
	case markParties:
		p.parties = true
	case markParty:
		p.boxes = append(p.boxes, box{})
	case markTitle, markHeading, markParagraph, markFile:
		p.gather()
	case markTotal:
		p.total = p.inner == 0
	case markInner:
		if p.inner++; len(p.runs) > 0 {
			p.next()
		}
	case markTerm, markValue:
		if p.inner == 0 {
			p.gather()
			p.emphasise()
		} else if m == markTerm {
			p.ink, p.label = inkSoft, true
		}
	case markName:
		p.ink, p.label = inkSoft, true
	case markCode:
		p.ink = inkSoft
	case markNote:
		p.special(runGap)
		p.ink = inkSoft
	case markStrong:
		p.face = bold
	case markMore:
		p.more = 1
	case markItem:
		if p.more == 1 && len(p.runs) > 0 {
			p.next()
		}
		if p.more > 0 {
			p.more++
		}
	case markRow, markFoot:
		p.row = gridRow{foot: m == markFoot}
	case markTransmission:
		p.rule()
	}
}

// emphasise dresses the field that everybody looks for.
func (p *pdf) emphasise() {
	if p.total {
		p.face, p.ink = bold, inkAccent
	}
}

func (p *pdf) shut(m mark) {
	switch m {
	case markTitle:
		p.heading(m, textOf(p.take()))
	case markHeading:
		p.heading(m, textOf(p.take()))
	case markParagraph:
		p.paragraph(p.take(), 0)
	case markFile:
		p.paragraph(p.take(), bulletIndent)
	case markParties:
		p.parties = false
		p.setBoxes(p.boxes)
		p.boxes = nil
	case markInner:
		p.inner--
	case markTotal:
		p.total = false
	case markField, markGroup:
		if p.inner > 0 {
			p.special(runGap)
		}
	case markTerm, markValue:
		p.shutField(m)
	case markName:
		p.ink, p.label = inkPlain, false
		p.text("\u00a0")
	case markCode:
		p.ink = inkPlain
		p.text(" ")
	case markNote:
		p.ink = inkPlain
	case markStrong:
		p.face = regular
	case markMore:
		p.more = 0
	case markItem:
		if p.more > 0 {
			p.more--
		}
		p.special(runGap)
	case markCell:
		p.row.cells = append(p.row.cells, gridCell{runs: p.take(), number: p.cells.number, span: max(1, p.cells.span)})
	case markRow, markFoot:
		p.grid.add(p.row)
	case markTable:
		p.grid.set(p)
		p.grid = nil
	}
}

func (p *pdf) shutField(m mark) {
	switch {
	case p.inner > 0 && m == markTerm:
		p.text(":\u00a0")
		p.ink, p.label = inkPlain, false
	case p.inner > 0:
	case m == markTerm:
		p.term = p.take()
		for i := range p.term {
			if !p.total {
				p.term[i].ink = inkSoft
			}
		}
	case p.parties && len(p.boxes) > 0:
		b := &p.boxes[len(p.boxes)-1]
		b.rows = append(b.rows, field{p.term, p.take()})
	default:
		p.field(field{p.term, p.take()}, p.total)
	}
}

// textOf joins runs.
func textOf(runs []run) string {
	var b strings.Builder
	for _, r := range runs {
		b.WriteString(r.text)
	}
	return b.String()
}

// heading keeps a heading for the block that follows it.
func (p *pdf) heading(m mark, text string) {
	if p.parties && len(p.boxes) > 0 {
		p.boxes[len(p.boxes)-1].heading = text
		return
	}
	h := title{text: text, size: sizeHeading, level: 1, above: 3.5, below: 1.2}
	if m == markTitle {
		h = title{text: text, size: sizeTitle, above: 3, below: 1.6}
	}
	p.pending = append(p.pending, h)
}

func (p *pdf) begin(f frame) {
	p.doc.SetTitle(p.plain(f.title), true)
	p.doc.SetAuthor(p.plain(f.seller), true)
	p.doc.SetSubject(p.plain(f.heading), true)
	at := documentTime(f.date)
	p.doc.SetCreationDate(at)
	p.doc.SetModificationDate(at)
	p.doc.SetFont(family, "", sizeText)
	p.titles = f.documents
	p.running = p.plain(f.title)
	p.newPage()
	p.banner()
	p.pageHead(p.plain(f.heading))
	if len(f.documents) > 1 {
		p.contents(f.documents)
	}
}

// contents leads to the documents of a lot.
func (p *pdf) contents(documents []string) {
	p.pending = append(p.pending, title{
		text: fmt.Sprintf("%s: %d %s", wordLot[p.lang], len(documents), wordDocuments[p.lang]),
		size: sizeHeading, level: 0, above: 2, below: 1.2,
	})
	for i, text := range documents {
		p.links = append(p.links, p.doc.AddLink())
		p.paragraph([]run{{text: fmt.Sprintf("%d. ", i+1), ink: inkSoft}, {text: p.plain(text), ink: inkAccent}}, 0)
		p.doc.Link(margin, p.y-p.lastHeight, contentWidth, p.lastHeight, p.links[i])
	}
	p.y += 4
}

func (p *pdf) courtesy() { p.banner() }

// banner says that this is a courtesy copy.
func (p *pdf) banner() {
	if p.o.Courtesy {
		p.frameText([]run{
			{text: strings.ToUpper(wordCourtesy[p.lang]), weight: bold, ink: inkAccent}, {kind: runGap},
			{text: wordCourtesyMeans[p.lang]},
		})
	}
}

func (p *pdf) document(n int, text string) {
	text = p.plain(text)
	if n > 0 {
		p.running = text
		p.newPage()
		p.banner()
	}
	p.pending = append(p.pending, title{text: text, size: sizeDocument, above: 4, below: 0.5})
	if n < len(p.links) {
		p.place(3 * leading(sizeDocument))
		p.doc.SetLink(p.links[n], max(0, p.y-10), -1)
	}
	p.running = text
}

func (p *pdf) table(_ string, columns []column) {
	p.grid = &grid{columns: columns}
}

func (p *pdf) cell(c cell) {
	p.cells = c
	p.gather()
	if p.row.foot {
		p.face = bold
	}
}

func (p *pdf) attachment(a attachment) {
	p.face = bold
	p.text(a.file)
	p.face = regular
	p.text(" (" + a.size + ") ")
	p.ink = inkSoft
	p.text(wordEmbedded[p.lang])
	p.ink = inkPlain
	p.files = append(p.files, a)
}

func (p *pdf) end(f frame) {
	notes := slices.Clone(f.notes)
	if p.lost {
		notes = append(notes, wordLost[p.lang])
	}
	if len(notes) > 0 {
		p.rule()
		p.paragraph([]run{{text: strings.Join(notes, " "), ink: inkSoft}}, 0)
	}
	p.sheet.finish(margins{
		number: func(page, pages int) string { return fmt.Sprintf(wordPage[p.lang], page, pages) },
		foot:   f.foot,
		mark:   p.courtesyMark(),
	})
}

// courtesyMark stands at the top of each page after the first.
func (p *pdf) courtesyMark() string {
	if !p.o.Courtesy {
		return ""
	}
	return strings.ToUpper(wordCourtesy[p.lang])
}

// documentTime is the day of the document: a PDF has to have a time, and that of a
// clock would make each copy another file. A date that is none becomes the first day
// of electronic invoices between private parties.
func documentTime(date string) time.Time {
	y, m, d, ok := fatturapa.Date(date).YMD()
	if !ok || y == 0 {
		y, m, d = 2019, 1, 1
	}
	return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
}

// newDocument starts a file of the library with the fonts in it.
func newDocument(lang language) *fpdf.Fpdf {
	doc := fpdf.New("P", "mm", "A4", "")
	doc.SetCatalogSort(true) // the same order of objects each time
	doc.SetAutoPageBreak(false, 0)
	doc.SetMargins(margin, topMargin, margin)
	doc.SetCellMargin(0)
	doc.SetLang(map[language]string{italian: "it-IT", english: "en"}[lang])
	doc.SetCreator("Ceralacca", true)
	doc.SetProducer("Ceralacca, go-pdf/fpdf", true)
	return doc
}
