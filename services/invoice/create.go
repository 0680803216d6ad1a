package invoice

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/proto/catalog"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
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

// CreateInvoice checks and stores a file and promises its journey: row, numbers, first line of the log
// and InvoiceAccepted are one transaction, which commits only once the bytes are durable. What is
// refused leaves nothing behind.
//
// Beyond the faults of admit: Conflict INVOICE_DUPLICATE (names the earlier invoice),
// REQUEST_ID_REUSED; NotFound COMPANY_NOT_FOUND.
func (s *Service) CreateInvoice(ctx context.Context, req *invoicev1.CreateInvoiceRequest) (*invoicev1.Invoice, error) {
	company, err := s.companies.get(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	a, err := admit(req.GetContent(), company, now)
	if err != nil {
		return nil, err
	}
	n, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	row := &a.row
	row.TenantID, row.CompanyID, row.ExternalID, row.RequestID = n.tenant, n.company, req.GetExternalId(), req.GetRequestId()
	row.RequestHash = requestHash(req)
	row.State, row.Version = int16(invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED), 1
	row.CreateTime, row.UpdateTime = now, now
	row.TraceID = telemetry.TraceID(telemetry.Inject(ctx))
	ref := blob.Of(n.tenant, req.GetContent())
	original := db.ListDocumentsRow{ID: "original", Kind: int16(invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL),
		MediaType: mediaXML, Uri: ref.URI(), CreateTime: now}
	if req.GetValidateOnly() {
		return present(row, []db.ListDocumentsRow{original})
	}
	row.ID, err = pg.NewID()
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(bus.WithCorrelation(ctx, row.ID.String()), n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		return s.store(ctx, tx, a, ref, req.GetContent())
	})
	switch {
	case errors.Is(err, errRepeated):
		return s.earlier(ctx, row)
	case errors.Is(err, errNumberTaken):
		return nil, s.duplicate(ctx, a)
	case err != nil:
		return nil, err
	}
	return present(row, []db.ListDocumentsRow{original})
}

// store is the transaction of CreateInvoice.
func (s *Service) store(ctx context.Context, tx pgx.Tx, a *admission, ref blob.Ref, content []byte) error {
	row := &a.row
	ev := &invoicev1.InvoiceAccepted{
		Invoice: nameOf(row).String(), Format: row.Format, Sign: a.sign, RecipientCode: row.RecipientCode,
		Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaXML},
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
		Warnings: row.Warnings, TraceID: row.TraceID, CreateTime: row.CreateTime,
		OriginalKind: int16(invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL), MediaType: mediaXML, Uri: ref.URI(),
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
	if _, err := s.blobs.Put(ctx, row.TenantID, content); err != nil {
		return err
	}
	if unit := pg.UnitOf(ctx, tx); unit != nil {
		unit.After(s.sequencer.kick)
	}
	return nil
}

// requestHash condenses what makes a request the same one. spec: AIP-155
func requestHash(req *invoicev1.CreateInvoiceRequest) []byte {
	content := sha256.Sum256(req.GetContent())
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %x", req.GetParent(), req.GetExternalId(), content))
	return sum[:]
}

// earlier gives the first answer to a request id again: the invoice as it was accepted.
func (s *Service) earlier(ctx context.Context, repeat *db.Invoice) (*invoicev1.Invoice, error) {
	var resp *invoicev1.Invoice
	err := s.db.Tx(ctx, repeat.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).FindByRequest(ctx, db.FindByRequestParams{TenantID: repeat.TenantID, RequestID: repeat.RequestID})
		if err != nil {
			return fmt.Errorf("invoice: find request %s: %w", repeat.RequestID, err)
		}
		if !bytes.Equal(row.RequestHash, repeat.RequestHash) {
			return fault.Conflict("REQUEST_ID_REUSED",
				"request_id %s was used before with another request, which made %s: use a new id for a new request", repeat.RequestID, nameOf(&row)).
				WithField("request_id", "REUSED", "belongs to an earlier, different request")
		}
		documents, err := q(tx).GetDocument(ctx, db.GetDocumentParams{TenantID: row.TenantID, InvoiceID: row.ID, ID: "original", CompanyID: row.CompanyID})
		if err != nil {
			return fmt.Errorf("invoice: original of %s: %w", row.ID, err)
		}
		row.State, row.Version, row.UpdateTime = int16(invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED), 1, row.CreateTime
		row.Rejections, row.Failure, row.FileName, row.SdiID = []byte("[]"), "", "", ""
		row.PreserveTime, row.Package = nil, ""
		resp, err = present(&row, []db.ListDocumentsRow{{ID: documents.ID, Kind: documents.Kind, MediaType: documents.MediaType,
			Uri: documents.Uri, CreateTime: documents.CreateTime}})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
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
