package bus

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ceralacca.dev/services/internal/pg"
)

const (
	relayBatch    = 512              // rows read, published and deleted together
	ackTimeout    = 10 * time.Second // for JetStream to confirm a batch
	electionEvery = 500 * time.Millisecond
	pingEvery     = 5 * time.Second // to notice a leader's connection that died silently
)

// relay publishes what the outbox holds. Of all processes of a service one leads: the holder of a
// session lock in the service's schema. When its connection dies, the lock is free at once.
type relay struct {
	b       *Bus
	channel string
	lock    int64

	pace    pace // of the leader's loop only
	leading atomic.Bool
	wake    chan struct{} // rows may be waiting: for the leader of this process
	notify  chan struct{} // rows may be waiting: tell the leader in another process
}

func newRelay(b *Bus) *relay {
	h := fnv.New64a()
	h.Write([]byte("outbox relay:" + b.db.Schema()))
	return &relay{
		b: b, channel: "outbox_" + b.db.Schema(), lock: int64(h.Sum64()), //nolint:gosec // any 64 bits will do
		wake: make(chan struct{}, 1), notify: make(chan struct{}, 1),
	}
}

// committed is called after each commit that left rows. It neither blocks nor talks to the database:
// NOTIFY inside a transaction would take a lock over all commits of the server.
func (r *relay) committed() {
	if r.leading.Load() {
		signal(r.wake)
		return
	}
	signal(r.notify)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *relay) run(ctx context.Context) error {
	done := make(chan struct{})
	go func() { defer close(done); r.tell(ctx) }()
	for attempt := 1; ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := r.term(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > 10*time.Second {
			attempt = 1
		}
		r.b.log.WarnContext(ctx, "relay interrupted", "error", err, "attempt", attempt)
		if errors.Is(err, jetstream.ErrNoStreamResponse) {
			r.b.restoreStreams(ctx)
		}
		_ = sleep(ctx, backoff(100*time.Millisecond, attempt, 3*time.Second)) // ends early with ctx only
	}
	<-done
	return nil
}

// tell passes commits of this process on to a leader elsewhere, many commits at a time. A lost
// notification costs the leader's poll interval, no event.
func (r *relay) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.notify:
		}
		if r.leading.Load() {
			signal(r.wake)
			continue
		}
		_, err := r.b.db.Pool().Exec(ctx, `SELECT pg_notify($1, '')`, r.channel)
		if err != nil && ctx.Err() == nil {
			r.b.log.DebugContext(ctx, "relay: notify failed, the poll will find the rows", "error", err)
		}
		if sleep(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// term is one time of leadership: from the election to the first error.
func (r *relay) term(ctx context.Context) error {
	conn, err := r.b.db.Dedicated(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = r.elect(ctx, conn)
	if err != nil {
		return err
	}
	listener, err := r.b.db.Dedicated(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close(context.WithoutCancel(ctx)) }()
	_, err = listener.Exec(ctx, `LISTEN `+pgx.Identifier{r.channel}.Sanitize())
	if err != nil {
		return pg.Error(err)
	}
	// A reader of all tenants, for this session only; no transaction per batch is needed then.
	_, err = conn.Exec(ctx, `SET ceralacca.scope = 'system'`)
	if err != nil {
		return pg.Error(err)
	}
	r.leading.Store(true)
	defer r.leading.Store(false)
	r.b.log.InfoContext(ctx, "relay leads")

	tctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	go func() { defer close(stopped); cancel(r.listen(tctx, listener)) }()
	err = r.publish(tctx, conn)
	if cause := context.Cause(tctx); cause != nil && ctx.Err() == nil {
		err = cause
	}
	cancel(nil)
	<-stopped
	return err
}

// elect waits until this process leads. It asks again and again: a waiting lock request would hold
// a snapshot and keep vacuum from the outbox.
func (r *relay) elect(ctx context.Context, conn *pgx.Conn) error {
	for {
		var mine bool
		err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, r.lock).Scan(&mine)
		if err != nil {
			return pg.Error(err)
		}
		if mine {
			return nil
		}
		jitter := time.Duration(rand.Int64N(int64(electionEvery / 2))) //nolint:gosec // no secret
		err = sleep(ctx, electionEvery+jitter)
		if err != nil {
			return err
		}
	}
}

// listen turns notifications into wakes until the connection or ctx ends.
func (r *relay) listen(ctx context.Context, conn *pgx.Conn) error {
	for {
		wait, cancel := context.WithTimeout(ctx, pingEvery)
		_, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			signal(r.wake)
		case ctx.Err() != nil:
			return ctx.Err()
		case wait.Err() != nil:
			err = conn.Ping(ctx)
			if err != nil {
				return pg.Error(err)
			}
		default:
			return pg.Error(err)
		}
	}
}

// publish moves rows from the outbox to JetStream until an error or the end of ctx.
func (r *relay) publish(ctx context.Context, conn *pgx.Conn) error {
	js, err := jetstream.New(r.b.cfg.NATS,
		jetstream.WithPublishAsyncMaxPending(2*relayBatch), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return fmt.Errorf("bus: jetstream: %w", err)
	}
	poll := time.NewTimer(r.b.cfg.PollInterval)
	defer poll.Stop()
	housekeeping := time.NewTicker(time.Minute)
	defer housekeeping.Stop()
	for {
		err = r.drain(ctx, conn, js)
		if err != nil {
			return err
		}
		poll.Reset(r.b.cfg.PollInterval)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		case <-poll.C:
		case <-housekeeping.C:
			err = r.b.retain(ctx, conn)
			if err != nil {
				return err
			}
		}
	}
}

const selectRows = `
	SELECT seq, id, tenant_id, created_at, subject, correlation, causation, traceparent, payload
	FROM outbox ORDER BY seq LIMIT $1`

// drain publishes until the outbox is empty. Deleting one batch and reading the next share a round trip.
func (r *relay) drain(ctx context.Context, conn *pgx.Conn, js jetstream.JetStream) error {
	var done []int64
	for {
		rows, err := r.exchange(ctx, conn, done)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			r.b.metrics.setBacklog(0, 0)
			return nil
		}
		r.b.metrics.setBacklog(len(rows), r.b.now().Sub(rows[0].createdAt))
		done, err = r.send(ctx, js, rows)
		if err != nil {
			// What is confirmed is confirmed; only the rest is for the next attempt.
			_, delErr := r.exchange(context.WithoutCancel(ctx), conn, done)
			return errors.Join(err, delErr)
		}
		r.pace.count(len(rows))
		if pause := r.pace.pause(time.Now(), 0, r.b.cfg.Linger); pause > 0 && len(rows) < relayBatch {
			err = sleep(ctx, pause)
			if err != nil {
				_, delErr := r.exchange(context.WithoutCancel(ctx), conn, done)
				return errors.Join(err, delErr)
			}
		}
	}
}

// pace knows how busy an outbox or a consumer is. It is used by one goroutine.
type pace struct {
	since time.Time
	rows  int
	rate  float64 // rows per second over the last window
}

// enough rows in a batch: with more, the fixed costs of a batch count for little.
const enough = 32

func (p *pace) count(rows int) { p.rows += rows }

// pause tells how long to let rows gather when have are there. What is idle does not wait: the next event
// goes on at once. What is busy waits when that is expected to make one batch of at least two rows, for a
// batch of many costs little more than one of a single row, here and at every consumer. It waits no longer
// than enough rows need, and not at all when they are there already.
func (p *pace) pause(now time.Time, have int, linger time.Duration) time.Duration {
	if window := now.Sub(p.since); window >= 200*time.Millisecond {
		p.rate = float64(p.rows) / window.Seconds()
		p.rows, p.since = 0, now
	}
	if linger <= 0 || have >= enough || p.rate*linger.Seconds() < 2 {
		return 0
	}
	return min(linger, time.Duration(float64(enough-have)/p.rate*float64(time.Second)))
}

func (r *relay) exchange(ctx context.Context, conn *pgx.Conn, done []int64) ([]*row, error) {
	var rows []*row
	var batch pgx.Batch
	if len(done) > 0 {
		batch.Queue(`DELETE FROM outbox WHERE seq = ANY($1)`, done)
	}
	batch.Queue(selectRows, relayBatch).Query(func(rs pgx.Rows) error {
		for rs.Next() {
			w := &row{}
			err := rs.Scan(&w.seq, &w.id, &w.tenant, &w.createdAt, &w.subject, &w.correlation, &w.causation, &w.trace, &w.payload)
			if err != nil {
				return err
			}
			rows = append(rows, w)
		}
		return rs.Err()
	})
	err := conn.SendBatch(ctx, &batch).Close()
	if err != nil {
		return nil, pg.Error(err)
	}
	return rows, nil
}

// send publishes rows in order and waits for all confirmations; it returns the confirmed ones also
// with an error.
func (r *relay) send(ctx context.Context, js jetstream.JetStream, rows []*row) ([]int64, error) {
	futures := make([]jetstream.PubAckFuture, 0, len(rows))
	var err error
	for _, w := range rows {
		var f jetstream.PubAckFuture
		f, err = js.PublishMsgAsync(&nats.Msg{Subject: w.subject, Header: w.header(), Data: w.payload})
		if err != nil {
			break
		}
		futures = append(futures, f)
	}
	limit := time.NewTimer(ackTimeout)
	defer limit.Stop()
	confirmed := make([]int64, 0, len(futures))
	for i, f := range futures {
		select {
		case <-f.Ok():
			confirmed = append(confirmed, rows[i].seq)
		case e := <-f.Err():
			err = errors.Join(err, e)
		case <-limit.C:
			return confirmed, errors.Join(err, errors.New("bus: JetStream does not confirm"))
		case <-ctx.Done():
			return confirmed, ctx.Err()
		}
	}
	r.b.metrics.published(ctx, len(confirmed))
	if err != nil {
		return confirmed, fmt.Errorf("bus: publish: %w", err)
	}
	return confirmed, nil
}
