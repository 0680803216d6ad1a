package conservation

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// Stages of a restore, in their order.
const (
	restoreObjects  = ""
	restoreEvidence = "evidence"
	restoreCopies   = "copies"
	restoreRows     = "rows"
)

// restore writes back what is lost, from the second replica alone: rows of its objects, copies of the primary one, and
// rows of units, packages and search. It adds and never changes: what is there stays as it is, but for receipts that came to a unit after
// its row was backed up. The log is not made from packages: its leaves and checkpoints come from the database's own backup, and its
// witnesses know the last ones.
func (s *Service) restore(ctx context.Context, f *findings) error {
	f.What = "rows and primary copies made again from the second replica"
	c, err := s.resume(ctx, f, f.Tenant, false)
	if err != nil {
		return err
	}
	err = s.bearings.tend(ctx)
	if err != nil {
		return err
	}
	second := s.replicas.named(secondReplica)
	prefix := "tenants/"
	if f.Tenant != "" {
		prefix += f.Tenant + "/"
	}
	stages := []struct {
		name string
		run  func() error
	}{
		{restoreObjects, func() error { return s.adoptObjects(ctx, f, c, second, prefix) }},
		{restoreEvidence, func() error { return s.adoptEvidence(ctx, f, second, prefix) }},
		{restoreCopies, func() error { return s.restorePrimary(ctx, f, c, prefix) }},
		{restoreRows, func() error { return s.restoreTenants(ctx, f, c, second) }},
	}
	for len(stages) > 1 && stages[0].name != c.Stage { // done by a former round
		stages = stages[1:]
	}
	for _, stage := range stages {
		if !c.more {
			c.Stage = stage.name
			err = stage.run()
		}
		if err != nil {
			return err
		}
	}
	if !c.more && f.Tenant == "" {
		err = s.bearings.caughtUp(ctx, f)
		if err != nil {
			return err
		}
	}
	c.halted(f)
	return nil
}

// adoptObjects makes the rows of objects that no row knows, in the order of their keys.
func (s *Service) adoptObjects(ctx context.Context, f *findings, c *cursor, second *replica, prefix string) error {
	adopted := 0
	for e, err := range s.strangers(ctx, second, prefix, func(db.ObjectsByKeyRow, *vault.Entry) error { return nil }) {
		if err != nil {
			return err
		}
		if e.Key <= c.Key {
			continue
		}
		ok, err := s.adoptObject(ctx, f, second, e)
		if err != nil {
			return err
		}
		adopted += boolInt(ok)
		c.Key = e.Key
		if s.over(c) {
			break
		}
	}
	f.note("%d objects of the second replica had no row and have one now", adopted)
	return nil
}

// adoptObject makes the row of an object that no row knows, once its own content says that it is whole. The primary
// replica owes its copy then.
func (s *Service) adoptObject(ctx context.Context, f *findings, x *replica, e vault.Entry) (bool, error) {
	p := strings.Split(e.Key, "/")
	if evidenceKey.MatchString(e.Key) {
		return false, nil // its package's object is first
	}
	if len(p) < 4 || (p[2] != "intake" && (p[2] != "packages" || path.Ext(e.Key) != ".zip")) {
		f.note("%s has no row, and none is made from it", e.Key)
		return false, nil
	}
	id, err := uuid.Parse(strings.TrimSuffix(path.Base(e.Key), ".zip"))
	if err != nil {
		f.note("%s has no name of ours", e.Key)
		return false, nil //nolint:nilerr // it is told
	}
	condemned, err := s.condemned(ctx, f, x, e)
	if err != nil || condemned {
		return false, err
	}
	if p[2] == "intake" {
		n, err := s.fates(ctx, x, e)
		if err == nil && n.destroyed > 0 {
			done, err := s.condemnStray(ctx, f, e, n)
			if err != nil {
				return false, err
			}
			what := ""
			if n.lost == 0 {
				what = ": " + n.remedy(x, done)
			}
			f.bad(e.Key, "no rows are made of %d units in it: they were destroyed by a disposal%s", n.destroyed, what)
		}
		if err == nil && n.lost == 0 {
			return false, nil // left of an attempt that was made again
		}
		if err != nil && fault.Of(err).Kind == fault.KindUnavailable {
			return false, err
		}
	}
	file, sum, err := s.borrow(ctx, x, e)
	if err != nil {
		return false, err
	}
	defer drop(file)
	o := &object{id: id, kind: kindIntake, retain: time.Unix(id.Time().UnixTime()).UTC().AddDate(intakeYears, 0, 0), Object: vault.Object{Key: e.Key, Size: e.Size, SHA256: sum}}
	if p[2] == "packages" {
		var row db.Package
		row, err = s.packageFrom(ctx, file, e.Size, id, sum, f)
		if err == nil {
			err = s.knowTerm(ctx, f, &row, time.Time{})
		}
		o.id, o.kind, o.retain = uuid.NewSHA1(objectSpace, id[:]), kindPackage, retainedUntil(row)
	} else {
		err = intakeWhole(file, e, p[1])
	}
	if err != nil {
		f.bad(e.Key, "no row is made of it: %v", err)
		return false, nil //nolint:nilerr // it is told
	}
	o.to = []*replica{x}
	f.Checked++
	f.Bytes += e.Size
	return s.adoptRow(ctx, p[1], o)
}

// adoptRow writes the row of an object, unless a disposal has begun with it.
func (s *Service) adoptRow(ctx context.Context, tenant string, o *object) (adopted bool, err error) {
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.LockDisposals(ctx, tenant)
		if err != nil {
			return err
		}
		by, err := q.CondemnedBy(ctx, db.CondemnedByParams{Tenant: tenant, Key: o.Key})
		if err != nil || len(by) > 0 { // the eraser began with it while it was read
			return err
		}
		adopted = true
		return s.replicas.record(ctx, tx, tenant, []*object{o})
	})
	return adopted, err
}

// intakeWhole compares the files in an intake object with what its list says of them. The list is no more to be relied on than the files:
// where a file lies and how long it is may be anything.
func intakeWhole(file *os.File, e vault.Entry, tenant string) error {
	units, err := unitsListed(file, e.Size, tenant)
	if err != nil {
		return err
	}
	for id, u := range units {
		for _, part := range u.Files {
			if part.Object == nil || part.Offset == nil || path.Base(e.Key) != part.Object.String()+".zip" {
				continue // of another object of the same transaction
			}
			if part.Size < 0 || *part.Offset < 0 || *part.Offset > e.Size-part.Size {
				return fmt.Errorf("unit %s: %s is to lie at %d with %d bytes, and the object has %d", id, part.FileName, *part.Offset, part.Size, e.Size)
			}
			sum := sha256.New()
			_, err = io.Copy(sum, io.NewSectionReader(file, *part.Offset, part.Size))
			if err != nil || hex.EncodeToString(sum.Sum(nil)) != part.SHA256 {
				return fmt.Errorf("unit %s: %s is not the file that was taken in", id, part.FileName)
			}
		}
	}
	return nil
}

// packageNote is package.json.
type packageNote struct {
	Package uuid.UUID       `json:"package"`
	Tenant  string          `json:"tenant"`
	Year    int32           `json:"fiscal_year"`
	Class   string          `json:"class"`
	Number  int32           `json:"number"`
	Closed  time.Time       `json:"closed"`
	Units   int32           `json:"units"`
	Until   *time.Time      `json:"retain_until"` // since layout 3
	Terms   json.RawMessage `json:"terms"`
}

// packageFrom makes the row of a package from its bytes, and judges them: manifests, index, signature and stamp.
func (s *Service) packageFrom(_ context.Context, file *os.File, size int64, id uuid.UUID, sum [32]byte, _ *findings) (db.Package, error) {
	z, err := zip.NewReader(file, size)
	if err != nil {
		return db.Package{}, fmt.Errorf("no readable ZIP: %w", err)
	}
	var wrong []string
	j := &judge{s: s, p: db.Package{ID: id}, sums: map[string]string{}, kept: map[string][]byte{}, bad: func(format string, a ...any) { wrong = append(wrong, fmt.Sprintf(format, a...)) }}
	for _, e := range z.File {
		err = j.entry(e)
		if err != nil {
			return db.Package{}, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	var h packageNote
	err = json.Unmarshal(j.kept[packageFile], &h)
	if err != nil || h.Package != id {
		return db.Package{}, fmt.Errorf("it has no %s of its own: packages of layout 1 have none", packageFile)
	}
	token, err := tsp.ParseToken(j.kept[stampFile])
	if err != nil {
		return db.Package{}, fmt.Errorf("no readable time stamp: %w", err)
	}
	at := pg.Time(token.Info.Time)
	of := func(name string) ([]byte, *int64) {
		digest, n := sha256.Sum256(j.kept[name]), int64(len(j.kept[name]))
		return digest[:], &n
	}
	object := uuid.NewSHA1(objectSpace, id[:])
	row := db.Package{
		ID: id, TenantID: h.Tenant, FiscalYear: h.Year, Class: h.Class, Number: h.Number, State: "SEALED", UnitCount: h.Units, Terms: h.Terms, ClosedAt: pg.Time(h.Closed),
		StampTime: &at, ArchiveSha256: sum[:], ArchiveSize: &size, SealedAt: &at, ObjectID: &object,
	}
	if h.Until != nil {
		until := pg.Time(*h.Until)
		row.RetainUntil = &until
		if c, ok := findClass(h.Class); ok && until.Before(retainUntil(h.Year, c.least)) {
			wrong = append(wrong, fmt.Sprintf("it says that it is kept until %s only", until.UTC().Format(time.DateOnly)))
		}
	}
	row.IndexSha256, row.IndexSize = of(indexFile)
	row.SignedSha256, row.SignedSize = of(signedFile)
	row.StampSha256, row.StampSize = of(stampFile)
	j.p = row
	j.manifest("manifest-sha256.txt", func(name string) bool { return strings.HasPrefix(name, "data/") })
	j.index()
	j.signature()
	j.stamp()
	if len(wrong) > 0 {
		return row, errors.New(strings.Join(wrong, "; "))
	}
	return row, nil
}

// restorePrimary makes the primary replica owe every copy that it does not list, and has it pay: the copies are made as
// after any outage, each verified.
func (s *Service) restorePrimary(ctx context.Context, f *findings, c *cursor, prefix string) error {
	primary, lost := s.replicas.named(primaryReplica), 0
	for _, err := range s.strangers(ctx, primary, prefix, func(o db.ObjectsByKeyRow, e *vault.Entry) error {
		if o.State != copyGood || e != nil {
			return nil
		}
		lost++
		f.Bytes += o.Size
		return s.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			return db.New(tx).SetCopy(ctx, db.SetCopyParams{Object: o.ID, Replica: primary.name, State: copyOwed})
		})
	}) {
		if err != nil {
			return err
		}
	}
	f.note("%d objects were not in the primary replica", lost)
	unpaid, more, err := s.replicas.settleDebt(ctx, primary, c.until)
	for _, p := range unpaid {
		f.bad(p.What, "%s", p.Problem)
	}
	if more {
		f.note("the time of a round was over: what the primary replica still owes is copied as after an outage")
	}
	return err
}

// restoreTenants goes on through the tenants, each object by object.
func (s *Service) restoreTenants(ctx context.Context, f *findings, c *cursor, from *replica) error {
	tenants, err := s.tenants(ctx, f.Tenant)
	if err != nil {
		return err
	}
	slices.Sort(tenants)
	for _, tenant := range tenants {
		if tenant < c.Tenant {
			continue // done by a former round
		}
		if tenant != c.Tenant {
			c.Tenant, c.Kind, c.After, c.Again = tenant, "", uuid.Nil, nil
		}
		r := &restoring{s: s, from: from, tenant: tenant, f: f, c: c}
		err = s.tour(ctx, c, r.object)
		if err == nil && !c.more {
			err = r.again(ctx)
		}
		if err == nil && !c.more {
			err = s.restoreRecords(ctx, f, tenant, from)
		}
		f.note("tenant %s: %d of %d units had no row and have one now, %d have receipts again that came after their row was backed up", tenant, r.done.made, r.done.seen, r.done.grown)
		f.note("tenant %s: %d packages had no row and have one now", tenant, r.packages)
		if r.done.twice > 0 {
			f.note("tenant %s: %d units were taken in twice, since the database had forgotten the first time, and have the metadata of that again", tenant, r.done.twice)
		}
		if r.done.moved > 0 {
			f.note("tenant %s: %d files were moved after their rows were backed up, and are found where they lie", tenant, r.done.moved)
		}
		if err != nil || c.more {
			return err
		}
	}
	return nil
}

// restoring makes rows of a tenant again, from one object at a time.
type restoring struct {
	s        *Service
	from     *replica
	tenant   string
	f        *findings
	c        *cursor
	done     tally
	try      tally // of the transaction that is being tried
	packages int
	away     map[uuid.UUID]bool // whether no replica holds an object
	o        db.ArchiveObject   // in hand
	unclear  bool               // its list is damaged, or says of a unit what its row does not
}

// object makes the rows again that an object tells of and that are not there.
func (r *restoring) object(ctx context.Context, o db.ArchiveObject) error {
	r.o, r.done.waiting, r.done.destroyed, r.unclear = o, nil, nil, false
	err := r.make(ctx, o)
	if err == nil && len(r.done.waiting) > 0 && !slices.Contains(r.c.Again, o.ID) {
		r.c.Again = append(r.c.Again, o.ID)
	}
	switch {
	case err != nil || len(r.done.waiting) > 0 || len(r.done.destroyed) == 0:
	case r.unclear: // it may hold the only bytes of what no row leads to
		r.f.note("%s holds bytes of destroyed documents and is left alone, since it is not known what else is in it", o.Key)
	default:
		err = r.condemn(ctx)
	}
	return err
}

// bad tells what is wrong with the object in hand.
func (r *restoring) bad(what, format string, a ...any) {
	r.unclear = true
	r.f.bad(what, format, a...)
}

func (r *restoring) make(ctx context.Context, o db.ArchiveObject) error {
	if o.Kind == kindPackage {
		return r.sealed(ctx, o)
	}
	file, err := r.s.openCopy(ctx, r.f, o, r.from)
	if err != nil || file == nil {
		return err
	}
	defer drop(file)
	return r.units(ctx, o, file)
}

// again reads objects once more with units that belong to one of which there was no row yet: what was moved lies in a later object.
func (r *restoring) again(ctx context.Context) error {
	for len(r.c.Again) > 0 {
		before, list := r.done.made, r.c.Again
		r.c.Again = nil
		var orphans []uuid.UUID
		for i, id := range list {
			o, err := r.s.object(ctx, r.tenant, id)
			if err != nil && fault.Of(err).Kind != fault.KindUnavailable {
				continue // a disposal took it meanwhile
			}
			if err == nil {
				err = r.object(ctx, o)
			}
			if err != nil {
				return err
			}
			orphans = append(orphans, r.done.waiting...)
			if r.s.over(r.c) {
				r.c.Again = append(r.c.Again, list[i+1:]...)
				return nil
			}
		}
		if r.done.made == before {
			for _, id := range orphans {
				r.f.bad(unitName(r.tenant, id), "its row is not made again: there is none of the unit that it belongs to")
			}
			r.c.Again = nil
		}
	}
	return nil
}

// units makes the rows of the units again that an object lists.
func (r *restoring) units(ctx context.Context, o db.ArchiveObject, file *os.File) error {
	r.f.Bytes += o.Size
	missed := error(nil)
	listed, err := recordPages(o, file, r.tenant, func(page []record) error {
		missed = r.page(ctx, page)
		return missed
	})
	switch {
	case missed != nil:
		return missed
	case err != nil:
		r.bad(o.Key, "%v", err)
	case !listed && o.Kind == kindIntake:
		r.bad(o.Key, "it has no %s", intakeList)
	case !listed:
		r.f.note("packages of layout 1 carry no %s: their units are made again from what was taken in", intakeList)
	}
	return nil
}

// rows makes the rows of units again, with their files and their entries in the search. A unit of which there is an older row gets the
// receipts that came later.
func (r *restoring) rows(ctx context.Context, tx pgx.Tx, page []record) error {
	ids, keys := make([]uuid.UUID, 0, 2*len(page)), make([]string, len(page))
	for i, u := range page {
		ids, keys[i] = append(ids, u.Unit), u.Key
		if u.Integrates != nil {
			ids = append(ids, *u.Integrates)
		}
	}
	err := db.New(tx).LockDisposals(ctx, r.tenant) // nobody moves files meanwhile
	if err != nil {
		return err
	}
	gone, err := destroyedKeys(ctx, tx, r.tenant, keys)
	if err != nil {
		return err
	}
	rows, files, err := r.s.rowsOf(ctx, tx, r.tenant, ids)
	if err != nil {
		return err
	}
	slices.SortStableFunc(page, func(a, b record) int { return boolInt(a.Integrates != nil) - boolInt(b.Integrates != nil) }) // what is integrated first
	var list []listed
	for _, u := range page {
		r.try.seen++
		if wasDestroyed(gone, u) { // its bytes lie beside those of others
			if r.o.Kind == kindIntake {
				r.try.destroyed = append(r.try.destroyed, u.Key)
			}
			continue
		}
		row, ok := rows[u.Unit]
		if ok {
			more, err := r.grow(ctx, tx, row, files[u.Unit], u)
			if err != nil {
				return err
			}
			first, err := r.first(ctx, tx, row, files[u.Unit], u)
			if err == nil && !first {
				err = r.place(ctx, tx, row, files[u.Unit], u)
			}
			if err != nil {
				return err
			}
			more = more || first
			if !more {
				continue
			}
		} else {
			if u.Integrates != nil {
				if _, ok := rows[*u.Integrates]; !ok {
					r.try.waiting = append(r.try.waiting, u.Unit)
					continue
				}
			}
			made, err := r.row(ctx, tx, u)
			if err != nil {
				return err
			}
			if !made { // its key is another unit's
				err = r.repeat(ctx, tx, u)
				if err != nil {
					return err
				}
				continue
			}
			r.try.made++
			row = db.Unit{ID: u.Unit, TenantID: r.tenant, State: "TAKEN_IN_CHARGE"}
		}
		rows[u.Unit] = row
		files[u.Unit], err = filesOf(r.tenant, u)
		if err != nil {
			return err
		}
		l := listedUnit(u)
		list = append(list, l)
	}
	return enter(pg.WithTenant(ctx, r.tenant), tx, r.tenant, list)
}

// listedUnit is how the search knows a unit: later receipts change what is found of the one that they belong to.
func listedUnit(u record) listed {
	l := listed{u.Unit, u.Class, u.Year, u.Facts}
	if u.Integrates != nil {
		l.unit = *u.Integrates
	}
	return l
}

// row writes a unit that has no row, with its files.
func (r *restoring) row(ctx context.Context, tx pgx.Tx, u record) (made bool, err error) {
	facts, err := json.Marshal(u.Facts)
	if err != nil {
		return false, fmt.Errorf("conservation: facts of unit %s: %w", u.Unit, err)
	}
	n, err := db.New(tx).RestoreUnit(ctx, db.RestoreUnitParams{
		ID: u.Unit, TenantID: r.tenant, UnitKey: u.Key, Subject: u.Subject, Class: u.Class, FiscalYear: u.Year, Integrates: u.Integrates, Facts: facts, Taken: pg.Time(u.Taken),
	})
	if err != nil {
		return false, fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
	}
	if n == 0 {
		return false, nil
	}
	return true, r.files(ctx, tx, u)
}

func (r *restoring) files(ctx context.Context, tx pgx.Tx, u record) error {
	list, err := filesOf(r.tenant, u)
	if err != nil {
		return err
	}
	q := db.New(tx)
	for _, f := range list {
		err = q.RestoreFile(ctx, db.RestoreFileParams{
			UnitID: f.UnitID, Ordinal: f.Ordinal, TenantID: f.TenantID, Role: f.Role, ReceiptType: f.ReceiptType, FileName: f.FileName,
			MediaType: f.MediaType, Sha256: f.Sha256, Size: f.Size, Object: f.ObjectID, Place: f.ObjectOffset,
		})
		if err != nil {
			return fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
		}
	}
	return nil
}

func filesOf(tenant string, u record) ([]db.UnitFile, error) {
	list := make([]db.UnitFile, len(u.Files))
	for i, part := range u.Files {
		sum, err := hex.DecodeString(part.SHA256)
		if err != nil {
			return nil, fault.Internal("RECORD_BAD", "unit %s: digest of %s: %v", u.Unit, part.FileName, err)
		}
		list[i] = db.UnitFile{
			UnitID: u.Unit, Ordinal: int32(i), TenantID: tenant, Role: part.Role, ReceiptType: part.ReceiptType, FileName: part.FileName, //nolint:gosec // files of one unit
			MediaType: part.MediaType, Sha256: sum, Size: part.Size, ObjectID: part.Object, ObjectOffset: part.Offset,
		}
	}
	return list, nil
}

// grow adds to a unit what came after its row was backed up: what is in no package may have grown, by receipts and nothing else.
func (r *restoring) grow(ctx context.Context, tx pgx.Tx, row db.Unit, held []db.UnitFile, u record) (bool, error) {
	q := db.New(tx)
	if !outgrown(row, held, u) {
		return false, nil
	}
	// Another receipt may be joining it just now, or its files be moved: nobody changes it from here on, and what is so then counts.
	row, err := q.LockUnitByKey(ctx, db.LockUnitByKeyParams{TenantID: r.tenant, UnitKey: row.UnitKey})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // it was destroyed meanwhile
	}
	if err == nil {
		held, err = q.FilesOf(ctx, []uuid.UUID{u.Unit})
	}
	if err != nil {
		return false, fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
	}
	if row.ID != u.Unit || !outgrown(row, held, u) {
		return false, nil
	}
	was := recordOf(row, facts{}, held)
	for i, x := range was.Files { // where nothing is any more nothing is looked for
		if x.Object == nil {
			continue
		}
		away, err := r.isAway(ctx, tx, *x.Object)
		if err != nil {
			return false, err
		}
		if away {
			was.Files[i].Object, was.Files[i].Offset = nil, nil
		}
	}
	if slices.ContainsFunc(was.Files, func(x recordFile) bool { return lacks(u.Files, x) }) {
		r.try.say(func() {
			r.bad(unitName(r.tenant, u.Unit), "the replica holds other files of it than its row, which stays as it is")
		})
		return false, nil
	}
	raw, err := json.Marshal(u.Facts)
	if err != nil {
		return false, fmt.Errorf("conservation: facts of unit %s: %w", u.Unit, err)
	}
	err = q.DropFiles(ctx, u.Unit)
	if err == nil {
		err = r.files(ctx, tx, u.placedAs(was))
	}
	if err == nil {
		err = q.SetFacts(ctx, db.SetFactsParams{ID: u.Unit, Facts: raw})
	}
	if err != nil {
		return false, fmt.Errorf("conservation: restore unit %s: %w", u.Unit, err)
	}
	r.try.grown++
	return true, nil
}

// outgrown says that a replica holds files of a unit that its row has not, and that it is in no package.
func outgrown(row db.Unit, held []db.UnitFile, u record) bool {
	was := recordOf(row, facts{}, held)
	return row.State == "TAKEN_IN_CHARGE" && slices.ContainsFunc(u.Files, func(x recordFile) bool { return lacks(was.Files, x) })
}

// lacks says that a file is not among others; the metadata file is made anew whenever one comes.
func lacks(list []recordFile, x recordFile) bool {
	return x.Role != "metadata" && !slices.ContainsFunc(list, func(h recordFile) bool {
		return h.Role == x.Role && h.ReceiptType == x.ReceiptType && h.FileName == x.FileName && h.SHA256 == x.SHA256
	})
}
