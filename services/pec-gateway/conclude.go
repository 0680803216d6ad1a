package pecgateway

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// conclusions keeps the reports of messages and draws what follows from proven receipts. The state of a sent message
// is derived once, when all receipts of a batch are known: it is a function of their set.
type conclusions struct {
	s       *Service
	box     db.Mailbox
	reports db.InsertReportsParams
	moved   []uuid.UUID // sent messages with new facts, in order of appearance
	seen    map[uuid.UUID]bool
}

func (s *Service) conclusionsOf(box db.Mailbox) *conclusions {
	return &conclusions{s: s, box: box, seen: map[uuid.UUID]bool{}, reports: db.InsertReportsParams{TenantID: box.TenantID, CheckTime: pg.Time(s.now())}}
}

// add takes one message: id is of the message, about the sent one that it is a receipt of.
func (c *conclusions) add(ctx context.Context, tx pgx.Tx, id uuid.UUID, j *judged, about *correlated, ref blob.Ref) error {
	if j.report == nil {
		return nil
	}
	reportID, err := pg.NewID()
	if err != nil {
		return err
	}
	r := &c.reports
	r.MessageIds, r.Ids, r.Statuses = append(r.MessageIds, id), append(r.Ids, reportID), append(r.Statuses, string(j.report.Status))
	r.Provens, r.Reports = append(r.Provens, j.proven), append(r.Reports, string(j.stored))
	err = c.s.notePoints(ctx, tx, j.report)
	if err != nil {
		return err
	}
	if j.report.Status == pec.StatusUnlisted {
		err = c.s.seeCertificate(ctx, tx, j.report.Certificate, j.report.Addresses)
		if err != nil {
			return err
		}
	}
	if about == nil || about.hearsay {
		return nil
	}
	if j.vouched == nil {
		err = c.s.bus.Emit(bus.WithCorrelation(ctx, about.sent.ID.String()), tx, &pecv1.ReceiptVerified{
			Message: messageName(c.box.TenantID, c.box.ID, about.sent.ID), Kind: j.kind.String(), Content: content(ref), Receipt: messageName(c.box.TenantID, c.box.ID, id),
		})
	}
	if err != nil || !about.counts {
		return err
	}
	fact, ok := pec.FactBy(j.reading, c.s.means.of(j.report.Provider))
	if !ok {
		return nil
	}
	isNew, err := c.s.know(ctx, tx, about.sent.ID, fact, &id)
	remark := db.RemarkFactParams{TenantID: c.box.TenantID, MessageID: about.sent.ID, ReceiptID: id, Remark: trim(j.reading.Daticert.ErroreEsteso, 500)}
	if err == nil && isNew && remark.Remark != "" && (fact.Kind == pec.FactRefused || fact.Kind == pec.FactFailed) {
		err = q(tx).RemarkFact(ctx, remark)
	}
	if err == nil && isNew && j.content.differs() {
		err = c.s.flagContent(bus.WithCorrelation(ctx, about.sent.ID.String()), tx, about.sent, remark, j)
	}
	if err == nil && isNew && j.vouched != nil {
		err = q(tx).VouchFact(ctx, db.VouchFactParams{TenantID: c.box.TenantID, MessageID: about.sent.ID, ReceiptID: id, Vouched: trim(j.vouched.says(), 1200)})
	}
	if isNew && !c.seen[about.sent.ID] {
		c.seen[about.sent.ID] = true
		c.moved = append(c.moved, about.sent.ID)
	}
	return err
}

// end writes the reports and moves the states.
func (c *conclusions) end(ctx context.Context, tx pgx.Tx) error {
	if len(c.reports.Ids) > 0 {
		err := q(tx).InsertReports(ctx, c.reports)
		if err != nil {
			return err
		}
	}
	for _, id := range c.moved {
		_, err := c.s.advance(bus.WithCorrelation(ctx, id.String()), tx, id)
		if err != nil {
			return err
		}
	}
	return nil
}
