package pecgateway_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// What others act upon is in the event: what is proven, by whom, and that a message is, or wants to be taken for,
// one of SdI. The same bytes judged again are told again, with the verdict of then.
func TestVerdictIsTold(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	box := h.add(recipient)
	_, err := h.sandbox.Deliver(t.Context(), client.DeliveryRequest{ToPEC: recipient})
	require.NoError(t, err)
	told := func() *pecv1.MessageReceived {
		for _, ev := range heard[*pecv1.MessageReceived](h) {
			if ev.GetVerdict().GetFromExchange() {
				return ev
			}
		}
		return nil
	}
	h.eventually("SdI's letter being told", func() bool { return told() != nil })
	v := told().GetVerdict()
	require.False(t, v.GetProven(), "nobody is trusted yet")
	require.False(t, v.GetSenderManaged())
	require.NotEmpty(t, v.GetDoubts())

	h.believe()
	_, err = h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: told().GetMessage()})
	require.NoError(t, err)
	h.eventually("the later verdict", func() bool { return len(heard[*pecv1.MessageJudged](h)) == 1 })
	again := heard[*pecv1.MessageJudged](h)[0]
	require.Equal(t, told().GetMessage(), again.GetMessage())
	require.Equal(t, told().GetContent().GetUri(), again.GetContent().GetUri())
	require.True(t, again.GetVerdict().GetProven(), again.GetVerdict().GetDoubts())
	require.True(t, again.GetVerdict().GetSenderManaged())
	require.True(t, again.GetVerdict().GetFromExchange())
	require.Equal(t, "Gestore Beta SANDBOX", again.GetVerdict().GetProvider())
	require.NotZero(t, again.GetVerdict().GetCertifiedTime().AsTime().Unix())

	h.inject(recipient, plain("nothing certified"))
	h.eventually("an ordinary message", func() bool { return len(heard[*pecv1.MessageReceived](h)) == 2 })
	require.False(t, heard[*pecv1.MessageReceived](h)[1].GetVerdict().GetFromExchange())
	h.invariants(box)
}

// Who asked for a message learns of its states under the request, and whether it surely reached nobody. Its
// Message-ID follows from the request.
func TestStatesAreToldToWhoAsked(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	states := func(request string) map[string]*pecv1.DeliveryStateChanged {
		out := map[string]*pecv1.DeliveryStateChanged{}
		for _, ev := range heard[*pecv1.DeliveryStateChanged](p.house) {
			if ev.GetRequestId() == request {
				out[ev.GetState()] = ev
			}
		}
		return out
	}
	for _, c := range []struct {
		to, state string
		surely    bool
	}{
		{recipient, "MESSAGE_STATE_DELIVERED", false}, {"permerror@beta.test", "MESSAGE_STATE_REJECTED", true},
		{"non-accettata@beta.test", "MESSAGE_STATE_REFUSED", true}, {"inesistente@beta.test", "MESSAGE_STATE_FAILED", true},
		{"taglia@beta.test", "MESSAGE_STATE_OUTCOME_UNKNOWN", false},
	} {
		req := p.request(c.to)
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		p.eventually(c.to+" "+c.state, func() bool { return states(req.GetRequestId())[c.state] != nil })
		for state, ev := range states(req.GetRequestId()) {
			require.Equal(t, m.GetName(), ev.GetMessage())
			require.Equal(t, c.surely && state == c.state, ev.GetSurelyNotSent(), "%s: %s", c.to, state)
		}
		if c.state == "MESSAGE_STATE_DELIVERED" {
			require.NotZero(t, states(req.GetRequestId())[c.state].GetCertifiedTime().AsTime().Unix())
		}
	}
	one, two := p.request(recipient), p.request(recipient)
	two.RequestId = uuid.NewString()
	first, err := p.api.SendMessage(t.Context(), one)
	require.NoError(t, err)
	second, err := p.api.SendMessage(t.Context(), two)
	require.NoError(t, err)
	same, err := p.api.SendMessage(t.Context(), one)
	require.NoError(t, err)
	require.Equal(t, first.GetMessageId(), same.GetMessageId())
	require.NotEqual(t, first.GetMessageId(), second.GetMessageId())
	p.everything()
}
