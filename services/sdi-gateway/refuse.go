package sdigateway

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"ceralacca.dev/services/internal/telemetry"
)

// doorkeeper logs and counts who is not let in at the callback listener: nothing of what they brought is kept.
type doorkeeper struct {
	ctx     context.Context //nolint:containedctx // of the process: the HTTP server's log knows none
	log     *slog.Logger
	refused metric.Int64Counter
}

func newDoorkeeper(ctx context.Context, log *slog.Logger) (*doorkeeper, error) {
	counter, err := telemetry.Meter().Int64Counter("ceralacca_sdi_callbacks_refused",
		metric.WithDescription("callers of the callback listener that were refused: certificate or request"))
	if err != nil {
		return nil, fmt.Errorf("sdi-gateway: %w", err)
	}
	return &doorkeeper{ctx: ctx, log: log, refused: counter}, nil
}

// request refuses what cannot be read.
func (d *doorkeeper) request(r *http.Request, err error) {
	d.count(r.Context(), "request")
	d.log.WarnContext(r.Context(), "a callback could not be read and was refused", "remote", r.RemoteAddr, "error", err)
}

// Write takes what the HTTP server says of connections: those without the right certificate end in the handshake.
func (d *doorkeeper) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error")) {
		d.count(d.ctx, "certificate")
	}
	d.log.WarnContext(d.ctx, "callback listener: "+string(bytes.TrimSpace(line)))
	return len(line), nil
}

func (d *doorkeeper) count(ctx context.Context, reason string) {
	d.refused.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}
