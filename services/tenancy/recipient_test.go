package tenancy_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
)

// The gateway asks over all tenants; nobody else may.
func TestRecipientsAreFoundOverAllTenants(t *testing.T) {
	w := start(t)
	make := func(tenant, id string, n int, change func(*tenancyv1.Company)) string {
		req := companyRequest(tenant, id, n)
		change(req.Company)
		made, err := w.operator.CreateCompany(t.Context(), req)
		require.NoError(t, err)
		return made.GetName()
	}
	main := make("acme", "main", 1, func(c *tenancyv1.Company) { c.RecipientCode = "SHARED1" })
	office := make("acme", "office", 2, func(c *tenancyv1.Company) {
		c.RecipientCodes, c.PecAddresses = []string{"UFZZZ1", "UFAAA1"}, []string{"Protocollo@pec.example.it"}
	})
	other := make("brio", "main", 1, func(c *tenancyv1.Company) { c.RecipientCode, c.TaxCode = "SHARED1", "RSSMRA80A01H501U" })

	gateway := client(w.DialAs("tenancy", "sdi-gateway"))
	found, err := gateway.LookUpRecipients(t.Context(), &tenancyv1.LookUpRecipientsRequest{
		RecipientCode: "SHARED1", PecAddress: "protocollo@PEC.example.it", VatNumber: "it" + fatturapatest.VATNumber(1), TaxCode: "rssmra80a01h501u"})
	require.NoError(t, err)
	require.Equal(t, []string{main, other}, found.GetByRecipientCode())
	require.Equal(t, []string{office}, found.GetByPecAddress())
	require.Equal(t, []string{main, other}, found.GetByVatNumber())
	require.Equal(t, []string{other}, found.GetByTaxCode())

	found, err = gateway.LookUpRecipients(t.Context(), &tenancyv1.LookUpRecipientsRequest{RecipientCode: "UFAAA1", TaxCode: fatturapatest.VATNumber(2)})
	require.NoError(t, err)
	require.Equal(t, []string{office}, found.GetByRecipientCode(), "a further code")
	require.Equal(t, []string{office}, found.GetByTaxCode(), "a tax code of eleven digits is a VAT number")

	found, err = gateway.LookUpRecipients(t.Context(), &tenancyv1.LookUpRecipientsRequest{})
	require.NoError(t, err)
	require.Empty(t, found.GetByRecipientCode(), "no question, no answer: companies without a code are not found by none")
	require.Empty(t, found.GetByVatNumber())

	_, err = w.operator.LookUpRecipients(t.Context(), &tenancyv1.LookUpRecipientsRequest{RecipientCode: "SHARED1"})
	require.Equal(t, fault.KindDenied, fault.Of(err).Kind)

	changed, err := w.operator.UpdateCompany(t.Context(), &tenancyv1.UpdateCompanyRequest{Company: &tenancyv1.Company{Name: office, DisplayName: "x"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"pec_addresses"}}})
	require.NoError(t, err)
	require.Empty(t, changed.GetPecAddresses())
	require.Equal(t, []string{"UFAAA1", "UFZZZ1"}, changed.GetRecipientCodes())
}
