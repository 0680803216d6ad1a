package fatturapa

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// countBodies counts the documents before the typed view is made: a body costs
// far more memory there than in the text.
func (f *File) countBodies() int {
	n := 0
	for c := f.firstChild(0); c != 0; c = f.nodes[c].next {
		if f.nodes[c].tag == tagFatturaElettronicaBody {
			n++
		}
	}
	return n
}

// buildView fills the typed view from the tree.
func (f *File) buildView() {
	for i := range f.attrs {
		a := &f.attrs[i]
		if a.node != 0 {
			break
		}
		if a.ns == nsNone && a.name == "versione" {
			f.Versione = a.val
		}
		if a.ns == nsNone && a.name == "SistemaEmittente" {
			f.SistemaEmittente = a.val
		}
	}
	for c := f.firstChild(0); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagFatturaElettronicaHeader:
			if f.Header.Node == 0 {
				f.fillHeader(c, &f.Header)
			}
		case tagFatturaElettronicaBody:
			f.Bodies = grow(f, f.Bodies, c)
			f.fillBody(c, &f.Bodies[len(f.Bodies)-1])
		}
	}
}

// fillBody reads one document. DatiBeniServizi is one block of lines and
// summaries in an ordinary invoice, and one line in a simplified one.
func (f *File) fillBody(n NodeID, v *Body) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDatiGenerali:
			if v.DatiGenerali.Node == 0 {
				f.fillDatiGenerali(c, &v.DatiGenerali)
			}
		case tagDatiBeniServizi:
			if f.Schema == SchemaSimplified {
				v.BeniServizi = grow(f, v.BeniServizi, c)
				f.fillBeneServizio(c, &v.BeniServizi[len(v.BeniServizi)-1])
			} else if v.DatiBeniServizi.Node == 0 {
				f.fillDatiBeniServizi(c, &v.DatiBeniServizi)
			}
		case tagDatiVeicoli:
			if v.DatiVeicoli == nil {
				v.DatiVeicoli = new(DatiVeicoli)
				f.fillDatiVeicoli(c, v.DatiVeicoli)
			}
		case tagDatiPagamento:
			v.DatiPagamento = grow(f, v.DatiPagamento, c)
			f.fillDatiPagamento(c, &v.DatiPagamento[len(v.DatiPagamento)-1])
		case tagAllegati:
			v.Allegati = grow(f, v.Allegati, c)
			f.fillAllegato(c, &v.Allegati[len(v.Allegati)-1])
		}
	}
}

func (f *File) fillBeneServizio(n NodeID, v *BeneServizio) {
	v.Node = n
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagDescrizione:
			v.Descrizione = f.text(c)
		case tagImporto:
			v.Importo = f.decimal(c)
		case tagDatiIVA:
			for d := f.firstChild(c); d != 0; d = f.nodes[d].next {
				switch f.nodes[d].tag {
				case tagImposta:
					v.Imposta = f.decimal(d)
				case tagAliquota:
					v.Aliquota = f.decimal(d)
				}
			}
		case tagNatura:
			v.Natura = f.text(c)
		case tagRiferimentoNormativo:
			v.RiferimentoNormativo = f.text(c)
		}
	}
}

// fillFlat reads one element of an identity that is written without the blocks
// DatiAnagrafici and Anagrafica around it, as simplified invoices and the tax
// representative of a buyer do.
func (f *File) fillFlat(parent, c NodeID, v *DatiAnagrafici) {
	if v.Node == 0 {
		v.Node = parent
		v.Anagrafica.Node = parent
	}
	switch f.nodes[c].tag {
	case tagIdFiscaleIVA:
		f.fillIdFiscale(c, &v.IdFiscaleIVA)
	case tagCodiceFiscale:
		v.CodiceFiscale = f.text(c)
	case tagDenominazione:
		v.Anagrafica.Denominazione = f.text(c)
	case tagNome:
		v.Anagrafica.Nome = f.text(c)
	case tagCognome:
		v.Anagrafica.Cognome = f.text(c)
	case tagRegimeFiscale:
		v.RegimeFiscale = f.text(c)
	}
}

// fillBuyer reads the two blocks of the buyer of a simplified invoice.
func (f *File) fillBuyer(n NodeID, v *CessionarioCommittente) {
	for c := f.firstChild(n); c != 0; c = f.nodes[c].next {
		switch f.nodes[c].tag {
		case tagSede:
			f.fillIndirizzo(c, &v.Sede)
		case tagStabileOrganizzazione:
			v.StabileOrganizzazione = new(Indirizzo)
			f.fillIndirizzo(c, v.StabileOrganizzazione)
		case tagRappresentanteFiscale:
			v.RappresentanteFiscale = new(Rappresentante)
			f.fillRappresentante(c, v.RappresentanteFiscale)
		default:
			f.fillFlat(n, c, &v.DatiAnagrafici)
		}
	}
}

// grow appends a zero block. The first append makes room for all siblings of the
// same name, so that an invoice of ten thousand lines is not copied again and again.
func grow[T any](f *File, s []T, c NodeID) []T {
	if s == nil {
		n, t := 1, f.nodes[c].tag
		for d := f.nodes[c].next; d != 0; d = f.nodes[d].next {
			if f.nodes[d].tag == t {
				n++
			}
		}
		s = make([]T, 0, n)
	}
	if len(s) < cap(s) {
		return s[:len(s)+1] // zero as it was made: nothing to copy
	}
	var zero T
	return append(s, zero)
}

func (f *File) setText(v *string, c NodeID) {
	if *v == "" {
		*v = f.text(c)
	}
}

func (f *File) setDate(v *Date, c NodeID) {
	if *v == "" {
		*v = Date(trim(f.text(c)))
	}
}

func (f *File) setDecimal(v *Decimal, c NodeID) {
	if !v.IsSet() {
		*v = f.decimal(c)
	}
}

func (f *File) setInteger(v *int, c NodeID) {
	if *v == 0 {
		*v = f.integer(c)
	}
}

// decimal reads the text of an element as a number.
func (f *File) decimal(n NodeID) Decimal {
	d, _ := ParseDecimal(trim(f.text(n)))
	return d
}

// integer reads the text of an element as a small whole number, 0 when it is none.
func (f *File) integer(n NodeID) int {
	v, _ := digits(trim(f.text(n)))
	return v
}

// trim cuts XML white space at both ends.
func trim(s string) string {
	if s == "" || !isSpace(s[0]) && !isSpace(s[len(s)-1]) {
		return s
	}
	return strings.Trim(s, " \t\r\n")
}

// Documento returns the main data of the document.
func (b *Body) Documento() *DatiGeneraliDocumento { return &b.DatiGenerali.DatiGeneraliDocumento }

// Nominativo returns Denominazione, or Nome and Cognome.
func (a Anagrafica) Nominativo() string {
	if a.Denominazione != "" {
		return a.Denominazione
	}
	return strings.TrimSpace(a.Nome + " " + a.Cognome)
}

// String returns country and code together, as in a file name.
func (i IdFiscale) String() string { return i.IdPaese + i.IdCodice }

// Present reports whether the block was in the file.
func (i IdFiscale) Present() bool { return i.Node != 0 }

// Decode returns the bytes of the attachment.
func (a *Allegato) Decode() ([]byte, error) {
	s := a.Attachment
	if strings.ContainsAny(s, " \t\r\n") {
		s = strings.Map(func(r rune) rune {
			if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
				return -1
			}
			return r
		}, s)
	}
	out, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("attachment %q is not base64: %w", a.NomeAttachment, err)
	}
	return out, nil
}
