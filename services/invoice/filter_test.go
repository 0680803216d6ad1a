package invoice

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
)

func TestInvoiceFilter(t *testing.T) {
	p, err := invoiceFilter(` state=DELIVERED AND number = "A \"1\"/2026"  AND issue_date>="2026-01-01" AND issue_date < 2026-02-01 AND create_time > '2026-03-31T09:00:00Z'`)
	require.NoError(t, err)
	require.Equal(t, []int16{int16(invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)}, p.States)
	require.Equal(t, `A "1"/2026`, *p.Number)
	require.Equal(t, "2026-01-01", *p.IssuedFrom)
	require.Equal(t, "2026-01-31", *p.IssuedTo)
	require.Equal(t, time.Date(2026, 3, 31, 9, 0, 0, 1000, time.UTC), *p.CreatedFrom)
	require.Nil(t, p.CreatedTo)

	p, err = invoiceFilter(`state != INVOICE_STATE_REJECTED AND state != FAILED`)
	require.NoError(t, err)
	require.NotContains(t, p.States, int16(invoicev1.InvoiceState_INVOICE_STATE_REJECTED))
	require.Contains(t, p.States, int16(invoicev1.InvoiceState_INVOICE_STATE_DELIVERED))
	require.Len(t, p.States, len(invoicev1.InvoiceState_name)-2)

	p, err = invoiceFilter(`state = DELIVERED AND state = REJECTED`)
	require.NoError(t, err)
	require.NotNil(t, p.States, "an impossible condition selects nothing, not everything")
	require.Empty(t, p.States)

	p, err = invoiceFilter("  ")
	require.NoError(t, err)
	require.Nil(t, p.States)
}

func TestBadFilters(t *testing.T) {
	for filter, says := range map[string]string{
		`number`:                          `character 7: expected one of = != < <= > >= : after number`,
		`number =`:                        `character 9: expected a value after number =`,
		`number = "1`:                     `character 10: the quote that opens here is never closed`,
		`number = 1 OR number = 2`:        `only AND is understood`,
		`number = 1 AND`:                  `expected the name of a field`,
		`number = 1 number = 2`:           `expected AND`,
		`(number = 1)`:                    `expected the name of a field, found "(number = 1)"`,
		`number = 1 AND number = 2`:       `given twice`,
		`number > 1`:                      `compared with = only`,
		`number:1`:                        `compared with = only`,
		`issue_date:"2026-01-01"`:         `cannot be compared with :`,
		`state:DELIVERED`:                 `= and != only`,
		`colour = red`:                    `there is no field "colour"; there are buyer_vat_number, external_id`,
		`state = HAPPY`:                   `there is no state "HAPPY"`,
		`state > DELIVERED`:               `= and != only`,
		`issue_date = yesterday`:          `is no date; write it as "2026-03-31"`,
		`issue_date != "2026-01-01"`:      `cannot be compared with !=`,
		`create_time = "2026-01-01"`:      `is no time`,
		`sdi_id = "1"; DROP TABLE invoic`: `expected AND`,
	} {
		_, err := invoiceFilter(filter)
		f := fault.Of(err)
		require.NotNil(t, f, filter)
		require.Equal(t, "FILTER_INVALID", f.Code, filter)
		require.Contains(t, f.Message, says, filter)
		require.Equal(t, "filter", f.Fields[0].Path)
	}
}

func TestEventFilter(t *testing.T) {
	const inv = "tenants/acme/companies/main/invoices/01890000-0000-7000-8000-000000000000"
	p, err := eventFilter(`invoice = "`+inv+`" AND type = invoice.delivered`, "acme")
	require.NoError(t, err)
	require.Equal(t, "01890000-0000-7000-8000-000000000000", p.InvoiceID.String())
	require.Equal(t, "invoice.delivered", *p.Type)
	_, err = eventFilter(`type = invoice.eaten`, "acme")
	require.NotContains(t, err.Error(), "pec.", "what the log has not is not offered")
	for _, has := range []string{"invoice.accepted", "invoice.resend_due", "preservation.sealed", "inbound.received"} {
		require.Contains(t, err.Error(), has)
		_, err := eventFilter("type = "+has, "acme")
		require.NoError(t, err)
	}
	for filter, says := range map[string]string{
		`type = invoice.eaten`:                                        `there is no type`,
		`type = pec.message_received`:                                 `ceralacca pec log`,
		`type = credential.used`:                                      `ceralacca credential ls`,
		`type = signature_request.signed`:                             `stands in no line of this log`,
		`type = preservation.log_stated`:                              `ceralacca conserve log`,
		`invoice = "tenants/acme"`:                                    `is no invoice of tenants/acme`,
		`invoice != "` + inv + `"`:                                    `= only`,
		`time = 1`:                                                    `there are invoice and type`,
		strings.ReplaceAll(inv, "acme", "x"):                          `expected one of`,
		`invoice = "` + strings.ReplaceAll(inv, "acme", "brio") + `"`: `is no invoice of tenants/acme`,
	} {
		_, err := eventFilter(filter, "acme")
		require.ErrorContains(t, err, says, filter)
	}
}

// A filter is refused with FILTER_INVALID or reads back as what it says.
func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{`state = DELIVERED`, `number="a b" AND issue_date>=2026-01-01`, `a='\''`, `a=b AND`, `"`, "a = \x00", `a != "é"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		conditions, err := parseFilter(s)
		if err != nil {
			if fault.Of(err).Code != "FILTER_INVALID" {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		var parts []string
		for _, c := range conditions {
			quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.value)
			parts = append(parts, c.field+" "+c.op+` "`+quoted+`"`)
		}
		again, err := parseFilter(strings.Join(parts, " AND "))
		if err != nil || len(again) != len(conditions) {
			t.Fatalf("%q: printed as %q: %v", s, parts, err)
		}
		for i := range again {
			if again[i].field != conditions[i].field || again[i].op != conditions[i].op || again[i].value != conditions[i].value {
				t.Fatalf("%q: condition %d became %+v", s, i, again[i])
			}
		}
	})
}
