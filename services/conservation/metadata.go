package conservation

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ceralacca.dev/services/conservation/internal/db"
)

// The sentences of ModalitaDiFormazione are a closed list: they are written to the letter, on one
// line. spec: AgID-All5-2021 §DocumentoInformatico.2
const (
	formedHere     = "creazione tramite utilizzo di strumenti software che assicurino la produzione di documenti nei formati previsti in allegato 2"
	formedAcquired = "acquisizione di un documento informatico per via telematica o su supporto informatico, acquisizione della copia per immagine su supporto informatico di un documento analogico, acquisizione della copia informatica di un documento analogico"
)

// metadataSchema names the schema of the metadata file in the index.
const metadataSchema = "DocumentoInformatico.xsd"

// metadataOf writes metadati.xml of a unit: the metadata of Allegato 5 for its document, with the
// receipts as attachments. For an integration the document is its first receipt. The bytes depend on
// the arguments alone. spec: AgID-All5-2021 §DocumentoInformatico
func metadataOf(f facts, files []db.UnitFile) []byte {
	if f.Deposit != nil {
		return depositMetadata(f, files[0])
	}
	if f.Mail != nil {
		return mailMetadata(f, files)
	}
	d := &xmlText{}
	d.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<DocumentoInformatico>")
	document, attachments := files[0], files[1:]
	integration := f.Integrates != ""
	d.document("IdDoc", document.Sha256, identifier(f, document))
	if integration {
		d.element("ModalitaDiFormazione", formedAcquired)
		d.element("TipologiaDocumentale", "Ricevuta SdI "+document.ReceiptType)
	} else {
		formed, kind := formedHere, "Fattura attiva"
		if f.Imported != "" || f.Received {
			formed = formedAcquired
		}
		if f.Received {
			kind = "Fattura passiva"
		}
		d.element("ModalitaDiFormazione", formed)
		d.element("TipologiaDocumentale", kind)
	}
	d.registration(f, integration)
	ids := d.parties(f)
	ids = d.key(f, document, integration, ids)
	d.raw("<Allegati>")
	d.element("NumeroAllegati", strconv.Itoa(len(attachments)))
	for _, a := range attachments {
		d.raw("<IndiceAllegati>")
		d.document("IdDoc", a.Sha256, identifier(f, a))
		d.element("Descrizione", attachmentName(a.ReceiptType))
		d.raw("</IndiceAllegati>")
	}
	d.raw("</Allegati>")
	d.element("Riservato", "false")
	d.format(document, f.Signed && !integration, f.Enveloped && !integration)
	d.raw("<Agg/>")
	if integration {
		d.raw("<IdIdentificativoDocumentoPrimario>")
		d.impronta(f.Integrates)
		d.element("Identificativo", "sdi:"+f.SdiID)
		d.raw("</IdIdentificativoDocumentoPrimario>")
	}
	d.element("NomeDelDocumento", document.FileName)
	d.element("VersioneDelDocumento", "1")
	d.element("TempoDiConservazione", strconv.Itoa(retentionYears))
	d.note(f, ids)
	d.raw("</DocumentoInformatico>\n")
	return d.Bytes()
}

// attachmentName says what a message of SdI is to the document that it is kept with.
func attachmentName(kind string) string {
	if kind == receiptMT {
		return "Metadati di invio SdI (MT)"
	}
	return "Ricevuta SdI " + kind
}

func identifier(f facts, file db.UnitFile) string {
	id := "sdi:" + f.SdiID
	switch {
	case f.Imported != "":
		id = "invoice:" + f.Imported
	case f.SdiID == "":
		id = "file:" + f.FileName
	}
	if file.Role == "receipt" {
		return id + "#" + file.FileName
	}
	return id
}

// xmlText writes elements without attributes.
type xmlText struct {
	bytes.Buffer
	replaced bool // a character that XML 1.0 does not admit was replaced
}

func (d *xmlText) raw(s string) { d.WriteString(s) }

func (d *xmlText) element(name, value string) {
	d.raw("<" + name + ">")
	d.text(value)
	d.raw("</" + name + ">")
}

// text escapes character data. Metadata, unlike documents, may be mended: what XML 1.0 does not
// admit becomes U+FFFD, and a note says so.
func (d *xmlText) text(s string) {
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '&':
			d.raw("&amp;")
		case r == '<':
			d.raw("&lt;")
		case r == '>':
			d.raw("&gt;")
		case r == '\r':
			d.raw("&#13;")
		case r < 0x20 && r != '\t' && r != '\n', r == 0xFFFE, r == 0xFFFF:
			d.WriteRune('\uFFFD')
			d.replaced = true
		default:
			d.WriteRune(r)
		}
	}
}

// document writes an IdDoc. Impronta is base64 of the raw digest, not hex.
func (d *xmlText) document(name string, sum []byte, id string) {
	d.raw("<" + name + ">")
	d.impronta(base64.StdEncoding.EncodeToString(sum))
	d.element("Identificativo", id)
	d.raw("</" + name + ">")
}

func (d *xmlText) impronta(base64Sum string) {
	d.raw("<ImprontaCrittograficaDelDocumento>")
	d.element("Impronta", base64Sum)
	d.element("Algoritmo", "SHA-256")
	d.raw("</ImprontaCrittograficaDelDocumento>")
}

func (d *xmlText) registration(f facts, integration bool) {
	numbers := make([]string, 0, len(f.Bodies))
	for _, b := range f.Bodies {
		numbers = append(numbers, b.Number)
	}
	flow := "U"
	if integration || f.Received {
		flow = "E"
	}
	d.raw("<DatiDiRegistrazione>")
	d.element("TipologiaDiFlusso", flow)
	d.raw("<TipoRegistro><Nessuno>")
	d.element("TipoRegistro", "Nessuno")
	d.element("DataDocumento", f.Bodies[0].Date)
	d.element("NumeroDocumento", strings.Join(numbers, ", "))
	d.raw("</Nessuno></TipoRegistro></DatiDiRegistrazione>")
}

// parties: who has a name and a surname is a PF, everybody else a PG, a public body too: its index (IPA) is not asked, and a PAI wants the
// body's code and not the office's. A code is written only in the form that the schema admits; the identifiers that have no place are given.
func (d *xmlText) parties(f facts) (ids []string) {
	d.raw("<Soggetti>")
	for _, p := range []struct {
		role string
		party
		person *person
	}{{"Mittente", f.Seller, f.SellerPerson}, {"Destinatario", f.Buyer, f.BuyerPerson}} {
		d.raw("<Ruolo><" + p.role + ">")
		d.element("TipoRuolo", p.role)
		ids = append(ids, d.somebody(p.party, p.person)...)
		d.raw("</" + p.role + "></Ruolo>")
	}
	d.raw("<Ruolo><Produttore>")
	d.element("TipoRuolo", "Produttore")
	d.raw("<SW>")
	d.element("DenominazioneSistema", applicationName)
	d.raw("</SW></Produttore></Ruolo></Soggetti>")
	return ids
}

// somebody writes a person or an organisation, and gives the identifiers that have no place there.
func (d *xmlText) somebody(p party, who *person) (unwritten []string) {
	if who != nil {
		d.raw("<PF>")
		d.element("Cognome", who.Last)
		d.element("Nome", who.First)
		code := p.fiscalCodeOf()
		if code != "" {
			d.element("CodiceFiscale", code)
		}
		d.raw("</PF>")
		return p.unwritten(code)
	}
	d.raw("<PG>")
	d.element("DenominazioneOrganizzazione", p.Name)
	code := p.italianCode()
	if code != "" {
		d.element("CodiceFiscale_PartitaIva", code)
	}
	d.raw("</PG>")
	return p.unwritten(code)
}

// key gives those of the identifiers that are not among the keywords either.
func (d *xmlText) key(f facts, document db.UnitFile, integration bool, ids []string) (left []string) {
	const mostKeywords = 5
	first := f.Bodies[0]
	subject := fmt.Sprintf("Fattura n. %s del %s %s / %s", first.Number, first.Date, f.Seller.Name, f.Buyer.Name)
	if n := len(f.Bodies); n > 1 {
		subject = fmt.Sprintf("Lotto di %d fatture, la prima n. %s del %s %s / %s", n, first.Number, first.Date, f.Seller.Name, f.Buyer.Name)
	}
	if integration {
		subject = "Ricevuta " + document.ReceiptType + " della " + strings.ToLower(subject[:1]) + subject[1:]
	}
	d.raw("<ChiaveDescrittiva>")
	d.element("Oggetto", subject)
	seen := map[string]bool{"": true}
	count := 0
	for _, word := range append([]string{f.Seller.anyCode(), f.Buyer.anyCode(), first.Type, f.State}, ids...) {
		if seen[word] || count == mostKeywords {
			continue
		}
		seen[word] = true
		count++
		d.element("ParoleChiave", word)
	}
	d.raw("</ChiaveDescrittiva>")
	for _, id := range ids {
		if !seen[id] && !seen[strings.TrimPrefix(id, "IT")] && !slices.Contains(left, id) {
			left = append(left, id)
		}
	}
	return left
}

func (d *xmlText) format(document db.UnitFile, signed, enveloped bool) {
	format := "XML FatturaPA"
	switch {
	case enveloped && !signed:
		format = "XML FatturaPA con firma XAdES"
	case signed:
		format = "XML FatturaPA in busta CAdES (p7m)"
	case document.Role == "receipt":
		format = "XML messaggio SdI"
	case document.MediaType == mimePDF:
		format = "PDF"
	}
	d.raw("<IdentificativoDelFormato>")
	d.element("Formato", format)
	d.raw("</IdentificativoDelFormato><Verifica>")
	d.element("FirmatoDigitalmente", strconv.FormatBool(signed || enveloped))
	d.element("SigillatoElettronicamente", "false")
	d.element("MarcaturaTemporale", "false")
	d.element("ConformitaCopieImmagineSuSupportoInformatico", "false")
	d.raw("</Verifica>")
}

// unwrittenNote tells of identifiers that the schema has no element for.
func unwrittenNote(ids []string) string {
	return "Identificativi dei soggetti senza un elemento proprio: " + strings.Join(ids, ", ") + "."
}

func (d *xmlText) note(f facts, ids []string) {
	var notes []string
	if len(ids) > 0 {
		notes = append(notes, unwrittenNote(ids))
	}
	if f.Office != "" {
		notes = append(notes, "Codice dell'ufficio destinatario (IPA): "+f.Office+".")
	}
	if f.Enveloped {
		notes = append(notes, "La firma XAdES è nel documento, conservato come trasmesso; il suo livello eIDAS non è attestato da questi metadati.")
	}
	if f.Signed {
		notes = append(notes, "La busta CAdES è conservata come trasmessa; il livello eIDAS della firma non è attestato da questi metadati.")
	}
	if d.replaced {
		notes = append(notes, "Nei metadati i caratteri non ammessi da XML 1.0 sono sostituiti da U+FFFD; il documento è intatto.")
	}
	if len(notes) > 0 {
		d.element("Note", strings.Join(notes, " "))
	}
}

// plain gives s with what XML 1.0 does not admit replaced; nothing is escaped.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
