package pecgateway

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg/pgtest"
)

var (
	benchEntries  = flag.Int("entries", 1_000_000, "entries of the log that is searched; the test plan speaks of 10000000")
	benchSearches = flag.Int("searches", 40, "searches in each form")
)

func logFigure(name string, value float64, unit, target string) {
	fmt.Printf("%-100s %12.2f %-10s (target %s)\n", name, value, unit, target)
}

// ReportLog is a part of BenchmarkReport: it fills a log, and as many messages, and searches them by each field, as a call does behind
// the wire, on the first page and on one that begins somewhere in the middle.
func ReportLog(b *testing.B) {
	ctx := context.Background()
	_, db := pgtest.Durable(b, "pec-gateway", filepath.Join(b.TempDir(), "pg"), 4)
	s := logStock{pgtest.Admin(b, db), *benchEntries}
	began := time.Now()
	s.boxes(b)
	s.fill(b)
	logFigure(fmt.Sprintf("pec: log of %d entries of 11 tenants filled by COPY, its indexes made", s.n), time.Since(began).Seconds(), "s", "-")
	s.reportSizes(b, "log_entry", "log_address")
	service := &Service{db: db}
	ctx = auth.With(ctx, auth.Caller{Role: auth.RoleOperator})
	t := timings{}
	for nth := range *benchSearches {
		for _, form := range s.forms(nth + 1) {
			t.time(form.title(), func() {
				_, err := service.ListLogEntries(ctx, form.request())
				require.NoError(b, err)
			})
			t.time(form.title()+", deep page", func() {
				require.NoError(b, db.View(ctx, stockTenant, func(ctx context.Context, tx pgx.Tx) error {
					boxes, err := service.reachable(ctx, tx, form.request().GetParent())
					require.NoError(b, err)
					search, err := searchLog(form.filter, stockTenant, boxes)
					require.NoError(b, err)
					middle := s.n / (2 + nth%7)
					_, _, err = readLog(ctx, tx, search, &spot[int64]{s.at(middle), int64(middle)}, false, 50)
					return err
				}))
			})
		}
	}
	t.report(fmt.Sprintf("pec: log of %d entries, ", s.n))
	s.reportMessages(b, ctx, db)
}

// timings are how long things took, by name.
type timings map[string][]time.Duration

func (t timings) time(name string, do func()) {
	began := time.Now()
	do()
	t[name] = append(t[name], time.Since(began))
}

func (t timings) report(what string) {
	for _, name := range slices.Sorted(maps.Keys(t)) {
		slices.Sort(t[name])
		at := func(q float64) float64 { return float64(t[name][int(q*float64(len(t[name])-1))].Microseconds()) / 1000 }
		logFigure(what+name+", p50", at(0.5), "ms", "-")
		logFigure(what+name+", p95", at(0.95), "ms", "< 1000")
	}
}

func (s logStock) reportSizes(b *testing.B, tables ...string) {
	b.Helper()
	rows, err := s.admin.Query(context.Background(), `SELECT c.relname, pg_relation_size(c.oid) FROM unnest($1::text[]) AS name JOIN pg_class t ON t.oid = name::regclass
		JOIN pg_class c ON c.oid = t.oid OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = t.oid) ORDER BY 1`, tables)
	require.NoError(b, err)
	all := 0.0
	var name string
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&name, &size}, func() error {
		all += float64(size)
		logFigure("pec: size of "+name, float64(size)/1e6, "MB", "-")
		return nil
	})
	require.NoError(b, err)
	logFigure("pec: "+strings.Join(tables, " and ")+" with their indexes", all/float64(s.n), "bytes/row", "-")
}
