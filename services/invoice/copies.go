package invoice

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

// answering is how this service signs its answers.
const answering = "invoice"

// tellCopies says what the platform's store has of invoices that were destroyed: the archive has it erased when nobody needs it.
func (s *Service) tellCopies(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed, issued []uuid.UUID) error {
	if ev.GetPart() == 0 {
		return nil
	}
	rows, err := q(tx).CopiesOf(ctx, db.CopiesOfParams{TenantID: pg.Tenant(ctx), Ids: issued})
	if err != nil {
		return fmt.Errorf("invoice: copies of what was destroyed: %w", err)
	}
	answer := &conservationv1.CopiesFound{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Part: ev.GetPart(), Service: answering}
	for _, r := range rows {
		answer.Copies = append(answer.Copies, &conservationv1.FoundCopy{Uri: r.Uri, What: r.What})
	}
	return s.bus.Emit(ctx, tx, answer)
}

// onCopiesCondemned says which of these bytes an invoice needs that stands.
func (s *Service) onCopiesCondemned(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesCondemned) error {
	rows, err := q(tx).NeedsOf(ctx, db.NeedsOfParams{TenantID: pg.Tenant(ctx), Uris: ev.GetUris()})
	if err != nil {
		return fmt.Errorf("invoice: who needs copies: %w", err)
	}
	answer := &conservationv1.CopiesNeeded{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Round: ev.GetRound(), Part: ev.GetPart(), Service: answering}
	for _, r := range rows {
		answer.Copies = append(answer.Copies, &conservationv1.NeededCopy{Uri: r.Uri, Others: r.Others})
	}
	return s.bus.Emit(ctx, tx, answer)
}
