package pecgateway

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// fallUnread makes a word that was taken back hold no more of a message whose bytes cannot be read, so that it cannot be judged anew:
// by what its report says, another word that covers it stands in, or none.
func (s *Service) fallUnread(ctx context.Context, w db.Vouching, id uuid.UUID) error {
	return s.db.Tx(ctx, w.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: w.TenantID, ID: id})
		if err == nil {
			err = q(tx).HoldVouchings(ctx, w.MailboxID.String())
		}
		if err != nil {
			return err
		}
		had := wordIn(row.Report)
		if had == nil || had.Vouching != vouchingName(w) {
			return nil
		}
		standing, err := q(tx).StandingVouchings(ctx, db.StandingVouchingsParams{TenantID: w.TenantID, MailboxID: w.MailboxID})
		if err != nil {
			return err
		}
		j := &judged{reason: tookBack(w)}
		for _, other := range standing {
			if j.vouched == nil && covers(other, judgedAt(row)) {
				j.vouched, j.proven = given(other, had.NotShown), true
			}
		}
		report := map[string]any{}
		err = json.Unmarshal(row.Report, &report)
		if err != nil {
			return err
		}
		delete(report, "vouched")
		if j.vouched != nil {
			report["vouched"] = j.vouched
		}
		j.stored, err = json.Marshal(report)
		if err != nil {
			return err
		}
		return s.keepWord(ctx, tx, w, row, j)
	})
}

func (s *Service) keepWord(ctx context.Context, tx pgx.Tx, w db.Vouching, row db.Message, j *judged) error {
	reportID, err := pg.NewID()
	if err != nil {
		return err
	}
	err = q(tx).KeepWord(ctx, db.KeepWordParams{TenantID: row.TenantID, ID: row.ID, Proven: j.proven, Report: j.stored})
	if err == nil {
		err = q(tx).InsertReports(ctx, db.InsertReportsParams{TenantID: row.TenantID, CheckTime: pg.Time(s.now()), MessageIds: []uuid.UUID{row.ID}, Ids: []uuid.UUID{reportID},
			Statuses: []string{row.Verification}, Provens: []bool{j.proven}, Reports: []string{string(j.stored)}})
	}
	if err == nil && row.AboutID != nil {
		_, err = s.doubt(ctx, tx, *row.AboutID, row, j)
	}
	if err != nil {
		return err
	}
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: "message.word_fell", Resource: messageName(row.TenantID, row.MailboxID, row.ID), Detail: map[string]string{"because": vouchingName(w)}})
}

// fallDestroyed makes what counts by a word that was taken back count no more where the receipt was destroyed, a turn at a time. It says
// whether nothing is left. Nothing shows any more what another word would cover.
func (s *Service) fallDestroyed(ctx context.Context, w db.Vouching) (bool, error) {
	var rows []db.Message
	err := s.db.View(ctx, w.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = q(tx).DestroyedCopies(ctx, db.DestroyedCopiesParams{TenantID: w.TenantID, MailboxID: w.MailboxID, Vouched: trim(given(w, "").says(), 1200), Most: rejudgeTogether})
		return err
	})
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		err = s.db.Tx(ctx, w.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			_, err := s.doubt(ctx, tx, *row.AboutID, row, &judged{reason: tookBack(w)})
			return err
		})
		if err != nil {
			return false, err
		}
	}
	return len(rows) < rejudgeTogether, nil
}

// tookBack is why what counted by a word does not any more.
func tookBack(w db.Vouching) string {
	return "the word was taken back by " + w.EndedBy + ": " + w.EndReason
}
