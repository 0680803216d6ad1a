package conservation

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// place compares where a unit's row has its files with the object in hand, whose list has them too. Files whose object no replica holds were moved
// here after the row was backed up. Where no file leads here all the same, it is written down that the object tells of the unit.
func (r *restoring) place(ctx context.Context, tx pgx.Tx, row db.Unit, held []db.UnitFile, u record) error {
	if r.o.Kind != kindIntake || row.State == "DESTROYED" || row.State == "REFUSED" || r.leads(held, u) {
		return nil
	}
	q := db.New(tx)
	row, err := q.LockUnitByKey(ctx, db.LockUnitByKeyParams{TenantID: r.tenant, UnitKey: row.UnitKey}) // receipts may be joining it
	if errors.Is(err, pgx.ErrNoRows) || err == nil && row.ID != u.Unit {
		return nil
	}
	if err == nil {
		held, err = q.FilesOf(ctx, []uuid.UUID{u.Unit})
	}
	if err != nil {
		return fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
	}
	for _, h := range held {
		x := r.elsewhere(h, u)
		if x == nil {
			continue
		}
		away, err := r.isAway(ctx, tx, *h.ObjectID)
		if err == nil && away {
			r.try.moved++
			err = q.MoveFile(ctx, db.MoveFileParams{Unit: u.Unit, Ordinal: h.Ordinal, Object: x.Object, Place: x.Offset})
		}
		if err != nil {
			return fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
		}
	}
	return r.leave(ctx, q, u.Unit)
}

// leads says that a unit's row leads to the object in hand for all that its list has here.
func (r *restoring) leads(held []db.UnitFile, u record) bool {
	return slices.ContainsFunc(held, func(h db.UnitFile) bool { return h.ObjectID != nil && *h.ObjectID == r.o.ID }) &&
		!slices.ContainsFunc(held, func(h db.UnitFile) bool { return r.elsewhere(h, u) != nil })
}

// elsewhere gives the file as the object in hand lists it, where its row leads to another; nil: it does not.
func (r *restoring) elsewhere(h db.UnitFile, u record) *recordFile {
	if h.ObjectID == nil || *h.ObjectID == r.o.ID {
		return nil
	}
	for _, x := range u.Files {
		if x.Object != nil && *x.Object == r.o.ID && h.Role == x.Role && h.ReceiptType == x.ReceiptType && h.FileName == x.FileName && hex.EncodeToString(h.Sha256) == x.SHA256 {
			return &x
		}
	}
	return nil
}

// repeat is a unit under another id of which an attempt left bytes: they go with the one that holds its key.
func (r *restoring) repeat(ctx context.Context, tx pgx.Tx, u record) error {
	if r.o.Kind != kindIntake {
		return nil
	}
	q := db.New(tx)
	holder, err := q.UnitOfKey(ctx, db.UnitOfKeyParams{TenantID: r.tenant, UnitKey: u.Key})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.leave(ctx, q, holder.ID)
}

func (r *restoring) leave(ctx context.Context, q *db.Queries, unit uuid.UUID) error {
	return q.LeaveBytes(ctx, db.LeaveBytesParams{TenantID: r.tenant, Objects: []uuid.UUID{r.o.ID}, Units: []uuid.UUID{unit}})
}

// hold says whether a replica lists an object. Of one that does not answer nothing is known.
func (r *replicas) hold(ctx context.Context, key string) (bool, error) {
	for _, x := range r.all {
		for e, err := range x.List(ctx, key) {
			if err != nil {
				return false, err
			}
			if e.Key == key {
				return true, nil
			}
		}
	}
	return false, nil
}

// condemn leaves the object in hand to the eraser: it lists what was destroyed beside what stands. All that stands has its rows now, and is moved
// out of it by and by, as it is before any destruction.
func (r *restoring) condemn(ctx context.Context) error {
	var names []string
	err := r.s.db.Tx(telemetry.WithActor(ctx, "service:conservation"), r.tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).LockDisposals(ctx, r.tenant)
		if err == nil {
			names, err = condemn(ctx, tx, r.f, r.tenant, nameOf(r.o), r.done.destroyed, "found by a restore beside what stands")
		}
		return err
	})
	for i := 0; err == nil && i < len(names); i++ {
		r.f.note("%s holds bytes of documents that %s destroyed: what stands in it is moved, and the eraser destroys it", r.o.Key, names[i])
	}
	return err
}

// takenBefore says that a record tells of an earlier taking of a unit than its row does, with other metadata: a database that was put back had
// forgotten it, and the event came again to a release that writes them in another way. What joins a unit later leaves the time of its taking.
func takenBefore(state string, taken time.Time, metadata []byte, u record) bool {
	return state == "TAKEN_IN_CHARGE" && u.Taken.Before(taken) &&
		slices.ContainsFunc(u.Files, func(x recordFile) bool { return x.Role == "metadata" && x.SHA256 != hex.EncodeToString(metadata) })
}

// first gives a unit the metadata with which it was taken in first: they are in the receipt that its owner has, and in the package if it was sealed.
func (r *restoring) first(ctx context.Context, tx pgx.Tx, row db.Unit, held []db.UnitFile, u record) (bool, error) {
	if !r.tellsOfFirst(row, held, u) {
		return false, nil
	}
	q := db.New(tx)
	row, err := q.LockUnitByKey(ctx, db.LockUnitByKeyParams{TenantID: r.tenant, UnitKey: row.UnitKey})
	if errors.Is(err, pgx.ErrNoRows) || err == nil && row.ID != u.Unit {
		return false, nil
	}
	if err == nil {
		held, err = q.FilesOf(ctx, []uuid.UUID{u.Unit})
	}
	if err != nil {
		return false, fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
	}
	if !r.tellsOfFirst(row, held, u) {
		return false, nil
	}
	was := recordOf(row, facts{}, held)
	lacking := func(a, b []recordFile) bool {
		return slices.ContainsFunc(b, func(x recordFile) bool { return lacks(a, x) })
	}
	if lacking(was.Files, u.Files) || lacking(u.Files, was.Files) { // its metadata tell of what came later too
		r.try.say(func() {
			r.f.note("%s was taken in twice, with other files: its row keeps the metadata of the second time", unitName(r.tenant, u.Unit))
		})
		return false, nil
	}
	raw, err := json.Marshal(u.Facts)
	if err != nil {
		return false, fmt.Errorf("conservation: facts of unit %s: %w", u.Unit, err)
	}
	u.Files = slices.Clone(u.Files)
	for i, x := range u.Files { // what lies in an object that is gone since lies where the second time put it
		at := slices.IndexFunc(was.Files, func(h recordFile) bool { return !lacks([]recordFile{h}, x) })
		if x.Object == nil || x.Role == "metadata" || at < 0 {
			continue
		}
		away, err := r.isAway(ctx, tx, *x.Object)
		if err != nil {
			return false, err
		}
		if away {
			u.Files[i].Object, u.Files[i].Offset = was.Files[at].Object, was.Files[at].Offset
		}
	}
	err = q.DropFiles(ctx, u.Unit)
	if err == nil {
		err = r.files(ctx, tx, u)
	}
	if err == nil {
		err = q.TakenFirst(ctx, db.TakenFirstParams{ID: u.Unit, Facts: raw, Taken: pg.Time(u.Taken)})
	}
	if err != nil {
		return false, fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
	}
	r.try.twice++
	return true, nil
}

func (r *restoring) tellsOfFirst(row db.Unit, held []db.UnitFile, u record) bool {
	return r.o.Kind == kindIntake && slices.ContainsFunc(held, func(h db.UnitFile) bool {
		return h.Role == "metadata" && takenBefore(row.State, row.CreatedAt, h.Sha256, u)
	})
}
