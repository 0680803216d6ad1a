package eraser

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
)

// late destroys objects that came to light when the eraser was done with the package whose documents are in them: a restore found them beside
// documents that stand, which the service has moved, or the package was being brought into the replicas meanwhile.
func (e *Eraser) late(ctx context.Context, done *Done) error {
	for next := (db.LateObjectsParams{Page: atOnce}); ; {
		var list []db.DisposalObject
		err := e.DB.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			list, err = db.New(tx).LateObjects(ctx, next)
			return err
		})
		if err != nil {
			return fmt.Errorf("objects that came to light: %w", err)
		}
		for _, o := range list {
			err = e.lateOne(ctx, o, done)
			if err != nil {
				return err
			}
			next.Tenant, next.Key, next.Disposal, next.Package = o.TenantID, o.Key, o.DisposalID, o.PackageID
		}
		if len(list) < atOnce {
			return nil
		}
	}
}

// lateOne destroys one, or says in its disposal why not.
func (e *Eraser) lateOne(ctx context.Context, o db.DisposalObject, done *Done) error {
	said, err := e.lateObject(ctx, o)
	if err != nil {
		f := fault.Of(err)
		if ctx.Err() != nil || (f.Kind != fault.KindUnavailable && f.Kind != fault.KindPrecondition) {
			return err
		}
		said = f.Error()
	}
	if said != "" {
		if !strings.Contains(said, o.Key) {
			said = o.Key + ": " + said
		}
		return e.waits(ctx, o.TenantID, o.DisposalID, db.DisposalItemsRow{PackageID: o.PackageID}, said, done)
	}
	done.Late++
	return e.DB.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).EndObjectTrouble(ctx, db.EndObjectTroubleParams{ID: o.DisposalID, Key: o.Key})
	})
}

func (e *Eraser) lateObject(ctx context.Context, o db.DisposalObject) (said string, err error) {
	err = e.DB.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		said, err = e.letGo(ctx, tx, o)
		return err
	})
	if err != nil || said != "" {
		return said, err
	}
	err = e.step("let go")
	if err == nil {
		err = e.destroy(ctx, o)
	}
	if err == nil {
		err = e.gone(ctx, o) // a copy that was under way
	}
	return "", err
}

// letGo forgets the row of an object to which nothing leads any more. said: something does, or a copy of it is being made.
func (e *Eraser) letGo(ctx context.Context, tx pgx.Tx, o db.DisposalObject) (said string, err error) {
	q := db.New(tx)
	err = q.LockDisposals(ctx, o.TenantID)
	if err != nil {
		return "", err
	}
	ids, err := q.ObjectOfKey(ctx, o.Key)
	if err != nil || len(ids) == 0 {
		return "", err
	}
	standing, err := q.UnitsIn(ctx, db.UnitsInParams{Object: ids[0], TenantID: o.TenantID})
	if err != nil {
		return "", err
	}
	if len(standing) > 0 {
		return fmt.Sprintf("%s holds %d documents that stand: the service moves them first", o.Key, len(standing)), nil
	}
	copies, err := q.LockCopiesOf(ctx, ids)
	if err == nil {
		said, err = busy(ctx, q, copies)
	}
	if err == nil && said == "" {
		said, err = e.absent(ctx, q, ids, copies)
	}
	if err != nil || said != "" {
		return said, err
	}
	for _, act := range []func() error{
		func() error { return q.ForgetDamages(ctx, ids) },
		func() error { return q.ForgetCopies(ctx, ids) },
		func() error { return q.ForgetObjects(ctx, ids) },
		func() error {
			return telemetry.Audit(ctx, tx, telemetry.Act{Action: "object.erase", Resource: o.Key, Detail: map[string]string{"disposal": o.DisposalID.String(), "package": o.PackageID.String()}})
		},
	} {
		err = act()
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// forgotten passes over objects that have a row: they came to light after the mark, and may hold what stands.
func (e *Eraser) forgotten(ctx context.Context, tenant string, list []db.DisposalObject) ([]db.DisposalObject, error) {
	keys := make([]string, len(list))
	for i, o := range list {
		keys[i] = o.Key
	}
	var known []string
	err := e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		known, err = db.New(tx).ObjectKeysKnown(ctx, keys)
		return err
	})
	return slices.DeleteFunc(list, func(o db.DisposalObject) bool { return slices.Contains(known, o.Key) }), err
}

// listUnadopted writes down the place in the replicas of a package that was sealed before there were any: the service may be bringing it there,
// and die between the bytes and their row.
func (e *Eraser) listUnadopted(ctx context.Context, q *db.Queries, disposal uuid.UUID, p db.Package, add func(kind, key string, sum []byte, size int64, what string) error) error {
	key := "tenants/" + p.TenantID + "/packages/" + p.ID.String() + ".zip"
	for _, r := range e.Replicas {
		held, err := r.Holds(ctx, key)
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		if held {
			return add("object", key, p.ArchiveSha256, *p.ArchiveSize, "package")
		}
	}
	return q.InsertAbsentObject(ctx, db.InsertAbsentObjectParams{Disposal: disposal, Package: p.ID, TenantID: p.TenantID, Key: key, Sha256: p.ArchiveSha256, Size: *p.ArchiveSize, What: "package"})
}
