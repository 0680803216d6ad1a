package postgres_test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/pg"
)

var services = []string{"tenancy", "invoice", "signer", "sdi_gateway", "pec_gateway", "conservation", "notification"}

// TestProductionRoles runs deploy/postgres/roles.sql as an administrator would, then
// migrates as the owner and tries every service's role on every schema.
func TestProductionRoles(t *testing.T) {
	c, err := postgres.Start(t.Context(), postgres.Options{Dir: filepath.Join(t.TempDir(), "pg"), Throwaway: true, Private: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Stop()) })
	require.NoError(t, c.EnsureDatabase(t.Context(), "production"))
	root, err := devenv.Root()
	require.NoError(t, err)
	script, err := os.ReadFile(filepath.Join(root, "deploy", "postgres", "roles.sql"))
	require.NoError(t, err)

	admin := connect(t, c.URL("production"))
	for range 2 { // running it again is part of every upgrade
		_, err = admin.Exec(t.Context(), string(script))
		require.NoError(t, err)
	}
	for _, name := range append([]string{"migrate"}, services...) {
		_, err = admin.Exec(t.Context(), "ALTER ROLE "+pgx.Identifier{"ceralacca_" + name}.Sanitize()+" PASSWORD 'secret'")
		require.NoError(t, err)
	}
	for _, name := range services {
		require.NoError(t, pg.Migrate(t.Context(), as(t, c, "migrate"), name, "ceralacca_"+name), "%s migrates without a superuser", name)
	}
	for _, name := range services {
		conn := connect(t, as(t, c, name))
		var path string
		require.NoError(t, conn.QueryRow(t.Context(), "SHOW search_path").Scan(&path))
		require.Equal(t, name, path)
		for _, schema := range services {
			_, err = conn.Exec(t.Context(), "SELECT count(*) FROM "+schema+".outbox")
			if schema == name {
				require.NoError(t, err, "%s in its own schema", name)
				continue
			}
			refused(t, err, name+" in "+schema)
		}
		for _, statement := range []string{"CREATE TABLE public.t (id int)", "CREATE TABLE t (id int)", "CREATE TEMP TABLE t (id int)", "CREATE SCHEMA s", "DROP TABLE outbox"} {
			_, err = conn.Exec(t.Context(), statement)
			refused(t, err, name+": "+statement)
		}
	}
}

func refused(t *testing.T, err error, what string) {
	t.Helper()
	var answer *pgconn.PgError
	require.ErrorAs(t, err, &answer, what)
	require.Equal(t, "42501", answer.Code, "%s: %s", what, answer.Message) // insufficient_privilege
}

func as(t *testing.T, c *postgres.Cluster, name string) string {
	t.Helper()
	u, err := url.Parse(c.URL("production"))
	require.NoError(t, err)
	u.User = url.UserPassword("ceralacca_"+name, "secret")
	return u.String()
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}
