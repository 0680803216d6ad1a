package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/proto/catalog"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// maxPayload bounds an event. NATS takes 1 MB, but an event that needs more than this carries a
// document, and documents travel by reference.
const maxPayload = 256 << 10

// row is one row of the outbox.
type row struct {
	seq         int64
	id          uuid.UUID
	tenant      string
	createdAt   time.Time
	subject     string
	correlation string
	causation   string
	trace       string
	payload     []byte
}

// Emit writes ev to the outbox in the caller's transaction: it is published if and only if that
// commits, in the order of Emit among events of one transaction. Tenant, correlation, causation and
// trace come from ctx (pg.Tenant, WithCorrelation, the event being handled).
//
// In the transaction that pg gave, the rows are written together just before the commit; so ctx must
// be the one given with tx. ev must be an event of the catalogue.
func (b *Bus) Emit(ctx context.Context, tx pgx.Tx, ev proto.Message) error {
	_, err := b.EmitID(ctx, tx, ev)
	return err
}

// Behind says whether at least n events of this schema have still to be published. They are in the order in which they were written, so
// who writes many at a time has those of everybody else wait. tx sees all tenants.
func Behind(ctx context.Context, tx pgx.Tx, n int) (behind bool, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) = $1 FROM (SELECT FROM outbox LIMIT $1) AS waiting`, n).Scan(&behind)
	if err != nil {
		return false, fmt.Errorf("bus: count what waits: %w", err)
	}
	return behind, nil
}

// EmitID is Emit and tells the id under which ev travels.
func (b *Bus) EmitID(ctx context.Context, tx pgx.Tx, ev proto.Message) (uuid.UUID, error) {
	entry, ok := catalog.ByMessage(ev.ProtoReflect().Descriptor().FullName())
	if !ok {
		return uuid.Nil, fault.Internal("EVENT_UNKNOWN",
			"%s is no event: its message has no option (ceralacca.event.v1.event)", ev.ProtoReflect().Descriptor().FullName())
	}
	payload, err := proto.Marshal(ev)
	if err != nil {
		return uuid.Nil, fmt.Errorf("bus: encode %s: %w", entry.Subject, err)
	}
	if len(payload) > maxPayload {
		return uuid.Nil, fault.Internal("EVENT_TOO_LARGE",
			"%s has %d bytes, more than %d: carry a reference, not the document", entry.Subject, len(payload), maxPayload)
	}
	id, err := pg.NewID()
	if err != nil {
		return uuid.Nil, err
	}
	// The span is over at once: it marks where in the caller's story the fact was stated, and its id
	// is the parent of every handling.
	sctx, span := b.tracer.Start(ctx, "emit "+entry.Subject, trace.WithSpanKind(trace.SpanKindProducer))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("messaging.message.id", id.String()))
	}
	span.End()
	r := &row{
		id: id, tenant: pg.Tenant(ctx), createdAt: pg.Time(b.now()), subject: entry.Subject,
		correlation: Correlation(ctx), causation: Meta(ctx).ID, trace: telemetry.Inject(sctx), payload: payload,
	}
	if r.correlation == "" {
		r.correlation = id.String()
	}
	u := pg.UnitOf(ctx, tx)
	if u == nil {
		// A savepoint, or a transaction that is not pg's: written at once, found by the relay's poll.
		return id, insertRows(ctx, tx, []*row{r})
	}
	box, _ := u.Value(pendingKey{b}, func() any { return b.newPending(ctx, u) }).(*pending)
	box.rows = append(box.rows, r)
	return id, nil
}

// pending gathers what one transaction emits.
type pending struct{ rows []*row }

type pendingKey struct{ b *Bus }

func (b *Bus) newPending(ctx context.Context, u *pg.Unit) *pending {
	p := &pending{}
	u.Before(func(ctx context.Context, tx pgx.Tx) error { return insertRows(ctx, tx, p.rows) })
	u.After(func() {
		b.metrics.emitted(ctx, len(p.rows))
		b.relay.committed()
	})
	return p
}

const insertOne = `
	INSERT INTO outbox (id, tenant_id, created_at, subject, correlation, causation, traceparent, payload)
	VALUES ($1, coalesce(nullif($2, ''), current_setting('ceralacca.tenant', true), ''), $3, $4, $5, $6, $7, $8)`

// unnest keeps the order of its arrays, and the identity column numbers rows as they come.
const insertMany = `
	INSERT INTO outbox (id, tenant_id, created_at, subject, correlation, causation, traceparent, payload)
	SELECT id, coalesce(nullif(tenant, ''), current_setting('ceralacca.tenant', true), ''), at, subject, correlation, causation, trace, payload
	FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[])
	     AS e(id, tenant, at, subject, correlation, causation, trace, payload)`

func insertRows(ctx context.Context, tx pgx.Tx, rows []*row) error {
	var err error
	switch len(rows) {
	case 0:
		return nil
	case 1:
		r := rows[0]
		_, err = tx.Exec(ctx, insertOne, r.id, r.tenant, r.createdAt, r.subject, r.correlation, r.causation, r.trace, r.payload)
	default:
		n := len(rows)
		ids, tenants, times := make([]uuid.UUID, n), make([]string, n), make([]time.Time, n)
		subjects, correlations, causations := make([]string, n), make([]string, n), make([]string, n)
		traces, payloads := make([]string, n), make([][]byte, n)
		for i, r := range rows {
			ids[i], tenants[i], times[i], subjects[i] = r.id, r.tenant, r.createdAt, r.subject
			correlations[i], causations[i], traces[i], payloads[i] = r.correlation, r.causation, r.trace, r.payload
		}
		_, err = tx.Exec(ctx, insertMany, ids, tenants, times, subjects, correlations, causations, traces, payloads)
	}
	if err != nil {
		return fmt.Errorf("bus: outbox: %w", err)
	}
	return nil
}
