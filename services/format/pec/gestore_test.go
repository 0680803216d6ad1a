package pec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// acts is one of each message of the rules, with whether it carries the original.
func acts(t testing.TB, w *world, d *Draft) []struct {
	name string
	by   *Gestore
	act  Atto
} {
	t.Helper()
	tr, in := transit(t, d), arrived(t, w, d)
	full, err := in.Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	cc, err := in.Consegna(at, "copia@beta.test")
	require.NoError(t, err)
	in.Ricevuta = Breve
	brief, err := in.Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	odd, err := ParseBytes([]byte("From: qualcuno@example.test\r\nTo: protocollo@beta.test\r\nSubject: senza certificazione\r\nMessage-ID: <x@example.test>\r\n\r\nciao\r\n"))
	require.NoError(t, err)
	return []struct {
		name string
		by   *Gestore
		act  Atto
	}{
		{"busta", w.alfa, tr.Busta(at)},
		{"anomalia", w.beta, Anomalia(odd, at, "il messaggio non è certificato")},
		{"accettazione", w.alfa, tr.Accettazione(at)},
		{"non-accettazione", w.alfa, tr.NonAccettazione(at, AltroErrore, "5.6.0 mittente diverso")},
		{"non-accettazione-virus", w.alfa, tr.NonAccettazione(at, VirusTrovato, "5.5.1 virus Eicar-Test")},
		{"presa-in-carico", w.beta, tr.PresaInCarico(at, []string{"protocollo@beta.test", "copia@beta.test"}, "ricevute@alfa.test")},
		{"consegna-completa", w.beta, full},
		{"consegna-breve", w.beta, brief},
		{"consegna-sintetica", w.beta, cc},
		{"errore", w.beta, in.ErroreConsegna(at, "protocollo@beta.test", NoDest, "5.1.1 - Gestore Beta - indirizzo non valido")},
		{"errore-virus", w.alfa, tr.ErroreConsegna(at, "protocollo@beta.test", VirusTrovato, "5.5.1 virus")},
		{"preavviso-12", w.alfa, tr.Preavviso(at.Add(12*time.Hour), "protocollo@beta.test", false, "4.4.7 nessuna presa in carico")},
		{"preavviso-24", w.alfa, tr.Preavviso(at.Add(22*time.Hour), "protocollo@beta.test", true, "5.4.1 tempo scaduto")},
		{"rilevazione-virus", w.beta, tr.RilevazioneVirus(at, "protocollo@beta.test", "ricevute@alfa.test", "5.5.1 virus")},
	}
}

// TestAllMessages: every message of every profile reads as what it is, verifies here and with
// openssl, and disagrees with itself nowhere.
func TestAllMessages(t *testing.T) {
	w := newWorld(t)
	for _, p := range Profiles() {
		for _, c := range acts(t, w, draft()) {
			t.Run(p.Name+"/"+c.name, func(t *testing.T) {
				g := *c.by
				g.Profile = p
				raw, r := written(t, &g, c.act)
				require.NotContains(t, string(bytes.ReplaceAll(raw, []byte("\r\n"), nil)), "\n", "bare line end")
				require.Equal(t, c.act.Tipo, r.Tipo(), codes(r.Findings))
				rep := verified(t, w, r)
				require.Equal(t, StatusValid, rep.Status, rep.Reason)
				require.Equal(t, g.Name, rep.Provider)
				require.Equal(t, !c.act.Tipo.BetweenProviders(), r.Proven(rep), codes(r.Findings)+codes(rep.Findings))
				require.Equal(t, prefix(c.act.Tipo, c.act.virus())+c.act.Dati.Oggetto, r.Claim.Subject)
				if c.act.Tipo != BustaAnomalia {
					checkDati(t, &c.act, r)
				}
				openssl(t, raw, r)
			})
		}
	}
}

// checkDati compares daticert as read with what was to be written.
func checkDati(t *testing.T, a *Atto, r *Reading) {
	t.Helper()
	require.NotNil(t, r.Daticert)
	got, want := *r.Daticert, a.Dati
	when, err := got.Istante()
	require.NoError(t, err)
	require.True(t, when.Equal(a.Istante), "%s and %s", when, a.Istante)
	require.Equal(t, "+0200", got.Zona)
	require.Equal(t, want.Destinatari, got.Destinatari)
	require.Equal(t, want.Ricezione, got.Ricezione)
	require.Equal(t, []string{want.Mittente, want.Oggetto, want.Consegna, want.ErroreEsteso, want.MsgID, want.Identificativo},
		[]string{got.Mittente, got.Oggetto, got.Consegna, got.ErroreEsteso, got.MsgID, got.Identificativo})
	require.Equal(t, want.Errore, got.Errore)
}

var volatile = regexp.MustCompile(`(?s)(name="smime\.p7s"\r\nContent-Transfer-Encoding: base64\r\n.*?\r\n\r\n).*?(\r\n\r\n--)`)

// TestGoldenMessages freezes the bytes of each type, signature apart.
func TestGoldenMessages(t *testing.T) {
	w := newWorld(t)
	for _, p := range []Profile{ProfilePlain, ProfileAruba, ProfileLegalmail} {
		for i, c := range acts(t, w, draft()) {
			if p.Name != "plain" && c.name != "busta" && c.name != "consegna-breve" {
				continue
			}
			t.Run(p.Name+"-"+c.name, func(t *testing.T) {
				g := *c.by
				g.Profile, g.Random = p, seeded(byte(i))
				raw, _ := written(t, &g, c.act)
				golden(t, p.Name+"-"+c.name+".eml", volatile.ReplaceAll(raw, []byte("${1}SIGNATURE${2}")))
			})
		}
	}
}

// TestEnvelopeKeepsOriginal: what comes out of the envelope is what was submitted, with the
// identifier replaced.
func TestEnvelopeKeepsOriginal(t *testing.T) {
	w := newWorld(t)
	d := draft()
	sent := composed(t, d)
	_, r := written(t, w.alfa, transit(t, d).Busta(at))
	p, err := r.OriginalMessage()
	require.NoError(t, err)
	got, err := io.ReadAll(p.Raw())
	require.NoError(t, err)
	want := bytes.Replace(sent, []byte("Message-ID: <c0ffee.1@alfa.test>\r\n"), nil, 1)
	cut := bytes.Index(want, []byte("\r\n\r\n")) + 2
	want = bytes.Join([][]byte{want[:cut], []byte("Message-ID: <0001.20260914103005@pec.alfa.test>\r\nX-Riferimento-Message-ID: <c0ffee.1@alfa.test>\r\n"), want[cut:]}, nil)
	require.Equal(t, string(want), string(got))
	require.Equal(t, "0001.20260914103005@pec.alfa.test", r.Claim.MessageID)
	require.Equal(t, "c0ffee.1@alfa.test", r.Claim.Riferimento)
	files := p.Attachments()
	require.Len(t, files, 2)
	require.Equal(t, "contratto – così.pdf", files[0].Name)
}

func TestWriteRefuses(t *testing.T) {
	w := newWorld(t)
	tr := transit(t, draft())
	for name, spoil := range map[string]func(*Gestore, *Atto){
		"type":           func(_ *Gestore, a *Atto) { a.Tipo = TipoOrdinaria },
		"no key":         func(g *Gestore, _ *Atto) { g.Key = nil },
		"wrong key":      func(g *Gestore, _ *Atto) { g.Key = w.beta.Key },
		"bad address":    func(g *Gestore, _ *Atto) { g.Address = "x\r\ny@z" },
		"no time":        func(_ *Gestore, a *Atto) { a.Istante = time.Time{} },
		"no identifier":  func(_ *Gestore, a *Atto) { a.Dati.Identificativo = "" },
		"no original":    func(_ *Gestore, a *Atto) { a.Original = nil },
		"between, no To": func(_ *Gestore, a *Atto) { a.Tipo = PresaInCarico },
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range []Profile{ProfilePlain, ProfileAruba} {
				g, a := *w.alfa, tr.Busta(at)
				g.Profile = p
				spoil(&g, &a)
				_, err := g.Write(t.Context(), io.Discard, a)
				require.Error(t, err)
			}
		})
	}
	_, err := tr.Consegna(at, "altri@beta.test")
	require.Error(t, err)
}

// TestLongTexts: a subject of 8 kB, 300 recipients and an error without end are still read and proven.
func TestLongTexts(t *testing.T) {
	w := newWorld(t)
	d := draft()
	d.Subject, d.Cc = strings.Repeat("📎&<\"", 8<<10/7), nil
	for i := range 300 {
		d.To = append(d.To, Address{Addr: fmt.Sprintf("r%03d@beta.test", i)})
	}
	m, err := ParseBytes(composed(t, d))
	require.NoError(t, err)
	vs := CheckSubmission(m, envelopeOf(d), SubmissionLimits{})
	require.Len(t, vs, 1, "the number of recipients")
	tr := NewTransito(m, envelopeOf(d), "1@pec.alfa.test", nil)
	for _, a := range []Atto{tr.Accettazione(at), tr.Busta(at), tr.NonAccettazione(at, AltroErrore, strings.Repeat("è", 5000))} {
		_, r := written(t, w.alfa, a)
		rep := verified(t, w, r)
		require.True(t, r.Proven(rep), rep.Reason+codes(r.Findings))
		require.Len(t, r.Daticert.Destinatari, 301)
		require.Equal(t, d.Subject, r.Daticert.Oggetto)
		require.Equal(t, prefix(a.Tipo, false)+d.Subject, r.Claim.Subject)
		report, err := json.Marshal(rep)
		require.NoError(t, err)
		var back Report
		require.NoError(t, json.Unmarshal(report, &back))
		require.Equal(t, rep.Status, back.Status)
	}
}

// TestIdentifiers: each profile's identifiers are different from one another and valid.
func TestIdentifiers(t *testing.T) {
	w := newWorld(t)
	for _, p := range Profiles() {
		g := *w.alfa
		g.Profile = p
		seen := map[string]bool{}
		for range 500 {
			id, err := g.NewIdentificativo(at)
			require.NoError(t, err)
			require.True(t, validMessageID(id), id)
			require.False(t, seen[id], id)
			seen[id] = true
		}
	}
}
