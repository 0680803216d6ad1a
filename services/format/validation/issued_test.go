package validation_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/validation"
)

// TestCertificatesOfShortKeys: the days around each limit, for signatures that are right in all else. Until the key is
// relied on no more the verdict stays what it is, and the report names what the standard does not let be.
func TestCertificatesOfShortKeys(t *testing.T) {
	pki := cmstest.New(t)
	short, long := rsaKey(t, 2048), cmstest.RSA(t)
	on := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return at
	}
	const issuedLate, endsLate, disputed = validation.WarnIssuedTooLate, validation.WarnEndsTooLate, validation.WarnDisputed
	old := &x509.Certificate{PublicKey: short.Public(), NotBefore: on("2024-01-01T00:00:00Z"), NotAfter: on("2027-01-01T00:00:00Z")}
	require.Empty(t, validation.Issued(validation.DefaultIssueLimits(), old, on("2025-12-31T23:59:59Z")), "the editions agreed")
	require.Len(t, validation.Issued(validation.DefaultIssueLimits(), old, on("2026-01-01T00:00:00Z")), 1)
	for name, v := range map[string]struct {
		key                 crypto.Signer
		issued, ends, judge string
		warnings            string
		sub                 validation.Sub
	}{
		"2048, an earlier edition ended": {short, "2026-03-02T00:00:00Z", "2027-01-01T00:00:00Z", "2026-06-01T00:00:00Z", disputed, ""},
		"2048, issued on the last day":   {short, "2026-12-31T23:59:59Z", "2028-12-31T23:59:59Z", "2027-06-01T00:00:00Z", disputed, ""},
		"2048, issued a second later":    {short, "2027-01-01T00:00:00Z", "2028-12-31T23:59:59Z", "2027-06-01T00:00:00Z", issuedLate + " " + disputed, ""},
		"2048, ends a second late":       {short, "2026-11-01T00:00:00Z", "2029-01-01T00:00:00Z", "2027-06-01T00:00:00Z", endsLate + " " + disputed, ""},
		"2048, judged when it is over":   {short, "2026-11-01T00:00:00Z", "2029-11-01T00:00:00Z", "2029-01-01T00:00:00Z", endsLate, validation.CryptoConstraintsNoPOE},
		"3072, issued later":             {long, "2027-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "2029-06-01T00:00:00Z", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			at := on(v.judge)
			pair := pki.Issue(t, "Maria Rossi", v.key, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = on(v.issued), on(v.ends) })
			p7m, err := cades.Sign(t.Context(), []byte("contract"), cades.Signer{Chain: pair.Chain, Key: pair.Key}, cades.Options{SigningTime: at.Add(-time.Minute)})
			require.NoError(t, err)
			der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at.Add(-time.Hour), NextUpdate: at.Add(time.Hour)}, pki.Root, pki.Key)
			require.NoError(t, err)
			crl, err := validation.ParseCRL(der)
			require.NoError(t, err)
			r, err := validation.Validate(t.Context(), p7m, validation.Options{At: at, Roots: []*x509.Certificate{pki.Root}, CRLs: []*x509.RevocationList{crl}})
			require.NoError(t, err)
			require.Equal(t, v.sub, r.Sub, r.Reason)
			var names []string
			for _, w := range r.Signatures[0].Warnings {
				name, _, _ := strings.Cut(w, ":")
				names = append(names, name)
			}
			require.Equal(t, v.warnings, strings.Join(names, " "), r.Signatures[0].Warnings)
		})
	}
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return key
}
