package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/tests/harness"
)

// The recipient code of an office that the development sandbox delivers to this platform.
const officeCode = "UFCERA"

// TestFullCircle: one tenant invoices a public body that is another tenant. The body receives the very file
// that was sent, refuses it for a lawful cause, and the seller hears so from SdI.
func TestFullCircle(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		seller, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		body, err := p.Onboard(ctx, 2)
		require.NoError(t, err)
		_, err = body.Tenancy.UpdateCompany(body.Ctx(ctx), &tenancyv1.UpdateCompanyRequest{
			Company:    &tenancyv1.Company{Name: body.Company, DisplayName: "Comune", RecipientCodes: []string{officeCode}},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name", "recipient_codes"}},
		})
		require.NoError(t, err)

		sent, err := seller.Submit(ctx, "FPA12", officeCode, "C-1")
		require.NoError(t, err)
		received := awaitInbound(ctx, t, body)
		require.Equal(t, sdiv1.InboundState_INBOUND_STATE_AWAITING_OUTCOME, received.GetState())
		require.Equal(t, "C-1", received.GetBodies()[0].GetNumber())
		require.Equal(t, "IT"+seller.VAT, received.GetSeller().GetVatNumber())

		hand := terminal{t, p, body.Key, strings.TrimPrefix(body.Tenant, "tenants/")}
		require.Contains(t, hand.says("inbound", "ls"), "C-1")
		require.Contains(t, hand.says("inbound", "ls", "--format", "json"), received.GetName())
		file := filepath.Join(t.TempDir(), received.GetFileName())
		hand.does("inbound", "download", received.GetName(), "--output", file)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		atSdI, err := p.Sandbox.File(ctx, received.GetSdiId())
		require.NoError(t, err)
		require.Equal(t, atSdI, content, "the file that the seller sent, byte by byte")
		require.Contains(t, hand.says("inbound", "download", received.GetName(), "--kind", "content"), "<Numero>C-1</Numero>")
		hand.refused(1, "OUTCOME_CAUSE_REQUIRED", "inbound", "outcome", received.GetName(), "refused")
		require.Contains(t, hand.does("inbound", "outcome", received.GetName(), "refused", "--cause", "cig_cup", "--description", "manca il CIG"), "REFUSED")

		_, err = seller.AwaitState(ctx, sent, false, invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED)
		require.NoError(t, err)
		var types []string
		for !slices.Contains(types, "inbound.outcome_taken") || !slices.Contains(types, "inbound.taken_in_charge") {
			require.NoError(t, ctx.Err(), "the body's log: %v", types)
			events, err := body.Events(ctx)
			require.NoError(t, err)
			types = nil
			for _, e := range events {
				require.Equal(t, received.GetName(), e.GetInvoice())
				types = append(types, e.GetType())
			}
		}
		require.ElementsMatch(t, []string{"inbound.received", "inbound.taken_in_charge", "inbound.outcome_taken"}, types)
		require.Contains(t, hand.says("inbound", "get", received.GetName()), "ANSWERED")

		// The archive has all that the gateway says the body received, and says of which days.
		archive := terminal{t, p, p.OperatorKey, strings.TrimPrefix(body.Tenant, "tenants/")}
		report := archive.does("conserve", "check", "completeness")
		for !strings.Contains(report, "received 1 invoices on 1 days") {
			require.NoError(t, ctx.Err(), report)
			time.Sleep(200 * time.Millisecond) // what came a moment ago may be on its way
			report = archive.does("conserve", "check", "completeness")
		}
		require.Contains(t, report, ": all were in custody")
		require.Contains(t, report, `"verdict": "GOOD"`)
	})
}

// awaitInbound waits until the customer has received something.
func awaitInbound(ctx context.Context, t *testing.T, c *harness.Customer) *sdiv1.InboundInvoice {
	t.Helper()
	conn, err := c.Platform.Conn("sdi-gateway")
	require.NoError(t, err)
	api := sdiv1.NewInboundServiceClient(conn)
	for ctx.Err() == nil {
		list, err := api.ListInboundInvoices(c.Ctx(ctx), &sdiv1.ListInboundInvoicesRequest{Parent: c.Company})
		require.NoError(t, err)
		if len(list.GetInboundInvoices()) > 0 {
			return list.GetInboundInvoices()[0]
		}
		time.Sleep(20 * time.Millisecond)
	}
	require.NoError(t, fmt.Errorf("nothing was received: %w", ctx.Err()))
	return nil
}
