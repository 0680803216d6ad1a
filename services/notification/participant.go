package notification

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/proto/catalog"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/notification/internal/db"
)

// byParticipant is the channel of mails to those who are to sign or approve.
const byParticipant = "participant"

// Types of their mails. Nobody subscribes to them.
const (
	calledSigner     = "signature_request.asked_to_sign"
	calledApprover   = "signature_request.asked_to_approve"
	remindedSigner   = "signature_request.reminded_to_sign"
	remindedApprover = "signature_request.reminded_to_approve"
)

// onParticipantCalled promises a mail to a participant of a signature request: whose turn it is, of what, until
// when. Neither title nor documents are in the event, and so not in the mail. Without a mail server there is no
// mail: the tenant's product tells them.
func (s *Service) onParticipantCalled(ctx context.Context, tx pgx.Tx, ev *signv1.RequestParticipantCalled) error {
	if s.mail == nil {
		return nil
	}
	meta := bus.Meta(ctx)
	event, err := uuid.Parse(meta.ID)
	if err != nil {
		return fault.Invalid("EVENT_MALFORMED", "event id %q is no UUID", meta.ID).With(err)
	}
	_, last, _ := strings.Cut(ev.GetParticipant(), "/participants/")
	target, err := uuid.Parse(last)
	if err != nil {
		return fault.Invalid("EVENT_MALFORMED", "participant %q has no UUID", ev.GetParticipant()).With(err)
	}
	payload, err := payloadOf(catalog.Notice{Type: calledType(ev), Invoice: ev.GetSignatureRequest(), Data: map[string]any{
		"participant": ev.GetParticipant(), "deadline": ev.GetDeadline().AsTime().UTC().Format(time.RFC3339),
	}}, meta.Time)
	if err != nil {
		return err
	}
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	n, err := q(tx).InsertParticipantDelivery(ctx, db.InsertParticipantDeliveryParams{
		TenantID: pg.Tenant(ctx), ID: id, TargetID: target, EventID: event, EventType: calledType(ev), EventTime: pg.Time(meta.Time),
		Subject: ev.GetSignatureRequest(), Payload: payload, State: pending, CreateTime: pg.Time(s.now()), Address: ev.GetEmail(), Language: ev.GetLanguage(),
	})
	if err != nil {
		return fmt.Errorf("notification: insert mail to a participant: %w", err)
	}
	if n == 0 {
		return nil
	}
	return s.jobs.InsertTx(ctx, tx, deliverArgs{Tenant: pg.Tenant(ctx), Delivery: id}, nil)
}

func calledType(ev *signv1.RequestParticipantCalled) string {
	switch signs := ev.GetRole() == "SIGNER"; {
	case signs && ev.GetReminder():
		return remindedSigner
	case signs:
		return calledSigner
	case ev.GetReminder():
		return remindedApprover
	}
	return calledApprover
}
