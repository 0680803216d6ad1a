package cms_test

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

// sealedBySSL has openssl encrypt content for p.
func sealedBySSL(t *testing.T, p cmstest.Pair, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "sealed")
	args = append([]string{"cms", "-encrypt", "-binary", "-in", cmstest.File(t, "in", content), "-outform", "DER", "-out", out}, args...)
	cmstest.OpenSSL(t, append(args, "-recip", cmstest.CertFile(t, p.Cert))...)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	return raw
}

func TestOpensWhatOpenSSLEncrypts(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Nodo", cmstest.RSA(t))
	for name, args := range map[string][]string{
		"aes-256":     {"-aes256"},
		"aes-128":     {"-aes128"},
		"aes-192":     {"-aes192"},
		"triple des":  {"-des3"},
		"key id":      {"-aes256", "-keyid"},
		"chunked ber": {"-aes256", "-stream"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := cms.ParseEnveloped(sealedBySSL(t, p, args...))
			require.NoError(t, err)
			require.Equal(t, strings.Contains(name, "ber"), e.BER)
			got, err := e.Open(p.Cert, cmstest.RSA(t))
			require.NoError(t, err)
			require.Equal(t, content, got)
		})
	}
	t.Run("oaep", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "sealed")
		cmstest.OpenSSL(t, "cms", "-encrypt", "-binary", "-aes256", "-in", cmstest.File(t, "in", content), "-outform", "DER", "-out", out,
			"-recip", cmstest.CertFile(t, p.Cert), "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")
		raw, err := os.ReadFile(out)
		require.NoError(t, err)
		e, err := cms.ParseEnveloped(raw)
		require.NoError(t, err)
		got, err := e.Open(p.Cert, cmstest.RSA(t))
		require.NoError(t, err)
		require.Equal(t, content, got)
	})
}

func TestOpenSSLOpensWhatWeEncrypt(t *testing.T) {
	pki := cmstest.New(t)
	first, second := pki.Issue(t, "Nodo", cmstest.RSA(t)), pki.Issue(t, "SdI", cmstest.RSA(t))
	for _, size := range []int{0, 1, 15, 16, 17, 12_600} {
		in := bytes.Repeat([]byte{7}, size)
		sealed, err := cms.Encrypt(in, first.Cert, second.Cert)
		require.NoError(t, err)
		for _, p := range []cmstest.Pair{first, second} {
			out := filepath.Join(t.TempDir(), "out")
			cmstest.OpenSSL(t, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", cmstest.File(t, "sealed", sealed), "-out", out,
				"-recip", cmstest.CertFile(t, p.Cert), "-inkey", cmstest.KeyFile(t, p.Key))
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			require.Equal(t, string(in), string(got))
		}
	}
}

func TestEnvelopesThatDoNotOpen(t *testing.T) {
	pki := cmstest.New(t)
	key := cmstest.RSA(t)
	p, other := pki.Issue(t, "Nodo", key), pki.Issue(t, "Altro", cmstest.RSA(t))
	sealed, err := cms.Encrypt(content, p.Cert)
	require.NoError(t, err)
	e, err := cms.ParseEnveloped(sealed)
	require.NoError(t, err)
	_, err = e.Open(other.Cert, key)
	require.ErrorIs(t, err, cms.ErrNotRecipient)
	_, err = e.Open(p.Cert, wrongKey{key})
	require.ErrorIs(t, err, cms.ErrDecrypt)

	cut := bytes.Clone(sealed)
	cut[len(cut)-1] ^= 1 // the last byte of the padding, in all but one case of 256
	e, err = cms.ParseEnveloped(cut)
	require.NoError(t, err)
	got, err := e.Open(p.Cert, key)
	require.True(t, errors.Is(err, cms.ErrDecrypt) || !bytes.Equal(got, content))

	for i := 0; i < len(sealed); i += 1 + i/64 {
		_, err := cms.ParseEnveloped(sealed[:i])
		require.Error(t, err, "%d of %d bytes", i, len(sealed))
	}
	_, err = cms.ParseEnveloped(bytes.Repeat([]byte("\x30\x80"), 1_000_000))
	var syntax *cms.SyntaxError
	require.ErrorAs(t, err, &syntax)

	_, err = cms.Encrypt(content)
	require.ErrorContains(t, err, "needs a recipient")
	_, err = cms.Encrypt(content, pki.Issue(t, "EC", cmstest.NewECDSA(t)).Cert)
	require.ErrorContains(t, err, "encryption needs RSA")
	signed, _, _ := small(t)
	_, err = cms.ParseEnveloped(signed)
	require.ErrorContains(t, err, "is not EnvelopedData")
}

// wrongKey gives a content key that is not the right one, as PKCS #1 v1.5 with a random fallback does.
type wrongKey struct{ crypto.Decrypter }

func (w wrongKey) Decrypt(r io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	secret, err := w.Decrypter.Decrypt(r, msg, opts)
	if err == nil {
		secret[0] ^= 0x55
	}
	return secret, err
}

// FuzzParseEnveloped: no input makes the reader panic, and what it reads has bounds.
func FuzzParseEnveloped(f *testing.F) {
	pki := cmstest.New(f)
	p := pki.Issue(f, "Nodo", cmstest.RSA(f))
	sealed, err := cms.Encrypt([]byte("contenuto"), p.Cert)
	require.NoError(f, err)
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := cms.ParseEnveloped(raw)
		if err != nil {
			return
		}
		if len(e.Recipients) > len(raw) {
			t.Fatal("more recipients than bytes")
		}
		_, err = e.Open(p.Cert, cmstest.RSA(t))
		if err == nil && !bytes.Equal(raw, sealed) && len(raw) < len(sealed)/2 {
			t.Fatal("half an envelope opens")
		}
	})
}
