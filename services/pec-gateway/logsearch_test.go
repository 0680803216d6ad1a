package pecgateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// logForm is a way in which people search the log.
type logForm struct {
	name   string
	all    bool // mailboxes of the tenant; otherwise the first one, with half of its entries
	bounds bool // no index answers it: a page ends after so many entries
	filter *pecv1.LogFilter
}

// forms are all fields of the search, with what is rare and what is frequent, now and only long ago.
func (s logStock) forms(nth int) []logForm {
	message := s.of(nth * 7919 % (s.n / 6))
	day := s.at(nth * 104729 % s.n)
	stamp := timestamppb.New
	rare := s.of(message)
	for message%5 < 3 || message*6 < s.n/100 {
		message = s.of(message + 1)
	}
	var out []logForm
	for _, all := range []bool{false, true} {
		for name, f := range map[string]*pecv1.LogFilter{
			"nothing":                               nil,
			"msgid":                                 {Identifier: stockMsgid(rare)},
			"identificativo":                        {Identifier: stockIdent(rare)},
			"identifier that none has":              {Identifier: "nessuno@nowhere.test"},
			"rare address":                          {Address: strings.ToUpper(s.rarePeer(message))},
			"address of some":                       {Address: fmt.Sprintf("fornitore%d@pec.example", nth%400)},
			"frequent address":                      {Address: frequentPeer},
			"own address":                           {Address: stockAddress(stockTenant, 0)},
			"address of long ago":                   {Address: formerPeer},
			"address that none has":                 {Address: "nessuno@nowhere.test"},
			"day":                                   {StartTime: stamp(day), EndTime: stamp(day.AddDate(0, 0, 1))},
			"before the first":                      {EndTime: stamp(stockBegin)},
			"up to a moment":                        {EndTime: stamp(day)},
			"frequent address, day":                 {Address: frequentPeer, StartTime: stamp(day), EndTime: stamp(day.AddDate(0, 0, 1))},
			"event":                                 {Event: "delivered"},
			"rare event":                            {Event: "not-delivered"},
			"event that never was":                  {Event: "cancelled"},
			"type":                                  {Type: "accettazione"},
			"rare type":                             {Type: "errore-consegna"},
			"type that never was":                   {Type: "rilevazione-virus"},
			"event and type":                        {Event: "received", Type: "avvenuta-consegna"},
			"frequent address, event, type, day":    {Address: frequentPeer, Event: "delivered", Type: "avvenuta-consegna", StartTime: stamp(day.AddDate(0, 0, -7)), EndTime: stamp(day)},
			"identifier and address":                {Identifier: stockMsgid(rare), Address: s.peer(rare)},
			"~ part of the subject":                 {Subject: "FATTURA N."},
			"~ part of the subject that few have":   {Subject: fmt.Sprintf("n. %d/", rare)},
			"~ part of the subject that none has":   {Subject: "inesistente"},
			"~ subject, month":                      {Subject: fmt.Sprintf("n. %d/", rare), StartTime: stamp(s.at(rare*6).AddDate(0, 0, -15)), EndTime: stamp(s.at(rare*6).AddDate(0, 0, 15))},
			"~ subject that none has, rare address": {Subject: "inesistente", Address: s.rarePeer(message)},
		} {
			out = append(out, logForm{strings.TrimPrefix(name, "~ "), all, strings.HasPrefix(name, "~"), f})
		}
	}
	slices.SortFunc(out, func(a, b logForm) int { return strings.Compare(a.title(), b.title()) })
	return out
}

// of is the next message of the first mailbox.
func (s logStock) of(message int) int {
	for {
		message %= s.n / 6
		if tenant, box := s.whose(message); tenant == stockTenant && box == 0 {
			return message
		}
		message++
	}
}

func (f logForm) title() string {
	if f.all {
		return f.name + ", all mailboxes"
	}
	return f.name
}

func (f logForm) request() *pecv1.ListLogEntriesRequest {
	parent := mailboxName(stockTenant, stockBox(stockTenant, 0))
	if f.all {
		parent = "tenants/" + stockTenant + "/mailboxes/-"
	}
	return &pecv1.ListLogEntriesRequest{Parent: parent, Filter: f.filter}
}

// stepOf is a step of a plan as PostgreSQL tells it.
type stepOf struct {
	Type    string   `json:"Node Type"`
	Table   string   `json:"Relation Name"`
	Index   string   `json:"Index Name"`
	Rows    float64  `json:"Actual Rows"`
	Loops   float64  `json:"Actual Loops"`
	Dropped float64  `json:"Rows Removed by Filter"`
	Again   float64  `json:"Rows Removed by Index Recheck"`
	Steps   []stepOf `json:"Plans"`
}

// read gives how many rows the steps below took from tables, and by which indexes.
func (s stepOf) read(indexes map[string]bool) (rows float64) {
	if s.Table != "" && s.Type != "Bitmap Heap Scan" || s.Type == "Bitmap Index Scan" {
		rows = (s.Rows + s.Dropped + s.Again) * s.Loops
		if s.Index == "" && s.Rows+s.Dropped > 0 {
			indexes["no index: "+s.Table] = true
		}
		indexes[s.Index] = true
	}
	for _, step := range s.Steps {
		rows += step.read(indexes)
	}
	return rows
}

// explained runs a statement as the gateway does, and tells what it read.
func explained(t testing.TB, ctx context.Context, tx pgx.Tx, sql string, args []any) (float64, map[string]bool, string) {
	t.Helper()
	var text string
	require.NoError(t, tx.QueryRow(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+sql, args...).Scan(&text), sql)
	var plans []struct{ Plan stepOf }
	require.NoError(t, json.Unmarshal([]byte(text), &plans))
	indexes := map[string]bool{}
	return plans[0].Plan.read(indexes), indexes, text
}

// TestG8EverySearchOfTheLogIsIndexed: in a log of many tenants, under row-level security, each field of a search is answered by an
// index in the order of the list: no statement reads more rows than a page has (of several mailboxes: a share of each), whether what
// it asks for is rare, frequent or was frequent long ago, and on the first page as well as behind it. What is compared row by row is
// bounded. What is found is what reading everything finds. TESTPLAN G8.
func TestG8EverySearchOfTheLogIsIndexed(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, "pec-gateway")
	s := logStock{pgtest.Admin(t, db), 60_000}
	s.boxes(t)
	s.fill(t)
	service := &Service{db: db}
	ctx := auth.With(t.Context(), auth.Caller{Role: auth.RoleOperator})
	const size = 20
	written := make([][]any, s.n)
	for i := range written {
		written[i] = s.row(i)
	}
	for _, form := range s.forms(11) {
		boxes := []uuid.UUID{stockBox(stockTenant, 0)}
		if form.all {
			for i := 1; i < stockBoxes; i++ {
				boxes = append(boxes, stockBox(stockTenant, i))
			}
		}
		want := fitting(written, form.filter, boxes)
		require.NoError(t, db.View(ctx, stockTenant, func(ctx context.Context, tx pgx.Tx) error {
			search, err := searchLog(form.filter, stockTenant, boxes)
			require.NoError(t, err)
			var found []int64
			var after *spot[int64]
			for page := 0; page < 4 || form.bounds || len(want) < 400; page++ {
				var place *afterSpot
				if after != nil {
					place = &afterSpot{after.At, after.Key}
				}
				most := float64(size + 1)
				if search.remaining {
					most = firstLooked
				}
				allowed := most
				if len(search.boxes) > 1 {
					allowed = 2*float64(len(boxes)) + max(4*most, leastShare*float64(len(boxes)))
				}
				sql, args := search.sql(place, false, int(most))
				read, indexes, plan := explained(t, ctx, tx, sql, args)
				if page == 0 || page == 3 {
					require.LessOrEqual(t, read, allowed, "%s, page %d:\n%s", form.title(), page, plan)
					for index := range indexes {
						require.NotContains(t, index, "no index", "%s:\n%s", form.title(), plan)
					}
					if strings.Contains(form.name, "address") && form.filter.GetIdentifier() == "" {
						require.Contains(t, indexes, "log_address_pkey", "%s:\n%s", form.title(), plan)
					}
				}
				spots, _, err := nextSpots(ctx, tx, search.trail, after, false, int(most))
				require.NoError(t, err)
				var numbers []int64
				for _, s := range spots {
					numbers = append(numbers, s.Key)
				}
				if len(numbers) > 0 {
					sql, args = search.entries(numbers, false, size+1)
					read, indexes, plan = explained(t, ctx, tx, sql, args)
					require.LessOrEqual(t, read, float64(2*len(numbers)), "%s, rows of page %d:\n%s", form.title(), page, plan)
					for index := range indexes {
						require.Contains(t, []string{"log_entry_pkey", "log_address_pkey", ""}, index, "%s:\n%s", form.title(), plan)
					}
				}
				rows, next, err := readLog(ctx, tx, search, after, false, size)
				require.NoError(t, err)
				for _, r := range rows {
					found = append(found, r.number)
				}
				if after = next; next == nil {
					break
				}
			}
			if after != nil {
				want = want[:len(found)]
			}
			require.Equal(t, want, found, form.title())
			if form.filter.GetAddress() != "" { // and as an export reads it
				found, after = nil, nil
				for page := 0; len(found) < 400 && (page == 0 || after != nil); page++ {
					var rows []logRow
					rows, after, err = readLog(ctx, tx, search, after, true, size)
					require.NoError(t, err)
					for _, r := range rows {
						found = append(found, r.number)
					}
				}
				oldest := fitting(written, form.filter, boxes)
				slices.Reverse(oldest)
				require.Equal(t, oldest[:len(found)], found, form.title())
				require.True(t, after != nil || len(found) == len(oldest), form.title())
			}
			return nil
		}))
	}
	resp, err := service.ListLogEntries(ctx, logForm{filter: &pecv1.LogFilter{Address: formerPeer}}.request())
	require.NoError(t, err)
	require.Len(t, resp.GetEntries(), 50)
}

// fitting reads everything.
func fitting(written [][]any, f *pecv1.LogFilter, boxes []uuid.UUID) []int64 {
	var out []int64
	for _, r := range slices.Backward(written) {
		at, event := r[3].(time.Time), r[4].(int16) //nolint:forcetypeassert // made by us
		if r[1] != stockTenant || !slices.Contains(boxes, r[2].(uuid.UUID)) || f.GetStartTime() != nil && at.Before(f.GetStartTime().AsTime()) || f.GetEndTime() != nil && !at.Before(f.GetEndTime().AsTime()) {
			continue
		}
		id, address := f.GetIdentifier(), key(f.GetAddress())
		if id != "" && r[8] != id && r[9] != id && r[10] != id ||
			address != "" && key(r[11].(string)) != address && !slices.ContainsFunc(r[12].([]string), func(a string) bool { return key(a) == address }) ||
			f.GetEvent() != "" && happened[event] != f.GetEvent() || f.GetType() != "" && r[7] != f.GetType() ||
			!strings.Contains(strings.ToLower(r[13].(string)), strings.ToLower(f.GetSubject())) {
			continue
		}
		out = append(out, r[0].(int64))
	}
	return out
}
