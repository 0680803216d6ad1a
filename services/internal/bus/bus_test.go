package bus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"ceralacca.dev/proto/catalog"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

func TestAnEventReachesEveryConsumerOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "first", noting("first"))
		bus.On(b, "second", noting("second"))
	})
	want := names("inv", 300)
	for i, name := range want {
		p.emit(t, fmt.Sprintf("tenant%d", i%7), name)
	}
	w.eventuallyNoted("first", want...)
	w.eventuallyNoted("second", want...)
	w.settled(p)
	require.Equal(t, 600, w.scalar(`SELECT count(*) FROM inbox`))
}

func TestEventsOfTenantsThatAreNotConcerned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "some", noting("some"), bus.Concerning(func(_ context.Context, tenants []string) ([]string, error) {
			return slices.DeleteFunc(slices.Clone(tenants), func(t string) bool { return t != "tenant3" }), nil
		}))
		bus.On(b, "blind", noting("blind"), bus.Concerning(func(context.Context, []string) ([]string, error) {
			return nil, errors.New("nobody knows")
		}))
	})
	all := names("inv", 70)
	var mine []string
	for i, name := range all {
		p.emit(t, fmt.Sprintf("tenant%d", i%7), name)
		if i%7 == 3 {
			mine = append(mine, name)
		}
	}
	w.eventuallyNoted("some", mine...)
	w.eventuallyNoted("blind", all...)
	w.settled(p)
	require.Len(t, w.noted("some"), len(mine))
	require.Equal(t, len(mine)+len(all), w.scalar(`SELECT count(*) FROM inbox`), "of the others nothing is kept")
}

func TestARolledBackTransactionPublishesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) })
	stop := errors.New("stop")
	err := p.db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, p.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: "gone"}))
		sp, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, p.Emit(ctx, sp, &invoicev1.InvoiceAccepted{Invoice: "gone too"}))
		require.NoError(t, sp.Commit(ctx))
		return stop
	})
	require.ErrorIs(t, err, stop)
	err = p.db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error {
		sp, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, p.Emit(ctx, sp, &invoicev1.InvoiceAccepted{Invoice: "undone by the savepoint"}))
		require.NoError(t, sp.Rollback(ctx))
		sp, err = tx.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, p.Emit(ctx, sp, &invoicev1.InvoiceAccepted{Invoice: "kept by the savepoint"}))
		require.NoError(t, sp.Commit(ctx))
		return p.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: "kept"})
	})
	require.NoError(t, err)
	w.eventuallyNoted("c", "kept", "kept by the savepoint")
	w.settled(p)
	require.Len(t, w.noted("c"), 2)
}

// The envelope on the wire: what foreign readers of the stream may rely on.
func TestEnvelopeOnTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.UTC)
	p := w.start(t, nil, func(c *bus.Config) { c.Now = func() time.Time { return at } })
	sub, err := p.nc.SubscribeSync("ceralacca.>")
	require.NoError(t, err)
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled,
	}))
	ev := &invoicev1.InvoiceAccepted{Invoice: "tenants/anna/companies/c/invoices/i", Format: "FPR12"}
	var id, alone uuid.UUID
	require.NoError(t, p.db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
		id, err = p.EmitID(bus.WithCorrelation(ctx, "i"), tx, ev)
		require.NoError(t, err)
		alone, err = p.EmitID(ctx, tx, ev)
		return err
	}))
	m, err := sub.NextMsg(soon)
	require.NoError(t, err)
	entry, ok := catalog.ByMessage(ev.ProtoReflect().Descriptor().FullName())
	require.True(t, ok)
	require.Equal(t, entry.Subject, m.Subject)
	traceparent := m.Header.Get("traceparent")
	require.Regexp(t, `^00-01000000000000000000000000000000-[0-9a-f]{16}-01$`, traceparent)
	require.Equal(t, nats.Header{
		"Nats-Msg-Id":           {id.String()},
		"Ceralacca-Time":        {"2026-03-04T05:06:07.123456Z"},
		"Ceralacca-Tenant":      {"anna"},
		"Ceralacca-Correlation": {"i"},
		"traceparent":           {traceparent},
	}, m.Header)
	require.Equal(t, uuid.Version(7), id.Version())
	got := &invoicev1.InvoiceAccepted{}
	require.NoError(t, proto.Unmarshal(m.Data, got))
	require.True(t, proto.Equal(ev, got))

	m, err = sub.NextMsg(soon)
	require.NoError(t, err)
	require.Equal(t, alone.String(), m.Header.Get("Ceralacca-Correlation"), "without a story an event starts its own")
}

// What an event causes carries its story on: correlation, causation, tenant and trace.
func TestAStoryIsOneTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })

	w := newWorld(t)
	var mu sync.Mutex
	var metas []bus.Envelope
	meet := func(ctx context.Context) {
		mu.Lock()
		defer mu.Unlock()
		metas = append(metas, bus.Meta(ctx))
	}
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "accepted", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			meet(ctx)
			require.Equal(t, "anna", pg.Tenant(ctx))
			return b.Emit(ctx, tx, &signv1.DocumentSigned{})
		})
		bus.On(b, "signed", func(ctx context.Context, tx pgx.Tx, _ *signv1.DocumentSigned) error {
			meet(ctx)
			return note(ctx, tx, "signed", bus.Meta(ctx).Correlation)
		})
	})
	ctx, root := otel.Tracer("test").Start(t.Context(), "api call")
	require.NoError(t, p.tryEmit(ctx, "anna", "inv-1"))
	root.End()
	w.eventuallyNoted("signed", "inv-1")
	p.stop()

	require.Len(t, metas, 2)
	first, second := metas[0], metas[1]
	require.Equal(t, "inv-1", first.Correlation)
	require.Empty(t, first.Causation)
	require.Equal(t, "inv-1", second.Correlation)
	require.Equal(t, first.ID, second.Causation)
	require.Equal(t, "anna", second.Tenant)
	require.Equal(t, 1, second.Delivery)
	require.WithinDuration(t, time.Now(), second.Time, time.Minute)

	parent := map[string]string{}
	byID := map[trace.SpanID]string{}
	for _, s := range spans.Ended() {
		if s.SpanContext().TraceID() == root.SpanContext().TraceID() {
			byID[s.SpanContext().SpanID()] = s.Name()
		}
	}
	for _, s := range spans.Ended() {
		if s.SpanContext().TraceID() == root.SpanContext().TraceID() {
			parent[s.Name()] = byID[s.Parent().SpanID()]
		}
	}
	accepted, signed := first.Subject, second.Subject
	require.Equal(t, map[string]string{
		"api call":                         "",
		"emit " + accepted:                 "api call",
		"handle " + accepted + " accepted": "emit " + accepted,
		"emit " + signed:                   "handle " + accepted + " accepted",
		"handle " + signed + " signed":     "emit " + signed,
	}, parent)
}

func TestOrderOfOneSchemaIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, nil)
	sub, err := p.nc.SubscribeSync("ceralacca.>")
	require.NoError(t, err)
	require.NoError(t, sub.SetPendingLimits(-1, -1))
	const n = 3000
	for i := 0; i < n; {
		require.NoError(t, p.db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error {
			for range 1 + i%40 {
				err := p.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: fmt.Sprint(i)})
				if err != nil {
					return err
				}
				i++
			}
			return nil
		}))
	}
	for i := range n {
		m, err := sub.NextMsg(soon)
		require.NoError(t, err)
		ev := &invoicev1.InvoiceAccepted{}
		require.NoError(t, proto.Unmarshal(m.Data, ev))
		require.Equal(t, fmt.Sprint(i), ev.GetInvoice())
	}
}

func TestHandlersSeeTheirTenantOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	foreign := 0
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			var n int
			err := tx.QueryRow(ctx, `SELECT count(*) FROM audit_entry WHERE tenant_id <> $1`, bus.Meta(ctx).Tenant).Scan(&n)
			mu.Lock()
			foreign += n
			mu.Unlock()
			return errors.Join(err, note(ctx, tx, "c", ev.GetInvoice()))
		})
	})
	want := names("inv", 200)
	for i, name := range want {
		p.emit(t, fmt.Sprintf("t%d", i%13), name)
	}
	w.eventuallyNoted("c", want...)
	require.Zero(t, foreign)
	require.Equal(t, 13, w.scalar(`SELECT count(DISTINCT tenant_id) FROM audit_entry`))
}

func TestFactsOfThePlatformHaveNoTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			return note(ctx, tx, "c", ev.GetInvoice()+"/"+bus.Meta(ctx).Tenant)
		})
	})
	require.NoError(t, p.db.System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return errors.Join(
			p.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: "platform"}),
			p.Emit(pg.WithTenant(ctx, "anna"), tx, &invoicev1.InvoiceAccepted{Invoice: "for"}),
		)
	}))
	w.eventuallyNoted("c", "platform/", "for/anna")
}

func TestEmitRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.open(t)
	require.NoError(t, p.db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error {
		err := p.Emit(ctx, tx, &emptypb.Empty{})
		require.Equal(t, "EVENT_UNKNOWN", fault.Of(err).Code)
		err = p.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: string(make([]byte, 300<<10))})
		require.Equal(t, "EVENT_TOO_LARGE", fault.Of(err).Code)
		return nil
	}))
	require.Zero(t, w.scalar(`SELECT count(*) FROM outbox`))
}

func TestMisuseOfOnStopsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	handler := func(context.Context, pgx.Tx, *invoicev1.InvoiceAccepted) error { return nil }
	for want, wire := range map[string]func(*bus.Bus){
		"is no event": func(b *bus.Bus) {
			bus.On(b, "c", func(context.Context, pgx.Tx, *emptypb.Empty) error { return nil })
		},
		"must be a generated message": func(b *bus.Bus) {
			bus.On(b, "c", func(context.Context, pgx.Tx, proto.Message) error { return nil })
		},
		"name is taken":   func(b *bus.Bus) { bus.On(b, "c", handler); bus.On(b, "c", handler) },
		"letters, digits": func(b *bus.Bus) { bus.On(b, "a.b", handler) },
	} {
		p := w.open(t)
		wire(p.Bus)
		require.ErrorContains(t, p.Run(t.Context()), want)
	}
	for _, cfg := range []bus.Config{{}, {Service: "a b"}, {Service: "a"}, {Service: "a", NATS: &nats.Conn{}}} {
		_, err := bus.Open(t.Context(), cfg)
		require.Error(t, err)
	}
}

func TestStreamsOfTheCatalogueAreMadeAndKept(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	js, err := jetstream.New(b.connect(t))
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, bus.Apply(ctx, js, bus.ApplyConfig{MaxAge: time.Hour}))
	for _, want := range catalog.Streams() {
		s, err := js.Stream(ctx, want.Name)
		require.NoError(t, err)
		cfg := s.CachedInfo().Config
		require.Equal(t, want.Subjects, cfg.Subjects)
		require.Equal(t, jetstream.FileStorage, cfg.Storage)
		require.Equal(t, time.Hour, cfg.MaxAge)
	}
	require.NoError(t, bus.Apply(ctx, js, bus.ApplyConfig{MaxAge: 2 * time.Hour, OnlyMissing: true}))
	s, err := js.Stream(ctx, "INVOICE")
	require.NoError(t, err)
	require.Equal(t, time.Hour, s.CachedInfo().Config.MaxAge, "what exists is left alone")
	require.NoError(t, bus.Apply(ctx, js, bus.ApplyConfig{MaxAge: 2 * time.Hour}))
	s, err = js.Stream(ctx, "INVOICE")
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, s.CachedInfo().Config.MaxAge)
}

func TestReadySaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.open(t)
	require.ErrorContains(t, p.Ready(), "streams")
	w.broker.stop()
	require.Eventually(t, func() bool { return p.nc.Status() != nats.CONNECTED }, soon, time.Millisecond)
	require.ErrorContains(t, p.Ready(), "nats is")
}

// TestWeighing: a transaction ends with the event with which those in it weigh enough. Of a consumer that does not weigh them many more
// share one.
func TestWeighing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	together := map[string]map[int64]int{"weighed": {}, "counted": {}} // events by transaction
	slowly := func(consumer string) func(context.Context, pgx.Tx, *invoicev1.InvoiceAccepted) error {
		return func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			var id int64
			err := tx.QueryRow(ctx, `SELECT pg_current_xact_id()::text::bigint`).Scan(&id)
			if err != nil {
				return err
			}
			mu.Lock()
			together[consumer][id]++
			mu.Unlock()
			time.Sleep(10 * time.Millisecond) // the others arrive meanwhile
			return note(ctx, tx, consumer, ev.GetInvoice())
		}
	}
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "weighed", slowly("weighed"), bus.Weighing(100, func(ev *invoicev1.InvoiceAccepted) int64 { return int64(len(ev.GetInvoice())) }))
		bus.On(b, "counted", slowly("counted"))
	}, func(c *bus.Config) { c.Concurrency = 1 })
	invoices := names(strings.Repeat("w", 35), 24) // of 40 characters each
	for _, i := range invoices {
		p.emit(t, "acme", i)
	}
	w.eventuallyNoted("weighed", invoices...)
	w.eventuallyNoted("counted", invoices...)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 3, slices.Max(slices.Collect(maps.Values(together["weighed"]))))
	require.Greater(t, slices.Max(slices.Collect(maps.Values(together["counted"]))), 3)
}
