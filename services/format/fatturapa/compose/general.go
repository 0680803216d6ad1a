package compose

import (
	"math/big"
	"strconv"
	"strings"
)

// namespaces of the two formats.
const (
	ordinaryNamespace   = "http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"
	simplifiedNamespace = "http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.0"
)

// root writes the document around header and body.
func (c *composer) root(name, namespace string, header, body func()) {
	c.w.b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	c.w.b.WriteString("<p:" + name + ` versione="` + c.format + `"`)
	if system := c.req.Transmission.System; system != "" {
		if !systemText.MatchString(system) {
			c.fail("$.transmission.system", strconv.Quote(system)+" is no name of a program", "use 1 to 10 letters, digits and plain signs")
		} else {
			c.w.b.WriteString(` SistemaEmittente="` + system + `"`)
		}
	}
	c.w.b.WriteString(` xmlns:p="` + namespace + `">` + "\n")
	c.w.depth = 1
	c.w.block("FatturaElettronicaHeader", header)
	c.w.block("FatturaElettronicaBody", body)
	c.w.b.WriteString("</p:" + name + ">\n")
}

// ordinary writes FPA12 and FPR12.
//
// spec: schema VFPR12 1.2.3
func (c *composer) ordinary() {
	if c.req.Correction != nil {
		c.fail("$.correction", "is for simplified documents", "give linkedInvoices")
	}
	if c.req.Seller.Representative != nil {
		c.fail("$.seller.representative", "has its own place in an ordinary document", "give sellerRepresentative")
	}
	c.root("FatturaElettronica", ordinaryNamespace, c.header, func() {
		c.w.block("DatiGenerali", c.general)
		c.w.block("DatiBeniServizi", func() {
			for i := range c.lines {
				c.line(i+1, &c.lines[i])
			}
			for i := range c.summaries {
				c.summary(&c.summaries[i])
			}
		})
		if v := c.req.Vehicle; v != nil {
			c.w.block("DatiVeicoli", func() {
				c.needDate("Data", "$.vehicle.registered", v.Registered)
				c.needIdentifier("TotalePercorso", "$.vehicle.distance", v.Distance, 15)
			})
		}
		c.payments()
		c.attachments()
	})
}

func (c *composer) general() {
	r := &c.req
	c.w.block("DatiGeneraliDocumento", c.documentData)
	c.references("DatiOrdineAcquisto", "$.orders", r.Orders)
	c.references("DatiContratto", "$.contracts", r.Contracts)
	c.references("DatiConvenzione", "$.agreements", r.Agreements)
	c.references("DatiRicezione", "$.receptions", r.Receptions)
	c.references("DatiFattureCollegate", "$.linkedInvoices", r.LinkedInvoices)
	for i, phase := range r.WorkProgress {
		c.w.block("DatiSAL", func() {
			if phase == 0 {
				c.fail(at("$.workProgress", i), "is zero", "count phases from 1")
			}
			c.whole("RiferimentoFase", at("$.workProgress", i), phase, 999)
		})
	}
	for i := range r.Deliveries {
		d, path := &r.Deliveries[i], at("$.deliveries", i)
		c.w.block("DatiDDT", func() {
			c.needIdentifier("NumeroDDT", path+".number", d.Number, 20)
			if c.needDate("DataDDT", path+".date", d.Date) && r.Document.Date != "" && d.Date > r.Document.Date {
				c.advise(path+".date", "the goods were delivered after the date of the document")
			}
			c.lineNumbers(path+".lines", d.Lines)
		})
	}
	if r.Transport != nil {
		c.w.block("DatiTrasporto", func() { c.transport(r.Transport) })
	}
	if m := r.MainInvoice; m != nil {
		c.w.block("FatturaPrincipale", func() {
			c.needIdentifier("NumeroFatturaPrincipale", "$.mainInvoice.id", m.ID, 20)
			c.needDate("DataFatturaPrincipale", "$.mainInvoice.date", m.Date)
		})
	}
	c.adviseOnLinks()
}

// adviseOnLinks says what kinds of document as a rule have.
func (c *composer) adviseOnLinks() {
	r := &c.req
	switch {
	case len(r.LinkedInvoices) == 0 && (c.docType == "TD04" || c.docType == "TD05" || in(selfBilling, c.docType)):
		c.advise("$.linkedInvoices", "a "+c.docType+" as a rule names the invoice that it refers to")
	case c.docType == "TD24" && len(r.Deliveries) == 0:
		c.advise("$.deliveries", "a deferred invoice as a rule names the transport documents")
	}
	if c.format != PublicFormat {
		return
	}
	for _, list := range [][]Reference{r.Orders, r.Contracts, r.Agreements, r.Receptions, r.LinkedInvoices} {
		for i := range list {
			if list[i].CIG != "" || list[i].CUP != "" {
				return
			}
		}
	}
	c.advise("$.orders", "no CIG or CUP is given: public bodies refuse invoices without one where the law asks for it")
}

func (c *composer) documentData() {
	d := &c.req.Document
	c.documentHead()
	for i := range c.req.Withholdings {
		w, path := &c.req.Withholdings[i], at("$.withholdings", i)
		c.w.block("DatiRitenuta", func() {
			c.needCode("TipoRitenuta", path+".type", w.Type, withholdingTypes)
			c.w.el("ImportoRitenuta", c.computed(path, c.withheld[i]))
			if rate := c.rateAgain(w.Rate); rate != "" {
				c.w.el("AliquotaRitenuta", rate)
			}
			c.needCode("CausalePagamento", path+".cause", w.Cause, withholdingCauses)
		})
	}
	if c.report.StampDuty.Amount != "" {
		c.w.block("DatiBollo", func() {
			c.w.el("BolloVirtuale", "SI")
			c.w.el("ImportoBollo", c.report.StampDuty.Amount)
		})
	}
	for i := range c.funds {
		c.w.block("DatiCassaPrevidenziale", func() { c.fund(&c.funds[i]) })
	}
	for i := range d.Discounts {
		c.discount(d.Discounts[i].Surcharge, c.rat(d.Discounts[i].Percent), c.rat(d.Discounts[i].Amount))
	}
	c.w.el("ImportoTotaleDocumento", money(c.total))
	if r := c.rat(d.Rounding); r != nil && r.Sign() != 0 {
		c.w.el("Arrotondamento", money(r))
	}
	for i, cause := range d.Causes {
		c.cause(at("$.document.causes", i), cause)
	}
	if d.Article73 {
		c.w.el("Art73", "SI")
	}
}

// rat is a number whose problems have been noted before.
func (c *composer) rat(n Number) *big.Rat {
	r, ok := parseNumber(string(n), 11, 8)
	if !ok {
		return nil
	}
	return r
}

// rateAgain writes a percentage that was checked before; "" when it was wrong.
func (c *composer) rateAgain(n Number) string {
	if r := c.rat(n); r != nil {
		return money(r)
	}
	return ""
}

// documentHead writes what both formats begin with.
func (c *composer) documentHead() {
	d := &c.req.Document
	c.w.el("TipoDocumento", c.docType)
	currency := d.Currency
	if currency == "" {
		currency = "EUR"
	}
	c.shaped("Divisa", "$.document.currency", currency, upper3, "use the three capital letters of ISO 4217, such as EUR")
	c.needDate("Data", "$.document.date", d.Date)
	c.needIdentifier("Numero", "$.document.number", d.Number, 20)
	if d.Number != "" && !strings.ContainsAny(d.Number, "0123456789") {
		c.refuse("00425", "$.document.number", strconv.Quote(d.Number)+" has no digit", "put at least one digit into the number")
	}
}

// cause writes a text in as many elements as it needs, divided at spaces.
func (c *composer) cause(path, text string) {
	const limit = 200
	out := []rune(c.clean(path, text, latin1, 20*limit))
	if len(out) > limit {
		c.changed(path, text, string(out), "written in pieces of 200 characters")
	}
	for len(out) > 0 {
		cut := min(len(out), limit)
		if cut < len(out) {
			for i := cut; i > limit/2; i-- {
				if out[i] == ' ' {
					cut = i
					break
				}
			}
		}
		c.w.el("Causale", strings.TrimSpace(string(out[:cut])))
		out = []rune(strings.TrimSpace(string(out[cut:])))
	}
}

func (c *composer) references(name, path string, list []Reference) {
	for i := range list {
		r, p := &list[i], at(path, i)
		c.w.block(name, func() {
			c.lineNumbers(p+".lines", r.Lines)
			c.needIdentifier("IdDocumento", p+".id", r.ID, 20)
			dated := c.date("Data", p+".date", r.Date)
			if dated && name == "DatiFattureCollegate" && c.docType == "TD04" && r.Date > c.req.Document.Date {
				c.refuse("00418", p+".date", "is after the date of the credit note", "correct one of the two dates")
			}
			c.identifier("NumItem", p+".item", r.Item, 20)
			c.text("CodiceCommessaConvenzione", p+".code", r.Code, latin1, 100)
			c.identifier("CodiceCUP", p+".cup", r.CUP, 15)
			c.identifier("CodiceCIG", p+".cig", r.CIG, 15)
		})
	}
}

func (c *composer) transport(t *Transport) {
	const path = "$.transport"
	if k := t.Carrier; k != nil {
		c.w.block("DatiAnagraficiVettore", func() {
			c.representative(path+".carrier", k, true)
			c.identifier("NumeroLicenzaGuida", path+".carrier.license", k.License, 20)
		})
	}
	c.text("MezzoTrasporto", path+".means", t.Means, latin1, 80)
	c.text("CausaleTrasporto", path+".reason", t.Reason, latin1, 100)
	c.whole("NumeroColli", path+".packages", t.Packages, 9999)
	c.text("Descrizione", path+".description", t.Description, latin1, 100)
	c.text("UnitaMisuraPeso", path+".weightUnit", t.WeightUnit, ascii, 10)
	c.weight("PesoLordo", path+".grossWeight", t.GrossWeight)
	c.weight("PesoNetto", path+".netWeight", t.NetWeight)
	c.moment("DataOraRitiro", path+".pickedUpAt", t.PickedUpAt)
	c.date("DataInizioTrasporto", path+".startDate", t.StartDate)
	c.shaped("TipoResa", path+".terms", t.Terms, upper3, "use the three letters of the Incoterms")
	if t.Destination != nil {
		c.address("IndirizzoResa", path+".destination", t.Destination)
	}
	c.moment("DataOraConsegna", path+".deliveredAt", t.DeliveredAt)
}

// weight has at most four digits before the point.
func (c *composer) weight(name, path string, n Number) {
	r := c.positive(path, n, 2)
	if r == nil {
		return
	}
	if r.Cmp(big.NewRat(10000, 1)) >= 0 {
		c.fail(path, string(n)+" has more than four digits before the point", "use a larger unit")
	}
	c.w.el(name, money(r))
}
