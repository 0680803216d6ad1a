package compose

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// text writes an optional element of free text, transliterated.
func (c *composer) text(name, path, value string, set alphabet, limit int) {
	c.w.el(name, c.clean(path, value, set, limit))
}

// needText writes a required element of free text.
func (c *composer) needText(name, path, value string, set alphabet, limit int) {
	if strings.TrimSpace(value) == "" {
		c.missing(path, name)
		return
	}
	out := c.clean(path, value, set, limit)
	if out == "" {
		c.fail(path, "no character of the text can be written", "give a text in Latin letters")
	}
	c.w.el(name, out)
}

func (c *composer) missing(path, name string) {
	c.fail(path, "is missing", "give it: "+name+" is required")
}

// clean transliterates, reports and checks the length.
func (c *composer) clean(path, value string, set alphabet, limit int) string {
	if !utf8.ValidString(value) {
		c.fail(path, "the text is not UTF-8", "send the request in UTF-8")
		return ""
	}
	out, changed := transliterate(value, set)
	if changed {
		reason := "the format takes Latin-1 only"
		if set == ascii {
			reason = "the field takes ASCII only"
		}
		c.changed(path, value, out, reason)
	}
	if n := utf8.RuneCountInString(out); n > limit {
		c.fail(path, "the text has "+strconv.Itoa(n)+" characters, after transliteration", "shorten it to "+strconv.Itoa(limit))
	}
	return out
}

// identifier writes an optional element that other systems compare letter by
// letter: it is refused rather than transliterated.
func (c *composer) identifier(name, path, value string, limit int) {
	if value == "" {
		return
	}
	if !plain(value, ascii) || strings.TrimSpace(value) != value {
		c.fail(path, strconv.Quote(value)+" has characters other than ASCII, or spaces around it", "use letters without accents, digits and plain signs: identifiers are not transliterated")
	} else if len(value) > limit {
		c.fail(path, strconv.Quote(value)+" has "+strconv.Itoa(len(value))+" characters", "at most "+strconv.Itoa(limit)+" are allowed")
	}
	c.w.el(name, value)
}

func (c *composer) needIdentifier(name, path, value string, limit int) {
	if value == "" {
		c.missing(path, name)
		return
	}
	c.identifier(name, path, value, limit)
}

// code writes an optional element of a closed list.
func (c *composer) code(name, path, value string, list []string) {
	if value == "" {
		return
	}
	if !in(list, value) {
		c.fail(path, strconv.Quote(value)+" is no code of "+name, "use one of "+strings.Join(list, ", "))
	}
	c.w.el(name, value)
}

func (c *composer) needCode(name, path, value string, list []string) {
	if value == "" {
		c.fail(path, "is missing", "use one of "+strings.Join(list, ", "))
		return
	}
	c.code(name, path, value, list)
}

var (
	upper2     = regexp.MustCompile(`^[A-Z]{2}$`)
	upper3     = regexp.MustCompile(`^[A-Z]{3}$`)
	fiveNum    = regexp.MustCompile(`^[0-9]{5}$`)
	vatText    = regexp.MustCompile(`^[A-Za-z0-9+*.&/-]{1,28}$`)
	vatIT      = regexp.MustCompile(`^[0-9]{11}$`)
	taxText    = regexp.MustCompile(`^([A-Z0-9]{16}|[0-9]{11})$`)
	ibanText   = regexp.MustCompile(`^[A-Z]{2}[0-9]{2}[A-Za-z0-9]{11,30}$`)
	bicText    = regexp.MustCompile(`^[A-Z]{6}[A-Z2-9][A-NP-Z0-9]([A-Z0-9]{3})?$`)
	systemText = regexp.MustCompile(`^[A-Za-z0-9 _./-]{1,10}$`)
	codePA     = regexp.MustCompile(`^[A-Z0-9]{6}$`)
	codeB2B    = regexp.MustCompile(`^[A-Z0-9]{7}$`)
	mailText   = regexp.MustCompile(`^[!#-'*+/-9=?A-Z^-~-]+(\.[!#-'*+/-9=?A-Z^-~-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	sdiMail    = regexp.MustCompile(`(?i)^sdi[0-9]+@pec\.fatturapa\.it$`)
	phone      = regexp.MustCompile(`^[ -~]{5,12}$`)
	dateTime   = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$`)
)

// shaped writes an optional element with a pattern.
func (c *composer) shaped(name, path, value string, shape *regexp.Regexp, hint string) {
	if value != "" && !shape.MatchString(value) {
		c.fail(path, strconv.Quote(value)+" does not have the form of "+name, hint)
	}
	c.w.el(name, value)
}

func (c *composer) mail(name, path, value string) {
	if len(value) > 256 || value != "" && len(value) < 7 {
		c.fail(path, "an address of "+strconv.Itoa(len(value))+" characters", "7 to 256 are allowed")
	}
	c.shaped(name, path, value, mailText, "give one mail address, such as nome@example.it, in ASCII")
}

// date writes an optional date and reports whether it is one.
func (c *composer) date(name, path, value string) bool {
	if value == "" {
		return false
	}
	d, err := time.Parse(time.DateOnly, value)
	if err != nil || d.Year() < 1970 {
		c.fail(path, strconv.Quote(value)+" is no date", "write year, month and day as 2026-03-31, from 1970 on")
		return false
	}
	c.w.el(name, value)
	return true
}

func (c *composer) needDate(name, path, value string) bool {
	if value == "" {
		c.missing(path, name)
		return false
	}
	return c.date(name, path, value)
}

func (c *composer) moment(name, path, value string) {
	if value == "" {
		return
	}
	if _, err := time.Parse("2006-01-02T15:04:05", value); err != nil || !dateTime.MatchString(value) {
		c.fail(path, strconv.Quote(value)+" is no date with time", "write it as 2026-03-31T09:30:00")
	}
	c.w.el(name, value)
}

// whole writes an optional whole number; zero is left out.
func (c *composer) whole(name, path string, n, most int) {
	if n == 0 {
		return
	}
	if n < 0 || n > most {
		c.fail(path, strconv.Itoa(n)+" is out of range", "1 to "+strconv.Itoa(most)+" are allowed")
	}
	c.w.el(name, strconv.Itoa(n))
}

// lineNumbers writes RiferimentoNumeroLinea.
func (c *composer) lineNumbers(path string, list []int) {
	for i, n := range list {
		if n < 1 || n > len(c.req.Lines) {
			c.fail(at(path, i), "there is no line "+strconv.Itoa(n), "count the lines from 1; the request has "+strconv.Itoa(len(c.req.Lines)))
		}
		c.w.el("RiferimentoNumeroLinea", strconv.Itoa(n))
	}
}

// number reads a number of at most 11 digits and the given decimals; nil when it
// is absent or wrong.
func (c *composer) number(path string, n Number, decimals int) *big.Rat {
	if n == "" {
		return nil
	}
	r, ok := parseNumber(string(n), 11, decimals)
	if !ok {
		c.fail(path, strconv.Quote(string(n))+" is no number that fits", "write digits with a point, at most 11 before it and "+strconv.Itoa(decimals)+" after it, such as 1234.50")
		return nil
	}
	return r
}

// positive is number without a sign.
func (c *composer) positive(path string, n Number, decimals int) *big.Rat {
	r := c.number(path, n, decimals)
	if r != nil && r.Sign() < 0 {
		c.fail(path, strconv.Quote(string(n))+" is below zero", "give it without sign")
		return nil
	}
	return r
}

// percent reads a percentage from 0 to 100 with two decimals.
func (c *composer) percent(path string, n Number) *big.Rat {
	r := c.positive(path, n, 2)
	if r != nil && r.Cmp(big.NewRat(100, 1)) > 0 {
		c.fail(path, string(n)+" is above 100", "give a percentage from 0 to 100")
		return nil
	}
	return r
}

// vatRate reads a VAT rate; absent is zero.
func (c *composer) vatRate(path string, n Number) *big.Rat {
	r := c.percent(path, n)
	if r == nil {
		return new(big.Rat)
	}
	if r.Sign() > 0 && r.Cmp(big.NewRat(1, 1)) < 0 {
		c.refuse("00424", path, string(n)+" is no percentage", "write 22.00 and not 0.22")
	}
	return r
}

// amount writes an optional amount of money.
func (c *composer) amount(name, path string, n Number) {
	if r := c.number(path, n, 2); r != nil {
		c.w.el(name, money(r))
	}
}

// computed checks that a computed amount fits the format.
func (c *composer) computed(path string, r *big.Rat) string {
	if !fits(r) {
		c.fail(path, "the amount "+money(r)+" has more than 11 digits", "divide the document")
	}
	return money(r)
}

// at is the path of an element of a list.
func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
