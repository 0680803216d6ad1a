package cms_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

// TestCertificatesAreParsedOnce: files of one signer share its certificate, which outlives the bytes of the first file.
func TestCertificatesAreParsedOnce(t *testing.T) {
	p := cmstest.New(t).Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	var known cms.Certificates
	read := func(text string) (*cms.SignedData, []byte) {
		raw, err := cms.Sign(t.Context(), []byte(text), p.Key, cms.Options{Certificate: p.Cert})
		require.NoError(t, err)
		sd, err := known.ParseLimited(raw, cms.Limits{})
		require.NoError(t, err)
		require.NoError(t, sd.Verify(cms.VerifyOptions{}).Err())
		return sd, raw
	}
	first, raw := read("uno")
	clear(raw)
	second, _ := read("due")
	require.Same(t, first.Certificates[0], second.Certificates[0])
	require.Equal(t, p.Cert.Raw, second.Certificates[0].Raw)
	var none *cms.Certificates
	_, err := none.ParseLimited(raw, cms.Limits{})
	require.Error(t, err)
}

// TestContentOfAnyLength: contents that end within, at and behind the buffers that they are hashed through.
func TestContentOfAnyLength(t *testing.T) {
	p := cmstest.New(t).Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	const buffer = 256 << 10
	for _, n := range []int{0, 1, buffer - 1, buffer, buffer + 1, 2*buffer - 1, 2 * buffer, 2*buffer + 1, 5*buffer + 7} {
		content := bytes.Repeat([]byte("0123456"), n/7+1)[:n]
		sum := sha256.Sum256(content)
		raw, err := cms.SignDetached(t.Context(), sum[:], p.Key, cms.Options{Certificate: p.Cert})
		require.NoError(t, err)
		sd, err := cms.Parse(raw)
		require.NoError(t, err)
		require.NoError(t, sd.Verify(cms.VerifyOptions{Content: bytes.NewReader(content)}).Err(), "%d bytes", n)
		require.ErrorContains(t, sd.Verify(cms.VerifyOptions{Content: bytes.NewReader(append(content, 'x'))}).Err(), "digest", "%d bytes", n)
	}
}
