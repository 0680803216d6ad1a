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
	"os"
	"os/exec"
	"path/filepath"
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
		for op := OpRicevutaConsegna; op.Valid(); op++ {
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

// signature is a structurally valid ds:Signature, enough for the schema.
const signature = `<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><ds:Reference URI=""><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue>AAAA</ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>AAAA</ds:SignatureValue></ds:Signature>`

// examples has one message of every type and schema, all fields filled.
func examples() map[string]struct {
	Schema Schema
	C      Contenuto
} {
	t0 := time.Date(2026, 3, 29, 0, 30, 0, 5e6, time.UTC)
	hash := strings.Repeat("0123456789abcdef", 4)
	head := func() Intestazione {
		return Intestazione{
			IdentificativoSdI: "99147483647", NomeFile: "IT01234567890_00001.xml.p7m", Hash: hash, DataOraRicezione: t0,
			RiferimentoArchivio: &RiferimentoArchivio{IdentificativoSdI: "99147483646", NomeFile: "IT01234567890_0000Z.zip"},
			MessageID:           "123456", PecMessageID: "opec1@pec", Note: `nota <& "à" €`,
		}
	}
	rf := &RiferimentoFattura{NumeroFattura: "FT/1", AnnoFattura: "2026", PosizioneFattura: 2}
	ec := NotificaEsitoCommittente{Intestazione: Intestazione{IdentificativoSdI: "99147483647"}, RiferimentoFattura: rf, Esito: EC02, Descrizione: "CIG errato", MessageIDCommittente: "77"}
	dest := Destinatario{Codice: "ABC123", Descrizione: "Ufficio <prova>"}
	type ex = struct {
		Schema Schema
		C      Contenuto
	}
	return map[string]ex{
		"pa_rc":  {SchemaPA, &RicevutaConsegna{Intestazione: head(), DataOraConsegna: t0.Add(time.Hour), Destinatario: dest, IntermediarioConDupliceRuolo: true}},
		"pa_ns":  {SchemaPA, &NotificaScarto{Intestazione: head(), ListaErrori: []Errore{{Codice: "00404", Descrizione: "Fattura duplicata"}, {Codice: "00200", Descrizione: "File non conforme"}}}},
		"pa_mc":  {SchemaPA, &NotificaMancataConsegna{Intestazione: head(), Descrizione: "casella piena"}},
		"pa_ne":  {SchemaPA, &NotificaEsito{Intestazione: head(), EsitoCommittente: ec, IntermediarioConDupliceRuolo: true}},
		"pa_dt":  {SchemaPA, &NotificaDecorrenzaTermini{Intestazione: head(), RiferimentoFattura: rf, Descrizione: "15 giorni"}},
		"pa_at":  {SchemaPA, &AttestazioneTrasmissioneFattura{Intestazione: head(), Destinatario: dest, HashFileOriginale: hash}},
		"pa_mt":  {SchemaPA, &MetadatiInvioFile{Intestazione: head(), CodiceDestinatario: "ABC123", Formato: "FPA12", TentativiInvio: 2}},
		"pa_ec":  {SchemaPA, &ec},
		"pa_se":  {SchemaPA, &ScartoEsitoCommittente{Intestazione: head(), RiferimentoFattura: rf, Scarto: EN01, MessageIDCommittente: "77"}},
		"old_rc": {SchemaPAOld, &RicevutaConsegna{Intestazione: head(), DataOraConsegna: t0, Destinatario: dest}},
		"pr_rc":  {SchemaPrivati, &RicevutaConsegna{Intestazione: head(), DataOraConsegna: t0, Destinatario: Destinatario{Codice: "ABC1234"}, FlussoSemplificato: true}},
		"pr_ns":  {SchemaPrivati, &NotificaScarto{Intestazione: head(), ListaErrori: []Errore{{Codice: "00002", Descrizione: "Nome file duplicato", Suggerimento: "Cambiare nome"}}}},
		"pr_mc":  {SchemaPrivati, &NotificaMancataConsegna{Intestazione: head(), DataMessaADisposizione: t0, Descrizione: "area riservata"}},
		"pr_mt":  {SchemaPrivati, &MetadatiInvioFile{Intestazione: head(), CodiceDestinatario: "0000000", Formato: "FPR12", TentativiInvio: 1}},
	}
}

// seal puts the signature where the schema wants it.
func seal(xml []byte) []byte {
	i := bytes.LastIndex(xml, []byte("</"))
	return append(append(append([]byte{}, xml[:i]...), signature...), xml[i:]...)
}

func TestWriteAndParse(t *testing.T) {
	xsd := filepath.Join(referenceDir(t), "xsd", "offline")
	xmllint, lintErr := exec.LookPath("xmllint")
	_, statErr := os.Stat(xsd)
	validate := lintErr == nil && statErr == nil
	if !validate {
		t.Log("xmllint or the official schemas are not here: schema validation left out, round trip checked")
	}
	for name, ex := range examples() {
		t.Run(name, func(t *testing.T) {
			xml, err := WriteMessage(ex.C, ex.Schema)
			require.NoError(t, err)
			if ty := ex.C.Tipo(); ty != MT && ty != EC {
				xml = seal(xml)
			}
			m, err := ParseMessage("IT01234567890_00001_"+string(ex.C.Tipo())+"_001.xml", xml)
			require.NoError(t, err)
			again, err := WriteMessage(m.Contenuto, m.Schema)
			require.NoError(t, err)
			if m.Signed {
				again = seal(again)
			}
			require.Equal(t, string(xml), string(again), "what was read is what was written")
			if ex.Schema != SchemaPAOld {
				require.Empty(t, m.Warnings)
			}
			golden(t, name+".xml", xml)
			if !validate || ex.Schema == SchemaPAOld {
				return
			}
			file := "MessaggiTypes_v1.1.xsd"
			if ex.Schema == SchemaPrivati {
				file = "MessaggiFatturaTypes_v1.0.xsd"
			}
			path := filepath.Join(t.TempDir(), "m.xml")
			require.NoError(t, os.WriteFile(path, xml, 0o600))
			out, err := exec.Command(xmllint, "--noout", "--nonet", "--schema", filepath.Join(xsd, file), path).CombinedOutput()
			require.NoError(t, err, "%s\n%s", out, xml)
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "messages", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run with UPDATE_GOLDEN=1 to create it")
	require.Equal(t, string(want), string(got))
}

func TestWriteRefusesIncomplete(t *testing.T) {
	for name, tc := range map[string]struct {
		s    Schema
		c    Contenuto
		want string
	}{
		"id":          {SchemaPA, &NotificaScarto{}, "IdentificativoSdI"},
		"id too long": {SchemaPA, &NotificaScarto{Intestazione: Intestazione{IdentificativoSdI: "1234567890123"}}, "12 digits"},
		"no errors":   {SchemaPA, &NotificaScarto{Intestazione: Intestazione{IdentificativoSdI: "1", NomeFile: "x", DataOraRicezione: time.Unix(1, 0), MessageID: "1"}}, "ListaErrori"},
		"hash":        {SchemaPrivati, &RicevutaConsegna{Intestazione: Intestazione{IdentificativoSdI: "1", NomeFile: "x"}}, "Hash"},
		"no NE":       {SchemaPrivati, &NotificaEsito{}, "has no NE"},
		"schema":      {0, &NotificaEsito{}, "has no NE"},
		"esito":       {SchemaPA, &NotificaEsitoCommittente{Intestazione: Intestazione{IdentificativoSdI: "1"}, Esito: "EC03"}, "EC01 or EC02"},
	} {
		_, err := WriteMessage(tc.c, tc.s)
		require.ErrorIs(t, err, ErrIncomplete, name)
		require.ErrorContains(t, err, tc.want, name)
	}
}

func TestParseLenient(t *testing.T) {
	for name, tc := range map[string]struct {
		xml  string
		want []string
	}{
		"test environment RC": {`<a:RicevutaConsegna xmlns:a="` + NamespacePrivati + `"><IdentificativoSdI>1</IdentificativoSdI><NomeFile>IT01234567890_00001.xml</NomeFile><DataOraRicezione>2026-01-01T00:00:00</DataOraRicezione><DataOraConsegna>2026-01-01T00:00:00.5Z</DataOraConsegna><Destinatario/><MessageId>1</MessageId><Nuovo>x</Nuovo></a:RicevutaConsegna>`,
			[]string{"versione", "Codice", "Nuovo", "not signed", "Hash"}},
		"root of the other schema": {`<a:NotificaScarto versione="1.0" xmlns:a="` + NamespacePrivati + `"><IdentificativoSdI>1</IdentificativoSdI><Hash>AB</Hash><ListaErrori><Errore><Codice>1</Codice><Descrizione>x</Descrizione></Errore></ListaErrori></a:NotificaScarto>`,
			[]string{"other schema", "Suggerimento", "the name says RC"}},
		"latin-1": {"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a:NotificaScarto versione=\"1.0\" xmlns:a=\"" + NamespacePA + "\"><IdentificativoSdI>1</IdentificativoSdI><Note>perch\xe9</Note><ListaErrori/></a:NotificaScarto>",
			[]string{"ListaErrori is empty"}},
		"bad numbers": {`<a:MetadatiInvioFile xmlns:a="` + NamespacePA + `"><IdentificativoSdI>1</IdentificativoSdI><TentativiInvio>uno</TentativiInvio><DataOraRicezione>ieri</DataOraRicezione></a:MetadatiInvioFile>`,
			[]string{"TentativiInvio", "ieri"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseMessage("IT01234567890_00001_RC_001.xml", []byte(tc.xml))
			require.NoError(t, err)
			all := strings.Join(m.Warnings, "\n")
			for _, w := range tc.want {
				require.Contains(t, all, w)
			}
			require.Equal(t, tc.xml, string(m.Raw))
		})
	}
}

func TestParseRefused(t *testing.T) {
	zipped, err := ZipAttestazione(ArchiveMember{Name: "a.xml", Data: []byte("x")}, "b.xml", []byte("<y/>"), time.Unix(0, 0))
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		raw  string
		want error
	}{
		"empty":        {"", ErrXML},
		"not XML":      {"receipt", ErrXML},
		"other root":   {`<a xmlns="` + NamespacePA + `"/>`, ErrNotMessage},
		"other ns":     {`<RicevutaConsegna/>`, ErrNotMessage},
		"no id":        {`<a:RicevutaConsegna xmlns:a="` + NamespacePA + `"/>`, ErrField},
		"truncated":    {`<a:RicevutaConsegna xmlns:a="` + NamespacePA + `"><IdentificativoSdI>1`, ErrTruncated},
		"entity":       {`<a:RicevutaConsegna xmlns:a="` + NamespacePA + `"><IdentificativoSdI>&b;</IdentificativoSdI></a:RicevutaConsegna>`, ErrXML},
		"DTD":          {`<!DOCTYPE a><a/>`, ErrDTD},
		"after root":   {`<a:NotificaEsito xmlns:a="` + NamespacePA + `"><IdentificativoSdI>1</IdentificativoSdI></a:NotificaEsito><b/>`, ErrXML},
		"broken zip":   {"PK\x03\x04garbage", ErrArchive},
		"other zip":    {string(zipped), ErrNotMessage},
		"unbound ns":   {`<a:RicevutaConsegna/>`, ErrXML},
		"wrong nest":   {`<a xmlns="x"><b></a></b>`, ErrNotMessage},
		"double attr":  {`<a x="1" x="2"/>`, ErrXML},
		"open quote":   {`<a x="1/>`, ErrTruncated},
		"comment only": {`<!-- x -->`, ErrXML},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseMessage("x", []byte(tc.raw))
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestAttestationZip(t *testing.T) {
	xml, err := WriteMessage(examples()["pa_at"].C, SchemaPA)
	require.NoError(t, err)
	raw, err := ZipAttestazione(ArchiveMember{Name: "IT01234567890_00001.xml.p7m", Data: []byte("p7m")}, "IT01234567890_00001_AT_001.xml", seal(xml), time.Unix(1e9, 0))
	require.NoError(t, err)
	m, err := ParseMessage("IT01234567890_00001_AT_001.zip", raw)
	require.NoError(t, err)
	require.Equal(t, AT, m.Type())
	require.Equal(t, "p7m", string(m.Original.Data))
	require.Equal(t, raw, m.Raw)
	require.Equal(t, string(seal(xml)), string(m.XML))
	require.Empty(t, m.Warnings)
}

func referenceDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		_, err := os.Stat(filepath.Join(dir, "go.work"))
		if err == nil {
			return filepath.Join(dir, "..", "shared", "reference", "sdi")
		}
		up := filepath.Dir(dir)
		if up == dir {
			return filepath.Join(dir, "reference-not-found")
		}
		dir = up
	}
}

// TestReplay reads every message of the reference collection when it is there; the project's
// own fixtures (testdata/messages) are read always.
func TestReplay(t *testing.T) {
	var files []string
	for _, pattern := range []string{
		filepath.Join("testdata", "messages", "*.xml"),
		filepath.Join(referenceDir(t), "notifications", "*", "*.xml"),
		filepath.Join(referenceDir(t), "notifications", "*", "*.zip"),
	} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		if len(found) == 0 {
			t.Logf("nothing at %s", pattern)
		}
		files = append(files, found...)
	}
	require.NotEmpty(t, files)
	for _, path := range files {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		base := filepath.Base(path)
		m, err := ParseMessage(base, raw)
		require.NoError(t, err, base)
		require.NotEmpty(t, m.Head().IdentificativoSdI, base)
		require.True(t, bytes.Equal(raw, m.Raw), base)
		for ty := range strings.SplitSeq("RC NS MC NE DT AT MT EC SE", " ") {
			if strings.Contains(base, "_"+ty+"_") {
				require.Equal(t, MessageType(ty), m.Type(), base)
			}
		}
		for _, w := range m.Warnings {
			require.NotContains(t, w, "unknown element", base)
		}
	}
	t.Logf("%d messages read", len(files))
}

func TestDataOra(t *testing.T) {
	summer, err := ParseDataOra("2026-07-01T12:00:00")
	require.NoError(t, err)
	require.Equal(t, "2026-07-01T10:00:00Z", summer.UTC().Format(time.RFC3339))
	require.Equal(t, "2026-07-01T12:00:00.000+02:00", FormatDataOra(summer))
	require.Equal(t, "2026-01-01", FormatData(time.Date(2025, 12, 31, 23, 30, 0, 0, time.UTC)))
	_, err = ParseDataOra("01/07/2026")
	require.Error(t, err)
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
