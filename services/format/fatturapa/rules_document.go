package fatturapa

import "strings"

// documentRules are about the general data of one document.
var documentRules = []rule{
	{code: "00403", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00403"), each: ruleFutureDate,
		message: Text{"La data del documento è successiva alla data di ricezione", "The date of the document is after the date of receipt"},
		hint:    Text{"Correggere Data, oppure inviare il file dal giorno indicato", "Correct Data, or send the file from that day on"}},
	{code: "00411", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00411"), each: ruleLineWithholding,
		message: Text{"Una linea è soggetta a ritenuta ma DatiRitenuta manca", "A line is subject to withholding but DatiRitenuta is missing"},
		hint:    Text{"Aggiungere DatiRitenuta, o togliere Ritenuta dalla linea", "Add DatiRitenuta, or remove Ritenuta from the line"}},
	{code: "00413", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00413"), each: ruleFundNature,
		message: Text{"Cassa previdenziale con AliquotaIVA zero senza Natura", "Pension fund with AliquotaIVA zero and no Natura"},
		hint:    Text{"Indicare la Natura dell'operazione nella cassa", "Give the Natura of the contribution"}},
	{code: "00414", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00414"), each: ruleFundNoNature,
		message: Text{"Cassa previdenziale con AliquotaIVA diversa da zero e Natura presente", "Pension fund with AliquotaIVA other than zero and Natura"},
		hint:    Text{"Togliere Natura, o mettere AliquotaIVA a 0.00", "Remove Natura, or set AliquotaIVA to 0.00"}},
	{code: "00415", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00415"), each: ruleFundWithholding,
		message: Text{"La cassa previdenziale è soggetta a ritenuta ma DatiRitenuta manca", "The pension fund is subject to withholding but DatiRitenuta is missing"},
		hint:    Text{"Aggiungere DatiRitenuta, o togliere Ritenuta dalla cassa", "Add DatiRitenuta, or remove Ritenuta from the fund"}},
	{code: "00418", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00418"), each: ruleLinkedDate,
		message: Text{"La data del documento precede quella della fattura collegata o rettificata", "The document is dated before the invoice that it refers to"},
		hint:    Text{"Controllare le due date", "Check the two dates"}},
	{code: "00425", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00425"), each: ruleNumberDigit,
		message: Text{"Numero non contiene alcuna cifra", "Numero holds no digit"},
		hint:    Text{"Mettere almeno una cifra da 0 a 9 nel numero", "Put at least one digit from 0 to 9 into the number"}},
	{code: "00437", kinds: ordinary, severity: SeverityError, clause: cite(clauseA, "00437"), each: ruleDocumentDiscount,
		message: Text{"ScontoMaggiorazione del documento senza Percentuale né Importo", "ScontoMaggiorazione of the document without Percentuale and Importo"},
		hint:    Text{"Indicare Percentuale o Importo, o togliere il blocco", "Give Percentuale or Importo, or remove the block"}},
	{code: "00460", kinds: simplified, severity: SeverityError, clause: "AllA-1.9 App.1 (00460); art. 21-bis DPR 633/72", each: ruleSimplifiedLimit,
		message: Text{"Il totale supera il limite della fattura semplificata", "The total is above the limit of a simplified invoice"},
		hint:    Text{"Oltre 400 euro emettere una fattura ordinaria; fanno eccezione i regimi RF19 e RF20 e i documenti di rettifica", "Above 400 euro issue an ordinary invoice; regimes RF19 and RF20 and corrections are exceptions"}},
}

func ruleFutureDate(c *check, b *Body) {
	doc := b.Documento()
	if d := doc.Data.Ordinal(); c.day != 0 && d > c.day {
		c.report(c.at(doc.Node, tagData), string(doc.Data), "<= "+ordinalText(c.day))
	}
}

// ordinalText writes an ordinal as a date.
func ordinalText(day int) string {
	d := DecimalFromInt(int64(day), 0).String()
	if len(d) != 8 {
		return d
	}
	return d[:4] + "-" + d[4:6] + "-" + d[6:]
}

func ruleLineWithholding(c *check, b *Body) {
	if len(b.Documento().DatiRitenuta) > 0 {
		return
	}
	for i := range b.DatiBeniServizi.DettaglioLinee {
		if l := &b.DatiBeniServizi.DettaglioLinee[i]; l.Ritenuta == "SI" {
			c.report(c.at(l.Node, tagRitenuta), "SI", "DatiRitenuta")
			return // one is enough: the missing block is one
		}
	}
}

func ruleFundNature(c *check, b *Body) {
	for i := range b.Documento().DatiCassaPrevidenziale {
		if k := &b.Documento().DatiCassaPrevidenziale[i]; k.AliquotaIVA.IsZero() && k.Natura == "" {
			c.report(c.at(k.Node, tagAliquotaIVA), k.AliquotaIVA.String(), "Natura")
		}
	}
}

func ruleFundNoNature(c *check, b *Body) {
	for i := range b.Documento().DatiCassaPrevidenziale {
		if k := &b.Documento().DatiCassaPrevidenziale[i]; k.AliquotaIVA.Sign() != 0 && k.Natura != "" {
			c.report(c.at(k.Node, tagNatura), k.Natura, "AliquotaIVA 0.00")
		}
	}
}

func ruleFundWithholding(c *check, b *Body) {
	if len(b.Documento().DatiRitenuta) > 0 {
		return
	}
	for i := range b.Documento().DatiCassaPrevidenziale {
		if k := &b.Documento().DatiCassaPrevidenziale[i]; k.Ritenuta == "SI" {
			c.report(c.at(k.Node, tagRitenuta), "SI", "DatiRitenuta")
			return
		}
	}
}

// ruleLinkedDate is an error for credit notes, where all texts agree. Allegato A
// has no limit of type in its prose.
func ruleLinkedDate(c *check, b *Body) {
	doc := b.Documento()
	day := doc.Data.Ordinal()
	if day == 0 {
		return
	}
	late := func(node NodeID, t tag, d Date) {
		if d.Ordinal() <= day {
			return
		}
		if doc.TipoDocumento == "TD04" || doc.TipoDocumento == "TD08" {
			c.report(c.at(node, t), string(d), "<= "+string(doc.Data))
		} else {
			c.dispute(c.at(node, t), string(d), "<= "+string(doc.Data), "disputed for "+doc.TipoDocumento+": Elenco-2.0 and Rappresentazione tabellare ask it of credit notes only")
		}
	}
	for i := range b.DatiGenerali.DatiFattureCollegate {
		x := &b.DatiGenerali.DatiFattureCollegate[i]
		late(x.Node, tagData, x.Data)
	}
	if x := b.DatiGenerali.DatiFatturaRettificata; x != nil {
		late(x.Node, tagDataFR, x.DataFR)
	}
}

func ruleNumberDigit(c *check, b *Body) {
	doc := b.Documento()
	if doc.Numero != "" && !strings.ContainsAny(doc.Numero, "0123456789") {
		c.report(c.at(doc.Node, tagNumero), doc.Numero, "[0-9]")
	}
}

func ruleDocumentDiscount(c *check, b *Body) {
	c.discounts(b.Documento().ScontoMaggiorazione)
}

// discounts reports the blocks that have a type and no amount.
func (c *check) discounts(list []ScontoMaggiorazione) {
	for i := range list {
		if d := &list[i]; d.Tipo != "" && !d.Percentuale.IsSet() && !d.Importo.IsSet() {
			c.report(d.Node, d.Tipo, "Percentuale, Importo")
		}
	}
}

// ruleSimplifiedLimit adds up the gross amounts. The exception of regimes came
// with version 1.9.
func ruleSimplifiedLimit(c *check, b *Body) {
	if b.DatiGenerali.DatiFatturaRettificata != nil {
		return
	}
	regime := c.seller().RegimeFiscale
	if c.pack.from >= 20250401 && (regime == "RF19" || regime == "RF20") {
		return
	}
	sum := DecimalFromInt(0, 2)
	for i := range b.BeniServizi {
		var ok bool
		if sum, ok = sum.Add(b.BeniServizi[i].Importo); !ok {
			return
		}
	}
	if limit := DecimalFromInt(400, 0); sum.Cmp(limit) > 0 {
		c.report(b.Node, sum.String(), "<= 400.00")
	}
}
