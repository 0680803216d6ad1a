package validation_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/validation"
)

// documentStamp appends a revision with a document time-stamp over all of a signed file.
func (w world) documentStamp(file []byte, at time.Time) []byte {
	w.t.Helper()
	head := string(file[:bytes.Index(file, []byte("/FT /Sig"))])
	head = head[:strings.LastIndex(head, " 0 obj")]
	field := head[strings.LastIndexAny(head, "\r\n")+1:]
	var previous int
	_, err := fmt.Sscan(string(file[bytes.LastIndex(file, []byte("startxref"))+len("startxref"):]), &previous)
	require.NoError(w.t, err)
	const room = 8192
	b := bytes.NewBuffer(bytes.Clone(file))
	rows := map[int]int{1: b.Len()}
	fmt.Fprintf(b, "1 0 obj\n<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[%s 0 R 80 0 R]/SigFlags 3>>>>\nendobj\n", field)
	rows[80] = b.Len()
	b.WriteString("80 0 obj\n<</FT/Sig/T(Stamp)/V 81 0 R>>\nendobj\n")
	rows[81] = b.Len()
	b.WriteString("81 0 obj\n<</Type/DocTimeStamp/Filter/Adobe.PPKLite/SubFilter/ETSI.RFC3161/ByteRange ")
	at0 := b.Len()
	fmt.Fprintf(b, "[0 %010d %010d %010d]/Contents ", 0, 0, 0)
	gap := b.Len()
	b.WriteString("<" + strings.Repeat("0", room) + ">")
	end := b.Len()
	b.WriteString(">>\nendobj\n")
	start := b.Len()
	b.WriteString("xref\n")
	for _, n := range []int{1, 80, 81} {
		fmt.Fprintf(b, "%d 1\n%010d 00000 n \n", n, rows[n])
	}
	fmt.Fprintf(b, "trailer\n<</Size 100/Root 1 0 R/Prev %d>>\nstartxref\n%d\n%%%%EOF\n", previous, start)
	out := b.Bytes()
	copy(out[at0:], fmt.Sprintf("[0 %010d %010d %010d]", gap, end, len(out)-end))
	token := w.token(at, bytes.Join([][]byte{out[:gap], out[end:]}, nil))
	copy(out[gap+1:], hex.EncodeToString(token))
	return out
}

// TestDocumentStamps: a stamp over the document proves the age of the signatures before it, and
// of an earlier stamp whose authority has ended.
func TestDocumentStamps(t *testing.T) {
	w := newWorld(t, func(c *x509.Certificate) { c.NotAfter = now.AddDate(1, 0, 0) })
	later := now.AddDate(2, 0, 0)
	o := w.options(later)
	o.CRLs = append(o.CRLs, w.crl(now.Add(24*time.Hour)))
	signed := w.pdf()
	r, err := validation.Validate(t.Context(), signed, o)
	require.NoError(t, err)
	require.Equal(t, validation.OutOfBoundsNoPOE, r.Sub)
	stamped := w.documentStamp(signed, now.Add(time.Hour))
	r, err = validation.Validate(t.Context(), stamped, o)
	require.NoError(t, err)
	require.Equal(t, pass, r.Verdict, r.Reason)
	require.Len(t, r.Stamps, 1)
	require.Equal(t, pass, r.Stamps[0].Verdict)
	require.True(t, r.Signatures[0].Proven)
	require.Equal(t, now.Add(time.Hour), r.Signatures[0].BestTime.UTC())
	// A stamp over other bytes is a failure of the file.
	at := bytes.LastIndex(stamped, []byte("/T(Stamp)"))
	changed := bytes.Clone(stamped)
	copy(changed[at:], "/T(stamp)")
	r, err = validation.Validate(t.Context(), changed, o)
	require.NoError(t, err)
	require.Equal(t, fail, r.Verdict)
	require.Equal(t, validation.HashFailure, r.Stamps[0].Sub, r.Stamps[0].Reason)
}

// TestPdfsigAgrees: poppler says the same of integrity.
func TestPdfsigAgrees(t *testing.T) {
	w := newWorld(t)
	for name, raw := range map[string][]byte{"whole": w.pdf(), "stamped": w.pdf(now), "changed": changed(t, w.pdf(), "100 euro", "900 euro")} {
		r, err := validation.Validate(t.Context(), raw, w.options(now.Add(time.Hour)))
		require.NoError(t, err)
		out, _ := cmstest.Run(t, "poppler-utils", "pdfsig", cmstest.File(t, "x.pdf", raw)) // exits 1 for an unknown root
		require.Equal(t, strings.Contains(out, "Signature is Valid."), r.Signatures[0].Integrity, name+out)
	}
}

// TestFilesFromTheWild: real files stay outside the repository; without anchors none passes, and
// the content comes out all the same.
func TestFilesFromTheWild(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"sdi/samples/*.p7m", "conservation/samples/*/data/*.p7m", "conservation/samples/*/data/*.tsr", "signing/*/*.p7m"} {
		found, err := filepath.Glob(filepath.Join("../../../../shared/reference", pattern))
		require.NoError(t, err)
		paths = append(paths, found...)
	}
	if len(paths) == 0 {
		t.Log("no samples on this machine: own files only")
	}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		r, err := validation.Validate(t.Context(), raw, validation.Options{At: time.Now()})
		require.NoError(t, err, p)
		require.NotEqual(t, pass, r.Verdict, p)
		t.Logf("%s: %s %s %s, content of %d bytes", filepath.Base(p), r.Verdict, r.Sub, r.Reason, len(r.Content))
	}
}
