package bus_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// second gives a process database connections of its own.
func (w *world) second(t testing.TB) setup {
	db := pgtest.Again(t, w.db)
	return func(c *bus.Config) { c.DB = db }
}

// shorten makes JetStream forget message ids at once, so that repeats reach the consumers.
func (w *world) shorten(t testing.TB, p *process) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(p.nc)
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), "INVOICE")
	require.NoError(t, err)
	cfg := s.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond
	_, err = js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	return js
}

func TestTheSameEventTwiceIsHandledOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) })
	js := w.shorten(t, p)
	want := names("inv", 50)
	for _, name := range want {
		p.emit(t, "anna", name)
	}
	w.eventuallyNoted("c", want...)
	s, err := js.Stream(t.Context(), "INVOICE")
	require.NoError(t, err)
	for round := range 3 {
		for seq := uint64(1); seq <= 50; seq++ {
			m, err := s.GetMsg(t.Context(), seq)
			require.NoError(t, err)
			require.Eventually(t, func() bool { // JetStream forgets an id some time after the duplicate window
				ack, err := js.PublishMsg(t.Context(), jetstreamCopy(m))
				require.NoError(t, err)
				return !ack.Duplicate
			}, soon, 10*time.Millisecond)
		}
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint64(50*(round+2)), info.State.Msgs, "JetStream must not spare us the repeats here")
	}
	w.settled(p)
	w.eventuallyNoted("c", want...)
}

// The process dies after the commit and before the acknowledgement: the connection to NATS is cut
// at exactly that point. The next process gets the events again and must not handle them.
func TestCrashBetweenCommitAndAck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.open(t)
	var cut sync.Once
	bus.On(first.Bus, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
		pg.UnitOf(ctx, tx).After(func() { cut.Do(first.nc.Close) })
		return note(ctx, tx, "c", ev.GetInvoice())
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	require.Eventually(t, func() bool { return first.Ready() == nil }, soon, time.Millisecond)
	want := names("inv", 40)
	require.NoError(t, first.db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error {
		for _, name := range want {
			err := first.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: name})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	require.Eventually(t, func() bool { return first.nc.IsClosed() }, soon, time.Millisecond, "no handler committed")
	cancel()
	require.NoError(t, <-done)
	committed := w.scalar(`SELECT count(*) FROM inbox`)
	require.Positive(t, committed)

	var again atomic.Int64
	second := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			again.Add(1)
			return note(ctx, tx, "c", ev.GetInvoice())
		})
	}, w.second(t))
	w.eventuallyNoted("c", want...)
	w.settled(second)
	w.eventuallyNoted("c", want...)
	require.Equal(t, int64(len(want)-committed), again.Load(), "only what was not committed is handled again")
}

// The transaction is lost after the handlers ran: nothing is acknowledged, everything comes again.
func TestCrashBeforeCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var kills atomic.Int64
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			err := note(ctx, tx, "c", ev.GetInvoice())
			if err == nil && kills.Add(1) <= 5 {
				w.scalar(`SELECT pg_terminate_backend($1)::int`, tx.Conn().PgConn().PID())
			}
			return err
		})
	})
	want := names("inv", 60)
	for _, name := range want {
		p.emit(t, "anna", name)
	}
	w.eventuallyNoted("c", want...)
	w.settled(p)
	w.eventuallyNoted("c", want...)
	require.Greater(t, kills.Load(), int64(5))
}

// A process that lost NATS while a handler runs cannot say that it is still at it: JetStream delivers to
// another process while the first delivery is in hand.
func TestRedeliveryWhileInHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	quick := func(c *bus.Config) { c.AckWait = 200 * time.Millisecond }
	started, calls := make(chan struct{}), atomic.Int64{}
	handler := func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
		if calls.Add(1) == 1 {
			close(started)
			time.Sleep(700 * time.Millisecond)
		}
		return note(ctx, tx, "c", ev.GetInvoice())
	}
	a := w.start(t, func(b *bus.Bus) { bus.On(b, "c", handler) }, quick)
	want := names("inv", 20)
	for _, name := range want {
		a.emit(t, "anna", name)
	}
	<-started
	a.nc.Close()
	b := w.start(t, func(b *bus.Bus) { bus.On(b, "c", handler) }, w.second(t), quick)
	w.eventuallyNoted("c", want...)
	w.settled(b)
	w.eventuallyNoted("c", want...)
}

// A handler that is slower than AckWait keeps its event, and those that wait behind it.
func TestSlowHandlerKeepsItsEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			time.Sleep(5600 * time.Millisecond)
			return note(ctx, tx, "c", ev.GetInvoice())
		})
	}, func(c *bus.Config) { c.AckWait, c.MaxBatch, c.Concurrency = 5*time.Second, 1, 1 }) // longer than a busy machine stops
	want := names("inv", 2)
	for _, name := range want {
		p.emit(t, "anna", name)
	}
	w.eventuallyNoted("c", want...)
	w.settled(p)
	js, err := jetstream.New(p.nc)
	require.NoError(t, err)
	consumer, err := js.Consumer(t.Context(), "INVOICE", service+"_c")
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(want), info.Delivered.Consumer, "nothing was delivered twice")
}

func TestRelayHandover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) })
	leaders := func() int {
		return w.scalar(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity s USING (pid)
			WHERE l.locktype = 'advisory' AND l.granted AND s.application_name = $1`, w.db.Schema())
	}
	require.Eventually(t, func() bool { return leaders() == 1 }, soon, time.Millisecond)
	b := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) }, w.second(t))
	var want []string
	emit := func(p *process, prefix string) {
		for _, name := range names(prefix, 20) {
			p.emit(t, "anna", name)
			want = append(want, name)
		}
	}
	emit(a, "leader-emits")
	emit(b, "follower-emits")
	w.eventuallyNoted("c", want...)
	require.Equal(t, 1, leaders())

	a.stop()
	emit(b, "after-handover")
	w.eventuallyNoted("c", want...)
	require.Equal(t, 1, leaders())

	// The leader's session is killed in the server: it stands for election again.
	require.Equal(t, 1, w.scalar(`SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l JOIN pg_stat_activity s USING (pid)
		WHERE l.locktype = 'advisory' AND s.application_name = $1`, w.db.Schema()))
	emit(b, "after-kill")
	w.eventuallyNoted("c", want...)
	require.Equal(t, 1, leaders())
}

// A commit in a process that does not lead wakes the leader by NOTIFY: the poll would take an hour.
func TestFollowersWakeTheLeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rarely := func(c *bus.Config) { c.PollInterval = time.Hour }
	w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) }, rarely)
	require.Eventually(t, func() bool {
		return w.scalar(`SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'`, w.db.Schema()) == 1
	}, soon, time.Millisecond)
	follower := w.start(t, nil, rarely, w.second(t))
	for _, name := range names("inv", 5) {
		follower.emit(t, "anna", name)
		began := time.Now()
		require.Eventually(t, func() bool { return w.noted("c")[name] == 1 }, 5*time.Second, time.Millisecond)
		require.Less(t, time.Since(began), 5*time.Second)
	}
}

func TestNATSRestartsMidFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) })
	want := names("inv", 600)
	for i, name := range want {
		if i == 150 || i == 400 {
			w.broker.stop()
		}
		if i == 250 || i == 500 {
			w.broker.start()
		}
		p.emit(t, "anna", name) // committing needs no NATS
	}
	w.eventuallyNoted("c", want...)
	w.settled(p)
	w.eventuallyNoted("c", want...)
}

// NATS comes back without its files: streams and consumers are made again, what is still in the
// outbox goes out.
func TestNATSLosesItsStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) })
	p.emit(t, "anna", "before")
	w.eventuallyNoted("c", "before")
	w.settled(p)
	w.broker.stop()
	p.emit(t, "anna", "meanwhile")
	w.broker.opts.StoreDir = t.TempDir()
	w.broker.start()
	p.emit(t, "anna", "after")
	w.eventuallyNoted("c", "before", "meanwhile", "after")
}

func TestNATSIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.open(t)
	bus.On(p.Bus, "c", noting("c"))
	w.broker.stop()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.emit(t, "anna", "inv")
	require.Error(t, p.Ready())
	w.broker.start()
	w.eventuallyNoted("c", "inv")
	require.NoError(t, p.Ready())
	cancel()
	require.NoError(t, <-done)
}

// Run ends also while NATS is away and has never been there.
func TestRunStopsWithoutNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.open(t)
	w.broker.stop()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	time.Sleep(20 * time.Millisecond)
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(soon):
		t.Fatal("Run does not end")
	}
}

// At the end the transaction in hand is finished and what was not begun is given back at once.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	started, release := make(chan struct{}, 1), make(chan struct{})
	a := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			if bus.Meta(ctx).Delivery == 1 {
				select {
				case started <- struct{}{}:
				default:
				}
				<-release
			}
			return note(ctx, tx, "c", ev.GetInvoice())
		})
	}, func(c *bus.Config) { c.AckWait, c.MaxBatch = time.Hour, 10 })
	want := names("inv", 100)
	for _, name := range want {
		a.emit(t, "anna", name)
	}
	<-started
	stopped := make(chan struct{})
	go func() { a.stop(); close(stopped) }()
	time.Sleep(50 * time.Millisecond)
	close(release)
	<-stopped
	require.Positive(t, len(w.noted("c")))
	// With an AckWait of an hour the rest arrives only because it was given back.
	b := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) }, w.second(t),
		func(c *bus.Config) { c.AckWait = time.Hour })
	w.eventuallyNoted("c", want...)
	w.settled(b)
}

func TestPostgresRestartsMidFlight(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cluster, err := postgres.Start(ctx, postgres.Options{Dir: filepath.Join(t.TempDir(), "pg"), Throwaway: true, Private: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	require.NoError(t, pg.Migrate(ctx, cluster.URL(""), service, "buscheck_role"))
	db, err := pg.Open(ctx, pg.Config{URL: cluster.URL(""), Schema: service, Role: "buscheck_role"})
	require.NoError(t, err)
	t.Cleanup(db.Close)
	w := &world{t: t, broker: startBroker(t), db: db}
	p := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) })

	want := names("inv", 600)
	restarted := make(chan error, 1)
	for i, name := range want {
		if i == 200 {
			go func() { restarted <- cluster.Restart(ctx) }()
		}
		// What a client does: repeat while the answer says that the database is away. A commit whose
		// answer was lost may have happened, so the same invoice may be emitted twice here: the
		// count below is of invoices, and the inbox answers for events.
		deadline := time.Now().Add(soon)
		for {
			err := p.tryEmit(ctx, "anna", name)
			if err == nil {
				break
			}
			require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind, "%v", err)
			require.True(t, time.Now().Before(deadline), "%v", err)
			time.Sleep(5 * time.Millisecond)
		}
	}
	require.NoError(t, <-restarted)
	w.admin = pgtest.Admin(t, db)
	require.Eventually(t, func() bool { return len(w.noted("c")) == len(want) }, soon, 20*time.Millisecond)
	w.settled(p)
	require.Equal(t, w.scalar(`SELECT count(*) FROM inbox`), w.scalar(`SELECT count(*) FROM audit_entry`), "each event is handled once")
	require.LessOrEqual(t, w.scalar(`SELECT count(*) FROM audit_entry`), len(want)+2)
	list, _, err := p.ListParked(ctx, bus.Filter{})
	require.NoError(t, err)
	require.Empty(t, list, "an absent database is nobody's attempt")
}

// Two consumers of one service update the same rows in batches; without one order of locking they
// would wait for each other in circles.
func TestConsumersOfTheSameRowsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	invoices := names("inv", 80)
	require.NoError(t, w.db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error {
		for _, name := range invoices {
			_, err := tx.Exec(ctx, `INSERT INTO request_log (tenant_id, method, request_id, request_hash, response) VALUES ('anna', '0', $1, '', '')`, name)
			if err != nil {
				return err
			}
		}
		return nil
	}))
	var failures atomic.Int64
	bump := func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
		_, err := tx.Exec(ctx, `UPDATE request_log SET response = response || '.'::bytea WHERE tenant_id = 'anna' AND method = '0' AND request_id = $1`, ev.GetInvoice())
		if err != nil {
			failures.Add(1)
		}
		return err
	}
	feed := w.start(t, nil)
	for round := range 4 { // the second and fourth time in reverse
		for i := range invoices {
			if round%2 == 1 {
				i = len(invoices) - 1 - i
			}
			feed.emit(t, "anna", invoices[i])
		}
	}
	w.settled(feed)
	p := w.start(t, func(b *bus.Bus) {
		for i := range 3 {
			bus.On(b, fmt.Sprintf("c%d", i), bump)
		}
	}, w.second(t), func(c *bus.Config) { c.MaxBatch, c.Concurrency = 40, 1 })
	w.settled(p)
	require.Equal(t, 80*12, w.scalar(`SELECT sum(length(response)) FROM request_log`))
	require.Zero(t, failures.Load())
}

func TestErrorsOfOneTenantDoNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			if bus.Meta(ctx).Tenant == "ill" {
				return errors.New("always")
			}
			return note(ctx, tx, "c", ev.GetInvoice())
		})
	}, func(c *bus.Config) { c.Backoff = time.Second })
	want := names("inv", 100)
	for _, name := range want {
		p.emit(t, "ill", "ill-"+name)
		p.emit(t, "well", name)
	}
	w.eventuallyNoted("c", want...)
}
