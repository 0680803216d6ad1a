package invoice

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

func (s *Service) onDocumentSigned(ctx context.Context, tx pgx.Tx, ev *signv1.DocumentSigned) error {
	d, err := document(ctx, "signed", invoicev1.DocumentKind_DOCUMENT_KIND_SIGNED, ev.GetSigned())
	if err != nil {
		return err
	}
	return s.record(ctx, tx, ev, factSigned, nil, d)
}

func (s *Service) onSigningFailed(ctx context.Context, tx pgx.Tx, ev *signv1.SigningFailed) error {
	return s.record(ctx, tx, ev, factSigningFailed, func(row *db.Invoice) {
		if !facts(row.Facts).has(factTransmissionFailed) { // the later station explains more
			row.Failure = ev.GetCode() + ": " + ev.GetMessage()
		}
	}, nil)
}

func (s *Service) onInvoiceTransmitted(ctx context.Context, tx pgx.Tx, ev *sdiv1.InvoiceTransmitted) error {
	if _, err := reference(ctx, ev.GetTransmitted()); err != nil {
		return err
	}
	return s.record(ctx, tx, ev, factTransmitted, func(row *db.Invoice) {
		row.FileName, row.SdiID = ev.GetFileName(), ev.GetSdiId()
		row.TransmittedUri, row.TransmittedType = ev.GetTransmitted().GetUri(), ev.GetTransmitted().GetMediaType()
	}, nil)
}

func (s *Service) onTransmissionFailed(ctx context.Context, tx pgx.Tx, ev *sdiv1.TransmissionFailed) error {
	return s.record(ctx, tx, ev, factTransmissionFailed, func(row *db.Invoice) {
		row.Failure = ev.GetCode() + ": " + ev.GetMessage()
	}, nil)
}

func (s *Service) onInvoiceDelivered(ctx context.Context, tx pgx.Tx, ev *sdiv1.InvoiceDelivered) error {
	return s.receipt(ctx, tx, ev, factRC, ev.GetReceipt(), ev.GetSdiId(), nil)
}

func (s *Service) onInvoiceNotDelivered(ctx context.Context, tx pgx.Tx, ev *sdiv1.InvoiceNotDelivered) error {
	return s.receipt(ctx, tx, ev, factMC, ev.GetReceipt(), ev.GetSdiId(), nil)
}

func (s *Service) onInvoiceDiscarded(ctx context.Context, tx pgx.Tx, ev *sdiv1.InvoiceDiscarded) error {
	rejections := make([]violation, 0, len(ev.GetErrors()))
	for _, e := range ev.GetErrors() {
		rejections = append(rejections, violation{Code: e.GetCode(), Severity: "error", Message: e.GetMessage(), Hint: e.GetHint()})
	}
	raw, err := json.Marshal(rejections)
	if err != nil {
		return fmt.Errorf("invoice: rejection errors: %w", err)
	}
	return s.receipt(ctx, tx, ev, factNS, ev.GetReceipt(), ev.GetSdiId(), func(row *db.Invoice) { row.Rejections = raw })
}

func (s *Service) onInvoiceOutcomeReceived(ctx context.Context, tx pgx.Tx, ev *sdiv1.InvoiceOutcomeReceived) error {
	fact := factEC01
	switch ev.GetOutcome() {
	case "EC01":
	case "EC02":
		fact = factEC02
	default:
		return fault.Invalid("EVENT_MALFORMED", "outcome %q is neither EC01 nor EC02", ev.GetOutcome())
	}
	return s.receipt(ctx, tx, ev, fact, ev.GetReceipt(), ev.GetSdiId(), nil)
}

func (s *Service) onInvoiceTermExpired(ctx context.Context, tx pgx.Tx, ev *sdiv1.InvoiceTermExpired) error {
	return s.receipt(ctx, tx, ev, factDT, ev.GetReceipt(), ev.GetSdiId(), nil)
}

func (s *Service) onInvoiceAttested(ctx context.Context, tx pgx.Tx, ev *sdiv1.InvoiceAttested) error {
	return s.receipt(ctx, tx, ev, factAT, ev.GetReceipt(), ev.GetSdiId(), nil)
}

// onDeadlineReached writes the terms about which a customer can do something into the log. They change no state.
func (s *Service) onDeadlineReached(ctx context.Context, tx pgx.Tx, ev *sdiv1.DeadlineReached) error {
	return s.record(ctx, tx, ev, 0, nil, nil)
}

func (s *Service) onUnitTakenInCharge(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitTakenInCharge) error {
	if isInbound(ev.GetSubject()) {
		return s.logInbound(ctx, tx, ev)
	}
	at := pg.Time(ev.GetTime().AsTime())
	return s.record(ctx, tx, ev, factInCustody, func(row *db.Invoice) {
		if row.PreserveTime == nil || at.Before(*row.PreserveTime) {
			row.PreserveTime = &at
		}
	}, nil)
}

func (s *Service) onUnitPreserved(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitPreserved) error {
	if isInbound(ev.GetSubject()) {
		return s.logInbound(ctx, tx, ev)
	}
	return s.record(ctx, tx, ev, factPreserved, func(row *db.Invoice) { row.Package = ev.GetPackage() }, nil)
}

// receipt records an event that came with a message of SdI: the message becomes a document.
func (s *Service) receipt(ctx context.Context, tx pgx.Tx, ev proto.Message, fact facts, r *sdiv1.Receipt, sdiID string, set func(*db.Invoice)) error {
	d, err := document(ctx, receiptID(r), invoicev1.DocumentKind_DOCUMENT_KIND_RECEIPT, r.GetContent())
	if err != nil {
		return err
	}
	d.ReceiptType, d.FileName = r.GetType(), r.GetFileName()
	return s.record(ctx, tx, ev, fact, func(row *db.Invoice) {
		if row.SdiID == "" {
			row.SdiID = sdiID
		}
		if set != nil {
			set(row)
		}
	}, d)
}

// receiptID names a receipt by type and digest: the same message twice is one document, two different
// messages of one type are two.
func receiptID(r *sdiv1.Receipt) string {
	sum := r.GetContent().GetSha256()
	return strings.ToLower(r.GetType()) + "-" + hex.EncodeToString(sum[:min(len(sum), 6)])
}

// document makes the row of a file that an event refers to. Invalid EVENT_MALFORMED when the
// reference is not one of this tenant.
func document(ctx context.Context, id string, kind invoicev1.DocumentKind, b *eventv1.Blob) (*db.Document, error) {
	ref, err := reference(ctx, b)
	if err != nil {
		return nil, err
	}
	return &db.Document{ID: id, Kind: int16(kind), MediaType: b.GetMediaType(), Uri: ref.URI()}, nil
}

func reference(ctx context.Context, b *eventv1.Blob) (blob.Ref, error) {
	ref, err := blob.ParseURI(b.GetUri())
	if err != nil {
		return blob.Ref{}, fault.Invalid("EVENT_MALFORMED", "the event refers to no document: %s", fault.Of(err).Message).With(err)
	}
	if ref.Tenant != pg.Tenant(ctx) {
		return blob.Ref{}, fault.Invalid("EVENT_MALFORMED", "the event of tenant %q refers to a document of tenant %q", pg.Tenant(ctx), ref.Tenant)
	}
	return ref, nil
}
