package conservation

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/conservation/internal/db"
)

// anyInvoice draws what an invoice may tell of itself: bodies and persons, foreigners and those without a code, long names, and what
// is no XML.
func anyInvoice(r *rapid.T) (facts, []db.UnitFile) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aÀ'\"<>&😀\x00\x1f\r\n\t \uFFFE")), 1, 60, -1)
	name := func(who string) string {
		return strings.Repeat(text.Draw(r, who), rapid.SampledFrom([]int{1, 1, 1, 1000}).Draw(r, who+" long"))
	}
	someone := func(who string) party {
		return party{
			Name:    name(who),
			VAT:     rapid.SampledFrom([]string{"IT01234567897", "DE123456789", "IT123", "", "OO99999999999"}).Draw(r, who+" vat"),
			TaxCode: rapid.SampledFrom([]string{"01234567897", "RSSMRA80A01H501U", "", "RSSMRALMALMHRLMU"}).Draw(r, who+" code"),
		}
	}
	f := facts{
		SdiID: rapid.SampledFrom([]string{"1", ""}).Draw(r, "sdi"), FileName: text.Draw(r, "file"), State: "DELIVERED",
		Signed: rapid.Bool().Draw(r, "signed"), Seller: someone("seller"), Buyer: someone("buyer"),
	}
	if rapid.Bool().Draw(r, "imported") {
		f.State, f.Imported, f.Received = stateImported, "01998c5e-0000-7000-8000-000000000001", rapid.Bool().Draw(r, "received")
	}
	for range rapid.IntRange(1, 4).Draw(r, "bodies") {
		f.Bodies = append(f.Bodies, body{Type: "TD01", Number: name("number"), Date: "2024-02-29"})
	}
	sum := sha256.Sum256([]byte(f.FileName))
	files := []db.UnitFile{{Role: "transmitted", FileName: f.FileName, Sha256: sum[:]}}
	for range rapid.IntRange(0, 3).Draw(r, "receipts") {
		files = append(files, db.UnitFile{Role: "receipt", ReceiptType: "RC", FileName: text.Draw(r, "receipt"), Sha256: sum[:]})
	}
	if rapid.Bool().Draw(r, "integration") && len(files) > 1 {
		f.Integrates, files = "AAAA", files[1:]
	}
	return f, files
}

func TestMetadataOfAnyInvoiceIsValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		f, files := anyInvoice(r)
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
	})
}

// Test13_FiveHundredInvoices: xmllint finds the metadata files of five hundred invoices valid.
func Test13_FiveHundredInvoices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	invoices := rapid.Custom(func(r *rapid.T) []byte { return metadataOf(anyInvoice(r)) })
	var files []string
	for i := range 500 {
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".xml")))
		require.NoError(t, os.WriteFile(files[i], invoices.Example(i), 0o600))
	}
	lintAll(t, files, schema(t, "agid-allegato5", "DocumentoInformatico.xsd"))
}

// Test14_Impronta: the digests of metadata and index are the base64 of the raw SHA-256, as openssl gives it: of "abc" the known answer.
func Test14_Impronta(t *testing.T) {
	t.Parallel()
	const known = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=" // printf abc | openssl dgst -sha256 -binary | base64
	sum := sha256.Sum256([]byte("abc"))
	file := db.UnitFile{Role: "transmitted", FileName: "abc.xml", Sha256: sum[:]}
	raw := metadataOf(facts{SdiID: "1", FileName: "abc.xml", Seller: party{Name: "Alfa"}, Bodies: []body{{Type: "TD01", Number: "1", Date: "2024-02-29"}}}, []db.UnitFile{file})
	require.Contains(t, string(raw), "<Impronta>"+known+"</Impronta><Algoritmo>SHA-256</Algoritmo>")
	mail := mailMetadata(facts{Mail: &mailFacts{Message: "tenants/a/mailboxes/b/messages/c"}, Bodies: []body{{Number: "n", Date: "2026-01-01"}}}, []db.UnitFile{file})
	require.Contains(t, string(mail), "<Impronta>"+known+"</Impronta>")
	place := int32(1)
	group := member{unit: db.Unit{ID: uuid.New(), Class: classPrivate, Position: &place}, files: []db.UnitFile{file, {Role: "metadata", FileName: "metadati.xml", Sha256: sum[:]}}}.group()
	require.Equal(t, known, group.Files[0].Hash.Value)
	require.Equal(t, known, group.Metadata.Hash.Value)
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
