package conservation

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// settle gives places in the log to facts that wait, and gives how many waited. Its transaction sees one
// state of the database: what a fact says and the files that it speaks of belong together.
func (l *logbook) settle(ctx context.Context, conn *pgx.Conn) (int, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return 0, pg.Error(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after the commit it does nothing
	q := db.New(tx)
	waiting, err := q.PendingFacts(ctx, int32(l.cfg.Batch)) //nolint:gosec // at most 10000
	if err != nil || len(waiting) == 0 {
		return 0, pg.Error(err)
	}
	err = l.bearings.mayBegin(ctx, q)
	if err != nil {
		return 0, err
	}
	b := batch{q: q, at: l.now(), waiting: waiting}
	err = b.read(ctx)
	if err != nil {
		return 0, err
	}
	err = b.settle(ctx)
	if err != nil {
		return 0, err
	}
	err = tx.Commit(ctx)
	if err != nil {
		return 0, pg.Error(err)
	}
	return len(waiting), nil
}

// batch is what one settling knows.
type batch struct {
	q       *db.Queries
	at      time.Time
	waiting []db.LogPending

	files  map[uuid.UUID][][32]byte
	sealed map[uuid.UUID]db.SealedOfRow
	kept   map[uuid.UUID][]byte   // SHA-256 of reports
	last   map[uuid.UUID]lastLeaf // per subject
	tails  map[string]*tlog.Tail
}

type lastLeaf struct {
	revision int32
	objects  []tlog.Hash
}

func (b *batch) read(ctx context.Context) error {
	var units, packages, reports, subjects []uuid.UUID
	for _, w := range b.waiting {
		subjects = append(subjects, w.SubjectID)
		switch w.Kind {
		case "package":
			packages = append(packages, w.SubjectID)
		case kindReport:
			reports = append(reports, w.SubjectID)
		default:
			units = append(units, w.SubjectID)
		}
	}
	b.files, b.sealed, b.kept, b.last = map[uuid.UUID][][32]byte{}, map[uuid.UUID]db.SealedOfRow{}, map[uuid.UUID][]byte{}, map[uuid.UUID]lastLeaf{}
	digests, err := b.q.DigestsOf(ctx, units)
	if err != nil {
		return pg.Error(err)
	}
	for _, d := range digests {
		b.files[d.UnitID] = append(b.files[d.UnitID], [32]byte(d.Sha256))
	}
	if len(packages) > 0 {
		rows, err := b.q.SealedOf(ctx, packages)
		if err != nil {
			return pg.Error(err)
		}
		for _, p := range rows {
			b.sealed[p.ID] = p
		}
	}
	if len(reports) > 0 {
		rows, err := b.q.SumsOf(ctx, reports)
		if err != nil {
			return pg.Error(err)
		}
		for _, o := range rows {
			b.kept[o.ID] = o.Sha256
		}
	}
	leaves, err := b.q.LastLeaves(ctx, subjects)
	if err != nil {
		return pg.Error(err)
	}
	for _, row := range leaves {
		leaf, err := tlog.ParseLeaf(row.Entry)
		if err != nil {
			return fmt.Errorf("conservation: last leaf of %s: %w", row.SubjectID, err)
		}
		b.last[row.SubjectID] = lastLeaf{row.Revision, leaf.Objects}
	}
	return b.readTails(ctx)
}

// readTails reads where each tenant's chain ends. A tenant who is new gets the key that hides it.
func (b *batch) readTails(ctx context.Context) error {
	var tenants []string
	for _, w := range b.waiting {
		tenants = append(tenants, w.TenantID)
	}
	slices.Sort(tenants)
	tenants = slices.Compact(tenants)
	fresh := make([][]byte, len(tenants))
	for i := range fresh {
		fresh[i] = make([]byte, 32)
		_, _ = rand.Read(fresh[i]) // it never fails
	}
	err := b.q.AddTagKeys(ctx, db.AddTagKeysParams{Tenants: tenants, Keys: fresh})
	if err != nil {
		return pg.Error(err)
	}
	keys, err := b.q.TagKeys(ctx, tenants)
	if err != nil {
		return pg.Error(err)
	}
	b.tails = map[string]*tlog.Tail{}
	for _, k := range keys {
		b.tails[k.TenantID] = &tlog.Tail{Tenant: tlog.TenantTag(k.TagKey, k.TenantID)}
	}
	rows, err := b.q.Tails(ctx, tenants)
	if err != nil {
		return pg.Error(err)
	}
	for _, row := range rows {
		leaf, err := tlog.ParseLeaf(row.Entry)
		if err != nil {
			return fmt.Errorf("conservation: tail of %s: %w", row.TenantID, err)
		}
		tail := b.tails[row.TenantID]
		if leaf.Tenant != tail.Tenant {
			return fault.Internal("LOG_TENANT_KEY", "the key of tenant %s in log_tenant is not the one of its leaves: restore it", row.TenantID)
		}
		tail.Seq, tail.Last, tail.Index, tail.Time = leaf.Seq, tlog.LeafHash(row.Entry), row.Idx, leaf.Time
	}
	return nil
}

// settle writes the leaves and takes the facts from those that wait.
func (b *batch) settle(ctx context.Context) error {
	next, err := b.q.NextIndex(ctx)
	if err != nil {
		return pg.Error(err)
	}
	p := db.SettleLeavesParams{At: pg.Time(b.at)}
	var done []int64
	for _, w := range b.waiting {
		done = append(done, w.ID)
		kind, objects, note, err := b.objects(w)
		if err != nil {
			return err
		}
		last := b.last[w.SubjectID]
		if slices.Equal(last.objects, objects) {
			continue // two facts waited, and the first leaf said everything
		}
		tail := b.tails[w.TenantID]
		at := b.at.UTC().Truncate(time.Second)
		if at.Before(tail.Time) { // a clock that was set back: the chain's time stands still until it is made up
			at = tail.Time
		}
		leaf, err := tail.Next(kind, at, objects, note)
		if err != nil {
			return fmt.Errorf("conservation: leaf of %s: %w", w.SubjectID, err)
		}
		entry, err := leaf.Marshal()
		if err != nil {
			return fmt.Errorf("conservation: leaf of %s: %w", w.SubjectID, err)
		}
		b.last[w.SubjectID] = lastLeaf{last.revision + 1, objects}
		tail.Seq, tail.Last, tail.Index, tail.Time = leaf.Seq, tlog.LeafHash(entry), next, leaf.Time
		p.Indexes, p.Tenants, p.Sequences = append(p.Indexes, next), append(p.Tenants, w.TenantID), append(p.Sequences, int64(leaf.Seq)) //nolint:gosec // below 2^53
		p.Subjects, p.Revisions, p.Entries = append(p.Subjects, w.SubjectID), append(p.Revisions, last.revision+1), append(p.Entries, entry)
		next++
	}
	err = b.q.SettleLeaves(ctx, p)
	if err != nil {
		return pg.Error(err)
	}
	return pg.Error(b.q.DropPending(ctx, done))
}

// objects are what the leaf of a fact names.
func (b *batch) objects(w db.LogPending) (kind string, objects []tlog.Hash, note string, err error) {
	id := w.SubjectID.String()
	if w.Kind == "package" {
		p, ok := b.sealed[w.SubjectID]
		if !ok || len(p.ArchiveSha256) != 32 || len(p.SignedSha256) != 32 || len(p.StampSha256) != 32 {
			return "", nil, "", fault.Internal("LOG_PACKAGE_MISSING", "package %s was sealed and its row lacks digests: the database was changed by hand", id)
		}
		return custody.Sealed, custody.PackageObjects(id, [32]byte(p.ArchiveSha256), [32]byte(p.SignedSha256), [32]byte(p.StampSha256)), "", nil
	}
	if w.Kind == kindReport {
		sum, ok := b.kept[w.SubjectID]
		if !ok {
			return "", nil, "", fault.Internal("LOG_REPORT_MISSING", "report %s was kept and has no object: the database was changed by hand", id)
		}
		return custody.Reported, custody.ReportObjects(id, [32]byte(sum)), "", nil
	}
	files := b.files[w.SubjectID]
	if len(files) == 0 {
		return "", nil, "", fault.Internal("LOG_UNIT_MISSING", "unit %s was taken in charge and has no files: the database was changed by hand", id)
	}
	objects, note = custody.UnitObjects(id, files)
	if b.last[w.SubjectID].revision > 0 {
		return custody.Extended, objects, note, nil
	}
	return custody.Taken, objects, note, nil
}
