package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/tests/harness"
)

// batchSummary is what scripts read of a batch.
type batchSummary struct {
	Name, State, Failure                                            string
	Files, Waiting, Created, Refused, Duplicates, Ignored, Received string
}

func readSummary(t *testing.T, out string) batchSummary {
	t.Helper()
	var raw map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &raw), out)
	text := func(key string) string { s, _ := raw[key].(string); return s }
	return batchSummary{text("name"), text("state"), text("failure"), text("files"), text("waiting"), text("created"), text("refused"),
		text("duplicates"), text("ignored"), text("received_files")}
}

const goodInvoices = 190

// batchArchive writes a ZIP of two hundred files, ten of which are no invoice that can be sent.
func batchArchive(t *testing.T, c *harness.Customer) string {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	add := func(name string, content []byte) {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
	}
	for i := range goodInvoices {
		add(fmt.Sprintf("fatture/%03d.xml", i), c.XML("FPR12", "SBXRC00", fmt.Sprintf("B-%d", i)))
	}
	good := c.XML("FPR12", "SBXRC00", "X-1")
	add("fatture/cut.xml", good[:len(good)/2])
	add("fatture/foreign.xml", fatturapatest.Invoice(fatturapatest.Options{Numero: "1"}))
	add("fatture/currency.xml", []byte(strings.Replace(string(good), "<Divisa>EUR</Divisa>", "<Divisa>euro</Divisa>", 1)))
	add("fatture/inner.zip", []byte("PK\x03\x04"))
	add("../escape.xml", good)
	add("fatture/again.xml", c.XML("FPR12", "SBXRC00", "B-7"))
	add("fatture/once-more.xml", c.XML("FPR12", "SBXRC00", "B-8"))
	add("__MACOSX/fatture/._000.xml", []byte("x"))
	add("fatture/.DS_Store", []byte("x"))
	add("fatture/readme.txt", []byte("ciao"))
	require.NoError(t, w.Close())
	name := filepath.Join(t.TempDir(), "fatture.zip")
	require.NoError(t, os.WriteFile(name, out.Bytes(), 0o600))
	return name
}

// TestBatch uploads an archive, kills the service in the middle of the work, and follows every file to its end:
// the good ones to delivery, the others to a reason. Then it takes everything out again.
func TestBatch(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		cli := terminal{t, p, c.Key, c.Tenant}
		archive := batchArchive(t, c)
		uploaded := readSummary(t, cli.does("batch", "upload", archive, "--company", "main", "--name", "March", "--format", "json"))
		require.NoError(t, p.Restart(p.ProcessOf("invoice")))
		require.NoError(t, p.AwaitReady(ctx))

		out, errOut, code := cli.run("batch", "wait", last(uploaded.Name), "--format", "json")
		require.Equal(t, 1, code, "some were refused: %s", errOut)
		ended := readSummary(t, out)
		require.Equal(t, batchSummary{uploaded.Name, "BATCH_STATE_DONE", "", "200", "0", "190", "5", "2", "3", "0"}, ended)
		out, _, code = cli.run("batch", "wait", last(uploaded.Name))
		require.Equal(t, 1, code)
		require.Contains(t, out, "SELLER_MISMATCH", "who waits is told which were not taken, and why")
		require.NotContains(t, out, "file manager", "what is no invoice is counted")
		require.Contains(t, cli.says("batch", "files", last(uploaded.Name), "--state", "refused"), "SELLER_MISMATCH")
		require.Contains(t, cli.says("batch", "ls"), last(uploaded.Name))
		require.Contains(t, cli.says("batch", "get", last(uploaded.Name)), "DONE")
		cli.refused(3, "BATCH_NOT_FOUND", "batch", "get", uuid.NewString())

		awaitDelivered(ctx, t, c)
		sent, err := c.Sent(ctx)
		require.NoError(t, err)
		require.Equal(t, harness.Sent{Accepted: goodInvoices}, sent, "each good one was sent once, no other")

		checkExports(t, cli)
		checkUploadOfFiles(t, cli, c)
		checkUploadOfNothing(t, cli, c)
		checkImports(ctx, t, cli, c)
		parked, err := c.Parked(ctx)
		require.NoError(t, err)
		require.Empty(t, parked)
	})
}

func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func awaitDelivered(ctx context.Context, t *testing.T, c *harness.Customer) {
	t.Helper()
	delivered := 0
	require.Eventually(t, func() bool {
		page, err := c.Invoices.ListInvoices(c.Ctx(ctx), &invoicev1.ListInvoicesRequest{Parent: c.Company, Filter: "state = DELIVERED", PageSize: 1000})
		if err == nil {
			delivered = len(slices.DeleteFunc(page.GetInvoices(), func(i *invoicev1.Invoice) bool { return !hasSigned(i) }))
		}
		return delivered == goodInvoices
	}, patience, 250*time.Millisecond, "all are delivered, and their signed files known")
	t.Logf("%d delivered", delivered)
}

func checkExports(t *testing.T, cli terminal) {
	t.Helper()
	dir := t.TempDir()
	documents := filepath.Join(dir, "out.zip")
	cli.does("export", "--kind", "documents", "-o", documents, "--filter", "state = DELIVERED")
	z, err := zip.OpenReader(documents)
	require.NoError(t, err)
	defer z.Close()
	signed, receipts := 0, 0
	for _, f := range z.File {
		switch {
		case strings.HasSuffix(f.Name, ".p7m"):
			signed++
		case strings.Contains(f.Name, "_RC_"):
			receipts++
		}
	}
	require.Equal(t, []int{goodInvoices, goodInvoices, 2*goodInvoices + 1}, []int{signed, receipts, len(z.File)})
	for kind, rows := range map[string]int{"headers-csv": goodInvoices, "lines-csv": goodInvoices, "vat-csv": goodInvoices} {
		table, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(cli.does("export", "--kind", kind), "\ufeff"))).ReadAll()
		require.NoError(t, err)
		require.Len(t, table, rows+1, kind)
	}
	require.Equal(t, goodInvoices, strings.Count(cli.does("export", "--kind", "json"), "\n"))
	cli.refused(1, "FILTER_INVALID", "export", "--kind", "json", "--filter", "colour = red")
	_, errOut, code := cli.run("export", "--kind", "xls")
	require.Equal(t, 2, code)
	require.Contains(t, errOut, "headers_csv")
}

// checkUploadOfFiles uploads a folder, twice under one id, and only checks.
func checkUploadOfFiles(t *testing.T, cli terminal, c *harness.Customer) {
	t.Helper()
	dir := t.TempDir()
	for i := range 3 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.xml", i)), c.XML("FPR12", "SBXRC00", fmt.Sprintf("C-%d", i)), 0o600))
	}
	id := uuid.NewString()
	words := []string{"batch", "upload", dir, "--company", "main", "--check", "--wait", "--request-id", id, "--format", "json"}
	first, again := readSummary(t, cli.does(words...)), readSummary(t, cli.does(words...))
	require.Equal(t, first, again)
	require.Equal(t, "3", first.Created)
	resumed := readSummary(t, cli.does("batch", "upload", dir, "--resume", id, "--format", "json"))
	require.Equal(t, first, resumed)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.xml"), []byte("<other/>"), 0o600))
	cli.refused(1, "UPLOAD_DIFFERS", words[:len(words)-2]...)
}

// checkUploadOfNothing uploads what holds no invoice: it is said of each file what it is, and it is no success. One
// invoice among the same files makes it one.
func checkUploadOfNothing(t *testing.T, cli terminal, c *harness.Customer) {
	t.Helper()
	dir := t.TempDir()
	pdf := filepath.Join(dir, "fattura.pdf")
	require.NoError(t, os.WriteFile(pdf, []byte("%PDF-1.7\n%%EOF\n"), 0o600))
	upload := func(what string, more ...string) (string, string, int) {
		return cli.run(append([]string{"batch", "upload", what, "--company", "main", "--check", "--wait"}, more...)...)
	}
	out, errOut, code := upload(pdf)
	require.Equal(t, 1, code)
	require.Contains(t, out, "a PDF: invoices are XML or .p7m")
	require.Contains(t, errOut, "there is no invoice in it")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "Thumbs.db"), []byte("x"), 0o600))
	out, errOut, code = upload(dir)
	require.Equal(t, 1, code)
	require.Contains(t, out, "a PDF")
	require.Contains(t, out, "a file of the file manager")
	require.Contains(t, errOut, "there is no invoice in it")
	out, errOut, code = upload(dir, "--format", "json")
	require.Equal(t, 1, code)
	require.Empty(t, errOut)
	none := readSummary(t, out)
	require.Equal(t, []string{"BATCH_STATE_DONE", "2", "2"}, []string{none.State, none.Files, none.Ignored})
	_, errOut, code = cli.run("batch", "wait", last(none.Name))
	require.Equal(t, 1, code, "who waits later is told the same")
	require.Contains(t, errOut, "there is no invoice in it")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.xml"), c.XML("FPR12", "SBXRC00", "N-1"), 0o600))
	out = cli.does("batch", "upload", dir, "--company", "main", "--check", "--wait")
	require.Equal(t, []string{"1", "2"}, []string{field(t, out, "created"), field(t, out, "ignored")})
	require.NotContains(t, out, "a PDF")
}

// checkImports takes in what was issued elsewhere: it is preserved, and SdI never hears of it.
func checkImports(ctx context.Context, t *testing.T, cli terminal, c *harness.Customer) {
	t.Helper()
	dir := t.TempDir()
	pdf, received := filepath.Join(dir, "old.pdf"), filepath.Join(dir, "in.xml")
	require.NoError(t, os.WriteFile(pdf, []byte("%PDF-1.7\n%%EOF\n"), 0o600))
	require.NoError(t, os.WriteFile(received, fatturapatest.Invoice(fatturapatest.Options{Numero: "S-1", Data: "2020-02-29",
		Cessionario: fatturapatest.Party{Paese: "IT", Codice: c.VAT, Denominazione: "Customer"}}), 0o600))
	cli.refused(1, "METADATA_REQUIRED", "import", pdf, "--company", "main")
	metadata := `{"document_type": "TD01", "number": "9/2018", "issue_date": "2018-05-04", "seller": {"vat_number": "IT` + c.VAT + `"}, "buyer": {"display_name": "Rossi"}}`
	for _, words := range [][]string{{"import", received, "--company", "main", "--format", "json"}, {"import", pdf, "--company", "main", "--metadata", metadata, "--format", "json"}} {
		var made struct{ Name, State string }
		require.NoError(t, json.Unmarshal([]byte(cli.does(words...)), &made))
		require.Equal(t, "INVOICE_STATE_IMPORTED", made.State)
		require.Eventually(t, func() bool {
			inv, err := c.Invoices.GetInvoice(c.Ctx(ctx), &invoicev1.GetInvoiceRequest{Name: made.Name})
			return err == nil && inv.GetPreserveTime() != nil && inv.GetState() == invoicev1.InvoiceState_INVOICE_STATE_IMPORTED
		}, patience, 100*time.Millisecond, "it is in custody")
		units, err := c.Archive.ListUnits(c.Ctx(ctx), &conservationv1.ListUnitsRequest{Parent: c.Tenant, Subject: made.Name})
		require.NoError(t, err)
		require.Len(t, units.GetUnits(), 1)
	}
	for _, year := range []int32{2018, 2020} {
		pkg, err := c.Archive.ClosePackage(c.Ctx(ctx), &conservationv1.ClosePackageRequest{Parent: c.Tenant, FiscalYear: year, RequestId: uuid.NewString()})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			pkg, err = c.Archive.GetPackage(c.Ctx(ctx), &conservationv1.GetPackageRequest{Name: pkg.GetName()})
			return err == nil && pkg.GetState() == conservationv1.PackageState_PACKAGE_STATE_SEALED
		}, patience, 100*time.Millisecond, "it is sealed like any other")
		checkPackage(ctx, t, c, pkg)
	}
	sent, err := c.Sent(ctx)
	require.NoError(t, err)
	require.Equal(t, goodInvoices, sent.Accepted)
}
