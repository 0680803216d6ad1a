package invoice

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

func (w *world) export(t *testing.T, kind invoicev1.ExportKind, filter string) []byte {
	t.Helper()
	stream, err := w.batches().ExportInvoices(t.Context(), &invoicev1.ExportInvoicesRequest{Parent: "tenants/acme/companies/-", Kind: kind, Filter: filter})
	require.NoError(t, err)
	var out bytes.Buffer
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out.Bytes()
		}
		require.NoError(t, err)
		require.LessOrEqual(t, len(part.GetContent()), exportChunk)
		out.Write(part.GetContent())
	}
}

func readCSV(t *testing.T, raw []byte) []map[string]string {
	t.Helper()
	text, ok := strings.CutPrefix(string(raw), byteOrderMark)
	require.True(t, ok, "spreadsheets need the mark")
	require.Equal(t, strings.Count(text, "\n"), strings.Count(text, "\r\n"))
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	require.NoError(t, err)
	var out []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, name := range rows[0] {
			m[name] = row[i]
		}
		out = append(out, m)
	}
	return out
}

func TestExport(t *testing.T) {
	w := start(t)
	j := journeys["private delivered"]
	delivered := w.create(fileOf(fatturapatest.Options{Numero: "1", Lines: 3}))
	w.state("acme", w.events(delivered, j.facts)...)
	w.becomes(delivered.GetName(), invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
	lot := w.create(fileOf(fatturapatest.Options{Numero: "2", Bodies: 2}))
	simple := w.create(fileOf(fatturapatest.Options{Numero: "3", Formato: "FSM10"}))
	imported, err := w.batches().ImportInvoice(t.Context(), &invoicev1.ImportInvoiceRequest{Parent: acmeMain, Content: pdf("x"), FileName: "scan.pdf", Metadata: pdfMetadata("=1+2")})
	require.NoError(t, err)
	evil := w.create(fileOf(fatturapatest.Options{Numero: "4", Cessionario: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(8), Denominazione: "=cmd|'/c calc'!A1"}}))
	order := []*invoicev1.Invoice{evil, imported, simple, lot, delivered} // newest first

	t.Run("documents", func(t *testing.T) {
		raw := w.export(t, invoicev1.ExportKind_EXPORT_KIND_DOCUMENTS, "")
		require.Equal(t, raw, w.export(t, invoicev1.ExportKind_EXPORT_KIND_DOCUMENTS, ""), "the same each time")
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		require.NoError(t, err)
		content := map[string][]byte{}
		for _, f := range z.File {
			r, err := f.Open()
			require.NoError(t, err)
			content[f.Name], err = io.ReadAll(r)
			require.NoError(t, err, f.Name)
		}
		index := readCSV(t, content["index.csv"])
		require.Len(t, index, len(z.File)-1)
		var folders []string
		for _, row := range index {
			sum := sha256.Sum256(content[row["path"]])
			require.Equal(t, hex.EncodeToString(sum[:]), row["sha256"])
			require.Equal(t, fmt.Sprint(len(content[row["path"]])), row["size"])
			if row["kind"] != "RECEIPT" {
				folders = append(folders, row["invoice"])
			}
		}
		for i, inv := range order {
			require.Equal(t, inv.GetName(), folders[i])
		}
		full := w.get(delivered.GetName())
		sent := "main/2026-03-16_" + last(delivered.GetName()) + "/" + full.GetFileName()
		require.Contains(t, content, sent, "what was sent, under the name at SdI")
		require.Contains(t, content, "main/2018-12-31_"+last(imported.GetName())+"/scan.pdf")
		require.Equal(t, len(order)+1+1, len(z.File), "one receipt, and the index")
	})
	t.Run("headers", func(t *testing.T) {
		rows := readCSV(t, w.export(t, invoicev1.ExportKind_EXPORT_KIND_HEADERS_CSV, ""))
		require.Len(t, rows, 6, "one for each document")
		require.Equal(t, "'=cmd|'/c calc'!A1", rows[0]["buyer_name"], "no formula reaches a spreadsheet")
		require.Equal(t, "'=1+2", rows[1]["number"])
		require.Equal(t, []string{"PDF", "122.00", "2018-12-31", "IMPORTED", ""}, []string{rows[1]["format"], rows[1]["total"], rows[1]["issue_date"], rows[1]["state"], rows[1]["taxable"]})
		require.Equal(t, []string{"1", "2"}, []string{rows[3]["document"], rows[4]["document"]})
		require.Equal(t, lot.GetName(), rows[4]["invoice"])
		require.Equal(t, "DELIVERED", rows[5]["state"])
		require.Equal(t, delivered.GetBodies()[0].GetTotalAmount(), rows[5]["total"])
		only := readCSV(t, w.export(t, invoicev1.ExportKind_EXPORT_KIND_HEADERS_CSV, "state = DELIVERED"))
		require.Equal(t, rows[5:], only)
	})
	t.Run("lines and summaries", func(t *testing.T) {
		var objects []exportedDocument
		lines := bufio.NewScanner(bytes.NewReader(w.export(t, invoicev1.ExportKind_EXPORT_KIND_JSON, "")))
		for lines.Scan() {
			var d exportedDocument
			require.NoError(t, json.Unmarshal(lines.Bytes(), &d))
			objects = append(objects, d)
		}
		require.Len(t, objects, 6)
		require.Len(t, objects[5].Lines, 3)
		var wantLines, wantSummaries []string
		for _, d := range objects {
			for _, l := range d.Lines {
				wantLines = append(wantLines, d.Number+" "+l.Number+" "+l.Description+" "+l.Total+" "+l.VATRate)
			}
			for _, s := range d.Summaries {
				wantSummaries = append(wantSummaries, d.Number+" "+s.VATRate+" "+s.Taxable+" "+s.Tax)
			}
		}
		require.NotEmpty(t, wantSummaries)
		var gotLines, gotSummaries []string
		for _, r := range readCSV(t, w.export(t, invoicev1.ExportKind_EXPORT_KIND_LINES_CSV, "")) {
			gotLines = append(gotLines, strings.TrimPrefix(r["number"], "'")+" "+r["line"]+" "+r["description"]+" "+r["line_total"]+" "+r["vat_rate"])
		}
		for _, r := range readCSV(t, w.export(t, invoicev1.ExportKind_EXPORT_KIND_VAT_CSV, "")) {
			gotSummaries = append(gotSummaries, r["number"]+" "+r["vat_rate"]+" "+r["taxable"]+" "+r["tax"])
		}
		require.Equal(t, wantLines, gotLines)
		require.Equal(t, wantSummaries, gotSummaries)
		require.Len(t, objects[2].Lines, 1, "of a simplified invoice")
		require.NotEmpty(t, objects[2].Lines[0].Total+objects[2].Lines[0].VATRate)
	})
	require.NotZero(t, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'invoices.export' AND detail->>'filter' = 'state = DELIVERED'`))
	stream, err := w.batches().ExportInvoices(t.Context(), &invoicev1.ExportInvoicesRequest{Parent: acmeMain, Kind: invoicev1.ExportKind_EXPORT_KIND_JSON, Filter: "number"})
	require.NoError(t, err)
	_, err = stream.Recv()
	requireFault(t, err, "FILTER_INVALID", "filter", "FILTER_INVALID")
}

// More than one page, walked without leaving out or repeating anything.
func TestExportWalks(t *testing.T) {
	w := start(t)
	api := w.batches()
	u := w.upload(t, t.Context(), api, 0, "0e9f1c9e-0000-4000-8000-000000000001")
	const n = 2*exportPage + 17
	for i := range n {
		u.file(i, "x.xml", file(fmt.Sprint(i)))
	}
	w.ends(api, u.done().GetName())
	rows := readCSV(t, w.export(t, invoicev1.ExportKind_EXPORT_KIND_HEADERS_CSV, ""))
	require.Len(t, rows, n)
	seen := map[string]bool{}
	for i, r := range rows {
		require.False(t, seen[r["number"]])
		seen[r["number"]] = true
		if i > 0 {
			require.Greater(t, rows[i-1]["invoice"], r["invoice"], "newest first")
		}
	}
}

func TestCells(t *testing.T) {
	for given, want := range map[string]string{
		"": "", "Rossi": "Rossi", "-12.50": "-12.50", "-12,50": "'-12,50", "=1": "'=1", "+39 02": "'+39 02", "@x": "'@x", "\tx": "'\tx", "1=2": "1=2", "＝1": "'＝1", "-": "'-",
	} {
		require.Equal(t, []string{want}, cells(given), given)
	}
}
