package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/auth"
)

// fetch reads a file of an export from an offset; after most bytes it hangs up.
func fetch(t testing.TB, api conservationv1.TransferServiceClient, export, path string, from, most int64) []byte {
	t.Helper()
	ctx, hangUp := context.WithCancel(context.Background())
	defer hangUp()
	stream, err := api.DownloadExportFile(ctx, &conservationv1.DownloadExportFileRequest{Name: export, Path: path, Offset: from})
	require.NoError(t, err)
	var out bytes.Buffer
	for int64(out.Len()) < most {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		out.Write(m.GetChunk())
	}
	return out.Bytes()
}

// Test52_ExportAndImport: everything of a tenant is handed over, resumable, proven by what is in it; taken in elsewhere it is found
// by the same searches.
func Test52_ExportAndImport(t *testing.T) {
	t.Parallel()
	h, logOf := openLogged(t)
	ctx := context.Background()
	shelve(t, h)
	deposit := hand(t, h.producer(), headOf("lettera", "lettera.pdf", aPDF), aPDF) // it waits for its package
	api := conservationv1.NewTransferServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	h.await(t, "report", func() bool {
		_, err := h.producer().GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: deposit.GetName()})
		return err == nil
	})
	stated := func() int64 {
		l, err := logOf.GetLog(ctx, &conservationv1.GetLogRequest{})
		require.NoError(t, err)
		return l.GetSize()
	}
	size := stated()
	addUnits(t, h.DB("conservation"), "beta", 1) // the report shows the log as it was before
	h.await(t, "the log goes on", func() bool { return stated() > size })
	e, err := api.CreateExport(ctx, &conservationv1.CreateExportRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	h.await(t, "put together", func() bool {
		e, err = api.GetExport(ctx, &conservationv1.GetExportRequest{Name: e.GetName()})
		require.NoError(t, err)
		require.NotEqual(t, conservationv1.ExportState_EXPORT_STATE_FAILED, e.GetState(), e.GetLastError())
		return e.GetState() == conservationv1.ExportState_EXPORT_STATE_READY
	})
	require.EqualValues(t, 1, e.GetPackageCount())
	require.EqualValues(t, 4, e.GetUnitCount())
	files := map[string][]byte{}
	for token := ""; ; {
		page, err := api.ListExportFiles(ctx, &conservationv1.ListExportFilesRequest{Name: e.GetName(), PageSize: 3, PageToken: token})
		require.NoError(t, err)
		for _, f := range page.GetFiles() {
			first := fetch(t, api, e.GetName(), f.GetPath(), 0, f.GetSize()/2) // broken off, and gone on with
			first = first[:min(int64(len(first)), f.GetSize()/2)]
			whole := append(first, fetch(t, api, e.GetName(), f.GetPath(), int64(len(first)), f.GetSize())...)
			sum := sha256.Sum256(whole)
			require.Equal(t, f.GetSha256(), sum[:], f.GetPath())
			files[f.GetPath()] = whole
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	require.EqualValues(t, e.GetFileCount(), len(files))
	manifestOf(t, files)
	raw := exportedPackage(t, files)
	wholeExport(t, files)

	want := searchAll(t, h)
	for line := range want { // what waited was in no package
		if strings.Contains(line, "lettera.pdf") {
			delete(want, line)
		}
	}
	takenElsewhere(t, raw, want)
	_, err = api.CreateExport(ctx, &conservationv1.CreateExportRequest{Parent: "tenants/beta"})
	require.Error(t, err, "of another tenant")
}

// takenElsewhere hands an exported package to another installation, which has nothing: its own database, replicas, authorities and log. It is
// found there by the same searches, sealed, verified by that installation and by others, and comes out as it came in.
func takenElsewhere(t *testing.T, raw []byte, want map[string]int) {
	t.Helper()
	ctx := context.Background()
	h, _ := openLogged(t)
	require.Empty(t, searchAll(t, h))
	require.Zero(t, h.counted(t, "unit"))
	d := hand(t, h.producer(), packageHead("da-un-altro", raw), raw)
	require.Equal(t, accepted, d.GetState(), d.GetProblems())
	require.Contains(t, string(d.GetVerification()), "PIndex.xml.p7m: holds")
	require.Equal(t, want, searchAll(t, h))
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	held := h.judge(t, p)
	sum, found := sha256.Sum256(raw), false
	for _, content := range held {
		found = found || sha256.Sum256(content) == sum
	}
	require.True(t, found, "the package is in a package of its new preserver, byte for byte")
	report, err := h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: d.GetUnit()})
	for code(err) == "RECEIPT_NOT_READY" {
		report, err = h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: d.GetUnit()})
	}
	require.NoError(t, err)
	require.True(t, report.GetIntact(), "%s", report.GetContent())
	require.Equal(t, want, searchAll(t, h), "when it is sealed too")
	for _, kind := range []conservationv1.CheckKind{deepKind, sumKind} {
		_, f := h.runCheck(t, kind, "")
		require.Equal(t, "GOOD", f.Verdict, "%v", f.Problems)
	}
}

// manifestOf: every file below data is in the signed manifest with its digest, and nothing else is.
func manifestOf(t testing.TB, files map[string][]byte) {
	t.Helper()
	sd, verdict, err := cades.Verify(files[exportSigned], cades.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, verdict.Err())
	require.Equal(t, files[exportManifest], sd.Content())
	listed := 0
	for line := range strings.Lines(string(files[exportManifest])) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		require.True(t, ok)
		got := sha256.Sum256(files[name])
		require.Equal(t, hex.EncodeToString(got[:]), sum, name)
		listed++
	}
	below := 0
	for name := range files {
		if strings.HasPrefix(name, "data/") {
			below++
		}
	}
	require.Equal(t, below, listed)
	require.Equal(t, 4, strings.Count(string(files[exportUnits]), "\n"))
	require.NotEmpty(t, files["data/waiting/0001.zip"])
}

// wholeExport: every leaf of the tenant is in the export, and the log of the last checkpoint has the last of them.
func wholeExport(t testing.TB, files map[string][]byte) {
	t.Helper()
	v, err := tlog.ParseVerifier(strings.TrimSpace(string(files[exportLogKey])))
	require.NoError(t, err)
	l, err := custody.NewLedger(tlog.Policy{Origin: v.Name(), LogKeys: []*tlog.Verifier{v}}, tlog.StampPolicy{})
	require.NoError(t, err)
	l.Checkpoint(exportPoint, files[exportPoint])
	waiting, err := custody.ReadWaiting(files["data/waiting/0001.zip"])
	require.NoError(t, err)
	require.Len(t, waiting, 1)
	l.Waiting("data/waiting/0001.zip", waiting)
	l.Chain(exportLeaves, bytes.NewReader(files[exportLeaves]), files[exportLast])
	reports := 0
	for name, content := range files {
		if id, ok := strings.CutPrefix(name, "data/packages/"); ok {
			l.Handed(strings.TrimSuffix(id, ".zip"))
		}
		if strings.HasPrefix(name, "data/rdv/") && strings.HasSuffix(name, ".p7m") {
			sd, _, err := cades.Verify(content, cades.VerifyOptions{})
			require.NoError(t, err)
			l.Submission(name, sd.Content())
			reports++
		}
	}
	require.NotZero(t, reports)
	require.NotEmpty(t, files[exportGrowth], "the reports show the log as it was before")
	l.Growth(exportGrowth, bytes.NewReader(files[exportGrowth]))
	l.End()
	require.Empty(t, l.Problems)
	require.Empty(t, l.Unshown)
	require.Contains(t, strings.Join(l.Holds, "\n"), "other sizes that receipts and reports show")
	require.Contains(t, strings.Join(l.Holds, "\n"), "1 documents that wait for their package have the files that their leaves name")
	require.GreaterOrEqual(t, bytes.Count(files[exportLeaves], []byte("\n")), 5, "four documents and a package")
}

// exportedPackage is the one package, proven by the receipts that the export brings.
func exportedPackage(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var raw []byte
	var id string
	for name, content := range files {
		if n, ok := strings.CutPrefix(name, "data/packages/"); ok {
			raw, id = content, strings.TrimSuffix(n, ".zip")
		}
	}
	p, err := custody.ReadPackage(raw)
	require.NoError(t, err)
	v, err := tlog.ParseVerifier(strings.TrimSpace(string(files[exportLogKey])))
	require.NoError(t, err)
	in := custody.Input{Package: p, Complete: true, Policy: tlog.Policy{Origin: v.Name(), LogKeys: []*tlog.Verifier{v}}}
	proofs := files["data/receipts/"+id+".zip"]
	z, err := zip.NewReader(bytes.NewReader(proofs), int64(len(proofs)))
	require.NoError(t, err)
	for _, f := range z.File {
		text, err := readEntry(f, 1<<20)
		require.NoError(t, err)
		r, err := tlog.ParseReceipt(text)
		require.NoError(t, err)
		in.Receipts = append(in.Receipts, custody.Receipt{Name: f.Name, Receipt: r})
	}
	require.Len(t, in.Receipts, 4)
	report, err := custody.Verify(in)
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	require.Empty(t, report.Unshown)
	return raw
}
