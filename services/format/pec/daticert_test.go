package pec

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"ceralacca.dev/services/format/cms"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const sampleDaticert = `<?xml version="1.0" encoding="UTF-8"?>
<postacert tipo="avvenuta-consegna" errore="nessuno">
  <intestazione>
    <mittente>mittente@alfa.test</mittente>
    <destinatari tipo="certificato">protocollo@beta.test</destinatari>
    <destinatari tipo="esterno">altri@example.test</destinatari>
    <risposte>mittente@alfa.test</risposte>
    <oggetto>Prova &amp; città</oggetto>
  </intestazione>
  <dati>
    <gestore-emittente>Gestore Beta S.p.A.</gestore-emittente>
    <data zona="+0200"><giorno>14/09/2026</giorno><ora>10:30:05</ora></data>
    <identificativo>1@pec.alfa.test</identificativo>
    <msgid>&lt;c0ffee.1@alfa.test&gt;</msgid>
    <ricevuta tipo="completa"/>
    <consegna>protocollo@beta.test</consegna>
  </dati>
</postacert>
`

func TestParseDaticert(t *testing.T) {
	d, fs, err := ParseDaticert([]byte(sampleDaticert))
	require.NoError(t, err)
	require.Empty(t, fs)
	require.Equal(t, &Daticert{
		Tipo: "avvenuta-consegna", Errore: Nessuno, Mittente: "mittente@alfa.test",
		Destinatari: []Destinatario{{"protocollo@beta.test", false}, {"altri@example.test", true}}, Risposte: "mittente@alfa.test",
		Oggetto: "Prova & città", HasOggetto: true, Gestore: "Gestore Beta S.p.A.", Zona: "+0200", Giorno: "14/09/2026", Ora: "10:30:05",
		Identificativo: "1@pec.alfa.test", MsgID: "<c0ffee.1@alfa.test>", Ricevuta: Completa, Consegna: "protocollo@beta.test",
	}, d)
	when, err := d.Istante()
	require.NoError(t, err)
	require.True(t, when.Equal(at))
}

// TestD2D3D4D5HostileDaticert: one change each, and what comes of it. TESTPLAN D2 to D4.
func TestD2D3D4D5HostileDaticert(t *testing.T) {
	swap := func(from, to string) string { return strings.Replace(sampleDaticert, from, to, 1) }
	for _, c := range []struct {
		name, xml string
		refused   bool
		code      string
	}{
		{"external DOCTYPE and stylesheet", swap("?>\n", "?>\n<!DOCTYPE postacert SYSTEM \"https://example.test/x.dtd\">\n<?xml-stylesheet href=\"x\"?>\n"), false, CodeOddDaticert},
		{"entity", swap("?>\n", "?>\n<!DOCTYPE postacert [<!ENTITY x \"y\">]>\n"), true, ""},
		{"undefined entity", swap("Prova", "&x;"), true, ""},
		{"DOCTYPE inside", swap("<dati>", "<!DOCTYPE x><dati>"), true, ""},
		{"attribute twice", swap(`errore="nessuno"`, `errore="nessuno" errore="virus"`), true, ""},
		{"attributes without end", swap("<dati>", "<dati"+manyAttributes(100)+">"), true, ""},
		{"element twice", swap("<identificativo>", "<identificativo>0@x</identificativo><identificativo>"), true, ""},
		{"container twice", swap("<dati>", "<dati></dati><dati>"), true, ""},
		{"second root", sampleDaticert + "<postacert/>", true, ""},
		{"text after the root", sampleDaticert + "x", true, ""},
		{"other root", swap("<postacert ", "<posta "), true, ""},
		{"not closed", strings.TrimSuffix(sampleDaticert, "</postacert>\n"), true, ""},
		{"closed crosswise", swap("</msgid>", "</x>"), true, ""},
		{"too deep", swap("Prova", strings.Repeat("<a>", 6)+strings.Repeat("</a>", 6)), true, ""},
		{"text too long", swap("1@pec.alfa.test", strings.Repeat("x", 5000)), true, ""},
		{"subject too long", swap("Prova", strings.Repeat("x", 40_000)), true, ""},
		{"too large", swap("<dati>", strings.Repeat("<!-- x -->", 10_000)+"<dati>"), true, ""},
		{"zero byte", swap("Prova", "Pro\x00va"), true, ""},
		{"UTF-16", "\xff\xfe<\x00", true, ""},
		{"bytes that are no UTF-8", swap("città", "citt\xe0"), true, ""},
		{"unknown encoding", swap("UTF-8", "UTF-7"), true, ""},
		{"byte order mark", "\xef\xbb\xbf" + sampleDaticert, false, ""},
		{"Latin 1", strings.Replace(swap("UTF-8", "ISO-8859-1"), "città", "citt\xe0", 1), false, ""},
		{"stray text", swap("</risposte>", "</risposte>a"), false, CodeOddDaticert},
		{"unknown element", swap("<dati>", "<dati><nuovo>1</nuovo>"), false, CodeOddDaticert},
		{"known name elsewhere", swap("<dati>", "<dati><mittente>x@y</mittente>"), false, CodeOddDaticert},
		{"unknown tipo", swap("avvenuta-consegna", "letta"), false, CodeUnknownTipo},
		{"no recipients", strings.Replace(strings.Replace(sampleDaticert, `<destinatari tipo="certificato">protocollo@beta.test</destinatari>`, "", 1), `<destinatari tipo="esterno">altri@example.test</destinatari>`, "", 1), false, CodeOddDaticert},
		{"no identificativo", swap("1@pec.alfa.test", ""), false, CodeOddDaticert},
		{"no zone", swap(` zona="+0200"`, ""), false, CodeDate},
		{"hour 24", swap("10:30:05", "24:00:00"), false, CodeDate},
		{"second 60", swap("10:30:05", "23:59:60"), false, CodeDate},
		{"29 February", swap("14/09/2026", "29/02/2026"), false, CodeDate},
		{"namespace prefix", swap("<dati>", "<x:dati>"), true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.True(t, c.xml != sampleDaticert, "the case changes nothing")
			d, fs, err := ParseDaticert([]byte(c.xml))
			if c.refused {
				var refused *DaticertError
				require.ErrorAs(t, err, &refused)
				return
			}
			require.NoError(t, err)
			if c.code != "" {
				require.True(t, fs.Has(c.code), codes(fs))
			} else {
				require.Empty(t, fs)
				require.Equal(t, "Prova & città", d.Oggetto)
			}
		})
	}
}

// TestD3BombsAndLargeXML: entities that grow by the power, in one step and in ten, and 10 MB of XML of every kind are refused before they
// cost anything: no memory in proportion to what they would become, or to what they are. The same in a receipt that is signed: it is
// not proven, whoever signed it. TESTPLAN D3.
func TestD3BombsAndLargeXML(t *testing.T) {
	const large = 10 << 20
	laughs := "<?xml version=\"1.0\"?>\n<!DOCTYPE postacert [\n<!ENTITY a0 \"lol\">\n"
	for i := range 10 {
		laughs += fmt.Sprintf("<!ENTITY a%d \"%s\">\n", i+1, strings.Repeat(fmt.Sprintf("&a%d;", i), 10))
	}
	laughs += "]>\n"
	body := sampleDaticert[strings.Index(sampleDaticert, "<postacert"):]
	used := strings.Replace(body, "Prova", "&a10;", 1)
	filled := func(before, unit, after string) string { // around the sample's recipient
		one := `<destinatari tipo="certificato">protocollo@beta.test</destinatari>`
		n := (large - len(sampleDaticert)) / len(unit)
		return strings.Replace(sampleDaticert, one, one+before+strings.Repeat(unit, n+1)+after, 1)
	}
	for name, xml := range map[string]string{
		"billion laughs":                          laughs + used,
		"billion laughs that nobody uses":         laughs + body,
		"quadratic":                               "<!DOCTYPE postacert [<!ENTITY a \"" + strings.Repeat("x", 50_000) + "\">]>\n" + strings.Replace(body, "Prova", strings.Repeat("&a;", 50_000), 1),
		"an entity of itself":                     "<!DOCTYPE postacert [<!ENTITY a \"&b;\"><!ENTITY b \"&a;\">]>\n" + strings.Replace(body, "Prova", "&a;", 1),
		"an external entity":                      "<!DOCTYPE postacert [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>\n" + strings.Replace(body, "Prova", "&a;", 1),
		"a parameter entity from outside":         "<!DOCTYPE postacert [<!ENTITY % p SYSTEM \"http://example.test/x.dtd\"> %p;]>\n" + body,
		"references to characters":                strings.Replace(body, "Prova", strings.Repeat("&#120;", 50_000), 1),
		"10 MB of recipients":                     filled("", `<destinatari tipo="certificato">protocollo@beta.test</destinatari>`, ""),
		"10 MB of one text":                       filled("<nuovo>", "x", "</nuovo>"),
		"10 MB of comments":                       filled("", "<!-- x -->", ""),
		"10 MB of blanks":                         filled("", "\n", ""),
		"10 MB of elements within each other":     filled("", "<a>", ""),
		"10 MB of attributes":                     filled("<nuovo", ` a=""`, "/>"),
		"10 MB of processing instructions":        filled("", "<?x y?>", ""),
		"10 MB of what only begins as recipients": filled("", "<destinatarix/>", ""),
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(xml)
			var err error
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			_, _, err = ParseDaticert(raw)
			took := time.Since(begin)
			runtime.ReadMemStats(&after)
			var refused *DaticertError
			require.ErrorAs(t, err, &refused)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20), "bytes of memory")
			require.Less(t, took, time.Second)
		})
		t.Run(name+", signed", func(t *testing.T) {
			w := newWorld(t)
			root := strings.Index(xml, "<postacert")
			accepted := xml[:root] + strings.Replace(xml[root:], "avvenuta-consegna", "accettazione", 1)
			content := "Content-Type: multipart/mixed; boundary=IN\r\n\r\n--IN\r\nContent-Type: text/plain\r\n\r\ntesto\r\n--IN\r\n" +
				"Content-Type: application/xml; name=daticert.xml\r\n\r\n" + strings.ReplaceAll(accepted, "\n", "\r\n") + "\r\n--IN--\r\n"
			p7s, err := cms.SignDetached(t.Context(), sha256Of(content), w.alfa.Key, cms.Options{Certificate: w.alfa.Certificate, SigningTime: at})
			require.NoError(t, err)
			r := readAll(t, signedWith(receiptHeader, content, p7s))
			rep := verified(t, w, r)
			require.Equal(t, StatusValid, rep.Status, rep.Reason)
			require.False(t, r.Proven(rep), codes(r.Findings))
			require.Nil(t, r.Daticert)
		})
	}
}

// TestDaticertRoundTrip: written and read, nothing is lost.
func TestDaticertRoundTrip(t *testing.T) {
	texts := rapid.Map(rapid.StringN(0, 60, 200), func(s string) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' || r == 0xFFFE || r == 0xFFFF {
				return 'x'
			}
			return r
		}, strings.ToValidUTF8(s, "x")))
	})
	rapid.Check(t, func(rt *rapid.T) {
		d := &Daticert{
			Tipo:   string(rapid.SampledFrom([]Tipo{BustaTrasporto, Accettazione, ErroreConsegna, PresaInCarico}).Draw(rt, "tipo")),
			Errore: rapid.SampledFrom([]Errore{Nessuno, NoDest, VirusTrovato, AltroErrore}).Draw(rt, "errore"), Mittente: texts.Draw(rt, "m"),
			Risposte: texts.Draw(rt, "r"), Oggetto: texts.Draw(rt, "o"), HasOggetto: true, Gestore: texts.Draw(rt, "g"), Identificativo: texts.Draw(rt, "i"),
			MsgID: texts.Draw(rt, "id"), Consegna: texts.Draw(rt, "c"), ErroreEsteso: texts.Draw(rt, "e"),
			Ricevuta: rapid.SampledFrom([]TipoRicevuta{"", Completa, Breve, Sintetica}).Draw(rt, "ricevuta"),
		}
		for range rapid.IntRange(1, 4).Draw(rt, "n") {
			d.Destinatari = append(d.Destinatari, Destinatario{texts.Draw(rt, "d"), rapid.Bool().Draw(rt, "x")})
		}
		if rapid.Bool().Draw(rt, "ric") {
			d.Ricezione = []string{texts.Draw(rt, "ric1"), texts.Draw(rt, "ric2")}
		}
		when := time.Unix(rapid.Int64Range(0, 4e9).Draw(rt, "t"), 0)
		d.SetIstante(when, rome(t))
		got, _, err := ParseDaticert(d.XML())
		require.NoError(rt, err)
		require.Equal(rt, d, got)
		back, err := got.Istante()
		require.NoError(rt, err)
		require.True(rt, back.Equal(when))
	})
}

// TestD5RepeatedHour: when clocks go back, the zone tells the two apart. TESTPLAN D5.
func TestD5RepeatedHour(t *testing.T) {
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)
	var a, b Daticert
	a.SetIstante(first, rome(t))
	b.SetIstante(first.Add(time.Hour), rome(t))
	require.Equal(t, a.Ora, b.Ora)
	require.Equal(t, []string{"+0200", "+0100"}, []string{a.Zona, b.Zona})
	ta, err := a.Istante()
	require.NoError(t, err)
	tb, err := b.Istante()
	require.NoError(t, err)
	require.Equal(t, time.Hour, tb.Sub(ta))
}

func TestE9Cause(t *testing.T) {
	for _, c := range []struct {
		e    Errore
		text string
		want Cause
	}{
		{NoDest, "", CauseNoMailbox}, {NoDominio, "", CauseNoDomain}, {AltroErrore, "5.1.1 - ARUBA PEC S.p.A. - indirizzo non valido", CauseNoMailbox},
		{AltroErrore, "5.2.2 casella piena", CauseFull}, {VirusTrovato, "5.5.1, presenza di un virus nel messaggio", CauseVirus},
		{AltroErrore, "5.5.1, presenza di un virus nel messaggio", CauseVirus}, {AltroErrore, "5.4.1 tempo scaduto", CauseUnreachable},
		{AltroErrore, "boh", CauseOther}, {Nessuno, "", CauseNone}, {AltroErrore, "5.1 breve", CauseOther},
	} {
		require.Equal(t, c.want, (&Daticert{Errore: c.e, ErroreEsteso: c.text}).Cause(), c.text)
	}
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " a%d=\"\"", i)
	}
	return b.String()
}
