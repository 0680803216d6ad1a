package conservation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
)

// retentionYears of invoices. spec: CC art. 2220
const retentionYears = 10

// facts is what the settled invoice told about itself: what metadata and search are made from.
type facts struct {
	SdiID    string `json:"sdi_id"`
	FileName string `json:"file_name"`
	State    string `json:"state"`
	Signed   bool   `json:"signed"`
	Bodies   []body `json:"bodies"`
	// Enveloped: the signature is in the XML (XAdES), and no envelope around it.
	Enveloped bool  `json:"enveloped,omitempty"`
	Seller    party `json:"seller"`
	Buyer     party `json:"buyer"`
	// SellerPerson and BuyerPerson are set where the invoice gives them a name and a surname, and no company's name.
	SellerPerson *person `json:"seller_person,omitempty"`
	BuyerPerson  *person `json:"buyer_person,omitempty"`
	// Office is the code of the public body's office that the invoice went to, in the index of public administrations.
	Office string `json:"office,omitempty"`
	// Imported is the id of an invoice that was issued elsewhere and taken in for preservation only: it has
	// no IdentificativoSdI of ours, and names of such files repeat.
	Imported string `json:"imported,omitempty"`
	// Received: the tenant's company is the buyer, and not who issued it.
	Received bool `json:"received,omitempty"`
	// Inbound is the id of an invoice that SdI delivered. Its IdentificativoSdI is no key: an invoice between two
	// companies of one tenant has the same one as issued and as received.
	Inbound string `json:"inbound,omitempty"`
	// Mail is set for what is no invoice but of a mailbox of certified mail.
	Mail *mailFacts `json:"mail,omitempty"`
	// Integrates is the digest (base64) of the invoice that later receipts belong to.
	Integrates string `json:"integrates,omitempty"`
	// Deposit is set for what a producer handed over itself.
	Deposit *deposited `json:"deposit,omitempty"`
	// Holder is whose the document is, where that is not the seller.
	Holder *party `json:"holder,omitempty"`
}

// of is what holds for one body: what a foreign package says of it comes before what holds for the whole.
func (f facts) of(b body, class string, year int32) inside {
	in := inside{FileName: f.FileName, SdiID: f.SdiID, State: f.State, Class: class, Year: year, Seller: f.Seller, Buyer: f.Buyer}
	if b.Inside == nil {
		return in
	}
	own := *b.Inside
	own.FileName, own.State = cmp.Or(own.FileName, in.FileName), cmp.Or(own.State, in.State)
	own.Class, own.Year = cmp.Or(own.Class, class), cmp.Or(own.Year, year)
	return own
}

// holder is whose the document is.
func (f facts) holder() party {
	if f.Holder != nil {
		return *f.Holder
	}
	return f.Seller
}

type body struct {
	Type   string `json:"type"`
	Number string `json:"number"`
	Date   string `json:"date"` // ISO
	// Of a document inside a package of another preserver, where the package as a whole is one unit.
	Inside *inside `json:"inside,omitempty"`
}

// inside is what is known of one document of a foreign package: it takes the place of what the facts say of the whole.
type inside struct {
	Path     string `json:"path"`
	FileName string `json:"file_name,omitempty"`
	SdiID    string `json:"sdi_id,omitempty"`
	State    string `json:"state,omitempty"`
	Class    string `json:"class,omitempty"`
	Year     int32  `json:"fiscal_year,omitempty"`
	Seller   party  `json:"seller"`
	Buyer    party  `json:"buyer"`
}

type party struct {
	Name    string `json:"name"`
	VAT     string `json:"vat"` // with its country: IT01234567897
	TaxCode string `json:"tax_code"`
}

// person is a name in its parts.
type person struct {
	First string `json:"first"`
	Last  string `json:"last"`
}

func factsOf(ev *invoicev1.InvoiceSettled) facts {
	f := facts{
		SdiID: ev.GetSdiId(), FileName: ev.GetFileName(), State: strings.TrimPrefix(ev.GetState(), "INVOICE_STATE_"),
		Signed: strings.HasSuffix(strings.ToLower(ev.GetFileName()), ".p7m"),
		Seller: party{ev.GetSellerName(), ev.GetSellerVatNumber(), ev.GetSellerTaxCode()},
		Buyer:  party{ev.GetBuyerName(), ev.GetBuyerVatNumber(), ev.GetBuyerTaxCode()},
	}
	if f.State == stateImported {
		f.Imported, f.Received = ev.GetInvoice()[strings.LastIndexByte(ev.GetInvoice(), '/')+1:], ev.GetReceived()
	}
	for _, b := range ev.GetBodies() {
		f.Bodies = append(f.Bodies, body{Type: b.GetDocumentType(), Number: b.GetNumber(), Date: b.GetIssueDate()})
	}
	return f
}

func (f facts) encode() ([]byte, error) {
	raw, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("conservation: facts: %w", err)
	}
	return raw, nil
}

// unitKey says which document it is: one unit per key, however often the event comes.
func (f facts) unitKey() (string, error) {
	switch {
	case f.Deposit != nil:
		return f.Deposit.unitKey(), nil
	case f.Mail != nil:
		return f.Mail.key(), nil
	case f.Imported != "":
		return "IMP|" + f.Imported, nil
	case f.Inbound != "":
		return "IN|" + f.Inbound, nil
	case f.SdiID != "":
		return "SDI|" + f.SdiID, nil
	case f.FileName != "":
		return "OUT|" + f.FileName, nil
	}
	return "", fault.Invalid("UNIT_WITHOUT_KEY", "the settled invoice has neither an IdentificativoSdI nor a file name")
}

// settled are the states in which an invoice is kept, with its class and the receipts of which one
// must be there. spec: Provv-89757-2018; DM55-2013
var settled = map[string]struct {
	class    string
	receipts []string
}{
	"DELIVERED":                  {classPrivate, []string{"RC"}},
	"AVAILABLE_IN_RESERVED_AREA": {classPrivate, []string{"MC"}},
	"PA_ACCEPTED":                {classPublic, []string{"NE"}},
	"PA_REFUSED":                 {classPublic, []string{"NE"}}, // issued all the same: kept with its refusal
	"PA_TERM_EXPIRED":            {classPublic, []string{"DT"}},
	"ATTESTED":                   {classPublic, []string{"AT"}},
}

// stateImported is the state of an invoice that was issued elsewhere: no receipt belongs to it.
const stateImported = "IMPORTED"

// importClass is where an imported document is kept: with those of public bodies when its format is theirs
// and the tenant issued it.
func importClass(ev *invoicev1.InvoiceSettled) string {
	if strings.HasPrefix(ev.GetFormat(), "FPA") && !ev.GetReceived() {
		return classPublic
	}
	return classPrivate
}

// refusedNS: the notice of discard makes the invoice one that was never issued.
const refusedNS = "SCARTATA_MAI_EMESSA: SdI discarded the file, so the invoice was never issued and is not preserved"

// admit judges the event at the door. problem is set for what is refused for good and recorded; an
// error is for what a person has to look at.
func (f facts) admit(ev *invoicev1.InvoiceSettled) (class, problem string, err error) {
	var types []string
	for _, r := range ev.GetReceipts() {
		types = append(types, r.GetType())
	}
	if f.State == "REJECTED" || slices.Contains(types, "NS") {
		return classPrivate, refusedNS, nil
	}
	rule, ok := settled[f.State]
	if f.State == stateImported {
		rule.class, ok = importClass(ev), true
	}
	if !ok {
		return "", "", fault.Invalid("UNIT_STATE", "an invoice in state %q is not kept: it is not settled", ev.GetState())
	}
	if len(rule.receipts) > 0 && !slices.ContainsFunc(rule.receipts, func(want string) bool { return slices.Contains(types, want) }) {
		return "", "", fault.Precondition("UNIT_WITHOUT_RECEIPT", "state %s wants a receipt %s, the event brings %q", f.State, strings.Join(rule.receipts, " or "), types)
	}
	if f.Seller.Name == "" && f.Seller.anyCode() == "" {
		return "", "", fault.Invalid("UNIT_WITHOUT_SELLER", "the settled invoice does not say who issued it")
	}
	if len(f.Bodies) == 0 {
		return "", "", fault.Invalid("UNIT_WITHOUT_BODY", "the settled invoice names no document (type, number, date)")
	}
	for i, b := range f.Bodies {
		_, err = time.Parse(time.DateOnly, b.Date)
		if err != nil {
			return "", "", fault.Invalid("UNIT_DATE", "bodies[%d].issue_date %q is not a date", i, b.Date)
		}
	}
	return rule.class, "", nil
}

var (
	elevenDigits = regexp.MustCompile(`^[0-9]{11}$`)
	vatForm      = regexp.MustCompile(`^[A-Z]{2}[A-Za-z0-9]+$`)
	personalCode = regexp.MustCompile(`^[A-Z0-9]{16}$`)
	fiscalCode   = regexp.MustCompile(`^[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]$`)
)

// italianCode is the 11-digit number of Allegato 5 (VAT number or tax code of a body), empty when
// the party has none: a foreign number or a person's code does not fit the schema.
func (p party) italianCode() string {
	if n, ok := strings.CutPrefix(p.VAT, "IT"); ok && elevenDigits.MatchString(n) {
		return n
	}
	if elevenDigits.MatchString(p.TaxCode) {
		return p.TaxCode
	}
	return ""
}

// fiscalCodeOf is the tax code of a person in the form of Allegato 5, empty when there is none: a provisional one of eleven digits does not fit.
func (p party) fiscalCodeOf() string {
	if fiscalCode.MatchString(p.TaxCode) {
		return p.TaxCode
	}
	return ""
}

// unwritten are the identifiers of a party that have no element of their own beside a code that was written.
func (p party) unwritten(code string) (ids []string) {
	for _, id := range []string{p.VAT, p.TaxCode} {
		if id != "" && id != code && id != "IT"+code {
			ids = append(ids, id)
		}
	}
	return ids
}

// anyCode is what identifies the party, whatever its form.
func (p party) anyCode() string { return cmp.Or(p.italianCode(), p.VAT, p.TaxCode) }

// agentIDs are the identifiers in the form of EN 319 412-1 §5.1.
func (p party) agentIDs() []string {
	var ids []string
	if vatForm.MatchString(p.VAT) {
		ids = append(ids, "VAT"+p.VAT[:2]+"-"+p.VAT[2:])
	}
	if elevenDigits.MatchString(p.TaxCode) || personalCode.MatchString(p.TaxCode) {
		ids = append(ids, "TINIT-"+p.TaxCode)
	}
	return ids
}
