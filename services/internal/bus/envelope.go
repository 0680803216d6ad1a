package bus

import (
	"context"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"ceralacca.dev/services/internal/telemetry"
)

// Headers of an event on the wire. The payload is the protobuf message alone.
const (
	headerID          = nats.MsgIdHdr // "Nats-Msg-Id": the event id, so JetStream can spot repeats too
	headerTime        = "Ceralacca-Time"
	headerTenant      = "Ceralacca-Tenant"
	headerCorrelation = "Ceralacca-Correlation"
	headerCausation   = "Ceralacca-Causation"
	headerTrace       = "traceparent"
)

var namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// Envelope is what travels around an event.
type Envelope struct {
	ID          string    // UUIDv7
	Subject     string    // from the contract
	Tenant      string    // empty for facts of the platform itself
	Correlation string    // the thing whose story this is: the invoice id
	Causation   string    // id of the event whose handling emitted this one; empty at the start of a story
	Time        time.Time // when it was emitted, UTC
	Trace       string    // W3C traceparent of the emitting span
	Delivery    int       // 1 the first time this consumer was offered it
}

type metaKey struct{}
type correlationKey struct{}

// Meta is the envelope of the event being handled in ctx; zero outside handlers.
func Meta(ctx context.Context) Envelope {
	e, _ := ctx.Value(metaKey{}).(Envelope)
	return e
}

// WithMeta puts the envelope of an event into ctx, so that what is emitted there is caused by it:
// for work that an event started and a job finishes.
func WithMeta(ctx context.Context, e Envelope) context.Context {
	return context.WithValue(ctx, metaKey{}, e)
}

// WithCorrelation says whose story the events emitted in ctx belong to. It wins over the envelope
// being handled.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// Correlation is what an event emitted in ctx would be correlated with; empty: with itself.
func Correlation(ctx context.Context) string {
	if id, _ := ctx.Value(correlationKey{}).(string); id != "" {
		return id
	}
	return Meta(ctx).Correlation
}

// header writes an outbox row's envelope.
func (r *row) header() nats.Header {
	h := nats.Header{
		headerID:          {r.id.String()},
		headerTime:        {r.createdAt.UTC().Format(time.RFC3339Nano)},
		headerTenant:      {r.tenant},
		headerCorrelation: {r.correlation},
	}
	if r.causation != "" {
		h[headerCausation] = []string{r.causation}
	}
	if r.trace != "" {
		h[headerTrace] = []string{r.trace}
	}
	return h
}

// readEnvelope reads a delivered message's envelope. ok is false when there is no usable id: then it
// was not a bus of ours that published it, and id is derived from its place in the stream.
func readEnvelope(h nats.Header, subject string, delivery int, stream string, sequence uint64, stored time.Time) (e Envelope, id uuid.UUID, ok bool) {
	first := func(key string) string {
		if v := h[key]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	e = Envelope{
		ID: first(headerID), Subject: subject, Tenant: first(headerTenant),
		Correlation: first(headerCorrelation), Causation: first(headerCausation),
		Trace: first(headerTrace), Delivery: delivery,
	}
	at, err := time.Parse(time.RFC3339Nano, first(headerTime))
	if err != nil {
		at = stored
	}
	e.Time = at.UTC()
	id, err = uuid.Parse(e.ID)
	ok = err == nil && id != uuid.Nil
	if !ok {
		id = foreignID(stream, sequence)
		e.ID = id.String()
	}
	return e, id, ok
}

// eventContext is the context in which the event of e is handled.
func eventContext(ctx context.Context, e Envelope) context.Context {
	return telemetry.Extract(WithMeta(ctx, e), e.Trace)
}
