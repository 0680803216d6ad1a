package invoice

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/proto/catalog"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

// arrival is an admitted file about to become an invoice, with others in the same transaction.
type arrival struct {
	a           *admission
	id          uuid.UUID
	requestID   string
	requestHash []byte
	externalID  string
	ownName     string // of the original, when it keeps the one that it came with
	ref         blob.Ref
	span        trace.SpanContext // of the request that brought it; the trace of the caller when invalid
	received    bool              // imported, and the company is the buyer
	lost        bool              // set by storeMany: somebody took its number first
	stored      bool              // in the transaction that writes outcomes
}

// arrivals is what storeMany stores: all of one company, all sent or all imported.
type arrivals struct {
	tenant, company string
	batch           *uuid.UUID
	imported        bool
	ownTraces       bool // each begins a trace of its own, as if it had come by itself
	now             time.Time
	list            []*arrival
}

// storeMany makes invoices of admitted files in the caller's transaction: rows, numbers, first lines of the
// log and events, as CreateInvoice does for one. The bytes are durable already. Those whose number is taken
// are left out and marked lost.
func (s *Service) storeMany(ctx context.Context, tx pgx.Tx, in *arrivals) error {
	if err := takeNumbers(ctx, tx, in); err != nil {
		return err
	}
	p := db.InsertInvoicesParams{TenantID: in.tenant, CompanyID: in.company, CreateTime: in.now, BatchID: in.batch,
		State:        int16(invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED),
		OriginalKind: int16(invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL)}
	if in.imported {
		p.State = int16(invoicev1.InvoiceState_INVOICE_STATE_IMPORTED)
	}
	for _, r := range in.list {
		if r.lost {
			continue
		}
		if err := s.addInvoice(ctx, tx, in, r, &p); err != nil {
			return err
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := q(tx).InsertInvoices(ctx, p); err != nil {
		return fmt.Errorf("invoice: insert many: %w", err)
	}
	if unit := pg.UnitOf(ctx, tx); unit != nil {
		unit.After(s.sequencer.kick)
	}
	return nil
}

// takeNumbers takes the numbers of all, and gives those of a lot back of which one was taken.
func takeNumbers(ctx context.Context, tx pgx.Tx, in *arrivals) error {
	p := db.TakeNumbersParams{TenantID: in.tenant}
	for _, r := range in.list {
		for _, h := range r.a.held {
			p.Issuers, p.Years = append(p.Issuers, h.issuer), append(p.Years, h.year)
			p.Series, p.Numbers = append(p.Series, h.series), append(p.Numbers, h.number)
			p.InvoiceIds = append(p.InvoiceIds, r.id)
		}
	}
	rows, err := q(tx).TakeNumbers(ctx, p)
	if err != nil {
		return fmt.Errorf("invoice: take numbers: %w", err)
	}
	got := make(map[uuid.UUID]int64, len(rows))
	for _, row := range rows {
		got[row.InvoiceID] = row.N
	}
	var back []uuid.UUID
	for _, r := range in.list {
		r.lost = got[r.id] < int64(len(r.a.held))
		if r.lost && got[r.id] > 0 {
			back = append(back, r.id)
		}
	}
	if len(back) == 0 {
		return nil
	}
	if err := q(tx).GiveNumbersBack(ctx, db.GiveNumbersBackParams{TenantID: in.tenant, InvoiceIds: back}); err != nil {
		return fmt.Errorf("invoice: give numbers back: %w", err)
	}
	return nil
}

// addInvoice emits the events of one file and adds its row to the statement.
func (s *Service) addInvoice(ctx context.Context, tx pgx.Tx, in *arrivals, r *arrival, p *db.InsertInvoicesParams) error {
	if in.ownTraces {
		var span trace.Span
		ctx, span = telemetry.Tracer().Start(ctx, "invoice of a batch", trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)))
		defer span.End()
	}
	if r.span.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, r.span)
	}
	ctx = bus.WithCorrelation(ctx, r.id.String())
	row := &r.a.row
	row.TenantID, row.CompanyID, row.ID, row.ExternalID = in.tenant, in.company, r.id, r.externalID
	row.State, row.TraceID = p.State, telemetry.TraceID(telemetry.Inject(ctx))
	row.CreateTime, row.UpdateTime, row.Version, row.BatchID = in.now, in.now, 1, in.batch
	if in.imported {
		// What is kept is what came; nothing was or will be sent.
		row.Facts, row.Settled = int32(factImported), true
		row.FileName, row.TransmittedUri, row.TransmittedType = r.ownName, r.ref.URI(), r.a.media
	}
	eventID, notice, err := s.announce(ctx, tx, in, r)
	if err != nil {
		return err
	}
	data, err := json.Marshal(notice.Data)
	if err != nil {
		return fmt.Errorf("invoice: data of %s: %w", notice.Type, err)
	}
	p.EventType, p.EventIds, p.EventData = notice.Type, append(p.EventIds, eventID), append(p.EventData, data)
	p.Ids, p.TraceIds = append(p.Ids, row.ID), append(p.TraceIds, row.TraceID)
	p.Facts, p.Settled = append(p.Facts, row.Facts), append(p.Settled, row.Settled)
	p.RequestIds, p.RequestHashes = append(p.RequestIds, r.requestID), append(p.RequestHashes, r.requestHash)
	p.ExternalIds, p.Formats = append(p.ExternalIds, row.ExternalID), append(p.Formats, row.Format)
	p.RecipientCodes, p.Numbers = append(p.RecipientCodes, row.RecipientCode), append(p.Numbers, row.Number)
	p.IssueDates, p.Bodies = append(p.IssueDates, r.a.files[0].Date), append(p.Bodies, row.Bodies)
	p.SellerVatNumbers, p.SellerTaxCodes = append(p.SellerVatNumbers, row.SellerVatNumber), append(p.SellerTaxCodes, row.SellerTaxCode)
	p.SellerNames, p.BuyerVatNumbers = append(p.SellerNames, row.SellerName), append(p.BuyerVatNumbers, row.BuyerVatNumber)
	p.BuyerTaxCodes, p.BuyerNames = append(p.BuyerTaxCodes, row.BuyerTaxCode), append(p.BuyerNames, row.BuyerName)
	p.Warnings, p.FileNames = append(p.Warnings, row.Warnings), append(p.FileNames, row.FileName)
	p.TransmittedUris, p.TransmittedTypes = append(p.TransmittedUris, row.TransmittedUri), append(p.TransmittedTypes, row.TransmittedType)
	p.OwnNames, p.MediaTypes, p.Uris = append(p.OwnNames, r.ownName), append(p.MediaTypes, r.a.media), append(p.Uris, r.ref.URI())
	return nil
}

// announce emits what follows from an invoice: its journey, or for an import its custody.
func (s *Service) announce(ctx context.Context, tx pgx.Tx, in *arrivals, r *arrival) (uuid.UUID, catalog.Notice, error) {
	row := &r.a.row
	original := &eventv1.Blob{Uri: r.ref.URI(), Sha256: r.ref.SHA256[:], Size: r.ref.Size, MediaType: r.a.media}
	var ev proto.Message = &invoicev1.InvoiceAccepted{Invoice: nameOf(row).String(), Format: row.Format, Sign: r.a.sign,
		RecipientCode: row.RecipientCode, Original: original}
	if in.imported {
		ev = &invoicev1.InvoiceImported{Invoice: nameOf(row).String(), Format: row.Format, Original: original, Received: r.received}
	}
	id, err := s.bus.EmitID(ctx, tx, ev)
	if err != nil {
		return id, catalog.Notice{}, err
	}
	notice, _ := catalog.NoticeOf(ev)
	if !in.imported {
		return id, notice, nil
	}
	custody, err := settled(row, nil)
	if err != nil {
		return id, notice, err
	}
	custody.Received = r.received
	return id, notice, s.bus.Emit(ctx, tx, custody)
}
