package render

import (
	"codeberg.org/go-pdf/fpdf"
)

// Lengths are millimetres, sizes of letters points.
const (
	pageWidth    = 210.0
	pageHeight   = 297.0
	margin       = 15.0
	topMargin    = 14.0
	secondTop    = 21.0 // below the running head of the pages after the first
	bottom       = pageHeight - 19
	contentWidth = pageWidth - 2*margin

	sizeText     = 8.6
	sizeTable    = 7.8
	sizeFoot     = 7.0
	sizeHeading  = 9.6
	sizeTitle    = 11.0
	sizeDocument = 12.5
	sizeHead     = 14.5
	sizeTotal    = 11.0

	termWidth    = 52.0
	bulletIndent = 4.0
	// keptTogether is how tall a row may be that goes to the next page whole; a taller
	// one is broken where the page ends.
	keptTogether = 60.0
)

// leading is the distance of lines.
func leading(size float64) float64 { return size * millimetre * 1.36 }

// sheet sets blocks on pages, from top to bottom.
type sheet struct {
	doc        *fpdf.Fpdf
	letters    *letters
	accent     [3]int
	y          float64
	pending    []title
	again      func() // draws what each new page repeats
	running    string // stands at the top of the pages that follow
	runnings   []string
	lastHeight float64
	logo       logoBox
	weight     weight
	size       float64
}

// title is a heading that waits for what it stands above.
type title struct {
	text         string
	size         float64
	level        int
	above, below float64
}

const family = "go"

// use selects a font.
func (s *sheet) use(w weight, size float64) {
	if s.weight == w && s.size == size {
		return
	}
	s.weight, s.size = w, size
	s.doc.SetFont(family, [weights]string{"", "B"}[w], size)
}

func (s *sheet) colour(i ink) {
	switch i {
	case inkSoft:
		s.doc.SetTextColor(89, 89, 89)
	case inkAccent:
		s.doc.SetTextColor(s.accent[0], s.accent[1], s.accent[2])
	default:
		s.doc.SetTextColor(27, 27, 27)
	}
}

func (s *sheet) newPage() {
	s.doc.AddPage()
	s.runnings = append(s.runnings, s.running)
	s.y = topMargin
	if len(s.runnings) > 1 {
		s.y = secondTop
	}
	if s.again != nil {
		s.again()
	}
}

// place makes room for h millimetres and sets the headings that wait above them.
func (s *sheet) place(h float64) {
	need := h
	for _, t := range s.pending {
		need += t.above + t.below + leading(t.size)
	}
	if s.y+need > bottom && s.y > secondTop {
		s.newPage()
	}
	waiting := s.pending
	s.pending = s.pending[:0]
	for _, t := range waiting {
		s.y += t.above
		s.doc.Bookmark(t.text, t.level, s.y)
		lines := s.letters.wrap([]run{{text: t.text, weight: bold, ink: inkAccent}}, t.size, contentWidth)
		for _, l := range lines {
			s.set(l, margin, t.size, contentWidth, false)
			s.y += leading(t.size)
		}
		s.y += t.below
	}
}

// set writes a line with its top at y.
func (s *sheet) set(l line, x, size, width float64, right bool) {
	if right {
		x += width - l.w
	}
	base := s.y + leading(size)*0.74
	for _, p := range l.pieces {
		s.use(p.weight, size)
		s.colour(p.ink)
		s.doc.Text(x+p.x, base, p.text)
	}
}

// strip is a text beside others.
type strip struct {
	x, w  float64
	lines []line
	size  float64
	right bool
}

// strips sets texts side by side, with room above and below them; where the page
// ends they go on on the next. after is called below each part with its top.
func (s *sheet) strips(all []strip, above, below float64, after func(top float64, last bool)) {
	high, step := 0, 0.0
	for _, one := range all {
		high = max(high, len(one.lines))
		step = max(step, leading(one.size))
	}
	total := above + below + float64(high)*step
	if total <= keptTogether {
		s.place(total)
	} else {
		s.place(above + below + 2*step)
	}
	for from := 0; ; {
		fit := max(1, int((bottom-s.y-above-below)/step+1e-6))
		to := min(high, from+fit)
		top := s.y
		s.y += above
		for i := from; i < to; i++ {
			for _, one := range all {
				if i < len(one.lines) {
					s.set(one.lines[i], one.x, one.size, one.w, one.right)
				}
			}
			s.y += step
		}
		s.y += below
		if after != nil {
			after(top, to == high)
		}
		if from = to; from >= high {
			s.lastHeight = s.y - top
			return
		}
		s.newPage()
	}
}

// field sets a name and its value.
func (s *sheet) field(f field, total bool) {
	size := sizeText
	if total {
		size = sizeTotal
	}
	s.strips([]strip{
		{x: margin, w: termWidth, size: size, lines: s.letters.wrap(f.term, size, termWidth-2)},
		{x: margin + termWidth, w: contentWidth - termWidth, size: size, lines: s.letters.wrap(f.value, size, contentWidth-termWidth)},
	}, 0.25, 0.25, nil)
}

// paragraph sets runs over the whole width; one that is indented gets a bullet.
func (s *sheet) paragraph(runs []run, indent float64) {
	all := []strip{{x: margin + indent, w: contentWidth - indent, size: sizeText, lines: s.letters.wrap(runs, sizeText, contentWidth-indent)}}
	if indent > 0 {
		all = append(all, strip{x: margin, w: indent, size: sizeText, lines: s.letters.wrap([]run{{text: "•", ink: inkAccent}}, sizeText, indent)})
	}
	s.strips(all, 0.2, 0.5, nil)
}

// frameText sets runs in a frame.
func (s *sheet) frameText(runs []run) {
	lines := s.letters.wrap(runs, sizeText, contentWidth-6)
	s.strips([]strip{{x: margin + 3, w: contentWidth - 6, size: sizeText, lines: lines}}, 1.6, 1.6, func(top float64, _ bool) {
		s.drawColour()
		s.doc.SetLineWidth(0.5)
		s.doc.Rect(margin, top, contentWidth, s.y-top, "D")
	})
	s.y += 2.5
}

func (s *sheet) drawColour() { s.doc.SetDrawColor(s.accent[0], s.accent[1], s.accent[2]) }

// rule draws a fine line over the whole width.
func (s *sheet) rule() {
	s.place(12)
	s.y += 2.5
	s.doc.SetDrawColor(201, 201, 201)
	s.doc.SetLineWidth(0.2)
	s.doc.Line(margin, s.y, pageWidth-margin, s.y)
	s.y += 1.5
}

// pageHead stands at the top of the first page: the logo, and what this is.
func (s *sheet) pageHead(text string) {
	x, height := margin, leading(sizeHead)
	if s.logo.name != "" {
		s.doc.ImageOptions(s.logo.name, margin, s.y, s.logo.w, s.logo.h, false, fpdf.ImageOptions{ImageType: s.logo.kind}, 0, "")
		x += s.logo.w + 6
		height = max(height, s.logo.h)
	}
	lines := s.letters.wrap([]run{{text: text, weight: bold, ink: inkAccent}}, sizeHead, pageWidth-margin-x)
	height = max(height, float64(len(lines))*leading(sizeHead))
	top := s.y
	s.y += (height - float64(len(lines))*leading(sizeHead)) / 2
	s.doc.Bookmark(text, 0, top)
	for _, l := range lines {
		s.set(l, x, sizeHead, pageWidth-margin-x, false)
		s.y += leading(sizeHead)
	}
	s.y = top + height + 2
	s.drawColour()
	s.doc.SetLineWidth(0.8)
	s.doc.Line(margin, s.y, pageWidth-margin, s.y)
	s.y += 3.5
}

const (
	boxGap  = 5.0
	boxPad  = 3.0
	boxTerm = 29.0
	// tallestBox is how tall boxes may be that stand side by side; taller ones are set
	// one below the other, where they can be broken.
	tallestBox = 170.0
)

// setBoxes sets the parties, two side by side.
func (s *sheet) setBoxes(boxes []box) {
	width := (contentWidth - boxGap) / 2
	for len(boxes) > 0 {
		pair := boxes[:min(2, len(boxes))]
		boxes = boxes[len(pair):]
		height := 0.0
		rows := make([][][2][]line, len(pair))
		for i, b := range pair {
			h := boxPad + leading(sizeHeading) + 1
			for _, r := range b.rows {
				row := [2][]line{
					s.letters.wrap(r.term, sizeText, boxTerm-2),
					s.letters.wrap(r.value, sizeText, width-2*boxPad-boxTerm),
				}
				rows[i] = append(rows[i], row)
				h += rowHeight(row)
			}
			height = max(height, h+boxPad-1)
		}
		if height > tallestBox {
			s.stack(pair)
			continue
		}
		s.place(height)
		top := s.y
		for i, b := range pair {
			s.y = top
			s.box(b, rows[i], margin+float64(i)*(width+boxGap), width, height)
		}
		s.y = top + height + 3
	}
}

func rowHeight(row [2][]line) float64 {
	return float64(max(len(row[0]), len(row[1])))*leading(sizeText) + 0.4
}

func (s *sheet) box(b box, rows [][2][]line, x, width, height float64) {
	s.doc.SetFillColor(246, 245, 243)
	s.doc.Rect(x, s.y, width, height, "F")
	s.drawColour()
	s.doc.SetLineWidth(0.5)
	s.doc.Line(x, s.y, x+width, s.y)
	s.y += boxPad - 0.5
	for _, l := range s.letters.wrap([]run{{text: b.heading, weight: bold, ink: inkAccent}}, sizeHeading, width-2*boxPad)[:1] {
		s.set(l, x+boxPad, sizeHeading, width, false)
	}
	s.y += leading(sizeHeading) + 1
	for _, row := range rows {
		top := s.y
		for i, lines := range row {
			s.y = top
			for _, l := range lines {
				s.set(l, x+boxPad+float64(i)*boxTerm, sizeText, width, false)
				s.y += leading(sizeText)
			}
		}
		s.y = top + rowHeight(row)
	}
}

// stack sets boxes one below the other.
func (s *sheet) stack(boxes []box) {
	for _, b := range boxes {
		s.pending = append(s.pending, title{text: b.heading, size: sizeTitle, above: 3, below: 1.6})
		for _, r := range b.rows {
			s.field(r, false)
		}
	}
}

// margins is what stands outside the blocks of each page.
type margins struct {
	number func(page, pages int) string
	foot   string
	mark   string // at the top of each page after the first
}

// finish writes the margins of each page, now that it is known how many there are.
func (s *sheet) finish(m margins) {
	s.place(0)
	pages := len(s.runnings)
	for i, running := range s.runnings {
		s.doc.SetPage(i + 1)
		s.size = 0 // the page does not know the font that was used last
		s.y = pageHeight - 13
		s.small([]run{{text: m.number(i+1, pages), ink: inkSoft}}, contentWidth, true)
		s.small([]run{{text: m.foot, ink: inkSoft}}, contentWidth-25, false)
		if i == 0 {
			continue
		}
		s.y = 11
		width := contentWidth
		if m.mark != "" {
			s.small([]run{{text: m.mark, weight: bold, ink: inkAccent}}, contentWidth, true)
			width -= s.letters.width(m.mark, bold, sizeFoot) + 4
		}
		s.small([]run{{text: running, ink: inkSoft}}, width, false)
		s.doc.SetDrawColor(201, 201, 201)
		s.doc.SetLineWidth(0.2)
		s.doc.Line(margin, 16, pageWidth-margin, 16)
	}
	s.doc.SetPage(pages) // the library takes the current page for the last
}

// small sets the first line of a text that stands outside the blocks.
func (s *sheet) small(runs []run, width float64, right bool) {
	lines := s.letters.wrap(runs, sizeFoot, width)
	if len(lines) > 0 {
		s.set(lines[0], margin, sizeFoot, contentWidth, right)
	}
}
