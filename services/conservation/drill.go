package conservation

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
)

// drill makes the rows of a tenant's units again from the bytes in the second replica alone, and compares them with the rows that
// there are, object by object. Which objects to read it learns from their rows: the inventory compares those with what the replica lists.
func (s *Service) drill(ctx context.Context, f *findings) error {
	f.What = "units made again from the bytes in the second replica alone, and every byte of the objects that rows name"
	c, err := s.resume(ctx, f, f.Tenant, f.Tenant == "")
	if err != nil {
		return err
	}
	if c.subject == "" {
		tenants, err := s.tenants(ctx, "")
		if err != nil {
			return err
		}
		if len(tenants) == 0 {
			f.note("the archive is empty")
			return nil
		}
		c.subject = tenants[rand.IntN(len(tenants))] //nolint:gosec // a lot, not a secret
	}
	f.Tenant, c.Tenant = c.subject, c.subject
	began := s.now()
	d := &drilling{s: s, from: s.replicas.named(secondReplica), tenant: c.Tenant, f: f}
	err = s.tour(ctx, c, d.object)
	if err == nil && !c.more {
		err = d.nowhere(ctx)
	}
	f.note("read in %s", s.now().Sub(began).Round(time.Millisecond))
	c.halted(f)
	return err
}

// drilling compares what one replica says of a tenant's units with their rows. The last word on a unit is in the package that it is
// preserved in, or in the object in which its metadata file lies: no more than one object's list is in memory.
type drilling struct {
	s      *Service
	from   *replica
	tenant string
	f      *findings
}

func (d *drilling) object(ctx context.Context, o db.ArchiveObject) error {
	file, err := d.s.openCopy(ctx, d.f, o, d.from)
	if err != nil || file == nil {
		return err
	}
	defer drop(file)
	d.f.Bytes += o.Size
	if o.Kind == kindPackage {
		return d.sealed(ctx, o, file)
	}
	said := map[uuid.UUID]record{}
	listed, err := records(o, file, d.tenant, func(u record) error {
		said[u.Unit] = u
		return nil
	})
	switch {
	case err != nil:
		d.f.bad(o.Key, "%v", err)
	case !listed:
		d.f.bad(o.Key, "it has no %s", intakeList)
	}
	return d.takenIn(ctx, o, said)
}

// rowsOf reads units with their files.
func (s *Service) rowsOf(ctx context.Context, tx pgx.Tx, tenant string, ids []uuid.UUID) (map[uuid.UUID]db.Unit, map[uuid.UUID][]db.UnitFile, error) {
	q, units, files := db.New(tx), map[uuid.UUID]db.Unit{}, map[uuid.UUID][]db.UnitFile{}
	rows, err := q.UnitsByID(ctx, db.UnitsByIDParams{TenantID: tenant, Ids: ids})
	if err != nil {
		return nil, nil, err
	}
	for _, u := range rows {
		units[u.ID] = u
	}
	all, err := q.FilesOf(ctx, ids)
	for _, f := range all {
		files[f.UnitID] = append(files[f.UnitID], f)
	}
	return units, files, err
}

// takenIn compares an object of what was taken in, both ways.
func (d *drilling) takenIn(ctx context.Context, o db.ArchiveObject, said map[uuid.UUID]record) error {
	var own []uuid.UUID
	var units map[uuid.UUID]db.Unit
	var files map[uuid.UUID][]db.UnitFile
	var gone map[string]time.Time
	err := d.s.db.Tx(ctx, d.tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		own, err = db.New(tx).UnitsDescribedIn(ctx, o.ID)
		if err != nil {
			return err
		}
		ids, keys := slices.Clone(own), make([]string, 0, len(said))
		for id, u := range said {
			ids, keys = append(ids, id), append(keys, u.Key)
		}
		units, files, err = d.s.rowsOf(ctx, tx, d.tenant, ids)
		if err == nil {
			gone, err = destroyedKeys(ctx, tx, d.tenant, keys)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range own {
		row := units[id]
		got, ok := said[id]
		switch {
		case row.State == "DESTROYED" || row.State == "REFUSED":
		case ok:
			d.one(row, files[id], got)
			d.f.Checked += int64(boolInt(row.State != "PRESERVED")) // else it is counted with its package
		case row.State != "PRESERVED":
			d.f.bad(unitName(d.tenant, id), "it cannot be made again from the replica")
		}
	}
	d.strangers(said, units, gone)
	return nil
}

// strangers are units that the replica holds and of which there is no row.
func (d *drilling) strangers(said map[uuid.UUID]record, units map[uuid.UUID]db.Unit, gone map[string]time.Time) {
	for id, u := range said {
		if _, ok := units[id]; !ok && !wasDestroyed(gone, u) {
			d.f.bad(unitName(d.tenant, id), "the replica holds it and there is no row of it")
		}
	}
}

// sealed compares a package with the rows that say that they are in it, a page of its list at a time.
func (d *drilling) sealed(ctx context.Context, o db.ArchiveObject, file *os.File) error {
	p, err := packageOf(o)
	if err != nil {
		d.f.bad(o.Key, "%v", err)
		return nil
	}
	members, missed := 0, error(nil)
	listed, err := recordPages(o, file, d.tenant, func(page []record) error {
		n, err := d.members(ctx, p, members, page)
		members += n
		missed = err
		return err
	})
	switch {
	case missed != nil:
		return missed
	case err != nil:
		d.f.bad(o.Key, "%v", err)
		return nil
	case !listed:
		d.f.note("packages of layout 1 carry no %s: their units are made again from what was taken in", intakeList)
		return nil
	}
	return d.s.db.Tx(ctx, d.tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).CountMembers(ctx, p)
		if err == nil && n != int64(members) {
			d.f.bad(o.Key, "it lists %d units, and the rows of %d say that they are in it", members, n)
		}
		return err
	})
}

// members compares units that a package lists from a position on, and says how many there are.
func (d *drilling) members(ctx context.Context, p uuid.UUID, from int, page []record) (int, error) {
	said := map[uuid.UUID]record{}
	ids, keys := make([]uuid.UUID, len(page)), make([]string, len(page))
	for i, u := range page {
		said[u.Unit], ids[i], keys[i] = u, u.Unit, u.Key
	}
	return len(page), d.s.db.Tx(ctx, d.tenant, func(ctx context.Context, tx pgx.Tx) error {
		units, files, err := d.s.rowsOf(ctx, tx, d.tenant, ids)
		if err != nil {
			return err
		}
		gone, err := destroyedKeys(ctx, tx, d.tenant, keys)
		if err != nil {
			return err
		}
		for i, id := range ids {
			row, ok := units[id]
			if !ok || row.State == "DESTROYED" {
				continue
			}
			d.f.Checked++
			d.one(row, files[id], said[id])
			if row.PackageID == nil || *row.PackageID != p || row.Position == nil || int(*row.Position) != from+i+1 {
				d.f.bad(unitName(d.tenant, id), "it is number %d of package %s, and its row says otherwise", from+i+1, p)
			}
		}
		d.strangers(said, units, gone)
		return nil
	})
}

// nowhere names rows that no object was compared with.
func (d *drilling) nowhere(ctx context.Context) error {
	for after := uuid.Nil; ; {
		var page []db.UnitsNowhereRow
		err := d.s.db.Tx(ctx, d.tenant, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			page, err = db.New(tx).UnitsNowhere(ctx, db.UnitsNowhereParams{Tenant: d.tenant, After: after, Page: completePage})
			return err
		})
		if err != nil {
			return err
		}
		for _, u := range page {
			after = u.ID
			if u.BeforeReplicas {
				d.f.note("units that were taken in before there were replicas are in packages only")
				continue
			}
			d.f.bad(unitName(d.tenant, u.ID), "it cannot be made again from the replica")
		}
		if len(page) < completePage {
			return nil
		}
	}
}

// one compares the row of a unit with the last word of the replica on it.
func (d *drilling) one(u db.Unit, files []db.UnitFile, got record) {
	name := unitName(d.tenant, u.ID)
	var fs facts
	err := json.Unmarshal(u.Facts, &fs)
	if err != nil {
		d.f.bad(name, "its facts cannot be read: %v", err)
		return
	}
	want := recordOf(u, fs, files)
	got.Taken, want.Taken = got.Taken.UTC(), want.Taken.UTC()
	if !reflect.DeepEqual(roundTrip(want.unplaced()), got.unplaced()) { // files may have been moved since
		d.f.bad(name, "made again from the replica it differs from its row")
	}
}

// roundTrip is the record as JSON gives it back.
func roundTrip(r record) record {
	raw, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		panic(err) // it was made from JSON
	}
	return r
}
