package pecgateway

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// StrikeReceipt carries out a person's decision that a receipt does not count which is not proven any more, or counts by
// a person's word alone, or takes it back. The
// state of the sent message follows from the receipts that are left: it is a function of the facts that count, in this direction
// too. Faults: those of the contract.
func (s *Service) StrikeReceipt(ctx context.Context, req *pecv1.StrikeReceiptRequest) (*pecv1.Message, error) {
	tenant, sent := strings.Split(req.GetName(), "/")[1], ""
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, receipt, err := s.standing(ctx, tx, req.GetName())
		if err != nil {
			return err
		}
		notCounted := fault.Precondition("RECEIPT_NOT_COUNTED", "no state of a sent message stands on %s", req.GetName())
		if receipt.AboutID == nil {
			return notCounted
		}
		about, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: tenant, ID: *receipt.AboutID})
		if err == nil {
			err = notDestroyed(about)
		}
		if err != nil {
			return err
		}
		f, err := q(tx).FactOfReceipt(ctx, db.FactOfReceiptParams{TenantID: tenant, MessageID: about.ID, ReceiptID: receipt.ID})
		if errors.Is(err, pgx.ErrNoRows) {
			return notCounted
		}
		if err == nil {
			err = strikable(f, req.GetReinstate())
		}
		if err != nil {
			return err
		}
		action, p := "message.receipt_reinstate", db.StrikeFactParams{TenantID: tenant, MessageID: about.ID, ReceiptID: receipt.ID}
		if !req.GetReinstate() {
			now := pg.Time(s.now())
			action, p.StruckTime, p.StruckBy, p.StruckReason = "message.receipt_strike", &now, telemetry.Actor(ctx), req.GetReason()
		}
		err = q(tx).StrikeFact(ctx, p)
		if err != nil {
			return err
		}
		_, err = s.advance(bus.WithCorrelation(ctx, about.ID.String()), tx, about.ID)
		if err != nil {
			return err
		}
		sent = messageName(tenant, about.MailboxID, about.ID)
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: action, Resource: req.GetName(), Detail: map[string]string{"about": sent, "reason": req.GetReason()}})
	})
	if err != nil {
		return nil, err
	}
	return s.GetMessage(ctx, &pecv1.GetMessageRequest{Name: sent})
}

// strikable says why a receipt cannot be struck out, or reinstated.
func strikable(f db.Fact, reinstate bool) error {
	switch {
	case reinstate && f.StruckTime == nil:
		return fault.Precondition("RECEIPT_NOT_STRUCK", "nobody struck the receipt out: it counts")
	case !reinstate && f.StruckTime != nil:
		return fault.Precondition("RECEIPT_STRUCK", "%s struck the receipt out already: %s", f.StruckBy, f.StruckReason)
	case !reinstate && f.Doubt == "" && f.Vouched == "":
		return fault.Precondition("RECEIPT_NOT_DOUBTED", "the receipt is proven: what a provider certifies, and what nobody has withdrawn, counts")
	}
	return nil
}
