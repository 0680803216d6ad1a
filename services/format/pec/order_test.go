package pec

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// everyOutcome is all that can be told of a message to n recipients: for each of them both notices, a delivery, a delivery
// that comes late, and failures of every cause; two acceptances; and what we did ourselves.
func everyOutcome(n int) (who []string, facts []Fact) {
	h := func(hours int) time.Time { return at.Add(time.Duration(hours) * time.Hour) }
	facts = []Fact{
		{Kind: FactQueued, At: at}, {Kind: FactSubmitted, At: at}, {Kind: FactUnknown, At: at}, {Kind: FactRejected, At: at}, {Kind: FactCancelled, At: at},
		{Kind: FactAccepted, At: h(1), Identificativo: "1", Esterni: []string{"r0@beta.test"}}, {Kind: FactAccepted, At: h(2), Identificativo: "2"},
		{Kind: FactRefused, At: h(1), Identificativo: "1"},
	}
	for i := range n {
		a := fmt.Sprintf("r%d@beta.test", i)
		who = append(who, a)
		facts = append(facts, Fact{Kind: FactNotice, At: h(13), Recipient: a, Identificativo: "1"}, Fact{Kind: FactNotice, At: h(23), Recipient: a, Identificativo: "1"},
			Fact{Kind: FactDelivered, At: h(2), Recipient: a, Identificativo: "1"}, Fact{Kind: FactDelivered, At: h(30), Recipient: a, Identificativo: "1"})
		for _, c := range []Cause{CauseFull, CauseOther} {
			facts = append(facts, Fact{Kind: FactFailed, At: h(3), Recipient: a, Identificativo: "1", Cause: c})
		}
	}
	return who, facts
}

// TestE1EveryOutcomeInAnyOrder: each recipient of a message to 1, 3 and 1,000 has a random part of all outcomes, in random
// orders, some twice. However they come, one state follows. TESTPLAN E1, invariant I5.
func TestE1EveryOutcomeInAnyOrder(t *testing.T) {
	for n, orders := range map[int]int{1: 10 * ordersOfThousand, 3: 10 * ordersOfThousand, 1000: ordersOfThousand} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(n), 6109)) //nolint:gosec // small
			who, all := everyOutcome(n)
			now := at.Add(100 * time.Hour)
			states := map[SendState]bool{}
			var known, order []Fact
			var want State
			for i := range orders {
				if i%10 == 0 { // a set of facts, in ten orders
					known = known[:0]
					share := rng.IntN(4)
					for _, f := range all {
						if rng.IntN(4) <= share && (f.Recipient != "" || rng.IntN(3) == 0) {
							known = append(known, f)
						}
					}
					want = Derive(who, known, now)
					states[want.State] = true
				}
				order = append(order[:0], known...)
				for range len(known) / 10 {
					order = append(order, known[rng.IntN(len(known))])
				}
				rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				if got := Derive(who, order, now); !reflect.DeepEqual(want, got) {
					require.Equal(t, want, got, "order %d", i)
				}
			}
			t.Logf("%d orders gave %d different states of the message", orders, len(states))
		})
	}
}
