package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// handle brings a batch to its end: each delivery is acknowledged, given back for later, or parked. The
// transaction in hand is finished also when ctx ends.
func (c *consumer) handle(ctx context.Context, group []*delivery) {
	slices.SortFunc(group, func(a, b *delivery) int { // one order for all who lock rows
		return cmp.Or(cmp.Compare(a.env.Tenant, b.env.Tenant), cmp.Compare(a.env.Correlation, b.env.Correlation), cmp.Compare(a.sequence, b.sequence))
	})
	sound := group[:0:0]
	for _, d := range group {
		if d.fault != nil {
			c.fail(ctx, d, d.fault)
			continue
		}
		sound = append(sound, d)
	}
	c.settle(ctx, c.ofConcern(ctx, sound))
}

// ofConcern acknowledges the deliveries that concern nobody, and gives the others.
func (c *consumer) ofConcern(ctx context.Context, group []*delivery) []*delivery {
	if c.concerned == nil {
		return group
	}
	var tenants []string
	for _, d := range group { // in order of tenants
		if t := d.env.Tenant; t != "" && (len(tenants) == 0 || tenants[len(tenants)-1] != t) {
			tenants = append(tenants, t)
		}
	}
	if len(tenants) == 0 {
		return group
	}
	named, err := c.concerned(ctx, tenants)
	if err != nil {
		c.b.log.DebugContext(ctx, "whom events concern is not known, all are handled", "consumer", c.name, "error", err)
		return group
	}
	var mine, others []*delivery
	for _, d := range group {
		if d.env.Tenant == "" || slices.Contains(named, d.env.Tenant) {
			mine = append(mine, d)
		} else {
			others = append(others, d)
		}
	}
	c.ack(ctx, others)
	c.metrics.count(ctx, c.metrics.handled, len(others))
	return mine
}

// settle handles a batch in one transaction. When a delivery fails, those before it are handled again
// without it, then it alone, then those after it: a poison event costs two transactions more and holds up
// nobody. When only its tenant is known, those of that tenant are handled one by one.
func (c *consumer) settle(ctx context.Context, group []*delivery) {
	for len(group) > 0 {
		if ctx.Err() != nil {
			giveBack(group)
			return
		}
		from, to, err := c.attempt(ctx, group)
		switch {
		case err == nil:
			c.ack(ctx, group)
			return
		case len(group) == 1:
			c.fail(ctx, group[0], err)
			return
		case pg.Away(err):
			for _, d := range group {
				c.fail(ctx, d, err)
			}
			return
		}
		c.settle(ctx, group[:from])
		for i := from; i < to; i++ {
			c.settle(ctx, group[i:i+1])
		}
		group = group[to:]
	}
}

// attempt is one transaction: inbox, then the handlers, tenant by tenant. The error is the fault of one of
// group[from:to]: of the delivery whose handler returned it, or of those of the tenant whose part could not
// be finished. A commit that fails is blamed on the last part: trying the others again shows.
func (c *consumer) attempt(ctx context.Context, group []*delivery) (from, to int, err error) {
	tctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.b.cfg.HandlerTimeout)
	defer cancel()
	began := time.Now()
	var fresh map[uuid.UUID]bool
	repeats := 0
	from, to = 0, len(group)
	part := func(first, next int) func(ctx context.Context, tx pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) (err error) {
			if first == 0 { // the inbox knows no tenants: one statement for all
				fresh, err = c.enter(ctx, tx, group)
				if err != nil {
					return err
				}
			}
			for i, d := range group[first:next] {
				if !fresh[d.id] {
					repeats++
					continue
				}
				delete(fresh, d.id) // the same event twice in one batch is handled once
				from, to = first+i, first+i+1
				err = c.call(ctx, tx, d)
				if err != nil {
					return err
				}
			}
			from, to = first, next
			return nil
		}
	}
	var parts []pg.Part
	for first, next := 0, 0; first < len(group); first = next {
		tenant := group[first].env.Tenant
		for next < len(group) && group[next].env.Tenant == tenant {
			next++
		}
		parts = append(parts, pg.Part{Tenant: tenant, Run: part(first, next)})
	}
	err = c.b.db.Several(tctx, parts)
	c.metrics.took(ctx, time.Since(began))
	if err == nil {
		c.metrics.count(ctx, c.metrics.handled, len(group)-repeats)
		c.metrics.count(ctx, c.metrics.duplicate, repeats)
	}
	return from, to, err
}

// enter records the group in the inbox and tells which events were not there before. A concurrent
// transaction with the same event is waited for.
func (c *consumer) enter(ctx context.Context, tx pgx.Tx, group []*delivery) (map[uuid.UUID]bool, error) {
	ids := make([]uuid.UUID, len(group))
	for i, d := range group {
		ids[i] = d.id
	}
	// One order for all: two batches with the same events must not wait for each other.
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	rows, err := tx.Query(ctx, `
		INSERT INTO inbox (event_id, consumer) SELECT unnest($1::uuid[]), $2
		ON CONFLICT DO NOTHING RETURNING event_id`, ids, c.name)
	if err != nil {
		return nil, fmt.Errorf("bus: inbox: %w", err)
	}
	fresh := make(map[uuid.UUID]bool, len(group))
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		fresh[id] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("bus: inbox: %w", err)
	}
	return fresh, nil
}

// call runs the handler of one event in its own span, a child of the span that emitted it.
func (c *consumer) call(ctx context.Context, tx pgx.Tx, d *delivery) (err error) {
	ctx, span := c.b.tracer.Start(eventContext(ctx, d.env), "handle "+d.env.Subject+" "+c.name,
		trace.WithSpanKind(trace.SpanKindConsumer))
	defer func() {
		if p := recover(); p != nil {
			c.b.log.ErrorContext(ctx, "handler panicked", "consumer", c.name, "event", d.env.ID,
				"panic", p, "stack", string(debug.Stack()))
			err = fault.Internal("HANDLER_PANIC", "the handler of %s panicked: %v", c.name, p)
		}
		if err != nil {
			span.SetStatus(codes.Error, fault.Of(err).Code)
		}
		span.End()
	}()
	return c.handler(ctx, tx, d.ev)
}

func (c *consumer) ack(ctx context.Context, group []*delivery) {
	for _, d := range group {
		err := d.msg.Ack()
		if err != nil {
			// Handled and committed: the inbox knows the event when it comes again.
			c.b.log.DebugContext(ctx, "acknowledgement not sent", "consumer", c.name, "event", d.env.ID, "error", err)
		}
	}
}

func giveBack(group []*delivery) {
	for _, d := range group {
		_ = d.msg.Nak() // if it does not arrive, AckWait gives the message back
	}
}

// fail decides about one delivery that could not be handled.
func (c *consumer) fail(ctx context.Context, d *delivery, err error) {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		giveBack([]*delivery{d})
		return
	}
	spent := d.env.Delivery >= c.b.cfg.MaxAttempts && !pg.Away(err) // an absent database is nobody's attempt
	if !fault.Permanent(err) && !spent {
		c.later(ctx, d, err)
		return
	}
	parkErr := c.park(ctx, d, err)
	if parkErr != nil {
		c.later(ctx, d, errors.Join(err, parkErr))
		return
	}
	c.metrics.count(ctx, c.metrics.aside, 1)
	c.b.log.ErrorContext(eventContext(ctx, d.env), "event parked", "consumer", c.name, "event", d.env.ID,
		"subject", d.env.Subject, "attempts", d.env.Delivery, "code", fault.Of(err).Code, "error", err)
	_ = d.msg.TermWithReason("parked: " + fault.Of(err).Code) // lost: the inbox answers the repeat
}

func (c *consumer) later(ctx context.Context, d *delivery, err error) {
	pause := backoff(c.b.cfg.Backoff, d.env.Delivery, time.Minute)
	if f := fault.Of(err); f.RetryAfter > pause {
		pause = min(f.RetryAfter, time.Minute)
	}
	c.metrics.count(ctx, c.metrics.retried, 1)
	c.b.log.WarnContext(eventContext(ctx, d.env), "event failed, will be tried again", "consumer", c.name,
		"event", d.env.ID, "subject", d.env.Subject, "attempt", d.env.Delivery, "pause", pause, "error", err)
	_ = d.msg.NakWithDelay(pause) // lost: AckWait gives the message back
}

// gone tells whether a consumer has to be made again.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoHeartbeat)
}
