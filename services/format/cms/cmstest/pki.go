// Package cmstest gives the tests of the signature formats a throw-away public key
// infrastructure and the programs that are not ours to check with. It is for tests only and
// refuses to be of use elsewhere: everything takes a testing.TB.
package cmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Now is the time at which the tests play; certificates are valid from a day before to ten
// years after. It is in the past of every machine, since programs that are not ours use their
// own clock.
var Now = time.Date(2026, 3, 2, 10, 30, 15, 0, time.UTC)

// PKI is a root with what it issued.
type PKI struct {
	Root *x509.Certificate
	Key  crypto.Signer
}

// Pair is a certificate with its key and its issuers.
type Pair struct {
	Cert  *x509.Certificate
	Chain []*x509.Certificate // Cert first
	Key   crypto.Signer
}

// New makes a root.
func New(t testing.TB) *PKI {
	t.Helper()
	key := NewECDSA(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test root", Country: []string{"IT"}},
		NotBefore: Now.Add(-24 * time.Hour), NotAfter: Now.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return &PKI{Root: create(t, tmpl, tmpl, key.Public(), key), Key: key}
}

func create(t testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return cert
}

// NewECDSA makes a P-256 key.
func NewECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 3072) })

// RSA gives a 3072-bit key, the same one all through a test binary since making one is slow.
func RSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsaKey()
	check(t, err)
	return key
}

// Pool holds the root alone.
func (p *PKI) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Root)
	return pool
}

// Issue certifies a key for signing (nonRepudiation alone); change may turn the template.
func (p *PKI) Issue(t testing.TB, cn string, key crypto.Signer, change ...func(*x509.Certificate)) Pair {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn, Country: []string{"IT"}, SerialNumber: "TINIT-RSSMRA70A01H501S"},
		NotBefore: Now.Add(-24 * time.Hour), NotAfter: Now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageContentCommitment, BasicConstraintsValid: true, SubjectKeyId: serial.Bytes(),
	}
	for _, f := range change {
		f(tmpl)
	}
	cert := create(t, tmpl, p.Root, key.Public(), p.Key)
	return Pair{Cert: cert, Chain: []*x509.Certificate{cert, p.Root}, Key: key}
}

// TimeStamping turns a template into a time-stamp authority's.
func TimeStamping(c *x509.Certificate) {
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtraExtensions = []pkix.Extension{{
		Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
		Value: []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08},
	}}
}

// File writes bytes into the test's folder and gives the path.
func File(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	check(t, os.WriteFile(path, content, 0o600))
	return path
}

// CertFile writes certificates in PEM.
func CertFile(t testing.TB, certs ...*x509.Certificate) string {
	t.Helper()
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return File(t, "certs.pem", out)
}

// KeyFile writes a private key in PKCS #8 PEM.
func KeyFile(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	return File(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// Run runs a program that is not ours; pkg is the Debian package that brings it.
// A missing program fails the test and says what to install.
func Run(t testing.TB, pkg, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install -y %s", name, pkg)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

// OpenSSL runs openssl and wants success.
func OpenSSL(t testing.TB, args ...string) string {
	t.Helper()
	out, err := Run(t, "openssl", "openssl", args...)
	if err != nil {
		t.Fatalf("openssl %v: %v: %s", args, err, out)
	}
	return out
}

// OpenSSLSays asks openssl for the signature of an S/MIME message, whoever made it, and gives what it says.
func OpenSSLSays(t testing.TB, raw []byte) (said string, ok bool) {
	t.Helper()
	said, err := Run(t, "openssl", "openssl", "cms", "-verify", "-noverify", "-inform", "SMIME", "-in", File(t, "message.eml", raw), "-out", os.DevNull)
	var refused *exec.ExitError
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return said, err == nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
