package sdigateway_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/client"
)

// A first message that may have been lost holds nothing up once it is given up: the next goes to the first address, and
// a person sends what was in it again, under its own name.
func TestOverdueMessage(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	p.order(t, client.FaultPECCutBefore) // after the final dot: not taken, and we cannot know it
	lost := p.accept(t, "FPR12", "SBXRC00", "lost")
	eventually(t, "the message being of unknown outcome", func() (bool, string) {
		m := p.mailings(t)
		return len(m) == 1 && m[0].GetState() == "UNKNOWN", fmt.Sprint(m)
	})
	first := p.mailings(t)[0]
	next := p.accept(t, "FPR12", "SBXRC00", "next")
	eventually(t, "the second document waiting", func() (bool, string) {
		n := p.count(t, "SELECT count(*) FROM transmission WHERE channel = 'PEC' AND mailing_id IS NULL")
		return n == 1, fmt.Sprint(n)
	})
	operations := sdiv1.NewSdiOperationsServiceClient(p.conn)
	resend := &sdiv1.ResendTransmissionRequest{Name: p.transmission(t, lost).GetName(), Reason: "the provider says that it has nothing"}
	_, err := operations.ResendTransmission(t.Context(), resend)
	require.Equal(t, "SDI_MESSAGE_UNDER_WAY", fault.Of(err).Code)
	require.Len(t, p.mailings(t), 1, "nothing follows a first message of unknown outcome")

	_, err = p.way.ResolveMessage(t.Context(), &pecv1.ResolveMessageRequest{Name: first.GetMessage(),
		Decision: pecv1.DeliveryDecision_DELIVERY_DECISION_ABANDON, Reason: "asked the provider"})
	require.NoError(t, err)
	p.awaitOf(t, next, "InvoiceTransmitted", "InvoiceDelivered")
	list := p.mailings(t)
	require.Len(t, list, 2)
	require.Equal(t, "OVERDUE", list[1].GetState())
	require.Equal(t, "sdi01@pec.fatturapa.it", list[0].GetAddress(), "SdI has assigned nothing yet: this is a first message too")
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_RESERVED, p.transmission(t, lost).GetState(), "a receipt may still tell")

	_, err = operations.ResendTransmission(t.Context(), resend)
	require.NoError(t, err)
	p.awaitOf(t, lost, "InvoiceTransmitted", "InvoiceDelivered")
	last := p.mailings(t)[0]
	require.Equal(t, first.GetFileNames(), last.GetFileNames(), "under its own name")
	require.NotEqual(t, "sdi01@pec.fatturapa.it", last.GetAddress(), "to the address that was assigned meanwhile")
	require.Equal(t, 2, p.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'transmission.resend'"), "the refusal too")
	p.once(t, 2)
}

// An invoice of one tenant that names a mailbox as PECDestinatario: SdI brings it there by certified mail, and the tenant
// whose mailbox it is gets it in. Who sent it hears that it was delivered.
func TestPECDestinatario(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	owner, invoice := p.Host("invoice"), "tenants/t2/companies/seller/invoices/"+uuid.NewString()
	content := fatturapatest.Invoice(fatturapatest.Options{Numero: "P1", CodiceDestinatario: "0000000", PECDestinatario: companyBox,
		Cessionario: fatturapatest.Party{Paese: "IT", Codice: vat(1)[2:], Denominazione: "Cliente di prova"}})
	ref, err := owner.Blobs.Put(t.Context(), "t2", content)
	require.NoError(t, err)
	require.NoError(t, owner.DB.Tx(bus.WithCorrelation(t.Context(), uuid.NewString()), "t2", func(ctx context.Context, tx pgx.Tx) error {
		return owner.Bus.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: invoice, Format: "FPR12", RecipientCode: "0000000",
			Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/xml"}})
	}))
	got := p.awaitAll(t, 3)
	require.Contains(t, got, "InvoiceTransmitted")
	require.Equal(t, invoice, got["InvoiceDelivered"].(*sdiv1.InvoiceDelivered).GetInvoice())
	came := got["InboundInvoiceReceived"].(*sdiv1.InboundInvoiceReceived)
	require.Contains(t, came.GetInboundInvoice(), postman, "the other tenant's company has it")
	require.Equal(t, got["InvoiceTransmitted"].(*sdiv1.InvoiceTransmitted).GetSdiId(), came.GetSdiId())
	require.Equal(t, ref.SHA256[:], came.GetOriginal().GetSha256(), "the bytes that were sent")
	p.awaitArrivals(t, "READ", 1)
	eventually(t, "SdI's knowing that it was delivered", func() (bool, string) {
		deliveries, err := p.sandbox.Deliveries(t.Context(), came.GetSdiId())
		require.NoError(t, err)
		require.Len(t, deliveries, 1)
		return deliveries[0].DeliveredAt != nil, fmt.Sprintf("%+v", deliveries)
	})
}
