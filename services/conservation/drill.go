package conservation

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
)

// drill makes the rows of a tenant's units again from the bytes in the second replica alone, and compares them with the rows that
// there are. Which objects to read it learns from their rows: the inventory compares those with what the replica lists.
func (s *Service) drill(ctx context.Context, f *findings) error {
	f.What = "units made again from the bytes in the second replica alone, and every byte of the objects that rows name"
	tenants, err := s.tenants(ctx, f.Tenant)
	if err != nil {
		return err
	}
	if len(tenants) == 0 {
		f.note("the archive is empty")
		return nil
	}
	tenant := tenants[rand.IntN(len(tenants))] //nolint:gosec // a lot, not a secret
	f.Tenant = tenant
	began := s.now()
	r := &rebuild{s: s, from: s.replicas.named(secondReplica), tenant: tenant, units: map[uuid.UUID]record{}, f: f}
	err = r.read(ctx)
	if err != nil {
		return err
	}
	f.note("read in %s", s.now().Sub(began).Round(time.Millisecond))
	return r.compare(ctx)
}

// rebuild is what the objects of one replica say of a tenant's units.
type rebuild struct {
	s      *Service
	from   *replica
	tenant string
	units  map[uuid.UUID]record // the last word on each
	f      *findings
}

// read goes through the objects of the tenant: what was taken in first, then what was sealed.
func (r *rebuild) read(ctx context.Context) error {
	for _, kind := range []string{kindIntake, kindPackage} {
		for after := uuid.Nil; ; {
			var page []db.ArchiveObject
			err := r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
				var err error
				page, err = db.New(tx).ObjectsAfter(ctx, db.ObjectsAfterParams{Tenant: r.tenant, Kind: kind, After: after, Page: completePage})
				return err
			})
			if err != nil {
				return err
			}
			for _, o := range page {
				err = r.object(ctx, o)
				if err != nil {
					return err
				}
			}
			if len(page) < completePage {
				break
			}
			after = page[len(page)-1].ID
		}
	}
	return nil
}

func (r *rebuild) object(ctx context.Context, o db.ArchiveObject) error {
	file, err := r.s.replicas.fetch(ctx, o, r.from)
	switch {
	case vault.Damaged(err):
		r.f.bad(o.Key, "%s replica: %s", r.from.name, fault.Of(err).Message)
		return r.s.replicas.damaged(ctx, o, r.from.name, fault.Of(err).Message)
	case err != nil:
		return err
	}
	defer drop(file)
	r.f.Bytes += o.Size
	err = r.list(o, file)
	if err != nil {
		r.f.bad(o.Key, "%v", err)
	}
	return nil
}

// list reads units.jsonl of an object. Packages of the first layout have none: their index is all they say.
func (r *rebuild) list(o db.ArchiveObject, file *os.File) error {
	z, err := zip.NewReader(file, o.Size)
	if err != nil {
		return fmt.Errorf("no readable ZIP: %w", err)
	}
	for _, e := range z.File {
		if e.Name != intakeList && !strings.HasSuffix(e.Name, "/"+intakeList) {
			continue
		}
		body, err := e.Open()
		if err != nil {
			return err
		}
		defer body.Close()
		lines := json.NewDecoder(bufio.NewReader(body))
		for {
			var u record
			err = lines.Decode(&u)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", intakeList, err)
			}
			if u.Tenant != r.tenant {
				return fmt.Errorf("%s: unit %s is of another tenant", intakeList, u.Unit)
			}
			if o.Kind == kindPackage {
				u = u.placedAs(r.units[u.Unit])
			}
			r.units[u.Unit] = u
		}
	}
	if o.Kind == kindIntake {
		return errors.New("it has no " + intakeList)
	}
	r.f.note("packages of layout 1 carry no %s: their units are made again from what was taken in", intakeList)
	return nil
}

// compare looks at every row of the tenant.
func (r *rebuild) compare(ctx context.Context) error {
	for after := uuid.Nil; ; {
		var units []db.Unit
		files := map[uuid.UUID][]db.UnitFile{}
		err := r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
			q := db.New(tx)
			var err error
			units, err = q.UnitsAfter(ctx, db.UnitsAfterParams{Tenant: r.tenant, After: after, Page: completePage})
			if err != nil {
				return err
			}
			ids := make([]uuid.UUID, len(units))
			for i, u := range units {
				ids[i] = u.ID
			}
			all, err := q.FilesOf(ctx, ids)
			for _, f := range all {
				files[f.UnitID] = append(files[f.UnitID], f)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, u := range units {
			r.one(u, files[u.ID])
		}
		if len(units) < completePage {
			break
		}
		after = units[len(units)-1].ID
	}
	for id := range r.units {
		r.f.bad(unitName(r.tenant, id), "the replica holds it and there is no row of it")
	}
	return nil
}

func (r *rebuild) one(u db.Unit, files []db.UnitFile) {
	r.f.Checked++
	name := unitName(r.tenant, u.ID)
	got, ok := r.units[u.ID]
	delete(r.units, u.ID)
	if !ok {
		if len(files) > 0 && files[0].ObjectID == nil {
			r.f.note("units that were taken in before there were replicas are in packages only")
			return
		}
		r.f.bad(name, "it cannot be made again from the replica")
		return
	}
	var fs facts
	err := json.Unmarshal(u.Facts, &fs)
	if err != nil {
		r.f.bad(name, "its facts cannot be read: %v", err)
		return
	}
	want := recordOf(u, fs, files)
	got.Taken, want.Taken = got.Taken.UTC(), want.Taken.UTC()
	if !reflect.DeepEqual(roundTrip(want.unplaced()), got.unplaced()) { // files may have been moved since
		r.f.bad(name, "made again from the replica it differs from its row")
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
