package invoice

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
)

func TestCreateInvoice(t *testing.T) {
	w := start(t)
	content := fileOf(fatturapatest.Options{Numero: "7/A", Bodies: 2, CodiceDestinatario: "ABCDEF1"})
	inv, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: content, ExternalId: "order 9"})
	require.NoError(t, err)
	require.Equal(t, invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED, inv.GetState())
	require.Equal(t, "FPR12 ABCDEF1 order 9", inv.GetFormat()+" "+inv.GetRecipientCode()+" "+inv.GetExternalId())
	require.Equal(t, "IT"+acmeVAT(), inv.GetSeller().GetVatNumber())
	require.Equal(t, "7/A", inv.GetBodies()[0].GetNumber())
	require.Len(t, inv.GetBodies(), 2)
	require.NotEmpty(t, inv.GetBodies()[0].GetTotalAmount())
	require.Len(t, inv.GetTraceId(), 32)
	require.True(t, proto.Equal(inv, w.get(inv.GetName())), "read back as answered")

	sum := sha256.Sum256(content)
	doc, err := w.api.GetDocument(t.Context(), &invoicev1.GetDocumentRequest{Name: inv.GetDocuments()[0].GetName()})
	require.NoError(t, err)
	require.Equal(t, content, doc.GetContent())
	require.Equal(t, sum[:], doc.GetDocument().GetSha256())
	require.True(t, proto.Equal(inv.GetDocuments()[0], doc.GetDocument()))

	w.eventually(func() bool { w.n.mu.Lock(); defer w.n.mu.Unlock(); return w.n.accepted[inv.GetName()] != nil }, "the fact is stated")
	w.n.mu.Lock()
	ev, env := w.n.accepted[inv.GetName()], w.n.envelopes[inv.GetName()]
	w.n.mu.Unlock()
	require.False(t, ev.GetSign(), "policy AUTO leaves FPR12 unsigned")
	require.Equal(t, sum[:], ev.GetOriginal().GetSha256())
	require.Equal(t, "acme", env.Tenant)
	require.True(t, strings.HasSuffix(inv.GetName(), "/"+env.Correlation), "correlated by the id of the invoice")
	require.Contains(t, env.Trace, inv.GetTraceId())
	require.Equal(t, 2, w.count(`SELECT count(*) FROM held_number`))

	// The first line of the log is the same fact, with the id of the event.
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM event`) == 1 }, "the event has its place")
	log, err := w.api.ListEvents(t.Context(), &invoicev1.ListEventsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, log.GetEvents(), 1)
	require.Equal(t, "tenants/acme/events/"+env.ID, log.GetEvents()[0].GetName())
	require.Equal(t, "invoice.accepted", log.GetEvents()[0].GetType())
}

func TestValidateOnlyStoresNothing(t *testing.T) {
	w := start(t)
	inv, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("1"), ValidateOnly: true})
	require.NoError(t, err)
	require.Empty(t, inv.GetName())
	require.Equal(t, "1", inv.GetBodies()[0].GetNumber())
	w.nothingBehind()
}

// nothingBehind: no row in any table of the service, no blob.
func (w *world) nothingBehind() {
	w.t.Helper()
	for _, table := range []string{"invoice", "held_number", "document", "event_waiting", "event", "event_head", "request_log", "outbox"} {
		require.Zero(w.t, w.count(`SELECT count(*) FROM `+table), table)
	}
	blobs := filepath.Join(filepath.Dir(filepath.Dir(w.Files().CA)), "blobs")
	require.NoError(w.t, filepath.WalkDir(blobs, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "acme") {
			return fmt.Errorf("%s was left behind", path)
		}
		return err
	}))
}

func TestBadInput(t *testing.T) {
	w := start(t)
	good := file("1")
	replace := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	head := []byte("<?xml version=\"1.0\"?>\n")
	body := good[bytes.Index(good, []byte("?>"))+2:]
	bomb := append(append(append([]byte(nil), head...),
		`<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>`...), body...)
	for name, c := range map[string]struct {
		parent        string
		content       []byte
		code, reason  string
		says          string
		kind          fault.Kind
		fieldIsParent bool
	}{
		"no XML":           {content: []byte("Fattura n. 1"), code: "INVOICE_UNREADABLE", reason: "NOT_XML", says: "must be an XML invoice"},
		"JSON":             {content: []byte(`{"a":1}`), code: "INVOICE_UNREADABLE", reason: "NOT_XML", says: "JSON"},
		"PDF":              {content: []byte("%PDF-1.7"), code: "INVOICE_UNREADABLE", reason: "NOT_XML", says: "PDF"},
		"white space":      {content: []byte("  \n"), code: "INVOICE_UNREADABLE", reason: "EMPTY"},
		"truncated":        {content: good[:len(good)/2], code: "INVOICE_UNREADABLE", reason: "TRUNCATED", says: "export it again"},
		"DTD":              {content: bomb, code: "INVOICE_UNREADABLE", reason: "DTD", says: "remove the DOCTYPE"},
		"entity":           {content: replace("Acme S.r.l.", "Acme &copy;"), code: "INVOICE_UNREADABLE", reason: "ENTITY", says: "line"},
		"wrong root":       {content: []byte(`<Fattura xmlns="http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"/>`), code: "INVOICE_UNREADABLE", reason: "WRONG_ROOT"},
		"wrong namespace":  {content: replace("docs/xsd/fatture/v1.2", "docs/xsd/fatture/v9.9"), code: "INVOICE_UNREADABLE", reason: "NAMESPACE", says: "v1.2"},
		"enveloped":        {content: []byte("\x30\x82\x01\x00\x06\x09"), code: "INVOICE_UNREADABLE", reason: "ENVELOPED", says: "signature envelope"},
		"6 MB":             {content: bytes.Repeat([]byte("<a>aaaaa</a>"), 500_000), code: "INVOICE_TOO_LARGE", reason: "00003", says: "6000000 bytes"},
		"unknown element":  {content: replace("<Numero>1</Numero>", "<Numero>1</Numero><Colore>blu</Colore>"), code: "INVOICE_INVALID", reason: "00200", says: "Colore"},
		"empty number":     {content: replace("<Numero>1</Numero>", "<Numero></Numero>"), code: "INVOICE_INVALID", reason: "00200", says: "Numero"},
		"no such date":     {content: replace("2026-03-16", "2026-02-30"), code: "INVOICE_INVALID", reason: "00200", says: "2026-02-30"},
		"wrong sum":        {content: regexp.MustCompile(`<PrezzoTotale>[^<]*<`).ReplaceAll(good, []byte("<PrezzoTotale>999.00<")), code: "INVOICE_INVALID", reason: "00423", says: "line"},
		"future date":      {content: replace("2026-03-16", "2099-03-16"), code: "INVOICE_INVALID", reason: "00403", says: "2099-03-16"},
		"foreign seller":   {content: fatturapatest.Invoice(fatturapatest.Options{}), code: "SELLER_MISMATCH", reason: "SELLER_MISMATCH", says: "IT" + acmeVAT()},
		"unsigned FPA12":   {parent: "tenants/acme/companies/unsigned", content: fatturapatest.Invoice(fatturapatest.Options{Formato: "FPA12", Cedente: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(2), Denominazione: "x"}}), code: "SIGNATURE_REQUIRED", reason: "SIGNATURE_REQUIRED", says: "set it to AUTO or ALWAYS", kind: fault.KindPrecondition},
		"no content":       {content: nil, code: "REQUEST_INVALID", says: "content"},
		"unknown company":  {parent: "tenants/acme/companies/nobody", content: good, code: "COMPANY_NOT_FOUND", kind: fault.KindNotFound},
		"foreign tenant":   {parent: brioMain, content: good, code: "FOREIGN_RESOURCE", kind: fault.KindDenied},
		"malformed parent": {parent: "tenants/acme", content: good, code: "REQUEST_INVALID"},
	} {
		parent := c.parent
		if parent == "" {
			parent = acmeMain
		}
		_, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: parent, Content: c.content, RequestId: uuid.NewString()})
		f := fault.Of(err)
		require.NotNil(t, f, name)
		require.Equal(t, c.code, f.Code, "%s: %v", name, err)
		if c.kind == 0 {
			c.kind = fault.KindInvalid
		}
		require.Equal(t, c.kind, f.Kind, name)
		if c.reason != "" {
			require.Equal(t, "content", f.Fields[0].Path, name)
			require.Equal(t, c.reason, f.Fields[0].Code, "%s: %v", name, err)
		}
		require.Contains(t, f.Message+" "+fmt.Sprint(f.Fields), c.says, name)
	}
	w.nothingBehind()
}

func TestSelfIssuedDocumentBelongsToTheBuyer(t *testing.T) {
	w := start(t)
	us := fatturapatest.Party{Paese: "IT", Codice: acmeVAT(), Denominazione: "Acme"}
	them := fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(9), Denominazione: "Altri"}
	inv := w.create(fatturapatest.Invoice(fatturapatest.Options{TipoDocumento: "TD16", Cedente: them, Cessionario: us, Collegata: "2026-03-01"}))
	require.Equal(t, "IT"+acmeVAT(), inv.GetBuyer().GetVatNumber())
	require.Equal(t, 1, w.count(`SELECT count(*) FROM held_number WHERE issuer = $1 AND series = 'S'`, "IT"+acmeVAT()))
	_, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain,
		Content: fatturapatest.Invoice(fatturapatest.Options{Cedente: them, Cessionario: us})})
	requireFault(t, err, "SELLER_MISMATCH", "content", "SELLER_MISMATCH")
}

func TestSignatureFollowsThePolicy(t *testing.T) {
	w := start(t)
	signs := func(parent string, o fatturapatest.Options) bool {
		inv, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: parent, Content: fileOf(o)})
		require.NoError(t, err)
		w.eventually(func() bool { w.n.mu.Lock(); defer w.n.mu.Unlock(); return w.n.accepted[inv.GetName()] != nil }, "accepted")
		w.n.mu.Lock()
		defer w.n.mu.Unlock()
		return w.n.accepted[inv.GetName()].GetSign()
	}
	require.False(t, signs(acmeMain, fatturapatest.Options{Numero: "1"}))
	require.True(t, signs(acmeMain, fatturapatest.Options{Numero: "2", Formato: "FPA12"}))
	require.True(t, signs("tenants/acme/companies/twin", fatturapatest.Options{Numero: "3"}))
	require.False(t, signs("tenants/acme/companies/unsigned", fatturapatest.Options{Numero: "4",
		Cedente: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(2), Denominazione: "x"}}))
}

func TestRepeatedRequestMakesOneInvoice(t *testing.T) {
	w := start(t)
	req := &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("1"), RequestId: uuid.NewString()}
	const n = 100
	answers, errs := make([]*invoicev1.Invoice, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i], errs[i] = w.api.CreateInvoice(t.Context(), req) })
	}
	wg.Wait()
	for i := range n {
		require.NoError(t, errs[i])
		require.True(t, proto.Equal(answers[0], answers[i]), "%v and %v", answers[0], answers[i])
	}
	require.Equal(t, 1, w.count(`SELECT count(*) FROM invoice`))
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM event`) == 1 }, "one event")

	// Later, when the invoice has moved on, the first answer is still the answer.
	w.state("acme", &sdiv1.TransmissionFailed{Invoice: answers[0].GetName(), Code: "EI03", Message: "not enabled"})
	moved := w.becomes(answers[0].GetName(), invoicev1.InvoiceState_INVOICE_STATE_FAILED)
	require.Equal(t, "EI03: not enabled", moved.GetFailure())
	again, err := w.api.CreateInvoice(t.Context(), req)
	require.NoError(t, err)
	require.True(t, proto.Equal(answers[0], again), "%v and %v", answers[0], again)

	_, err = w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("2"), RequestId: req.GetRequestId()})
	requireFault(t, err, "REQUEST_ID_REUSED", "request_id", "REUSED")
	require.Equal(t, fault.KindConflict, fault.Of(err).Kind)
	require.Contains(t, err.Error(), answers[0].GetName())
	require.Equal(t, 1, w.count(`SELECT count(*) FROM invoice`))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM held_number`))
}

func TestOneNumberOneInvoice(t *testing.T) {
	w := start(t)
	const n = 50
	names, errs := make([]*invoicev1.Invoice, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			content := fileOf(fatturapatest.Options{Numero: "1", Progressivo: fmt.Sprintf("%05d", i)})
			names[i], errs[i] = w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: content, RequestId: uuid.NewString()})
		})
	}
	wg.Wait()
	var winner string
	for i := range n {
		if errs[i] == nil {
			require.Empty(t, winner, "two were accepted")
			winner = names[i].GetName()
		}
	}
	require.NotEmpty(t, winner)
	for i := range n {
		if errs[i] != nil {
			requireFault(t, errs[i], "INVOICE_DUPLICATE", "content", "00404")
			require.Contains(t, errs[i].Error(), winner)
		}
	}
	require.Equal(t, 1, w.count(`SELECT count(*) FROM invoice`))
	blobs := filepath.Join(filepath.Dir(filepath.Dir(w.Files().CA)), "blobs")
	files := 0
	require.NoError(t, filepath.WalkDir(blobs, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, "acme") {
			files++
		}
		return err
	}))
	require.Equal(t, 1, files, "no duplicate left its bytes behind")

	// What SdI counts apart is apart here too.
	w.create(fileOf(fatturapatest.Options{Numero: "1", TipoDocumento: "TD04"}))
	w.create(fileOf(fatturapatest.Options{Numero: "1", Data: "2025-03-16"}))
	// A lot whose second document repeats a number is refused as a whole.
	_, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain,
		Content: bytes.Replace(fileOf(fatturapatest.Options{Numero: "8", Bodies: 2}), []byte("<Numero>8/2<"), []byte("<Numero>1<"), 1)})
	requireFault(t, err, "INVOICE_DUPLICATE", "content", "00404")
	require.Equal(t, 3, w.count(`SELECT count(*) FROM held_number`))
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	w := start(t)
	inv := w.create(file("1"))
	brio := invoicev1.NewInvoiceServiceClient(w.Tenant("invoice", "brio"))
	_, err := brio.GetInvoice(t.Context(), &invoicev1.GetInvoiceRequest{Name: inv.GetName()})
	requireFault(t, err, "FOREIGN_RESOURCE", "", "")
	_, err = brio.GetDocument(t.Context(), &invoicev1.GetDocumentRequest{Name: inv.GetDocuments()[0].GetName()})
	requireFault(t, err, "FOREIGN_RESOURCE", "", "")
	// Its own name around a foreign id finds nothing.
	_, err = brio.GetInvoice(t.Context(), &invoicev1.GetInvoiceRequest{Name: strings.Replace(inv.GetName(), "tenants/acme", "tenants/brio", 1)})
	requireFault(t, err, "INVOICE_NOT_FOUND", "", "")
	list, err := brio.ListInvoices(t.Context(), &invoicev1.ListInvoicesRequest{Parent: "tenants/brio/companies/-"})
	require.NoError(t, err)
	require.Empty(t, list.GetInvoices())
	events, err := brio.ListEvents(t.Context(), &invoicev1.ListEventsRequest{Parent: "tenants/brio"})
	require.NoError(t, err)
	require.Empty(t, events.GetEvents())
	reader := invoicev1.NewInvoiceServiceClient(w.Tenant("invoice", "acme", "invoices.read"))
	_, err = reader.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("2")})
	requireFault(t, err, "SCOPE_MISSING", "", "")

	w.eventually(func() bool { return w.count(`SELECT count(*) FROM event`) == 1 }, "the event has its place")
	for _, table := range []string{"invoice", "held_number", "document", "event", "event_head"} {
		err = w.DB("invoice").Tx(t.Context(), "brio", func(ctx context.Context, tx pgx.Tx) error {
			var n int
			err := tx.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n)
			require.Zero(t, n, table)
			return err
		})
		require.NoError(t, err)
		require.Positive(t, w.count(`SELECT count(*) FROM `+table), table)
	}
	err = w.DB("invoice").Tx(t.Context(), "brio", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO held_number VALUES ('acme', 'IT1', 2026, 'I', '1', $1)`, uuid.New())
		return err
	})
	require.Equal(t, "DATABASE_DENIED", fault.Of(err).Code)
}

func TestListInvoices(t *testing.T) {
	w := start(t)
	var made []string
	for i := range 5 {
		made = append([]string{w.create(file(fmt.Sprint(i + 1))).GetName()}, made...)
	}
	page := func(req *invoicev1.ListInvoicesRequest) (names []string) {
		for {
			resp, err := w.api.ListInvoices(t.Context(), req)
			require.NoError(t, err)
			for _, inv := range resp.GetInvoices() {
				names = append(names, inv.GetName())
				require.Len(t, inv.GetDocuments(), 1)
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				return names
			}
		}
	}
	require.Equal(t, made, page(&invoicev1.ListInvoicesRequest{Parent: acmeMain, PageSize: 2}))
	require.Equal(t, made, page(&invoicev1.ListInvoicesRequest{Parent: "tenants/acme/companies/-", PageSize: 5}))
	require.Empty(t, page(&invoicev1.ListInvoicesRequest{Parent: "tenants/acme/companies/twin"}))
	require.Equal(t, made[4:], page(&invoicev1.ListInvoicesRequest{Parent: acmeMain, Filter: `number = "1"`}))
	require.Equal(t, made, page(&invoicev1.ListInvoicesRequest{Parent: acmeMain, Filter: `state = ACCEPTED AND issue_date = 2026-03-16 AND create_time > 2020-01-01T00:00:00Z`}))
	require.Empty(t, page(&invoicev1.ListInvoicesRequest{Parent: acmeMain, Filter: `state != ACCEPTED`}))
	require.Empty(t, page(&invoicev1.ListInvoicesRequest{Parent: acmeMain, Filter: `state = DELIVERED AND state = REJECTED`}))
	require.Empty(t, page(&invoicev1.ListInvoicesRequest{Parent: acmeMain, Filter: `issue_date < 2026-03-16`}))

	first, err := w.api.ListInvoices(t.Context(), &invoicev1.ListInvoicesRequest{Parent: acmeMain, PageSize: 2})
	require.NoError(t, err)
	_, err = w.api.ListInvoices(t.Context(), &invoicev1.ListInvoicesRequest{Parent: acmeMain, PageToken: first.GetNextPageToken(), Filter: "number = 1"})
	requireFault(t, err, "PAGE_TOKEN_INVALID", "page_token", "PAGE_TOKEN_INVALID")
	_, err = w.api.ListInvoices(t.Context(), &invoicev1.ListInvoicesRequest{Parent: acmeMain, Filter: "number ~ 1"})
	requireFault(t, err, "FILTER_INVALID", "filter", "FILTER_INVALID")
	_, err = w.api.GetInvoice(t.Context(), &invoicev1.GetInvoiceRequest{Name: acmeMain + "/invoices/7"})
	requireFault(t, err, "INVOICE_NOT_FOUND", "", "")
	_, err = w.api.GetDocument(t.Context(), &invoicev1.GetDocumentRequest{Name: made[0] + "/documents/signed"})
	requireFault(t, err, "DOCUMENT_NOT_FOUND", "", "")
}
