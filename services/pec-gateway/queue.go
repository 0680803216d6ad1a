package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/submit"
)

// Steps of a sent message.
const (
	stepQueued    = "queued"
	stepLeaving   = "leaving"
	stepUnknown   = "unknown"
	stepDecide    = "decide"
	stepDone      = "done"
	stepCancelled = "cancelled"
)

// Codes under which the queue of a mailbox is held.
const (
	heldLogin     = "SENDING_LOGIN_REFUSED"
	heldSuspended = "SENDING_SUSPENDED"
	heldTLS       = "SENDING_TLS"
)

// submitArgs is the promise to hand over what waits in a mailbox.
type submitArgs struct {
	Mailbox uuid.UUID `json:"mailbox"`
}

// Kind names the job in the database.
func (submitArgs) Kind() string { return "pec_submit" }

// handover is one attempt that has been written down and may begin.
type handover struct {
	box     db.Mailbox
	message db.Message
	to      []string
	number  int32
	limits  limits
}

// perTurn bounds how many messages one run of a job hands over, so that a process can end.
const perTurn = 8

// submitNext hands over what waits in a mailbox, one message after the other, until nothing is due.
// It may run twice at the same time: the row of the queue says whose turn it is.
func (s *Service) submitNext(ctx context.Context, job *river.Job[submitArgs]) error {
	for range perTurn {
		work, wait, err := s.takeTurn(ctx, job.Args.Mailbox, job.ID)
		if err != nil {
			return err
		}
		if work == nil {
			if wait <= 0 {
				return nil
			}
			return river.JobSnooze(wait)
		}
		err = s.record(ctx, work, s.attempt(ctx, work))
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return river.JobSnooze(0)
}

// takeTurn chooses the next message of a mailbox and writes down that it is about to leave. Without
// one it says how long to wait; 0 for not at all, because nothing waits or another job will look.
func (s *Service) takeTurn(ctx context.Context, mailbox uuid.UUID, job int64) (work *handover, wait time.Duration, err error) {
	tenant := pg.Tenant(ctx)
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		work, wait = nil, 0
		row, err := q(tx).LockQueue(ctx, db.LockQueueParams{TenantID: tenant, MailboxID: mailbox})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		now := pg.Time(s.now())
		if row.LeaseJob != nil && *row.LeaseJob != job && row.LeaseUntil.After(now) {
			wait = s.backup(&row, job, now, row.LeaseUntil.Add(time.Second))
			return keepQueue(ctx, tx, row)
		}
		until := now.Add(s.cfg.Sending.Lease)
		row.LeaseJob, row.LeaseUntil = &job, &until
		if row.WakeJob != nil && *row.WakeJob == job {
			row.WakeJob, row.WakeAt = nil, nil
		}
		err = s.closeLost(ctx, tx, mailbox, now)
		if err != nil {
			return err
		}
		var due time.Time
		work, due, err = s.choose(ctx, tx, &row, now)
		if err != nil {
			return err
		}
		if work == nil {
			row.LeaseJob, row.LeaseUntil = nil, nil
			wait = s.backup(&row, job, now, due)
		}
		return keepQueue(ctx, tx, row)
	})
	return work, wait, err
}

// backup makes this job the one that looks again, unless another will by then.
func (s *Service) backup(row *db.SendingQueue, job int64, now, due time.Time) time.Duration {
	if due.IsZero() {
		return 0
	}
	if row.WakeJob != nil && *row.WakeJob != job && row.WakeAt.After(now) && !row.WakeAt.After(due.Add(time.Second)) {
		return 0
	}
	due = pg.Time(due)
	row.WakeJob, row.WakeAt = &job, &due
	return max(due.Sub(now), 10*time.Millisecond)
}

func keepQueue(ctx context.Context, tx pgx.Tx, r db.SendingQueue) error {
	return q(tx).KeepQueue(ctx, db.KeepQueueParams{
		TenantID: r.TenantID, MailboxID: r.MailboxID, LeaseJob: r.LeaseJob, LeaseUntil: r.LeaseUntil, WakeJob: r.WakeJob, WakeAt: r.WakeAt,
		Recent: r.Recent, PerMinute: r.PerMinute, LearnedAt: r.LearnedAt, NotBefore: r.NotBefore, Failures: r.Failures,
		HeldCode: r.HeldCode, Held: r.Held, HeldAt: r.HeldAt,
	})
}

func keepSending(ctx context.Context, tx pgx.Tx, r db.Sending, now time.Time) error {
	return q(tx).KeepSending(ctx, db.KeepSendingParams{
		TenantID: r.TenantID, MessageID: r.MessageID, Step: r.Step, Attempts: r.Attempts, NextAt: r.NextAt, UnknownAt: r.UnknownAt,
		DecideAt: r.DecideAt, UpdateTime: now,
	})
}

// closeLost judges attempts whose process ended. Who holds the turn is in no attempt, so those that
// are open belong to nobody. Where the end of the content may have left, the outcome is unknown;
// elsewhere nothing was taken, and by closing the attempt its process, should it live, can not send
// the end any more. The attempt is locked before it is judged: between a look and a closing its process
// could mark the end and send it.
func (s *Service) closeLost(ctx context.Context, tx pgx.Tx, mailbox uuid.UUID, now time.Time) error {
	rows, err := q(tx).ListLeaving(ctx, db.ListLeavingParams{TenantID: pg.Tenant(ctx), MailboxID: mailbox})
	if err != nil {
		return err
	}
	for _, r := range rows {
		a, err := q(tx).LockAttempt(ctx, db.LockAttemptParams{TenantID: r.TenantID, MessageID: r.MessageID, Number: r.Attempts})
		if err != nil {
			return err
		}
		end := db.EndAttemptParams{TenantID: r.TenantID, MessageID: r.MessageID, Number: r.Attempts, EndAt: &now, Refused: []string{}}
		if a.DotAt == nil {
			end.Outcome, end.Phase, end.Cause = submit.Deferred.String(), submit.PhaseBody.String(), string(submit.CauseStopped)
			end.Reply = "the process ended before the end of the content had left: nothing was taken"
			r.Step, r.NextAt = stepQueued, now
		} else {
			end.Outcome, end.Phase, end.Cause = submit.Unknown.String(), submit.PhaseDot.String(), string(submit.CauseStopped)
			end.Reply = "the process ended while the answer was awaited"
			err = s.becomeUnknown(ctx, tx, &r, *a.DotAt)
		}
		if err == nil {
			err = q(tx).EndAttempt(ctx, end)
		}
		if err == nil {
			err = keepSending(ctx, tx, r, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// choose finds the message that leaves next and opens its attempt; or the time at which to look again,
// zero for none.
func (s *Service) choose(ctx context.Context, tx pgx.Tx, row *db.SendingQueue, now time.Time) (*handover, time.Time, error) {
	box, err := q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: row.TenantID, ID: row.MailboxID})
	if err != nil || box.Paused {
		return nil, time.Time{}, err // whoever resumes the mailbox asks again
	}
	if code, _, err := s.inhibited(ctx, tx, box); err != nil || code != "" {
		return nil, now.Add(s.cfg.Sending.HeldRetry), err
	}
	if row.HeldCode != "" {
		if again := row.HeldAt.Add(s.heldFor(row.HeldCode)); again.After(now) {
			return nil, again, nil
		}
	}
	if row.NotBefore != nil && row.NotBefore.After(now) {
		return nil, *row.NotBefore, nil
	}
	for {
		next, err := q(tx).NextSending(ctx, db.NextSendingParams{TenantID: row.TenantID, MailboxID: row.MailboxID, Now: now})
		if errors.Is(err, pgx.ErrNoRows) {
			due, err := q(tx).NextSendingTime(ctx, db.NextSendingTimeParams{TenantID: row.TenantID, MailboxID: row.MailboxID})
			if errors.Is(err, pgx.ErrNoRows) {
				return nil, time.Time{}, nil
			}
			return nil, due, err
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		came, err := q(tx).ReceiptCame(ctx, db.ReceiptCameParams{TenantID: next.TenantID, MessageID: next.MessageID})
		if err != nil {
			return nil, time.Time{}, err
		}
		if came { // the provider has it, whatever was concluded or decided before: it does not leave a second time
			next.Step = stepDone
			err = keepSending(ctx, tx, next, now)
			if err != nil {
				return nil, time.Time{}, err
			}
			continue
		}
		vain, err := s.inVain(ctx, tx, next, now)
		if err != nil {
			return nil, time.Time{}, err
		}
		if vain {
			err = s.giveUp(ctx, tx, next, now)
			if err != nil {
				return nil, time.Time{}, err
			}
			continue
		}
		lim := s.limitsOf(box.Provider)
		if again := s.tooSoon(row, lim, now); !again.IsZero() {
			return nil, again, nil
		}
		w, err := s.openAttempt(ctx, tx, box, next, now)
		if w != nil {
			w.limits = lim
			row.Recent = append(row.Recent, now)
		}
		return w, time.Time{}, err
	}
}

// heldFor is how long a held queue waits before one message tries again. A refused login is tried at
// most twice in an hour: providers lock mailboxes after a few.
func (s *Service) heldFor(code string) time.Duration {
	if code == heldLogin {
		return s.cfg.Sending.LoginRetry
	}
	return s.cfg.Sending.HeldRetry
}

// tooSoon says when the provider's limit lets the next message pass; zero for now. The window is a
// little longer than a minute: the provider counts when MAIL arrives, not when it was decided, and
// the clocks of replicas differ.
func (s *Service) tooSoon(row *db.SendingQueue, lim limits, now time.Time) time.Time {
	const most = 1000 // entries kept
	window := s.cfg.Sending.RateWindow
	row.Recent = slices.DeleteFunc(row.Recent, func(t time.Time) bool { return now.Sub(t) >= window || t.After(now.Add(window)) })
	if n := len(row.Recent); n > most {
		row.Recent = row.Recent[n-most:]
	}
	if row.LearnedAt != nil && now.Sub(*row.LearnedAt) > relearnAfter {
		row.PerMinute, row.LearnedAt = 0, nil
	}
	allowed := lim.perMinute
	if row.PerMinute > 0 && (allowed == 0 || int(row.PerMinute) < allowed) {
		allowed = int(row.PerMinute)
	}
	if allowed == 0 || len(row.Recent) < allowed {
		return time.Time{}
	}
	return row.Recent[len(row.Recent)-allowed].Add(window)
}

// relearnAfter is how long a limit that was learned from a refusal is kept.
const relearnAfter = time.Hour

// openAttempt writes the attempt down before anything of it leaves.
func (s *Service) openAttempt(ctx context.Context, tx pgx.Tx, box db.Mailbox, r db.Sending, now time.Time) (*handover, error) {
	m, err := q(tx).GetMessage(ctx, db.GetMessageParams{TenantID: r.TenantID, MailboxID: r.MailboxID, ID: r.MessageID})
	if err != nil {
		return nil, err
	}
	recipients, err := q(tx).ListRecipients(ctx, db.ListRecipientsParams{TenantID: r.TenantID, MessageID: r.MessageID})
	if err != nil {
		return nil, err
	}
	w := &handover{box: box, message: m}
	for _, a := range recipients {
		w.to = append(w.to, a.Address)
	}
	r.Attempts++
	r.Step, w.number = stepLeaving, r.Attempts
	err = keepSending(ctx, tx, r, now)
	if err != nil {
		return nil, err
	}
	return w, q(tx).InsertAttempt(ctx, db.InsertAttemptParams{TenantID: r.TenantID, MessageID: r.MessageID, Number: r.Attempts, StartAt: now})
}

// inVain says whether a message has been tried for too long. One that somebody decided to send again is counted from the first
// attempt after that: the decision may have come late.
func (s *Service) inVain(ctx context.Context, tx pgx.Tx, r db.Sending, now time.Time) (bool, error) {
	if r.Attempts == 0 {
		return false, nil
	}
	since := r.CreateTime
	if r.UnknownAt != nil {
		attempts, err := q(tx).ListAttempts(ctx, db.ListAttemptsParams{TenantID: r.TenantID, MessageID: r.MessageID})
		if err != nil {
			return false, err
		}
		again := slices.IndexFunc(attempts, func(a db.SendingAttempt) bool { return r.DecideAt == nil || !a.StartAt.Before(*r.DecideAt) })
		if again < 0 {
			return false, nil
		}
		since = attempts[again].StartAt
	}
	return now.Sub(since) > s.cfg.Sending.GiveUpAfter, nil
}

// giveUp ends a message that nobody took for too long. Surely no attempt reached its end, unless it was to be sent again because
// nobody knows that: then somebody is asked once more.
func (s *Service) giveUp(ctx context.Context, tx pgx.Tx, r db.Sending, now time.Time) error {
	if r.UnknownAt != nil {
		r.Step, r.DecideAt = stepDecide, &now
		err := keepSending(ctx, tx, r, now)
		if err != nil {
			return err
		}
		return s.askDecision(ctx, tx, r, fmt.Sprintf("It was to be sent again, and nobody took it for %s; it is not tried any more. ", s.cfg.Sending.GiveUpAfter))
	}
	r.Step = stepDone
	err := keepSending(ctx, tx, r, now)
	if err == nil {
		_, err = s.know(ctx, tx, r.MessageID, pec.Fact{Kind: pec.FactRejected, At: now}, nil)
	}
	if err == nil {
		_, err = s.advance(ctx, tx, r.MessageID)
	}
	return err
}

// hold stops the queue of a mailbox until a person or time mends what is wrong, and says so once.
func (s *Service) hold(ctx context.Context, tx pgx.Tx, row *db.SendingQueue, code, why string, now time.Time) error {
	fresh := row.HeldCode != code
	row.HeldCode, row.Held, row.HeldAt = code, why, &now
	if !fresh {
		return nil
	}
	if code == heldSuspended { // what is there may be deleted soon
		err := askWhole(ctx, tx, row.MailboxID, code, now)
		if err != nil {
			return err
		}
	}
	return s.tellMailbox(ctx, tx, row.TenantID, row.MailboxID, code, why)
}
