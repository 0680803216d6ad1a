package tenancy

import (
	"regexp"
	"strings"

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
	if number, ok := strings.CutPrefix(normalVAT(vat), "IT"); ok && !validNumber(number) {
		return fault.Invalid("VAT_NUMBER_INVALID",
			"company.vat_number: %q is no Italian VAT number: IT and 11 digits, of which the last is a check digit; one of the digits is wrong or missing", vat).
			WithField("company.vat_number", "VAT_NUMBER_INVALID", "the check digit does not match")
	}
	if tax != "" && !validTaxCode(tax) {
		return fault.Invalid("TAX_CODE_INVALID",
			"company.tax_code: %q is no tax code: 11 digits or 16 characters, of which the last checks the others; one of them is wrong or missing", tax).
			WithField("company.tax_code", "TAX_CODE_INVALID", "the check character does not match")
	}
	return nil
}

// normalVAT writes the number in capitals, as IdFiscaleIVA is compared.
func normalVAT(vat string) string { return strings.ToUpper(vat) }

// validNumber checks the last of 11 digits: digits in even places count double, minus nine when that
// exceeds nine, and the whole sum is a multiple of ten.
//
// spec: DM 23/12/1976 allegato C (VAT numbers and numeric tax codes)
func validNumber(s string) bool {
	if len(s) != 11 || s == "00000000000" {
		return false
	}
	sum := 0
	for i := range len(s) {
		d := int(s[i]) - '0'
		if d < 0 || d > 9 {
			return false
		}
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// personal is the form of a personal tax code; where digits stand, letters L M N P Q R S T U V may
// replace them so that two persons never share a code. spec: DM 23/12/1976 art. 6
var personal = regexp.MustCompile(`^[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]$`)

// oddValues are what letters and digits count in odd places (the first is odd), by position in the
// alphabet; a digit counts as the letter of its value. spec: DM 23/12/1976 art. 5
var oddValues = [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}

// validTaxCode checks the check digit of a numeric tax code or the check letter of a personal one.
func validTaxCode(s string) bool {
	if len(s) == 11 {
		return validNumber(s)
	}
	if !personal.MatchString(s) {
		return false
	}
	sum := 0
	for i := range 15 {
		v := int(s[i]) - 'A'
		if s[i] <= '9' {
			v = int(s[i]) - '0'
		}
		if i%2 == 0 {
			v = oddValues[v]
		}
		sum += v
	}
	return s[15] == byte('A'+sum%26)
}
