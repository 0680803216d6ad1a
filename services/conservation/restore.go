package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// restore writes back what is lost, from the second replica alone: rows of its objects, copies of the primary one, and
// rows of units, packages and search. It adds and never changes: what is there stays as it is. The log is not made from
// packages: its leaves and checkpoints come from the database's own backup, and its witnesses know the last ones.
func (s *Service) restore(ctx context.Context, f *findings) error {
	f.What = "rows and primary copies made again from the second replica"
	second := s.replicas.named(secondReplica)
	prefix := "tenants/"
	if f.Tenant != "" {
		prefix += f.Tenant + "/"
	}
	adopted := 0
	for e, err := range s.strangers(ctx, second, prefix, func(db.ObjectsByKeyRow, *vault.Entry) error { return nil }) {
		if err != nil {
			return err
		}
		ok, err := s.adoptObject(ctx, f, second, e)
		if err != nil {
			return err
		}
		if ok {
			adopted++
		}
	}
	f.note("%d objects of the second replica had no row and have one now", adopted)
	err := s.adoptEvidence(ctx, f, second, prefix)
	if err != nil {
		return err
	}
	err = s.restorePrimary(ctx, f, prefix)
	if err != nil {
		return err
	}
	tenants, err := s.tenants(ctx, f.Tenant)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		err = s.restoreTenant(ctx, f, tenant, second)
		if err != nil {
			return err
		}
	}
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
			f.bad(e.Key, "no rows are made of %d units in it: they were destroyed by a disposal", n.destroyed)
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
		err = s.intakeWhole(file, e, p[1], x)
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

// intakeWhole compares the files in an intake object with what its list says of them.
func (s *Service) intakeWhole(file *os.File, e vault.Entry, tenant string, x *replica) error {
	r := &rebuild{s: s, from: x, tenant: tenant, units: map[uuid.UUID]record{}, f: &findings{}}
	err := r.list(db.ArchiveObject{Kind: kindIntake, Key: e.Key, Size: e.Size}, file)
	if err != nil {
		return err
	}
	for id, u := range r.units {
		for _, part := range u.Files {
			if part.Offset == nil || *part.Offset < 0 || *part.Offset+part.Size > e.Size {
				continue // of another object of the same transaction
			}
			raw := make([]byte, part.Size)
			_, err = file.ReadAt(raw, *part.Offset)
			sum := sha256.Sum256(raw)
			if part.Object != nil && path.Base(e.Key) == part.Object.String()+".zip" && (err != nil || hex.EncodeToString(sum[:]) != part.SHA256) {
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
func (s *Service) restorePrimary(ctx context.Context, f *findings, prefix string) error {
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
	unpaid, more, err := s.replicas.settleDebt(ctx, primary, s.now().Add(roundTime))
	for _, p := range unpaid {
		f.bad(p.What, "%s", p.Problem)
	}
	if more {
		f.note("the time of a round was over: what the primary replica still owes is copied as after an outage")
	}
	return err
}

// restoreTenant makes the rows of a tenant's units and packages again where there are none.
func (s *Service) restoreTenant(ctx context.Context, f *findings, tenant string, from *replica) error {
	r := &rebuild{s: s, from: from, tenant: tenant, units: map[uuid.UUID]record{}, f: f}
	err := r.read(ctx)
	if err != nil {
		return err
	}
	ids := slices.SortedFunc(maps.Keys(r.units), func(a, b uuid.UUID) int { // what is integrated before what integrates it
		x, y := r.units[a], r.units[b]
		if x.Integrates == nil != (y.Integrates == nil) {
			return boolInt(x.Integrates != nil) - boolInt(y.Integrates != nil)
		}
		return bytes.Compare(a[:], b[:])
	})
	made := 0
	for page := range slices.Chunk(ids, searchPage) {
		err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			n, err := restoreUnits(ctx, tx, tenant, page, r.units)
			made += n
			return err
		})
		if err != nil {
			return err
		}
	}
	f.Checked += int64(len(ids))
	f.note("tenant %s: %d of %d units had no row and have one now", tenant, made, len(ids))
	return s.restorePackages(ctx, f, tenant, from)
}

// restoreUnits writes units that have no row, with their files and their entries in the search.
func restoreUnits(ctx context.Context, tx pgx.Tx, tenant string, page []uuid.UUID, units map[uuid.UUID]record) (made int, err error) {
	q := db.New(tx)
	var list []listed
	keys := make([]string, len(page))
	for i, id := range page {
		keys[i] = units[id].Key
	}
	gone, err := destroyedKeys(ctx, tx, tenant, keys)
	if err != nil {
		return 0, err
	}
	for _, id := range page {
		u := units[id]
		if wasDestroyed(gone, u) {
			continue // its bytes lie beside those of others
		}
		facts, err := json.Marshal(u.Facts)
		if err != nil {
			return 0, fmt.Errorf("conservation: facts of unit %s: %w", id, err)
		}
		n, err := q.RestoreUnit(ctx, db.RestoreUnitParams{
			ID: id, TenantID: tenant, UnitKey: u.Key, Subject: u.Subject, Class: u.Class, FiscalYear: u.Year, Integrates: u.Integrates, Facts: facts, Taken: pg.Time(u.Taken),
		})
		if err != nil {
			return 0, fmt.Errorf("conservation: restore unit %s: %w", id, err)
		}
		if n == 0 {
			continue
		}
		made++
		for i, part := range u.Files {
			sum, err := hex.DecodeString(part.SHA256)
			if err != nil {
				return 0, fault.Internal("RECORD_BAD", "unit %s: digest of %s: %v", id, part.FileName, err)
			}
			err = q.RestoreFile(ctx, db.RestoreFileParams{
				UnitID: id, Ordinal: int32(i), TenantID: tenant, Role: part.Role, ReceiptType: part.ReceiptType, FileName: part.FileName, //nolint:gosec // files of one unit
				MediaType: part.MediaType, Sha256: sum, Size: part.Size, Object: part.Object, Place: part.Offset,
			})
			if err != nil {
				return 0, fmt.Errorf("conservation: restore unit %s: %w", id, err)
			}
		}
		l := listed{id, u.Class, u.Year, u.Facts}
		if u.Integrates != nil {
			l.unit = *u.Integrates
		}
		list = append(list, l)
	}
	return made, enter(pg.WithTenant(ctx, tenant), tx, tenant, list)
}

// restorePackages writes packages that have no row, and says of their units where they are.
func (s *Service) restorePackages(ctx context.Context, f *findings, tenant string, from *replica) error {
	made := 0
	for after := uuid.Nil; ; {
		var page []db.ArchiveObject
		err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			page, err = db.New(tx).ObjectsAfter(ctx, db.ObjectsAfterParams{Tenant: tenant, Kind: kindPackage, After: after, Page: completePage})
			return err
		})
		if err != nil {
			return err
		}
		for _, o := range page {
			after = o.ID
			ok, err := s.restorePackage(ctx, f, o, from)
			if err != nil {
				return err
			}
			made += boolInt(ok)
		}
		if len(page) < completePage {
			break
		}
	}
	f.note("tenant %s: %d packages had no row and have one now", tenant, made)
	return s.restoreRecords(ctx, f, tenant, from)
}

func (s *Service) restorePackage(ctx context.Context, f *findings, o db.ArchiveObject, from *replica) (bool, error) {
	id, err := uuid.Parse(strings.TrimSuffix(path.Base(o.Key), ".zip"))
	if err != nil {
		return false, nil //nolint:nilerr // no package of ours
	}
	_, err = s.pack(ctx, o.TenantID, SealArgs{Tenant: o.TenantID, Package: id})
	if err == nil || fault.Of(err).Kind == fault.KindUnavailable {
		return false, err
	}
	file, err := s.replicas.fetch(ctx, o, from)
	if err != nil {
		return false, err
	}
	defer drop(file)
	p, err := s.packageFrom(ctx, file, o.Size, id, [32]byte(o.Sha256), f)
	if err != nil {
		f.bad(o.Key, "its row is not made again: %v", err)
		return false, nil
	}
	err = s.knowTerm(ctx, f, &p, o.RetainUntil)
	if err != nil {
		return false, err
	}
	order, err := memberOrder(file, o.Size)
	if err != nil {
		return false, err
	}
	return true, s.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		_, err := q.RestorePackage(ctx, db.RestorePackageParams{
			ID: p.ID, TenantID: p.TenantID, FiscalYear: p.FiscalYear, Class: p.Class, Number: p.Number, UnitCount: p.UnitCount, Terms: p.Terms, ClosedAt: p.ClosedAt,
			IndexSha256: p.IndexSha256, IndexSize: p.IndexSize, SignedSha256: p.SignedSha256, SignedSize: p.SignedSize, StampSha256: p.StampSha256, StampSize: p.StampSize,
			StampTime: p.StampTime, ArchiveSha256: p.ArchiveSha256, ArchiveSize: p.ArchiveSize, Object: p.ObjectID, RetainUntil: p.RetainUntil,
		})
		if err == nil {
			err = q.RestoreLine(ctx, db.RestoreLineParams{TenantID: p.TenantID, FiscalYear: p.FiscalYear, Class: p.Class, Number: p.Number})
		}
		for i, unit := range order {
			if err == nil {
				position := int32(i + 1) //nolint:gosec // at most 50000
				err = q.RestoreMember(ctx, db.RestoreMemberParams{Package: &p.ID, Position: &position, ID: unit})
			}
		}
		if err == nil {
			err = q.LogAgain(ctx, db.LogAgainParams{TenantID: p.TenantID, Subject: p.ID})
		}
		if err != nil {
			return fmt.Errorf("conservation: restore package %s: %w", p.ID, err)
		}
		return nil
	})
}

// knowTerm says until when a package is kept that does not say so itself (up to layout 2): the latest of what its class has by law,
// of what the tenant's rule says now, and of what the row of its object said, known. Too long is mended by a person, too short is not.
func (s *Service) knowTerm(ctx context.Context, f *findings, p *db.Package, known time.Time) error {
	if p.RetainUntil != nil {
		return nil
	}
	f.note("packages of layout 2 do not say until when they are kept: they have the longest term that is known for their class; compare it with what was agreed")
	until := retainUntil(p.FiscalYear, yearsOf(p.Class))
	err := s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		ruled, err := retentionOf(ctx, db.New(tx), p.TenantID, p.FiscalYear, p.Class)
		if ruled.After(until) {
			until = ruled
		}
		return err
	})
	if known.After(until) {
		until = known
	}
	until = pg.Time(until)
	p.RetainUntil = &until
	return err
}

// memberOrder reads the units of a package in the order of its index.
func memberOrder(file *os.File, size int64) ([]uuid.UUID, error) {
	z, err := zip.NewReader(file, size)
	if err != nil {
		return nil, fmt.Errorf("conservation: package: %w", err)
	}
	for _, e := range z.File {
		if path.Base(e.Name) != intakeList {
			continue
		}
		body, err := e.Open()
		if err != nil {
			return nil, fmt.Errorf("conservation: package: %w", err)
		}
		defer body.Close()
		var order []uuid.UUID
		lines := json.NewDecoder(body)
		for lines.More() {
			var u record
			err = lines.Decode(&u)
			if err != nil {
				return nil, fmt.Errorf("conservation: package: %w", err)
			}
			order = append(order, u.Unit)
		}
		return order, nil
	}
	return nil, fmt.Errorf("conservation: package has no %s", intakeList)
}
