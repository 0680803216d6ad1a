package pecgateway_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// TestG7WordForAReceiptOlderThanItsMessage: whoever has the key of a certificate that has ended can make receipts of messages that were
// written long after. Such a one cannot have lain in the mailbox before, whatever a person says: it changes no state. TESTPLAN G7.
func TestG7WordForAReceiptOlderThanItsMessage(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	old := p.oldProvider(former, "posta-certificata@vecchio.test", 30*time.Minute, true)
	m := p.send(mute)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.eventually("read for the first time", func() bool { return p.mailbox().GetSync().GetDone() })
	receipt := old.copied(m, old.ended.Add(-time.Second))
	at := arrived(p.get(receipt.GetName()))
	w, err := p.vouch(at, at, "copied")
	require.NoError(t, err)
	p.wentThrough(w)
	require.Equal(t, "waiting", p.outcome(m))
	require.Contains(t, p.get(receipt.GetName()).GetDoubts()[0], "RECEIPT_BEFORE_MESSAGE")
	require.Zero(t, p.query(`SELECT count(*) FROM fact WHERE vouched <> ''`))
	require.Empty(t, p.get(m.GetName()).GetContradictions())
	guide, _ := p.guide(m)
	require.Contains(t, guide, "RECEIPT_BEFORE_MESSAGE")
	p.reread(receipt.GetName())
	require.Equal(t, "waiting", p.outcome(m))
	p.endVouching(w, "it was forged")
	require.False(t, p.get(receipt.GetName()).GetProven())
	require.Equal(t, "waiting", p.outcome(m))
	p.everything()
}

// TestG7WordTakenBackWithoutTheBytes: a word is taken back for receipts too that were destroyed or cannot be read any more. A message of
// ours that was destroyed stays as it was reduced, and nothing that a person wrote comes back to it. TESTPLAN G7.
func TestG7WordTakenBackWithoutTheBytes(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	old := p.oldProvider(former, "posta-certificata@vecchio.test", 5*time.Minute, true)
	var sent, receipts [4]*pecv1.Message
	for i := range sent {
		sent[i] = p.send(mute)
		p.state(sent[i], pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	}
	p.eventually("read for the first time", func() bool { return p.mailbox().GetSync().GetDone() })
	for i := range sent {
		receipts[i] = old.copied(sent[i], old.ended.Add(-time.Second))
	}
	from, until := arrived(p.get(receipts[0].GetName())), arrived(p.get(receipts[3].GetName()))
	w, err := p.vouch(from, until, "parola zappaterra")
	require.NoError(t, err)
	p.wentThrough(w)
	for _, m := range sent {
		require.Equal(t, "delivered", p.outcome(m))
	}
	unread, destroyed, ours, kept := 0, 1, 2, 3
	require.NoError(t, os.Remove(p.blobOf(p.get(receipts[unread].GetName()))))
	p.destroyed("d1", time.Now(), receipts[destroyed].GetName(), sent[ours].GetName())
	p.eventually("it is told", func() bool { return p.get(sent[ours].GetName()).GetDestruction() != nil })
	reduced := p.get(sent[ours].GetName())
	require.Equal(t, "delivered", p.outcome(sent[destroyed]), "the receipt was there")
	require.Contains(t, p.get(sent[destroyed].GetName()).GetContradictions()[0], "RECEIPTS_VOUCHED_FOR")

	_, err = p.delivery.EndVouching(t.Context(), &pecv1.EndVouchingRequest{Name: w.GetName(), Reason: "it was another mailbox"})
	require.NoError(t, err)
	shown := p.wentThrough(w)
	require.Equal(t, "waiting", p.outcome(sent[kept]))
	require.Equal(t, "waiting", p.outcome(sent[unread]), "what cannot be read does not count by a word that nobody stands by")
	require.Equal(t, 1, p.query(`SELECT count(*) FROM message WHERE id = $1::uuid AND NOT proven AND NOT jsonb_exists(report, 'vouched')`, lastOf(receipts[unread].GetName())))
	require.Equal(t, 1, p.query(`SELECT count(*) FROM audit_entry WHERE action = 'message.word_fell' AND resource = $1 AND detail->>'because' = $2`, receipts[unread].GetName(), w.GetName()))
	require.Equal(t, "waiting", p.outcome(sent[destroyed]))
	require.Empty(t, p.get(sent[destroyed].GetName()).GetContradictions())
	require.EqualValues(t, 1, shown.GetFailedMessages())
	require.Zero(t, shown.GetMessages())
	require.True(t, proto.Equal(reduced, p.get(sent[ours].GetName())), "what is reduced stays as it is")

	again, err := p.vouch(from, until, "parola zappaterra")
	require.NoError(t, err)
	require.EqualValues(t, 1, p.wentThrough(again).GetFailedMessages())
	require.Equal(t, "delivered", p.outcome(sent[kept]))
	require.Equal(t, "waiting", p.outcome(sent[unread]), "nothing shows what it says")
	require.Equal(t, "waiting", p.outcome(sent[destroyed]))
	require.True(t, proto.Equal(reduced, p.get(sent[ours].GetName())))
	require.Zero(t, p.query(`SELECT count(*) FROM fact f JOIN message m ON m.tenant_id = f.tenant_id AND m.id = f.message_id WHERE m.destroyed_by <> '' AND f.vouched LIKE '%zappaterra%'`))
}
