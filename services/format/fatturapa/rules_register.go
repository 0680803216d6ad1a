package fatturapa

// registerRules are the controls that SdI decides with its registers, and what of
// them can be told from check digits.
var registerRules = []rule{
	digitRule("00300", everyKind, "IdTrasmittente", ruleTransmitterDigits),
	digitRule("00301", everyKind, "CedentePrestatore/IdFiscaleIVA", ruleSellerVATDigits),
	digitRule("00302", everyKind, "CedentePrestatore/CodiceFiscale", ruleSellerCodeDigits),
	digitRule("00303", everyKind, "RappresentanteFiscale/IdFiscaleIVA", ruleRepresentativeVATDigits),
	digitRule("00304", ordinary, "RappresentanteFiscale/CodiceFiscale", ruleRepresentativeCodeDigits),
	digitRule("00305", everyKind, "CessionarioCommittente/IdFiscaleIVA", ruleBuyerVATDigits),
	digitRule("00306", everyKind, "CessionarioCommittente/CodiceFiscale", ruleBuyerCodeDigits),

	registerRule("00002", everyKind, 0, Text{"Nome file già usato in un invio precedente", "File name used in an earlier transmission"}),
	registerRule("00300", everyKind, 0, Text{"IdTrasmittente in Anagrafe Tributaria", "IdTrasmittente in the tax register"}),
	registerRule("00301", everyKind, 0, Text{"Partita IVA del cedente esistente e non cessata", "VAT number of the seller exists and has not ceased"}),
	registerRule("00302", everyKind, 0, Text{"Codice fiscale del cedente esistente", "Tax code of the seller exists"}),
	registerRule("00303", everyKind, 0, Text{"Partita IVA dei rappresentanti fiscali esistente", "VAT numbers of the tax representatives exist"}),
	registerRule("00304", ordinary, 0, Text{"Codice fiscale del rappresentante fiscale esistente", "Tax code of the tax representative exists"}),
	registerRule("00305", everyKind, 0, Text{"Partita IVA del cessionario esistente", "VAT number of the buyer exists"}),
	registerRule("00306", everyKind, 0, Text{"Codice fiscale del cessionario esistente", "Tax code of the buyer exists"}),
	registerRule("00311", everyKind, 0, Text{"CodiceDestinatario esistente", "CodiceDestinatario exists"}),
	registerRule("00312", ordinary, 0, Text{"CodiceDestinatario attivo", "CodiceDestinatario is active"}),
	registerRule("00320", everyKind, 0, Text{"Partita IVA e codice fiscale del cedente coerenti", "VAT number and tax code of the seller belong together"}),
	registerRule("00321", everyKind, 0, Text{"Cedente partecipante al gruppo IVA", "Seller is a member of the VAT group"}),
	registerRule("00322", everyKind, 0, Text{"Codice fiscale del cedente presente per un gruppo IVA", "Tax code of the seller given for a VAT group"}),
	registerRule("00323", ordinary, 0, Text{"Partita IVA del cedente non cessata da oltre cinque anni", "VAT number of the seller did not cease more than five years ago"}),
	registerRule("00324", everyKind, 0, Text{"Partita IVA e codice fiscale del cessionario coerenti", "VAT number and tax code of the buyer belong together"}),
	registerRule("00325", private|simplified, 0, Text{"Cessionario partecipante al gruppo IVA", "Buyer is a member of the VAT group"}),
	registerRule("00326", private|simplified, 0, Text{"Codice fiscale del cessionario presente per un gruppo IVA", "Tax code of the buyer given for a VAT group"}),
	registerRule("00327", private|simplified, 20260515, Text{"Codice fiscale del cessionario: del partecipante e non del gruppo IVA", "Tax code of the buyer: of the member, not of the VAT group"}),
	registerRule("00398", public, 0, Text{"Ufficio centrale usato senza un solo ufficio attivo in IPA", "Central office used while IPA has no single active office"}),
	registerRule("00399", private, 0, Text{"Cessionario non presente in IPA con uffici attivi", "Buyer is not in IPA with active offices"}),
	registerRule("00404", everyKind, 0, Text{"Documento già trasmesso", "Document sent before"}),
	registerRule("00477", ordinary, 0, Text{"Dichiarazione d'intento non invalidata", "Declaration of intent not invalidated"}),
}

func registerRule(code string, k kinds, from int, what Text) rule {
	return rule{code: code, kinds: k, severity: SeverityError, from: from, authority: true, clause: "AllA-1.9 App.1 (" + code + ")",
		message: what, hint: Text{"Lo decide il SdI con i propri archivi", "SdI decides it with its registers"}}
}

func digitRule(code string, k kinds, where string, f func(*check)) rule {
	return rule{code: code, kinds: k, severity: SeverityWarning, clause: "AllA-1.9 App.1 (" + code + "), check digit only", file: f,
		message: Text{"Carattere di controllo errato in " + where + ": il codice non può esistere", "Wrong check character in " + where + ": the code cannot exist"},
		hint:    Text{"Ricopiare il codice dal documento del soggetto", "Copy the code again from a document of the subject"}}
}

// digits reports a code with a wrong check digit, as the options ask.
func (c *check) digits(parent NodeID, t tag, code string, valid func(string) bool) {
	if code == "" || parent == 0 || c.o.CheckDigits == CheckDigitsOff || valid(code) {
		return
	}
	s := SeverityWarning
	if c.o.CheckDigits == CheckDigitsError {
		s = SeverityError
	}
	c.unsure(s, c.at(parent, t), plain(code), plain(""))
}

// vatDigits looks at Italian VAT numbers only: other countries have other rules.
func (c *check) vatDigits(id *IdFiscale) {
	if id.IdPaese == "IT" {
		c.digits(id.Node, tagIdCodice, id.IdCodice, ValidVATNumber)
	}
}

func ruleTransmitterDigits(c *check) {
	if id := &c.f.Header.DatiTrasmissione.IdTrasmittente; id.IdPaese == "IT" {
		c.digits(id.Node, tagIdCodice, id.IdCodice, ValidTaxCode)
	}
}

func ruleSellerVATDigits(c *check) { c.vatDigits(&c.seller().IdFiscaleIVA) }

func ruleSellerCodeDigits(c *check) {
	c.digits(c.seller().Node, tagCodiceFiscale, c.seller().CodiceFiscale, ValidTaxCode)
}

// representatives lists the tax representatives, of the seller first.
func (c *check) representatives() []*Rappresentante {
	h := &c.f.Header
	return []*Rappresentante{h.RappresentanteFiscale, h.CedentePrestatore.RappresentanteFiscale, h.CessionarioCommittente.RappresentanteFiscale}
}

func ruleRepresentativeVATDigits(c *check) {
	for _, r := range c.representatives() {
		if r != nil {
			c.vatDigits(&r.DatiAnagrafici.IdFiscaleIVA)
		}
	}
}

func ruleRepresentativeCodeDigits(c *check) {
	for _, r := range c.representatives() {
		if r != nil {
			c.digits(r.DatiAnagrafici.Node, tagCodiceFiscale, r.DatiAnagrafici.CodiceFiscale, ValidTaxCode)
		}
	}
}

func ruleBuyerVATDigits(c *check) { c.vatDigits(&c.buyer().IdFiscaleIVA) }

func ruleBuyerCodeDigits(c *check) {
	c.digits(c.buyer().Node, tagCodiceFiscale, c.buyer().CodiceFiscale, ValidTaxCode)
}
