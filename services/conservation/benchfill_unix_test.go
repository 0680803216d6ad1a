//go:build unix

package conservation

import (
	"context"
	"crypto/md5" //nolint:gosec // no secret
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// stock is an archive to be searched, written into the tables directly: seven tenths of the documents are of one tenant, two
// tenths of ten tenants, and one of a hundred, all mixed over ten years as they would have come. Of each tenant nine documents in ten are
// its own and one is received; one in twenty has a party that was not there before, and all its words are written as the intake writes them.
// Not there are files, packages and the log, which a search does not read.
type stock struct {
	admin *pgx.Conn
	n     int // documents
}

// crowd is a tenant of a stock.
type crowd struct {
	name      string
	documents int
}

func (s stock) crowds() []crowd {
	all := []crowd{{"acme", s.n / 10 * 7}}
	for i := range 10 {
		all = append(all, crowd{fmt.Sprintf("media%d", i), s.n / 50})
	}
	for i := range 100 {
		all = append(all, crowd{fmt.Sprintf("piccola%d", i), s.n / 1000})
	}
	return all
}

func (c crowd) parties() int { return max(10, c.documents/20) }

// party is the id of a tenant's nth party, as SQL makes it too.
func (c crowd) party(nth int) uuid.UUID { return md5.Sum(fmt.Appendf(nil, "%s|%d", c.name, nth)) } //nolint:gosec // no secret

var benchSurnames = []string{"Rossi", "Ferrari", "Russo", "Bianchi", "Romano", "Gallo", "Costa", "Fontana", "Conti", "Esposito", "Ricci", "Bruno", "De Luca", "Moretti", "Marino", "Greco", "Barbieri", "Lombardi", "Giordano", "Cassano"}

func benchParty(i int) party {
	return party{fmt.Sprintf("%s %s%d S.r.l.", benchSurnames[i%len(benchSurnames)], benchSurnames[(i/20)%len(benchSurnames)], i/400), fmt.Sprintf("IT%011d", i), fmt.Sprintf("%011d", i)}
}

func (s stock) day(i int) time.Time {
	return time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, i*3650/s.n)
}

const stockPage = 250_000

// fill writes what is missing, step by step: each is a transaction that says that it was done.
func (s stock) fill(b *testing.B) {
	b.Helper()
	ctx := context.Background()
	_, err := s.admin.Exec(ctx, `CREATE TABLE IF NOT EXISTS bench_step (step text PRIMARY KEY); SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 1`)
	require.NoError(b, err)
	s.step(b, "prepare", s.prepare)
	for i, c := range s.crowds() {
		s.step(b, fmt.Sprintf("parties %d", i), func(tx pgx.Tx) error { return s.people(ctx, tx, c) })
	}
	for from := 0; from < s.n; from += stockPage {
		s.step(b, fmt.Sprintf("documents %d", from), func(tx pgx.Tx) error { return s.documents(ctx, tx, from, min(from+stockPage, s.n)) })
	}
	rows, err := s.admin.Query(ctx, `SELECT definition FROM bench_index ORDER BY 1`)
	require.NoError(b, err)
	definitions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b, err)
	for _, definition := range definitions {
		s.step(b, definition, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, definition); return err })
	}
	var done bool
	require.NoError(b, s.admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM bench_step WHERE step = 'vacuum')`).Scan(&done))
	if !done {
		_, err = s.admin.Exec(ctx, `VACUUM ANALYZE unit, search_party, search_word, search_entry`) // as autovacuum leaves them
		require.NoError(b, err)
		s.step(b, "vacuum", func(pgx.Tx) error { return nil })
	}
}

func (s stock) step(b *testing.B, name string, do func(tx pgx.Tx) error) {
	b.Helper()
	ctx := context.Background()
	require.NoError(b, pgx.BeginFunc(ctx, s.admin, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO bench_step VALUES ($1) ON CONFLICT DO NOTHING`, name)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return do(tx)
	}), name)
}

// prepare takes away what costs time while filling: references, the log of writes (an unlogged table is read like any other), and
// the indexes, which are made again at the end; those of units that no search uses are not.
func (s stock) prepare(tx pgx.Tx) error {
	_, err := tx.Exec(context.Background(), `
		CREATE TABLE bench_index AS SELECT indexdef AS definition FROM pg_indexes
			WHERE schemaname = current_schema() AND tablename = 'search_entry' AND indexname <> 'search_entry_pkey';
		DO $$ DECLARE r record; BEGIN
			FOR r IN SELECT conrelid::regclass AS on_table, conname FROM pg_constraint WHERE contype = 'f' AND confrelid IN ('unit'::regclass, 'package'::regclass, 'search_party'::regclass) LOOP
				EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', r.on_table, r.conname);
			END LOOP;
			FOR r IN SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()
				AND (tablename = 'search_entry' OR tablename = 'unit' AND indexname NOT IN (SELECT conname FROM pg_constraint)) AND indexname NOT LIKE '%_pkey' LOOP
				EXECUTE format('DROP INDEX %I', r.indexname);
			END LOOP;
		END $$;
		ALTER TABLE unit DROP CONSTRAINT unit_once;
		ALTER TABLE unit DISABLE TRIGGER USER;
		ALTER TABLE unit SET UNLOGGED; ALTER TABLE search_party SET UNLOGGED; ALTER TABLE search_word SET UNLOGGED; ALTER TABLE search_entry SET UNLOGGED`)
	return err
}

func load(ctx context.Context, tx pgx.Tx, table string, columns []string, n int, row func(i int) []any) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
	return err
}

func (s stock) people(ctx context.Context, tx pgx.Tx, c crowd) error {
	err := load(ctx, tx, "search_party", []string{"id", "tenant_id"}, c.parties(), func(i int) []any { return []any{c.party(i), c.name} })
	if err != nil {
		return err
	}
	var words [][]any
	for i := range c.parties() {
		id := c.party(i)
		for _, k := range benchParty(i).keys() {
			words = append(words, []any{c.name, k, id})
		}
	}
	slices.SortFunc(words, func(a, b []any) int { return strings.Compare(a[1].(string), b[1].(string)) }) // the index grows at its end
	return load(ctx, tx, "search_word", []string{"tenant_id", "word", "party_id"}, len(words), func(i int) []any { return words[i] })
}

// documents writes documents with the rows of their units, as far as a page of results shows them.
func (s stock) documents(ctx context.Context, tx pgx.Tx, from, to int) error {
	_, err := tx.Exec(ctx, `
		WITH whose AS (
			SELECT i, CASE WHEN i % 10 < 7 THEN 'acme' WHEN i % 10 < 9 THEN 'media' || i / 10 % 10 ELSE 'piccola' || i / 10 % 100 END AS tenant,
				CASE WHEN i % 10 < 7 THEN i / 10 * 7 + i % 10 WHEN i % 10 < 9 THEN i / 100 * 2 + i % 10 - 7 ELSE i / 1000 END AS nth,
				greatest(10, CASE WHEN i % 10 < 7 THEN $3 / 10 * 7 WHEN i % 10 < 9 THEN $3 / 50 ELSE $3 / 1000 END / 20) AS parties,
				date '2017-01-01' + (i::bigint * 3650 / $3)::int AS day,
				(lpad(to_hex(i), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid AS unit
			FROM generate_series($1::int, $2::int - 1) AS i, (SELECT $3::int) AS n
		), d AS MATERIALIZED (
			SELECT i, tenant, nth, day, unit, extract(year FROM day)::int AS year, other, nth % 10 = 0 AS received,
				(ARRAY['TD01', 'TD01', 'TD01', 'TD01', 'TD01', 'TD01', 'TD01', 'TD04', 'TD24', 'TD06', 'TD01'])[1 + nth % 11] AS kind,
				(ARRAY['DELIVERED', 'DELIVERED', 'DELIVERED', 'AVAILABLE_IN_RESERVED_AREA'])[1 + nth % 4] AS state,
				md5(tenant || '|0')::uuid AS own, md5(tenant || '|' || other)::uuid AS party
			FROM whose CROSS JOIN LATERAL (SELECT ((hashint4(nth)::bigint & 2147483647) % parties)::int AS other) AS o
		), u AS (
			INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, facts, package_id, position, created_at)
			SELECT unit, tenant, 'SDI|' || 1000000 + i, 'tenants/' || tenant || '/invoices/' || i, 'PRESERVED', 'FISC', year,
				('{"sdi_id":"' || 1000000 + i || '","file_name":"IT01234567897_' || i || '.xml","state":"' || state || '","bodies":[{"type":"' || kind || '","number":"' || nth % 100000 || '/A","date":"' || day
					|| '"}],"seller":{"name":"Rossi S.r.l."},"buyer":{"name":"Cliente ' || other || ' S.r.l."}}')::jsonb, md5('p' || i / 10000)::uuid, i, day FROM d
		)
		INSERT INTO search_entry (unit_id, body, tenant_id, issued_on, fiscal_year, class, state, document_type, number, sdi_id, file_name, seller, buyer)
		SELECT unit, 1, tenant, day, year, 'FISC', state, kind, nth % 100000 || '/a', (1000000 + i)::text, 'it01234567897_' || i || '.xml',
			CASE WHEN received THEN party ELSE own END, CASE WHEN received THEN own ELSE party END FROM d`, from, to, s.n)
	return err
}
