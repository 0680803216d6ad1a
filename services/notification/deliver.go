package notification

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/notification/internal/db"
)

// maxAttempts bounds the history of one delivery.
const maxAttempts = 50

// attempt is one attempt as it is kept in the row.
type attempt struct {
	Time   time.Time `json:"time"`
	Status int       `json:"status,omitempty"` // HTTP status or SMTP reply; 0 without an answer
	Error  string    `json:"error,omitempty"`
	Millis int64     `json:"ms"`
}

// outcome is what came of one attempt.
type outcome struct {
	attempt    attempt
	ok         bool
	final      bool          // failed, and trying again cannot help
	gone       bool          // the endpoint wants no more deliveries at all
	heldBack   bool          // nothing was sent: the breaker is open
	retryAfter time.Duration // what the other side asked for
}

// deliver makes one attempt: read what to send, send it outside of any transaction, write what came of
// it together with the job of the next attempt. A crash after sending repeats the attempt, with the
// same webhook-id or Message-ID, by which the receiver knows it.
func (s *Service) deliver(ctx context.Context, job *river.Job[deliverArgs]) error {
	row, send, err := s.prepare(ctx, job.Args)
	if err != nil || send == nil {
		return err
	}
	began := s.now()
	o := send(ctx)
	o.attempt.Time, o.attempt.Millis = pg.Time(began), s.now().Sub(began).Milliseconds()
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err() // the process ends: the job runs again, and this attempt does not count
	}
	return s.record(ctx, row, o)
}

// prepare reads the delivery and makes the function that sends it; nil when there is nothing to do.
func (s *Service) prepare(ctx context.Context, args deliverArgs) (row db.Delivery, send func(context.Context) outcome, err error) {
	err = s.db.Tx(ctx, args.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err = q(tx).GetDelivery(ctx, db.GetDeliveryParams{TenantID: args.Tenant, ID: args.Delivery})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // its history was removed
		}
		if err != nil {
			return fmt.Errorf("notification: read delivery %s: %w", args.Delivery, err)
		}
		if row.State != pending || row.Tries != args.Try {
			return nil
		}
		switch {
		case row.Channel == byEmail:
			send, err = s.prepareEmail(ctx, tx, row)
		case row.Channel != byWebhook && s.mail == nil:
			send = undeliverable("this installation sends no e-mail any more")
		case row.Channel == byParticipant:
			send, err = s.mailTo(row, row.Address, row.Language)
		case row.Channel == byNotice:
			send, err = s.noticeMail(row)
		case row.Channel == byForward:
			send, err = s.forwardMail(ctx, row)
		default:
			send, err = s.prepareWebhook(ctx, tx, row)
		}
		return err
	})
	return row, send, err
}

// undeliverable is a sender that fails at once and for good.
func undeliverable(why string) func(context.Context) outcome {
	return func(context.Context) outcome { return outcome{final: true, attempt: attempt{Error: why}} }
}

// record writes the outcome and, when there is another attempt to make, its job.
func (s *Service) record(ctx context.Context, row db.Delivery, o outcome) error {
	return s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		now, err := q(tx).LockDelivery(ctx, db.LockDeliveryParams{TenantID: row.TenantID, ID: row.ID})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("notification: lock delivery %s: %w", row.ID, err)
		}
		if now.State != pending || now.Tries != row.Tries {
			return nil // another worker was faster
		}
		p := db.RecordAttemptParams{TenantID: row.TenantID, ID: row.ID, State: pending, Tries: now.Tries, Attempts: now.Attempts}
		if !o.heldBack {
			p.Tries++
			p.Attempts, err = appendAttempt(now.Attempts, o.attempt)
			if err != nil {
				return err
			}
		}
		switch {
		case o.ok:
			p.State = delivered
		case o.heldBack:
			err = s.again(ctx, tx, row, &p, o.retryAfter+jitter(o.retryAfter))
		case o.final || int(p.Tries) > len(s.cfg.RetrySchedule):
			p.State = failed
		default:
			pause := s.cfg.RetrySchedule[p.Tries-1]
			err = s.again(ctx, tx, row, &p, max(pause, min(o.retryAfter, 24*time.Hour))+jitter(pause))
		}
		if err != nil {
			return err
		}
		if err := q(tx).RecordAttempt(ctx, p); err != nil {
			return fmt.Errorf("notification: record attempt of %s: %w", row.ID, err)
		}
		if row.Channel == byWebhook && !o.heldBack {
			return s.judge(ctx, tx, row, o)
		}
		return nil
	})
}

// again promises the next attempt.
func (s *Service) again(ctx context.Context, tx pgx.Tx, row db.Delivery, p *db.RecordAttemptParams, pause time.Duration) error {
	at := pg.Time(s.now().Add(pause))
	p.NextAttemptTime = &at
	return s.jobs.InsertTx(ctx, tx, deliverArgs{Tenant: row.TenantID, Delivery: row.ID, Try: p.Tries}, &river.InsertOpts{ScheduledAt: at})
}

// jitter is up to a fifth, so that deliveries that failed together do not come back together.
func jitter(pause time.Duration) time.Duration {
	if pause <= 0 {
		return 0
	}
	return rand.N(pause/5 + 1) //nolint:gosec // jitter needs no secrecy
}

func appendAttempt(raw []byte, a attempt) ([]byte, error) {
	var list []attempt
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("notification: attempts: %w", err)
	}
	list = append(list, a)
	if len(list) > maxAttempts {
		list = list[len(list)-maxAttempts:]
	}
	out, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("notification: attempts: %w", err)
	}
	return out, nil
}

// judge keeps what an outcome says about the endpoint itself: one that is gone, or fails for days, is
// disabled, and the fact is stated.
func (s *Service) judge(ctx context.Context, tx pgx.Tx, row db.Delivery, o outcome) error {
	if o.ok {
		return q(tx).EndpointAnswered(ctx, db.EndpointAnsweredParams{TenantID: row.TenantID, ID: row.TargetID})
	}
	now := pg.Time(s.now())
	e, err := q(tx).EndpointFailed(ctx, db.EndpointFailedParams{Now: now, TenantID: row.TenantID, ID: row.TargetID})
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && e.Disabled) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("notification: endpoint %s: %w", row.TargetID, err)
	}
	reason := ""
	switch {
	case o.gone:
		reason = "the endpoint answered 410 Gone"
	case e.FailingSince != nil && now.Sub(*e.FailingSince) > s.cfg.DisableAfter:
		reason = fmt.Sprintf("every delivery failed since %s; the last said: %s", e.FailingSince.Format(time.RFC3339), o.attempt.Error)
	default:
		return nil
	}
	disabled, err := q(tx).DisableEndpoint(ctx, db.DisableEndpointParams{Reason: reason, UpdateTime: now, TenantID: row.TenantID, ID: row.TargetID})
	if err != nil || disabled == 0 {
		return err
	}
	name := targetName(row.TenantID, byWebhook, row.TargetID)
	if err := s.bus.Emit(ctx, tx, &notificationv1.WebhookEndpointDisabled{WebhookEndpoint: name, Reason: reason}); err != nil {
		return err
	}
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: "webhook.disable", Resource: name, Detail: map[string]string{"reason": reason}})
}

// RedeliverDelivery sends the same event again, with the same webhook-id, and starts the schedule of
// retries anew. Precondition DELIVERY_PENDING while the first round is not over.
func (s *Service) RedeliverDelivery(ctx context.Context, req *notificationv1.RedeliverDeliveryRequest) (*notificationv1.Delivery, error) {
	tenant, id, err := resource(req.GetName(), "DELIVERY_NOT_FOUND")
	if err != nil {
		return nil, err
	}
	var resp *notificationv1.Delivery
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockDelivery(ctx, db.LockDeliveryParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "DELIVERY_NOT_FOUND", req.GetName())
		}
		if row.State == pending {
			return fault.Precondition("DELIVERY_PENDING", "%s is still being delivered: wait for its end", req.GetName())
		}
		err = notDestroyed(&row)
		if err != nil {
			return err
		}
		now := pg.Time(s.now())
		row.State, row.Tries, row.NextAttemptTime = pending, 0, &now
		err = q(tx).RecordAttempt(ctx, db.RecordAttemptParams{TenantID: tenant, ID: id, State: pending, Attempts: row.Attempts, NextAttemptTime: &now})
		if err != nil {
			return fmt.Errorf("notification: restart %s: %w", req.GetName(), err)
		}
		if err := s.jobs.InsertTx(ctx, tx, deliverArgs{Tenant: tenant, Delivery: id}, nil); err != nil {
			return err
		}
		resp, err = presentDelivery(&row)
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "delivery.redeliver", Resource: req.GetName()})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
