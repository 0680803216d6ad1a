package pecgateway_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// TestEverythingIsKeptAndJudged: one message between two providers, both mailboxes in our keeping.
func TestEverythingIsKeptAndJudged(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	from, to := h.add(sender), h.add(recipient)
	msgid := h.send(recipient)
	h.kept(from, to)

	inbox := h.list(to, func(r *pecv1.ListMessagesRequest) { r.Kind = pecv1.MessageKind_MESSAGE_KIND_ENVELOPE })
	require.Len(t, inbox, 1)
	m := h.get(inbox[0].GetName())
	require.True(t, m.GetProven(), "%v %v", m.GetDoubts(), m.GetVerification())
	require.Equal(t, sender, m.GetCertifiedSender())
	require.Equal(t, "valid", m.GetVerification().GetStatus())
	require.Equal(t, "Gestore Alfa SANDBOX", m.GetVerification().GetProvider())
	require.Equal(t, []string{recipient}, m.GetTo())
	require.NotNil(t, m.GetCertifiedTime())
	require.NotEmpty(t, m.GetHeaders())
	var files []string
	for _, p := range m.GetParts() {
		files = append(files, p.GetFileName())
	}
	require.Contains(t, files, "offerta.pdf")

	receipts := h.list(from)
	require.Len(t, receipts, 2) // acceptance and delivery, nothing of them is about a message that we sent
	for _, r := range receipts {
		require.True(t, r.GetProven(), "%v", r.GetDoubts())
		require.Empty(t, r.GetAbout())
		require.NotEqual(t, msgid, r.GetMessageId())
	}
	h.eventually("three messages are told", func() bool { return len(heard[*pecv1.MessageReceived](h)) == 3 })
	require.Empty(t, heard[*pecv1.ReceiptVerified](h))
	h.eventually("the first reading is over", func() bool { return h.box(from).GetSync().GetDone() && h.box(to).GetSync().GetDone() })
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_ACTIVE, h.box(to).GetState())
	h.invariants(from, to)
}

// TestE7ReceiptsWithoutOrigin: receipts of a message that we do not know are kept, belong to nobody, and
// count once the message is known.
func TestE7ReceiptsWithoutOrigin(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	box := h.add(sender)
	msgid := h.send(recipient, "inesistente@beta.test")
	// The receipts came before we know of the message: they wait until somebody asks again.
	h.kept(box)
	name := h.sent(box, msgid, recipient, "inesistente@beta.test")
	for _, r := range h.receipts(box) {
		_, err := h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: r.GetName()})
		require.NoError(t, err)
	}
	m := h.get(name)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED, m.GetState(), "%v", m)
	require.Equal(t, "delivered", m.GetRecipients()[0].GetState())
	require.Equal(t, "not-delivered", m.GetRecipients()[1].GetState())
	require.Equal(t, "no-mailbox", m.GetRecipients()[1].GetCause())
	h.eventually("it is told", func() bool { return len(heard[*pecv1.ReceiptVerified](h)) == 3 })
	h.invariants(box)
}

// TestC1ForgedReceiptsMoveNothing: perfect headers without signature, the signature of a person, a changed
// byte, half a message.
func TestC1ForgedReceiptsMoveNothing(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	box := h.add(sender)
	name := h.sent(box, "ours@alfa.test", recipient)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	hows := map[string]string{"unsigned": "unsigned", "wrong_signer": "untrusted-signer", "bad_signature": "invalid-digest", "broken_mime": ""}
	for how := range hows {
		require.NoError(t, h.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "avvenuta-consegna", MsgID: "ours@alfa.test", Recipient: recipient, How: how}))
	}
	h.kept(box)
	m := h.get(name)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, m.GetState())
	require.Equal(t, "waiting", m.GetRecipients()[0].GetState())
	received := h.receipts(box)
	require.Len(t, received, len(hows))
	seen := map[string]bool{}
	for _, r := range received {
		require.False(t, r.GetProven())
		require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ORDINARY, r.GetKind(), "a claim is no kind")
		require.Empty(t, r.GetCertifiedSender())
		require.NotEmpty(t, r.GetDoubts())
		seen[r.GetVerification().GetStatus()] = true
	}
	for _, status := range hows {
		require.True(t, status == "" || seen[status], "%s among %v", status, seen)
	}
	require.Empty(t, heard[*pecv1.ReceiptVerified](h))
	h.eventually("somebody is told of each", func() bool { return len(heard[*pecv1.ClaimNotProven](h)) == len(hows) })
	for _, ev := range heard[*pecv1.ClaimNotProven](h) {
		require.Equal(t, []string{"FALSE_CLAIM", "avvenuta-consegna"}, []string{ev.GetCode(), ev.GetClaim()})
		require.True(t, slices.ContainsFunc(received, func(r *pecv1.Message) bool { return r.GetName() == ev.GetMessage() }))
		require.NotEmpty(t, ev.GetReason())
		require.Equal(t, name, ev.GetAbout(), "the message that it wants to be about")
	}
	h.inject(sender, plain("che non dice di essere altro"))
	h.kept(box)
	h.invariants(box)
	require.Len(t, heard[*pecv1.ClaimNotProven](h), len(hows), "each once")

	// A genuine one of the same shape does move it.
	require.NoError(t, h.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: "ours@alfa.test", Recipient: recipient, How: "valid"}))
	h.eventually("accepted", func() bool { return h.get(name).GetState() == pecv1.MessageState_MESSAGE_STATE_ACCEPTED })
}
