package sdi

import (
	"fmt"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
)

// document is what the exchange learned about a file.
type document struct {
	format   string // FPA12, FPR12, FSM10; "" when unreadable
	code     string // CodiceDestinatario
	pec      string // PECDestinatario
	signed   bool
	invoices []client.Invoice
	keys     []string // of control 00404, one per invoice
}

func (d *document) public() bool { return d.format == "FPA12" }

// errore builds an error of an NS from the table of controls; detail is appended.
func errore(code, detail string) sdi.Errore {
	e := sdi.Errore{Codice: code, Descrizione: "Errore simulato", Suggerimento: "Errore ordinato alla sandbox (SANDBOX - NOT VALID)"}
	if c, ok := controls[code]; ok {
		e.Descrizione, e.Suggerimento = c[0], c[1]
	}
	if detail != "" {
		e.Descrizione = fmt.Sprintf("%s: %s", e.Descrizione, detail)
	}
	if r := []rune(e.Descrizione); len(r) > 255 {
		e.Descrizione = string(r[:254]) + "…"
	}
	return e
}

// examine runs the controls that need the file alone: name, size, signature, structure.
// spec: AllA-1.9 §2, in its order: the first family that fails ends the examination
func (e *Exchange) examine(f *file) (document, []sdi.Errore) {
	var doc document
	if errs := e.nameErrors(f); len(errs) > 0 {
		return doc, errs
	}
	xml := f.raw
	enveloped := strings.HasSuffix(f.name, string(sdi.ExtP7M))
	if enveloped {
		content, errs := e.openEnvelope(f)
		if len(errs) > 0 {
			return doc, errs
		}
		xml, doc.signed = content, true
	}
	inv, err := fatturapa.Parse(xml)
	if err != nil {
		return doc, []sdi.Errore{errore("00200", err.Error())}
	}
	e.describe(&doc, inv)
	doc.signed = doc.signed || inv.Signed
	rep, err := fatturapa.CheckStructure(inv, fatturapa.StructureOptions{})
	if err != nil {
		return doc, []sdi.Errore{errore("00200", err.Error())}
	}
	var errs []sdi.Errore
	for _, fd := range rep.Errors() {
		errs = append(errs, errore(fd.Code, fd.XPath+" "+fd.Message.IT))
	}
	if len(errs) > 0 {
		return doc, errs[:min(len(errs), 200)]
	}
	return doc, e.coherence(&doc, inv)
}

func (e *Exchange) nameErrors(f *file) []sdi.Errore {
	n, err := sdi.ParseFileName(f.name)
	if err != nil || n.Ext == sdi.ExtZIP && f.archive != nil { // an archive inside an archive
		return []sdi.Errore{errore("00001", "")}
	}
	e.mu.Lock()
	same := e.byName[sdi.NameKey(f.name)]
	repeated := f.epoch == e.epoch && len(same) > 0 && same[0] != f
	e.mu.Unlock()
	if repeated {
		return []sdi.Errore{errore("00002", "")}
	}
	if f.size > sdi.MaxFileSize {
		return []sdi.Errore{errore("00003", "")}
	}
	return nil
}

// openEnvelope takes the invoice out of a p7m and judges its signatures.
// spec: AllA-1.9 §1.2.1
func (e *Exchange) openEnvelope(f *file) ([]byte, []sdi.Errore) {
	content, layers, err := cms.Open(f.raw)
	if err != nil || len(layers) == 0 {
		return nil, []sdi.Errore{errore("00102", "")}
	}
	if e.cfg.LaxSignatures {
		return content, nil
	}
	at := e.clock.Now()
	if real := time.Now(); real.After(at) {
		at = real // a frozen clock must not make today's signatures come from the future
	}
	for _, layer := range layers {
		report := cades.Judge(layer, cades.VerifyOptions{Roots: e.caPool, At: at, ForSdI: true})
		if len(report.Signers) == 0 {
			return nil, []sdi.Errore{errore("00102", "")}
		}
		for _, s := range report.Signers {
			if err := s.Err(); err != nil {
				return nil, []sdi.Errore{errore(signatureCode(&s.SignerReport, at), err.Error())}
			}
		}
	}
	return content, nil
}

// signatureCode maps what is wrong with a signature to the control that says so.
func signatureCode(s *cms.SignerReport, at time.Time) string {
	switch {
	case s.Signature.Verdict == cms.Failed, s.Digest.Verdict == cms.Failed, s.ContentType.Verdict == cms.Failed:
		return "00102"
	case s.SigningTime.IsZero():
		return "00103"
	case s.SigningTime.After(at):
		return "00105"
	case s.Certificate != nil && at.After(s.Certificate.NotAfter):
		return "00100"
	case s.Trust.Verdict == cms.Failed:
		return "00104"
	}
	return "00107"
}

// describe notes what routing and uniqueness need. Texts of a parsed invoice share the memory
// of the whole file, so what is kept for long is copied.
func (e *Exchange) describe(doc *document, inv *fatturapa.File) {
	dt := &inv.Header.DatiTrasmissione
	doc.format, doc.code, doc.pec = strings.Clone(inv.Formato()), strings.Clone(dt.CodiceDestinatario), strings.Clone(dt.PECDestinatario)
	seller := fiscalKey(&inv.Header.CedentePrestatore.DatiAnagrafici)
	buyer := fiscalKey(&inv.Header.CessionarioCommittente.DatiAnagrafici)
	for i := range inv.Bodies {
		g := &inv.Bodies[i].DatiGenerali.DatiGeneraliDocumento
		date := string(g.Data)
		issuer := seller
		if selfBilling(g.TipoDocumento) {
			issuer = buyer
		}
		year := date[:min(4, len(date))]
		span := year
		if g.Art73 == "SI" {
			span = date // numbering may restart within the year
		}
		credit := ""
		if g.TipoDocumento == "TD04" || g.TipoDocumento == "TD08" {
			credit = "TD04" // credit notes are compared with each other only
		}
		doc.invoices = append(doc.invoices, client.Invoice{
			Seller: issuer, Number: strings.Clone(g.Numero), Year: strings.Clone(year), TipoDocumento: strings.Clone(g.TipoDocumento),
		})
		doc.keys = append(doc.keys, strings.Join([]string{issuer, g.Numero, span, credit}, "|"))
	}
}

func fiscalKey(a *fatturapa.DatiAnagrafici) string {
	if a.IdFiscaleIVA.IdCodice != "" {
		return a.IdFiscaleIVA.IdPaese + a.IdFiscaleIVA.IdCodice
	}
	return strings.Clone(a.CodiceFiscale)
}

// selfBilling lists the types whose numbering is the buyer's.
// spec: AllA-1.9 App.1, control 00404
func selfBilling(tipo string) bool {
	switch tipo {
	case "TD16", "TD17", "TD18", "TD19", "TD20", "TD22", "TD23", "TD28", "TD29":
		return true
	}
	return false
}

// coherence runs the controls between fields that decide routing, and that an FPA12 is signed.
func (e *Exchange) coherence(doc *document, inv *fatturapa.File) []sdi.Errore {
	var errs []sdi.Errore
	if inv.Versione != doc.format {
		errs = append(errs, errore("00428", ""))
	}
	if doc.public() != (len(doc.code) == 6) {
		errs = append(errs, errore("00427", ""))
	}
	if doc.public() && !doc.signed {
		errs = append(errs, errore("00102", "firma assente, obbligatoria verso la PA"))
	}
	seen := map[string]bool{}
	for _, k := range doc.keys {
		if seen[k] {
			errs = append(errs, errore("00409", ""))
		}
		seen[k] = true
	}
	return errs
}

// checkHistory runs control 00404 and claims the invoices; mu held.
func (e *Exchange) checkHistory(f *file) []sdi.Errore {
	var errs []sdi.Errore
	for i, k := range f.doc.keys {
		other, ok := e.invoices[k]
		if !ok {
			continue
		}
		errs = append(errs, errore("00404", "IdentificativoSdI "+other.id))
		e.repeated = append(e.repeated, client.Duplicate{Key: strings.TrimRight(f.doc.keys[i], "|"), IDs: []string{other.id, f.id}})
	}
	if len(errs) > 0 || magicDiscard(&f.doc) != "" {
		return errs // a file that will be discarded on command claims nothing
	}
	if f.epoch != e.epoch {
		return nil
	}
	for _, k := range f.doc.keys {
		e.invoices[k] = f
	}
	return nil
}

// controls gives text and advice for the controls that the exchange itself raises and for
// those most asked for. The words are ours.
var controls = map[string][2]string{
	"00001": {"Nome file non valido", "Usare <paese><identificativo>_<progressivo> con estensione .xml, .xml.p7m o .zip"},
	"00002": {"Nome file duplicato", "Trasmettere con un nome mai usato prima"},
	"00003": {"Dimensioni del file superiori al limite", "Dividere il lotto o ridurre gli allegati"},
	"00100": {"Certificato di firma scaduto", "Firmare con un certificato valido"},
	"00101": {"Certificato di firma revocato", "Firmare con un certificato valido"},
	"00102": {"Firma non valida", "Firmare di nuovo il file e non modificarlo dopo la firma"},
	"00103": {"Firma priva del riferimento temporale", "Includere la data e ora di firma"},
	"00104": {"Certificatore non riconosciuto", "Nella sandbox vale solo la sua autorità di certificazione"},
	"00105": {"Riferimento temporale della firma successivo alla ricezione", "Controllare l'orologio di chi firma"},
	"00106": {"File o archivio vuoto o illeggibile", "Comporre di nuovo il file"},
	"00107": {"Certificato non valido", "Usare un certificato di firma"},
	"00200": {"File non conforme al formato", "Correggere il file secondo lo schema"},
	"00201": {"Riscontrati più di 50 errori di formato", "Correggere il file secondo lo schema"},
	"00300": {"Identificativo del trasmittente non valido", "Indicare il codice fiscale del trasmittente"},
	"00301": {"Partita IVA del cedente non valida", "Controllare la partita IVA"},
	"00305": {"Partita IVA del cessionario non valida", "Controllare la partita IVA"},
	"00306": {"Codice fiscale del cessionario non valido", "Controllare il codice fiscale"},
	"00311": {"Codice destinatario inesistente", "Chiedere al cliente il codice destinatario"},
	"00312": {"Codice destinatario non attivo", "Chiedere al cliente il codice destinatario"},
	"00400": {"Natura assente con aliquota zero", "Indicare la Natura"},
	"00403": {"Data successiva alla ricezione", "Correggere la data del documento"},
	"00404": {"Fattura duplicata", "La fattura è già stata trasmessa"},
	"00409": {"Fattura duplicata nel lotto", "Togliere il doppione dal lotto"},
	"00417": {"Cessionario senza identificativo fiscale", "Indicare partita IVA o codice fiscale"},
	"00421": {"Imposta non calcolata correttamente", "Ricalcolare l'imposta del riepilogo"},
	"00422": {"Imponibile non calcolato correttamente", "Ricalcolare l'imponibile del riepilogo"},
	"00423": {"Prezzo totale non calcolato correttamente", "Ricalcolare il totale della linea"},
	"00425": {"Numero fattura senza cifre", "Il numero deve avere almeno una cifra"},
	"00427": {"Codice destinatario di lunghezza non coerente con il formato", "6 caratteri per FPA12, 7 per FPR12 e FSM10"},
	"00428": {"Formato e versione non coerenti", "Rendere uguali FormatoTrasmissione e versione"},
}
