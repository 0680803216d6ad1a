package conservation

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// BenchmarkCharge settles 500 invoices a second for b.N/500 seconds and tells how long each waits to be taken in charge,
// with two synced replicas. Aim: p99 under 1 s.
func BenchmarkCharge(b *testing.B) {
	h := openWith(b, false, "")
	settledAt := make(map[string]time.Time, b.N)
	b.ResetTimer()
	began := time.Now()
	for i := range b.N {
		ev := h.invoice(b, i)
		time.Sleep(time.Until(began.Add(time.Duration(i) * 2 * time.Millisecond)))
		settledAt[ev.GetInvoice()] = time.Now()
		h.settle(b, context.Background(), ev)
	}
	paced := time.Since(began)
	for taken, _, _ := h.counts(); taken < b.N; taken, _, _ = h.counts() {
		time.Sleep(2 * time.Millisecond)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	took := make([]time.Duration, 0, b.N)
	for _, ev := range h.taken {
		took = append(took, ev.GetTime().AsTime().Sub(settledAt[ev.GetSubject()]))
	}
	slices.Sort(took)
	at := func(p float64) float64 { return float64(took[int(p*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(float64(b.N)/paced.Seconds(), "units/s-given")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}

// BenchmarkCostPerUnit writes units of one tenant, a hundred in a transaction with their files and their entries in the
// search, into archives of growing size: the curve of what a unit costs the database. CERALACCA_BENCH_DOCUMENTS is the
// largest size; the log appends in constant time and is measured in format/tlog.
func BenchmarkCostPerUnit(b *testing.B) {
	most := benchDocuments
	if given := os.Getenv("CERALACCA_BENCH_DOCUMENTS"); given != "" {
		var err error
		most, err = strconv.Atoi(given)
		require.NoError(b, err)
	}
	on := pgtest.Schema(b, "conservation")
	admin, have := pgtest.Admin(b, on), 0
	for size := 10_000; size <= most; size *= 10 {
		stock(b, admin, have, size)
		have = size
		b.Run(fmt.Sprintf("%d-units", size), func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for i := range b.N {
				began := time.Now()
				ids := addUnits(b, on, "acme", 100)
				require.NoError(b, on.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
					return enter(pg.WithTenant(ctx, "acme"), tx, "acme", listedForBench(ids, i))
				}))
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/100, "µs/unit")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func listedForBench(ids []uuid.UUID, i int) []listed {
	list := make([]listed, len(ids))
	for j, id := range ids {
		n := i*len(ids) + j
		list[j] = listed{id, classPrivate, year, facts{
			SdiID: strconv.Itoa(n), FileName: fmt.Sprintf("IT01234567897_%05d.xml", n), State: "DELIVERED",
			Bodies: []body{{Type: "TD01", Number: fmt.Sprint(n), Date: "2026-10-05"}}, Seller: benchParty(0), Buyer: benchParty(n % 5000),
		}}
	}
	return list
}

// stock fills the tables up to a size as they look when packages were sealed.
func stock(b *testing.B, admin *pgx.Conn, from, to int) {
	b.Helper()
	id := `('0199' || lpad(to_hex(i), 8, '0') || '70008' || substr(md5(i::text), 1, 15))::uuid`
	for _, statement := range []string{
		`SET session_replication_role = replica`,
		`INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, facts, package_id, position, created_at)
			SELECT ` + id + `, 'acme', 'SDI|' || i, 'tenants/acme/companies/main/invoices/' || i, 'PRESERVED', 'FISC', 2025, '{}', md5('p' || i / 10000)::uuid, i % 10000, now() FROM generate_series($1::int, $2::int) AS i`,
		`INSERT INTO unit_file (unit_id, ordinal, tenant_id, role, file_name, sha256, size)
			SELECT ` + id + `, n, 'acme', 'receipt', 'IT01234567897_' || i || '.xml', decode(md5(i::text) || md5(n::text), 'hex'), 1000 FROM generate_series($1::int, $2::int) AS i, generate_series(0, 2) AS n`,
		`INSERT INTO search_entry (unit_id, body, tenant_id, issued_on, fiscal_year, class, state, document_type, number, sdi_id, file_name, seller, buyer)
			SELECT ` + id + `, 1, 'acme', date '2017-01-01' + i % 3000, 2017 + i % 9, 'FISC', 'DELIVERED', 'TD01', i || '/a', i::text, 'it01234567897_' || i, md5('s')::uuid, md5((i % 50000)::text)::uuid FROM generate_series($1::int, $2::int) AS i`,
		`SET session_replication_role = origin`,
	} {
		args := []any{}
		if statement[0] == 'I' {
			args = append(args, from+1, to)
		}
		_, err := admin.Exec(context.Background(), statement, args...)
		require.NoError(b, err)
	}
	_, err := admin.Exec(context.Background(), `ANALYZE unit, unit_file, search_entry`)
	require.NoError(b, err)
}
