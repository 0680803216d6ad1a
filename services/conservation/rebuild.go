package conservation

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/google/uuid"

	"ceralacca.dev/services/conservation/internal/db"
)

// records reads units.jsonl of an object, unit by unit. Not listed: it has none, as packages of the first layout.
func records(o db.ArchiveObject, file *os.File, tenant string, each func(record) error) (listed bool, err error) {
	z, err := zip.NewReader(file, o.Size)
	if err != nil {
		return false, fmt.Errorf("no readable ZIP: %w", err)
	}
	for _, e := range z.File {
		if e.Name != intakeList && !strings.HasSuffix(e.Name, "/"+intakeList) {
			continue
		}
		body, err := e.Open()
		if err != nil {
			return true, err
		}
		defer body.Close()
		lines := json.NewDecoder(bufio.NewReader(body))
		for {
			var u record
			err = lines.Decode(&u)
			if errors.Is(err, io.EOF) {
				return true, nil
			}
			if err != nil {
				return true, fmt.Errorf("%s: %w", intakeList, err)
			}
			if u.Tenant != tenant {
				return true, fmt.Errorf("%s: unit %s is of another tenant", intakeList, u.Unit)
			}
			err = each(u)
			if err != nil {
				return true, err
			}
		}
	}
	return false, nil
}

// recordPages is records with a page of units at a time, in their order.
func recordPages(o db.ArchiveObject, file *os.File, tenant string, each func([]record) error) (listed bool, err error) {
	var page []record
	listed, err = records(o, file, tenant, func(u record) error {
		page = append(page, u)
		if len(page) < searchPage {
			return nil
		}
		err := each(page)
		page = nil
		return err
	})
	if err == nil && len(page) > 0 {
		err = each(page)
	}
	return listed, err
}

// packageOf reads of which package an object is the archive.
func packageOf(o db.ArchiveObject) (uuid.UUID, error) {
	id, err := uuid.Parse(strings.TrimSuffix(path.Base(o.Key), ".zip"))
	if err != nil {
		return id, errors.New("it has no name of ours")
	}
	return id, nil
}

// rebuild is what the objects of one replica say of a tenant's units.
type rebuild struct {
	s      *Service
	from   *replica
	tenant string
	units  map[uuid.UUID]record // the last word on each
	f      *findings
}

// read goes through the objects of the tenant.
func (r *rebuild) read(ctx context.Context) error {
	c := &cursor{Tenant: r.tenant, until: r.s.now().Add(checkTime)}
	err := r.s.tour(ctx, c, r.object)
	if err == nil && c.more {
		err = context.DeadlineExceeded
	}
	return err
}

func (r *rebuild) object(ctx context.Context, o db.ArchiveObject) error {
	file, err := r.s.openCopy(ctx, r.f, o, r.from)
	if err != nil || file == nil {
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
	listed, err := records(o, file, r.tenant, func(u record) error {
		if o.Kind == kindPackage {
			u = u.placedAs(r.units[u.Unit])
		}
		r.units[u.Unit] = u
		return nil
	})
	switch {
	case err != nil || listed:
		return err
	case o.Kind == kindIntake:
		return errors.New("it has no " + intakeList)
	}
	r.f.note("packages of layout 1 carry no %s: their units are made again from what was taken in", intakeList)
	return nil
}
