package pec

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ceralacca.dev/services/format/cms"
	"github.com/stretchr/testify/require"
)

// signedBySSL is a detached signature that openssl makes over a content.
func signedBySSL(t *testing.T, content string, cert *x509.Certificate, key crypto.PrivateKey, args ...string) []byte {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	require.NoError(t, err, "run make prepare, or apt-get install -y openssl")
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, data := range map[string][]byte{
		"content": []byte(content), "cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	if len(args) == 0 || args[0] != "crl2pkcs7" {
		args = append([]string{"cms", "-sign", "-binary", "-in", "content", "-signer", "cert.pem", "-inkey", "key.pem"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), bin, append(args, "-outform", "DER", "-out", "p7s")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "openssl %v: %s", args, out)
	raw, err := os.ReadFile(filepath.Join(dir, "p7s"))
	require.NoError(t, err)
	return raw
}

// withoutDigests is a signature whose list of digest algorithms is empty: programs have crashed on it.
func withoutDigests(t *testing.T, p7s []byte) []byte {
	t.Helper()
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	_, err := asn1.Unmarshal(p7s, &outer)
	require.NoError(t, err)
	var parts []asn1.RawValue
	_, err = asn1.Unmarshal(outer.Content.Bytes, &parts)
	require.NoError(t, err)
	parts[1] = asn1.RawValue{FullBytes: []byte{0x31, 0}}
	inner, err := asn1.Marshal(parts)
	require.NoError(t, err)
	tag, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner})
	require.NoError(t, err)
	whole, err := asn1.Marshal([]asn1.RawValue{{FullBytes: mustMarshal(t, outer.Type)}, {FullBytes: tag}})
	require.NoError(t, err)
	return whole
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	out, err := asn1.Marshal(v)
	require.NoError(t, err)
	return out
}

// TestC12C13WaysToSign: a provider may change to another digest, to RSA-PSS or to ECDSA, by another program: the signature holds.
// A weak digest, no signed attributes, no signature at all, an attribute twice or left out, an empty list of digests and a
// megabyte of anything are refused, and at once. TESTPLAN C12, C13.
func TestC12C13WaysToSign(t *testing.T) {
	w := newWorld(t)
	content := mixedContent(t, "")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tpl := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: w.alfa.Name, Organization: []string{w.alfa.Name}}, NotBefore: at.AddDate(-1, 0, 0),
		NotAfter: at.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, EmailAddresses: []string{w.alfa.Address}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, w.caAlfa, &key.PublicKey, w.caKey)
	require.NoError(t, err)
	curve, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	w.trust.Providers[0].Certificates = append(w.trust.Providers[0].Certificates, fingerprint(curve))
	ours := func(signed ...cms.Attribute) []byte {
		p7s, err := cms.SignDetached(t.Context(), sha256Of(content), w.alfa.Key, cms.Options{Certificate: w.alfa.Certificate, SigningTime: at, Signed: signed})
		require.NoError(t, err)
		return p7s
	}
	rsa := func(args ...string) []byte { return signedBySSL(t, content, w.alfa.Certificate, w.alfa.Key, args...) }
	digestOID := mustMarshal(t, cms.OIDMessageDigest)
	otherOID := bytes.Clone(digestOID)
	otherOID[len(otherOID)-1] = 99
	for _, c := range []struct {
		name  string
		p7s   []byte
		valid bool
	}{
		{"SHA-1", rsa("-md", "sha1"), true},
		{"SHA-256", rsa("-md", "sha256"), true},
		{"SHA-384", rsa("-md", "sha384"), true},
		{"SHA-512", rsa("-md", "sha512"), true},
		{"RSA-PSS", rsa("-md", "sha256", "-keyopt", "rsa_padding_mode:pss"), true},
		{"ECDSA", signedBySSL(t, content, curve, key, "-md", "sha256"), true},
		{"ECDSA with SHA-512", signedBySSL(t, content, curve, key, "-md", "sha512"), true},
		{"MD5", rsa("-md", "md5"), false},
		{"no signed attributes", rsa("-md", "sha256", "-noattr"), false},
		{"certificates alone", signedBySSL(t, content, w.alfa.Certificate, w.alfa.Key, "crl2pkcs7", "-nocrl", "-certfile", "cert.pem"), false},
		{"digest twice", ours(cms.Attribute{Type: cms.OIDMessageDigest, Values: [][]byte{{4, 1, 42}}}), false},
		{"content type twice", ours(cms.Attribute{Type: cms.OIDContentType, Values: [][]byte{{6, 1, 42}}}), false},
		{"digest left out", bytes.Replace(ours(), digestOID, otherOID, 1), false},
		{"no digest algorithms", withoutDigests(t, ours()), false},
		{"ten thousand deep", bytes.Repeat([]byte{0x30, 0x80}, 10_000), false},
		{"lengths beyond the end", bytes.Repeat([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}, 10_000), false},
		{"a megabyte", append(ours(), make([]byte, 1<<20)...), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := readAll(t, signedWith(receiptHeader, content, c.p7s))
			fastest := time.Hour
			var rep *Report
			for range 3 { // the machine may be busy with something else once
				start := time.Now()
				rep = verified(t, w, r)
				fastest = min(fastest, time.Since(start))
			}
			require.Equal(t, c.valid, rep.Status == StatusValid, "%s %s", rep.Status, rep.Reason)
			if !c.valid {
				require.Contains(t, []Status{StatusInvalidDigest, StatusInvalidSignature, StatusUnparsable}, rep.Status, rep.Reason)
				require.False(t, r.Proven(rep))
				require.Less(t, fastest, 100*time.Millisecond)
			}
		})
	}
}
