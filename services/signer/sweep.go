package signer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
)

const (
	sweepEvery = 5 * time.Second
	// noteLasts is after how long a note of what was about to be stored (made_file, made_bundle) is looked at: nobody who wrote it down
	// is still about to store or record it.
	noteLasts = 24 * time.Hour
	// notesAtOnce are looked at in one turn; a store over the network answers for each.
	notesAtOnce = 100
	// notesPatience is how long a turn may take: a store that hangs must not keep the sweep from calls and grants.
	notesPatience = 4 * time.Second
	// notesEvery is the pause between two rounds through all notes, and notesAfterError the one after a store that did not answer.
	notesEvery, notesAfterError = time.Hour, time.Minute
)

// sweep gives up calls that nobody will answer, forgets grants and approvals that are over and notes of work that has ended, and has
// credentials show the key of the day.
func (s *Service) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	written := s.writtenDown()
	for {
		err := s.sweepRows(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "what is over not looked at: calls of providers, grants, approvals", "error", err.Error())
		}
		for _, n := range written {
			err = n.turn(ctx, s)
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "notes of what was stored not looked at", "of", n.of, "code", fault.Of(err).Code, "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Service) sweepRows(ctx context.Context) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.loseCalls(ctx, tx, nil); err != nil {
			return err
		}
		q, now := db.New(tx), pg.Time(s.now())
		if _, err := q.ForgetSpentGrants(ctx, now); err != nil {
			return fmt.Errorf("signer: forget grants: %w", err)
		}
		if err := q.DropApprovals(ctx, now); err != nil {
			return fmt.Errorf("signer: drop approvals: %w", err)
		}
		adopted, err := q.AdoptHoldings(ctx, db.AdoptHoldingsParams{At: now})
		if err != nil {
			return fmt.Errorf("signer: adopt holdings: %w", err)
		}
		for _, a := range adopted {
			s.log.InfoContext(ctx, "credential is now with another key", "credential", a.ID, "provider", a.Provider)
		}
		return nil
	})
}

// note is what was written down of one file.
type note struct {
	tenant string
	sum    []byte
	named  bool // by a row
}

// notes are the rounds through one table of what was written down before it was stored, from one note to the next.
type notes struct {
	of     string
	after  note
	due    time.Time
	page   func(ctx context.Context, q *db.Queries, after note, before time.Time) ([]note, error)
	forget func(ctx context.Context, q *db.Queries, tenants []string, sums [][]byte, before time.Time) error
}

func (s *Service) writtenDown() []*notes {
	return []*notes{
		{
			of: "files",
			page: func(ctx context.Context, q *db.Queries, after note, before time.Time) (out []note, err error) {
				rows, err := q.OldMadeFiles(ctx, db.OldMadeFilesParams{AfterTenant: after.tenant, AfterSha256: after.sum, Before: before, Page: notesAtOnce})
				for _, r := range rows {
					out = append(out, note{r.TenantID, r.Sha256, r.Named})
				}
				return out, err
			},
			forget: func(ctx context.Context, q *db.Queries, tenants []string, sums [][]byte, before time.Time) error {
				return q.ForgetOldFiles(ctx, db.ForgetOldFilesParams{Tenants: tenants, Sums: sums, Before: before})
			},
		},
		{
			of: "bundles",
			page: func(ctx context.Context, q *db.Queries, after note, before time.Time) (out []note, err error) {
				rows, err := q.OldMadeBundles(ctx, db.OldMadeBundlesParams{AfterTenant: after.tenant, AfterSha256: after.sum, Before: before, Page: notesAtOnce})
				for _, r := range rows {
					out = append(out, note{r.TenantID, r.Sha256, r.Named})
				}
				return out, err
			},
			forget: func(ctx context.Context, q *db.Queries, tenants []string, sums [][]byte, before time.Time) error {
				return q.ForgetOldBundles(ctx, db.ForgetOldBundlesParams{Tenants: tenants, Sums: sums, Before: before})
			},
		},
	}
}

// turn looks at the next notes when it is time, and forgets those that nothing needs: a row names the file since, or the store does
// not have it, be it that it never came there or that it was destroyed. A file that is there and that no row names is found by its note
// alone when its document is destroyed: that note stays until then.
func (n *notes) turn(ctx context.Context, s *Service) error {
	now := s.now()
	if now.Before(n.due) {
		return nil
	}
	before := pg.Time(now.Add(-noteLasts))
	var found []note
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if n.after.sum == nil {
			n.after.sum = []byte{}
		}
		found, err = n.page(ctx, db.New(tx), n.after, before)
		return err
	})
	if err != nil {
		return fmt.Errorf("signer: notes of %s: %w", n.of, err)
	}
	looked, tenants, sums, failed := n.look(ctx, s, found)
	if len(sums) > 0 && failed == nil {
		within, cancel := context.WithTimeout(ctx, notesPatience)
		failed = s.blobs.Check(within) // where a disk is not mounted nothing is there
		cancel()
	}
	if len(sums) > 0 && failed == nil {
		err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return n.forget(ctx, db.New(tx), tenants, sums, before) })
		if err != nil {
			return fmt.Errorf("signer: forget notes of %s: %w", n.of, err)
		}
	}
	if failed != nil {
		n.due = now.Add(notesAfterError)
		return failed
	}
	if looked > 0 {
		n.after = found[looked-1]
	}
	if looked == len(found) && len(found) < notesAtOnce {
		n.after, n.due = note{}, now.Add(notesEvery)
	}
	return nil
}

// look asks the store for files that no row names, until all of them were asked for or the patience is over; then the next turn goes on
// there. It gives how many notes it came by, and those that nothing needs.
func (n *notes) look(ctx context.Context, s *Service, found []note) (looked int, tenants []string, sums [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, notesPatience)
	defer cancel()
	for _, one := range found {
		if !one.named {
			_, err = s.blobs.Mark(ctx, blob.Ref{Tenant: one.tenant, SHA256: [32]byte(one.sum)})
			switch {
			case err != nil && looked > 0 && ctx.Err() != nil:
				return looked, tenants, sums, nil
			case err != nil && !errors.Is(err, fault.NotFound("BLOB_NOT_FOUND", "")):
				return looked, tenants, sums, err
			}
		}
		if one.named || err != nil {
			tenants, sums = append(tenants, one.tenant), append(sums, one.sum)
		}
		looked++
	}
	return looked, tenants, sums, nil
}
