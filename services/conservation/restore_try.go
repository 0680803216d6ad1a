package conservation

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
)

// tally is what transactions of a restore found and made.
type tally struct {
	seen, made, grown int
	twice             int         // units that were taken in a second time, after the first was forgotten
	moved             int         // files whose object is not there any more, and which lie in a later one
	waiting           []uuid.UUID // units of the object in hand that wait for the one that they belong to
	destroyed         []string    // keys of units that it tells of

	said    []func()             // findings, once it is committed
	unasked map[uuid.UUID]string // objects of which nobody knows yet whether a replica holds them, with their keys
}

func (t *tally) say(finding func()) { t.said = append(t.said, finding) }

// errUnasked undoes a transaction that has to know what the replicas hold.
var errUnasked = errors.New("the replicas were not asked")

// page makes the rows of units again in one transaction. What counts is the one that is committed, however often it was tried; and the replicas are
// asked between two tries, since holds and disposals of the tenant wait for the transaction.
func (r *restoring) page(ctx context.Context, page []record) error {
	for {
		err := r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
			r.try = tally{unasked: map[uuid.UUID]string{}}
			err := r.rows(ctx, tx, page)
			if err == nil && len(r.try.unasked) > 0 {
				err = errUnasked
			}
			return err
		})
		if err == nil {
			r.count()
		}
		if !errors.Is(err, errUnasked) {
			return err
		}
		for id, key := range r.try.unasked {
			held, err := r.s.replicas.hold(ctx, key)
			if err != nil {
				return err
			}
			r.know(id, !held)
		}
	}
}

func (r *restoring) count() {
	d, t := &r.done, r.try
	d.seen, d.made, d.grown, d.twice, d.moved = d.seen+t.seen, d.made+t.made, d.grown+t.grown, d.twice+t.twice, d.moved+t.moved
	d.waiting, d.destroyed = append(d.waiting, t.waiting...), append(d.destroyed, t.destroyed...)
	r.f.Checked += int64(t.seen)
	for _, say := range t.said {
		say()
	}
}

func (r *restoring) know(id uuid.UUID, away bool) {
	if r.away == nil {
		r.away = map[uuid.UUID]bool{}
	}
	r.away[id] = away
}

// isAway says that no replica holds an object: files were moved out of it, and it was destroyed, after the rows were backed up that lead there. Of
// one that nobody asked for it says no, and what follows from it is undone.
func (r *restoring) isAway(ctx context.Context, tx pgx.Tx, id uuid.UUID) (bool, error) {
	away, known := r.away[id]
	if known {
		return away, nil
	}
	o, err := db.New(tx).GetObject(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		r.know(id, true)
		return true, nil
	}
	if err == nil {
		r.try.unasked[id] = o.Key
	}
	return false, err
}
