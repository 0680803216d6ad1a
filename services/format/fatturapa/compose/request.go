package compose

// Request is one document to compose. Money, quantities and rates are decimal
// strings (see [Number]), dates are "YYYY-MM-DD", codes are the statutory ones.
// What is empty is left out of the document.
type Request struct {
	// Format is FPA12, FPR12 or FSM10. Empty: FPA12 for a public buyer, else FPR12.
	Format       string       `json:"format,omitempty"`
	Transmission Transmission `json:"transmission"`
	// Seller is the CedentePrestatore of the document: in an integration or
	// self-invoice of a purchase (TD16 to TD20, TD22, TD23, TD28, TD29) the supplier.
	Seller Party `json:"seller"`
	// Buyer is the CessionarioCommittente. Empty with TD21 and TD27: the seller.
	Buyer Party `json:"buyer"`
	// SellerRepresentative is the tax representative of a foreign seller.
	SellerRepresentative *Representative `json:"sellerRepresentative,omitempty"`
	// Intermediary is who issues the document for the seller.
	Intermediary *Representative `json:"intermediary,omitempty"`
	// IssuedBy is CC (the buyer) or TZ (a third party); empty for the seller.
	IssuedBy string   `json:"issuedBy,omitempty"`
	Document Document `json:"document"`

	Orders         []Reference `json:"orders,omitempty"`         // DatiOrdineAcquisto
	Contracts      []Reference `json:"contracts,omitempty"`      // DatiContratto
	Agreements     []Reference `json:"agreements,omitempty"`     // DatiConvenzione
	Receptions     []Reference `json:"receptions,omitempty"`     // DatiRicezione
	LinkedInvoices []Reference `json:"linkedInvoices,omitempty"` // DatiFattureCollegate
	WorkProgress   []int       `json:"workProgress,omitempty"`   // DatiSAL, phases from 1 to 999
	Deliveries     []Delivery  `json:"deliveries,omitempty"`     // DatiDDT
	Transport      *Transport  `json:"transport,omitempty"`      // DatiTrasporto
	MainInvoice    *Reference  `json:"mainInvoice,omitempty"`    // FatturaPrincipale: number and date
	Vehicle        *Vehicle    `json:"vehicle,omitempty"`        // DatiVeicoli
	Correction     *Correction `json:"correction,omitempty"`     // DatiFatturaRettificata, FSM10 only

	Lines        []Line        `json:"lines"`
	Funds        []Fund        `json:"funds,omitempty"`
	Withholdings []Withholding `json:"withholdings,omitempty"`
	StampDuty    *StampDuty    `json:"stampDuty,omitempty"`
	Payments     []Payment     `json:"payments,omitempty"`
	Attachments  []Attachment  `json:"attachments,omitempty"`
}

// Transmission says who sends the file and where to.
type Transmission struct {
	// SenderCountry and SenderCode are the tax code of who transmits. Empty: the
	// party that issues the document.
	SenderCountry string `json:"senderCountry,omitempty"`
	SenderCode    string `json:"senderCode,omitempty"`
	// Progressive is ProgressivoInvio: 1 to 10 characters.
	Progressive string `json:"progressive"`
	// RecipientCode is CodiceDestinatario. Empty: XXXXXXX for a foreign buyer and
	// 0000000 for any other, but for a public body it must be given.
	RecipientCode string `json:"recipientCode,omitempty"`
	// CertifiedMail is PECDestinatario.
	CertifiedMail string `json:"certifiedMail,omitempty"`
	Phone         string `json:"phone,omitempty"`
	Mail          string `json:"mail,omitempty"`
	// System is SistemaEmittente: the program that wrote the document, 1 to 10
	// characters.
	System string `json:"system,omitempty"`
}

// The kinds of party.
const (
	Business   = "business"   // company or professional
	Consumer   = "consumer"   // private person
	PublicBody = "publicBody" // public administration
)

// Party is a seller or a buyer.
type Party struct {
	// Kind is [Business], [Consumer] or [PublicBody]; empty is business, or
	// consumer when there is a first name and no VAT number.
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`      // of a company, or:
	FirstName string `json:"firstName,omitempty"` // of a person
	LastName  string `json:"lastName,omitempty"`
	Title     string `json:"title,omitempty"`
	EORI      string `json:"eori,omitempty"`
	// VATCountry is the country of the VAT number; empty: the one of the address.
	VATCountry string `json:"vatCountry,omitempty"`
	// VATNumber is without the country.
	VATNumber string  `json:"vatNumber,omitempty"`
	TaxCode   string  `json:"taxCode,omitempty"` // Italian codice fiscale
	Address   Address `json:"address"`
	// PermanentEstablishment is the one in Italy of a foreign party.
	PermanentEstablishment *Address `json:"permanentEstablishment,omitempty"`
	// Representative is the tax representative of a buyer; in FSM10 of a seller too.
	Representative *Representative `json:"representative,omitempty"`

	// The rest is of sellers only.

	// TaxRegime is RF01 to RF20. Empty: RF01, and RF18 for a foreign seller.
	TaxRegime               string                `json:"taxRegime,omitempty"`
	ProfessionalRegister    *ProfessionalRegister `json:"professionalRegister,omitempty"`
	CompanyRegister         *CompanyRegister      `json:"companyRegister,omitempty"`
	Phone                   string                `json:"phone,omitempty"`
	Fax                     string                `json:"fax,omitempty"`
	Mail                    string                `json:"mail,omitempty"`
	AdministrativeReference string                `json:"administrativeReference,omitempty"`
}

// Address is where a party is. Outside Italy PostCode becomes 00000 and Province
// is left out, as the format has no other way; the report says so.
type Address struct {
	Street   string `json:"street"`
	Number   string `json:"number,omitempty"`
	PostCode string `json:"postCode,omitempty"`
	City     string `json:"city"`
	Province string `json:"province,omitempty"`
	Country  string `json:"country,omitempty"` // ISO 3166-1 alpha-2; empty is IT
}

// Representative is a tax representative, an intermediary or a carrier.
type Representative struct {
	VATCountry string `json:"vatCountry,omitempty"` // empty is IT
	VATNumber  string `json:"vatNumber,omitempty"`
	TaxCode    string `json:"taxCode,omitempty"`
	Name       string `json:"name,omitempty"`
	FirstName  string `json:"firstName,omitempty"`
	LastName   string `json:"lastName,omitempty"`
	License    string `json:"license,omitempty"` // of a carrier: NumeroLicenzaGuida
}

// ProfessionalRegister is AlboProfessionale with its data.
type ProfessionalRegister struct {
	Name     string `json:"name,omitempty"`
	Province string `json:"province,omitempty"`
	Number   string `json:"number,omitempty"`
	Date     string `json:"date,omitempty"`
}

// CompanyRegister is IscrizioneREA.
type CompanyRegister struct {
	Office       string `json:"office"` // province
	Number       string `json:"number"`
	ShareCapital Number `json:"shareCapital,omitempty"`
	SoleOwner    string `json:"soleOwner,omitempty"`   // SU or SM
	Liquidation  string `json:"liquidation,omitempty"` // LS or LN; empty is LN
}

// The ways to round lines.
const (
	RoundLines     = "line"    // each line total to the cent
	RoundSummaries = "summary" // line totals keep up to 8 decimals, each summary rounds
)

// Document is the head of the document.
type Document struct {
	// Type is TD01 to TD29, in FSM10 TD07 to TD09. Empty: TD01, in FSM10 TD07.
	Type     string `json:"type,omitempty"`
	Currency string `json:"currency,omitempty"` // ISO 4217; empty is EUR
	Date     string `json:"date"`
	Number   string `json:"number"`
	// Causes are split into pieces of 200 characters where needed.
	Causes []string `json:"causes,omitempty"`
	// Article73 marks documents numbered under art. 73 DPR 633/72.
	Article73 bool `json:"article73,omitempty"`
	// Discounts apply to the total with VAT, in their order.
	Discounts []Discount `json:"discounts,omitempty"`
	// Rounding is added to the total, for example "-0.02".
	Rounding Number `json:"rounding,omitempty"`
	// LineRounding is [RoundLines] (default) or [RoundSummaries].
	LineRounding string `json:"lineRounding,omitempty"`
	// Collectability is EsigibilitaIVA of lines that have none: I, D or S (split
	// payment). Empty: not written.
	Collectability string `json:"collectability,omitempty"`
}

// Discount lowers or, as a surcharge, raises a price. One of Percent and Amount.
type Discount struct {
	Surcharge bool   `json:"surcharge,omitempty"`
	Percent   Number `json:"percent,omitempty"`
	Amount    Number `json:"amount,omitempty"`
}

// Reference points to an order, a contract, an invoice and so on.
type Reference struct {
	ID    string `json:"id"`
	Date  string `json:"date,omitempty"`
	Item  string `json:"item,omitempty"`
	Code  string `json:"code,omitempty"` // CodiceCommessaConvenzione
	CUP   string `json:"cup,omitempty"`
	CIG   string `json:"cig,omitempty"`
	Lines []int  `json:"lines,omitempty"` // numbers of the lines meant, from 1; empty is all
}

// Delivery is a transport document.
type Delivery struct {
	Number string `json:"number"`
	Date   string `json:"date"`
	Lines  []int  `json:"lines,omitempty"`
}

// Vehicle is DatiVeicoli: a new vehicle sold into another state of the Union.
//
// spec: art. 38 c. 4 DL 331/93
type Vehicle struct {
	Registered string `json:"registered"` // date of first registration
	Distance   string `json:"distance"`   // kilometres, hours of sailing or flight; 1 to 15 characters
}

// Transport is DatiTrasporto.
type Transport struct {
	Carrier     *Representative `json:"carrier,omitempty"`
	Means       string          `json:"means,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Packages    int             `json:"packages,omitempty"`
	Description string          `json:"description,omitempty"`
	WeightUnit  string          `json:"weightUnit,omitempty"`
	GrossWeight Number          `json:"grossWeight,omitempty"`
	NetWeight   Number          `json:"netWeight,omitempty"`
	PickedUpAt  string          `json:"pickedUpAt,omitempty"` // YYYY-MM-DDThh:mm:ss
	StartDate   string          `json:"startDate,omitempty"`
	Terms       string          `json:"terms,omitempty"` // Incoterms code
	Destination *Address        `json:"destination,omitempty"`
	DeliveredAt string          `json:"deliveredAt,omitempty"`
}

// Correction says which document a simplified document corrects.
type Correction struct {
	Number   string `json:"number"`
	Date     string `json:"date"`
	Elements string `json:"elements"` // what is corrected
}
