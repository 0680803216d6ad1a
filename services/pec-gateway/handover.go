package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/submit"
)

// errOvertaken ends an attempt that another process has given up.
var errOvertaken = errors.New("this attempt was given up by another process")

// errAnswered ends an attempt at a message that its provider has, as a receipt shows.
var errAnswered = errors.New("a receipt shows that the provider has the message")

// attempt hands the message over once.
func (s *Service) attempt(ctx context.Context, w *handover) *submit.Result {
	password, err := s.keys.get(ctx, w.box.TenantID, w.box.ID)
	if err != nil {
		cause := submit.CauseMessageSource
		if fault.Permanent(err) {
			cause = submit.CauseCredentials
		}
		return &submit.Result{Outcome: submit.Deferred, Phase: submit.PhaseConnect, Cause: cause, Text: fault.Of(err).Message, Err: err}
	}
	address, err := s.smtpOf(w.box)
	if err != nil {
		return &submit.Result{Outcome: submit.Deferred, Phase: submit.PhaseConnect, Cause: submit.CauseCredentials, Text: fault.Of(err).Message, Err: err}
	}
	ref, err := blob.ParseURI(w.message.ContentUri)
	if err != nil {
		return &submit.Result{Outcome: submit.Refused, Phase: submit.PhaseConnect, Cause: submit.CauseContent, Text: err.Error(), Err: err}
	}
	return submit.Submit(ctx, s.sendingAt(address, w.limits.rules), submit.Credentials{User: w.box.Username, Password: password}, submit.Message{
		From: w.box.Address, To: w.to, Size: w.message.Size,
		Open: func() (io.ReadCloser, error) { return s.blobs.Open(ctx, ref) },
	}, submit.Hooks{BeforeEnd: func(ctx context.Context) error { return s.markDot(ctx, w) }})
}

// sendingAt is the server for sending at an address, with STARTTLS where that is what its port means. spec: RFC8314 §3.3
func (s *Service) sendingAt(address string, rules submit.Rules) submit.Server {
	host, port, _ := net.SplitHostPort(address)
	return submit.Server{
		Address: address, TLS: s.tlsFor(host), StartTLS: port == "587", Hello: s.cfg.Sending.Hello, Dialer: s.dialer, Rules: rules,
		Timeouts: submit.Timeouts{Connect: s.cfg.Timeout, TLS: s.cfg.Timeout, Command: s.cfg.Timeout, Data: s.cfg.Timeout, Block: s.cfg.Timeout, Dot: s.cfg.Sending.AnswerTimeout},
	}
}

// markDot makes durable that the end of the content is about to leave. Once an attempt has been given
// up it cannot be marked any more, so only one process can end a message.
func (s *Service) markDot(ctx context.Context, w *handover) error {
	return s.db.Tx(ctx, w.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		came, err := q(tx).ReceiptCame(ctx, db.ReceiptCameParams{TenantID: w.box.TenantID, MessageID: w.message.ID})
		if err != nil {
			return err
		}
		if came {
			return errAnswered
		}
		now := pg.Time(s.now())
		n, err := q(tx).MarkDot(ctx, db.MarkDotParams{TenantID: w.box.TenantID, MessageID: w.message.ID, Number: w.number, DotAt: &now})
		if err == nil && n == 0 {
			return errOvertaken
		}
		return err
	})
}

// record writes down what became of an attempt. It tries for a while: a result that is lost makes the
// outcome unknown although it was known.
func (s *Service) record(ctx context.Context, w *handover, res *submit.Result) error {
	ctx = context.WithoutCancel(ctx)
	s.log.InfoContext(ctx, "hand-over", "message", messageName(w.box.TenantID, w.box.ID, w.message.ID), "attempt", w.number,
		"outcome", res.Outcome.String(), "phase", res.Phase.String(), "cause", string(res.Cause), "code", res.Code)
	pause := 50 * time.Millisecond
	for try := 0; ; try++ {
		err := s.recordOnce(ctx, w, res)
		if err == nil || fault.Permanent(err) || try == 10 {
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, 5*time.Second)
	}
}

func (s *Service) recordOnce(ctx context.Context, w *handover, res *submit.Result) error {
	tenant := w.box.TenantID
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		queue, err := q(tx).LockQueue(ctx, db.LockQueueParams{TenantID: tenant, MailboxID: w.box.ID})
		if err != nil {
			return err
		}
		r, err := q(tx).LockSending(ctx, db.LockSendingParams{TenantID: tenant, MessageID: w.message.ID})
		if err != nil {
			return err
		}
		a, err := q(tx).GetAttempt(ctx, db.GetAttemptParams{TenantID: tenant, MessageID: w.message.ID, Number: w.number})
		if err != nil {
			return err
		}
		overtaken := a.EndAt != nil
		if overtaken && a.DotAt == nil {
			return nil // it was given up before its end, and its end has not left
		}
		now := pg.Time(s.now())
		end := db.EndAttemptParams{
			TenantID: tenant, MessageID: w.message.ID, Number: w.number, EndAt: &now, Outcome: res.Outcome.String(), Phase: res.Phase.String(),
			Cause: string(res.Cause), Code: int32(res.Code), Reply: res.Text, Tls: res.TLS, Refused: []string{}, //nolint:gosec // three digits
		}
		for _, f := range res.Recipients {
			end.Refused = append(end.Refused, fmt.Sprintf("%s: %d %s", f.Address, f.Code, f.Text))
		}
		err = q(tx).EndAttempt(ctx, end)
		if err != nil {
			return err
		}
		// Somebody may have decided in the meantime; what is known now still counts as a fact.
		mine := r.Attempts == w.number && (r.Step == stepLeaving || overtaken && (r.Step == stepUnknown || r.Step == stepDecide))
		err = s.conclude(ctx, tx, &queue, &r, res, now)
		if err != nil {
			return err
		}
		if mine {
			err = keepSending(ctx, tx, r, now)
		}
		if err == nil {
			err = keepQueue(ctx, tx, queue)
		}
		if err == nil {
			_, err = s.advance(ctx, tx, w.message.ID)
		}
		return err
	})
}

// conclude says what follows from a result for the message and for the queue of its mailbox.
func (s *Service) conclude(ctx context.Context, tx pgx.Tx, queue *db.SendingQueue, r *db.Sending, res *submit.Result, now time.Time) error {
	switch res.Outcome {
	case submit.Accepted:
		r.Step = stepDone
		relieve(queue)
		_, err := s.know(ctx, tx, r.MessageID, pec.Fact{Kind: pec.FactSubmitted, At: now}, nil)
		return err
	case submit.Refused:
		r.Step = stepDone
		relieve(queue)
		_, err := s.know(ctx, tx, r.MessageID, pec.Fact{Kind: pec.FactRejected, At: now}, nil)
		return err
	case submit.Unknown:
		return s.becomeUnknown(ctx, tx, r, now)
	}
	r.Step, r.NextAt = stepQueued, now
	switch res.Cause {
	case submit.CauseStopped:
	case submit.CauseCredentials:
		return s.hold(ctx, tx, queue, heldLogin, res.Text, now)
	case submit.CauseSuspended:
		return s.hold(ctx, tx, queue, heldSuspended, res.Text, now)
	case submit.CauseTLS:
		return s.hold(ctx, tx, queue, heldTLS, res.Text, now)
	case submit.CauseThrottled:
		s.slowDown(queue, now)
	case submit.CauseRecipients, submit.CauseMessageSource:
		relieve(queue) // this message alone waits
		r.NextAt = now.Add(s.pause(r.Attempts))
	case submit.CauseBusy:
		if res.Phase > submit.PhaseMail {
			relieve(queue)
			r.NextAt = now.Add(s.pause(r.Attempts))
			return nil
		}
		fallthrough
	default:
		queue.Failures++
		later := pg.Time(now.Add(s.pause(queue.Failures)))
		queue.NotBefore = &later
	}
	return nil
}

// relieve forgets what was wrong with a mailbox whose provider has answered as it should.
func relieve(queue *db.SendingQueue) {
	queue.Failures, queue.NotBefore, queue.HeldCode, queue.Held, queue.HeldAt = 0, nil, "", "", nil
}

// slowDown pauses a mailbox whose provider says that it sends too much, and halves its rate. What the
// provider says looks permanent and is not.
func (s *Service) slowDown(queue *db.SendingQueue, now time.Time) {
	rate := len(queue.Recent) - 1 // that one was refused
	if queue.PerMinute > 0 {
		rate = min(rate, int(queue.PerMinute))
	}
	queue.PerMinute, queue.LearnedAt = int32(max(rate/2, 1)), &now //nolint:gosec // at most a thousand
	later := pg.Time(now.Add(s.cfg.Sending.RateWindow))
	queue.NotBefore = &later
}

// pause before another try doubles with each, with jitter.
func (s *Service) pause(failures int32) time.Duration {
	d := s.cfg.Sending.RetryMost
	if shift := max(failures-1, 0); shift < 20 {
		d = min(s.cfg.Sending.RetryEvery<<shift, d)
	}
	return d/2 + rand.N(d/2+1)
}

// becomeUnknown keeps a message from being sent again: receipts are awaited. At the end of the time
// somebody is asked.
func (s *Service) becomeUnknown(ctx context.Context, tx pgx.Tx, r *db.Sending, at time.Time) error {
	ask := pg.Time(s.now().Add(s.cfg.Sending.UnknownAfter))
	r.Step, r.UnknownAt, r.DecideAt = stepUnknown, &at, &ask
	_, err := s.know(ctx, tx, r.MessageID, pec.Fact{Kind: pec.FactUnknown, At: at}, nil)
	if err == nil {
		_, err = s.advance(ctx, tx, r.MessageID)
	}
	if err != nil {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, watchArgs{Message: r.MessageID}, later(s.cfg.Sending.UnknownAfter))
}
