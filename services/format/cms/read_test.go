package cms_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

// content is longer than openssl's chunks of 4,096 bytes: readers that stop at the first show.
var content = bytes.Repeat([]byte("<Riga>però</Riga>\r\n"), 700)

// bySSL has openssl sign content.
func bySSL(t *testing.T, p cmstest.Pair, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	cmstest.OpenSSL(t, append([]string{
		"cms", "-sign", "-binary", "-nodetach", "-in", cmstest.File(t, "in", content), "-signer", cmstest.CertFile(t, p.Cert),
		"-inkey", cmstest.KeyFile(t, p.Key), "-md", "sha256", "-outform", "DER", "-out", out,
	}, args...)...)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	return raw
}

func TestReadsWhatOpenSSLWrites(t *testing.T) {
	pki := cmstest.New(t)
	ec := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	rs := pki.Issue(t, "Mario Bianchi", cmstest.RSA(t))
	for _, c := range []struct {
		name      string
		raw       []byte
		ber       bool
		armour    cms.Armour
		algorithm string
	}{
		{name: "rsa", raw: bySSL(t, rs), algorithm: "RSA"},
		{name: "ecdsa", raw: bySSL(t, ec), algorithm: "ECDSA"},
		{name: "chunked ber", raw: bySSL(t, rs, "-stream"), ber: true, algorithm: "RSA"},
		{name: "pem", raw: bySSL(t, rs, "-outform", "PEM"), armour: cms.ArmourPEM, algorithm: "RSA"},
		{name: "base64", raw: []byte(base64.StdEncoding.EncodeToString(bySSL(t, rs))), armour: cms.ArmourBase64, algorithm: "RSA"},
		{name: "base64 with crlf", raw: crlf(bySSL(t, ec, "-stream")), ber: true, armour: cms.ArmourBase64, algorithm: "ECDSA"},
		{name: "key identifier", raw: bySSL(t, rs, "-keyid"), algorithm: "RSA"},
		{name: "pss", raw: bySSL(t, rs, "-keyopt", "rsa_padding_mode:pss"), algorithm: "RSA-PSS"},
		{name: "sha-512", raw: bySSL(t, ec, "-md", "sha512"), algorithm: "ECDSA"},
		{name: "no attributes", raw: bySSL(t, rs, "-noattr"), algorithm: "RSA"},
		{name: "ess", raw: bySSL(t, ec, "-cades"), algorithm: "ECDSA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sd, err := cms.Parse(c.raw)
			require.NoError(t, err)
			require.Equal(t, content, sd.Content())
			require.Equal(t, c.ber, sd.BER)
			if c.armour == "" {
				c.armour = cms.ArmourNone
			}
			require.Equal(t, c.armour, sd.Armour)
			rep := sd.Verify(cms.VerifyOptions{Roots: pki.Pool(), At: time.Now()})
			require.NoError(t, rep.Err())
			require.Equal(t, c.algorithm, rep.Signers[0].Algorithm)
			require.Equal(t, cms.Passed, rep.Signers[0].Trust.Verdict)
			require.Empty(t, rep.Warnings)
			if c.name == "ess" {
				require.Equal(t, cms.Passed, rep.Signers[0].ESS.Verdict)
			}
		})
	}
}

// crlf is Base64 as mail clients save it.
func crlf(raw []byte) []byte {
	text := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	for len(text) > 64 {
		b.WriteString(text[:64] + "\r\n")
		text = text[64:]
	}
	return []byte(b.String() + text + "\r\n")
}

func TestDetached(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	out := filepath.Join(t.TempDir(), "out")
	cmstest.OpenSSL(t, "cms", "-sign", "-binary", "-in", cmstest.File(t, "in", content), "-signer", cmstest.CertFile(t, p.Cert),
		"-inkey", cmstest.KeyFile(t, p.Key), "-outform", "DER", "-out", out)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	sd, err := cms.Parse(raw)
	require.NoError(t, err)
	require.True(t, sd.Detached)
	require.Nil(t, sd.Content())
	require.NoError(t, sd.Verify(cms.VerifyOptions{Content: bytes.NewReader(content)}).Err())
	require.ErrorContains(t, sd.Verify(cms.VerifyOptions{}).Err(), "no content was given")
	require.ErrorContains(t, sd.Verify(cms.VerifyOptions{Content: strings.NewReader("other")}).Err(), "not the one that was signed")
}

// Files from the wild stay outside the repository; they are read where they are at hand.
func TestFilesFromTheWild(t *testing.T) {
	ref := filepath.Join("..", "..", "..", "..", "shared", "reference")
	for path, want := range map[string]string{
		filepath.Join(ref, "sdi", "samples", "govway__IT01234567890_11111.xml.p7m"):            "FatturaElettronica",
		filepath.Join(ref, "conservation", "samples", "pda-example", "data", "PIndex.xml.p7m"): "PIndex",
	} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Logf("%s is not at hand: own fixtures alone were read", filepath.Base(path))
			continue
		}
		sd, err := cms.Parse(raw)
		require.NoError(t, err, path)
		require.Contains(t, string(sd.Content()), want)
		rep := sd.Verify(cms.VerifyOptions{})
		for _, s := range rep.Signers {
			t.Logf("%s: BER %v, %d bytes, %s with %s at %s: %v", filepath.Base(path), sd.BER, len(sd.Content()), s.Algorithm, s.Hash, s.SigningTime, s.Err())
		}
	}
}

// Envelopes inside envelopes, each in another armour.
func TestOpen(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	sign := func(c []byte) []byte {
		out, err := cms.Sign(t.Context(), c, p.Key, cms.Options{Certificate: p.Cert, SigningTime: cmstest.Now})
		require.NoError(t, err)
		return out
	}
	got, layers, err := cms.Open(sign(crlf(sign(sign(content)))))
	require.NoError(t, err)
	require.Len(t, layers, 3)
	require.Equal(t, content, got)
	for _, l := range layers {
		require.NoError(t, l.Verify(cms.VerifyOptions{}).Err())
	}

	deep := content
	for range cms.MaxLayers + 1 {
		deep = sign(deep)
	}
	_, layers, err = cms.Open(deep)
	require.ErrorContains(t, err, "more than 8 envelopes")
	require.Len(t, layers, cms.MaxLayers)

	_, _, err = cms.Open([]byte("<xml/>"))
	require.Error(t, err)
	inner := sign(content)
	got, layers, err = cms.Open(sign(inner[:len(inner)-1]))
	require.NoError(t, err, "a damaged inner envelope is content")
	require.Len(t, layers, 1)
	require.Equal(t, inner[:len(inner)-1], got)
}

func TestSecondReaderAgrees(t *testing.T) {
	pki := cmstest.New(t)
	for name, key := range map[string]crypto.Signer{"rsa": cmstest.RSA(t), "ecdsa": cmstest.NewECDSA(t)} {
		t.Run(name, func(t *testing.T) {
			p := pki.Issue(t, "Maria Rossi", key)
			out, err := cms.Sign(t.Context(), content, p.Key, cms.Options{Certificate: p.Cert, Chain: p.Chain, SigningTime: cmstest.Now})
			require.NoError(t, err)
			theirs, err := pkcs7.Parse(out)
			require.NoError(t, err)
			require.NoError(t, theirs.Verify())
			ours, err := cms.Parse(out)
			require.NoError(t, err)
			require.Equal(t, theirs.Content, ours.Content())
			require.Len(t, theirs.Certificates, 2)
			require.Len(t, ours.Certificates, 2)
			require.Equal(t, theirs.Signers[0].EncryptedDigest, ours.Signers[0].Signature)
			require.Equal(t, []*x509.Certificate{p.Cert, pki.Root}, ours.Chain(p.Cert))
		})
	}
}
