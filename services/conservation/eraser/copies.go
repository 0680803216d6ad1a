package eraser

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
)

// rest is what comes after a package itself: its copies in the platform's store, once they are cleared.
func (e *Eraser) rest(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow, done *Done) error {
	switch {
	case item.Copies == "CLEARED":
	case item.State == "ERASED" || item.Copies != "" && item.Copies != "DONE":
		done.Asking++
		return nil
	default:
		return nil
	}
	said, err := e.copies(ctx, tenant, disposal, item.PackageID, done)
	if err != nil {
		f := fault.Of(err)
		if ctx.Err() != nil || f.Kind != fault.KindUnavailable {
			return err
		}
		said = f.Error()
	}
	if said == "" {
		return nil
	}
	return e.waits(ctx, tenant, disposal, item, said, done)
}

// copies erases what nobody needs. said tells why something stays until the next run; the rest goes all the same.
func (e *Eraser) copies(ctx context.Context, tenant string, disposal, pkg uuid.UUID, done *Done) (said string, err error) {
	var list []db.DisposalObject
	err = e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		list, err = db.New(tx).ClearedCopies(ctx, db.ClearedCopiesParams{Disposal: disposal, Package: pkg})
		return err
	})
	if err != nil {
		return "", err
	}
	for _, o := range list {
		changed, err := e.Blobs.Erase(ctx, o.Key, o.Mark)
		if err != nil {
			if ctx.Err() != nil || fault.Of(err).Kind != fault.KindUnavailable {
				return "", err
			}
			said = fault.Of(err).Error()
			continue
		}
		err = e.step("erased in " + e.Blobs.String())
		if err != nil {
			return "", err
		}
		err = e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			if changed {
				return db.New(tx).AskForCopyAgain(ctx, db.AskForCopyAgainParams{Disposal: disposal, Package: pkg, Key: o.Key})
			}
			return db.New(tx).SetObjectGone(ctx, db.SetObjectGoneParams{Disposal: disposal, Package: pkg, Kind: o.Kind, Key: o.Key})
		})
		if err != nil {
			return "", err
		}
		if !changed {
			done.Copies++
		}
	}
	err = e.step("copies erased")
	if err != nil {
		return "", err
	}
	return said, e.endCopies(ctx, tenant, disposal, pkg, done)
}

// endCopies says that all is gone, or that some of it has to be asked for again.
func (e *Eraser) endCopies(ctx context.Context, tenant string, disposal, pkg uuid.UUID, done *Done) error {
	return e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		open, err := q.OpenCopies(ctx, db.OpenCopiesParams{Disposal: disposal, Package: pkg})
		if err != nil || open.ToErase > 0 {
			return err
		}
		next := "DONE"
		if open.ToAsk > 0 {
			next = "FOUND"
			done.Asking++
		}
		_, err = q.SetCopies(ctx, db.SetCopiesParams{Disposal: disposal, Package: pkg, Copies: next, Was: "CLEARED"})
		return err
	})
}
