package conservation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// retention answers RetentionService.
type retention struct {
	conservationv1.UnimplementedRetentionServiceServer

	s *Service
}

// wireRetention is terms, holds and disposals.
func (s *Service) wireRetention(h *run.Host) {
	conservationv1.RegisterRetentionServiceServer(h.RPC, retention{s: s})
	h.Go("disposals", s.disposals)
}

// retentionOf is until when a package that is closed now is kept: the term of its class, as the tenant may have lengthened it, from the end of
// the year after the one in which its fiscal year ends.
func retentionOf(ctx context.Context, q *db.Queries, tenant string, year int32, class string) (time.Time, error) {
	years, err := q.RetentionYears(ctx, db.RetentionYearsParams{TenantID: tenant, Class: class})
	if errors.Is(err, pgx.ErrNoRows) {
		years, err = yearsOf(class), nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("conservation: term of class %s: %w", class, err)
	}
	return keptUntil(ctx, q, tenant, year, years)
}

// keptUntil is the end of a term of years for what belongs to a fiscal year of a tenant.
func keptUntil(ctx context.Context, q *db.Queries, tenant string, year, years int32) (time.Time, error) {
	all, err := calendars(ctx, q, tenant)
	if err != nil {
		return time.Time{}, err
	}
	return retainUntil(int32(all[tenant].end(year).Year()), years), nil //nolint:gosec // a year
}

// reportKept is until when the report of what belongs to a fiscal year is kept.
func (s *Service) reportKept(ctx context.Context, tenant string, year, years int32) (until time.Time, err error) {
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		until, err = keptUntil(ctx, db.New(tx), tenant, year, years)
		return err
	})
	return until, err
}

func ruleMessage(c class, years int32) *conservationv1.RetentionRule {
	return &conservationv1.RetentionRule{Class: c.name, Years: years, LeastYears: c.least, Description: c.description, Basis: c.basis}
}

// ListRetentionRules gives every class with its term.
func (a retention) ListRetentionRules(ctx context.Context, req *conservationv1.ListRetentionRulesRequest) (*conservationv1.ListRetentionRulesResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	own := map[string]int32{}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).RetentionRules(ctx, tenant)
		for _, r := range rows {
			own[r.Class] = r.Years
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListRetentionRulesResponse{}
	for _, c := range classes {
		years := c.years
		if y, ok := own[c.name]; ok {
			years = y
		}
		resp.Rules = append(resp.Rules, ruleMessage(c, years))
	}
	return resp, nil
}

// SetRetentionRule changes the term of packages that are closed from now on.
func (a retention) SetRetentionRule(ctx context.Context, req *conservationv1.SetRetentionRuleRequest) (*conservationv1.RetentionRule, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	c, ok := findClass(req.GetClass())
	if !ok {
		return nil, unknownClass(req.GetClass())
	}
	if req.GetYears() < c.least {
		return nil, fault.Invalid("RETENTION_TOO_SHORT", "years: documents of class %s are kept %d years at least (%s)", c.name, c.least, c.basis).
			WithField("years", "RETENTION_TOO_SHORT", "less than the law's term")
	}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).SetRetentionRule(ctx, db.SetRetentionRuleParams{TenantID: tenant, Class: c.name, Years: req.GetYears()})
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "retention.set", Resource: req.GetParent(), Detail: map[string]string{"class": c.name, "years": strconv.Itoa(int(req.GetYears()))}})
	})
	if err != nil {
		return nil, err
	}
	return ruleMessage(c, req.GetYears()), nil
}

func holdName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/holds/" + id.String()
}

func noHold(name string) *fault.Fault {
	return fault.NotFound("HOLD_NOT_FOUND", "there is no hold %s", name)
}

// CreateHold stops the end of what it covers. It and the eraser's beginning wait for each other: what the eraser has begun is told,
// what it has not begun stays.
func (a retention) CreateHold(ctx context.Context, req *conservationv1.CreateHoldRequest) (*conservationv1.Hold, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	p, err := readHold(tenant, req.GetHold())
	if err != nil {
		return nil, err
	}
	p.SetBy, p.SetAt = actor(ctx), pg.Time(a.s.now())
	var row db.Hold
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.LockDisposals(ctx, tenant)
		if err == nil {
			err = holdable(ctx, q, tenant, p)
		}
		if err == nil {
			err = q.InsertHold(ctx, p)
		}
		if err == nil {
			row, err = q.GetHold(ctx, db.GetHoldParams{ID: p.ID, TenantID: tenant})
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "hold.set", Resource: holdName(tenant, p.ID), Detail: map[string]string{"reason": p.Reason}})
	})
	if err != nil {
		return nil, err
	}
	return holdMessage(row), nil
}

func readHold(tenant string, h *conservationv1.Hold) (db.InsertHoldParams, error) {
	id, err := pg.NewID()
	p := db.InsertHoldParams{ID: id, TenantID: tenant, FiscalYear: h.GetFiscalYear(), Class: h.GetClass(), Reason: h.GetReason()}
	if err != nil {
		return p, err
	}
	given := 0
	for _, f := range []struct {
		field, name, collection string
		into                    **uuid.UUID
		missing                 *fault.Fault
	}{{"hold.unit", h.GetUnit(), "units", &p.UnitID, noUnit(h.GetUnit())}, {"hold.package", h.GetPackage(), "packages", &p.PackageID, noPackage(h.GetPackage())}} {
		if f.name == "" {
			continue
		}
		of, id, err := parseName(f.field, f.name, f.collection, f.missing)
		if err != nil {
			return p, err
		}
		if of != tenant {
			return p, f.missing
		}
		*f.into = &id
		given++
	}
	if h.GetFiscalYear() != 0 || h.GetClass() != "" {
		given++
	}
	if given > 1 {
		return p, fault.Invalid("HOLD_AMBIGUOUS", "hold: give a unit, or a package, or a fiscal year and class: one of them")
	}
	if _, ok := findClass(p.Class); p.Class != "" && !ok {
		return p, unknownClass(p.Class)
	}
	return p, nil
}

// holdable refuses a hold over one thing that is not there, or not any more.
func holdable(ctx context.Context, q *db.Queries, tenant string, p db.InsertHoldParams) error {
	pkg := p.PackageID
	if p.UnitID != nil {
		u, err := q.GetUnit(ctx, *p.UnitID)
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && u.TenantID != tenant) {
			return noUnit(unitName(tenant, *p.UnitID))
		}
		if err != nil {
			return err
		}
		pkg = u.PackageID
	}
	if pkg == nil {
		return nil
	}
	row, err := q.GetPackage(ctx, *pkg)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || (err == nil && row.TenantID != tenant):
		return noPackage(packageName(tenant, *pkg))
	case err != nil:
		return err
	case row.State == "ERASING" || row.State == "DESTROYED":
		return errDestroyed(packageName(tenant, *pkg), row)
	}
	return nil
}

// errDestroyed tells what became of something that was destroyed by the rules.
func errDestroyed(name string, p db.Package) *fault.Fault {
	when := "is being destroyed"
	if p.DestroyedAt != nil {
		when = "was destroyed on " + p.DestroyedAt.UTC().Format(time.DateOnly)
	}
	by := "a disposal"
	if p.DisposalID != nil {
		by = disposalName(p.TenantID, *p.DisposalID)
	}
	return fault.Precondition("UNIT_DESTROYED", "%s %s by %s: its report says what and by whose authorisation", name, when, by)
}

// LiftHold ends one.
func (a retention) LiftHold(ctx context.Context, req *conservationv1.LiftHoldRequest) (*conservationv1.Hold, error) {
	tenant, id, err := parseName("name", req.GetName(), "holds", noHold(req.GetName()))
	if err != nil {
		return nil, err
	}
	at := pg.Time(a.s.now())
	var row db.Hold
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.LiftHold(ctx, db.LiftHoldParams{ID: id, TenantID: tenant, LiftedBy: actor(ctx), LiftReason: req.GetReason(), LiftedAt: &at})
		if err != nil {
			return err
		}
		row, err = q.GetHold(ctx, db.GetHoldParams{ID: id, TenantID: tenant})
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return noHold(req.GetName())
		case err != nil || n == 0:
			return err // it was lifted before: it says by whom
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "hold.lift", Resource: req.GetName(), Detail: map[string]string{"reason": req.GetReason()}})
	})
	if err != nil {
		return nil, err
	}
	return holdMessage(row), nil
}

// ListHolds lists them, newest first.
func (a retention) ListHolds(ctx context.Context, req *conservationv1.ListHoldsRequest) (*conservationv1.ListHoldsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListHoldsResponse{}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListHolds(ctx, db.ListHoldsParams{TenantID: tenant, Active: req.GetActive()})
		for _, r := range rows {
			resp.Holds = append(resp.Holds, holdMessage(r))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func holdMessage(h db.Hold) *conservationv1.Hold {
	m := &conservationv1.Hold{
		Name: holdName(h.TenantID, h.ID), FiscalYear: h.FiscalYear, Class: h.Class, Reason: h.Reason, SetBy: h.SetBy, CreateTime: timestamppb.New(h.SetAt),
		LiftedBy: h.LiftedBy, LiftReason: h.LiftReason, LiftTime: timeMessage(h.LiftedAt),
	}
	if h.UnitID != nil {
		m.Unit = unitName(h.TenantID, *h.UnitID)
	}
	if h.PackageID != nil {
		m.Package = packageName(h.TenantID, *h.PackageID)
	}
	return m
}

// destroyed are packages of the fiscal years and classes that a query asks for which were destroyed by the rules.
func destroyed(ctx context.Context, tx pgx.Tx, tenant string, q query) ([]*conservationv1.DestroyedDocuments, error) {
	p := db.DestroyedPackagesParams{TenantID: tenant, Years: []int32{}, Classes: []string{}}
	for _, all := range q {
		for _, c := range all {
			switch c.field {
			case conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR:
				p.Years = append(p.Years, c.year)
			case conservationv1.SearchField_SEARCH_FIELD_CLASS:
				p.Classes = append(p.Classes, c.value)
			}
		}
	}
	rows, err := db.New(tx).DestroyedPackages(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("conservation: destroyed packages: %w", err)
	}
	var list []*conservationv1.DestroyedDocuments
	for _, r := range rows {
		m := &conservationv1.DestroyedDocuments{
			Package: packageName(tenant, r.ID), FiscalYear: r.FiscalYear, Class: r.Class, UnitCount: r.UnitCount, DestroyTime: timeMessage(r.DestroyedAt),
		}
		if r.DisposalID != nil {
			m.Disposal = disposalName(tenant, *r.DisposalID)
		}
		list = append(list, m)
	}
	return list, nil
}

// notFound says why a unit is not found: it never was, or was destroyed by the rules.
func notFound(ctx context.Context, tx pgx.Tx, tenant string, id uuid.UUID) error {
	rows, err := db.New(tx).UnitsByID(ctx, db.UnitsByIDParams{TenantID: tenant, Ids: []uuid.UUID{id}})
	if err != nil {
		return err
	}
	if len(rows) == 1 && rows[0].State == "DESTROYED" {
		return fault.Precondition("UNIT_DESTROYED", "%s: %s", unitName(tenant, id), rows[0].Problem)
	}
	return noUnit(unitName(tenant, id))
}
