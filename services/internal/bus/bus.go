// Package bus owns how facts travel between services: emitting is a row in the caller's transaction,
// consuming is a transaction of the consumer. A relay publishes committed rows to JetStream; durable
// consumers hand each event to its handler exactly once, as the inbox table guarantees.
//
// It refuses order: handlers accept events of one invoice in any sequence. It refuses documents:
// events carry ids, hashes and references. And it never drops an event on its own: what cannot be
// handled is parked for an operator.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// Config is what a Bus is made of. Service, NATS and DB are required; the rest has defaults.
type Config struct {
	Service string     // owns the schema and names the durable consumers
	NATS    *nats.Conn // should reconnect for ever (nats.MaxReconnects(-1))
	DB      *pg.DB     // of the service's schema
	Log     *slog.Logger
	Now     func() time.Time // default time.Now

	Replicas int           // of streams that this bus has to create; default 1
	MaxAge   time.Duration // how long streams keep events; default 30 days

	MaxBatch       int           // events in one transaction; default 128
	Concurrency    int           // transactions at a time for each consumer; default 2
	MaxAttempts    int           // deliveries before an event is parked; default 12
	AckWait        time.Duration // before JetStream delivers again what a killed process held; default 5 s
	HandlerTimeout time.Duration // for one transaction of handlers; default 30 s
	Backoff        time.Duration // before the second attempt, doubled each time up to a minute; default 100 ms
	PollInterval   time.Duration // how often the relay looks without being woken; default 1 s
	Linger         time.Duration // how long a busy relay or consumer lets events gather at most; default 50 ms, negative for none
}

// Bus emits and consumes for one service.
type Bus struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	db      *pg.DB
	tracer  trace.Tracer
	metrics *metrics
	relay   *relay
	turns   chan struct{} // held by consumers in a transaction: half of the pool, the rest is for calls

	mu        sync.Mutex
	consumers map[string]*consumer
	retriers  map[string]Retrier
	misuse    []error
	running   bool

	streamsReady atomic.Bool
}

// Open checks cfg and makes the bus. Nothing runs, and nothing is asked of NATS, until Run.
func Open(_ context.Context, cfg Config) (*Bus, error) {
	switch {
	case cfg.Service == "":
		return nil, errors.New("bus: Config.Service is empty")
	case !namePattern.MatchString(cfg.Service):
		return nil, fmt.Errorf("bus: service name %q: want letters, digits, - and _", cfg.Service)
	case cfg.NATS == nil:
		return nil, errors.New("bus: Config.NATS is nil")
	case cfg.DB == nil:
		return nil, errors.New("bus: Config.DB is nil")
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(telemetry.Meter(), cfg.Service)
	if err != nil {
		return nil, err
	}
	b := &Bus{
		cfg: cfg, log: cfg.Log.With("bus", cfg.Service), now: cfg.Now, db: cfg.DB,
		tracer: telemetry.Tracer(), metrics: m,
		turns:     make(chan struct{}, max(cfg.DB.Pool().Config().MaxConns/2, 2)),
		consumers: map[string]*consumer{}, retriers: map[string]Retrier{},
	}
	b.relay = newRelay(b)
	return b, nil
}

func (cfg Config) withDefaults() Config {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Replicas = orDefault(cfg.Replicas, 1)
	cfg.MaxAge = orDefault(cfg.MaxAge, 30*24*time.Hour)
	cfg.MaxBatch = orDefault(cfg.MaxBatch, 128)
	cfg.Concurrency = orDefault(cfg.Concurrency, 2)
	cfg.MaxAttempts = orDefault(cfg.MaxAttempts, 12)
	cfg.AckWait = orDefault(cfg.AckWait, 5*time.Second)
	cfg.HandlerTimeout = orDefault(cfg.HandlerTimeout, 30*time.Second)
	cfg.Backoff = orDefault(cfg.Backoff, 100*time.Millisecond)
	cfg.PollInterval = orDefault(cfg.PollInterval, time.Second)
	cfg.Linger = orDefault(cfg.Linger, 50*time.Millisecond)
	return cfg
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

// Run relays and consumes until ctx ends; then it finishes the transactions in hand, gives back what
// it had not begun, and returns nil. Errors of On come out here, before anything runs. A NATS or
// PostgreSQL that is away is no error: Run waits for it and goes on (see Ready).
func (b *Bus) Run(ctx context.Context) error {
	b.mu.Lock()
	b.running = true
	err := errors.Join(b.misuse...)
	consumers := make([]*consumer, 0, len(b.consumers))
	for _, c := range b.consumers {
		consumers = append(consumers, c)
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	js, err := jetstream.New(b.cfg.NATS)
	if err != nil {
		return fmt.Errorf("bus: jetstream: %w", err)
	}
	err = b.awaitStreams(ctx, js)
	if err != nil {
		return nil //nolint:nilerr // only the end of ctx ends the wait
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.relay.run(gctx) })
	for _, c := range consumers {
		g.Go(func() error { return c.run(gctx, js) })
	}
	return g.Wait()
}

// Ready is nil once streams and consumers are in place and NATS is connected; else it says what is
// missing. It does not ask the database: DB.Ping does.
func (b *Bus) Ready() error {
	if s := b.cfg.NATS.Status(); s != nats.CONNECTED {
		return fmt.Errorf("bus: nats is %s%s", s, b.lost())
	}
	if !b.streamsReady.Load() {
		return errors.New("bus: the streams are not in place yet")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.consumers {
		if !c.attached.Load() {
			return fmt.Errorf("bus: consumer %s is not attached yet", c.name)
		}
	}
	return nil
}

// lost is what is known of a connection that is away.
func (b *Bus) lost() string {
	said := ""
	for _, server := range b.cfg.NATS.Servers() {
		if u, err := url.Parse(server); err == nil {
			said += ", server " + u.Redacted()
		}
	}
	if err := b.cfg.NATS.LastError(); err != nil {
		said += ": " + err.Error()
	}
	return said
}

// awaitStreams makes sure that the streams exist, for as long as that takes.
func (b *Bus) awaitStreams(ctx context.Context, js jetstream.JetStream) error {
	for attempt := 1; ; attempt++ {
		err := nats.ErrDisconnected
		if b.cfg.NATS.IsConnected() { // else each question would wait for its own timeout
			err = Apply(ctx, js, ApplyConfig{Replicas: b.cfg.Replicas, MaxAge: b.cfg.MaxAge, OnlyMissing: true})
		}
		if err == nil {
			b.streamsReady.Store(true)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if attempt&(attempt-1) == 0 { // at once, then ever more rarely: NATS may be away for long
			b.log.WarnContext(ctx, "streams are not in place: waiting for NATS", "error", err, "attempt", attempt)
		}
		err = sleep(ctx, backoff(100*time.Millisecond, attempt, time.Second))
		if err != nil {
			return err
		}
	}
}

// restoreStreams makes streams again that a NATS server lost; what is in outboxes then goes out.
func (b *Bus) restoreStreams(ctx context.Context) {
	js, err := jetstream.New(b.cfg.NATS)
	if err == nil {
		err = Apply(ctx, js, ApplyConfig{Replicas: b.cfg.Replicas, MaxAge: b.cfg.MaxAge, OnlyMissing: true})
	}
	if err != nil {
		b.log.WarnContext(ctx, "streams are missing and cannot be made", "error", err)
	}
}

// backoff doubles first for each attempt after the first, up to most.
func backoff(first time.Duration, attempt int, most time.Duration) time.Duration {
	d := first
	for i := 1; i < attempt && d < most; i++ {
		d *= 2
	}
	return min(d, most)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
