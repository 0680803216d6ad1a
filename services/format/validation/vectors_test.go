package validation_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/format/xades"
)

// The vectors of this file are made as the test cases of the EU's validator are: one cause each, in every
// form of signature that can have it, with the indication and the sub-indication that EN 319 102-1 gives
// it. The writers of this repository made all of them, one apart (partlySigned), so that they show what is
// said of a cause and not that foreign files are read: for that there are TestForeignVectors and
// TestBouncyCastle. None is of the EU's own. TestVectors also wants every sub-indication to have its vector.

var cmsContentTimestamp = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 20}

// vector is one file with what has to be said of it.
type vector struct {
	name string
	file []byte
	o    validation.Options
	want validation.Verdict
	sub  validation.Sub
}

// signed makes the three forms of one signer.
var signed = map[string]func(w world, stamped ...time.Time) []byte{
	"CAdES": func(w world, stamped ...time.Time) []byte { return w.p7m(doc, stamped...) },
	"PAdES": func(w world, stamped ...time.Time) []byte { return w.pdf(stamped...) },
	"XAdES": func(w world, stamped ...time.Time) []byte {
		w.t.Helper()
		o := xades.Options{SigningTime: now}
		if len(stamped) > 0 {
			o.Timestamp = xades.Stamp(w.stamp(stamped[0]))
		}
		out, err := xades.Sign(w.t.Context(), doc, xades.Signer{Chain: w.pair.Chain, Key: w.pair.Key}, o)
		require.NoError(w.t, err)
		return out
	},
}

var inSignatureValue = regexp.MustCompile(`(<ds:SignatureValue[^>]*>)([^<]+)`)

// bent changes the signature value alone.
func bent(t *testing.T, form string, file []byte) []byte {
	t.Helper()
	switch form {
	case "CAdES":
		sd, err := cms.Parse(file)
		require.NoError(t, err)
		value := bytes.Clone(sd.Signers[0].Signature)
		value[len(value)-1] ^= 1
		return bytes.Replace(file, sd.Signers[0].Signature, value, 1)
	case "XAdES":
		m := inSignatureValue.FindSubmatch(file)
		value, err := base64.StdEncoding.DecodeString(string(m[2]))
		require.NoError(t, err)
		value[len(value)-1] ^= 1
		return bytes.Replace(file, m[2], []byte(base64.StdEncoding.EncodeToString(value)), 1)
	}
	r, err := pades.Verify(t.Context(), bytes.NewReader(file), int64(len(file)), pades.VerifyOptions{})
	require.NoError(t, err)
	sd, err := cms.Parse(r.Signatures[0].CMS)
	require.NoError(t, err)
	old := hex.EncodeToString(sd.Signers[0].Signature)
	value := bytes.Clone(sd.Signers[0].Signature)
	value[len(value)-1] ^= 1
	out := bytes.Replace(file, []byte(old), []byte(hex.EncodeToString(value)), 1)
	if bytes.Equal(out, file) {
		out = bytes.Replace(file, []byte(strings.ToUpper(old)), []byte(strings.ToUpper(hex.EncodeToString(value))), 1)
	}
	require.NotEqual(t, file, out)
	return out
}

// under gives a world whose signer has authorities between himself and the root, the root's first.
func under(t *testing.T, between ...func(*x509.Certificate)) (w world, authorities []cmstest.Pair) {
	w = newWorld(t)
	pki := w.pki
	for _, change := range between {
		a := pki.Issue(t, "Authority "+string(rune('A'+len(authorities))), cmstest.NewECDSA(t), func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		}, change)
		authorities = append(authorities, a)
		pki = &cmstest.PKI{Root: a.Cert, Key: a.Key}
	}
	w.pair = pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	w.pair.Chain = []*x509.Certificate{w.pair.Cert}
	for _, a := range authorities {
		w.pair.Chain = append(w.pair.Chain, a.Cert)
	}
	return w, authorities
}

// of gives the world of an authority, for its lists.
func (w world) of(a cmstest.Pair) world {
	w.pki = &cmstest.PKI{Root: a.Cert, Key: a.Key}
	return w
}

func with(o validation.Options, lists ...*x509.RevocationList) validation.Options {
	o.CRLs = lists
	return o
}

// common are the vectors of every form.
func common(t *testing.T, form string) []vector {
	sign := signed[form]
	w := newWorld(t)
	year := newWorld(t, func(c *x509.Certificate) { c.NotAfter = now.AddDate(1, 0, 0) })
	ended := now.AddDate(1, 0, 0)
	soon, later := now.Add(96*time.Hour), now.AddDate(2, 0, 0)
	revoked := entry(year.pair.Cert, now.Add(48*time.Hour), 1)
	good, goodT := sign(w), sign(w, now.Add(time.Minute))
	ciphering := newWorld(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	young := newWorld(t)
	young.pair = young.pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.NotBefore = now.Add(-time.Minute) })
	oneStep, authorities := under(t, func(*x509.Certificate) {})
	tooDeep, deep := under(t, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }, func(*x509.Certificate) {})
	limited := func(o validation.Options, until time.Time) validation.Options {
		o.Policy = append([]validation.Limit{{Name: "ECDSA", Until: until}}, validation.DefaultPolicy()...)
		return o
	}
	inTwoDays := now.Add(48 * time.Hour)
	return []vector{
		{"level B", good, w.options(soon), pass, ""},
		{"level T", goodT, w.options(soon), pass, ""},
		{"content changed", changed(t, good, "100 euro", "900 euro"), w.options(soon), fail, validation.HashFailure},
		{"content changed under a stamp", changed(t, goodT, "100 euro", "900 euro"), w.options(soon), fail, validation.HashFailure},
		{"value changed", bent(t, form, good), w.options(soon), fail, validation.SigCryptoFailure},
		{"another's authority", good, year.options(soon), unsure, validation.NoChain},
		{"no anchors", good, validation.Options{At: soon}, unsure, validation.NoChain},
		{"not for signing", sign(ciphering), ciphering.options(soon), unsure, validation.ChainConstraints},
		{"an authority with leave of its root", sign(oneStep), with(oneStep.options(soon), oneStep.crl(soon), oneStep.of(authorities[0]).crl(soon)), pass, ""},
		{"an authority below one that may have none", sign(tooDeep), with(tooDeep.options(soon), tooDeep.crl(soon), tooDeep.of(deep[0]).crl(soon), tooDeep.of(deep[1]).crl(soon)), unsure, validation.ChainGeneral},
		{"authority revoked", sign(oneStep), with(oneStep.options(soon), oneStep.crl(soon, entry(authorities[0].Cert, now, 1)), oneStep.of(authorities[0]).crl(soon)), unsure, validation.RevokedCANoPOE},
		{"nothing on revocation", good, with(w.options(soon)), unsure, validation.TryLater},
		{"suspended", sign(year), with(year.options(soon), year.crl(soon, entry(year.pair.Cert, now, 6))), unsure, validation.TryLater},
		{"revoked", sign(year), with(year.options(soon), year.crl(soon, revoked)), unsure, validation.RevokedNoPOE},
		{"revoked, stamped before", sign(year, now.Add(time.Hour)), with(year.options(soon), year.crl(soon, revoked)), pass, ""},
		{"revoked, stamped after", sign(year, now.Add(72*time.Hour)), with(year.options(soon), year.crl(soon, revoked)), unsure, validation.RevokedNoPOE},
		{"ended", sign(year), year.options(later), unsure, validation.OutOfBoundsNoPOE},
		{"ended, not revoked", sign(year), with(year.options(ended.Add(time.Hour)), year.crl(ended.Add(-time.Hour))), unsure, validation.OutOfBoundsNotRevoked},
		{"ended, stamped before", sign(year, now.Add(time.Hour)), with(year.options(later), year.crl(later), year.crl(now.Add(2*time.Hour))), pass, ""},
		{"stamped before the certificate began", sign(young, now.Add(-time.Hour)), young.options(soon), fail, validation.NotYetValid},
		{"algorithm over", good, limited(w.options(soon), inTwoDays), unsure, validation.CryptoConstraintsNoPOE},
		{"algorithm over, stamped before", sign(w, now.Add(time.Hour)), limited(w.options(inTwoDays.Add(-time.Hour)), inTwoDays), pass, ""},
		{"algorithm that never was good", good, limited(w.options(soon), time.Unix(0, 0)), unsure, validation.CryptoConstraints},
		{"stamp by nobody that is known", sign(withTSA(w, year), now), w.options(soon), pass, ""},
	}
}

// withTSA has another's authority stamp.
func withTSA(w, other world) world {
	w.tsa = other.tsa
	return w
}

// special are the vectors that one form alone can have.
func special(t *testing.T) map[string][]vector {
	w := newWorld(t)
	o := w.options(now.Add(96 * time.Hour))
	year := newWorld(t, func(c *x509.Certificate) { c.NotAfter = now.AddDate(1, 0, 0) })
	contentStamp := func(at time.Time) []byte {
		raw, err := cms.Sign(t.Context(), doc, year.pair.Key, cms.Options{Certificate: year.pair.Cert, SigningTime: now,
			Signed: []cms.Attribute{{Type: cmsContentTimestamp, Values: [][]byte{year.token(at, doc)}}}})
		require.NoError(t, err)
		return raw
	}
	p7m := func(o cms.Options) []byte {
		raw, err := cms.Sign(t.Context(), doc, w.pair.Key, o)
		require.NoError(t, err)
		return raw
	}
	// A second certificate of the same key in place of the one that was signed under.
	ess, err := cms.SigningCertificateV2(w.pair.Cert)
	require.NoError(t, err)
	twin := w.pki.Issue(t, "Maria Bianchi", w.pair.Key)
	beside, err := cades.SignDetached(t.Context(), sha(doc), w.signer(), cades.Options{SigningTime: now})
	require.NoError(t, err)
	other := o
	other.Content = []byte("another")
	theDocument := o
	theDocument.Content = doc
	token, xml, cutPDF := w.token(now, doc), w.xml(doc), w.pdf()
	cutPDF = cutPDF[:len(cutPDF)-40]
	revoked := with(year.options(now.AddDate(0, 2, 0)), year.crl(now.AddDate(0, 2, 0), entry(year.pair.Cert, now.Add(time.Hour), 1)))
	before := w.options(now.Add(-time.Hour))
	before.Content = doc
	return map[string][]vector{
		"CAdES": {
			{"cut off", w.p7m(doc)[:900], o, fail, validation.FormatFailure},
			{"no certificate", p7m(cms.Options{Certificate: w.pair.Cert, SigningTime: now, BareSigner: true}), o, unsure, validation.NoSigningCertificate},
			{"another certificate of the key", p7m(cms.Options{Certificate: twin.Cert, SigningTime: now, Signed: []cms.Attribute{ess}}), o, unsure, validation.NoSigningCertificate},
			{"detached, alone", beside, o, unsure, validation.SignedDataNotFound},
			{"detached, another document", beside, other, fail, validation.HashFailure},
			{"detached", beside, theDocument, pass, ""},
			{"made after the certificate ended", contentStamp(now.AddDate(1, 1, 0)), year.options(now.AddDate(2, 0, 0)), fail, validation.Expired},
			{"made after the revocation", contentStamp(now.AddDate(0, 1, 0)), revoked, fail, validation.Revoked},
			{"two, one of them changed", w.p7m(changed(t, w.p7m(doc), "100 euro", "900 euro")), o, fail, validation.HashFailure},
		},
		"XAdES": {
			{"cut off", xml[:len(xml)-20], o, fail, validation.FormatFailure},
			{"a part alone is signed", partlySigned(t, w), o, unsure, validation.SigConstraints},
			{"canonical form that nobody knows", bytes.Replace(xml, []byte("<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>"),
				[]byte("<ds:CanonicalizationMethod Algorithm=\"urn:unknown\"/>"), 1), o, unsure, validation.Generic},
			{"signed properties changed", changed(t, xml, "2026-03-02", "2026-03-01"), o, fail, validation.HashFailure},
		},
		"PAdES": {
			{"cut off", cutPDF, o, fail, validation.FormatFailure},
			{"bytes after the signature", append(w.pdf(), bytes.Repeat([]byte("% something else\n"), 9)...), o, fail, validation.FormatFailure},
		},
		"time-stamp": {
			{"over the document", token, theDocument, pass, ""},
			{"over another", token, other, fail, validation.HashFailure},
			{"value changed", lastByte(token), theDocument, fail, validation.SigCryptoFailure},
			{"alone", token, o, unsure, validation.SignedDataNotFound},
			{"from the future", token, before, unsure, validation.TimestampOrder},
			{"tsd", tsd(t, doc, token), o, pass, ""},
			{"tsd, changed", tsd(t, []byte("text"), token), o, fail, validation.HashFailure},
		},
	}
}

// partlySigned has xmlsec1 sign one element of a document.
func partlySigned(t *testing.T, w world) []byte {
	t.Helper()
	const ds = "http://www.w3.org/2000/09/xmldsig#"
	template := `<doc><part Id="p">100 euro</part><rest>whatever</rest><Signature xmlns="` + ds + `"><SignedInfo><CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>` +
		`<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"/><Reference URI="#p"><Transforms><Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></Transforms>` +
		`<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue/></Reference></SignedInfo><SignatureValue/><KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature></doc>`
	out := filepath.Join(t.TempDir(), "out.xml")
	said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--sign", "--id-attr:Id", "part", "--privkey-pem",
		cmstest.KeyFile(t, w.pair.Key)+","+cmstest.CertFile(t, w.pair.Cert), "--output", out, cmstest.File(t, "template.xml", []byte(template)))
	require.NoError(t, err, said)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	return raw
}

func TestVectors(t *testing.T) {
	all := special(t)
	for form := range signed {
		all[form] = append(all[form], common(t, form)...)
	}
	seen := map[validation.Sub]bool{}
	for form, list := range all {
		for _, v := range list {
			t.Run(form+"/"+v.name, func(t *testing.T) {
				v.check(t)
			})
			seen[v.sub] = true
		}
	}
	for _, sub := range subIndications {
		require.True(t, seen[validation.Sub(sub)], "no vector has the sub-indication %s", sub)
	}
}
