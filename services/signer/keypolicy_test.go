package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
)

// TestCertificatesBySizeAndDate: which certificates are taken, by the key, the day of issue and the day of the look.
func TestCertificatesBySizeAndDate(t *testing.T) {
	day := func(text string) time.Time {
		at, err := time.Parse(time.DateOnly, text)
		require.NoError(t, err)
		return at
	}
	ofBits := func(n uint) *rsa.PublicKey { return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), n-1), E: 65537} }
	small, large := ofBits(2048), ofBits(3072)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		key         any
		issued, now string
		refused     bool
	}{
		"RSA-2048 issued in time":         {small, "2026-12-31", "2027-06-01", false},
		"RSA-2048 issued later":           {small, "2027-01-01", "2027-06-01", true},
		"RSA-2048 when it is over":        {small, "2026-12-31", "2029-01-01", true},
		"RSA-3072 issued later":           {large, "2027-01-01", "2029-01-01", false},
		"P-256 issued later":              {curve.Public(), "2027-01-01", "2029-01-01", false},
		"RSA-2048 on the last day of all": {small, "2026-12-31", "2028-12-31", false},
	} {
		err := checkAlgorithms([]*x509.Certificate{{PublicKey: c.key, NotBefore: day(c.issued), NotAfter: day("2028-12-31")}}, day(c.now))
		if !c.refused {
			require.NoError(t, err, name)
			continue
		}
		require.Error(t, err, name)
		require.Equal(t, "CERTIFICATE_ALGORITHM", fault.Of(err).Code, name)
	}
}
