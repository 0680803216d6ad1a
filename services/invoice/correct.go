package invoice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

// CorrectInvoice stores an invoice in place of one that SdI rejected or a public body refused: an invoice
// of its own, with its own file name, under the number that the old one gave back. The old one and its
// documents stay as they are.
//
// Beyond the faults of CreateInvoice: NotFound INVOICE_NOT_FOUND; Precondition NOT_CORRECTABLE, with the
// state; Conflict ALREADY_CORRECTED, with the correction, which is the one to correct if it failed too.
//
// spec: AllA-1.9 §1.6 and control 00404: a rejected invoice was not issued and its number is free; so is
// the one of an invoice that a public body refused
func (s *Service) CorrectInvoice(ctx context.Context, req *invoicev1.CorrectInvoiceRequest) (*invoicev1.Invoice, error) {
	if err := oneSource(req.GetContent(), req.GetDraft(), req.GetSeries()); err != nil {
		return nil, err
	}
	n, err := parseName(req.GetName())
	if err != nil {
		return nil, invoiceMissing(req.GetName())
	}
	in := &intake{externalID: req.GetExternalId(), requestID: req.GetRequestId(), corrects: &n.id}
	asked := "corrects " + req.GetName()
	if req.GetDraft() == nil {
		in.hash = requestHash(asked, req.GetExternalId(), req.GetContent())
	} else if in.hash, err = draftHash(asked, req.GetExternalId(), req.GetDraft(), req.GetSeries()); err != nil {
		return nil, err
	}
	old, before, err := s.toCorrect(ctx, n, in)
	if err != nil || before != nil {
		return before, err
	}
	in.parent = name{tenant: n.tenant, company: old.CompanyID}
	in.company, err = s.companies.get(ctx, "tenants/"+n.tenant+"/companies/"+old.CompanyID)
	if err != nil {
		return nil, err
	}
	in.first = func(ctx context.Context, tx pgx.Tx, a *admission) error { return s.replace(ctx, tx, in, a) }
	if req.GetDraft() != nil {
		draft, err := inPlaceOf(req.GetDraft(), old, req.GetSeries())
		if err != nil {
			return nil, err
		}
		return s.takeDraft(ctx, in, draft, req.GetSeries())
	}
	a, err := admit(req.GetContent(), in.company, pg.Time(s.now()))
	if err != nil {
		return nil, err
	}
	return s.take(ctx, in, a)
}

// toCorrect reads the invoice to correct, or the first answer to a request that was made before.
func (s *Service) toCorrect(ctx context.Context, n name, in *intake) (old *db.Invoice, before *invoicev1.Invoice, err error) {
	in.parent = n
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		before, err = in.answered(ctx, tx)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		row, err := q(tx).GetInvoice(ctx, db.GetInvoiceParams{TenantID: n.tenant, ID: n.id})
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && n.company != "-" && row.CompanyID != n.company) {
			return invoiceMissing(n.String())
		}
		if err != nil {
			return fmt.Errorf("invoice: read %s: %w", n.id, err)
		}
		old = &row
		if err := correctable(old); err != nil {
			return in.unlessAnswered(ctx, tx, &before, err)
		}
		in.rejected, err = rejectedOn(ctx, tx, old)
		return err
	})
	return old, before, err
}

// unlessAnswered gives an error back, unless the correction that is there by now came of this very request.
func (in *intake) unlessAnswered(ctx context.Context, tx pgx.Tx, before **invoicev1.Invoice, err error) error {
	again, missing := in.answered(ctx, tx)
	if missing != nil {
		return err
	}
	*before = again
	return nil
}

// correctable refuses an invoice that stands, or that was corrected before.
func correctable(row *db.Invoice) error {
	if err := notDestroyed(row); err != nil {
		return err
	}
	if row.CorrectedBy != nil {
		by := name{row.TenantID, row.CompanyID, *row.CorrectedBy}
		return fault.Conflict("ALREADY_CORRECTED", "%s is corrected by %s: if that one was rejected too, correct it instead", nameOf(row), by).
			WithField("name", "ALREADY_CORRECTED", "is corrected by "+by.String())
	}
	switch state := invoicev1.InvoiceState(row.State); state {
	case invoicev1.InvoiceState_INVOICE_STATE_REJECTED, invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED:
		return nil
	default:
		return fault.Precondition("NOT_CORRECTABLE", "%s is %s: only an invoice that is REJECTED or PA_REFUSED can be corrected; for one that was issued, send a credit note (TD04)",
			nameOf(row), state).WithField("name", "NOT_CORRECTABLE", "its state is "+state.String())
	}
}

// rejectedOn is the day of the notice of rejection; empty when there is none, as after a refusal.
func rejectedOn(ctx context.Context, tx pgx.Tx, row *db.Invoice) (fatturapa.Date, error) {
	documents, err := q(tx).ListDocuments(ctx, db.ListDocumentsParams{TenantID: row.TenantID, InvoiceIds: []uuid.UUID{row.ID}})
	if err != nil {
		return "", fmt.Errorf("invoice: documents of %s: %w", row.ID, err)
	}
	for _, d := range documents {
		if d.ReceiptType == "NS" {
			return fatturapa.Date(d.CreateTime.In(sdi.Roma()).Format(time.DateOnly)), nil
		}
	}
	return "", nil
}

// late warns of a correction after the days in which number and date may stay as they were.
func (in *intake) late(a *admission, now time.Time) error {
	term, ok := fatturapa.ResendDeadline(in.rejected)
	today := now.In(sdi.Roma()).Format(time.DateOnly)
	if !ok || today <= string(term.Day) {
		return nil
	}
	return a.warn(violation{Code: "RESEND_LATE", Severity: "warning", Actual: today, Expected: string(term.Day) + " or earlier", Clause: term.Law,
		Message: fmt.Sprintf("the invoice was rejected on %s: with the same number and date it had to be sent again within five days", in.rejected),
		Hint:    "give it a new number and date, or ask whoever keeps the books whether a penalty is due"})
}

// replace joins the old invoice and the new one, in the transaction that stores the new one. The row of
// the old one is locked first: of two corrections at a time the second finds the first.
func (s *Service) replace(ctx context.Context, tx pgx.Tx, in *intake, a *admission) error {
	rows, err := q(tx).LockInvoices(ctx, []uuid.UUID{*in.corrects})
	if err != nil {
		return fmt.Errorf("invoice: lock %s: %w", in.corrects, err)
	}
	if len(rows) != 1 {
		return invoiceMissing(name{in.parent.tenant, in.parent.company, *in.corrects}.String())
	}
	if err := correctable(&rows[0]); err != nil {
		var before *invoicev1.Invoice
		if err := in.unlessAnswered(ctx, tx, &before, err); err != nil {
			return err
		}
		return errRepeated
	}
	if err := in.late(a, s.now()); err != nil {
		return err
	}
	err = q(tx).MarkCorrected(ctx, db.MarkCorrectedParams{TenantID: a.row.TenantID, ID: *in.corrects, CorrectedBy: &a.row.ID, UpdateTime: a.row.CreateTime})
	if err != nil {
		return fmt.Errorf("invoice: mark %s as corrected: %w", in.corrects, err)
	}
	return nil
}

// inPlaceOf is a draft with number and date of the invoice that it corrects, where it has none.
func inPlaceOf(draft *invoicev1.Draft, old *db.Invoice, series string) (*invoicev1.Draft, error) {
	bodies, err := bodiesOf(old)
	if err != nil {
		return nil, err
	}
	d := proto.CloneOf(draft)
	if d.Document == nil {
		d.Document = &invoicev1.DraftDocument{}
	}
	if len(bodies) > 1 && (d.Document.GetNumber() == "" || d.Document.GetDate() == "") {
		numbers := make([]string, 0, len(bodies))
		for _, b := range bodies {
			numbers = append(numbers, b.Number)
		}
		if !slices.Contains(numbers, d.Document.GetNumber()) && series == "" {
			return nil, fault.Invalid("DRAFT_INVALID", "draft.document.number: %s holds %d documents: say which number this one has, or send the corrected lot as content", nameOf(old), len(bodies)).
				WithField("draft.document.number", "DRAFT_INVALID", "is needed to correct a lot")
		}
	}
	if d.Document.GetNumber() == "" && series == "" {
		d.Document.Number = bodies[0].Number
	}
	if d.Document.GetDate() == "" {
		d.Document.Date = bodies[0].Date
	}
	if d.Document.GetType() == "" {
		d.Document.Type = bodies[0].Type
	}
	return d, nil
}
