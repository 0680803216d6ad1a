package compose

import "math/big"

// simplifiedLimit is the largest total of a simplified invoice.
//
// spec: art. 21-bis DPR 633/72; AllA-1.9 App.1 (00460)
var simplifiedLimit = big.NewRat(400, 1)

// simplified writes FSM10. Its prices include VAT and it has no summaries.
//
// spec: schema VFSM10 1.0.2
func (c *composer) simplified() {
	c.refuseOrdinaryOnly()
	c.sumSimplified()
	c.root("FatturaElettronicaSemplificata", simplifiedNamespace, c.simplifiedHeader, func() {
		c.w.block("DatiGenerali", func() {
			c.w.block("DatiGeneraliDocumento", func() {
				c.documentHead()
				if c.report.StampDuty.Amount != "" {
					c.w.el("BolloVirtuale", "SI")
				}
			})
			c.correction()
		})
		for i := range c.lines {
			c.w.block("DatiBeniServizi", func() { c.simplifiedLine(&c.lines[i]) })
		}
		c.attachments()
	})
}

// refuseOrdinaryOnly names what a simplified document has no place for: leaving it
// out in silence would lose what the user meant.
func (c *composer) refuseOrdinaryOnly() {
	r := &c.req
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"sellerRepresentative", r.SellerRepresentative != nil}, {"intermediary", r.Intermediary != nil}, {"orders", len(r.Orders) > 0},
		{"contracts", len(r.Contracts) > 0}, {"agreements", len(r.Agreements) > 0}, {"receptions", len(r.Receptions) > 0},
		{"linkedInvoices", len(r.LinkedInvoices) > 0}, {"workProgress", len(r.WorkProgress) > 0}, {"deliveries", len(r.Deliveries) > 0},
		{"transport", r.Transport != nil}, {"mainInvoice", r.MainInvoice != nil}, {"vehicle", r.Vehicle != nil}, {"funds", len(r.Funds) > 0},
		{"withholdings", len(r.Withholdings) > 0}, {"payments", len(r.Payments) > 0}, {"document.causes", len(r.Document.Causes) > 0},
		{"document.discounts", len(r.Document.Discounts) > 0}, {"document.rounding", r.Document.Rounding != ""},
		{"document.collectability", r.Document.Collectability != ""}, {"document.article73", r.Document.Article73},
		{"document.lineRounding", r.Document.LineRounding != ""}, {"transmission.phone", r.Transmission.Phone != ""},
		{"transmission.mail", r.Transmission.Mail != ""}, {"seller.professionalRegister", r.Seller.ProfessionalRegister != nil},
		{"seller.phone", r.Seller.Phone != ""}, {"seller.fax", r.Seller.Fax != ""}, {"seller.mail", r.Seller.Mail != ""},
		{"seller.administrativeReference", r.Seller.AdministrativeReference != ""}, {"seller.title", r.Seller.Title != ""},
		{"seller.eori", r.Seller.EORI != ""}, {"buyer.title", r.Buyer.Title != ""}, {"buyer.eori", r.Buyer.EORI != ""},
	} {
		if f.set {
			c.fail("$."+f.name, "has no place in a simplified document", "leave it out, or use FPR12")
		}
	}
	for i := range r.Lines {
		l, path := &r.Lines[i], at("$.lines", i)
		if l.Kind != "" || len(l.Codes) > 0 || l.Unit != "" || l.From != "" || l.To != "" || l.Withholding || l.Collectability != "" ||
			l.AdministrativeReference != "" || len(l.Extra) > 0 {
			c.fail(path, "has data with no place in a simplified document", "keep description, quantity, unitPrice, discounts, vatRate or vatAmount, nature and legalReference")
		}
	}
}

// sumSimplified computes the gross amounts and, for the report, the VAT in them.
func (c *composer) sumSimplified() {
	tax, gross := new(big.Rat), new(big.Rat)
	for i := range c.req.Lines {
		l := &c.req.Lines[i]
		s := lineSum{path: at("$.lines", i), req: l}
		c.priceLine(&s)
		s.vat = c.vat(s.path, l.VATRate, l.Nature, l.LegalReference, "")
		if l.VATAmount == "" {
			c.checkVAT(s.path, s.vat, "00400", "00401", false)
			within := plus(s.vat.rate, big.NewRat(100, 1))
			tax = plus(tax, rounded(within.Quo(new(big.Rat).Mul(s.total, s.vat.rate), within), 2))
		} else {
			if l.VATRate != "" || l.Nature != "" {
				c.fail(s.path+".vatAmount", "is given together with a rate or a nature", "leave the others out")
			}
			if amount := c.number(s.path+".vatAmount", l.VATAmount, 2); amount != nil {
				tax = plus(tax, amount)
			}
		}
		c.lines = append(c.lines, s)
	}
	c.stampDuty()
	for i := range c.lines {
		gross = plus(gross, c.lines[i].total)
	}
	regime := c.req.Seller.TaxRegime
	if gross.Cmp(simplifiedLimit) > 0 && c.req.Correction == nil && regime != "RF19" && regime != "RF20" {
		c.refuse("00460", "$.lines", "the total "+money(gross)+" is above 400.00", "use an ordinary document (FPR12)")
	}
	c.report.Totals = Totals{Taxable: money(minus(gross, tax)), Tax: money(tax), SplitTax: "0.00", Withholdings: "0.00",
		Document: c.computed("$.lines", gross), Payable: money(gross)}
}

func (c *composer) simplifiedHeader() {
	c.transmission()
	s, b := &c.req.Seller, &c.req.Buyer
	c.w.block("CedentePrestatore", func() {
		id := s.identity()
		c.fiscalID("IdFiscaleIVA", id.country, id.code)
		c.w.el("CodiceFiscale", id.taxCode)
		c.name("$.seller", s.Name, s.FirstName, s.LastName)
		c.address("Sede", "$.seller.address", &s.Address)
		c.furtherPlaces("$.seller", s)
		c.companyRegister(s)
		c.regime(s, id)
	})
	c.w.block("CessionarioCommittente", func() {
		id := b.identity()
		c.w.block("IdentificativiFiscali", func() {
			c.fiscalID("IdFiscaleIVA", id.country, id.code)
			c.w.el("CodiceFiscale", id.taxCode)
		})
		if b.Name == "" && b.FirstName == "" && b.LastName == "" && b.Address.Street == "" && b.Address.City == "" {
			return // the code alone identifies the buyer
		}
		c.w.block("AltriDatiIdentificativi", func() {
			c.name("$.buyer", b.Name, b.FirstName, b.LastName)
			c.address("Sede", "$.buyer.address", &b.Address)
			c.furtherPlaces("$.buyer", b)
		})
	})
	c.code("SoggettoEmittente", "$.issuedBy", c.req.IssuedBy, []string{"CC", "TZ"})
}

func (c *composer) furtherPlaces(path string, p *Party) {
	if p.PermanentEstablishment != nil {
		c.address("StabileOrganizzazione", path+".permanentEstablishment", p.PermanentEstablishment)
	}
	if p.Representative != nil {
		c.w.block("RappresentanteFiscale", func() { c.flatRepresentative(path+".representative", p.Representative) })
	}
}

func (c *composer) correction() {
	k := c.req.Correction
	if k == nil {
		if c.docType != "TD07" {
			c.advise("$.correction", "a "+c.docType+" as a rule names the document that it corrects")
		}
		return
	}
	c.w.block("DatiFatturaRettificata", func() {
		c.needIdentifier("NumeroFR", "$.correction.number", k.Number, 20)
		if c.needDate("DataFR", "$.correction.date", k.Date) && c.docType == "TD08" && k.Date > c.req.Document.Date {
			c.refuse("00418", "$.correction.date", "is after the date of the credit note", "correct one of the two dates")
		}
		c.needText("ElementiRettificati", "$.correction.elements", k.Elements, latin1, 1000)
	})
}

func (c *composer) simplifiedLine(s *lineSum) {
	l := s.req
	c.needText("Descrizione", s.path+".description", l.Description, latin1, 1000)
	c.w.el("Importo", money(s.total))
	c.w.block("DatiIVA", func() {
		if l.VATAmount != "" {
			if amount := c.rat(l.VATAmount); amount != nil {
				c.w.el("Imposta", money(amount))
			}
			return
		}
		c.w.el("Aliquota", money(s.vat.rate))
	})
	c.w.el("Natura", s.vat.nature)
	c.w.el("RiferimentoNormativo", s.vat.reference)
}
