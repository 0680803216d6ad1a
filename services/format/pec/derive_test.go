package pec

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// factsAbout draws what may become known of a message, contradictions included.
func factsAbout(t *rapid.T, who []string, most int) []Fact {
	var facts []Fact
	for range rapid.IntRange(0, most).Draw(t, "facts") {
		f := Fact{Kind: FactKind(rapid.IntRange(int(FactQueued), int(FactCancelled)).Draw(t, "kind")), At: at.Add(time.Duration(rapid.IntRange(0, 72).Draw(t, "hour")) * time.Hour)}
		switch f.Kind {
		case FactNotice, FactDelivered, FactFailed:
			f.Recipient = rapid.SampledFrom(who).Draw(t, "who")
		case FactAccepted:
			if rapid.Bool().Draw(t, "external") {
				f.Esterni = []string{rapid.SampledFrom(who).Draw(t, "external recipient")}
			}
		}
		if f.Kind >= FactAccepted && f.Kind <= FactFailed {
			f.Identificativo = rapid.SampledFrom([]string{"1", "1", "1", "2"}).Draw(t, "id")
		}
		if f.Kind == FactFailed {
			f.Cause = rapid.SampledFrom([]Cause{CauseFull, CauseOther}).Draw(t, "cause")
		}
		facts = append(facts, f)
	}
	return facts
}

// TestE1EveryPermutation: every order of every set of up to six facts about three recipients gives one state, also when
// each fact is known twice; ten thousand random orders of large sets do.
func TestE1EveryPermutation(t *testing.T) {
	who := []string{"a", "b", "c"}
	h := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
	now := h(100)
	pool := []Fact{
		{Kind: FactSubmitted, At: at}, {Kind: FactUnknown, At: at}, {Kind: FactAccepted, At: at, Identificativo: "1", Esterni: []string{"c"}},
		{Kind: FactAccepted, At: h(1), Identificativo: "2"}, {Kind: FactDelivered, At: h(2), Recipient: "a", Identificativo: "1"},
		{Kind: FactFailed, At: h(2), Recipient: "a", Identificativo: "1", Cause: CauseFull}, {Kind: FactNotice, At: h(12), Recipient: "b", Identificativo: "1"},
		{Kind: FactNotice, At: h(23), Recipient: "b", Identificativo: "1"}, {Kind: FactDelivered, At: h(30), Recipient: "b", Identificativo: "1"},
		{Kind: FactRefused, At: h(1), Identificativo: "1"}, {Kind: FactRejected, At: at},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		set := slices.Clone(pool)
		rng.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		set = set[:6]
		want := Derive(who, set, now)
		permute(set, func(order []Fact) {
			require.Equal(t, want, Derive(who, order, now))
		})
	}
	want := Derive(who, pool, now)
	twice := slices.Concat(pool, pool)
	for range 10_000 {
		rng.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
		if got := Derive(who, twice, now); fmt.Sprint(got) != fmt.Sprint(want) {
			require.Equal(t, want, got)
		}
	}
}

// permute calls fn with every order (Heap's algorithm).
func permute(list []Fact, fn func([]Fact)) {
	list = slices.Clone(list)
	c := make([]int, len(list))
	fn(list)
	for i := 0; i < len(list); {
		if c[i] >= i {
			c[i] = 0
			i++
			continue
		}
		k := c[i]
		if i%2 == 0 {
			k = 0
		}
		list[k], list[i] = list[i], list[k]
		fn(list)
		c[i]++
		i = 0
	}
}

// TestE5E6NothingIsLost: whatever becomes known besides, a delivery stays a delivery, and what contradicts is said: both
// outcomes for one recipient, two acceptances, an acceptance and a refusal, a recipient who is none of ours.
func TestE5E6NothingIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		who := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(rt, "recipients")]
		facts := factsAbout(rt, append(slices.Clone(who), "nobody"), 14)
		now := at.Add(100 * time.Hour)
		s := Derive(who, facts, now)
		kinds := map[FactKind]bool{}
		ids, by := map[string]bool{}, map[string]map[FactKind]bool{}
		for _, f := range facts {
			kinds[f.Kind] = true
			if f.Identificativo != "" {
				ids[f.Identificativo] = true
			}
			if by[f.Recipient] == nil {
				by[f.Recipient] = map[FactKind]bool{}
			}
			by[f.Recipient][f.Kind] = true
		}
		want := 0
		for _, a := range who {
			if by[a][FactDelivered] && by[a][FactFailed] {
				want++
			}
		}
		if len(ids) > 1 {
			want++
		}
		if kinds[FactAccepted] && kinds[FactRefused] {
			want++
		}
		if len(by["nobody"]) > 0 {
			want++
		}
		require.Len(rt, s.Contradictions, want, "%v", s.Contradictions)
		for _, r := range s.Recipients {
			require.Equal(rt, by[r.Address][FactDelivered], r.State == RecipientDelivered)
		}
		more := Derive(who, append(facts, factsAbout(rt, who, 3)...), now)
		require.GreaterOrEqual(rt, len(more.Contradictions), len(s.Contradictions), "what is known besides takes no contradiction away")
		for i, r := range s.Recipients {
			if r.State == RecipientDelivered {
				require.Equal(rt, RecipientDelivered, more.Recipients[i].State)
			}
		}
	})
}

// TestE10Next: time says something new exactly at the moment that Next gives, never between.
func TestE10Next(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		who := []string{"a", "b"}
		facts := append(factsAbout(rt, who, 8), Fact{Kind: FactAccepted, At: at, Identificativo: "1"})
		seen := func(now time.Time) string {
			s := Derive(who, facts, now)
			return fmt.Sprint(s, s.MissingNotices(at, now))
		}
		now := at.Add(73 * time.Hour) // everything that is known has happened
		for range 5 {
			next := Derive(who, facts, now).Next(at, now)
			if next.IsZero() {
				require.Equal(rt, seen(now), seen(now.Add(10_000*time.Hour)))
				return
			}
			require.True(rt, next.After(now))
			require.Equal(rt, seen(now), seen(next.Add(-time.Nanosecond)))
			now = next
		}
		rt.Fatal("time goes on saying something new")
	})
}

// TestE1Linear: a thousand recipients, each with an outcome, cost a thousand times as much as one and not a million.
func TestE1Linear(t *testing.T) {
	who := make([]string, 1000)
	facts := []Fact{{Kind: FactAccepted, At: at, Identificativo: "1"}}
	for i := range who {
		who[i] = fmt.Sprintf("r%d@beta.test", i)
		facts = append(facts, Fact{Kind: FactDelivered, At: at, Recipient: who[i], Identificativo: "1"})
	}
	s := Derive(who, facts, at)
	require.Equal(t, SendDelivered, s.State)
	few := testing.AllocsPerRun(1, func() { Derive(who[:10], facts[:11], at) })
	many := testing.AllocsPerRun(1, func() { Derive(who, facts, at) })
	require.Less(t, many, 200*few, "%v allocations for 1000 recipients, %v for 10", many, few)
}
