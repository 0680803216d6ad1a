package pec

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestE9ReasonsByTable: a provider's own rows come first, the standard ones where it has none. TESTPLAN E9.
func TestE9ReasonsByTable(t *testing.T) {
	var own Reasons
	require.NoError(t, json.Unmarshal([]byte(`[
		{"type": "preavviso-errore-consegna", "code": "5.4.1", "cause": "unreachable", "second_notice": true},
		{"error": "altro", "text": "Casella Inattiva", "cause": "no-mailbox"},
		{"code": "5.2", "cause": "other"}]`), &own))
	require.NoError(t, own.Check())
	for _, c := range []struct {
		tipo   Tipo
		e      Errore
		text   string
		want   Cause
		second bool
		common Cause
	}{
		{PreavvisoErrore, AltroErrore, "5.4.1 - tempo massimo", CauseUnreachable, true, CauseUnreachable},
		{ErroreConsegna, AltroErrore, "5.4.1 - tempo massimo", CauseUnreachable, false, CauseUnreachable},
		{PreavvisoErrore, AltroErrore, "5.4.10 altro", CauseOther, false, CauseOther},
		{PreavvisoErrore, AltroErrore, "4.4.7 tempo massimo", CauseUnreachable, false, CauseUnreachable},
		{ErroreConsegna, AltroErrore, "la casella inattiva non riceve", CauseNoMailbox, false, CauseOther},
		{ErroreConsegna, AltroErrore, "5.2.2 casella piena", CauseOther, false, CauseFull},
		{ErroreConsegna, AltroErrore, "4.2.2 casella piena", CauseFull, false, CauseFull},
		{ErroreConsegna, AltroErrore, "4.3.2 riprovare", CauseTemporary, false, CauseTemporary},
		{ErroreConsegna, NoDest, "4.3.2 riprovare", CauseNoMailbox, false, CauseNoMailbox},
		{ErroreConsegna, VirusTrovato, "5.2.2", CauseOther, false, CauseVirus},
		{ErroreConsegna, AltroErrore, "45.1", CauseOther, false, CauseOther},
	} {
		d := &Daticert{Tipo: string(c.tipo), Errore: c.e, ErroreEsteso: c.text}
		got := own.of(d)
		require.Equal(t, c.want, got.Cause, c.text)
		require.Equal(t, c.second, got.SecondNotice, c.text)
		require.Equal(t, c.common, d.Cause(), c.text)
	}
	for _, bad := range []Reason{
		{Cause: CauseOther}, {Tipo: AvvenutaConsegna, Cause: CauseOther}, {Errore: "boh", Cause: CauseOther}, {Code: "5.4.", Cause: CauseOther},
		{Code: "3.1", Cause: CauseOther}, {Code: "5.1", Cause: "boh"}, {Tipo: ErroreConsegna, Cause: CauseFull, SecondNotice: true},
	} {
		require.Error(t, Reasons{bad}.Check(), "%+v", bad)
	}
}

// TestE9KnownSecondNotice: a notice that says that it is the second one is believed before its time, in any order with others; a
// delivery after it counts, and silence makes it final. TESTPLAN E9.
func TestE9KnownSecondNotice(t *testing.T) {
	h := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
	acc := Fact{Kind: FactAccepted, At: h(0), Identificativo: "1"}
	notice := func(n int, second bool) Fact {
		return Fact{Kind: FactNotice, At: h(n), Recipient: "a", Identificativo: "1", Second: second}
	}
	for _, c := range []struct {
		facts []Fact
		now   int
		want  RecipientState
		at    time.Time
		final bool
	}{
		{[]Fact{acc, notice(2, false)}, 3, RecipientLate, h(2), false},
		{[]Fact{acc, notice(2, true)}, 3, RecipientOverdue, h(2), false},
		{[]Fact{acc, notice(1, false), notice(2, true), notice(23, false)}, 30, RecipientOverdue, h(2), false},
		{[]Fact{acc, notice(2, true)}, 2 + 48, RecipientOverdue, h(2), true},
		{[]Fact{acc, notice(2, true), {Kind: FactDelivered, At: h(5), Recipient: "a", Identificativo: "1"}}, 6, RecipientDelivered, h(5), true},
	} {
		for range len(c.facts) {
			s := Derive([]string{"a"}, c.facts, h(c.now))
			require.Equal(t, c.want, s.Recipients[0].State)
			require.True(t, c.at.Equal(s.Recipients[0].At), s.Recipients[0].At)
			require.Equal(t, c.final, s.Recipients[0].Final)
			require.Empty(t, s.Contradictions)
			c.facts = slices.Concat(c.facts[1:], c.facts[:1])
		}
	}
}
