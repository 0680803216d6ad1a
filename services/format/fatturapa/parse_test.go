package fatturapa_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

const ns12 = `xmlns:p="http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"`

// wrap makes a small file of the ordinary kind around some content.
func wrap(content string) string {
	return `<p:FatturaElettronica versione="FPR12" ` + ns12 + `>` + content + `</p:FatturaElettronica>`
}

func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat("<a>", 70) + strings.Repeat("</a>", 70)
	cases := []struct {
		name, in string
		code     fatturapa.ParseCode
		line     int
	}{
		{"nothing", "", fatturapa.ErrEmpty, 1},
		{"white space", " \r\n\t", fatturapa.ErrEmpty, 1},
		{"text", "fattura", fatturapa.ErrNotXML, 1},
		{"json", `{"fattura":1}`, fatturapa.ErrNotXML, 1},
		{"pdf", "%PDF-1.7", fatturapa.ErrNotXML, 1},
		{"zip", "PK\x03\x04....", fatturapa.ErrNotXML, 1},
		{"p7m der", "\x30\x82\x10\x00\x06\x09", fatturapa.ErrEnveloped, 1},
		{"p7m indefinite length", "\x30\x80\x06\x09", fatturapa.ErrEnveloped, 1},
		{"p7m base64", "MIIGgAYJKoZI", fatturapa.ErrEnveloped, 1},
		{"p7m pem", "-----BEGIN PKCS7-----", fatturapa.ErrEnveloped, 1},
		{"doctype", "<?xml version=\"1.0\"?>\n<!DOCTYPE x>\n" + wrap(""), fatturapa.ErrDTD, 2},
		{"entity bomb", "<!DOCTYPE lolz [<!ENTITY lol \"lol\">]><lolz>&lol;</lolz>", fatturapa.ErrDTD, 1},
		{"entity", wrap("\n<Causale>&euro;</Causale>"), fatturapa.ErrEntity, 2},
		{"bare ampersand", wrap("<Causale>A & B</Causale>"), fatturapa.ErrMalformed, 1},
		{"truncated in text", wrap("")[:90] + "<FatturaElettronicaHeader>", fatturapa.ErrTruncated, 1},
		{"truncated in a tag", "<p:FatturaElettronica versione=\"FPR", fatturapa.ErrTruncated, 1},
		{"truncated in an end tag", strings.TrimSuffix(wrap("\n\n"), "nica>"), fatturapa.ErrTruncated, 3},
		{"crossed tags", wrap("<a><b></a></b>"), fatturapa.ErrMalformed, 1},
		{"wrong end tag", wrap("<a></ab>"), fatturapa.ErrMalformed, 1},
		{"two roots", wrap("") + wrap(""), fatturapa.ErrMalformed, 1},
		{"text after the root", wrap("") + "\nciao", fatturapa.ErrMalformed, 2},
		{"text before the root", "<?xml version=\"1.0\"?> x " + wrap(""), fatturapa.ErrNotXML, 1},
		{"other root", "<Invoice/>", fatturapa.ErrRoot, 1},
		{"no namespace", `<FatturaElettronica versione="FPR12"/>`, fatturapa.ErrNamespace, 1},
		{"wrong namespace", `<FatturaElettronica xmlns="urn:x"/>`, fatturapa.ErrNamespace, 1},
		{"namespace of the other kind", `<p:FatturaElettronicaSemplificata ` + ns12 + `/>`, fatturapa.ErrNamespace, 1},
		{"unbound prefix of the root", `<q:FatturaElettronica ` + ns12 + `/>`, fatturapa.ErrNamespace, 1},
		{"unbound prefix", wrap("\n<ds:Signature/>"), fatturapa.ErrNamespace, 2},
		{"too deep", wrap(deep), fatturapa.ErrTooDeep, 1},
		{"control character", wrap("<a>\x01</a>"), fatturapa.ErrMalformed, 1},
		{"not utf-8", wrap("\n<a>qualit\xe0</a>"), fatturapa.ErrEncoding, 2},
		{"unknown encoding", `<?xml version="1.0" encoding="EBCDIC-XYZ"?>` + wrap(""), fatturapa.ErrEncoding, 1},
		{"double attribute", `<p:FatturaElettronica versione="FPR12" versione="FPA12" ` + ns12 + `/>`, fatturapa.ErrMalformed, 1},
		{"unquoted attribute", `<p:FatturaElettronica versione=FPR12 ` + ns12 + `/>`, fatturapa.ErrMalformed, 1},
		{"tag in an attribute", `<p:FatturaElettronica versione="<" ` + ns12 + `/>`, fatturapa.ErrMalformed, 1},
		{"comment with dashes", wrap("<!-- a -- b -->"), fatturapa.ErrMalformed, 1},
		{"comment without end", wrap("<!-- a "), fatturapa.ErrTruncated, 1},
		{"cdata without end", wrap("<a><![CDATA[ "), fatturapa.ErrTruncated, 1},
		{"cdata end in text", wrap("<a>]]></a>"), fatturapa.ErrMalformed, 1},
		{"late declaration", "<!-- x --><?xml version=\"1.0\"?>" + wrap(""), fatturapa.ErrMalformed, 1},
		{"reference to nothing", wrap("<a>&#0;</a>"), fatturapa.ErrMalformed, 1},
		{"reference to a surrogate", wrap("<a>&#xD800;</a>"), fatturapa.ErrMalformed, 1},
		{"bad declaration", "<?xml encoding=\"UTF-8\"?>" + wrap(""), fatturapa.ErrMalformed, 1},
		{"bad version", "<?xml version=\"1.x\"?>" + wrap(""), fatturapa.ErrMalformed, 1},
		{"bad encoding name", "<?xml version=\"1.0\" encoding=\"9é\"?>" + wrap(""), fatturapa.ErrEncoding, 1},
		{"name of a line separator", wrap("<a\u2028/>"), fatturapa.ErrMalformed, 1},
		{"name that starts with a combining letter", wrap("<\u0301a/>"), fatturapa.ErrMalformed, 1},
		{"name of two colons", wrap("<a:b:c/>"), fatturapa.ErrMalformed, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := fatturapa.Parse([]byte(c.in))
			var pe *fatturapa.ParseError
			require.ErrorAs(t, err, &pe)
			require.Equal(t, c.code, pe.Code, pe.Error())
			require.Equal(t, c.line, pe.Line, pe.Error())
			require.NotEmpty(t, pe.Msg)
			require.NotEmpty(t, pe.Hint)
			msg, hint := pe.Text()
			require.Equal(t, pe.Msg, msg.EN)
			require.Equal(t, pe.Hint, hint.EN)
			oneLanguage(t, &fatturapa.Finding{Code: string(pe.Code), Message: msg, Hint: hint})
			require.NotContains(t, msg.IT, "%!")
			require.NotEmpty(t, hint.IT)
		})
	}
}

func TestParseLimits(t *testing.T) {
	raw := fatturapatest.Invoice(fatturapatest.Options{Bodies: 2})
	for name, lim := range map[string]fatturapa.Limits{
		"bytes":      {MaxBytes: len(raw) - 1},
		"depth":      {MaxDepth: 3},
		"elements":   {MaxElements: 20},
		"bodies":     {MaxBodies: 1},
		"attributes": {MaxAttributes: 1},
		"name":       {MaxName: 10},
	} {
		_, err := fatturapa.ParseWithin(raw, lim)
		var pe *fatturapa.ParseError
		require.ErrorAs(t, err, &pe, name)
		require.Contains(t, []fatturapa.ParseCode{fatturapa.ErrTooLarge, fatturapa.ErrTooDeep, fatturapa.ErrTooMany}, pe.Code, name)
	}
	_, err := fatturapa.ParseWithin(raw, fatturapa.Limits{MaxBytes: len(raw)})
	require.NoError(t, err)
	_, err = fatturapa.Parse(make([]byte, 5_000_001))
	var pe *fatturapa.ParseError
	require.True(t, errors.As(err, &pe) && pe.Code == fatturapa.ErrTooLarge)
}

func TestParseTextForms(t *testing.T) {
	cases := map[string]string{
		"plain":                "A B",
		"references":           "&#65;&#x20;&#x42;",
		"cdata":                "<![CDATA[A ]]>B",
		"comment inside":       "A<!-- x --> B",
		"instruction inside":   "A<?x y?> B",
		"cdata and references": "<![CDATA[A]]>&#32;<![CDATA[B]]>",
	}
	for name, text := range cases {
		f, err := fatturapa.Parse([]byte(wrap("<FatturaElettronicaBody><DatiGenerali><DatiGeneraliDocumento><Numero>" + text +
			"</Numero></DatiGeneraliDocumento></DatiGenerali></FatturaElettronicaBody>")))
		require.NoError(t, err, name)
		require.Equal(t, "A B", f.Bodies[0].Documento().Numero, name)
	}
	f, err := fatturapa.Parse([]byte(wrap("<a>x\r\ny\rz&lt;&gt;&amp;&apos;&quot;</a>")))
	require.NoError(t, err)
	for e := range f.Root().Children() {
		require.Equal(t, "x\ny\nz<>&'\"", e.Text())
	}
}

func TestParseEncodings(t *testing.T) {
	text := strings.Replace(string(fatturapatest.Invoice(fatturapatest.Options{})), "Cooperativa Il Timbro", "Società è più", 1)
	latin := func(s string) []byte {
		var b []byte
		for _, r := range s {
			b = append(b, byte(r))
		}
		return b
	}
	wide := func(s string, big, mark bool) []byte {
		var b []byte
		put := func(u uint16) {
			if big {
				b = append(b, byte(u>>8), byte(u))
			} else {
				b = append(b, byte(u), byte(u>>8))
			}
		}
		if mark {
			put(0xFEFF)
		}
		for _, u := range utf16.Encode([]rune(s)) {
			put(u)
		}
		return b
	}
	declared := func(enc string) string { return strings.Replace(text, "UTF-8", enc, 1) }
	cases := map[string]struct {
		raw []byte
		enc string
	}{
		"utf-8":                    {[]byte(text), "UTF-8"},
		"utf-8 with mark":          {[]byte("\xEF\xBB\xBF" + text), "UTF-8"},
		"mark against declaration": {[]byte("\xEF\xBB\xBF" + declared("ISO-8859-1")), "UTF-8"},
		"windows-1252":             {latin(declared("windows-1252")), "WINDOWS-1252"},
		"iso-8859-1":               {latin(declared("ISO-8859-1")), "ISO-8859-1"},
		"iso-8859-15":              {latin(declared("iso-8859-15")), "ISO-8859-15"},
		"utf-16 little":            {wide(declared("UTF-16"), false, true), "UTF-16LE"},
		"utf-16 big":               {wide(declared("UTF-16"), true, true), "UTF-16BE"},
		"utf-16 without mark":      {wide(declared("UTF-16"), false, false), "UTF-16LE"},
	}
	for name, c := range cases {
		f, err := fatturapa.Parse(c.raw)
		require.NoError(t, err, name)
		require.Equal(t, c.enc, f.Encoding, name)
		require.Equal(t, "Società è più", f.Header.CessionarioCommittente.DatiAnagrafici.Anagrafica.Denominazione, name)
		require.Equal(t, c.raw, f.Original(), name)
	}
}

func TestParseReadsWhatCirculates(t *testing.T) {
	body := string(fatturapatest.Invoice(fatturapatest.Options{}))
	for name, text := range map[string]string{
		"stylesheet":              strings.Replace(body, "?>\n", "?>\n<?xml-stylesheet type=\"text/xsl\" href=\"fatturapa.xsl\"?>\n", 1),
		"crlf":                    strings.ReplaceAll(body, "\n", "\r\n"),
		"one line":                strings.ReplaceAll(body, "\n", ""),
		"no declaration":          body[strings.Index(body, "\n")+1:],
		"single quotes, spaces":   strings.Replace(body, `versione="FPR12"`, "versione = 'FPR12' ", 1),
		"another prefix":          strings.NewReplacer("<p:", "<ns2:", "</p:", "</ns2:", "xmlns:p=", "xmlns:ns2=").Replace(body),
		"default namespace":       strings.NewReplacer("<p:", "<", "</p:", "</", "xmlns:p=", "xmlns=").Replace(body),
		"comments around":         "<!-- a -->" + body[strings.Index(body, "\n")+1:] + "<!-- b -->\n",
		"blank before the header": "\r\n " + body,
		"padded with NUL":         body + "\x00\x00\x1a",
	} {
		f, err := fatturapa.Parse([]byte(text))
		require.NoError(t, err, name)
		require.Equal(t, "FPR12", f.Versione, name)
		require.Equal(t, "1", f.Bodies[0].Documento().Numero, name)
		require.Equal(t, text, string(f.Original()), name)
	}
}

func TestParseKeepsDeviations(t *testing.T) {
	body := string(fatturapatest.Invoice(fatturapatest.Options{}))
	f, err := fatturapa.Parse([]byte("\n" + body + "\x00"))
	require.NoError(t, err)
	require.Len(t, f.Deviations, 2)
	require.Equal(t, "trailing_bytes", f.Deviations[0].Name)
	require.Equal(t, "leading_space", f.Deviations[1].Name)
}

func TestParseSeesEveryBodyAndTheSignature(t *testing.T) {
	raw := string(fatturapatest.Invoice(fatturapatest.Options{Bodies: 3, Numero: "L"}))
	raw = strings.Replace(raw, "</p:FatturaElettronica>", `<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo/></ds:Signature></p:FatturaElettronica>`, 1)
	f, err := fatturapa.Parse([]byte(raw))
	require.NoError(t, err)
	require.True(t, f.Signed)
	require.Len(t, f.Bodies, 3)
	require.Equal(t, "L/3", f.Bodies[2].Documento().Numero)
	require.Equal(t, "/FatturaElettronica/FatturaElettronicaBody[3]", f.XPath(f.Bodies[2].Node))
}

func TestAttachmentDecodes(t *testing.T) {
	f, err := fatturapa.Parse(fatturapatest.Invoice(fatturapatest.Options{Attachment: []byte("ciao")}))
	require.NoError(t, err)
	got, err := f.Bodies[0].Allegati[0].Decode()
	require.NoError(t, err)
	require.Equal(t, "ciao", string(got))
	a := fatturapa.Allegato{Attachment: "Y2lh\r\n bw=="}
	got, err = a.Decode()
	require.NoError(t, err)
	require.Equal(t, "ciao", string(got))
	a.Attachment = "!!!"
	_, err = a.Decode()
	require.Error(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add(fatturapatest.Invoice(fatturapatest.Options{}))
	f.Add(fatturapatest.Invoice(fatturapatest.Options{Formato: "FSM10"}))
	f.Add([]byte(wrap("<a>x<![CDATA[y]]>&amp;<!-- c --></a>\r\n<b/>")))
	f.Add([]byte("\xFF\xFE<\x00a\x00/\x00>\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := fatturapa.Parse(raw)
		if err != nil {
			var pe *fatturapa.ParseError
			require.ErrorAs(t, err, &pe)
			return
		}
		require.Equal(t, string(raw), string(file.Original()))
		seen := 0
		var walk func(e fatturapa.Element)
		walk = func(e fatturapa.Element) {
			seen++
			require.NotEmpty(t, e.Name())
			require.Positive(t, e.Line())
			_ = e.Text()
			for c := range e.Children() {
				require.Equal(t, e.ID(), c.Parent().ID())
				walk(c)
			}
		}
		walk(file.Root())
		require.Equal(t, file.Elements(), seen)
	})
}
