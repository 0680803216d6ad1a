package conservation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// Kinds of SdI's messages that belong to a received invoice.
const (
	receiptMT = "MT"
	receiptDT = "DT"
)

// stateReceived is the state of an invoice that SdI delivered to a company of the tenant.
const stateReceived = "RECEIVED"

// unread stands for what a file does not tell that nobody can read.
const unread = "(file non leggibile)"

// onInboundInvoiceReceived takes an invoice that SdI delivered into custody, with SdI's metadata: one unit for each
// file that has found its company, however often SdI delivers it. What waits in quarantine belongs to nobody and is
// not kept here; it comes once it is claimed.
func (s *Service) onInboundInvoiceReceived(ctx context.Context, tx pgx.Tx, ev *sdiv1.InboundInvoiceReceived) error {
	in, err := readReceived(pg.Tenant(ctx), ev)
	if err != nil {
		return err
	}
	in.key, err = in.facts.unitKey()
	if err != nil {
		return err
	}
	return s.gather(ctx, tx, in, func(document []byte) { in.describe(document, ev.GetReceiveTime().AsTime()) })
}

func (s *Service) readAll(ctx context.Context, files []db.UnitFile) ([][]byte, error) {
	contents := make([][]byte, len(files))
	for i, f := range files {
		var err error
		contents[i], err = s.readBack(ctx, fileRef(f))
		if err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// readReceived reads the event without touching anything.
func readReceived(tenant string, ev *sdiv1.InboundInvoiceReceived) (*intake, error) {
	id, err := inboundID(tenant, ev.GetInboundInvoice())
	if err != nil {
		return nil, err
	}
	in := &intake{tenant: tenant, subject: ev.GetInboundInvoice(), class: classPrivate, facts: facts{
		SdiID: ev.GetSdiId(), FileName: ev.GetFileName(), State: stateReceived, Received: true, Inbound: id,
		Signed: strings.HasSuffix(strings.ToLower(ev.GetFileName()), ".p7m"),
	}}
	document, err := in.file("transmitted", "", ev.GetFileName(), ev.GetOriginal())
	if err != nil {
		return nil, err
	}
	in.files = append(in.files, document)
	if ev.GetMetadata() == nil {
		return in, nil
	}
	name := ev.GetFileName() + "_" + receiptMT + ".xml"
	if n, err := sdi.ParseFileName(ev.GetFileName()); err == nil {
		name = sdi.NewMessageName(n.String(), sdi.MT, 1).XMLName()
	}
	metadata, err := in.file("receipt", receiptMT, name, ev.GetMetadata())
	if err != nil {
		return nil, err
	}
	in.files = append(in.files, metadata)
	return in, nil
}

func inboundID(tenant, name string) (string, error) {
	ids, ok := cut(name, "tenants", "companies", "inboundInvoices")
	if !ok || ids[0] != tenant {
		return "", fault.Invalid("NAME_INVALID", "%q is no received invoice of tenant %s", name, tenant)
	}
	return ids[2], nil
}

// describe reads from the document what its metadata state. What no reader understands is kept all the same: SdI
// delivered it, and a person claimed it.
func (in *intake) describe(raw []byte, received time.Time) {
	day := sdi.FormatData(received)
	f := &in.facts
	content, layers, err := signature.Unwrap(raw)
	var file *fatturapa.File
	if err == nil {
		f.Signed = f.Signed || len(layers) > 0
		file, err = fatturapa.ParseWithin(content, receivedLimits())
	}
	if err != nil || len(file.Bodies) == 0 {
		f.Seller.Name, f.Buyer.Name = unread, unread
		f.Bodies = []body{{Number: f.FileName, Date: day}}
	} else {
		f.people(file)
		f.Enveloped = enveloped(content)
		f.Seller, f.Buyer = partyOf(&file.Header.CedentePrestatore.DatiAnagrafici), partyOf(&file.Header.CessionarioCommittente.DatiAnagrafici)
		for i := range file.Bodies {
			g := &file.Bodies[i].DatiGenerali.DatiGeneraliDocumento
			date := string(g.Data)
			if _, err := time.Parse(time.DateOnly, date[:min(len(date), len(time.DateOnly))]); err != nil {
				date = day
			}
			f.Bodies = append(f.Bodies, body{Type: g.TipoDocumento, Number: g.Numero, Date: date[:len(time.DateOnly)]})
		}
	}
	in.year = receivedYear(f.Bodies[0].Date, received)
}

// look reads from an invoice that was sent what its event does not say: names of persons in their parts, the office of a public body, a signature
// within the XML. Most have none of them, and are not taken apart.
func (in *intake) look(raw []byte) {
	content, _, err := signature.Unwrap(raw)
	if err != nil {
		return
	}
	in.facts.Enveloped = enveloped(content)
	if in.class != classPublic && !bytes.Contains(content, []byte("Cognome>")) {
		return
	}
	file, err := fatturapa.ParseWithin(content, receivedLimits())
	if err == nil {
		in.facts.people(file)
	}
}

// enveloped says whether an XML file has a signature in it.
func enveloped(content []byte) bool {
	if !bytes.Contains(content, []byte("SignatureValue")) {
		return false
	}
	report, err := xades.Verify(content, xades.VerifyOptions{})
	return err == nil && len(report.Signatures) > 0
}

// noOffice is what stands for the code of an office that is not known. spec: FatturaPA-1.9 §1.1.4
const noOffice = "999999"

func (f *facts) people(file *fatturapa.File) {
	h := &file.Header
	f.SellerPerson, f.BuyerPerson = personOf(&h.CedentePrestatore.DatiAnagrafici.Anagrafica), personOf(&h.CessionarioCommittente.DatiAnagrafici.Anagrafica)
	if office := h.DatiTrasmissione.CodiceDestinatario; strings.HasPrefix(h.DatiTrasmissione.FormatoTrasmissione, "FPA") && office != noOffice {
		f.Office = office
	}
}

func personOf(a *fatturapa.Anagrafica) *person {
	if a.Denominazione != "" || strings.TrimSpace(a.Nome) == "" || strings.TrimSpace(a.Cognome) == "" {
		return nil
	}
	return &person{strings.TrimSpace(a.Nome), strings.TrimSpace(a.Cognome)}
}

// receivedLimits admit what SdI admitted: it does not say how many bytes its 5 MB are, and our own reading of it for what is sent is
// the least of all. A file that is a little larger is delivered, and has to be found.
func receivedLimits() fatturapa.Limits {
	l := fatturapa.DefaultLimits()
	l.MaxBytes = 8 << 20
	return l
}

// receivedYear is the fiscal year that a received document is kept with: that of its date, unless that cannot be
// true of a document that comes now; then that of its reception.
func receivedYear(date string, received time.Time) int32 {
	now := received.In(sdi.Roma()).Year()
	at, err := time.Parse(time.DateOnly, date)
	if err != nil || at.Year() > now || at.Year() < now-10 {
		return int32(now) //nolint:gosec // a year
	}
	return int32(at.Year()) //nolint:gosec // a year
}

func partyOf(d *fatturapa.DatiAnagrafici) party {
	p := party{Name: d.Anagrafica.Denominazione, TaxCode: strings.ToUpper(d.CodiceFiscale)}
	if p.Name == "" {
		p.Name = strings.TrimSpace(d.Anagrafica.Nome + " " + d.Anagrafica.Cognome)
	}
	if d.IdFiscaleIVA.IdCodice != "" {
		p.VAT = strings.ToUpper(d.IdFiscaleIVA.IdPaese + d.IdFiscaleIVA.IdCodice)
	}
	return p
}

// onInboundTermExpired adds SdI's notice that nobody answered (DT) to the unit of its invoice.
func (s *Service) onInboundTermExpired(ctx context.Context, tx pgx.Tx, ev *sdiv1.InboundTermExpired) error {
	id, err := inboundID(pg.Tenant(ctx), ev.GetInboundInvoice())
	if err != nil {
		return err
	}
	in := &intake{tenant: pg.Tenant(ctx), subject: ev.GetInboundInvoice(), facts: facts{Inbound: id}}
	in.key, err = in.facts.unitKey()
	if err != nil {
		return err
	}
	q := db.New(tx)
	old, err := q.LockUnitByKey(ctx, db.LockUnitByKeyParams{TenantID: in.tenant, UnitKey: in.key})
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Unavailable("UNIT_IN_HAND", "%s is not in custody yet: its notice waits for it", ev.GetInboundInvoice())
	}
	if err != nil {
		return fmt.Errorf("conservation: lock unit: %w", err)
	}
	if old.State == "DESTROYED" {
		return nil
	}
	err = json.Unmarshal(old.Facts, &in.facts)
	if err != nil {
		return fmt.Errorf("conservation: facts of unit %s: %w", old.ID, err)
	}
	in.class, in.year = old.Class, old.FiscalYear
	held, err := q.FilesOfStory(ctx, old.ID)
	if err != nil {
		return fmt.Errorf("conservation: files of unit: %w", err)
	}
	for _, f := range held {
		if f.Role == "transmitted" && f.UnitID == old.ID {
			in.files = append(in.files, db.UnitFile{TenantID: f.TenantID, Role: f.Role, FileName: f.FileName, MediaType: f.MediaType, Sha256: f.Sha256, Size: f.Size})
		}
	}
	if len(in.files) != 1 {
		return fault.Internal("UNIT_WITHOUT_DOCUMENT", "unit %s has %d documents", old.ID, len(in.files))
	}
	notice, err := in.file("receipt", receiptDT, ev.GetFileName(), ev.GetContent())
	if err != nil {
		return err
	}
	in.files = append(in.files, notice)
	return s.gather(ctx, tx, in, nil)
}
