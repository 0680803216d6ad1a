package invoice

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/proto/catalog"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

// change is what one event does to one invoice.
type change struct {
	id       uuid.UUID
	company  string
	fact     facts
	set      func(row *db.Invoice) // further columns; nil for none
	document *db.Document          // nil for none
	logged   db.EventWaiting
	emit     func(ev proto.Message) error // in the story of this event
}

// batch gathers the changes of one transaction. The bus hands over up to a hundred events of one
// tenant in one transaction; together they cost a handful of statements, and the rows are locked in
// one order.
type batch struct{ changes []change }

type batchKey struct{}

// record adds what ev does to its invoice to the batch of the transaction. Events about something
// else than an invoice are ignored. Invalid EVENT_MALFORMED for names that cannot be ours.
func (s *Service) record(ctx context.Context, tx pgx.Tx, ev proto.Message, fact facts, set func(*db.Invoice), document *db.Document) error {
	notice, ok := catalog.NoticeOf(ev)
	if !ok {
		return nil
	}
	n, err := parseName(notice.Invoice)
	if err != nil {
		return fault.Invalid("EVENT_MALFORMED", "%s: %q is no invoice", ev.ProtoReflect().Descriptor().Name(), notice.Invoice).With(err)
	}
	if n.tenant != pg.Tenant(ctx) {
		return fault.Invalid("EVENT_MALFORMED", "event of tenant %q is about an invoice of %q", pg.Tenant(ctx), n.tenant)
	}
	data, err := json.Marshal(notice.Data)
	if err != nil {
		return fmt.Errorf("invoice: data of %s: %w", notice.Type, err)
	}
	meta := bus.Meta(ctx)
	eventID, err := uuid.Parse(meta.ID)
	if err != nil {
		return fault.Invalid("EVENT_MALFORMED", "event id %q is no UUID", meta.ID).With(err)
	}
	c := change{id: n.id, company: n.company, fact: fact, set: set, document: document,
		logged: db.EventWaiting{ID: eventID, Type: notice.Type, Time: pg.Time(meta.Time), CompanyID: n.company,
			InvoiceID: n.id, Data: data, TraceID: telemetry.TraceID(meta.Trace)},
		emit: func(ev proto.Message) error { return s.bus.Emit(ctx, tx, ev) },
	}
	if document != nil {
		document.InvoiceID, document.CreateTime = n.id, pg.Time(meta.Time)
	}
	unit := pg.UnitOf(ctx, tx)
	if unit == nil {
		return s.flush(ctx, tx, &batch{changes: []change{c}})
	}
	b, _ := unit.Value(batchKey{}, func() any {
		b := &batch{}
		unit.Before(func(ctx context.Context, tx pgx.Tx) error { return s.flush(ctx, tx, b) })
		unit.After(s.sequencer.kick)
		return b
	}).(*batch)
	b.changes = append(b.changes, c)
	return nil
}

// flush applies the batch: lock the rows, add the facts, write what follows from them.
func (s *Service) flush(ctx context.Context, tx pgx.Tx, b *batch) error {
	tenant := pg.Tenant(ctx)
	rows, err := s.lock(ctx, tx, tenant, b)
	if err != nil {
		return err
	}
	// Of what was destroyed nothing is written down again, in whatever order its events come.
	b.changes = slices.DeleteFunc(b.changes, func(c change) bool { return destruction(rows[c.id]) != nil })
	maps.DeleteFunc(rows, func(_ uuid.UUID, row *db.Invoice) bool { return destruction(row) != nil })
	if len(b.changes) == 0 {
		return nil
	}
	now := pg.Time(s.now())
	emits := map[uuid.UUID]func(proto.Message) error{}
	freed := map[uuid.UUID]bool{}
	for _, c := range b.changes {
		row := rows[c.id]
		before := facts(row.Facts)
		row.Facts |= int32(c.fact)
		if c.set != nil {
			c.set(row)
		}
		after := facts(row.Facts)
		if freesNumbers(after) && !freesNumbers(before) {
			freed[c.id] = true
		}
		if !row.Settled && settles(after, publicBody(row.Format)) {
			row.Settled = true
			emits[c.id] = c.emit
		}
		row.State, row.UpdateTime = int16(stateOf(after, publicBody(row.Format))), now
	}
	if err := insertDocuments(ctx, tx, tenant, b); err != nil {
		return err
	}
	if err := updateInvoices(ctx, tx, rows); err != nil {
		return err
	}
	if err := insertEvents(ctx, tx, tenant, b); err != nil {
		return err
	}
	if err := releaseNumbers(ctx, tx, tenant, rows, freed); err != nil {
		return err
	}
	return s.settle(ctx, tx, tenant, rows, emits)
}

// lock reads the invoices of the batch for update, by id. NotFound INVOICE_NOT_FOUND when one is missing.
func (s *Service) lock(ctx context.Context, tx pgx.Tx, tenant string, b *batch) (map[uuid.UUID]*db.Invoice, error) {
	ids := make([]uuid.UUID, 0, len(b.changes))
	for _, c := range b.changes {
		ids = append(ids, c.id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	list, err := q(tx).LockInvoices(ctx, slices.Compact(ids))
	if err != nil {
		return nil, fmt.Errorf("invoice: lock: %w", err)
	}
	rows := make(map[uuid.UUID]*db.Invoice, len(list))
	for i := range list {
		rows[list[i].ID] = &list[i]
	}
	for _, c := range b.changes {
		row, ok := rows[c.id]
		if !ok || row.CompanyID != c.company {
			return nil, fault.NotFound("INVOICE_NOT_FOUND", "there is no invoice %s", name{tenant, c.company, c.id})
		}
	}
	return rows, nil
}

func insertDocuments(ctx context.Context, tx pgx.Tx, tenant string, b *batch) error {
	p := db.InsertDocumentsParams{TenantID: tenant}
	for _, c := range b.changes {
		if d := c.document; d != nil {
			p.InvoiceIds, p.Ids, p.Kinds = append(p.InvoiceIds, d.InvoiceID), append(p.Ids, d.ID), append(p.Kinds, d.Kind)
			p.ReceiptTypes, p.FileNames = append(p.ReceiptTypes, d.ReceiptType), append(p.FileNames, d.FileName)
			p.MediaTypes, p.Uris = append(p.MediaTypes, d.MediaType), append(p.Uris, d.Uri)
			p.CreateTimes = append(p.CreateTimes, d.CreateTime)
		}
	}
	if len(p.Ids) == 0 {
		return nil
	}
	if err := q(tx).InsertDocuments(ctx, p); err != nil {
		return fmt.Errorf("invoice: insert documents: %w", err)
	}
	return nil
}

func updateInvoices(ctx context.Context, tx pgx.Tx, rows map[uuid.UUID]*db.Invoice) error {
	var p db.UpdateInvoicesParams
	for _, r := range rows {
		p.Ids, p.Facts, p.States, p.Settled = append(p.Ids, r.ID), append(p.Facts, r.Facts), append(p.States, r.State), append(p.Settled, r.Settled)
		p.UpdateTimes, p.Rejections = append(p.UpdateTimes, r.UpdateTime), append(p.Rejections, r.Rejections)
		p.Failures, p.FileNames, p.SdiIds = append(p.Failures, r.Failure), append(p.FileNames, r.FileName), append(p.SdiIds, r.SdiID)
		p.TransmittedUris, p.TransmittedTypes = append(p.TransmittedUris, r.TransmittedUri), append(p.TransmittedTypes, r.TransmittedType)
		kept := "-infinity" // the query's word for none
		if r.PreserveTime != nil {
			kept = r.PreserveTime.UTC().Format(time.RFC3339Nano)
		}
		p.PreserveTimes, p.Packages = append(p.PreserveTimes, kept), append(p.Packages, r.Package)
	}
	if err := q(tx).UpdateInvoices(ctx, p); err != nil {
		return fmt.Errorf("invoice: update: %w", err)
	}
	return nil
}

func insertEvents(ctx context.Context, tx pgx.Tx, tenant string, b *batch) error {
	p := db.InsertEventsParams{TenantID: tenant}
	// Of what is logged together, what happened first comes first.
	slices.SortStableFunc(b.changes, func(a, b change) int { return cmp.Compare(a.logged.Time.UnixMicro(), b.logged.Time.UnixMicro()) })
	for _, c := range b.changes {
		e := c.logged
		p.Ids, p.Types, p.Times = append(p.Ids, e.ID), append(p.Types, e.Type), append(p.Times, e.Time)
		p.CompanyIds, p.InvoiceIds = append(p.CompanyIds, e.CompanyID), append(p.InvoiceIds, e.InvoiceID)
		p.Data, p.TraceIds = append(p.Data, e.Data), append(p.TraceIds, e.TraceID)
	}
	if err := q(tx).InsertEvents(ctx, p); err != nil {
		return fmt.Errorf("invoice: insert events: %w", err)
	}
	return nil
}

func releaseNumbers(ctx context.Context, tx pgx.Tx, tenant string, rows map[uuid.UUID]*db.Invoice, freed map[uuid.UUID]bool) error {
	p := db.ReleaseNumbersParams{TenantID: tenant}
	for id := range freed {
		held, err := numbersOf(rows[id])
		if err != nil {
			return err
		}
		for _, h := range held {
			p.Issuers, p.Years = append(p.Issuers, h.issuer), append(p.Years, h.year)
			p.Series, p.Numbers = append(p.Series, h.series), append(p.Numbers, h.number)
		}
		p.InvoiceIds = append(p.InvoiceIds, id)
	}
	if len(p.InvoiceIds) == 0 {
		return nil
	}
	if err := q(tx).ReleaseNumbers(ctx, p); err != nil {
		return fmt.Errorf("invoice: release numbers: %w", err)
	}
	return nil
}

// name is the resource name of an invoice in parts.
type name struct {
	tenant, company string
	id              uuid.UUID
}

func (n name) String() string {
	return "tenants/" + n.tenant + "/companies/" + n.company + "/invoices/" + n.id.String()
}

// parseName reads tenants/{tenant}/companies/{company}/invoices/{invoice}; what follows is ignored.
func parseName(s string) (name, error) {
	p := strings.Split(s, "/")
	if len(p) < 6 || p[0] != "tenants" || p[2] != "companies" || p[4] != "invoices" {
		return name{}, fmt.Errorf("invoice: %q is no name of an invoice", s)
	}
	id, err := uuid.Parse(p[5])
	if err != nil || id.String() != p[5] {
		return name{}, fmt.Errorf("invoice: %q is no id of an invoice", p[5])
	}
	return name{tenant: p[1], company: p[3], id: id}, nil
}
