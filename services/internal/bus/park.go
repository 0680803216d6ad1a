package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/proto/catalog"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// Kinds of what is parked.
const (
	KindEvent = "event"
	KindJob   = "job"
)

const maxReason = 2000 // bytes of error text that are kept

// Parked is an event or a job that could not be handled and waits for an operator.
type Parked struct {
	ID          uuid.UUID // of the parked row
	Kind        string    // KindEvent or KindJob
	Consumer    string    // consumer of the event, or kind of the job
	EventID     uuid.UUID // of the event; of a job: unique per consumer, chosen by who parks it
	Tenant      string
	Subject     string // of the event; of a job: its queue
	Correlation string
	Causation   string
	Trace       string // W3C traceparent
	EventTime   time.Time
	Payload     []byte // of an event: protobuf; of a job: JSON
	Code        string // of the last error
	Reason      string // text of the last error, for operators only
	Attempts    int
	ParkedAt    time.Time
	RetriedAt   *time.Time // last failed attempt of an operator
}

// Retrier does again what a parked row of its kind holds, in the transaction that removes the row.
type Retrier func(ctx context.Context, tx pgx.Tx, p Parked) error

// Filter narrows ListParked; empty fields do not.
type Filter struct {
	Tenant, Consumer, Correlation, Kind string
	PageSize                            int // default 50, at most 1000
	PageToken                           string
}

// HandleRetry makes fn the way to repeat parked rows of kind (KindJob; events repeat by themselves).
func (b *Bus) HandleRetry(kind string, fn Retrier) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retriers[kind] = fn
}

const parkedColumns = `id, kind, consumer, event_id, tenant_id, subject, event_time, correlation, causation,
	traceparent, payload, code, reason, attempts, parked_at, retried_at`

// Park sets p aside in the caller's transaction; ID and ParkedAt are filled in when empty. Parking
// the same EventID of the same Consumer again renews the row.
func (b *Bus) Park(ctx context.Context, tx pgx.Tx, p Parked) error {
	if p.ID == uuid.Nil {
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		p.ID = id
	}
	if p.ParkedAt.IsZero() {
		p.ParkedAt = b.now()
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO parked_event (`+parkedColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, NULL)
		ON CONFLICT (consumer, event_id) DO UPDATE SET
		    code = excluded.code, reason = excluded.reason, attempts = excluded.attempts,
		    payload = excluded.payload, parked_at = excluded.parked_at`,
		p.ID, p.Kind, p.Consumer, p.EventID, p.Tenant, p.Subject, pg.Time(p.EventTime), p.Correlation, p.Causation,
		p.Trace, p.Payload, p.Code, clip(p.Reason), p.Attempts, pg.Time(p.ParkedAt))
	if err != nil {
		return fmt.Errorf("bus: park %s of %s: %w", p.EventID, p.Consumer, err)
	}
	return nil
}

// text makes what came from outside fit for a text column: valid UTF-8, no NUL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}

// clip is text, bounded.
func clip(s string) string {
	s = text(s)
	if len(s) <= maxReason {
		return s
	}
	s = s[:maxReason]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// park sets a delivery aside and remembers it in the inbox, so that a repeat is not handled behind
// the operator's back.
func (c *consumer) park(ctx context.Context, d *delivery, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.b.cfg.HandlerTimeout)
	defer cancel()
	// System, for the tenant of a foreign message need not be one that a transaction can have.
	return c.b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		fresh, err := c.enter(ctx, tx, []*delivery{d})
		if err != nil || !fresh[d.id] {
			return err // handled or parked already
		}
		f := fault.Of(cause)
		return c.b.Park(ctx, tx, Parked{
			Kind: KindEvent, Consumer: c.name, EventID: d.id, Tenant: text(d.env.Tenant), Subject: d.env.Subject,
			Correlation: text(d.env.Correlation), Causation: text(d.env.Causation), Trace: text(d.env.Trace), EventTime: d.env.Time,
			Payload: d.msg.Data(), Code: f.Code, Reason: cause.Error(), Attempts: d.env.Delivery,
		})
	})
}

// ListParked gives parked rows of all tenants, newest first, and the token of the next page.
func (b *Bus) ListParked(ctx context.Context, f Filter) ([]Parked, string, error) {
	size := f.PageSize
	if size <= 0 {
		size = 50
	}
	size = min(size, 1000)
	hash := pg.FilterHash("parked", f.Tenant, f.Consumer, f.Correlation, f.Kind)
	before := uuid.Max
	_, err := pg.DecodePageToken(f.PageToken, hash, &before)
	if err != nil {
		return nil, "", err
	}
	var list []Parked
	err = b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+parkedColumns+` FROM parked_event
			WHERE id < $1 AND ($2 = '' OR tenant_id = $2) AND ($3 = '' OR consumer = $3)
			  AND ($4 = '' OR correlation = $4) AND ($5 = '' OR kind = $5)
			ORDER BY id DESC LIMIT $6`, before, f.Tenant, f.Consumer, f.Correlation, f.Kind, size+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanParked)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("bus: list parked: %w", err)
	}
	return pg.Page(list, size, hash, func(p Parked) []any { return []any{p.ID} })
}

func scanParked(r pgx.CollectableRow) (p Parked, err error) {
	err = r.Scan(&p.ID, &p.Kind, &p.Consumer, &p.EventID, &p.Tenant, &p.Subject, &p.EventTime, &p.Correlation,
		&p.Causation, &p.Trace, &p.Payload, &p.Code, &p.Reason, &p.Attempts, &p.ParkedAt, &p.RetriedAt)
	p.EventTime, p.ParkedAt = p.EventTime.UTC(), p.ParkedAt.UTC()
	return p, err
}

// GetParked gives one parked row; fault NotFound PARKED_NOT_FOUND.
func (b *Bus) GetParked(ctx context.Context, id uuid.UUID) (Parked, error) {
	var p Parked
	err := b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = selectParked(ctx, tx, id, "")
		return err
	})
	return p, err
}

func selectParked(ctx context.Context, tx pgx.Tx, id uuid.UUID, lock string) (Parked, error) {
	rows, err := tx.Query(ctx, `SELECT `+parkedColumns+` FROM parked_event WHERE id = $1 `+lock, id)
	if err != nil {
		return Parked{}, fmt.Errorf("bus: parked %s: %w", id, err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, scanParked)
	if errors.Is(err, pgx.ErrNoRows) {
		return Parked{}, fault.NotFound("PARKED_NOT_FOUND", "nothing is parked as %s: it may have been retried or dropped", id)
	}
	if err != nil {
		return Parked{}, fmt.Errorf("bus: parked %s: %w", id, err)
	}
	return p, nil
}

// RetryParked handles a parked row again, now, in this process: the row is gone if that succeeds.
// Else the row stays with the new error, which is returned.
func (b *Bus) RetryParked(ctx context.Context, id uuid.UUID) error {
	p, err := b.GetParked(ctx, id)
	if err != nil {
		return err
	}
	do, err := b.retrier(p)
	if err != nil {
		return err
	}
	err = b.db.Scoped(ctx, p.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		p, err := selectParked(ctx, tx, id, "FOR UPDATE")
		if err != nil {
			return err
		}
		ctx = eventContext(ctx, p.envelope())
		err = do(ctx, tx, p)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM parked_event WHERE id = $1`, id)
		if err != nil {
			return err
		}
		return audit(ctx, tx, "parked.retry", p, "")
	})
	if err == nil || fault.Of(err).Code == "PARKED_NOT_FOUND" {
		return err
	}
	return errors.Join(err, b.noteFailure(ctx, id, err))
}

func (p Parked) envelope() Envelope {
	return Envelope{
		ID: p.EventID.String(), Subject: p.Subject, Tenant: p.Tenant, Correlation: p.Correlation,
		Causation: p.Causation, Time: p.EventTime, Trace: p.Trace, Delivery: p.Attempts + 1,
	}
}

func (b *Bus) retrier(p Parked) (Retrier, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Kind != KindEvent {
		fn := b.retriers[p.Kind]
		if fn == nil {
			return nil, fault.Precondition("PARKED_NO_RETRIER", "this process cannot repeat a parked %s", p.Kind)
		}
		return fn, nil
	}
	c := b.consumers[p.Consumer]
	if c == nil {
		return nil, fault.Precondition("PARKED_NO_CONSUMER",
			"this version of %s has no consumer %s: drop the event, or run the version that has it", b.cfg.Service, p.Consumer)
	}
	return func(ctx context.Context, tx pgx.Tx, p Parked) error {
		ev, err := c.decode(p.Payload)
		if err != nil {
			return fault.Invalid("EVENT_UNDECODABLE", "the payload is no %s", c.entry.Message.Descriptor().FullName()).With(err)
		}
		return c.call(ctx, tx, &delivery{env: p.envelope(), id: p.EventID, ev: ev})
	}, nil
}

func (b *Bus) noteFailure(ctx context.Context, id uuid.UUID, cause error) error {
	return b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE parked_event SET code = $2, reason = $3, attempts = attempts + 1, retried_at = $4 WHERE id = $1`,
			id, fault.Of(cause).Code, clip(cause.Error()), pg.Time(b.now()))
		return err
	})
}

// DropParked gives up on a parked row; what it was and why stays in the audit record.
func (b *Bus) DropParked(ctx context.Context, id uuid.UUID, reason string) error {
	return b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		p, err := selectParked(ctx, tx, id, "FOR UPDATE")
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM parked_event WHERE id = $1`, id)
		if err != nil {
			return err
		}
		return audit(pg.WithTenant(ctx, p.Tenant), tx, "parked.drop", p, reason)
	})
}

func audit(ctx context.Context, tx pgx.Tx, action string, p Parked, reason string) error {
	detail := map[string]string{
		"kind": p.Kind, "consumer": p.Consumer, "event": p.EventID.String(), "subject": p.Subject,
		"correlation": p.Correlation, "code": p.Code,
	}
	if reason != "" {
		detail["reason"] = clip(reason)
	}
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: action, Resource: "parkedEvents/" + p.ID.String(), Detail: detail})
}

// JSON gives the payload as JSON: of an event by its contract, of a job as it is.
func (p Parked) JSON() (string, error) {
	if p.Kind == KindJob {
		return string(p.Payload), nil
	}
	entry, ok := catalog.BySubject(p.Subject)
	if !ok {
		return "", fault.Precondition("EVENT_UNKNOWN", "no contract of this version has the subject %s", p.Subject)
	}
	ev := entry.Message.New().Interface()
	err := proto.Unmarshal(p.Payload, ev)
	if err != nil {
		return "", fault.Invalid("EVENT_UNDECODABLE", "the payload is no %s", entry.Message.Descriptor().FullName()).With(err)
	}
	raw, err := protojson.Marshal(ev)
	if err != nil {
		return "", fmt.Errorf("bus: parked %s as JSON: %w", p.ID, err)
	}
	return string(raw), nil
}
