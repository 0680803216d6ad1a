package telemetry

import (
	"context"
	"encoding/hex"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

type contextKey uint8

const (
	actorKey contextKey = iota
	tenantKey
)

// WithActor says who acts in ctx, in the form kind:id, e.g. "key:k_3f9", "service:signer",
// "oidc:marta". auth sets it once per call.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey, actor)
}

// Actor is who acts in ctx; empty when nobody said.
func Actor(ctx context.Context) string {
	s, _ := ctx.Value(actorKey).(string)
	return s
}

// WithTenant says for whom ctx acts. pg sets it for each transaction.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey, tenant)
}

// Tenant is for whom ctx acts; empty outside any tenant.
func Tenant(ctx context.Context) string {
	s, _ := ctx.Value(tenantKey).(string)
	return s
}

// Inject gives the trace context of ctx as a W3C traceparent; empty when there is none.
func Inject(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	// Written by hand: the propagator would allocate a carrier and a map for each event.
	tid, sid := sc.TraceID(), sc.SpanID()
	b := make([]byte, 55)
	copy(b, "00-")
	hex.Encode(b[3:35], tid[:])
	b[35] = '-'
	hex.Encode(b[36:52], sid[:])
	copy(b[52:], "-00")
	if sc.IsSampled() {
		b[54] = '1'
	}
	return string(b)
}

// Extract puts the trace context of a W3C traceparent into ctx as the remote parent. A malformed
// traceparent leaves ctx as it is: a foreign header must not stop an event.
func Extract(ctx context.Context, traceparent string) context.Context {
	sc := parseTraceparent(traceparent)
	if !sc.IsValid() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// TraceID is the trace id inside a traceparent, 32 lower-case hex digits; empty when malformed.
func TraceID(traceparent string) string {
	sc := parseTraceparent(traceparent)
	if !sc.IsValid() {
		return ""
	}
	return sc.TraceID().String()
}

// parseTraceparent reads version 00 exactly and later versions by their first four fields.
// spec: W3C Trace Context §3.2.2
func parseTraceparent(s string) trace.SpanContext {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return trace.SpanContext{}
	}
	if s[:2] == "ff" || (s[:2] == "00" && len(s) != 55) || (len(s) > 55 && s[55] != '-') {
		return trace.SpanContext{}
	}
	var version, flags [1]byte
	_, err := hex.Decode(version[:], []byte(s[:2]))
	if err != nil {
		return trace.SpanContext{}
	}
	tid, err := trace.TraceIDFromHex(s[3:35])
	if err != nil {
		return trace.SpanContext{}
	}
	sid, err := trace.SpanIDFromHex(s[36:52])
	if err != nil {
		return trace.SpanContext{}
	}
	_, err = hex.Decode(flags[:], []byte(s[53:55]))
	if err != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: tid, SpanID: sid, Remote: true,
		TraceFlags: trace.TraceFlags(flags[0]) & trace.FlagsSampled,
	})
}

// contextHandler adds what the context knows to each line.
type contextHandler struct{ slog.Handler }

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	if sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if t := Tenant(ctx); t != "" {
		r.AddAttrs(slog.String("tenant", t))
	}
	if a := Actor(ctx); a != "" {
		r.AddAttrs(slog.String("actor", a))
	}
	return h.Handler.Handle(ctx, r)
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextHandler{h.Handler.WithAttrs(attrs)}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name)}
}
