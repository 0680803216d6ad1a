package fatturapa

import (
	"math/big"
	"strings"
)

// lineRules are about the lines of one document.
var lineRules = []rule{
	{code: "00400", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00400"), each: ruleLineNature,
		message: Text{"Linea con aliquota zero senza Natura", "Line with a rate of zero and no Natura"},
		hint:    Text{"Indicare la Natura dell'operazione", "Give the Natura of the operation"}},
	{code: "00401", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00401"), each: ruleLineNoNature,
		message: Text{"Linea con aliquota diversa da zero e Natura presente", "Line with a rate other than zero and Natura"},
		hint:    Text{"Togliere Natura, o mettere l'aliquota a 0.00", "Remove Natura, or set the rate to 0.00"}},
	{code: "00423", kinds: ordinary, severity: SeverityError, clause: "Elenco-2.0 (00423), AllA-1.9 App.1", each: ruleLineTotal,
		message: Text{"PrezzoTotale non corrisponde a prezzo, sconti e quantità", "PrezzoTotale does not follow from price, discounts and quantity"},
		hint: Text{"PrezzoTotale = (PrezzoUnitario con sconti e maggiorazioni in cascata) per Quantita, con scarto fino a 0.01; gli sconti sono per unità",
			"PrezzoTotale = (PrezzoUnitario with discounts and surcharges in cascade) by Quantita, within 0.01; discounts are per unit"}},
	{code: "00424", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00424"), each: rulePercentRate,
		message: Text{"L'aliquota non è espressa in percentuale", "The rate is not written as a percentage"},
		hint:    Text{"Scrivere 22.00 e non 0.22", "Write 22.00, not 0.22"}},
	{code: "00438", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00438"), each: ruleLineDiscount,
		message: Text{"ScontoMaggiorazione di linea senza Percentuale né Importo", "ScontoMaggiorazione of a line without Percentuale and Importo"},
		hint:    Text{"Indicare Percentuale o Importo, o togliere il blocco", "Give Percentuale or Importo, or remove the block"}},
	{code: "00445", kinds: everyKind, severity: SeverityError, from: 20210101, clause: cite(clauseA, "00445"), each: ruleGenericNature,
		message: Text{"Natura generica non più ammessa dal 2021", "Generic Natura, refused since 2021"},
		hint:    Text{"Usare il codice di dettaglio, ad esempio N2.2, N3.1, N6.3", "Use the detailed code, e.g. N2.2, N3.1, N6.3"}},
	{code: "00474", kinds: ordinary, severity: SeverityError, from: 20210101, clause: cite(clauseA, "00474"), each: rulePlafondRate,
		message: Text{"TD21 non ammette linee con AliquotaIVA zero", "TD21 allows no line with AliquotaIVA zero"},
		hint:    Text{"Nell'autofattura per splafonamento indicare l'aliquota dovuta", "In a self-invoice for plafond overrun give the rate that is due"}},
	{code: "00477", kinds: ordinary, severity: SeverityWarning, clause: "AllA-1.9 App.1 (00477); provv. 96911/2020 on declarations of intent", each: ruleIntentProtocol,
		message: Text{"Il protocollo della dichiarazione d'intento non ha la forma prevista", "The protocol of the declaration of intent does not have its form"},
		hint:    Text{"In RiferimentoTesto scrivere 17 cifre, un trattino o una barra, 6 cifre", "Write 17 digits, a dash or a slash and 6 digits into RiferimentoTesto"}},
}

func ruleLineNature(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DettaglioLinee {
		if l := &b.DatiBeniServizi.DettaglioLinee[i]; l.Natura == "" && l.AliquotaIVA.IsZero() {
			c.report(c.at(l.Node, tagAliquotaIVA), l.AliquotaIVA.String(), "Natura")
		}
	}
	for i := range b.BeniServizi {
		if l := &b.BeniServizi[i]; l.Natura == "" && l.Aliquota.IsZero() {
			c.report(l.Node, l.Aliquota.String(), "Natura")
		}
	}
}

// ruleLineNoNature makes the exception of TD16 a warning: Elenco 2.0 knows none.
func ruleLineNoNature(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DettaglioLinee {
		if l := &b.DatiBeniServizi.DettaglioLinee[i]; l.Natura != "" && l.AliquotaIVA.Sign() != 0 {
			c.natureWithRate(c.at(l.Node, tagNatura), l.Natura, l.AliquotaIVA, b)
		}
	}
	for i := range b.BeniServizi {
		if l := &b.BeniServizi[i]; l.Natura != "" && l.Aliquota.Sign() != 0 {
			c.report(c.at(l.Node, tagNatura), l.Natura+" "+l.Aliquota.String(), "0.00")
		}
	}
}

func (c *check) natureWithRate(at NodeID, nature string, rate Decimal, b *Body) {
	actual := nature + " " + rate.String()
	if b.Documento().TipoDocumento == "TD16" {
		c.dispute(at, actual, "0.00", "disputed for TD16: allowed by AllA-1.9 and Rappresentazione tabellare, not by Elenco-2.0")
		return
	}
	c.report(at, actual, "0.00")
}

var (
	oneCent = DecimalFromInt(1, 2)
	oneEuro = DecimalFromInt(1, 0)
)

// maxDiscounts bounds the exact arithmetic of one line.
const maxDiscounts = 100

func ruleLineTotal(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DettaglioLinee {
		l := &b.DatiBeniServizi.DettaglioLinee[i]
		if !l.PrezzoTotale.Valid() || !l.PrezzoUnitario.Valid() || l.Quantita.IsSet() && !l.Quantita.Valid() || len(l.ScontoMaggiorazione) > maxDiscounts {
			continue
		}
		total, ok := l.Totale()
		if !ok {
			c.bigLineTotal(l)
			continue
		}
		diff, ok := total.Sub(l.PrezzoTotale)
		if !ok {
			c.bigLineTotal(l)
			continue
		}
		if cmp := diff.Abs().Cmp(oneCent); cmp >= 0 {
			c.lineDifference(l, cmp, shortest(total.Round(8).String()))
		}
	}
}

// lineDifference judges the difference against one cent: at exactly one cent the
// texts differ.
func (c *check) lineDifference(l *DettaglioLinee, cmp int, expected string) {
	switch {
	case cmp > 0:
		c.report(c.at(l.Node, tagPrezzoTotale), l.PrezzoTotale.String(), expected)
	case cmp == 0:
		c.dispute(c.at(l.Node, tagPrezzoTotale), l.PrezzoTotale.String(), expected, disputedEdge)
	}
}

// Totale computes the total of a line from its price, discounts and quantity,
// exactly: discounts and surcharges apply to the unit price in their order, an
// amount wins over a percentage in the same block, and nothing is rounded in
// between. ok is false when a value is missing or the result needs more than 128
// bits.
//
// spec: Elenco-2.0, control 00423, with its worked cases
func (l *DettaglioLinee) Totale() (total Decimal, ok bool) {
	p := l.PrezzoUnitario
	if !p.Valid() {
		return Decimal{}, false
	}
	for i := range l.ScontoMaggiorazione {
		s := &l.ScontoMaggiorazione[i]
		delta := s.Importo
		if !delta.IsSet() {
			if !s.Percentuale.IsSet() {
				continue
			}
			if delta, ok = p.Mul(s.Percentuale); !ok || delta.scale > maxScale-2 {
				return Decimal{}, false
			}
			delta.scale += 2
		}
		if s.Tipo == "SC" {
			delta = delta.Neg()
		}
		if p, ok = p.Add(delta); !ok {
			return Decimal{}, false
		}
	}
	if !l.Quantita.IsSet() {
		return p, true
	}
	return p.Mul(l.Quantita)
}

// shortest drops zeros at the end of an amount, down to the cents.
func shortest(amount string) string {
	point := strings.IndexByte(amount, '.')
	for point >= 0 && len(amount)-point > 3 && amount[len(amount)-1] == '0' {
		amount = amount[:len(amount)-1]
	}
	return amount
}

// rat converts a decimal for the rare sums that need more than 128 bits.
func (d Decimal) rat() *big.Rat {
	n := new(big.Int).SetUint64(d.hi)
	n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(d.lo))
	if d.Sign() < 0 {
		n.Neg(n)
	}
	return new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.scale)), nil))
}

// bigLineTotal is ruleLineTotal for one line in unbounded arithmetic.
func (c *check) bigLineTotal(l *DettaglioLinee) {
	p := l.PrezzoUnitario.rat()
	hundred := big.NewRat(100, 1)
	for i := range l.ScontoMaggiorazione {
		s := &l.ScontoMaggiorazione[i]
		var delta *big.Rat
		switch {
		case s.Importo.IsSet():
			delta = s.Importo.rat()
		case s.Percentuale.IsSet():
			delta = s.Percentuale.rat()
			delta.Mul(delta, p).Quo(delta, hundred)
		default:
			continue
		}
		if s.Tipo == "SC" {
			delta.Neg(delta)
		}
		p.Add(p, delta)
	}
	if l.Quantita.IsSet() {
		p.Mul(p, l.Quantita.rat())
	}
	diff := new(big.Rat).Sub(p, l.PrezzoTotale.rat())
	c.lineDifference(l, diff.Abs(diff).Cmp(oneCent.rat()), shortest(p.FloatString(8)))
}

// rulePercentRate looks at every rate: lines, pension funds and summaries.
func rulePercentRate(c *check, b *Body) {
	look := func(node NodeID, t tag, rate Decimal) {
		if rate.Sign() != 0 && rate.Cmp(oneEuro) < 0 {
			c.report(c.at(node, t), rate.String(), "0.00, >= 1.00")
		}
	}
	for i := range b.DatiBeniServizi.DettaglioLinee {
		l := &b.DatiBeniServizi.DettaglioLinee[i]
		look(l.Node, tagAliquotaIVA, l.AliquotaIVA)
	}
	for i := range b.Documento().DatiCassaPrevidenziale {
		k := &b.Documento().DatiCassaPrevidenziale[i]
		look(k.Node, tagAliquotaIVA, k.AliquotaIVA)
	}
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		s := &b.DatiBeniServizi.DatiRiepilogo[i]
		look(s.Node, tagAliquotaIVA, s.AliquotaIVA)
	}
	for i := range b.BeniServizi {
		l := &b.BeniServizi[i]
		look(l.Node, tagDatiIVA, l.Aliquota)
	}
}

func ruleLineDiscount(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DettaglioLinee {
		c.discounts(b.DatiBeniServizi.DettaglioLinee[i].ScontoMaggiorazione)
	}
}

// ruleGenericNature depends on the date of the document, so that older invoices
// can be read again.
func ruleGenericNature(c *check, b *Body) {
	if b.Documento().Data.Ordinal() < 20210101 {
		return
	}
	look := func(node NodeID, nature string) {
		if len(nature) == 2 && (nature == "N2" || nature == "N3" || nature == "N6") {
			c.report(c.at(node, tagNatura), nature, nature+".x")
		}
	}
	for i := range b.DatiBeniServizi.DettaglioLinee {
		look(b.DatiBeniServizi.DettaglioLinee[i].Node, b.DatiBeniServizi.DettaglioLinee[i].Natura)
	}
	for i := range b.Documento().DatiCassaPrevidenziale {
		look(b.Documento().DatiCassaPrevidenziale[i].Node, b.Documento().DatiCassaPrevidenziale[i].Natura)
	}
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		look(b.DatiBeniServizi.DatiRiepilogo[i].Node, b.DatiBeniServizi.DatiRiepilogo[i].Natura)
	}
	for i := range b.BeniServizi {
		look(b.BeniServizi[i].Node, b.BeniServizi[i].Natura)
	}
}

func rulePlafondRate(c *check, b *Body) {
	if b.Documento().TipoDocumento != "TD21" {
		return
	}
	for i := range b.DatiBeniServizi.DettaglioLinee {
		if l := &b.DatiBeniServizi.DettaglioLinee[i]; l.AliquotaIVA.IsZero() {
			c.report(c.at(l.Node, tagAliquotaIVA), l.AliquotaIVA.String(), "> 0.00")
		}
	}
}

// ruleIntentProtocol checks the form of the protocol; whether the declaration is
// still valid only the register knows.
func ruleIntentProtocol(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DettaglioLinee {
		l := &b.DatiBeniServizi.DettaglioLinee[i]
		if l.Natura != "N3.5" {
			continue
		}
		for j := range l.AltriDatiGestionali {
			if a := &l.AltriDatiGestionali[j]; strings.EqualFold(trim(a.TipoDato), "INTENTO") && !validIntent(trim(a.RiferimentoTesto)) {
				c.unsure(c.rule.severity, c.at(a.Node, tagRiferimentoTesto), plain(a.RiferimentoTesto), plain("00000000000000000-000000"))
			}
		}
	}
}

func validIntent(s string) bool {
	if len(s) != 24 || s[17] != '-' && s[17] != '/' {
		return false
	}
	for i := range len(s) {
		if i != 17 && s[i]-'0' > 9 {
			return false
		}
	}
	return true
}
