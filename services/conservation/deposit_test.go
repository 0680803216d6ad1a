package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// producer hands documents over as a tenant's key does.
func (h *house) producer() conservationv1.DepositServiceClient {
	return conservationv1.NewDepositServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read", "archive.write"}})))
}

// headOf is a complete head for content.
func headOf(key, name string, content []byte) *conservationv1.DepositHead {
	sum := sha256.Sum256(content)
	return &conservationv1.DepositHead{
		Parent: "tenants/acme", Key: key, FileName: name, Size: int64(len(content)), Sha256: sum[:], FiscalYear: 2026,
		Document: &conservationv1.Document{
			Type: "Contratto", Title: "Fornitura di <carta> & penne", Number: "12/2026", Date: "2026-03-31", Flow: conservationv1.Flow_FLOW_OUT,
			Formation: conservationv1.Formation_FORMATION_CREATED, Register: "CTR-2026", Keywords: []string{"carta", "penne"},
			Classification: &conservationv1.Classification{Index: "1.2", Description: "Contratti"},
			Aggregations:   []*conservationv1.Aggregation{{Kind: conservationv1.AggregationKind_AGGREGATION_KIND_FILE, Id: "F-77"}},
			Agents: []*conservationv1.DocumentAgent{
				{Role: conservationv1.AgentRole_AGENT_ROLE_AUTHOR, FirstName: "Mario", LastName: "Rossi", TaxCode: "RSSMRA80A01H501U"},
				{Role: conservationv1.AgentRole_AGENT_ROLE_RECIPIENT, Name: "Cartiera S.p.A.", VatNumber: "IT01234567897", TaxCode: "01234567897"},
				{Role: conservationv1.AgentRole_AGENT_ROLE_REGISTRAR, Name: "Alfa S.r.l."},
			},
		},
	}
}

// upload sends content from an offset, in small chunks.
func upload(t testing.TB, api conservationv1.DepositServiceClient, head *conservationv1.DepositHead, content []byte, from, to int) (*conservationv1.Deposit, error) {
	t.Helper()
	stream, err := api.CreateDeposit(context.Background())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&conservationv1.CreateDepositRequest{Part: &conservationv1.CreateDepositRequest_Head{Head: head}}))
	const chunk = 700_000
	for at := from; at < to; at += chunk {
		part := content[at:min(at+chunk, to)]
		if stream.Send(&conservationv1.CreateDepositRequest{Part: &conservationv1.CreateDepositRequest_Chunk{Chunk: &conservationv1.DepositChunk{Offset: int64(at), Data: part}}}) != nil {
			break // the answer says why
		}
	}
	return stream.CloseAndRecv()
}

func hand(t testing.TB, api conservationv1.DepositServiceClient, head *conservationv1.DepositHead, content []byte) *conservationv1.Deposit {
	t.Helper()
	d, err := upload(t, api, head, content, 0, len(content))
	require.NoError(t, err)
	return d
}

func problemCodes(d *conservationv1.Deposit) (codes []string) {
	for _, p := range d.GetProblems() {
		codes = append(codes, p.GetCode())
	}
	return codes
}

const (
	accepted = conservationv1.DepositState_DEPOSIT_STATE_ACCEPTED
	refused  = conservationv1.DepositState_DEPOSIT_STATE_REFUSED
	contest  = conservationv1.DepositState_DEPOSIT_STATE_CONFLICT
)

var aPDF = []byte("%PDF-1.7\n1 0 obj <</Type/Catalog>> endobj\n<x:xmpmeta><pdfaid:part>2</pdfaid:part></x:xmpmeta>\n%%EOF\n")

// TestDeposits is what a producer can do, and what it cannot.
func TestDeposits(t *testing.T) {
	t.Parallel()
	h, log := openLogged(t)
	api, ctx := h.producer(), context.Background()

	t.Run("Accepted", func(t *testing.T) { depositAccepted(t, h, api, log) })
	t.Run("Resumed", func(t *testing.T) {
		big := bytes.Repeat([]byte("riga di testo, più lunga del solito\n"), 300_000) // three pieces
		head := headOf("grande", "grande.txt", big)
		half, err := upload(t, api, head, big, 0, 5_000_000)
		require.NoError(t, err)
		require.Equal(t, conservationv1.DepositState_DEPOSIT_STATE_RECEIVING, half.GetState())
		require.EqualValues(t, 5_000_000, half.GetReceivedBytes())
		_, err = upload(t, api, head, big, 5_000_001, len(big))
		require.Equal(t, "UPLOAD_GAP", code(err))
		other := proto.CloneOf(head)
		other.FileName = "altro.txt"
		_, err = upload(t, api, other, big, 0, 10)
		require.Equal(t, "UPLOAD_DIFFERS", code(err))
		there, err := api.OpenDeposit(ctx, &conservationv1.OpenDepositRequest{Parent: "tenants/acme", Key: "grande"})
		require.NoError(t, err)
		whole, err := upload(t, api, head, big, int(there.GetReceivedBytes()), len(big))
		require.NoError(t, err)
		require.Equal(t, accepted, whole.GetState(), whole.GetProblems())
		require.Equal(t, half.GetName(), whole.GetName())
		require.Equal(t, formatText, whole.GetFormat())
	})
	t.Run("Test03_DeclaredDigest", func(t *testing.T) {
		head := headOf("impronta", "a.pdf", aPDF)
		head.Sha256 = bytes.Repeat([]byte{7}, 32)
		d := hand(t, api, head, aPDF)
		require.Equal(t, refused, d.GetState())
		require.Contains(t, problemCodes(d), problemDigest)
		require.EqualValues(t, 2, d.GetAttemptsLeft(), "it is counted")
		require.Empty(t, d.GetUnit())
		d = hand(t, api, headOf("impronta", "a.pdf", aPDF), aPDF) // the right to try again
		require.Equal(t, accepted, d.GetState(), d.GetProblems())
	})
	t.Run("Test04_RefusalLimit", func(t *testing.T) { refusalLimit(t, h, api) })
	t.Run("Test11_HostileContent", func(t *testing.T) { hostileDeposits(t, api) })
	t.Run("Conflict", func(t *testing.T) { depositConflict(t, h, api) })
	t.Run("Incomplete", func(t *testing.T) {
		head := headOf("muto", "a.pdf", aPDF)
		head.Document = &conservationv1.Document{Type: "Lettera", Title: "x", Date: "2026-13-01", Flow: conservationv1.Flow_FLOW_OUT}
		d := hand(t, api, head, aPDF)
		require.Equal(t, refused, d.GetState())
		require.Equal(t, []string{problemMetadata, problemMetadata, problemMetadata}, problemCodes(d), "date, sender, recipient")
	})
	t.Run("Test11_NUL", func(t *testing.T) { // PostgreSQL keeps none: each is a refusal in writing and no error of ours
		for name, c := range map[string]struct {
			code  string
			spoil func(*conservationv1.DepositHead)
		}{
			"title":    {problemMetadata, func(h *conservationv1.DepositHead) { h.Document.Title = "Forni\x00tura" }},
			"keywords": {problemMetadata, func(h *conservationv1.DepositHead) { h.Document.Keywords[1] = "pen\x00ne" }},
			"agents":   {problemMetadata, func(h *conservationv1.DepositHead) { h.Document.Agents[1].Name = "Cartiera\x00" }},
			"note":     {problemMetadata, func(h *conservationv1.DepositHead) { h.Document.Note = "\x00" }},
			"file":     {problemFileName, func(h *conservationv1.DepositHead) { h.FileName = "contratto\x00.pdf" }},
		} {
			for _, dry := range []bool{true, false} {
				head := headOf("nul-"+name, "contratto.pdf", aPDF)
				head.ValidateOnly = dry
				c.spoil(head)
				d := hand(t, api, head, aPDF)
				require.Equal(t, refused, d.GetState(), name)
				require.Equal(t, []string{c.code}, problemCodes(d), name)
				require.Contains(t, d.GetProblems()[0].GetMessage(), name)
			}
		}
	})
	t.Run("Test19_DryRun", func(t *testing.T) { dryRunKeepsNothing(t, h, api) })
	t.Run("BytesAtATime", func(t *testing.T) { // files that are judged together weigh so much at most: the next one waits
		room := h.service.cfg.Deposits.JudgedBytes
		require.NoError(t, h.service.judged.Acquire(context.Background(), room))
		ended := make(chan *conservationv1.Deposit, 1)
		go func() {
			d, err := upload(t, api, headOf("attesa", "a.pdf", aPDF), aPDF, 0, len(aPDF))
			if err == nil {
				ended <- d
			}
			close(ended)
		}()
		h.await(t, "it came whole", func() bool {
			var received int64
			h.rowsOf(t, `SELECT coalesce(max(received), 0) FROM deposit WHERE client_key = 'attesa'`, &received)
			return received == int64(len(aPDF))
		})
		select {
		case <-ended:
			require.Fail(t, "it was judged beside what fills the room")
		case <-time.After(200 * time.Millisecond):
		}
		h.service.judged.Release(room)
		require.Equal(t, accepted, (<-ended).GetState())
	})
	t.Run("Test54_OtherTenant", func(t *testing.T) {
		foreign := conservationv1.NewDepositServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "beta", Scopes: []string{"archive.read", "archive.write"}})))
		_, err := upload(t, foreign, headOf("x", "a.pdf", aPDF), aPDF, 0, len(aPDF))
		require.Equal(t, fault.KindDenied, fault.Of(err).Kind)
		_, err = foreign.ListDeposits(ctx, &conservationv1.ListDepositsRequest{Parent: "tenants/acme"})
		require.Equal(t, fault.KindDenied, fault.Of(err).Kind)
	})
	t.Run("Test54_IdsTellNothing", func(t *testing.T) { idsTellNothing(t, h, api) })
}

// depositAccepted: the unit, its metadata, its place in a package, and the report that the producer gets.
func depositAccepted(t *testing.T, h *house, api conservationv1.DepositServiceClient, log conservationv1.EvidenceServiceClient) {
	ctx := context.Background()
	head := headOf("contratto-12", "Contratto d'opera.pdf", aPDF)
	d := hand(t, api, head, aPDF)
	require.Equal(t, accepted, d.GetState(), d.GetProblems())
	require.Equal(t, formatPDFA, d.GetFormat())
	again := hand(t, api, head, aPDF) // the same key with the same bytes is the same deposit
	require.Equal(t, d.GetName(), again.GetName())
	u, err := h.client.GetUnit(ctx, &conservationv1.GetUnitRequest{Name: d.GetUnit()})
	require.NoError(t, err)
	require.Equal(t, "ALTRO", u.GetClass())
	require.Len(t, u.GetFiles(), 2)

	var r *conservationv1.SubmissionReport
	h.await(t, "report", func() bool {
		r, err = api.GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: d.GetName()})
		if err != nil {
			require.Equal(t, "SUBMISSION_REPORT_NOT_READY", code(err))
		}
		return err == nil
	})
	dir := t.TempDir()
	file := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	roots, content := file("roots.pem", h.ca.CertPEM()), file("rdv.xml", r.GetContent())
	p7m, tsr := file("rdv.xml.p7m", r.GetSigned()), file("rdv.xml.p7m.tsr", r.GetTimeStamp())
	tool(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", p7m, "-CAfile", roots, "-purpose", "any", "-out", filepath.Join(dir, "out.xml"))
	tool(t, "openssl", "ts", "-verify", "-in", tsr, "-data", p7m, "-CAfile", roots)
	lint(t, content, "rdv.xsd")
	out, err := os.ReadFile(filepath.Join(dir, "out.xml"))
	require.NoError(t, err)
	require.Equal(t, r.GetContent(), out)
	text := string(r.GetContent())
	require.NotContains(t, text, d.GetKey(), "it outlives the document, of which the producer's key may tell")
	sum := sha256.Sum256(aPDF)
	require.Contains(t, text, base64.StdEncoding.EncodeToString(sum[:]))
	require.Contains(t, text, d.GetUnit())
	for _, personal := range []string{"Mario", "Cartiera", "Contratto d", "Fornitura"} {
		require.NotContains(t, text, personal, "it outlives the document")
	}
	_, proof, _ := strings.Cut(text, "<Prova>")
	proof, _, ok := strings.Cut(proof, "</Prova>")
	require.True(t, ok)
	receipt, err := tlog.ParseReceipt([]byte(proof))
	require.NoError(t, err)
	unit := receiptOf(t, h, log, d.GetUnit())
	require.EqualValues(t, unit.GetIndex(), receipt.Index)
	require.Contains(t, strings.Join(keysOn(t, h.disks[1]), " "), "tenants/acme/rdv/", "it is itself preserved")

	meta := u.GetFiles()[1].GetContent().GetSha256()
	var raw []byte
	h.rowsOf(t, `SELECT content FROM unit_file WHERE role = 'metadata' AND encode(sha256, 'hex') = '`+hex.EncodeToString(meta)+`'`, &raw)
	lint(t, file("metadati.xml", raw), reference(t, "agid-allegato5", "DocumentoInformatico.xsd"))
	require.Contains(t, string(raw), "<Cognome>Rossi</Cognome>")

	p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: 2026, Class: "ALTRO"})
	require.NoError(t, err)
	h.awaitSealed(t, p.GetName())
	found, err := h.reader().SearchDocuments(ctx, &conservationv1.SearchDocumentsRequest{Parent: "tenants/acme", Query: field(conservationv1.SearchField_SEARCH_FIELD_NAME, "rossi mario")})
	require.NoError(t, err)
	require.Len(t, found.GetDocuments(), 1)
	require.Equal(t, "12/2026", found.GetDocuments()[0].GetNumber())
	pdd, zipped := h.exhibit(t, &conservationv1.CreateDistributionRequest{Units: []string{d.GetUnit()}})
	require.NotEmpty(t, pdd.GetName())
	_, files := unpack(t, zipped)
	require.Contains(t, fmt.Sprint(files), fmt.Sprint(aPDF), "the original")
}

func keysOn(t testing.TB, disk string) (keys []string) {
	t.Helper()
	for key := range objectsOn(t, disk) {
		keys = append(keys, key)
	}
	return keys
}

// hostileDeposits: what is made to harm is refused or kept inert, and nothing outside of it is opened.
func hostileDeposits(t *testing.T, api conservationv1.DepositServiceClient) {
	zipOf := func(files map[string]string) []byte {
		var raw bytes.Buffer
		w := zip.NewWriter(&raw)
		for name, content := range files {
			f, err := w.Create(name)
			require.NoError(t, err)
			_, err = f.Write([]byte(content))
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		return raw.Bytes()
	}
	// Whoever is named from inside a document is never asked.
	var asked atomic.Int64
	beacon := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(beacon.Close)
	laughs := `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>`
	outside := `<?xml version="1.0"?><!DOCTYPE a SYSTEM "` + beacon.URL + `/x.dtd"><a/>`
	entity := `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "` + beacon.URL + `/b"><!ENTITY % c SYSTEM "` + beacon.URL + `/c"> %c;]><a>&b;</a>`
	include := `<a xmlns:xi="http://www.w3.org/2001/XInclude" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="` + beacon.URL + `/s.xsd"><xi:include href="` + beacon.URL + `/i"/></a>`
	for i, c := range []struct {
		name, content, want string
	}{
		{"a.xml", laughs, problemFormat},
		{"a.xml", outside, problemFormat},
		{"a.xml", entity, problemFormat},
		{"a.xml", "<a><b></a>", problemFormat},
		{"a.zip", string(zipOf(map[string]string{"../../etc/passwd": "x"})), problemInside},
		{"a.zip", string(zipOf(map[string]string{"b.exe": "MZ\x00"})), problemInside},
		{"a.zip", string(zipOf(map[string]string{"b.zip": string(zipOf(map[string]string{"c.xml": laughs}))})), problemInside},
		{"a.docx", string(zipOf(map[string]string{"[Content_Types].xml": "<x/>", "word/vbaProject.bin": "x"})), problemFormat},
		{"../a.pdf", string(aPDF), problemFileName},
		{"fattura\u202Efdp.exe", string(aPDF), problemFileName},
		{"a.xml", string(aPDF), problemName},
		{"a.pdf", "%PDF-1.4 /Encrypt 5 0 R", problemFormat},
		{"a.html", "<!DOCTYPE html><script>alert(1)</script>", problemFormat},
	} {
		key := fmt.Sprintf("ostile-%d", i)
		d := hand(t, api, headOf(key, c.name, []byte(c.content)), []byte(c.content))
		require.Equal(t, refused, d.GetState(), "%q %q", c.name, c.content)
		require.Contains(t, problemCodes(d), c.want, "%q %q", c.name, c.content)
	}
	pulled := hand(t, api, headOf("include", "a.xml", []byte(include)), []byte(include))
	require.Equal(t, accepted, pulled.GetState(), "it is XML and names others, who are not asked: %v", pulled.GetProblems())
	require.Zero(t, asked.Load(), "nobody was asked for anything")
	endless := headOf("enorme", "a.xml", nil) // a line of two gigabytes is refused by what its head says, before a byte of it comes
	endless.Size = 2 << 30
	_, err := upload(t, api, endless, nil, 0, 0)
	require.Equal(t, "UPLOAD_TOO_LARGE", code(err))
	long := append([]byte("<a>"), append(bytes.Repeat([]byte("x"), 20<<20), "</a>"...)...) // one line
	d := hand(t, api, headOf("lunga", "a.xml", long), long)
	require.Equal(t, accepted, d.GetState(), d.GetProblems())
}

// depositConflict: the same key with other bytes is nobody's to decide but a person's, and nothing is replaced.
func depositConflict(t *testing.T, h *house, api conservationv1.DepositServiceClient) {
	ctx := context.Background()
	first, second, third := []byte("uno\n"), []byte("due\n"), []byte("tre\n")
	held := hand(t, api, headOf("doppio", "a.txt", first), first)
	require.Equal(t, accepted, held.GetState(), held.GetProblems())
	late := hand(t, api, headOf("doppio", "a.txt", second), second)
	require.Equal(t, contest, late.GetState())
	require.Equal(t, []string{problemConflict}, problemCodes(late))
	require.Equal(t, late.GetName(), hand(t, api, headOf("doppio", "a.txt", second), second).GetName(), "the same again is the same conflict")
	list, err := api.ListConflicts(ctx, &conservationv1.ListConflictsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetConflicts(), 1)
	c := list.GetConflicts()[0]
	require.Equal(t, held.GetUnit(), c.GetUnit())
	require.NotEqual(t, c.GetHeldSha256(), c.GetOfferedSha256())
	c, err = api.ResolveConflict(ctx, &conservationv1.ResolveConflictRequest{Name: c.GetName(), Resolution: conservationv1.ConflictResolution_CONFLICT_RESOLUTION_KEEP_HELD, Reason: "spedito due volte per errore"})
	require.NoError(t, err)
	require.NotEmpty(t, c.GetResolvedBy())
	_, err = api.ResolveConflict(ctx, &conservationv1.ResolveConflictRequest{Name: c.GetName(), Resolution: conservationv1.ConflictResolution_CONFLICT_RESOLUTION_KEEP_BOTH, Reason: "di nuovo"})
	require.Equal(t, "CONFLICT_RESOLVED", code(err))

	late = hand(t, api, headOf("doppio", "a.txt", third), third)
	require.Equal(t, contest, late.GetState())
	_, err = api.ResolveConflict(ctx, &conservationv1.ResolveConflictRequest{Name: strings.Replace(late.GetName(), "/deposits/", "/conflicts/", 1),
		Resolution: conservationv1.ConflictResolution_CONFLICT_RESOLUTION_KEEP_BOTH, Reason: "sono due documenti"})
	require.NoError(t, err)
	late, err = api.GetDeposit(ctx, &conservationv1.GetDepositRequest{Name: late.GetName()})
	require.NoError(t, err)
	require.Equal(t, accepted, late.GetState())
	require.NotEqual(t, held.GetUnit(), late.GetUnit())
	u, err := h.client.GetUnit(ctx, &conservationv1.GetUnitRequest{Name: held.GetUnit()})
	require.NoError(t, err)
	sum := sha256.Sum256(first)
	require.Equal(t, sum[:], u.GetFiles()[0].GetContent().GetSha256(), "nothing was replaced")
}
