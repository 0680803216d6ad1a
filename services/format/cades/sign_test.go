package cades_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/tsp"
)

var invoice = bytes.Repeat([]byte("<Riga>città</Riga>\r\n"), 500)

// at is what programs with a clock of their own are told.
const at = "1772447415" // cmstest.Now

func signers(t testing.TB, pki *cmstest.PKI) map[string]cmstest.Pair {
	return map[string]cmstest.Pair{
		"rsa-3072":   pki.Issue(t, "Maria Rossi", cmstest.RSA(t)),
		"ecdsa-p256": pki.Issue(t, "Mario Bianchi", cmstest.NewECDSA(t)),
	}
}

func stamper(t testing.TB, pki *cmstest.PKI) cades.Stamp {
	p := pki.Issue(t, "TSA", cmstest.NewECDSA(t), cmstest.TimeStamping)
	serial := big.NewInt(0)
	a := tsp.Authority{
		Certificate: p.Cert, Chain: p.Chain[1:], Key: p.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now:    func() time.Time { return cmstest.Now.Add(time.Second) },
		Serial: func() *big.Int { return serial.Add(serial, big.NewInt(1)) },
	}
	return func(ctx context.Context, digest []byte) ([]byte, error) {
		req := tsp.Request{Hash: crypto.SHA256, Digest: digest, CertReq: true}
		der, err := req.Marshal()
		if err != nil {
			return nil, err
		}
		answer, err := a.Respond(ctx, der)
		if err != nil {
			return nil, err
		}
		resp, err := tsp.ParseResponse(answer)
		if err != nil {
			return nil, err
		}
		return resp.Token, resp.Err()
	}
}

func TestSignIsAcceptedByOpenSSLAndPKCS7(t *testing.T) {
	pki := cmstest.New(t)
	root := cmstest.CertFile(t, pki.Root)
	for name, p := range signers(t, pki) {
		t.Run(name, func(t *testing.T) {
			out, err := cades.Sign(t.Context(), invoice, cades.Signer{Chain: p.Chain, Key: p.Key}, cades.Options{SigningTime: cmstest.Now})
			require.NoError(t, err)
			require.NoError(t, cades.CheckOutput(out, invoice, p.Cert))

			path := cmstest.File(t, "fattura.xml.p7m", out)
			back := filepath.Join(t.TempDir(), "back.xml")
			cmstest.OpenSSL(t, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", path,
				"-CAfile", root, "-purpose", "any", "-attime", at, "-out", back)
			got, err := os.ReadFile(back)
			require.NoError(t, err)
			require.Equal(t, invoice, got)

			second, err := pkcs7.Parse(out)
			require.NoError(t, err)
			require.NoError(t, second.VerifyWithChainAtTime(pki.Pool(), cmstest.Now))
			require.Equal(t, invoice, second.Content)
			var when time.Time
			require.NoError(t, second.UnmarshalSignedAttribute(cms.OIDSigningTime, &when))
			require.True(t, when.Equal(cmstest.Now))
		})
	}
}

func TestDetachedAndStreamedAreAcceptedByOpenSSL(t *testing.T) {
	pki := cmstest.New(t)
	root := cmstest.CertFile(t, pki.Root)
	for name, p := range signers(t, pki) {
		t.Run(name, func(t *testing.T) {
			s := cades.Signer{Chain: p.Chain, Key: p.Key}
			sum := sha256.Sum256(invoice)
			out, err := cades.SignDetached(t.Context(), sum[:], s, cades.Options{SigningTime: cmstest.Now})
			require.NoError(t, err)
			content := cmstest.File(t, "content", invoice)
			cmstest.OpenSSL(t, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", cmstest.File(t, "d.p7s", out),
				"-content", content, "-CAfile", root, "-purpose", "any", "-attime", at, "-out", os.DevNull)

			var streamed bytes.Buffer
			require.NoError(t, cades.SignStream(t.Context(), &streamed, bytes.NewReader(invoice), s, cades.Options{SigningTime: cmstest.Now}))
			require.NoError(t, cades.CheckOutput(streamed.Bytes(), invoice, p.Cert))
			cmstest.OpenSSL(t, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", cmstest.File(t, "s.p7m", streamed.Bytes()),
				"-CAfile", root, "-purpose", "any", "-attime", at, "-out", os.DevNull)
		})
	}
}

func TestTimestampedLevel(t *testing.T) {
	pki := cmstest.New(t)
	stamp := stamper(t, pki)
	for name, p := range signers(t, pki) {
		t.Run(name, func(t *testing.T) {
			s := cades.Signer{Chain: p.Chain, Key: p.Key}
			out, err := cades.Sign(t.Context(), invoice, s, cades.Options{SigningTime: cmstest.Now, Timestamp: stamp})
			require.NoError(t, err)
			judge := cades.VerifyOptions{Roots: pki.Pool(), TSARoots: pki.Pool(), At: cmstest.Now.Add(time.Hour), ForSdI: true}
			_, rep, err := cades.Verify(out, judge)
			require.NoError(t, err)
			require.NoError(t, rep.Err())
			require.Equal(t, cades.LevelT, rep.Signers[0].Level)
			require.Equal(t, cmstest.Now, rep.Signers[0].SigningTime)
			require.Equal(t, cmstest.Now.Add(time.Second), rep.Signers[0].Stamps[0].Time)

			// the stamp is over the signature value: openssl agrees
			sd, err := cms.Parse(out)
			require.NoError(t, err)
			token := sd.Signers[0].Unsigned(cms.OIDSignatureTimeStamp)[0]
			cmstest.OpenSSL(t, "ts", "-verify", "-token_in", "-in", cmstest.File(t, "t.der", token),
				"-data", cmstest.File(t, "value", sd.Signers[0].Signature), "-CAfile", cmstest.CertFile(t, pki.Root), "-attime", at)
			cmstest.OpenSSL(t, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", cmstest.File(t, "t.p7m", out),
				"-CAfile", cmstest.CertFile(t, pki.Root), "-purpose", "any", "-attime", at, "-out", os.DevNull)

			// a foreign root for the stamp is told
			judge.TSARoots = cmstest.New(t).Pool()
			_, rep, err = cades.Verify(out, judge)
			require.NoError(t, err)
			require.ErrorContains(t, rep.Err(), "time-stamp")
			require.Equal(t, cades.LevelBES, rep.Signers[0].Level)
		})
	}
}

func TestLostStampKeepsTheSignature(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	down := errors.New("authority is down")
	fail := func(context.Context, []byte) ([]byte, error) { return nil, down }
	out, err := cades.Sign(t.Context(), invoice, cades.Signer{Chain: p.Chain, Key: p.Key},
		cades.Options{SigningTime: cmstest.Now, Timestamp: fail})
	var lost *cades.TimestampError
	require.ErrorAs(t, err, &lost)
	require.ErrorIs(t, err, down)
	require.NoError(t, cades.CheckOutput(out, invoice, p.Cert))

	later, err := cades.AddTimestamp(t.Context(), out, stamper(t, pki))
	require.NoError(t, err)
	_, rep, err := cades.Verify(later, cades.VerifyOptions{TSARoots: pki.Pool()})
	require.NoError(t, err)
	require.NoError(t, rep.Err())
	require.Equal(t, cades.LevelT, rep.Signers[0].Level)
	again, err := cades.AddTimestamp(t.Context(), later, fail)
	require.NoError(t, err, "a file with all its stamps asks for none")
	require.Equal(t, later, again)
}

func TestParallelSignatures(t *testing.T) {
	pki := cmstest.New(t)
	a := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	b := pki.Issue(t, "Mario Bianchi", cmstest.RSA(t))
	one, err := cades.Sign(t.Context(), invoice, cades.Signer{Chain: a.Chain, Key: a.Key}, cades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	two, err := cades.AddSigner(t.Context(), one, cades.Signer{Chain: b.Chain, Key: b.Key}, cades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	three, err := cades.AddTimestamp(t.Context(), two, stamper(t, pki))
	require.NoError(t, err)
	sd, rep, err := cades.Verify(three, cades.VerifyOptions{Roots: pki.Pool(), TSARoots: pki.Pool(), At: cmstest.Now.Add(time.Hour), ForSdI: true})
	require.NoError(t, err)
	require.NoError(t, rep.Err())
	require.Equal(t, invoice, sd.Content())
	names := map[string]cades.Level{}
	for _, s := range rep.Signers {
		names[s.Certificate.Subject.CommonName] = s.Level
	}
	require.Equal(t, map[string]cades.Level{"Maria Rossi": cades.LevelT, "Mario Bianchi": cades.LevelT}, names)
	cmstest.OpenSSL(t, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", cmstest.File(t, "2.p7m", three),
		"-CAfile", cmstest.CertFile(t, pki.Root), "-purpose", "any", "-attime", at, "-out", os.DevNull)
}

func TestSignRefuses(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	other := cmstest.NewECDSA(t)
	ok := cades.Options{SigningTime: cmstest.Now}
	for name, c := range map[string]struct {
		s    cades.Signer
		o    cades.Options
		want string
	}{
		"no certificate": {cades.Signer{Key: p.Key}, ok, "has no certificate"},
		"no time":        {cades.Signer{Chain: p.Chain, Key: p.Key}, cades.Options{}, "signing time is required"},
		"expired":        {cades.Signer{Chain: p.Chain, Key: p.Key}, cades.Options{SigningTime: cmstest.Now.AddDate(11, 0, 0)}, "is valid from"},
		"foreign key":    {cades.Signer{Chain: p.Chain, Key: other}, ok, cms.ErrKeyMismatch.Error()},
		"lying key":      {cades.Signer{Chain: p.Chain, Key: liar{p.Key, other}}, ok, cms.ErrBadSignature.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := cades.Sign(t.Context(), invoice, c.s, c.o)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, out)
		})
	}
	liar := cades.Signer{Chain: p.Chain, Key: liar{p.Key, other}}
	stamp := func(context.Context, []byte) ([]byte, error) {
		t.Error("a value that does not verify is not stamped")
		return nil, nil
	}
	_, err := cades.Sign(t.Context(), invoice, liar, cades.Options{SigningTime: cmstest.Now, ReadBack: true, Timestamp: stamp})
	require.ErrorIs(t, err, cms.ErrBadSignature)
	lie, err := cades.Sign(t.Context(), invoice, liar, cades.Options{SigningTime: cmstest.Now, ReadBack: true})
	require.NoError(t, err, "it is the caller who looks")
	require.Error(t, cades.CheckOutput(lie, invoice, p.Cert))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = cades.Sign(ctx, invoice, cades.Signer{Chain: p.Chain, Key: p.Key}, ok)
	require.ErrorIs(t, err, context.Canceled)
}

// liar shows one public key and signs with another, as a rotated key in a vault does.
type liar struct {
	shown crypto.Signer
	crypto.Signer
}

func (l liar) Public() crypto.PublicKey { return l.shown.Public() }

func TestReportForSdI(t *testing.T) {
	pki := cmstest.New(t)
	auth := pki.Issue(t, "RSSMRA70A01H501S/12345678", cmstest.NewECDSA(t), func(c *x509.Certificate) {
		c.KeyUsage = x509.KeyUsageDigitalSignature
	})
	out, err := cades.Sign(t.Context(), invoice, cades.Signer{Chain: auth.Chain, Key: auth.Key}, cades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	sd, rep, err := cades.Verify(out, cades.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now, ForSdI: true})
	require.NoError(t, err)
	require.ErrorContains(t, rep.Err(), "not for signing")
	require.Equal(t, invoice, sd.Content(), "a bad signature does not hide the content")

	_, rep, err = cades.Verify(out, cades.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now.Add(-time.Hour)})
	require.NoError(t, err)
	require.ErrorContains(t, rep.Err(), "signing time", "signed after its reception: SdI 00105")
}

func BenchmarkSign10kB(b *testing.B) {
	pki := cmstest.New(b)
	content := bytes.Repeat([]byte("x"), 10_000)
	for name, p := range signers(b, pki) {
		b.Run(name, func(b *testing.B) {
			s := cades.Signer{Chain: p.Chain, Key: p.Key}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cades.Sign(b.Context(), content, s, cades.Options{SigningTime: cmstest.Now}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/bare-key", func(b *testing.B) { // the key alone: make and check a value
			digest := sha256.Sum256(content)
			fixed, err := cades.Prepare(digest[:], cades.Signer{Chain: p.Chain, Key: p.Key}, cades.Options{SigningTime: cmstest.Now})
			require.NoError(b, err)
			for b.Loop() {
				if _, err := fixed.Sign(b.Context(), p.Key); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/bare-check", func(b *testing.B) { // the value's check and the hashing
			digest := sha256.Sum256(content)
			fixed, err := cades.Prepare(digest[:], cades.Signer{Chain: p.Chain, Key: p.Key}, cades.Options{SigningTime: cmstest.Now})
			require.NoError(b, err)
			sig, err := fixed.Sign(b.Context(), p.Key)
			require.NoError(b, err)
			for b.Loop() {
				sum := sha256.Sum256(content)
				if err := fixed.Check(sig); err != nil || sum != digest {
					b.Fatal(err)
				}
			}
		})
		// everything but the key operations: what a remote key leaves to us
		b.Run(name+"/without-key", func(b *testing.B) {
			s := cades.Signer{Chain: p.Chain, Key: p.Key}
			sum := sha256.Sum256(content)
			fixed, err := cades.Prepare(sum[:], s, cades.Options{SigningTime: cmstest.Now})
			require.NoError(b, err)
			sig, err := fixed.Sign(b.Context(), p.Key)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				sum := sha256.Sum256(content)
				prepared, err := cades.Prepare(sum[:], s, cades.Options{SigningTime: cmstest.Now})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := prepared.Assemble(content, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/verify", func(b *testing.B) {
			out, err := cades.Sign(b.Context(), content, cades.Signer{Chain: p.Chain, Key: p.Key}, cades.Options{SigningTime: cmstest.Now})
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if err := cades.CheckOutput(out, content, p.Cert); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
