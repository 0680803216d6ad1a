package conservation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// sealed makes the row of a package again where there is none, the rows of its units, and says of these where they are. A package whose
// row is there with all of its units is not read.
func (r *restoring) sealed(ctx context.Context, o db.ArchiveObject) error {
	id, err := packageOf(o)
	if err != nil {
		return nil //nolint:nilerr // no package of ours
	}
	row, err := r.s.pack(ctx, r.tenant, SealArgs{Tenant: r.tenant, Package: id})
	if err != nil && fault.Of(err).Kind == fault.KindUnavailable {
		return err
	}
	known := err == nil
	if known {
		members := int64(0)
		err = r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
			members, err = db.New(tx).CountMembers(ctx, id)
			return err
		})
		_, open := r.s.steps(row.State)
		switch {
		case err == nil && open && r.s.bearings.behind.Load(): // nobody is sealing it now
			return r.sealAgain(ctx, o, row)
		case err != nil || row.State != "SEALED" || members == int64(row.UnitCount):
			return err
		}
	}
	file, err := r.s.openCopy(ctx, r.f, o, r.from)
	if err != nil || file == nil {
		return err
	}
	defer drop(file)
	if !known {
		row, err = r.s.packageFrom(ctx, file, o.Size, id, [32]byte(o.Sha256), r.f)
		if err != nil {
			r.f.bad(o.Key, "its row is not made again: %v", err)
			return nil
		}
		err = r.s.knowTerm(ctx, r.f, &row, o.RetainUntil)
		if err != nil {
			return err
		}
	}
	err = r.units(ctx, o, file)
	if err != nil {
		return err
	}
	if !known {
		other, err := r.numbered(ctx, row)
		if err != nil {
			return err
		}
		if other != uuid.Nil {
			return r.supplanted(ctx, o, file, row, other)
		}
	}
	err = r.s.revocationAgain(ctx, file, o.Size, row, r.f)
	if err != nil {
		return err
	}
	return r.members(ctx, o, file, row, known)
}

// numbered is another package that has the number of one: the database was put back without being found out, and what was closed then took it.
func (r *restoring) numbered(ctx context.Context, p db.Package) (other uuid.UUID, err error) {
	err = r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
		list, err := db.New(tx).PackageNumbered(ctx, db.PackageNumberedParams{TenantID: p.TenantID, FiscalYear: p.FiscalYear, Class: p.Class, Number: p.Number})
		if err == nil && len(list) > 0 && list[0] != p.ID {
			other = list[0]
		}
		return err
	})
	return other, err
}

// supplanted tells of a package whose number another one has. Its bytes stay, and go with the first of its documents that is destroyed; what is in no
// other package waits for one.
func (r *restoring) supplanted(ctx context.Context, o db.ArchiveObject, file *os.File, p db.Package, other uuid.UUID) error {
	missed := error(nil)
	_, _ = recordPages(o, file, r.tenant, func(page []record) error { // a damaged list was told with its units
		ids := make([]uuid.UUID, len(page))
		for i, u := range page {
			ids[i] = u.Unit
		}
		missed = r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
			return db.New(tx).LeaveUnits(ctx, db.LeaveUnitsParams{Object: o.ID, Tenant: r.tenant, Ids: ids})
		})
		return missed
	})
	if missed == nil {
		r.f.bad(o.Key, "its row is not made again: number %d of %d, %s is that of %s, which was closed after the database was put back; its documents that are in no other package wait for one", p.Number, p.FiscalYear, p.Class, packageName(r.tenant, other))
	}
	return missed
}

// sealAgain says of a package that the database knows as closed what became of it since: it lies there with signature and stamp, and a
// second sealing would stamp it anew.
func (r *restoring) sealAgain(ctx context.Context, o db.ArchiveObject, row db.Package) error {
	file, err := r.s.openCopy(ctx, r.f, o, r.from)
	if err != nil || file == nil {
		return err
	}
	defer drop(file)
	p, err := r.s.packageFrom(ctx, file, o.Size, row.ID, [32]byte(o.Sha256), r.f)
	if err == nil && (p.TenantID != row.TenantID || p.FiscalYear != row.FiscalYear || p.Class != row.Class || p.Number != row.Number || p.UnitCount != row.UnitCount) {
		err = errors.New("its row is of another package")
	}
	if err != nil {
		r.f.bad(o.Key, "its row stays %s: %v", row.State, err)
		return nil
	}
	err = r.s.revocationAgain(ctx, file, o.Size, p, r.f)
	if err != nil {
		return err
	}
	sealed := int64(0)
	err = r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		sealed, err = q.SealAgain(ctx, db.SealAgainParams{
			ID: p.ID, IndexSha256: p.IndexSha256, IndexSize: p.IndexSize, SignedSha256: p.SignedSha256, SignedSize: p.SignedSize, StampSha256: p.StampSha256, StampSize: p.StampSize,
			StampTime: p.StampTime, ArchiveSha256: p.ArchiveSha256, ArchiveSize: p.ArchiveSize, Object: p.ObjectID,
		})
		if err == nil && sealed > 0 {
			_, err = q.PreserveMembers(ctx, p.ID)
		}
		return err
	})
	if err == nil && sealed > 0 {
		r.f.note("package %s was %s when the database was backed up, and is sealed", p.ID, row.State)
	}
	return err
}

// members writes the row of a package, when it is not known, and which units are in it.
func (r *restoring) members(ctx context.Context, o db.ArchiveObject, file *os.File, p db.Package, known bool) error {
	found := int64(0)
	err := r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
		found = 0
		q := db.New(tx)
		if !known {
			err := r.packageRow(ctx, q, p)
			if err != nil {
				return fmt.Errorf("conservation: restore package %s: %w", p.ID, err)
			}
		}
		position := int32(0)
		missed := error(nil)
		_, _ = recordPages(o, file, r.tenant, func(page []record) error { // a damaged list was told with its units
			m := db.RestoreMembersParams{Package: p.ID, Tenant: r.tenant}
			for _, u := range page {
				position++
				m.Ids, m.Positions = append(m.Ids, u.Unit), append(m.Positions, position)
			}
			n, err := q.RestoreMembers(ctx, m)
			found += n
			missed = err
			return err
		})
		if missed != nil {
			return fmt.Errorf("conservation: restore package %s: %w", p.ID, missed)
		}
		return nil
	})
	switch {
	case err == nil && !known:
		r.packages++
	case err == nil && found > 0:
		r.f.note("%d units are in package %s again, whose row was there", found, p.ID)
	}
	return err
}

func (r *restoring) packageRow(ctx context.Context, q *db.Queries, p db.Package) error {
	_, err := q.RestorePackage(ctx, db.RestorePackageParams{
		ID: p.ID, TenantID: p.TenantID, FiscalYear: p.FiscalYear, Class: p.Class, Number: p.Number, UnitCount: p.UnitCount, Terms: p.Terms, ClosedAt: p.ClosedAt,
		IndexSha256: p.IndexSha256, IndexSize: p.IndexSize, SignedSha256: p.SignedSha256, SignedSize: p.SignedSize, StampSha256: p.StampSha256, StampSize: p.StampSize,
		StampTime: p.StampTime, ArchiveSha256: p.ArchiveSha256, ArchiveSize: p.ArchiveSize, Object: p.ObjectID, RetainUntil: p.RetainUntil,
	})
	if err == nil {
		err = q.RestoreLine(ctx, db.RestoreLineParams{TenantID: p.TenantID, FiscalYear: p.FiscalYear, Class: p.Class, Number: p.Number})
	}
	if err == nil {
		err = q.LogAgain(ctx, db.LogAgainParams{TenantID: p.TenantID, Subject: p.ID})
	}
	return err
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
