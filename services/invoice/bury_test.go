package invoice

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/invoice/internal/db"
)

// TestDestroyedInvoices: when the archive has destroyed an invoice, nothing is left of it here but ids, digests and dates, whoever
// asks for more is told why, and events of it that come late or again change nothing. Others stay as they are.
func TestDestroyedInvoices(t *testing.T) {
	w := start(t)
	buyer := fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(77), Denominazione: "Quintiliano Sesto S.r.l."}
	of := func(number string) []byte { return fileOf(fatturapatest.Options{Numero: number, Cessionario: buyer}) }
	req := &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: of("ZAPPA/77"), ExternalId: "ordine-zappa-77", RequestId: "0192f0a4-7777-7000-8000-000000000077"}
	gone, err := w.api.CreateInvoice(t.Context(), req)
	require.NoError(t, err)
	stays := w.create(of("RESTA/78"))
	j := journeys["private delivered"]
	w.state("acme", w.events(gone, j.facts)...)
	w.state("acme", w.events(stays, j.facts)...)
	for _, inv := range []*invoicev1.Invoice{gone, stays} {
		w.eventually(func() bool { i := w.get(inv.GetName()); return i.GetPackage() != "" && len(i.GetDocuments()) == 3 }, "it is preserved")
	}
	before := w.get(gone.GetName())
	inbound := "tenants/acme/companies/main/inboundInvoices/0192f0a4-7777-7000-8000-000000000078"
	w.state("acme", &sdiv1.InboundInvoiceReceived{InboundInvoice: inbound, SdiId: "99", FileName: "ITZAPPA77_00001.xml", Original: w.blobOf("received", "application/xml"),
		Documents: []*sdiv1.InboundDocument{{Position: 1, Number: "Zappaterra 77"}}})
	settled := func() bool {
		return w.count(`SELECT count(*) FROM event_waiting`)+w.count(`SELECT count(*) FROM outbox`) == 0
	}
	w.eventually(func() bool {
		return w.count(`SELECT count(*) FROM event WHERE type LIKE 'inbound.%'`) == 1 && settled()
	}, "everything is in the log")

	at := time.Date(2037, 2, 3, 4, 5, 6, 0, time.UTC)
	destroyed := &conservationv1.UnitsDestroyed{Disposal: "tenants/acme/disposals/d1", Package: "tenants/acme/packages/p", Time: timestamppb.New(at),
		Subjects: []string{gone.GetName(), inbound, "tenants/acme/deposits/x", "tenants/brio/companies/main/invoices/" + lastPart(stays.GetName())}}
	w.state("acme", destroyed)
	w.eventually(func() bool { return w.get(gone.GetName()).GetDestruction() != nil }, "it is told")
	after := w.get(gone.GetName())
	heard := w.count(`SELECT count(*) FROM inbox`)
	again := proto.CloneOf(destroyed)
	again.Disposal, again.Time = "tenants/acme/disposals/d2", timestamppb.Now()
	w.state("acme", again)
	w.state("acme", w.events(gone, []facts{factRC, factMC, factPreserved})...) // late, and again
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM inbox`) == heard+4 && settled() }, "all events are handled")

	kept := w.get(gone.GetName())
	require.True(t, proto.Equal(after, kept), "what is reduced stays as it is: %s", kept)
	require.Equal(t, "tenants/acme/disposals/d1", kept.GetDestruction().GetDisposal())
	require.Equal(t, at, kept.GetDestruction().GetTime().AsTime())
	require.Equal(t, before.GetState(), kept.GetState())
	require.Equal(t, before.GetSdiId(), kept.GetSdiId())
	require.Equal(t, before.GetPackage(), kept.GetPackage())
	require.Len(t, kept.GetDocuments(), 3)
	for i, d := range kept.GetDocuments() {
		require.Equal(t, before.GetDocuments()[i].GetSha256(), d.GetSha256())
		_, err = w.api.GetDocument(t.Context(), &invoicev1.GetDocumentRequest{Name: d.GetName()})
		requireFault(t, err, "DOCUMENT_DESTROYED", "", "")
		require.ErrorContains(t, err, "2037-02-03T04:05:06Z by tenants/acme/disposals/d1")
	}
	_, err = w.api.RenderInvoice(t.Context(), &invoicev1.RenderInvoiceRequest{Name: gone.GetName()})
	requireFault(t, err, "DOCUMENT_DESTROYED", "", "")
	_, err = w.api.CompareInvoices(t.Context(), &invoicev1.CompareInvoicesRequest{Name: stays.GetName(), Base: gone.GetName()})
	requireFault(t, err, "DOCUMENT_DESTROYED", "", "")
	_, err = w.api.CorrectInvoice(t.Context(), &invoicev1.CorrectInvoiceRequest{Name: gone.GetName(), Content: of("ZAPPA/79")})
	requireFault(t, err, "DOCUMENT_DESTROYED", "", "")
	require.Len(t, readCSV(t, w.export(t, invoicev1.ExportKind_EXPORT_KIND_HEADERS_CSV, "")), 1, "only what stands is exported")

	dump := pgtest.Dump(t, w.DB("invoice"))
	for _, word := range []string{"ZAPPA", "zappa", "Zappaterra", lastPart(req.GetRequestId())} {
		require.NotContains(t, dump, word)
	}
	require.Contains(t, dump, "RESTA/78")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM invoice WHERE buyer_name LIKE 'Quintiliano%'`))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'invoices.destroyed'`))
	w.copiesOf(t, before, stays)
	once, err := w.api.CreateInvoice(t.Context(), req)
	require.NoError(t, err, "its number and its request are free again")
	require.NotEqual(t, gone.GetName(), once.GetName())
}

func lastPart(name string) string { return name[len(name)-36:] }

// copiesOf: what the platform's store has of the destroyed invoice is told, and needed by nobody; what stands needs its own.
func (w *world) copiesOf(t *testing.T, gone, stays *invoicev1.Invoice) {
	t.Helper()
	require.NoError(t, w.DB("invoice").Tx(t.Context(), "acme", func(_ context.Context, tx pgx.Tx) error {
		shared := map[string]bool{}
		for _, inv := range []*invoicev1.Invoice{stays, gone} {
			n, err := parseName(inv.GetName())
			require.NoError(t, err)
			rows, err := q(tx).CopiesOf(t.Context(), db.CopiesOfParams{TenantID: "acme", Ids: []uuid.UUID{n.id}})
			require.NoError(t, err)
			require.Len(t, rows, 3, "original, signed, receipt")
			uris := make([]string, len(rows))
			for i, r := range rows {
				uris[i] = r.Uri
			}
			needs, err := q(tx).NeedsOf(t.Context(), db.NeedsOfParams{TenantID: "acme", Uris: uris})
			require.NoError(t, err)
			if inv == stays {
				require.Len(t, needs, 3)
			}
			for _, n := range needs { // the receipt of both has the same bytes here
				require.True(t, inv == stays || shared[n.Uri], "%s is needed by nobody", n.Uri)
				require.Equal(t, int64(1), n.Others)
				shared[n.Uri] = true
			}
			require.Equal(t, inv == stays, len(needs) == len(rows))
		}
		return nil
	}))
}

// TestDestroyedOfABatch: the archive that invoices were uploaded in is told with each of them that is destroyed, and needed for as
// long as another stands that came in it; files in it that became no invoice need nothing.
func TestDestroyedOfABatch(t *testing.T) {
	w := start(t)
	api := w.batches()
	raw := zipOf(t, zipMember{name: "a.xml", content: file("Z1")}, zipMember{name: "b.xml", content: file("Z2")}, zipMember{name: "no.xml", content: []byte("<no/>")},
		zipMember{name: "again.xml", content: file("Z1")})
	u := w.upload(t, t.Context(), api, invoicev1.BatchKind_BATCH_KIND_CREATE, "0192f0a4-7777-7000-8000-000000000090")
	u.archive(0, raw)
	b := w.ends(api, u.done().GetName())
	require.EqualValues(t, 2, b.GetCreated())
	archive := blob.Of("acme", raw)
	_, err := w.s.blobs.Get(t.Context(), archive)
	require.NoError(t, err, "it lies in the store as it came")
	var ids []uuid.UUID
	for _, f := range w.files(api, b.GetName()) {
		if f.GetState() == created {
			ids = append(ids, uuid.MustParse(lastPart(f.GetInvoice())))
		}
	}
	require.Len(t, ids, 2)
	for i, id := range ids {
		var found, needed int64
		w.state("acme", &conservationv1.UnitsDestroyed{Disposal: "tenants/acme/disposals/d1", Package: "tenants/acme/packages/p", Time: timestamppb.Now(), Part: 1,
			Subjects: []string{acmeMain + "/invoices/" + id.String()}})
		w.eventually(func() bool { return w.get(acmeMain+"/invoices/"+id.String()).GetDestruction() != nil }, "it is told")
		require.NoError(t, w.DB("invoice").Tx(t.Context(), "acme", func(_ context.Context, tx pgx.Tx) error {
			rows, err := q(tx).CopiesOf(t.Context(), db.CopiesOfParams{TenantID: "acme", Ids: []uuid.UUID{id}})
			require.NoError(t, err)
			for _, r := range rows {
				if r.Uri == archive.URI() {
					require.Equal(t, "batch", r.What)
					found++
				}
			}
			needs, err := q(tx).NeedsOf(t.Context(), db.NeedsOfParams{TenantID: "acme", Uris: []string{archive.URI()}})
			require.NoError(t, err)
			for _, n := range needs {
				needed += n.Others
			}
			return nil
		}))
		require.EqualValues(t, 1, found)
		require.EqualValues(t, len(ids)-1-i, needed, "the others that stand")
	}
}
