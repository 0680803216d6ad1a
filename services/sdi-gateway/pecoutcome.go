package sdigateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// codeOutcomeByPost marks an outcome whose delivery to SdI is all that is proven: by certified mail SdI answers
// only when it refuses (SE).
const codeOutcomeByPost = "OUTCOME_DELIVERED_BY_PEC"

// postOutcome sends the outcome of a file that came by certified mail: an answer to the address that sent it,
// from the mailbox that got it. It says whether that is the way of this one.
// spec: DM 55/2013, Allegato B (the outcome goes back by the channel of the invoice)
func (s *Service) postOutcome(ctx context.Context, id uuid.UUID) (byPost bool, err error) {
	var from db.SenderOfInvoiceRow
	err = s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		file, o, err := lockOutcome(ctx, tx, id)
		if err != nil || file.Channel != channelPEC {
			return err
		}
		byPost = true
		if o.State == outcomeTaken || o.State == outcomeRefused || o.AttemptAt != nil {
			return nil // settled, or a message is on its way: its states tell
		}
		now := pg.Time(s.now())
		if expired(file, now) {
			return s.writeVerdict(ctx, tx, file, o, verdict{state: outcomeRefused, code: codeOutcomeExpired, message: "the term was over before the outcome was sent"})
		}
		from, err = db.New(tx).SenderOfInvoice(ctx, o.SdiID)
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.Precondition("OUTCOME_NO_SENDER", "no mailbox of this tenant got the file %s by certified mail, so there is nowhere to answer from", o.SdiID)
		}
		if err != nil {
			return err
		}
		return s.mailOutcome(ctx, tx, o, from, now)
	})
	return byPost, err
}

func (s *Service) mailOutcome(ctx context.Context, tx pgx.Tx, o *db.InboundOutcome, from db.SenderOfInvoiceRow, now time.Time) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	mailbox, _, _ := strings.Cut(from.Message, "/messages/")
	q := db.New(tx)
	err = q.InsertMailing(ctx, db.InsertMailingParams{ID: id, TenantID: o.TenantID, Mailbox: mailbox, Address: from.Sender, FileNames: []string{o.FileName}, OutcomeID: &o.ID, Now: now})
	if err == nil {
		err = q.AddPecMailbox(ctx, db.AddPecMailboxParams{TenantID: o.TenantID, Mailbox: mailbox})
	}
	if err != nil {
		return err
	}
	o.Attempts++
	o.AttemptAt, o.Code, o.Message = &now, "", ""
	err = storeOutcome(ctx, tx, o)
	if err != nil {
		return err
	}
	return s.ask(ctx, tx, id, mailbox, from.Sender, []string{o.FileName}, []*pecv1.Attachment{{FileName: o.FileName, MediaType: "application/xml", Data: o.Content}})
}

// outcomeArrived ends an outcome that SdI's mailbox has. A refusal may still come.
func (s *Service) outcomeArrived(ctx context.Context, tx pgx.Tx, m *db.LockMailingRow) error {
	file, o, err := lockOutcome(ctx, tx, *m.OutcomeID)
	if err != nil || o.State == outcomeTaken || o.State == outcomeRefused {
		return err
	}
	return s.writeVerdict(ctx, tx, file, o, verdict{state: outcomeTaken, code: codeOutcomeByPost,
		message: "delivered to SdI by certified mail; SdI answers only when it refuses"})
}

// outcomeLost sends an outcome again whose message reached nobody, after a pause.
func (s *Service) outcomeLost(ctx context.Context, tx pgx.Tx, m *db.LockMailingRow, now time.Time) error {
	_, o, err := lockOutcome(ctx, tx, *m.OutcomeID)
	if err != nil || o.State == outcomeTaken || o.State == outcomeRefused {
		return err
	}
	code, text, _ := strings.Cut(m.Problem, ": ")
	o.State, o.AttemptAt, o.Code, o.Message = outcomePending, nil, plainText(code, 100), plainText(text, 500)
	err = storeOutcome(ctx, tx, o)
	if err != nil {
		return err
	}
	at := now.Add(s.retryFailed(min(o.Attempts, 20) - 1))
	return s.jobs.InsertTx(ctx, tx, sendOutcomeArgs{Outcome: o.ID}, &river.InsertOpts{ScheduledAt: time.Now().Add(at.Sub(now))})
}

// outcomeInDoubt says that nobody knows whether SdI has an outcome: it is not sent again.
func (s *Service) outcomeInDoubt(ctx context.Context, tx pgx.Tx, m *db.LockMailingRow) error {
	_, o, err := lockOutcome(ctx, tx, *m.OutcomeID)
	if err != nil || o.State == outcomeTaken || o.State == outcomeRefused || o.State == outcomeUnknown {
		return err
	}
	o.State, o.Code, o.Message = outcomeUnknown, codeUnknownOutcome, "nobody knows whether the message has left; its receipts are awaited at "+m.Message
	o.Unknown++
	return storeOutcome(ctx, tx, o)
}

// takeRefusal applies an SE: SdI did not accept an outcome, although its mailbox has it.
// spec: MessaggiTypes-1.1 ScartoEsitoCommittente
func (s *Service) takeRefusal(ctx context.Context, r *mailReading, d sdiftp.Documento) error {
	m, err := sdi.ParseMessage(d.Name, d.Data)
	if err != nil {
		r.problem(codeMailUnreadable, "the answer %.100q to an outcome cannot be read: %s", d.Name, sentence(err))
		return nil
	}
	se, ok := m.Contenuto.(*sdi.ScartoEsitoCommittente)
	if !ok {
		r.problem(codeMailUnexpected, "%.100q is a message of type %s", d.Name, m.Type())
		return nil
	}
	ref, err := s.blobs.Put(ctx, r.row.TenantID, d.Data)
	if err != nil {
		return err
	}
	found := false
	err = s.db.Tx(ctx, r.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).AnswersAbout(ctx, se.IdentificativoSdI)
		if err != nil {
			return err
		}
		about, ok := refusedAnswer(se, rows)
		if !ok {
			return nil
		}
		found = true
		file, o, err := lockOutcome(ctx, tx, about.ID)
		if err != nil || o.State == outcomeRefused {
			return err
		}
		o.AnswerUri = ref.URI()
		return s.writeVerdict(ctx, tx, file, o, refusalVerdict(o, se))
	})
	if err == nil && !found {
		r.problem(codeMailUnexpected, "%.100q refuses an outcome that this tenant never gave (IdentificativoSdI %.40q)", d.Name, se.IdentificativoSdI)
	}
	return err
}
