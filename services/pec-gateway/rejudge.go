package pecgateway

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// rejudgeArgs is the promise to judge anew what a withdrawal takes the proof from.
type rejudgeArgs struct {
	Withdrawal uuid.UUID `json:"withdrawal"`
}

// Kind names the job in the database.
func (rejudgeArgs) Kind() string { return "pec_rejudge" }

const (
	rejudgeTogether = 500 // messages of a page; most of them are somebody else's
	rejudgeFor      = 2 * time.Minute
)

// rejudge goes through all messages, in the order of their key, and judges those anew that what was withdrawn had proven. It
// goes on where it was, a turn at a time.
func (s *Service) rejudge(ctx context.Context, job *river.Job[rejudgeArgs]) error {
	turn, cancel := context.WithTimeout(ctx, rejudgeFor)
	defer cancel()
	for turn.Err() == nil {
		done, err := s.rejudgePage(ctx, job.Args.Withdrawal)
		if err != nil || done {
			return err
		}
	}
	return river.JobSnooze(0)
}

func (s *Service) rejudgePage(ctx context.Context, id uuid.UUID) (bool, error) {
	var w db.TrustWithdrawal
	var page []db.MessagesAfterRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		w, err = q(tx).GetWithdrawal(ctx, id)
		if err == nil {
			page, err = q(tx).MessagesAfter(ctx, db.MessagesAfterParams{TenantID: w.AtTenant, ID: w.AtMessage, Most: rejudgeTogether})
		}
		return err
	})
	if err != nil || w.JudgeTime != nil || w.EndTime != nil {
		return true, err
	}
	at := db.KeepJudgingParams{ID: id, AtTenant: w.AtTenant, AtMessage: w.AtMessage}
	for _, r := range page {
		at.AtTenant, at.AtMessage = r.TenantID, r.ID
		if !stoodOn(r, w) {
			continue
		}
		ctx := pg.WithTenant(telemetry.WithActor(ctx, actor), r.TenantID)
		err = s.rejudgeOne(ctx, r, at)
		if away(ctx, err) {
			return false, err
		}
		if err != nil {
			at.Failed++
			s.log.ErrorContext(ctx, "a message could not be judged anew", "message", messageName(r.TenantID, r.MailboxID, r.ID), "error", err)
		}
	}
	done := len(page) < rejudgeTogether
	if done {
		at.JudgeTime = moment(s.now())
	}
	return done, s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return q(tx).KeepJudging(ctx, at) })
}

// away tells what may go well later from the fault of one message.
func away(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return err != nil
	}
	kind := fault.Of(err).Kind
	return kind == fault.KindUnavailable || kind == fault.KindExhausted || kind == fault.KindAborted
}

// stoodOn says whether a message was proven by what is withdrawn. Of a certificate that the list names by SHA-1 alone all
// messages of the provider are looked at: reports name certificates by SHA-256.
func stoodOn(r db.MessagesAfterRow, w db.TrustWithdrawal) bool {
	if !r.Proven || r.Provider != w.Provider || len(w.Certificate) == 64 && w.Certificate != r.Certificate {
		return false
	}
	at, err := time.Parse(time.RFC3339Nano, r.JudgedAt)
	return err != nil || w.EffectiveTime == nil || !at.Before(*w.EffectiveTime)
}

// rejudgeOne judges one message anew. Only what is not proven any more is written down, with how far the going through is.
func (s *Service) rejudgeOne(ctx context.Context, r db.MessagesAfterRow, at db.KeepJudgingParams) error {
	name := messageName(r.TenantID, r.MailboxID, r.ID)
	return s.untilTrustRests(ctx, func() error {
		var box db.Mailbox
		var row db.Message
		err := s.db.Tx(ctx, r.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			box, err = q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: r.TenantID, ID: r.MailboxID})
			if err == nil {
				row, err = q(tx).GetMessage(ctx, db.GetMessageParams{TenantID: r.TenantID, MailboxID: r.MailboxID, ID: r.ID})
			}
			if err == nil {
				err = notDestroyed(row)
			}
			return err
		})
		if err != nil {
			return err
		}
		j, ref, err := s.judgeKept(ctx, box, row)
		if err != nil || j.proven {
			return err
		}
		return s.db.Tx(ctx, r.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			row, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: r.TenantID, ID: r.ID})
			if err != nil || !row.Proven {
				return err // a person was faster
			}
			doubted, err := s.recordAgain(ctx, tx, box, row, j, ref, name, withdrawalName(at.ID))
			if err != nil {
				return err
			}
			at.Unproven, at.Doubted, at.Failed = 1, int64(boolInt(doubted)), 0
			return q(tx).KeepJudging(ctx, at)
		})
	})
}

// untilTrustRests repeats what has to be judged and written down by one trust list.
func (s *Service) untilTrustRests(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if !errors.Is(err, errTrustMoved) || ctx.Err() != nil {
			return err
		}
	}
}

// doubt writes down that a receipt which counted is not proven any more, or is again. The state of the message that it is about
// stands: what follows from it is a person's to decide. Of one that a person vouched for it follows that it does not count. It says whether there is a doubt.
func (s *Service) doubt(ctx context.Context, tx pgx.Tx, sent uuid.UUID, receipt db.Message, j *judged) (bool, error) {
	why := ""
	if !j.proven {
		why = or(j.whyNot(), "it is not proven")
	}
	about, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: receipt.TenantID, ID: sent})
	if err != nil {
		return false, err
	}
	if about.DestroyedBy != "" {
		return false, nil // what is reduced stays as it is
	}
	before, err := q(tx).CountDoubts(ctx, db.CountDoubtsParams{TenantID: receipt.TenantID, MessageID: sent})
	if err != nil {
		return false, err
	}
	changed, err := q(tx).DoubtFact(ctx, db.DoubtFactParams{TenantID: receipt.TenantID, MessageID: sent, ReceiptID: receipt.ID, Doubt: why, Vouched: trim(j.vouched.says(), 1200)})
	if err != nil || len(changed) == 0 {
		return false, err
	}
	_, err = s.advance(ctx, tx, sent)
	if err != nil || changed[0] != "" {
		return false, err // what counted by a person's word alone does not any more, and the state is what it is without
	}
	if why == "" || before > 0 {
		return why != "", err
	}
	request, err := requestOf(ctx, tx, about)
	if err != nil {
		return true, err
	}
	return true, s.bus.Emit(bus.WithCorrelation(ctx, sent.String()), tx, &pecv1.DeliveryDoubted{
		Message: messageName(about.TenantID, about.MailboxID, about.ID), Receipt: messageName(receipt.TenantID, receipt.MailboxID, receipt.ID),
		Reason: why, RequestId: request,
	})
}

// whyNot is the first reason why a message is not proven.
func (j *judged) whyNot() string {
	if j.report != nil && j.report.Reason != "" {
		return trim(j.report.Reason, 500)
	}
	for _, d := range j.doubts {
		return trim(d, 500)
	}
	return trim(j.reason, 500)
}

// judgedAt is the moment that the certificates of a message had to be valid at when it was judged before. It is kept to: it came
// from the provider's server where that said, and a signature dates itself as it likes.
func judgedAt(row db.Message) time.Time {
	var rec struct {
		JudgedAt time.Time `json:"judged_at"`
	}
	if json.Unmarshal(row.Report, &rec) != nil {
		return time.Time{}
	}
	return rec.JudgedAt
}
