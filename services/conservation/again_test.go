package conservation

import (
	"context"
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
			h.admin(t, `SET session_replication_role = replica`)
			for _, table := range []string{"search_entry", "search_word", "search_party", "package_term", "unit_file", "unit", "package_revocation", "package", "package_line", "archive_copy", "archive_object"} {
				h.admin(t, `DELETE FROM `+table+` WHERE tenant_id = 'acme'`)
			}
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
