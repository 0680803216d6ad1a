package sdigateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// drain sends what waits in the backlog, in the order of its legal terms, as fast as the shared bucket allows.
func (s *Service) drain(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		for ctx.Err() == nil {
			sent, wait, err := s.drainSome(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "a step of the backlog failed; its files stay in it", "error", err)
				wait = time.Second
			}
			if sent == 0 && wait == 0 {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
}

// step is what leaves the backlog together.
type step struct {
	calls []call
	trial bool          // SdI is away: one file finds out whether it still is
	wait  time.Duration // until the bucket has tokens again
	turn  turn          // of each of its calls
}

// drainSome sends the next files of the backlog. It gives how many, and how long to wait before the next step.
func (s *Service) drainSome(ctx context.Context) (int, time.Duration, error) {
	next, err := s.pick(ctx)
	if err != nil || len(next.calls) == 0 {
		return 0, next.wait, err
	}
	// From here on calls may have been made: their outcome is written down even while the process is drained.
	ctx = context.WithoutCancel(ctx)
	var all sync.WaitGroup
	for i := range next.calls {
		c, own := &next.calls[i], next.turn
		all.Go(func() {
			ctx := context.WithValue(story(ctx, c.TenantID, c.Invoice, "", c.Traceparent), turnKey{}, &own)
			c.got, c.sendBy, c.err = s.transmit(ctx, &c.BeginAttemptsRow)
		})
	}
	all.Wait()
	return len(next.calls), next.wait, s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var ids []uuid.UUID
		for i := range next.calls {
			ids = append(ids, next.calls[i].ID)
		}
		err := s.recordMany(ctx, tx, ids, next.calls, map[uuid.UUID]string{})
		if err != nil {
			return err
		}
		return s.recordTrial(ctx, tx, next)
	})
}

// pick takes the next files out of the backlog, as many as there are tokens, and begins their attempts. All
// replicas meet at the row of the endpoint, so that together they keep to the rate and to one trial at a time.
func (s *Service) pick(ctx context.Context) (next step, err error) {
	began, now := time.Now(), pg.Time(s.now())
	lease := now.Add(s.cfg.CallTimeout + s.cfg.ResendAfter)
	stale := now.Add(-s.cfg.CallTimeout - s.cfg.ResendAfter)
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		e, err := q.LockEndpoint(ctx, s.cfg.Transmitter)
		if err != nil {
			return err
		}
		next = step{trial: e.OutageSince != nil}
		if next.trial && e.RetryAt != nil && e.RetryAt.After(now) {
			return nil // watch comes back when it is time
		}
		g, err := s.lookIntoBucket(ctx, q, e.Tokens, e.TokensAt)
		if err != nil {
			return err
		}
		n := stepOf(s.cfg.DrainRate)
		if next.trial {
			n = 1
		}
		if s.cfg.DrainRate > 0 && s.late.Load() > 0 { // the next token is for a file that was before these in order
			next.wait = untilFull(0, 1, s.cfg.DrainRate)
			return nil
		}
		if g.tokens < n {
			next.wait = untilFull(g.tokens, n, s.cfg.DrainRate)
			return nil
		}
		next.turn = turn{until: g.until, last: began.Add(s.cfg.ResendAfter)}
		rows, err := q.PickBacklog(ctx, db.PickBacklogParams{Now: now, Stale: stale, N: int32(n)})
		if err != nil || len(rows) == 0 {
			return err
		}
		ids, err := s.leaveOutPaused(ctx, q, rows, now)
		if err != nil || len(ids) == 0 {
			next.wait = time.Millisecond // there may be others behind them
			return err
		}
		begun, err := q.BeginAttempts(ctx, db.BeginAttemptsParams{Ids: ids, Now: &now, Stale: stale})
		if err != nil {
			return err
		}
		slices.SortFunc(begun, func(a, b db.BeginAttemptsRow) int { return slices.Index(ids, a.ID) - slices.Index(ids, b.ID) })
		for _, row := range begun {
			next.calls = append(next.calls, call{BeginAttemptsRow: row})
		}
		err = q.PostponeHeld(ctx, db.PostponeHeldParams{Ids: ids, NextAt: &lease})
		if err == nil && next.trial {
			err = q.SetRetry(ctx, db.SetRetryParams{Name: s.cfg.Transmitter, RetryAt: s.nextTrial(now, e.Failures+1)})
		}
		if err != nil {
			return err
		}
		return s.spend(ctx, q, g, len(begun))
	})
	return next, err
}

// leaveOutPaused holds those that a pause has caught since they came into the backlog, and gives the others. It
// reads the pauses anew: of what the drainers send, none is sent after PauseSending has answered.
func (s *Service) leaveOutPaused(ctx context.Context, q *db.Queries, rows []db.PickBacklogRow, now time.Time) ([]uuid.UUID, error) {
	pauses, err := q.OpenPauses(ctx)
	if err != nil {
		return nil, err
	}
	held := db.HoldTransmissionsParams{Now: now, NextAt: &now}
	var free []uuid.UUID
	for _, row := range rows {
		p := pausedBy(pauses, row.Invoice, now)
		if p == nil {
			free = append(free, row.ID)
			continue
		}
		held.Ids, held.Helds, held.HeldBys = append(held.Ids, row.ID), append(held.Helds, pauseWords(p)), append(held.HeldBys, p.ID)
		held.SendBys = append(held.SendBys, row.SendBy)
	}
	if len(held.Ids) == 0 {
		return free, nil
	}
	return free, q.HoldTransmissions(ctx, held)
}

// recordTrial notes whether SdI is back. An answer that refuses the file proves that it is.
func (s *Service) recordTrial(ctx context.Context, tx pgx.Tx, done step) error {
	if !done.trial {
		return nil
	}
	q := db.New(tx)
	err := done.calls[0].err
	switch {
	case err == nil || fault.Permanent(err):
		_, err = q.EndOutage(ctx, s.cfg.Transmitter)
		pg.UnitOf(ctx, tx).After(func() {
			s.log.InfoContext(ctx, "SdI answers again: the backlog leaves")
			s.lookAgain()
		})
		return err
	case !isAway(err):
		return nil // our own trouble: the trial was not made
	}
	now := pg.Time(s.now())
	if fault.Of(err).Code == codeBreakerOpen {
		return q.SetRetry(ctx, db.SetRetryParams{Name: s.cfg.Transmitter, RetryAt: s.nextTrial(now, 0)}) // no call was made
	}
	e, readErr := q.LockEndpoint(ctx, s.cfg.Transmitter)
	if readErr != nil {
		return readErr
	}
	return q.SetOutage(ctx, db.SetOutageParams{Name: s.cfg.Transmitter, Now: &now, RetryAt: s.nextTrial(now, e.Failures+1), LastError: err.Error()})
}

// isAway says whether a call failed because SdI did not answer.
func isAway(err error) bool {
	switch fault.Of(err).Code {
	case codeUnknownOutcome, codeUnreachable, codeBreakerOpen:
		return true
	}
	return false
}

// codeBreakerOpen is that of a call that was not made.
const codeBreakerOpen = "BREAKER_OPEN"
