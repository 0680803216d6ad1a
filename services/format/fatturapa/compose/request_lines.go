package compose

// Line is one good or service.
type Line struct {
	Description string `json:"description"`
	// Kind is SC, PR, AB or AC (TipoCessionePrestazione); empty for an ordinary line.
	Kind     string     `json:"kind,omitempty"`
	Codes    []ItemCode `json:"codes,omitempty"`
	Quantity Number     `json:"quantity,omitempty"` // empty counts as 1
	Unit     string     `json:"unit,omitempty"`
	From     string     `json:"from,omitempty"` // period of the service
	To       string     `json:"to,omitempty"`
	// UnitPrice is without VAT; in FSM10 with VAT. It may be negative.
	UnitPrice Number `json:"unitPrice"`
	// Discounts apply to the unit price, in their order, each to what is left.
	Discounts []Discount `json:"discounts,omitempty"`
	// VATRate is a percentage such as "22.00"; empty with a Nature is zero.
	VATRate Number `json:"vatRate,omitempty"`
	// VATAmount replaces VATRate in FSM10: the VAT within the price of the line.
	VATAmount Number `json:"vatAmount,omitempty"`
	Nature    string `json:"nature,omitempty"` // Natura, why there is no VAT
	// LegalReference is RiferimentoNormativo of the summary. Lines of the same rate
	// and nature with different references get a summary each.
	LegalReference string `json:"legalReference,omitempty"`
	// Collectability is EsigibilitaIVA; empty: the one of the document.
	Collectability          string      `json:"collectability,omitempty"`
	Withholding             bool        `json:"withholding,omitempty"` // Ritenuta
	AdministrativeReference string      `json:"administrativeReference,omitempty"`
	Extra                   []ExtraData `json:"extra,omitempty"` // AltriDatiGestionali
}

// ItemCode is CodiceArticolo.
type ItemCode struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// ExtraData is AltriDatiGestionali.
type ExtraData struct {
	Type   string `json:"type"`
	Text   string `json:"text,omitempty"`
	Number Number `json:"number,omitempty"`
	Date   string `json:"date,omitempty"`
}

// Fund is DatiCassaPrevidenziale: a contribution charged to the buyer.
type Fund struct {
	Type string `json:"type"` // TC01 to TC22
	Rate Number `json:"rate"`
	// Base is what the rate applies to. Empty: all lines but those of nature N1.
	Base           Number `json:"base,omitempty"`
	VATRate        Number `json:"vatRate,omitempty"`
	Nature         string `json:"nature,omitempty"`
	LegalReference string `json:"legalReference,omitempty"`
	// Collectability is as in [Line].
	Collectability          string `json:"collectability,omitempty"`
	Withholding             bool   `json:"withholding,omitempty"`
	AdministrativeReference string `json:"administrativeReference,omitempty"`
}

// Withholding is DatiRitenuta: what the buyer keeps back.
type Withholding struct {
	Type  string `json:"type"`  // RT01 to RT06
	Rate  Number `json:"rate"`  // of the base
	Cause string `json:"cause"` // CausalePagamento, e.g. A
	// BasePercent is the part of the lines and funds with Withholding that is
	// subject to it, for example "50.00" for commissions. Empty is all.
	BasePercent Number `json:"basePercent,omitempty"`
}

// The two practices for the stamp duty.
const (
	Absorbed  = "absorbed"  // the seller pays it: no effect on the total
	Recharged = "recharged" // the buyer pays it back: a line outside VAT is added
)

// StampDuty asks for DatiBollo. Without it no stamp duty is written, whatever the
// amounts; the report says when it is due.
type StampDuty struct {
	Practice string `json:"practice,omitempty"` // empty is [Absorbed]
	Amount   Number `json:"amount,omitempty"`   // empty is 2.00
	// Description, Nature and LegalReference are of the line that recharges it. Nature
	// empty is N1, an advance in the name of the buyer (art. 15 DPR 633/72); who pays a
	// flat tax gives N2.2, since there it is part of the fee.
	Description    string `json:"description,omitempty"`
	Nature         string `json:"nature,omitempty"`
	LegalReference string `json:"legalReference,omitempty"`
}

// Payment is DatiPagamento.
type Payment struct {
	// Terms is TP01 (instalments), TP02 (in full) or TP03 (advance). Empty: by the
	// number of instalments.
	Terms       string       `json:"terms,omitempty"`
	Instalments []Instalment `json:"instalments"`
}

// Instalment is DettaglioPagamento.
type Instalment struct {
	Payee    string `json:"payee,omitempty"`
	Method   string `json:"method"` // MP01 to MP23
	FromDate string `json:"fromDate,omitempty"`
	Days     *int   `json:"days,omitempty"` // after FromDate, 0 to 999
	DueDate  string `json:"dueDate,omitempty"`
	// Amount may be empty: what is left of the payable amount is shared equally
	// by the instalments without one, odd cents on the last.
	Amount          Number `json:"amount,omitempty"`
	PostOffice      string `json:"postOffice,omitempty"`
	Bank            string `json:"bank,omitempty"`
	IBAN            string `json:"iban,omitempty"`
	ABI             string `json:"abi,omitempty"`
	CAB             string `json:"cab,omitempty"`
	BIC             string `json:"bic,omitempty"`
	EarlyDiscount   Number `json:"earlyDiscount,omitempty"`
	EarlyLimitDate  string `json:"earlyLimitDate,omitempty"`
	LatePenalty     Number `json:"latePenalty,omitempty"`
	LatePenaltyDate string `json:"latePenaltyDate,omitempty"`
	Code            string `json:"code,omitempty"`
}

// Attachment is Allegati.
type Attachment struct {
	// Name is the file name with its extension, without folders.
	Name        string `json:"name"`
	Compression string `json:"compression,omitempty"` // e.g. ZIP
	// Format is e.g. PDF. Empty: the extension of Name.
	Format      string `json:"format,omitempty"`
	Description string `json:"description,omitempty"`
	Content     []byte `json:"content"` // base64 in JSON
}
