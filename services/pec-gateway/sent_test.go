package pecgateway_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// state waits until the message has come to a state.
func (p *post) state(m *pecv1.Message, want pecv1.MessageState) *pecv1.Message {
	p.t.Helper()
	var got *pecv1.Message
	p.eventually("the message is "+want.String(), func() bool {
		got = p.get(m.GetName())
		return got.GetState() == want
	})
	return got
}

// pass moves the clocks of both sides.
func (p *post) pass(d time.Duration) {
	p.t.Helper()
	p.ahead.Add(int64(d))
	p.advance(d)
}

// TestE1E13Delivered: from one provider to the other; each step is proven by a receipt, and the receipts are
// counted for the right recipients. TESTPLAN E1, E13.
func TestE1E13Delivered(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	m := p.send(recipient, "inesistente@beta.test", "qualcuno@example.test")
	got := p.state(m, pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED)
	require.NotEmpty(t, got.GetProviderId())
	want := map[string]string{recipient: "delivered", "inesistente@beta.test": "not-delivered", "qualcuno@example.test": "forwarded-to-ordinary-mail"}
	for _, r := range got.GetRecipients() {
		require.Equal(t, want[r.GetAddress()], r.GetState(), r)
	}
	all := p.send(recipient, "destinatario@alfa.test")
	p.state(all, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	require.Len(t, p.submissions(), 2)
	refused := p.send("non-accettata@beta.test")
	p.state(refused, pecv1.MessageState_MESSAGE_STATE_REFUSED)
	p.everything()
}

// TestA4A5UnknownAnswered: the connection is cut after the final dot, and the provider had the message. Its
// receipt says so: nothing is sent again and nobody is asked. TESTPLAN A4, A5, A7.
func TestA4A5UnknownAnswered(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	_, err := p.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultPECCutAfter})
	require.NoError(t, err)
	m := p.send(recipient)
	got := p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Equal(t, "unknown", d.GetAttempts()[0].GetOutcome())
	require.Len(t, d.GetAttempts(), 1)
	require.Empty(t, d.GetAdvice())
	require.Len(t, p.submissions(), 1)
	require.Equal(t, m.GetMessageId(), got.GetMessageId())
	_, err = p.delivery.ResolveMessage(t.Context(), &pecv1.ResolveMessageRequest{
		Name: m.GetName(), Decision: pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND, Reason: "x", AcceptSecondSending: true})
	requireFault(t, err, "OUTCOME_IS_KNOWN")
	p.eventually("the watch ends", func() bool { return p.query(`SELECT count(*) FROM sending WHERE step = 'done'`) == 1 })
	require.Empty(t, heard[*pecv1.DeliveryDecisionNeeded](p.house))
	p.everything()
}

// TestA4AnsweredBeforeTheSecondSending: a person decided to send again, and while the message waits for its turn a receipt shows that
// the provider has it. It does not leave a second time. TESTPLAN A3, A4; invariant I3.
func TestA4AnsweredBeforeTheSecondSending(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	p.fault(client.FaultPECCutAfter)
	for _, tipo := range []string{"accettazione", "avvenuta-consegna"} {
		p.fault(client.FaultPECLate, func(f *client.Fault) { f.Type, f.After = tipo, "2h" })
	}
	m := p.send(recipient)
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	require.Len(t, p.submissions(), 1)

	p.suspend(true)
	_, err := p.delivery.ResolveMessage(t.Context(), &pecv1.ResolveMessageRequest{
		Name: m.GetName(), Decision: pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND, Reason: "the provider's log has nothing", AcceptSecondSending: true})
	require.NoError(t, err)
	p.eventually("the queue is held", func() bool { return p.way(m).GetHeld() != "" })
	p.pass(2*time.Hour + time.Minute)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	p.suspend(false)
	next := p.send("altro@beta.test")
	p.resume()
	p.reaches(next, pecv1.DeliveryStep_DELIVERY_STEP_DONE)

	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	for _, a := range d.GetAttempts()[1:] {
		require.Nil(t, a.GetDotTime(), "it left once more: %v", a)
	}
	require.Equal(t, []string{m.GetMessageId(), next.GetMessageId()}, p.sentIDs())
	require.Empty(t, p.get(m.GetName()).GetContradictions())
	p.everything()
}

// TestA3SecondSendingIsTakenBack: a person decided to send again a message whose outcome is unknown, and thinks better of it while it
// waits for its turn. It waits for receipts again, or is given up, and does not leave. TESTPLAN A3; invariant I3.
func TestA3SecondSendingIsTakenBack(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	m := p.send("taglia@beta.test")
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	resolve := func(decision pecv1.DeliveryDecision) (*pecv1.Delivery, error) {
		return p.delivery.ResolveMessage(t.Context(), &pecv1.ResolveMessageRequest{Name: m.GetName(), Decision: decision, Reason: "prova", AcceptSecondSending: true})
	}
	p.suspend(true)
	for _, c := range []struct {
		decision pecv1.DeliveryDecision
		step     pecv1.DeliveryStep
		state    pecv1.MessageState
	}{
		{pecv1.DeliveryDecision_DELIVERY_DECISION_WAIT, pecv1.DeliveryStep_DELIVERY_STEP_UNKNOWN, pecv1.MessageState_MESSAGE_STATE_OUTCOME_UNKNOWN},
		{pecv1.DeliveryDecision_DELIVERY_DECISION_ABANDON, pecv1.DeliveryStep_DELIVERY_STEP_CANCELLED, pecv1.MessageState_MESSAGE_STATE_CANCELLED},
	} {
		p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
		_, err := resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND)
		require.NoError(t, err)
		p.eventually("the queue is held", func() bool { return p.way(m).GetHeld() != "" })
		_, err = p.delivery.CancelMessage(t.Context(), &pecv1.CancelMessageRequest{Name: m.GetName()})
		requireFault(t, err, "MESSAGE_HAS_LEFT")
		d, err := resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND)
		require.NoError(t, err, "it is decided already")
		require.Equal(t, pecv1.DeliveryStep_DELIVERY_STEP_QUEUED, d.GetStep())
		d, err = resolve(c.decision)
		require.NoError(t, err, c.decision)
		require.Equal(t, []any{c.step, c.state}, []any{d.GetStep(), d.GetState()})
	}
	for _, ev := range heard[*pecv1.DeliveryStateChanged](p.house) {
		require.False(t, ev.GetSurelyNotSent(), "nobody knows: %v", ev)
	}
	p.suspend(false)
	next := p.send(recipient)
	p.resume()
	p.reaches(next, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Equal(t, []string{next.GetMessageId()}, p.sentIDs())
	p.everything()
}

// TestA3SecondSendingInVain: a person decided to send again a message whose outcome is unknown, and its provider does not take it for
// as long as any message is tried. It is not tried for ever: the person is asked once more, is not told that it was not sent, and
// may have it tried anew. TESTPLAN A3, A8; invariant I3.
func TestA3SecondSendingInVain(t *testing.T) {
	t.Parallel()
	p := openPost(t, strings.Replace(quickly, "sending: {", "sending: {give_up_after: 1h, ", 1))
	p.believe()
	p.fault(client.FaultPECCutBefore)
	m := p.send(recipient)
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	p.pass(2 * time.Hour) // who decides takes as long as that
	p.fault(client.FaultPECDefer, func(f *client.Fault) { f.Count = 1000 })
	resolve := func(decision pecv1.DeliveryDecision) *pecv1.Delivery {
		d, err := p.delivery.ResolveMessage(t.Context(), &pecv1.ResolveMessageRequest{Name: m.GetName(), Decision: decision, Reason: "prova", AcceptSecondSending: true})
		require.NoError(t, err)
		return d
	}
	for asked := 1; asked <= 2; asked++ {
		p.eventually("somebody is asked", func() bool { return len(heard[*pecv1.DeliveryDecisionNeeded](p.house)) == asked })
		before := len(p.way(m).GetAttempts())
		resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND)
		p.eventually("it is tried again, more than once", func() bool { return len(p.way(m).GetAttempts()) >= before+3 })
		require.Len(t, heard[*pecv1.DeliveryDecisionNeeded](p.house), asked)
		p.pass(2 * time.Hour)
		p.resume()
		d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_OUTCOME_UNKNOWN, d.GetState())
	}
	p.eventually("asked again", func() bool { return len(heard[*pecv1.DeliveryDecisionNeeded](p.house)) == 3 })
	last := heard[*pecv1.DeliveryDecisionNeeded](p.house)[2]
	require.Contains(t, last.GetAdvice(), "nobody took it for 1h0m0s")
	require.Contains(t, last.GetAdvice(), "Safe: WAIT")
	tried := len(p.way(m).GetAttempts())
	p.resume()
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_CANCELLED, resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_ABANDON).GetState())
	require.Len(t, p.way(m).GetAttempts(), tried)
	for _, ev := range heard[*pecv1.DeliveryStateChanged](p.house) {
		require.False(t, ev.GetSurelyNotSent(), "nobody knows: %v", ev)
	}
	p.everything()
}

// TestLongIdentifiersAreAnswered: a message or a draft answers one whose program gave it a long identifier, and what is sent names it
// whole. What fits into no line is refused.
func TestLongIdentifiersAreAnswered(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	req := p.request(recipient)
	req.InReplyTo = strings.Repeat("x", 891) + "@beta.test"
	_, err := p.api.SendMessage(t.Context(), req)
	requireFault(t, err, "REQUEST_INVALID")
	req.InReplyTo = strings.Repeat("x", 890) + "@beta.test"
	m, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	sent, err := p.bytesOf(m)
	require.ErrorIs(t, err, io.EOF)
	require.Contains(t, string(sent), "In-Reply-To: <"+req.GetInReplyTo()+">\r\n")
	d := p.draft(p.box, &pecv1.Draft{InReplyTo: req.GetInReplyTo()})
	require.Equal(t, req.GetInReplyTo(), d.GetInReplyTo())
}

// sentIDs are the Message-IDs that the provider took, in order.
func (p *post) sentIDs() []string {
	var out []string
	for _, s := range p.submissions() {
		out = append(out, s.MsgID)
	}
	return out
}
