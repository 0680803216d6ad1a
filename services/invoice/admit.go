package invoice

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/invoice/internal/db"
)

// maxContent is the size of a file that SdI takes. spec: AllA-1.9 §1.3.1 (control 00003)
const maxContent = 5_000_000

// violation is one finding as it is kept in the row: a warning of ours or an error of SdI.
type violation struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	XPath    string `json:"xpath,omitempty"`
	Line     int    `json:"line,omitempty"`
	Actual   string `json:"actual,omitempty"`
	Expected string `json:"expected,omitempty"`
	JSONPath string `json:"json_path,omitempty"`
	Clause   string `json:"clause,omitempty"`
}

func (v *violation) present() *invoicev1.Violation {
	return &invoicev1.Violation{Code: v.Code, Severity: v.Severity, Message: v.Message, Hint: v.Hint, Xpath: v.XPath,
		Line: int32(v.Line), Actual: v.Actual, Expected: v.Expected, JsonPath: v.JSONPath, Clause: v.Clause}
}

// admission is a file that passed, as far as it is known before it is stored.
type admission struct {
	row      db.Invoice // without ids, times and request
	content  []byte
	ref      blob.Ref // of content, once it is known whose it is
	media    string
	held     []heldNumber
	files    []body
	warnings []violation
	sign     bool
}

// admit reads and checks a file for a company. A signature that is on it already must hold, since the file
// is sent as it is.
//
// Invalid INVOICE_UNREADABLE, INVOICE_INVALID (a field violation for each finding, reason = code of the
// control), SIGNATURE_INVALID (likewise), FORMAT_NOT_SENDABLE, SELLER_MISMATCH; Precondition
// SIGNATURE_REQUIRED.
func admit(content []byte, company *tenancyv1.Company, now time.Time) (*admission, error) {
	if len(content) > maxContent {
		return nil, tooLarge(len(content))
	}
	file, signed, err := read(content, now)
	if err != nil {
		return nil, err
	}
	warnings, err := check(file, now)
	if err != nil {
		return nil, err
	}
	format := file.Formato()
	if format != "FPA12" && format != "FPR12" && format != "FSM10" {
		return nil, contentFault("FORMAT_NOT_SENDABLE", "00428",
			fmt.Sprintf("FormatoTrasmissione %q is not in use any more: write FPA12, FPR12 or FSM10", format))
	}
	a := &admission{content: content, media: mediaXML}
	if signed == signedAround {
		a.media = mediaP7M
	}
	if err := a.describe(file, format); err != nil {
		return nil, err
	}
	if err := a.warn(warnings...); err != nil {
		return nil, err
	}
	if err := belongs(a, file, company); err != nil {
		return nil, err
	}
	a.sign, err = mustSign(signed != signedNot, format, company)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func tooLarge(size int) error {
	return contentFault("INVOICE_TOO_LARGE", "00003",
		fmt.Sprintf("the file has %d bytes and SdI takes at most %d: split the lot or shrink the attachments", size, maxContent))
}

// contentFault is a fault of the field content.
func contentFault(code, reason, message string) error {
	return fault.Invalid(code, "content: %s", message).WithField("content", reason, message)
}

func unparsable(pe *fatturapa.ParseError) error {
	message := pe.Msg
	if pe.Line > 0 {
		message = fmt.Sprintf("line %d, column %d: %s", pe.Line, pe.Column, message)
	}
	if pe.Hint != "" {
		message += ": " + pe.Hint
	}
	if pe.Code == fatturapa.ErrTooLarge {
		return contentFault("INVOICE_TOO_LARGE", "00003", message)
	}
	return contentFault("INVOICE_UNREADABLE", strings.ToUpper(string(pe.Code)), message)
}

// describe fills the columns that say what the file is.
func (a *admission) describe(file *fatturapa.File, format string) error {
	h := &file.Header
	seller, buyer := &h.CedentePrestatore.DatiAnagrafici, &h.CessionarioCommittente.DatiAnagrafici
	r := &a.row
	r.Format, r.RecipientCode = format, h.DatiTrasmissione.CodiceDestinatario
	r.SellerVatNumber, r.SellerTaxCode, r.SellerName = vatOf(seller), strings.ToUpper(seller.CodiceFiscale), seller.Anagrafica.Nominativo()
	r.BuyerVatNumber, r.BuyerTaxCode, r.BuyerName = vatOf(buyer), strings.ToUpper(buyer.CodiceFiscale), buyer.Anagrafica.Nominativo()
	for i := range file.Bodies {
		d := file.Bodies[i].Documento()
		b := body{Type: d.TipoDocumento, Number: d.Numero, Date: string(d.Data), Currency: d.Divisa, Art73: d.Art73 == "SI"}
		if d.ImportoTotaleDocumento.Valid() {
			b.Total = d.ImportoTotaleDocumento.String()
		}
		a.files = append(a.files, b)
	}
	if len(a.files) == 0 {
		return contentFault("INVOICE_INVALID", "00200", "the file holds no FatturaElettronicaBody: add one")
	}
	// The schema allows a zone after the date; the day is what counts.
	for i := range a.files {
		a.files[i].Date = a.files[i].Date[:min(len(a.files[i].Date), len("2006-01-02"))]
		if _, err := time.Parse(time.DateOnly, a.files[i].Date); err != nil {
			return contentFault("INVOICE_INVALID", "00200", fmt.Sprintf("Data %q of body %d is no date: write it as 2026-03-31", a.files[i].Date, i+1))
		}
	}
	r.Number = a.files[0].Number
	a.held = heldNumbers(a.files, fiscalID(r.SellerVatNumber, r.SellerTaxCode), fiscalID(r.BuyerVatNumber, r.BuyerTaxCode))
	var err error
	r.Bodies, err = json.Marshal(a.files)
	if err != nil {
		return fmt.Errorf("invoice: bodies: %w", err)
	}
	r.Rejections = []byte("[]")
	return nil
}

// warn adds warnings to what is kept with the invoice.
func (a *admission) warn(more ...violation) error {
	a.warnings = append(a.warnings, more...)
	a.row.Warnings = []byte("[]")
	if len(a.warnings) == 0 {
		return nil
	}
	raw, err := json.Marshal(a.warnings)
	if err != nil {
		return fmt.Errorf("invoice: warnings: %w", err)
	}
	a.row.Warnings = raw
	return nil
}

func vatOf(d *fatturapa.DatiAnagrafici) string {
	return strings.ToUpper(d.IdFiscaleIVA.IdPaese + d.IdFiscaleIVA.IdCodice)
}

// belongs checks that the company issues the file: as seller, or as buyer for the documents that the
// buyer issues (reverse charge, SoggettoEmittente CC).
func belongs(a *admission, file *fatturapa.File, company *tenancyv1.Company) error {
	r := &a.row
	party, element, vat, tax := "seller", "CedentePrestatore", r.SellerVatNumber, r.SellerTaxCode
	if isSelfIssued(a.files[0].Type) || file.Header.SoggettoEmittente == "CC" {
		party, element, vat, tax = "buyer, who issues this document,", "CessionarioCommittente", r.BuyerVatNumber, r.BuyerTaxCode
	}
	if same(vat, company.GetVatNumber()) || same(tax, company.GetTaxCode()) || same(vat, "IT"+company.GetTaxCode()) || same("IT"+tax, company.GetVatNumber()) {
		return nil
	}
	message := fmt.Sprintf("%s: the %s has VAT number %q and tax code %q, but %s has VAT number %q and tax code %q: send the file under the company that issues it",
		element, party, vat, tax, company.GetName(), company.GetVatNumber(), company.GetTaxCode())
	return fault.Invalid("SELLER_MISMATCH", "content: %s", message).WithField("content", "SELLER_MISMATCH", message)
}

func same(a, b string) bool { return a != "" && len(a) > len("IT") && a == b }

// mustSign decides whether the file is signed before it is sent. A file that carries a signature already is
// sent as it is: another one around it would be no form that SdI takes.
//
// spec: AllA-1.9 §2.1: FPA12 is always signed
func mustSign(signed bool, format string, company *tenancyv1.Company) (bool, error) {
	if signed {
		return false, nil
	}
	switch company.GetSignaturePolicy() {
	case tenancyv1.SignaturePolicy_SIGNATURE_POLICY_ALWAYS:
		return true, nil
	case tenancyv1.SignaturePolicy_SIGNATURE_POLICY_NONE:
		if publicBody(format) {
			return false, fault.Precondition("SIGNATURE_REQUIRED",
				"content: SdI takes %s files only when signed, and the signature policy of %s is NONE: set it to AUTO or ALWAYS, or send the file signed", format, company.GetName()).
				WithField("content", "SIGNATURE_REQUIRED", "an FPA12 file must be signed")
		}
		return false, nil
	}
	return publicBody(format), nil
}
