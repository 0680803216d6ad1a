package sdigateway_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/sandbox/client"
)

// TestE16QueuedForAnAddressThatIsLeft: while a message waits for the mailbox's provider SdI assigns another address. SdI promises nothing
// for the one before, so the message is taken back and its document goes to the new one, once and under its name; of what
// nobody could take back nothing is sent twice. TESTPLAN E16.
func TestE16QueuedForAnAddressThatIsLeft(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 1h}\n")
	ctx := t.Context()
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	p.sends(t, "1")
	first := p.assigned(t, 1)[0]

	_, err := p.sandbox.AddFault(ctx, client.Fault{Kind: client.FaultPECDefer, Name: companyBox, Count: 1000})
	require.NoError(t, err)
	waits := p.accept(t, "FPR12", "SBXRC00", "2")
	eventually(t, "the message being queued", func() (bool, string) {
		m := p.mailings(t)[0]
		return m.GetAddress() == first && m.GetState() == "QUEUED", m.String()
	})
	p.order(t, client.FaultLetterChanged)
	_, err = p.sandbox.Deliver(ctx, client.DeliveryRequest{ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1)}})
	require.NoError(t, err)
	_, ok := p.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	second := p.assigned(t, 2)[0]

	eventually(t, "the document's going to the new address", func() (bool, string) {
		list := p.mailings(t)
		return len(list) == 3 && list[0].GetAddress() == second && list[0].GetState() == "QUEUED" && list[1].GetState() == "FAILED" &&
			strings.HasPrefix(list[1].GetProblem(), "PEC_CANCELLED"), fmt.Sprint(list)
	})
	require.NoError(t, p.sandbox.ClearFaults(ctx))
	p.awaitOf(t, waits, "InvoiceTransmitted", "InvoiceDelivered")
	require.Len(t, p.mailings(t), 3)
	require.Equal(t, p.mailings(t)[0].GetFileNames(), p.mailings(t)[1].GetFileNames(), "under its name")
	p.once(t, 2)
	counts, err := p.sandbox.Counts(ctx)
	require.NoError(t, err)
	require.Zero(t, counts.LettersAstray)
	require.Equal(t, 1, p.count(t, "SELECT count(*) FROM transmission WHERE invoice = '"+waits+"' AND attempts = 1"))
}

// TestE16TwoAddresses: a proven letter that names two addresses to use next assigns none, and whoever looks after the channel is told
// with what to do: documents wait when there was no address, and go to the one of before when there was. What else the letter brings
// counts: a receipt, and an invoice, which can be answered. A later letter that names one settles it. TESTPLAN E16.
func TestE16TwoAddresses(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	ctx := t.Context()
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	show := func() *sdiv1.PecChannel {
		t.Helper()
		got, err := p.channel.GetPecChannel(ctx, &sdiv1.GetPecChannelRequest{Company: postman})
		require.NoError(t, err)
		return got
	}
	two := func() {
		t.Helper()
		_, err := p.sandbox.AddFault(ctx, client.Fault{Kind: client.FaultLetterTwo, Name: companyBox, Count: 1})
		require.NoError(t, err)
	}
	bring := func(number string) *sdiv1.InboundInvoiceReceived {
		t.Helper()
		_, err := p.sandbox.Deliver(ctx, client.DeliveryRequest{RecipientCode: officeCode, ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1), Number: number}})
		require.NoError(t, err)
		came, ok := p.await(t).(*sdiv1.InboundInvoiceReceived)
		require.True(t, ok)
		return came
	}

	two()
	p.awaitOf(t, p.accept(t, "FPR12", "SBXRC00", "first"), "InvoiceTransmitted", "InvoiceDelivered") // its receipt counts
	next := p.accept(t, "FPR12", "SBXRC00", "next")
	eventually(t, "the channel's saying that it has no address, and why", func() (bool, string) {
		got := show()
		return got.GetWaiting() == 1 && !got.GetHealthy() && strings.HasPrefix(got.GetReason(), "SdI has assigned no address: PEC_TWO_ADDRESSES: "), got.String()
	})
	require.Contains(t, show().GetReason(), "ceralacca pec send", "what to do")
	require.Empty(t, show().GetAssigned())
	kept := p.awaitArrivals(t, "QUARANTINED", 1)[0]
	require.Regexp(t, `^PEC_TWO_ADDRESSES: it names sdi\d\d@pec.fatturapa.it and sdi\d\d@pec.fatturapa.it `, kept.GetProblem())
	require.Len(t, kept.GetFileNames(), 1)
	require.Len(t, p.mailings(t), 1)

	bring("7") // SdI's next letter names one
	p.awaitOf(t, next, "InvoiceTransmitted", "InvoiceDelivered")
	address := p.assigned(t, 1)[0]
	eventually(t, "nothing being doubtful", func() (bool, string) { got := show(); return got.GetHealthy() && got.GetDoubt() == "", got.String() })

	two()
	came := bring("8")
	eventually(t, "the doubt about another address", func() (bool, string) {
		got := show()
		return got.GetHealthy() && got.GetReason() == "" && strings.HasPrefix(got.GetDoubt(), "PEC_TWO_ADDRESSES: "), got.String()
	})
	require.Equal(t, address, p.sends(t, "third"), "where documents went before")
	_, err := p.inbound.SendOutcome(ctx, &sdiv1.SendOutcomeRequest{Name: came.GetInboundInvoice(), Kind: sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_ACCEPTED,
		RequestId: uuid.NewString()})
	require.NoError(t, err)
	settled, ok := p.await(t).(*sdiv1.InboundOutcomeSettled)
	require.True(t, ok)
	require.True(t, settled.GetTaken(), settled.String())
	require.Equal(t, []string{address}, p.assigned(t, 1))
	p.once(t, 3)
}
