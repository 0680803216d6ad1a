package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// mailArrived notes that SdI's mailbox has a message: its files are transmitted, at the moment that SdI's
// provider certifies. revived: the message was said to have reached nobody, so its files may have gone again under
// their names, and a discard of the repeat means nothing.
// spec: AllA-1.9 §1.3 (T0 of certified mail is the receipt of delivery)
func (s *Service) mailArrived(ctx context.Context, tx pgx.Tx, m *db.LockMailingRow, revived bool, at *time.Time, now time.Time) error {
	q := db.New(tx)
	if revived {
		err := q.CountAgain(ctx, db.CountAgainParams{MailingID: m.ID, Now: now})
		if err != nil {
			return err
		}
	}
	err := q.SettlePecMailbox(ctx, db.SettlePecMailboxParams{Mailbox: m.Mailbox})
	if err == nil {
		err = q.DegradePecMailbox(ctx, db.DegradePecMailboxParams{Mailbox: m.Mailbox})
	}
	if err != nil {
		return err
	}
	if m.OutcomeID != nil {
		return s.outcomeArrived(ctx, tx, m)
	}
	ids, err := q.MailingFiles(ctx, m.ID)
	if err != nil {
		return err
	}
	rows, err := q.LockTransmissions(ctx, ids)
	if err != nil {
		return err
	}
	var fresh []*db.LockTransmissionsRow
	for i := range rows {
		t := &rows[i]
		if facts(t.Facts)&factSent != 0 {
			continue // a message of SdI was quicker
		}
		t.SentAt = at
		err = s.markSent(story(ctx, t.TenantID, t.Invoice, bus.Meta(ctx).ID, t.Traceparent), tx, t, "")
		if err != nil {
			return err
		}
		fresh = append(fresh, t)
	}
	return s.store(ctx, tx, fresh)
}

// mailLost frees the files of a message that reached nobody: they go again under their names, by this channel
// after a pause or by another.
func (s *Service) mailLost(ctx context.Context, tx pgx.Tx, m *db.LockMailingRow, fact mailFacts, now time.Time) error {
	q := db.New(tx)
	s.log.WarnContext(ctx, "a message to SdI reached nobody; its documents go again", "mailing", m.ID, "mailbox", m.Mailbox, "problem", m.Problem)
	if m.OutcomeID != nil {
		return s.outcomeLost(ctx, tx, m, now)
	}
	freed, err := q.FreeFromMailing(ctx, db.FreeFromMailingParams{MailingID: &m.ID, LastError: m.Problem, Now: now})
	if err != nil {
		return err
	}
	if fact == mailRefused { // it will not be taken as it is: somebody has to know
		code, reason, _ := strings.Cut(m.Problem, ": ")
		for _, t := range freed {
			err = s.bus.Emit(story(ctx, t.TenantID, t.Invoice, bus.Meta(ctx).ID, t.Traceparent), tx, &sdiv1.TransmissionFailed{
				Invoice: t.Invoice, Transmission: transmissionName(t.TenantID, t.ID), Code: code, Message: reason,
			})
			if err != nil {
				return err
			}
		}
	}
	address, err := q.AssignedAddress(ctx, m.Mailbox)
	if err != nil || address != "" && address != m.Address {
		return err // at an address that SdI has left: nothing that the next message should wait for
	}
	box, err := q.LockPecMailbox(ctx, m.Mailbox)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	retry := now.Add(s.retryFailed(box.Failures))
	return q.SettlePecMailbox(ctx, db.SettlePecMailboxParams{Mailbox: m.Mailbox, Failures: box.Failures + 1, RetryAt: &retry, Problem: plainText(m.Problem, 1000)})
}

// takenBack is how many messages are taken back in a turn.
const takenBack = 100

// takeBack takes messages back that wait for a mailbox's provider and would go to an address in whose place SdI has assigned another:
// it promises nothing for what comes there. Their documents are free when the pec-gateway tells so. One that is leaving at this
// moment is asked for again while nobody says that it has left.
// spec: AllA-1.9 §1.3.1
func (s *Service) takeBack(ctx context.Context) error {
	var rows []db.MailingsToTakeBackRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = db.New(tx).MailingsToTakeBack(ctx, takenBack)
		return err
	})
	for _, m := range rows {
		_, refused := s.mailed.CancelMessage(ctx, &pecv1.CancelMessageRequest{Name: m.Message,
			Reason: fmt.Sprintf("SdI has assigned %s in place of %s", m.Assigned, m.Address)})
		switch {
		case refused == nil:
			s.log.InfoContext(ctx, "SdI has assigned another address: a message that waits is taken back", "mailing", m.ID, "mailbox", m.Mailbox,
				"to", m.Address, "assigned", m.Assigned)
		case fault.Of(refused).Code != "MESSAGE_HAS_LEFT":
			err = errors.Join(err, refused)
		}
	}
	return err
}

// retryFailed is the pause after so many failures and one.
func (s *Service) retryFailed(failures int32) time.Duration {
	d := s.cfg.PEC.RetryFailed
	for range min(failures, 20) {
		d = min(2*d, max(retryFailedMost, s.cfg.PEC.RetryFailed))
	}
	return d
}

// keepsSending says of a code of MailboxDegraded that the mailbox sends as before: what is said of its room, of its archive, of
// single messages and of terms that are not over yet.
func keepsSending(code string) bool {
	return strings.Contains(code, "QUOTA") || strings.HasPrefix(code, "MESSAGE_") || strings.HasSuffix(code, "_EXPIRING") || code == "MAILBOX_ROOM_IMPOSSIBLE" || code == "ARCHIVE_DAMAGED"
}

// onMailboxDegraded keeps new documents from a mailbox that may not send until somebody has looked after it.
func (s *Service) onMailboxDegraded(ctx context.Context, tx pgx.Tx, ev *pecv1.MailboxDegraded) error {
	if keepsSending(ev.GetCode()) {
		return nil
	}
	now := pg.Time(s.now())
	return db.New(tx).DegradePecMailbox(ctx, db.DegradePecMailboxParams{Mailbox: ev.GetMailbox(), DegradedAt: &now, Problem: plainText(ev.GetReason(), 1000)})
}
