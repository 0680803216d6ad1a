package invoice

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func TestStateOf(t *testing.T) {
	const sent = factSigned | factTransmitted
	for _, c := range []struct {
		name            string
		facts           facts
		private, public invoicev1.InvoiceState
		settles         [2]bool // private, public
		frees           bool
	}{
		{"nothing yet", 0, invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED, invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED, [2]bool{}, false},
		{"signed", factSigned, invoicev1.InvoiceState_INVOICE_STATE_SIGNED, invoicev1.InvoiceState_INVOICE_STATE_SIGNED, [2]bool{}, false},
		{"cannot be signed", factSigningFailed, invoicev1.InvoiceState_INVOICE_STATE_FAILED, invoicev1.InvoiceState_INVOICE_STATE_FAILED, [2]bool{}, false},
		{"signed after all", factSigningFailed | factSigned, invoicev1.InvoiceState_INVOICE_STATE_SIGNED, invoicev1.InvoiceState_INVOICE_STATE_SIGNED, [2]bool{}, false},
		{"cannot be sent", factSigned | factTransmissionFailed, invoicev1.InvoiceState_INVOICE_STATE_FAILED, invoicev1.InvoiceState_INVOICE_STATE_FAILED, [2]bool{}, false},
		{"sent after all", sent | factTransmissionFailed, invoicev1.InvoiceState_INVOICE_STATE_TRANSMITTED, invoicev1.InvoiceState_INVOICE_STATE_TRANSMITTED, [2]bool{}, false},
		{"RC", sent | factRC, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, [2]bool{true, false}, false},
		{"RC before anybody said sent", factRC, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, [2]bool{}, false},
		{"MC", sent | factMC, invoicev1.InvoiceState_INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA, invoicev1.InvoiceState_INVOICE_STATE_DELIVERY_PENDING, [2]bool{true, false}, false},
		{"MC then RC", sent | factMC | factRC, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, [2]bool{true, false}, false},
		{"NS", sent | factNS, invoicev1.InvoiceState_INVOICE_STATE_REJECTED, invoicev1.InvoiceState_INVOICE_STATE_REJECTED, [2]bool{}, true},
		{"EC01", sent | factRC | factEC01, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_PA_ACCEPTED, [2]bool{true, true}, false},
		{"EC02", sent | factRC | factEC02, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED, [2]bool{true, true}, true},
		{"EC01 overtakes RC", sent | factEC01, invoicev1.InvoiceState_INVOICE_STATE_TRANSMITTED, invoicev1.InvoiceState_INVOICE_STATE_PA_ACCEPTED, [2]bool{}, false},
		{"DT", sent | factRC | factDT, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_PA_TERM_EXPIRED, [2]bool{true, true}, false},
		{"AT", sent | factMC | factAT, invoicev1.InvoiceState_INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA, invoicev1.InvoiceState_INVOICE_STATE_ATTESTED, [2]bool{true, true}, false},
		{"in custody", sent | factRC | factInCustody | factPreserved, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, [2]bool{true, false}, false},
	} {
		require.Equal(t, c.private, stateOf(c.facts, false), "%s, private", c.name)
		require.Equal(t, c.public, stateOf(c.facts, true), "%s, public body", c.name)
		require.Equal(t, c.settles, [2]bool{settles(c.facts, false), settles(c.facts, true)}, "%s settles", c.name)
		require.Equal(t, c.frees, freesNumbers(c.facts), "%s frees", c.name)
	}
}

// The journeys that SdI allows, as the facts that make them up.
var journeys = map[string]struct {
	public bool
	facts  []facts
	end    invoicev1.InvoiceState
	kept   bool
}{
	"private delivered":     {false, []facts{factSigned, factTransmitted, factRC, factInCustody, factPreserved}, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, true},
	"private not delivered": {false, []facts{factTransmitted, factMC, factInCustody, factPreserved}, invoicev1.InvoiceState_INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA, true},
	"rejected":              {false, []facts{factSigned, factTransmitted, factNS}, invoicev1.InvoiceState_INVOICE_STATE_REJECTED, false},
	"signed late":           {false, []facts{factSigningFailed, factSigned, factTransmissionFailed, factTransmitted, factRC}, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, true},
	"public accepted":       {true, []facts{factSigned, factTransmitted, factMC, factRC, factEC01, factInCustody}, invoicev1.InvoiceState_INVOICE_STATE_PA_ACCEPTED, true},
	"public refused":        {true, []facts{factSigned, factTransmitted, factRC, factEC02}, invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED, true},
	"public silent":         {true, []facts{factSigned, factTransmitted, factRC, factDT}, invoicev1.InvoiceState_INVOICE_STATE_PA_TERM_EXPIRED, true},
	"public unreachable":    {true, []facts{factSigned, factTransmitted, factMC, factAT}, invoicev1.InvoiceState_INVOICE_STATE_ATTESTED, true},
	"public delivered":      {true, []facts{factSigned, factTransmitted, factRC}, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, false},
}

func permutations(list []facts) [][]facts {
	if len(list) == 0 {
		return [][]facts{nil}
	}
	var out [][]facts
	for i, f := range list {
		rest := append(append([]facts(nil), list[:i]...), list[i+1:]...)
		for _, p := range permutations(rest) {
			out = append(out, append([]facts{f}, p...))
		}
	}
	return out
}

// Every order of every journey, each fact once or twice, ends in the same state, settles exactly once
// when it should, and frees the numbers never before the end.
func TestEveryOrderEndsAlike(t *testing.T) {
	for name, j := range journeys {
		for _, order := range permutations(j.facts) {
			for _, twice := range []bool{false, true} {
				var known facts
				settled := 0
				for _, f := range order {
					known |= f
					if settled == 0 && settles(known, j.public) {
						settled++
					}
					if twice {
						known |= f
					}
				}
				require.Equal(t, j.end, stateOf(known, j.public), "%s %v", name, order)
				require.Equal(t, j.kept, settled == 1, "%s %v", name, order)
			}
		}
	}
}

// Whatever the facts: once settled, more facts never unsettle, and every set has a state.
func TestSettlingIsForGood(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := facts(rapid.Int32Range(0, int32(factPreserved<<1)-1).Draw(t, "some"))
		more := facts(rapid.Int32Range(0, int32(factPreserved<<1)-1).Draw(t, "more"))
		public := rapid.Bool().Draw(t, "public")
		if settles(some, public) && !settles(some|more, public) {
			t.Fatalf("%b settles, %b does not", some, some|more)
		}
		if stateOf(some, public) == invoicev1.InvoiceState_INVOICE_STATE_UNSPECIFIED {
			t.Fatalf("%b has no state", some)
		}
		if freesNumbers(some) && some.has(factRC) && !some.has(factEC02) {
			t.Fatalf("%b was delivered and frees its numbers", some)
		}
	})
}
