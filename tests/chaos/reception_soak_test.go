//go:build soak

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// receptionCode is the recipient code that the development sandbox delivers to this platform.
const receptionCode = "CERALAC"

// TestReceptionIsKilled kills the services that a received invoice passes while SdI delivers: what SdI was told ER01 for
// is received once, told once, and in custody once. What it was not told so for, it delivers again.
func TestReceptionIsKilled(t *testing.T) {
	t.Parallel()
	p := harness.T(t, harness.Options{Mode: harness.ManyProcesses, Impatient: true})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, p.Prepare(ctx))
	c, err := p.Onboard(ctx, 1)
	require.NoError(t, err)
	_, err = c.Tenancy.UpdateCompany(c.Ctx(ctx), &tenancyv1.UpdateCompanyRequest{
		Company:    &tenancyv1.Company{Name: c.Company, DisplayName: "Riceve", RecipientCodes: []string{receptionCode}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name", "recipient_codes"}},
	})
	require.NoError(t, err)

	const each = 12
	delivered := map[string]bool{}
	for round := range killRounds {
		for _, service := range []string{"sdi-gateway", "conservation", "invoice", "tenancy"} {
			for i := range each {
				d, err := p.Sandbox.Deliver(ctx, client.DeliveryRequest{RecipientCode: receptionCode,
					Invoice: &client.Small{Number: fmt.Sprintf("%s-%d-%d", service, round, i), BuyerVAT: "IT" + c.VAT}})
				require.NoError(t, err)
				delivered[d.ID] = true
				if i == each/2 {
					require.NoError(t, p.Restart(service))
				}
			}
			require.NoError(t, p.AwaitReady(ctx))
		}
	}
	awaitDelivered(ctx, t, p, len(delivered))
	names := awaitReceived(ctx, t, c, delivered)
	types := awaitTold(ctx, t, c, names)
	for name := range names {
		require.Equal(t, 1, types[name+" inbound.received"], name)
		require.Equal(t, 1, types[name+" inbound.taken_in_charge"], name)
	}
	closed, err := c.Archive.ClosePackage(c.Ctx(ctx), &conservationv1.ClosePackageRequest{Parent: c.Tenant, FiscalYear: int32(fiscalYear(ctx, t, c))})
	require.NoError(t, err)
	require.EqualValues(t, len(names), closed.GetUnitCount(), "one unit for each, and nothing else")
	parked, err := p.Parked(ctx)
	require.NoError(t, err)
	require.Empty(t, parked)
}

// awaitDelivered plays SdI's later attempts until each file has been taken.
// spec: AllA-1.9 §1.5 (four attempts, six hours apart)
func awaitDelivered(ctx context.Context, t *testing.T, p *harness.Platform, n int) {
	t.Helper()
	for {
		require.NoError(t, ctx.Err(), "not every file was delivered")
		list, err := p.Sandbox.Deliveries(ctx, "")
		require.NoError(t, err)
		done, failed := 0, 0
		for _, d := range list {
			switch {
			case d.DeliveredAt != nil:
				done++
			case d.LastError != "":
				failed++
			}
		}
		if done == n {
			return
		}
		if failed > 0 {
			_, err = p.Sandbox.Advance(ctx, 6*time.Hour)
			require.NoError(t, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// awaitReceived waits until every file is with the company, each once, and gives their names.
func awaitReceived(ctx context.Context, t *testing.T, c *harness.Customer, want map[string]bool) map[string]bool {
	t.Helper()
	conn, err := c.Platform.Conn("sdi-gateway")
	require.NoError(t, err)
	api := sdiv1.NewInboundServiceClient(conn)
	for {
		names, ids := map[string]bool{}, map[string]bool{}
		list, err := api.ListInboundInvoices(c.Ctx(ctx), &sdiv1.ListInboundInvoicesRequest{Parent: c.Company, PageSize: 1000})
		require.True(t, err == nil || harness.Again(err), "%v", err)
		for _, f := range list.GetInboundInvoices() {
			require.True(t, want[f.GetSdiId()], "%s was never delivered", f.GetSdiId())
			require.False(t, ids[f.GetSdiId()], "%s is there twice", f.GetSdiId())
			names[f.GetName()], ids[f.GetSdiId()] = true, true
		}
		if len(ids) == len(want) {
			return names
		}
		require.NoError(t, ctx.Err(), "%d of %d were received", len(ids), len(want))
		time.Sleep(100 * time.Millisecond)
	}
}

// awaitTold waits until the log has as many facts as there must be, and counts each.
func awaitTold(ctx context.Context, t *testing.T, c *harness.Customer, names map[string]bool) map[string]int {
	t.Helper()
	for {
		events, err := c.Events(ctx)
		require.True(t, err == nil || harness.Again(err), "%v", err)
		count := map[string]int{}
		for _, e := range events {
			require.True(t, names[e.GetInvoice()], "an event about %s", e.GetInvoice())
			count[e.GetInvoice()+" "+e.GetType()]++
		}
		if len(count) == 2*len(names) {
			return count
		}
		require.NoError(t, ctx.Err(), "%d of %d facts were told", len(count), 2*len(names))
		time.Sleep(100 * time.Millisecond)
	}
}

// fiscalYear is that of the units in custody: all documents have one date.
func fiscalYear(ctx context.Context, t *testing.T, c *harness.Customer) int {
	t.Helper()
	list, err := c.Archive.ListUnits(c.Ctx(ctx), &conservationv1.ListUnitsRequest{Parent: c.Tenant, PageSize: 1})
	require.NoError(t, err)
	require.NotEmpty(t, list.GetUnits())
	return int(list.GetUnits()[0].GetFiscalYear())
}
