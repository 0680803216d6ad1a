package conservation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
)

// textOf is what a document of openTogether says.
func textOf(n string) string { return "<FatturaElettronica n='" + n + "'/>" }

// nowhereText wants a text in no object of what was taken in.
func (h *house) nowhereText(t testing.TB, text string) {
	t.Helper()
	for disk := range h.disks {
		require.Empty(t, h.holding(t, disk, text), text)
	}
}

// eraseUntil runs the eraser until something is so.
func (h *house) eraseUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	h.await(t, what, func() bool {
		_, err := h.eraser(t).Run(context.Background())
		require.NoError(t, err)
		return ok()
	})
}

// endTerms has the term of everything that is sealed be over.
func (h *house) endTerms(t testing.TB) {
	t.Helper()
	h.admin(t, `UPDATE package SET retain_until = now() - interval '1 day'`)
}

// TestHoldAfterTheMove: documents that lay with those of a package were moved out of its object, and then the package is held. Its document stays
// whole; and what was moved away is destroyed in the old object too, when its own time has come.
func TestHoldAfterTheMove(t *testing.T) {
	t.Parallel()
	h, pkg, events := openTogether(t, 6)
	ctx, held, moved := context.Background(), textOf("6"), textOf("5")
	neighbours := h.closed(t, year, "FISC")
	name := h.release(t, pkg)
	require.NoError(t, h.service.moveNeighbours(ctx, "acme", idOf(t, pkg)))
	require.Len(t, h.holding(t, 0, moved), 2, "as before, and where it is now")
	hold, err := h.retainer().CreateHold(ctx, &conservationv1.CreateHoldRequest{Parent: "tenants/acme", Hold: &conservationv1.Hold{Package: pkg, Reason: "una causa"}})
	require.NoError(t, err)
	h.destroy(t, name)
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SEALED, h.pack(t, pkg).GetState(), "it is kept")
	h.readable(t)

	h.endTerms(t)
	h.destroy(t, h.release(t, neighbours))
	for i := range events[:5] {
		h.nowhereText(t, textOf(string(rune('1'+i))))
	}
	h.readable(t)
	for disk := range h.disks {
		require.Len(t, h.holding(t, disk, held), 1, "what is held is whole, and lies in one place")
	}
	require.Zero(t, h.adrift(t))
	_, err = h.retainer().LiftHold(ctx, &conservationv1.LiftHoldRequest{Name: hold.GetName(), Reason: "archiviato"})
	require.NoError(t, err)
	h.destroy(t, h.release(t, pkg))
	h.nowhereText(t, held)
	require.Zero(t, h.counted(t, "bytes_left"))
	_, f := h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
}

// TestBroughtInWhileErased: a package that was sealed before there were replicas is brought into them when the eraser begins with it. What comes to
// lie there after the mark goes as well, and so does the package in the platform's store.
func TestBroughtInWhileErased(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx := telemetry.WithActor(context.Background(), "test")
	pkg, _ := h.ended(t, 1)
	raw := h.download(t, pkg, archiveFile)
	row := packageRow(t, h, h.pack(t, pkg))
	o, err := h.service.object(ctx, "acme", *row.ObjectID)
	require.NoError(t, err)
	key := o.Key
	name := h.release(t, pkg)
	// As before there were replicas; it is being sealed, so that the service itself does not bring it there.
	h.admin(t, `UPDATE package SET object_id = NULL, state = 'STAMPED' WHERE id = '`+row.ID.String()+`'`)
	h.admin(t, `DELETE FROM archive_copy WHERE object_id = '`+row.ObjectID.String()+`'`)
	h.admin(t, `DELETE FROM archive_object WHERE id = '`+row.ObjectID.String()+`'`)
	for i := range h.disks {
		require.NoError(t, os.Remove(h.objectPath(i, key)))
	}
	ref, err := h.probe.Blobs.Put(ctx, "acme", raw)
	require.NoError(t, err)
	stored := h.blobPath(ref)
	require.FileExists(t, stored)

	both := h.service.replicas.all
	first := &held{Vault: both[0].Vault, reached: make(chan struct{}), leave: make(chan struct{})}
	brought := make(chan error, 1)
	go func() { brought <- h.another(first, both[1].Vault).adoptPackage(ctx, "acme", row.ID) }()
	<-first.reached
	require.NoError(t, os.Rename(stored, stored+".away"))
	h.admin(t, `UPDATE package SET state = 'SEALED' WHERE id = '`+row.ID.String()+`'`)
	h.eraseUntil(t, "the mark", func() bool { return packageRow(t, h, h.pack(t, pkg)).State != "SEALED" })
	require.NoError(t, os.Rename(stored+".away", stored))
	close(first.leave)
	require.NoError(t, <-brought)
	require.FileExists(t, h.objectPath(0, key), "it was written after all")
	require.Zero(t, h.counted(t, "archive_object WHERE kind = 'package'"), "no row says that it is to be there")

	h.destroy(t, name)
	h.eraseUntil(t, "it is gone", func() bool { return h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone") == 0 })
	h.nowhere(t, key)
	h.nowhereText(t, textOf("1"))
	require.NoFileExists(t, stored, "the package in the platform's store")

	// Killed between the bytes and their row, it would lie there and be nobody's: it is told, and no restore makes a package of it.
	h.lay(t, key, raw, 0, 1)
	_, f := h.runCheck(t, restoreKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Contains(t, f.Problems[0].Problem, "it was destroyed by "+name)
	require.Zero(t, h.counted(t, "archive_object WHERE kind = 'package'"))
}

func (h *house) blobPath(ref blob.Ref) string {
	dir, found := filepath.Join(h.dir, "process", "blobs"), ""
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
		if strings.Contains(path, ref.Hex()) {
			found = path
		}
		return nil
	})
	return found
}

// attempt is what a transaction leaves in both replicas that took documents in and was killed before its commit: here all that the tenant has.
func (h *house) attempt(t testing.TB) (key string) {
	t.Helper()
	killed := errors.New("kill -9")
	require.ErrorIs(t, h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		c := cabinet{s: h.service}
		var written []func() error
		bag := &satchel{r: h.service.replicas, tenant: "acme", ctx: ctx, wait: func(w func() error) { written = append(written, w) }}
		units, err := db.New(tx).ListUnits(ctx, db.ListUnitsParams{TenantID: "acme", Before: lastID, Page: 100})
		require.NoError(t, err)
		for _, u := range units {
			files, err := db.New(tx).FilesOf(ctx, []uuid.UUID{u.ID})
			require.NoError(t, err)
			for i := range files {
				raw, err := c.file(ctx, files[i])
				require.NoError(t, err)
				require.NoError(t, bag.add(u.ID, &files[i], raw))
			}
			var f facts
			require.NoError(t, json.Unmarshal(u.Facts, &f))
			require.NoError(t, bag.note(recordOf(u, f, files)))
		}
		require.NoError(t, bag.close(ctx, tx))
		for _, w := range written {
			require.NoError(t, w())
		}
		key = bag.full[0].Key
		return killed
	}), killed)
	return key
}

// forget takes the rows of units of a year away, and those of the objects that hold them, as if they had come after the backup.
func (h *house) forget(t testing.TB, year int) {
	t.Helper()
	admin := pgtest.Admin(t, h.DB("conservation"))
	for _, s := range []string{
		`SET session_replication_role = replica`,
		`CREATE TEMPORARY TABLE lost AS SELECT id FROM unit WHERE fiscal_year = ` + fmt.Sprint(year),
		`CREATE TEMPORARY TABLE place AS SELECT DISTINCT object_id FROM unit_file WHERE unit_id IN (SELECT id FROM lost)`,
		`DELETE FROM search_entry WHERE unit_id IN (SELECT id FROM lost)`,
		`DELETE FROM bytes_left WHERE unit_id IN (SELECT id FROM lost) OR object_id IN (SELECT object_id FROM place)`,
		`DELETE FROM unit_file WHERE unit_id IN (SELECT id FROM lost)`,
		`DELETE FROM unit WHERE id IN (SELECT id FROM lost)`,
		`DELETE FROM archive_copy WHERE object_id IN (SELECT object_id FROM place)`,
		`DELETE FROM archive_object WHERE id IN (SELECT object_id FROM place)`,
	} {
		_, err := admin.Exec(context.Background(), s)
		require.NoError(t, err, s)
	}
}

// TestNothingDestroyedIsAdopted: in an object that a killed attempt left lie a document that was destroyed since and one that is lost. The lost one is
// restored, moved to an object of its own, and nothing of the other is kept: the eraser takes the object, though it was done with the package.
func TestNothingDestroyedIsAdopted(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, 1, 2010), h.old(t, 2, 2011)})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 2 })
	name := h.release(t, h.closed(t, 2010, "FISC"))
	key := h.attempt(t)
	// It came back from a disk's own backup after the disposal.
	both := objectsOn(t, h.disks[1])[key]
	h.destroy(t, name)
	h.nowhere(t, key)
	h.nowhereText(t, textOf("1"))
	h.admin(t, `DELETE FROM disposal_object WHERE key = '`+key+`'`) // nor does the database know of it
	h.lay(t, key, both, 1)
	own := h.holding(t, 0, textOf("2"))
	require.Len(t, own, 1)
	h.forget(t, 2011)
	for i := range h.disks {
		require.NoError(t, os.Remove(h.objectPath(i, own[0])))
	}

	_, f := h.runCheck(t, restoreKind, "")
	require.Contains(t, fmt.Sprint(f.Problems), key+" no rows are made of 1 units in it", "it is told")
	require.Equal(t, 1, h.counted(t, "unit WHERE fiscal_year = 2011"))
	h.eraseUntil(t, "it is gone", func() bool { return h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone") == 0 })
	h.nowhere(t, key)
	h.nowhereText(t, textOf("1"))
	h.readable(t)
	for disk := range h.disks {
		require.Len(t, h.holding(t, disk, textOf("2")), 1)
	}
	require.Zero(t, h.adrift(t))
	require.Equal(t, 1, h.counted(t, "audit_entry WHERE action = 'object.erase'"))
	_, f = h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	_, f = h.runCheck(t, restoreKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
}

// openBeside has a document of each year, taken in by itself; that of 2010 is to be destroyed, and an attempt that was killed left all of them in one
// object.
func openBeside(t *testing.T, years ...int32) (h *house, disposal, key string) {
	t.Helper()
	h = open(t, true)
	h.oneEach(t, years...)
	disposal = h.release(t, h.closed(t, 2010, "FISC"))
	return h, disposal, h.attempt(t)
}

// oneEach takes a document of each year in, each in an object of its own.
func (h *house) oneEach(t *testing.T, years ...int32) {
	t.Helper()
	for i, year := range years {
		h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, i+1, year)})
		h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == i+1 })
	}
}

// TestUnclearIsNotCondemned: in an object that a killed attempt left lie a document that was destroyed, one that is lost, and one that is there as
// other files than its row has. Which are the right ones is for a person: their bytes do not go with those of the first.
func TestUnclearIsNotCondemned(t *testing.T) {
	t.Parallel()
	h, name, key := openBeside(t, 2010, 2011, 2012)
	all := objectsOn(t, h.disks[1])[key]
	h.destroy(t, name)
	h.nowhere(t, key)
	h.admin(t, `DELETE FROM disposal_object WHERE key = '`+key+`'`)
	h.lay(t, key, all, 1)
	lost := h.holding(t, 0, textOf("2"))
	require.Len(t, lost, 1)
	h.forget(t, 2011)
	for i := range h.disks {
		require.NoError(t, os.Remove(h.objectPath(i, lost[0])))
	}
	h.admin(t, `UPDATE unit_file SET file_name = 'altro.xml' FROM unit u WHERE u.id = unit_id AND u.fiscal_year = 2012 AND role = 'transmitted'`)
	require.Equal(t, 1, h.counted(t, "unit_file WHERE file_name = 'altro.xml'"))

	_, f := h.runCheck(t, restoreKind, "")
	require.Contains(t, fmt.Sprint(f.Problems), "holds other files of it than its row")
	require.Contains(t, strings.Join(f.Notes, "\n"), key+" holds bytes of destroyed documents and is left alone")
	require.Equal(t, 1, h.counted(t, "unit WHERE fiscal_year = 2011"), "the lost one is there again")
	_, err := h.eraser(t).Run(context.Background())
	require.NoError(t, err)
	require.Contains(t, h.holding(t, 1, textOf("3")), key)
}

// TestAdoptedBesideWhatIsToGo: in an object that a killed attempt left lie a document that is to be destroyed, whose row leads elsewhere, and one that is
// lost. With the first the object goes too; the other is moved out of it before.
func TestAdoptedBesideWhatIsToGo(t *testing.T) {
	t.Parallel()
	h, name, key := openBeside(t, 2010, 2011)
	own := h.holding(t, 0, textOf("2"))
	h.forget(t, 2011)
	for _, lost := range own {
		if lost != key {
			for i := range h.disks {
				require.NoError(t, os.Remove(h.objectPath(i, lost)))
			}
		}
	}
	_, f := h.runCheck(t, restoreKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Equal(t, 1, h.counted(t, "unit WHERE fiscal_year = 2011"))
	h.readable(t)
	h.destroy(t, name)
	h.nowhere(t, key)
	h.nowhereText(t, textOf("1"))
	h.readable(t)
	for disk := range h.disks {
		require.Len(t, h.holding(t, disk, textOf("2")), 1)
	}
	require.Zero(t, h.adrift(t))
}

// TestMovedWhileForgotten: documents are moved away from one that is destroyed, one of them grows afterwards, and the database is put back to before
// that. Their rows lead to an object that is no more; what was moved lies in another, which no row knows.
func TestMovedWhileForgotten(t *testing.T) {
	t.Parallel()
	h, want := openMoved(t)
	_, f := h.runCheck(t, restoreKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict, "what is in no replica is told")
	require.Contains(t, strings.Join(f.Notes, "\n"), "were moved after their rows were backed up")
	require.Equal(t, want, h.counted(t, "unit_file"), "the receipt is there again")
	h.readable(t)
	h.judge(t, h.awaitSealed(t, h.closed(t, year, "FISC")))
}

// openMoved is that database; files is how many there were before it was put back.
func openMoved(t *testing.T) (h *house, files int) {
	t.Helper()
	h, pkg, events := openTogether(t, 6)
	ctx := context.Background()
	admin := pgtest.Admin(t, h.DB("conservation"))
	exec := func(statements ...string) {
		for _, s := range statements {
			_, err := admin.Exec(ctx, s)
			require.NoError(t, err, s)
		}
	}
	standing := `(SELECT id FROM unit WHERE fiscal_year <> 2010)`
	exec(`CREATE TEMPORARY TABLE old_file AS SELECT * FROM unit_file WHERE unit_id IN `+standing, `CREATE TEMPORARY TABLE old_unit AS SELECT * FROM unit WHERE id IN `+standing,
		`CREATE TEMPORARY TABLE old_object AS SELECT * FROM archive_object`, `CREATE TEMPORARY TABLE old_copy AS SELECT * FROM archive_copy`)
	h.destroy(t, h.release(t, pkg))
	late := proto.CloneOf(events[4])
	late.Receipts = append(late.Receipts, h.receipt(t, "MC", 77))
	h.settle(t, ctx, late)
	h.await(t, "it grew", func() bool { return h.counted(t, "unit_file WHERE receipt_type = 'MC'") == 1 })
	files = h.counted(t, "unit_file")
	exec(`SET session_replication_role = replica`, `DELETE FROM bytes_left`, `DELETE FROM unit_file WHERE unit_id IN `+standing, `INSERT INTO unit_file SELECT * FROM old_file`,
		`UPDATE unit u SET facts = o.facts FROM old_unit o WHERE o.id = u.id`, `DELETE FROM archive_copy WHERE object_id IN (SELECT id FROM archive_object WHERE kind IN ('intake', 'package'))`,
		`DELETE FROM archive_object WHERE kind IN ('intake', 'package')`, `INSERT INTO archive_object SELECT * FROM old_object WHERE kind IN ('intake', 'package')`,
		`INSERT INTO archive_copy SELECT c.* FROM old_copy c JOIN old_object o ON o.id = c.object_id WHERE o.kind IN ('intake', 'package')`)
	return h, files
}

// overheard is a vault that tells when it is asked what it holds.
type overheard struct {
	vault.Vault
	asked func()
}

func (v *overheard) List(ctx context.Context, prefix string) iter.Seq2[vault.Entry, error] {
	v.asked()
	return v.Vault.List(ctx, prefix)
}

// TestRestoreHoldsUpNoDisposal: a restore asks the replicas for objects of which its rows tell while it has no lock of the tenant's disposals, for
// which holds and the eraser wait; and what it says that it made is counted once, though it begins anew with what it was told.
func TestRestoreHoldsUpNoDisposal(t *testing.T) {
	t.Parallel()
	h, want := openMoved(t)
	admin := pgtest.Admin(t, h.DB("conservation"))
	asked, locked := 0, 0
	watch := func() {
		var n int
		// Other tests have a tenant of the same name in schemas of their own.
		require.NoError(t, admin.QueryRow(context.Background(), `SELECT count(*) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
			AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('conservation disposal acme', 0)
			AND EXISTS (SELECT 1 FROM pg_locks r JOIN pg_class c ON c.oid = r.relation WHERE r.pid = l.pid AND c.relnamespace = current_schema()::regnamespace)`).Scan(&n))
		asked, locked = asked+1, locked+n
	}
	both := h.service.replicas.all
	s := h.another(&overheard{both[0].Vault, watch}, &overheard{both[1].Vault, watch})
	restore := func() string {
		f := &findings{Report: "platform/reports/x", Kind: "restore", Began: time.Now()}
		require.NoError(t, s.restore(telemetry.WithActor(context.Background(), "test"), f))
		return strings.Join(f.Notes, "\n")
	}
	said := restore()
	require.Greater(t, asked, 3, "beside what it lists")
	require.Zero(t, locked)
	require.Equal(t, want, h.counted(t, "unit_file"))
	counts := regexp.MustCompile(`tenant acme: 0 of (\d+) units had no row and have one now, (\d+) have`)
	first, second := counts.FindStringSubmatch(said), counts.FindStringSubmatch(restore())
	require.NotNil(t, first, said)
	require.Equal(t, "1", first[2])
	require.Equal(t, "0", second[2])
	require.Equal(t, second[1], first[1], "as many as there are")
}
