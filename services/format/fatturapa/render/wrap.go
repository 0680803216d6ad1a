package render

import (
	"strings"
	"unicode/utf8"
)

// ink is the colour of a text.
type ink uint8

const (
	inkPlain ink = iota
	inkSoft
	inkAccent
)

// run is a stretch of text of one look.
type run struct {
	text   string
	weight weight
	ink    ink
	kind   runKind
}

type runKind uint8

const (
	runText runKind = iota
	runGap          // a wide blank
	runNext         // a new line
)

// piece is a run, or a part of one, in its place on a line.
type piece struct {
	text   string
	x, w   float64
	weight weight
	ink    ink
}

// line is a line of text, w wide.
type line struct {
	pieces []piece
	w      float64
}

// wrapper breaks runs into lines of at most max millimetres.
type wrapper struct {
	letters   *letters
	size, max float64
	lines     []line
	line      line
	word      []piece
	wordWidth float64
	blank     float64 // before the word
	joins     bool    // the blank is an ordinary one
}

const gapWidth = 3.5

// wrap breaks runs into lines. Words that are wider than a line are cut.
func (l *letters) wrap(runs []run, size, width float64) []line {
	w := &wrapper{letters: l, size: size, max: width}
	for _, r := range runs {
		switch r.kind {
		case runGap:
			w.endWord()
			w.blank, w.joins = gapWidth, false
		case runNext:
			w.endWord()
			if len(w.line.pieces) > 0 {
				w.endLine()
			}
		default:
			w.text(r)
		}
	}
	w.endWord()
	if len(w.line.pieces) > 0 {
		w.endLine()
	}
	return w.lines
}

func (w *wrapper) text(r run) {
	for s := r.text; s != ""; {
		i := strings.IndexByte(s, ' ')
		if i == 0 {
			w.endWord()
			if w.blank == 0 {
				w.blank, w.joins = w.letters.width(" ", r.weight, w.size), true
			}
			s = s[1:]
			continue
		}
		if i < 0 {
			i = len(s)
		}
		width := w.letters.width(s[:i], r.weight, w.size)
		w.word = append(w.word, piece{text: s[:i], w: width, weight: r.weight, ink: r.ink})
		w.wordWidth += width
		s = s[i:]
	}
}

// endWord puts the word on the line, or on the next.
func (w *wrapper) endWord() {
	if len(w.word) == 0 {
		return
	}
	if len(w.line.pieces) > 0 && w.line.w+w.blank+w.wordWidth > w.max {
		w.endLine()
	}
	if len(w.line.pieces) == 0 {
		w.blank = 0
	}
	for i, p := range w.word {
		if i > 0 {
			w.blank = 0
		}
		for w.line.w+w.blank+p.w > w.max && w.wordWidth > w.max {
			p = w.cut(p)
		}
		if p.text != "" {
			w.put(p)
		}
	}
	w.word, w.wordWidth, w.blank = w.word[:0], 0, 0
}

// put adds a piece to the line, joined with the one before it where the looks are
// the same.
func (w *wrapper) put(p piece) {
	if n := len(w.line.pieces); n > 0 && (w.blank == 0 || w.joins) {
		if last := &w.line.pieces[n-1]; last.weight == p.weight && last.ink == p.ink {
			if w.blank > 0 {
				last.text += " "
			}
			last.text += p.text
			last.w += w.blank + p.w
			w.line.w += w.blank + p.w
			return
		}
	}
	p.x = w.line.w + w.blank
	w.line.w = p.x + p.w
	w.line.pieces = append(w.line.pieces, p)
}

// cut puts on the line what fits of a piece that is wider than a line, ends the
// line, and returns the rest.
func (w *wrapper) cut(p piece) piece {
	width, at := 0.0, 0
	for i, r := range p.text {
		one := w.letters.width(string(r), p.weight, w.size)
		if w.line.w+w.blank+width+one > w.max && (at > 0 || len(w.line.pieces) > 0) {
			break
		}
		width, at = width+one, i+utf8.RuneLen(r)
	}
	if at > 0 {
		w.put(piece{text: p.text[:at], w: width, weight: p.weight, ink: p.ink})
	}
	w.endLine()
	p.text, p.w = p.text[at:], p.w-width
	return p
}

func (w *wrapper) endLine() {
	w.lines = append(w.lines, w.line)
	w.line, w.blank = line{}, 0
}

// natural is how wide runs want to be, and how wide they must be at least: their
// longest word.
func (l *letters) natural(runs []run, size float64) (want, least float64) {
	row, word := 0.0, 0.0
	for _, r := range runs {
		switch r.kind {
		case runNext:
			row, word = 0, 0
			continue
		case runGap:
			row, word = row+gapWidth, 0
			continue
		}
		for _, c := range r.text {
			one := float64(l[r.weight][uint16(c)]) * size * millimetre / 1000
			row += one
			if c == ' ' {
				word = 0
				continue
			}
			word += one
			want, least = max(want, row), max(least, word)
		}
	}
	return want, least
}
