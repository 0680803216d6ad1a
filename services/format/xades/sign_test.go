package xades_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/xades"
)

const fpaNS = "http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"

// documents are what canonicalisers stumble on.
var documents = map[string]string{
	"plain":     `<a><b>1.00</b></a>`,
	"namespace": `<p:a xmlns:p="` + fpaNS + `" versione="FPR12"><b xmlns="">1.00</b></p:a>`,
	"default":   `<a xmlns="urn:x"><b xmlns="">1.00</b><c xmlns="urn:x"/><d xmlns="urn:y"><e/></d></a>`,
	"unused":    `<p:a xmlns:p="` + fpaNS + `" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" xmlns:xsi="urn:xsi"><b>1.00</b></p:a>`,
	"prolog": "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<?xml-stylesheet type=\"text/xsl\" href=\"x.xsl\"?>\n<!-- before -->\n" +
		"<a><b>1.00</b></a>\n<!-- after -->\n<?done yes?>\n",
	"cdata":      "<a><b><![CDATA[1.00 < 2 & 3]]> more</b></a>",
	"attributes": "<a z='1' b=\"2\" xml:lang='it' q:c='&lt;&quot;&#9;&#10;&#13;' xmlns:q='urn:q' d=\"x\ty\nz\r\nw\"><b>1.00</b></a>",
	"line ends":  "<a>\r\n  <b>1.00</b>\r\n  <c>x&#13;y\rz</c>\r\n</a>\r\n",
	"comments":   "<a><!-- c --><b>1<!-- inside -->.00</b><?pi  data ?><?pi2?></a>",
	"characters": "<a><b>città €1.00 &amp; &gt; ]]&gt; 𝄞 &#xE0;</b></a>",
	"bom":        "\xEF\xBB\xBF<?xml version='1.0' encoding='utf-8'?><a><b>1.00 è</b></a>",
	"latin-1":    "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a><b>1.00 citt\xE0</b></a>",
	"windows":    "<?xml version=\"1.0\" encoding=\"windows-1252\"?><a><b>1.00 \x80</b></a>",
	"redeclared": `<p:a xmlns:p="urn:1"><p:b xmlns:p="urn:2"><p:c xmlns:p="urn:1">1.00</p:c></p:b><p:d xmlns:p="urn:1"/></p:a>`,
	"order":      `<a xmlns:b="urn:z" xmlns:c="urn:a" b:x="1" c:x="2" x="3" c:a="4"><b>1.00</b></a>`,
	"close tag":  "<a><b>1.00</b></a  \n>",
	"in comment": "<a><b>1.00</b><!-- </a> --></a><!-- </a> -->",
}

func pairs(t testing.TB, pki *cmstest.PKI) map[string]cmstest.Pair {
	return map[string]cmstest.Pair{
		"rsa":   pki.Issue(t, "Sistema Interscambio", cmstest.RSA(t)),
		"ecdsa": pki.Issue(t, "Niccolò & figli <srl>", cmstest.NewECDSA(t)),
	}
}

// byXMLSec has xmlsec1 verify a document.
func byXMLSec(t *testing.T, pki *cmstest.PKI, doc []byte) (string, error) {
	t.Helper()
	return cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify",
		"--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
		"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo",
		"--trusted-pem", cmstest.CertFile(t, pki.Root), cmstest.File(t, "doc.xml", doc))
}

func TestSignedDocumentsAreAcceptedByXMLSec(t *testing.T) {
	pki := cmstest.New(t)
	signers := pairs(t, pki)
	for docName, doc := range documents {
		for keyName, p := range signers {
			for shapeName, shape := range map[string]xades.Shape{"bes": xades.ShapeBES, "receipt": xades.ShapeReceipt} {
				t.Run(docName+"/"+keyName+"/"+shapeName, func(t *testing.T) {
					out, err := xades.Sign(t.Context(), []byte(doc), xades.Signer{Chain: p.Chain, Key: p.Key},
						xades.Options{SigningTime: cmstest.Now.In(time.FixedZone("CET", 3600)), Shape: shape})
					require.NoError(t, err)
					untouched(t, doc, string(out))

					said, err := byXMLSec(t, pki, out)
					require.NoError(t, err, said)

					rep, err := xades.Verify(out, xades.VerifyOptions{
						Roots: pki.Pool(), At: cmstest.Now, RequireSigningTime: true, RequireContentCommitment: true, RequireBES: shape == xades.ShapeBES,
					})
					require.NoError(t, err)
					require.NoError(t, rep.Err())
					require.Len(t, rep.Signatures, 1)
					s := rep.Signatures[0]
					require.True(t, s.SigningTime.Equal(cmstest.Now))
					require.True(t, s.Certificate.Equal(p.Cert))
					require.Equal(t, xades.Passed, s.Trust.Verdict)
					want := xades.LevelBES
					if shape == xades.ShapeReceipt {
						want = xades.LevelSigningTime
						require.Contains(t, string(out), `URI="#KeyInfoId"`)
					}
					require.Equal(t, want, s.Level)

					changed := bytes.Replace(out, []byte("1.00"), []byte("9.00"), 1)
					if bytes.Equal(changed, out) {
						changed = bytes.Replace(out, []byte(".00"), []byte(".01"), 1)
					}
					require.NotEqual(t, out, changed)
					rep, err = xades.Verify(changed, xades.VerifyOptions{})
					require.NoError(t, err)
					require.ErrorContains(t, rep.Err(), "not what was signed")
					if keyName == "ecdsa" && shape == xades.ShapeBES { // once a document: a run takes 50 ms
						_, err = byXMLSec(t, pki, changed)
						require.Error(t, err, "xmlsec1 refuses it too")
					}
				})
			}
		}
	}
}

// untouched wants the document back when the signature is cut out.
func untouched(t *testing.T, doc, signed string) {
	t.Helper()
	from := strings.Index(signed, "<ds:Signature ")
	to := strings.LastIndex(signed, "</ds:Signature>") + len("</ds:Signature>")
	require.Positive(t, from)
	require.Equal(t, doc, signed[:from]+signed[to:])
}

func TestParallelSignatures(t *testing.T) {
	pki := cmstest.New(t)
	doc := []byte(documents["prolog"])
	for _, p := range pairs(t, pki) {
		var err error
		doc, err = xades.Sign(t.Context(), doc, xades.Signer{Chain: p.Chain, Key: p.Key}, xades.Options{SigningTime: cmstest.Now})
		require.NoError(t, err)
	}
	rep, err := xades.Verify(doc, xades.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now, RequireBES: true})
	require.NoError(t, err)
	require.NoError(t, rep.Err())
	require.Len(t, rep.Signatures, 2)

	receipt := func(doc []byte) ([]byte, error) {
		p := pki.Issue(t, "x", cmstest.NewECDSA(t))
		return xades.Sign(t.Context(), doc, xades.Signer{Chain: p.Chain, Key: p.Key}, xades.Options{SigningTime: cmstest.Now, Shape: xades.ShapeReceipt})
	}
	once, err := receipt([]byte(documents["plain"]))
	require.NoError(t, err)
	_, err = receipt(once)
	require.ErrorContains(t, err, `Id "Signature1" already`)
	own := bytes.ReplaceAll(once, []byte(`<ds:Transforms>`), []byte(`<ds:Transforms><!-- -->`))
	own = bytes.Replace(own, once[bytes.Index(once, []byte(`<ds:Transform `)):bytes.Index(once, []byte(`</ds:Transforms>`))],
		[]byte(`<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>`), 1)
	p := pki.Issue(t, "x", cmstest.NewECDSA(t))
	_, err = xades.Sign(t.Context(), own, xades.Signer{Chain: p.Chain, Key: p.Key}, xades.Options{SigningTime: cmstest.Now})
	require.ErrorContains(t, err, "would break")
}

type liar struct {
	shown crypto.Signer
	crypto.Signer
}

func (l liar) Public() crypto.PublicKey { return l.shown.Public() }

// remote wants the context, and an ECDSA key gives ASN.1 that may be wrong.
type remote struct {
	crypto.Signer
	answer []byte
	err    error
}

func (r remote) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if r.err != nil || r.answer != nil {
		return r.answer, r.err
	}
	return r.Sign(rand.Reader, digest, opts)
}

func TestSignRefuses(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	other := cmstest.NewECDSA(t)
	ok := xades.Options{SigningTime: cmstest.Now}
	signer := xades.Signer{Chain: p.Chain, Key: p.Key}
	for name, c := range map[string]struct {
		doc  string
		s    xades.Signer
		o    xades.Options
		want string
	}{
		"no certificate": {"<a></a>", xades.Signer{Key: p.Key}, ok, "no certificate"},
		"no time":        {"<a></a>", signer, xades.Options{}, "signing time is required"},
		"expired":        {"<a></a>", signer, xades.Options{SigningTime: cmstest.Now.AddDate(11, 0, 0)}, "not valid at the signing time"},
		"foreign key":    {"<a></a>", xades.Signer{Chain: p.Chain, Key: other}, ok, xades.ErrKeyMismatch.Error()},
		"lying key":      {"<a></a>", xades.Signer{Chain: p.Chain, Key: liar{p.Key, other}}, ok, xades.ErrBadSignature.Error()},
		"no ASN.1":       {"<a></a>", xades.Signer{Chain: p.Chain, Key: remote{Signer: p.Key, answer: []byte("x")}}, ok, "no ASN.1"},
		"zero":           {"<a></a>", xades.Signer{Chain: p.Chain, Key: remote{Signer: p.Key, answer: []byte{0x30, 6, 2, 1, 0, 2, 1, 0}}}, ok, "out of range"},
		"vault down":     {"<a></a>", xades.Signer{Chain: p.Chain, Key: remote{Signer: p.Key, err: context.DeadlineExceeded}}, ok, "signing key"},
		"shape":          {"<a></a>", signer, xades.Options{SigningTime: cmstest.Now, Shape: 7}, "unknown shape"},
		"empty root":     {"<a/>", signer, ok, "empty tag"},
		"not xml":        {"a", signer, ok, "0 root elements"},
		"two roots":      {"<a></a><b></b>", signer, ok, "2 root elements"},
		"cut off":        {"<a><b></b>", signer, ok, "not closed"},
		"dtd":            {"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", signer, ok, "document type"},
		"entity":         {"<a>&x;</a>", signer, ok, "entity"},
		"utf-16":         {"\xFF\xFE<\x00a\x00", signer, ok, "UTF-16"},
		"encoding":       {"<?xml version='1.0' encoding='koi8-r'?><a></a>", signer, ok, "koi8-r"},
		"prefix":         {"<p:a></p:a>", signer, ok, "not declared"},
		"crossed tags":   {"<a><b></a></b>", signer, ok, "does not match"},
		"attribute":      {`<a x="1" x="2"></a>`, signer, ok, "stands twice"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := xades.Sign(t.Context(), []byte(c.doc), c.s, c.o)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, out)
		})
	}
	out, err := xades.Sign(t.Context(), []byte("<a></a>"), xades.Signer{Chain: p.Chain, Key: remote{Signer: p.Key}}, ok)
	require.NoError(t, err)
	_, err = byXMLSec(t, pki, out)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = xades.Sign(ctx, []byte("<a></a>"), signer, ok)
	require.ErrorIs(t, err, context.Canceled)
}

// Receipts and signed invoices from the wild stay outside the repository.
func TestFilesFromTheWild(t *testing.T) {
	ref := filepath.Join("..", "..", "..", "..", "shared", "reference", "sdi")
	files, err := filepath.Glob(filepath.Join(ref, "*", "*", "*.xml"))
	require.NoError(t, err)
	flat, err := filepath.Glob(filepath.Join(ref, "*", "*.xml"))
	require.NoError(t, err)
	verified, judged := 0, 0
	for _, path := range append(files, flat...) {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		if !bytes.Contains(raw, []byte("<ds:SignatureValue")) {
			continue
		}
		rep, err := xades.Verify(raw, xades.VerifyOptions{})
		require.NoError(t, err, path)
		require.NotEmpty(t, rep.Signatures, path)
		// Most of these files were edited after they had been signed: xmlsec1 says which.
		said, theirs := cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--insecure",
			"--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
			"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo", path)
		require.Equal(t, theirs == nil, rep.Err() == nil, "%s: xmlsec1: %s; ours: %v", filepath.Base(path), said, rep.Err())
		judged++
		if theirs == nil {
			verified++
		}
	}
	t.Logf("%d files from the wild judged as xmlsec1 judges them; %d signatures hold", judged, verified)
}

func BenchmarkReceipt(b *testing.B) {
	pki := cmstest.New(b)
	doc := []byte("<?xml version=\"1.0\"?><n:R xmlns:n=\"urn:n\">" + strings.Repeat("<Campo>valore</Campo>", 50) + "</n:R>")
	for name, p := range pairs(b, pki) {
		s := xades.Signer{Chain: p.Chain, Key: p.Key}
		o := xades.Options{SigningTime: cmstest.Now, Shape: xades.ShapeReceipt}
		b.Run(name+"/sign", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := xades.Sign(b.Context(), doc, s, o); err != nil {
					b.Fatal(err)
				}
			}
		})
		out, err := xades.Sign(b.Context(), doc, s, o)
		require.NoError(b, err)
		b.Run(name+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rep, err := xades.Verify(out, xades.VerifyOptions{}); err != nil || rep.Err() != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
