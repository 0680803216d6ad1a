package fatturapa

import (
	"strconv"
	"strings"
)

// summaryRules compare lines and pension funds with DatiRiepilogo.
var summaryRules = []rule{
	{code: "00419", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00419"), each: ruleSummaryPerRate,
		message: Text{"Manca un DatiRiepilogo per almeno un'aliquota di linee e casse", "There is no DatiRiepilogo for at least one rate of lines and funds"},
		hint:    Text{"Aggiungere un DatiRiepilogo per ogni aliquota", "Add one DatiRiepilogo for each rate"}},
	{code: "00420", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00420"), each: ruleSplitReverse,
		message: Text{"Inversione contabile (N6) e scissione dei pagamenti (S) nello stesso riepilogo", "Reverse charge (N6) and split payment (S) in the same summary"},
		hint:    Text{"Con Natura N6 non usare EsigibilitaIVA S", "With Natura N6 do not use EsigibilitaIVA S"}},
	{code: "00421", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00421"), each: ruleTax,
		message: Text{"Imposta non corrisponde ad aliquota e imponibile", "Imposta does not follow from rate and taxable amount"},
		hint:    Text{"Imposta = AliquotaIVA per ImponibileImporto diviso 100, arrotondata al centesimo, con scarto fino a 0.01", "Imposta = AliquotaIVA by ImponibileImporto over 100, rounded to the cent, within 0.01"}},
	{code: "00422", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00422"), each: ruleTaxable,
		message: Text{"ImponibileImporto non corrisponde alla somma di linee, casse e arrotondamenti", "ImponibileImporto is not the sum of lines, funds and roundings"},
		hint:    Text{"Per ogni aliquota: somma di PrezzoTotale, ImportoContributoCassa e Arrotondamento del riepilogo, con scarto fino a 1 euro", "For each rate: sum of PrezzoTotale, ImportoContributoCassa and Arrotondamento of the summary, within 1 euro"}},
	{code: "00429", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00429"), each: ruleSummaryNature,
		message: Text{"Riepilogo con AliquotaIVA zero senza Natura", "Summary with AliquotaIVA zero and no Natura"},
		hint:    Text{"Indicare la Natura nel riepilogo", "Give the Natura in the summary"}},
	{code: "00430", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00430"), each: ruleSummaryNoNature,
		message: Text{"Riepilogo con AliquotaIVA diversa da zero e Natura presente", "Summary with AliquotaIVA other than zero and Natura"},
		hint:    Text{"Togliere Natura, o mettere AliquotaIVA a 0.00", "Remove Natura, or set AliquotaIVA to 0.00"}},
	{code: "00443", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00443"), each: ruleRatesMatch,
		message: Text{"Le aliquote di linee e casse e quelle dei riepiloghi non corrispondono", "The rates of lines and funds and those of the summaries do not match"},
		hint:    Text{"Ogni aliquota delle linee deve comparire in un DatiRiepilogo, e viceversa", "Each rate of the lines must appear in a DatiRiepilogo, and the other way round"}},
	{code: "00444", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00444"), each: ruleNaturesMatch,
		message: Text{"Le Nature di linee e casse e quelle dei riepiloghi non corrispondono", "The Natura codes of lines and funds and those of the summaries do not match"},
		hint:    Text{"Ogni Natura delle linee deve comparire in un DatiRiepilogo, e viceversa", "Each Natura of the lines must appear in a DatiRiepilogo, and the other way round"}},
}

// rateSum adds up what a document says about one rate.
type rateSum struct {
	key      uint64  // the rate in hundredths of a hundredth
	rate     Decimal // as first written
	taxable  Decimal // of the summaries
	computed Decimal // of lines, funds and roundings
	line     NodeID  // first line or fund with the rate, 0 for none
	summary  NodeID  // first summary with the rate, 0 for none
	broken   bool    // an amount is not a number: the sums mean nothing
}

// rateSums fills the scratch table of the body, in the order of first appearance.
func (c *check) rateSums(b *Body) []rateSum {
	if c.sumsOf == b {
		return c.sums
	}
	sums := c.sums[:0]
	var index map[uint64]int // only when there are many rates: hostile files
	find := func(rate Decimal) *rateSum {
		key := rate.Round(4).lo
		if index != nil {
			if i, ok := index[key]; ok {
				return &sums[i]
			}
		} else {
			for i := range sums {
				if sums[i].key == key {
					return &sums[i]
				}
			}
		}
		sums = append(sums, rateSum{key: key, rate: rate})
		switch {
		case index != nil:
			index[key] = len(sums) - 1
		case len(sums) > 16:
			index = make(map[uint64]int, 64)
			for i := range sums {
				index[sums[i].key] = i
			}
		}
		return &sums[len(sums)-1]
	}
	for i := range b.DatiBeniServizi.DettaglioLinee {
		l := &b.DatiBeniServizi.DettaglioLinee[i]
		if l.AliquotaIVA.Valid() {
			find(l.AliquotaIVA).add(l.PrezzoTotale, l.Node)
		}
	}
	for i := range b.Documento().DatiCassaPrevidenziale {
		k := &b.Documento().DatiCassaPrevidenziale[i]
		if k.AliquotaIVA.Valid() {
			find(k.AliquotaIVA).add(k.ImportoContributoCassa, k.Node)
		}
	}
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		s := &b.DatiBeniServizi.DatiRiepilogo[i]
		if !s.AliquotaIVA.Valid() {
			continue
		}
		r := find(s.AliquotaIVA)
		if r.summary == 0 {
			r.summary = s.Node
		}
		sum, ok1 := r.taxable.Add(s.ImponibileImporto)
		calc, ok2 := r.computed.Add(s.Arrotondamento)
		r.taxable, r.computed = sum, calc
		r.broken = r.broken || !ok1 || !ok2
	}
	c.sums, c.sumsOf = sums, b
	return sums
}

// add counts a line or fund.
func (r *rateSum) add(amount Decimal, node NodeID) {
	sum, ok := r.computed.Add(amount)
	r.computed = sum
	r.broken = r.broken || !ok
	if r.line == 0 {
		r.line = node
	}
}

// ruleSummaryPerRate: Elenco counts blocks, Allegato A asks for each rate.
func ruleSummaryPerRate(c *check, b *Body) {
	blocks := len(b.DatiBeniServizi.DatiRiepilogo)
	if blocks == 0 {
		return // the structure check says so
	}
	rates, missing, first := 0, 0, rateSum{}
	for _, s := range c.rateSums(b) {
		if s.line == 0 {
			continue
		}
		rates++
		if s.summary == 0 {
			if missing++; missing == 1 {
				first = s
			}
		}
	}
	switch {
	case blocks < rates:
		c.report(b.DatiBeniServizi.Node, strconv.Itoa(blocks), strconv.Itoa(rates))
	case missing > 0:
		c.dispute(c.at(first.line, tagAliquotaIVA), first.rate.String(), "DatiRiepilogo", "disputed: asked for each rate by AllA-1.9; Elenco-2.0 and Rappresentazione tabellare count the blocks")
	}
}

func ruleSplitReverse(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		if s := &b.DatiBeniServizi.DatiRiepilogo[i]; s.EsigibilitaIVA == "S" && strings.HasPrefix(s.Natura, "N6") {
			c.report(c.at(s.Node, tagEsigibilitaIVA), s.Natura+" S", "I, D")
		}
	}
}

func ruleTax(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		s := &b.DatiBeniServizi.DatiRiepilogo[i]
		if !s.Imposta.Valid() {
			continue
		}
		tax, ok := s.AliquotaIVA.Mul(s.ImponibileImporto)
		if !ok || tax.scale > maxScale-2 {
			continue
		}
		tax.scale += 2
		tax = tax.Round(2)
		diff, ok := tax.Sub(s.Imposta)
		if !ok {
			continue
		}
		switch cmp := diff.Abs().Cmp(oneCent); {
		case cmp > 0:
			c.report(c.at(s.Node, tagImposta), s.Imposta.String(), tax.String())
		case cmp == 0:
			c.dispute(c.at(s.Node, tagImposta), s.Imposta.String(), tax.String(), disputedEdge)
		}
	}
}

func ruleTaxable(c *check, b *Body) {
	if len(b.DatiBeniServizi.DatiRiepilogo) == 0 {
		return
	}
	for _, s := range c.rateSums(b) {
		diff, ok := s.taxable.Sub(s.computed)
		if s.broken || !ok {
			continue
		}
		cmp := diff.Abs().Cmp(oneEuro)
		if cmp < 0 {
			continue
		}
		at := s.summary
		if at == 0 {
			at = s.line
		} else {
			at = c.at(at, tagImponibileImporto)
		}
		actual, expected := s.taxable.Round(2).String(), shortest(s.computed.String())
		if actual == "" {
			actual = "0.00"
		}
		if expected == "" {
			expected = "0.00"
		}
		if cmp > 0 {
			c.report(at, actual, expected)
		} else {
			c.dispute(at, actual, expected, disputedEdge)
		}
	}
}

func ruleSummaryNature(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		if s := &b.DatiBeniServizi.DatiRiepilogo[i]; s.Natura == "" && s.AliquotaIVA.IsZero() {
			c.report(c.at(s.Node, tagAliquotaIVA), s.AliquotaIVA.String(), "Natura")
		}
	}
}

func ruleSummaryNoNature(c *check, b *Body) {
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		if s := &b.DatiBeniServizi.DatiRiepilogo[i]; s.Natura != "" && s.AliquotaIVA.Sign() != 0 {
			c.natureWithRate(c.at(s.Node, tagNatura), s.Natura, s.AliquotaIVA, b)
		}
	}
}

// disputedReverse is what the table of the official representation adds.
const disputedReverse = "disputed: summary without lines; asked by Rappresentazione tabellare only"

func ruleRatesMatch(c *check, b *Body) {
	if len(b.DatiBeniServizi.DatiRiepilogo) == 0 {
		return
	}
	for _, s := range c.rateSums(b) {
		switch {
		case s.summary == 0:
			c.report(c.at(s.line, tagAliquotaIVA), s.rate.String(), "DatiRiepilogo "+s.rate.String())
		case s.line == 0:
			c.dispute(c.at(s.summary, tagAliquotaIVA), s.rate.String(), "DettaglioLinee "+s.rate.String(), disputedReverse)
		}
	}
}

// natureUse is where a Natura code was first seen.
type natureUse struct {
	nature        string
	line, summary NodeID
}

func ruleNaturesMatch(c *check, b *Body) {
	if len(b.DatiBeniServizi.DatiRiepilogo) == 0 {
		return
	}
	var buf [8]natureUse
	uses := buf[:0]
	find := func(nature string) *natureUse {
		for i := range uses {
			if uses[i].nature == nature {
				return &uses[i]
			}
		}
		if len(uses) >= 64 { // more codes than exist: the structure check speaks of them
			return &natureUse{}
		}
		uses = append(uses, natureUse{nature: nature})
		return &uses[len(uses)-1]
	}
	for i := range b.DatiBeniServizi.DettaglioLinee {
		if l := &b.DatiBeniServizi.DettaglioLinee[i]; l.Natura != "" {
			if u := find(l.Natura); u.line == 0 {
				u.line = l.Node
			}
		}
	}
	for i := range b.Documento().DatiCassaPrevidenziale {
		if k := &b.Documento().DatiCassaPrevidenziale[i]; k.Natura != "" {
			if u := find(k.Natura); u.line == 0 {
				u.line = k.Node
			}
		}
	}
	for i := range b.DatiBeniServizi.DatiRiepilogo {
		if s := &b.DatiBeniServizi.DatiRiepilogo[i]; s.Natura != "" {
			if u := find(s.Natura); u.summary == 0 {
				u.summary = s.Node
			}
		}
	}
	for _, u := range uses {
		switch {
		case u.summary == 0:
			c.report(c.at(u.line, tagNatura), u.nature, "DatiRiepilogo "+u.nature)
		case u.line == 0:
			c.dispute(c.at(u.summary, tagNatura), u.nature, "DettaglioLinee "+u.nature, disputedReverse)
		}
	}
}
