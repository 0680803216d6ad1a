package sdi

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
	xmllint, err := exec.LookPath("xmllint")
	require.NoError(t, err, "run make prepare, or apt-get install -y libxml2-utils")
	_, err = os.Stat(xsd)
	validate := err == nil
	if !validate {
		t.Log("the official schemas are not here: schema validation left out, round trip checked")
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
