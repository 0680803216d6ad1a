package verdict_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/format/validation/verdict"
)

// report judges a file with one good signature and one that was cut out of another document.
func report(t *testing.T) (*validation.Report, verdict.File) {
	t.Helper()
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Maria <script>alert(1)</script> Rossi", cmstest.NewECDSA(t))
	p7m, err := cades.Sign(t.Context(), []byte("testo"), cades.Signer{Chain: pair.Chain, Key: pair.Key}, cades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: cmstest.Now, NextUpdate: cmstest.Now.Add(time.Hour)}, pki.Root, pki.Key)
	require.NoError(t, err)
	list, err := validation.ParseCRL(der)
	require.NoError(t, err)
	r, err := validation.Validate(t.Context(), p7m, validation.Options{At: cmstest.Now, Roots: []*x509.Certificate{pki.Root}, CRLs: []*x509.RevocationList{list}})
	require.NoError(t, err)
	require.Equal(t, validation.Passed, r.Verdict, r.Reason)
	sum := sha256.Sum256(p7m)
	return r, verdict.File{Name: "à & <b>.p7m", Size: int64(len(p7m)), SHA256: sum[:], Notes: []string{"trusted list X is missing: away"}}
}

func TestHTML(t *testing.T) {
	r, f := report(t)
	for lang, want := range map[string][]string{
		"it": {`<html lang="it">`, "Rapporto di verifica", "valida (total-passed)", "Catena dei certificati", "Firmatario", "Ora di firma", "riconosciuta"},
		"en": {`<html lang="en">`, "validation report", "total-passed", "Chain of certificates", "Signer", "Signing time", "trusted"},
	} {
		var b bytes.Buffer
		require.NoError(t, verdict.HTML(&b, r, f, verdict.Options{Lang: lang}))
		page := b.String()
		for _, w := range append(want, "à &amp; &lt;b&gt;.p7m", "Maria &lt;script&gt;alert(1)", "trusted list X is missing: away", "default-src 'none'", `href="#main"`) {
			require.Contains(t, page, w)
		}
		require.NotContains(t, page, "<script")
		require.Equal(t, 1, bytes.Count(b.Bytes(), []byte("<h1>")))
	}
	var b bytes.Buffer
	require.ErrorContains(t, verdict.HTML(&b, r, f, verdict.Options{Lang: "fr"}), "language")
}

func TestPDF(t *testing.T) {
	r, f := report(t)
	var first, second bytes.Buffer
	require.NoError(t, verdict.PDF(&first, r, f, verdict.Options{}))
	require.NoError(t, verdict.PDF(&second, r, f, verdict.Options{}))
	require.Equal(t, first.Bytes(), second.Bytes(), "the same report gives the same bytes")
	name := cmstest.File(t, "report.pdf", first.Bytes())
	said, err := cmstest.Run(t, "qpdf", "qpdf", "--check", name)
	require.NoError(t, err, said)
	text, err := cmstest.Run(t, "poppler-utils", "pdftotext", "-layout", name, "-")
	require.NoError(t, err, text)
	for _, w := range []string{"Rapporto di verifica", "valida (total-passed)", "Maria <script>alert(1)</script> Rossi", "Firma 1"} {
		require.Contains(t, text, w)
	}
}

func TestJSON(t *testing.T) {
	r, f := report(t)
	var b bytes.Buffer
	require.NoError(t, verdict.JSON(&b, r, f, "it"))
	back := &validation.Report{}
	require.NoError(t, json.Unmarshal(b.Bytes(), back))
	require.Equal(t, r.Conclusion, back.Conclusion)
	require.Equal(t, r.Signatures[0].Chain, back.Signatures[0].Chain)
	require.Contains(t, b.String(), "Tutto ciò che va controllato")
}
