package conservation

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// spread takes in n invoices, one after the other, so that each lies in an object of its own.
func (h *house) spread(t testing.TB, from, n int) {
	t.Helper()
	for i := range n {
		before := h.counted(t, "unit")
		h.settle(t, context.Background(), h.invoice(t, from+i))
		h.await(t, "taken", func() bool { return h.counted(t, "unit") == before+1 })
	}
}

// wipe loses rows, as whoever runs the database could.
func (h *house) wipe(t testing.TB, tables ...string) {
	t.Helper()
	for _, table := range tables {
		h.admin(t, `SET session_replication_role = replica`)
		h.admin(t, `DELETE FROM `+table)
	}
}

// rounds waits until a check that was asked for is at its end, however many reports it makes, and gives them in their order.
func (h *house) rounds(t testing.TB, kind conservationv1.CheckKind, tenant string) (all []findings) {
	t.Helper()
	ctx, api := context.Background(), conservationv1.NewCheckServiceClient(h.Operator("conservation"))
	started, err := api.RunCheck(ctx, &conservationv1.RunCheckRequest{Kind: kind, Tenant: tenant})
	require.NoError(t, err)
	h.await(t, "the last round", func() bool {
		return h.counted(t, "archive_report WHERE state = 'RUNNING'") == 0 && h.counted(t, "archive_cursor") == 0
	})
	list, err := api.ListReports(ctx, &conservationv1.ListReportsRequest{Kind: kind, PageSize: 1000})
	require.NoError(t, err)
	for _, r := range list.GetReports() {
		var f findings
		require.NoError(t, json.Unmarshal(r.GetContent(), &f))
		all = append(all, f)
		if r.GetName() == started.GetName() {
			break
		}
	}
	slices.Reverse(all)
	return all
}

func problemsOf(all []findings) (list []string) {
	for _, f := range all {
		for _, p := range f.Problems {
			list = append(list, p.What+": "+p.Problem)
		}
	}
	return list
}

// TestRoundsGoOn: a drill and a restore that are longer than a round go on where it ended, object by object, and find and mend together
// what one long round would have.
func TestRoundsGoOn(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, "  checks: {restore_drill: 0s}\n")
	h.spread(t, 0, 4)
	h.awaitSealed(t, h.closePackage(t).GetName())
	h.spread(t, 10, 3)
	before, entries := h.state(t), h.entries(t)
	objects := h.counted(t, "archive_object WHERE tenant_id = 'acme' AND kind IN ('intake', 'package')")
	require.Equal(t, 8, objects)

	h.service.round = 1 // over with the first object
	all := h.rounds(t, drillKind, "tenants/acme")
	require.Len(t, all, objects+1, "an object each, and the end")
	require.Empty(t, problemsOf(all))
	checked := int64(0)
	for i, f := range all {
		require.Equal(t, "GOOD", f.Verdict)
		require.Equal(t, i < objects, slices.Contains(f.Notes, "the time of a round was over: the next report goes on from here"), f.Notes)
		checked += f.Checked
	}
	require.EqualValues(t, 7, checked, "each unit once")
	require.Contains(t, strings.Join(all[objects].Notes, "\n"), "that was the last of 9 rounds: together they checked 7, and read")

	// What is wrong is in the report of the round that comes to it, and in no other.
	units := h.units(t, "")
	h.admin(t, `UPDATE unit SET subject = subject || 'x' WHERE id = $1::uuid`, lastOf(units[0].GetName()))
	h.admin(t, `UPDATE unit SET subject = subject || 'x' WHERE id = $1::uuid`, lastOf(units[6].GetName()))
	h.admin(t, `UPDATE unit_file SET object_id = gen_random_uuid() WHERE role = 'metadata' AND unit_id = $1::uuid`, lastOf(units[1].GetName()))
	differs := "made again from the replica it differs from its row"
	// units[6] is preserved: what was taken in and the package both show it.
	require.ElementsMatch(t, []string{units[6].GetName() + ": " + differs, units[6].GetName() + ": " + differs, units[0].GetName() + ": " + differs,
		units[1].GetName() + ": it cannot be made again from the replica"}, problemsOf(h.rounds(t, drillKind, "tenants/acme")))
	h.service.round = roundTime
	require.Len(t, problemsOf(h.rounds(t, drillKind, "tenants/acme")), 3, "once in one report")

	h.service.round = 1
	h.wipe(t, "search_entry", "search_word", "search_party", "unit_file", "unit", "package", "package_line", "archive_copy WHERE tenant_id = 'acme'", "archive_object WHERE tenant_id = 'acme'")
	require.NoError(t, os.RemoveAll(filepath.Join(h.disks[0], "objects", "tenants", "acme")))
	all = h.rounds(t, restoreKind, "")
	require.Greater(t, len(all), 2*objects, "each object is adopted in a round, and read in another")
	require.Empty(t, problemsOf(all))
	require.Equal(t, before, h.state(t))
	require.Equal(t, entries, h.entries(t))
	h.sameOnBoth(t)
}

// TestSearchAgainInRounds: the search that is made again object by object is the one that grew, later receipts included; it goes on
// where a round ended, and gives way to who asks for it once more.
func TestSearchAgainInRounds(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, "  checks: {restore_drill: 0s}\n")
	ctx := context.Background()
	public := h.invoice(t, 50)
	public.State, public.Receipts = "INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA", []*invoicev1.Receipt{h.receipt(t, "MC", 50)}
	h.settle(t, ctx, public)
	h.await(t, "taken", func() bool { return h.counted(t, "unit") == 1 })
	h.spread(t, 0, 3)
	h.awaitSealed(t, h.closePackage(t).GetName())
	more := proto.CloneOf(public)
	more.State, more.Receipts = "INVOICE_STATE_DELIVERED", append(more.Receipts, h.receipt(t, "RC", 50))
	h.settle(t, ctx, more)
	h.await(t, "the later receipt", func() bool { return h.counted(t, "unit WHERE integrates IS NOT NULL") == 1 })
	h.awaitSealed(t, h.closePackage(t).GetName())
	grew := h.invoice(t, 60)
	grew.State, grew.Receipts = "INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA", []*invoicev1.Receipt{h.receipt(t, "MC", 60)}
	h.settle(t, ctx, grew)
	h.await(t, "taken", func() bool { return len(h.units(t, grew.GetInvoice())) == 1 })
	grown := proto.CloneOf(grew)
	grown.State, grown.Receipts = "INVOICE_STATE_DELIVERED", append(grown.Receipts, h.receipt(t, "RC", 60))
	h.settle(t, ctx, grown)
	h.await(t, "its receipt", func() bool { return len(h.units(t, grew.GetInvoice())[0].GetFiles()) == 4 })
	entries := h.entries(t)
	require.Len(t, entries, 5)
	forge := func(where string) {
		h.admin(t, `UPDATE search_entry SET number = 'forged', state = 'FORGED', seller = gen_random_uuid() WHERE `+where)
	}

	h.service.round = 1 // over with the first object
	for _, lose := range []func(){
		func() { forge("true") },
		func() { h.wipe(t, "search_entry", "search_word", "search_party") },
	} {
		lose()
		_, err := conservationv1.NewExhibitionServiceClient(h.Operator("conservation")).RebuildSearch(ctx, &conservationv1.RebuildSearchRequest{Parent: "tenants/acme"})
		require.NoError(t, err)
		var rounds int
		h.await(t, "the last round", func() bool {
			h.rowsOf(t, `SELECT coalesce(max((place->>'rounds')::int), -1) FROM archive_cursor WHERE kind = 'SEARCH'`, &rounds)
			return rounds < 0
		})
		require.Equal(t, entries, h.entries(t))
	}

	// Two processes: the second goes on where the first was after its first object.
	first, second := *h.service, *h.service
	second.round = roundTime
	job := &river.Job[searchArgs]{Args: searchArgs{Tenant: "acme"}}
	var snooze *rivertype.JobSnoozeError
	require.ErrorAs(t, first.rebuildSearch(ctx, job), &snooze)
	var after string
	h.rowsOf(t, `SELECT place->>'after' FROM archive_cursor WHERE kind = 'SEARCH' AND subject = 'acme' AND (place->>'rounds')::int = 1`, &after)
	done := "unit_id IN (SELECT unit_id FROM unit_file WHERE role = 'metadata' AND object_id = '" + after + "')"
	require.Equal(t, 1, h.counted(t, "search_entry WHERE "+done))
	forge("true")
	h.admin(t, `UPDATE archive_cursor SET place = place || jsonb_build_object('kind', 'package', 'after', 'ffffffff-ffff-ffff-ffff-ffffffffffff')`)
	require.NoError(t, second.rebuildSearch(ctx, job))
	require.Equal(t, 5, h.counted(t, "search_entry WHERE state = 'FORGED'"), "what lies before its place is not read again")
	require.Zero(t, h.counted(t, "archive_cursor"))
	require.NoError(t, second.rebuildSearch(ctx, job))
	require.Equal(t, entries, h.entries(t), "without a place it begins anew")

	// Who asks later has the place.
	require.ErrorAs(t, first.rebuildSearch(ctx, job), &snooze)
	h.admin(t, `UPDATE archive_cursor SET place = place || jsonb_build_object('run', gen_random_uuid()::text)`)
	forge("true")
	require.NoError(t, second.rebuildSearch(ctx, job))
	require.Equal(t, 5, h.counted(t, "search_entry WHERE state = 'FORGED'"))
	require.Equal(t, 1, h.counted(t, "archive_cursor"), "the other's place stays")
}

// TestRoundThatFails: a check that could not be made to its end keeps its place; one that a crash ended is made again from where it
// began, so that what it found is not lost.
func TestRoundThatFails(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, "  checks: {restore_drill: 0s}\n")
	ctx := context.Background()
	h.spread(t, 0, 4)
	s := *h.service
	s.round = 1
	first := &findings{Kind: checkDrill, Tenant: "acme"}
	require.NoError(t, s.drill(ctx, first))
	require.True(t, first.cursor.more)
	require.EqualValues(t, 1, first.Checked)
	again := &findings{Kind: checkDrill, Tenant: "acme"}
	require.NoError(t, s.drill(ctx, again))
	require.Equal(t, first.cursor.After, again.cursor.After, "its report was not written: nothing is passed over")

	// The replica goes away after the first object.
	require.NoError(t, os.Rename(h.disks[1], h.disks[1]+".away"))
	started, err := conservationv1.NewCheckServiceClient(h.Operator("conservation")).RunCheck(ctx, &conservationv1.RunCheckRequest{Kind: drillKind, Tenant: "tenants/acme"})
	require.NoError(t, err)
	h.await(t, "the report", func() bool {
		return h.counted(t, "archive_report WHERE state = 'FAILED' AND id = '"+lastOf(started.GetName())+"'") == 1
	})
	require.Equal(t, 1, h.counted(t, "archive_cursor WHERE kind = 'RESTORE_DRILL' AND subject = 'acme'"))
	h.admin(t, `UPDATE archive_cursor SET place = place || jsonb_build_object('kind', 'intake', 'after', $1::text)`, first.cursor.After.String()) // as if it had read that one
	require.NoError(t, os.Rename(h.disks[1]+".away", h.disks[1]))
	h.await(t, "two copies again", func() bool {
		return h.storageState(t).GetState() == conservationv1.StorageState_STORAGE_STATE_TWOFOLD && h.storageState(t).GetReplicas()[1].GetTrouble() == ""
	})
	// Whoever asks for a drill by lot gets the one that was begun.
	_, f := h.runCheck(t, drillKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Equal(t, "acme", f.Tenant)
	require.EqualValues(t, 3, f.Checked, "the first object was read before")
	require.Zero(t, h.counted(t, "archive_cursor"))
}

// TestRestoreBesideOlderRows: rows that a backup brought back are completed, not only those that are gone: units whose package is
// there find their place in it, and receipts that came after the backup are with their unit again.
func TestRestoreBesideOlderRows(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx := context.Background()
	h.intake(t, 3)
	h.awaitSealed(t, h.closePackage(t).GetName())
	ev := h.invoice(t, 10)
	ev.State, ev.Receipts = "INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA", []*invoicev1.Receipt{h.receipt(t, "MC", 10)}
	h.settle(t, ctx, ev)
	h.await(t, "taken", func() bool { return len(h.units(t, ev.GetInvoice())) == 1 })
	h.admin(t, `CREATE TABLE older_file AS SELECT * FROM unit_file WHERE unit_id IN (SELECT id FROM unit WHERE state = 'TAKEN_IN_CHARGE')`)
	h.admin(t, `CREATE TABLE older_unit AS SELECT id, facts FROM unit WHERE state = 'TAKEN_IN_CHARGE'`)
	h.admin(t, `CREATE TABLE older_entry AS SELECT e.* FROM search_entry e JOIN older_unit o ON o.id = e.unit_id`)
	more := proto.CloneOf(ev)
	more.State, more.Receipts = "INVOICE_STATE_DELIVERED", append(more.Receipts, h.receipt(t, "RC", 10))
	h.settle(t, ctx, more)
	h.await(t, "the receipt", func() bool { return len(h.units(t, ev.GetInvoice())[0].GetFiles()) == 4 })
	before, entries := h.state(t), h.entries(t)

	older := func() {
		h.wipe(t, "unit_file WHERE unit_id IN (SELECT id FROM older_unit)", "search_entry WHERE unit_id IN (SELECT id FROM older_unit)")
		h.admin(t, `INSERT INTO unit_file SELECT * FROM older_file`)
		h.admin(t, `INSERT INTO search_entry SELECT * FROM older_entry`)
		h.admin(t, `UPDATE unit u SET facts = o.facts FROM older_unit o WHERE o.id = u.id`)
	}
	older()
	lost := "unit_id IN (SELECT id FROM unit WHERE state = 'PRESERVED')"
	h.wipe(t, "search_entry WHERE "+lost, "unit_file WHERE "+lost, "unit WHERE state = 'PRESERVED'")
	require.NotEqual(t, before, h.state(t))
	_, f := h.runCheck(t, restoreKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Equal(t, before, h.state(t))
	require.Equal(t, entries, h.entries(t))
	require.Contains(t, strings.Join(f.Notes, "\n"), "3 units are in package")
	require.Contains(t, strings.Join(f.Notes, "\n"), "1 have receipts again that came after their row was backed up")
	_, f = h.runCheck(t, drillKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	_, f = h.runCheck(t, restoreKind, "tenants/acme")
	require.NotContains(t, strings.Join(f.Notes, "\n"), "units are in package", "again it finds nothing to do")
	require.Equal(t, before, h.state(t))

	// The same where the backup is older than the object that the receipt came in, of which it has no row either.
	for _, what := range []string{"archive_copy WHERE object_id", "archive_damage WHERE object_id", "archive_object WHERE id"} {
		h.wipe(t, what+" IN (SELECT f.object_id FROM unit_file f JOIN older_unit o ON o.id = f.unit_id WHERE f.receipt_type = 'RC')")
	}
	older()
	require.NotEqual(t, before, h.state(t))
	_, f = h.runCheck(t, restoreKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Equal(t, before, h.state(t), "the receipt is there again")
	h.readable(t)

	// A row with another receipt is not taken for an older one.
	older()
	h.admin(t, `UPDATE unit_file SET file_name = 'other_MC_001.xml' WHERE receipt_type = 'MC'`)
	row := h.state(t)
	_, f = h.runCheck(t, restoreKind, "tenants/acme")
	require.Len(t, f.Problems, 1, "%+v", f)
	require.Equal(t, "the replica holds other files of it than its row, which stays as it is", f.Problems[0].Problem)
	require.Equal(t, row, h.state(t))
}

// TestRestoreWhileAReceiptComes: a receipt that joins a unit while its row is about to be completed from the replicas is not lost, and
// the row leads to where its files are.
func TestRestoreWhileAReceiptComes(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx := context.Background()
	ev := h.invoice(t, 10)
	ev.State, ev.Receipts = "INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA", []*invoicev1.Receipt{h.receipt(t, "MC", 10)}
	h.settle(t, ctx, ev)
	h.await(t, "taken", func() bool { return len(h.units(t, ev.GetInvoice())) == 1 })
	h.admin(t, `CREATE TABLE older_file AS SELECT * FROM unit_file`)
	h.admin(t, `CREATE TABLE older_unit AS SELECT id, facts FROM unit`)
	more := proto.CloneOf(ev)
	more.State, more.Receipts = "INVOICE_STATE_DELIVERED", append(more.Receipts, h.receipt(t, "RC", 10), h.receipt(t, "MC", 12))
	h.settle(t, ctx, more)
	h.await(t, "the receipts", func() bool { return len(h.units(t, ev.GetInvoice())[0].GetFiles()) == 5 })
	var whole record // as the replicas have it
	require.NoError(t, h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
		units, err := db.New(tx).ListUnits(ctx, db.ListUnitsParams{TenantID: "acme", Before: lastID, Page: 1})
		require.NoError(t, err)
		files, err := db.New(tx).FilesOf(ctx, []uuid.UUID{units[0].ID})
		require.NoError(t, err)
		var f facts
		require.NoError(t, json.Unmarshal(units[0].Facts, &f))
		whole = recordOf(units[0], f, files)
		return nil
	}))
	h.wipe(t, "unit_file", "search_entry")
	h.admin(t, `INSERT INTO unit_file SELECT * FROM older_file`)
	h.admin(t, `UPDATE unit u SET facts = o.facts FROM older_unit o WHERE o.id = u.id`)

	other := proto.CloneOf(ev)
	other.Receipts = append(other.Receipts, h.receipt(t, "MC", 11))
	in, err := readSettled("acme", other)
	require.NoError(t, err)
	contents, err := h.service.readAll(ctx, in.files)
	require.NoError(t, err)
	joins, commit, joined := make(chan int32, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		joined <- h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			err := h.service.join(ctx, tx, in, contents)
			joins <- int32(tx.Conn().PgConn().PID()) //nolint:gosec // a process
			<-commit
			return err
		})
	}()
	pid := <-joins
	r, restored := &restoring{s: h.service, tenant: "acme", f: &findings{}}, make(chan error, 1)
	go func() {
		restored <- r.page(ctx, []record{whole})
	}()
	admin, waits := pgtest.Admin(t, h.DB("conservation")), false
	for end := time.Now().Add(time.Minute); !waits && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		require.NoError(t, admin.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks l WHERE NOT l.granted AND $1 = ANY(pg_blocking_pids(l.pid)))`, pid).Scan(&waits))
	}
	close(commit)
	require.True(t, waits, "restore waits for the receipt")
	require.NoError(t, <-joined)
	require.NoError(t, <-restored)
	require.Len(t, r.f.Problems, 1, "a person is told")
	var names []string
	for _, f := range h.units(t, ev.GetInvoice())[0].GetFiles() {
		names = append(names, f.GetFileName())
	}
	require.Len(t, names, 4, "no files of two states: %v", names)
	require.Contains(t, names, other.GetReceipts()[1].GetFileName())
	h.readable(t)
}
