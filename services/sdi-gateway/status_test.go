package sdigateway

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
)

func TestStateOf(t *testing.T) {
	for _, c := range []struct {
		name, format string
		facts        facts
		want         string
	}{
		{"nothing known", "FPR12", 0, stateReserved},
		{"handed over", "FPR12", factSent, stateSent},
		{"private RC", "FPR12", factSent | factRC, stateDelivered},
		{"private RC before our own record of the call", "FPR12", factRC, stateDelivered},
		{"private MC is final and positive", "FPR12", factSent | factMC, stateAvailable},
		{"simplified MC", "FSM10", factSent | factMC, stateAvailable},
		{"private NS", "FPR12", factSent | factNS, stateRejected},
		{"public RC waits for the body", "FPA12", factSent | factRC, stateDelivered},
		{"public MC, SdI goes on trying", "FPA12", factSent | factMC, statePending},
		{"public MC then RC", "FPA12", factSent | factMC | factRC, stateDelivered},
		{"public MC then AT", "FPA12", factSent | factMC | factAT, stateAttested},
		{"public accepted", "FPA12", factSent | factRC | factEC01, stateAccepted},
		{"public refused", "FPA12", factSent | factRC | factEC02, stateRefused},
		{"public outcome before the RC", "FPA12", factSent | factEC02, stateRefused},
		{"public silence is not refusal", "FPA12", factSent | factRC | factDT, stateTermExpired},
		{"public silence after a late delivery", "FPA12", factSent | factMC | factRC | factDT, stateTermExpired},
		{"public NS", "FPA12", factSent | factNS, stateRejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, stateOf(c.format, c.facts))
			require.Empty(t, contradiction(c.format, c.facts))
		})
	}
}

func TestContradictions(t *testing.T) {
	for _, c := range []struct {
		name, format string
		facts        facts
		want         string
	}{
		{"discarded and delivered", "FPR12", factNS | factRC, "NS"},
		{"both outcomes", "FPA12", factEC01 | factEC02, "EC02"},
		{"outcome and silence", "FPA12", factEC01 | factDT, "DT"},
		{"delivered and attested", "FPA12", factRC | factAT, "AT"},
		{"private delivered and not", "FPR12", factRC | factMC, "MC"},
		{"outcome on a private invoice", "FPR12", factRC | factEC01, "public"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, contradiction(c.format, c.facts), c.want)
		})
	}
}

// Every state has its name in the API, and messages only ever take a transmission forward.
func TestStateProperties(t *testing.T) {
	all := []facts{factSent, factRC, factMC, factNS, factEC01, factEC02, factDT, factAT}
	rapid.Check(t, func(t *rapid.T) {
		format := rapid.SampledFrom([]string{"FPA12", "FPR12", "FSM10"}).Draw(t, "format")
		order := rapid.Permutation(all).Draw(t, "order")
		n := rapid.IntRange(0, len(order)).Draw(t, "n")
		var inOrder, reversed facts
		for i := range n {
			before := stateOf(format, inOrder)
			inOrder |= order[i]
			after := stateOf(format, inOrder)
			if before != stateReserved && after == stateReserved {
				t.Fatalf("%s went back to %s", before, after)
			}
			reversed |= order[n-1-i]
		}
		state := stateOf(format, inOrder)
		if state != stateOf(format, reversed) {
			t.Fatalf("the order of messages changes the state")
		}
		if stateEnum(state) == sdiv1.TransmissionState_TRANSMISSION_STATE_UNSPECIFIED {
			t.Fatalf("state %q has no name in the API", state)
		}
		if stateName(stateEnum(state)) != state {
			t.Fatalf("state %q reads back as %q", state, stateName(stateEnum(state)))
		}
	})
}

func TestRepeatOfOurs(t *testing.T) {
	codes := func(list ...string) *sdi.NotificaScarto {
		ns := &sdi.NotificaScarto{}
		for _, c := range list {
			ns.ListaErrori = append(ns.ListaErrori, sdi.Errore{Codice: c})
		}
		return ns
	}
	for _, c := range []struct {
		name     string
		attempts int32
		ns       *sdi.NotificaScarto
		want     bool
	}{
		{"second call, name taken", 2, codes("00002"), true},
		{"second call, name and invoice taken", 3, codes("00002", "00404"), true},
		{"first call: somebody else took the name", 1, codes("00002"), false},
		{"second call, the invoice alone is a duplicate", 2, codes("00404"), false},
		{"second call, a real error too", 2, codes("00002", "00423"), false},
		{"second call, no error listed", 2, codes(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, repeatOfOurs(c.attempts, c.ns))
		})
	}
}
