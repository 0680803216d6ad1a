package invoice

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"pgregory.net/rapid"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
)

func (w *world) seriesAPI() invoicev1.SeriesServiceClient {
	return invoicev1.NewSeriesServiceClient(w.Tenant("invoice", "acme"))
}

// series makes a series of acme and gives its name.
func (w *world) series(id, pattern string, years ...*invoicev1.SeriesYear) string {
	w.t.Helper()
	made, err := w.seriesAPI().CreateSeries(w.t.Context(), &invoicev1.CreateSeriesRequest{Parent: acmeMain, SeriesId: id,
		Series: &invoicev1.Series{Pattern: pattern, Years: years}})
	require.NoError(w.t, err)
	return made.GetName()
}

func TestSeriesAreKept(t *testing.T) {
	w := start(t)
	api := w.seriesAPI()
	req := &invoicev1.CreateSeriesRequest{Parent: acmeMain, SeriesId: "fe", RequestId: uuid.NewString(),
		Series: &invoicev1.Series{DisplayName: "Fatture", Pattern: "FE/{year}/{number:04}", Years: []*invoicev1.SeriesYear{{Year: 2026, Next: 57}}}}
	made, err := api.CreateSeries(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, acmeMain+"/series/fe", made.GetName())
	require.EqualValues(t, 57, made.GetYears()[0].GetNext())
	again, err := api.CreateSeries(t.Context(), req)
	require.NoError(t, err)
	require.True(t, proto.Equal(made, again), "the same request is the same answer")
	req.RequestId = ""
	_, err = api.CreateSeries(t.Context(), req)
	requireFault(t, err, "SERIES_EXISTS", "series_id", "SERIES_EXISTS")
	_, err = api.CreateSeries(t.Context(), &invoicev1.CreateSeriesRequest{Parent: "tenants/acme/companies/nobody", SeriesId: "x", Series: &invoicev1.Series{Pattern: "{number}"}})
	requireFault(t, err, "COMPANY_NOT_FOUND", "", "")

	got, err := api.GetSeries(t.Context(), &invoicev1.GetSeriesRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.True(t, proto.Equal(made, got))
	_, err = api.GetSeries(t.Context(), &invoicev1.GetSeriesRequest{Name: acmeMain + "/series/none"})
	requireFault(t, err, "SERIES_NOT_FOUND", "", "")

	changed, err := api.UpdateSeries(t.Context(), &invoicev1.UpdateSeriesRequest{
		Series: &invoicev1.Series{Name: made.GetName(), DisplayName: "Vendite", Pattern: "ignored", Etag: made.GetEtag()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}}})
	require.NoError(t, err)
	require.Equal(t, "Vendite FE/{year}/{number:04}", changed.GetDisplayName()+" "+changed.GetPattern())
	_, err = api.UpdateSeries(t.Context(), &invoicev1.UpdateSeriesRequest{Series: &invoicev1.Series{Name: made.GetName(), DisplayName: "x", Etag: made.GetEtag()}})
	requireFault(t, err, "ETAG_MISMATCH", "series.etag", "ETAG_MISMATCH")
	_, err = api.UpdateSeries(t.Context(), &invoicev1.UpdateSeriesRequest{Series: &invoicev1.Series{Name: made.GetName(), Pattern: "x"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"etag"}}})
	requireFault(t, err, "UPDATE_MASK_INVALID", "update_mask", "UPDATE_MASK_INVALID")

	for _, id := range []string{"a", "b", "c", "d"} {
		w.series(id, "{number}")
	}
	var names []string
	token := ""
	for {
		page, err := api.ListSeries(t.Context(), &invoicev1.ListSeriesRequest{Parent: acmeMain, PageSize: 2, PageToken: token})
		require.NoError(t, err)
		for _, x := range page.GetSeries() {
			names = append(names, strings.TrimPrefix(x.GetName(), acmeMain+"/series/"))
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	require.Equal(t, "a b c d fe", strings.Join(names, " "))
	_, err = api.ListSeries(t.Context(), &invoicev1.ListSeriesRequest{Parent: acmeMain, PageToken: "damaged"})
	requireFault(t, err, "PAGE_TOKEN_INVALID", "page_token", "PAGE_TOKEN_INVALID")
	_, err = invoicev1.NewSeriesServiceClient(w.Tenant("invoice", "brio")).GetSeries(t.Context(), &invoicev1.GetSeriesRequest{Name: made.GetName()})
	requireFault(t, err, "FOREIGN_RESOURCE", "", "")

	_, err = api.DeleteSeries(t.Context(), &invoicev1.DeleteSeriesRequest{Name: acmeMain + "/series/a", Etag: `"9"`})
	requireFault(t, err, "ETAG_MISMATCH", "etag", "ETAG_MISMATCH")
	_, err = api.DeleteSeries(t.Context(), &invoicev1.DeleteSeriesRequest{Name: acmeMain + "/series/a"})
	require.NoError(t, err)
	_, err = api.GetSeries(t.Context(), &invoicev1.GetSeriesRequest{Name: acmeMain + "/series/a"})
	requireFault(t, err, "SERIES_NOT_FOUND", "", "")
}

// Once a number was given, nothing that would give it twice is allowed.
func TestSeriesThatHasBegun(t *testing.T) {
	w := start(t)
	api := w.seriesAPI()
	name := w.series("fe", "{number}/{yy}", &invoicev1.SeriesYear{Year: 2026, Next: 41})
	inv, err := w.createDraft(draft(""), name)
	require.NoError(t, err)
	require.Equal(t, "41/26", inv.GetBodies()[0].GetNumber())
	got, err := api.GetSeries(t.Context(), &invoicev1.GetSeriesRequest{Name: name})
	require.NoError(t, err)
	require.True(t, proto.Equal(&invoicev1.SeriesYear{Year: 2026, Next: 42, Given: 1, LastDate: "2026-03-16"}, got.GetYears()[0]), "%v", got)

	_, err = api.UpdateSeries(t.Context(), &invoicev1.UpdateSeriesRequest{Series: &invoicev1.Series{Name: name, Pattern: "{number}"}})
	requireFault(t, err, "SERIES_STARTED", "series.pattern", "SERIES_STARTED")
	for _, next := range []int64{1, 41, 43, 99} {
		_, err = api.UpdateSeries(t.Context(), &invoicev1.UpdateSeriesRequest{Series: &invoicev1.Series{Name: name, Years: []*invoicev1.SeriesYear{{Year: 2026, Next: next}}}})
		requireFault(t, err, "SERIES_STARTED", "series.years[0].next", "SERIES_STARTED")
	}
	_, err = api.UpdateSeries(t.Context(), &invoicev1.UpdateSeriesRequest{Series: &invoicev1.Series{Name: name,
		Years: []*invoicev1.SeriesYear{{Year: 2026, Next: 42}, {Year: 2025, Next: 300}}}})
	require.NoError(t, err, "as it is, and another year")
	_, err = api.DeleteSeries(t.Context(), &invoicev1.DeleteSeriesRequest{Name: name})
	requireFault(t, err, "SERIES_STARTED", "name", "SERIES_STARTED")

	d := draft("")
	d.Document.Date = "2025-12-31"
	old, err := w.createDraft(d, name)
	require.NoError(t, err)
	require.Equal(t, "300/25", old.GetBodies()[0].GetNumber(), "each year counts by itself")

	d.Document.Date = "2026-03-01"
	late, err := w.createDraft(d, name)
	require.NoError(t, err)
	require.Equal(t, "42/26 SERIES_DATE_BACKWARDS", late.GetBodies()[0].GetNumber()+" "+late.GetViolations()[0].GetCode(), "legal, and perhaps not meant")
}

// Two hundred at a time, every seventh refused: the numbers are 1 to n, each once.
func TestNumbersHaveNoGap(t *testing.T) {
	w := start(t)
	name := w.series("fe", "{number}")
	const n = 200
	refused, repeated := func(i int) bool { return i%7 == 3 }, func(i int) bool { return i%11 == 5 }
	invoices, errs := make([]*invoicev1.Invoice, n), make([]error, n)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			req := &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Draft: draft(""), Series: name, RequestId: uuid.NewString()}
			if refused(i) {
				req.Draft.Lines[0].VatRate = "22.001"
			}
			invoices[i], errs[i] = w.api.CreateInvoice(t.Context(), req)
			if repeated(i) && errs[i] == nil {
				again, err := w.api.CreateInvoice(t.Context(), req)
				if err != nil || !proto.Equal(again, invoices[i]) {
					errs[i] = fmt.Errorf("repeat of %v: %v, %w", invoices[i], again, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d drafts on one series, at the same time: %s", n, time.Since(began))
	seen, want := map[int]bool{}, 0
	for i := range n {
		if refused(i) {
			require.Equal(t, "DRAFT_INVALID", fault.Of(errs[i]).Code)
			continue
		}
		want++
		require.NoError(t, errs[i])
		number, err := strconv.Atoi(invoices[i].GetBodies()[0].GetNumber())
		require.NoError(t, err)
		require.False(t, seen[number], "%d twice", number)
		require.Contains(t, w.original(invoices[i]), fmt.Sprintf("<Numero>%d</Numero>", number))
		seen[number] = true
	}
	for i := 1; i <= want; i++ {
		require.True(t, seen[i], "%d is missing", i)
	}
	require.Equal(t, want, w.count(`SELECT count(*) FROM held_number`))
	got, err := w.seriesAPI().GetSeries(t.Context(), &invoicev1.GetSeriesRequest{Name: name})
	require.NoError(t, err)
	require.EqualValues(t, want+1, got.GetYears()[0].GetNext())
	require.EqualValues(t, want, got.GetYears()[0].GetGiven())
}

// Two processes meet at the row of the year, and not at a gate in memory.
func TestNumbersOfTwoProcessesHaveNoGap(t *testing.T) {
	w := start(t)
	name := w.series("fe", "{number}")
	services := []*Service{w.s, newService(w.Host("invoice"), Config{CompanyTTL: time.Minute, Heartbeat: time.Second})}
	const n = 60
	numbers, errs := make([]string, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			inv, err := services[i%2].CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Draft: draft(""), Series: name})
			if errs[i] = err; err == nil {
				numbers[i] = inv.GetBodies()[0].GetNumber()
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for i := range n {
		require.NoError(t, errs[i])
		seen[numbers[i]] = true
	}
	for i := 1; i <= n; i++ {
		require.True(t, seen[strconv.Itoa(i)], "%d is missing", i)
	}
}

// A number that an invoice with a number of its own holds is used already: the series goes past it.
func TestSeriesPassesNumbersThatAreHeld(t *testing.T) {
	w := start(t)
	name := w.series("fe", "{number}")
	for _, held := range []string{"1", "2", "4"} {
		w.create(file(held))
	}
	for _, want := range []string{"3", "5", "6"} {
		inv, err := w.createDraft(draft(""), name)
		require.NoError(t, err)
		require.Equal(t, want, inv.GetBodies()[0].GetNumber())
	}
}

func TestSeriesEnds(t *testing.T) {
	w := start(t)
	name := w.series("fe", "ABCDEFGHIJKLMNOPQRS{number}", &invoicev1.SeriesYear{Year: 2026, Next: 9})
	_, err := w.createDraft(draft(""), name)
	require.NoError(t, err)
	_, err = w.createDraft(draft(""), name)
	requireFault(t, err, "SERIES_EXHAUSTED", "series", "SERIES_EXHAUSTED")
}

func TestPatterns(t *testing.T) {
	for pattern, want := range map[string]string{
		"{number}": "7", "{number:05}": "00007", "FE/{year}/{number:04}": "FE/2026/0007", "{number}-{yy}": "7-26", "A {number}.b": "A 7.b", "{yy}{year}{number}": "2620267",
	} {
		p, err := parsePattern(pattern, "f")
		require.NoError(t, err, pattern)
		require.Equal(t, want, p.write(7, 2026))
	}
	for _, pattern := range []string{"", "FE", "{number}{number}", "{n}", "{number", "number}", "{number:5}", "{number:0}", "{number:099}", "{number:}", "{year:04}{number}",
		" {number}", "{number} ", "<{number}", "&{number}", "è{number}", "\x00{number}", "{number}\n", "{number:018}ABC", strings.Repeat("x", 20) + "{number}", "{}{number}", "{{number}}"} {
		_, err := parsePattern(pattern, "series.pattern")
		requireFault(t, err, "PATTERN_INVALID", "series.pattern", fault.Of(err).Fields[0].Code)
	}
}

// Two numbers of a series are never written alike, and every number is one that the format takes.
func TestPatternsWriteEachNumberOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.SampledFrom([]string{"", "A", "1", "/", " "}).Draw(t, "before") + rapid.SampledFrom([]string{"{number}", "{number:02}", "{number:07}"}).Draw(t, "number") +
			rapid.SampledFrom([]string{"", "/{yy}", "{year}", "-x"}).Draw(t, "after")
		p, err := parsePattern(pattern, "f")
		if err != nil {
			return // begins with a space
		}
		a, b := rapid.Int64Range(1, 1e9).Draw(t, "a"), rapid.Int64Range(1, 1e9).Draw(t, "b")
		if (a == b) != (p.write(a, 2026) == p.write(b, 2026)) {
			t.Fatalf("%s writes %d and %d alike", pattern, a, b)
		}
	})
}
