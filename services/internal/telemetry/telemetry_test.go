package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
)

// Setup changes the process's defaults, so its tests do not run in parallel.
func setup(t *testing.T, cfg telemetry.Config) *telemetry.Telemetry {
	t.Helper()
	tracer, meter, log := otel.GetTracerProvider(), otel.GetMeterProvider(), slog.Default()
	cfg.Service = "check"
	tel, err := telemetry.Setup(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, tel.Shutdown(context.Background()))
		otel.SetTracerProvider(tracer)
		otel.SetMeterProvider(meter)
		slog.SetDefault(log)
	})
	return tel
}

func TestALineTellsTraceTenantAndActor(t *testing.T) {
	var out bytes.Buffer
	tel := setup(t, telemetry.Config{LogOutput: &out})
	ctx := telemetry.WithActor(telemetry.WithTenant(t.Context(), "anna"), "key:k1")
	ctx, span := telemetry.Tracer().Start(ctx, "call")
	defer span.End()
	tel.Log.With("a", 1).WithGroup("g").InfoContext(ctx, "hello", "b", 2)
	tel.Log.Debug("not shown")
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "check", line["service"])
	g, ok := line["g"].(map[string]any)
	require.True(t, ok)
	require.Equal(t, span.SpanContext().TraceID().String(), g["trace_id"])
	require.Equal(t, "anna", g["tenant"])
	require.Equal(t, "key:k1", g["actor"])
}

func TestIdsAreMadeAndNothingIsRecordedWithoutExporter(t *testing.T) {
	setup(t, telemetry.Config{LogOutput: io.Discard, LogFormat: "text"})
	ctx, span := telemetry.Tracer().Start(t.Context(), "call")
	require.True(t, span.SpanContext().IsValid())
	require.False(t, span.IsRecording())
	require.Equal(t, span.SpanContext().TraceID().String(), telemetry.TraceID(telemetry.Inject(ctx)))
}

func TestSpansAreRecordedForAProcessor(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	setup(t, telemetry.Config{LogOutput: io.Discard, SpanProcessors: []sdktrace.SpanProcessor{rec}})
	_, span := telemetry.Tracer().Start(t.Context(), "call")
	span.End()
	require.Len(t, rec.Ended(), 1)
}

func TestMetricsAreServed(t *testing.T) {
	tel := setup(t, telemetry.Config{LogOutput: io.Discard})
	counter, err := telemetry.Meter().Int64Counter("ceralacca_check")
	require.NoError(t, err)
	counter.Add(t.Context(), 3)
	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Contains(t, rec.Body.String(), "ceralacca_check_total 3")
	require.Contains(t, rec.Body.String(), "go_goroutines")
}

func TestSetupRefusesBadConfig(t *testing.T) {
	for want, cfg := range map[string]telemetry.Config{
		"Service is empty": {},
		"log level":        {Service: "a", LogLevel: "loud"},
		"log format":       {Service: "a", LogFormat: "xml"},
	} {
		_, err := telemetry.Setup(t.Context(), cfg)
		require.ErrorContains(t, err, want)
	}
}

// What we write by hand is what the standard propagator writes and reads.
func TestTraceparentAgreesWithTheStandardPropagator(t *testing.T) {
	t.Parallel()
	standard := propagation.TraceContext{}
	rapid.Check(t, func(r *rapid.T) {
		var cfg trace.SpanContextConfig
		copy(cfg.TraceID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "trace"))
		copy(cfg.SpanID[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(r, "span"))
		if rapid.Bool().Draw(r, "sampled") {
			cfg.TraceFlags = trace.FlagsSampled
		}
		ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(cfg))
		carrier := propagation.MapCarrier{}
		standard.Inject(ctx, carrier)
		require.Equal(r, carrier["traceparent"], telemetry.Inject(ctx))
		back := trace.SpanContextFromContext(telemetry.Extract(context.Background(), telemetry.Inject(ctx)))
		want := trace.SpanContextFromContext(standard.Extract(context.Background(), carrier))
		require.True(r, want.Equal(back))
	})
}

func FuzzExtract(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what")
	f.Add("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("00-00000000000000000000000000000000-b7ad6b7169203331-01")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		sc := trace.SpanContextFromContext(telemetry.Extract(context.Background(), s))
		want := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": s}))
		if want.IsValid() {
			require.Equal(t, want.TraceID(), sc.TraceID())
			require.Equal(t, want.SpanID(), sc.SpanID())
		}
		require.Equal(t, sc.IsValid(), telemetry.TraceID(s) != "")
	})
}

func TestAuditIsPartOfTheTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, "telcheck")
	act := telemetry.Act{Action: "key.create", Resource: "tenants/anna/keys/k1", Detail: map[string]string{"scope": "read"}}
	ctx := telemetry.WithActor(t.Context(), "oidc:marta")
	require.ErrorContains(t, db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error {
		return telemetry.Audit(ctx, tx, act)
	}), "no actor")
	require.ErrorIs(t, db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, telemetry.Audit(ctx, tx, act))
		return io.EOF
	}), io.EOF)
	ctx = telemetry.Extract(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	require.NoError(t, db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error { return telemetry.Audit(ctx, tx, act) }))
	require.NoError(t, db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		act.Outcome = "KEY_REVOKED"
		return telemetry.Audit(pg.WithTenant(ctx, "bruno"), tx, act)
	}))
	rows, err := pgtest.Admin(t, db).Query(t.Context(),
		`SELECT tenant_id || '|' || actor || '|' || action || '|' || resource || '|' || outcome || '|' || (detail->>'scope') || '|' || trace_id FROM audit_entry ORDER BY tenant_id`)
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{
		"anna|oidc:marta|key.create|tenants/anna/keys/k1|ok|read|0af7651916cd43dd8448eb211c80319c",
		"bruno|oidc:marta|key.create|tenants/anna/keys/k1|KEY_REVOKED|read|0af7651916cd43dd8448eb211c80319c",
	}, got)
}
