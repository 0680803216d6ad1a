package run_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

// natsAt runs a NATS server as another machine would.
func natsAt(t *testing.T, dir, address string) *server.Server {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true}
	if address != "" {
		_, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		opts.Port, err = strconv.Atoi(port)
		require.NoError(t, err)
	}
	srv, err := server.NewServer(opts)
	require.NoError(t, err)
	srv.Start()
	require.True(t, srv.ReadyForConnections(20*time.Second))
	return srv
}

// TestNATSGoesAndReturns: while NATS is away the process is not ready and takes
// on work all the same; when it is back, the work goes on by itself.
func TestNATSGoesAndReturns(t *testing.T) {
	dir := t.TempDir()
	srv := natsAt(t, dir, "")
	address := srv.Addr().String()
	seen := make(chan string, 10)
	var ear bustest.Ear
	p := runtest.Start(t, runtest.Options{NATS: "nats://" + address, Targets: []run.Target{
		{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
			bustest.Hear(&ear, h.Bus, "echo", func(_ context.Context, ev *invoicev1.InvoiceAccepted) { seen <- ev.GetInvoice() })
			return nil
		}},
	}})
	h := p.Host("invoice")
	emit := func(name string) {
		t.Helper()
		require.NoError(t, h.DB.Tx(t.Context(), "t1", func(ctx context.Context, tx pgx.Tx) error {
			return h.Bus.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: name})
		}))
	}
	receive := func() string {
		t.Helper()
		select {
		case name := <-seen:
			return name
		case <-time.After(30 * time.Second):
			t.Fatal("the event did not arrive")
			return ""
		}
	}
	emit("before")
	require.Equal(t, "before", receive())

	srv.Shutdown()
	srv.WaitForShutdown()
	ready := func() bool { return !strings.Contains(getAny(t, "http://"+p.Admin+"/readyz"), `"ready": false`) }
	require.Eventually(t, func() bool { return !ready() }, 20*time.Second, 50*time.Millisecond)
	emit("while away")

	srv = natsAt(t, dir, address)
	t.Cleanup(srv.Shutdown)
	require.Equal(t, "while away", receive())
	require.Eventually(t, ready, 20*time.Second, 50*time.Millisecond)
	emit("after")
	require.Equal(t, "after", receive())
}
