package signer

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// SignArgs asks for the signatures of some documents of one tenant.
type SignArgs struct {
	Tenant string      `json:"tenant"`
	IDs    []uuid.UUID `json:"ids"`
}

// Kind names the job.
func (SignArgs) Kind() string { return "sign" }

type intentsKey struct{ s *Service }

// intents gathers what the events of one transaction ask to sign.
type intents struct{ rows db.InsertIntentsParams }

// onInvoiceAccepted promises a signature. The rows and the jobs of all the events of a transaction
// are written together, just before it commits.
func (s *Service) onInvoiceAccepted(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
	if !ev.GetSign() {
		return nil
	}
	ids, ok := cut(ev.GetInvoice(), "tenants", "companies", "invoices")
	if !ok || ids[0] != pg.Tenant(ctx) {
		return fault.Invalid("NAME_INVALID", "invoice %q is not one of tenant %s", ev.GetInvoice(), pg.Tenant(ctx))
	}
	ref, err := refFrom(ids[0], "original", ev.GetOriginal())
	if err != nil {
		return err
	}
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	unit := pg.UnitOf(ctx, tx)
	var all *intents
	if unit != nil {
		all, _ = unit.Value(intentsKey{s}, func() any {
			fresh := &intents{}
			unit.Before(func(ctx context.Context, tx pgx.Tx) error { return s.intend(ctx, tx, fresh) })
			return fresh
		}).(*intents)
	} else {
		all = &intents{}
	}
	r := &all.rows
	r.TenantID, r.At = ids[0], pg.Time(s.now())
	r.Ids = append(r.Ids, id)
	r.Companies = append(r.Companies, ids[1])
	r.Subjects = append(r.Subjects, ev.GetInvoice())
	r.Formats = append(r.Formats, ev.GetFormat())
	r.Hashes = append(r.Hashes, ref.SHA256[:])
	r.Sizes = append(r.Sizes, ref.Size)
	r.MediaTypes = append(r.MediaTypes, strings.ToValidUTF8(ev.GetOriginal().GetMediaType(), ""))
	r.Correlations = append(r.Correlations, bus.Correlation(ctx))
	r.Causations = append(r.Causations, bus.Meta(ctx).ID)
	r.Traces = append(r.Traces, telemetry.Inject(ctx))
	if unit == nil {
		return s.intend(ctx, tx, all)
	}
	return nil
}

// intend writes the rows; what is there already (the same subject and bytes) is left alone.
func (s *Service) intend(ctx context.Context, tx pgx.Tx, all *intents) error {
	ids, err := db.New(tx).InsertIntents(ctx, all.rows)
	if err != nil {
		return fmt.Errorf("signer: intents: %w", err)
	}
	return s.promise(ctx, tx, all.rows.TenantID, ids)
}

// promise inserts the jobs that sign ids.
func (s *Service) promise(ctx context.Context, tx pgx.Tx, tenant string, ids []uuid.UUID) error {
	var jobs []river.InsertManyParams
	for len(ids) > 0 {
		n := min(len(ids), s.cfg.JobSize)
		jobs = append(jobs, river.InsertManyParams{Args: SignArgs{Tenant: tenant, IDs: ids[:n]}})
		ids = ids[n:]
	}
	switch len(jobs) {
	case 0:
		return nil
	case 1:
		return s.jobs.InsertTx(ctx, tx, jobs[0].Args, nil)
	}
	return s.jobs.InsertManyTx(ctx, tx, jobs)
}
