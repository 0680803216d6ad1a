package signature_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/format/xades"
)

// name is that of the buyer in the test invoices: it shows whether the encoding
// was read right.
const name = "Società Perché Più S.p.A."

func invoice() []byte {
	return fatturapatest.Invoice(fatturapatest.Options{Formato: "FPA12", Lines: 30,
		Cessionario: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(9), Denominazione: name}})
}

// inLatin writes the invoice in a one-byte encoding.
func inLatin(encoding string) []byte {
	var b []byte
	for _, r := range strings.Replace(string(invoice()), "UTF-8", encoding, 1) {
		b = append(b, byte(r))
	}
	return b
}

func inUTF16() []byte {
	b := []byte{0xFF, 0xFE}
	for _, u := range utf16.Encode([]rune(strings.Replace(string(invoice()), "UTF-8", "UTF-16", 1))) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

func crlf(raw []byte) []byte {
	text := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	for len(text) > 64 {
		b.WriteString(text[:64] + "\r\n")
		text = text[64:]
	}
	return []byte(b.String() + text + "\r\n")
}

// signer makes p7m files and signed XML.
type signer struct {
	t    *testing.T
	pki  *cmstest.PKI
	pair cmstest.Pair
}

func newSigner(t *testing.T, change ...func(*x509.Certificate)) signer {
	pki := cmstest.New(t)
	return signer{t, pki, pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t), change...)}
}

func (s signer) p7m(content []byte) []byte { return s.at(content, cmstest.Now) }

func (s signer) at(content []byte, when time.Time) []byte {
	s.t.Helper()
	out, err := cms.Sign(s.t.Context(), content, s.pair.Key, cms.Options{Certificate: s.pair.Cert, SigningTime: when})
	require.NoError(s.t, err)
	return out
}

func (s signer) xml(content []byte) []byte {
	s.t.Helper()
	out, err := xades.Sign(s.t.Context(), content, xades.Signer{Chain: s.pair.Chain, Key: s.pair.Key}, xades.Options{SigningTime: cmstest.Now})
	require.NoError(s.t, err)
	return out
}

// openssl signs with a program that is not ours.
func (s signer) openssl(content []byte, args ...string) []byte {
	s.t.Helper()
	out := filepath.Join(s.t.TempDir(), "out")
	cmstest.OpenSSL(s.t, append([]string{"cms", "-sign", "-binary", "-in", cmstest.File(s.t, "in", content), "-signer", cmstest.CertFile(s.t, s.pair.Cert),
		"-inkey", cmstest.KeyFile(s.t, s.pair.Key), "-md", "sha256", "-out", out}, args...)...)
	raw, err := os.ReadFile(out)
	require.NoError(s.t, err)
	return raw
}

// Whatever is around an invoice, it is read, and the signature holds.
func TestReadsEveryForm(t *testing.T) {
	s := newSigner(t)
	second := s.pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	bom := append([]byte("\xEF\xBB\xBF"), invoice()...)
	for label, c := range map[string]struct {
		raw    []byte
		layers int
		forms  string // of the signatures, in order
		enc    string
	}{
		"plain XML":                     {invoice(), 0, "", "UTF-8"},
		"plain XML with mark":           {bom, 0, "", "UTF-8"},
		"DER":                           {s.p7m(invoice()), 1, "CAdES", "UTF-8"},
		"BER of indefinite length":      {s.openssl(invoice(), "-nodetach", "-stream", "-outform", "DER"), 1, "CAdES", "UTF-8"},
		"PEM":                           {s.openssl(invoice(), "-nodetach", "-outform", "PEM"), 1, "CAdES", "UTF-8"},
		"PEM named PKCS7":               {pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: s.p7m(invoice())}), 1, "CAdES", "UTF-8"},
		"PEM with another label":        {bytes.ReplaceAll(pem.EncodeToMemory(&pem.Block{Type: "PKCS #7 SIGNED DATA", Bytes: s.p7m(invoice())}), []byte("\n"), []byte("\r\n")), 1, "CAdES", "UTF-8"},
		"ISO-8859-1 inside":             {s.p7m(inLatin("ISO-8859-1")), 1, "CAdES", "ISO-8859-1"},
		"Base64":                        {[]byte(base64.StdEncoding.EncodeToString(s.p7m(invoice()))), 1, "CAdES", "UTF-8"},
		"Base64 with CRLF":              {crlf(s.p7m(invoice())), 1, "CAdES", "UTF-8"},
		"Base64 with mark":              {append([]byte("\xEF\xBB\xBF"), crlf(s.p7m(invoice()))...), 1, "CAdES", "UTF-8"},
		"BER in Base64 with CRLF":       {crlf(s.openssl(invoice(), "-nodetach", "-stream", "-outform", "DER")), 1, "CAdES", "UTF-8"},
		"three envelopes":               {s.p7m(crlf(s.p7m(s.openssl(invoice(), "-nodetach", "-outform", "PEM")))), 3, "CAdES CAdES CAdES", "UTF-8"},
		"mark inside":                   {s.p7m(bom), 1, "CAdES", "UTF-8"},
		"windows-1252 inside":           {s.p7m(inLatin("windows-1252")), 1, "CAdES", "WINDOWS-1252"},
		"ISO-8859-15 inside Base64":     {crlf(s.p7m(inLatin("ISO-8859-15"))), 1, "CAdES", "ISO-8859-15"},
		"UTF-16 inside":                 {s.p7m(inUTF16()), 1, "CAdES", "UTF-16LE"},
		"CRLF inside":                   {s.p7m(bytes.ReplaceAll(invoice(), []byte("\n"), []byte("\r\n"))), 1, "CAdES", "UTF-8"},
		"XAdES":                         {s.xml(invoice()), 0, "XAdES", "UTF-8"},
		"XAdES in windows-1252":         {s.xml(inLatin("windows-1252")), 0, "XAdES", "WINDOWS-1252"},
		"XAdES in an envelope":          {s.p7m(s.xml(invoice())), 1, "CAdES XAdES", "UTF-8"},
		"two signatures in an envelope": {s.openssl(invoice(), "-nodetach", "-outform", "DER", "-signer", cmstest.CertFile(t, second.Cert), "-inkey", cmstest.KeyFile(t, second.Key)), 1, "CAdES CAdES", "UTF-8"},
	} {
		t.Run(label, func(t *testing.T) {
			f, err := signature.Read(c.raw, signature.Options{Roots: s.pki.Pool(), At: time.Now()})
			require.NoError(t, err)
			require.Equal(t, name, f.Invoice.Header.CessionarioCommittente.DatiAnagrafici.Anagrafica.Denominazione)
			require.Equal(t, c.enc, f.Invoice.Encoding)
			require.Len(t, f.Layers, c.layers)
			require.Equal(t, f.XML, f.Invoice.Original(), "not a byte is lost")
			require.True(t, fatturapa.Check(f.Invoice, fatturapa.Options{}).Valid())
			var forms []string
			for _, x := range f.Report.Signatures {
				forms = append(forms, x.Form)
				require.Contains(t, x.Signer(), "Maria Rossi")
				require.False(t, x.SigningTime.IsZero())
				require.NotEmpty(t, x.Algorithm)
			}
			require.Equal(t, c.forms, strings.Join(forms, " "))
			require.Empty(t, f.Report.Findings)
			require.Equal(t, c.forms != "", f.Report.Holds())
			require.Equal(t, c.forms != "", f.Report.Signed())
			require.Equal(t, c.forms != "", len(f.Report.NeedsAuthority) > 0)
		})
	}
}

// selfSigned certifies a key with itself.
func selfSigned(t *testing.T) signer {
	pki := cmstest.New(t)
	key := cmstest.NewECDSA(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Maria Rossi"}, KeyUsage: x509.KeyUsageContentCommitment,
		NotBefore: cmstest.Now.Add(-time.Hour), NotAfter: cmstest.Now.AddDate(10, 0, 0), BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return signer{t, pki, cmstest.Pair{Cert: cert, Chain: []*x509.Certificate{cert}, Key: key}}
}

// A signature that does not hold is told apart by its control, and never keeps the
// invoice from being read.
func TestBrokenSignaturesNeverBlockReading(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	self := selfSigned(t)
	short := newSigner(t, func(c *x509.Certificate) { c.NotAfter = cmstest.Now.AddDate(0, 1, 0) })
	authority := newSigner(t, func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage = x509.KeyUsageCertSign })
	web := newSigner(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	tamper := func(raw []byte) []byte {
		at := bytes.Index(raw, []byte("Perch"))
		require.Positive(t, at)
		out := bytes.Clone(raw)
		copy(out[at:], "PERCH")
		return out
	}
	last := func(raw []byte) []byte { // of the signature value
		out := bytes.Clone(raw)
		out[len(out)-1] ^= 1
		return out
	}
	for label, c := range map[string]struct {
		raw  []byte
		pool *x509.CertPool
		want string // codes, in order
	}{
		"whole":                        {s.p7m(invoice()), s.pki.Pool(), ""},
		"tampered content":             {tamper(s.p7m(invoice())), s.pki.Pool(), "00102"},
		"tampered in Base64":           {crlf(tamper(s.p7m(invoice()))), s.pki.Pool(), "00102"},
		"tampered signature":           {last(s.p7m(invoice())), s.pki.Pool(), "00102"},
		"tampered inside two":          {s.p7m(tamper(s.p7m(invoice()))), s.pki.Pool(), "00102"},
		"unknown authority":            {s.p7m(invoice()), other.pki.Pool(), "00104"},
		"self-signed":                  {self.p7m(invoice()), self.pki.Pool(), "00104"},
		"no trust asked for":           {self.p7m(invoice()), nil, ""},
		"expired":                      {short.p7m(invoice()), short.pki.Pool(), "00100"},
		"signed after the end":         {short.at(invoice(), cmstest.Now.AddDate(0, 2, 0)), short.pki.Pool(), "00100 00107"},
		"signed in the future":         {s.at(invoice(), cmstest.Now.AddDate(1, 0, 0)), s.pki.Pool(), "00105"},
		"no signing time":              {s.openssl(invoice(), "-nodetach", "-outform", "DER", "-noattr"), s.pki.Pool(), "00103"},
		"no certificate":               {s.openssl(invoice(), "-nodetach", "-outform", "DER", "-nocerts"), s.pki.Pool(), "00102"},
		"certificate of an authority":  {authority.p7m(invoice()), authority.pki.Pool(), "00107"},
		"certificate not for signing":  {web.p7m(invoice()), web.pki.Pool(), "00107"},
		"XAdES, tampered":              {tamper(s.xml(invoice())), s.pki.Pool(), "00102"},
		"XAdES, unknown authority":     {s.xml(invoice()), other.pki.Pool(), "00104"},
		"XAdES, expired":               {short.xml(invoice()), short.pki.Pool(), "00100"},
		"XAdES tampered in a good p7m": {s.p7m(tamper(s.xml(invoice()))), s.pki.Pool(), "00102"},
		"XML signature of nothing": {bytes.Replace(invoice(), []byte("</p:FatturaElettronica>"),
			[]byte(`<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo/></ds:Signature></p:FatturaElettronica>`), 1), s.pki.Pool(), "00102"},
	} {
		t.Run(label, func(t *testing.T) {
			f, err := signature.Read(c.raw, signature.Options{Roots: c.pool, At: cmstest.Now.AddDate(0, 3, 0)})
			require.NoError(t, err)
			require.Equal(t, "1", f.Invoice.Bodies[0].Documento().Numero)
			var codes []string
			for _, x := range f.Report.Findings {
				codes = append(codes, x.Code)
				require.NotEmpty(t, x.Message.IT)
				require.NotEmpty(t, x.Message.EN)
				require.NotEmpty(t, x.Hint.IT)
				require.NotEmpty(t, x.Hint.EN)
				require.Contains(t, x.Clause, x.Code)
				require.NotEmpty(t, x.Actual)
				require.Equal(t, x.Code == "00100", x.ActualIT == "", "a date needs no words")
				require.Equal(t, fatturapa.SeverityError, x.Severity)
			}
			require.Equal(t, c.want, strings.Join(codes, " "), "%+v", f.Report)
			require.True(t, f.Report.Signed())
			if c.want == "" || c.want == "00100" || c.want == "00103" {
				// an end that came later and a missing time break nothing
				require.Equal(t, c.want != "00100" || c.pool == nil, f.Report.Holds())
			} else {
				require.False(t, f.Report.Holds())
			}
			structure, err := fatturapa.CheckStructure(f.Invoice, fatturapa.StructureOptions{})
			require.NoError(t, err)
			require.Equal(t, label != "XML signature of nothing", structure.Valid(), "what is true of the signature says nothing of the invoice")
		})
	}
}

// Without time and roots there is nothing to judge expiry and trust by: the report
// says so instead of passing them.
func TestWhatIsNotJudgedIsNamed(t *testing.T) {
	s := newSigner(t)
	f, err := signature.Read(s.p7m(invoice()), signature.Options{})
	require.NoError(t, err)
	require.True(t, f.Report.Holds())
	require.Equal(t, []string{"00100", "00101", "00104", "00105", "00107"}, f.Report.NeedsAuthority)
	f, err = signature.Read(s.p7m(invoice()), signature.Options{At: cmstest.Now, Roots: s.pki.Pool()})
	require.NoError(t, err)
	require.Equal(t, []string{"00101", "00107"}, f.Report.NeedsAuthority)
}

// What holds no invoice is refused, with the reason.
func TestRefuses(t *testing.T) {
	s := newSigner(t)
	whole := s.p7m(invoice())
	var envelope *signature.EnvelopeError
	var parse *fatturapa.ParseError
	deep := invoice()
	for range cms.MaxLayers + 1 {
		deep = s.p7m(deep)
	}
	refusal := func(err error, code string) {
		t.Helper()
		x := signature.Refusal(err)
		require.Equal(t, code, x.Code)
		require.Equal(t, fatturapa.SeverityError, x.Severity)
		for _, text := range []string{x.Message.IT, x.Message.EN, x.Hint.IT, x.Hint.EN, x.Actual, x.ActualIT} {
			require.NotEmpty(t, text)
		}
		require.Contains(t, x.Clause, code)
	}
	for label, raw := range map[string][]byte{"cut": whole[:len(whole)/2], "nine envelopes": deep, "cut Base64": crlf(whole)[:2000]} {
		_, err := signature.Read(raw, signature.Options{})
		require.ErrorAs(t, err, &envelope, label)
		refusal(err, "00106")
	}
	_, err := signature.Read(s.openssl(invoice(), "-outform", "DER"), signature.Options{})
	require.ErrorIs(t, err, signature.ErrDetached)
	refusal(err, "00106")
	for label, c := range map[string]struct {
		raw  []byte
		code fatturapa.ParseCode
	}{
		"nothing":               {nil, fatturapa.ErrEmpty},
		"certificate in PEM":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.pair.Cert.Raw}), fatturapa.ErrEnveloped},
		"no XML":                {[]byte("ciao"), fatturapa.ErrNotXML},
		"another XML":           {s.p7m([]byte("<x/>")), fatturapa.ErrRoot},
		"nothing inside":        {s.p7m(nil), fatturapa.ErrEmpty},
		"cut envelope inside":   {s.p7m(whole[:len(whole)-1]), fatturapa.ErrEnveloped},
		"entity bomb inside":    {s.p7m([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`)), fatturapa.ErrDTD},
		"larger than the limit": {invoice(), fatturapa.ErrTooLarge},
	} {
		o := signature.Options{}
		if c.code == fatturapa.ErrTooLarge {
			o.Limits.MaxBytes = 100
		}
		_, err := signature.Read(c.raw, o)
		require.ErrorAs(t, err, &parse, label)
		require.Equal(t, c.code, parse.Code, label)
		want := map[fatturapa.ParseCode]string{fatturapa.ErrEmpty: "00106", fatturapa.ErrTooLarge: "00003"}[c.code]
		if want == "" {
			want = "00200"
		}
		refusal(err, want)
	}
}

// Files from the wild stay outside the repository; they are read where they are at
// hand.
func TestFilesFromTheWild(t *testing.T) {
	paths, err := filepath.Glob("../../../../shared/reference/sdi/samples/*.p7m")
	require.NoError(t, err)
	if len(paths) == 0 {
		t.Log("the samples are not on this machine: own files only")
	}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		f, err := signature.Read(raw, signature.Options{At: time.Now()})
		require.NoError(t, err, p)
		require.True(t, f.Report.Signed())
		for _, x := range f.Report.Findings {
			t.Logf("%s: %s %s (%s)", filepath.Base(p), x.Code, x.Message.EN, x.Actual)
		}
	}
}

// Whatever the bytes, reading ends with an invoice or a typed error, and says the
// same twice.
func FuzzRead(f *testing.F) {
	f.Add(invoice())
	f.Add([]byte("MIAGCSqGSIb3DQEHAqCAMIACAQExADCABgkqhkiG9w0BBwEAADEAAAAAAAAA"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o := signature.Options{At: cmstest.Now, Limits: fatturapa.Limits{MaxBytes: 1 << 20}}
		file, err := signature.Read(raw, o)
		if err != nil {
			return
		}
		again, err := signature.Read(raw, o)
		require.NoError(t, err)
		require.Equal(t, file.Report.Findings, again.Report.Findings)
		require.Equal(t, len(file.Report.Signatures), len(again.Report.Signatures))
		require.Equal(t, file.XML, file.Invoice.Original())
	})
}
