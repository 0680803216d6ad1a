package sdi

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFileNames(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ok     bool
		reason string
	}{
		{"IT01234567890_00001.xml", true, ""},
		{"IT01234567890_00001.xml.p7m", true, ""},
		{"IT01234567890_a.zip", true, ""},
		{"ITRSSMRA80A01H501U_FPA01.xml", true, ""},
		{"FR12_1.xml", true, ""},
		{"IT0123456789_00001.xml", false, "11 to 16"},
		{"it01234567890_00001.xml", false, "country code"},
		{"IT01234567890_000001.xml", false, "1 to 5"},
		{"IT01234567890_.xml", false, "1 to 5"},
		{"IT01234567890-00001.xml", false, "underscore"},
		{"IT01234567890_00001.XML", false, "lower case"},
		{"IT01234567890_00001.p7m", false, "must end in"},
		{"IT01234567890_00_01.xml", false, "1 to 5"},
		{"IT0123456789à_00001.xml", false, "letters and digits"},
		{"", false, "must end in"},
		{"_.xml", false, "country"},
	} {
		f, err := ParseFileName(tc.name)
		if tc.ok {
			require.NoError(t, err, tc.name)
			require.Equal(t, tc.name, f.String())
			continue
		}
		require.ErrorIs(t, err, ErrFileName, tc.name)
		require.ErrorContains(t, err, tc.reason, tc.name)
	}
	a, _ := ParseFileName("IT01234567890_abcde.xml")
	b, _ := ParseFileName("IT01234567890_ABCDE.xml")
	require.Equal(t, a.Key(), b.Key(), "names that differ only in case are one name")
}

func TestProgressivo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(0, MaxProgressivo).Draw(t, "n")
		s, err := Progressivo(n)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseProgressivo(strings.ToLower(s))
		if err != nil || back != n || len(s) != 5 {
			t.Fatalf("%d -> %q -> %d, %v", n, s, back, err)
		}
	})
	_, err := Progressivo(MaxProgressivo + 1)
	require.ErrorIs(t, err, ErrProgressive)
}

func TestMessageNames(t *testing.T) {
	m, err := ParseMessageName("IT01234567890_00001_RC_001.xml")
	require.NoError(t, err)
	require.Equal(t, MessageName{Stem: "IT01234567890_00001", Type: RC, Progressivo: "001"}, m)
	m, err = ParseMessageName("IT01234567890_00001_AT_001.zip")
	require.NoError(t, err)
	require.True(t, m.Zip)
	for _, bad := range []string{"IT01234567890_00001_RC_001.zip", "IT01234567890_00001_XX_001.xml", "_RC_001.xml", "RC_001.xml", "IT01234567890_00001_RC_0001.xml", "x", ""} {
		_, err := ParseMessageName(bad)
		require.ErrorIs(t, err, ErrMessageName, bad)
	}
	require.Equal(t, "IT01234567890_00001_NS_002.xml", NewMessageName("IT01234567890_00001.xml.p7m", NS, 2).String())
	require.Equal(t, "IT01234567890_00001_AT_001.zip", NewMessageName("IT01234567890_00001.xml", AT, 1).String())
	long := NewMessageName(strings.Repeat("z", 60)+".xml", NS, 1)
	require.Len(t, long.Stem, 36, "an invalid stem is cut")
	for _, odd := range []string{"", "cartella/fattura n° 1.xml", ".xml"} {
		require.True(t, ValidSOAPName(NewMessageName(odd, NS, 1).String()), odd)
	}
}

// TestRequestRoundTrip drives every operation in every encoding through our own server and
// client, over a real connection.
func TestRequestRoundTrip(t *testing.T) {
	var got Request
	srv := httptest.NewServer(TrasmissioneFattureHandler(func(_ *http.Request, op Operation, f FileSdI) error {
		got = Request{Operation: op, IdentificativoSdI: f.IdentificativoSdI, NomeFile: f.NomeFile, File: f.File}
		return nil
	}, ServerOptions{}))
	defer srv.Close()
	file := []byte("\x00binary\r\n--sdi-\r\n <&> \xff")
	for _, enc := range []Encoding{XOP, Multipart, Plain} {
		c := &Client{HTTP: srv.Client(), URL: srv.URL, Encoding: enc}
		for op := OpRicevutaConsegna; op.callback(); op++ {
			f := FileSdI{IdentificativoSdI: "999147483647", NomeFile: "IT01234567890_00001_RC_001.xml", File: file}
			require.NoError(t, c.Notifica(context.Background(), op, f))
			require.Equal(t, Request{Operation: op, IdentificativoSdI: f.IdentificativoSdI, NomeFile: f.NomeFile, File: file}, got)
		}
	}
}

func TestRiceviFileRoundTrip(t *testing.T) {
	when := time.Date(2026, 7, 1, 10, 0, 0, 123e6, time.UTC)
	for _, enc := range []Encoding{XOP, Multipart, Plain} {
		var answer RispostaSdIRiceviFile
		var answerErr error
		var file []byte
		srv := httptest.NewServer(RiceviFileHandler(func(_ *http.Request, f FileSdIBase) (RispostaSdIRiceviFile, error) {
			file = f.File
			return answer, answerErr
		}, ServerOptions{Answer: enc}))
		c := &Client{HTTP: srv.Client(), URL: srv.URL, Encoding: enc}
		ctx := context.Background()

		answer = RispostaSdIRiceviFile{IdentificativoSdI: "99147483647", DataOraRicezione: when}
		big := bytes.Repeat([]byte("0123456789"), MaxFileSize/10)
		r, err := c.RiceviFile(ctx, FileSdIBase{NomeFile: "IT01234567890_00001.xml", File: big})
		require.NoError(t, err)
		require.True(t, r.Accepted())
		require.True(t, when.Equal(r.DataOraRicezione))
		require.True(t, bytes.Equal(big, file))

		answer = RispostaSdIRiceviFile{IdentificativoSdI: "0", DataOraRicezione: when, Errore: EI02}
		r, err = c.RiceviFile(ctx, FileSdIBase{NomeFile: "IT01234567890_00001.xml"})
		require.NoError(t, err)
		require.False(t, r.Accepted(), "EI02 with an identifier of 0 is no success")
		require.Empty(t, file)

		answerErr = &Fault{Code: "Server", String: "a < b & c", Detail: "down"}
		_, err = c.RiceviFile(ctx, FileSdIBase{NomeFile: "IT01234567890_00001.xml", File: []byte("x")})
		var call *CallError
		require.ErrorAs(t, err, &call)
		require.True(t, call.Unknown())
		var f *Fault
		require.ErrorAs(t, err, &f)
		require.Equal(t, "a < b & c", f.String)
		require.Equal(t, "down", f.Detail)

		answerErr = errors.New("secret of the house")
		_, err = c.RiceviFile(ctx, FileSdIBase{NomeFile: "IT01234567890_00001.xml", File: []byte("x")})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
		srv.Close()

		_, err = c.RiceviFile(ctx, FileSdIBase{NomeFile: "IT01234567890_00001.xml", File: []byte("x")})
		require.ErrorAs(t, err, &call)
		require.False(t, call.Unknown(), "a refused connection sent nothing: %v", err)
	}
}

// TestForeignStacks decodes requests as other people's SOAP stacks write them.
func TestForeignStacks(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString([]byte("<a>invoice</a>"))
	plain := `<?xml version='1.0' encoding='utf-8'?>
<soap-env:Envelope xmlns:soap-env="http://schemas.xmlsoap.org/soap/envelope/"><!-- zeep -->
  <soap-env:Header><w:Action xmlns:w="urn:x" soap-env:mustUnderstand="0">x</w:Action></soap-env:Header>
  <soap-env:Body><ns0:fileSdIAccoglienza xmlns:ns0="http://www.fatturapa.gov.it/sdi/ws/trasmissione/v1.0/types">
    <NomeFile>IT01234567890_00001.xml</NomeFile><File>` + b64[:8] + "\n   " + b64[8:] + `</File></ns0:fileSdIAccoglienza></soap-env:Body>
</soap-env:Envelope>`
	cxf := "\r\n--uuid:aa\r\nContent-Type: application/xop+xml; charset=UTF-8;\r\n type=\"text/xml\"\r\nContent-Transfer-Encoding: binary\r\nContent-ID: <root.message@cxf.apache.org>\r\n\r\n" +
		`<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><ns2:ricevutaConsegna xmlns:ns2="http://www.fatturapa.gov.it/sdi/ws/trasmissione/v1.0/types"><IdentificativoSdI> 33147483647 </IdentificativoSdI><NomeFile>IT01234567890_00001_RC_001.xml</NomeFile><File><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:e%3a1@cxf"></xop:Include></File></ns2:ricevutaConsegna></soap:Body></soap:Envelope>` +
		"\r\n--uuid:aa\r\nContent-Type: text/xml\r\ncontent-transfer-encoding: BASE64\r\nContent-ID: <e:1@cxf>\r\n\r\n" + b64 + "\r\n--uuid:aa--"
	defaultNS := `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><fileSdIAccoglienza xmlns="http://www.fatturapa.gov.it/sdi/ws/trasmissione/v1.0/types"><NomeFile xmlns="">IT01234567890_00001.xml</NomeFile><File xmlns=""><![CDATA[` + b64 + `]]></File></fileSdIAccoglienza></Body></Envelope>`
	for _, tc := range []struct{ name, ctype, action, body, id string }{
		{"zeep", "text/xml; charset=utf-8", `"http://www.fatturapa.it/SdIRiceviFile/RiceviFile"`, plain, ""},
		{"no action", "text/xml", `""`, plain, ""},
		{"default namespace", "text/xml;charset=UTF-8", "", defaultNS, ""},
		{"cxf", `multipart/related; type="application/xop+xml"; boundary="uuid:aa"; start="<root.message@cxf.apache.org>"; start-info="text/xml"`, "", cxf, "33147483647"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := DecodeRequest(tc.ctype, tc.action, []byte(tc.body), Limits{})
			require.NoError(t, err)
			require.Equal(t, "<a>invoice</a>", string(req.File))
			require.Equal(t, tc.id, req.IdentificativoSdI)
		})
	}
}

func TestRefusedRequests(t *testing.T) {
	body := func(inner string) string {
		return `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:t="http://www.fatturapa.gov.it/sdi/ws/trasmissione/v1.0/types"><e:Body>` + inner + `</e:Body></e:Envelope>`
	}
	good := body(`<t:fileSdIAccoglienza><NomeFile>IT01234567890_00001.xml</NomeFile><File>QQ==</File></t:fileSdIAccoglienza>`)
	p, err := EncodeRiceviFile(FileSdIBase{NomeFile: "IT01234567890_00001.xml", File: []byte("hello")}, XOP)
	require.NoError(t, err)
	mtom := string(p.Bytes())
	deep := strings.Repeat("<a>", 80) + strings.Repeat("</a>", 80)
	for _, tc := range []struct {
		name, ctype, action, body string
		want                      error
		code                      string
	}{
		{"not XML", "text/xml", "", "hello", ErrXML, "Client"},
		{"empty", "text/xml", "", "", ErrXML, "Client"},
		{"text before the root", "text/xml", "", "x" + good, ErrXML, "Client"},
		{"comments without end", "text/xml", "", strings.Repeat(" <!---->", 100_000), ErrXML, "Client"},
		{"DTD", "text/xml", "", `<!DOCTYPE a [<!ENTITY b "c">]>` + good, ErrDTD, "Client"},
		{"truncated", "text/xml", "", good[:len(good)-20], ErrTruncated, "Client"},
		{"SOAP 1.2", "text/xml", "", `<Envelope xmlns="http://www.w3.org/2003/05/soap-envelope"/>`, ErrSOAPVersion, "VersionMismatch"},
		{"SOAP 1.2 by type", "application/soap+xml", "", good, ErrSOAPVersion, "VersionMismatch"},
		{"other root", "text/xml", "", `<a/>`, ErrNotSOAP, "Client"},
		{"empty body", "text/xml", "", body(""), ErrNotSOAP, "Client"},
		{"two payloads", "text/xml", "", body(`<t:fileSdIAccoglienza><NomeFile>x</NomeFile><File/></t:fileSdIAccoglienza><t:a/>`), ErrNotSOAP, "Client"},
		{"unknown operation", "text/xml", "", body(`<t:cancellaTutto/>`), ErrUnknownOperation, "Client"},
		{"wrong namespace", "text/xml", "", body(`<fileSdIAccoglienza/>`), ErrUnknownOperation, "Client"},
		{"wrong action", "text/xml", `"http://www.fatturapa.it/TrasmissioneFatture/RicevutaConsegna"`, good, ErrActionMismatch, "Client"},
		{"no name", "text/xml", "", body(`<t:fileSdIAccoglienza><File/></t:fileSdIAccoglienza>`), ErrField, "Client"},
		{"no file", "text/xml", "", body(`<t:fileSdIAccoglienza><NomeFile>x</NomeFile></t:fileSdIAccoglienza>`), ErrField, "Client"},
		{"no id", "text/xml", "", body(`<t:ricevutaConsegna><NomeFile>x</NomeFile><File/></t:ricevutaConsegna>`), ErrField, "Client"},
		{"bad base64", "text/xml", "", body(`<t:fileSdIAccoglienza><NomeFile>x</NomeFile><File>@@</File></t:fileSdIAccoglienza>`), ErrField, "Client"},
		{"must understand", "text/xml", "", `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Header><x e:mustUnderstand="1"/></e:Header><e:Body/></e:Envelope>`, ErrMustUnderstand, "MustUnderstand"},
		{"deep", "text/xml", "", body(deep), ErrUnknownOperation, "Client"},
		{"deep in field", "text/xml", "", body(`<t:fileSdIAccoglienza><NomeFile>` + deep + `</NomeFile></t:fileSdIAccoglienza>`), ErrTooDeep, "Client"},
		{"not UTF-8", "text/xml", "", body("<t:\xff/>"), ErrEncoding, "Client"},
		{"UTF-7", "text/xml", "", `<?xml version="1.0" encoding="UTF-7"?>` + good, ErrEncoding, "Client"},
		{"JSON", "application/json", "", `{}`, ErrContentType, "Client"},
		{"no content type", "", "", good, ErrContentType, "Client"},
		{"multipart without boundary", "multipart/related", "", mtom, ErrMIME, "Client"},
		{"multipart truncated", p.ContentType, "", mtom[:len(mtom)-30], ErrTruncated, "Client"},
		{"part missing", p.ContentType, "", strings.Replace(mtom, "<file@sdi>", "<other@sdi>", 1), ErrField, "Client"},
		{"start missing", p.ContentType, "", strings.Replace(mtom, "<envelope@sdi>", "<other@sdi>", 1), ErrMIME, "Client"},
		{"href is a URL", p.ContentType, "", strings.Replace(mtom, "cid:file@sdi", "http://127.0.0.1/x", 1), ErrField, "Client"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DecodeRequest(tc.ctype, tc.action, []byte(tc.body), Limits{})
			require.ErrorIs(t, err, tc.want)
			var pe *ParseError
			require.ErrorAs(t, err, &pe)
			require.Equal(t, tc.code, FaultFor(err).Code)
		})
	}
	_, err = DecodeRequest("text/xml", "", []byte(strings.Replace(good, "QQ==", base64.StdEncoding.EncodeToString(make([]byte, 2000)), 1)), Limits{File: 100})
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = DecodeRequest(p.ContentType, "", p.Bytes(), Limits{File: 4})
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestServerEdges(t *testing.T) {
	refused := 0
	srv := httptest.NewServer(RiceviFileHandler(func(*http.Request, FileSdIBase) (RispostaSdIRiceviFile, error) {
		t.Error("must not be called")
		return RispostaSdIRiceviFile{}, nil
	}, ServerOptions{Limits: Limits{Body: 1000}, Refused: func(*http.Request, error) { refused++ }}))
	defer srv.Close()
	get, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	get.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, get.StatusCode)
	c := &Client{HTTP: srv.Client(), URL: srv.URL}
	_, err = c.RiceviFile(context.Background(), FileSdIBase{NomeFile: "IT01234567890_00001.xml", File: make([]byte, 2000)})
	var call *CallError
	require.ErrorAs(t, err, &call)
	require.Equal(t, http.StatusRequestEntityTooLarge, call.Status)
	require.False(t, call.Unknown())
	err = c.Notifica(context.Background(), OpRicevutaConsegna, FileSdI{IdentificativoSdI: "1", NomeFile: "IT01234567890_00001_RC_001.xml", File: []byte("x")})
	require.ErrorContains(t, err, "not served")
	require.Equal(t, 2, refused)
	_, err = c.RiceviFile(context.Background(), FileSdIBase{NomeFile: "bad name"})
	require.ErrorIs(t, err, ErrField)
}

func TestReadBody(t *testing.T) {
	_, err := ReadBody(strings.NewReader("abc"), 5, 10)
	require.ErrorIs(t, err, ErrTruncated)
	_, err = ReadBody(strings.NewReader("abc"), 11, 10)
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = ReadBody(io.LimitReader(zeros{}, 11), -1, 10)
	require.ErrorIs(t, err, ErrTooLarge)
	b, err := ReadBody(strings.NewReader("abc"), -1, 3)
	require.NoError(t, err)
	require.Equal(t, "abc", string(b))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func BenchmarkRequest(b *testing.B) {
	file := bytes.Repeat([]byte("<x>fattura</x>"), 600)
	b.ReportAllocs()
	for b.Loop() {
		p, err := EncodeRiceviFile(FileSdIBase{NomeFile: "IT01234567890_00001.xml", File: file}, XOP)
		if err != nil {
			b.Fatal(err)
		}
		_, err = DecodeRequest(p.ContentType, `"`+p.SOAPAction+`"`, p.Bytes(), Limits{})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	ex := examples()["pr_rc"]
	b.ReportAllocs()
	for b.Loop() {
		xml, err := WriteMessage(ex.C, ex.Schema)
		if err != nil {
			b.Fatal(err)
		}
		_, err = ParseMessage("IT01234567890_00001_RC_001.xml", xml)
		if err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleParseFileName() {
	f, err := ParseFileName("IT01234567890_0000A.xml.p7m")
	fmt.Println(f.ID, f.Progressivo, f.Ext, err)
	// Output: 01234567890 0000A .xml.p7m <nil>
}
