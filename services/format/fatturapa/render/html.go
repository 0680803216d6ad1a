package render

import (
	"encoding/base64"
	"io"
	"strconv"
	"strings"
)

// html is a view as one page of HTML. Its methods never fail: the first error of w
// is kept, and what comes after it is dropped.
type html struct {
	w       io.Writer
	err     error
	buf     []byte
	o       *Options
	lang    language
	accent  string
	logo    picture
	foot    bool   // the table that is open has its last row
	closing string // tag of the cell that is open
}

const flushAt = 32 << 10

// tags is the markup before and after each piece.
var tags = [marks][2]string{
	markDocument:     {"", "</article>\n"},
	markTable:        {"", ""},
	markRow:          {"<tr>", "</tr>\n"},
	markFoot:         {"</tbody>\n<tfoot><tr>", "</tr></tfoot>\n"},
	markParties:      {"<div class=\"parties\">\n", "</div>\n"},
	markParty:        {"<section class=\"party\">\n", "</section>\n"},
	markSection:      {"<section>\n", "</section>\n"},
	markPayment:      {"<section class=\"payment\">\n", "</section>\n"},
	markTransmission: {"<section class=\"transmission\">\n", "</section>\n"},
	markTitle:        {"<h2>", "</h2>\n"},
	markHeading:      {"<h3>", "</h3>\n"},
	markFields:       {"<dl class=\"kv\">\n", "</dl>\n"},
	markInner:        {"\n<dl class=\"in\">\n", "</dl>\n"},
	markField:        {"<div>", "</div>\n"},
	markGroup:        {"<div class=\"sub\">", "</div>\n"},
	markTotal:        {"<div class=\"total\">", "</div>\n"},
	markTerm:         {"<dt>", "</dt>"},
	markValue:        {"<dd>", "</dd>"},
	markItem:         {"<span class=\"item\">", "</span> "},
	markName:         {"<span class=\"name\">", "</span> "},
	markCode:         {"<span class=\"code\">", "</span> "},
	markNote:         {" <span class=\"note\">", "</span>"},
	markStrong:       {"<strong>", "</strong>"},
	markMore:         {"<div class=\"more\">", "</div>"},
	markParagraph:    {"<p>", "</p>\n"},
	markFiles:        {"<ul class=\"files\">\n", "</ul>\n"},
	markFile:         {"<li>", "</li>\n"},
}

func (h *html) open(m mark) {
	if m == markFoot {
		h.foot = true
	}
	h.raw(tags[m][0])
}

func (h *html) shut(m mark) {
	switch m {
	case markCell:
		h.raw(h.closing)
	case markTable:
		if !h.foot {
			h.raw("</tbody>\n")
		}
		h.raw("</table>\n</div>\n")
	default:
		h.raw(tags[m][1])
	}
}

// raw writes markup of this package.
func (h *html) raw(parts ...string) {
	for _, s := range parts {
		h.buf = append(h.buf, s...)
	}
	if len(h.buf) >= flushAt {
		h.flush()
	}
}

func (h *html) flush() {
	if h.err == nil && len(h.buf) > 0 {
		_, h.err = h.w.Write(h.buf)
	}
	h.buf = h.buf[:0]
}

// text writes a text, escaped so that it is text in an element and in a quoted
// attribute alike.
func (h *html) text(s string) {
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
		h.buf = append(h.buf, s[from:i]...)
		h.buf = append(h.buf, rep...)
		from = i + 1
	}
	h.buf = append(h.buf, s[from:]...)
	if len(h.buf) >= flushAt {
		h.flush()
	}
}

// say writes words of this package.
func (h *html) say(w words) { h.text(w[h.lang]) }

// number writes what holds digits and separators only, so nothing to escape.
func (h *html) number(b []byte) { h.buf = append(h.buf, b...) }

func (h *html) date(xml, shown string) {
	h.raw("<time datetime=\"")
	h.text(xml)
	h.raw("\">")
	h.text(shown)
	h.raw("</time>")
}

func (h *html) next() { h.raw("<br>") }

func (h *html) begin(f frame) {
	h.raw("<!DOCTYPE html>\n<html lang=\"", h.lang.code(), "\">\n<head>\n<meta charset=\"utf-8\">\n",
		"<meta http-equiv=\"Content-Security-Policy\" content=\"", policy(h.accent), "\">\n",
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
		"<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"robots\" content=\"noindex, nofollow\">\n<title>")
	h.text(f.title)
	h.raw("</title>\n<style>", style, "</style>\n<style>", accentStyle(h.accent), "</style>\n</head>\n<body>\n",
		"<a class=\"skip\" href=\"#main\">")
	h.say(wordSkip)
	h.raw("</a>\n")
	h.courtesy()
	h.raw("<header class=\"top\">\n")
	if h.logo.mime != "" {
		alt := h.o.LogoAlt
		if alt == "" {
			alt = f.seller
		}
		h.raw("<img class=\"logo\" src=\"data:", h.logo.mime, ";base64,", base64.StdEncoding.EncodeToString(h.o.Logo), "\" alt=\"")
		h.text(alt)
		h.raw("\">\n")
	}
	h.raw("<h1>")
	h.text(f.heading)
	h.raw("</h1>\n</header>\n")
	if len(f.documents) > 1 {
		h.contents(f.documents)
	}
	h.raw("<main id=\"main\">\n")
}

// contents leads to the documents of a lot.
func (h *html) contents(documents []string) {
	h.raw("<nav aria-labelledby=\"contents\">\n<h2 id=\"contents\">")
	h.say(wordLot)
	h.raw(": ", strconv.Itoa(len(documents)), " ")
	h.say(wordDocuments)
	h.raw("</h2>\n<ol>\n")
	for i, title := range documents {
		h.raw("<li><a href=\"#d", strconv.Itoa(i+1), "\">")
		h.text(title)
		h.raw("</a></li>\n")
	}
	h.raw("</ol>\n</nav>\n")
}

func (h *html) end(f frame) {
	h.raw("</main>\n<footer><p>")
	for _, note := range f.notes {
		h.text(note)
		h.raw(" ")
	}
	h.text(f.foot)
	h.raw("</p></footer>\n</body>\n</html>\n")
}

func (h *html) courtesy() {
	if !h.o.Courtesy {
		return
	}
	h.raw("<p class=\"copy\" role=\"note\"><strong>")
	h.say(wordCourtesy)
	h.raw("</strong> ")
	h.say(wordCourtesyMeans)
	h.raw("</p>\n")
}

func (h *html) document(n int, title string) {
	id := "d" + strconv.Itoa(n+1)
	h.raw("<article id=\"", id, "\" aria-labelledby=\"", id, "h\">\n<h2 id=\"", id, "h\">")
	h.text(title)
	h.raw("</h2>\n")
	if n > 0 {
		h.courtesy() // each document of a lot starts a printed page
	}
}

func (h *html) table(caption string, columns []column) {
	h.foot = false
	h.raw("<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"")
	h.text(caption)
	h.raw("\">\n<table>\n<caption>")
	h.text(caption)
	h.raw("</caption>\n<thead><tr>")
	for _, c := range columns {
		h.raw("<th scope=\"col\"", cellClass(c.number, c.long), ">")
		h.text(c.label)
		h.raw("</th>")
	}
	h.raw("</tr></thead>\n<tbody>\n")
}

// cellClass sets numbers to the right, and gives room to the texts of a table.
func cellClass(number, long bool) string {
	switch {
	case number:
		return ` class="n"`
	case long:
		return ` class="d"`
	}
	return ""
}

func (h *html) cell(c cell) {
	h.closing = "</td>"
	if c.head {
		h.closing = "</th>"
		h.raw("<th scope=\"row\"")
	} else {
		h.raw("<td")
	}
	if c.span > 1 {
		h.raw(" colspan=\"", strconv.Itoa(c.span), "\"")
	}
	h.raw(cellClass(c.number, c.long), ">")
}

// attachment writes a link that saves the file. Its target holds letters of Base64
// and nothing else.
func (h *html) attachment(a attachment) {
	h.raw("<a download=\"")
	h.text(a.file)
	h.raw("\" href=\"data:", a.mime, ";base64,")
	h.base64(a.content)
	h.raw("\">")
	h.say(wordDownload)
	h.raw(" ")
	h.text(a.file)
	h.raw("</a> (", a.size, ")")
}

// base64 writes a text that base64Size has approved, without its white space.
func (h *html) base64(s string) {
	for len(s) > 0 {
		i := strings.IndexAny(s, " \t\r\n")
		if i < 0 {
			i = len(s)
		}
		h.raw(s[:i])
		s = s[min(i+1, len(s)):]
	}
}
