package pec

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestD7Match(t *testing.T) {
	w := newWorld(t)
	in := arrived(t, w, draft())
	act, err := in.Consegna(at, "PROTOCOLLO@beta.test")
	require.NoError(t, err)
	_, delivery := written(t, w.beta, act)
	_, acceptance := written(t, w.alfa, transit(t, draft()).Accettazione(at))
	ours := Sent{MessageID: "<c0ffee.1@alfa.test>", Identificativo: "0001.20260914103005@pec.alfa.test", Recipients: []string{"protocollo@beta.test", "copia@beta.test"}}
	m := Match(delivery, ours)
	require.True(t, m.Ours)
	require.Equal(t, []string{"protocollo@beta.test"}, m.Recipients)
	require.Empty(t, m.Findings)
	require.Equal(t, ours.Recipients, Match(acceptance, ours).Recipients)

	other := ours
	other.MessageID = "another@alfa.test"
	require.False(t, Match(delivery, other).Ours, "the identifier does not stand in for a msgid that is another's")

	twice := ours
	twice.Identificativo = "0002@pec.alfa.test"
	require.True(t, Match(delivery, twice).Findings.Has(CodeSeconded))

	few := ours
	few.Recipients = []string{"copia@beta.test"}
	m = Match(delivery, few)
	require.True(t, m.Ours)
	require.Empty(t, m.Recipients)
	require.True(t, m.Findings.Has(CodeRecipient))

	// A provider writes a name beside the address, or the domain as people read it: the person is the same.
	for _, form := range []string{"Protocollo <protocollo@beta.test>", "<Protocollo@BETA.test>", "protocollo@beta.test (Protocollo)"} {
		named, err := in.Consegna(at, form)
		require.NoError(t, err)
		_, r := written(t, w.beta, named)
		require.True(t, r.Proven(verified(t, w, r)), "%s\n%s", form, codes(r.Findings))
		require.Equal(t, []string{"protocollo@beta.test"}, Match(r, ours).Recipients, form)
		f, ok := FactOf(r)
		require.True(t, ok)
		require.Equal(t, RecipientDelivered, Derive(ours.Recipients, []Fact{f}, at).Recipients[0].State, form)
		// A name does not hide whose domain it is.
		_, foreign := written(t, w.alfa, named)
		rep := verified(t, w, foreign)
		require.True(t, rep.Findings.Has(CodeForeignDomain), form)
		require.False(t, foreign.Proven(rep), form)
	}

	silent := draft()
	raw := strings.Replace(string(composed(t, silent)), "Message-ID: <c0ffee.1@alfa.test>\r\n", "", 1)
	anon, err := ParseBytes([]byte(raw))
	require.NoError(t, err)
	tr := NewTransito(anon, envelopeOf(silent), "9@pec.alfa.test", nil)
	_, r := written(t, w.alfa, tr.Accettazione(at))
	require.Empty(t, r.Daticert.MsgID)
	require.Equal(t, "identificativo", Match(r, Sent{MessageID: "x@y", Identificativo: "9@pec.alfa.test"}).By)
	require.True(t, r.Proven(verified(t, w, r)), codes(r.Findings))
}

// TestD7DomainsBeyondASCII: a domain as people read it and as DNS has it are one. TESTPLAN D7.
func TestD7DomainsBeyondASCII(t *testing.T) {
	for unicode, ascii := range map[string]string{
		"città.test": "xn--citt-3na.test", "CITTÀ.Test": "xn--citt-3na.test", "citta\u0300.test": "xn--citt-3na.test", "bücher.test": "xn--bcher-kva.test",
		"他们为什么不说中文.test": "xn--ihqwcrb4cv8a8dqg056pqjye.test", "ليهمابتكلموشعربي؟.test": "xn--egbpdaj6bu4bxfgehfvwxn.test",
		"pročprostěnemluvíčesky.test": "xn--proprostnemluvesky-uyb24dma41a.test", "beta.test": "beta.test",
	} {
		require.Equal(t, ascii, asciiDomain(unicode))
		require.Equal(t, "ufficio@"+ascii, person("Ufficio@"+unicode))
		require.True(t, (&Provider{Domains: []string{unicode}}).Manages(ascii))
		require.True(t, (&Provider{Domains: []string{ascii}}).Manages(unicode))
		list := &TrustList{Providers: []Provider{{Name: "x", Domains: []string{unicode}}}}
		list.Index()
		require.NotNil(t, list.Manager(ascii))
	}
	for _, odd := range []string{"", "@", "nessuno", "a@\xff.test", "a@" + strings.Repeat("è", 5000)} {
		require.NotPanics(t, func() { person(odd) })
	}
	w := newWorld(t)
	w.trust.Providers[1].Domains = []string{"beta.test", "città.test"}
	d := draft()
	d.To, d.Cc = []Address{{Addr: "ufficio@xn--citt-3na.test"}}, nil
	tr := arrived(t, w, d)
	ours := Sent{MessageID: d.MessageID, Recipients: d.Recipients()}
	for _, form := range []string{"ufficio@xn--citt-3na.test", "ufficio@città.test", "Ufficio@CITTÀ.test"} {
		act, err := tr.Consegna(at, form)
		require.NoError(t, err)
		_, r := written(t, w.beta, act)
		require.True(t, r.Proven(verified(t, w, r)), "%s\n%s", form, codes(r.Findings))
		require.Equal(t, ours.Recipients, Match(r, ours).Recipients, form)
		f, ok := FactOf(r)
		require.True(t, ok)
		require.Equal(t, SendDelivered, Derive(ours.Recipients, []Fact{f, {Kind: FactAccepted, At: at, Identificativo: f.Identificativo}}, at).State, form)
		_, foreign := written(t, w.alfa, act)
		require.False(t, foreign.Proven(verified(t, w, foreign)), form)
	}
}

// TestD6NumbersThatDisagree: an envelope whose header, certification data and original do not share one identifier proves nothing,
// and neither does a receipt about one recipient that names none, although the signature holds. TESTPLAN D6, D7.
func TestD6NumbersThatDisagree(t *testing.T) {
	w := newWorld(t)
	raw, whole := written(t, w.alfa, transit(t, draft()).Busta(at))
	require.True(t, whole.Proven(verified(t, w, whole)))
	id := "Message-ID: <" + whole.Daticert.Identificativo + ">"
	require.Equal(t, 2, strings.Count(string(raw), id), "of the envelope and of the original")
	act := transit(t, draft()).Busta(at)
	act.Dati.Identificativo = "0009@pec.alfa.test"
	_, certified := written(t, w.alfa, act)
	named, err := arrived(t, w, draft()).Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	named.Dati.Consegna = ""
	_, nobody := written(t, w.beta, named)
	for code, list := range map[string][]*Reading{
		CodeIdentificativo: {readAll(t, []byte(strings.Replace(string(raw), id, "Message-ID: <0009@pec.alfa.test>", 1))), certified},
		CodeNoConsegna:     {nobody},
	} {
		for _, r := range list {
			rep := verified(t, w, r)
			require.Equal(t, StatusValid, rep.Status, rep.Reason)
			require.True(t, r.Findings.Has(code), codes(r.Findings))
			require.False(t, r.Proven(rep))
		}
	}
}

func TestRicevutaFor(t *testing.T) {
	h := Header{{Name: "To", Value: " A@b.test, c@d.test"}, {Name: "Cc", Value: " c@d.test, e@f.test"}}
	require.Equal(t, Breve, RicevutaFor(h, "a@B.test", Breve))
	require.Equal(t, Breve, RicevutaFor(h, "c@d.test", Breve), "in both: To counts")
	require.Equal(t, Sintetica, RicevutaFor(h, "e@f.test", Completa))
	require.Equal(t, Completa, RicevutaFor(h, "x@y.test", ""))
}

// TestE2E3E4E8DeriveTable walks through the rules one by one. TESTPLAN E2 to E10.
func TestE2E3E4E8DeriveTable(t *testing.T) {
	h := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
	acc := Fact{Kind: FactAccepted, At: at, Identificativo: "1"}
	to := func(k FactKind, hours int, who string) Fact {
		return Fact{Kind: k, At: h(hours), Recipient: who, Identificativo: "1"}
	}
	ext := acc
	ext.Esterni = []string{"b"}
	for _, c := range []struct {
		name  string
		facts []Fact
		state SendState
		final bool
		who   []RecipientState
	}{
		{"nothing", nil, SendQueued, false, []RecipientState{RecipientWaiting, RecipientWaiting}},
		{"unknown", []Fact{{Kind: FactUnknown}}, SendUnknown, false, nil},
		{"unknown, then accepted", []Fact{{Kind: FactUnknown}, acc}, SendAccepted, false, nil},
		{"rejected by SMTP, and yet accepted", []Fact{{Kind: FactRejected}, acc}, SendAccepted, false, nil},
		{"rejected by SMTP", []Fact{{Kind: FactRejected}}, SendRejected, true, nil},
		{"submitted", []Fact{{Kind: FactSubmitted}}, SendSubmitted, false, nil},
		{"refused", []Fact{{Kind: FactSubmitted}, {Kind: FactRefused, At: at}}, SendRefused, true, nil},
		{"delivered to one, nothing else known", []Fact{to(FactDelivered, 0, "A")}, SendAccepted, false, []RecipientState{RecipientDelivered, RecipientWaiting}},
		{"all", []Fact{acc, to(FactDelivered, 0, "a"), to(FactDelivered, 1, "b")}, SendDelivered, true, nil},
		{"one failed", []Fact{acc, to(FactDelivered, 0, "a"), to(FactFailed, 1, "b")}, SendPartly, true, []RecipientState{RecipientDelivered, RecipientFailed}},
		{"both failed", []Fact{acc, to(FactFailed, 0, "a"), to(FactFailed, 1, "b")}, SendNotDelivered, true, nil},
		{"12 hour notice", []Fact{acc, to(FactNotice, 12, "a")}, SendAccepted, false, []RecipientState{RecipientLate, RecipientWaiting}},
		{"24 hour notice alone", []Fact{acc, to(FactNotice, 23, "a")}, SendAccepted, false, []RecipientState{RecipientOverdue, RecipientWaiting}},
		{"both notices", []Fact{acc, to(FactNotice, 12, "a"), to(FactNotice, 22, "a")}, SendAccepted, false, []RecipientState{RecipientOverdue, RecipientWaiting}},
		{"late delivery", []Fact{acc, to(FactNotice, 12, "a"), to(FactNotice, 22, "a"), to(FactDelivered, 60, "a")}, SendAccepted, false, []RecipientState{RecipientDelivered, RecipientWaiting}},
		{"ordinary mail", []Fact{ext, to(FactDelivered, 0, "a")}, SendDelivered, true, []RecipientState{RecipientDelivered, RecipientForwarded}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Derive([]string{"a", "b", "A"}, c.facts, h(24))
			require.Equal(t, c.state, s.State)
			require.Equal(t, c.final, s.Final)
			require.Empty(t, s.Contradictions)
			require.Len(t, s.Recipients, 2)
			for i, want := range c.who {
				require.Equal(t, want, s.Recipients[i].State)
			}
		})
	}
	require.True(t, Derive([]string{"a"}, []Fact{acc, to(FactNotice, 23, "a")}, h(23+49)).Final)
	require.True(t, Derive([]string{"a"}, []Fact{to(FactDelivered, 1, "a")}, h(2)).Recipients[0].Final)
	require.True(t, Derive([]string{"a", "b"}, []Fact{to(FactDelivered, 1, "a")}, h(2)).Implicit)
	for _, kind := range []FactKind{FactDelivered, FactFailed, FactNotice} { // whatever the state
		require.True(t, Derive([]string{"a"}, []Fact{to(kind, 1, "a")}, h(2)).Implicit)
		require.False(t, Derive([]string{"a"}, []Fact{acc, to(kind, 1, "a")}, h(2)).Implicit)
	}
	require.False(t, Derive([]string{"a"}, []Fact{{Kind: FactRefused, At: at}}, h(2)).Implicit)
	require.NotEmpty(t, Derive([]string{"a"}, []Fact{acc, to(FactDelivered, 1, "a"), to(FactFailed, 1, "a")}, h(2)).Contradictions)
	require.NotEmpty(t, Derive([]string{"a"}, []Fact{acc, {Kind: FactAccepted, At: at, Identificativo: "2"}}, h(2)).Contradictions)
	require.NotEmpty(t, Derive([]string{"a"}, []Fact{acc, to(FactDelivered, 1, "z")}, h(2)).Contradictions)
	require.Equal(t, []string{"a"}, Derive([]string{"a"}, []Fact{acc}, h(27)).MissingNotices(at, h(27)))
	require.Empty(t, Derive([]string{"a"}, []Fact{acc}, h(25)).MissingNotices(at, h(25)))
}

// TestE1AnyOrder: order and repetition of facts change nothing; a delivery is never lost.
// TESTPLAN E1, invariant I5.
func TestE1AnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(rt, "recipients")
		var who []string
		for i := range n {
			who = append(who, fmt.Sprintf("r%d@beta.test", i))
		}
		var facts []Fact
		delivered := map[string]bool{}
		for range rapid.IntRange(0, 20).Draw(rt, "facts") {
			f := Fact{Kind: FactKind(rapid.IntRange(1, 9).Draw(rt, "kind")), At: at.Add(time.Duration(rapid.IntRange(0, 72).Draw(rt, "hour")) * time.Hour)}
			if f.Kind >= FactNotice {
				f.Recipient = rapid.SampledFrom(who).Draw(rt, "who")
			}
			if f.Kind >= FactAccepted {
				f.Identificativo = rapid.SampledFrom([]string{"1", "1", "1", "2"}).Draw(rt, "id")
			}
			if f.Kind == FactFailed {
				f.Cause = rapid.SampledFrom([]Cause{CauseFull, CauseOther}).Draw(rt, "cause")
			}
			if f.Kind == FactDelivered {
				delivered[f.Recipient] = true
			}
			facts = append(facts, f)
		}
		now := at.Add(100 * time.Hour)
		want := Derive(who, facts, now)
		for _, r := range want.Recipients {
			require.Equal(rt, delivered[r.Address], r.State == RecipientDelivered)
		}
		shuffled := append(append([]Fact(nil), facts...), facts...)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		require.Equal(rt, want, Derive(who, shuffled, now))
	})
}
