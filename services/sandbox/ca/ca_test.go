package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/ca"
)

var (
	oidKeyUsage     = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidQcStatements = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}
)

func csr(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "Maria Rossi", SerialNumber: "TINIT-RSSMRA70A01H501S", ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{2, 5, 4, 97}, Value: "VATIT-01234567897"},
		}},
	}, key)
	require.NoError(t, err)
	return der
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) *pkix.Extension {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(oid) {
			return &c.Extensions[i]
		}
	}
	return nil
}

func TestSignCSRProfiles(t *testing.T) {
	c, err := ca.New(ca.Options{})
	require.NoError(t, err)
	der := csr(t, p256(t))
	for profile, usage := range map[ca.Profile]x509.KeyUsage{
		ca.ProfileSigning: x509.KeyUsageContentCommitment, ca.ProfileQualified: x509.KeyUsageContentCommitment, ca.ProfileSeal: x509.KeyUsageContentCommitment,
		ca.ProfileRole: x509.KeyUsageContentCommitment, ca.ProfileAuthentication: x509.KeyUsageDigitalSignature,
	} {
		t.Run(string(profile), func(t *testing.T) {
			cert, err := c.SignCSR(der, profile)
			require.NoError(t, err)
			require.Equal(t, usage, cert.KeyUsage)
			require.True(t, extension(cert, oidKeyUsage).Critical)
			if profile == ca.ProfileQualified {
				require.NotNil(t, extension(cert, oidQcStatements), "it says that it is qualified, and SANDBOX - NOT VALID")
				return
			}
			require.Nil(t, extension(cert, oidQcStatements), "nothing is stated that is not true")
			require.Equal(t, "Maria Rossi", cert.Subject.CommonName)
			require.Equal(t, "TINIT-RSSMRA70A01H501S", cert.Subject.SerialNumber)
			require.Contains(t, cert.Subject.String(), "2.5.4.97")
			require.Contains(t, cert.Subject.OrganizationalUnit, ca.Mark)
			require.Contains(t, cert.Issuer.CommonName, ca.Mark)
			_, err = cert.Verify(x509.VerifyOptions{Roots: c.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			require.NoError(t, err)
		})
	}
}

func TestSignCSRRefuses(t *testing.T) {
	c, err := ca.New(ca.Options{})
	require.NoError(t, err)
	good := csr(t, p256(t))
	broken := append([]byte(nil), good...)
	broken[len(broken)-1] ^= 1
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	for _, v := range []struct {
		name    string
		der     []byte
		profile ca.Profile
		want    string
	}{
		{"garbage", []byte("csr"), ca.ProfileSigning, "certificate request"},
		{"own signature", broken, ca.ProfileSigning, "not signed by its key"},
		{"curve", csr(t, p521), ca.ProfileSigning, "use P-256 or P-384"},
		{"profile", good, "notarial", "unknown profile"},
	} {
		t.Run(v.name, func(t *testing.T) {
			_, err := c.SignCSR(v.der, v.profile)
			require.ErrorContains(t, err, v.want)
		})
	}
}

func TestTSACertificate(t *testing.T) {
	c, err := ca.New(ca.Options{})
	require.NoError(t, err)
	i, err := c.IssueTSA("TSA")
	require.NoError(t, err)
	require.True(t, extension(i.Certificate(), oidExtKeyUsage).Critical)
	require.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}, i.Certificate().ExtKeyUsage)
}

func TestReceiptSigner(t *testing.T) {
	c, err := ca.New(ca.Options{})
	require.NoError(t, err)
	i, err := c.IssueReceiptSigner("Sistema Interscambio")
	require.NoError(t, err)
	require.IsType(t, &rsa.PublicKey{}, i.Certificate().PublicKey)
	require.Equal(t, x509.KeyUsageContentCommitment, i.Certificate().KeyUsage)
	key, err := i.KeyPEM()
	require.NoError(t, err)
	require.Contains(t, string(key), "PRIVATE KEY")
}

// A real handshake, both sides authenticated, and the client's name seen by the server.
func TestMutualTLS(t *testing.T) {
	c, err := ca.New(ca.Options{})
	require.NoError(t, err)
	server, err := c.IssueServer("localhost", "127.0.0.1")
	require.NoError(t, err)
	client, err := c.IssueClient("SDI-01234567890")
	require.NoError(t, err)
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	h.TLS = &tls.Config{
		Certificates: []tls.Certificate{server.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.Pool(), MinVersion: tls.VersionTLS12,
	}
	h.StartTLS()
	defer h.Close()
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: c.Pool(), Certificates: []tls.Certificate{client.TLS()}, MinVersion: tls.VersionTLS12,
	}}}
	resp, err := hc.Get(h.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "SDI-01234567890", string(body))

	other, err := ca.New(ca.Options{})
	require.NoError(t, err)
	stranger, err := other.IssueClient("SDI-01234567890")
	require.NoError(t, err)
	hc.Transport = &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: c.Pool(), Certificates: []tls.Certificate{stranger.TLS()}, MinVersion: tls.VersionTLS12,
	}}
	_, err = hc.Get(h.URL)
	require.Error(t, err)
	_, err = c.IssueServer()
	require.Error(t, err)
	_, err = c.IssueClient("")
	require.Error(t, err)
}

func TestKeptBetweenStarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var wg sync.WaitGroup
	found := make([]*ca.CA, 8)
	for i := range found {
		wg.Go(func() {
			c, err := ca.New(ca.Options{Dir: dir})
			if err == nil {
				found[i] = c
			}
		})
	}
	wg.Wait()
	for _, c := range found {
		require.NotNil(t, c)
		require.True(t, c.Certificate().Equal(found[0].Certificate()), "all who start at once share one authority")
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	info, err := entries[0].Info()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	_, err = ca.New(ca.Options{Dir: dir, Now: func() time.Time { return time.Now().AddDate(30, 0, 0) }})
	require.ErrorContains(t, err, "expired")
	require.NoError(t, os.WriteFile(filepath.Join(dir, entries[0].Name()), []byte("rubbish"), 0o600))
	_, err = ca.New(ca.Options{Dir: dir})
	require.ErrorContains(t, err, "delete the file")

	fresh, err := ca.New(ca.Options{})
	require.NoError(t, err)
	require.NotEqual(t, fresh.Certificate().Subject.CommonName, found[0].Certificate().Subject.CommonName)
}

// TestCRL: the list is the authority's, of now, and openssl judges with it.
func TestCRL(t *testing.T) {
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	c, err := ca.New(ca.Options{Now: func() time.Time { return at }})
	require.NoError(t, err)
	list, err := c.CRL()
	require.NoError(t, err)
	block, rest := pem.Decode(list)
	require.NotNil(t, block)
	require.Empty(t, rest)
	parsed, err := x509.ParseRevocationList(block.Bytes)
	require.NoError(t, err)
	root, _ := pem.Decode(c.CertPEM())
	authority, err := x509.ParseCertificate(root.Bytes)
	require.NoError(t, err)
	require.NoError(t, parsed.CheckSignatureFrom(authority))
	require.Empty(t, parsed.RevokedCertificateEntries)
	require.Equal(t, at, parsed.ThisUpdate)

	cert, err := c.SignCSR(csr(t, p256(t)), ca.ProfileSigning)
	require.NoError(t, err)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check", "-attime", fmt.Sprint(at.Unix()), "-CAfile", file("ca.pem", c.CertPEM()), "-CRLfile", file("ca.crl", list),
		file("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))).CombinedOutput()
	require.NoError(t, err, string(out))
}
