package pecgateway_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// TestAnswersAreOfOneMoment: a receipt is counted while an answer is being read, between the message and its recipients.
// A message that is shown as submitted has no recipient who is shown as having it.
func TestAnswersAreOfOneMoment(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	m := p.send("dopo-30h@beta.test")
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.kept(p.mailbox())
	id := m.GetName()[strings.LastIndexByte(m.GetName(), '/')+1:]
	agree := func(state pecv1.MessageState, recipients []*pecv1.RecipientOutcome) {
		require.Len(t, recipients, 1)
		require.Equal(t, state == pecv1.MessageState_MESSAGE_STATE_DELIVERED, recipients[0].GetState() == "delivered", "the message is %s, its recipient %s", state, recipients[0])
	}
	for _, read := range []func(){
		func() {
			got := p.get(m.GetName())
			agree(got.GetState(), got.GetRecipients())
		},
		func() {
			got := p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) {
				r.MessageId, r.Direction = m.GetMessageId(), pecv1.MessageDirection_MESSAGE_DIRECTION_SENT
			})
			require.Len(t, got, 1)
			agree(got[0].GetState(), got[0].GetRecipients())
		},
		func() {
			got := p.way(m)
			agree(got.GetState(), got.GetRecipients())
		},
	} {
		set := func(state pecv1.MessageState, recipient string) []string {
			return []string{
				fmt.Sprintf(`UPDATE message SET state = %d WHERE id = '%s'`, state, id),
				fmt.Sprintf(`UPDATE recipient SET state = '%s' WHERE message_id = '%s'`, recipient, id),
			}
		}
		pgtest.Between(t, p.DB("pec-gateway"), "recipient", read, set(pecv1.MessageState_MESSAGE_STATE_DELIVERED, "delivered")...)
		read()
		for _, s := range set(pecv1.MessageState_MESSAGE_STATE_ACCEPTED, "accepted") {
			p.exec(s)
		}
	}
	p.everything()
}
