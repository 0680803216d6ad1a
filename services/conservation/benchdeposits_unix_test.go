//go:build unix

package conservation

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg/pgtest"
)

// reportDeposits hands documents over at several paces, and sees when the signed and stamped report of each is there.
func reportDeposits(b *testing.B) {
	_, on := durable(b, filepath.Join(b.TempDir(), "pg"))
	h := openBench(b, on)
	d := &depositing{h: h, admin: pgtest.Admin(b, on), handed: map[string]time.Time{}}
	d.at(b, "erste", 10, 10) // pools, caches and folders are there
	for text := range strings.SplitSeq(*benchPaces, ",") {
		pace, err := strconv.Atoi(strings.TrimSpace(text))
		require.NoError(b, err)
		answered, reported := d.at(b, "contratto-"+text, pace, *benchDeposits)
		what := fmt.Sprintf("conservation: %d deposits a second: ", pace)
		figure(what+"answer over the API, in charge with two synced replicas, p99", ms(quantile(answered, 0.99)), "ms", "-")
		figure(what+"from the first byte to the signed, stamped RdV with the log's proof, p50", ms(quantile(reported, 0.5)), "ms", "-")
		figure(what+"the same, p99", ms(quantile(reported, 0.99)), "ms", "< 1000")
	}
}

// depositing is a producer with a clock.
type depositing struct {
	h     *house
	admin *pgx.Conn

	mu     sync.Mutex
	handed map[string]time.Time // by key: when its first byte went
}

func (d *depositing) at(b *testing.B, name string, pace, n int) (answered, reported []time.Duration) {
	b.Helper()
	api := d.h.producer()
	give := func(key string) {
		began := time.Now()
		d.mu.Lock()
		d.handed[key] = began
		d.mu.Unlock()
		content := append([]byte("Contratto "+key+"\n"), benchDocument...)
		got, err := upload(b, api, headOf(key, key+".txt", content), content, 0, len(content))
		if err != nil || got.GetState() != accepted {
			b.Errorf("deposit %s: %v %v", key, err, got.GetProblems())
		}
		d.mu.Lock()
		answered = append(answered, time.Since(began))
		d.mu.Unlock()
	}
	var all sync.WaitGroup
	all.Go(func() {
		began := time.Now()
		for i := range n {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(pace))))
			all.Go(func() { give(fmt.Sprintf("%s-%d", name, i)) })
		}
	})
	for seen := []string{}; len(reported) < n; time.Sleep(5 * time.Millisecond) {
		rows, err := d.admin.Query(context.Background(), `SELECT client_key FROM deposit WHERE client_key LIKE $1 || '-%' AND report IS NOT NULL AND NOT client_key = ANY($2)`, name, seen)
		require.NoError(b, err)
		fresh, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(b, err)
		now := time.Now()
		d.mu.Lock()
		for _, key := range fresh {
			reported = append(reported, now.Sub(d.handed[key]))
		}
		d.mu.Unlock()
		seen = append(seen, fresh...)
		require.False(b, b.Failed())
	}
	all.Wait()
	return answered, reported
}

// hearing notes when the reports of what came by event are there.
type hearing struct {
	h    *house
	stop chan struct{}
	done chan error
	came map[int64]time.Time // by the last number of the tenant's chain that a report has
}

// listen begins to look for the reports of what comes by event from now on.
func (h *house) listen(b *testing.B) *hearing {
	b.Helper()
	l := &hearing{h: h, stop: make(chan struct{}), done: make(chan error, 1), came: map[int64]time.Time{}}
	admin := pgtest.Admin(b, h.DB("conservation"))
	go func() { l.done <- l.look(admin) }()
	return l
}

func (l *hearing) look(admin *pgx.Conn) error {
	for seen := []int64{}; ; time.Sleep(5 * time.Millisecond) {
		rows, err := admin.Query(context.Background(), `SELECT last_sequence FROM submission WHERE report IS NOT NULL AND NOT last_sequence = ANY($1)`, seen)
		if err != nil {
			return err
		}
		fresh, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		for _, n := range fresh {
			l.came[n] = time.Now()
		}
		seen = append(seen, fresh...)
		select {
		case <-l.stop:
			return nil
		default:
		}
	}
}

// took waits for all reports and gives how long the last n units waited for theirs.
func (l *hearing) took(b *testing.B, n int) (took []time.Duration) {
	b.Helper()
	admin := pgtest.Admin(b, l.h.DB("conservation"))
	for due := true; due; time.Sleep(20 * time.Millisecond) {
		require.NoError(b, admin.QueryRow(context.Background(), `SELECT EXISTS (SELECT FROM log_pending) OR EXISTS (SELECT FROM submission WHERE report IS NULL)
			OR (SELECT max(sequence) FROM log_leaf) > (SELECT max(last_sequence) FROM submission)`).Scan(&due))
	}
	close(l.stop)
	require.NoError(b, <-l.done)
	rows, err := admin.Query(context.Background(), `SELECT u.created_at, (SELECT min(last_sequence) FROM submission s WHERE s.last_sequence >= l.sequence)
		FROM unit u JOIN log_leaf l ON l.subject_id = u.id ORDER BY u.id DESC LIMIT $1`, n)
	require.NoError(b, err)
	var taken time.Time
	var last int64
	_, err = pgx.ForEachRow(rows, []any{&taken, &last}, func() error {
		took = append(took, l.came[last].Sub(taken))
		return nil
	})
	require.NoError(b, err)
	require.Len(b, took, n)
	return took
}
