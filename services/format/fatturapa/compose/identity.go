package compose

import (
	"strconv"
	"strings"
)

// What the conventions put in place of a VAT number that does not exist.
//
// spec: AdE, Guida alla compilazione delle fatture elettroniche, buyers abroad
const (
	noVATBusiness   = "OO99999999999" // business outside the European Union
	noVATConsumer   = "0000000"       // private person abroad
	noVATTerritory  = "99999999999"   // supplier in Livigno or Campione, with country OO
	foreignPostCode = "00000"
	toForeign       = "XXXXXXX" // the statutory CodiceDestinatario of buyers abroad
	toNobody        = "0000000" // the one of buyers in Italy who have none
	freeTerritory   = "OO"
)

// identity is how a party is identified in the document.
type identity struct {
	country, code string // IdFiscaleIVA; "" for none
	taxCode       string
}

// kind tells a party's kind, also when it is not given.
func (p *Party) kind() string {
	if p.Kind == "" && p.FirstName != "" && p.VATNumber == "" {
		return Consumer
	}
	if p.Kind == "" {
		return Business
	}
	return p.Kind
}

// vatCountry is the country of the VAT number.
func (p *Party) vatCountry() string {
	if p.VATCountry != "" {
		return p.VATCountry
	}
	return p.Address.country()
}

func (a *Address) country() string {
	if a.Country == "" {
		return "IT"
	}
	return a.Country
}

// identity applies the conventions; it reports nothing.
func (p *Party) identity() identity {
	id := identity{country: p.vatCountry(), code: p.VATNumber, taxCode: p.TaxCode}
	if id.code != "" {
		id.code = withoutCountry(id.country, id.code)
		return id
	}
	switch {
	case id.country == "IT":
		return identity{taxCode: p.TaxCode}
	case id.country == freeTerritory:
		id.code = noVATTerritory
	case p.kind() == Consumer:
		id.code = noVATConsumer
	case in(unionMembers, id.country):
		return identity{taxCode: p.TaxCode}
	default:
		id.code = noVATBusiness
	}
	return id
}

// withoutCountry removes the country that people write before a VAT number. Outside
// the Union the letters may belong to the number, as in the Swiss CHE-123.456.789.
func withoutCountry(country, number string) string {
	prefix := country
	if country == "GR" && strings.HasPrefix(number, "EL") {
		prefix = "EL"
	}
	if !in(unionMembers, country) && country != "GB" {
		return number
	}
	if rest, ok := strings.CutPrefix(number, prefix); ok && len(rest) > 1 {
		return rest
	}
	return number
}

// settleRecipient chooses CodiceDestinatario.
//
// spec: AllA-1.9 §1.5.5
func (c *composer) settleRecipient() {
	c.recipient = c.req.Transmission.RecipientCode
	path := "$.transmission.recipientCode"
	buyer := c.req.Buyer.identity()
	abroad := buyer.country != "" && buyer.country != "IT"
	if c.recipient == "" && c.format != PublicFormat {
		c.recipient = toNobody
		if abroad {
			c.recipient = toForeign
		}
	}
	switch {
	case c.format == PublicFormat && c.recipient == "":
		c.fail(path, "is missing", "give the code of the office of the public body, 6 characters, from the index IPA")
	case c.format == PublicFormat && !codePA.MatchString(c.recipient):
		c.refuse("00427", path, strconv.Quote(c.recipient)+" is no code of a public office", "FPA12 wants the 6 capital letters or digits of the index IPA")
	case c.format != PublicFormat && !codeB2B.MatchString(c.recipient):
		c.refuse("00427", path, strconv.Quote(c.recipient)+" is no code of a recipient", c.format+" wants 7 capital letters or digits; 0000000 when there is none")
	case c.recipient == toForeign && !abroad:
		c.refuse("00313", path, toForeign+" is for buyers abroad with a VAT identification", "use 0000000, or give the country of the buyer")
	}
	if c.recipient != toNobody && c.req.Transmission.CertifiedMail != "" {
		c.advise("$.transmission.certifiedMail", "the address has no effect while the recipient code is not 0000000")
	}
}

// checkParties looks at what the controls compare between seller and buyer.
func (c *composer) checkParties() {
	seller, buyer := c.req.Seller.identity(), c.req.Buyer.identity()
	c.checkIdentity("$.seller", &c.req.Seller, seller)
	c.checkIdentity("$.buyer", &c.req.Buyer, buyer)
	if seller.code == "" && (c.req.Seller.vatCountry() == "IT" || seller.taxCode != "") {
		c.fail("$.seller.vatNumber", "is missing", "a seller must have a VAT number")
	}
	if buyer.code == "" && buyer.taxCode == "" && c.req.Buyer.vatCountry() == "IT" {
		c.refuse("00417", "$.buyer", "has neither VAT number nor tax code", "give one of vatNumber and taxCode")
	}
	if buyer.code == "" && in(selfBilling, c.docType) {
		c.refuse("00475", "$.buyer.vatNumber", "is missing", c.docType+" is written by the buyer, who needs a VAT number")
	}
	if seller.country != "" && seller.country != "IT" && buyer.country != "" && buyer.country != "IT" {
		c.refuse("00476", "$.buyer.vatCountry", "seller and buyer are both foreign", "one of the two must have an Italian VAT number")
	}
	switch c.docType {
	case "TD17", "TD18", "TD19", "TD28":
		if seller.country == "IT" {
			c.refuse("00473", "$.seller.vatCountry", "is IT", c.docType+" is for suppliers abroad: the seller of the document is the supplier")
		}
	case "TD29":
		if seller.country != "IT" {
			c.refuse("00473", "$.seller.vatCountry", "is "+seller.country, "TD29 is for suppliers in Italy")
		}
	}
	c.checkSameness(seller, buyer)
	if c.req.Buyer.kind() == PublicBody && c.format == PrivateFormat {
		c.advise("$.format", "public bodies listed in the index IPA refuse FPR12 (00399): leave format empty for FPA12")
	}
}

// checkIdentity checks the codes of one party.
func (c *composer) checkIdentity(path string, p *Party, id identity) {
	if p.Kind != "" && !in([]string{Business, Consumer, PublicBody}, p.Kind) {
		c.fail(path+".kind", strconv.Quote(p.Kind)+" is no kind of party", "use business, consumer or publicBody")
	}
	if country := p.vatCountry(); !upper2.MatchString(country) {
		c.fail(path+".vatCountry", strconv.Quote(country)+" is no country", "use two capital letters, such as IT")
	}
	if id.code != p.VATNumber && p.VATNumber != "" {
		c.changed(path+".vatNumber", p.VATNumber, id.code, "the country is an element of its own")
	}
	switch {
	case id.code == "" && id.taxCode == "" && p.vatCountry() != "IT":
		c.fail(path+".vatNumber", "is missing for a business in the European Union", "give the VAT number, or set kind to consumer for a private person")
	case id.code != "" && id.country == "IT" && !vatIT.MatchString(id.code):
		c.fail(path+".vatNumber", strconv.Quote(id.code)+" is no Italian VAT number", "give its 11 digits, or the vatCountry if it is foreign")
	case id.code != "" && !vatText.MatchString(id.code):
		c.fail(path+".vatNumber", strconv.Quote(id.code)+" is no VAT number", "use 1 to 28 letters and digits without spaces")
	}
	if id.taxCode != "" && !taxText.MatchString(id.taxCode) {
		c.fail(path+".taxCode", strconv.Quote(id.taxCode)+" is no tax code", "give 16 capital letters and digits, or the 11 digits of a company; for foreign codes use vatNumber")
	}
}

// checkSameness compares seller and buyer as SdI does. Members of a VAT group
// share the number and differ in the tax code.
//
// spec: AllA-1.9 App.1 (00471, 00472)
func (c *composer) checkSameness(seller, buyer identity) {
	same := false
	switch {
	case buyer.code != "":
		same = seller.country == buyer.country && seller.code == buyer.code &&
			(seller.taxCode == "" || buyer.taxCode == "" || seller.taxCode == buyer.taxCode)
	case buyer.taxCode != "":
		same = buyer.taxCode == seller.taxCode || seller.taxCode == "" && buyer.taxCode == seller.code
	}
	switch c.docType {
	case "TD21", "TD27":
		if !same {
			c.refuse("00472", "$.buyer", "is not the seller", c.docType+" is an invoice to oneself: leave the buyer empty")
		}
	case "TD04", "TD05", "TD08", "TD09", "TD22", "TD23", "TD26":
	default:
		if same && buyer != (identity{}) {
			c.refuse("00471", "$.buyer", "is the seller", "use TD21 or TD27 for supplies to oneself, else correct the parties")
		}
	}
}
