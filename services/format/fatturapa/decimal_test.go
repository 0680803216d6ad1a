package fatturapa_test

import (
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/fatturapa"
)

func dec(t testing.TB, s string) fatturapa.Decimal {
	t.Helper()
	d, ok := fatturapa.ParseDecimal(s)
	require.True(t, ok, s)
	return d
}

func TestParseDecimal(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "1": "1", "-1.50": "-1.50", "+2.5": "2.5", ".5": "0.5", "5.": "5", "-0.00": "0.00", "007.10": "7.10",
		"99999999999.99999999":                    "99999999999.99999999",
		"999999999999.99999999":                   "999999999999.99999999",
		"340282366920938463463374607431768211455": "340282366920938463463374607431768211455",
	} {
		require.Equal(t, want, dec(t, in).String(), in)
	}
	for _, in := range []string{"", ".", "-", "1,5", "1e5", " 1", "1.2.3", "NaN", "340282366920938463463374607431768211456", "0." + strings.Repeat("0", 39)} {
		d, ok := fatturapa.ParseDecimal(in)
		require.False(t, ok, in)
		require.False(t, d.Valid(), in)
		require.True(t, d.IsSet(), in)
		require.Empty(t, d.String(), in)
	}
	require.False(t, fatturapa.Decimal{}.IsSet())
}

func TestDecimalRound(t *testing.T) {
	for in, want := range map[string]string{
		"1500.2448": "1500.24", "1500.2458": "1500.25", "1500.245": "1500.25", "1500.244999": "1500.24",
		"0.995": "1.00", "-1.005": "-1.01", "-1.004": "-1.00", "7": "7.00", "0.004": "0.00",
	} {
		require.Equal(t, want, dec(t, in).Round(2).String(), in)
	}
}

// drawDecimal draws a number as the format writes them, and the same as a ratio.
func drawDecimal(t *rapid.T, label string) (fatturapa.Decimal, *big.Rat) {
	s := rapid.StringMatching(`-?[0-9]{1,12}\.[0-9]{2,8}`).Draw(t, label)
	d, ok := fatturapa.ParseDecimal(s)
	if !ok {
		t.Fatalf("%s is not parsed", s)
	}
	r, _ := new(big.Rat).SetString(s)
	return d, r
}

func ratOf(t *rapid.T, d fatturapa.Decimal) *big.Rat {
	r, ok := new(big.Rat).SetString(d.String())
	if !ok {
		t.Fatalf("%q is no number", d.String())
	}
	return r
}

func TestDecimalAgreesWithBigRat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, ra := drawDecimal(t, "a")
		b, rb := drawDecimal(t, "b")
		if sum, ok := a.Add(b); !ok || ratOf(t, sum).Cmp(new(big.Rat).Add(ra, rb)) != 0 {
			t.Fatalf("%s + %s = %s", a, b, sum)
		}
		if diff, ok := a.Sub(b); !ok || ratOf(t, diff).Cmp(new(big.Rat).Sub(ra, rb)) != 0 {
			t.Fatalf("%s - %s = %s", a, b, diff)
		}
		if p, ok := a.Mul(b); ok && ratOf(t, p).Cmp(new(big.Rat).Mul(ra, rb)) != 0 {
			t.Fatalf("%s * %s = %s", a, b, p)
		}
		if a.Cmp(b) != ra.Cmp(rb) {
			t.Fatalf("cmp %s %s = %d", a, b, a.Cmp(b))
		}
		if want := ra.FloatString(2); a.Round(2).String() != want && want != "-0.00" {
			t.Fatalf("round %s = %s, want %s", a, a.Round(2), want)
		}
	})
}

func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{"1.00", "-99999999999.99999999", "+.5", "1e9", "340282366920938463463374607431768211455"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := fatturapa.ParseDecimal(s)
		if !ok {
			return
		}
		again, ok := fatturapa.ParseDecimal(d.String())
		require.True(t, ok)
		require.Zero(t, d.Cmp(again))
		want, ok := new(big.Rat).SetString(strings.TrimSuffix(s, "."))
		require.True(t, ok)
		got, _ := new(big.Rat).SetString(d.String())
		require.Zero(t, want.Cmp(got))
	})
}
