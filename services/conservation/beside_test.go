package conservation

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/eraser"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
)

// openTogether opens a house with n documents of which the last is sealed in a package whose term is over, and the one before it was taken in with it.
func openTogether(t testing.TB, n int) (h *house, pkg string, events []*invoicev1.InvoiceSettled) {
	t.Helper()
	for range 10 { // which events one transaction takes is the bus's affair
		h = open(t, true)
		pkg, events = h.ended(t, n)
		if h.counted(t, "unit_file a JOIN unit_file b USING (object_id) JOIN unit u ON u.id = a.unit_id JOIN unit v ON v.id = b.unit_id WHERE u.fiscal_year = 2010 AND v.subject = '"+
			events[n-2].GetInvoice()+"'") > 0 {
			return h, pkg, events
		}
	}
	t.Fatal("never were the last two documents taken in together")
	return nil, "", nil
}

// ended are n documents of which the last is sealed in a package whose term is over.
func (h *house) ended(t testing.TB, n int) (pkg string, events []*invoicev1.InvoiceSettled) {
	t.Helper()
	for i := range n {
		events = append(events, h.old(t, i+1, map[bool]int32{false: 2026, true: 2010}[i == n-1]))
	}
	h.settleAll(t, events)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == n })
	return h.closed(t, 2010, "FISC"), events
}

// readable reads every file that a row of a unit names.
func (h *house) readable(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	for _, u := range h.units(t, "") {
		if u.GetState() == conservationv1.UnitState_UNIT_STATE_DESTROYED {
			continue
		}
		_, id, err := parseName("name", u.GetName(), "units", noUnit(u.GetName()))
		require.NoError(t, err)
		c := cabinet{s: h.service}
		require.NoError(t, h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			list, err := db.New(tx).FilesOf(ctx, []uuid.UUID{id})
			for i := 0; err == nil && i < len(list); i++ {
				_, err = c.file(ctx, list[i])
			}
			return err
		}), u.GetName())
	}
}

// adrift counts objects of what was taken in that have a row, and of which no unit knows: nobody would destroy what lies in them.
func (h *house) adrift(t testing.TB) int {
	t.Helper()
	return h.counted(t, "archive_object o WHERE o.kind = 'intake' AND NOT EXISTS (SELECT 1 FROM unit_file f WHERE f.object_id = o.id)")
}

// TestNeighboursMovedByMany: several processes move what lies with a package that is to be destroyed, and each document has one new place.
func TestNeighboursMovedByMany(t *testing.T) {
	t.Parallel()
	h, pkg, _ := openTogether(t, 12)
	id, before := idOf(t, pkg), h.counted(t, "archive_object WHERE kind = 'intake'")
	var all sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		all.Go(func() { errs[i] = h.service.moveNeighbours(context.Background(), "acme", id) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Zero(t, h.adrift(t), "no object that nobody would destroy")
	require.Equal(t, before+1, h.counted(t, "archive_object WHERE kind = 'intake'"))
	h.readable(t)
}

// join takes in what of an event its unit does not hold yet, as its intake does, and is in the middle of the transaction then.
func (s *Service) join(ctx context.Context, tx pgx.Tx, in *intake, contents [][]byte) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	known, has, _, err := in.known(ctx, tx)
	if err != nil {
		return err
	}
	t := &takings{bag: &satchel{r: s.replicas, tenant: in.tenant, ctx: ctx, wait: pg.UnitOf(ctx, tx).Join}}
	for i, f := range in.files {
		if slices.ContainsFunc(has, func(x db.UnitFile) bool { return sameFile(x, f) }) {
			continue
		}
		err = t.bag.add(id, &in.files[i], contents[i])
		if err != nil {
			return err
		}
	}
	t.arrivals = []arrival{{intake: in, id: id, story: ctx, known: known}}
	return s.write(ctx, tx, t)
}

// TestNeighbourMovedWhileItGrows: later receipts join a document while it is moved away from what is to be destroyed.
func TestNeighbourMovedWhileItGrows(t *testing.T) {
	t.Parallel()
	h, pkg, events := openTogether(t, 6)
	id, ctx := idOf(t, pkg), context.Background()
	later := events[4]
	later.Receipts = append(later.Receipts, h.receipt(t, "MC", 77))
	in, err := readSettled("acme", later)
	require.NoError(t, err)
	contents, err := h.service.readAll(ctx, in.files)
	require.NoError(t, err)
	grown, commit, joined, moved := make(chan struct{}), make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		joined <- h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			err := h.service.join(ctx, tx, in, contents)
			close(grown)
			<-commit
			return err
		})
	}()
	<-grown
	go func() { moved <- h.service.moveNeighbours(ctx, "acme", id) }()
	time.Sleep(500 * time.Millisecond) // it comes as far as it can
	close(commit)
	require.NoError(t, <-joined)
	require.NoError(t, <-moved)
	require.Zero(t, h.adrift(t), "no object that nobody would destroy")
	h.readable(t)
}

// TestShownWhileErasing: what was ordered to be shown before the eraser begins is waited for, also while the order is being written.
func TestShownWhileErasing(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx := telemetry.WithActor(context.Background(), "test")
	pkg, events := h.ended(t, 1)
	h.release(t, pkg)
	unit := h.units(t, events[0].GetInvoice())[0].GetName()
	ordered, commit, done := make(chan int32, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			_, err := h.service.order(ctx, tx, "acme", asked{by: "test", units: []uuid.UUID{idOf(t, unit)}})
			ordered <- int32(tx.Conn().PgConn().PID()) //nolint:gosec // a process
			<-commit
			return err
		})
	}()
	pid := <-ordered
	erased := make(chan error, 1)
	go func() {
		_, err := h.eraser(t).Run(ctx)
		erased <- err
	}()
	admin, waits := pgtest.Admin(t, h.DB("conservation")), false
	for end := time.Now().Add(time.Minute); !waits && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		const locks = `SELECT EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND NOT l.granted AND $1 = ANY(pg_blocking_pids(l.pid)))`
		require.NoError(t, admin.QueryRow(ctx, locks, pid).Scan(&waits))
	}
	close(commit)
	require.NoError(t, <-done)
	require.NoError(t, <-erased)
	require.True(t, waits, "the eraser waits for the order")
}

// TestEraserOverAnEmptyDisk: a disk that is not mounted has nothing to destroy. It is not taken for one from which everything is gone.
func TestEraserOverAnEmptyDisk(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx := context.Background()
	pkg, _ := h.ended(t, 1)
	name := h.release(t, pkg)
	e := h.eraser(t)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.MkdirAll(filepath.Join(empty, "objects"), 0o750))
	e.Replicas[1] = eraser.Folder{Dir: empty}
	text := "<FatturaElettronica n='1'/>"
	_, err := e.Run(ctx)
	require.NoError(t, err)
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SEALED, h.pack(t, pkg).GetState(), "it is not begun with")
	require.NotEmpty(t, h.holding(t, 0, text))
	d, err := h.retainer().GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
	require.NoError(t, err)
	require.Contains(t, d.GetLastError(), "is not in folder "+empty)
	h.destroy(t, name)
	require.Empty(t, h.holding(t, 0, text))
	require.Empty(t, h.holding(t, 1, text))
}
