package conservation

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/witness"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// observer is a real witness, which can be out of reach.
type observer struct {
	*witness.Client

	folder *witness.Folder
	down   atomic.Bool
}

func observe(t testing.TB, name string) *observer {
	t.Helper()
	dir := t.TempDir()
	vkey, err := witness.Create(dir, name)
	require.NoError(t, err)
	key, err := tlog.ParseVerifier(vkey)
	require.NoError(t, err)
	o := &observer{}
	o.folder, err = witness.Open(dir, time.Now)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.folder.Close()) })
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	require.NoError(t, o.folder.Trust(signer.String()))
	serve := witness.Handler(o.folder, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.down.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	o.Client = &witness.Client{URL: srv.URL, Key: key, HTTP: &http.Client{Timeout: time.Minute}}
	return o
}

// openWitnessed is a house whose log two witnesses cosign.
func openWitnessed(t testing.TB) (*house, conservationv1.EvidenceServiceClient, [2]*observer) {
	t.Helper()
	text, err := x509.MarshalPKCS8PrivateKey(logSeed())
	require.NoError(t, err)
	key := filepath.Join(t.TempDir(), "log.key")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600))
	two := [2]*observer{observe(t, "testimone-uno.test"), observe(t, "testimone-due.test")}
	h := openWith(t, true, fmt.Sprintf("  log: {origin: %s, key_file: %q, every: 20ms, cosign_every: 20ms, quorum: 2, witnesses: [{url: %q, key: %q}, {url: %q, key: %q}]}\n",
		origin, key, two[0].URL, two[0].Key, two[1].URL, two[1].Key))
	return h, conservationv1.NewEvidenceServiceClient(h.Operator("conservation")), two
}

// witnessed is a log on a schema with its witnesses.
func witnessed(t testing.TB, on *pg.DB, seen ...*observer) *logbook {
	t.Helper()
	book := bookOn(t, on, 1000)
	book.cfg.CosignEvery = time.Millisecond
	for _, o := range seen {
		book.watchers.all = append(book.watchers.all, &watcher{client: o.Client})
	}
	return book
}

// append1 is one term of a log: it settles and states what waits, and has it cosigned.
func append1(t testing.TB, book *logbook) error {
	t.Helper()
	ctx := context.Background()
	conn, err := book.lead(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	w, err := book.resume(ctx, conn)
	require.NoError(t, err)
	err = book.preflight(ctx, w.began)
	if err != nil {
		return err
	}
	_, err = w.round(ctx)
	if err != nil {
		return err
	}
	return book.witnessRound(ctx)
}

// logTables are what a backup of the database has of the log.
var logTables = []string{"log_witness", "log_cosignature", "log_restamp", "log_checkpoint", "log_tile", "log_leaf", "log_tenant", "log_pending", "unit_file", "unit"}

// backup copies the tables; what it gives puts the copy back in their place.
func backup(t testing.TB, admin *pgx.Conn) (restore func()) {
	t.Helper()
	ctx := context.Background()
	do := func(statement string) {
		_, err := admin.Exec(ctx, statement)
		require.NoError(t, err, statement)
	}
	for _, table := range logTables {
		do("CREATE TABLE backup_" + table + " AS TABLE " + table)
	}
	return func() {
		do("SET session_replication_role = replica") // as pg_restore --disable-triggers does
		for _, table := range logTables {
			do("DELETE FROM " + table)
			if table == "log_pending" {
				do("INSERT INTO log_pending OVERRIDING SYSTEM VALUE TABLE backup_log_pending")
				continue
			}
			do("INSERT INTO " + table + " TABLE backup_" + table)
		}
		do("SET session_replication_role = origin")
	}
}

// Test31_RolledBackDatabaseIsNotWrittenOver: after yesterday's backup was put back, the service appends nothing,
// since a witness has more; and when it is made to go on without them, the witness refuses what came of it.
func Test31_RolledBackDatabaseIsNotWrittenOver(t *testing.T) {
	t.Parallel()
	on := pgtest.Schema(t, "conservation")
	ctx, admin, o := context.Background(), pgtest.Admin(t, on), observe(t, "testimone.test")
	addUnits(t, on, "acme", 5)
	require.NoError(t, append1(t, witnessed(t, on, o)))
	restore := backup(t, admin)
	addUnits(t, on, "acme", 10)
	require.NoError(t, append1(t, witnessed(t, on, o)))
	require.EqualValues(t, 15, o.folder.Logs()[0].Size)

	restore()
	addUnits(t, on, "acme", 1)
	book := witnessed(t, on, o)
	o.down.Store(true)
	err := append1(t, book)
	require.Equal(t, "LOG_UNWITNESSED", code(err), "%v: nobody is there who could tell", err)
	o.down.Store(false)
	err = append1(t, book)
	require.Equal(t, logRolledBack, code(err), "%v", err)
	var leaves int
	require.NoError(t, admin.QueryRow(ctx, `SELECT count(*) FROM log_leaf`).Scan(&leaves))
	require.Equal(t, 5, leaves, "nothing was written over it")
	require.Equal(t, logRolledBack, code(book.term(ctx)), "nor by the next term")

	addUnits(t, on, "acme", 20)
	require.NoError(t, append1(t, witnessed(t, on)), "without witnesses it goes on: a second history")
	err = append1(t, witnessed(t, on, o))
	require.Equal(t, logForked, code(err), "%v", err)
	require.EqualValues(t, 15, o.folder.Logs()[0].Size, "the witness stays with what it saw")

	empty := pgtest.Schema(t, "conservation")
	addUnits(t, empty, "acme", 1)
	require.Equal(t, logRolledBack, code(append1(t, witnessed(t, empty, o))), "a database begun anew is one that lost everything")
}

// TestOneWitnessSuffices: a term begins when one witness knows the log, whoever else is away; with all of them away it waits, and
// documents with it, and a term that has begun goes on without them.
func TestOneWitnessSuffices(t *testing.T) {
	t.Parallel()
	on := pgtest.Schema(t, "conservation")
	one, two := observe(t, "testimone-uno.test"), observe(t, "testimone-due.test")
	addUnits(t, on, "acme", 1)
	one.down.Store(true)
	require.NoError(t, append1(t, witnessed(t, on, one, two)))
	two.down.Store(true)
	addUnits(t, on, "acme", 1)
	require.Equal(t, "LOG_UNWITNESSED", code(append1(t, witnessed(t, on, one, two))))
	one.down.Store(false)
	require.NoError(t, append1(t, witnessed(t, on, one, two)))
	require.EqualValues(t, 2, one.folder.Logs()[0].Size)
}

// Test33_SplitView: two platforms with one key show two histories; the witness cosigns one of them.
func Test33_SplitView(t *testing.T) {
	t.Parallel()
	o := observe(t, "testimone.test")
	var books [2]*logbook
	for i := range books {
		on := pgtest.Schema(t, "conservation")
		addUnits(t, on, fmt.Sprintf("tenant-%d", i), 3)
		require.NoError(t, append1(t, witnessed(t, on)))
		books[i] = witnessed(t, on, o)
	}
	require.NoError(t, append1(t, books[0]))
	require.Equal(t, logForked, code(append1(t, books[1])))
	_, err := books[1].last(context.Background())
	require.NoError(t, err)
	var lines []db.CosignaturesOfRow
	require.NoError(t, books[1].db.System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		var err error
		lines, err = db.New(tx).CosignaturesOf(ctx, []int64{3})
		return err
	}))
	require.Empty(t, lines, "the second history has no cosignature to show")
}

// TestWitnesses: receipts carry cosignatures and the stamp together, the day's state is told once, and
// the want of witnesses is said openly while documents go on being taken in.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h, api, two := openWitnessed(t)
	h.intake(t, 3)
	units, unit := h.units(t, ""), ""
	policy := tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&h.service.book.signer.Verifier}, Witnesses: []*tlog.Verifier{two[0].Key, two[1].Key}, Quorum: 2}
	// A day's first state is stamped: a document that entered the log after it has its stamp tomorrow.
	h.await(t, "a receipt with stamp and cosignatures", func() bool {
		return slices.ContainsFunc(units, func(u *conservationv1.Unit) bool {
			unit = u.GetName()
			receipt, err := tlog.ParseReceipt(receiptOf(t, h, api, unit).GetReceipt())
			require.NoError(t, err)
			ev, err := receipt.Verify(nil, policy, tlog.StampPolicy{Required: true})
			return err == nil && len(ev.Checkpoint.Cosignatures) == 2 && !ev.Stamped.IsZero()
		})
	})
	h.await(t, "the day's state is told", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.stated) == 1
	})
	h.mu.Lock()
	told := h.stated[0]
	h.mu.Unlock()
	require.Equal(t, "tenants/acme", told.GetTenant())
	require.ElementsMatch(t, []string{"testimone-uno.test", "testimone-due.test"}, told.GetWitnesses())
	signed, err := tlog.OpenCheckpoint([]byte(told.GetNote()), policy)
	require.NoError(t, err)
	require.Equal(t, told.GetSize(), signed.Size)
	require.Positive(t, told.GetTenantSequence())

	two[1].down.Store(true)
	h.settle(t, ctx, h.invoice(t, 100))
	h.await(t, "taken in all the same", func() bool { taken, _, _ := h.counts(); return taken == 4 })
	var l *conservationv1.Log
	log := func(ok func() bool) func() bool {
		return func() bool {
			l, err = api.GetLog(ctx, &conservationv1.GetLogRequest{})
			require.NoError(t, err)
			return ok()
		}
	}
	h.await(t, "the want is said openly", log(func() bool { return l.GetUnwitnessedSince() != nil && l.GetSize() == 4 }))
	require.Contains(t, l.GetWitnesses()[1].GetTrouble(), "503")
	require.Equal(t, two[1].Key.String(), l.GetWitnesses()[1].GetVerifierKey())
	require.Less(t, l.GetCosignedSize(), l.GetSize())
	two[1].down.Store(false)
	h.await(t, "and its end", log(func() bool { return l.GetUnwitnessedSince() == nil && l.GetCosignedSize() == 4 }))
	h.await(t, "both are events", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.unwitnessed > 0 && h.rewitnessed == h.unwitnessed
	})
	point, err := api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
	require.NoError(t, err)
	require.Len(t, point.GetWitnesses(), 2)
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Len(t, h.stated, 1, "one stamp a day is told once")
}
