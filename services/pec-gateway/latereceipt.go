package pecgateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// lateAtOnce is how many receipts one look counts.
const lateAtOnce = 100

// receiptTypes are those that speak of a message of ours.
var receiptTypes = []string{string(pec.Accettazione), string(pec.NonAccettazione), string(pec.AvvenutaConsegna), string(pec.ErroreConsegna), string(pec.PreavvisoErrore)}

// countLate counts receipts that came too early: without msgid, before the acceptance that tells by which identifier the
// provider knows our message. Any order has to give the same state. spec: RFC6109 §3.5
func (s *Service) countLate(ctx context.Context) error {
	var late []db.LateReceiptsRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		late, err = q(tx).LateReceipts(ctx, db.LateReceiptsParams{Tipi: receiptTypes, Most: lateAtOnce})
		return err
	})
	for _, l := range late {
		if one := s.countOne(pg.WithTenant(telemetry.WithActor(ctx, actor), l.TenantID), l); one != nil {
			err = errors.Join(err, fmt.Errorf("receipt %s: %w", messageName(l.TenantID, l.MailboxID, l.ID), one))
		}
	}
	return err
}

// countOne reads a receipt again, now that its message is known.
func (s *Service) countOne(ctx context.Context, l db.LateReceiptsRow) error {
	name := messageName(l.TenantID, l.MailboxID, l.ID)
	var box db.Mailbox
	var row db.Message
	err := s.db.Tx(ctx, l.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		box, err = q(tx).GetMailbox(ctx, db.GetMailboxParams{TenantID: l.TenantID, ID: l.MailboxID})
		if err == nil {
			row, err = q(tx).GetMessage(ctx, db.GetMessageParams(l))
		}
		return err
	})
	if err != nil {
		return err
	}
	j, ref, err := s.judgeKept(ctx, box, row)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, l.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		now, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: l.TenantID, ID: l.ID})
		if err != nil || now.AboutID != nil {
			return err // another replica was faster
		}
		about, err := s.correlate(ctx, tx, box, j)
		if err != nil || about == nil {
			return err
		}
		_, err = s.recordAgain(ctx, tx, box, row, j, ref, name, "")
		return err
	})
}
