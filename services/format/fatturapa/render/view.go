package render

import (
	"encoding/base64"
	"iter"
	"strconv"
	"strings"

	"ceralacca.dev/services/format/fatturapa"
)

// view walks through a file and says to a paper what there is to see. It is the
// same for every paper, so what one shows the other shows too.
type view struct {
	out      paper
	f        *fatturapa.File
	o        Options
	lang     language
	invoice  string // namespace of the format: what is in another one is not of the invoice
	currency string // of the document being shown
	attached int
	scratch  []byte
}

// say writes words of this package.
func (v *view) say(w words) { v.out.text(w[v.lang]) }

// code is the language of the view.
func (l language) code() string {
	if l == english {
		return "en"
	}
	return "it"
}

// business iterates over the children of an element but for a signature.
func (v *view) business(e fatturapa.Element) iter.Seq[fatturapa.Element] {
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
func (v *view) named(e fatturapa.Element) string {
	if ns := e.Namespace(); ns != "" && ns != v.invoice {
		return ""
	}
	return e.Name()
}

// show writes the whole view.
func (v *view) show() {
	f := v.frame()
	v.out.begin(f)
	v.parties()
	v.documents(f.documents)
	v.transmission()
	v.out.end(f)
}

func (v *view) frame() frame {
	f := frame{seller: v.f.Header.CedentePrestatore.DatiAnagrafici.Anagrafica.Nominativo()}
	for i := range v.f.Bodies {
		f.documents = append(f.documents, v.title(&v.f.Bodies[i]))
	}
	if len(v.f.Bodies) > 0 {
		f.date = string(v.f.Bodies[0].Documento().Data)
	}
	f.title = wordLot[v.lang] + " (" + strconv.Itoa(len(v.f.Bodies)) + ")"
	if len(f.documents) == 1 {
		f.title = f.documents[0]
	}
	if f.seller != "" {
		f.title += " – " + f.seller
	}
	if v.o.Courtesy {
		f.title += " – " + wordCourtesy[v.lang]
	}
	heading, ok := formatTitles[v.f.Formato()]
	if !ok {
		heading = wordInvoice
	}
	f.heading = heading[v.lang]
	if v.f.Signed {
		f.notes = append(f.notes, wordSigned[v.lang])
	}
	f.foot = wordView[v.lang]
	return f
}

// title names a document: what it is, number and date.
func (v *view) title(b *fatturapa.Body) string {
	d := b.Documento()
	w, ok := codeLists[listTipoDocumento][d.TipoDocumento]
	if !ok {
		w = wordDocument
	}
	title := w[v.lang]
	if d.Numero != "" {
		title += " " + wordNumber[v.lang] + " " + d.Numero
	}
	if d.Data != "" {
		title += " " + wordOf[v.lang] + " "
		if shown, zone, ok := v.day(string(d.Data)); ok {
			title += shown + zone
		} else {
			title += string(d.Data)
		}
	}
	return title
}

// headers iterates over the children of the header; a file with several headers,
// which no schema allows, shows them all.
func (v *view) headers() iter.Seq2[string, fatturapa.Element] {
	return func(yield func(string, fatturapa.Element) bool) {
		for h := range v.business(v.f.Root()) {
			if v.named(h) != "FatturaElettronicaHeader" {
				continue
			}
			for c := range v.business(h) {
				if !yield(v.named(c), c) {
					return
				}
			}
		}
	}
}

// firstParties come side by side, whatever stands between them in the file.
var firstParties = [...]string{"CedentePrestatore", "CessionarioCommittente"}

// parties shows who sells, who buys and who else has a part.
func (v *view) parties() {
	v.out.open(markParties)
	for _, first := range firstParties {
		for name, c := range v.headers() {
			if name == first && c.HasChildren() {
				v.section(c, markParty, markTitle)
			}
		}
	}
	for name, c := range v.headers() {
		if name != "DatiTrasmissione" && name != firstParties[0] && name != firstParties[1] && c.HasChildren() {
			v.section(c, markParty, markTitle)
		}
	}
	v.out.shut(markParties)
	open := false
	for name, c := range v.headers() {
		if name == "DatiTrasmissione" || c.HasChildren() {
			continue
		}
		if !open {
			v.out.open(markFields)
			open = true
		}
		v.field(c)
	}
	if open {
		v.out.shut(markFields)
	}
}

// transmission shows how the file travels, and what else its root holds.
func (v *view) transmission() {
	v.out.open(markTransmission)
	v.out.open(markTitle)
	v.say(labelOf("DatiTrasmissione"))
	v.out.shut(markTitle)
	v.out.open(markFields)
	if v.o.FileName != "" {
		v.pair(wordFileName, v.o.FileName)
	}
	for _, name := range []string{"versione", "SistemaEmittente"} {
		if a, ok := v.f.Root().Attr(name); ok {
			v.pair(labelOf(name), a)
		}
	}
	for name, c := range v.headers() {
		if name == "DatiTrasmissione" {
			v.fields(c)
		}
	}
	v.out.shut(markFields)
	v.out.shut(markTransmission)
	for c := range v.business(v.f.Root()) {
		name := v.named(c)
		if name == "FatturaElettronicaBody" || name == "FatturaElettronicaHeader" && c.HasChildren() {
			continue
		}
		v.section(c, markSection, markTitle)
	}
}

// pair writes one row of a list of fields.
func (v *view) pair(label words, value string) {
	v.out.open(markField)
	v.out.open(markTerm)
	v.say(label)
	v.out.shut(markTerm)
	v.out.open(markValue)
	v.out.text(strings.TrimSpace(value))
	v.out.shut(markValue)
	v.out.shut(markField)
}

// decode returns the bytes of an attachment that base64Size has approved.
func (a *attachment) decode() ([]byte, error) {
	clean := strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, a.content)
	return base64.StdEncoding.DecodeString(clean)
}
