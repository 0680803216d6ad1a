package notification

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/notification/internal/db"
)

// answering is how this service signs its answers to the archive.
const answering = "notification"

// nothingLeft stands in place of a body that told of a document which was destroyed.
var nothingLeft = []byte("{}")

// onUnitsDestroyed leaves of posts and mails about documents that the archive has destroyed what tells of nobody. What was not
// delivered yet never is. Of the bytes themselves nothing is here but what other services hold.
func (s *Service) onUnitsDestroyed(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed) error {
	tenant := pg.Tenant(ctx)
	n, err := q(tx).BuryDeliveries(ctx, db.BuryDeliveriesParams{
		TenantID: tenant, Subjects: ev.GetSubjects(), DestroyedBy: ev.GetDisposal(), Payload: nothingLeft, Pending: pending, Failed: failed,
	})
	if err != nil {
		return fmt.Errorf("notification: reduce what was destroyed: %w", err)
	}
	named, err := s.unname(ctx, tx, tenant, ev.GetSubjects())
	if err != nil {
		return err
	}
	if n+named > 0 {
		err = telemetry.Audit(telemetry.WithActor(ctx, "service:conservation"), tx, telemetry.Act{Action: "deliveries.destroyed", Resource: ev.GetPackage(),
			Detail: map[string]string{"disposal": ev.GetDisposal(), "deliveries": strconv.FormatInt(n+named, 10)}})
		if err != nil {
			return err
		}
	}
	if ev.GetPart() == 0 {
		return nil
	}
	return s.bus.Emit(ctx, tx, &conservationv1.CopiesFound{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Part: ev.GetPart(), Service: answering})
}

// unname takes messages that were destroyed out of notices of what came into a mailbox: one notice names several.
func (s *Service) unname(ctx context.Context, tx pgx.Tx, tenant string, subjects []string) (changed int64, err error) {
	gone, boxes := map[string]bool{}, []string{}
	for _, subject := range subjects {
		if box, _, ok := strings.Cut(subject, "/messages/"); ok && !gone[subject] {
			gone[subject] = true
			boxes = append(boxes, box)
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	rows, err := q(tx).NoticesOf(ctx, db.NoticesOfParams{TenantID: tenant, Mailboxes: boxes})
	if err != nil {
		return 0, fmt.Errorf("notification: notices: %w", err)
	}
	for _, r := range rows {
		left, err := without(r.Payload, gone)
		if err != nil {
			return changed, fmt.Errorf("notification: payload of %s: %w", r.ID, err)
		}
		if left == nil {
			continue
		}
		err = q(tx).SetPayload(ctx, db.SetPayloadParams{TenantID: tenant, ID: r.ID, Payload: left})
		if err != nil {
			return changed, err
		}
		changed++
	}
	return changed, nil
}

// without is a notice that does not name these messages, and counts them among those that it does not name; nil when it names none.
func without(payload []byte, gone map[string]bool) ([]byte, error) {
	var notice struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      struct {
			Messages []noticed `json:"messages"`
			More     int64     `json:"more"`
			Subject  string    `json:"subject"`
		} `json:"data"`
	}
	read := json.NewDecoder(bytes.NewReader(payload))
	err := read.Decode(&notice)
	if err != nil {
		return nil, err
	}
	left := []noticed{}
	for _, m := range notice.Data.Messages {
		if !gone[m.Message] {
			left = append(left, m)
		}
	}
	taken := len(notice.Data.Messages) - len(left)
	if taken == 0 {
		return nil, nil
	}
	notice.Data.Messages, notice.Data.More = left, notice.Data.More+int64(taken)
	return json.Marshal(notice)
}

// onCopiesCondemned says which of these bytes a mail needs that is still to be sent.
func (s *Service) onCopiesCondemned(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesCondemned) error {
	rows, err := q(tx).NeedsOf(ctx, db.NeedsOfParams{TenantID: pg.Tenant(ctx), Uris: ev.GetUris(), Pending: pending})
	if err != nil {
		return fmt.Errorf("notification: who needs copies: %w", err)
	}
	answer := &conservationv1.CopiesNeeded{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Round: ev.GetRound(), Part: ev.GetPart(), Service: answering}
	for _, r := range rows {
		answer.Copies = append(answer.Copies, &conservationv1.NeededCopy{Uri: r.Uri, Others: r.Others})
	}
	return s.bus.Emit(ctx, tx, answer)
}

// notDestroyed refuses to tell again of what is there no more. Precondition DOCUMENT_DESTROYED.
func notDestroyed(row *db.Delivery) error {
	if row.DestroyedBy == "" {
		return nil
	}
	return fault.Precondition("DOCUMENT_DESTROYED", "what the delivery told of was destroyed by %s: there is nothing left to send", row.DestroyedBy)
}
