package pec_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"github.com/stretchr/testify/require"
)

// Short names of types for the tables.
const (
	acc  = "accettazione"
	nacc = "non-accettazione"
	cons = "avvenuta-consegna"
	errc = "errore-consegna"
	pre  = "preavviso-errore-consegna"
	env  = "posta-certificata"
	anom = "anomalia"
)

// TestJourney: one message to two recipients, in every profile and with every kind of receipt.
func TestJourney(t *testing.T) {
	n := start(t)
	for _, profile := range rfc.Profiles() {
		for _, kind := range []rfc.TipoRicevuta{rfc.Completa, rfc.Breve, rfc.Sintetica} {
			t.Run(profile.Name+"/"+string(kind), func(t *testing.T) {
				n.t = t
				for _, id := range []string{"alfa", "beta"} {
					_, err := n.c.SetPECProvider(t.Context(), client.PECProvider{ID: id, Profile: profile.Name})
					require.NoError(t, err)
				}
				d := n.draft(recipient)
				d.Cc, d.Ricevuta = []rfc.Address{{Addr: "destinatario@alfa.test"}}, kind
				sent := n.send(d)
				n.settle()
				got := n.types(sender, d.MessageID)
				slices.Sort(got)
				require.Equal(t, []string{acc, cons, cons}, got)
				require.Equal(t, []string{env}, n.types(recipient, d.MessageID))
				require.Equal(t, []string{env}, n.types("destinatario@alfa.test", d.MessageID))
				n.checkKinds(d, kind, sent)
			})
		}
	}
	n.t = t
	for _, box := range []string{sender, recipient, "destinatario@alfa.test"} {
		n.proven(box)
	}
}

// checkKinds: To gets the kind asked for, Cc the synthetic one; the original comes back as the rules say.
func (n *net) checkKinds(d *rfc.Draft, kind rfc.TipoRicevuta, sent []byte) {
	n.t.Helper()
	for _, m := range n.about(sender, d.MessageID) {
		if m.Tipo != cons {
			continue
		}
		r, _ := n.verify(m)
		want := kind
		if m.Consegna == "destinatario@alfa.test" {
			want = rfc.Sintetica
		}
		require.Equal(n.t, want, r.Daticert.Ricevuta)
		original, err := r.OriginalMessage()
		require.NoError(n.t, err)
		switch want {
		case rfc.Sintetica:
			require.Nil(n.t, original)
		case rfc.Completa:
			require.Len(n.t, original.Attachments(), 1)
			back, err := io.ReadAll(original.Raw())
			require.NoError(n.t, err)
			require.True(n.t, bytes.HasSuffix(back, sent[bytes.Index(sent, []byte("\r\n\r\n")):]), "the body came back changed")
		case rfc.Breve:
			m, err := rfc.ParseBytes(sent)
			require.NoError(n.t, err)
			rep, err := rfc.CheckBreve(original, m.Root)
			require.NoError(n.t, err)
			require.True(n.t, rep.Proven())
		}
	}
}

// TestMagicRecipients: what each name brings, at once and with time.
func TestMagicRecipients(t *testing.T) {
	n := start(t)
	later := 48 * time.Hour
	cases := []struct {
		local    string
		now, end []string // in the sender's mailbox, at once and after two days
	}{
		{"destinatario", []string{acc, cons}, nil},
		{"sconosciuto", []string{acc, errc}, nil},
		{"inesistente", []string{acc, errc}, nil},
		{"no-dominio", []string{acc, errc}, nil},
		{"piena", []string{acc, errc}, nil},
		{"virus", []string{acc, errc}, nil},
		{"ignorata", nil, nil},
		{"non-accettata", []string{nacc}, nil},
		{"virus-accesso", []string{nacc}, nil},
		{"accetta-tardi", []string{cons}, []string{acc, cons}},
		{"muta", []string{acc}, []string{acc, pre, pre}},
		{"presa", []string{acc}, []string{acc, pre}},
		{"dopo-13h", []string{acc}, []string{acc, cons, pre}},
		{"dopo-30h", []string{acc}, []string{acc, cons, pre, pre}},
		{"doppia", []string{acc, cons, cons}, nil},
		{"contraddetta", []string{acc, cons, errc}, nil},
		{"consegna-prima", []string{acc, cons}, nil},
		{"senza-ricevuta", []string{acc}, []string{acc, pre}},
		{"falsa+7", []string{acc, cons}, []string{acc, cons, pre}},
		{"altra-firma", []string{acc, cons}, []string{acc, cons, pre}},
		{"alterata", []string{acc, cons}, []string{acc, cons, pre}},
		{"troncata", []string{acc, cons}, []string{acc, cons, pre}},
	}
	sent := map[string]*rfc.Draft{}
	for _, c := range cases {
		d := n.draft(at(c.local))
		n.send(d)
		sent[c.local] = d
	}
	n.settle()
	check := func(when string, want func(i int) []string) {
		for i, c := range cases {
			got := n.types(sender, sent[c.local].MessageID)
			slices.Sort(got)
			require.Equal(t, want(i), got, "%s, %s", c.local, when)
		}
	}
	check("at once", func(i int) []string { return cases[i].now })
	n.advance(later)
	check("after two days", func(i int) []string {
		if cases[i].end == nil {
			return cases[i].now
		}
		return cases[i].end
	})
	n.judge(sent)
}

// judge: what is forged is not proven, all the rest is; errors say why.
func (n *net) judge(sent map[string]*rfc.Draft) {
	n.t.Helper()
	why := map[string]rfc.Cause{
		"sconosciuto": rfc.CauseNoMailbox, "inesistente": rfc.CauseNoMailbox, "no-dominio": rfc.CauseNoDomain, "piena": rfc.CauseFull, "virus": rfc.CauseVirus,
	}
	status := map[string]rfc.Status{"falsa+7": rfc.StatusUnsigned, "altra-firma": rfc.StatusUntrusted, "alterata": rfc.StatusInvalidDigest, "troncata": rfc.StatusUnparsable}
	for local, d := range sent {
		for _, m := range n.about(sender, d.MessageID) {
			r, rep := n.verify(m)
			want, forged := status[local]
			if m.Tipo != cons || !forged {
				want = rfc.StatusValid
			}
			require.Equal(n.t, want, rep.Status, "%s %s: %s", local, m.Tipo, rep.Reason)
			require.Equal(n.t, want == rfc.StatusValid, r.Proven(rep), "%s %s %v %v", local, m.Tipo, r.Findings, rep.Findings)
			if cause, ok := why[local]; ok && m.Tipo == errc {
				require.Equal(n.t, cause, r.Daticert.Cause(), local)
			}
		}
	}
}

// TestE3E4NoticesAreOnTime: the instants that daticert states, on one leap of the clock.
func TestE3E4NoticesAreOnTime(t *testing.T) {
	n := start(t)
	d := n.draft(at("muta"), at("dopo-30h"), at("dopo-13h"))
	n.send(d)
	n.settle()
	first := n.about(sender, d.MessageID)
	require.Len(t, first, 1)
	n.advance(72 * time.Hour)
	var facts []rfc.Fact
	got := map[string][]string{}
	for _, m := range n.about(sender, d.MessageID) {
		r, rep := n.verify(m)
		require.True(t, r.Proven(rep), "%v", rep.Findings)
		when, err := r.Daticert.Istante()
		require.NoError(t, err)
		hours := when.Sub(first[0].At).Round(time.Minute).Hours()
		got[m.Consegna] = append(got[m.Consegna], fmt.Sprintf("%s %.0fh", m.Tipo, hours))
		f, ok := rfc.FactOf(r)
		require.True(t, ok)
		facts = append(facts, f)
	}
	require.Equal(t, map[string][]string{
		"": {acc + " 0h"}, at("muta"): {pre + " 12h", pre + " 23h"}, at("dopo-13h"): {pre + " 12h", cons + " 13h"},
		at("dopo-30h"): {pre + " 12h", pre + " 23h", cons + " 30h"},
	}, got)
	state := rfc.Derive(d.Recipients(), facts, first[0].At.Add(72*time.Hour))
	require.Len(t, state.Recipients, 3)
}

// TestA18Refusals: what the point of access does not take, it refuses by a notice that says why.
func TestA18Refusals(t *testing.T) {
	n := start(t)
	good := compose(t, n.draft(recipient))
	for name, c := range map[string]struct {
		raw  string
		to   []string
		says string
	}{
		"recipient not named": {string(good), []string{recipient, at("altro")}, "neither in To nor in Cc"},
		"other From":          {strings.Replace(string(good), sender, "altri@alfa.test", 1), []string{recipient}, "reverse path"},
		"Bcc":                 {"Bcc: x@beta.test\r\n" + string(good), []string{recipient}, "Bcc"},
		"Cc without To":       {strings.Replace(string(good), "\r\nTo: ", "\r\nCc: ", 1), []string{recipient}, "To"},
		"two From":            {"From: altri@alfa.test\r\n" + string(good), []string{recipient}, "From"},
		"no header":           {"ciao\r\n", []string{recipient}, "From"},
	} {
		require.NoError(t, n.submit(sender, c.to, []byte(c.raw)), name)
		n.settle()
		list := n.about(sender, "")
		last := list[len(list)-1]
		require.Equal(t, nacc, last.Tipo, name)
		r, rep := n.verify(last)
		require.True(t, r.Proven(rep), name)
		require.Contains(t, r.Daticert.ErroreEsteso, c.says, name)
	}
	require.Empty(t, n.about(recipient, ""))
	log, err := n.c.PECSubmissions(t.Context(), sender)
	require.NoError(t, err)
	require.Len(t, log, 6)
	for _, s := range log {
		require.False(t, s.Accepted)
	}
}

// TestA15A16A17Limits: too large and too many are refused by notice; beyond what SMTP takes, by SMTP.
func TestA15A16A17Limits(t *testing.T) {
	n := start(t)
	_, err := n.c.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", Volume: 20_000})
	require.NoError(t, err)
	d := n.draft(recipient, "destinatario@alfa.test")
	d.Attachments = []rfc.File{rfc.BytesFile("a.bin", "application/octet-stream", bytes.Repeat([]byte("x"), 8_000))}
	n.send(d) // 11 kB for two
	many := n.draft()
	for i := range 51 {
		many.To = append(many.To, rfc.Address{Addr: fmt.Sprintf("r%d@beta.test", i)})
	}
	many.Attachments, many.Text = nil, "x"
	n.send(many)
	n.settle()
	for _, d := range []*rfc.Draft{d, many} {
		require.Equal(t, []string{nacc}, n.types(sender, d.MessageID))
	}
	_, err = n.c.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", Volume: 30_000_000, Recipients: 60})
	require.NoError(t, err)
	n.send(d)
	n.settle()
	require.Len(t, n.about(sender, d.MessageID), 4, "a second submission with the same Message-ID is a second message")
}

// TestF7Virus: the EICAR mark inside a base64 attachment, at both ends.
func TestF7Virus(t *testing.T) {
	n := start(t)
	d := n.draft(recipient)
	d.Attachments = []rfc.File{rfc.BytesFile("x.com", "application/octet-stream", []byte("$EICAR-STANDARD-"+"ANTIVIRUS-TEST-FILE!$"))}
	n.send(d)
	seen := n.draft(at("virus"))
	n.send(seen)
	n.settle()
	require.Equal(t, []string{nacc}, n.types(sender, d.MessageID))
	for _, m := range slices.Concat(n.about(sender, d.MessageID), n.about(sender, seen.MessageID)) {
		r, rep := n.verify(m)
		require.True(t, r.Proven(rep))
		if m.Tipo != acc {
			require.Equal(t, rfc.VirusTrovato, r.Daticert.Errore)
			require.True(t, r.Claim.Virus)
			require.Equal(t, "Gestore Alfa SANDBOX", r.Daticert.Gestore, "the sender hears it from the own provider")
		}
	}
	log, err := n.c.PECSubmissions(t.Context(), sender)
	require.NoError(t, err)
	var kinds []string
	for _, e := range log[1].Events {
		kinds = append(kinds, e.Type)
	}
	require.Contains(t, kinds, "rilevazione-virus")
	require.Contains(t, kinds, "presa-in-carico")
}
