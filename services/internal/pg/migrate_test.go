package pg_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/migrations"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

func busSQL(t *testing.T) *fstest.MapFile {
	t.Helper()
	raw, err := migrations.FS.ReadFile("bus/0001_create_bus.sql")
	require.NoError(t, err)
	return &fstest.MapFile{Data: raw}
}

func TestMigrateManyTimesAtOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.Schema(t, service)
	admin := pgtest.Admin(t, db)
	const schema, role = "migrate_at_once", "migrate_at_once_role"
	drop := func() {
		_, _ = admin.Exec(context.Background(), `DROP SCHEMA IF EXISTS migrate_at_once CASCADE; DROP ROLE IF EXISTS migrate_at_once_role`)
	}
	drop()
	t.Cleanup(drop)
	fsys := fstest.MapFS{
		"bus/0001_create_bus.sql":      busSQL(t),
		"my-service/0001_create_a.sql": {Data: []byte("-- +goose Up\nSET lock_timeout = '5s';\nCREATE TABLE a (id int PRIMARY KEY, tenant_id text NOT NULL);\n")},
		"my-service/0002_create_b.sql": {Data: []byte("-- +goose Up\nSET lock_timeout = '5s';\nCREATE TABLE b (id serial PRIMARY KEY);\n")},
		"other_service/0001_other.sql": {Data: []byte("-- +goose Up\nCREATE TABLE other (id int);\n")},
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			errs[i] = pg.MigrateSchema(ctx, pg.MigrateConfig{URL: db.Config().URL, Service: "my-service", Schema: schema, Role: role, FS: fsys})
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	var tables []string
	require.NoError(t, admin.QueryRow(ctx, `SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_tables WHERE schemaname = $1`, schema).Scan(&tables))
	require.Equal(t, []string{"a", "audit_entry", "b", "goose_bus", "goose_service", "inbox", "outbox", "parked_event", "request_log",
		"river_job", "river_leader", "river_migration", "river_notification", "river_queue"}, tables)

	mine, err := pg.Open(ctx, pg.Config{URL: db.Config().URL, Schema: schema, Role: role})
	require.NoError(t, err)
	defer mine.Close()
	require.NoError(t, mine.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO a (id, tenant_id) VALUES (1, 'anna'); INSERT INTO b DEFAULT VALUES;
			INSERT INTO river_job (kind, args, max_attempts) VALUES ('k', '{}', 1)`)
		return err
	}))
	// Nothing elsewhere: neither the schema of another service nor ownership of its own.
	for _, sql := range []string{
		fmt.Sprintf(`SELECT count(*) FROM %s.outbox`, db.Schema()),
		`DROP TABLE a`, `ALTER TABLE a ADD COLUMN x int`, `ALTER TABLE outbox DISABLE ROW LEVEL SECURITY`,
	} {
		err := mine.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql)
			return err
		})
		require.Equal(t, fault.KindDenied, fault.Of(err).Kind, "%s: %v", sql, err)
	}
}

func TestABrokenMigrationSaysWhichFile(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	admin := pgtest.Admin(t, db)
	t.Cleanup(func() { _, _ = admin.Exec(context.Background(), `DROP SCHEMA IF EXISTS migrate_broken CASCADE`) })
	err := pg.MigrateSchema(t.Context(), pg.MigrateConfig{
		URL: db.Config().URL, Service: "broken", Schema: "migrate_broken",
		FS: fstest.MapFS{
			"bus/0001_create_bus.sql": busSQL(t),
			"broken/0001_bad.sql":     {Data: []byte("-- +goose Up\nCREATE TABEL x (id int);\n")},
		},
	})
	require.ErrorContains(t, err, "0001_bad.sql")
}

func TestMigrateRefusesBadNames(t *testing.T) {
	t.Parallel()
	require.Error(t, pg.Migrate(t.Context(), "postgres://x", "no;pe", "role"))
	require.Error(t, pg.Migrate(t.Context(), "postgres://x", "ok", "ro le"))
	require.Error(t, pg.Migrate(t.Context(), "::not a url::", "ok", "role"))
}

// The whole of pooling: a schema given back is empty for the next test, sequences included.
func TestASchemaComesEmpty(t *testing.T) {
	ctx := t.Context()
	names := map[string]bool{}
	for range 3 {
		t.Run("lease", func(t *testing.T) {
			db := pgtest.Schema(t, "pgreuse")
			names[db.Schema()] = true
			require.NoError(t, db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
				n, err := count(ctx, tx, "outbox")
				require.NoError(t, err)
				require.Zero(t, n)
				var seq int64
				err = tx.QueryRow(ctx, `INSERT INTO outbox (id, tenant_id, created_at, subject, correlation, payload)
					VALUES (gen_random_uuid(), 'anna', now(), 's', 'c', '') RETURNING seq`).Scan(&seq)
				require.Equal(t, int64(1), seq)
				return err
			}))
		})
	}
	require.Len(t, names, 1, "the schema is reused")
}

func TestTwoLeasesAreTwoSchemas(t *testing.T) {
	t.Parallel()
	a, b := pgtest.Schema(t, service), pgtest.Schema(t, service)
	require.NotEqual(t, a.Schema(), b.Schema())
	require.Equal(t, a.Schema(), pgtest.Again(t, a).Schema())
}
