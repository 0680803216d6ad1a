// Package eraser destroys what a disposal (scarto) was authorised and released for: every copy of a package, of what was taken in
// for it, and of what was made from it, in all replicas and in the platform's store.
//
// It owns the only code of the archive that deletes, and runs in a process of its own with credentials of its own: those of the
// service need no right to delete. It decides nothing: it refuses what is not released by two persons, what is held, what has not
// reached the end of its term, and what other documents still need. A store that keeps an object under a lock (S3 Object Lock in
// compliance mode) keeps it from this program too: the package waits, and the disposal says why.
//
// What it has begun it goes on with after any crash: each package is first marked, with everything that has to go, in one
// transaction; then the objects of the archive go, one by one, each of which may go twice; then the mark says that they are gone.
// What the platform's store has of the same documents goes in a later run: the service asks the others first what they have of them
// and what they still need, and this program takes what nobody needs, if it lies there as it did when they were asked.
package eraser

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/position"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// Store is where copies are: a replica of the archive, or the platform's store.
type Store interface {
	// Destroy removes every copy of an object, damaged ones that were set apart and former versions too. What is not there is gone
	// already. Unavailable OBJECT_LOCKED when the store keeps it.
	Destroy(ctx context.Context, key string) error
	// Holds says whether anything of it is left.
	Holds(ctx context.Context, key string) (bool, error)
	String() string
}

// Replica is one of the places in which the archive keeps its objects.
type Replica interface {
	Store
	// List gives the keys below a prefix, each once.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Read gives an object whole, as it lies there.
	Read(ctx context.Context, key string) ([]byte, error)
}

// Blobs is the platform's store. What lies in it may be needed by others: it goes only as it lay when they were asked.
type Blobs interface {
	Store
	// Erase removes an object that has the mark (blob.Mark) which it had when it was asked for. changed: it was stored anew
	// since, and stays.
	Erase(ctx context.Context, key, mark string) (changed bool, err error)
}

// Eraser destroys. All fields are needed but Step.
type Eraser struct {
	DB       *pg.DB
	Replicas []Replica
	// Blobs is the platform's store; its keys are tenant/SHA-256 in hex.
	Blobs Blobs
	Log   *slog.Logger
	Now   func() time.Time
	// Step is called between two acts, for tests that end the program there.
	Step func(where string) error
	// KeepDistributions is for how long the platform's store has a distribution that is ready; 0: without end.
	KeepDistributions time.Duration
}

// Done is what a run did.
type Done struct {
	Erased  int // packages
	Waiting int // that could not be erased now; their disposals say why
	Copies  int // of destroyed documents, in the platform's store
	Expired int // distributions that reached the end of their term
	Spare   int // files of these, and files that were stored on the way to distributions
	Kept    int // of these, that could not be erased now; the log says why
	Late    int // objects that were found to hold what was destroyed before
	Asking  int // packages whose copies the other services have not been asked for, or have not answered for
}

// Run erases what is released now.
func (e *Eraser) Run(ctx context.Context) (Done, error) {
	var done Done
	ctx = telemetry.WithActor(ctx, "service:eraser")
	err := e.behind(ctx)
	if err != nil {
		return done, err
	}
	err = e.released(ctx, &done)
	if err != nil {
		return done, fmt.Errorf("eraser: %w", err)
	}
	err = e.late(ctx, &done)
	if err == nil {
		err = e.expire(ctx, &done)
	}
	if err == nil {
		err = e.spare(ctx, &done)
	}
	if err != nil {
		return done, fmt.Errorf("eraser: %w", err)
	}
	return done, nil
}

// atOnce is how many rows of a sweep are read at a time. Each goes through all of them: what waits, such as for the end of a lock, keeps nothing
// that comes after it waiting.
const atOnce = 100

// released goes on with every disposal that is released.
func (e *Eraser) released(ctx context.Context, done *Done) error {
	for next := (db.ReleasedDisposalsParams{Page: atOnce}); ; {
		var list []db.ReleasedDisposalsRow
		err := e.DB.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			list, err = db.New(tx).ReleasedDisposals(ctx, next)
			return err
		})
		if err != nil {
			return fmt.Errorf("released disposals: %w", err)
		}
		for _, d := range list {
			err = e.disposal(ctx, d.TenantID, d.ID, done)
			if err != nil {
				return fmt.Errorf("disposal %s: %w", d.ID, err)
			}
			next.After = d.ID
		}
		if len(list) < atOnce {
			return nil
		}
	}
}

// behind refuses to go by a database that was put back from a backup: it may have forgotten what holds documents.
func (e *Eraser) behind(ctx context.Context) error {
	var row db.GetPositionRow
	read := func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).GetPosition(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	}
	err := e.DB.System(ctx, read)
	if err != nil {
		return fmt.Errorf("eraser: position: %w", err)
	}
	ahead := int64(0)
	for _, x := range e.Replicas {
		for _, prefix := range position.Prefixes(row.ToldAt, e.Now()) {
			for key, err := range x.List(ctx, prefix) {
				if err != nil {
					return fmt.Errorf("eraser: position: %w", err)
				}
				ahead = max(ahead, position.Number(key))
			}
		}
	}
	err = e.DB.System(ctx, read) // again: it may have gone on meanwhile
	if err != nil {
		return fmt.Errorf("eraser: position: %w", err)
	}
	if row.BehindAt != nil || ahead > row.Number {
		return fault.Precondition("ARCHIVE_BEHIND", "the database is older than what the replicas hold (it knows position %d, they %d), as after a backup was put back: "+
			"run `ceralacca conserve check restore`, set again what holds documents, then this", row.Number, ahead)
	}
	return nil
}

func (e *Eraser) step(where string) error {
	if e.Step == nil {
		return nil
	}
	return e.Step(where)
}

func (e *Eraser) disposal(ctx context.Context, tenant string, id uuid.UUID, done *Done) error {
	var items []db.DisposalItemsRow
	err := e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		items, err = db.New(tx).DisposalItems(ctx, id)
		return err
	})
	if err != nil {
		return err
	}
	found := strays{tenant: tenant}
	for _, item := range slices.Backward(items) { // what was added later lies in later packages, and goes before what it was added to
		if item.State != "AUTHORIZED" && item.State != "ERASING" {
			err = e.rest(ctx, tenant, id, item, done)
			if err != nil {
				return err
			}
			continue
		}
		said, err := e.item(ctx, tenant, id, item, &found)
		if err != nil {
			f := fault.Of(err)
			if ctx.Err() != nil || (f.Kind != fault.KindUnavailable && f.Kind != fault.KindPrecondition) {
				return err
			}
			said = f.Error()
		}
		if said == "" {
			done.Erased++
			done.Asking++ // from now on
			continue
		}
		err = e.waits(ctx, tenant, id, item, said, done)
		if err != nil {
			return err
		}
	}
	return nil
}

// waits says in the disposal why something is left alone until the next run.
func (e *Eraser) waits(ctx context.Context, tenant string, id uuid.UUID, item db.DisposalItemsRow, said string, done *Done) error {
	done.Waiting++
	e.Log.WarnContext(ctx, "a package could not be erased", "disposal", id, "package", item.PackageID, "reason", said)
	return e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetDisposalTrouble(ctx, db.SetDisposalTroubleParams{ID: id, LastError: item.PackageID.String() + ": " + said})
	})
}

// item erases one package. said tells why it was left alone.
func (e *Eraser) item(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow, found *strays) (said string, err error) {
	if item.State == "AUTHORIZED" {
		err = e.look(ctx, found)
		if err == nil {
			said, err = e.begin(ctx, tenant, disposal, item.PackageID, found)
		}
		if err != nil || said != "" {
			return said, err
		}
	}
	err = e.step("marked")
	if err != nil {
		return "", err
	}
	var list []db.DisposalObject
	err = e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		list, err = db.New(tx).DisposalObjects(ctx, db.DisposalObjectsParams{Disposal: disposal, Package: item.PackageID})
		return err
	})
	if err != nil {
		return "", err
	}
	list = slices.DeleteFunc(list, func(o db.DisposalObject) bool { return o.Kind != "object" }) // of blobs others are asked first
	list, err = e.forgotten(ctx, tenant, list)
	if err != nil {
		return "", err
	}
	for _, o := range list {
		err = e.destroy(ctx, o)
		if err != nil {
			return "", err
		}
	}
	for _, o := range list { // a repair that was under way may have made a copy again
		err = e.gone(ctx, o)
		if err != nil {
			return "", err
		}
	}
	err = e.step("gone")
	if err != nil {
		return "", err
	}
	return "", e.end(ctx, tenant, disposal, item.PackageID)
}

// begin marks a package, in one transaction with the last look at everything that could keep it. From then on there is no way back.
func (e *Eraser) begin(ctx context.Context, tenant string, disposal, pkg uuid.UUID, found *strays) (said string, err error) {
	now := pg.Time(e.Now())
	err = e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.LockDisposals(ctx, tenant)
		if err != nil {
			return err
		}
		kept, wait, err := e.keeps(ctx, tx, tenant, disposal, pkg, now)
		switch {
		case err != nil:
			return err
		case kept != "":
			said = kept
			_, err = q.SetDisposalItem(ctx, db.SetDisposalItemParams{Disposal: disposal, Package: pkg, State: "KEPT", Note: kept, FromStates: []string{"AUTHORIZED"}})
			return err
		case wait != "":
			said = wait
			return nil
		}
		ids, err := goes(ctx, q, pkg)
		if err != nil {
			return err
		}
		copies, err := q.LockCopiesOf(ctx, ids) // nobody begins to write one
		if err == nil {
			wait, err = busy(ctx, q, copies)
		}
		if err == nil && wait == "" {
			wait, err = e.absent(ctx, q, ids, copies)
		}
		if err != nil || wait != "" {
			said = wait
			return err
		}
		left, wait, err := found.of(ctx, q, pkg)
		if err != nil || wait != "" {
			said = wait
			return err
		}
		err = e.mark(ctx, q, tenant, disposal, pkg, ids, now, left)
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "package.erase", Resource: "tenants/" + tenant + "/packages/" + pkg.String(), Detail: map[string]string{"disposal": disposal.String()}})
	})
	return said, err
}

// keeps says why a package is kept for good, or why it has to wait.
func (e *Eraser) keeps(ctx context.Context, tx pgx.Tx, tenant string, disposal, pkg uuid.UUID, now time.Time) (kept, wait string, err error) {
	q := db.New(tx)
	d, err := q.LockDisposal(ctx, db.LockDisposalParams{ID: disposal, TenantID: tenant})
	if err != nil {
		return "", "", err
	}
	p, err := q.GetPackage(ctx, pkg)
	if err != nil {
		return "", "", err
	}
	held, err := q.HoldOver(ctx, db.HoldOverParams{TenantID: tenant, Package: pkg})
	if err != nil {
		return "", "", err
	}
	due, err := q.DisposalDue(ctx, db.DisposalDueParams{Package: pkg, Now: now})
	if err != nil {
		return "", "", err
	}
	switch {
	case d.State != "RELEASED" || d.FirstBy == "" || d.SecondBy == "" || d.FirstBy == d.SecondBy:
		return "", "the disposal is " + d.State + ": it is not released by two persons", nil
	case p.State != "SEALED":
		return "the package is " + p.State, "", nil
	case len(held) > 0:
		return "hold " + held[0].ID.String() + " covers it", "", nil
	case !due:
		return "its term is not over", "", nil
	}
	added, err := q.StandingIntegrations(ctx, db.StandingIntegrationsParams{Disposal: disposal, Package: pkg})
	switch {
	case err != nil:
		return "", "", err
	case len(added) > 0 && added[0].Goes:
		return "", "what later receipts added to its documents goes first", nil
	case len(added) > 0:
		return "unit " + added[0].ID.String() + " was added to a document of it and stands: what it belongs to is not destroyed before it", "", nil
	}
	open, err := q.OpenHandOvers(ctx, db.OpenHandOversParams{TenantID: tenant, Package: pkg})
	if err != nil || open > 0 {
		return "", "an export or a distribution with its documents is being built", err
	}
	objects, err := q.ObjectsOfPackage(ctx, pkg)
	if err != nil || len(objects) == 0 {
		return "", "", err
	}
	neighbours, err := q.NeighboursIn(ctx, db.NeighboursInParams{Objects: objects, TenantID: tenant, Package: pkg})
	if err != nil || len(neighbours) == 0 {
		return "", "", err
	}
	return "", fmt.Sprintf("%d other documents were taken in together with its own: the service moves them first", len(neighbours)), nil
}

// goes are the objects of a package: its own, and those that it was taken in with.
func goes(ctx context.Context, q *db.Queries, pkg uuid.UUID) ([]uuid.UUID, error) {
	ids, err := q.ObjectsOfPackage(ctx, pkg)
	if err != nil {
		return nil, err
	}
	p, err := q.GetPackage(ctx, pkg)
	if err == nil && p.ObjectID != nil {
		ids = append(ids, *p.ObjectID)
	}
	return ids, err
}

// absent says which good copy is not where the rows have it. From a disk that is not mounted everything is gone already: were it taken
// for empty, the report would say that all is destroyed, and the disk would come back with it.
func (e *Eraser) absent(ctx context.Context, q *db.Queries, ids []uuid.UUID, copies []db.LockCopiesOfRow) (wait string, err error) {
	objects, err := q.GetObjects(ctx, ids)
	if err != nil {
		return "", err
	}
	good := map[uuid.UUID]int{}
	for _, c := range copies {
		if c.State == "GOOD" {
			good[c.ObjectID]++
		}
	}
	for _, o := range objects {
		var without []string
		for _, r := range e.Replicas {
			held, err := r.Holds(ctx, o.Key)
			if err != nil {
				return "", fmt.Errorf("%s: %w", r, err)
			}
			if !held {
				without = append(without, r.String())
			}
		}
		if len(e.Replicas)-len(without) < good[o.ID] {
			return fmt.Sprintf("%s should be in %d replicas, and is not in %s: mount the disk or name the right one; what is lost is made again by the service, after `ceralacca conserve check inventory`",
				o.Key, good[o.ID], strings.Join(without, " and ")), nil
		}
	}
	return "", nil
}

// busy says whether one of the copies is being made just now. Who makes one holds a lock for as long as he lives; a claim without one is
// of a release that had none, and the service takes it over.
func busy(ctx context.Context, q *db.Queries, copies []db.LockCopiesOfRow) (wait string, err error) {
	for _, c := range copies {
		if c.ClaimedAt == nil {
			continue
		}
		gone := false
		if c.ClaimedBy != nil {
			gone, err = q.ClaimantGone(ctx, *c.ClaimedBy)
		}
		if err != nil || !gone {
			return "a copy of it is being made in the " + c.Replica + " replica", err
		}
	}
	return "", nil
}

// mark writes down what has to go and lets go of it: checks and repairs know of it no more.
func (e *Eraser) mark(ctx context.Context, q *db.Queries, tenant string, disposal, pkg uuid.UUID, ids []uuid.UUID, now time.Time, left []stray) error {
	err := e.list(ctx, q, tenant, disposal, pkg, ids)
	for i := 0; err == nil && i < len(left); i++ {
		err = q.InsertDisposalObject(ctx, db.InsertDisposalObjectParams{
			Disposal: disposal, Package: pkg, TenantID: tenant, Kind: "object", Key: left[i].key, Sha256: left[i].sum[:], Size: left[i].size, What: "left of an attempt to take documents in",
		})
	}
	if err != nil {
		return err
	}
	said := "destroyed by tenants/" + tenant + "/disposals/" + disposal.String()
	for _, act := range []func() error{
		func() error { return q.ForgetDamages(ctx, ids) },
		func() error { return q.ForgetCopies(ctx, ids) },
		func() error { return q.ForgetObjects(ctx, ids) },
		func() error { return q.DropSearchOf(ctx, pkg) },
		func() error { return q.DropOwedSearchOf(ctx, pkg) },
		func() error { return q.ForgetFiles(ctx, pkg) },
		func() error { return q.RememberKeys(ctx, db.RememberKeysParams{Package: pkg, At: now}) },
		func() error { return q.DestroyUnits(ctx, db.DestroyUnitsParams{Package: pkg, Problem: said}) },
		func() error {
			n, err := q.SetPackageErasing(ctx, db.SetPackageErasingParams{Package: pkg, Disposal: &disposal})
			return moved(n, err)
		},
		func() error {
			n, err := q.BeginErasing(ctx, db.BeginErasingParams{Disposal: disposal, Package: pkg, At: &now})
			return moved(n, err)
		},
	} {
		err = act()
		if err != nil {
			return err
		}
	}
	return nil
}

func moved(n int64, err error) error {
	if err == nil && n != 1 {
		err = fault.Internal("DISPOSAL_MOVED", "the package or its place on the list is not as it was a moment ago")
	}
	return err
}

// list writes down objects of the archive and blobs of the platform's store.
func (e *Eraser) list(ctx context.Context, q *db.Queries, tenant string, disposal, pkg uuid.UUID, ids []uuid.UUID) error {
	add := func(kind, key string, sum []byte, size int64, what string) error {
		return q.InsertDisposalObject(ctx, db.InsertDisposalObjectParams{Disposal: disposal, Package: pkg, TenantID: tenant, Kind: kind, Key: key, Sha256: sum, Size: size, What: what})
	}
	p, err := q.GetPackage(ctx, pkg)
	if err == nil && p.ObjectID == nil {
		err = e.listUnadopted(ctx, q, disposal, p, add)
	}
	if err != nil {
		return err
	}
	objects, err := q.GetObjects(ctx, ids)
	for i := 0; err == nil && i < len(objects); i++ {
		err = add("object", objects[i].Key, objects[i].Sha256, objects[i].Size, objects[i].Kind)
	}
	if err != nil {
		return err
	}
	blobs, err := q.BlobsOfPackage(ctx, pkg)
	for i := 0; err == nil && i < len(blobs); i++ {
		err = add("blob", tenant+"/"+hex.EncodeToString(blobs[i].Sha256), blobs[i].Sha256, blobs[i].Size, blobs[i].What)
	}
	if err != nil {
		return err
	}
	parts, err := q.PartsOfPackage(ctx, db.PartsOfPackageParams{TenantID: tenant, Package: pkg})
	for i := 0; err == nil && i < len(parts); i++ {
		err = add("blob", tenant+"/"+hex.EncodeToString(parts[i].Sha256), parts[i].Sha256, parts[i].Size, "upload")
	}
	if err != nil {
		return err
	}
	holding, err := q.ExportsOf(ctx, db.ExportsOfParams{TenantID: tenant, Package: pkg})
	if err != nil {
		return err
	}
	exports, err := q.ExportBlobsOf(ctx, db.ExportBlobsOfParams{TenantID: tenant, Exports: holding})
	for i := 0; err == nil && i < len(exports); i++ {
		err = add("blob", tenant+"/"+hex.EncodeToString(exports[i].Sha256), exports[i].Sha256, exports[i].Size, "export")
	}
	if err != nil {
		return err
	}
	shown, err := q.DistributionsOf(ctx, db.DistributionsOfParams{TenantID: tenant, Package: pkg})
	ids = nil
	was := map[string]bool{} // what distributions are, and what expired ones were that are in the store yet
	for i := 0; err == nil && i < len(shown); i++ {
		was[string(shown[i].Sha256)] = true
		if shown[i].State == "READY" {
			err = add("blob", tenant+"/"+hex.EncodeToString(shown[i].Sha256), shown[i].Sha256, *shown[i].Size, "distribution")
		}
		ids = append(ids, shown[i].ID)
	}
	if err != nil {
		return err
	}
	made, err := q.DistributionBlobsOf(ctx, ids)
	for i := 0; err == nil && i < len(made); i++ {
		what := "on the way to a distribution"
		if was[string(made[i].Sha256)] {
			what = "distribution"
		}
		err = add("blob", tenant+"/"+hex.EncodeToString(made[i].Sha256), made[i].Sha256, made[i].Size, what)
	}
	return err
}

// destroy removes one thing everywhere.
func (e *Eraser) destroy(ctx context.Context, o db.DisposalObject) error {
	if o.Gone {
		return nil
	}
	for _, s := range e.Replicas {
		err := s.Destroy(ctx, o.Key)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		err = e.step("destroyed in " + s.String())
		if err != nil {
			return err
		}
	}
	return e.DB.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetObjectGone(ctx, db.SetObjectGoneParams{Disposal: o.DisposalID, Package: o.PackageID, Kind: o.Kind, Key: o.Key})
	})
}

// gone looks again, and removes what came back.
func (e *Eraser) gone(ctx context.Context, o db.DisposalObject) error {
	for _, s := range e.Replicas {
		left, err := s.Holds(ctx, o.Key)
		if err == nil && left {
			err = s.Destroy(ctx, o.Key)
		}
		if err == nil && left {
			left, err = s.Holds(ctx, o.Key)
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", s, err)
		case left:
			return fault.Unavailable("OBJECT_NOT_GONE", "%s still holds %s", s, o.Key)
		}
	}
	return nil
}

func (e *Eraser) end(ctx context.Context, tenant string, disposal, pkg uuid.UUID) error {
	now := pg.Time(e.Now())
	return e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).SetErased(ctx, db.SetErasedParams{Disposal: disposal, Package: pkg, At: &now})
		return moved(n, err)
	})
}

// Locked says that err means an object which its store keeps.
func Locked(err error) bool { return errors.Is(err, fault.Unavailable("OBJECT_LOCKED", "")) }
