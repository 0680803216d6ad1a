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
		"good":    {http.StatusOK, signed(func(a *ocsp.Response) { a.Status = ocsp.Good }), ""},
		"revoked": {http.StatusOK, signed(func(a *ocsp.Response) { a.Status, a.RevokedAt = ocsp.Revoked, now.Add(-time.Minute) }), ""},
		"unknown": {http.StatusOK, signed(func(a *ocsp.Response) { a.Status = ocsp.Unknown }), "says nothing of this certificate"},
		"too old": {http.StatusOK, signed(func(a *ocsp.Response) {
			a.Status, a.ThisUpdate, a.NextUpdate = ocsp.Good, now.Add(-time.Hour), now.Add(-30*time.Minute)
		}), "says nothing of this certificate"},
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
			ask, err := newIssuers(cfg, func() time.Time { return now }) // the answers were made for then, and subtests wait for their turn
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

// TestOldListsAreNoAnswer: a server goes on giving out a list that was to be replaced. It is not kept, where other programs would take it
// for a good word, and the responder is asked; of one that names the certificate its age does not matter.
func TestOldListsAreNoAnswer(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	make509 := func(c, parent *x509.Certificate) *x509.Certificate {
		c.NotBefore, c.NotAfter = now.AddDate(0, -1, 0), now.AddDate(0, 1, 0)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), key)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return cert
	}
	top := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "top"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	root := make509(top, top)
	list := func(age time.Duration, revoked ...x509.RevocationListEntry) []byte {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-age), NextUpdate: now.Add(-age).Add(24 * time.Hour), RevokedCertificateEntries: revoked}, root, key)
		require.NoError(t, err)
		return der
	}
	gone := x509.RevocationListEntry{SerialNumber: big.NewInt(7), RevocationTime: now.AddDate(0, 0, -3)}
	old := 48 * time.Hour
	for name, c := range map[string]struct {
		list          []byte
		responder     bool
		lists, others int
		lacks         string
	}{
		"fresh":                     {list(time.Hour), true, 1, 0, ""},
		"old, and a responder":      {list(old), true, 0, 1, ""},
		"old, and nobody else":      {list(old), false, 0, 0, "it is too old, or of others"},
		"old, and names it revoked": {list(old, gone), true, 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("/list", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.list) })
			mux.HandleFunc("/responder", func(w http.ResponseWriter, _ *http.Request) {
				raw, err := ocsp.CreateResponse(root, root, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(7), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}, key)
				if err == nil {
					_, _ = w.Write(raw)
				}
			})
			srv := httptest.NewServer(mux)
			t.Cleanup(srv.Close)
			leaf := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "leaf"}, CRLDistributionPoints: []string{srv.URL + "/list"}}
			if c.responder {
				leaf.OCSPServer = []string{srv.URL + "/responder"}
			}
			cfg := defaultRevocation()
			cfg.AllowNetworks = []string{"127.0.0.0/8"}
			ask, err := newIssuers(cfg, time.Now)
			require.NoError(t, err)
			said := ask.chain(t.Context(), []*x509.Certificate{make509(leaf, root), root})
			require.Len(t, said.CRLs, c.lists)
			require.Len(t, said.OCSPs, c.others)
			if c.lacks == "" {
				require.Empty(t, said.Lacks)
				return
			}
			require.Len(t, said.Lacks, 1)
			require.Contains(t, said.Lacks[0], c.lacks)
		})
	}
}
