package invoice

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/compose"
	"ceralacca.dev/services/internal/fault"
)

// largestEntry bounds an entry of the book, in bytes; the fields of the format end far below.
const largestEntry = 64 << 10

// findings gathers what is wrong with an entry.
type findings struct{ fields []fault.Field }

func (f *findings) add(path, code, format string, a ...any) {
	if slices.ContainsFunc(f.fields, func(have fault.Field) bool { return have.Path == path }) {
		return // one reason for a field is enough, and the first is the clearest
	}
	f.fields = append(f.fields, fault.Field{Path: path, Code: code, Message: fmt.Sprintf(format, a...)})
}

// fault is nil when nothing was found; else its message says the first thing, and its fields all.
func (f *findings) fault(code string) error {
	if len(f.fields) == 0 {
		return nil
	}
	message := f.fields[0].Path + ": " + f.fields[0].Message
	if more := len(f.fields) - 1; more > 0 {
		message += fmt.Sprintf(" (and %d more)", more)
	}
	out := fault.Invalid(code, "%s", message)
	for _, field := range f.fields {
		out = out.WithField(field.Path, field.Code, field.Message)
	}
	return out
}

// checkContact tidies a contact and refuses one that no draft could use: it is tried as the buyer of an
// invoice, by the same rules as every draft, and as the seller for what only sellers have. What only
// registers know is not asked.
func checkContact(c *invoicev1.Contact) error {
	f := &findings{}
	p := c.GetParty()
	if proto.Size(c) > largestEntry {
		f.add("contact.party", "TOO_LARGE", "has %d bytes, at most %d are allowed: leave out what is no address data", proto.Size(c), largestEntry)
		return f.fault("CONTACT_INVALID")
	}
	if p.GetContact() != "" {
		f.add("contact.party.contact", "MUST_BE_EMPTY", "a contact refers to no other: give its data, and leave this empty")
		return f.fault("CONTACT_INVALID")
	}
	p.VatNumber, p.TaxCode = plainVAT(vatCountry(p), p.GetVatNumber()), strings.ToUpper(strings.TrimSpace(p.GetTaxCode()))
	checkDigits(f, "contact.party", vatCountry(p), p.GetVatNumber(), p.GetTaxCode())
	if r := p.GetRepresentative(); r != nil {
		checkDigits(f, "contact.party.representative", orItaly(r.GetVatCountry()), r.GetVatNumber(), r.GetTaxCode())
	}
	if err := tryBuyer(f, c); err != nil {
		return err
	}
	if err := trySeller(f, c); err != nil {
		return err
	}
	return f.fault("CONTACT_INVALID")
}

// checkDigits verifies Italian numbers.
func checkDigits(f *findings, path, country, vat, tax string) {
	if vat != "" && country == "IT" && !fatturapa.ValidVATNumber(vat) {
		f.add(path+".vat_number", "VAT_NUMBER_INVALID",
			"%q is no Italian VAT number: 11 digits, of which the last checks the others; one of them is wrong or missing, or vat_country is", vat)
	}
	if tax != "" && !fatturapa.ValidTaxCode(tax) {
		f.add(path+".tax_code", "TAX_CODE_INVALID",
			"%q is no Italian tax code: 16 characters or 11 digits, of which the last checks the others; one of them is wrong or missing; a foreign code is no tax_code", tax)
	}
}

// vatCountry is the country of the party's VAT number.
func vatCountry(p *invoicev1.DraftParty) string {
	if p.GetVatCountry() != "" {
		return p.GetVatCountry()
	}
	return orItaly(p.GetAddress().GetCountry())
}

func orItaly(country string) string {
	if country == "" {
		return "IT"
	}
	return country
}

// plainVAT is a number without the blanks around it and, if it is Italian, without its country: the
// form in which numbers are kept and searched.
func plainVAT(country, number string) string {
	number = strings.TrimSpace(number)
	if country != "IT" {
		return number
	}
	if rest, ok := strings.CutPrefix(strings.ToUpper(number), "IT"); ok {
		return rest
	}
	return number
}

// sampleParty is the other side of the invoices in which entries are tried.
func sampleParty() *invoicev1.DraftParty {
	return &invoicev1.DraftParty{Name: "Controparte", VatNumber: "00000000018", TaxRegime: "RF01",
		Address: &invoicev1.Address{Street: "Via Prova", PostCode: "00100", City: "Roma"}}
}

// sample is an invoice to try an entry in.
func sample(seller, buyer *invoicev1.DraftParty, line *invoicev1.Line) *invoicev1.Draft {
	return &invoicev1.Draft{Seller: seller, Buyer: buyer, Transmission: &invoicev1.Transmission{Progressive: "1"},
		Document: &invoicev1.DraftDocument{Date: "2026-01-01", Number: "1"}, Lines: []*invoicev1.Line{line}}
}

func sampleLine() *invoicev1.Line {
	return &invoicev1.Line{Description: "Prova", UnitPrice: "1.00", VatRate: "22.00"}
}

// problems composes a draft and gives what is wrong with it.
func problems(d *invoicev1.Draft) ([]compose.Problem, error) {
	raw, err := protojson.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("invoice: entry as JSON: %w", err)
	}
	r, err := compose.ReadRequest(raw)
	if err != nil {
		return nil, fmt.Errorf("invoice: entry as request: %w", err)
	}
	_, _, err = compose.Compose(r)
	var refused *compose.Error
	if errors.As(err, &refused) {
		return refused.Problems, nil
	}
	if err != nil {
		return nil, fmt.Errorf("invoice: try entry: %w", err)
	}
	return nil, nil
}

// place says which field of an entry a part of its trial is: prefix is a path in the draft, or the name of
// an element for what the checker alone finds in the document.
type place struct{ prefix, field string }

// from keeps the problems of a trial that are about the entry.
func (f *findings) from(list []compose.Problem, places ...place) {
	for _, p := range list {
		code := p.Code
		if code == "" {
			code = "FIELD_INVALID"
		}
		for _, at := range places {
			rest, ok := strings.CutPrefix(p.Path, at.prefix)
			switch {
			case ok && (rest == "" || rest[0] == '.'):
				f.add(at.field+snake(rest), code, "%s; %s", p.What, snakeWords(p.Hint))
			case !strings.HasPrefix(p.Path, "$") && strings.Contains(p.Path, "/"+at.prefix):
				f.add(at.field, code, "%s; %s", p.What, p.Hint)
			}
		}
	}
}

// snake writes the path of a request in JSON as that of the contract: .address.postCode becomes
// .address.post_code.
func snake(path string) string {
	var b strings.Builder
	for _, r := range path {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// snakeWords does the same to the names of fields in a sentence.
func snakeWords(s string) string {
	words := strings.Split(s, " ")
	for i, w := range words {
		if len(w) > 1 && w[0] >= 'a' && w[0] <= 'z' && strings.ToLower(w) != w {
			words[i] = snake(w)
		}
	}
	return strings.Join(words, " ")
}

func tryBuyer(f *findings, c *invoicev1.Contact) error {
	d := sample(sampleParty(), c.GetParty(), sampleLine())
	d.Transmission.RecipientCode, d.Transmission.CertifiedMail = c.GetRecipientCode(), c.GetCertifiedMail()
	list, err := problems(d)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p compose.Problem) bool {
		return p.Code == "00471" || // the contact is who plays the seller here
			p.Path == "$.transmission.recipientCode" && c.GetRecipientCode() == "" // the draft gives it
	})
	f.from(list, place{"$.buyer", "contact.party"}, place{"CessionarioCommittente", "contact.party"},
		place{"$.transmission.recipientCode", "contact.recipient_code"}, place{"$.transmission.certifiedMail", "contact.certified_mail"})
	return nil
}

// sellerOnly are the fields that the format has for sellers alone.
var sellerOnly = []string{"taxRegime", "professionalRegister", "companyRegister", "phone", "fax", "mail", "administrativeReference", "permanentEstablishment"}

func trySeller(f *findings, c *invoicev1.Contact) error {
	p := c.GetParty()
	if p.GetTaxRegime()+p.GetPhone()+p.GetFax()+p.GetMail()+p.GetAdministrativeReference() == "" &&
		p.GetProfessionalRegister() == nil && p.GetCompanyRegister() == nil && p.GetPermanentEstablishment() == nil {
		return nil
	}
	list, err := problems(sample(p, sampleParty(), sampleLine()))
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(p compose.Problem) bool {
		rest := strings.TrimPrefix(p.Path, "$.seller.")
		return !slices.ContainsFunc(sellerOnly, func(name string) bool { return rest == name || strings.HasPrefix(rest, name+".") })
	})
	f.from(list, place{"$.seller", "contact.party"})
	return nil
}

// checkItem refuses an item that no draft could use: it is tried as the line of an invoice. Price and
// VAT may be left to the draft.
func checkItem(i *invoicev1.Item) error {
	f := &findings{}
	l := i.GetLine()
	switch {
	case proto.Size(i) > largestEntry:
		f.add("item.line", "TOO_LARGE", "has %d bytes, at most %d are allowed", proto.Size(i), largestEntry)
		return f.fault("ITEM_INVALID")
	case l.GetItem() != "":
		f.add("item.line.item", "MUST_BE_EMPTY", "an item refers to no other: give its data, and leave this empty")
		return f.fault("ITEM_INVALID")
	case l.GetQuantity() != "":
		f.add("item.line.quantity", "MUST_BE_EMPTY", "how much is sold is for the draft to say: leave this empty")
		return f.fault("ITEM_INVALID")
	}
	tried := proto.CloneOf(l)
	if tried.GetUnitPrice() == "" {
		tried.UnitPrice = "1.00"
	}
	if tried.GetVatRate()+tried.GetNature()+tried.GetVatAmount() == "" {
		tried.VatRate = "22.00"
	}
	d := sample(sampleParty(), &invoicev1.DraftParty{Name: "Cliente", VatNumber: "00000000026", Address: sampleParty().GetAddress()}, tried)
	if l.GetVatAmount() != "" {
		d.Format = compose.SimplifiedFormat
	}
	list, err := problems(d)
	if err != nil {
		return err
	}
	f.from(list, place{"$.lines[0]", "item.line"}, place{"DatiBeniServizi", "item.line"})
	return f.fault("ITEM_INVALID")
}
