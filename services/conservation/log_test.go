package conservation

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	merkle "golang.org/x/mod/sumdb/tlog"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

const origin = "log.test/2026"

func logSeed() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

func strangerKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("another seed of thirty-two bytes"))
}

// bookOn is a log on a schema, as one process would keep it.
func bookOn(t testing.TB, on *pg.DB, batch int) *logbook {
	t.Helper()
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	return &logbook{
		db: on, cfg: LogConfig{Origin: origin, Every: 5 * time.Millisecond, Batch: batch}, signer: signer, lock: 4711,
		policy:   tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&signer.Verifier}},
		watchers: &watchers{}, log: slog.New(slog.DiscardHandler), now: time.Now, store: func(s tlog.Store) tlog.Store { return s },
	}
}

// addUnits writes units as the intake does: one statement for many.
func addUnits(t testing.TB, on *pg.DB, tenant string, n int) []uuid.UUID {
	t.Helper()
	p := db.InsertUnitsParams{TenantID: tenant, At: pg.Time(time.Now())}
	var c columns
	for range n {
		id, err := pg.NewID()
		require.NoError(t, err)
		p.Ids, p.UnitKeys, p.Subjects = append(p.Ids, id), append(p.UnitKeys, id.String()), append(p.Subjects, "s")
		p.States, p.Classes, p.FiscalYears = append(p.States, "TAKEN_IN_CHARGE"), append(p.Classes, "FISC"), append(p.FiscalYears, year)
		p.Integrates, p.Facts, p.Problems = append(p.Integrates, uuid.Nil), append(p.Facts, []byte("{}")), append(p.Problems, "")
		p.Correlations, p.Causations, p.Traceparents = append(p.Correlations, ""), append(p.Causations, ""), append(p.Traceparents, "")
		sum := sha256.Sum256(id[:])
		c.add(id, []db.UnitFile{{Role: "transmitted", FileName: "a.xml", Sha256: sum[:], Size: 1}, {Ordinal: 1, Role: "metadata", FileName: "m", Sha256: sum[:], Size: 1, Content: []byte("x")}})
	}
	p.Units, p.Ordinals, p.Roles, p.ReceiptTypes, p.FileNames = c.units, c.ordinals, c.roles, c.receiptTypes, c.fileNames
	p.MediaTypes, p.Hashes, p.Sizes, p.Contents = c.mediaTypes, c.hashes, c.sizes, c.contents
	require.NoError(t, on.Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := db.New(tx).InsertUnits(ctx, p)
		return err
	}))
	return p.Ids
}

// checkLog looks at everything that the log holds: every unit has its one leaf and nothing else has, no place
// is empty, each tenant's chain is whole, and every checkpoint's root is the one that the Go checksum
// database's own arithmetic gives over the entries. It gives the entries.
func checkLog(t testing.TB, on *pg.DB, units int) [][]byte {
	t.Helper()
	ctx, admin := context.Background(), pgtest.Admin(t, on)
	q := db.New(admin)
	leaves, err := q.SettledFrom(ctx, db.SettledFromParams{Batch: 1 << 30})
	require.NoError(t, err)
	require.Len(t, leaves, units, "one leaf for each unit")
	var stored []merkle.Hash
	reader := merkle.HashReaderFunc(func(indexes []int64) ([]merkle.Hash, error) {
		var out []merkle.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	entries, tails, roots := [][]byte(nil), map[[32]byte]*tlog.Tail{}, map[int64]merkle.Hash{}
	for i, leaf := range leaves {
		require.EqualValues(t, i, leaf.Idx, "no gap")
		parsed, err := tlog.ParseLeaf(leaf.Entry)
		require.NoError(t, err)
		if tails[parsed.Tenant] == nil {
			tails[parsed.Tenant] = &tlog.Tail{Tenant: parsed.Tenant}
		}
		_, err = tails[parsed.Tenant].Follow(tlog.Entry{Index: leaf.Idx, Data: leaf.Entry})
		require.NoError(t, err)
		hashes, err := merkle.StoredHashes(leaf.Idx, leaf.Entry, reader)
		require.NoError(t, err)
		stored = append(stored, hashes...)
		roots[leaf.Idx+1], err = merkle.TreeHash(leaf.Idx+1, reader)
		require.NoError(t, err)
		entries = append(entries, leaf.Entry)
	}
	points, err := q.ListCheckpoints(ctx, db.ListCheckpointsParams{Before: 1 << 40, Page: 1 << 30})
	require.NoError(t, err)
	require.NotEmpty(t, points)
	require.EqualValues(t, units, points[0].Size, "the last checkpoint states everything")
	policy := bookOn(t, on, 1).policy
	for _, p := range points {
		signed, err := tlog.OpenCheckpoint(p.Note, policy)
		require.NoError(t, err)
		require.Equal(t, p.Size, signed.Size)
		require.Equal(t, roots[p.Size], signed.Root, "root at size %d", p.Size)
	}
	last, err := tlog.OpenCheckpoint(points[0].Note, policy)
	require.NoError(t, err)
	n := 0
	for e, err := range tlog.Entries(ctx, tileStore{q}, last.Tree, 0) {
		require.NoError(t, err)
		require.Equal(t, entries[n], e.Data, "the tiles hold the settled entries")
		n++
	}
	require.Equal(t, units, n)
	var subjects, waiting, partials int
	require.NoError(t, admin.QueryRow(ctx, `SELECT count(DISTINCT subject_id), (SELECT count(*) FROM log_pending),
		(SELECT count(*) FROM log_tile WHERE path LIKE 'tile/0/000.p/%') FROM log_leaf`).Scan(&subjects, &waiting, &partials))
	require.Equal(t, units, subjects)
	require.Zero(t, waiting)
	if units >= 256 {
		require.Zero(t, partials, "partial tiles go when the full one is there")
	}
	return entries
}

func TestTileStore(t *testing.T) {
	t.Parallel()
	on := pgtest.Schema(t, "conservation")
	tlogtest.Conform(t, func(t *testing.T) tlog.Store {
		admin := pgtest.Admin(t, on)
		_, err := admin.Exec(context.Background(), `TRUNCATE log_tile`)
		require.NoError(t, err)
		return tileStore{db.New(on.Pool())}
	})
}

// dying is a store of a process that is killed at a write.
type dying struct {
	tlog.Store
	left *int
}

var errKilled = errors.New("killed")

func (d dying) Put(ctx context.Context, path string, data []byte) error {
	if *d.left == 0 {
		return errKilled
	}
	*d.left--
	return d.Store.Put(ctx, path, data)
}

// TestKilledAtEachStep kills the writer after each of its acts, the connection with it, and begins again.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	on := pgtest.Schema(t, "conservation")
	ctx, total := context.Background(), 0
	lead := func(book *logbook) (*pgx.Conn, *writer) {
		conn, err := book.lead(ctx)
		require.NoError(t, err)
		w, err := book.resume(ctx, conn)
		require.NoError(t, err)
		return conn, w
	}
	kill := func(conn *pgx.Conn) {
		_, err := pgtest.Admin(t, on).Exec(ctx, `SELECT pg_terminate_backend($1, 5000)`, int32(conn.PgConn().PID())) //nolint:gosec // a process id
		require.NoError(t, err)
		_ = conn.Close(ctx)
	}
	t.Run("before anything was settled", func(t *testing.T) {
		total += len(addUnits(t, on, "acme", 300))
		conn, w := lead(bookOn(t, on, 100))
		kill(conn)
		_, err := w.round(ctx)
		require.Error(t, err, "who lost the lock writes nothing more")
	})
	t.Run("after the order was settled", func(t *testing.T) {
		book := bookOn(t, on, 100)
		conn, w := lead(book)
		n, err := book.settle(ctx, conn)
		require.NoError(t, err)
		require.Equal(t, 100, n)
		kill(conn)
		_, err = w.publish(ctx)
		require.Error(t, err)
		total += len(addUnits(t, on, "beta", 20))
	})
	writes := 0
	for ; ; writes++ {
		left := writes
		book := bookOn(t, on, 700)
		book.store = func(s tlog.Store) tlog.Store { return dying{s, &left} }
		total += len(addUnits(t, on, "acme", 301))
		conn, w := lead(book)
		_, err := w.round(ctx)
		kill(conn)
		if err == nil {
			break
		}
		require.ErrorIs(t, err, errKilled, "at write %d", writes)
	}
	require.Greater(t, writes, 3, "each write of a tile was one to be killed at")
	t.Run("after all was done", func(t *testing.T) {
		conn, w := lead(bookOn(t, on, 700))
		for {
			n, err := w.round(ctx)
			require.NoError(t, err)
			if n == 0 {
				break
			}
		}
		kill(conn)
	})
	checkLog(t, on, total)
}

// TestTwoWriters has two processes append while units come in and the leader is killed again and again.
//
// It does not run beside others: it ends whoever holds the log's lock.
func TestTwoWriters(t *testing.T) {
	on := pgtest.Schema(t, "conservation")
	ctx, stop := context.WithCancel(context.Background())
	var writers, intakes sync.WaitGroup
	for _, d := range []*pg.DB{on, pgtest.Again(t, on)} {
		book := bookOn(t, d, 64)
		writers.Add(1)
		go func() {
			defer writers.Done()
			for ctx.Err() == nil {
				_ = book.term(ctx) // it ends when it is killed
			}
		}()
	}
	const tenants, rounds, each = 4, 25, 7
	for i := range tenants {
		intakes.Add(1)
		go func() {
			defer intakes.Done()
			for range rounds {
				addUnits(t, on, fmt.Sprintf("tenant-%d", i%3), each)
			}
		}()
	}
	admin, killed := pgtest.Admin(t, on), 0
	for round := 0; round < 12 || killed == 0 && !t.Failed(); round++ {
		time.Sleep(60 * time.Millisecond)
		require.Less(t, round, 1000, "nobody ever held the lock")
		tag, err := admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted`)
		require.NoError(t, err)
		killed += int(tag.RowsAffected())
	}
	intakes.Wait()
	require.Positive(t, killed)
	require.Eventually(t, func() bool {
		var waiting, behind int
		require.NoError(t, admin.QueryRow(ctx, `SELECT (SELECT count(*) FROM log_pending), (SELECT count(*) FROM log_leaf) - COALESCE((SELECT max(size) FROM log_checkpoint), 0)`).Scan(&waiting, &behind))
		return waiting == 0 && behind == 0
	}, time.Minute, 20*time.Millisecond)
	stop()
	writers.Wait()
	checkLog(t, on, tenants*rounds*each)
}

// TestChangedLogStopsTheWriter: what was written is never written over.
func TestChangedLogStopsTheWriter(t *testing.T) {
	t.Parallel()
	on := pgtest.Schema(t, "conservation")
	ctx, admin := context.Background(), pgtest.Admin(t, on)
	addUnits(t, on, "acme", 10)
	once := func(book *logbook) error {
		conn, err := book.lead(ctx)
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(ctx)) }()
		w, err := book.resume(ctx, conn)
		if err != nil {
			return err
		}
		_, err = w.round(ctx)
		return err
	}
	require.NoError(t, once(bookOn(t, on, 100)))
	other := bookOn(t, on, 100)
	signer, err := tlog.NewSigner(origin, strangerKey())
	require.NoError(t, err)
	other.signer, other.policy.LogKeys = signer, []*tlog.Verifier{&signer.Verifier}
	require.ErrorContains(t, once(other), "former_keys")
	other.policy.LogKeys = append(other.policy.LogKeys, &bookOn(t, on, 1).signer.Verifier)
	require.NoError(t, once(other), "a key that is named as a former one is believed")

	for _, statement := range []string{`UPDATE log_leaf SET entry = 'x' WHERE idx = 3`, `DELETE FROM log_leaf WHERE idx = 9`} {
		_, err = admin.Exec(ctx, statement)
		require.ErrorContains(t, err, "append-only")
	}
	_, err = admin.Exec(ctx, `UPDATE log_tile SET data = decode(repeat('00', 320), 'hex') WHERE path = 'tile/0/000.p/10'`)
	require.NoError(t, err)
	addUnits(t, on, "acme", 1)
	require.ErrorContains(t, once(bookOn(t, on, 100)), "rolled back or changed")
}

// TestExtendedUnit: a unit that later receipts join has one leaf for each state of its files.
func TestExtendedUnit(t *testing.T) {
	t.Parallel()
	on := pgtest.Schema(t, "conservation")
	ctx, admin := context.Background(), pgtest.Admin(t, on)
	unit := addUnits(t, on, "acme", 1)[0]
	book := bookOn(t, on, 10)
	conn, err := book.lead(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	w, err := book.resume(ctx, conn)
	require.NoError(t, err)
	types := func() (kinds []string) {
		n, err := w.round(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, n, 2)
		leaves, err := db.New(admin).SettledFrom(ctx, db.SettledFromParams{Batch: 100})
		require.NoError(t, err)
		for _, l := range leaves {
			leaf, err := tlog.ParseLeaf(l.Entry)
			require.NoError(t, err)
			kinds = append(kinds, leaf.Type)
		}
		return kinds
	}
	require.Equal(t, []string{custody.Taken}, types())
	extend := func(name string) {
		sum := sha256.Sum256([]byte(name))
		require.NoError(t, on.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO unit_file (unit_id, ordinal, tenant_id, role, file_name, sha256, size)
				SELECT $1, max(ordinal) + 1, 'acme', 'receipt', $2, $3, 1 FROM unit_file WHERE unit_id = $1`, unit, name, sum[:])
			if err != nil {
				return err
			}
			return db.New(tx).SetFacts(ctx, db.SetFactsParams{ID: unit, Facts: []byte("{}")})
		}))
	}
	extend("a")
	require.Equal(t, []string{custody.Taken, custody.Extended}, types())
	extend("b")
	extend("c") // both before the writer looked: one leaf says everything
	require.Equal(t, []string{custody.Taken, custody.Extended, custody.Extended}, types())
	_, err = admin.Exec(ctx, `UPDATE unit SET facts = facts`)
	require.NoError(t, err)
	require.Len(t, types(), 3, "nothing new was said")
}

// BenchmarkLog gives b.N units their leaves; run it with -benchtime 20000x.
func BenchmarkLog(b *testing.B) {
	on := pgtest.Schema(b, "conservation")
	ctx, admin := context.Background(), pgtest.Admin(b, on)
	for left := b.N; left > 0; left -= 1000 {
		addUnits(b, on, fmt.Sprintf("tenant-%d", left%7), min(left, 1000))
	}
	conn, err := bookOn(b, on, 2000).lead(ctx)
	require.NoError(b, err)
	defer func() { require.NoError(b, conn.Close(ctx)) }()
	w, err := bookOn(b, on, 2000).resume(ctx, conn)
	require.NoError(b, err)
	b.ResetTimer()
	began, cpu := time.Now(), cpuTime(b)
	for n := 1; n > 0; {
		n, err = w.round(ctx)
		require.NoError(b, err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "leaves/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/leaf")
	var bytes int64
	require.NoError(b, admin.QueryRow(ctx, `SELECT pg_total_relation_size('log_leaf') + pg_total_relation_size('log_tile') + pg_total_relation_size('log_checkpoint')`).Scan(&bytes))
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/leaf")
	e := evidence{s: &Service{db: on, book: w.logbook}}
	leaves, err := db.New(admin).SettledFrom(ctx, db.SettledFromParams{Batch: 1 << 30})
	require.NoError(b, err)
	began = time.Now()
	const receipts = 300
	for i := range receipts {
		var subject uuid.UUID
		var tenant string
		require.NoError(b, admin.QueryRow(ctx, `SELECT subject_id, tenant_id FROM log_leaf WHERE idx = $1`, leaves[i*len(leaves)/receipts].Idx).Scan(&subject, &tenant))
		_, err = e.receipt(ctx, tenant, "x", subject, 0, false, nil)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/receipts, "µs/receipt")
}
