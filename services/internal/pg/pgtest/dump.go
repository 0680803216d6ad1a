package pgtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg"
)

// Dump is every value of every table of a schema as text, of all tenants, a line for each row; bytes are in hex. For tests that
// something is nowhere.
func Dump(t testing.TB, db *pg.DB) string {
	t.Helper()
	admin := Admin(t, db)
	rows, err := admin.Query(context.Background(), `SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	var out strings.Builder
	for _, table := range tables {
		rows, err := admin.Query(context.Background(), `SELECT x::text FROM `+pgx.Identifier{table}.Sanitize()+` AS x`)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, line := range lines {
			fmt.Fprintln(&out, table, line)
		}
	}
	return out.String()
}
