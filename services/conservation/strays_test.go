package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// lay puts an object that no row knows into replicas.
func (h *house) lay(t testing.TB, key string, raw []byte, replicas ...int) {
	t.Helper()
	for _, i := range replicas {
		o := vault.Object{Key: key, Size: int64(len(raw)), SHA256: sha256.Sum256(raw)}
		require.NoError(t, h.service.replicas.all[i].Put(context.Background(), o, bytes.NewReader(raw), vault.Lock{Until: time.Now()}))
	}
}

// strayKey is a name that an attempt of long ago would have given.
func strayKey(n int) string {
	return fmt.Sprintf("tenants/acme/intake/2024-06-01/01900000-0000-7000-8000-%012d.zip", n)
}

// holding gives the keys of objects on a disk in which a text lies.
func (h *house) holding(t testing.TB, disk int, text string) (keys []string) {
	t.Helper()
	for key, raw := range objectsOn(t, h.disks[disk]) {
		if strings.HasPrefix(key, "tenants/acme/intake/") && bytes.Contains(raw, []byte(text)) {
			keys = append(keys, key)
		}
	}
	return keys
}

// bundle is an object as one transaction would have written it that took all documents of the tenant in.
func (h *house) bundle(t testing.TB) []byte {
	t.Helper()
	var out, lines bytes.Buffer
	z := zip.NewWriter(&out)
	add := func(name string, raw []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		require.NoError(t, err)
		_, err = w.Write(raw)
		require.NoError(t, err)
	}
	c := cabinet{s: h.service}
	require.NoError(t, h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		units, err := db.New(tx).ListUnits(ctx, db.ListUnitsParams{TenantID: "acme", Before: lastID, Page: 100})
		require.NoError(t, err)
		for _, u := range units {
			files, err := db.New(tx).FilesOf(ctx, []uuid.UUID{u.ID})
			require.NoError(t, err)
			for _, x := range files {
				raw, err := c.file(ctx, x)
				require.NoError(t, err)
				add(fmt.Sprintf("%s/%02d_%s", u.ID, x.Ordinal, x.Role), raw)
			}
			var f facts
			require.NoError(t, json.Unmarshal(u.Facts, &f))
			require.NoError(t, json.NewEncoder(&lines).Encode(recordOf(u, f, files)))
		}
		return nil
	}))
	add(intakeList, lines.Bytes())
	require.NoError(t, z.Close())
	return out.Bytes()
}

// closed closes and seals what waits of a year and class.
func (h *house) closed(t testing.TB, year int32, class string) string {
	t.Helper()
	p, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, Class: class})
	require.NoError(t, err)
	return h.awaitSealed(t, p.GetName()).GetName()
}

// destroy runs the eraser until a disposal is over, and gives its report.
func (h *house) destroy(t testing.TB, name string) disposalReport {
	t.Helper()
	h.await(t, "disposed of", func() bool {
		_, err := h.eraser(t).Run(context.Background())
		require.NoError(t, err)
		d, err := h.retainer().GetDisposal(context.Background(), &conservationv1.GetDisposalRequest{Name: name})
		require.NoError(t, err)
		return d.GetState() == conservationv1.DisposalState_DISPOSAL_STATE_PARTIAL
	})
	r, err := h.retainer().GetDisposalReport(context.Background(), &conservationv1.GetDisposalReportRequest{Name: name})
	require.NoError(t, err)
	var said disposalReport
	require.NoError(t, json.Unmarshal(r.GetContent(), &said))
	return said
}

// counted is how many rows a table has.
func (h *house) counted(t testing.TB, from string) (n int) {
	t.Helper()
	h.rowsOf(t, `SELECT count(*) FROM `+from, &n)
	return n
}

// TestNothingIsLeftBehind: what attempts that failed left of a document in the replicas is destroyed with it, and is in the report;
// what comes back all the same, from a backup or by a hand, is told and becomes no document again.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, 1, 2010), h.old(t, 2, 2011)})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 2 })
	both := h.bundle(t)
	head := headOf("verbale", "verbale.pdf", aPDF)
	head.FiscalYear = 2010
	hand(t, h.producer(), head, aPDF)
	invoice, deposit := "<FatturaElettronica n='1'/>", string(aPDF)
	alone := objectsOn(t, h.disks[0])[h.holding(t, 0, deposit)[0]]
	packages := []string{h.closed(t, 2010, "FISC"), h.closed(t, 2010, "ALTRO")}
	kept := h.closed(t, 2011, "FISC")

	// As attempts leave it: killed before its commit, in both replicas; failed between them, in one.
	h.lay(t, strayKey(1), alone, 0, 1)
	h.lay(t, strayKey(2), both, 1)
	_, f := h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	for i, name := range packages {
		said := h.destroy(t, h.release(t, name))
		stray, destroyed := sha256.Sum256([][]byte{both, alone}[i]), fmt.Sprint(said)
		require.Contains(t, destroyed, hex.EncodeToString(stray[:])+" ", "the report names it")
		require.Contains(t, destroyed, "left of an attempt")
	}
	for disk := range h.disks {
		require.Empty(t, h.holding(t, disk, deposit))
		require.Empty(t, h.holding(t, disk, invoice))
		require.NotEmpty(t, h.holding(t, disk, "<FatturaElettronica n='2'/>"), "what stands was not in need of it")
	}
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SEALED, h.pack(t, kept).GetState())
	_, f = h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)

	// One comes back under its name, one under another, and one with a document that is lost.
	h.lay(t, strayKey(1), alone, 1)
	h.lay(t, strayKey(3), alone, 1)
	h.lay(t, strayKey(4), both, 1)
	units, objects, found := h.counted(t, "unit"), h.counted(t, "archive_object WHERE kind <> 'report'"), h.counted(t, "search_entry")
	text := func(f findings) string { return fmt.Sprint(f.Problems) }
	_, f = h.runCheck(t, restoreKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Contains(t, text(f), strayKey(1)+" second replica: it was destroyed by tenants/acme/disposals/")
	require.Contains(t, text(f), strayKey(3)+" no rows are made of 1 units in it: they were destroyed by a disposal: the eraser destroys it")
	require.Contains(t, text(f), strayKey(4)+" no rows are made of 1 units in it: they were destroyed by a disposal: the eraser destroys it")
	require.Equal(t, units, h.counted(t, "unit"))
	require.Equal(t, objects, h.counted(t, "archive_object WHERE kind <> 'report'"))
	require.Equal(t, found, h.counted(t, "search_entry"))
	_, f = h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "it is the eraser's now: %+v", f)
	h.eraseUntil(t, "all are gone", func() bool { return h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone") == 0 })
	for _, n := range []int{1, 3, 4} {
		h.nowhere(t, strayKey(n))
	}

	// What is lost is made again, and what was destroyed beside it is not.
	h.lay(t, strayKey(5), both, 1)
	h.admin(t, `SET session_replication_role = replica`)
	h.admin(t, `DELETE FROM search_entry`)
	h.admin(t, `DELETE FROM unit_file WHERE unit_id IN (SELECT id FROM unit WHERE fiscal_year = 2011)`)
	h.admin(t, `DELETE FROM unit WHERE fiscal_year = 2011`)
	_, f = h.runCheck(t, restoreKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Equal(t, units, h.counted(t, "unit"))
	require.Equal(t, 2, h.counted(t, "unit WHERE state = 'DESTROYED'"))
	require.Equal(t, 1, h.counted(t, "search_entry"))
}

// TestStraysOfTheDestroyed: objects that no row knows hold documents that were destroyed, in either replica. Where all else in them stands elsewhere
// the inventory leaves them to the eraser; one whose neighbour's own bytes are damaged stays for a person, and so does one that came back when those
// of its neighbour are lost.
func TestStraysOfTheDestroyed(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, 1, 2010), h.old(t, 2, 2011)})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 2 })
	both := h.bundle(t)
	h.destroy(t, h.release(t, h.closed(t, 2010, "FISC")))
	own := h.holding(t, 0, textOf("2"))
	require.Len(t, own, 1)
	inventory := func(want string, keys ...string) {
		t.Helper()
		_, f := h.runCheck(t, inventoryKind, "")
		for _, key := range keys {
			require.Contains(t, fmt.Sprint(f.Problems), key+" "+want)
		}
	}
	h.lay(t, strayKey(1), both, 0)
	h.lay(t, strayKey(2), both, 1)
	h.admin(t, `UPDATE archive_copy c SET state = 'OWED', tried_at = now() + interval '1 hour' FROM archive_object o WHERE o.id = c.object_id AND o.key = '`+own[0]+`'`)
	inventory("second replica: no row knows it, and 1 of its 2 units were destroyed by a disposal: remove it by hand, once what stands of it has a good copy elsewhere", strayKey(2))
	require.Zero(t, h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone"))
	h.admin(t, `UPDATE archive_copy SET state = 'GOOD', tried_at = NULL`)
	inventory("primary replica: no row knows it, and 1 of its 2 units were destroyed by a disposal: the eraser destroys it", strayKey(1))
	inventoried := h.counted(t, "audit_entry WHERE action = 'object.condemn'")
	require.Equal(t, 2, inventoried, "each by the disposal of its document")
	h.eraseUntil(t, "both are gone", func() bool { return h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone") == 0 })
	h.nowhere(t, strayKey(1))
	h.nowhere(t, strayKey(2))
	h.nowhereText(t, textOf("1"))
	h.readable(t)

	// With what its list does not tell of, or other files of a document than its row has, it is for a person.
	for n, change := range map[int]func(z *zip.Writer, name string, raw []byte) (string, []byte){
		3: func(z *zip.Writer, name string, raw []byte) (string, []byte) {
			if name == intakeList {
				w, err := z.Create(uuid.NewString() + "/00_transmitted_00000000")
				require.NoError(t, err)
				_, err = w.Write([]byte("x"))
				require.NoError(t, err)
			}
			return name, raw
		},
		4: func(_ *zip.Writer, name string, raw []byte) (string, []byte) {
			if name == intakeList {
				sum := sha256.Sum256([]byte(textOf("2")))
				raw = bytes.Replace(raw, []byte(hex.EncodeToString(sum[:])), []byte(strings.Repeat("0", 64)), 1)
			}
			return name, raw
		},
	} {
		h.lay(t, strayKey(n), rewritten(t, both, change), 1)
		inventory("second replica: no row knows it, and 1 of its 2 units were destroyed by a disposal: remove it by hand, once it is known what else is in it", strayKey(n))
	}
	require.Zero(t, h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone"))
}

// rewritten is a ZIP with its entries changed.
func rewritten(t *testing.T, raw []byte, change func(z *zip.Writer, name string, raw []byte) (string, []byte)) []byte {
	t.Helper()
	from, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, e := range from.File {
		content, err := contentOf(e)
		require.NoError(t, err)
		name, content := change(z, e.Name, content)
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return out.Bytes()
}

// TestCameBackWithTheOnlyBytes: an object that a disposal destroyed comes back from a backup, and has the only bytes of another document: it stays
// for a person until that has its own again.
func TestCameBackWithTheOnlyBytes(t *testing.T) {
	t.Parallel()
	h, name, key := openBeside(t, 2010, 2011)
	raw := objectsOn(t, h.disks[1])[key]
	own := h.holding(t, 0, textOf("2"))
	own = slices.DeleteFunc(own, func(k string) bool { return k == key })
	require.Len(t, own, 1)
	h.destroy(t, name)
	h.nowhere(t, key)
	h.lay(t, key, raw, 0)
	for i := range h.disks {
		require.NoError(t, os.Rename(h.objectPath(i, own[0]), filepath.Join(h.dir, fmt.Sprint("away", i))))
	}
	_, f := h.runCheck(t, inventoryKind, "")
	require.Contains(t, fmt.Sprint(f.Problems), key+" primary replica: it was destroyed by "+name+" and is there again, such as from a backup: remove it by hand")
	_, err := h.eraser(t).Run(context.Background())
	require.NoError(t, err)
	require.Contains(t, h.holding(t, 0, textOf("2")), key)

	for i := range h.disks {
		require.NoError(t, os.Rename(filepath.Join(h.dir, fmt.Sprint("away", i)), h.objectPath(i, own[0])))
	}
	_, f = h.runCheck(t, inventoryKind, "")
	require.Contains(t, fmt.Sprint(f.Problems), "such as from a backup: remove it by hand, once what stands of it has a good copy elsewhere", "it is damaged, as far as anybody knows")
	h.admin(t, `DELETE FROM archive_damage`)
	h.admin(t, `UPDATE archive_copy SET state = 'GOOD'`)
	_, f = h.runCheck(t, inventoryKind, "")
	require.Contains(t, fmt.Sprint(f.Problems), "such as from a backup: the eraser destroys it once more")
	h.eraseUntil(t, "it is gone", func() bool { return h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone") == 0 })
	h.nowhere(t, key)
	h.readable(t)
}

// TestRepeatsAreNotWrittenAgain: the event of a document that is kept or destroyed may come once more beside those of others. What it
// brings again is not laid into their object, where no disposal of the document would look.
func TestRepeatsAreNotWrittenAgain(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	first := h.old(t, 1, 2010)
	taken := func(n int) {
		h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == n })
	}
	invoice := "<FatturaElettronica n='1'/>"
	h.settleAll(t, []*invoicev1.InvoiceSettled{first})
	taken(1)
	require.Len(t, h.holding(t, 0, invoice), 1)

	// One event after the other is handed over: the last one is behind the repeats.
	h.settleAll(t, []*invoicev1.InvoiceSettled{first, h.old(t, 2, 2011), first, h.old(t, 3, 2011)})
	taken(3)
	for disk := range h.disks {
		require.Len(t, h.holding(t, disk, invoice), 1)
		require.Len(t, h.holding(t, disk, "<FatturaElettronica n='3'/>"), 1)
	}
	pkg := h.closed(t, 2010, "FISC")
	h.destroy(t, h.release(t, pkg))
	ref, err := blob.ParseURI(first.GetTransmitted().GetUri())
	require.NoError(t, err)
	_, err = h.probe.Blobs.Get(context.Background(), ref)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
	h.settleAll(t, []*invoicev1.InvoiceSettled{first, h.old(t, 5, 2011)}) // nobody asks for what is not wanted
	taken(4)
	require.Zero(t, h.counted(t, "parked_event"))
	h.old(t, 1, 2010) // its bytes are in the platform's store once more, as a restored backup would have them
	h.settleAll(t, []*invoicev1.InvoiceSettled{first, h.old(t, 4, 2011)})
	taken(5)
	for disk := range h.disks {
		require.Empty(t, h.holding(t, disk, invoice))
		require.NotEmpty(t, h.holding(t, disk, "<FatturaElettronica n='4'/>"))
	}
	require.Zero(t, h.counted(t, "parked_event"))
}

// TestDestroyedMailStaysDestroyed: what is left of a message says nothing of it, not even its key. Its event is known all the same when
// it comes once more, with its bytes or without.
func TestDestroyedMailStaysDestroyed(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	message := func(n int, year int) *pecv1.MessageHandedOver {
		return &pecv1.MessageHandedOver{
			Message: fmt.Sprintf("tenants/acme/mailboxes/box/messages/%d", n), Content: h.blob(t, fmt.Sprintf("Subject: %d\r\n\r\n", n), "message/rfc822"), Direction: "RECEIVED",
			MailboxAddress: "ufficio@alfa.test", Sender: "mario@beta.test", ReceiveTime: timestamppb.New(time.Date(year, 5, 4, 10, 0, 0, 0, time.UTC)),
		}
	}
	gone, stays := message(1, 2010), message(2, 2026)
	h.deliver(t, gone, stays)
	h.unitOf(t, gone.GetMessage())
	h.unitOf(t, stays.GetMessage())
	h.destroy(t, h.release(t, h.closed(t, 2010, "PEC")))
	var key string
	h.rowsOf(t, `SELECT unit_key FROM unit WHERE state = 'DESTROYED'`, &key)
	require.True(t, strings.HasPrefix(key, "GONE|"), key)
	for n := range 2 {
		h.deliver(t, gone, message(3+n, 2026))
		h.unitOf(t, fmt.Sprintf("tenants/acme/mailboxes/box/messages/%d", 3+n))
		h.unitOf(t, gone.GetMessage()) // one, and no second
		require.Zero(t, h.counted(t, "parked_event"))
		message(1, 2010) // its bytes are there once more
	}
	require.Equal(t, 1, h.counted(t, "unit WHERE state = 'DESTROYED'"))
}

// TestKeysOfDestroyedDeposits: the key that a producer chose goes with its document, whatever was tried under it; where two documents
// were kept under one key, nothing of the other is touched.
func TestKeysOfDestroyedDeposits(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx, api := context.Background(), h.producer()
	of := func(key string, content []byte, year int32) *conservationv1.Deposit {
		head := headOf(key, "a.txt", content)
		head.FiscalYear = year
		return hand(t, api, head, content)
	}
	const key = "verbale-zappaterra"
	first, second, third := []byte("uno\n"), []byte("due\n"), []byte("tre\n")
	require.Equal(t, accepted, of(key, first, 2010).GetState())
	resolve := func(d *conservationv1.Deposit, how conservationv1.ConflictResolution) {
		require.Equal(t, contest, d.GetState())
		_, err := api.ResolveConflict(ctx, &conservationv1.ResolveConflictRequest{Name: strings.Replace(d.GetName(), "/deposits/", "/conflicts/", 1), Resolution: how, Reason: "sentita Zappaterra"})
		require.NoError(t, err)
	}
	resolve(of(key, second, 2026), conservationv1.ConflictResolution_CONFLICT_RESOLUTION_KEEP_HELD)
	both := of(key, third, 2026)
	resolve(both, conservationv1.ConflictResolution_CONFLICT_RESOLUTION_KEEP_BOTH)
	get := func() *conservationv1.Deposit {
		d, err := api.GetDeposit(ctx, &conservationv1.GetDepositRequest{Name: both.GetName()})
		require.NoError(t, err)
		return d
	}
	h.await(t, "the report of what stands", func() bool { return get().GetReportTime() != nil })
	stands := get()
	h.destroy(t, h.release(t, h.closed(t, 2010, "ALTRO")))
	require.True(t, proto.Equal(stands, get()), "%s, was %s", get(), stands)
	require.Equal(t, 1, h.counted(t, "deposit WHERE client_key = '"+key+"'"))
	require.Equal(t, 2, h.counted(t, "deposit WHERE client_key = 'GONE|' || id AND file_name = '(destroyed)'"))
	again := of(key, third, 2026)
	require.Equal(t, both.GetName(), again.GetName(), "what stands is known by its key")
	require.Equal(t, accepted, of("altro", first, 2026).GetState())
}

// TestStrayWithALostDocument: an object without a row that may be the only copy of a document which is kept is not destroyed with
// another that lies in it.
func TestStrayWithALostDocument(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx := context.Background()
	h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, 1, 2010), h.old(t, 2, 2011)})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 2 })
	raw := h.bundle(t)
	pkg := h.closed(t, 2010, "FISC")
	h.lay(t, strayKey(1), raw, 0)
	h.admin(t, `UPDATE unit SET unit_key = 'SDI|lost' WHERE fiscal_year = 2011`)
	name := h.release(t, pkg)
	h.await(t, "it waits", func() bool {
		_, err := h.eraser(t).Run(ctx)
		require.NoError(t, err)
		d, err := h.retainer().GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
		require.NoError(t, err)
		return strings.HasSuffix(d.GetLastError(), "run check restore first")
	})
	require.Contains(t, h.holding(t, 0, "<FatturaElettronica n='2'/>"), strayKey(1))
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SEALED, h.pack(t, pkg).GetState())
}

// TestEraserWaitsForWhatIsBeingWritten: an object is in the replicas before the rows that name it are committed. Until they are, it looks
// like what a failed attempt left, also to an eraser whose documents have a file in common with it.
func TestEraserWaitsForWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	goes, stays := h.old(t, 1, 2010), h.old(t, 2, 2011)
	stays.Transmitted = goes.GetTransmitted()
	h.settle(t, context.Background(), goes)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
	name := h.release(t, h.closed(t, 2010, "FISC"))
	shared := "<FatturaElettronica n='1'/>"
	before := len(h.holding(t, 0, shared))

	in, err := readSettled("acme", stays)
	require.NoError(t, err)
	contents, err := h.service.readAll(context.Background(), in.files)
	require.NoError(t, err)
	writer, commit, taken := make(chan int32, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		taken <- h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			_, err := h.service.takeNow(ctx, tx, in, contents)
			writer <- int32(tx.Conn().PgConn().PID()) //nolint:gosec // a process
			<-commit
			return err
		})
	}()
	pid := <-writer
	h.await(t, "written to both", func() bool {
		return len(h.holding(t, 0, shared)) == before+1 && len(h.holding(t, 1, shared)) == before+1
	})

	erased := make(chan error, 1)
	go func() {
		_, err := h.eraser(t).Run(context.Background())
		erased <- err
	}()
	admin, waits := pgtest.Admin(t, h.DB("conservation")), false
	for end := time.Now().Add(time.Minute); !waits && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		const locks = `SELECT EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND NOT l.granted AND $1 = ANY(pg_blocking_pids(l.pid)))`
		require.NoError(t, admin.QueryRow(context.Background(), locks, pid).Scan(&waits))
	}
	close(commit)
	require.True(t, waits, "the eraser waits for the transaction")
	require.NoError(t, <-taken)
	require.NoError(t, <-erased)
	h.destroy(t, name)
	for disk := range h.disks {
		require.Len(t, h.holding(t, disk, shared), 1, "of what stands")
	}
	require.Equal(t, []string{h.closed(t, 2011, "FISC")}, []string{h.units(t, stays.GetInvoice())[0].GetPackage()})
	_, f := h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
}

// TestChecksWhileErasing: from the mark on, what the eraser has not come to yet (an absent disk, a lock) is nobody's loss: no check
// calls it lost, and restore does not bring it back into the hands of repairs.
func TestChecksWhileErasing(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, 1, 2010)})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
	pkg := h.closed(t, 2010, "FISC")
	name, crash := h.release(t, pkg), errors.New("kill -9")
	e := h.eraser(t)
	e.Step = func(where string) error {
		if where == "marked" {
			return crash
		}
		return nil
	}
	_, err := e.Run(context.Background())
	require.ErrorIs(t, err, crash)
	require.Equal(t, "ERASING", packageRow(t, h, h.pack(t, pkg)).State)
	before := objectsOn(t, h.disks[0])
	for _, kind := range []conservationv1.CheckKind{inventoryKind, restoreKind} {
		_, f := h.runCheck(t, kind, "")
		require.Equal(t, "GOOD", f.Verdict, "%+v", f)
		require.Contains(t, strings.Join(f.Notes, "\n"), "since "+name+" destroys it")
	}
	require.Zero(t, h.counted(t, "archive_object WHERE kind <> 'report'"))
	h.destroy(t, name)
	for key := range before {
		for _, disk := range h.disks {
			if strings.HasPrefix(key, "tenants/acme/intake/") || strings.HasPrefix(key, "tenants/acme/packages/") {
				require.NotContains(t, objectsOn(t, disk), key)
			}
		}
	}
	require.Zero(t, h.counted(t, "archive_damage"))
}

// TestWhatIntegratesGoesFirst: a document is not destroyed before what later receipts added to it, whichever of the two is
// authorised, held or first on the list.
func TestWhatIntegratesGoesFirst(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx, tenant := context.Background(), h.retainer()
	ev := h.old(t, 1, 2010)
	h.settle(t, ctx, ev)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
	original := h.closed(t, 2010, "FISC")
	late := proto.CloneOf(ev)
	late.Receipts = append(late.Receipts, h.receipt(t, "AT", 1))
	h.settle(t, ctx, late)
	h.await(t, "integration", func() bool { return len(h.units(t, ev.GetInvoice())) == 2 })
	added := h.closed(t, 2010, "FISC")
	item := func(name, pkg string) *conservationv1.DisposalItem {
		d, err := tenant.GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
		require.NoError(t, err)
		for _, i := range d.GetItems() {
			if i.GetPackage() == pkg {
				return i
			}
		}
		return nil
	}
	state := func(pkg string) conservationv1.PackageState { return h.pack(t, pkg).GetState() }

	// The original alone is authorised.
	name := h.release(t, original)
	_, err := h.eraser(t).Run(ctx)
	require.NoError(t, err)
	require.Equal(t, conservationv1.DisposalItemState_DISPOSAL_ITEM_STATE_KEPT, item(name, original).GetState())
	require.Contains(t, item(name, original).GetNote(), "was added to a document of it and stands")
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SEALED, state(original))

	// A hold over either is a hold over both.
	for _, pkg := range []string{added, original} {
		hold, err := tenant.CreateHold(ctx, &conservationv1.CreateHoldRequest{Parent: "tenants/acme", Hold: &conservationv1.Hold{Package: pkg, Reason: "una causa"}})
		require.NoError(t, err)
		_, err = tenant.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: "tenants/acme"})
		require.Equal(t, "DISPOSAL_EMPTY", code(err))
		_, err = tenant.LiftHold(ctx, &conservationv1.LiftHoldRequest{Name: hold.GetName(), Reason: "archiviato"})
		require.NoError(t, err)
	}

	// Both go in one run, the later one first.
	d, err := tenant.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, d.GetItems(), 2)
	_, err = tenant.AuthorizeDisposal(ctx, &conservationv1.AuthorizeDisposalRequest{Name: d.GetName(), Producer: authorised()})
	require.NoError(t, err)
	for _, person := range []string{"Uno Alfa", "Due Beta"} {
		_, err = h.operator().ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: person})
		require.NoError(t, err)
	}
	h.destroy(t, d.GetName())
	require.Equal(t, conservationv1.DisposalItemState_DISPOSAL_ITEM_STATE_DESTROYED, item(d.GetName(), original).GetState())
	var first, second time.Time
	h.rowsOf(t, fmt.Sprintf(`SELECT begun_at FROM disposal_item WHERE state = 'DESTROYED' AND package_id = '%s'`, lastOf(added)), &first)
	h.rowsOf(t, fmt.Sprintf(`SELECT begun_at FROM disposal_item WHERE state = 'DESTROYED' AND package_id = '%s'`, lastOf(original)), &second)
	require.True(t, first.Before(second), "%s and %s", first, second)
}
