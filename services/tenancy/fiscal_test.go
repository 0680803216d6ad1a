package tenancy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
)

func TestCheckIdentity(t *testing.T) {
	for _, c := range []struct{ vat, tax, code, field string }{
		{"IT" + fatturapatest.VATNumber(7), "", "", ""},
		{"it" + fatturapatest.VATNumber(7), "", "", ""},
		{"", "RSSMRA85T10A562S", "", ""},
		{"", "RSSMRA85T10A56NH", "", ""}, // the same person as ...A562S, with a letter for a digit
		{"", fatturapatest.VATNumber(8), "", ""},
		{"DE123456789", "", "", ""}, // other countries have other rules
		{"IT" + fatturapatest.VATNumber(7), "RSSMRA85T10A562S", "", ""},
		{"", "", "COMPANY_IDENTITY_REQUIRED", "company.vat_number"},
		{"IT01234567890", "", "VAT_NUMBER_INVALID", "company.vat_number"},
		{"IT0123456789", "", "VAT_NUMBER_INVALID", "company.vat_number"},
		{"IT00000000000", "", "VAT_NUMBER_INVALID", "company.vat_number"},
		{"IT0123456789X", "", "VAT_NUMBER_INVALID", "company.vat_number"},
		{"", "01234567890", "TAX_CODE_INVALID", "company.tax_code"},
		{"", "RSSMRA85T10A562T", "TAX_CODE_INVALID", "company.tax_code"},
		{"", "RSSMRA85Z10A562S", "TAX_CODE_INVALID", "company.tax_code"}, // Z is no month
	} {
		err := checkIdentity(c.vat, c.tax)
		if c.code == "" {
			require.NoError(t, err, "%q %q", c.vat, c.tax)
			continue
		}
		f := fault.Of(err)
		require.NotNil(t, f, "%q %q", c.vat, c.tax)
		require.Equal(t, c.code, f.Code, "%q %q", c.vat, c.tax)
		require.Equal(t, c.field, f.Fields[0].Path)
		require.Equal(t, fault.KindInvalid, f.Kind)
	}
}

func FuzzCheckIdentity(f *testing.F) {
	f.Add("IT01234567890", "RSSMRA85T10A562S")
	f.Add("", strings.Repeat("9", 11))
	f.Fuzz(func(t *testing.T, vat, tax string) {
		if err := checkIdentity(vat, tax); err != nil && fault.Of(err).Kind != fault.KindInvalid {
			t.Fatalf("%q %q: %v", vat, tax, err)
		}
	})
}
