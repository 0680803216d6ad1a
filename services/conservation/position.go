package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/metric"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/position"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// archiveBehind is the code of what is held back while the database is older than the replicas.
const archiveBehind = "ARCHIVE_BEHIND"

// lookPatience is how long a transaction waits for the first look at the replicas.
const lookPatience = 2 * time.Second

// bearings compare how far the database has come with what the replicas were told of it. A database that was put back from a backup is
// older than they are: what it forgot lies there, and would be taken in, closed and reported a second time under other names. So nothing
// new is begun until check restore has made it again. The number is committed before its mark is written: what the replicas tell, the
// database knew.
type bearings struct {
	db       *pg.DB
	replicas *replicas
	keeper   string
	every    time.Duration
	log      *slog.Logger
	now      func() time.Time

	turn   sync.Mutex    // of tend
	looked chan struct{} // closed when the replicas were asked for the first time
	marked bool          // by this process, once: its start is a mark
	told   atomic.Int64  // the highest number that this process knows of: a database that is changed under it knows less
	behind atomic.Bool
}

func newBearings(s *Service) *bearings {
	return &bearings{db: s.db, replicas: s.replicas, keeper: s.keeper(), every: s.cfg.Storage.MarkEvery, log: s.log, now: s.now, looked: make(chan struct{})}
}

// errBehind is no fault of the event or the job that meets it: it waits as it does for a database that is away.
func errBehind(format string, a ...any) error {
	return fault.Unavailable(archiveBehind, "the database is older than what the replicas hold (%s): nothing new is begun until "+
		"`ceralacca conserve check restore` without a tenant has made again what it forgot", fmt.Sprintf(format, a...)).
		With(fault.Unavailable(pg.CodeUnavailable, "it was put back from a backup")).WithRetryAfter(10 * time.Second)
}

// mayBegin refuses what must not be done by a database that forgot what lies in the replicas.
func (b *bearings) mayBegin(ctx context.Context, q *db.Queries) error {
	if b == nil {
		return nil // there are no replicas
	}
	t := time.NewTimer(lookPatience)
	defer t.Stop()
	select {
	case <-b.looked:
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return fault.Unavailable("ARCHIVE_POSITION_UNKNOWN", "no replica has answered since the start: whether the database is older than they are is not known").
			With(fault.Unavailable(pg.CodeUnavailable, "it is asked again"))
	}
	row, err := q.GetPosition(ctx)
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("conservation: position: %w", pg.Error(err))
	case row.BehindAt != nil:
		return errBehind("since %s; it knows position %d, they %d", row.BehindAt.UTC().Format(time.RFC3339), row.Number, *row.Ahead)
	case row.Number < b.told.Load():
		return errBehind("it knows position %d and knew %d", row.Number, b.told.Load())
	}
	return nil
}

// mayBegin is asked by whoever begins what adds to the archive.
func (s *Service) mayBegin(ctx context.Context, tenant string) error {
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return s.bearings.mayBegin(ctx, db.New(tx)) })
}

// keep looks and marks until ctx ends.
func (b *bearings) keep(ctx context.Context) error {
	for ctx.Err() == nil {
		err := b.tend(ctx)
		if err != nil && ctx.Err() == nil {
			b.log.WarnContext(ctx, "the position of the database was not compared with that of the replicas: it is tried again", "error", err)
		}
		wait := b.every
		select {
		case <-b.looked:
		default:
			wait = min(b.every, b.replicas.cfg.Probe)
		}
		pause(ctx, wait)
	}
	return nil
}

// tend compares, and marks what was added since the last mark.
func (b *bearings) tend(ctx context.Context) error {
	b.turn.Lock()
	defer b.turn.Unlock()
	row, ahead, err := b.compare(ctx)
	if err != nil {
		return err
	}
	known := max(ahead, b.told.Load())
	if row.BehindAt != nil || known > row.Number {
		err = b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := db.New(tx).SetBehind(ctx, db.SetBehindParams{At: pg.Time(b.now()), Ahead: known})
			return err
		})
		if err != nil {
			return err
		}
		b.behind.Store(true)
		b.open()
		b.log.ErrorContext(ctx, "the database is older than what the replicas hold, as after a backup was put back: nothing is taken in, closed, sealed, reported or destroyed until "+
			"`ceralacca conserve check restore` (without a tenant) has made again what it forgot", "database", row.Number, "replicas", known)
		return nil
	}
	b.behind.Store(false)
	if b.marked && !b.replicas.wrote.Swap(false) {
		b.open()
		return nil
	}
	err = b.mark(ctx)
	if err != nil {
		b.replicas.wrote.Store(true)
		return err
	}
	b.marked = true
	b.open()
	return nil
}

func (b *bearings) open() {
	select {
	case <-b.looked:
	default:
		close(b.looked)
	}
}

// compare reads what the replicas tell, and then what the database knows: a mark that is made in between is known to it.
func (b *bearings) compare(ctx context.Context) (row db.GetPositionRow, ahead int64, err error) {
	read := func() error {
		return b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			row, err = db.New(tx).GetPosition(ctx)
			return notFoundIsNothing(err)
		})
	}
	err = read()
	if err != nil {
		return row, 0, err
	}
	answered, said := false, []string(nil)
	for _, x := range b.replicas.all {
		last, err := b.last(ctx, x, row.ToldAt)
		if err != nil {
			said = append(said, fault.Of(err).Error())
			continue
		}
		answered, ahead = true, max(ahead, last)
	}
	if !answered {
		return row, 0, fault.Unavailable("REPLICA_AWAY", "no replica tells its position: %s", strings.Join(said, "; "))
	}
	err = read()
	return row, ahead, err
}

// last is the highest number that a replica was told.
func (b *bearings) last(ctx context.Context, x *replica, told *time.Time) (last int64, err error) {
	err = x.Check(ctx) // also makes what a new one lacks
	if err != nil {
		return 0, err
	}
	for _, prefix := range position.Prefixes(told, b.now()) {
		for e, err := range x.List(ctx, prefix) {
			if err != nil {
				return 0, err
			}
			last = max(last, position.Number(e.Key))
		}
	}
	return last, nil
}

// mark moves the database on and tells the replicas that are not out.
func (b *bearings) mark(ctx context.Context) error {
	at, number := pg.Time(b.now()), int64(0)
	err := b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		number, err = db.New(tx).MovePosition(ctx, at)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // another process found it behind just now
	}
	if err != nil {
		return fmt.Errorf("conservation: position: %w", err)
	}
	return b.tell(ctx, number, at)
}

func (b *bearings) tell(ctx context.Context, number int64, at time.Time) error {
	for was := b.told.Load(); was < number && !b.told.CompareAndSwap(was, number); was = b.told.Load() {
	}
	raw, err := json.Marshal(map[string]any{"position": number, "time": at.UTC()})
	if err != nil {
		return fmt.Errorf("conservation: position: %w", err)
	}
	o := &object{kind: kindPosition, Object: vault.Object{Key: position.Key(at, number), Size: int64(len(raw)), SHA256: sha256.Sum256(raw)}}
	b.replicas.place(o)
	return b.replicas.write(ctx, o, bytes.NewReader(raw))
}

// caughtUp ends the holding back, once everything that the replicas hold has its rows again.
func (b *bearings) caughtUp(ctx context.Context, f *findings) error {
	_, ahead, err := b.compare(ctx)
	if err != nil {
		return err
	}
	at, number := pg.Time(b.now()), int64(0)
	ctx = telemetry.WithActor(ctx, "service:conservation")
	err = b.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		number, err = db.New(tx).CatchUp(ctx, db.CatchUpParams{Ahead: max(ahead, b.told.Load()), At: at})
		if err != nil {
			return err
		}
		return telemetry.Audit(pg.WithTenant(ctx, b.keeper), tx, telemetry.Act{Action: "archive.caught_up", Resource: "reports/" + f.Report, Detail: map[string]string{"position": fmt.Sprint(number)}})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // it was not behind
	}
	if err != nil {
		return fmt.Errorf("conservation: position: %w", err)
	}
	b.behind.Store(false)
	f.note("the database was older than what the replicas hold; it is not any more, and what was held back goes on")
	return b.tell(ctx, number, at)
}

// observe publishes ceralacca_conservation_behind (0, 1).
func (b *bearings) observe() error {
	gauge, err := telemetry.Meter().Int64ObservableGauge("ceralacca_conservation_behind",
		metric.WithDescription("1 while the database is older than the replicas and nothing is taken in"))
	if err != nil {
		return err
	}
	_, err = telemetry.Meter().RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(gauge, int64(boolInt(b.behind.Load())))
		return nil
	}, gauge)
	return err
}
