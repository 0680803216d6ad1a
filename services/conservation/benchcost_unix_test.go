//go:build unix

package conservation

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg/pgtest"
)

// reportCost takes ten thousand real units in, with all that belongs to it, into archives of growing size: the curve of what a unit costs.
// What is there already was written into the tables directly, as it looks when packages were sealed: units, three files each,
// their entries in the search, parties with their words, objects and copies, a hundred units in one object. The log begins empty;
// format/tlog measures that it appends in constant time.
func reportCost(b *testing.B) {
	const probe = 10_000
	cluster, db := durable(b, filepath.Join(b.TempDir(), "pg"))
	h := openBench(b, db)
	h.awaitAfter(b, h.settled(b, 500))
	have := 0
	for size := 10_000; size <= *benchMost; size *= 10 {
		h.stock(b, have, size)
		have = size
		h.awaitAfter(b, h.settled(b, 200)) // caches see the new size
		events := h.settled(b, probe)
		own, theirs, began := cpuTime(b), cpuBelow(b, cluster.PID()), time.Now()
		h.awaitAfter(b, events)
		took := time.Since(began)
		what := fmt.Sprintf("conservation: a unit taken into an archive of %d: ", size)
		figure(what+"time", float64(took.Microseconds())/probe, "µs/unit", "the same at each size")
		figure(what+"processor time but for PostgreSQL", float64((cpuTime(b)-own).Microseconds())/probe, "µs/unit", "the same at each size")
		figure(what+"processor time of PostgreSQL", float64((cpuBelow(b, cluster.PID())-theirs).Microseconds())/probe, "µs/unit", "the same at each size")
	}
}

// cpuBelow is the processor time of a process and of those that it started; zero where /proc has not the form of Linux.
func cpuBelow(b *testing.B, pid int) (all time.Duration) {
	b.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(b, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		f := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
		number := func(i int) int { n, _ := strconv.Atoi(string(f[i])); return n } // of the kernel
		const tick = 10 * time.Millisecond
		switch {
		case filepath.Base(filepath.Dir(file)) == strconv.Itoa(pid): // children that ended count with their parent
			all += time.Duration(number(11)+number(12)+number(13)+number(14)) * tick
		case number(1) == pid:
			all += time.Duration(number(11)+number(12)) * tick
		}
	}
	return all
}

// stock fills the tables up to a size.
func (h *house) stock(b *testing.B, from, to int) {
	b.Helper()
	ctx, admin := context.Background(), pgtest.Admin(b, h.DB("conservation"))
	id := `('0189' || lpad(to_hex(i), 8, '0') || '70008' || substr(md5(i::text), 1, 15))::uuid`
	object := `md5('o' || i / 100)::uuid`
	_, err := admin.Exec(ctx, `SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '1GB'`)
	require.NoError(b, err)
	indexes := searchIndexes(b, admin)
	const page = 100_000
	for ; from < to; from += page {
		for _, statement := range []string{
			`INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, facts, package_id, position, created_at)
				SELECT ` + id + `, 'acme', 'SDI|' || i, 'tenants/acme/companies/main/invoices/' || i, 'PRESERVED', 'FISC', 2025, '{}', md5('p' || i / 10000)::uuid, i % 10000, now() FROM generate_series($1::int, $2::int) AS i`,
			`INSERT INTO unit_file (unit_id, ordinal, tenant_id, role, file_name, sha256, size, object_id, object_offset)
				SELECT ` + id + `, n, 'acme', 'receipt', 'IT01234567897_' || i || '.xml', decode(md5(i::text) || md5(n::text), 'hex'), 1000, ` + object + `, i % 100 FROM generate_series($1::int, $2::int) AS i, generate_series(0, 2) AS n`,
			`INSERT INTO search_entry (unit_id, body, tenant_id, issued_on, fiscal_year, class, state, document_type, number, sdi_id, file_name, seller, buyer)
				SELECT ` + id + `, 1, 'acme', date '2017-01-01' + i % 3000, 2017 + i % 9, 'FISC', 'DELIVERED', 'TD01', i || '/a', i::text, 'it01234567897_' || i, md5('s')::uuid, md5((i / 20)::text)::uuid FROM generate_series($1::int, $2::int) AS i`,
			`INSERT INTO search_party (id, tenant_id) SELECT md5((i / 20)::text)::uuid, 'acme' FROM generate_series($1::int, $2::int, 20) AS i ON CONFLICT DO NOTHING`,
			`INSERT INTO search_word (tenant_id, word, party_id) SELECT 'acme', w || (i / 20), md5((i / 20)::text)::uuid FROM generate_series($1::int, $2::int, 20) AS i, unnest(ARRAY['rossi', 'spa', '=vit', '=c']) AS w ON CONFLICT DO NOTHING`,
			`INSERT INTO archive_object (id, tenant_id, kind, key, sha256, size, retain_until, created_at)
				SELECT ` + object + `, 'acme', 'intake', 'tenants/acme/intake/' || i / 100, decode(md5(i::text) || md5(i::text), 'hex'), 1000000, now() + interval '2 years', now() FROM generate_series($1::int, $2::int, 100) AS i ON CONFLICT DO NOTHING`,
			`INSERT INTO archive_copy (object_id, replica, tenant_id, state, checked_at, check_due)
				SELECT ` + object + `, r, 'acme', 'GOOD', now(), now() + interval '30 days' FROM generate_series($1::int, $2::int, 100) AS i, unnest(ARRAY['primary', 'second']) AS r ON CONFLICT DO NOTHING`,
		} {
			_, err = admin.Exec(ctx, statement, from+1, min(from+page, to))
			require.NoError(b, err)
		}
	}
	for _, definition := range indexes {
		_, err = admin.Exec(ctx, definition)
		require.NoError(b, err)
	}
	_, err = admin.Exec(ctx, `VACUUM ANALYZE unit, unit_file, search_entry, search_party, search_word, archive_object, archive_copy`)
	require.NoError(b, err)
	_, err = admin.Exec(ctx, `CHECKPOINT`)
	require.NoError(b, err)
}

// searchIndexes drops the indexes that only searches and the intake read, which are at rest while the tables are filled, and gives
// the statements that make them again: at the end that takes minutes, row by row it takes the better part of an hour.
func searchIndexes(b *testing.B, admin *pgx.Conn) []string {
	b.Helper()
	ctx := context.Background()
	rows, err := admin.Query(ctx, `SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
		AND tablename IN ('search_entry', 'search_word') AND indexname NOT IN (SELECT conname FROM pg_constraint) ORDER BY 1`)
	require.NoError(b, err)
	type index struct{ Name, Definition string }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	require.NoError(b, err)
	require.NotEmpty(b, all)
	definitions := make([]string, len(all))
	for i, x := range all {
		_, err = admin.Exec(ctx, "DROP INDEX "+pgx.Identifier{x.Name}.Sanitize())
		require.NoError(b, err)
		definitions[i] = x.Definition
	}
	return definitions
}
