package fatturapa

// The types of document that most of these rules speak of came with version 1.6 of
// the specifications, in force alone from 2021.

// partyRules compare seller, buyer and type of document.
var partyRules = []rule{
	{code: "00417", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00417"), file: ruleBuyerIdentified,
		message: Text{"Il cessionario/committente non ha né IdFiscaleIVA né CodiceFiscale", "The buyer has neither IdFiscaleIVA nor CodiceFiscale"},
		hint:    Text{"Indicare almeno uno dei due", "Give at least one of the two"}},
	{code: "00471", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00471"), each: ruleSellerNotBuyer,
		message: Text{"Per questo TipoDocumento cedente e cessionario devono essere soggetti diversi", "For this TipoDocumento seller and buyer must be different"},
		hint:    Text{"Controllare le parti, oppure usare TD21 o TD27 se l'operazione è verso sé stessi", "Check the parties, or use TD21 or TD27 when one supplies oneself"}},
	{code: "00472", kinds: ordinary, severity: SeverityError, from: 20210101, clause: cite(clauseA, "00472"), each: ruleSellerIsBuyer,
		message: Text{"Per questo TipoDocumento cedente e cessionario devono coincidere", "For this TipoDocumento seller and buyer must be the same"},
		hint:    Text{"Indicare lo stesso soggetto come cedente e come cessionario", "Give the same subject as seller and as buyer"}},
	{code: "00473", kinds: ordinary, severity: SeverityError, from: 20210101, clause: cite(clauseA, "00473"), each: ruleSellerCountry,
		message: Text{"Il paese del cedente non è ammesso per questo TipoDocumento", "The country of the seller is not allowed for this TipoDocumento"},
		hint: Text{"TD17, TD18, TD19 e TD28 vogliono un cedente estero (OO per Livigno e Campione con TD17 e TD19), TD29 un cedente IT",
			"TD17, TD18, TD19 and TD28 want a foreign seller (OO for Livigno and Campione with TD17 and TD19), TD29 a seller in IT"}},
	{code: "00475", kinds: ordinary, severity: SeverityError, from: 20210101, clause: cite(clauseA, "00475"), each: ruleBuyerVAT,
		message: Text{"Per questo TipoDocumento il cessionario deve avere l'IdFiscaleIVA", "For this TipoDocumento the buyer must have IdFiscaleIVA"},
		hint:    Text{"Aggiungere la partita IVA del cessionario", "Add the VAT number of the buyer"}},
	{code: "00476", kinds: everyKind, severity: SeverityError, clause: cite(clauseA, "00476"), file: ruleBothForeign,
		message: Text{"Cedente e cessionario sono entrambi esteri", "Seller and buyer are both foreign"},
		hint:    Text{"Almeno uno dei due IdPaese deve essere IT", "At least one IdPaese must be IT"}},
}

func (c *check) seller() *DatiAnagrafici { return &c.f.Header.CedentePrestatore.DatiAnagrafici }
func (c *check) buyer() *DatiAnagrafici  { return &c.f.Header.CessionarioCommittente.DatiAnagrafici }

func ruleBuyerIdentified(c *check) {
	b := c.buyer()
	if c.f.Header.CessionarioCommittente.Node != 0 && !b.IdFiscaleIVA.Present() && b.CodiceFiscale == "" {
		node := b.Node
		if node == 0 {
			node = c.f.Header.CessionarioCommittente.Node
		}
		c.report(node, "", "IdFiscaleIVA, CodiceFiscale")
	}
}

// sameness compares seller and buyer as far as the file allows.
type sameness uint8

const (
	different sameness = iota
	same
	undecided // only the register of VAT groups or of tax codes can tell
)

// sameParty compares VAT numbers. Members of a VAT group share one, so equal
// numbers with different tax codes are left open; so is a buyer who gives only a
// tax code that is not the one of the seller as far as the file shows.
func (c *check) sameParty() sameness {
	s, b := c.seller(), c.buyer()
	codesDiffer := s.CodiceFiscale != "" && b.CodiceFiscale != "" && s.CodiceFiscale != b.CodiceFiscale
	if b.IdFiscaleIVA.Present() {
		if s.IdFiscaleIVA.IdPaese != b.IdFiscaleIVA.IdPaese || s.IdFiscaleIVA.IdCodice != b.IdFiscaleIVA.IdCodice {
			return different
		}
		if codesDiffer {
			return undecided
		}
		return same
	}
	switch {
	case b.CodiceFiscale == "":
		return different
	case b.CodiceFiscale == s.CodiceFiscale:
		return same
	case codesDiffer:
		return different
	case s.IdFiscaleIVA.IdPaese == "IT" && b.CodiceFiscale == s.IdFiscaleIVA.IdCodice:
		return same // the tax code of a company is as a rule its VAT number
	}
	return undecided
}

func ruleSellerNotBuyer(c *check, b *Body) {
	doc := b.Documento()
	agreed := oneOf(doc.TipoDocumento, "TD16", "TD17", "TD18", "TD19", "TD20", "TD29", "TD07")
	if !agreed && !oneOf(doc.TipoDocumento, "TD01", "TD02", "TD03", "TD06", "TD24", "TD25", "TD28") {
		return
	}
	found := c.sameParty()
	if found == different {
		return
	}
	at := c.at(doc.Node, tagTipoDocumento)
	actual := plain(doc.TipoDocumento + " " + c.seller().IdFiscaleIVA.String())
	apart := Text{"cedente diverso dal cessionario", "a seller other than the buyer"}
	switch found {
	case same:
		if agreed {
			c.reportText(at, actual, apart)
		} else {
			c.disputeText(at, actual, apart, "disputed for "+doc.TipoDocumento+": AllA-1.9 and Rappresentazione tabellare only, not Elenco-2.0")
		}
	case undecided:
		if c.buyer().IdFiscaleIVA.Present() {
			c.unsure(SeverityWarning, at, actual, apart)
		}
	}
}

func ruleSellerIsBuyer(c *check, b *Body) {
	doc := b.Documento()
	if doc.TipoDocumento != "TD21" && doc.TipoDocumento != "TD27" {
		return
	}
	at := c.at(doc.Node, tagTipoDocumento)
	buyer := c.buyer().IdFiscaleIVA.String()
	if buyer == "" {
		buyer = c.buyer().CodiceFiscale
	}
	actual, expected := doc.TipoDocumento+" "+buyer, c.seller().IdFiscaleIVA.String()
	switch c.sameParty() {
	case different:
		if doc.TipoDocumento == "TD21" {
			c.report(at, actual, expected)
		} else {
			c.dispute(at, actual, expected, "disputed for TD27: AllA-1.9 and Rappresentazione tabellare only, not Elenco-2.0")
		}
	case undecided:
		c.unsure(SeverityWarning, at, plain(actual), plain(expected))
	}
}

func ruleSellerCountry(c *check, b *Body) {
	doc := b.Documento()
	id := &c.seller().IdFiscaleIVA
	if id.IdPaese == "" {
		return
	}
	at := c.at(id.Node, tagIdPaese)
	switch doc.TipoDocumento {
	case "TD17", "TD18", "TD19", "TD28":
		if id.IdPaese == "IT" {
			c.reportText(at, plain(doc.TipoDocumento+" IT"), notItaly)
		}
	case "TD29":
		if id.IdPaese != "IT" {
			c.report(at, doc.TipoDocumento+" "+id.IdPaese, "IT")
		}
	}
}

func ruleBuyerVAT(c *check, b *Body) {
	doc := b.Documento()
	if oneOf(doc.TipoDocumento, "TD16", "TD17", "TD18", "TD19", "TD20", "TD22", "TD23", "TD28", "TD29") && !c.buyer().IdFiscaleIVA.Present() {
		c.report(max(c.buyer().Node, c.f.Header.CessionarioCommittente.Node), doc.TipoDocumento, "IdFiscaleIVA")
	}
}

func ruleBothForeign(c *check) {
	s, b := &c.seller().IdFiscaleIVA, &c.buyer().IdFiscaleIVA
	if s.IdPaese != "" && b.IdPaese != "" && s.IdPaese != "IT" && b.IdPaese != "IT" {
		c.report(c.at(s.Node, tagIdPaese), s.IdPaese+", "+b.IdPaese, "IT")
	}
}
