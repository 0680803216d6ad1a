package sdi

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzDecodeRequest feeds whole HTTP bodies. What is accepted must encode again to the same
// request in every shape.
func FuzzDecodeRequest(f *testing.F) {
	for _, enc := range []Encoding{XOP, Multipart, Plain} {
		p, err := EncodeNotifica(OpRicevutaConsegna, FileSdI{IdentificativoSdI: "99147483647", NomeFile: "IT01234567890_00001_RC_001.xml", File: []byte("<a/>")}, enc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.ContentType, p.Bytes())
	}
	f.Fuzz(func(t *testing.T, ctype string, body []byte) {
		req, err := DecodeRequest(ctype, "", body, Limits{Body: 1 << 20, File: 1 << 18})
		if err != nil {
			fault := FaultFor(err)
			if fault.Code == "Server" {
				t.Fatalf("bad input must be the client's fault: %v", err)
			}
			return
		}
		if len(req.File) > 1<<18 {
			t.Fatalf("limit passed: %d", len(req.File))
		}
		if !ValidSOAPName(req.NomeFile) || !validID(req.IdentificativoSdI) && req.Operation != OpRiceviFile {
			return
		}
		if req.Operation == OpRiceviFile {
			req.IdentificativoSdI = "" // not part of that request
		}
		for _, enc := range []Encoding{XOP, Multipart, Plain} {
			p, err := encodeRequest(req, enc)
			if err != nil {
				t.Fatal(err)
			}
			again, err := DecodeRequest(p.ContentType, p.SOAPAction, p.Bytes(), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if again.NomeFile != req.NomeFile || again.IdentificativoSdI != req.IdentificativoSdI || !bytes.Equal(again.File, req.File) {
				t.Fatalf("round trip changed the request: %+v %+v", req, again)
			}
		}
	})
}

// FuzzDecodeRisposta reads answers.
func FuzzDecodeRisposta(f *testing.F) {
	p := EncodeFault(&Fault{Code: "Server", String: "x"})
	f.Add(p.ContentType, p.Bytes())
	f.Add("text/xml", []byte(envelopeHead+`<t:rispostaSdIRiceviFile xmlns:t="`+nsTrasmissione+`"><IdentificativoSdI>0</IdentificativoSdI><DataOraRicezione>2026-01-01T00:00:00</DataOraRicezione><Errore>EI02</Errore></t:rispostaSdIRiceviFile>`+envelopeTail))
	f.Fuzz(func(t *testing.T, ctype string, body []byte) {
		r, err := DecodeRisposta(ctype, body)
		if err == nil && r.IdentificativoSdI == "" && r.Errore == "" {
			t.Fatal("an answer that says nothing")
		}
	})
}

// FuzzParseMessage reads messages; what is accepted and complete must survive a rewrite.
func FuzzParseMessage(f *testing.F) {
	for name, ex := range examples() {
		xml, err := WriteMessage(ex.C, ex.Schema)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("IT01234567890_00001_"+strings.ToUpper(name[len(name)-2:])+"_001.xml", seal(xml))
	}
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		m, err := ParseMessage(name, raw)
		if err != nil {
			return
		}
		if m.Head().IdentificativoSdI == "" || !bytes.Equal(m.Raw, raw) {
			t.Fatal("accepted without identifier, or raw bytes changed")
		}
		out, err := WriteMessage(m.Contenuto, m.Schema)
		if err != nil {
			return // lenient input need not be complete
		}
		again, err := ParseMessage(name, out)
		if err != nil {
			t.Fatalf("own output unreadable: %v\n%s", err, out)
		}
		out2, err := WriteMessage(again.Contenuto, again.Schema)
		if err != nil || !bytes.Equal(out, out2) {
			t.Fatalf("rewrite is not stable: %v\n%s\n%s", err, out, out2)
		}
	})
}

// FuzzFileName checks that what parses prints back unchanged.
func FuzzFileName(f *testing.F) {
	f.Add("IT01234567890_00001.xml.p7m")
	f.Add("IT01234567890_00001_RC_001.xml")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseFileName(s)
		if err == nil && n.String() != s {
			t.Fatalf("%q became %q", s, n)
		}
		m, err := ParseMessageName(s)
		if err == nil && m.String() != s {
			t.Fatalf("%q became %q", s, m)
		}
	})
}
