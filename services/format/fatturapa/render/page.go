package render

import (
	"encoding/base64"
	"io"
	"iter"
	"strconv"
	"strings"

	"ceralacca.dev/services/format/fatturapa"
)

// page writes one page. Its methods never fail: the first error of w is kept, and
// what comes after it is dropped.
type page struct {
	w        io.Writer
	err      error
	buf      []byte
	f        *fatturapa.File
	o        Options
	lang     language
	accent   string
	logoType string
	invoice  string // namespace of the format: what is in another one is not of the invoice
	attached int
}

const flushAt = 32 << 10

// raw writes markup of this package.
func (p *page) raw(parts ...string) {
	for _, s := range parts {
		p.buf = append(p.buf, s...)
	}
	if len(p.buf) >= flushAt {
		p.flush()
	}
}

func (p *page) flush() {
	if p.err == nil && len(p.buf) > 0 {
		_, p.err = p.w.Write(p.buf)
	}
	p.buf = p.buf[:0]
}

// text writes a text of the file, escaped so that it is text in an element and in
// a quoted attribute alike.
func (p *page) text(s string) {
	from := 0
	for i := 0; i < len(s); i++ {
		var rep string
		switch c := s[i]; {
		case c == '<':
			rep = "&lt;"
		case c == '>':
			rep = "&gt;"
		case c == '&':
			rep = "&amp;"
		case c == '"':
			rep = "&#34;"
		case c == '\'':
			rep = "&#39;"
		case c == '`':
			rep = "&#96;"
		default:
			continue
		}
		p.buf = append(p.buf, s[from:i]...)
		p.buf = append(p.buf, rep...)
		from = i + 1
	}
	p.buf = append(p.buf, s[from:]...)
	if len(p.buf) >= flushAt {
		p.flush()
	}
}

// say writes words of this package.
func (p *page) say(w words) { p.text(w[p.lang]) }

// langCode is the language of the page.
func (p *page) langCode() string {
	if p.lang == english {
		return "en"
	}
	return "it"
}

// business iterates over the children of an element but for a signature.
func (p *page) business(e fatturapa.Element) iter.Seq[fatturapa.Element] {
	return func(yield func(fatturapa.Element) bool) {
		for c := range e.Children() {
			if c.Namespace() == signatureNamespace {
				continue
			}
			if !yield(c) {
				return
			}
		}
	}
}

const signatureNamespace = "http://www.w3.org/2000/09/xmldsig#"

// named is the name of an element of the format, "" for one of another namespace:
// that is shown under its own name, never as what it only looks like.
func (p *page) named(e fatturapa.Element) string {
	if ns := e.Namespace(); ns != "" && ns != p.invoice {
		return ""
	}
	return e.Name()
}

func (p *page) page() {
	p.raw("<!DOCTYPE html>\n<html lang=\"", p.langCode(), "\">\n<head>\n<meta charset=\"utf-8\">\n",
		"<meta http-equiv=\"Content-Security-Policy\" content=\"", policy(p.accent), "\">\n",
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
		"<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"robots\" content=\"noindex, nofollow\">\n<title>")
	p.title()
	p.raw("</title>\n<style>", style, "</style>\n<style>", accentStyle(p.accent), "</style>\n</head>\n<body>\n")
	p.top()
	p.raw("<main id=\"main\">\n")
	p.parties()
	p.documents()
	p.transmission()
	p.raw("</main>\n<footer><p>")
	if p.f.Signed {
		p.say(wordSigned)
		p.raw(" ")
	}
	p.say(wordView)
	p.raw("</p></footer>\n</body>\n</html>\n")
}

// seller is the name for title and logo.
func (p *page) seller() string {
	return p.f.Header.CedentePrestatore.DatiAnagrafici.Anagrafica.Nominativo()
}

func (p *page) title() {
	if len(p.f.Bodies) == 1 {
		p.heading(&p.f.Bodies[0])
	} else {
		p.say(wordLot)
		p.raw(" (", strconv.Itoa(len(p.f.Bodies)), ")")
	}
	if name := p.seller(); name != "" {
		p.raw(" – ")
		p.text(name)
	}
	if p.o.Courtesy {
		p.raw(" – ")
		p.say(wordCourtesy)
	}
}

// heading names a document: what it is, number and date.
func (p *page) heading(b *fatturapa.Body) {
	d := b.Documento()
	if w, ok := codeLists[listTipoDocumento][d.TipoDocumento]; ok {
		p.say(w)
	} else {
		p.say(wordDocument)
	}
	if d.Numero != "" {
		p.raw(" ")
		p.say(wordNumber)
		p.raw(" ")
		p.text(d.Numero)
	}
	if d.Data != "" {
		p.raw(" ")
		p.say(wordOf)
		p.raw(" ")
		p.value(kindDate, string(d.Data))
	}
}

// top is what stands above all documents.
func (p *page) top() {
	p.raw("<a class=\"skip\" href=\"#main\">")
	p.say(wordSkip)
	p.raw("</a>\n")
	p.courtesy()
	p.raw("<header class=\"top\">\n")
	if p.logoType != "" {
		alt := p.o.LogoAlt
		if alt == "" {
			alt = p.seller()
		}
		p.raw("<img class=\"logo\" src=\"data:", p.logoType, ";base64,", base64.StdEncoding.EncodeToString(p.o.Logo), "\" alt=\"")
		p.text(alt)
		p.raw("\">\n")
	}
	p.raw("<h1>")
	if w, ok := formatTitles[p.f.Formato()]; ok {
		p.say(w)
	} else {
		p.say(wordInvoice)
	}
	p.raw("</h1>\n</header>\n")
	if len(p.f.Bodies) > 1 {
		p.contents()
	}
}

func (p *page) courtesy() {
	if !p.o.Courtesy {
		return
	}
	p.raw("<p class=\"copy\" role=\"note\"><strong>")
	p.say(wordCourtesy)
	p.raw("</strong> ")
	p.say(wordCourtesyMeans)
	p.raw("</p>\n")
}

// contents leads to the documents of a lot.
func (p *page) contents() {
	p.raw("<nav aria-labelledby=\"contents\">\n<h2 id=\"contents\">")
	p.say(wordLot)
	p.raw(": ", strconv.Itoa(len(p.f.Bodies)), " ")
	p.say(wordDocuments)
	p.raw("</h2>\n<ol>\n")
	for i := range p.f.Bodies {
		p.raw("<li><a href=\"#d", strconv.Itoa(i+1), "\">")
		p.heading(&p.f.Bodies[i])
		p.raw("</a></li>\n")
	}
	p.raw("</ol>\n</nav>\n")
}

// headers iterates over the children of the header; a file with several headers,
// which no schema allows, shows them all.
func (p *page) headers() iter.Seq2[string, fatturapa.Element] {
	return func(yield func(string, fatturapa.Element) bool) {
		for h := range p.business(p.f.Root()) {
			if p.named(h) != "FatturaElettronicaHeader" {
				continue
			}
			for c := range p.business(h) {
				if !yield(p.named(c), c) {
					return
				}
			}
		}
	}
}

// parties shows who sells, who buys and who else has a part.
func (p *page) parties() {
	p.raw("<div class=\"parties\">\n")
	for name, c := range p.headers() {
		if name != "DatiTrasmissione" && c.HasChildren() {
			p.section(c, "h2", "party")
		}
	}
	p.raw("</div>\n")
	open := false
	for name, c := range p.headers() {
		if name == "DatiTrasmissione" || c.HasChildren() {
			continue
		}
		if !open {
			p.raw("<dl class=\"kv\">\n")
			open = true
		}
		p.field(c)
	}
	if open {
		p.raw("</dl>\n")
	}
}

// transmission shows how the file travels, and what else its root holds.
func (p *page) transmission() {
	p.raw("<section class=\"transmission\">\n<h2>")
	p.say(labelOf("DatiTrasmissione"))
	p.raw("</h2>\n<dl class=\"kv\">\n")
	if p.o.FileName != "" {
		p.pair(wordFileName, p.o.FileName)
	}
	for _, name := range []string{"versione", "SistemaEmittente"} {
		if v, ok := p.f.Root().Attr(name); ok {
			p.pair(labelOf(name), v)
		}
	}
	for name, c := range p.headers() {
		if name == "DatiTrasmissione" {
			p.fields(c)
		}
	}
	p.raw("</dl>\n</section>\n")
	for c := range p.business(p.f.Root()) {
		name := p.named(c)
		if name == "FatturaElettronicaBody" || name == "FatturaElettronicaHeader" && c.HasChildren() {
			continue
		}
		p.section(c, "h2", "")
	}
}

// pair writes one row of a list of fields.
func (p *page) pair(label words, v string) {
	p.raw("<div><dt>")
	p.say(label)
	p.raw("</dt><dd>")
	p.text(strings.TrimSpace(v))
	p.raw("</dd></div>\n")
}
