package invoice

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// received is an invoice that a supplier gave acme.
func received(number string) []byte {
	return fatturapatest.Invoice(fatturapatest.Options{Numero: number, Data: "2019-05-04",
		Cedente:     fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(9), Denominazione: "Fornitore S.p.A."},
		Cessionario: fatturapatest.Party{Paese: "IT", Codice: acmeVAT(), Denominazione: "Acme S.r.l."}})
}

func pdf(n string) []byte { return []byte("%PDF-1.7\n% " + n + "\n%%EOF\n") }

func pdfMetadata(number string) *invoicev1.ImportMetadata {
	return &invoicev1.ImportMetadata{DocumentType: "TD01", Number: number, IssueDate: "2018-12-31", TotalAmount: "122.00",
		Seller: &invoicev1.Party{VatNumber: "IT" + acmeVAT(), DisplayName: "Acme S.r.l."},
		Buyer:  &invoicev1.Party{VatNumber: "DE123456789", DisplayName: "Käufer GmbH"}}
}

// Invoices issued elsewhere go into custody as they came, and nowhere else.
func TestImport(t *testing.T) {
	w := start(t)
	api := w.batches()
	own := fileOf(fatturapatest.Options{Numero: "2017/1", Data: "2017-02-03"})
	for name, tt := range map[string]struct {
		req      *invoicev1.ImportInvoiceRequest
		file     string
		media    string
		received bool
	}{
		"issued":        {&invoicev1.ImportInvoiceRequest{Content: own, FileName: `C:\archivio\vecchia.xml`}, "vecchia.xml", mediaXML, false},
		"received":      {&invoicev1.ImportInvoiceRequest{Content: received("R/1"), FileName: "in/IT99_1"}, "IT99_1.xml", mediaXML, true},
		"pdf":           {&invoicev1.ImportInvoiceRequest{Content: pdf("1"), FileName: "scan.PDF", Metadata: pdfMetadata("1/2018")}, "scan.PDF", mediaPDF, false},
		"without rules": {&invoicev1.ImportInvoiceRequest{Content: []byte(strings.Replace(string(received("R/2")), "<Divisa>EUR</Divisa>", "<Divisa>lire</Divisa>", 1)), FileName: "x.xml"}, "x.xml", mediaXML, true},
	} {
		t.Run(name, func(t *testing.T) {
			tt.req.Parent, tt.req.RequestId, tt.req.ExternalId = acmeMain, uuid.NewString(), "ext"
			inv, err := api.ImportInvoice(t.Context(), tt.req)
			require.NoError(t, err)
			require.Equal(t, invoicev1.InvoiceState_INVOICE_STATE_IMPORTED, inv.GetState())
			require.Len(t, inv.GetDocuments(), 1)
			require.Equal(t, tt.file, inv.GetDocuments()[0].GetFileName())
			require.Equal(t, tt.media, inv.GetDocuments()[0].GetMediaType())
			require.True(t, proto.Equal(inv, w.get(inv.GetName())), "what is stored is what was answered:\n%v\n%v", inv, w.get(inv.GetName()))
			document, err := w.api.GetDocument(t.Context(), &invoicev1.GetDocumentRequest{Name: inv.GetDocuments()[0].GetName()})
			require.NoError(t, err)
			require.Equal(t, tt.req.GetContent(), document.GetContent())
			require.Equal(t, name == "without rules", len(inv.GetViolations()) > 0, "%v", inv.GetViolations())
			for _, v := range inv.GetViolations() {
				require.Equal(t, "warning", v.GetSeverity())
			}

			w.eventually(func() bool { return len(w.settledOf(inv.GetName())) == 1 }, "it goes into custody")
			ev := w.settledOf(inv.GetName())[0]
			require.Equal(t, "INVOICE_STATE_IMPORTED", ev.GetState())
			require.Equal(t, []any{tt.file, tt.received, tt.media}, []any{ev.GetFileName(), ev.GetReceived(), ev.GetTransmitted().GetMediaType()})
			require.Empty(t, ev.GetReceipts())
			w.n.mu.Lock()
			require.NotContains(t, w.n.accepted, inv.GetName(), "nobody signs or sends it")
			w.n.mu.Unlock()
			w.eventually(func() bool {
				log, err := w.api.ListEvents(t.Context(), &invoicev1.ListEventsRequest{Parent: "tenants/acme", Filter: `type = "invoice.imported" AND invoice = "` + inv.GetName() + `"`})
				require.NoError(t, err)
				return len(log.GetEvents()) == 1
			}, "the log has it once")

			again, err := api.ImportInvoice(t.Context(), tt.req)
			require.NoError(t, err)
			require.Equal(t, inv.GetName(), again.GetName(), "a repeat gives the same invoice")
			other := proto.CloneOf(tt.req)
			other.ExternalId = "other"
			_, err = api.ImportInvoice(t.Context(), other)
			requireFault(t, err, "REQUEST_ID_REUSED", "request_id", "REUSED")
			other.RequestId = ""
			_, err = api.ImportInvoice(t.Context(), other)
			requireFault(t, err, "INVOICE_DUPLICATE", "content", "00404")
		})
	}
	_, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: own})
	requireFault(t, err, "INVOICE_DUPLICATE", "content", "00404")
	// Acme may give its own invoice the number that a supplier gave his.
	w.create(fileOf(fatturapatest.Options{Numero: "R/1", Data: "2026-03-16"}))
}

func TestImportState(t *testing.T) {
	require.Equal(t, invoicev1.InvoiceState_INVOICE_STATE_IMPORTED, stateOf(factImported|factInCustody|factPreserved, false))
	require.False(t, freesNumbers(factImported|factInCustody|factPreserved))
	require.False(t, settles(factImported|factInCustody, false), "it settled when it was taken in")
}

func TestBadImports(t *testing.T) {
	w := start(t)
	api := w.batches()
	foreign := fatturapatest.Invoice(fatturapatest.Options{Numero: "1", Cedente: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(50), Denominazione: "A"}})
	change := func(f func(m *invoicev1.ImportMetadata)) *invoicev1.ImportMetadata {
		m := pdfMetadata("1")
		f(m)
		return m
	}
	for name, tt := range map[string]struct {
		content  []byte
		metadata *invoicev1.ImportMetadata
		code     string
	}{
		"neither party":         {foreign, nil, "PARTY_MISMATCH"},
		"pdf without metadata":  {pdf("1"), nil, "METADATA_REQUIRED"},
		"xml with metadata":     {received("1"), pdfMetadata("1"), "METADATA_UNEXPECTED"},
		"no invoice":            {[]byte("<html/>"), nil, "INVOICE_UNREADABLE"},
		"broken envelope":       {[]byte(base64.StdEncoding.EncodeToString([]byte("\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02 nonsense that goes on for a while, long enough to be looked at"))), nil, "INVOICE_UNREADABLE"},
		"too large":             {append(pdf("1"), make([]byte, maxPDF)...), pdfMetadata("1"), "INVOICE_TOO_LARGE"},
		"no date":               {pdf("1"), change(func(m *invoicev1.ImportMetadata) { m.IssueDate = "2018-02-31" }), "METADATA_INVALID"},
		"long ago":              {pdf("1"), change(func(m *invoicev1.ImportMetadata) { m.IssueDate = "1999-12-31" }), "DATE_OUT_OF_RANGE"},
		"nobody issued it":      {pdf("1"), change(func(m *invoicev1.ImportMetadata) { m.Seller = &invoicev1.Party{} }), "METADATA_INVALID"},
		"pdf of somebody else":  {pdf("1"), change(func(m *invoicev1.ImportMetadata) { m.Seller.VatNumber = "IT" + fatturapatest.VATNumber(60) }), "PARTY_MISMATCH"},
		"control characters":    {pdf("1"), change(func(m *invoicev1.ImportMetadata) { m.Buyer.DisplayName = "a\x00b" }), "REQUEST_INVALID"},
		"metadata without type": {pdf("1"), change(func(m *invoicev1.ImportMetadata) { m.DocumentType = "invoice" }), "REQUEST_INVALID"},
	} {
		_, err := api.ImportInvoice(t.Context(), &invoicev1.ImportInvoiceRequest{Parent: acmeMain, Content: tt.content, Metadata: tt.metadata})
		requireFault(t, err, tt.code, "", "")
		require.NotEmpty(t, name)
	}
	require.Zero(t, w.count(`SELECT count(*) FROM invoice`))
}

func TestBatchImport(t *testing.T) {
	w := start(t)
	api := w.batches()
	u := w.upload(t, t.Context(), api, invoicev1.BatchKind_BATCH_KIND_IMPORT, uuid.NewString())
	u.archive(0, zipOf(t,
		zipMember{"2019/in.xml", received("1"), nil},
		zipMember{"2019/in.again.xml", received("1"), nil},
		zipMember{"2019/out.xml", file("1"), nil},
		zipMember{"2019/scan.pdf", pdf("1"), nil},
	))
	b := w.ends(api, u.done().GetName())
	files := w.files(api, b.GetName())
	require.Equal(t, []invoicev1.BatchFileState{created, duplicate, created, refused},
		[]invoicev1.BatchFileState{files[0].GetState(), files[1].GetState(), files[2].GetState(), files[3].GetState()}, "%v", files)
	require.Equal(t, "METADATA_REQUIRED", files[3].GetCode())
	for _, i := range []int{0, 2} {
		inv := w.get(files[i].GetInvoice())
		require.Equal(t, invoicev1.InvoiceState_INVOICE_STATE_IMPORTED, inv.GetState())
		require.Equal(t, []string{"in.xml", "", "out.xml"}[i], inv.GetDocuments()[0].GetFileName())
		w.eventually(func() bool { return len(w.settledOf(inv.GetName())) == 1 }, "it goes into custody")
	}
}
