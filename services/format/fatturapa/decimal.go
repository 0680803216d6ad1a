package fatturapa

import (
	"math/bits"
	"strings"
	"time"
)

// Decimal is an exact decimal number: a coefficient below 2^128 and a number of
// decimals between 0 and 38. The zero Decimal is "absent": IsSet is false. An
// element whose text is no number gives a Decimal that IsSet but is not Valid;
// its text is still in the tree. Decimal is comparable only with Cmp: 1.0 and
// 1.00 are different values of the type and the same number.
//
// Money is never a float in this package.
type Decimal struct {
	hi, lo uint64 // coefficient, without sign
	scale  uint8  // decimals
	flags  uint8
}

const (
	decSet uint8 = 1 << iota
	decInvalid
	decNegative
)

const maxScale = 38

// ParseDecimal reads the lexical form of xs:decimal: an optional sign, digits,
// and an optional point with digits; no exponent and no white space. ok is false
// when s is something else or needs more than 128 bits.
func ParseDecimal(s string) (d Decimal, ok bool) {
	bad := Decimal{flags: decSet | decInvalid}
	d.flags = decSet
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		if s[i] == '-' {
			d.flags |= decNegative
		}
		i++
	}
	digits, point := 0, -1
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && point < 0 {
			point = i
			continue
		}
		if c -= '0'; c > 9 {
			return bad, false
		}
		digits++
		if d.hi == 0 && d.lo < (1<<64-10)/10 {
			d.lo = d.lo*10 + uint64(c)
			continue
		}
		if !d.push(c) {
			return bad, false
		}
	}
	if digits == 0 {
		return bad, false
	}
	if point >= 0 {
		n := len(s) - point - 1
		if n > maxScale {
			return bad, false
		}
		d.scale = uint8(n)
	}
	return d, true
}

// push appends one digit to the coefficient; false when it no longer fits.
func (d *Decimal) push(digit byte) bool {
	hh, hl := bits.Mul64(d.hi, 10)
	lh, ll := bits.Mul64(d.lo, 10)
	if hh != 0 {
		return false
	}
	var c uint64
	d.lo, c = bits.Add64(ll, uint64(digit), 0)
	d.hi, c = bits.Add64(hl, lh, c)
	return c == 0
}

// DecimalFromInt returns coef / 10^scale, for scale up to 38.
func DecimalFromInt(coef int64, scale uint8) Decimal {
	d := Decimal{lo: uint64(coef), scale: min(scale, maxScale), flags: decSet}
	if coef < 0 {
		d.lo = -d.lo
		d.flags |= decNegative
	}
	return d
}

// IsSet reports whether the element was there at all.
func (d Decimal) IsSet() bool { return d.flags&decSet != 0 }

// Valid reports whether the value is a number.
func (d Decimal) Valid() bool { return d.flags&(decSet|decInvalid) == decSet }

// IsZero reports whether the value is a number and that number is zero.
func (d Decimal) IsZero() bool { return d.Valid() && d.hi|d.lo == 0 }

// Sign returns -1, 0 or 1; 0 for an absent or invalid value.
func (d Decimal) Sign() int {
	if !d.Valid() || d.hi|d.lo == 0 {
		return 0
	}
	if d.flags&decNegative != 0 {
		return -1
	}
	return 1
}

// Neg returns -d.
func (d Decimal) Neg() Decimal { d.flags ^= decNegative; return d }

// Abs returns the value without its sign.
func (d Decimal) Abs() Decimal { d.flags &^= decNegative; return d }

// Scale returns the number of decimals.
func (d Decimal) Scale() int { return int(d.scale) }

// String writes the number with all its decimals; "" when absent or invalid.
func (d Decimal) String() string {
	if !d.Valid() {
		return ""
	}
	var buf [44]byte
	i := len(buf)
	hi, lo := d.hi, d.lo
	for n := 0; n <= int(d.scale) || hi|lo != 0; n++ {
		if n == int(d.scale) && n > 0 {
			i--
			buf[i] = '.'
		}
		var r uint64
		hi, r = hi/10, hi%10
		lo, r = bits.Div64(r, lo, 10)
		i--
		buf[i] = byte('0' + r)
	}
	if d.Sign() < 0 {
		i--
		buf[i] = '-'
	}
	return string(buf[i:])
}

// rescaled returns the same number with more decimals; false when it no longer fits.
func (d Decimal) rescaled(scale uint8) (Decimal, bool) {
	for d.scale < scale {
		if !d.push(0) {
			return d, false
		}
		d.scale++
	}
	return d, true
}

// aligned brings two numbers to the same number of decimals.
func aligned(a, b Decimal) (Decimal, Decimal, bool) {
	ok := true
	switch {
	case a.scale < b.scale:
		a, ok = a.rescaled(b.scale)
	case b.scale < a.scale:
		b, ok = b.rescaled(a.scale)
	}
	return a, b, ok
}

// Add returns a+b. Absent counts as zero. ok is false when one value is invalid
// or the sum does not fit.
func (d Decimal) Add(b Decimal) (sum Decimal, ok bool) {
	if (d.flags|b.flags)&decInvalid != 0 {
		return Decimal{flags: decSet | decInvalid}, false
	}
	a, b, ok := aligned(d, b)
	if !ok {
		return Decimal{flags: decSet | decInvalid}, false
	}
	sum = Decimal{scale: a.scale, flags: decSet}
	if (a.flags^b.flags)&decNegative == 0 {
		var c uint64
		sum.lo, c = bits.Add64(a.lo, b.lo, 0)
		sum.hi, c = bits.Add64(a.hi, b.hi, c)
		sum.flags |= a.flags & decNegative
		return sum, c == 0
	}
	if a.hi < b.hi || a.hi == b.hi && a.lo < b.lo {
		a, b = b, a
	}
	var c uint64
	sum.lo, c = bits.Sub64(a.lo, b.lo, 0)
	sum.hi, _ = bits.Sub64(a.hi, b.hi, c)
	sum.flags |= a.flags & decNegative
	return sum, true
}

// Sub returns a-b, as Add.
func (d Decimal) Sub(b Decimal) (Decimal, bool) { return d.Add(b.Neg()) }

// Mul returns a*b exactly. ok is false when a value is absent or invalid or the
// product does not fit in 128 bits: then use math/big.
func (d Decimal) Mul(b Decimal) (Decimal, bool) {
	bad := Decimal{flags: decSet | decInvalid}
	if !d.Valid() || !b.Valid() || d.scale+b.scale > maxScale || d.hi != 0 && b.hi != 0 {
		return bad, false
	}
	p := Decimal{scale: d.scale + b.scale, flags: decSet | (d.flags^b.flags)&decNegative}
	if b.hi != 0 {
		d, b = b, d
	}
	var over, carry uint64
	p.hi, p.lo = bits.Mul64(d.lo, b.lo)
	over, cross := bits.Mul64(d.hi, b.lo)
	p.hi, carry = bits.Add64(p.hi, cross, 0)
	if over|carry != 0 {
		return bad, false
	}
	return p, true
}

// Cmp returns -1, 0 or 1 as d is less than, equal to or greater than b. Absent
// and invalid values count as zero: ask Valid first where it matters.
func (d Decimal) Cmp(b Decimal) int {
	sa, sb := d.Sign(), b.Sign()
	if sa != sb || sa == 0 {
		return sa - sb - (sa-sb)/2
	}
	a, c, ok := aligned(d, b)
	r := 0
	switch {
	case !ok: // aligning overflowed: the one with fewer decimals is larger
		r = 1
		if d.scale > b.scale {
			r = -1
		}
	case a.hi != c.hi:
		r = cmpUint(a.hi, c.hi)
	default:
		r = cmpUint(a.lo, c.lo)
	}
	return r * sa
}

func cmpUint(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Round returns the number with the given decimals, a half rounded away from
// zero: the third decimal below 5 goes down, from 5 goes up.
//
// spec: AllA-1.9 App.1, control 00421 (for positive amounts; for negative ones
// the texts are silent and the tolerance of the control hides the choice)
func (d Decimal) Round(scale uint8) Decimal {
	if !d.Valid() {
		return d
	}
	if d.scale <= scale {
		r, ok := d.rescaled(scale)
		if !ok {
			return d
		}
		return r
	}
	var last uint64
	for d.scale > scale {
		var r uint64
		d.hi, r = d.hi/10, d.hi%10
		d.lo, last = bits.Div64(r, d.lo, 10)
		d.scale--
	}
	if last >= 5 {
		var c uint64
		d.lo, c = bits.Add64(d.lo, 1, 0)
		d.hi += c
	}
	return d
}

// Date is a calendar date as the file writes it: xs:date, possibly with a time
// zone. "" when absent.
type Date string

// YMD returns the parts of the date; ok is false when it is absent or no date.
func (d Date) YMD() (year, month, day int, ok bool) {
	s := strings.TrimSpace(string(d))
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return 0, 0, 0, false
	}
	year, ok1 := digits(s[0:4])
	month, ok2 := digits(s[5:7])
	day, ok3 := digits(s[8:10])
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 || day > 31 {
		return 0, 0, 0, false
	}
	return year, month, day, true
}

// Ordinal returns year*10000+month*100+day, for comparing; 0 when it is no date.
func (d Date) Ordinal() int {
	y, m, dd, ok := d.YMD()
	if !ok {
		return 0
	}
	return y*10000 + m*100 + dd
}

// Time returns midnight UTC of the day; ok is false when there is no such day.
func (d Date) Time() (t time.Time, ok bool) {
	y, m, day, ok := d.YMD()
	if !ok {
		return time.Time{}, false
	}
	t = time.Date(y, time.Month(m), day, 0, 0, 0, 0, time.UTC)
	return t, t.Day() == day
}

// digits reads a short run of ASCII digits.
func digits(s string) (int, bool) {
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int(c)
	}
	return n, len(s) > 0 && len(s) < 10
}
