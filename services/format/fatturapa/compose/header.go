package compose

import "strings"

// header writes FatturaElettronicaHeader of an ordinary document.
func (c *composer) header() {
	c.transmission()
	c.w.block("CedentePrestatore", c.seller)
	if r := c.req.SellerRepresentative; r != nil {
		c.w.block("RappresentanteFiscale", func() {
			c.w.block("DatiAnagrafici", func() { c.representative("$.sellerRepresentative", r, true) })
		})
	}
	c.w.block("CessionarioCommittente", c.buyer)
	if r := c.req.Intermediary; r != nil {
		c.w.block("TerzoIntermediarioOSoggettoEmittente", func() {
			c.w.block("DatiAnagrafici", func() { c.representative("$.intermediary", r, false) })
		})
	}
	c.code("SoggettoEmittente", "$.issuedBy", c.req.IssuedBy, []string{"CC", "TZ"})
}

func (c *composer) transmission() {
	tr := &c.req.Transmission
	const path = "$.transmission"
	c.w.block("DatiTrasmissione", func() {
		country, code := c.sender()
		c.fiscalID("IdTrasmittente", country, code)
		c.needIdentifier("ProgressivoInvio", path+".progressive", tr.Progressive, 10)
		c.w.el("FormatoTrasmissione", c.format)
		c.w.el("CodiceDestinatario", c.recipient)
		if c.format != SimplifiedFormat {
			c.w.block("ContattiTrasmittente", func() {
				c.shaped("Telefono", path+".phone", tr.Phone, phone, "use 5 to 12 characters")
				c.mail("Email", path+".mail", tr.Mail)
			})
		}
		if sdiMail.MatchString(tr.CertifiedMail) {
			c.refuse("00330", path+".certifiedMail", "is a mailbox of SdI", "give the certified mail address of the buyer")
		}
		c.mail("PECDestinatario", path+".certifiedMail", tr.CertifiedMail)
	})
}

// sender is who transmits: by default who writes the document. The code is a tax
// code, which for most companies is the VAT number.
func (c *composer) sender() (country, code string) {
	tr := &c.req.Transmission
	if tr.SenderCode != "" {
		country = tr.SenderCountry
		if country == "" {
			country = "IT"
		}
		if !upper2.MatchString(country) {
			c.fail("$.transmission.senderCountry", country+" is no country", "use two capital letters, such as IT")
		}
		if !vatText.MatchString(tr.SenderCode) || country == "IT" && !taxText.MatchString(tr.SenderCode) {
			c.fail("$.transmission.senderCode", tr.SenderCode+" is no tax code", "give the tax code of who transmits, 11 or 16 characters in Italy")
		}
		return country, tr.SenderCode
	}
	id := c.req.Seller.identity()
	if in(selfBilling, c.docType) {
		id = c.req.Buyer.identity()
	}
	if id.taxCode != "" {
		return "IT", id.taxCode
	}
	return id.country, id.code
}

func (c *composer) fiscalID(name, country, code string) {
	if code == "" {
		return
	}
	c.w.block(name, func() {
		c.w.el("IdPaese", country)
		c.w.el("IdCodice", code)
	})
}

func (c *composer) seller() {
	s := &c.req.Seller
	const path = "$.seller"
	id := s.identity()
	c.w.block("DatiAnagrafici", func() {
		c.fiscalID("IdFiscaleIVA", id.country, id.code)
		c.w.el("CodiceFiscale", id.taxCode)
		c.w.block("Anagrafica", func() { c.anagrafica(path, s) })
		if r := s.ProfessionalRegister; r != nil {
			c.text("AlboProfessionale", path+".professionalRegister.name", r.Name, latin1, 60)
			c.shaped("ProvinciaAlbo", path+".professionalRegister.province", r.Province, upper2, "use two capital letters, such as RM")
			c.text("NumeroIscrizioneAlbo", path+".professionalRegister.number", r.Number, ascii, 60)
			c.date("DataIscrizioneAlbo", path+".professionalRegister.date", r.Date)
		}
		c.regime(s, id)
	})
	c.address("Sede", path+".address", &s.Address)
	if s.PermanentEstablishment != nil {
		c.address("StabileOrganizzazione", path+".permanentEstablishment", s.PermanentEstablishment)
	}
	c.companyRegister(s)
	c.w.block("Contatti", func() {
		c.shaped("Telefono", path+".phone", s.Phone, phone, "use 5 to 12 characters")
		c.shaped("Fax", path+".fax", s.Fax, phone, "use 5 to 12 characters")
		c.mail("Email", path+".mail", s.Mail)
	})
	c.text("RiferimentoAmministrazione", path+".administrativeReference", s.AdministrativeReference, ascii, 20)
}

// regime writes RegimeFiscale; RF18 (other) is the custom for foreign suppliers.
func (c *composer) regime(s *Party, id identity) {
	regime := s.TaxRegime
	if regime == "" {
		regime = "RF01"
		if id.country != "IT" {
			regime = "RF18"
		}
	}
	c.code("RegimeFiscale", "$.seller.taxRegime", regime, taxRegimes)
}

func (c *composer) companyRegister(s *Party) {
	r := s.CompanyRegister
	if r == nil {
		return
	}
	const path = "$.seller.companyRegister"
	c.w.block("IscrizioneREA", func() {
		if r.Office == "" {
			c.missing(path+".office", "Ufficio")
		}
		c.shaped("Ufficio", path+".office", r.Office, upper2, "use the two capital letters of the province")
		c.needIdentifier("NumeroREA", path+".number", r.Number, 20)
		c.amount("CapitaleSociale", path+".shareCapital", r.ShareCapital)
		c.code("SocioUnico", path+".soleOwner", r.SoleOwner, []string{"SU", "SM"})
		state := r.Liquidation
		if state == "" {
			state = "LN"
		}
		c.code("StatoLiquidazione", path+".liquidation", state, []string{"LS", "LN"})
	})
}

func (c *composer) buyer() {
	b := &c.req.Buyer
	const path = "$.buyer"
	id := b.identity()
	c.w.block("DatiAnagrafici", func() {
		c.fiscalID("IdFiscaleIVA", id.country, id.code)
		c.w.el("CodiceFiscale", id.taxCode)
		c.w.block("Anagrafica", func() { c.anagrafica(path, b) })
	})
	c.address("Sede", path+".address", &b.Address)
	if b.PermanentEstablishment != nil {
		c.address("StabileOrganizzazione", path+".permanentEstablishment", b.PermanentEstablishment)
	}
	if b.Representative != nil {
		c.w.block("RappresentanteFiscale", func() { c.flatRepresentative(path+".representative", b.Representative) })
	}
}

// anagrafica writes the content of Anagrafica.
func (c *composer) anagrafica(path string, p *Party) {
	c.name(path, p.Name, p.FirstName, p.LastName)
	title := strings.Join(strings.Fields(c.clean(path+".title", p.Title, ascii, 10)), " ")
	if len(title) == 1 {
		c.fail(path+".title", "has one character", "use 2 to 10")
	}
	c.w.el("Titolo", title)
	if p.EORI != "" && (len(p.EORI) < 13 || len(p.EORI) > 17) {
		c.fail(path+".eori", "does not have 13 to 17 characters", "give the EORI code with its country")
	}
	c.identifier("CodEORI", path+".eori", p.EORI, 17)
}

// name writes the name of a company, or the two names of a person.
func (c *composer) name(path, company, first, last string) {
	switch {
	case company != "" && (first != "" || last != ""):
		c.fail(path+".name", "is there together with the name of a person", "give name, or firstName and lastName")
	case company != "":
		c.needText("Denominazione", path+".name", company, latin1, 80)
	case first != "" || last != "":
		c.needText("Nome", path+".firstName", first, latin1, 60)
		c.needText("Cognome", path+".lastName", last, latin1, 60)
	default:
		c.fail(path+".name", "is missing", "give name, or firstName and lastName")
	}
}

// address writes an address; abroad without post code and province.
func (c *composer) address(name, path string, a *Address) {
	country := a.country()
	c.w.block(name, func() {
		c.needText("Indirizzo", path+".street", a.Street, latin1, 60)
		c.text("NumeroCivico", path+".number", a.Number, ascii, 8)
		if country == "IT" {
			if a.PostCode == "" {
				c.missing(path+".postCode", "CAP")
			}
			c.shaped("CAP", path+".postCode", a.PostCode, fiveNum, "use the five digits of the post code")
		} else {
			c.w.el("CAP", foreignPostCode)
			if a.PostCode != "" && a.PostCode != foreignPostCode {
				c.changed(path+".postCode", a.PostCode, foreignPostCode, "the convention for addresses abroad")
			}
		}
		c.needText("Comune", path+".city", a.City, latin1, 60)
		if country == "IT" {
			c.shaped("Provincia", path+".province", a.Province, upper2, "use two capital letters, such as RM")
		} else if a.Province != "" {
			c.changed(path+".province", a.Province, "", "only Italian provinces can be given")
		}
		if !upper2.MatchString(country) {
			c.fail(path+".country", country+" is no country", "use two capital letters of ISO 3166-1")
		}
		c.w.el("Nazione", country)
	})
}

// representative writes DatiAnagrafici of a representative or intermediary.
func (c *composer) representative(path string, r *Representative, vat bool) {
	c.representativeID(path, r, vat)
	if r.TaxCode != "" {
		c.shaped("CodiceFiscale", path+".taxCode", r.TaxCode, taxText, "give 16 capital letters and digits, or 11 digits")
	}
	c.w.block("Anagrafica", func() { c.name(path, r.Name, r.FirstName, r.LastName) })
}

// flatRepresentative writes a representative whose names stand beside its number.
func (c *composer) flatRepresentative(path string, r *Representative) {
	c.representativeID(path, r, true)
	c.name(path, r.Name, r.FirstName, r.LastName)
}

func (c *composer) representativeID(path string, r *Representative, vat bool) {
	country := r.VATCountry
	if country == "" {
		country = "IT"
	}
	if r.VATNumber == "" {
		if vat {
			c.fail(path+".vatNumber", "is missing", "give the VAT number without the country")
		}
		return
	}
	if !upper2.MatchString(country) {
		c.fail(path+".vatCountry", country+" is no country", "use two capital letters, such as IT")
	}
	if !vatText.MatchString(r.VATNumber) || country == "IT" && !vatIT.MatchString(r.VATNumber) {
		c.fail(path+".vatNumber", r.VATNumber+" is no VAT number", "use 11 digits in Italy, else 1 to 28 letters and digits")
	}
	c.fiscalID("IdFiscaleIVA", country, r.VATNumber)
}
