package conservation

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

const (
	youngUntil = 30 * aDay // a copy is read after a day, after a month, and then at its turn
	scrubPage  = 50
)

// scrub reads copies whole, those first that have waited longest, until none is due or the budget is spent.
// The order is in the rows, so it is the cursor: a round that ends early, for whatever reason, is gone on
// with by the next. Spec: Linee Guida §4.11, RC duty f.
func (s *Service) scrub(ctx context.Context, f *findings) error {
	f.What = "copies of objects, each read whole from its replica and compared with its SHA-256"
	skip, end := map[string]bool{}, s.now().Add(roundTime)
	for f.Bytes < s.cfg.Checks.ScrubBytes && !s.now().After(end) {
		due, err := s.dueCopies(ctx, skip)
		if err != nil {
			return err
		}
		if len(due) == 0 {
			break
		}
		for _, c := range due {
			if skip[c.Replica] || f.Bytes >= s.cfg.Checks.ScrubBytes {
				continue
			}
			err = s.scrubOne(ctx, f, c, skip)
			if err != nil {
				return err
			}
		}
	}
	return s.scrubEnd(ctx, f)
}

func (s *Service) dueCopies(ctx context.Context, skip map[string]bool) ([]db.DueCopiesRow, error) {
	var in []string
	for _, x := range s.replicas.all {
		if !skip[x.name] {
			in = append(in, x.name)
		}
	}
	var due []db.DueCopiesRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		due, err = db.New(tx).DueCopies(ctx, db.DueCopiesParams{Now: pg.Time(s.now()), Replicas: in, Page: scrubPage})
		return err
	})
	return due, err
}

// scrubOne reads one copy. A replica that does not answer is no damage: it is left for the next round.
func (s *Service) scrubOne(ctx context.Context, f *findings, c db.DueCopiesRow, skip map[string]bool) error {
	o := db.ArchiveObject{ID: c.ID, TenantID: c.TenantID, Kind: c.Kind, Key: c.Key, Sha256: c.Sha256, Size: c.Size, RetainUntil: c.RetainUntil, CreatedAt: c.CreatedAt}
	x := s.replicas.named(c.Replica)
	err := vault.Verify(ctx, x, nameOf(o))
	x.saw(err, s.now())
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case vault.Damaged(err):
		f.Checked++
		f.bad(o.Key, "%s replica: %s", c.Replica, fault.Of(err).Message)
		return s.replicas.damaged(ctx, o, c.Replica, fault.Of(err).Message)
	case err != nil:
		skip[c.Replica] = true
		f.note("the %s replica does not answer and waits for the next round: %s", c.Replica, fault.Of(err).Error())
		return nil
	}
	f.Checked++
	f.Bytes += o.Size
	now := pg.Time(s.now())
	due := nextCheck(o.CreatedAt, now, s.cfg.Checks.ScrubEvery)
	return s.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetCopy(ctx, db.SetCopyParams{Object: o.ID, Replica: c.Replica, State: copyGood, CheckedAt: &now, CheckDue: &due})
	})
}

func (r *replicas) named(name string) *replica {
	for _, x := range r.all {
		if x.name == name {
			return x
		}
	}
	return nil
}

// nextCheck is when a copy that was just read is read again.
func nextCheck(created, now time.Time, every time.Duration) time.Time {
	if young := created.Add(youngUntil); now.Before(young) && every > young.Sub(now) {
		return young
	}
	return now.Add(every)
}

func (s *Service) scrubEnd(ctx context.Context, f *findings) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(s.now())
		oldest, err := q.OldestCheck(ctx, now)
		if err != nil {
			return err
		}
		f.note("the good copy that waits longest was read on %s, %d days ago", oldest.UTC().Format(time.RFC3339), int(now.Sub(oldest)/aDay))
		counts, err := q.CountCopies(ctx)
		for _, c := range counts {
			f.note("%d copies of the %s replica are %s", c.Copies, c.Replica, c.State)
		}
		return err
	})
}
