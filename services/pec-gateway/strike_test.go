package pecgateway_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// TestG7ReceiptIsStruckOut: the provider of a delivery receipt was never to be trusted. The state stands until a person says, with
// a reason, that the receipt does not count; then it is what the other receipts add up to, whatever is read again. The person can
// take that back, and nothing else does. What is proven nobody strikes out. TESTPLAN G7.
func TestG7ReceiptIsStruckOut(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	m := p.send(recipient)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	delivery, acceptance := p.receiptOf(m, "avvenuta-consegna"), p.receiptOf(m, "accettazione")
	strike := func(name, reason string) (*pecv1.Message, error) {
		return p.delivery.StrikeReceipt(t.Context(), &pecv1.StrikeReceiptRequest{Name: name, Reason: reason})
	}
	reinstate := func(name, reason string) (*pecv1.Message, error) {
		return p.delivery.StrikeReceipt(t.Context(), &pecv1.StrikeReceiptRequest{Name: name, Reason: reason, Reinstate: true})
	}
	for _, r := range []*pecv1.Message{delivery, acceptance} {
		_, err := strike(r.GetName(), "it does not suit us")
		requireFault(t, err, "RECEIPT_NOT_DOUBTED")
		_, err = reinstate(r.GetName(), "x")
		requireFault(t, err, "RECEIPT_NOT_STRUCK")
	}
	p.inject(sender, plain("nessuna ricevuta"))
	p.kept(p.mailbox())
	for _, r := range p.receipts(p.mailbox()) {
		if r.GetSubject() == "nessuna ricevuta" {
			_, err := strike(r.GetName(), "x")
			requireFault(t, err, "RECEIPT_NOT_COUNTED")
		}
	}
	_, err := strike(delivery.GetName(), "")
	require.Error(t, err, "without a reason")

	w, err := p.trust.WithdrawTrust(t.Context(), &pecv1.WithdrawTrustRequest{Provider: beta, FromBeginning: true, Reason: "its key was never its own"})
	require.NoError(t, err)
	require.EqualValues(t, 1, p.withdrawn(w.GetName()).GetDoubtedReceipts())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_DELIVERED, p.get(m.GetName()).GetState(), "nothing follows without a person")
	_, err = strike(acceptance.GetName(), "x")
	requireFault(t, err, "RECEIPT_NOT_DOUBTED")

	got, err := strike(delivery.GetName(), "AgID confirms that beta issued nothing on that day")
	require.NoError(t, err)
	require.Equal(t, m.GetName(), got.GetName())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, got.GetState())
	require.Len(t, got.GetRecipients(), 1)
	require.Equal(t, "waiting", got.GetRecipients()[0].GetState())
	require.Nil(t, got.GetRecipients()[0].GetTime())
	require.Len(t, got.GetContradictions(), 1)
	require.True(t, strings.HasPrefix(got.GetContradictions()[0], "RECEIPT_STRUCK_OUT: delivered to "+recipient), got.GetContradictions())
	require.Contains(t, got.GetContradictions()[0], "AgID confirms")
	_, err = strike(delivery.GetName(), "twice")
	requireFault(t, err, "RECEIPT_STRUCK")
	states := func() (out []string) {
		for _, ev := range heard[*pecv1.DeliveryStateChanged](p.house) {
			if ev.GetMessage() == m.GetName() {
				out = append(out, ev.GetState())
			}
		}
		return out
	}
	p.eventually("it is told", func() bool { s := states(); return len(s) > 1 && s[len(s)-1] == "MESSAGE_STATE_ACCEPTED" })
	require.Equal(t, 1, p.query(`SELECT count(*) FROM audit_entry WHERE action = 'message.receipt_strike' AND resource = $1 AND detail->>'reason' LIKE 'AgID confirms%'`, delivery.GetName()))
	require.Equal(t, 1, p.query(`SELECT count(*) FROM fact WHERE struck_time IS NOT NULL AND struck_by <> '' AND doubt <> ''`), "the fact stays, and who struck it out")

	// Neither reading everything again nor the trust that comes back makes it count: a person struck it out.
	p.house.invariants(p.mailbox())
	_, err = p.trust.ReinstateTrust(t.Context(), &pecv1.ReinstateTrustRequest{Name: w.GetName(), Reason: "it was another Beta"})
	require.NoError(t, err)
	require.True(t, p.reread(delivery.GetName()).GetProven())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, p.get(m.GetName()).GetState())

	got, err = reinstate(delivery.GetName(), "the withdrawal was a mistake")
	require.NoError(t, err)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_DELIVERED, got.GetState())
	require.Empty(t, got.GetContradictions())
	_, err = strike(delivery.GetName(), "once more")
	requireFault(t, err, "RECEIPT_NOT_DOUBTED")
	p.everything()
}
