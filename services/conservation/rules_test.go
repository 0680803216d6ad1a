package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/pdd"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// Test38_SwappedPackage puts a whole, valid package in the place of another: one of the same tenant, and one of another tenant. On one disk
// the other one mends it. Where an operator swaps both and mends his rows too, the log contradicts him, and so does the owner's receipt.
func Test38_SwappedPackage(t *testing.T) {
	t.Parallel()
	for _, of := range []string{"acme", "beta"} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			swappedPackage(t, of)
		})
	}
}

// sealedOf is a package of one invoice of a tenant, sealed.
func (h *house) sealedOf(t *testing.T, tenant string, n int, y int32) *conservationv1.Package {
	t.Helper()
	ctx := context.Background()
	taken, _, _ := h.counts()
	ev := h.invoice(t, n)
	ev.FiscalYear, ev.Invoice = y, strings.Replace(ev.GetInvoice(), "tenants/acme/", "tenants/"+tenant+"/", 1)
	for _, b := range []*eventv1.Blob{ev.GetTransmitted(), ev.GetReceipts()[0].GetContent()} {
		ref, err := blob.ParseURI(b.GetUri())
		require.NoError(t, err)
		raw, err := h.probe.Blobs.Get(ctx, ref)
		require.NoError(t, err)
		ref, err = h.probe.Blobs.Put(ctx, tenant, raw)
		require.NoError(t, err)
		b.Uri = ref.URI()
	}
	require.NoError(t, h.probe.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return h.probe.Bus.Emit(ctx, tx, ev) }))
	h.await(t, "taken", func() bool { now, _, _ := h.counts(); return now == taken+1 })
	p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/" + tenant, FiscalYear: y})
	require.NoError(t, err)
	return h.awaitSealed(t, p.GetName())
}

func swappedPackage(t *testing.T, of string) {
	ctx := context.Background()
	h, api := openLogged(t)
	as := func(tenant string) conservationv1.ConservationServiceClient {
		return conservationv1.NewConservationServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: tenant, Scopes: []string{"archive.read"}})))
	}
	own, other := h.sealedOf(t, "acme", 0, 2024), h.sealedOf(t, of, 1, 2025)
	var receipt *tlog.Receipt
	h.await(t, "receipt of the package", func() bool {
		r, err := api.GetPackageReceipt(ctx, &conservationv1.GetPackageReceiptRequest{Name: own.GetName(), Latest: true})
		if err == nil {
			receipt, err = tlog.ParseReceipt(r.GetReceipt())
			require.NoError(t, err)
		}
		return err == nil
	})
	first, err := fetchPackage(as("acme"), own.GetName())
	require.NoError(t, err)
	second, err := fetchPackage(as(of), other.GetName())
	require.NoError(t, err)
	h.judgeBytes(t, other, second) // it is a good one, where it belongs
	put := func(disk string) {
		path := filepath.Join(disk, "objects", "tenants", "acme", "packages", lastOf(own.GetName())+".zip")
		require.NoError(t, os.Chmod(path, 0o600))
		require.NoError(t, os.WriteFile(path, second, 0o600))
	}
	put(h.disks[0])
	h.await(t, "the other copy is read", func() bool { // the one that comes upon the wrong bytes does not end well
		raw, err := fetchPackage(as("acme"), own.GetName())
		if err == nil {
			require.Equal(t, first, raw, "never the bytes of another")
		}
		return err == nil
	})
	h.await(t, "mended", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.repairs) > 0 })

	put(h.disks[0])
	put(h.disks[1])
	sum := sha256.Sum256(second)
	admin := pgtest.Admin(t, h.DB("conservation"))
	for _, statement := range []string{
		`UPDATE archive_object SET sha256 = $1, size = $2 WHERE key LIKE '%/packages/' || $3 || '.zip'`,
		`UPDATE package SET archive_sha256 = $1, archive_size = $2 WHERE id::text = $3`,
	} {
		_, err := admin.Exec(ctx, statement, sum[:], len(second), lastOf(own.GetName()))
		require.NoError(t, err)
	}
	raw, err := fetchPackage(as("acme"), own.GetName())
	require.NoError(t, err)
	require.Equal(t, second, raw, "the service itself believes its rows")
	_, f := h.runCheck(t, deepKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Contains(t, fmt.Sprint(f.Problems), lastOf(own.GetName()))
	list, err := as("acme").ListUnits(ctx, &conservationv1.ListUnitsRequest{Parent: "tenants/acme", Package: own.GetName()})
	require.NoError(t, err)
	report, err := h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: list.GetUnits()[0].GetName()})
	require.NoError(t, err)
	require.False(t, report.GetIntact(), "%s", report.GetContent())
	p, err := custody.ReadPackage(second)
	require.NoError(t, err)
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	r, err := custody.Verify(custody.Input{Package: p, Receipts: []custody.Receipt{{Name: "mine", Receipt: receipt}}, Policy: tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&signer.Verifier}}})
	require.NoError(t, err)
	require.True(t, r.Has(custody.ReceiptElsewhere) || r.Has(custody.PackageChanged), "%v", r.Problems)
}

// Test24_KeyRollover changes the archive's credential between two packages that were taken in together, and revokes the old one:
// each is signed with the credential of its day and holds with its own chain.
func Test24_KeyRollover(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := open(t, true)
	events := []int32{2024, 2025}
	for i, y := range events {
		ev := h.invoice(t, i)
		ev.FiscalYear = y
		h.settle(t, ctx, ev)
	}
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == len(events) })
	var signers []string
	for i, y := range events {
		if i > 0 {
			h.rollOver(t)
		}
		p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: y})
		require.NoError(t, err)
		sealed := h.awaitSealed(t, p.GetName())
		h.judge(t, sealed)
		sd, verdict, err := cades.Verify(h.download(t, p.GetName(), conservationv1.PackageFile_PACKAGE_FILE_SIGNED_INDEX), cades.VerifyOptions{})
		require.NoError(t, err)
		require.NoError(t, verdict.Err())
		chain := ""
		for _, c := range sd.Certificates {
			chain += c.SerialNumber.String() + " "
		}
		signers = append(signers, chain)
	}
	require.NotEqual(t, signers[0], signers[1])
}

// rollOver gives the archive a new credential and revokes those that it had.
func (h *house) rollOver(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	old, err := h.sign.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: platform})
	require.NoError(t, err)
	require.NotEmpty(t, old.GetCredentials())
	for _, c := range old.GetCredentials() {
		_, err = h.sign.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: c.GetName()})
		require.NoError(t, err)
	}
	h.certify(t)
}

// Test13_DepositMetadata: whatever a producer says of a document, its metadata file is valid (five hundred of them), or the deposit is
// refused with what Allegato 5 lacks.
func Test13_DepositMetadata(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aÀ'\"<>&😀\x00\x1f\r\n\t \uFFFE")), 1, 60, -1)
	person := rapid.Custom(func(r *rapid.T) *conservationv1.DocumentAgent {
		a := &conservationv1.DocumentAgent{
			Role:      conservationv1.AgentRole(rapid.Int32Range(1, 5).Draw(r, "role")),
			VatNumber: rapid.SampledFrom([]string{"IT01234567897", "DE123456789", ""}).Draw(r, "vat"),
			TaxCode:   rapid.SampledFrom([]string{"01234567897", "RSSMRA80A01H501U", "", "RSSMRALMALMHRLMU", "99012345678"}).Draw(r, "code"),
		}
		if rapid.Bool().Draw(r, "body") {
			a.Name = text.Draw(r, "name")
		} else {
			a.FirstName, a.LastName = text.Draw(r, "first"), text.Draw(r, "last")
		}
		return a
	})
	documents := rapid.Custom(func(r *rapid.T) []byte {
		m := &conservationv1.Document{
			Type: text.Draw(r, "type"), Title: strings.Repeat(text.Draw(r, "title"), rapid.SampledFrom([]int{1, 30}).Draw(r, "long")), Number: rapid.SampledFrom([]string{"", "12/2026", "<&>"}).Draw(r, "number"),
			Date: rapid.SampledFrom([]string{"2024-02-29", "2026-12-31", "1999-01-01"}).Draw(r, "date"), Formation: conservationv1.Formation(rapid.Int32Range(0, 4).Draw(r, "formation")),
			Flow: conservationv1.Flow(rapid.Int32Range(1, 3).Draw(r, "flow")), Register: rapid.SampledFrom([]string{"", "REG-1"}).Draw(r, "register"),
			Agents: rapid.SliceOfN(person, 1, 4).Draw(r, "agents"), Keywords: rapid.SliceOfN(text, 0, 5).Draw(r, "keywords"), Reserved: rapid.Bool().Draw(r, "reserved"),
			Version: rapid.SampledFrom([]string{"", "2"}).Draw(r, "version"), Note: rapid.SampledFrom([]string{"", "nota <b>"}).Draw(r, "note"),
		}
		if rapid.Bool().Draw(r, "classified") {
			m.Classification = &conservationv1.Classification{Index: "1.2", Description: text.Draw(r, "class"), Plan: "https://esempio.example/piano"}
		}
		for range rapid.IntRange(0, 2).Draw(r, "aggregations") {
			m.Aggregations = append(m.Aggregations, &conservationv1.Aggregation{Kind: conservationv1.AggregationKind(rapid.Int32Range(1, 3).Draw(r, "kind")), Id: text.Draw(r, "aggregation")})
		}
		d, lacks := readDocument(m)
		if len(lacks) > 0 {
			return nil // refused, with reasons
		}
		sum := sha256.Sum256([]byte(d.Title))
		f := factsOfDeposit("documento.pdf", &deposited{ID: "01998c5e-0000-7000-8000-000000000001", Key: "k", Kind: kindDocument, Format: formatPDFA, Signed: rapid.Bool().Draw(r, "signed"), Years: 10, Document: d}, nil)
		raw := metadataOf(f, []db.UnitFile{{Role: "transmitted", FileName: "documento.pdf", MediaType: "application/pdf", Sha256: sum[:]}})
		for _, a := range d.Agents { // whether it has an element of its own or not
			for _, id := range []string{strings.TrimPrefix(a.VAT, "IT"), a.TaxCode} {
				if !bytes.Contains(raw, []byte(id)) {
					r.Fatalf("%s is lost in %s", id, raw)
				}
			}
		}
		return raw
	})
	var files []string
	for i := 0; len(files) < 500; i++ {
		require.Less(t, i, 5000, "hardly any document is admitted")
		if raw := documents.Example(i); raw != nil {
			files = append(files, filepath.Join(dir, fmt.Sprint(i, ".xml")))
			require.NoError(t, os.WriteFile(files[len(files)-1], raw, 0o600))
		}
	}
	lintAll(t, files, schema(t, "agid-allegato5", "DocumentoInformatico.xsd"))
}

// Test09_10_BytesAsTheyCame hands over what receivers like to tidy up: byte-order marks, line ends, other encodings, signatures in
// binary, in base64 and one in another, and an attachment of five megabytes. What lies in the sealed package is what came.
func Test09_10_BytesAsTheyCame(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := open(t, true)
	sign := func(raw []byte) []byte {
		p7m, err := h.service.signContent(ctx, "acme", "test/"+uuid.NewString(), mimeXML, uuid.New(), raw)
		require.NoError(t, err)
		return p7m
	}
	marked := []byte("\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<a>\r\n\t<b>à</b>\r\n</a>\r\n")
	once := sign(marked)
	files := map[string][]byte{
		"bom-crlf.xml":    marked,
		"latin.xml":       []byte("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<a>citt\xe0</a>"),
		"signed.xml.p7m":  once,
		"base64.xml.p7m":  []byte(base64.StdEncoding.EncodeToString(once)),
		"twice.xml.p7m":   sign(once),
		"attachments.xml": []byte("<a>" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xab}, 5<<20)) + "</a>\n"),
	}
	for name, raw := range files {
		d := hand(t, h.producer(), headOf(name, name, raw), raw)
		require.Equal(t, accepted, d.GetState(), "%s: %v", name, d.GetProblems())
	}
	p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: 2026, Class: "ALTRO"})
	require.NoError(t, err)
	h.awaitSealed(t, p.GetName())
	_, held := unzip(t, h.download(t, p.GetName(), archiveFile), lastOf(p.GetName()))
	found := map[[32]byte]bool{}
	for _, content := range held {
		found[sha256.Sum256(content)] = true
	}
	for name, raw := range files {
		require.True(t, found[sha256.Sum256(raw)], "%s is in the package, byte for byte", name)
	}
}

// Test09_10_ReceivedAsTheyCame hands the same forms over as SdI does, with five megabytes of base64 in each, which is all that SdI takes: the
// bytes in the sealed package are those that came, and the invoice is found by what is inside the signature.
func Test09_10_ReceivedAsTheyCame(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := open(t, true)
	sign := func(raw []byte) []byte {
		p7m, err := h.service.signContent(ctx, "acme", "test/"+uuid.NewString(), mimeXML, uuid.New(), raw)
		require.NoError(t, err)
		return p7m
	}
	invoice := func(number string) []byte {
		return fatturapatest.Invoice(fatturapatest.Options{Numero: number, Attachment: bytes.Repeat([]byte{0xab}, 3_900_000)})
	}
	windows := bytes.ReplaceAll(invoice("CRLF/2"), []byte("\n"), []byte("\r\n"))
	latin := bytes.Replace(fatturapatest.Invoice(fatturapatest.Options{Numero: "LATIN/3", Cedente: fatturapatest.Party{Denominazione: "Citta Srl"}}), []byte("UTF-8"), []byte("ISO-8859-1"), 1)
	latin = bytes.ReplaceAll(latin, []byte("Citta Srl"), []byte("Citt\xe0 Srl"))
	require.Contains(t, string(latin), "ISO-8859-1")
	forms := map[string][]byte{
		"BOM/1": append([]byte("\xef\xbb\xbf"), invoice("BOM/1")...), "CRLF/2": windows, "LATIN/3": latin, "DER/4": sign(invoice("DER/4")),
		"BASE64/5": []byte(base64.StdEncoding.EncodeToString(sign(invoice("BASE64/5")))), "TWICE/6": sign(sign(invoice("TWICE/6"))),
	}
	for number, raw := range forms {
		ev := h.received(t, "3000000000"+number[len(number)-1:], string(raw))
		if strings.Contains("DER/4 BASE64/5 TWICE/6", number) {
			ev.FileName += ".p7m"
		}
		h.deliver(t, ev)
		h.unitOf(t, ev.GetInboundInvoice())
		found, err := h.reader().SearchDocuments(ctx, &conservationv1.SearchDocumentsRequest{Parent: "tenants/acme", Query: field(conservationv1.SearchField_SEARCH_FIELD_NUMBER, number)})
		require.NoError(t, err)
		require.Len(t, found.GetDocuments(), 1, "%s is found by what is in it", number)
		require.Equal(t, "TD01", found.GetDocuments()[0].GetDocumentType())
		require.NotEmpty(t, found.GetDocuments()[0].GetSeller().GetName())
		if number == "LATIN/3" {
			require.Equal(t, "Città Srl", found.GetDocuments()[0].GetSeller().GetName())
		}
	}
	p := h.closePackage(t)
	require.EqualValues(t, len(forms), p.GetUnitCount())
	held := map[[32]byte]bool{}
	for _, content := range h.judge(t, h.awaitSealed(t, p.GetName())) {
		held[sha256.Sum256(content)] = true
	}
	for number, raw := range forms {
		require.True(t, held[sha256.Sum256(raw)], "%s is in the package, byte for byte", number)
	}
}

// TestRenewalIsInDistributions: a PdD of documents whose package was renewed carries the evidence record, which holds by the digest
// that the log states of the package, without the package.
func TestRenewalIsInDistributions(t *testing.T) {
	t.Parallel()
	h, _ := openLoggedWith(t, "  renewal: {ahead: 876000h, hash: SHA-256, algorithms: [{name: SHA-256, until: \"2199-12-31\"}]}\n")
	h.intake(t, 1)
	h.awaitSealed(t, h.closePackage(t).GetName())
	_, f := h.runCheck(t, conservationv1.CheckKind_CHECK_KIND_RENEWAL, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{})
	_, files := unpack(t, raw)
	require.True(t, has(files, pdd.OriginEvidence))
	content, ok, err := pdd.Open(raw)
	require.NoError(t, err)
	require.True(t, ok)
	_, pool := h.rootsFile(t)
	report := pdd.Verify(content, pdd.Options{Roots: pool, Policy: &h.service.book.policy})
	require.Empty(t, report.Problems)
	require.Contains(t, fmt.Sprint(report.Holds), "was renewed: 1 stamps")
}
