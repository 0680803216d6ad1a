package sdigateway_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/client"
)

// A message of SdI is recorded while an answer is being read, between a transmission and its messages: what is shown is
// of one moment. The numbers stand for what one message of SdI changes in both tables.
func TestAnswersAreOfOneMoment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice := b.accept(t, "FPR12", "SBXRC00", "1")
	b.awaitAll(t, 2)
	name := b.transmission(t, invoice).GetName()
	agree := func(got *sdiv1.Transmission) {
		require.Len(t, got.GetMessages(), 1)
		require.Equal(t, got.GetLastError(), got.GetMessages()[0].GetProblem())
	}
	reads := []func(){
		func() {
			got, err := b.api.GetTransmission(t.Context(), &sdiv1.GetTransmissionRequest{Name: name})
			require.NoError(t, err)
			agree(got)
		},
		func() { agree(b.transmission(t, invoice)) },
	}
	for i, read := range reads {
		pgtest.Between(t, b.Host("sdi-gateway").DB, "message", read,
			fmt.Sprintf(`UPDATE transmission SET last_error = '%d'`, i), fmt.Sprintf(`UPDATE message SET problem = '%d'`, i))
		read()
	}
}

// The same of a file that was received and the documents in it.
func TestReceivedFilesAreOfOneMoment(t *testing.T) {
	t.Parallel()
	r := setupReceiver(t)
	d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode})
	name := r.file(t, d.ID, 1).GetName()
	agree := func(got *sdiv1.InboundInvoice) {
		require.Len(t, got.GetBodies(), 1)
		require.Equal(t, got.GetSeller().GetName(), got.GetBodies()[0].GetNumber())
	}
	reads := []func(){
		func() {
			got, err := r.inbound.GetInboundInvoice(t.Context(), &sdiv1.GetInboundInvoiceRequest{Name: name})
			require.NoError(t, err)
			agree(got)
		},
		func() {
			got, err := r.inbound.ListInboundInvoices(t.Context(), &sdiv1.ListInboundInvoicesRequest{Parent: rossi})
			require.NoError(t, err)
			require.Len(t, got.GetInboundInvoices(), 1)
			agree(got.GetInboundInvoices()[0])
		},
	}
	change := func(i int) []string {
		return []string{fmt.Sprintf(`UPDATE inbound_file SET seller_name = '%d'`, i), fmt.Sprintf(`UPDATE inbound_body SET number = '%d'`, i)}
	}
	admin := pgtest.Admin(t, r.Host("sdi-gateway").DB)
	for _, s := range change(-1) {
		_, err := admin.Exec(t.Context(), s)
		require.NoError(t, err)
	}
	for i, read := range reads {
		pgtest.Between(t, r.Host("sdi-gateway").DB, "inbound_body", read, change(i)...)
		read()
	}
}
