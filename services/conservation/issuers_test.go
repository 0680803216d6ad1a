package conservation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/revocation"
)

// TestRespondersAreAsked: where a certificate names no list its responder is asked (RFC 6960), and what is no answer about that
// certificate is noted and not kept.
func TestRespondersAreAsked(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	make509 := func(c, parent *x509.Certificate) *x509.Certificate {
		c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return cert
	}
	top := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "top"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root := make509(top, top)
	answer := ocsp.Response{SerialNumber: big.NewInt(7), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Minute)}
	signed := func(change func(*ocsp.Response)) []byte {
		a := answer
		change(&a)
		raw, err := ocsp.CreateResponse(root, root, a, key)
		require.NoError(t, err)
		return raw
	}
	for name, c := range map[string]struct {
		status int
		body   []byte
		lacks  string // empty: it is kept
	}{
		"good":          {http.StatusOK, signed(func(a *ocsp.Response) { a.Status = ocsp.Good }), ""},
		"revoked":       {http.StatusOK, signed(func(a *ocsp.Response) { a.Status, a.RevokedAt = ocsp.Revoked, now.Add(-time.Minute) }), ""},
		"of another":    {http.StatusOK, signed(func(a *ocsp.Response) { a.SerialNumber = big.NewInt(8) }), "OCSP: "},
		"no answer":     {http.StatusOK, []byte("<html>"), "OCSP: "},
		"nothing":       {http.StatusOK, nil, "OCSP: "},
		"broken server": {http.StatusBadGateway, nil, "502"},
		"endless":       {http.StatusOK, make([]byte, revocationOCSP+1), "larger than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				raw, err := io.ReadAll(r.Body)
				if err == nil {
					_, err = ocsp.ParseRequest(raw)
				}
				if err != nil || r.Header.Get("Content-Type") != "application/ocsp-request" {
					http.Error(w, "no question", http.StatusBadRequest)
					return
				}
				w.WriteHeader(c.status)
				_, _ = w.Write(c.body)
			}))
			t.Cleanup(srv.Close)
			leaf := make509(&x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "leaf"}, OCSPServer: []string{srv.URL}}, root)
			cfg := defaultRevocation()
			cfg.AllowNetworks = []string{"127.0.0.0/8"}
			ask, err := newIssuers(cfg)
			require.NoError(t, err)
			said := ask.chain(t.Context(), []*x509.Certificate{leaf, root})
			if c.lacks != "" {
				require.Empty(t, said.OCSPs)
				require.Len(t, said.Lacks, 1)
				require.Contains(t, said.Lacks[0], c.lacks)
				return
			}
			require.Empty(t, said.Lacks)
			e, err := revocation.Read(said.Files()[revocation.Lists], said.Files()[revocation.Answers])
			require.NoError(t, err)
			_, revoked := revocation.Revoked(revocation.Judge([]*x509.Certificate{leaf, root}, e, now), now)
			require.Equal(t, name == "revoked", revoked)
		})
	}
}
