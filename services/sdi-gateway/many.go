package sdigateway

import (
	"context"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// call is one RiceviFile call of several.
type call struct {
	db.BeginAttemptsRow
	got    handover
	sendBy *time.Time // of one that failed, when the file tells
	err    error
}

// transmitMany sends the files of a job at the same time, as transmitNext sends one. What does not succeed
// at once goes on as a job of its own, so that no file waits for another's trouble: a call that SdI refused
// for good is made once more there, and then told and parked.
func (s *Service) transmitMany(ctx context.Context, job *river.Job[transmitManyArgs]) error {
	cause := make(map[uuid.UUID]string, len(job.Args.Files))
	ids := make([]uuid.UUID, len(job.Args.Files))
	for i, f := range job.Args.Files {
		ids[i], cause[f.Transmission] = f.Transmission, f.Causation
	}
	ids, err := s.holdBack(ctx, ids, false)
	if err != nil || len(ids) == 0 {
		return err
	}
	calls, err := s.beginMany(ctx, ids)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for i := range calls {
		c := &calls[i]
		all.Go(func() {
			ctx := story(ctx, c.TenantID, c.Invoice, cause[c.ID], c.Traceparent)
			c.got, c.sendBy, c.err = s.transmit(ctx, &c.BeginAttemptsRow)
		})
	}
	all.Wait()
	return s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		return s.recordMany(ctx, tx, ids, calls, cause)
	})
}

// story is ctx in the trace, the correlation and the cause of one invoice.
func story(ctx context.Context, tenant, invoice, causation, traceparent string) context.Context {
	ctx = pg.WithTenant(telemetry.Extract(ctx, traceparent), tenant)
	return bus.WithMeta(ctx, bus.Envelope{ID: causation, Tenant: tenant, Correlation: path.Base(invoice), Trace: traceparent})
}

func (s *Service) beginMany(ctx context.Context, ids []uuid.UUID) ([]call, error) {
	var calls []call
	err := s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		rows, err := db.New(tx).BeginAttempts(ctx, db.BeginAttemptsParams{Ids: ids, Now: &now, Stale: now.Add(-s.cfg.CallTimeout - s.cfg.ResendAfter)})
		for _, t := range rows {
			calls = append(calls, call{BeginAttemptsRow: t})
		}
		return err
	})
	return calls, err
}

// recordMany writes down what became of the calls. Those that SdI refused, and those that could not be begun,
// because they are done or somebody holds their lease, are promised as jobs of their own.
func (s *Service) recordMany(ctx context.Context, tx pgx.Tx, ids []uuid.UUID, calls []call, cause map[uuid.UUID]string) error {
	sent := map[uuid.UUID]handover{}
	begun := map[uuid.UUID]bool{}
	for i := range calls {
		c := &calls[i]
		begun[c.ID] = true
		if c.err == nil {
			sent[c.ID] = c.got
			continue
		}
		err := s.handOver(story(ctx, c.TenantID, c.Invoice, cause[c.ID], c.Traceparent), tx, c)
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		if begun[id] {
			continue
		}
		err := s.jobs.InsertTx(ctx, tx, transmitArgs{Transmission: id}, nil)
		if err != nil {
			return err
		}
	}
	if len(sent) == 0 {
		return nil
	}
	return s.recordSent(ctx, tx, sent, func(ctx context.Context, t *db.LockTransmissionsRow) context.Context {
		return story(ctx, t.TenantID, t.Invoice, cause[t.ID], t.Traceparent)
	})
}

// handOver keeps a file whose call failed: in the backlog, or as a job when SdI refused it, which tells of it.
func (s *Service) handOver(ctx context.Context, tx pgx.Tx, c *call) error {
	err := db.New(tx).RecordFailure(ctx, s.failure(c.ID, c.sendBy, c.err))
	if err != nil || !fault.Permanent(c.err) {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, transmitArgs{Transmission: c.ID}, nil)
}

// failure is what is written down of a call that failed. A file that may be sent again waits in the backlog.
func (s *Service) failure(id uuid.UUID, sendBy *time.Time, cause error) db.RecordFailureParams {
	now := pg.Time(s.now())
	f := fault.Of(cause)
	p := db.RecordFailureParams{ID: id, LastError: f.Code + ": " + f.Message, Now: now, SendBy: sendBy}
	if f.Code != codeUnknownOutcome {
		p.Uncount = 1
	}
	if !fault.Permanent(cause) {
		next := pg.Time(now.Add(s.patience(cause)))
		p.Held, p.NextAt = heldRetry+": "+p.LastError, &next
	}
	return p
}
