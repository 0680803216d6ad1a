package invoice

import (
	"context"
	"encoding/json"
	"fmt"
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

// inboundTypes is how the public types of what a company received begin.
const inboundTypes = "inbound."

// onInbound writes what happens to received invoices into the tenant's log, where customers follow
// everything of theirs. The invoices themselves are the gateway's: no row of this service stands for them.
func onInbound[E proto.Message](s *Service) func(context.Context, pgx.Tx, E) error {
	return func(ctx context.Context, tx pgx.Tx, ev E) error { return s.logInbound(ctx, tx, ev) }
}

// isInbound says whether a name is that of an invoice that a company received.
func isInbound(name string) bool {
	_, _, _, err := parseInboundName(name)
	return err == nil
}

func (s *Service) logInbound(ctx context.Context, tx pgx.Tx, ev proto.Message) error {
	notice, ok := catalog.NoticeOf(ev)
	if !ok {
		return nil
	}
	tenant, company, id, err := parseInboundName(notice.Invoice)
	if err != nil || tenant != pg.Tenant(ctx) {
		return fault.Invalid("EVENT_MALFORMED", "%s of tenant %q: %q is no received invoice of it", ev.ProtoReflect().Descriptor().Name(), pg.Tenant(ctx), notice.Invoice)
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
	err = q(tx).InsertEvents(ctx, db.InsertEventsParams{
		TenantID: tenant, Ids: []uuid.UUID{eventID}, Types: []string{notice.Type}, Times: []time.Time{pg.Time(meta.Time)},
		CompanyIds: []string{company}, InvoiceIds: []uuid.UUID{id}, Data: [][]byte{data}, TraceIds: []string{telemetry.TraceID(meta.Trace)},
	})
	if err != nil {
		return fmt.Errorf("invoice: insert events: %w", err)
	}
	if unit := pg.UnitOf(ctx, tx); unit != nil {
		unit.After(s.sequencer.kick)
	}
	return nil
}

func parseInboundName(name string) (tenant, company string, id uuid.UUID, err error) {
	parts := strings.Split(name, "/")
	if len(parts) != 6 || parts[0] != "tenants" || parts[2] != "companies" || parts[4] != "inboundInvoices" {
		return "", "", uuid.Nil, fmt.Errorf("%q is not tenants/{tenant}/companies/{company}/inboundInvoices/{id}", name)
	}
	id, err = uuid.Parse(parts[5])
	return parts[1], parts[3], id, err
}

// subjectOf is the resource that a line of the log is about.
func subjectOf(tenant string, row *db.ListEventsRow) string {
	if strings.HasPrefix(row.Type, inboundTypes) {
		return "tenants/" + tenant + "/companies/" + row.CompanyID + "/inboundInvoices/" + row.InvoiceID.String()
	}
	return name{tenant, row.CompanyID, row.InvoiceID}.String()
}
