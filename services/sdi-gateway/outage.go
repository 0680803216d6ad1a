package sdigateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// Why a file waits in the backlog: the words before the colon of transmission.held.
const (
	heldPaused   = "PAUSED"   // by a person
	heldOutage   = "OUTAGE"   // SdI does not answer
	heldDraining = "DRAINING" // behind others that wait
	heldRetry    = "RETRY"    // its own call failed
)

const (
	// drainTogether is how many files leave the backlog in one step of one drainer, and how many have to be
	// ready before new ones queue up behind them.
	drainTogether = 64
	drainers      = 4
	longestWatch  = time.Second
)

// gate says whether a file may be sent as it comes. It is asked for every file and costs no query: what it knows
// is read from the database by watch, for all replicas alike.
type gate struct {
	mu       sync.RWMutex
	pauses   []db.OpenPausesRow
	outage   *time.Time
	draining bool
	failures int64 // of the breaker, as watch last saw them
}

// failed says whether calls have failed since it was last asked.
func (g *gate) failed(failures int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	more := failures > g.failures
	g.failures = failures
	return more
}

func (g *gate) set(pauses []db.OpenPausesRow, outage *time.Time, draining bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pauses, g.outage, g.draining = pauses, outage, draining
}

// shut says whether anything at all may be held: false is the ordinary day.
func (g *gate) shut() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.pauses) > 0 || g.outage != nil || g.draining
}

// why says what holds a file, in words, and the pause when it is one; empty when nothing does.
func (g *gate) why(invoice string, now time.Time) (held string, pause uuid.UUID) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if p := pausedBy(g.pauses, invoice, now); p != nil {
		return pauseWords(p), p.ID
	}
	switch {
	case g.outage != nil:
		return fmt.Sprintf("%s: SdI has not answered since %s", heldOutage, g.outage.UTC().Format(time.RFC3339)), uuid.Nil
	case g.draining:
		return heldDraining + ": files that waited before it leave first", uuid.Nil
	}
	return "", uuid.Nil
}

// pausedBy finds the pause that is in force for an invoice: the widest first.
func pausedBy(pauses []db.OpenPausesRow, invoice string, now time.Time) *db.OpenPausesRow {
	var found *db.OpenPausesRow
	for i := range pauses {
		p := &pauses[i]
		if p.StartsAt.After(now) || p.EndsAt != nil && !p.EndsAt.After(now) || !covers(p, invoice) {
			continue
		}
		if found == nil || len(p.TenantID)+len(p.Company) < len(found.TenantID)+len(found.Company) {
			found = p
		}
	}
	return found
}

func covers(p *db.OpenPausesRow, invoice string) bool {
	switch {
	case p.TenantID == "":
		return true
	case p.Company != "":
		return strings.HasPrefix(invoice, p.Company+"/")
	}
	return strings.HasPrefix(invoice, "tenants/"+p.TenantID+"/")
}

func pauseWords(p *db.OpenPausesRow) string {
	of := "of this transmitter"
	switch {
	case p.Company != "":
		of = "of this company"
	case p.TenantID != "":
		of = "of this tenant"
	}
	until := "until somebody resumes it"
	if p.EndsAt != nil {
		until = "until " + p.EndsAt.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s: sending %s is paused %s: %s", heldPaused, of, until, p.Reason)
}

// holdBack puts into the backlog what may not be sent as it comes, and gives the rest. While the gate is open
// that is all of them, without a look at the database.
func (s *Service) holdBack(ctx context.Context, ids []uuid.UUID, forced bool) ([]uuid.UUID, error) {
	away := s.breaker.State().State == breakerOpen
	if !away && !s.gate.shut() {
		return ids, nil
	}
	var rows []db.ReadUnsentRow
	err := s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = db.New(tx).ReadUnsent(ctx, ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	p := db.HoldTransmissionsParams{Now: now, NextAt: &now}
	var free []uuid.UUID
	var held []db.ReadUnsentRow
	for _, row := range rows {
		why, pause := s.gate.why(row.Invoice, now)
		switch {
		case forced && pause == uuid.Nil: // a person wants it tried
			why = ""
		case why == "" && away:
			why = heldOutage + ": SdI does not answer"
		}
		if why == "" {
			free = append(free, row.ID)
			continue
		}
		held = append(held, row)
		p.Ids, p.Helds, p.HeldBys = append(p.Ids, row.ID), append(p.Helds, why), append(p.HeldBys, pause)
	}
	if len(held) == 0 {
		return free, nil
	}
	p.SendBys, err = s.sendBys(ctx, held)
	if err != nil {
		return nil, err
	}
	return free, s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).HoldTransmissions(ctx, p)
	})
}

// States of a circuit breaker: it lets no call through, or all.
const (
	breakerOpen   = "open"
	breakerClosed = "closed"
)

// sendBys reads from files that are about to wait by when they have to be sent.
func (s *Service) sendBys(ctx context.Context, rows []db.ReadUnsentRow) ([]time.Time, error) {
	list := make([]time.Time, len(rows))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, row := range rows {
		list[i] = endOfDay(row.CreatedAt, issueDays)
		if row.SendBy != nil {
			list[i] = *row.SendBy
			continue
		}
		g.Go(func() error {
			ref, err := blob.ParseURI(row.FileUri)
			if err != nil {
				return err
			}
			content, err := s.blobs.Get(ctx, ref)
			if err != nil {
				return err
			}
			if by, ok := fileSendBy(content); ok {
				list[i] = by
			}
			return nil
		})
	}
	return list, g.Wait()
}

// fileSendBy is the earliest term of the documents in a file.
func fileSendBy(content []byte) (by time.Time, ok bool) {
	xml, _, err := signature.Unwrap(content)
	if err != nil {
		return by, false
	}
	file, err := fatturapa.Parse(xml)
	if err != nil {
		return by, false
	}
	for _, body := range file.Bodies {
		general := body.DatiGenerali.DatiGeneraliDocumento
		at, known := sendBy(general.TipoDocumento, string(general.Data))
		if known && (!ok || at.Before(by)) {
			by, ok = at, true
		}
	}
	return by, ok
}

// watch keeps the gate in step with the database, ends pauses whose time has come, notices that SdI has gone
// away, and wakes the drainers when something may leave.
func (s *Service) watch(ctx context.Context) error {
	err := s.untilDone(ctx, "the state of sending cannot be set up", func(ctx context.Context) error {
		return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			return db.New(tx).AddEndpoint(ctx, s.cfg.Transmitter)
		})
	})
	if err != nil {
		return nil // draining: ctx has ended
	}
	pause := min(longestWatch, s.cfg.RetryEvery)
	for {
		ready, err := s.look(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "the state of sending cannot be read; the last known one stays in force", "error", err)
		}
		for range min(ready, drainers) {
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.again:
		case <-time.After(pause):
		}
	}
}

// untilDone repeats fn until it succeeds; the error is that ctx has ended.
func (s *Service) untilDone(ctx context.Context, trouble string, fn func(context.Context) error) error {
	for {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.WarnContext(ctx, trouble, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// lookAgain makes watch look at once.
func (s *Service) lookAgain() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// look is one round of watch. It gives how many drainers have something to do.
func (s *Service) look(ctx context.Context) (int, error) {
	ctx = telemetry.WithActor(ctx, "service:sdi-gateway")
	now := pg.Time(s.now())
	breaker := s.breaker.State()
	busy := 0
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		e, err := q.GetEndpoint(ctx, db.GetEndpointParams{Name: s.cfg.Transmitter, Now: now, Many: drainTogether * drainers})
		if err != nil {
			return err
		}
		// A breaker that is not closed may be left over from an outage that another replica has seen the end of:
		// only calls that failed since then make a new one.
		if s.gate.failed(breaker.Failures) && breaker.State != breakerClosed && e.OutageSince == nil {
			err = q.SetOutage(ctx, db.SetOutageParams{Name: s.cfg.Transmitter, Now: &now, RetryAt: s.nextTrial(now, 0), LastError: breaker.LastError})
			if err != nil {
				return err
			}
			e.OutageSince = &now
			s.log.WarnContext(ctx, "SdI does not answer: files wait, one at a time tries again", "error", breaker.LastError)
		}
		pauses, err := q.OpenPauses(ctx)
		if err != nil {
			return err
		}
		pauses, err = s.endDue(ctx, tx, pauses, now)
		if err != nil {
			return err
		}
		s.gate.set(pauses, e.OutageSince, e.Ready >= drainTogether)
		if e.Ready > 0 {
			busy = 1 + int(e.Ready-1)/drainTogether
		}
		return nil
	})
	return busy, err
}

// endDue ends the pauses that end by themselves, and gives the others.
func (s *Service) endDue(ctx context.Context, tx pgx.Tx, pauses []db.OpenPausesRow, now time.Time) ([]db.OpenPausesRow, error) {
	var err error
	pauses = slices.DeleteFunc(pauses, func(p db.OpenPausesRow) bool {
		if err != nil || p.EndsAt == nil || p.EndsAt.After(now) {
			return false
		}
		_, err = s.endPause(pg.WithTenant(ctx, p.TenantID), tx, p.ID, "schedule", now)
		return true
	})
	return pauses, err
}

// nextTrial is when to try SdI again after n trials that failed: the pause doubles each time.
func (s *Service) nextTrial(now time.Time, n int32) *time.Time {
	at := pg.Time(now.Add(backoff(s.cfg.RetryEvery, s.cfg.RetryMost, n)))
	return &at
}

// backoff doubles first n times, up to most.
func backoff(first, most time.Duration, n int32) time.Duration {
	pause := first
	for ; n > 0 && pause < most; n-- {
		pause *= 2
	}
	return min(pause, max(most, first))
}
