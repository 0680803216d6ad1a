// Package render shows an invoice to people: one HTML page that holds the whole
// file, every document of a lot and its attachments, in Italian or English.
//
// It owns the layout, the words for elements and codes, and the way numbers and
// dates are written. The page stands alone: no script, no form, nothing fetched
// from anywhere, and a content security policy that says so to the browser. Every
// text of the file is escaped; elements that the format does not know are shown
// too, under their own names, so that nothing of the file stays hidden. The text
// of an XML signature is the one exception: the page says only that there is one.
//
// It refuses to judge and to compute what binds: whether the invoice is valid is
// for fatturapa.Check, whether a signature holds for other packages. It reads no
// file and no clock, so the same file gives the same bytes.
package render

import (
	"errors"
	"fmt"
	"io"

	"ceralacca.dev/services/format/fatturapa"
)

// Options chooses language and dress of the page. The zero value is an Italian
// page without logo.
type Options struct {
	// Lang is "it" or "en"; "" is Italian.
	Lang string
	// Logo is a PNG, JPEG, GIF or WebP picture of at most 512 KiB, shown at the top.
	// SVG is refused: it can hold scripts.
	Logo []byte
	// LogoAlt says what the logo shows, to those who cannot see it; "" is the name of
	// the seller.
	LogoAlt string
	// Accent is the colour of headings and rules, "#rrggbb"; "" is the house's. It is
	// darkened as far as reading on white needs (WCAG 2.2, 1.4.3).
	Accent string
	// Courtesy marks the page as a courtesy copy, on screen and on each printed document.
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
	if f == nil {
		return errors.New("render: no file: parse one with fatturapa.Parse first")
	}
	p := &page{w: w, f: f, o: o}
	switch o.Lang {
	case "", "it":
		p.lang = italian
	case "en":
		p.lang = english
	default:
		return fmt.Errorf("render: language %q is not known: give it or en", o.Lang)
	}
	var err error
	if p.accent, err = readAccent(o.Accent); err != nil {
		return err
	}
	if p.logoType, err = pictureType(o.Logo); err != nil {
		return err
	}
	p.invoice = f.Root().Namespace()
	p.page()
	p.flush()
	if p.err != nil {
		return fmt.Errorf("render: writing the page: %w", p.err)
	}
	return nil
}

const largestLogo = 512 << 10

// pictureType knows pictures by their first bytes; "" when there is none.
func pictureType(logo []byte) (string, error) {
	if len(logo) == 0 {
		return "", nil
	}
	if len(logo) > largestLogo {
		return "", fmt.Errorf("render: the logo has %d bytes, at most %d are allowed: use a smaller picture", len(logo), largestLogo)
	}
	head := string(logo[:min(len(logo), 16)])
	switch {
	case len(head) > 8 && head[:8] == "\x89PNG\r\n\x1a\n":
		return "image/png", nil
	case len(head) > 3 && head[:3] == "\xff\xd8\xff":
		return "image/jpeg", nil
	case len(head) > 6 && (head[:6] == "GIF87a" || head[:6] == "GIF89a"):
		return "image/gif", nil
	case len(head) > 12 && head[:4] == "RIFF" && head[8:12] == "WEBP":
		return "image/webp", nil
	}
	return "", errors.New("render: the logo is no picture that can be shown: give a PNG, JPEG, GIF or WebP file")
}
