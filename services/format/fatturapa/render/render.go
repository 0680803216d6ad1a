// Package render shows an invoice to people: the whole file, every document of a lot
// and its attachments, in Italian or English, as one page of HTML or as a PDF.
//
// Both are painted from one view, so what one shows the other shows too. The package
// owns the layout, the words for elements and codes, and the way numbers and dates
// are written. Elements that the format does not know are shown too, under their own
// names, so that nothing of the file stays hidden; the text of an XML signature is
// the one exception: the view says only that there is one.
//
// The page stands alone: no script, no form, nothing fetched from anywhere, and a
// content security policy that says so to the browser. Every text of the file is
// escaped. The PDF holds no action that starts by itself. Attachments keep their type
// only where opening one starts nothing.
//
// It refuses to judge and to compute what binds: whether the invoice is valid is
// for fatturapa.Check, whether a signature holds for other packages. It reads no
// file and no clock, so the same file and options give the same bytes.
package render

import (
	"bytes"
	"fmt"
	"io"

	"ceralacca.dev/services/format/fatturapa"
)

// Options chooses language and dress, of the page and of the PDF alike. The zero
// value is Italian, without logo, in the colour of the house.
type Options struct {
	// Lang is "it" or "en"; "" is Italian.
	Lang string
	// Logo is a PNG, JPEG, GIF or WebP picture of at most 512 KiB and 4 million points,
	// shown at the top. SVG is refused: it can hold scripts.
	Logo []byte
	// LogoAlt says what the logo shows, to those who cannot see it; "" is the name of
	// the seller. The PDF has no use for it.
	LogoAlt string
	// Accent is the colour of headings and rules, "#rrggbb"; "" is the house's. It is
	// darkened as far as reading on white needs (WCAG 2.2, 1.4.3): see [Readable].
	Accent string
	// Courtesy marks a courtesy copy, on screen and on each printed page.
	Courtesy bool
	// FileName is shown in the transmission data; "" leaves it out.
	FileName string
}

// language selects from pairs of words.
type language int

const (
	italian language = iota
	english
)

// words are a text in both languages.
type words [2]string

// HTML writes the page of a file, as UTF-8. Errors: an option that cannot be used
// (named, with what it should be; nothing is written then), or the error of w.
func HTML(w io.Writer, f *fatturapa.File, o Options) error {
	v, accent, logo, err := prepare(f, o)
	if err != nil {
		return err
	}
	h := &html{w: w, o: &v.o, lang: v.lang, accent: accent, logo: logo}
	v.out = h
	v.show()
	h.flush()
	if h.err != nil {
		return fmt.Errorf("render: writing the page: %w", h.err)
	}
	return nil
}

// PDF writes a file as a PDF of A4 pages that shows what [HTML] shows, with the
// attachments of the invoice as attachments of the PDF. Dates in it are those of the
// first document, so the same file and options give the same bytes. Characters that
// the fonts lack (they have Latin, Greek and Cyrillic) are shown as U+FFFD, and the
// last page says so. The PDF is not tagged and claims no conformance to PDF/A: who
// needs a view for assistive technology takes the page. Errors: as of HTML.
func PDF(w io.Writer, f *fatturapa.File, o Options) error {
	v, accent, logo, err := prepare(f, o)
	if err != nil {
		return err
	}
	p, err := newPDF(&v.o, v.lang, accent, logo)
	if err != nil {
		return err
	}
	v.out = p
	v.show()
	var raw bytes.Buffer
	if err := p.doc.Output(&raw); err != nil {
		return fmt.Errorf("render: making the PDF: %w", err)
	}
	return complete(w, raw.Bytes(), p.files)
}

// prepare checks the options; the view that comes out lacks a paper only.
func prepare(f *fatturapa.File, o Options) (v *view, accent string, logo picture, err error) {
	if f == nil {
		return nil, "", picture{}, errNoFile
	}
	v = &view{f: f, o: o, invoice: f.Root().Namespace()}
	if v.lang, accent, logo, err = dress(o); err != nil {
		return nil, "", picture{}, err
	}
	return v, accent, logo, nil
}
