package render

import "math"

// grid is a table on pages. It gathers all rows before it sets the first, since the
// last may have the longest number.
type grid struct {
	columns []column
	widths  []float64
	rows    []gridRow
}

type gridRow struct {
	cells []gridCell
	foot  bool
}

type gridCell struct {
	runs   []run
	number bool
	span   int
}

const (
	cellPad = 1.3
	// widestWord is the part of a table that one word can claim; longer ones are cut.
	widestWord = 0.25
)

func (g *grid) add(r gridRow) { g.rows = append(g.rows, r) }

// set sets the table.
func (g *grid) set(p *pdf) {
	g.measure(p)
	first := 0.0
	if len(g.rows) > 0 {
		first = min(keptTogether, p.height(g.strips(p, g.rows[0])))
	}
	head := g.head(p)
	p.place(p.height(head) + first)
	draw := func() {
		p.strips(head, 0.8, 0.8, func(float64, bool) {
			p.drawColour()
			p.doc.SetLineWidth(0.4)
			p.doc.Line(margin, p.y, pageWidth-margin, p.y)
		})
	}
	draw()
	p.again = draw
	for i := range g.rows {
		g.setRow(p, g.rows[i])
		g.rows[i] = gridRow{} // its memory is free again
	}
	p.again = nil
	p.y += 1
}

// height is that of a row.
func (s *sheet) height(row []strip) float64 {
	high := 0.0
	for _, one := range row {
		high = max(high, float64(len(one.lines))*leading(one.size))
	}
	return high + 1.6
}

func (g *grid) head(p *pdf) []strip {
	x := margin
	var all []strip
	for i, c := range g.columns {
		w := g.widths[i] - 2*cellPad
		lines := p.letters.wrap([]run{{text: p.plain(c.label), weight: bold}}, sizeTable, w)
		all = append(all, strip{x: x + cellPad, w: w, size: sizeTable, lines: lines, right: c.number})
		x += g.widths[i]
	}
	return all
}

// strips breaks the cells of a row into lines.
func (g *grid) strips(p *pdf, r gridRow) []strip {
	all := make([]strip, 0, len(r.cells))
	x, i := margin, 0
	for _, c := range r.cells {
		w := 0.0
		for ; c.span > 0 && i < len(g.widths); c.span-- {
			w += g.widths[i]
			i++
		}
		inside := max(w-2*cellPad, 1)
		all = append(all, strip{x: x + cellPad, w: inside, size: sizeTable, right: c.number, lines: p.letters.wrap(c.runs, sizeTable, inside)})
		x += w
	}
	return all
}

func (g *grid) setRow(p *pdf, r gridRow) {
	p.strips(g.strips(p, r), 0.8, 0.8, func(_ float64, last bool) {
		if r.foot && last {
			return
		}
		p.doc.SetDrawColor(201, 201, 201)
		p.doc.SetLineWidth(0.15)
		p.doc.Line(margin, p.y, pageWidth-margin, p.y)
	})
}

// measure shares the width of the page among the columns: each gets what its
// longest word needs, and what is left goes where texts would be longer; when
// there is too much room, long texts and the last columns spread.
func (g *grid) measure(p *pdf) {
	want, least := make([]float64, len(g.columns)), make([]float64, len(g.columns))
	for i, c := range g.columns {
		w, l := p.letters.natural([]run{{text: p.plain(c.label), weight: bold}}, sizeTable)
		want[i], least[i] = w, l
		if c.number {
			want[i] = max(l, w*0.6) // on two lines
		}
	}
	for _, r := range g.rows {
		for i, c := range r.cells {
			if c.span > 1 || r.foot && c.number && i >= len(want) {
				break
			}
			w, l := p.letters.natural(c.runs, sizeTable)
			want[i], least[i] = max(want[i], w), max(least[i], l)
		}
	}
	g.widths = share(want, least, contentWidth, func(i int) bool { return g.columns[i].long })
}

// share gives each column a width; together they have the whole.
func share(want, least []float64, whole float64, long func(int) bool) []float64 {
	sumWant, sumLeast, longs := 0.0, 0.0, 0
	for i := range want {
		least[i] = min(least[i], whole*widestWord) + 2*cellPad + 0.01
		want[i] = max(want[i]+2*cellPad+0.01, least[i])
		sumWant, sumLeast = sumWant+want[i], sumLeast+least[i]
		if long(i) {
			longs++
		}
	}
	widths := make([]float64, len(want))
	for i := range widths {
		switch {
		case sumLeast >= whole: // words are cut, and a column of short ones keeps half of an equal part
			floor := whole / float64(2*len(want))
			widths[i] = floor + whole/2*least[i]/sumLeast
		case sumWant >= whole:
			widths[i] = least[i] + (whole-sumLeast)*(want[i]-least[i])/math.Max(sumWant-sumLeast, 1e-9)
		case longs > 0:
			widths[i] = want[i]
			if long(i) {
				widths[i] += (whole - sumWant) / float64(longs)
			}
		default:
			widths[i] = want[i] + (whole-sumWant)/float64(len(want))
		}
	}
	return widths
}
