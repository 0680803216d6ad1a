package xades_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/xades"
)

func signed(t testing.TB, doc string) string {
	t.Helper()
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	out, err := xades.Sign(t.Context(), []byte(doc), xades.Signer{Chain: p.Chain, Key: p.Key}, xades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	return string(out)
}

func verdict(t testing.TB, doc string) error {
	t.Helper()
	rep, err := xades.Verify([]byte(doc), xades.VerifyOptions{RequireBES: true, RequireSigningTime: true})
	if err != nil {
		return err
	}
	return rep.Err()
}

// Ways in which signed XML has been made to say something else.
func TestAttacks(t *testing.T) {
	good := signed(t, "<a><b Id='x'>1.00</b></a>")
	require.NoError(t, verdict(t, good))
	sig := good[strings.Index(good, "<ds:Signature "):strings.Index(good, "</a>")]
	id := sig[strings.Index(sig, `Id="`)+4:]
	id = id[:strings.Index(id, `"`)]
	replace := func(old, fresh string) string {
		require.Contains(t, good, old)
		return strings.Replace(good, old, fresh, 1)
	}
	for name, c := range map[string]struct{ doc, want string }{
		"another text":        {replace("1.00", "9.00"), "not what was signed"},
		"a text more":         {replace("<b ", "<z/><b "), "not what was signed"},
		"wrapped":             {"<evil>" + good[:len(good)-4] + "</a></evil>", "not what was signed"},
		"time changed":        {replace("2026-03-02", "2026-03-03"), "not what was signed"},
		"mime type changed":   {replace("text/xml", "text/css"), "not what was signed"},
		"doubled id":          {replace("<ds:Object>", "<ds:Object><x Id='"+id+"-props'/>"), "2 elements have the Id"},
		"foreign reference":   {replace(`URI="#`+id+`-keyinfo"`, `URI="http://example.com/"`), "leaves the document"},
		"missing URI":         {replace(` URI=""`, ""), "without URI"},
		"filter of all":       {replace("/descendant::ds:Signature", "/descendant::b"), "not supported"},
		"filter of namespace": {replace(`<XPath xmlns="http://www.w3.org/2002/06/xmldsig-filter2"`, `<XPath xmlns:ds="urn:x" xmlns="http://www.w3.org/2002/06/xmldsig-filter2"`), "does not leave out the signatures alone"},
		"not a negation": {replace(`<ds:Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2"><XPath xmlns="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">/descendant::ds:Signature</XPath>`,
			`<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>ancestor-or-self::ds:Signature</ds:XPath>`), "not supported"},
		"filter reversed":     {replace(`Filter="subtract"`, `Filter="intersect"`), "only subtract"},
		"digest algorithm":    {replace("xmlenc#sha256", "xmlenc#md5"), "not supported"},
		"signature algorithm": {replace("#ecdsa-sha256", "#hmac-sha256"), "not supported"},
		"algorithm of RSA":    {replace("#ecdsa-sha256", "#rsa-sha256"), "another kind"},
		"canonicalisation":    {replace(`<ds:CanonicalizationMethod Algorithm="http`, `<ds:CanonicalizationMethod Algorithm="x`), "not supported"},
		"no certificate":      {strings.ReplaceAll(good, "X509Data", "X509Nata"), "not what was signed"},
		"value":               {replace(`-value">`, `-value">AAAA`), "bytes"},
		"unsigned":            {"<a><b>1.00</b></a>", "carries no signature"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, verdict(t, c.doc), c.want)
		})
	}
}

// A signature over its own properties alone is intact, and covers nothing that matters.
func TestWhatIsNotCoveredIsTold(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	template := `<a><b Id="part">1.00</b><c>free</c><Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo>` +
		`<CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>` +
		`<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"/><Reference URI="#part">` +
		`<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue/></Reference></SignedInfo><SignatureValue/>` +
		`<KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature></a>`
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "t.xml"), []byte(template), 0o600))
	out := filepath.Join(dir, "out.xml")
	said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--sign", "--id-attr:Id", "b", "--privkey-pem",
		cmstest.KeyFile(t, p.Key)+","+cmstest.CertFile(t, p.Cert), "--output", out, filepath.Join(dir, "t.xml"))
	require.NoError(t, err, said)
	doc, err := os.ReadFile(out)
	require.NoError(t, err)
	rep, err := xades.Verify(doc, xades.VerifyOptions{})
	require.NoError(t, err)
	s := rep.Signatures[0]
	require.Equal(t, xades.Passed, s.Signature.Verdict, s.Signature.Reason)
	require.Equal(t, xades.Passed, s.References.Verdict, s.References.Reason)
	require.Equal(t, xades.Failed, s.Document.Verdict)
	require.Equal(t, xades.LevelXMLDSig, s.Level)
	require.ErrorContains(t, rep.Err(), "no reference covers the whole document")
}

// xmlsec1 signs in the other ways that are read: other canonicalisations, enveloped-signature
// alone, the XPath transform, the root by its Id.
func TestReadsWhatXMLSecSigns(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.RSA(t))
	enveloped := `<Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>`
	xpath := `<Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><XPath xmlns:ds="http://www.w3.org/2000/09/xmldsig#">not(ancestor-or-self::ds:Signature)</XPath></Transform>`
	canon := func(alg string) string { return `<Transform Algorithm="` + alg + `"/>` }
	const c10, c11, exc = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315", "http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/2001/10/xml-exc-c14n#"
	list := `<Transform Algorithm="` + exc + `"><InclusiveNamespaces xmlns="` + exc + `" PrefixList="q #default"/></Transform>`
	for name, c := range map[string]struct{ uri, transforms, canon, method, digest string }{
		"enveloped":       {"", enveloped, c10, "2001/04/xmldsig-more#rsa-sha256", "2001/04/xmlenc#sha256"},
		"root by id":      {"#root", enveloped + canon(exc), exc, "2001/04/xmldsig-more#rsa-sha512", "2001/04/xmlenc#sha512"},
		"xpath":           {"", xpath, c11, "2001/04/xmldsig-more#rsa-sha384", "2001/04/xmldsig-more#sha384"},
		"xpath and c14n":  {"", xpath + canon(c11), exc + "WithComments", "2001/04/xmldsig-more#rsa-sha256", "2001/04/xmlenc#sha256"},
		"with comments":   {"", enveloped + canon(c10+"#WithComments"), c10 + "#WithComments", "2001/04/xmldsig-more#rsa-sha256", "2001/04/xmlenc#sha256"},
		"prefix list":     {"", enveloped + list, exc, "2001/04/xmldsig-more#rsa-sha256", "2001/04/xmlenc#sha256"},
		"pss":             {"", enveloped, exc, "2007/05/xmldsig-more#sha256-rsa-MGF1", "2001/04/xmlenc#sha256"},
		"c11 of the root": {"#root", enveloped + canon(c11), c11 + "#WithComments", "2001/04/xmldsig-more#rsa-sha256", "2001/04/xmlenc#sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "pss" && !strings.Contains(xmlsecTransforms(t), "rsa-pss-sha256") {
				t.Log("this xmlsec1 has no RSA-PSS: openssl's is read in package cms")
				return
			}
			doc := "<?xml version=\"1.0\"?>\n<?xml-stylesheet href=\"x\"?>\n<a xmlns=\"urn:d\" xmlns:q=\"urn:q\" xml:lang=\"it\" Id=\"root\"><!-- c --><b q:x=\"1\">1.00</b>" +
				`<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo><!-- s --><CanonicalizationMethod Algorithm="` + c.canon + `"/>` +
				`<SignatureMethod Algorithm="http://www.w3.org/` + c.method + `"/><Reference URI="` + c.uri + `"><Transforms>` + c.transforms + `</Transforms>` +
				`<DigestMethod Algorithm="http://www.w3.org/` + c.digest + `"/><DigestValue/></Reference></SignedInfo><SignatureValue/>` +
				`<KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature></a>`
			out := filepath.Join(t.TempDir(), "out.xml")
			said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--sign", "--id-attr:Id", "urn:d:a", "--privkey-pem",
				cmstest.KeyFile(t, p.Key)+","+cmstest.CertFile(t, p.Cert), "--output", out, cmstest.File(t, "t.xml", []byte(doc)))
			require.NoError(t, err, said)
			raw, err := os.ReadFile(out)
			require.NoError(t, err)
			rep, err := xades.Verify(raw, xades.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now})
			require.NoError(t, err)
			require.NoError(t, rep.Err())
			rep, err = xades.Verify(bytes.Replace(raw, []byte("1.00"), []byte("1.01"), 1), xades.VerifyOptions{})
			require.NoError(t, err)
			require.ErrorContains(t, rep.Err(), "not what was signed")
		})
	}
}

// Indexes of other archives name the document by XPointer, with its comments or without, and leave out the signatures right below the
// root alone: that is read where it is asked for, and no more of it is.
func TestOtherArchives(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.RSA(t))
	const c10 = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
	filter := `<Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2"><XPath xmlns="http://www.w3.org/2002/06/xmldsig-filter2" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Filter="subtract">/*/ds:Signature</XPath></Transform>`
	for name, transforms := range map[string]string{"filter": filter, "with comments": filter + `<Transform Algorithm="` + c10 + `#WithComments"/>`} {
		t.Run(name, func(t *testing.T) {
			doc := `<a xmlns="urn:d"><!-- c --><b>1.00</b><Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo><CanonicalizationMethod Algorithm="` + c10 + `"/>` +
				`<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><Reference URI="#xpointer(/)"><Transforms>` + transforms + `</Transforms>` +
				`<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><DigestValue/></Reference></SignedInfo><SignatureValue/>` +
				`<KeyInfo><X509Data><X509Certificate/></X509Data></KeyInfo></Signature></a>`
			out := filepath.Join(t.TempDir(), "out.xml")
			said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--sign", "--privkey-pem", cmstest.KeyFile(t, p.Key)+","+cmstest.CertFile(t, p.Cert),
				"--output", out, cmstest.File(t, "t.xml", []byte(doc)))
			require.NoError(t, err, said)
			raw, err := os.ReadFile(out)
			require.NoError(t, err)
			judged := func(raw []byte, o xades.VerifyOptions) error {
				rep, err := xades.Verify(raw, o)
				require.NoError(t, err)
				return rep.Signatures[len(rep.Signatures)-1].Err()
			}
			asked := xades.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now, OtherArchives: true}
			require.NoError(t, judged(raw, asked))
			require.ErrorContains(t, judged(raw, xades.VerifyOptions{}), "leaves the document")
			plain := bytes.Replace(raw, []byte("#xpointer(/)"), nil, 1)
			require.ErrorContains(t, judged(plain, xades.VerifyOptions{}), `XPath expression "/*/ds:Signature" is not supported`)
			for old, fresh := range map[string]string{
				"1.00": "1.01", "<b>": `<b><Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>`, // one that is not right below the root is a part of the text
			} {
				require.ErrorContains(t, judged(bytes.Replace(raw, []byte(old), []byte(fresh), 1), asked), "not what was signed")
			}
			err = judged(bytes.Replace(raw, []byte("<!-- c -->"), nil, 1), asked)
			require.Equal(t, name == "with comments", err != nil, "%v", err)
			for old, fresh := range map[string]string{"#xpointer(/)": "#xpointer(/a)", "/*/ds:Signature": "/*/*/ds:Signature", "*/ds:Signature": "*/ds:KeyInfo"} {
				require.Error(t, judged(bytes.Replace(raw, []byte(old), []byte(fresh), 1), asked), fresh)
			}
		})
	}
}

func xmlsecTransforms(t *testing.T) string {
	t.Helper()
	said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--list-transforms")
	require.NoError(t, err, said)
	return said
}

func TestBombsAreRefusedQuickly(t *testing.T) {
	for name, doc := range map[string]string{
		"depth":      strings.Repeat("<a>", 500_000),
		"siblings":   "<a>" + strings.Repeat("<b/>", 1_200_000) + "</a>",
		"cdata":      "<a>" + strings.Repeat("<![CDATA[x]]>", 300_000) + "<b></a>",
		"attributes": "<a" + manyAttributes(" a%=''", 100_000) + "/>",
		"namespaces": "<a" + manyAttributes(" xmlns:a%='u'", 100_000) + "/>",
		"scopes":     strings.Repeat("<a"+manyAttributes(" xmlns:a%='u'", 200)+">", 100),
		"entities":   `<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><a>&b;</a>`,
		"size":       "<a>" + strings.Repeat(" ", 33<<20) + "</a>",
		"signatures": "<a>" + strings.Repeat(`<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>`, 1000) + "</a>",
		"comments":   "<a>" + strings.Repeat("<!--", 1_000_000),
		"quotes":     "<a b='" + strings.Repeat("<", 1_000_000),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := xades.Verify([]byte(doc), xades.VerifyOptions{})
			require.Error(t, err)
			require.Less(t, time.Since(start), 10*time.Second)
		})
	}
}

func manyAttributes(pattern string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Replace(pattern, "%", string(rune('a'+i%26))+strings.Repeat("x", i/26%100)+string(rune('a'+i/2600%26)), 1))
	}
	return b.String()
}

// The canonical form against libxml2's and, where it can, goxmldsig's.
func TestCanonicalAgainstOthers(t *testing.T) {
	for name, doc := range documents {
		for _, exclusive := range []bool{false, true} {
			ours, err := xades.Canonical([]byte(doc), exclusive)
			require.NoError(t, err, name)
			flag := "--c14n"
			if exclusive {
				flag = "--exc-c14n"
			}
			theirs, err := cmstest.Run(t, "libxml2-utils", "xmllint", flag, cmstest.File(t, "d.xml", []byte(doc)))
			require.NoError(t, err, theirs)
			require.Equal(t, withoutComments(theirs), string(ours), "%s, exclusive %v", name, exclusive)
		}
		if strings.ContainsAny(doc, "\t\r") || strings.Contains(doc, "encoding=\"ISO") || strings.Contains(doc, "windows") ||
			strings.Contains(doc, `xmlns=""`) {
			continue // goxmldsig leaves white space in attributes as it is, and writes xmlns="" where none is due
		}
		tree := etree.NewDocument()
		require.NoError(t, tree.ReadFromBytes(bytes.TrimPrefix([]byte(doc), []byte("\xEF\xBB\xBF"))))
		theirs, err := dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(tree.Root().Copy())
		require.NoError(t, err)
		ours, err := xades.Canonical([]byte(doc), true)
		require.NoError(t, err)
		require.Contains(t, string(ours), string(theirs), name)
	}
}

// withoutComments: xmllint keeps them, a reference inside a document does not.
func withoutComments(s string) string {
	for {
		from := strings.Index(s, "<!--")
		if from < 0 {
			return s
		}
		to := from + strings.Index(s[from:], "-->") + 3
		// around the root a comment stands on a line of its own
		root := strings.Index(s, "<a")
		switch {
		case from < root:
			to++
		case to == len(s) || s[to] == '\n' && from > strings.LastIndex(s, "</a>"):
			from--
		}
		s = s[:from] + s[to:]
	}
}

func FuzzVerify(f *testing.F) {
	for _, doc := range documents {
		f.Add([]byte(doc))
	}
	f.Add([]byte(signed(f, documents["prolog"])))
	pki := cmstest.New(f)
	p := pki.Issue(f, "Maria Rossi", cmstest.NewECDSA(f))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := xades.Verify(doc, xades.VerifyOptions{At: cmstest.Now}); err != nil {
			return
		}
		canon, err := xades.Canonical(doc, true)
		if err != nil {
			t.Fatalf("read, but has no canonical form: %v", err)
		}
		if again, err := xades.Canonical(canon, true); err == nil && !bytes.Equal(canon, again) {
			t.Fatalf("the canonical form of the canonical form differs:\n%q\n%q", canon, again)
		}
		out, err := xades.Sign(t.Context(), doc, xades.Signer{Chain: p.Chain, Key: p.Key}, xades.Options{SigningTime: cmstest.Now})
		if err != nil {
			return
		}
		rep, err := xades.Verify(out, xades.VerifyOptions{})
		if err != nil {
			t.Fatalf("own output is not read: %v", err)
		}
		for _, s := range rep.Signatures {
			if s.Certificate != nil && s.Certificate.Equal(p.Cert) && s.Err() == nil {
				return
			}
		}
		t.Fatalf("own signature does not hold: %v", rep.Err())
	})
}
