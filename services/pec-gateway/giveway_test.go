package pecgateway

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg/pgtest"
)

// TestGiveWay: a mailbox with many messages waits until the events of the others are out, and not for ever; one with few never waits.
func TestGiveWay(t *testing.T) {
	t.Parallel()
	ctx, db := t.Context(), pgtest.Schema(t, "pec-gateway")
	s, admin := &Service{db: db}, pgtest.Admin(t, db)
	require.NoError(t, s.giveWay(ctx, crowd), "nothing waits")
	_, err := admin.Exec(ctx, `INSERT INTO outbox (id, tenant_id, created_at, subject, correlation, payload)
		SELECT gen_random_uuid(), 'acme', now(), 'x', 'y', '' FROM generate_series(1, $1::int)`, mostBehind)
	require.NoError(t, err)
	require.NoError(t, s.giveWay(ctx, crowd-1))
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, s.giveWay(gone, crowd))

	went := make(chan error, 1)
	go func() { went <- s.giveWay(ctx, crowd) }()
	select {
	case <-went:
		t.Fatal("it went before the others")
	case <-time.After(10 * giveWayLook):
	}
	_, err = admin.Exec(ctx, `DELETE FROM outbox WHERE seq = (SELECT max(seq) FROM outbox)`)
	require.NoError(t, err)
	require.NoError(t, <-went)
	_, err = admin.Exec(ctx, `INSERT INTO outbox (id, tenant_id, created_at, subject, correlation, payload) VALUES (gen_random_uuid(), 'acme', now(), 'x', 'y', '')`)
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, s.giveWay(ctx, crowd), "the broker is away")
	require.GreaterOrEqual(t, time.Since(began), giveWayMost)
}
