package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

// signAndRead signs content with what the options say and reads the file back.
func signAndRead(t *testing.T, p cmstest.Pair, o cms.Options) *cms.SignedData {
	t.Helper()
	o.Certificate = p.Cert
	out, err := cms.Sign(t.Context(), content, p.Key, o)
	require.NoError(t, err)
	sd, err := cms.Parse(out)
	require.NoError(t, err)
	return sd
}

func TestEachCheckIsToldApart(t *testing.T) {
	pki := cmstest.New(t)
	person := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	auth := pki.Issue(t, "Carta", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	cipher := pki.Issue(t, "Cifra", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	root := cmstest.Pair{Cert: pki.Root, Chain: []*x509.Certificate{pki.Root}, Key: pki.Key}
	expired := pki.Issue(t, "Scaduta", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.NotAfter = cmstest.Now.Add(-time.Hour) })
	ess := func(p cmstest.Pair) []cms.Attribute {
		a, err := cms.SigningCertificateV2(p.Cert)
		require.NoError(t, err)
		return []cms.Attribute{a}
	}
	all := cms.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now, RequireContentCommitment: true, RequireESS: true, RequireSigningTime: true}
	type field = func(cms.SignerReport) cms.Check
	trust := func(r cms.SignerReport) cms.Check { return r.Trust }
	usage := func(r cms.SignerReport) cms.Check { return r.KeyUsage }
	essOf := func(r cms.SignerReport) cms.Check { return r.ESS }
	timeOf := func(r cms.SignerReport) cms.Check { return r.Time }
	for name, c := range map[string]struct {
		p      cmstest.Pair
		o      cms.Options
		judge  func(*cms.VerifyOptions)
		of     field
		reason string
	}{
		"authentication certificate": {auth, cms.Options{SigningTime: cmstest.Now, Signed: ess(auth)}, nil, usage, "not for signing"},
		"encryption certificate": {cipher, cms.Options{SigningTime: cmstest.Now, Signed: ess(cipher)},
			func(o *cms.VerifyOptions) { o.RequireContentCommitment = false }, usage, "allows no signatures"},
		"authority's certificate": {root, cms.Options{SigningTime: cmstest.Now, Signed: ess(root)},
			func(o *cms.VerifyOptions) { o.RequireContentCommitment = false }, usage, "allows no signatures"},
		"extended usage": {person, cms.Options{SigningTime: cmstest.Now, Signed: ess(person)},
			func(o *cms.VerifyOptions) { o.ExtKeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }, usage, "extended key usage"},
		"ess of another":    {person, cms.Options{SigningTime: cmstest.Now, Signed: ess(auth)}, nil, essOf, "another certificate"},
		"ess missing":       {person, cms.Options{SigningTime: cmstest.Now}, nil, essOf, "is missing"},
		"ess twice":         {person, cms.Options{SigningTime: cmstest.Now, Signed: append(ess(person), ess(auth)...)}, nil, essOf, "more than one"},
		"ess malformed":     {person, cms.Options{SigningTime: cmstest.Now, Signed: []cms.Attribute{{Type: cms.OIDSigningCertificateV2, Values: [][]byte{{5, 0}}}}}, nil, essOf, "malformed"},
		"time missing":      {person, cms.Options{Signed: ess(person)}, nil, timeOf, "is missing"},
		"time ahead":        {person, cms.Options{SigningTime: cmstest.Now.Add(time.Hour), Signed: ess(person)}, nil, timeOf, "is after"},
		"time before issue": {person, cms.Options{SigningTime: cmstest.Now.AddDate(-1, 0, 0), Signed: ess(person)}, nil, timeOf, "outside the certificate's validity"},
		"expired":           {expired, cms.Options{SigningTime: cmstest.Now.Add(-2 * time.Hour), Signed: ess(expired)}, nil, trust, "expired"},
		"foreign root":      {person, cms.Options{SigningTime: cmstest.Now, Signed: ess(person)}, func(o *cms.VerifyOptions) { o.Roots = cmstest.New(t).Pool() }, trust, "unknown authority"},
		"content type differs": {person, cms.Options{SigningTime: cmstest.Now, Signed: append(ess(person),
			cms.Attribute{Type: cms.OIDContentType, Values: [][]byte{{6, 1, 42}}})}, nil,
			func(r cms.SignerReport) cms.Check { return r.ContentType }, "2 content-type attributes"},
		"digest twice": {person, cms.Options{SigningTime: cmstest.Now, Signed: append(ess(person),
			cms.Attribute{Type: cms.OIDMessageDigest, Values: [][]byte{{4, 1, 42}}})}, nil,
			func(r cms.SignerReport) cms.Check { return r.Digest }, "2 message-digest attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			sd := signAndRead(t, c.p, c.o)
			o := all
			if c.judge != nil {
				c.judge(&o)
			}
			rep := sd.Verify(o)
			got := c.of(rep.Signers[0])
			require.Equal(t, cms.Failed, got.Verdict)
			require.Contains(t, got.Reason, c.reason)
			require.ErrorContains(t, rep.Err(), c.reason)
			require.Equal(t, cms.Passed, rep.Signers[0].Signature.Verdict, "the value itself is right")
			require.Equal(t, content, sd.Content())
		})
	}
	require.NoError(t, signAndRead(t, person, cms.Options{SigningTime: cmstest.Now, Signed: ess(person)}).Verify(all).Err())
}

func TestWhatIsNotGivenIsNotJudged(t *testing.T) {
	pki := cmstest.New(t)
	sd := signAndRead(t, pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t)), cms.Options{})
	s := sd.Verify(cms.VerifyOptions{}).Signers[0]
	for _, c := range []cms.Check{s.ESS, s.Time, s.Trust} {
		require.Equal(t, cms.NotJudged, c.Verdict)
		require.NotEmpty(t, c.Reason)
	}
	require.Contains(t, sd.Verify(cms.VerifyOptions{Roots: pki.Pool()}).Signers[0].Trust.Reason, "no time of judgement")
}

func TestCertificateElsewhere(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	sd := signAndRead(t, p, cms.Options{BareSigner: true})
	require.Empty(t, sd.Certificates)
	rep := sd.Verify(cms.VerifyOptions{})
	require.ErrorContains(t, rep.Err(), "certificate is not in the file")
	require.Equal(t, cms.Passed, rep.Signers[0].Digest.Verdict)
	require.NoError(t, sd.Verify(cms.VerifyOptions{Intermediates: []*x509.Certificate{p.Cert}}).Err())
}

// The attack that ESS is there for: another certificate of the same key, issuer and number.
func TestCertificatePutInPlaceOfAnother(t *testing.T) {
	pki := cmstest.New(t)
	key := cmstest.NewECDSA(t)
	serial := func(c *x509.Certificate) { c.SerialNumber = big.NewInt(77) }
	mine := pki.Issue(t, "Maria Rossi", key, serial)
	theirs := pki.Issue(t, "Mario Rossi", key, serial)
	ess, err := cms.SigningCertificateV2(mine.Cert)
	require.NoError(t, err)
	sd := signAndRead(t, mine, cms.Options{BareSigner: true, Signed: []cms.Attribute{ess}})
	rep := sd.Verify(cms.VerifyOptions{Intermediates: []*x509.Certificate{theirs.Cert}})
	require.Equal(t, cms.Passed, rep.Signers[0].Signature.Verdict)
	require.ErrorContains(t, rep.Err(), "another certificate")
}

// signing-certificate of version 1 names the certificate by SHA-1: old stamps carry it.
func TestESSVersion1(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	v1 := func(raw []byte) []cms.Attribute {
		sum := sha1.Sum(raw)
		der, err := asn1.Marshal(struct{ Certs []struct{ Hash []byte } }{[]struct{ Hash []byte }{{sum[:]}}})
		require.NoError(t, err)
		return []cms.Attribute{{Type: cms.OIDSigningCertificate, Values: [][]byte{der}}}
	}
	s := signAndRead(t, p, cms.Options{Signed: v1(p.Cert.Raw)}).Verify(cms.VerifyOptions{}).Signers[0]
	require.Equal(t, cms.Check{Verdict: cms.Passed, Reason: "by SHA-1"}, s.ESS)
	s = signAndRead(t, p, cms.Options{Signed: v1([]byte("other"))}).Verify(cms.VerifyOptions{}).Signers[0]
	require.Equal(t, cms.Failed, s.ESS.Verdict)
}

// tolerance: unsorted-attributes. The attributes are put in another order, hashed and signed so.
func TestUnsortedAttributes(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	sum := sha256.Sum256(content)
	prepared, err := cms.Prepare(sum[:], cms.Options{Certificate: p.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	digest := prepared.Digest()
	good, err := p.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	require.NoError(t, err)
	out, err := prepared.Assemble(content, good)
	require.NoError(t, err)

	sd, err := cms.Parse(out)
	require.NoError(t, err)
	var sets [][]byte
	for _, a := range sd.Signers[0].SignedAttributes {
		oid, err := asn1.Marshal(a.Type)
		require.NoError(t, err)
		value := append([]byte{0x31, byte(len(a.Values[0]))}, a.Values[0]...)
		sets = append(sets, append(append([]byte{0x30, byte(len(oid) + len(value))}, oid...), value...))
	}
	sorted := bytes.Join(sets, nil)
	require.Contains(t, string(out), string(sorted))
	turned := bytes.Join([][]byte{sets[2], sets[0], sets[1]}, nil)
	digest = sha256.Sum256(append([]byte{0x31, byte(len(turned))}, turned...))
	for {
		sig, err := p.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
		require.NoError(t, err)
		if len(sig) != len(good) {
			continue // ECDSA values have 70 to 72 bytes: the lengths around it are to stay right
		}
		bad := bytes.Replace(bytes.Replace(out, sorted, turned, 1), good, sig, 1)
		sd, err := cms.Parse(bad)
		require.NoError(t, err)
		rep := sd.Verify(cms.VerifyOptions{})
		require.NoError(t, rep.Err())
		require.Contains(t, rep.Signers[0].Warnings[0], "not in DER order")
		return
	}
}

// tolerance: content that is not an octet string, as PKCS#7 1.5 allowed. Its value is signed,
// without identifier and length.
func TestContentThatIsNoOctetString(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	value := "\x02\x01\x05\x02\x01\x07"
	out, err := cms.Sign(t.Context(), []byte(value), p.Key, cms.Options{Certificate: p.Cert})
	require.NoError(t, err)
	old := bytes.Replace(out, []byte("\x04\x06"+value), []byte("\x30\x06"+value), 1)
	require.NotEqual(t, out, old)
	sd, err := cms.Parse(old)
	require.NoError(t, err)
	require.Equal(t, value, string(sd.Content()))
	require.NoError(t, sd.Verify(cms.VerifyOptions{}).Err())
}

func TestSHA1IsReadAndTold(t *testing.T) {
	pki := cmstest.New(t)
	sd, err := cms.Parse(bySSL(t, pki.Issue(t, "Maria Rossi", cmstest.RSA(t)), "-md", "sha1"))
	require.NoError(t, err)
	rep := sd.Verify(cms.VerifyOptions{})
	require.NoError(t, rep.Err())
	require.Equal(t, "SHA-1", rep.Signers[0].Hash)
	require.Contains(t, rep.Signers[0].Warnings[0], "no longer collision resistant")
}
