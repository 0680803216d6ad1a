package conservation

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/conservation/internal/db"
)

func TestMetadataOfAnyInvoiceIsValid(t *testing.T) {
	t.Parallel()
	schema := reference(t, "agid-allegato5", "DocumentoInformatico.xsd")
	dir := t.TempDir()
	count := 0
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aÀ'\"<>&😀\x00\x1f\r\n\t \uFFFE")), 1, 60, -1)
	someone := func(r *rapid.T, who string) party {
		return party{
			Name:    text.Draw(r, who),
			VAT:     rapid.SampledFrom([]string{"IT01234567897", "DE123456789", "IT123", "", "OO99999999999"}).Draw(r, who+" vat"),
			TaxCode: rapid.SampledFrom([]string{"01234567897", "RSSMRA80A01H501U", "", "RSSMRALMALMHRLMU"}).Draw(r, who+" code"),
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		f := facts{
			SdiID: rapid.SampledFrom([]string{"1", ""}).Draw(r, "sdi"), FileName: text.Draw(r, "file"), State: "DELIVERED",
			Signed: rapid.Bool().Draw(r, "signed"), Seller: someone(r, "seller"), Buyer: someone(r, "buyer"),
		}
		if rapid.Bool().Draw(r, "imported") {
			f.State, f.Imported, f.Received = stateImported, "01998c5e-0000-7000-8000-000000000001", rapid.Bool().Draw(r, "received")
		}
		for range rapid.IntRange(1, 4).Draw(r, "bodies") {
			f.Bodies = append(f.Bodies, body{Type: "TD01", Number: text.Draw(r, "number"), Date: "2024-02-29"})
		}
		sum := sha256.Sum256([]byte(f.FileName))
		files := []db.UnitFile{{Role: "transmitted", FileName: f.FileName, Sha256: sum[:]}}
		for range rapid.IntRange(0, 3).Draw(r, "receipts") {
			files = append(files, db.UnitFile{Role: "receipt", ReceiptType: "RC", FileName: text.Draw(r, "receipt"), Sha256: sum[:]})
		}
		if rapid.Bool().Draw(r, "integration") && len(files) > 1 {
			f.Integrates, files = "AAAA", files[1:]
		}
		raw := metadataOf(f, files)
		if !bytes.Equal(raw, metadataOf(f, files)) {
			r.Fatal("not deterministic")
		}
		dec := xml.NewDecoder(bytes.NewReader(raw))
		for {
			_, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.Fatalf("%v in %q", err, raw)
			}
		}
		if count++; schema != "" && count <= 60 { // a process each: enough to meet every branch
			file := filepath.Join(dir, "metadati.xml")
			if err := os.WriteFile(file, raw, 0o600); err != nil {
				r.Fatal(err)
			}
			lint(t, file, schema)
		}
	})
	require.Positive(t, count)
}

func TestPartyCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		party
		italian string
		agents  []string
	}{
		{party{VAT: "IT01234567897"}, "01234567897", []string{"VATIT-01234567897"}},
		{party{VAT: "DE123456789"}, "", []string{"VATDE-123456789"}},
		{party{TaxCode: "RSSMRA80A01H501U"}, "", []string{"TINIT-RSSMRA80A01H501U"}},
		{party{TaxCode: "80012345678"}, "80012345678", []string{"TINIT-80012345678"}},
		{party{VAT: "IT-1"}, "", nil},
	} {
		require.Equal(t, c.italian, c.italianCode())
		require.Equal(t, c.agents, c.agentIDs())
	}
}
