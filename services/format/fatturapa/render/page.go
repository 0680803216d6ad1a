package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
)

// Page is something other than an invoice that is shown in the same dress, for instance a report.
// All texts are plain.
type Page struct {
	Title   string // of the whole
	Heading string // the first line to be read
	Author  string // in the properties of a PDF
	Date    string // YYYY-MM-DD, in the properties of a PDF: not a clock's, so that the bytes are the same
	Parts   []Part
	Notes   []string // what the reader must know
	Foot    string   // stands below, in a PDF on each page
}

// Part is a piece of a page with a heading of its own.
type Part struct {
	Title    string
	Sections []Section
}

// Section is a list of names and values, and sentences below it.
type Section struct {
	Heading string // "": none
	Fields  []Field
	Lines   []string
}

// Field is a name and its value; one that is Chief is what everybody looks for.
type Field struct {
	Name, Value string
	Chief       bool
}

// show writes a page on a paper.
func (g *Page) show(out paper) {
	f := frame{title: g.Title, heading: g.Heading, seller: g.Author, notes: g.Notes, foot: g.Foot, date: g.Date}
	for _, p := range g.Parts {
		f.documents = append(f.documents, p.Title)
	}
	if len(f.documents) > 1 { // the words of a table of contents speak of invoices
		f.documents = f.documents[:1]
	}
	out.begin(f)
	for i := range g.Parts {
		out.document(0, g.Parts[i].Title)
		for j := range g.Parts[i].Sections {
			g.Parts[i].Sections[j].show(out)
		}
		out.shut(markDocument)
	}
	out.end(f)
}

func (s *Section) show(out paper) {
	enclose := func(m mark, inside func()) {
		out.open(m)
		inside()
		out.shut(m)
	}
	enclose(markSection, func() {
		if s.Heading != "" {
			enclose(markHeading, func() { out.text(s.Heading) })
		}
		if len(s.Fields) > 0 {
			enclose(markFields, func() {
				for _, f := range s.Fields {
					m := markField
					if f.Chief {
						m = markTotal
					}
					enclose(m, func() {
						enclose(markTerm, func() { out.text(f.Name) })
						enclose(markValue, func() { out.text(f.Value) })
					})
				}
			})
		}
		for _, line := range s.Lines {
			enclose(markParagraph, func() { out.text(line) })
		}
	})
}

// HTML writes the page, as UTF-8. Errors: as of the function HTML.
func (g *Page) HTML(w io.Writer, o Options) error {
	lang, accent, logo, err := dress(o)
	if err != nil {
		return err
	}
	h := &html{w: w, o: &o, lang: lang, accent: accent, logo: logo}
	g.show(&parts{html: h})
	h.flush()
	if h.err != nil {
		return fmt.Errorf("render: writing the page: %w", h.err)
	}
	return nil
}

// parts numbers the articles of a page, whose papers count from 0 each time.
type parts struct {
	*html
	n int
}

func (p *parts) document(_ int, title string) {
	p.html.document(p.n, title)
	p.n++
}

// PDF writes the page as a PDF of A4 pages. Errors and limits: as of the function PDF.
func (g *Page) PDF(w io.Writer, o Options) error {
	lang, accent, logo, err := dress(o)
	if err != nil {
		return err
	}
	p, err := newPDF(&o, lang, accent, logo)
	if err != nil {
		return err
	}
	g.show(p)
	var raw bytes.Buffer
	if err := p.doc.Output(&raw); err != nil {
		return fmt.Errorf("render: making the PDF: %w", err)
	}
	return complete(w, raw.Bytes(), nil)
}

// dress checks the options.
func dress(o Options) (lang language, accent string, logo picture, err error) {
	switch o.Lang {
	case "", "it":
		lang = italian
	case "en":
		lang = english
	default:
		return 0, "", picture{}, fmt.Errorf("render: language %q is not known: give it or en", o.Lang)
	}
	if accent, err = Readable(o.Accent); err != nil {
		return 0, "", picture{}, err
	}
	if logo, err = readPicture(o.Logo); err != nil {
		return 0, "", picture{}, err
	}
	return lang, accent, logo, nil
}

// newPDF starts a PDF with its fonts and its logo.
func newPDF(o *Options, lang language, accent string, logo picture) (*pdf, error) {
	all, err := loadLetters()
	if err != nil {
		return nil, err
	}
	p := &pdf{o: o, lang: lang}
	p.doc, p.letters, p.accent = newDocument(lang), all, channels(accent)
	// A copy each: the library writes into the bytes when it pads a table of the font.
	p.doc.AddUTF8FontFromBytes(family, "", bytes.Clone(goregular.TTF))
	p.doc.AddUTF8FontFromBytes(family, "B", bytes.Clone(gobold.TTF))
	if logo.mime == "" {
		return p, nil
	}
	shown, err := printable(o.Logo)
	if err != nil {
		return nil, err
	}
	p.logo = logoBox{name: "logo", kind: "png"}
	p.logo.w, p.logo.h = logo.fit()
	p.doc.RegisterImageOptionsReader(p.logo.name, fpdf.ImageOptions{ImageType: p.logo.kind}, bytes.NewReader(shown))
	return p, nil
}

var errNoFile = errors.New("render: no file: parse one with fatturapa.Parse first")
