package pecgateway

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// gone begins what stands in place of the Message-ID of a message of ours that was destroyed: the column is a key.
const gone = "gone:"

// onUnitsDestroyed leaves of messages that the archive has destroyed what tells of nobody. The digest stays: what a provider still
// has is known again and not taken in anew. What is reduced already stays as it is. Of the register of a day its digest is all that
// is here.
func (s *Service) onUnitsDestroyed(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed) error {
	tenant, at := pg.Tenant(ctx), pg.Time(bus.Meta(ctx).Time)
	if ev.GetTime() != nil {
		at = pg.Time(ev.GetTime().AsTime())
	}
	err := s.promiseCopies(ctx, tx, ev)
	if err != nil {
		return err
	}
	var ids []uuid.UUID
	for _, subject := range ev.GetSubjects() {
		_, id, ok := messageOf(ctx, subject)
		if ok {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := q(tx).BuryMessages(ctx, db.BuryMessagesParams{TenantID: tenant, Ids: ids, DestroyedBy: ev.GetDisposal(), DestroyTime: &at})
	if err != nil || len(rows) == 0 {
		return err
	}
	ids = ids[:0]
	var boxes []uuid.UUID
	for _, r := range rows {
		ids, boxes = append(ids, r.ID), append(boxes, r.MailboxID)
	}
	for _, act := range []func() error{
		func() error { return q(tx).BuryReports(ctx, db.BuryReportsParams{TenantID: tenant, Ids: ids}) },
		func() error { return q(tx).BuryRecipients(ctx, db.BuryRecipientsParams{TenantID: tenant, Ids: ids}) },
		func() error { return q(tx).BuryFacts(ctx, db.BuryFactsParams{TenantID: tenant, Ids: ids}) },
		func() error {
			return q(tx).BuryWords(ctx, db.BuryWordsParams{TenantID: tenant, Mailboxes: boxes, Ids: ids})
		},
		func() error { return q(tx).BuryOwedWords(ctx, db.BuryOwedWordsParams{TenantID: tenant, Ids: ids}) },
		func() error { return q(tx).BuryNotices(ctx, db.BuryNoticesParams{TenantID: tenant, Ids: ids}) },
		func() error { return q(tx).BuryAttempts(ctx, db.BuryAttemptsParams{TenantID: tenant, Ids: ids}) },
		func() error { return q(tx).BuryRequests(ctx, db.BuryRequestsParams{TenantID: tenant, Ids: ids}) },
		func() error {
			return q(tx).BuryLog(ctx, db.BuryLogParams{TenantID: tenant, Ids: ids, DestroyedBy: ev.GetDisposal()})
		},
	} {
		err = act()
		if err != nil {
			return fmt.Errorf("pec-gateway: reduce what was destroyed: %w", err)
		}
	}
	return telemetry.Audit(telemetry.WithActor(ctx, "service:conservation"), tx, telemetry.Act{Action: "messages.destroyed", Resource: ev.GetPackage(),
		Detail: map[string]string{"disposal": ev.GetDisposal(), "messages": strconv.Itoa(len(rows))}})
}

// destruction says that a message was destroyed; nil when it stands.
func destruction(row db.Message) *eventv1.Destruction {
	if row.DestroyedBy == "" || row.DestroyTime == nil {
		return nil
	}
	return &eventv1.Destruction{Time: timestamppb.New(*row.DestroyTime), Disposal: row.DestroyedBy}
}

// notDestroyed refuses to give what is there no more. Precondition DOCUMENT_DESTROYED.
func notDestroyed(row db.Message) error {
	d := destruction(row)
	if d == nil {
		return nil
	}
	return fault.Precondition("DOCUMENT_DESTROYED", "%s was destroyed on %s by %s: the report of the archive says what and by whose authorisation",
		messageName(row.TenantID, row.MailboxID, row.ID), d.GetTime().AsTime().Format(time.RFC3339), d.GetDisposal())
}

// nameLeft is a Message-ID as callers see it; empty once the message was destroyed.
func nameLeft(stored string) string {
	if strings.HasPrefix(stored, gone) {
		return ""
	}
	return stored
}

// standing reads a row that the caller may see and whose bytes are there.
func (s *Service) standing(ctx context.Context, tx pgx.Tx, name string) (db.Mailbox, db.Message, error) {
	box, row, err := s.message(ctx, tx, name)
	if err == nil {
		err = notDestroyed(row)
	}
	return box, row, err
}
