package pecgateway

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// spot is where a row stands in a list: lists are ordered by time, and by the key where times are the same.
type spot[K int64 | uuid.UUID] struct {
	At  time.Time
	Key K
}

// trail is the way to the rows of a page: through one index that is in the order of the list, so that a page costs its own length
// wherever it begins and however rare its rows are. A planner that is given a condition and an order for one statement has to guess
// between the index of the one and that of the other, and reads a whole log when it guesses wrong.
type trail struct {
	from      string      // the table, or a statement that gives all rows there can be (few)
	at, key   string      // its columns
	boxes     []uuid.UUID // nil: of all the tenant's together; who asks for some sorts out
	condition where       // what the index answers besides mailbox, time and place; its first argument is the tenant
	remaining bool        // of what was asked for there is something that the index does not answer

	since, until *time.Time
}

// sql is the statement for the next rows after a place, nil for the first ones.
func (t trail) sql(after *afterSpot, ascending bool, most int) (string, []any) {
	w := where{conditions: append([]string{}, t.condition.conditions...), args: append([]any{}, t.condition.args...)}
	order, beyond := "DESC", "<"
	if ascending {
		order, beyond = "ASC", ">"
	}
	// At one end there is one condition: with two, an index scan may begin at the wider one.
	begun := after != nil && (ascending && (t.since == nil || !after.at.Before(*t.since)) || !ascending && (t.until == nil || after.at.Before(*t.until)))
	if begun {
		w.and("("+t.at+", "+t.key+") "+beyond+" (%s, %s)", after.at, after.key)
	}
	if t.since != nil && !(begun && ascending) {
		w.and(t.at+" >= %s", *t.since)
	}
	if t.until != nil && (!begun || ascending) {
		w.and(t.at+" < %s", *t.until)
	}
	rows := func(conditions string, most int) string {
		return fmt.Sprintf("SELECT %[1]s AS at, %[2]s AS key, false AS more FROM %[3]s WHERE %[4]s ORDER BY %[1]s %[5]s, %[2]s %[5]s LIMIT %[6]d", t.at, t.key, t.from, conditions, order, most)
	}
	switch len(t.boxes) {
	case 0:
		return rows(w.String(), most), w.args
	case 1:
		w.and("mailbox_id = %s", t.boxes[0])
		return rows(w.String(), most), w.args
	}
	// Of several mailboxes only those can be on the page that have the first rows of all. Of each a share is read; where one has more
	// than its share, what comes behind its last row is not known yet, and comes with the next statement.
	w.args = append(w.args, t.boxes)
	share := min(max(4*most/len(t.boxes), leastShare), most)
	return fmt.Sprintf(`WITH m AS (
			SELECT b.id FROM unnest($%[1]d::uuid[]) AS b(id), LATERAL (%[2]s) AS x ORDER BY x.at %[4]s, x.key %[4]s LIMIT %[5]d
		), c AS MATERIALIZED (
			SELECT x.at, x.key, row_number() OVER (PARTITION BY m.id ORDER BY x.at %[4]s, x.key %[4]s) AS nth FROM m, LATERAL (%[3]s) AS x
		), last AS MATERIALIZED (
			SELECT at, key FROM c WHERE nth = %[6]d ORDER BY at %[4]s, key %[4]s LIMIT 1
		)
		SELECT at, key, EXISTS (SELECT FROM last) FROM c WHERE NOT EXISTS (SELECT FROM last WHERE (last.at, last.key) %[7]s (c.at, c.key)) ORDER BY at %[4]s, key %[4]s LIMIT %[5]d`,
		len(w.args), rows(w.String()+" AND mailbox_id = b.id", 1), rows(w.String()+" AND mailbox_id = m.id", share), order, most, share, map[bool]string{false: ">", true: "<"}[ascending]), w.args
}

// afterSpot is a spot of any key.
type afterSpot struct {
	at  time.Time
	key any
}

// few makes a trail of all rows that fit one of several conditions, each with an index of its own.
func few(table, at, key, tenantAnd string, conditions ...string) string {
	var parts []string
	for _, c := range conditions {
		parts = append(parts, fmt.Sprintf("SELECT %s, %s FROM %s WHERE tenant_id = $1 AND %s%s", at, key, table, tenantAnd, c))
	}
	return "(" + strings.Join(parts, " UNION ") + " OFFSET 0) AS fitting"
}

// How many rows a page looks at. What no index answers (a part of a text above all) is compared row by row, more of them each time;
// a page that finds too little among mostLooked ends there, and the next one goes on behind them.
const (
	firstLooked = 250
	nextLooked  = 20_000
	leastShare  = 16 // of each mailbox, when there are many
	mostLooked  = 50_000
)

// follow gives a page of rows and the place that the next one begins after, nil when there is none. fetch gives the rows of keys that
// fit all that was asked for, in the order of the list.
func follow[K int64 | uuid.UUID, R any](ctx context.Context, tx pgx.Tx, t trail, after *spot[K], ascending bool, size int,
	fetch func(keys []K, most int) ([]R, error), spotOf func(R) spot[K],
) ([]R, *spot[K], error) {
	var page []R
	window := size + 1
	if t.remaining {
		window = max(window, firstLooked)
	}
	for looked := 0; ; {
		spots, more, err := nextSpots(ctx, tx, t, after, ascending, window)
		if err != nil {
			return nil, nil, err
		}
		keys := make([]K, len(spots))
		for i, s := range spots {
			keys[i] = s.Key
		}
		if len(keys) > 0 {
			rows, err := fetch(keys, size+1-len(page))
			if err != nil {
				return nil, nil, err
			}
			page = append(page, rows...)
			after = &spots[len(spots)-1]
		}
		if len(page) > size {
			last := spotOf(page[size-1])
			return page[:size], &last, nil
		}
		if !more && len(spots) < window {
			return page, nil, nil
		}
		looked += window
		if looked >= mostLooked {
			return page, after, nil
		}
		window = min(4*window, nextLooked)
	}
}

// nextSpots gives the next rows of a trail; more says that there are others, also when they are fewer than was asked for.
func nextSpots[K int64 | uuid.UUID](ctx context.Context, tx pgx.Tx, t trail, after *spot[K], ascending bool, most int) (list []spot[K], more bool, err error) {
	var place *afterSpot
	if after != nil {
		place = &afterSpot{after.At, after.Key}
	}
	sql, args := t.sql(place, ascending, most)
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, false, err
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s spot[K], err error) {
		return s, row.Scan(&s.At, &s.Key, &more)
	})
	return list, more, err
}
