package sdigateway

import (
	"context"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// understanding is what a file and its metadata were found to say.
type understanding struct {
	metadata *sdi.MetadatiInvioFile
	invoice  *fatturapa.File
	signed   bool
	why      reason // why it cannot be read; the rest is then incomplete
}

// openInbound reads a file and its metadata. It never fails: what cannot be read is a reason for quarantine,
// so that one poisoned file costs nothing but itself.
func (s *Service) openInbound(ctx context.Context, fileName, sdiID, metadataName string, file, metadata []byte) (u understanding) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "a received file made a reader fail; it is kept in quarantine", "sdi_id", sdiID, "file", fileName,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			u.why = reason{reasonUnreadable, "the file made its reader fail: report it"}
		}
	}()
	about := u.readInvoice(file)
	u.why = u.readMetadata(fileName, sdiID, metadataName, metadata, blob.Of(inboundBlobs, file).Hex())
	if u.why.code == "" {
		u.why = about
	}
	return u
}

// readInvoice takes the invoice out of its envelopes and reads it.
func (u *understanding) readInvoice(file []byte) reason {
	content, layers, err := signature.Unwrap(file)
	if err != nil {
		return reason{reasonUnreadable, sentence(err)}
	}
	invoice, err := fatturapa.Parse(content)
	if err != nil {
		return reason{reasonUnreadable, sentence(err)}
	}
	u.invoice, u.signed = invoice, invoice.Signed || len(layers) > 0
	if len(invoice.Bodies) == 0 {
		return reason{reasonEmpty, "the file is an invoice without a single document"}
	}
	return reason{}
}

// readMetadata reads the MT and compares it with what it came with.
func (u *understanding) readMetadata(fileName, sdiID, metadataName string, raw []byte, hash string) reason {
	if len(raw) == 0 {
		return reason{reasonMetadata, "SdI sent no metadata with the file"}
	}
	m, err := sdi.ParseMessage(metadataName, raw)
	if err != nil {
		return reason{reasonMetadata, sentence(err)}
	}
	mt, ok := m.Contenuto.(*sdi.MetadatiInvioFile)
	if !ok {
		return reason{reasonMetadata, fmt.Sprintf("the metadata are a message of type %s", m.Type())}
	}
	u.metadata = mt
	switch {
	case mt.IdentificativoSdI != sdiID:
		return reason{reasonMetadataOther, fmt.Sprintf("the metadata speak of IdentificativoSdI %.40q, the delivery of %.40q", mt.IdentificativoSdI, sdiID)}
	case mt.NomeFile != "" && !strings.EqualFold(mt.NomeFile, fileName):
		return reason{reasonMetadataOther, fmt.Sprintf("the metadata speak of the file %.60q, the delivery of %.60q", mt.NomeFile, fileName)}
	case mt.Hash != "" && !strings.EqualFold(mt.Hash, hash):
		return reason{reasonMetadataOther, fmt.Sprintf("the metadata state the hash %.70s, the file has %s", mt.Hash, hash)}
	}
	return reason{}
}

// sentence is an error for people and for the database: bounded, and without what neither can take.
func sentence(err error) string { return plainText(err.Error(), 500) }

// plainText makes text storable: valid UTF-8 without NUL, at most n runes.
func plainText(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// describe writes what was understood into the row.
func (u *understanding) describe(row *db.InboundFile) {
	if u.metadata != nil {
		row.RecipientCode = plainText(u.metadata.CodiceDestinatario, 7)
		row.Format = plainText(u.metadata.Formato, 5)
	}
	if u.invoice == nil {
		return
	}
	h := &u.invoice.Header
	row.Format, row.Signed = plainText(u.invoice.Formato(), 5), u.signed
	if nobody(row.RecipientCode) && h.DatiTrasmissione.CodiceDestinatario != "" {
		row.RecipientCode = plainText(h.DatiTrasmissione.CodiceDestinatario, 7)
	}
	row.SellerName, row.SellerVat, row.SellerTax = party(&h.CedentePrestatore.DatiAnagrafici)
	row.BuyerName, row.BuyerVat, row.BuyerTax = party(&h.CessionarioCommittente.DatiAnagrafici)
}

// address is where the file says that it goes.
func (u *understanding) address() address {
	h := &u.invoice.Header
	code := ""
	if u.metadata != nil {
		code = u.metadata.CodiceDestinatario
	}
	_, vat, tax := party(&h.CessionarioCommittente.DatiAnagrafici)
	return addressOf(code, h.DatiTrasmissione.CodiceDestinatario, plainText(h.DatiTrasmissione.PECDestinatario, 256), vat, tax)
}

func party(d *fatturapa.DatiAnagrafici) (name, vat, tax string) {
	name = d.Anagrafica.Denominazione
	if name == "" {
		name = strings.TrimSpace(d.Anagrafica.Nome + " " + d.Anagrafica.Cognome)
	}
	if d.IdFiscaleIVA.IdCodice != "" {
		vat = plainText(strings.ToUpper(d.IdFiscaleIVA.IdPaese+d.IdFiscaleIVA.IdCodice), 30)
	}
	return plainText(name, 200), vat, plainText(strings.ToUpper(d.CodiceFiscale), 28)
}

// bodies are the documents of the file as rows.
func (u *understanding) bodies(row *db.InboundFile) db.InsertInboundBodiesParams {
	p := db.InsertInboundBodiesParams{FileID: row.ID, TenantID: row.TenantID}
	if u.invoice == nil {
		return p
	}
	for i := range u.invoice.Bodies {
		g := &u.invoice.Bodies[i].DatiGenerali.DatiGeneraliDocumento
		total := ""
		if g.ImportoTotaleDocumento.Valid() {
			total = g.ImportoTotaleDocumento.String()
		}
		p.Positions = append(p.Positions, int32(i+1))
		p.Types, p.Numbers = append(p.Types, plainText(g.TipoDocumento, 4)), append(p.Numbers, plainText(g.Numero, 60))
		p.Dates, p.Currencies = append(p.Dates, plainText(string(g.Data), 30)), append(p.Currencies, plainText(g.Divisa, 3))
		p.Totals = append(p.Totals, total)
	}
	return p
}

// answerBy is the end of the term for a public body's outcome: the end of the fifteenth day, in Italy, after
// the day of the first delivery that we have. SdI may count from a later one; we never count longer than SdI.
// spec: DM 55/2013, Allegato B
func answerBy(format string, received time.Time) *time.Time {
	if format != formatPublic {
		return nil
	}
	last, ok := fatturapa.OutcomeDeadline(fatturapa.Date(sdi.FormatData(received)))
	if !ok {
		return nil
	}
	y, m, d, _ := last.Day.YMD()
	end := time.Date(y, time.Month(m), d+1, 0, 0, 0, 0, sdi.Roma()).UTC()
	return &end
}

// outcomeFact is what the state of a file needs to know of an outcome.
type outcomeFact struct {
	position int32
	state    string
}

// States of a file that has found its company, and of the outcomes of its documents.
const (
	inboundTaken       = "TAKEN"
	inboundQuarantined = "QUARANTINED"
	inboundReceived    = "RECEIVED"
	inboundAwaiting    = "AWAITING_OUTCOME"
	inboundAnswered    = "ANSWERED"
	inboundExpired     = "TERM_EXPIRED"

	outcomePending = "PENDING"
	outcomeUnknown = "UNKNOWN"
	outcomeTaken   = "TAKEN"
	outcomeRefused = "REFUSED"
)

// inboundStateOf is the state of a file that has found its company, from what is known of it. An outcome that
// SdI took for the whole file answers every document.
func inboundStateOf(format string, bodies int, expired bool, outcomes []outcomeFact) string {
	if format != formatPublic {
		return inboundReceived
	}
	answered := map[int32]bool{}
	for _, o := range outcomes {
		if o.state == outcomeTaken {
			answered[o.position] = true
		}
	}
	if answered[0] || bodies > 0 && len(answered) >= bodies {
		return inboundAnswered
	}
	if expired {
		return inboundExpired
	}
	return inboundAwaiting
}

func hexOf(sum []byte) string { return hex.EncodeToString(sum) }
