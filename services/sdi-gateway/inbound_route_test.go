package sdigateway

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRoute(t *testing.T) {
	const a, b, c = "tenants/t1/companies/a", "tenants/t1/companies/b", "tenants/t2/companies/c"
	for name, tc := range map[string]struct {
		in      candidates
		company string
		by      string
		why     string
	}{
		"code alone":                          {candidates{byCode: []string{a}}, a, byCode, ""},
		"code and the same buyer":             {candidates{byCode: []string{a}, byVAT: []string{a}}, a, byCode, ""},
		"code, and one of several buyers":     {candidates{byCode: []string{a}, byVAT: []string{a, c}}, a, byCode, ""},
		"code of one, buyer another":          {candidates{byCode: []string{a}, byVAT: []string{c}}, "", "", reasonContradiction},
		"code of one, tax code of another":    {candidates{byCode: []string{a}, byTax: []string{c}}, "", "", reasonContradiction},
		"shared code, the buyer decides":      {candidates{byCode: []string{a, b, c}, byVAT: []string{b}}, b, byCodeAndBuyer, ""},
		"shared code, buyer of two tenants":   {candidates{byCode: []string{a, b, c}, byVAT: []string{b, c}}, "", "", reasonAmbiguous},
		"shared code, VAT group":              {candidates{byCode: []string{a, b}, byVAT: []string{a, b}, byTax: []string{b}}, b, byCodeAndBuyer, ""},
		"shared code, nobody is the buyer":    {candidates{byCode: []string{a, b}}, "", "", reasonAmbiguous},
		"certified address":                   {candidates{byPEC: []string{a}}, a, byPEC, ""},
		"a code comes before an address":      {candidates{byCode: []string{a}, byPEC: []string{b}}, a, byCode, ""},
		"VAT number alone":                    {candidates{byVAT: []string{c}}, c, byBuyerVAT, ""},
		"VAT number before tax code":          {candidates{byVAT: []string{c}, byTax: []string{a}}, c, byBuyerVAT, ""},
		"tax code alone":                      {candidates{byTax: []string{c}}, c, byBuyerTax, ""},
		"one VAT number of two tenants":       {candidates{byVAT: []string{a, c}}, "", "", reasonAmbiguous},
		"VAT group, the tax code tells apart": {candidates{byVAT: []string{a, b}, byTax: []string{b}}, b, byBuyerVAT, ""},
		"nobody":                              {candidates{code: "ABC1234", identified: "IT1"}, "", "", reasonUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			company, by, why := route(tc.in)
			require.Equal(t, tc.company, company)
			require.Equal(t, tc.by, by)
			require.Equal(t, tc.why, why.code)
			require.Equal(t, why.code == "", why.text == "", "a reason has words")
		})
	}
}

// Whatever tenancy answers, a file goes to a company that was a candidate, or to quarantine with a reason,
// and the order of the answer plays no part.
func TestRouteInvents(t *testing.T) {
	all := []string{"tenants/t/companies/a", "tenants/t/companies/b", "tenants/u/companies/a"}
	some := func(t *rapid.T, name string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, len(all), rapid.ID[string]).Draw(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := candidates{byCode: some(t, "code"), byPEC: some(t, "pec"), byVAT: some(t, "vat"), byTax: some(t, "tax")}
		company, by, why := route(c)
		if (company == "") != (why.code != "") || (company == "") != (by == "") {
			t.Fatalf("%q %q %q", company, by, why)
		}
		known := slices.Concat(c.byCode, c.byPEC, c.byVAT, c.byTax)
		if company != "" && !slices.Contains(known, company) {
			t.Fatalf("%q is none of %v", company, known)
		}
		for _, list := range [][]string{c.byCode, c.byPEC, c.byVAT, c.byTax} {
			slices.Reverse(list)
		}
		again, _, whyAgain := route(c)
		if again != company || whyAgain.code != why.code {
			t.Fatalf("%q and %q by order alone", company, again)
		}
	})
}

func TestAddress(t *testing.T) {
	require.Equal(t, []string{"ABC1234", "XYZ9876"}, addressOf("ABC1234", "XYZ9876", "", "", "").codes, "where SdI delivered comes first")
	require.Equal(t, []string{"XYZ9876"}, addressOf("0000000", "XYZ9876", "", "", "").codes)
	require.Equal(t, []string{"UFABC1"}, addressOf("UFABC1", "UFABC1", "", "", "").codes)
	require.Empty(t, addressOf("XXXXXXX", "", "", "", "").codes, "a foreign buyer's code is nobody's")
	require.Empty(t, addressOf("'; --", "abcdefg", "", "", "").codes, "what is no code is not asked for")
}

func TestInboundState(t *testing.T) {
	taken := func(p int32) outcomeFact { return outcomeFact{p, outcomeTaken} }
	for name, tc := range map[string]struct {
		format   string
		bodies   int
		expired  bool
		outcomes []outcomeFact
		want     string
	}{
		"private":                      {"FPR12", 1, false, nil, inboundReceived},
		"private, a notice by mistake": {"FPR12", 1, true, nil, inboundReceived},
		"public":                       {"FPA12", 1, false, nil, inboundAwaiting},
		"refused by SdI is no answer":  {"FPA12", 1, false, []outcomeFact{{1, outcomeRefused}, {1, outcomePending}, {1, outcomeUnknown}}, inboundAwaiting},
		"answered":                     {"FPA12", 1, false, []outcomeFact{{1, outcomeRefused}, taken(1)}, inboundAnswered},
		"whole lot answered":           {"FPA12", 3, false, []outcomeFact{taken(0)}, inboundAnswered},
		"part of a lot":                {"FPA12", 3, false, []outcomeFact{taken(1), taken(3)}, inboundAwaiting},
		"part of a lot, term over":     {"FPA12", 3, true, []outcomeFact{taken(1), taken(3)}, inboundExpired},
		"answered, then a notice":      {"FPA12", 1, true, []outcomeFact{taken(1)}, inboundAnswered},
		"unreadable, whole file":       {"FPA12", 0, false, []outcomeFact{taken(0)}, inboundAnswered},
		"unreadable":                   {"FPA12", 0, false, nil, inboundAwaiting},
	} {
		require.Equal(t, tc.want, inboundStateOf(tc.format, tc.bodies, tc.expired, tc.outcomes), name)
	}
}

func TestAnswerBy(t *testing.T) {
	// Received late in the evening of the 1st in Italy, which is still the 1st of March in UTC.
	got := answerBy("FPA12", time.Date(2026, 3, 1, 22, 30, 0, 0, time.UTC))
	require.Equal(t, "2026-03-16T23:00:00Z", got.Format(time.RFC3339), "the 16th ends at midnight in Italy")
	got = answerBy("FPA12", time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC))
	require.Equal(t, "2026-04-04T22:00:00Z", got.Format(time.RFC3339), "summer time began meanwhile")
	require.Nil(t, answerBy("FPR12", time.Now()))
}
