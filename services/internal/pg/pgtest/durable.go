package pgtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/pg"
)

// DurableName is the database on a server of Durable.
const DurableName = "bench"

// Durable gives a service's schema on a server of its own, in a folder, that loses nothing which was synced: the shared one of the
// tests has no fsync, and times that were measured there would be no times.
func Durable(t testing.TB, service, dir string, conns int32) (*postgres.Cluster, *pg.DB) {
	t.Helper()
	ctx := context.Background()
	cluster, err := postgres.Start(ctx, postgres.Options{Dir: dir, Private: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cluster.Stop() })
	require.NoError(t, cluster.EnsureDatabase(ctx, DurableName))
	c := pg.Config{URL: cluster.URL(DurableName), Schema: pg.SchemaName(service), Role: "bench_" + pg.SchemaName(service), MaxConns: conns}
	require.NoError(t, pg.Migrate(ctx, c.URL, service, c.Role))
	db, err := pg.Open(ctx, c)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	var on string
	require.NoError(t, db.Pool().QueryRow(ctx, "SELECT current_setting('fsync') || current_setting('synchronous_commit')").Scan(&on))
	require.Equal(t, "onon", on)
	return cluster, db
}
