package e2e

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/tests/harness"
)

// collector is an OTLP receiver, as an operator would run one.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	mu sync.Mutex
	// trace id -> service -> names of its spans
	traces map[string]map[string]map[string]bool
}

func startCollector(t *testing.T) (*collector, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &collector{traces: map[string]map[string]map[string]bool{}}
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return c, "http://" + listener.Addr().String()
}

// Export takes spans in.
func (c *collector) Export(_ context.Context, req *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				id := hex.EncodeToString(span.GetTraceId())
				if c.traces[id] == nil {
					c.traces[id] = map[string]map[string]bool{}
				}
				if c.traces[id][service] == nil {
					c.traces[id][service] = map[string]bool{}
				}
				c.traces[id][service][span.GetName()] = true
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func (c *collector) spans(trace string) map[string]map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	copied := map[string]map[string]bool{}
	for service, names := range c.traces[trace] {
		copied[service] = map[string]bool{}
		for name := range names {
			copied[service][name] = true
		}
	}
	return copied
}

// TestOneTrace: from the API call to the sealed package, across processes and the bus, it is one trace,
// exported by OTLP; and the logs of all that say nothing of what is in the invoice.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	received, endpoint := startCollector(t)
	p := harness.T(t, harness.Options{Mode: harness.ManyProcesses, Env: []string{"CERALACCA_OTLP_ENDPOINT=" + endpoint, "CERALACCA_LOG_LEVEL=debug"}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, p.Prepare(ctx))
	c, err := p.Onboard(ctx, 1)
	require.NoError(t, err)
	subscribe(ctx, t, c)
	name, err := c.Submit(ctx, "FPR12", "SBXRC00", "TRACE-1")
	require.NoError(t, err)
	invoice, err := c.AwaitState(ctx, name, true, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
	require.NoError(t, err)
	seal(ctx, t, c)

	wanted := []string{"invoice", "signer", "sdi-gateway", "conservation", "notification"}
	var seen map[string]map[string]bool
	for {
		seen = received.spans(invoice.GetTraceId())
		complete := seen["conservation"]["conservation.seal"]
		for _, service := range wanted {
			complete = complete && len(seen[service]) > 0
		}
		if complete {
			break
		}
		require.NoError(t, ctx.Err(), "trace %s has only %v", invoice.GetTraceId(), seen)
		time.Sleep(200 * time.Millisecond)
	}

	logs, err := p.Logs()
	require.NoError(t, err)
	require.Greater(t, len(logs), 1000, "the processes log at debug level")
	for _, secret := range []string{c.Key, c.VAT, "Officine", "FatturaElettronica", "PrezzoUnitario"} {
		require.NotContains(t, logs, secret, "a log tells more than it may")
	}
}
