package compose

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
)

// Number is an exact decimal number as text: an optional minus, digits, and
// optionally a point with digits. In JSON it may be a string or a plain number;
// its digits are kept as they are written, never through binary floating point.
type Number string

// UnmarshalJSON reads a string or the literal of a number.
func (n *Number) UnmarshalJSON(raw []byte) error {
	s := string(raw)
	if s == "null" {
		return nil
	}
	if strings.HasPrefix(s, `"`) {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return fmt.Errorf("number %s: %w", s, err)
		}
		s = text
	} else if s == "" || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
		return fmt.Errorf("%s is no number: write it as \"12.50\"", s)
	}
	*n = Number(s)
	return nil
}

// parseNumber reads a number of at most whole digits and decimals.
func parseNumber(s string, whole, decimals int) (*big.Rat, bool) {
	rest := strings.TrimPrefix(s, "-")
	ints, frac, point := strings.Cut(rest, ".")
	if ints == "" || point && frac == "" {
		return nil, false
	}
	for _, part := range []string{ints, frac} {
		for i := range len(part) {
			if part[i] < '0' || part[i] > '9' {
				return nil, false
			}
		}
	}
	if len(strings.TrimLeft(ints, "0")) > whole || len(strings.TrimRight(frac, "0")) > decimals || len(s) > 64 {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// fixed writes a number rounded to the most decimals and with at least the least
// ones. A half is rounded away from zero; zero has no sign.
//
// spec: AllA-1.9 App.1, control 00421
func fixed(r *big.Rat, least, most int) string {
	s := r.FloatString(most)
	for range most - least {
		if !strings.HasSuffix(s, "0") {
			break
		}
		s = s[:len(s)-1]
	}
	if strings.HasPrefix(s, "-") && strings.Trim(s, "-0.") == "" {
		s = s[1:]
	}
	return s
}

// money writes an amount with two decimals.
func money(r *big.Rat) string { return fixed(r, 2, 2) }

// rounded returns a number with the given decimals, halves away from zero.
func rounded(r *big.Rat, decimals int) *big.Rat {
	out, _ := new(big.Rat).SetString(r.FloatString(decimals))
	return out
}

// percentOf returns r*percent/100, exactly.
func percentOf(r, percent *big.Rat) *big.Rat {
	out := new(big.Rat).Mul(r, percent)
	return out.Quo(out, big.NewRat(100, 1))
}

func plus(a, b *big.Rat) *big.Rat  { return new(big.Rat).Add(a, b) }
func minus(a, b *big.Rat) *big.Rat { return new(big.Rat).Sub(a, b) }

// fits reports whether an amount has at most eleven digits before the point, as
// the format asks.
func fits(r *big.Rat) bool {
	return new(big.Rat).Abs(r).Cmp(maxAmount) < 0
}

// maxAmount is 10^11 less half a cent, so that rounding stays within.
var maxAmount = new(big.Rat).Sub(big.NewRat(100_000_000_000, 1), big.NewRat(1, 100))
