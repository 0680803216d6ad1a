package invoice

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
)

// TestSuspendedTenant: nothing is issued, not even tried; what is there is read and judged, and a batch that is coming in
// when the suspension comes is finished.
func TestSuspendedTenant(t *testing.T) {
	w := start(t)
	ctx, api := t.Context(), w.batches()
	before, err := w.api.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("1")})
	require.NoError(t, err)
	coming := w.upload(t, ctx, api, invoicev1.BatchKind_BATCH_KIND_CREATE, uuid.NewString())
	coming.file(0, "2.xml", file("2"))
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM batch`) == 1 }, "it has begun")
	w.Suspend("acme", "unpaid since May")

	_, err = w.api.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("3")})
	require.Equal(t, "TENANT_SUSPENDED", fault.Of(err).Code)
	require.ErrorContains(t, err, "unpaid since May")
	_, err = w.upload(t, ctx, api, invoicev1.BatchKind_BATCH_KIND_CREATE, uuid.NewString()).close()
	require.Equal(t, "TENANT_SUSPENDED", fault.Of(err).Code)

	coming.file(1, "4.xml", file("4"))
	coming.done()
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM invoice`) == 3 }, "the batch is worked off")
	require.Equal(t, before.GetName(), w.get(before.GetName()).GetName())
	_, err = w.api.ListEvents(ctx, &invoicev1.ListEventsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	judged, err := w.api.CheckInvoice(ctx, &invoicev1.CheckInvoiceRequest{Parent: acmeMain, Content: file("5")})
	require.NoError(t, err)
	require.True(t, judged.GetValid(), judged)
	_, err = w.api.RenderInvoice(ctx, &invoicev1.RenderInvoiceRequest{Name: before.GetName()})
	require.NoError(t, err)

	w.Resume("acme")
	_, err = w.api.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: file("6")})
	require.NoError(t, err)
}
