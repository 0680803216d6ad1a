package conservation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

// How the parties that a name means are found depends on how many there are. Up to mostParties are written into the
// statement by their ids, and their documents found by the indexes of parties. Beyond, documents are gone through in
// order, which finds a page the sooner the more bear the name: up to mostHeld the server holds the parties as a set
// and looks each document's up in it; of more it asks each document's party whether it bears the name. Variables for tests.
var (
	mostParties = 1000
	mostHeld    = 50_000
)

// span is a range of the keys of parties: all that begin with a word, or one key.
type span struct {
	from  string
	exact bool
}

func (s span) of(st *statement, column string) string {
	if s.exact {
		return column + " = " + st.arg(s.from)
	}
	return fmt.Sprintf("%s >= %s AND %s < %s", column, st.arg(s.from), column, st.arg(s.from+"\U0010FFFF"))
}

// spans are what a condition on a party looks for: its whole value as the beginning of a key, or all of the
// words, each at the beginning of one.
func (c condition) spans() (whole span, words []span) {
	switch c.field {
	case conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER:
		return span{vatMark + c.value, true}, nil
	case conservationv1.SearchField_SEARCH_FIELD_TAX_CODE:
		return span{codeMark + c.value, true}, nil
	}
	if len(c.words) > 1 {
		for _, w := range c.words {
			words = append(words, span{from: w})
		}
	}
	return span{from: c.value}, words
}

// naming is the set of parties that a condition means, in the terms of a statement.
type naming struct {
	many bool
	as   func(column string) string // the condition that a party, seller or buyer, is in the set
}

// bears says that a party has a key in a span. A subquery of one row each, which no planner turns into a join over
// all who bear it.
func bears(st *statement, own, party string, s span) string {
	return "COALESCE((SELECT true FROM search_word AS b WHERE b.tenant_id = " + own + " AND b.party_id = " + party + " AND " + s.of(st, "b.word") + " LIMIT 1), false)"
}

// parties gives the set of parties that a condition means; nil when there are none.
func parties(ctx context.Context, tx pgx.Tx, st *statement, tenant, own string, c condition) (*naming, error) {
	whole, words := c.spans()
	borne, err := countBearers(ctx, tx, tenant, whole, words)
	if err != nil {
		return nil, err
	}
	bearers := borne.most()
	if bearers <= mostParties {
		ids, err := lookUp(ctx, tx, tenant, whole, words, borne)
		switch {
		case err != nil:
			return nil, err
		case len(ids) == 0:
			return nil, nil //nolint:nilnil // nobody is meant
		case len(ids) == 1:
			one := st.arg(ids[0])
			return &naming{as: func(column string) string { return column + " = " + one + "::uuid" }}, nil
		case len(ids) <= mostParties:
			list := st.arg(ids)
			return &naming{as: func(column string) string { return column + " = ANY(" + list + "::uuid[])" }}, nil
		}
	}
	if bearers <= mostHeld {
		// The limit is above what there are, and bounds what the planner believes: beyond its memory it would not make a set.
		set := "SELECT party_id FROM " + st.set(bearersOf(st, own, whole, words, borne)+" LIMIT "+st.arg(2*mostHeld+1))
		return &naming{many: true, as: func(column string) string { return "COALESCE(" + column + " IN (" + set + "), false)" }}, nil
	}
	return &naming{many: true, as: func(column string) string {
		party := "search_entry." + column
		means := bears(st, own, party, whole)
		if len(words) == 0 {
			return means
		}
		all := make([]string, len(words))
		for i, w := range words {
			all[i] = bears(st, own, party, w)
		}
		return "(" + means + " OR (" + strings.Join(all, " AND ") + "))"
	}}, nil
}

// bearers are how many parties bear the whole and each of the words, counted no further than it matters.
type bearers struct {
	whole  int
	words  []int
	rarest int // of the words
}

// most is how many can be meant: those who bear the rarest word, or the whole; whichever are more.
func (b bearers) most() int {
	if len(b.words) == 0 {
		return b.whole
	}
	return max(b.whole, b.words[b.rarest])
}

// listed says that those who bear a word are listed, instead of being asked for one by one among those who bear the rarest:
// asking for one costs as much as listing forty.
func (b bearers) listed(word int) bool {
	rarest := b.words[b.rarest]
	return rarest > mostParties && (b.words[word] <= mostHeld || rarest > mostHeld/5)
}

func countBearers(ctx context.Context, tx pgx.Tx, tenant string, whole span, words []span) (b bearers, err error) {
	probe := &statement{}
	own, limit := probe.arg(tenant), probe.arg(max(mostParties, mostHeld)+1)
	var counts []string
	for _, s := range append([]span{whole}, words...) {
		counts = append(counts, "(SELECT count(*) FROM (SELECT 1 FROM search_word WHERE tenant_id = "+own+" AND "+s.of(probe, "word")+" LIMIT "+limit+") AS few)")
	}
	var found []int
	err = tx.QueryRow(ctx, "SELECT ARRAY["+strings.Join(counts, ", ")+"]", append([]any{pgx.QueryExecModeCacheDescribe}, probe.args...)...).Scan(&found)
	if err != nil {
		return b, fmt.Errorf("conservation: search for parties: %w", err)
	}
	b.whole, b.words = found[0], found[1:]
	for i, n := range b.words {
		if n < b.words[b.rarest] {
			b.rarest = i
		}
	}
	return b, nil
}

// bearersOf selects the parties: who begins with the whole, and those who bear the rarest word that bear the others too.
func bearersOf(st *statement, own string, whole span, words []span, borne bearers) string {
	sql := "SELECT party_id FROM search_word WHERE tenant_id = " + own + " AND " + whole.of(st, "word")
	if len(words) == 0 {
		return sql
	}
	asked := "(SELECT party_id FROM search_word AS w WHERE w.tenant_id = " + own + " AND " + words[borne.rarest].of(st, "w.word")
	listed := ""
	for i, w := range words {
		switch {
		case i == borne.rarest:
		case borne.listed(i):
			listed += " INTERSECT (SELECT party_id FROM search_word WHERE tenant_id = " + own + " AND " + w.of(st, "word") + ")"
		default:
			asked += " AND " + bears(st, own, "w.party_id", w)
		}
	}
	return "(" + sql + ") UNION (" + asked + ")" + listed + ")"
}

func lookUp(ctx context.Context, tx pgx.Tx, tenant string, whole span, words []span, borne bearers) ([]uuid.UUID, error) {
	probe := &statement{}
	sql := bearersOf(probe, probe.arg(tenant), whole, words, borne)
	rows, err := tx.Query(ctx, sql+" LIMIT "+probe.arg(mostParties+1), append([]any{pgx.QueryExecModeCacheDescribe}, probe.args...)...)
	if err != nil {
		return nil, fmt.Errorf("conservation: search for parties: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("conservation: search for parties: %w", err)
	}
	return ids, nil
}

// yearDates are the days of the documents of a fiscal year. Every index in the order of dates can then begin at the
// right end of the year, whichever of them the other conditions suggest; empty when the year has no documents.
func yearDates(ctx context.Context, tx pgx.Tx, st *statement, tenant string, year int32) (string, error) {
	var first, last *time.Time
	err := tx.QueryRow(ctx, `SELECT (SELECT issued_on FROM search_entry WHERE tenant_id = $1 AND fiscal_year = $2 ORDER BY issued_on LIMIT 1),
		(SELECT issued_on FROM search_entry WHERE tenant_id = $1 AND fiscal_year = $2 ORDER BY issued_on DESC LIMIT 1)`, tenant, year).Scan(&first, &last)
	if err != nil {
		return "", fmt.Errorf("conservation: search: %w", err)
	}
	if first == nil {
		return "", nil
	}
	return "issued_on >= " + st.arg(*first) + "::date AND issued_on <= " + st.arg(*last) + "::date", nil
}
