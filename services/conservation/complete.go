package conservation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

const completePage = 500

// completeness compares what should be in custody with what is: settled invoices, units, leaves of the log.
func (s *Service) completeness(ctx context.Context, f *findings) error {
	f.What = "settled invoices against units, received invoices against units, days of mailboxes against units, units against leaves of the log, leaves against units, numbers of the log"
	tenants, err := s.everyTenant(ctx, f)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		err = s.mailKept(ctx, f, tenant)
		if err != nil {
			return fmt.Errorf("conservation: compare with the days of mailboxes of %s: %w", tenant, err)
		}
		err = s.settledKept(ctx, f, tenant)
		if err != nil {
			return fmt.Errorf("conservation: compare with the invoices of %s: %w", tenant, err)
		}
		err = s.receivedKept(ctx, f, tenant)
		if err != nil {
			return fmt.Errorf("conservation: compare with what %s received: %w", tenant, err)
		}
	}
	if s.book == nil {
		f.note("no log of evidence is kept: it was not compared")
		return nil
	}
	return s.logKept(ctx, f)
}

// everyTenant is every tenant of the platform, and those of whom the archive holds something; or the one. Of a tenant of whom the
// archive holds nothing everything may be missing.
func (s *Service) everyTenant(ctx context.Context, f *findings) ([]string, error) {
	list, err := s.tenants(ctx, f.Tenant)
	if err != nil || f.Tenant != "" {
		return list, err
	}
	if s.tenancy == nil {
		f.note("tenants of whom the archive holds nothing were not looked at: rpc.peers has no address of tenancy")
		return list, nil
	}
	for token := ""; ; {
		page, err := s.tenancy.ListTenants(ctx, &tenancyv1.ListTenantsRequest{PageSize: completePage, PageToken: token})
		if unanswered(err) {
			f.note("tenants of whom the archive holds nothing were not looked at: tenancy does not list them for the archive before it is upgraded")
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("conservation: list of tenants: %w", err)
		}
		for _, t := range page.GetTenants() {
			list = append(list, strings.TrimPrefix(t.GetName(), "tenants/"))
		}
		token = page.GetNextPageToken()
		if token == "" {
			break
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// unanswered: a neighbour of an earlier version does not let the archive ask.
func unanswered(err error) bool { return err != nil && fault.Of(err).Code == "SERVICE_NOT_ALLOWED" }

// tenants are those of whom the archive holds something, or the one.
func (s *Service) tenants(ctx context.Context, only string) ([]string, error) {
	if only != "" {
		return []string{only}, nil
	}
	var all []string
	for {
		after := ""
		if len(all) > 0 {
			after = all[len(all)-1]
		}
		var page []string
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			page, err = db.New(tx).TenantsAfter(ctx, db.TenantsAfterParams{After: after, Page: completePage})
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < completePage {
			return all, nil
		}
	}
}

// settledKept asks the invoices of a tenant: each that is settled for a while must have its unit.
func (s *Service) settledKept(ctx context.Context, f *findings, tenant string) error {
	before := s.now().Add(-s.cfg.Checks.Settling)
	for token := ""; ; {
		page, err := s.invoices.ListInvoices(ctx, &invoicev1.ListInvoicesRequest{Parent: "tenants/" + tenant + "/companies/-", PageSize: completePage, PageToken: token})
		if err != nil {
			return err
		}
		due := map[string]*invoicev1.Invoice{}
		var names []string
		for _, in := range page.GetInvoices() {
			if isSettled(in) && in.GetDestruction() == nil && in.GetUpdateTime().AsTime().Before(before) {
				due[in.GetName()] = in
				names = append(names, in.GetName())
			}
		}
		var kept []string
		err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			kept, err = db.New(tx).SubjectsKept(ctx, db.SubjectsKeptParams{Tenant: tenant, Subjects: names})
			return err
		})
		if err != nil {
			return err
		}
		for _, name := range kept {
			delete(due, name)
		}
		f.Checked += int64(len(names))
		for _, name := range names {
			if in := due[name]; in != nil {
				f.bad(name, "it is %s since %s and has no unit: look for its event among the parked ones of conservation", strings.TrimPrefix(in.GetState().String(), "INVOICE_STATE_"), in.GetUpdateTime().AsTime().Format(time.RFC3339))
			}
		}
		token = page.GetNextPageToken()
		if token == "" {
			return nil
		}
	}
}

// isSettled says whether an invoice is one that the archive keeps. DELIVERED settles a private one only: a
// public body still has its say.
func isSettled(in *invoicev1.Invoice) bool {
	state := strings.TrimPrefix(in.GetState().String(), "INVOICE_STATE_")
	if state == "DELIVERED" {
		return !strings.HasPrefix(in.GetFormat(), "FPA")
	}
	_, ok := settled[state]
	return ok || state == stateImported
}

// logKept compares units and packages with the leaves of the log.
func (s *Service) logKept(ctx context.Context, f *findings) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		chains, err := q.BrokenChains(ctx, f.Tenant)
		if err != nil {
			return err
		}
		for _, c := range chains {
			f.bad("tenants/"+c.TenantID, "its numbers in the log go to %d and %d leaves are there", c.Last, c.Leaves)
		}
		missing, err := q.UnitsWithoutLeaf(ctx, db.UnitsWithoutLeafParams{Before: pg.Time(s.now().Add(-s.cfg.Checks.Settling)), Tenant: f.Tenant, Page: mostProblems})
		if err != nil {
			return err
		}
		for _, u := range missing {
			f.bad(unitName(u.TenantID, u.ID), "it was taken in charge and is not in the log")
		}
		gone, err := q.LeavesWithoutUnit(ctx, db.LeavesWithoutUnitParams{Tenant: f.Tenant, Page: mostProblems})
		if err != nil {
			return err
		}
		for _, l := range gone {
			f.bad("tenants/"+l.TenantID+"/units/"+l.SubjectID.String(), "leaf %d of the log states it, and it is not there", l.Idx)
		}
		return nil
	})
}
