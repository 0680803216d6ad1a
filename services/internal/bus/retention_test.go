package bus

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/internal/pg/pgtest"
)

func TestRetentionForgetsWhatStreamsForgot(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.Schema(t, "busretain")
	admin := pgtest.Admin(t, db)
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	b, err := Open(ctx, Config{Service: "busretain", NATS: &nats.Conn{}, DB: db, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return now }})
	require.NoError(t, err)
	keep := 30*24*time.Hour + inboxSlack
	_, err = admin.Exec(ctx, `INSERT INTO inbox (event_id, consumer) SELECT id, 'c' FROM unnest($1::uuid[]) AS id`, []uuid.UUID{
		firstID(now.Add(-keep - time.Millisecond)), firstID(now.Add(-keep)), firstID(now),
	})
	require.NoError(t, err)
	_, err = admin.Exec(ctx, `INSERT INTO inbox (event_id, consumer)
		SELECT ('018bcfe5-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'old' FROM generate_series(1, $1) AS n`, 2*retainChunk+1)
	require.NoError(t, err)
	for i, age := range []time.Duration{0, requestsKept - time.Minute, requestsKept + time.Minute} {
		_, err = admin.Exec(ctx, `INSERT INTO request_log (tenant_id, method, request_id, request_hash, response, created_at)
			VALUES ('anna', 'm', $1, '', '', $2)`, fmt.Sprint(i), now.Add(-age))
		require.NoError(t, err)
	}
	conn, err := db.Dedicated(ctx)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, `SET ceralacca.scope = 'system'`)
	require.NoError(t, err)
	require.NoError(t, b.retain(ctx, conn))

	require.Equal(t, 2, number(t, admin, `SELECT count(*) FROM inbox`))
	require.Equal(t, 2, number(t, admin, `SELECT count(*) FROM request_log`))
	require.Zero(t, number(t, admin, `SELECT count(*) FROM request_log WHERE request_id = '2'`))
}

func number(t *testing.T, conn *pgx.Conn, sql string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

func TestFirstIDIsBeforeAllIDsOfItsMillisecond(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		before := time.Now()
		id, err := uuid.NewV7()
		require.NoError(r, err)
		require.LessOrEqual(r, firstID(before.Add(-time.Millisecond)).String(), id.String())
		require.Greater(r, firstID(time.Now().Add(2*time.Millisecond)).String(), id.String())
	})
	require.Equal(t, uuid.Version(7), firstID(time.Unix(1, 0)).Version())
	require.Equal(t, firstID(time.Unix(0, 0)), firstID(time.Unix(-5, 0)))
}

func TestForeignIDsFollowTheirPlace(t *testing.T) {
	t.Parallel()
	require.Equal(t, foreignID("S", 7), foreignID("S", 7))
	require.NotEqual(t, foreignID("S", 7), foreignID("S", 8))
	require.NotEqual(t, foreignID("S", 7), foreignID("T", 7))
}

func TestPace(t *testing.T) {
	t.Parallel()
	const linger = 20 * time.Millisecond
	at := time.Unix(0, 0)
	feed := func(p *pace, every time.Duration, rows, have int) (last time.Duration) {
		for range 300 {
			at = at.Add(every)
			p.count(rows)
			last = p.pause(at, have, linger)
		}
		return last
	}
	var p pace
	require.Zero(t, feed(&p, 50*time.Millisecond, 1, 1), "20 a second: each goes out at once")
	require.Equal(t, linger, feed(&p, 2*time.Millisecond, 1, 1), "500 a second: gathered")
	require.Equal(t, linger, feed(&p, 20*time.Millisecond, 10, 1), "also while they come gathered")
	require.InDelta(t, 16*time.Millisecond, feed(&p, 20*time.Millisecond, 40, 0), float64(time.Millisecond), "no longer than a batch needs")
	require.InDelta(t, 4*time.Millisecond, feed(&p, 20*time.Millisecond, 40, 24), float64(time.Millisecond), "less what is there")
	require.Zero(t, feed(&p, 2*time.Millisecond, relayBatch, enough), "large batches need no gathering")
	require.Zero(t, feed(&p, time.Second, 1, 1), "and the calm returns")
	require.Zero(t, (&pace{rate: 1e6}).pause(at, 1, -1), "negative: never")
}

func TestBackoffDoublesUpToItsLimit(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond,
		11: time.Minute, 1 << 30: time.Minute,
	} {
		require.Equal(t, want, backoff(100*time.Millisecond, attempt, time.Minute), "attempt %d", attempt)
	}
}
