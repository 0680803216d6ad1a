package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// disposalPause is how long the service waits between two looks at what the eraser did.
const disposalPause = 5 * time.Second

// disposals does the service's part of what was released, until ctx ends: it moves documents that share an object with what is to
// be destroyed, and once the eraser has destroyed a package takes from its rows what tells of anybody, tells the other services,
// and makes the report. It deletes no bytes.
func (s *Service) disposals(ctx context.Context) error {
	ctx = telemetry.WithActor(ctx, "service:conservation")
	for ctx.Err() == nil {
		err := s.tendDisposals(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "disposals could not be gone on with: it is tried again", "error", err)
		}
		pause(ctx, min(disposalPause, max(s.cfg.Storage.Probe, time.Second/10)))
	}
	return nil
}

func (s *Service) tendDisposals(ctx context.Context) error {
	if s.replicas == nil {
		return nil
	}
	return errors.Join(
		sweep(ctx, s, func(ctx context.Context, q *db.Queries, after uuid.UUID) ([]db.LateNeighboursRow, error) {
			return q.LateNeighbours(ctx, db.LateNeighboursParams{After: after, Page: sweepPage})
		}, func(o db.LateNeighboursRow) (uuid.UUID, error) {
			err := s.emptyObject(ctx, o.TenantID, o.ID)
			if err != nil {
				err = fmt.Errorf("move documents out of object %s: %w", o.ID, err)
			}
			return o.ID, err
		}),
		sweep(ctx, s, func(ctx context.Context, q *db.Queries, after uuid.UUID) ([]db.ReleasedDisposalsRow, error) {
			return q.ReleasedDisposals(ctx, db.ReleasedDisposalsParams{After: after, Page: sweepPage})
		}, func(d db.ReleasedDisposalsRow) (uuid.UUID, error) {
			err := s.tendDisposal(ctx, d.TenantID, d.ID)
			if err != nil {
				err = fmt.Errorf("disposal %s: %w", d.ID, err)
			}
			return d.ID, err
		}),
		sweep(ctx, s, func(ctx context.Context, q *db.Queries, after uuid.UUID) ([]db.UnsignedDisposalsRow, error) {
			return q.UnsignedDisposals(ctx, db.UnsignedDisposalsParams{After: after, Page: sweepPage})
		}, func(d db.UnsignedDisposalsRow) (uuid.UUID, error) {
			err := s.keepDisposalReport(ctx, d.TenantID, d.ID)
			if err != nil && cannotSign(err) {
				return d.ID, errStopped // which was told: the reports wait, and are tried again
			}
			if err != nil {
				err = fmt.Errorf("report of disposal %s: %w", d.ID, err)
			}
			return d.ID, err
		}))
}

// sweepPage is how many rows of a sweep are read at a time.
const sweepPage = 100

var errStopped = errors.New("the rest waits")

// sweep goes through all rows of a query, in the order of the ids that each gives: what cannot be done now keeps nothing that comes after it
// waiting.
func sweep[R any](ctx context.Context, s *Service, read func(ctx context.Context, q *db.Queries, after uuid.UUID) ([]R, error), each func(R) (uuid.UUID, error)) error {
	var errs []error
	for after := uuid.Nil; ; {
		var list []R
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			list, err = read(ctx, db.New(tx), after)
			return err
		})
		if err == nil && len(list) > 0 {
			err = s.mayBegin(ctx, s.keeper())
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, row := range list {
			after, err = each(row)
			if err == nil {
				continue
			}
			if errors.Is(err, errStopped) || ctx.Err() != nil {
				return errors.Join(errs...)
			}
			errs = append(errs, err)
		}
		if len(list) < sweepPage {
			return errors.Join(errs...)
		}
	}
}

func (s *Service) tendDisposal(ctx context.Context, tenant string, id uuid.UUID) error {
	var items []db.DisposalItemsRow
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		items, err = db.New(tx).DisposalItems(ctx, id)
		return err
	})
	open := 0
	for i := 0; err == nil && i < len(items); i++ {
		switch items[i].State {
		case "AUTHORIZED":
			open++
			err = s.moveNeighbours(ctx, tenant, items[i].PackageID)
		case "ERASING":
			open++
		case "ERASED":
			open++
			err = s.bury(ctx, tenant, id, items[i].PackageID)
		case "DESTROYED":
			var more bool
			more, err = s.tendCopies(ctx, tenant, id, items[i])
			if more {
				open++
			}
		}
	}
	if err != nil || open > 0 {
		return err
	}
	return s.endDisposal(ctx, tenant, id)
}

// movedAtOnce is how many documents move in one transaction.
const movedAtOnce = 100

// moveNeighbours writes documents that were taken in together with those of a package to an object of their own, in both replicas,
// with the same bytes: nothing else of them changes. One that somebody is writing to just now moves the next time.
func (s *Service) moveNeighbours(ctx context.Context, tenant string, pkg uuid.UUID) error {
	for {
		moved, err := s.moveUnits(ctx, tenant, func(ctx context.Context, q *db.Queries) (from, units []uuid.UUID, err error) {
			from, err = q.ObjectsOfPackage(ctx, pkg)
			if err != nil || len(from) == 0 {
				return nil, nil, err
			}
			units, err = q.NeighboursIn(ctx, db.NeighboursInParams{Objects: from, TenantID: tenant, Package: pkg})
			return from, units, err
		})
		if err != nil {
			return fmt.Errorf("move documents that lie with those of package %s: %w", pkg, err)
		}
		if moved == 0 {
			return nil
		}
	}
}

// emptyObject writes what of an object stands, and lies in it beside what was destroyed, to an object of its own.
func (s *Service) emptyObject(ctx context.Context, tenant string, object uuid.UUID) error {
	for {
		moved, err := s.moveUnits(ctx, tenant, func(ctx context.Context, q *db.Queries) (from, units []uuid.UUID, err error) {
			units, err = q.UnitsIn(ctx, db.UnitsInParams{Object: object, TenantID: tenant})
			return []uuid.UUID{object}, units, err
		})
		if err != nil || moved == 0 {
			return err
		}
	}
}

// moveUnits moves the files of units out of objects. Which they are is asked, and where their files lie is read, once nobody else can move,
// destroy or add to them: rows that are written from what was read before would lead to other bytes than those of the document, and
// an object that is moved to twice would be left behind with all that is in it.
func (s *Service) moveUnits(ctx context.Context, tenant string, which func(ctx context.Context, q *db.Queries) (from, units []uuid.UUID, err error)) (moved int, err error) {
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		moved = 0
		q := db.New(tx)
		err := q.LockDisposals(ctx, tenant)
		if err != nil {
			return err
		}
		from, ids, err := which(ctx, q)
		if err == nil && len(ids) > 0 {
			ids, err = q.LockFreeUnits(ctx, db.LockFreeUnitsParams{TenantID: tenant, Ids: ids, Most: movedAtOnce})
		}
		if err != nil || len(ids) == 0 {
			return err
		}
		units, err := q.UnitsByID(ctx, db.UnitsByIDParams{TenantID: tenant, Ids: ids})
		if err != nil {
			return err
		}
		files := map[uuid.UUID][]db.UnitFile{}
		all, err := q.FilesOf(ctx, ids)
		if err != nil {
			return err
		}
		for _, f := range all {
			files[f.UnitID] = append(files[f.UnitID], f)
		}
		moved = len(units)
		return s.moveFiles(ctx, tx, units, files, from)
	})
	return moved, err
}

// moveFiles also notes which bytes stay where the files were: the object may outlive the reason for which they were moved.
func (s *Service) moveFiles(ctx context.Context, tx pgx.Tx, units []db.Unit, files map[uuid.UUID][]db.UnitFile, from []uuid.UUID) error {
	left := db.LeaveBytesParams{TenantID: pg.Tenant(ctx)}
	bag := &satchel{r: s.replicas, tenant: pg.Tenant(ctx), ctx: ctx, wait: pg.UnitOf(ctx, tx).Join}
	c, q := cabinet{s: s}, db.New(tx)
	for _, u := range units {
		var f facts
		err := json.Unmarshal(u.Facts, &f)
		if err != nil {
			return fmt.Errorf("facts of unit %s: %w", u.ID, err)
		}
		list := files[u.ID]
		for i := range list {
			if list[i].ObjectID == nil || !slices.Contains(from, *list[i].ObjectID) {
				continue
			}
			raw, err := c.file(ctx, list[i])
			if err != nil {
				return err
			}
			left.Objects, left.Units = append(left.Objects, *list[i].ObjectID), append(left.Units, u.ID)
			err = bag.add(u.ID, &list[i], raw)
			if err != nil {
				return err
			}
			err = q.MoveFile(ctx, db.MoveFileParams{Unit: u.ID, Ordinal: list[i].Ordinal, Object: list[i].ObjectID, Place: list[i].ObjectOffset})
			if err != nil {
				return err
			}
		}
		err = bag.note(recordOf(u, f, list))
		if err != nil {
			return err
		}
	}
	err := q.LeaveBytes(ctx, left)
	if err != nil {
		return err
	}
	return bag.keep(ctx, tx)
}

// unitsOfEvent keeps the answers below what the bus carries: each names all files of so many documents.
const unitsOfEvent = 200

// bury leaves of a package that was destroyed what tells nothing of anybody: ids, digests, sizes, times, and by what disposal. The
// other services are told in the same transaction.
func (s *Service) bury(ctx context.Context, tenant string, disposal, pkg uuid.UUID) error {
	at := pg.Time(s.now())
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		shown, err := q.DistributionsOf(ctx, db.DistributionsOfParams{TenantID: tenant, Package: pkg})
		if err != nil {
			return err
		}
		exports, err := q.ExportsOf(ctx, db.ExportsOfParams{TenantID: tenant, Package: pkg})
		if err != nil {
			return err
		}
		var ids []uuid.UUID
		var made []string
		for _, d := range shown {
			ids, made = append(ids, d.ID), append(made, distributionName(tenant, d.ID))
		}
		for _, id := range exports {
			made = append(made, exportName(tenant, id))
		}
		err = s.tellOf(ctx, tx, tenant, disposal, pkg, at, made)
		if err != nil {
			return err
		}
		for _, act := range []func() error{
			func() error {
				return q.BuryDistributions(ctx, db.BuryDistributionsParams{Ids: ids, Said: "documents in it were destroyed by " + disposalName(tenant, disposal)})
			},
			func() error { return q.DropDistributionBlobs(ctx, ids) },
			func() error {
				return q.DropExportFiles(ctx, db.DropExportFilesParams{TenantID: tenant, Exports: exports})
			},
			func() error {
				return q.BuryExports(ctx, db.BuryExportsParams{TenantID: tenant, Exports: exports, Said: "documents in it were destroyed by " + disposalName(tenant, disposal) + ": export again"})
			},
			func() error { return buryDeposits(ctx, q, tenant, pkg, at) },
			func() error { return q.BuryUnits(ctx, pkg) },
			func() error { return q.BuryPackage(ctx, db.BuryPackageParams{Package: pkg, At: &at}) },
			func() error { return q.LoneParties(ctx, tenant) },
			func() error {
				_, err := q.BuryItem(ctx, db.BuryItemParams{Disposal: disposal, Package: pkg})
				return err
			},
		} {
			err = act()
			if err != nil {
				return err
			}
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "package.destroyed", Resource: packageName(tenant, pkg), Detail: map[string]string{"disposal": disposal.String()}})
	})
}

// buryDeposits takes their words from the attempts under the keys of what was destroyed. What stands of them is asked once their rows are
// locked, as it is before one is accepted.
func buryDeposits(ctx context.Context, q *db.Queries, tenant string, pkg uuid.UUID, at time.Time) error {
	ids, err := q.LockDepositsOf(ctx, db.LockDepositsOfParams{TenantID: tenant, Package: pkg})
	if err == nil {
		err = q.DropPartsOf(ctx, db.DropPartsOfParams{TenantID: tenant, Ids: ids})
	}
	if err == nil {
		err = q.BuryDeposits(ctx, db.BuryDepositsParams{TenantID: tenant, Ids: ids, At: at})
	}
	return err
}

// disposalReport is what was destroyed, and by whose word. Its JSON is signed.
type disposalReport struct {
	Report         string           `json:"report"`
	Disposal       string           `json:"disposal"`
	Program        string           `json:"program"`
	Proposed       time.Time        `json:"proposed"`
	ProposedBy     string           `json:"proposed_by"`
	Producer       json.RawMessage  `json:"producer"`
	Soprintendenza json.RawMessage  `json:"soprintendenza,omitempty"`
	AuthorizedBy   string           `json:"authorized_by"`
	Authorized     *time.Time       `json:"authorized"`
	Released       [2]string        `json:"released_by"`
	ReleasedAt     *time.Time       `json:"released"`
	Ended          time.Time        `json:"ended"`
	Backups        string           `json:"backups"`
	Packages       []disposedRecord `json:"packages"`
}

type disposedRecord struct {
	Package    string          `json:"package"`
	Class      string          `json:"class"`
	FiscalYear int32           `json:"fiscal_year"`
	Units      int32           `json:"units"`
	SHA256     string          `json:"sha256"`
	Until      time.Time       `json:"retained_until"`
	Outcome    string          `json:"outcome"`
	Note       string          `json:"note,omitempty"`
	Began      *time.Time      `json:"began,omitempty"`
	Erased     *time.Time      `json:"erased,omitempty"`
	Destroyed  []disposedBytes `json:"destroyed,omitempty"`
	Held       []disposedBytes `json:"held,omitempty"` // still in the platform's store, and why
}

type disposedBytes struct {
	Kind   string   `json:"kind"` // object: in every replica; blob: in the platform's store
	SHA256 string   `json:"sha256"`
	Size   int64    `json:"size"`
	What   string   `json:"what,omitempty"`
	Of     []string `json:"of,omitempty"` // services that had it
	Reason string   `json:"reason,omitempty"`
}

// endDisposal writes the report. Backups may still hold the documents: that a person states later.
func (s *Service) endDisposal(ctx context.Context, tenant string, id uuid.UUID) error {
	at := pg.Time(s.now()).UTC()
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		d, err := q.LockDisposal(ctx, db.LockDisposalParams{ID: id, TenantID: tenant})
		if err != nil || d.State != "RELEASED" {
			return err
		}
		items, err := q.DisposalItems(ctx, id)
		if err != nil {
			return err
		}
		r := disposalReport{
			Report: "disposal", Disposal: disposalName(tenant, id), Program: applicationName + " " + fmt.Sprint(layoutVersion), Proposed: d.ProposedAt.UTC(), ProposedBy: d.ProposedBy,
			Producer: d.Producer, Soprintendenza: d.Soprintendenza, AuthorizedBy: d.AuthorizedBy, Authorized: d.AuthorizedAt,
			Released: [2]string{d.FirstPerson + " (" + d.FirstBy + ")", d.SecondPerson + " (" + d.SecondBy + ")"}, ReleasedAt: d.ReleasedAt, Ended: at,
			Backups: "not stated yet: generations of backups from before the destruction may hold the documents",
		}
		for _, i := range items {
			rec := disposedRecord{
				Package: packageName(tenant, i.PackageID), Class: i.Class, FiscalYear: i.FiscalYear, Units: i.UnitCount, SHA256: hex.EncodeToString(i.Sha256),
				Until: i.RetainedUntil.UTC(), Outcome: i.State, Note: i.Note, Began: i.BegunAt, Erased: i.ErasedAt,
			}
			gone, err := q.DisposalObjects(ctx, db.DisposalObjectsParams{Disposal: id, Package: i.PackageID})
			if err != nil {
				return err
			}
			for _, o := range gone {
				b := disposedBytes{o.Kind, hex.EncodeToString(o.Sha256), o.Size, o.What, o.FoundBy, o.Note}
				switch {
				case o.Gone && o.State != "ABSENT":
					rec.Destroyed = append(rec.Destroyed, b)
				case !o.Gone:
					rec.Held = append(rec.Held, b)
				}
			}
			r.Packages = append(r.Packages, rec)
		}
		content, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("conservation: report of disposal: %w", err)
		}
		_, err = q.EndDisposal(ctx, db.EndDisposalParams{ID: id, At: &at, Report: content})
		return err
	})
}

// keepDisposalReport has the report signed and keeps it as the archive keeps everything.
func (s *Service) keepDisposalReport(ctx context.Context, tenant string, id uuid.UUID) error {
	var d db.Disposal
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		d, err = db.New(tx).GetDisposal(ctx, db.GetDisposalParams{ID: id, TenantID: tenant})
		return err
	})
	if err != nil || d.ReportID != nil {
		return err
	}
	p7m, err := s.signContent(ctx, tenant, disposalName(tenant, id), mimeJSON, uuid.NewSHA1(reportSpace, id[:]), d.Report)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(p7m)
	o := &object{
		id: uuid.NewSHA1(reportSpace, append(id[:], sum[:]...)), kind: kindReport, retain: retainUntil(int32(d.ProposedAt.Year()), retentionYears), //nolint:gosec // a year
		Object: vault.Object{Key: fmt.Sprintf("tenants/%s/disposals/%s-%x.json.p7m", tenant, id, sum[:4]), Size: int64(len(p7m)), SHA256: sum},
	}
	s.replicas.place(o)
	err = s.replicas.write(ctx, o, bytes.NewReader(p7m))
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := s.replicas.record(ctx, tx, tenant, []*object{o})
		if err != nil {
			return err
		}
		n, err := db.New(tx).SetDisposalReport(ctx, db.SetDisposalReportParams{ID: id, Object: &o.id})
		if err == nil && n > 0 {
			err = db.New(tx).LogReport(ctx, db.LogReportParams{TenantID: tenant, Object: o.id})
		}
		return err
	})
}
