package pecgateway

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/migrations"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// migrationsUpTo are those of the service before a number.
func migrationsUpTo(t *testing.T, number string) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(migrations.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Dir(name) == "pec-gateway" && path.Base(name) >= number {
			return err
		}
		raw, err := fs.ReadFile(migrations.FS, name)
		out[name] = &fstest.MapFile{Data: raw}
		return err
	}))
	return out
}

// TestG8LogOfBeforeIsFoundByAddress: entries that an earlier release wrote, of several tenants and more than a page of the migration,
// are found by sender and by recipient in letters of any case; those that lost their addresses stay without, and what comes
// between the two migrations is entered once.
func TestG8LogOfBeforeIsFoundByAddress(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	admin := pgtest.Admin(t, pgtest.Schema(t, "pec-gateway"))
	const schema, role = "log_of_before", "log_of_before_role"
	drop := func() {
		_, err := admin.Exec(context.Background(), `DROP SCHEMA IF EXISTS log_of_before CASCADE; DROP ROLE IF EXISTS log_of_before_role`)
		require.NoError(t, err)
	}
	drop()
	t.Cleanup(drop)
	migrate := func(files fs.FS) {
		require.NoError(t, pg.MigrateSchema(ctx, pg.MigrateConfig{URL: admin.Config().ConnString(), Service: "pec-gateway", Schema: schema, Role: role, FS: files}))
	}
	exec := func(sql string) {
		_, err := admin.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	insert := `INSERT INTO log_entry (tenant_id, mailbox_id, at, event, message_id, sender, recipients)
		SELECT 'tenant' || mod(i, 3), md5('box' || mod(i, 5))::uuid, timestamptz '2026-01-01' + i * interval '1 s', 0, md5('m' || i)::uuid,
			CASE WHEN mod(i, 100) = 0 THEN '' ELSE 'Mittente' || i || '@ALFA.test' END,
			CASE WHEN mod(i, 100) = 0 THEN '{}' ELSE ARRAY['Uno@beta.test', 'uno@BETA.test', 'due' || i || '@beta.test'] END FROM generate_series(%s) AS i`
	exec("SET search_path = " + schema)
	migrate(migrationsUpTo(t, "0120"))
	exec(fmt.Sprintf(insert, "1, 25000"))
	migrate(migrationsUpTo(t, "0121"))
	exec(fmt.Sprintf(insert, "25001, 25100"))
	migrate(migrations.FS)
	exec(fmt.Sprintf(insert, "25101, 25200"))
	rows, err := admin.Query(ctx, `SELECT l.number FROM log_entry l WHERE (SELECT coalesce(array_agg(a.address ORDER BY a.address), '{}') FROM log_address a
			WHERE a.tenant_id = l.tenant_id AND a.mailbox_id = l.mailbox_id AND a.at = l.at AND a.number = l.number)
		<> (SELECT coalesce(array_agg(DISTINCT lower(x) COLLATE "C"), '{}') FROM unnest(l.recipients || l.sender) x WHERE x <> '')`)
	require.NoError(t, err)
	wrong, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	require.Empty(t, wrong)
	var entered int
	require.NoError(t, admin.QueryRow(ctx, `SELECT count(*) FROM log_address`).Scan(&entered))
	require.Equal(t, (25_200-252)*3, entered)
}
