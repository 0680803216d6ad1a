package telemetry

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Act is one thing somebody did or tried, worth telling an auditor.
type Act struct {
	Action   string            // what, as noun.verb: "key.create", "parked.retry"
	Resource string            // to what: a resource name such as "tenants/t1/keys/k1"
	Outcome  string            // "ok", or the code of the fault that stopped it
	Detail   map[string]string // further facts; no secrets, no document content, no personal data
}

// Audit writes one row of audit_entry in the caller's transaction: the act and its record exist
// together or not at all. Who and for whom come from ctx (WithActor, WithTenant); an act without an
// actor is refused, for a record that does not say who is worth nothing. The table takes inserts
// only: the services' roles may not change or delete what is written.
func Audit(ctx context.Context, tx pgx.Tx, act Act) error {
	actor := Actor(ctx)
	if actor == "" {
		return fmt.Errorf("telemetry: audit of %s on %s: no actor in the context", act.Action, act.Resource)
	}
	if act.Outcome == "" {
		act.Outcome = "ok"
	}
	if act.Detail == nil {
		act.Detail = map[string]string{}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("telemetry: audit id: %w", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO audit_entry (id, tenant_id, actor, action, resource, outcome, detail, trace_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id, Tenant(ctx), actor, act.Action, act.Resource, act.Outcome, act.Detail, TraceID(Inject(ctx)))
	if err != nil {
		return fmt.Errorf("telemetry: audit of %s: %w", act.Action, err)
	}
	return nil
}
