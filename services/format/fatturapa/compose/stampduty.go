package compose

import (
	"math/big"
	"strings"
)

// Stamp duty is due on documents with more than this outside VAT.
//
// spec: DPR 642/72, tariff, art. 13
var stampThreshold = big.NewRat(7747, 100)

// stampNatures are the operations outside VAT that count. Exports, supplies
// within the Union and reverse charges are exempt from the duty.
var stampNatures = codes("N1 N2.1 N2.2 N3.5 N3.6 N4")

// stampDuty suggests the duty and does what was asked for, never more. The
// threshold is compared with the amounts as they are written: no exchange rate is
// known here, and the advice says so.
func (c *composer) stampDuty() {
	base := new(big.Rat)
	exempt := in(selfBilling, c.docType) || c.docType == "TD21" || c.docType == "TD27"
	for i := range c.lines {
		if in(stampNatures, c.lines[i].vat.nature) {
			base = plus(base, c.lines[i].total)
		}
		for _, x := range c.lines[i].req.Extra {
			exempt = exempt || in([]string{"NB1", "NB2", "NB3"}, strings.ToUpper(strings.TrimSpace(x.Type)))
		}
	}
	for i := range c.funds {
		if in(stampNatures, c.funds[i].vat.nature) {
			base = plus(base, c.funds[i].amount)
		}
	}
	out := &c.report.StampDuty
	out.Base = money(base)
	if !exempt && new(big.Rat).Abs(base).Cmp(stampThreshold) > 0 {
		out.Suggested = "2.00"
	}
	s := c.req.StampDuty
	switch {
	case s == nil && out.Suggested != "":
		text := "stamp duty of 2.00 seems due: " + out.Base + " outside VAT is above 77.47; give stampDuty with practice absorbed or recharged"
		if k := c.req.Document.Currency; k != "" && k != "EUR" {
			text += " (the amounts are in " + k + ": compare them in euro)"
		}
		c.advise("$.stampDuty", text)
		return
	case s == nil:
		return
	case out.Suggested == "":
		c.advise("$.stampDuty", "stamp duty is written although the amounts do not ask for it")
	}
	amount := c.positive("$.stampDuty.amount", s.Amount, 2)
	if amount == nil {
		amount = big.NewRat(2, 1)
	}
	out.Amount, out.Practice = money(amount), s.Practice
	switch s.Practice {
	case "", Absorbed:
		out.Practice = Absorbed
	case Recharged:
		c.rechargeStamp(s, amount)
	default:
		c.fail("$.stampDuty.practice", s.Practice+" is no practice", "use absorbed or recharged")
	}
}

// rechargeStamp adds the line with which the buyer pays the duty back.
func (c *composer) rechargeStamp(s *StampDuty, amount *big.Rat) {
	l := Line{Description: s.Description, UnitPrice: Number(money(amount)), Nature: s.Nature, LegalReference: s.LegalReference}
	if l.Nature == "" {
		l.Nature = "N1"
	}
	if l.Description == "" {
		l.Description = "Imposta di bollo"
	}
	if l.LegalReference == "" && l.Nature == "N1" {
		l.LegalReference = "Art. 15 DPR 633/72"
	}
	sum := lineSum{path: "$.stampDuty", req: &l, price: amount, total: amount}
	sum.vat = c.vat(sum.path, "", l.Nature, l.LegalReference, "")
	c.checkVAT(sum.path, sum.vat, "00400", "00401", false)
	if c.docType == "TD21" {
		c.refuse("00474", "$.stampDuty.practice", "adds a line without VAT to a TD21", "use absorbed")
	}
	if len(c.lines) >= maxLines {
		c.fail("$.stampDuty.practice", "adds a line beyond the last number", "divide the document")
	}
	c.lines = append(c.lines, sum)
}
