package tsp_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/tsp"
)

// Stamps over SHA-224 are in old evidence records: they are read, and never asked for.
func TestTokenOverSHA224(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "TSA", cmstest.RSA(t), cmstest.TimeStamping)
	query, out := filepath.Join(t.TempDir(), "q"), filepath.Join(t.TempDir(), "out.tsr")
	cmstest.OpenSSL(t, "ts", "-query", "-sha224", "-cert", "-data", cmstest.File(t, "d", data), "-out", query)
	config := "[one]\nserial=" + cmstest.File(t, "serial", []byte("0A\n")) +
		"\ndefault_policy=2.999.1\ndigests=sha224\nsigner_digest=sha224\ness_cert_id_alg=sha256\n"
	cmstest.OpenSSL(t, "ts", "-reply", "-config", cmstest.File(t, "tsa.cnf", []byte(config)), "-section", "one",
		"-queryfile", query, "-signer", cmstest.CertFile(t, p.Cert), "-inkey", cmstest.KeyFile(t, p.Key), "-out", out)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	tok, err := tsp.ParseToken(raw)
	require.NoError(t, err)
	sum := sha256.Sum224(data)
	require.Equal(t, crypto.SHA224, tok.Info.Hash)
	require.NoError(t, tok.Verify(tsp.VerifyOptions{Digest: sum[:], Policy: asn1.ObjectIdentifier{2, 999, 1}}))

	_, err = (&tsp.Request{Hash: crypto.SHA224, Digest: sum[:]}).Marshal()
	require.ErrorIs(t, err, tsp.ErrHash)
	asked, err := os.ReadFile(query)
	require.NoError(t, err)
	_, err = tsp.ParseRequest(asked)
	require.ErrorIs(t, err, tsp.ErrHash)
}
