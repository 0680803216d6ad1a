// Package fatturapatest writes valid invoices for tests, benchmarks and the
// sandbox: as many distinct ones as wanted, with numbers whose check digits are
// right. It owns no rule of the format: what it writes is fixed text with a few
// fields, and the tests of package fatturapa prove that it is valid. It refuses
// to be used in production: composing invoices is another job.
package fatturapatest

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Party is a seller or a buyer.
type Party struct {
	Paese         string // country of the VAT number; "" with Codice "" leaves IdFiscaleIVA out
	Codice        string // VAT number
	CodiceFiscale string // tax code; "" leaves it out
	Denominazione string
	RegimeFiscale string // seller only; "" is RF01
}

// Options are the fields that can be chosen; every zero value has a default.
type Options struct {
	Formato            string // "FPR12" (default), "FPA12" or "FSM10"
	Progressivo        string // ProgressivoInvio, "00001"
	Numero             string // of the first body, "1"; others get a suffix "/2", "/3"
	Data               string // "2026-03-16"
	TipoDocumento      string // "TD01", for FSM10 "TD07"
	CodiceDestinatario string // "0000000"; for FPA12 "UFABC1"
	PECDestinatario    string
	Cedente            Party
	Cessionario        Party
	Lines              int    // lines of each body, 1
	Bodies             int    // bodies, 1
	Size               int    // lines are added to the first body until the file has at least so many bytes
	Attachment         []byte // of the first body
	Collegata          string // date of a linked invoice, left out when ""
}

// VATNumber returns the n-th of a series of Italian VAT numbers with a correct
// check digit. They belong to the range of office 999, which is not assigned.
func VATNumber(n int) string {
	base := fmt.Sprintf("%07d999", n%10_000_000)
	sum := 0
	for i := range 10 {
		d := int(base[i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return base + string(rune('0'+(10-sum%10)%10))
}

// filled sets the defaults.
func (o Options) filled() Options {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&o.Formato, "FPR12")
	set(&o.Progressivo, "00001")
	set(&o.Numero, "1")
	set(&o.Data, "2026-03-16")
	switch o.Formato {
	case "FSM10":
		set(&o.TipoDocumento, "TD07")
		set(&o.CodiceDestinatario, "0000000")
	case "FPA12":
		set(&o.CodiceDestinatario, "UFABC1")
	}
	set(&o.TipoDocumento, "TD01")
	set(&o.CodiceDestinatario, "0000000")
	if o.Cedente == (Party{}) {
		o.Cedente = Party{Paese: "IT", Codice: VATNumber(101), Denominazione: "Officine Ceralacca S.r.l."}
	}
	if o.Cessionario == (Party{}) {
		o.Cessionario = Party{Paese: "IT", Codice: VATNumber(202), Denominazione: "Cooperativa Il Timbro"}
	}
	set(&o.Cedente.RegimeFiscale, "RF01")
	o.Lines = max(o.Lines, 1)
	o.Bodies = max(o.Bodies, 1)
	return o
}

// writer appends indented elements.
type writer struct {
	b      strings.Builder
	indent int
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (w *writer) el(name, text string) {
	fmt.Fprintf(&w.b, "%*s<%s>%s</%s>\n", w.indent, "", name, escaper.Replace(text), name)
}

func (w *writer) opt(name, text string) {
	if text != "" {
		w.el(name, text)
	}
}

func (w *writer) in(name string, body func()) {
	fmt.Fprintf(&w.b, "%*s<%s>\n", w.indent, "", name)
	w.indent++
	body()
	w.indent--
	fmt.Fprintf(&w.b, "%*s</%s>\n", w.indent, "", name)
}

// Invoice writes a valid invoice file.
func Invoice(opts Options) []byte {
	o := opts.filled()
	if o.Formato == "FSM10" {
		return simplified(o)
	}
	w := &writer{}
	w.b.Grow(max(o.Size+2048, 4096))
	w.b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	fmt.Fprintf(&w.b, "<p:FatturaElettronica versione=%q xmlns:p=\"http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2\">\n", o.Formato)
	w.indent = 1
	w.in("FatturaElettronicaHeader", func() {
		w.transmission(o)
		w.in("CedentePrestatore", func() {
			w.in("DatiAnagrafici", func() {
				w.identity(o.Cedente)
				w.el("RegimeFiscale", o.Cedente.RegimeFiscale)
			})
			w.address("Via del Sigillo", o.Cedente.Paese)
		})
		w.in("CessionarioCommittente", func() {
			w.in("DatiAnagrafici", func() { w.identity(o.Cessionario) })
			w.address("Piazza della Bolla", o.Cessionario.Paese)
		})
	})
	for i := range o.Bodies {
		w.in("FatturaElettronicaBody", func() { w.body(o, i) })
	}
	w.b.WriteString("</p:FatturaElettronica>\n")
	return []byte(w.b.String())
}

func (w *writer) transmission(o Options) {
	w.in("DatiTrasmissione", func() {
		w.in("IdTrasmittente", func() {
			w.el("IdPaese", "IT")
			w.el("IdCodice", VATNumber(7))
		})
		w.el("ProgressivoInvio", o.Progressivo)
		w.el("FormatoTrasmissione", o.Formato)
		w.el("CodiceDestinatario", o.CodiceDestinatario)
		w.opt("PECDestinatario", o.PECDestinatario)
	})
}

func (w *writer) vat(p Party) {
	if p.Paese != "" || p.Codice != "" {
		w.in("IdFiscaleIVA", func() {
			w.el("IdPaese", p.Paese)
			w.el("IdCodice", p.Codice)
		})
	}
	w.opt("CodiceFiscale", p.CodiceFiscale)
}

func (w *writer) identity(p Party) {
	w.vat(p)
	w.in("Anagrafica", func() { w.el("Denominazione", p.Denominazione) })
}

func (w *writer) address(street, country string) {
	w.in("Sede", func() {
		w.el("Indirizzo", street)
		w.el("NumeroCivico", "12/A")
		if country != "" && country != "IT" {
			w.el("CAP", "00000")
			w.el("Comune", "Freistadt")
			w.el("Nazione", country)
			return
		}
		w.el("CAP", "35122")
		w.el("Comune", "Padova")
		w.el("Provincia", "PD")
		w.el("Nazione", "IT")
	})
}

// body writes the i-th document. Prices are whole cents and quantities whole, so
// that all totals are exact.
func (w *writer) body(o Options, i int) {
	numero := o.Numero
	if i > 0 {
		numero = fmt.Sprintf("%s/%d", o.Numero, i+1)
	}
	lines := &writer{indent: w.indent + 1}
	net, n := 0, 0
	const tail = 920 // what follows the lines, about
	for n < o.Lines || i == 0 && w.b.Len()+lines.b.Len()+tail+len(o.Attachment)*4/3 < o.Size {
		n++
		net += lines.line(n)
	}
	vat := (net*22 + 50) / 100
	w.in("DatiGenerali", func() {
		w.in("DatiGeneraliDocumento", func() {
			w.el("TipoDocumento", o.TipoDocumento)
			w.el("Divisa", "EUR")
			w.el("Data", o.Data)
			w.el("Numero", numero)
			w.el("ImportoTotaleDocumento", cents(net+vat))
			w.el("Causale", "Vendita di ceralacca e timbri")
		})
		if o.Collegata != "" {
			w.in("DatiFattureCollegate", func() {
				w.el("IdDocumento", "FT-77")
				w.el("Data", o.Collegata)
			})
		}
	})
	w.in("DatiBeniServizi", func() {
		w.b.WriteString(lines.b.String())
		w.in("DatiRiepilogo", func() {
			w.el("AliquotaIVA", "22.00")
			w.el("ImponibileImporto", cents(net))
			w.el("Imposta", cents(vat))
			w.el("EsigibilitaIVA", "I")
		})
	})
	w.in("DatiPagamento", func() {
		w.el("CondizioniPagamento", "TP02")
		w.in("DettaglioPagamento", func() {
			w.el("ModalitaPagamento", "MP05")
			w.el("DataScadenzaPagamento", o.Data)
			w.el("ImportoPagamento", cents(net+vat))
			w.el("IBAN", "IT60X0542811101000000123456")
		})
	})
	if i == 0 && len(o.Attachment) > 0 {
		w.attachment(o.Attachment)
	}
}

// line writes line n and returns its total in cents. NumeroLinea starts again
// after 9999, the largest that the format allows; SdI does not ask it to be unique.
func (w *writer) line(n int) int {
	price, qty := 1050+n*37%9000, 1+n%7
	w.in("DettaglioLinee", func() {
		w.el("NumeroLinea", fmt.Sprint((n-1)%9999+1))
		w.in("CodiceArticolo", func() {
			w.el("CodiceTipo", "INTERNO")
			w.el("CodiceValore", fmt.Sprintf("CL-%05d", n))
		})
		w.el("Descrizione", "Ceralacca rossa in stecche, qualità da protocollo")
		w.el("Quantita", fmt.Sprintf("%d.00", qty))
		w.el("UnitaMisura", "PZ")
		w.el("PrezzoUnitario", cents(price))
		w.el("PrezzoTotale", cents(price*qty))
		w.el("AliquotaIVA", "22.00")
	})
	return price * qty
}

func (w *writer) attachment(data []byte) {
	w.in("Allegati", func() {
		w.el("NomeAttachment", "dettaglio.txt")
		w.el("FormatoAttachment", "TXT")
		w.el("DescrizioneAttachment", "Dettaglio delle forniture")
		w.el("Attachment", base64.StdEncoding.EncodeToString(data))
	})
}

// simplified writes an FSM10 file of 183.00 euro for each body.
func simplified(o Options) []byte {
	w := &writer{}
	w.b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	w.b.WriteString("<p:FatturaElettronicaSemplificata versione=\"FSM10\" xmlns:p=\"http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.0\">\n")
	w.indent = 1
	w.in("FatturaElettronicaHeader", func() {
		w.transmission(o)
		w.in("CedentePrestatore", func() {
			w.vat(o.Cedente)
			w.el("Denominazione", o.Cedente.Denominazione)
			w.address("Via del Sigillo", o.Cedente.Paese)
			w.el("RegimeFiscale", o.Cedente.RegimeFiscale)
		})
		w.in("CessionarioCommittente", func() {
			w.in("IdentificativiFiscali", func() { w.vat(o.Cessionario) })
		})
	})
	for i := range o.Bodies {
		w.in("FatturaElettronicaBody", func() {
			numero := o.Numero
			if i > 0 {
				numero = fmt.Sprintf("%s/%d", o.Numero, i+1)
			}
			w.in("DatiGenerali", func() {
				w.in("DatiGeneraliDocumento", func() {
					w.el("TipoDocumento", o.TipoDocumento)
					w.el("Divisa", "EUR")
					w.el("Data", o.Data)
					w.el("Numero", numero)
				})
				if o.Collegata != "" {
					w.in("DatiFatturaRettificata", func() {
						w.el("NumeroFR", "FT-77")
						w.el("DataFR", o.Collegata)
						w.el("ElementiRettificati", "Importo")
					})
				}
			})
			for n := 1; n <= o.Lines; n++ {
				w.in("DatiBeniServizi", func() {
					w.el("Descrizione", fmt.Sprintf("Timbro a secco, modello %d", n))
					w.el("Importo", cents(18300/o.Lines))
					w.in("DatiIVA", func() { w.el("Aliquota", "22.00") })
				})
			}
			if i == 0 && len(o.Attachment) > 0 {
				w.attachment(o.Attachment)
			}
		})
	}
	w.b.WriteString("</p:FatturaElettronicaSemplificata>\n")
	return []byte(w.b.String())
}

func cents(n int) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }
