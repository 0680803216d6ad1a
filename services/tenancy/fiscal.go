package tenancy

import (
	"strings"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/internal/fault"
)

// checkIdentity refuses a fiscal identity that cannot be right: neither number given, or an Italian one
// whose check digit does not match. Whether it exists is known to the Agenzia alone; SdI says so by
// the controls 00301 and 00302. VAT numbers of other countries are taken as they are.
func checkIdentity(vat, tax string) error {
	if vat == "" && tax == "" {
		return fault.Invalid("COMPANY_IDENTITY_REQUIRED", "company: give vat_number, tax_code or both").
			WithField("company.vat_number", "COMPANY_IDENTITY_REQUIRED", "is empty, and tax_code too")
	}
	if number, ok := strings.CutPrefix(normalVAT(vat), "IT"); ok && !fatturapa.ValidVATNumber(number) {
		return fault.Invalid("VAT_NUMBER_INVALID",
			"company.vat_number: %q is no Italian VAT number: IT and 11 digits, of which the last is a check digit; one of the digits is wrong or missing", vat).
			WithField("company.vat_number", "VAT_NUMBER_INVALID", "the check digit does not match")
	}
	if tax != "" && !fatturapa.ValidTaxCode(tax) {
		return fault.Invalid("TAX_CODE_INVALID",
			"company.tax_code: %q is no tax code: 11 digits or 16 characters, of which the last checks the others; one of them is wrong or missing", tax).
			WithField("company.tax_code", "TAX_CODE_INVALID", "the check character does not match")
	}
	return nil
}

// normalVAT writes the number in capitals, as IdFiscaleIVA is compared.
func normalVAT(vat string) string { return strings.ToUpper(vat) }
