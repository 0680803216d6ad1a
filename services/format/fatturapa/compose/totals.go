package compose

import (
	"math/big"
	"slices"
	"strings"
)

// lineSum is a line with its amounts.
type lineSum struct {
	path      string
	req       *Line
	discounts []discountSum
	price     *big.Rat
	total     *big.Rat // PrezzoTotale, already rounded as it is written
	vat       vatKey
}

// discountSum is one ScontoMaggiorazione; exactly one of the two is set.
type discountSum struct {
	surcharge       bool
	percent, amount *big.Rat
}

// fundSum is a fund with its amounts.
type fundSum struct {
	path               string
	req                *Fund
	rate, base, amount *big.Rat
	vat                vatKey
}

// vatKey is what lines and funds of one summary have in common.
type vatKey struct {
	rate                       *big.Rat
	nature, collect, reference string
}

// summarySum is one DatiRiepilogo.
type summarySum struct {
	vat      vatKey
	exact    *big.Rat // sum of what is written in lines and funds
	taxable  *big.Rat // to the cent
	tax      *big.Rat
	rounding *big.Rat // taxable less exact
}

// computeTotals fills in every amount of an ordinary document. Sums are exact and
// summaries are sorted by their key, so the order of lines changes nothing.
func (c *composer) computeTotals() {
	c.sumLines()
	c.sumFunds()
	c.stampDuty()
	c.sumSummaries()
	c.sumWithholdings()
	c.sumDocument()
}

func (c *composer) sumLines() {
	mode := c.req.Document.LineRounding
	if mode != "" && mode != RoundLines && mode != RoundSummaries {
		c.fail("$.document.lineRounding", mode+" is no way to round", "use line or summary")
	}
	if k := c.req.Document.Collectability; k != "" && !in(collectabilities, k) {
		c.fail("$.document.collectability", k+" is no code of EsigibilitaIVA", "use I, D or S")
	}
	for i := range c.req.Lines {
		l := &c.req.Lines[i]
		s := lineSum{path: at("$.lines", i), req: l}
		c.priceLine(&s)
		if l.VATAmount != "" {
			c.fail(s.path+".vatAmount", "is for simplified documents", "give vatRate")
		}
		s.vat = c.vat(s.path, l.VATRate, l.Nature, l.LegalReference, l.Collectability)
		c.checkVAT(s.path, s.vat, "00400", "00401", c.docType == "TD16")
		if c.docType == "TD21" && s.vat.rate.Sign() == 0 {
			c.refuse("00474", s.path+".vatRate", "is zero", "a TD21 states the VAT that is due: give its rate")
		}
		c.lines = append(c.lines, s)
	}
}

// priceLine computes the total of a line: discounts lower the price of one unit,
// each what the ones before left, and nothing is rounded before the end.
//
// spec: Elenco-2.0, control 00423
func (c *composer) priceLine(s *lineSum) {
	l := s.req
	s.price, s.total = new(big.Rat), new(big.Rat)
	if l.UnitPrice == "" {
		c.missing(s.path+".unitPrice", "PrezzoUnitario")
		return
	}
	price := c.number(s.path+".unitPrice", l.UnitPrice, 8)
	s.discounts = c.discounts("00438", s.path+".discounts", l.Discounts)
	quantity := big.NewRat(1, 1)
	if l.Quantity != "" {
		quantity = c.positive(s.path+".quantity", l.Quantity, 8)
	}
	if price == nil || quantity == nil {
		return
	}
	s.price = price
	decimals := 2
	if c.req.Document.LineRounding == RoundSummaries {
		decimals = 8
	}
	s.total = rounded(new(big.Rat).Mul(discounted(price, s.discounts), quantity), decimals)
	c.computed(s.path, s.total)
}

// discounts reads a list of discounts; code is the control that looks at it.
func (c *composer) discounts(code, path string, list []Discount) []discountSum {
	if len(list) > 50 {
		c.fail(path, "more than 50 discounts", "merge them")
		return nil
	}
	var out []discountSum
	for i := range list {
		p := at(path, i)
		d := discountSum{surcharge: list[i].Surcharge}
		switch {
		case (list[i].Percent == "") == (list[i].Amount == ""):
			c.refuse(code, p, "must have one of percent and amount", "give one of the two")
			continue
		case list[i].Percent != "":
			d.percent = c.percent(p+".percent", list[i].Percent)
		default:
			d.amount = c.positive(p+".amount", list[i].Amount, 8)
		}
		if d.percent != nil || d.amount != nil {
			out = append(out, d)
		}
	}
	return out
}

// discounted applies discounts in their order.
func discounted(price *big.Rat, list []discountSum) *big.Rat {
	for _, d := range list {
		delta := d.amount
		if delta == nil {
			delta = percentOf(price, d.percent)
		}
		if d.surcharge {
			price = plus(price, delta)
		} else {
			price = minus(price, delta)
		}
	}
	return price
}

// vat reads what decides on the summary.
func (c *composer) vat(path string, rate Number, nature, reference, collect string) vatKey {
	k := vatKey{rate: c.vatRate(path+".vatRate", rate), nature: nature, collect: collect}
	k.reference = c.clean(path+".legalReference", reference, latin1, 100)
	if collect != "" && !in(collectabilities, collect) {
		c.fail(path+".collectability", collect+" is no code of EsigibilitaIVA", "use I, D or S")
	}
	if collect == "" && k.rate.Sign() > 0 {
		k.collect = c.req.Document.Collectability
	}
	return k
}

// checkVAT compares rate and nature.
func (c *composer) checkVAT(path string, k vatKey, codeWithout, codeWith string, both bool) {
	list := natures
	if c.format == SimplifiedFormat {
		list = simplifiedNature
	}
	switch {
	case k.nature == "" && k.rate.Sign() == 0:
		c.refuse(codeWithout, path+".nature", "is missing while the VAT rate is zero", "give the vatRate, or the nature of an operation without VAT")
	case k.nature != "" && !in(list, k.nature):
		c.fail(path+".nature", k.nature+" is no nature", "use one of "+strings.Join(list, ", "))
	case k.nature != "" && k.rate.Sign() != 0 && !both:
		c.refuse(codeWith, path+".nature", "is given together with a VAT rate", "leave one of the two out")
	}
	if strings.HasPrefix(k.nature, "N6") && k.collect == "S" {
		c.refuse("00420", path+".collectability", "is split payment for a reverse charge", "leave it out where the nature is N6")
	}
}

func (c *composer) sumFunds() {
	base := new(big.Rat)
	for i := range c.lines {
		if c.lines[i].vat.nature != "N1" {
			base = plus(base, c.lines[i].total)
		}
	}
	for i := range c.req.Funds {
		f := &c.req.Funds[i]
		s := fundSum{path: at("$.funds", i), req: f, base: rounded(base, 2)}
		if f.Base != "" {
			s.base = c.number(s.path+".base", f.Base, 2)
		}
		if f.Rate == "" {
			c.missing(s.path+".rate", "AlCassa")
		}
		s.rate = c.percent(s.path+".rate", f.Rate)
		if s.base == nil || s.rate == nil {
			s.base, s.rate = new(big.Rat), new(big.Rat)
		}
		s.amount = rounded(percentOf(s.base, s.rate), 2)
		c.computed(s.path, s.amount)
		s.vat = c.vat(s.path, f.VATRate, f.Nature, f.LegalReference, f.Collectability)
		c.checkVAT(s.path, s.vat, "00413", "00414", false)
		c.funds = append(c.funds, s)
	}
}

// sumSummaries groups lines and funds. What is written in a summary agrees with
// what is written in lines and funds to the last digit: 00421, 00422, 00419,
// 00443 and 00444 hold by construction.
func (c *composer) sumSummaries() {
	index := map[string]int{}
	add := func(k vatKey, amount *big.Rat) {
		key := strings.Join([]string{k.rate.String(), k.nature, k.collect, k.reference}, "\x00")
		i, ok := index[key]
		if !ok {
			i = len(c.summaries)
			index[key] = i
			c.summaries = append(c.summaries, summarySum{vat: k, exact: new(big.Rat)})
		}
		c.summaries[i].exact = plus(c.summaries[i].exact, amount)
	}
	for i := range c.lines {
		add(c.lines[i].vat, c.lines[i].total)
	}
	for i := range c.funds {
		add(c.funds[i].vat, c.funds[i].amount)
	}
	for i := range c.summaries {
		s := &c.summaries[i]
		s.taxable = rounded(s.exact, 2)
		s.rounding = minus(s.taxable, s.exact)
		s.tax = rounded(percentOf(s.taxable, s.vat.rate), 2)
	}
	slices.SortFunc(c.summaries, func(a, b summarySum) int {
		if r := b.vat.rate.Cmp(a.vat.rate); r != 0 {
			return r
		}
		return strings.Compare(a.vat.nature+"\x00"+a.vat.collect+"\x00"+a.vat.reference, b.vat.nature+"\x00"+b.vat.collect+"\x00"+b.vat.reference)
	})
}

// sumWithholdings computes what the buyer keeps back from the marked lines and
// funds.
func (c *composer) sumWithholdings() {
	base, marked := new(big.Rat), false
	for i := range c.lines {
		if c.lines[i].req.Withholding {
			base, marked = plus(base, c.lines[i].total), true
			if len(c.req.Withholdings) == 0 {
				c.refuse("00411", c.lines[i].path+".withholding", "is set but there is no withholding", "give withholdings, or unset it")
			}
		}
	}
	for i := range c.funds {
		if c.funds[i].req.Withholding {
			base, marked = plus(base, c.funds[i].amount), true
			if len(c.req.Withholdings) == 0 {
				c.refuse("00415", c.funds[i].path+".withholding", "is set but there is no withholding", "give withholdings, or unset it")
			}
		}
	}
	if len(c.req.Withholdings) > 0 && !marked {
		c.fail("$.withholdings", "no line or fund is subject to it", "set withholding on the lines and funds it applies to")
	}
	for i := range c.req.Withholdings {
		w := &c.req.Withholdings[i]
		path := at("$.withholdings", i)
		if w.Rate == "" {
			c.missing(path+".rate", "AliquotaRitenuta")
		}
		rate, part := c.percent(path+".rate", w.Rate), big.NewRat(100, 1)
		if w.BasePercent != "" {
			part = c.percent(path+".basePercent", w.BasePercent)
		}
		amount := new(big.Rat)
		if rate != nil && part != nil {
			amount = rounded(percentOf(percentOf(base, part), rate), 2)
		}
		c.withheld = append(c.withheld, amount)
	}
}

// sumDocument adds up the document and fills in the report.
func (c *composer) sumDocument() {
	taxable, tax, split, withheld := new(big.Rat), new(big.Rat), new(big.Rat), new(big.Rat)
	t := &c.report.Totals
	for i := range c.summaries {
		s := &c.summaries[i]
		taxable, tax = plus(taxable, s.taxable), plus(tax, s.tax)
		if s.vat.collect == "S" {
			split = plus(split, s.tax)
		}
		out := Summary{Rate: money(s.vat.rate), Nature: s.vat.nature, Collectability: s.vat.collect, LegalReference: s.vat.reference,
			Taxable: money(s.taxable), Tax: money(s.tax)}
		if s.rounding.Sign() != 0 {
			out.Rounding = fixed(s.rounding, 2, 8)
		}
		t.Summaries = append(t.Summaries, out)
	}
	for _, w := range c.withheld {
		withheld = plus(withheld, w)
	}
	c.total = rounded(discounted(plus(taxable, tax), c.discounts("00437", "$.document.discounts", c.req.Document.Discounts)), 2)
	if r := c.number("$.document.rounding", c.req.Document.Rounding, 2); r != nil {
		c.total = plus(c.total, r)
	}
	c.payable = minus(minus(c.total, split), withheld)
	t.Taxable, t.Tax, t.SplitTax = c.computed("$.lines", taxable), c.computed("$.lines", tax), money(split)
	t.Withholdings, t.Document, t.Payable = money(withheld), c.computed("$.lines", c.total), money(c.payable)
	if c.total.Sign() < 0 {
		if c.docType == "TD04" {
			c.advise("$.lines", "the total of the credit note is below zero: amounts of a credit note are as a rule written without sign")
		} else {
			c.advise("$.lines", "the total is below zero: a credit note (TD04) is the usual form")
		}
	}
}
