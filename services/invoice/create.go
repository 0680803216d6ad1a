package invoice

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/proto/catalog"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

const mediaXML = "application/xml"

var (
	errRepeated    = errors.New("invoice: the request id was used before")
	errNumberTaken = errors.New("invoice: a number of the file is taken")
)

// intake is what is asked of a new invoice beside its content.
type intake struct {
	parent     name // without id
	company    *tenancyv1.Company
	externalID string
	requestID  string
	hash       []byte // of the request
	preview    bool   // store nothing
	corrects   *uuid.UUID
	rejected   fatturapa.Date // of the invoice to correct, when SdI rejected it
	// first runs at the beginning of the transaction that stores the invoice; nil for nothing.
	first func(ctx context.Context, tx pgx.Tx, a *admission) error
}

// CreateInvoice checks and stores a file, or composes it from a draft, and promises its journey: row,
// numbers, first line of the log and InvoiceAccepted are one transaction, which commits only once the
// bytes are durable. What is refused leaves nothing behind.
//
// Beyond the faults of admit, prepare and compose: Conflict INVOICE_DUPLICATE (names the earlier invoice),
// REQUEST_ID_REUSED; NotFound COMPANY_NOT_FOUND; Invalid REQUEST_INVALID.
func (s *Service) CreateInvoice(ctx context.Context, req *invoicev1.CreateInvoiceRequest) (*invoicev1.Invoice, error) {
	if err := oneSource(req.GetContent(), req.GetDraft(), req.GetSeries()); err != nil {
		return nil, err
	}
	company, err := s.companies.get(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	n, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	in := &intake{parent: n, company: company, externalID: req.GetExternalId(), requestID: req.GetRequestId(), preview: req.GetValidateOnly()}
	if req.GetDraft() == nil {
		in.hash = requestHash(req.GetParent(), req.GetExternalId(), req.GetContent())
		a, err := admit(req.GetContent(), company, pg.Time(s.now()))
		if err != nil {
			return nil, err
		}
		return s.take(ctx, in, a)
	}
	in.hash, err = draftHash(req.GetParent(), req.GetExternalId(), req.GetDraft(), req.GetSeries())
	if err != nil {
		return nil, err
	}
	return s.takeDraft(ctx, in, req.GetDraft(), req.GetSeries())
}

// oneSource refuses requests that do not say in one way what the invoice is.
func oneSource(content []byte, draft *invoicev1.Draft, series string) error {
	refuse := func(field, reason, why string) error {
		return fault.Invalid("REQUEST_INVALID", "%s: %s", field, why).WithField(field, reason, why)
	}
	switch {
	case len(content) == 0 && draft == nil:
		return refuse("content", "REQUIRED", "there is neither content nor a draft: send the file, or the data to compose it from")
	case len(content) > 0 && draft != nil:
		return refuse("draft", "EXCLUSIVE", "there is content and a draft too: send one of them")
	case draft == nil && series != "":
		return refuse("series", "EXCLUSIVE", "content has its number already: a series goes with a draft")
	}
	return nil
}

// take stores an admitted file; of a number that is taken it says by whom.
func (s *Service) take(ctx context.Context, in *intake, a *admission) (*invoicev1.Invoice, error) {
	inv, err := s.put(ctx, in, a)
	if errors.Is(err, errNumberTaken) {
		return nil, s.duplicate(ctx, a)
	}
	return inv, err
}

// put stores an admitted file. errNumberTaken when another invoice holds its number.
func (s *Service) put(ctx context.Context, in *intake, a *admission) (*invoicev1.Invoice, error) {
	if in.preview || in.first != nil || in.corrects != nil {
		return s.putAlone(ctx, in, a) // its transaction does more than store
	}
	return s.gather.put(ctx, in, a)
}

// putAlone is put in a transaction of the file's own.
func (s *Service) putAlone(ctx context.Context, in *intake, a *admission) (*invoicev1.Invoice, error) {
	now := pg.Time(s.now())
	row := &a.row
	row.TenantID, row.CompanyID, row.ExternalID, row.RequestID = in.parent.tenant, in.parent.company, in.externalID, in.requestID
	row.RequestHash, row.Corrects = in.hash, in.corrects
	row.State, row.Version = int16(invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED), 1
	row.CreateTime, row.UpdateTime = now, now
	row.TraceID = telemetry.TraceID(telemetry.Inject(ctx))
	a.ref = blob.Of(row.TenantID, a.content)
	if in.preview {
		return present(row, []db.ListDocumentsRow{a.original()})
	}
	var err error
	row.ID, err = pg.NewID()
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(bus.WithCorrelation(ctx, row.ID.String()), in.parent.tenant, func(ctx context.Context, tx pgx.Tx) error {
		if in.first != nil {
			if err := in.first(ctx, tx, a); err != nil {
				return err
			}
		}
		return s.store(ctx, tx, a)
	})
	switch {
	case errors.Is(err, errRepeated):
		return s.earlier(ctx, in)
	case err != nil:
		return nil, err
	}
	return present(row, []db.ListDocumentsRow{a.original()})
}

// original is the document that the content becomes.
func (a *admission) original() db.ListDocumentsRow {
	return db.ListDocumentsRow{ID: "original", Kind: int16(invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL),
		MediaType: a.media, Uri: a.ref.URI(), CreateTime: a.row.CreateTime}
}

// store is the transaction of CreateInvoice.
func (s *Service) store(ctx context.Context, tx pgx.Tx, a *admission) error {
	row := &a.row
	ref := a.ref
	ev := &invoicev1.InvoiceAccepted{
		Invoice: nameOf(row).String(), Format: row.Format, Sign: a.sign, RecipientCode: row.RecipientCode,
		Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: a.media},
	}
	if row.Corrects != nil {
		ev.Corrects = name{row.TenantID, row.CompanyID, *row.Corrects}.String()
	}
	eventID, err := s.bus.EmitID(ctx, tx, ev)
	if err != nil {
		return err
	}
	notice, _ := catalog.NoticeOf(ev)
	data, err := json.Marshal(notice.Data)
	if err != nil {
		return fmt.Errorf("invoice: data of %s: %w", notice.Type, err)
	}
	p := db.InsertInvoiceParams{
		TenantID: row.TenantID, ID: row.ID, CompanyID: row.CompanyID, State: row.State, RequestID: row.RequestID,
		RequestHash: row.RequestHash, ExternalID: row.ExternalID, Format: row.Format, RecipientCode: row.RecipientCode,
		Number: row.Number, IssueDate: a.files[0].Date, Bodies: row.Bodies,
		SellerVatNumber: row.SellerVatNumber, SellerTaxCode: row.SellerTaxCode, SellerName: row.SellerName,
		BuyerVatNumber: row.BuyerVatNumber, BuyerTaxCode: row.BuyerTaxCode, BuyerName: row.BuyerName,
		Warnings: row.Warnings, TraceID: row.TraceID, CreateTime: row.CreateTime, Corrects: row.Corrects,
		OriginalKind: int16(invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL), MediaType: a.media, Uri: ref.URI(),
		EventID: eventID, EventType: notice.Type, EventData: data,
	}
	for _, h := range a.held {
		p.Issuers, p.Years = append(p.Issuers, h.issuer), append(p.Years, h.year)
		p.Series, p.Numbers = append(p.Series, h.series), append(p.Numbers, h.number)
	}
	_, err = q(tx).InsertInvoice(ctx, p)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errRepeated
	case pg.Constraint(err) == "held_number_pkey":
		return errNumberTaken
	case err != nil:
		return fmt.Errorf("invoice: insert: %w", err)
	}
	// After the rows, so that a file that turns out to be a duplicate is never stored; before the
	// commit, so that a row never refers to bytes that a crash could take.
	if _, err := s.blobs.Put(ctx, row.TenantID, a.content); err != nil {
		return err
	}
	if unit := pg.UnitOf(ctx, tx); unit != nil {
		unit.After(s.sequencer.kick)
	}
	return nil
}

// requestHash condenses what makes a request the same one. spec: AIP-155
func requestHash(resource, externalID string, content []byte) []byte {
	file := sha256.Sum256(content)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %x", resource, externalID, file))
	return sum[:]
}

// draftHash is requestHash of a request with a draft: what was asked, not what became of it.
func draftHash(resource, externalID string, draft *invoicev1.Draft, series string) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(draft)
	if err != nil {
		return nil, fmt.Errorf("invoice: draft: %w", err)
	}
	return requestHash(resource, externalID, fmt.Appendf(raw, " draft %q", series)), nil
}

// earlier gives the first answer to a request id again: the invoice as it was accepted.
func (s *Service) earlier(ctx context.Context, repeat *intake) (*invoicev1.Invoice, error) {
	var resp *invoicev1.Invoice
	err := s.db.Tx(ctx, repeat.parent.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		resp, err = repeat.answered(ctx, tx)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("invoice: find request %s: %w", repeat.requestID, err)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// answered reads the first answer to a request id; pgx.ErrNoRows when there is none yet. Conflict
// REQUEST_ID_REUSED when it was another request.
func (in *intake) answered(ctx context.Context, tx pgx.Tx) (*invoicev1.Invoice, error) {
	if in.requestID == "" {
		return nil, pgx.ErrNoRows
	}
	row, err := q(tx).FindByRequest(ctx, db.FindByRequestParams{TenantID: in.parent.tenant, RequestID: in.requestID})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(row.RequestHash, in.hash) {
		return nil, fault.Conflict("REQUEST_ID_REUSED",
			"request_id %s was used before with another request, which made %s: use a new id for a new request", in.requestID, nameOf(&row)).
			WithField("request_id", "REUSED", "belongs to an earlier, different request")
	}
	d, err := q(tx).GetDocument(ctx, db.GetDocumentParams{TenantID: row.TenantID, InvoiceID: row.ID, ID: "original", CompanyID: row.CompanyID})
	if err != nil {
		return nil, fmt.Errorf("invoice: original of %s: %w", row.ID, err)
	}
	row.State, row.Version, row.UpdateTime = int16(invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED), 1, row.CreateTime
	row.Rejections, row.Failure, row.FileName, row.SdiID = []byte("[]"), "", "", ""
	row.PreserveTime, row.Package, row.CorrectedBy = nil, "", nil
	return present(&row, []db.ListDocumentsRow{{ID: d.ID, Kind: d.Kind, MediaType: d.MediaType, Uri: d.Uri, CreateTime: d.CreateTime}})
}

// duplicate explains which invoice holds the number.
func (s *Service) duplicate(ctx context.Context, a *admission) error {
	p := db.FindHolderParams{TenantID: a.row.TenantID}
	for _, h := range a.held {
		p.Issuers, p.Years = append(p.Issuers, h.issuer), append(p.Years, h.year)
		p.Series, p.Numbers = append(p.Series, h.series), append(p.Numbers, h.number)
	}
	var holder db.FindHolderRow
	err := s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) (err error) {
		holder, err = q(tx).FindHolder(ctx, p)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return contentFault("INVOICE_INVALID", "00409", "two documents of the file have the same number: give each its own")
	}
	if err != nil {
		return fmt.Errorf("invoice: find who holds the number: %w", err)
	}
	earlier := name{p.TenantID, holder.CompanyID, holder.ID}
	message := fmt.Sprintf("number %q of the same issuer and year is held by %s (%s): change the number, or use that invoice",
		holder.Number, earlier, invoicev1.InvoiceState(holder.State))
	return fault.Conflict("INVOICE_DUPLICATE", "content: %s", message).WithField("content", "00404", message)
}
