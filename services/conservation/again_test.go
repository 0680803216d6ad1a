package conservation

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/pg"
)

// takeAgain takes an event in that came before, as after a database was put back that has forgotten it: its unit has the id that it had.
func (h *house) takeAgain(t testing.TB, ev *invoicev1.InvoiceSettled, id uuid.UUID) {
	t.Helper()
	ctx := context.Background()
	in, err := readSettled("acme", ev)
	require.NoError(t, err)
	contents, err := h.service.readAll(ctx, in.files)
	require.NoError(t, err)
	require.NoError(t, h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
		all := &takings{bag: &satchel{r: h.service.replicas, tenant: in.tenant, ctx: ctx, wait: pg.UnitOf(ctx, tx).Join}, arrivals: []arrival{{intake: in, id: id, story: ctx}}}
		for i := range in.files {
			require.NoError(t, all.bag.add(id, &in.files[i], contents[i]))
		}
		return h.service.write(ctx, tx, all)
	}))
}

// TestMetadataOfTheFirstTaking: a document was taken in, reported and perhaps sealed, the database was put back without being found out, and the event
// came again to a release that writes other metadata. Restore gives the document the metadata with which it was taken in first, which its owner's
// receipt and its package name.
func TestMetadataOfTheFirstTaking(t *testing.T) {
	t.Parallel()
	for name, sealed := range map[string]bool{"waiting": false, "sealed": true} {
		t.Run(name, func(t *testing.T) {
			h, log := openLogged(t)
			ev := h.invoice(t, 1)
			h.settle(t, context.Background(), ev)
			h.await(t, "taken", func() bool { return len(h.units(t, "")) == 1 })
			unit := h.units(t, "")[0].GetName()
			receiptOf(t, h, log, unit)
			if sealed {
				h.awaitSealed(t, h.closePackage(t).GetName())
			}
			const known = `SELECT string_agg(concat_ws('|', u.id, u.state, u.facts, u.created_at, u.package_id, f.ordinal, f.role, encode(f.sha256, 'hex'), f.object_id, f.object_offset), E'\n' ORDER BY f.ordinal) FROM unit u JOIN unit_file f ON f.unit_id = u.id`
			var before, after string
			h.rowsOf(t, known, &before)
			h.forgetAll(t)
			again := proto.CloneOf(ev)
			again.SellerName = "Alfa, come la scrive un'altra versione S.r.l."
			h.takeAgain(t, again, idOf(t, unit))
			h.rowsOf(t, known, &after)
			require.NotEqual(t, before, after)

			_, f := h.runCheck(t, restoreKind, "tenants/acme")
			require.Equal(t, "GOOD", f.Verdict, "%+v", f)
			h.rowsOf(t, known, &after)
			require.Equal(t, before, after)
			h.readable(t)
			_, f = h.runCheck(t, drillKind, "tenants/acme")
			require.Equal(t, "GOOD", f.Verdict, "%+v", f)
			if !sealed {
				h.judge(t, h.awaitSealed(t, h.closePackage(t).GetName()))
			}
			_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{Units: []string{unit}})
			dir, _ := unpack(t, raw)
			said, ok := script(t, dir, filepath.Join(h.dir, "ca.pem"))
			require.True(t, ok, said)
			require.Equal(t, 1, h.counted(t, "bytes_left"), "what the second taking wrote goes with the document")
		})
	}
}

// forgetAll has the database forget what a tenant has in the archive, as if all of it had come after the backup.
func (h *house) forgetAll(t testing.TB) {
	t.Helper()
	h.admin(t, `SET session_replication_role = replica`)
	for _, table := range []string{"search_entry", "search_word", "search_party", "package_term", "unit_file", "unit", "package_revocation", "package", "package_line", "archive_copy", "archive_object"} {
		h.admin(t, `DELETE FROM `+table+` WHERE tenant_id = 'acme'`)
	}
}

// TestSealedTheSecondTime: a document came twice, as above, and is sealed as it came the second time. Its row and its package stay as they are, what
// lies there of the first time is known, and goes with it.
func TestSealedTheSecondTime(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ev := h.old(t, 1, 2010)
	h.settleAll(t, []*invoicev1.InvoiceSettled{ev})
	h.await(t, "taken", func() bool { return len(h.units(t, "")) == 1 })
	unit := h.units(t, "")[0].GetName()
	h.forgetAll(t)
	again := proto.CloneOf(ev)
	again.SellerName = "Zappaterra, come la scrive un'altra versione S.n.c."
	h.takeAgain(t, again, idOf(t, unit))
	pkg := h.closed(t, 2010, "FISC")
	const known = `SELECT string_agg(concat_ws('|', u.id, u.state, u.facts, u.created_at, u.package_id, f.ordinal, f.role, encode(f.sha256, 'hex'), f.object_id, f.object_offset), E'\n' ORDER BY f.ordinal) FROM unit u JOIN unit_file f ON f.unit_id = u.id`
	var before, after string
	h.rowsOf(t, known, &before)
	_, f := h.runCheck(t, restoreKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	h.rowsOf(t, known, &after)
	require.Equal(t, before, after)
	h.readable(t)
	h.judge(t, h.pack(t, pkg))
	h.endTerms(t)
	h.destroy(t, h.release(t, pkg))
	h.nowhereText(t, textOf("1"))
	_, f = h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
}

// TestNumberGivenTwice: a package was sealed, the database was put back without being found out, and another one was closed that has its number. The
// restore tells of the first and makes no row of it; of its documents that are in no other package the rows are there again, and they are sealed; and
// what lies in it goes with the first of them that is destroyed.
func TestNumberGivenTwice(t *testing.T) {
	t.Parallel()
	h, log := openLogged(t)
	ctx := context.Background()
	h.oneEach(t, 2010, 2010)
	units := h.units(t, "")
	require.Len(t, units, 2)
	first := h.closed(t, 2010, "FISC")
	receiptOf(t, h, log, units[0].GetName())
	h.forgetAll(t)
	ev := h.old(t, 1, 2010)
	h.settleAll(t, []*invoicev1.InvoiceSettled{ev})
	h.await(t, "taken", func() bool { return len(h.units(t, "")) == 1 })
	second := h.closed(t, 2010, "FISC")
	require.Equal(t, int32(1), packageRow(t, h, h.pack(t, second)).Number)

	for range 2 {
		_, f := h.runCheck(t, restoreKind, "tenants/acme")
		require.Equal(t, "PROBLEMS", f.Verdict, "%+v", f)
		require.Contains(t, fmt.Sprint(f.Problems), "its row is not made again: number 1 of 2010, FISC is that of "+second)
	}
	_, err := h.client.GetPackage(ctx, &conservationv1.GetPackageRequest{Name: first})
	require.Equal(t, "PACKAGE_NOT_FOUND", code(err))
	h.readable(t)
	h.await(t, "the log goes on", func() bool { return h.counted(t, "log_pending") == 0 })
	third := h.closed(t, 2010, "FISC")
	h.judge(t, h.pack(t, third))
	require.Equal(t, int32(2), packageRow(t, h, h.pack(t, third)).Number)

	h.endTerms(t)
	h.destroy(t, h.release(t, third))
	for i := range h.disks {
		require.NotContains(t, objectsOn(t, h.disks[i]), "tenants/acme/packages/"+lastOf(first)+".zip")
	}
	h.readable(t)
}
