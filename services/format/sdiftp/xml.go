package sdiftp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/format/sdi"
)

// Namespace of counts and outcomes.
// spec: FtpTypes-2.0
const Namespace = "http://www.fatturapa.it/sdi/ftp/v2.0"

const (
	maxXML   = 256 << 10 // a count has a dozen lines
	versione = "2.0"
)

// Tipo is a type of document inside a support, as counts name it.
type Tipo string

// Types that are no messages; messages count under their own two letters (sdi.RC and so on).
// spec: FtpTypes-2.0; SDIFTP-4.3 §3.1
const (
	FA Tipo = "FA" // invoice, lot or archive
	DF Tipo = "DF" // invoice data
	LI Tipo = "LI" // VAT settlement
	RQ Tipo = "RQ" // request of a reconciliation report
	RR Tipo = "RR" // request of a re-delivery
)

// Conteggio is how many documents of one type a support holds.
type Conteggio struct {
	Tipo   Tipo
	Numero int
}

// Quadratura is the file of counts inside a support.
type Quadratura struct {
	Nodo      string
	Creazione time.Time
	Supporto  string // name of the ZIP
	Numeri    []Conteggio
}

// Codice is the outcome of a support.
type Codice string

// The two outcomes.
// spec: FtpTypes-2.0
const (
	ET01 Codice = "ET01" // taken in
	ET02 Codice = "ET02" // refused as a whole: nothing in it was taken in
)

// Esito is an EO file.
type Esito struct {
	Nodo       string
	Ricezione  time.Time // when SdI took the support: the legal time of reception of what is inside
	DataEsito  time.Time
	Supporto   string
	Esito      Codice
	Versione   string
	Avvertenze []string // what reading tolerated
}

// Write gives the XML of the counts, types in order.
func (q Quadratura) Write() ([]byte, error) {
	name, err := ParseName(q.Supporto)
	if err != nil {
		return nil, err
	}
	if name.Node != q.Nodo {
		return nil, fmt.Errorf("sdiftp: node %q is not that of support %s", q.Nodo, q.Supporto)
	}
	counts := slices.Clone(q.Numeri)
	slices.SortFunc(counts, func(a, b Conteggio) int { return strings.Compare(string(a.Tipo), string(b.Tipo)) })
	var b strings.Builder
	b.WriteString(xml.Header)
	fmt.Fprintf(&b, "<ftp:FileQuadraturaFTP xmlns:ftp=%q versione=%q>\n", Namespace, versione)
	fmt.Fprintf(&b, "  <IdentificativoNodo>%s</IdentificativoNodo>\n  <DataOraCreazione>%s</DataOraCreazione>\n  <NomeSupporto>%s</NomeSupporto>\n  <NumeroFile>\n",
		q.Nodo, stamp(q.Creazione), q.Supporto)
	for _, c := range counts {
		if len(c.Tipo) != 2 || c.Numero < 0 {
			return nil, fmt.Errorf("sdiftp: count %q %d is not a type of two letters and a number", c.Tipo, c.Numero)
		}
		fmt.Fprintf(&b, "    <File>\n      <Tipo>%s</Tipo>\n      <Numero>%d</Numero>\n    </File>\n", c.Tipo, c.Numero)
	}
	b.WriteString("  </NumeroFile>\n</ftp:FileQuadraturaFTP>\n")
	return []byte(b.String()), nil
}

// stamp is the time in UTC with milliseconds: other forms were answered with ET02 in the field.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Write gives the XML of an outcome.
func (e Esito) Write() ([]byte, error) {
	_, err := ParseName(e.Supporto)
	if err != nil {
		return nil, err
	}
	if e.Esito != ET01 && e.Esito != ET02 {
		return nil, fmt.Errorf("sdiftp: outcome %q is neither ET01 nor ET02", e.Esito)
	}
	var b strings.Builder
	b.WriteString(xml.Header)
	fmt.Fprintf(&b, "<ftp:FileEsitoFTP xmlns:ftp=%q versione=%q>\n", Namespace, versione)
	fmt.Fprintf(&b, "  <IdentificativoNodo>%s</IdentificativoNodo>\n  <DataOraRicezione>%s</DataOraRicezione>\n  <DataOraEsito>%s</DataOraEsito>\n  <NomeSupporto>%s</NomeSupporto>\n  <Esito>%s</Esito>\n",
		e.Nodo, stamp(e.Ricezione), stamp(e.DataEsito), e.Supporto, e.Esito)
	b.WriteString("</ftp:FileEsitoFTP>\n")
	return []byte(b.String()), nil
}

// ParseQuadratura reads a file of counts. Elements may be in the namespace or in none (both are seen),
// unknown ones are passed over. Errors wrap ErrXML or ErrTooLarge.
func ParseQuadratura(raw []byte) (Quadratura, error) {
	var x struct {
		XMLName                                            xml.Name
		IdentificativoNodo, DataOraCreazione, NomeSupporto string
		NumeroFile                                         struct {
			File []struct{ Tipo, Numero string }
		}
	}
	err := decode(raw, "FileQuadraturaFTP", &x)
	if err != nil {
		return Quadratura{}, err
	}
	q := Quadratura{Nodo: strings.TrimSpace(x.IdentificativoNodo), Supporto: strings.TrimSpace(x.NomeSupporto)}
	_, err = ParseName(q.Supporto)
	if err != nil {
		return Quadratura{}, fmt.Errorf("%w: NomeSupporto: %w", ErrXML, err)
	}
	q.Creazione, err = sdi.ParseDataOra(strings.TrimSpace(x.DataOraCreazione))
	if err != nil {
		return Quadratura{}, fmt.Errorf("%w: DataOraCreazione: %w", ErrXML, err)
	}
	for _, f := range x.NumeroFile.File {
		tipo := strings.TrimSpace(f.Tipo)
		n, err := strconv.ParseUint(strings.TrimSpace(f.Numero), 10, 31)
		if err != nil || len(tipo) != 2 {
			return Quadratura{}, fmt.Errorf("%w: count of %q is %q", ErrXML, clip(tipo, 10), clip(f.Numero, 20))
		}
		q.Numeri = append(q.Numeri, Conteggio{Tipo(tipo), int(n)})
	}
	return q, nil
}

// ParseEsito reads an EO file. A support and one of the two outcomes must be there; times and node that
// cannot be read become Avvertenze. Errors wrap ErrXML or ErrTooLarge: a file cut off is one of them.
func ParseEsito(raw []byte) (Esito, error) {
	var x struct {
		XMLName                                                                 xml.Name
		Versione                                                                string `xml:"versione,attr"`
		IdentificativoNodo, DataOraRicezione, DataOraEsito, NomeSupporto, Esito string
	}
	err := decode(raw, "FileEsitoFTP", &x)
	if err != nil {
		return Esito{}, err
	}
	e := Esito{
		Nodo: strings.TrimSpace(x.IdentificativoNodo), Supporto: strings.TrimSpace(x.NomeSupporto),
		Esito: Codice(strings.TrimSpace(x.Esito)), Versione: x.Versione,
	}
	name, err := ParseName(e.Supporto)
	if err != nil {
		return Esito{}, fmt.Errorf("%w: NomeSupporto: %w", ErrXML, err)
	}
	if e.Esito != ET01 && e.Esito != ET02 {
		return Esito{}, fmt.Errorf("%w: Esito %q is neither ET01 nor ET02", ErrXML, clip(string(e.Esito), 20))
	}
	if e.Nodo != name.Node {
		e.Avvertenze = append(e.Avvertenze, "IdentificativoNodo is not that of the support")
	}
	for _, t := range []struct {
		name, text string
		into       *time.Time
	}{{"DataOraRicezione", x.DataOraRicezione, &e.Ricezione}, {"DataOraEsito", x.DataOraEsito, &e.DataEsito}} {
		*t.into, err = sdi.ParseDataOra(strings.TrimSpace(t.text))
		if err != nil {
			e.Avvertenze = append(e.Avvertenze, t.name+": "+err.Error())
		}
	}
	return e, nil
}

// decode reads one document with the given root and nothing after it.
func decode(raw []byte, root string, into any) error {
	if len(raw) > maxXML {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrTooLarge, root, len(raw), maxXML)
	}
	d := xml.NewDecoder(bytes.NewReader(raw))
	var start xml.StartElement
	for start.Name.Local == "" {
		tok, err := d.Token()
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrXML, root, err)
		}
		switch t := tok.(type) {
		case xml.Directive:
			return fmt.Errorf("%w: %s: document type declarations are refused", ErrXML, root)
		case xml.StartElement:
			start = t
		}
	}
	if start.Name.Local != root || (start.Name.Space != Namespace && start.Name.Space != "") {
		return fmt.Errorf("%w: the root is {%s}%s, %s is expected", ErrXML, clip(start.Name.Space, 60), clip(start.Name.Local, 40), root)
	}
	err := d.DecodeElement(into, &start)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrXML, root, err)
	}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrXML, root, err)
		}
		switch t := tok.(type) {
		case xml.Comment, xml.ProcInst:
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return fmt.Errorf("%w: %s: text after the root", ErrXML, root)
			}
		default:
			return fmt.Errorf("%w: %s: something after the root", ErrXML, root)
		}
	}
}
