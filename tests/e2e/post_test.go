package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// TestCertifiedMailToSdI takes a company without any accreditation through its year: a mailbox, invoices out by
// certified mail until the buyer has them, an invoice in.
func TestCertifiedMailToSdI(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, p.TrustCertifiedMail(ctx))
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		box, err := c.CertifiedMailbox(ctx)
		require.NoError(t, err)
		cli, operator := terminal{t, p, c.Key, c.Tenant}, terminal{t, p, p.OperatorKey, ""}
		cli.does("sdi", "pec", "set", box.GetAddress(), "--company", "main", "--prefer", "only", "--reason", "no accreditation")
		require.Contains(t, cli.says("sdi", "pec", "show", "--company", "main"), "sdi01@pec.fatturapa.it")

		codes := []string{"SBXRC00", "SBXMC00", "SB00423"}
		states := []invoicev1.InvoiceState{
			invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, invoicev1.InvoiceState_INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA,
			invoicev1.InvoiceState_INVOICE_STATE_REJECTED,
		}
		names := make([]string, len(codes))
		for i, code := range codes {
			names[i], err = c.Submit(ctx, "FPR12", code, "P-"+code)
			require.NoError(t, err)
		}
		for i, name := range names {
			_, err = c.AwaitState(ctx, name, i < 2, states[i])
			require.NoError(t, err, codes[i])
		}
		sent, err := c.Sent(ctx)
		require.NoError(t, err)
		require.Equal(t, harness.Sent{Accepted: len(codes)}, sent, "each was sent once")
		shown := cli.says("sdi", "pec", "show", "--company", "main")
		require.NotContains(t, shown, "sdi01@pec.fatturapa.it")
		require.Contains(t, cli.says("sdi", "pec", "sent"), "DELIVERED")
		require.Contains(t, operator.says("sdi", "channels"), "PEC")

		d, err := p.Sandbox.Deliver(ctx, client.DeliveryRequest{ToPEC: box.GetAddress(), Invoice: &client.Small{BuyerVAT: "IT" + c.VAT}})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return strings.Contains(cli.says("inbound", "ls"), d.ID) }, time.Minute, 200*time.Millisecond)
		// It may be there before the letter that brought it is done with.
		require.Eventually(t, func() bool { return strings.Contains(cli.says("sdi", "pec", "received"), d.Name) }, time.Minute, 200*time.Millisecond)
		parked, err := c.Parked(ctx)
		require.NoError(t, err)
		require.Empty(t, parked)
	})
}
