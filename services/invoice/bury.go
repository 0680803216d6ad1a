package invoice

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

// onUnitsDestroyed leaves of invoices that the archive has destroyed what tells of nobody. Of received ones the lines of the log
// are all that is here. What is reduced already stays as it is: the same event again, or another one, changes nothing.
func (s *Service) onUnitsDestroyed(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed) error {
	tenant := pg.Tenant(ctx)
	var issued, all []uuid.UUID
	for _, subject := range ev.GetSubjects() {
		if n, err := parseName(subject); err == nil && n.tenant == tenant {
			issued, all = append(issued, n.id), append(all, n.id)
		} else if of, _, id, err := parseInboundName(subject); err == nil && of == tenant {
			all = append(all, id)
		}
	}
	err := s.tellCopies(ctx, tx, ev, issued)
	if err != nil || len(all) == 0 {
		return err
	}
	slices.SortFunc(issued, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	rows, err := q(tx).LockInvoices(ctx, issued)
	if err != nil {
		return fmt.Errorf("invoice: lock: %w", err)
	}
	byID, standing := map[uuid.UUID]*db.Invoice{}, map[uuid.UUID]bool{}
	for i := range rows {
		if destruction(&rows[i]) == nil {
			byID[rows[i].ID], standing[rows[i].ID] = &rows[i], true
		}
	}
	err = releaseNumbers(ctx, tx, tenant, byID, standing)
	if err != nil {
		return err
	}
	now, at := pg.Time(s.now()), pg.Time(destroyTime(ctx, ev))
	for _, act := range []func() error{
		func() error { return q(tx).BuryBatchFiles(ctx, db.BuryBatchFilesParams{TenantID: tenant, Ids: issued}) },
		func() error { return q(tx).BuryDocuments(ctx, db.BuryDocumentsParams{TenantID: tenant, Ids: issued}) },
		func() error { return q(tx).BuryEvents(ctx, db.BuryEventsParams{TenantID: tenant, Ids: all}) },
		func() error {
			return q(tx).BuryWaitingEvents(ctx, db.BuryWaitingEventsParams{TenantID: tenant, Ids: all})
		},
		func() error {
			return q(tx).BuryInvoices(ctx, db.BuryInvoicesParams{TenantID: tenant, Ids: issued, DestroyedBy: ev.GetDisposal(), DestroyTime: &at, UpdateTime: now})
		},
	} {
		err = act()
		if err != nil {
			return fmt.Errorf("invoice: reduce what was destroyed: %w", err)
		}
	}
	return telemetry.Audit(telemetry.WithActor(ctx, "service:conservation"), tx, telemetry.Act{Action: "invoices.destroyed", Resource: ev.GetPackage(),
		Detail: map[string]string{"disposal": ev.GetDisposal(), "invoices": strconv.Itoa(len(byID))}})
}

// destroyTime is when it happened; events of before had only their own time.
func destroyTime(ctx context.Context, ev *conservationv1.UnitsDestroyed) time.Time {
	if ev.GetTime() != nil {
		return ev.GetTime().AsTime()
	}
	return bus.Meta(ctx).Time
}

// destruction says that an invoice was destroyed; nil when it stands.
func destruction(row *db.Invoice) *eventv1.Destruction {
	if row.DestroyedBy == "" || row.DestroyTime == nil {
		return nil
	}
	return &eventv1.Destruction{Time: timestamppb.New(*row.DestroyTime), Disposal: row.DestroyedBy}
}

// notDestroyed refuses to go on with an invoice of which only ids, digests and dates are left. Precondition DOCUMENT_DESTROYED.
func notDestroyed(row *db.Invoice) error {
	d := destruction(row)
	if d == nil {
		return nil
	}
	return fault.Precondition("DOCUMENT_DESTROYED", "%s was destroyed on %s by %s: the report of the archive says what and by whose authorisation",
		nameOf(row), d.GetTime().AsTime().Format(time.RFC3339), d.GetDisposal())
}
