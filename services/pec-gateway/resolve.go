package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// watchArgs is the promise to ask somebody about a message whose outcome stays unknown.
type watchArgs struct {
	Message uuid.UUID `json:"message"`
}

// Kind names the job in the database.
func (watchArgs) Kind() string { return "pec_watch" }

func later(d time.Duration) *river.InsertOpts {
	return &river.InsertOpts{ScheduledAt: time.Now().Add(d)} // river's own clock
}

// watchUnknown ends the waiting for receipts. It asks only when the mailbox has been read since: that
// no receipt is known says nothing while nobody looks.
func (s *Service) watchUnknown(ctx context.Context, job *river.Job[watchArgs]) error {
	tenant, wait := pg.Tenant(ctx), time.Duration(0)
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err := q(tx).LockSending(ctx, db.LockSendingParams{TenantID: tenant, MessageID: job.Args.Message})
		if err != nil || r.Step != stepUnknown {
			return err
		}
		state, err := s.advance(ctx, tx, r.MessageID)
		if err != nil {
			return err
		}
		now := pg.Time(s.now())
		if state.State != pec.SendUnknown {
			r.Step = stepDone // a receipt has answered
			return keepSending(ctx, tx, r, now)
		}
		box, err := q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: tenant, ID: r.MailboxID})
		if err != nil {
			return err
		}
		if wait = r.DecideAt.Sub(now); wait > 0 {
			return nil
		}
		if box.LastPollTime == nil || box.LastPollTime.Before(*r.DecideAt) {
			wait = s.cfg.PollEvery
			return nil
		}
		r.Step = stepDecide
		err = keepSending(ctx, tx, r, now)
		if err != nil {
			return err
		}
		return s.askDecision(ctx, tx, r, "")
	})
	if err == nil && wait > 0 {
		return river.JobSnooze(wait)
	}
	return err
}

// askDecision asks somebody what is to become of a message; before is what has happened since they were asked the last time.
func (s *Service) askDecision(ctx context.Context, tx pgx.Tx, r db.Sending, before string) error {
	return s.bus.Emit(bus.WithCorrelation(ctx, r.MessageID.String()), tx, &pecv1.DeliveryDecisionNeeded{
		Message: messageName(r.TenantID, r.MailboxID, r.MessageID), UnknownTime: timestamppb.New(*r.UnknownAt), Advice: before + advice(r),
	})
}

// advice is what a person has to know to decide, the safe choice first.
func advice(r db.Sending) string {
	switch r.Step {
	case stepUnknown:
		return "The message was handed over to its end and no answer came. The provider may or may not have it. Nothing is sent again: a receipt will tell."
	case stepDecide:
		return "The message was handed over to its end, no answer came and no receipt has come since. Safe: WAIT, and look into the provider's own log or " +
			"the sent messages of its web mail. RESEND sends the same bytes once more: should the provider have the first, the addressee gets the message " +
			"twice, each with full legal effect. ABANDON sends nothing: should the provider have it, it was sent all the same, and its receipts still count."
	}
	return ""
}

// CancelMessage takes back a message of which surely nothing has left. Faults: Precondition
// MESSAGE_HAS_LEFT; NotFound MESSAGE_NOT_FOUND.
func (s *Service) CancelMessage(ctx context.Context, req *pecv1.CancelMessageRequest) (*pecv1.Delivery, error) {
	return s.decide(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, r *db.Sending, now time.Time) error {
		if r.Step == stepCancelled {
			return nil
		}
		if r.Step == stepQueued && r.UnknownAt != nil {
			return fault.Precondition("MESSAGE_HAS_LEFT", "nobody knows whether the message left before: resolve it, with WAIT or ABANDON, and it is not sent again")
		}
		if r.Step != stepQueued {
			return fault.Precondition("MESSAGE_HAS_LEFT", "the message is not waiting any more (%s): it cannot be taken back", r.Step)
		}
		return s.abandon(ctx, tx, r, "message.cancel", req.GetReason(), now)
	})
}

// ResolveMessage carries out a person's decision about a message whose outcome is unknown. Faults:
// Precondition OUTCOME_IS_KNOWN, DECISION_TOO_EARLY, RISK_NOT_TAKEN; NotFound MESSAGE_NOT_FOUND.
func (s *Service) ResolveMessage(ctx context.Context, req *pecv1.ResolveMessageRequest) (*pecv1.Delivery, error) {
	return s.decide(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, r *db.Sending, now time.Time) error {
		state, err := s.advance(ctx, tx, r.MessageID)
		if err != nil {
			return err
		}
		waits := r.Step == stepQueued && r.UnknownAt != nil // to be sent again: until it leaves that can be taken back
		if r.Step != stepUnknown && r.Step != stepDecide && !waits || state.State != pec.SendUnknown {
			return fault.Precondition("OUTCOME_IS_KNOWN", "the outcome of the message is known (%s): there is nothing to decide", state.State)
		}
		switch req.GetDecision() {
		case pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND:
			return s.resend(ctx, tx, r, req, now)
		case pecv1.DeliveryDecision_DELIVERY_DECISION_ABANDON:
			return s.abandon(ctx, tx, r, "message.abandon", req.GetReason(), now)
		}
		again := pg.Time(now.Add(s.cfg.Sending.UnknownAfter))
		r.Step, r.DecideAt = stepUnknown, &again
		err = s.jobs.InsertTx(ctx, tx, watchArgs{Message: r.MessageID}, later(s.cfg.Sending.UnknownAfter))
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, r, "message.wait", req.GetReason())
	})
}

// resend puts the message back into the queue, with the same bytes and the same Message-ID.
func (s *Service) resend(ctx context.Context, tx pgx.Tx, r *db.Sending, req *pecv1.ResolveMessageRequest, now time.Time) error {
	if r.Step == stepQueued {
		return nil // it was decided before
	}
	if r.Step != stepDecide {
		return fault.Precondition("DECISION_TOO_EARLY", "receipts are awaited until %s: sending again before could send the message twice", r.DecideAt.Format(time.RFC3339))
	}
	if !req.GetAcceptSecondSending() {
		return fault.Precondition("RISK_NOT_TAKEN", "the provider may have the message already, and each sending is a legal act: set accept_second_sending to send it again").
			WithField("accept_second_sending", "RISK_NOT_TAKEN", "is not set")
	}
	r.Step, r.NextAt = stepQueued, now
	err := s.audit(ctx, tx, r, "message.resend", req.GetReason())
	if err != nil {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, submitArgs{Mailbox: r.MailboxID}, nil)
}

func (s *Service) abandon(ctx context.Context, tx pgx.Tx, r *db.Sending, action, reason string, now time.Time) error {
	r.Step = stepCancelled
	_, err := s.know(ctx, tx, r.MessageID, pec.Fact{Kind: pec.FactCancelled, At: now}, nil)
	if err == nil {
		_, err = s.advance(ctx, tx, r.MessageID)
	}
	if err != nil {
		return err
	}
	return s.audit(ctx, tx, r, action, reason)
}

func (s *Service) audit(ctx context.Context, tx pgx.Tx, r *db.Sending, action, reason string) error {
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: action, Resource: messageName(r.TenantID, r.MailboxID, r.MessageID), Detail: map[string]string{"reason": reason}})
}

// decide runs a person's decision under the locks of the queue and the message.
func (s *Service) decide(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx, r *db.Sending, now time.Time) error) (*pecv1.Delivery, error) {
	tenant, mailbox, id, err := splitMessage(name)
	if err != nil {
		return nil, err
	}
	var out *pecv1.Delivery
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mailbox(ctx, tx, tenant, mailbox, false); err != nil {
			return err
		}
		_, err := q(tx).LockQueue(ctx, db.LockQueueParams{TenantID: tenant, MailboxID: mailbox})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		r, err := q(tx).LockSending(ctx, db.LockSendingParams{TenantID: tenant, MessageID: id})
		if errors.Is(err, pgx.ErrNoRows) || err == nil && r.MailboxID != mailbox {
			return s.guessed(ctx, tx, db.Mailbox{TenantID: tenant, ID: mailbox}, noSent(name), id)
		}
		if err != nil {
			return err
		}
		now := pg.Time(s.now())
		if err = fn(ctx, tx, &r, now); err == nil {
			err = keepSending(ctx, tx, r, now)
		}
		if err == nil {
			out, err = s.showDelivery(ctx, tx, r)
		}
		return err
	})
	return out, err
}

func noSent(name string) error {
	return fault.NotFound("MESSAGE_NOT_FOUND", "there is no sent message %s", name)
}

// GetDelivery shows the way of one sent message.
func (s *Service) GetDelivery(ctx context.Context, req *pecv1.GetDeliveryRequest) (*pecv1.Delivery, error) {
	tenant, mailbox, id, err := splitMessage(req.GetName())
	if err != nil {
		return nil, err
	}
	var out *pecv1.Delivery
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mailbox(ctx, tx, tenant, mailbox, false); err != nil {
			return err
		}
		r, err := q(tx).GetSending(ctx, db.GetSendingParams{TenantID: tenant, MessageID: id})
		if errors.Is(err, pgx.ErrNoRows) || err == nil && r.MailboxID != mailbox {
			return s.guessed(ctx, tx, db.Mailbox{TenantID: tenant, ID: mailbox}, noSent(req.GetName()), id)
		}
		if err != nil {
			return err
		}
		out, err = s.showDelivery(ctx, tx, r)
		return err
	})
	return out, err
}

var steps = map[string]pecv1.DeliveryStep{
	stepQueued: pecv1.DeliveryStep_DELIVERY_STEP_QUEUED, stepLeaving: pecv1.DeliveryStep_DELIVERY_STEP_LEAVING,
	stepUnknown: pecv1.DeliveryStep_DELIVERY_STEP_UNKNOWN, stepDecide: pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED,
	stepDone: pecv1.DeliveryStep_DELIVERY_STEP_DONE, stepCancelled: pecv1.DeliveryStep_DELIVERY_STEP_CANCELLED,
}

// showDelivery reads everything about the way of a message.
func (s *Service) showDelivery(ctx context.Context, tx pgx.Tx, r db.Sending) (*pecv1.Delivery, error) {
	out, err := s.showWay(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	attempts, err := q(tx).ListAttempts(ctx, db.ListAttemptsParams{TenantID: r.TenantID, MessageID: r.MessageID})
	if err != nil {
		return nil, err
	}
	for _, a := range attempts {
		out.Attempts = append(out.Attempts, &pecv1.DeliveryAttempt{
			Number: a.Number, StartTime: timestamppb.New(a.StartAt), DotTime: stamp(a.DotAt), EndTime: stamp(a.EndAt), Outcome: a.Outcome, Phase: a.Phase,
			Cause: a.Cause, Code: a.Code, Text: a.Reply, Tls: a.Tls, RefusedRecipients: a.Refused,
		})
	}
	recipients, err := q(tx).ListRecipients(ctx, db.ListRecipientsParams{TenantID: r.TenantID, MessageID: r.MessageID})
	if err != nil {
		return nil, err
	}
	for _, a := range recipients {
		out.Recipients = append(out.Recipients, &pecv1.RecipientOutcome{
			Address: a.Address, State: a.State, Final: a.Final, Late: a.Late, Time: stamp(a.At), Cause: a.Cause,
		})
	}
	known, err := q(tx).ListFacts(ctx, db.ListFactsParams{TenantID: r.TenantID, MessageID: r.MessageID})
	out.Refusal = explain(counted(known), out.GetRecipients())
	return out, err
}

func (s *Service) showWay(ctx context.Context, tx pgx.Tx, r db.Sending) (*pecv1.Delivery, error) {
	m, err := q(tx).GetMessage(ctx, db.GetMessageParams{TenantID: r.TenantID, MailboxID: r.MailboxID, ID: r.MessageID})
	if err != nil {
		return nil, err
	}
	queue, err := q(tx).GetQueue(ctx, db.GetQueueParams{TenantID: r.TenantID, MailboxID: r.MailboxID})
	if err != nil {
		return nil, err
	}
	out := &pecv1.Delivery{
		Message: messageName(r.TenantID, r.MailboxID, r.MessageID), Step: steps[r.Step], State: pecv1.MessageState(m.State), MessageId: m.MessageID,
		Subject: m.Subject, CreateTime: timestamppb.New(r.CreateTime), DecisionTime: stamp(r.DecideAt), Advice: advice(r),
	}
	if out.GetState() != pecv1.MessageState_MESSAGE_STATE_OUTCOME_UNKNOWN && (r.Step == stepUnknown || r.Step == stepDecide) {
		out.Step, out.Advice, out.DecisionTime = pecv1.DeliveryStep_DELIVERY_STEP_DONE, "", nil // a receipt has answered
	}
	stallShown(m, out)
	if r.Step != stepQueued {
		return out, nil
	}
	ahead, err := q(tx).CountAhead(ctx, db.CountAheadParams{TenantID: r.TenantID, MailboxID: r.MailboxID, Position: r.Position})
	if err != nil {
		return nil, err
	}
	out.Ahead = int32(min(ahead, 1<<30)) //nolint:gosec // bounded
	next := r.NextAt
	if queue.NotBefore != nil && queue.NotBefore.After(next) {
		next = *queue.NotBefore
	}
	if queue.HeldCode != "" {
		out.Held = queue.HeldCode + ": " + queue.Held
		next = queue.HeldAt.Add(s.heldFor(queue.HeldCode))
	}
	out.NextAttemptTime = timestamppb.New(next)
	return out, nil
}

// ListDeliveries shows what waits in a mailbox, in the order of leaving.
func (s *Service) ListDeliveries(ctx context.Context, req *pecv1.ListDeliveriesRequest) (*pecv1.ListDeliveriesResponse, error) {
	tenant, mailbox, err := splitMailbox(req.GetParent())
	if err != nil {
		return nil, err
	}
	filter := pg.FilterHash("deliveries", tenant, mailbox.String())
	var after int64
	if _, err = pg.DecodePageToken(req.GetPageToken(), filter, &after); err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &pecv1.ListDeliveriesResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mailbox(ctx, tx, tenant, mailbox, false); err != nil {
			return err
		}
		rows, err := q(tx).ListSendings(ctx, db.ListSendingsParams{TenantID: tenant, MailboxID: mailbox, After: after, PageSize: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Sending) []any { return []any{r.Position} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			d, err := s.showWay(ctx, tx, r)
			if err != nil {
				return err
			}
			out.Deliveries = append(out.Deliveries, d)
		}
		return nil
	})
	return out, err
}

// ResumeSending lets everything that waits in a mailbox try at once; what was learned of the provider's
// limits stays.
func (s *Service) ResumeSending(ctx context.Context, req *pecv1.ResumeSendingRequest) (*pecv1.ResumeSendingResponse, error) {
	tenant, mailbox, err := splitMailbox(req.GetName())
	if err != nil {
		return nil, err
	}
	out := &pecv1.ResumeSendingResponse{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mailbox(ctx, tx, tenant, mailbox, false); err != nil {
			return err
		}
		n, err := s.wakeSending(ctx, tx, mailbox)
		if err != nil {
			return err
		}
		out.Waiting = int32(min(n, 1<<30)) //nolint:gosec // bounded
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "sending.resume", Resource: req.GetName(), Detail: map[string]string{"waiting": fmt.Sprint(n)}})
	})
	return out, err
}

// wakeSending ends whatever holds the queue of a mailbox and promises to hand over what waits in it:
// its login or its provider was mended.
func (s *Service) wakeSending(ctx context.Context, tx pgx.Tx, mailbox uuid.UUID) (int64, error) {
	tenant := pg.Tenant(ctx)
	row, err := q(tx).LockQueue(ctx, db.LockQueueParams{TenantID: tenant, MailboxID: mailbox})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil // nothing was ever sent from it
	}
	if err != nil {
		return 0, err
	}
	relieve(&row)
	row.WakeJob, row.WakeAt = nil, nil
	err = keepQueue(ctx, tx, row)
	if err != nil {
		return 0, err
	}
	n, err := q(tx).HurrySendings(ctx, db.HurrySendingsParams{TenantID: tenant, MailboxID: mailbox, Now: pg.Time(s.now())})
	if err != nil || n == 0 {
		return n, err
	}
	return n, s.jobs.InsertTx(ctx, tx, submitArgs{Mailbox: mailbox}, nil)
}
