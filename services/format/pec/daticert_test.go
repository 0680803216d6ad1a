package pec

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
