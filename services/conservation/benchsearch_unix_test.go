//go:build unix

package conservation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// asking is a search, of a tenant, in one of the forms in which people ask.
type asking struct {
	tenant, form string
	query        *conservationv1.SearchQuery
}

// reportSearch searches a stock of documents through all that a call of SearchDocuments does behind the wire: row-level security,
// a page of fifty in the order of dates with what is shown of each, and every fourth time the page behind it.
func reportSearch(b *testing.B) {
	dir := *benchKeep
	if dir == "" {
		dir = filepath.Join(b.TempDir(), "pg")
	}
	cluster, db := durable(b, dir)
	s := stock{pgtest.Admin(b, db), *benchDocuments}
	began := time.Now()
	s.fill(b)
	fmt.Printf("conservation: %d documents were there after %.0f s\n", s.n, time.Since(began).Seconds())
	var bytes int64
	require.NoError(b, s.admin.QueryRow(context.Background(), `SELECT sum(pg_total_relation_size(n::regclass)) FROM unnest(ARRAY['search_entry', 'search_word', 'search_party']) AS n`).Scan(&bytes))
	figure("conservation: tables of the search with their indexes", float64(bytes)/float64(s.n), "bytes/doc", "-")
	db.Close()
	require.NoError(b, s.admin.Close(context.Background()))
	if *benchQueries == 0 {
		return
	}
	require.NoError(b, cluster.Halt())
	cold := coldly(b, cluster.Dir())
	require.NoError(b, cluster.Restart(context.Background()))
	s.ask(b, cluster, db.Config(), "first after a start, tables "+cold)
	s.ask(b, cluster, db.Config(), "in use")
}

// ask times searches; those of the two states of the caches are others.
func (s stock) ask(b *testing.B, cluster *postgres.Cluster, conf pg.Config, state string) {
	b.Helper()
	conf.URL = cluster.URL(pgtest.DurableName) // it has started anew
	ctx := context.Background()
	db, err := pg.Open(ctx, conf)
	require.NoError(b, err)
	defer db.Close()
	service, r := &Service{db: db}, rand.New(rand.NewPCG(1, uint64(len(state)))) //nolint:gosec // of a benchmark
	var all, large []time.Duration
	forms := map[string][]time.Duration{}
	found := map[string]int{}
	for i := range *benchQueries {
		a := s.asking(r, i)
		q, err := readQuery(a.query)
		require.NoError(b, err)
		token := ""
		for page := range 2 {
			began := time.Now()
			resp, err := service.search(ctx, a.tenant, q, a.query, 50, token)
			took := time.Since(began)
			require.NoError(b, err)
			all, forms[a.form] = append(all, took), append(forms[a.form], took)
			if a.tenant == "acme" {
				large = append(large, took)
			}
			found[a.form] += len(resp.GetDocuments())
			token = resp.GetNextPageToken()
			if token == "" || page > 0 || i%4 != 0 {
				break
			}
		}
	}
	what := fmt.Sprintf("conservation: search of %d documents of 111 tenants, %s, ", s.n, state)
	figure(what+"p50", ms(quantile(all, 0.5)), "ms", "-")
	figure(what+"p95", ms(quantile(all, 0.95)), "ms", "< 200")
	figure(what+"p99", ms(quantile(all, 0.99)), "ms", "-")
	figure(fmt.Sprintf("  of the tenant with %d of them, p95", s.n/10*7), ms(quantile(large, 0.95)), "ms", "< 200")
	names := make([]string, 0, len(forms))
	for name := range forms {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("  %-60s p50 %9.2f ms  p95 %9.2f ms  slowest %9.2f ms  %5.1f found\n", name,
			ms(quantile(forms[name], 0.5)), ms(quantile(forms[name], 0.95)), ms(quantile(forms[name], 1)), float64(found[name])/float64(len(forms[name])))
	}
}

// asking is the i-th question: half of them are of the large tenant, and half of the others of small ones.
func (s stock) asking(r *rand.Rand, i int) asking {
	all := s.crowds()
	c := all[0]
	switch i % 4 {
	case 1:
		c = all[1+r.IntN(10)]
	case 3:
		c = all[11+r.IntN(100)]
	}
	forms := s.forms(r, c)
	f := forms[i/4%len(forms)]
	q := &conservationv1.SearchQuery{}
	for _, all := range f.any {
		q.AnyOf = append(q.AnyOf, &conservationv1.SearchAlternative{AllOf: all})
	}
	return asking{c.name, f.name, q}
}

type (
	together = []*conservationv1.SearchCondition
	either   = []together
)

type form struct {
	name string
	any  either
}

func is(f conservationv1.SearchField, v string, side ...conservationv1.PartySide) *conservationv1.SearchCondition {
	c := &conservationv1.SearchCondition{Field: f, Value: v}
	if len(side) > 0 {
		c.Side = side[0]
	}
	return c
}

// forms are questions by the keys of the decree and the archive's own, with values by lot.
func (s stock) forms(r *rand.Rand, c crowd) []form {
	const (
		name, vat, code = conservationv1.SearchField_SEARCH_FIELD_NAME, conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER, conservationv1.SearchField_SEARCH_FIELD_TAX_CODE
		buyer, seller   = conservationv1.PartySide_PARTY_SIDE_BUYER, conservationv1.PartySide_PARTY_SIDE_SELLER
	)
	who := func() party { return benchParty(r.IntN(c.parties())) }
	word := func() string { return benchSurnames[r.IntN(len(benchSurnames))] }
	p, own := who(), benchParty(0)
	day := s.day(r.IntN(s.n))
	month := &conservationv1.SearchCondition{Field: conservationv1.SearchField_SEARCH_FIELD_DATE, From: day.Format(time.DateOnly), To: day.AddDate(0, 1, 0).Format(time.DateOnly)}
	oneDay := is(conservationv1.SearchField_SEARCH_FIELD_DATE, day.Format(time.DateOnly))
	year, credit := is(conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR, strconv.Itoa(day.Year())), is(conservationv1.SearchField_SEARCH_FIELD_DOCUMENT_TYPE, "TD04")
	unread := is(conservationv1.SearchField_SEARCH_FIELD_STATE, "AVAILABLE_IN_RESERVED_AREA")
	number := is(conservationv1.SearchField_SEARCH_FIELD_NUMBER, fmt.Sprintf("%d/A", r.IntN(min(100_000, c.documents))))
	sdi := is(conservationv1.SearchField_SEARCH_FIELD_SDI_ID, strconv.Itoa(1_000_000+r.IntN(s.n)))
	middling := fmt.Sprintf("%s%d", word(), r.IntN(10)) // borne by some in a thousand
	return []form{
		{"VAT number", either{{is(vat, p.VAT)}}},
		{"tax code", either{{is(code, p.TaxCode)}}},
		{"whole name", either{{is(name, p.Name)}}},
		{"surname", either{{is(name, word())}}},
		{"middling name", either{{is(name, middling)}}},
		{"day", either{{oneDay}}},
		{"month", either{{month}}},
		{"year", either{{year}}},
		{"number", either{{number}}},
		{"SdI id", either{{sdi}}},
		{"state that none has", either{{is(conservationv1.SearchField_SEARCH_FIELD_STATE, "PA_REFUSED")}}},
		{"VAT number of the tenant", either{{is(vat, own.VAT)}}},
		{"whole name and month", either{{is(name, p.Name), month}}},
		{"surname and month", either{{is(name, word()), month}}},
		{"surname and day", either{{is(name, word()), oneDay}}},
		{"middling name and year", either{{is(name, middling), year}}},
		{"middling name, type and state", either{{is(name, middling), credit, unread}}},
		{"surname, year and type", either{{is(name, word()), year, credit}}},
		{"surname of the seller, type and state", either{{is(name, word(), seller), credit, unread}}},
		{"two words of a name and year", either{{is(name, word()+" "+word()), year}}},
		{"seller the tenant, buyer by surname, year", either{{is(vat, own.VAT, seller), is(name, word(), buyer), year}}},
		{"tenant, type and year", either{{is(vat, own.VAT), credit, year}}},
		{"type and month", either{{credit, month}}},
		{"VAT number and year, or number and year", either{{is(vat, p.VAT), year}, {number, year}}},
		{"name, or VAT number, or surname and month", either{{is(name, p.Name)}, {is(vat, who().VAT)}, {is(name, word()), month}}},
		{"one surname or another, credit notes", either{{is(name, word()), credit}, {is(name, word()), credit}}},
		{"tax code and month, or SdI id", either{{is(code, p.TaxCode), month}, {sdi}}},
	}
}
