package sdigateway_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
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
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// destroyed plays the archive: it says that units about these subjects were destroyed.
func (b *bundle) destroyed(t *testing.T, tenant, disposal string, at time.Time, subjects ...string) {
	t.Helper()
	owner := b.Host("invoice")
	require.NoError(t, owner.DB.Tx(bus.WithCorrelation(context.Background(), disposal), tenant, func(ctx context.Context, tx pgx.Tx) error {
		return owner.Bus.Emit(ctx, tx, &conservationv1.UnitsDestroyed{Disposal: "tenants/" + tenant + "/disposals/" + disposal,
			Package: "tenants/" + tenant + "/packages/p1", Subjects: subjects, Time: timestamppb.New(at), Part: 1})
	}))
}

// TestDestroyedDocuments: when the archive has destroyed invoices, sent or received, nothing is left of them here but ids, digests,
// times and states; whoever asks for more is told why; others, and those of other tenants, stay as they are.
func TestDestroyedDocuments(t *testing.T) {
	t.Parallel()
	r := setupReceiver(t)
	key, err := os.ReadFile(filepath.Join(r.certs, "operator.key"))
	require.NoError(t, err)
	r.api = sdiv1.NewSdiServiceClient(r.DialKey("sdi-gateway", string(key)))
	delivered := func(number string) (invoice string, sent *sdiv1.Transmission) {
		invoice = r.accept(t, "FPR12", "SBXRC00", number)
		eventually(t, "RC", func() (bool, string) {
			list, err := r.api.ListTransmissions(t.Context(), &sdiv1.ListTransmissionsRequest{Parent: "tenants/t1", Invoice: invoice})
			require.NoError(t, err)
			done := len(list.GetTransmissions()) == 1 && len(list.GetTransmissions()[0].GetMessages()) == 1
			return done && r.count(t, `SELECT count(*) FROM river_job WHERE kind LIKE 'sdi_transmit%' AND finalized_at IS NULL`) == 0, list.String() // the answer is recorded too
		})
		return invoice, r.transmission(t, invoice)
	}
	goneInvoice, before := delivered("77")
	standing, stays := delivered("78")
	in := r.file(t, r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{BuyerVAT: vat(1), Number: "ZAPPA77"}}).ID, 1)
	inStays := r.file(t, r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{BuyerVAT: vat(1), Number: "RESTA78"}}).ID, 1)
	asked, _ := r.received(t, "ZAPPA79", 1)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: asked, Kind: refused, Cause: cigCup, Description: "la Zappaterra ha scritto altro"})
	require.NoError(t, err)
	public := r.settled(t, asked)
	for _, word := range []string{"ZAPPA77", "Zappaterra", before.GetFileName(), in.GetFileName()} {
		require.Contains(t, pgtest.Dump(t, r.DB("sdi-gateway")), word)
	}

	at := time.Date(2037, 2, 3, 4, 5, 6, 0, time.UTC)
	r.destroyed(t, "t1", "d1", at, goneInvoice, in.GetName(), "tenants/t1/deposits/x", "tenants/t1/mailboxes/"+uuid.NewString()+"/days/2026-01-01",
		strings.Replace(inStays.GetName(), "tenants/t1/", "tenants/t2/", 1))
	r.destroyed(t, "t2", "d2", at, asked, strings.Replace(standing, "tenants/t1/", "tenants/t2/", 1), "tenants/t2/companies/rossi/inboundInvoices/"+path.Base(inStays.GetName()))
	inbound := func(name string) *sdiv1.InboundInvoice {
		f, err := r.inbound.GetInboundInvoice(t.Context(), &sdiv1.GetInboundInvoiceRequest{Name: name})
		require.NoError(t, err)
		return f
	}
	eventually(t, "told", func() (bool, string) {
		return inbound(in.GetName()).GetDestruction() != nil && inbound(asked).GetDestruction() != nil, ""
	})
	after := r.transmission(t, goneInvoice)
	r.destroyed(t, "t1", "d3", time.Now(), goneInvoice, in.GetName())
	eventually(t, "told again", func() (bool, string) {
		return r.count(t, `SELECT count(*) FROM inbox WHERE consumer = 'destroyed'`) == 3, ""
	})
	eventually(t, "supports are looked through", func() (bool, string) {
		return r.count(t, `SELECT count(*) FROM river_job WHERE kind = 'bury-supports' AND state = 'completed'`) == 2, ""
	})

	require.True(t, proto.Equal(after, r.transmission(t, goneInvoice)), "what is reduced stays as it is")
	require.Equal(t, "tenants/t1/disposals/d1", after.GetDestruction().GetDisposal())
	require.Equal(t, at, after.GetDestruction().GetTime().AsTime())
	require.Equal(t, before.GetSdiId(), after.GetSdiId())
	require.Equal(t, before.GetState(), after.GetState())
	require.Empty(t, after.GetFileName()+after.GetMessages()[0].GetFileName())
	require.Equal(t, before.GetMessages()[0].GetContent().GetSha256(), after.GetMessages()[0].GetContent().GetSha256())
	require.True(t, proto.Equal(stays, r.transmission(t, standing)))
	require.True(t, proto.Equal(inStays, inbound(inStays.GetName())))
	for _, was := range []*sdiv1.InboundInvoice{in, public} {
		left := inbound(was.GetName())
		require.Equal(t, was.GetState(), left.GetState())
		require.Equal(t, was.GetOriginal().GetSha256(), left.GetOriginal().GetSha256())
		require.Len(t, left.GetBodies(), 1)
		require.Empty(t, left.GetBodies()[0].GetNumber()+left.GetBodies()[0].GetTotal()+left.GetSeller().GetName()+left.GetBuyer().GetVatNumber()+left.GetFileName())
		for _, kind := range []sdiv1.InboundDocumentKind{0, sdiv1.InboundDocumentKind_INBOUND_DOCUMENT_KIND_METADATA, sdiv1.InboundDocumentKind_INBOUND_DOCUMENT_KIND_CONTENT} {
			_, err = r.inbound.GetInboundDocument(t.Context(), &sdiv1.GetInboundDocumentRequest{Name: was.GetName(), Kind: kind})
			require.Equal(t, "DOCUMENT_DESTROYED", code(t, err))
			require.ErrorContains(t, err, "2037-02-03T04:05:06Z by tenants/")
		}
	}
	dump := pgtest.Dump(t, r.DB("sdi-gateway"))
	for _, word := range []string{"ZAPPA7", "Zappaterra", before.GetFileName(), strings.TrimSuffix(in.GetFileName(), ".xml"), public.GetFileName()} {
		require.NotContains(t, dump, word)
	}
	require.Contains(t, dump, "RESTA78")
	require.Contains(t, dump, stays.GetFileName())

	require.NoError(t, r.DB("sdi-gateway").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		for invoice, stands := range map[string]bool{goneInvoice: false, standing: true} {
			rows, err := q.CopiesOfSent(ctx, db.CopiesOfSentParams{TenantID: "t1", Invoices: []string{invoice}})
			require.NoError(t, err)
			require.Len(t, rows, 2, "the file and its receipt")
			needs, err := q.NeedsOf(ctx, []string{rows[0].Uri, rows[1].Uri})
			require.NoError(t, err)
			require.Equal(t, stands, len(needs) == 2)
			require.Equal(t, stands, len(needs) > 0, "what was destroyed needs nothing")
		}
		for f, stands := range map[*sdiv1.InboundInvoice]bool{in: false, inStays: true} {
			rows, err := q.CopiesOfReceived(ctx, db.CopiesOfReceivedParams{TenantID: "t1", Ids: []uuid.UUID{uuid.MustParse(path.Base(f.GetName()))}})
			require.NoError(t, err)
			var uris []string
			for _, row := range rows {
				uris = append(uris, row.Uri)
			}
			require.GreaterOrEqual(t, len(uris), 2, "the file and its metadata")
			needs, err := q.NeedsOf(ctx, uris)
			require.NoError(t, err)
			require.Equal(t, stands, len(needs) > 0)
		}
		return nil
	}))
}

// TestSupportsOfDestroyed: the supports of SDIFTP that carried a destroyed invoice and its receipt are told with it, and stay for as
// long as one of the documents in them stands, whoever's it is.
func TestSupportsOfDestroyed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := setup(t, sftpLines(t, "SDIFTP", "gather_for: 1h, support_files: 2"))
	invoices := map[string]string{}
	for _, tenant := range []string{"t1", "t2"} {
		content := fatturapatest.Invoice(fatturapatest.Options{CodiceDestinatario: "SBXRC00", Numero: "S-" + tenant})
		owner := b.Host("invoice")
		ref, err := owner.Blobs.Put(ctx, tenant, content)
		require.NoError(t, err)
		invoices[tenant] = "tenants/" + tenant + "/companies/c1/invoices/" + uuid.NewString()
		require.NoError(t, owner.DB.Tx(bus.WithCorrelation(ctx, path.Base(invoices[tenant])), tenant, func(ctx context.Context, tx pgx.Tx) error {
			return owner.Bus.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: invoices[tenant], Format: "FPR12", RecipientCode: "SBXRC00",
				Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/xml"}})
		}))
	}
	eventually(t, "both delivered", func() (bool, string) {
		n := b.count(t, `SELECT count(*) FROM transmission WHERE state = 'DELIVERED'`)
		return n == 2, fmt.Sprint(n)
	})
	require.Equal(t, 1, b.count(t, `SELECT count(DISTINCT support_id) FROM support_file`), "one support carried both")

	b.destroyed(t, "t1", "d1", time.Now(), invoices["t1"])
	found := map[string]string{}
	for _, c := range answer[*conservationv1.CopiesFound](t, b).GetCopies() {
		found[c.GetUri()] = c.GetWhat()
		ref, err := blob.ParseURI(c.GetUri())
		require.NoError(t, err)
		_, err = b.Host("invoice").Blobs.Get(ctx, ref)
		require.NoError(t, err, "the bytes are there: %s", c.GetWhat())
	}
	counts := map[string]int{}
	for _, what := range found {
		counts[what]++
	}
	require.GreaterOrEqual(t, counts["support"], 2, "the one that carried the file, and the one that brought its receipt: %v", counts)
	require.Equal(t, []int{1, 1}, []int{counts["sent"], counts["receipt"]})

	round := int32(0)
	needed := func() map[string]int64 {
		round++
		owner := b.Host("invoice")
		require.NoError(t, owner.DB.Tx(ctx, "t1", func(ctx context.Context, tx pgx.Tx) error {
			return owner.Bus.Emit(ctx, tx, &conservationv1.CopiesCondemned{Disposal: "tenants/t1/disposals/d1", Package: "tenants/t1/packages/p1", Round: round, Part: 1,
				Uris: slices.Sorted(maps.Keys(found))})
		}))
		got := map[string]int64{}
		for _, c := range answer[*conservationv1.CopiesNeeded](t, b).GetCopies() {
			require.Equal(t, "support", found[c.GetUri()], "nothing else of it is needed")
			got[c.GetUri()] = c.GetOthers()
		}
		return got
	}
	var carrier string
	require.NoError(t, b.DB("sdi-gateway").System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT DISTINCT s.file_uri FROM support s JOIN support_file f ON f.support_id = s.id`).Scan(&carrier)
	}))
	require.Equal(t, int64(1), needed()[carrier], "the other tenant's invoice left in it")
	b.destroyed(t, "t2", "d2", time.Now(), invoices["t2"])
	require.Contains(t, answer[*conservationv1.CopiesFound](t, b).String(), carrier, "the later disposal finds it again")
	require.Empty(t, needed(), "with the last of them it goes")
}

// answer waits for what the gateway answers to the archive.
func answer[E proto.Message](t *testing.T, b *bundle) E {
	t.Helper()
	for {
		if ev, ok := b.await(t).(E); ok {
			return ev
		}
	}
}
