package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
)

const (
	service = "buscheck" // has no migrations of its own
	soon    = 20 * time.Second
)

// broker is a real nats-server in this process, with its streams in files, on a port that it keeps
// when it is restarted.
type broker struct {
	t    testing.TB
	opts server.Options
	srv  *server.Server
}

func startBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{t: t, opts: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
	}}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	opts := b.opts
	srv, err := server.NewServer(&opts)
	require.NoError(b.t, err)
	srv.Start()
	require.True(b.t, srv.ReadyForConnections(soon), "nats-server does not get ready")
	b.srv = srv
	b.opts.Port = opts.Port
}

func (b *broker) stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

func (b *broker) connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", b.opts.Port),
		nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// world is one service schema and one broker.
type world struct {
	t      testing.TB
	broker *broker
	db     *pg.DB
	admin  *pgx.Conn
	mu     sync.Mutex // of admin
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db := pgtest.Schema(t, service)
	return &world{t: t, broker: startBroker(t), db: db, admin: pgtest.Admin(t, db)}
}

// process is one process of the service: a bus with its own connections, running.
type process struct {
	*bus.Bus
	nc   *nats.Conn
	db   *pg.DB
	stop func() // as a signal would, and waits
}

type setup func(*bus.Config)

// start opens a bus, lets wire register consumers and runs it.
func (w *world) start(t testing.TB, wire func(*bus.Bus), options ...setup) *process {
	t.Helper()
	p := w.open(t, options...)
	if wire != nil {
		wire(p.Bus)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(soon):
				t.Error("the bus does not stop")
			}
		})
	}
	t.Cleanup(p.stop)
	require.Eventually(t, func() bool { return p.Ready() == nil }, soon, 5*time.Millisecond, "the bus does not get ready")
	return p
}

func (w *world) open(t testing.TB, options ...setup) *process {
	t.Helper()
	cfg := bus.Config{
		Service: service, NATS: w.broker.connect(t), DB: w.db, Log: testLog(),
		Backoff: 5 * time.Millisecond, AckWait: 2 * time.Second,
	}
	for _, o := range options {
		o(&cfg)
	}
	b, err := bus.Open(t.Context(), cfg)
	require.NoError(t, err)
	return &process{Bus: b, nc: cfg.NATS, db: cfg.DB}
}

// emit commits one InvoiceAccepted of tenant.
func (p *process) emit(t testing.TB, tenant, invoice string) {
	t.Helper()
	require.NoError(t, p.tryEmit(t.Context(), tenant, invoice))
}

func (p *process) tryEmit(ctx context.Context, tenant, invoice string) error {
	return p.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return p.Emit(bus.WithCorrelation(ctx, invoice), tx, &invoicev1.InvoiceAccepted{Invoice: invoice})
	})
}

// note is what handlers do here: one row in the caller's transaction, so that doing it twice shows.
func note(ctx context.Context, tx pgx.Tx, consumer, invoice string) error {
	return telemetry.Audit(telemetry.WithActor(ctx, "consumer:"+consumer), tx,
		telemetry.Act{Action: "handled", Resource: invoice})
}

// noting is a handler that notes each invoice.
func noting(consumer string) func(context.Context, pgx.Tx, *invoicev1.InvoiceAccepted) error {
	return func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
		return note(ctx, tx, consumer, ev.GetInvoice())
	}
}

// noted counts the notes of consumer by invoice.
func (w *world) noted(consumer string) map[string]int {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	rows, err := w.admin.Query(context.Background(),
		`SELECT resource, count(*) FROM audit_entry WHERE actor = $1 GROUP BY 1`, "consumer:"+consumer)
	require.NoError(w.t, err)
	got := map[string]int{}
	var invoice string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&invoice, &n}, func() error { got[invoice] = n; return nil })
	require.NoError(w.t, err)
	return got
}

// eventuallyNoted waits until consumer has noted exactly each of invoices, once.
func (w *world) eventuallyNoted(consumer string, invoices ...string) {
	w.t.Helper()
	want := map[string]int{}
	for _, i := range invoices {
		want[i] = 1
	}
	var got map[string]int
	deadline := time.Now().Add(soon)
	for time.Now().Before(deadline) {
		got = w.noted(consumer)
		if len(got) >= len(want) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	require.Equal(w.t, want, got)
}

func (w *world) scalar(sql string, args ...any) (n int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NoError(w.t, w.admin.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

// settled waits until nothing is on the way: outbox empty, nothing pending at any consumer.
func (w *world) settled(p *process) {
	w.t.Helper()
	js, err := jetstream.New(p.nc)
	require.NoError(w.t, err)
	require.Eventually(w.t, func() bool {
		if w.scalar(`SELECT count(*) FROM outbox`) > 0 {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		for _, stream := range []string{"INVOICE", "SIGN", "SDI"} {
			s, err := js.Stream(ctx, stream)
			if err != nil {
				return false
			}
			for info := range s.ListConsumers(ctx).Info() {
				if info.NumPending > 0 || info.NumAckPending > 0 {
					return false
				}
			}
		}
		return true
	}, soon, 3*time.Millisecond, "events are still on the way")
}

func names(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%04d", prefix, i)
	}
	return list
}

// testLog shows what the bus says when a test is hunted down with BUS_TEST_LOG=1.
func testLog() *slog.Logger {
	if os.Getenv("BUS_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
