package sdi

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var encodings = map[string]Encoding{"xop": XOP, "multipart": Multipart, "plain": Plain}

func delivery() FileSdIConMetadati {
	return FileSdIConMetadati{
		IdentificativoSdI: "99147483647", NomeFile: "IT01234567890_00001.xml.p7m", File: []byte("\x30\x80invoice\r\n--x"),
		NomeFileMetadati: "IT01234567890_00001_MT_001.xml", Metadati: []byte("<mt/>"),
	}
}

// What a receiver's endpoint reads is what SdI wrote, in every shape; the plain shape is golden, because
// another's stack has to read it too.
func TestRiceviFattureRoundTrip(t *testing.T) {
	for name, enc := range encodings {
		t.Run(name, func(t *testing.T) {
			p, err := EncodeRiceviFatture(delivery(), enc)
			require.NoError(t, err)
			require.Equal(t, "http://www.fatturapa.it/RicezioneFatture/RiceviFattureSdI", p.SOAPAction)
			require.Equal(t, int64(len(p.Bytes())), p.Len())
			req, err := DecodeRicezione(p.ContentType, `"`+p.SOAPAction+`"`, p.Bytes(), Limits{})
			require.NoError(t, err)
			d := delivery()
			require.Equal(t, Request{Operation: OpRiceviFatture, IdentificativoSdI: d.IdentificativoSdI, NomeFile: d.NomeFile, File: d.File,
				NomeFileMetadati: d.NomeFileMetadati, Metadati: d.Metadati, XOP: enc == XOP}, req)
			_, err = DecodeRequest(p.ContentType, p.SOAPAction, p.Bytes(), Limits{})
			require.ErrorIs(t, err, ErrUnknownOperation, "the endpoint of a transmitter does not take deliveries")
			if enc == Plain {
				goldenSOAP(t, "riceviFatture.xml", p.Bytes())
			}
		})
	}
}

func goldenSOAP(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "soap", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run with UPDATE_GOLDEN=1 to create it")
	require.Equal(t, string(want), string(got))
}

func TestOutcomeRoundTrip(t *testing.T) {
	file := FileSdI{IdentificativoSdI: "99147483647", NomeFile: "IT01234567890_00001_EC_001.xml", File: []byte("<ec/>")}
	se := &FileSdIBase{NomeFile: "IT01234567890_00001_SE_001.xml", File: []byte("<se/>")}
	for name, enc := range encodings {
		t.Run(name, func(t *testing.T) {
			p, err := EncodeFileSdI(OpEsitoCommittente, file, enc)
			require.NoError(t, err)
			require.Equal(t, "http://www.fatturapa.it/SdIRicezioneNotifiche/NotificaEsito", p.SOAPAction)
			req, err := DecodeNotificaEsito(p.ContentType, p.SOAPAction, p.Bytes(), Limits{})
			require.NoError(t, err)
			require.Equal(t, file, FileSdI{req.IdentificativoSdI, req.NomeFile, req.File})
			for _, answer := range []RispostaSdINotificaEsito{{Esito: ES00, ScartoEsito: se}, {Esito: ES00}, {Esito: ES01}, {Esito: ES02}} {
				a, err := EncodeRispostaNotificaEsito(answer, enc)
				require.NoError(t, err)
				got, err := DecodeRispostaNotificaEsito(a.ContentType, a.Bytes())
				require.NoError(t, err)
				require.Equal(t, answer, got)
				if enc == Plain && answer.ScartoEsito != nil {
					goldenSOAP(t, "rispostaNotificaEsito.xml", a.Bytes())
				}
			}
			er := EncodeRispostaRiceviFatture(enc)
			esito, err := DecodeRispostaRiceviFatture(er.ContentType, er.Bytes())
			require.NoError(t, err)
			require.Equal(t, ER01, esito)
			if enc == Plain {
				goldenSOAP(t, "notificaEsito.xml", p.Bytes())
				goldenSOAP(t, "rispostaRiceviFatture.xml", er.Bytes())
			}
		})
	}
}

func TestRicezioneRefusals(t *testing.T) {
	_, err := EncodeRiceviFatture(FileSdIConMetadati{IdentificativoSdI: "x"}, Plain)
	require.ErrorIs(t, err, ErrField)
	_, err = EncodeFileSdI(OpRicevutaConsegna, FileSdI{}, Plain)
	require.ErrorIs(t, err, ErrUnknownOperation)
	_, err = EncodeNotifica(OpRiceviFatture, FileSdI{IdentificativoSdI: "1", NomeFile: "IT01234567890_1.xml"}, Plain)
	require.ErrorIs(t, err, ErrUnknownOperation, "not a callback")
	_, err = EncodeRispostaNotificaEsito(RispostaSdINotificaEsito{Esito: "ES03"}, Plain)
	require.ErrorIs(t, err, ErrField)

	envelope := func(body string) []byte { return []byte(envelopeHead + body + envelopeTail) }
	ns := ` xmlns:t="` + nsRicezione + `"`
	for name, tc := range map[string]struct {
		body string
		err  error
	}{
		"no file":         {`<t:fileSdIConMetadati` + ns + `><IdentificativoSdI>1</IdentificativoSdI><NomeFile>IT01234567890_1.xml</NomeFile></t:fileSdIConMetadati>`, ErrField},
		"metadata twice":  {`<t:fileSdIConMetadati` + ns + `><Metadati>AA==</Metadati><Metadati>AA==</Metadati></t:fileSdIConMetadati>`, ErrField},
		"other namespace": {`<t:fileSdIConMetadati xmlns:t="` + nsTrasmissione + `"/>`, ErrUnknownOperation},
		"an outcome":      {`<t:notificaEsito` + ns + `/>`, ErrUnknownOperation},
	} {
		_, err := DecodeRicezione("text/xml", "", envelope(tc.body), Limits{})
		require.ErrorIs(t, err, tc.err, name)
	}
	req, err := DecodeRicezione("text/xml", "", envelope(`<t:fileSdIConMetadati`+ns+`><IdentificativoSdI>1</IdentificativoSdI><NomeFile>IT01234567890_1.xml</NomeFile><File>AAAA</File></t:fileSdIConMetadati>`), Limits{})
	require.NoError(t, err, "metadata may be missing: the file must not be lost")
	require.Empty(t, req.Metadati)
	_, err = DecodeRicezione("text/xml", "http://www.fatturapa.it/RicezioneFatture/RiceviFatture", envelope(`<t:fileSdIConMetadati`+ns+`><IdentificativoSdI>1</IdentificativoSdI><NomeFile>IT01234567890_1.xml</NomeFile><File/></t:fileSdIConMetadati>`), Limits{})
	require.ErrorIs(t, err, ErrActionMismatch)

	_, err = DecodeRispostaRiceviFatture("text/xml", envelope(`<t:rispostaRiceviFatture`+ns+`><Esito>ER02</Esito></t:rispostaRiceviFatture>`))
	require.ErrorIs(t, err, ErrField)
	_, err = DecodeRispostaNotificaEsito("text/xml", envelope(`<t:rispostaSdINotificaEsito`+ns+`/>`))
	require.ErrorIs(t, err, ErrField)
	fault := EncodeFault(&Fault{Code: "Server", String: "later"})
	var f *Fault
	_, err = DecodeRispostaNotificaEsito(fault.ContentType, fault.Bytes())
	require.ErrorAs(t, err, &f)
	require.Equal(t, "Server", f.Code)
}

// The handlers and the client meet over HTTP: deliveries, the one-way notice, outcomes, faults.
func TestRicezioneOverHTTP(t *testing.T) {
	var got FileSdIConMetadati
	var notice FileSdI
	var refuse error
	receiver := httptest.NewServer(RicezioneFattureHandler(
		func(_ *http.Request, f FileSdIConMetadati) error { got = f; return refuse },
		func(_ *http.Request, f FileSdI) error { notice = f; return refuse }, ServerOptions{}))
	defer receiver.Close()
	exchange := httptest.NewServer(SdIRiceviNotificaHandler(func(_ *http.Request, f FileSdI) (RispostaSdINotificaEsito, error) {
		if string(f.File) == "good" {
			return RispostaSdINotificaEsito{Esito: ES01}, nil
		}
		return RispostaSdINotificaEsito{Esito: ES00, ScartoEsito: &FileSdIBase{NomeFile: "IT01234567890_1_SE_001.xml", File: f.File}}, nil
	}, ServerOptions{}))
	defer exchange.Close()

	for name, enc := range encodings {
		refuse = nil
		to := &Client{HTTP: receiver.Client(), URL: receiver.URL, Encoding: enc}
		require.NoError(t, to.RiceviFatture(t.Context(), delivery()), name)
		require.Equal(t, delivery(), got, name)
		dt := FileSdI{IdentificativoSdI: "7", NomeFile: "IT01234567890_1_DT_001.xml", File: []byte("<dt/>")}
		require.NoError(t, to.DecorrenzaTermini(t.Context(), dt))
		require.Equal(t, dt, notice)
		refuse = errors.New("disk full")
		err := to.RiceviFatture(t.Context(), delivery())
		var call *CallError
		require.ErrorAs(t, err, &call)
		require.True(t, call.Unknown())
		require.NotContains(t, err.Error(), "disk full", "internal text does not leave the process")

		sdi := &Client{HTTP: exchange.Client(), URL: exchange.URL, Encoding: enc}
		answer, err := sdi.NotificaEsito(t.Context(), FileSdI{IdentificativoSdI: "7", NomeFile: "IT01234567890_1_EC_001.xml", File: []byte("good")})
		require.NoError(t, err)
		require.Equal(t, RispostaSdINotificaEsito{Esito: ES01}, answer)
		answer, err = sdi.NotificaEsito(t.Context(), FileSdI{IdentificativoSdI: "7", NomeFile: "IT01234567890_1_EC_001.xml", File: []byte("bad")})
		require.NoError(t, err)
		require.Equal(t, "bad", string(answer.ScartoEsito.File))
	}
}

// Whatever bytes a delivery carries, the receiver gets them unchanged.
func TestDeliveriesKeepTheirBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := delivery()
		d.File, d.Metadati = rapid.SliceOf(rapid.Byte()).Draw(t, "file"), rapid.SliceOf(rapid.Byte()).Draw(t, "metadata")
		enc := Encoding(rapid.IntRange(0, 2).Draw(t, "encoding"))
		p, err := EncodeRiceviFatture(d, enc)
		if err != nil {
			t.Fatal(err)
		}
		req, err := DecodeRicezione(p.ContentType, "", p.Bytes(), Limits{})
		if err != nil || !bytes.Equal(req.File, d.File) || !bytes.Equal(req.Metadati, d.Metadati) {
			t.Fatalf("%v: %x %x", err, req.File, req.Metadati)
		}
	})
}

// FuzzDecodeRicezione feeds whole HTTP bodies to a receiver's endpoint. What is accepted must encode again
// to the same delivery.
func FuzzDecodeRicezione(f *testing.F) {
	for _, enc := range encodings {
		p, err := EncodeRiceviFatture(delivery(), enc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.ContentType, p.Bytes())
		p, err = EncodeFileSdI(OpDecorrenzaTerminiCommittente, FileSdI{"7", "IT01234567890_1_DT_001.xml", []byte("<a/>")}, enc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.ContentType, p.Bytes())
	}
	f.Fuzz(func(t *testing.T, ctype string, body []byte) {
		req, err := DecodeRicezione(ctype, "", body, Limits{Body: 1 << 20, File: 1 << 18})
		if err != nil {
			if FaultFor(err).Code == "Server" {
				t.Fatalf("bad input must be the client's fault: %v", err)
			}
			return
		}
		if req.Operation != OpRiceviFatture {
			return
		}
		d := FileSdIConMetadati{req.IdentificativoSdI, req.NomeFile, req.File, req.NomeFileMetadati, req.Metadati}
		p, err := EncodeRiceviFatture(d, XOP)
		if err != nil {
			return // lenient input need not be conforming
		}
		again, err := DecodeRicezione(p.ContentType, p.SOAPAction, p.Bytes(), Limits{})
		if err != nil || !bytes.Equal(again.File, req.File) || !bytes.Equal(again.Metadati, req.Metadati) || again.NomeFileMetadati != req.NomeFileMetadati {
			t.Fatalf("round trip changed the delivery: %v %+v %+v", err, req, again)
		}
	})
}

// FuzzDecodeNotificaEsito feeds SdI's endpoint for outcomes.
func FuzzDecodeNotificaEsito(f *testing.F) {
	for _, enc := range encodings {
		p, err := EncodeFileSdI(OpEsitoCommittente, FileSdI{"7", "IT01234567890_1_EC_001.xml", []byte("<a/>")}, enc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.ContentType, p.Bytes())
	}
	f.Fuzz(func(t *testing.T, ctype string, body []byte) {
		req, err := DecodeNotificaEsito(ctype, "", body, Limits{Body: 1 << 20, File: 1 << 18})
		if err == nil && req.Operation != OpEsitoCommittente {
			t.Fatalf("%v", req.Operation)
		}
		if err != nil && FaultFor(err).Code == "Server" {
			t.Fatalf("bad input must be the client's fault: %v", err)
		}
	})
}

// FuzzDecodeRispostaNotificaEsito reads SdI's answers to outcomes, and receivers' answers to deliveries.
func FuzzDecodeRispostaNotificaEsito(f *testing.F) {
	for _, enc := range encodings {
		p, err := EncodeRispostaNotificaEsito(RispostaSdINotificaEsito{ES00, &FileSdIBase{"IT01234567890_1_SE_001.xml", []byte("<a/>")}}, enc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.ContentType, p.Bytes())
		p = EncodeRispostaRiceviFatture(enc)
		f.Add(p.ContentType, p.Bytes())
	}
	f.Fuzz(func(t *testing.T, ctype string, body []byte) {
		a, err := DecodeRispostaNotificaEsito(ctype, body)
		if err == nil && !strings.HasPrefix(string(a.Esito), "ES0") {
			t.Fatalf("an answer that says nothing: %+v", a)
		}
		esito, err := DecodeRispostaRiceviFatture(ctype, body)
		if err == nil && esito != ER01 {
			t.Fatalf("taken without ER01: %q", esito)
		}
	})
}
