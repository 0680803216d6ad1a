// Package telemetry owns how the platform is watched: structured logs with trace ids, OpenTelemetry
// traces and metrics, and the audit record of acts.
//
// It refuses document content and personal data: callers log ids, codes, sizes and durations.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// scope names the instrumentation of everything of ours.
const scope = "ceralacca.dev/services"

// Config says where telemetry goes. The zero value logs JSON lines at level info to standard error,
// keeps metrics for the admin port only and creates trace ids without exporting spans.
type Config struct {
	Service string // service.name of logs, spans and metrics; required
	Version string // service.version; optional

	// OTLPEndpoint is the URL of an OTLP/gRPC collector, e.g. "http://127.0.0.1:4317" (http means
	// without TLS). Empty: nothing is exported.
	OTLPEndpoint string
	// SampleRatio of traces that are recorded when an exporter is configured; 0 means all of them.
	SampleRatio float64

	LogLevel  string    // debug, info (default), warn, error
	LogFormat string    // json (default) or text
	LogOutput io.Writer // default os.Stderr

	// SpanProcessors and MetricReaders are added to the exporters; with any span processor spans
	// are recorded even without OTLPEndpoint.
	SpanProcessors []sdktrace.SpanProcessor
	MetricReaders  []sdkmetric.Reader
}

// Telemetry is what Setup made.
type Telemetry struct {
	// Log writes with the trace id, the tenant and the actor of the context.
	Log *slog.Logger
	// Registry is what the metrics handler serves; further collectors may be registered.
	Registry *prometheus.Registry

	tracers *sdktrace.TracerProvider
	meters  *sdkmetric.MeterProvider
}

// Setup makes the logger and the providers and makes them the process's defaults (slog.Default,
// otel globals). It is called once, by run. A collector that is away is no error: exporters retry.
func Setup(ctx context.Context, cfg Config) (*Telemetry, error) {
	if cfg.Service == "" {
		return nil, errors.New("telemetry: Config.Service is empty: every line and span must name its service")
	}
	log, err := newLogger(cfg)
	if err != nil {
		return nil, err
	}
	res := resource.NewSchemaless(
		attribute.String("service.name", cfg.Service),
		attribute.String("service.version", cfg.Version),
	)
	t := &Telemetry{Log: log, Registry: prometheus.NewRegistry()}
	t.tracers, err = newTracers(ctx, cfg, res)
	if err != nil {
		return nil, err
	}
	t.meters, err = newMeters(ctx, cfg, res, t.Registry)
	if err != nil {
		return nil, errors.Join(err, t.tracers.Shutdown(ctx))
	}
	slog.SetDefault(log)
	otel.SetTracerProvider(t.tracers)
	otel.SetMeterProvider(t.meters)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("telemetry export failed", "error", err)
	}))
	return t, nil
}

func newTracers(ctx context.Context, cfg Config, res *resource.Resource) (*sdktrace.TracerProvider, error) {
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
	for _, p := range cfg.SpanProcessors {
		opts = append(opts, sdktrace.WithSpanProcessor(p))
	}
	if cfg.OTLPEndpoint != "" {
		exp, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.OTLPEndpoint))
		if err != nil {
			return nil, fmt.Errorf("telemetry: trace exporter for %q: %w", cfg.OTLPEndpoint, err)
		}
		opts = append(opts, sdktrace.WithBatcher(exp))
	}
	switch {
	case cfg.OTLPEndpoint == "" && len(cfg.SpanProcessors) == 0:
		// Ids are still made and passed on (logs and `ceralacca trace` need them); nothing is recorded.
		opts = append(opts, sdktrace.WithSampler(sdktrace.NeverSample()))
	case cfg.SampleRatio > 0 && cfg.SampleRatio < 1:
		opts = append(opts, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))))
	default:
		opts = append(opts, sdktrace.WithSampler(sdktrace.AlwaysSample()))
	}
	return sdktrace.NewTracerProvider(opts...), nil
}

func newMeters(ctx context.Context, cfg Config, res *resource.Resource, reg *prometheus.Registry) (*sdkmetric.MeterProvider, error) {
	err := errors.Join(
		reg.Register(collectors.NewGoCollector()),
		reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry: process metrics: %w", err)
	}
	prom, err := otelprom.New(otelprom.WithRegisterer(reg), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("telemetry: prometheus exporter: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(prom)}
	for _, r := range cfg.MetricReaders {
		opts = append(opts, sdkmetric.WithReader(r))
	}
	if cfg.OTLPEndpoint != "" {
		exp, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(cfg.OTLPEndpoint))
		if err != nil {
			return nil, fmt.Errorf("telemetry: metric exporter for %q: %w", cfg.OTLPEndpoint, err)
		}
		opts = append(opts, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exp)))
	}
	return sdkmetric.NewMeterProvider(opts...), nil
}

// Handler serves the metrics in the Prometheus text format.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{Registry: t.Registry})
}

// Shutdown sends what is buffered and stops the exporters; ctx bounds the wait.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	err := errors.Join(t.tracers.Shutdown(ctx), t.meters.Shutdown(ctx))
	if err != nil {
		return fmt.Errorf("telemetry: shutdown: %w", err)
	}
	return nil
}

// Tracer is the tracer of everything of ours. Before Setup it does nothing.
func Tracer() trace.Tracer { return otel.Tracer(scope) }

// Meter is the meter of everything of ours. Before Setup it does nothing.
func Meter() metric.Meter { return otel.Meter(scope) }

func newLogger(cfg Config) (*slog.Logger, error) {
	var level slog.Level
	if cfg.LogLevel != "" {
		err := level.UnmarshalText([]byte(cfg.LogLevel))
		if err != nil {
			return nil, fmt.Errorf("telemetry: log level %q: use debug, info, warn or error", cfg.LogLevel)
		}
	}
	out := cfg.LogOutput
	if out == nil {
		out = os.Stderr
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler
	switch strings.ToLower(cfg.LogFormat) {
	case "", "json":
		h = slog.NewJSONHandler(out, opts)
	case "text":
		h = slog.NewTextHandler(out, opts)
	default:
		return nil, fmt.Errorf("telemetry: log format %q: use json or text", cfg.LogFormat)
	}
	return slog.New(contextHandler{h}).With("service", cfg.Service), nil
}
