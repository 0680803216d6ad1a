package sdiftp_test

import (
	"archive/zip"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/sdiftp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const node = "01234567897"

var (
	moment  = time.Date(2026, 11, 22, 8, 5, 30, 0, time.UTC)
	support = sdiftp.NewName(sdiftp.FI, node, moment, 7)
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "write it with: go test ./format/sdiftp -update")
	require.Equal(t, string(want), string(got))
}

func TestNames(t *testing.T) {
	require.Equal(t, "FI.01234567897.2026326.0905.007.zip", support.String(), "Italian time")
	for name, c := range map[string]struct {
		kind     sdiftp.Kind
		complete bool
	}{
		"FI.01234567897.2026326.0905.007.zip":         {sdiftp.FI, true},
		"FI.RSSMRA80A01H501U.2028366.2359.999.zip":    {sdiftp.FI, true},
		"FO.01234567897.2026001.0000.001.zip":         {sdiftp.FO, false},
		"FO.01234567897.2026001.0000.001.zip.p7m.enc": {sdiftp.FO, true},
		"EO.01234567897.2026013.1006.984.xml":         {sdiftp.EO, false},
		"EO.01234567897.2026013.1006.984.xml.run":     {sdiftp.EO, true},
		"ER.01234567897.2026013.1006.984":             {sdiftp.ER, false},
		"ER.01234567897.2026013.1006.984.run":         {sdiftp.ER, true},
		"ER.01234567897.2026013.1006.984.xml.run":     {sdiftp.ER, true},
		"ST.01234567897.FI.2026013.0700.csv":          {sdiftp.ST, false},
		"ST.01234567897.FO.2026013.0700.csv.run":      {sdiftp.ST, true},
	} {
		n, err := sdiftp.ParseName(name)
		require.NoError(t, err, name)
		require.Equal(t, c.kind, n.Kind, name)
		require.Equal(t, c.complete, n.Complete, name)
		require.Equal(t, name, n.String())
	}
	for _, name := range []string{
		"", "FI", "FI.01234567897.2026326.0905.007", "FI.01234567897.2026326.0905.007.zip.p7m.enc", "fi.01234567897.2026326.0905.007.zip",
		"FI.0123456789.2026326.0905.007.zip", "FI.01234567897.2026366.0905.007.zip", "FI.01234567897.2026000.0905.007.zip",
		"FI.01234567897.2026326.2405.007.zip", "FI.01234567897.2026326.0905.000.zip", "FI.01234567897.2026326.0905.07.zip",
		"FI.01234567897.2026326.0905.+07.zip", "FI.rssmra80a01h501u.2026326.0905.007.zip", "../FI.01234567897.2026326.0905.007.zip",
		"EO.01234567897.2026326.0905.007.zip", "ER.01234567897.2026326.0905.007.exe.run", "ST.01234567897.EO.2026326.0905.csv.run",
		"ST.01234567897.FI.2026326.csv.run", "FO.01234567897.2026326.0905.007.zip.p7m.enc.run", "XX.01234567897.2026326.0905.007.zip",
	} {
		_, err := sdiftp.ParseName(name)
		require.ErrorIs(t, err, sdiftp.ErrName, name)
	}
	eo, err := sdiftp.ParseName("EO.01234567897.2026326.0905.007.xml.run")
	require.NoError(t, err)
	require.Equal(t, support, eo.About())
	require.False(t, support.Test())
}

// Names in order of time are in order of text, and each reads back as itself.
func TestNamesRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		at := time.Unix(rapid.Int64Range(1_700_000_000, 2_500_000_000).Draw(rt, "at"), 0)
		n := sdiftp.NewName(sdiftp.FI, node, at, rapid.IntRange(1, 999).Draw(rt, "n"))
		again, err := sdiftp.ParseName(n.String())
		require.NoError(rt, err)
		require.Equal(rt, n, again)
	})
}

func TestCountsAndOutcomes(t *testing.T) {
	q := sdiftp.Quadratura{Nodo: node, Creazione: moment, Supporto: support.Support(), Numeri: []sdiftp.Conteggio{{Tipo: "RC", Numero: 3}, {Tipo: sdiftp.FA, Numero: 2}}}
	raw, err := q.Write()
	require.NoError(t, err)
	golden(t, "count.xml", raw)
	got, err := sdiftp.ParseQuadratura(raw)
	require.NoError(t, err)
	require.Equal(t, []sdiftp.Conteggio{{Tipo: sdiftp.FA, Numero: 2}, {Tipo: "RC", Numero: 3}}, got.Numeri)
	require.True(t, got.Creazione.Equal(moment))

	e := sdiftp.Esito{Nodo: node, Ricezione: moment, DataEsito: moment.Add(time.Minute), Supporto: support.Support(), Esito: sdiftp.ET02}
	raw, err = e.Write()
	require.NoError(t, err)
	golden(t, "outcome.xml", raw)
	back, err := sdiftp.ParseEsito(raw)
	require.NoError(t, err)
	require.Equal(t, sdiftp.ET02, back.Esito)
	require.True(t, back.Ricezione.Equal(moment))
	require.Empty(t, back.Avvertenze)
	for i := range raw[:len(raw)-2] { // the line end does not count
		_, err := sdiftp.ParseEsito(raw[:i])
		require.Error(t, err, "%d of %d bytes: an outcome that is cut off is none", i, len(raw))
	}
}

// Forms seen in the field, written by us: elements in the default namespace, none at all, times odd.
func TestLenientOutcomes(t *testing.T) {
	for name, raw := range map[string]string{
		"default namespace": `<FileEsitoFTP xmlns="http://www.fatturapa.it/sdi/ftp/v2.0" versione="2.0"><IdentificativoNodo>01234567897</IdentificativoNodo><DataOraRicezione>2026-11-22T09:05:30</DataOraRicezione><DataOraEsito>2026-11-22T09:05:31</DataOraEsito><NomeSupporto> FI.01234567897.2026326.0905.007.zip </NomeSupporto><Esito>ET01</Esito></FileEsitoFTP>`,
		"no namespace":      `<?xml version="1.0"?><!-- x --><FileEsitoFTP><IdentificativoNodo>01234567897</IdentificativoNodo><NomeSupporto>FI.01234567897.2026326.0905.007.zip</NomeSupporto><Esito>ET01</Esito><Nuovo/></FileEsitoFTP>`,
	} {
		e, err := sdiftp.ParseEsito([]byte(raw))
		require.NoError(t, err, name)
		require.Equal(t, sdiftp.ET01, e.Esito)
		if name == "no namespace" {
			require.Len(t, e.Avvertenze, 2, "times are missing")
		}
	}
	for name, raw := range map[string]string{
		"dtd":       `<!DOCTYPE a [<!ENTITY b "c">]><FileEsitoFTP/>`,
		"root":      `<FileQuadraturaFTP/>`,
		"namespace": `<x:FileEsitoFTP xmlns:x="urn:y"/>`,
		"code":      `<FileEsitoFTP><NomeSupporto>FI.01234567897.2026326.0905.007.zip</NomeSupporto><Esito>ET03</Esito></FileEsitoFTP>`,
		"support":   `<FileEsitoFTP><NomeSupporto>../x</NomeSupporto><Esito>ET01</Esito></FileEsitoFTP>`,
		"two roots": `<FileEsitoFTP><NomeSupporto>FI.01234567897.2026326.0905.007.zip</NomeSupporto><Esito>ET01</Esito></FileEsitoFTP><a/>`,
		"text":      `<FileEsitoFTP><NomeSupporto>FI.01234567897.2026326.0905.007.zip</NomeSupporto><Esito>ET01</Esito></FileEsitoFTP>a`,
	} {
		_, err := sdiftp.ParseEsito([]byte(raw))
		require.ErrorIs(t, err, sdiftp.ErrXML, name)
	}
	_, err := sdiftp.ParseEsito(bytes.Repeat([]byte(" "), 300<<10))
	require.ErrorIs(t, err, sdiftp.ErrTooLarge)
}

func TestRefusals(t *testing.T) {
	for text, code := range map[string]int{
		"1": 1, "Codice errore: 2 - verifica firma": 2, "ER.01234567897.2026326.0905.007 errore": 0, "": 0, "12 e 21": 0,
		string(sdiftp.Scarto{Codice: 1, Testo: "decifratura"}.Write()): 1,
	} {
		s, err := sdiftp.ParseScarto([]byte(text))
		require.NoError(t, err)
		require.Equal(t, code, s.Codice, text)
	}
	_, err := sdiftp.ParseScarto([]byte{0x30, 0x80, 0})
	require.ErrorIs(t, err, sdiftp.ErrReport)
}

func TestReports(t *testing.T) {
	raw, err := sdiftp.WriteRendiconto([]sdiftp.Voce{{Supporto: support, At: moment, Documenti: 2, Esito: "ET01"}})
	require.NoError(t, err)
	golden(t, "report.csv", raw)
	r, err := sdiftp.ParseRendiconto(raw)
	require.NoError(t, err)
	require.Equal(t, []sdiftp.Riga{{Supporto: support, Campi: map[string]string{"DataOra": "2026-11-22T08:05:30.000Z", "NumeroFile": "2", "Esito": "ET01"}}}, r.Righe)

	other := "\xef\xbb\xbf1\tFI.01234567897.2026326.0905.007.zip\tOK\nfine del rendiconto\n"
	r, err = sdiftp.ParseRendiconto([]byte(other))
	require.NoError(t, err)
	require.Len(t, r.Righe, 1, "whatever the columns")
	require.Equal(t, "OK", r.Righe[0].Campi["column_3"])
	require.Equal(t, []string{"fine del rendiconto"}, r.Scartate)
}

func documents(n int) []sdiftp.Documento {
	var docs []sdiftp.Documento
	for i := range n {
		docs = append(docs, sdiftp.Documento{Name: fmt.Sprintf("IT01234567897_%05d.xml.p7m", i), Data: bytes.Repeat([]byte{byte(i)}, 1000)})
	}
	return docs
}

func TestSupports(t *testing.T) {
	docs := append(documents(3), sdiftp.Documento{Name: "IT01234567897_00001_RC_001.xml", Data: []byte("<a/>")})
	raw, err := sdiftp.Build(support, moment, docs)
	require.NoError(t, err)
	again, err := sdiftp.Build(support, moment, []sdiftp.Documento{docs[3], docs[1], docs[0], docs[2]})
	require.NoError(t, err)
	require.Equal(t, raw, again, "the same documents, the same bytes")
	s, err := sdiftp.Read(support, raw, sdiftp.Limits{})
	require.NoError(t, err)
	require.Len(t, s.Documenti, 4)
	require.Empty(t, s.Scartati)
	require.Empty(t, s.Differenze())
	require.Equal(t, []sdiftp.Conteggio{{Tipo: sdiftp.FA, Numero: 3}, {Tipo: "RC", Numero: 1}}, s.Quadratura.Numeri)

	for name, docs := range map[string][]sdiftp.Documento{
		"none":    nil,
		"twice":   {docs[0], {Name: "it01234567897_00000.xml.p7m"}, {Name: "IT01234567897_00000.xml.p7m"}},
		"pattern": {{Name: "fattura.xml"}},
		"path":    {{Name: "../IT01234567897_00000.xml"}},
		"many":    documents(sdiftp.MaxDocuments + 1),
	} {
		_, err := sdiftp.Build(support, moment, docs)
		require.Error(t, err, name)
	}
}

// zipped makes a ZIP as nobody should.
func zipped(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range files {
		w, err := z.Create(f[0])
		require.NoError(t, err)
		_, err = w.Write([]byte(f[1]))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return out.Bytes()
}

func TestHostileSupports(t *testing.T) {
	count, err := sdiftp.Quadratura{Nodo: node, Supporto: support.Support(), Numeri: []sdiftp.Conteggio{{Tipo: sdiftp.FA, Numero: 2}}}.Write()
	require.NoError(t, err)
	s, err := sdiftp.Read(support, zipped(t,
		[2]string{support.Count(), string(count)}, [2]string{"IT01234567897_00001.xml", "a"}, [2]string{"IT01234567897_00001.xml", "a"},
		[2]string{"it01234567897_00001.xml", "b"}, [2]string{"../../etc/passwd", "x"}, [2]string{"leggimi.txt", "y"}, [2]string{"dir/", ""},
	), sdiftp.Limits{})
	require.NoError(t, err)
	require.Len(t, s.Documenti, 1, "a poison file spoils no other")
	require.Len(t, s.Scartati, 3)
	require.Equal(t, []sdiftp.Differenza{{Tipo: sdiftp.FA, Dichiarati: 2, Trovati: 1}}, s.Differenze())

	s, err = sdiftp.Read(support, zipped(t, [2]string{"IT01234567897_00001.xml", "a"}), sdiftp.Limits{})
	require.NoError(t, err)
	require.Nil(t, s.Quadratura)
	require.Equal(t, []sdiftp.Differenza{{Tipo: sdiftp.FA, Trovati: 1}}, s.Differenze())

	bomb := zipped(t, [2]string{"IT01234567897_00001.xml", string(make([]byte, 40_000_000))})
	require.Less(t, len(bomb), 100_000)
	_, err = sdiftp.Read(support, bomb, sdiftp.Limits{})
	require.ErrorIs(t, err, sdiftp.ErrTooLarge)
	_, err = sdiftp.Read(support, zipped(t, [2]string{"a", "aaaa"}, [2]string{"b", "bbbb"}), sdiftp.Limits{Content: 6})
	require.ErrorIs(t, err, sdiftp.ErrTooLarge)
	_, err = sdiftp.Read(support, zipped(t, [2]string{"a", ""}, [2]string{"b", ""}), sdiftp.Limits{Members: 1})
	require.ErrorIs(t, err, sdiftp.ErrTooLarge)
	_, err = sdiftp.Read(support, []byte("no zip"), sdiftp.Limits{})
	require.ErrorIs(t, err, sdiftp.ErrArchive)
	whole := zipped(t, [2]string{"IT01234567897_00001.xml", "aaaa"})
	_, err = sdiftp.Read(support, whole[:len(whole)/2], sdiftp.Limits{})
	require.ErrorIs(t, err, sdiftp.ErrArchive)
}

// pair is a signer and its opener on the other side.
func pair(t testing.TB) (sdiftp.Signer, sdiftp.Opener, cmstest.Pair, *cmstest.PKI) {
	t.Helper()
	pki := cmstest.New(t)
	by, to := pki.Issue(t, "Nodo firma", cmstest.NewECDSA(t)), pki.Issue(t, "Nodo cifra", cmstest.RSA(t))
	return sdiftp.Signer{Certificate: by.Cert, Key: by.Key}, sdiftp.Opener{Certificate: to.Cert, Key: cmstest.RSA(t), Roots: pki.Pool()}, to, pki
}

func TestSealAndOpen(t *testing.T) {
	signer, opener, _, _ := pair(t)
	raw, err := sdiftp.Build(support, moment, documents(2))
	require.NoError(t, err)
	sealed, err := sdiftp.Seal(t.Context(), raw, cmstest.Now, signer, opener.Certificate)
	require.NoError(t, err)
	got, err := opener.Open(sealed, cmstest.Now)
	require.NoError(t, err)
	require.Equal(t, raw, got)

	opener.Signers = []string{"Sogei"}
	got, err = opener.Open(sealed, cmstest.Now)
	require.ErrorIs(t, err, sdiftp.ErrSignature)
	require.Equal(t, raw, got, "what was signed can be looked at all the same")
	opener.Signers = []string{"Sogei", "Nodo firma"}
	_, err = opener.Open(sealed, cmstest.Now)
	require.NoError(t, err)
	opener.Roots = cmstest.New(t).Pool()
	_, err = opener.Open(sealed, cmstest.Now)
	require.ErrorIs(t, err, sdiftp.ErrSignature)

	_, err = opener.Open(sealed[:len(sealed)/2], cmstest.Now)
	require.ErrorIs(t, err, sdiftp.ErrEncryption)
	_, err = opener.Open(raw, cmstest.Now)
	require.ErrorIs(t, err, sdiftp.ErrEncryption)
}

// openssl opens what we seal, and we open what it seals.
func TestOpenSSLAgrees(t *testing.T) {
	signer, opener, to, pki := pair(t)
	raw, err := sdiftp.Build(support, moment, documents(2))
	require.NoError(t, err)
	sealed, err := sdiftp.Seal(t.Context(), raw, cmstest.Now, signer, opener.Certificate)
	require.NoError(t, err)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	key, cert := cmstest.KeyFile(t, to.Key), cmstest.CertFile(t, to.Cert)
	cmstest.OpenSSL(t, "cms", "-decrypt", "-inform", "DER", "-in", cmstest.File(t, "sealed", sealed), "-out", file("signed"), "-recip", cert, "-inkey", key)
	cmstest.OpenSSL(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", file("signed"), "-out", file("zip"), "-CAfile", cmstest.CertFile(t, pki.Root), "-purpose", "any")
	got, err := os.ReadFile(file("zip"))
	require.NoError(t, err)
	require.Equal(t, raw, got)

	by := pki.Issue(t, "SdI", cmstest.NewECDSA(t))
	cmstest.OpenSSL(t, "cms", "-sign", "-binary", "-nodetach", "-md", "sha256", "-in", cmstest.File(t, "zip", raw), "-outform", "DER", "-out", file("p7m"),
		"-signer", cmstest.CertFile(t, by.Cert), "-inkey", cmstest.KeyFile(t, by.Key))
	cmstest.OpenSSL(t, "cms", "-encrypt", "-binary", "-aes256", "-in", file("p7m"), "-outform", "DER", "-out", file("enc"), "-recip", cert)
	sealed, err = os.ReadFile(file("enc"))
	require.NoError(t, err)
	got, err = opener.Open(sealed, time.Now()) // openssl signs with its own clock
	require.NoError(t, err)
	require.Equal(t, raw, got)
}
