package validation_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/validation"
)

// authority is openssl as the authority of a world: it makes revocation lists and OCSP responses out of its
// index, at the time of this machine.
type authority struct {
	world
	dir, index, conf, cert, key string
}

func newAuthority(w world) authority {
	w.t.Helper()
	dir := w.t.TempDir()
	a := authority{world: w, dir: dir, index: filepath.Join(dir, "index.txt"), conf: filepath.Join(dir, "ca.cnf"),
		cert: cmstest.CertFile(w.t, w.pki.Root), key: cmstest.KeyFile(w.t, w.pki.Key)}
	conf := fmt.Sprintf("[ca]\ndefault_ca=a\n[a]\ndatabase=%s\ndefault_md=sha256\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid:always\n", a.index)
	require.NoError(w.t, os.WriteFile(a.conf, []byte(conf), 0o600))
	return a
}

// knows writes the index: the certificate with what became of it, such as "V", or "R" with time and reason.
func (a authority) knows(c *x509.Certificate, state, revoked string) {
	a.t.Helper()
	const form = "060102150405Z" // a UTCTime
	serial := fmt.Sprintf("%X", c.SerialNumber)
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	line := fmt.Sprintf("%s\t%s\t%s\t%s\tunknown\t/C=IT/CN=%s\n", state, c.NotAfter.UTC().Format(form), revoked, serial, c.Subject.CommonName)
	require.NoError(a.t, os.WriteFile(a.index, []byte(line), 0o600))
}

func (a authority) list(more ...string) *x509.RevocationList {
	a.t.Helper()
	out := filepath.Join(a.dir, "crl.pem")
	cmstest.OpenSSL(a.t, append([]string{"ca", "-gencrl", "-config", a.conf, "-cert", a.cert, "-keyfile", a.key, "-out", out}, more...)...)
	raw, err := os.ReadFile(out)
	require.NoError(a.t, err)
	list, err := validation.ParseCRL(raw)
	require.NoError(a.t, err)
	return list
}

func (a authority) response(c *x509.Certificate) []byte {
	a.t.Helper()
	out := filepath.Join(a.dir, "response.der")
	cmstest.OpenSSL(a.t, "ocsp", "-index", a.index, "-CA", a.cert, "-rsigner", a.cert, "-rkey", a.key, "-issuer", a.cert,
		"-cert", cmstest.CertFile(a.t, c), "-respout", out, "-ndays", "7", "-noverify")
	raw, err := os.ReadFile(out)
	require.NoError(a.t, err)
	return raw
}

// byOpenSSL and byXMLSec sign the document with programs that owe nothing to this repository.
func byOpenSSL(w world) []byte {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), "out.p7m")
	cmstest.OpenSSL(w.t, "cms", "-sign", "-cades", "-binary", "-nodetach", "-outform", "DER", "-in", cmstest.File(w.t, "in", doc),
		"-signer", cmstest.CertFile(w.t, w.pair.Cert), "-inkey", cmstest.KeyFile(w.t, w.pair.Key), "-md", "sha256", "-out", out)
	raw, err := os.ReadFile(out)
	require.NoError(w.t, err)
	return raw
}

func byXMLSec(w world) []byte {
	w.t.Helper()
	const ds = "http://www.w3.org/2000/09/xmldsig#"
	template := `<doc><sum>Pay 100 euro</sum><ds:Signature xmlns:ds="` + ds + `"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>` +
		`<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="` + ds + `enveloped-signature"/>` +
		`<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue/></ds:Reference></ds:SignedInfo>` +
		`<ds:SignatureValue/><ds:KeyInfo><ds:X509Data><ds:X509Certificate/></ds:X509Data></ds:KeyInfo></ds:Signature></doc>`
	out := filepath.Join(w.t.TempDir(), "out.xml")
	said, err := cmstest.Run(w.t, "xmlsec1", "xmlsec1", "--sign", "--privkey-pem", cmstest.KeyFile(w.t, w.pair.Key)+","+cmstest.CertFile(w.t, w.pair.Cert),
		"--output", out, cmstest.File(w.t, "template.xml", []byte(template)))
	require.NoError(w.t, err, said)
	raw, err := os.ReadFile(out)
	require.NoError(w.t, err)
	return raw
}

// stampedByOpenSSL is a token over the document.
func stampedByOpenSSL(w world) []byte {
	w.t.Helper()
	dir := w.t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	conf := fmt.Sprintf("[tsa]\ndefault_tsa=a\n[a]\nserial=%s\ndefault_policy=2.999.1\ndigests=sha256\nsigner_digest=sha256\naccuracy=secs:1\ness_cert_id_alg=sha256\n", at("serial"))
	require.NoError(w.t, os.WriteFile(at("tsa.cnf"), []byte(conf), 0o600))
	require.NoError(w.t, os.WriteFile(at("serial"), []byte("01\n"), 0o600))
	cmstest.OpenSSL(w.t, "ts", "-query", "-data", cmstest.File(w.t, "in", doc), "-sha256", "-cert", "-out", at("q"))
	cmstest.OpenSSL(w.t, "ts", "-reply", "-config", at("tsa.cnf"), "-queryfile", at("q"), "-signer", cmstest.CertFile(w.t, w.tsa.Cert),
		"-inkey", cmstest.KeyFile(w.t, w.tsa.Key), "-token_out", "-out", at("t"))
	raw, err := os.ReadFile(at("t"))
	require.NoError(w.t, err)
	return raw
}

// TestForeignVectors: signatures, time-stamps, revocation lists and OCSP responses that openssl and xmlsec1
// made, one cause each. TestBouncyCastle has more forms of CMS, of a third program.
func TestForeignVectors(t *testing.T) {
	w := newWorld(t)
	year := newWorld(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })
	a := newAuthority(w)
	signer, at := w.pair.Cert, time.Now().Add(time.Minute)
	past := time.Now().Add(-time.Hour).UTC().Format("060102150405Z")
	o := func(change func(*validation.Options)) validation.Options {
		out := validation.Options{At: at, Roots: []*x509.Certificate{w.pki.Root}}
		change(&out)
		return out
	}
	lists := func(l ...*x509.RevocationList) validation.Options {
		return o(func(o *validation.Options) { o.CRLs = l })
	}
	a.knows(signer, "V", "")
	good, goodOCSP := a.list("-crldays", "30"), a.response(signer)
	over := a.list("-crlsec", "1")
	a.knows(signer, "R", past+",keyCompromise")
	revoked, revokedOCSP := a.list("-crldays", "30"), a.response(signer)
	a.knows(signer, "R", past+",certificateHold")
	held := a.list("-crldays", "30")
	require.Equal(t, 6, held.RevokedCertificateEntries[0].ReasonCode)
	require.Zero(t, signer.SerialNumber.Cmp(revoked.RevokedCertificateEntries[0].SerialNumber))

	forms := map[string]func(world) []byte{"openssl": byOpenSSL, "xmlsec1": byXMLSec}
	for form, sign := range forms {
		file := sign(w)
		bentFile := map[string]func() []byte{
			"openssl": func() []byte {
				sd, err := cms.Parse(file)
				require.NoError(t, err)
				return bytes.Replace(file, sd.Signers[0].Signature, lastByte(sd.Signers[0].Signature), 1)
			},
			"xmlsec1": func() []byte { return bent(t, "XAdES", file) },
		}[form]()
		for _, v := range []vector{
			{"good", file, lists(good), pass, ""},
			{"good by OCSP", file, o(func(o *validation.Options) { o.OCSPs = [][]byte{goodOCSP} }), pass, ""},
			{"content changed", changed(t, file, "100 euro", "900 euro"), lists(good), fail, validation.HashFailure},
			{"value changed", bentFile, lists(good), fail, validation.SigCryptoFailure},
			{"nothing on revocation", file, lists(), unsure, validation.TryLater},
			{"list that is over", file, o(func(o *validation.Options) {
				o.At, o.CRLs = at.Add(time.Hour), []*x509.RevocationList{over}
			}), unsure, validation.TryLater},
			{"suspended", file, lists(held), unsure, validation.TryLater},
			{"revoked", file, lists(good, revoked), unsure, validation.RevokedNoPOE},
			{"revoked by OCSP", file, o(func(o *validation.Options) { o.OCSPs = [][]byte{goodOCSP, revokedOCSP} }), unsure, validation.RevokedNoPOE},
			{"another's authority", file, year.options(at), unsure, validation.NoChain},
			{"ended", sign(year), year.options(at.Add(2 * time.Hour)), unsure, validation.OutOfBoundsNoPOE},
			{"algorithm over", file, o(func(o *validation.Options) {
				o.CRLs, o.Policy = []*x509.RevocationList{good}, append([]validation.Limit{{Name: "ECDSA", Until: now}}, validation.DefaultPolicy()...)
			}), unsure, validation.CryptoConstraintsNoPOE},
		} {
			t.Run(form+"/"+v.name, func(t *testing.T) { v.check(t) })
		}
	}
	token := stampedByOpenSSL(w)
	stampOptions := func(content []byte) validation.Options {
		a.knows(w.tsa.Cert, "V", "")
		return o(func(o *validation.Options) {
			o.Content, o.CRLs = content, []*x509.RevocationList{a.list("-crldays", "30")}
		})
	}
	for _, v := range []vector{
		{"good", token, stampOptions(doc), pass, ""},
		{"over another", token, stampOptions([]byte("another")), fail, validation.HashFailure},
		{"value changed", lastByte(token), stampOptions(doc), fail, validation.SigCryptoFailure},
		{"alone", token, stampOptions(nil), unsure, validation.SignedDataNotFound},
	} {
		t.Run("time-stamp/"+v.name, func(t *testing.T) { v.check(t) })
	}
}

// check wants what has to be said of a vector, of the whole file and of the file in pieces.
func (v vector) check(t *testing.T) {
	t.Helper()
	r, err := validation.Validate(t.Context(), v.file, v.o)
	require.NoError(t, err)
	require.Equal(t, v.want, r.Verdict, "%s %s", r.Sub, r.Reason)
	require.Equal(t, v.sub, r.Sub, r.Reason)
	pieces, err := validation.ValidateSource(t.Context(), bytes.NewReader(v.file), v.o)
	require.NoError(t, err)
	require.Equal(t, r.Conclusion.Verdict, pieces.Conclusion.Verdict, "read in pieces: %s", pieces.Reason)
	require.Equal(t, r.Conclusion.Sub, pieces.Conclusion.Sub)
}
