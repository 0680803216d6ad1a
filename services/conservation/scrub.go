package conservation

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

const (
	youngUntil   = 30 * aDay // a copy is read after a day, after a month, and then at its turn
	scrubPage    = 400       // copies between two notes of what was read
	scrubReaders = 4         // of one replica: while one waits for the disk or the bucket, others hash
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
		err = s.scrubPage(ctx, f, due, skip)
		if err != nil {
			return err
		}
	}
	return s.scrubEnd(ctx, f)
}

// scrubPage reads the copies of a page, those of each replica by themselves: two disks are read side by side. What was read
// by the end of the page, or by an error, is written down at once; a crash has at most a page read again.
func (s *Service) scrubPage(ctx context.Context, f *findings, due []db.DueCopiesRow, skip map[string]bool) error {
	of, left := map[string][]db.DueCopiesRow{}, s.cfg.Checks.ScrubBytes-f.Bytes
	for _, c := range due {
		if left > 0 {
			of[c.Replica] = append(of[c.Replica], c)
		}
		left -= c.Size
	}
	var all sync.WaitGroup
	read := make([]scrubbed, len(s.replicas.all))
	for i, x := range s.replicas.all {
		all.Go(func() { read[i] = s.scrubReplica(ctx, x, of[x.name]) })
	}
	all.Wait()
	errs := []error{s.setChecked(context.WithoutCancel(ctx), read)}
	for i, r := range read {
		f.add(r.findings)
		skip[s.replicas.all[i].name] = skip[s.replicas.all[i].name] || r.away
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}

// scrubbed is what the copies of one replica turned out to be.
type scrubbed struct {
	findings

	good  []db.DueCopiesRow
	times []time.Time // when each of them was read
	away  bool
	err   error
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

// scrubReplica reads copies of one replica, several at a time. A replica that does not answer is no damage: what is left of it is
// for the next round. A copy that alone cannot be read is.
func (s *Service) scrubReplica(ctx context.Context, x *replica, due []db.DueCopiesRow) (r scrubbed) {
	var mu sync.Mutex // of r
	var all sync.WaitGroup
	next := make(chan db.DueCopiesRow)
	over := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return r.away || r.err != nil
	}
	for range min(scrubReaders, len(due)) {
		all.Go(func() {
			for c := range next {
				if over() {
					continue
				}
				o := db.ArchiveObject{ID: c.ID, TenantID: c.TenantID, Kind: c.Kind, Key: c.Key, Sha256: c.Sha256, Size: c.Size, RetainUntil: c.RetainUntil, CreatedAt: c.CreatedAt}
				err := vault.Verify(ctx, x, nameOf(o))
				if err != nil {
					err = vault.Judge(ctx, x, nameOf(o), err)
				}
				x.saw(err, s.now())
				mu.Lock()
				s.scrubCopy(ctx, &r, x, c, o, err)
				mu.Unlock()
			}
		})
	}
	for _, c := range due {
		next <- c
	}
	close(next)
	all.Wait()
	return r
}

// scrubCopy notes what reading a copy ended with.
func (s *Service) scrubCopy(ctx context.Context, r *scrubbed, x *replica, c db.DueCopiesRow, o db.ArchiveObject, err error) {
	switch {
	case ctx.Err() != nil:
		r.err = cmp.Or(r.err, ctx.Err())
	case vault.Damaged(err):
		r.Checked++
		r.bad(o.Key, "%s replica: %s", x.name, fault.Of(err).Message)
		r.err = cmp.Or(r.err, s.replicas.damaged(ctx, o, x.name, fault.Of(err).Message))
	case err != nil:
		r.away = true
		r.note("the %s replica does not answer and waits for the next round: %s", x.name, fault.Of(err).Error())
	default:
		r.Checked++
		r.Bytes += o.Size
		r.good, r.times = append(r.good, c), append(r.times, pg.Time(s.now()))
	}
}

// add takes in what a part of the round found.
func (f *findings) add(part findings) {
	f.Checked, f.Bytes = f.Checked+part.Checked, f.Bytes+part.Bytes
	for _, p := range part.Problems {
		f.bad(p.What, "%s", p.Problem)
	}
	for _, n := range part.Notes {
		f.note("%s", n)
	}
}

// setChecked writes down which copies were read and when they are read again, of all tenants in one statement.
func (s *Service) setChecked(ctx context.Context, read []scrubbed) error {
	var p db.SetCheckedParams
	for _, r := range read {
		for i, c := range r.good {
			p.Objects, p.Replicas = append(p.Objects, c.ID), append(p.Replicas, c.Replica)
			p.Ats, p.Dues = append(p.Ats, r.times[i]), append(p.Dues, nextCheck(c.CreatedAt, r.times[i], s.cfg.Checks.ScrubEvery))
		}
	}
	if len(p.Objects) == 0 {
		return nil
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return db.New(tx).SetChecked(ctx, p) })
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
