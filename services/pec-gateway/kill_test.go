package pecgateway_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// Boundaries of sending and receiving: the statements between which a killed process may have left something.
var (
	beforeTheDot = boundary{"the end not marked", "sending_attempt", "UPDATE", "OLD.dot_at IS NULL AND NEW.dot_at IS NOT NULL"}
	boundaries   = []boundary{
		{"about to connect", "sending_attempt", "INSERT", ""},
		beforeTheDot,
		{"answered, not recorded", "sending_attempt", "UPDATE", "OLD.outcome = '' AND NEW.outcome = 'accepted'"},
		{"recorded, the state not written", "message", "UPDATE", "OLD.direction = 2 AND NEW.state <> OLD.state"},
		{"receipt in hand, not recorded", "message", "INSERT", "NEW.direction = 1"},
		{"receipt recorded, its place not", "location", "INSERT", ""},
		{"receipt recorded, not counted", "fact", "INSERT", "NEW.receipt_id IS NOT NULL"},
		{"counted, the recipient not written", "recipient", "UPDATE", "NEW.state <> OLD.state"},
		{"received, the cursor not moved", "folder", "INSERT", ""},
	}
)

// taken counts what the provider has of a message.
func (p *post) taken(m *pecv1.Message) int {
	n := 0
	for _, s := range p.submissions() {
		if s.MsgID == m.GetMessageId() {
			n++
		}
	}
	return n
}

// TestKilledAtEachBoundary: the gateway, a process of its own, is killed at every boundary of a message's way out and
// of its receipts' way in, and in the one moment that no statement marks: after the final dot, before the answer. No
// message is sent twice, none is lost, every receipt counts once. TESTPLAN A5, A6, A7, B6.
func TestKilledAtEachBoundary(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.believe()
	w.box = w.add(sender).GetName()
	for _, b := range everyBoundary(boundaries) {
		w.step(b.name, func(t *testing.T) {
			w.stopAt(b)
			m := w.send(recipient)
			w.killAt(b)
			w.run()
			w.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
			require.Equal(t, 1, w.taken(m))
		})
	}
	w.step("after the dot, taken", func(t *testing.T) {
		m := w.leaving(false)
		w.eventually("the provider takes it", func() bool { return w.taken(m) == 1 })
		w.kill()
		w.line.cut()
		w.run()
		w.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		w.eventually("the attempt is known to have no known end", func() bool { return w.way(m).GetAttempts()[0].GetOutcome() == "unknown" })
		require.Len(t, w.way(m).GetAttempts(), 1)
		require.Equal(t, 1, w.taken(m))
	})
	w.step("after the dot, lost", func(t *testing.T) {
		m := w.leaving(true)
		w.eventually("the dot has left", func() bool {
			return w.query(`SELECT count(*) FROM sending_attempt a JOIN message m ON m.id = a.message_id WHERE m.message_id = $1 AND dot_at IS NOT NULL`, m.GetMessageId()) == 1
		})
		w.kill()
		w.line.cut()
		w.run()
		d := w.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
		require.Len(t, d.GetAttempts(), 1, "it was sent again without a word")
		require.Zero(t, w.taken(m))
		_, err := w.delivery.ResolveMessage(t.Context(), &pecv1.ResolveMessageRequest{
			Name: m.GetName(), Decision: pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND, Reason: "the provider's log has nothing", AcceptSecondSending: true})
		require.NoError(t, err)
		w.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		require.Equal(t, 1, w.taken(m))
	})
	w.toldOnce()
	w.post.invariants()
	w.house.invariants(w.mailbox())
}

// step runs a part of the test under its own name.
func (w *ward) step(name string, part func(t *testing.T)) {
	all, ok := w.t.(*testing.T)
	require.True(w.t, ok)
	require.True(all, all.Run(name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = all }()
		part(t)
	}))
}

// leaving sends a message and gives it when its end has left, or is held on its way when all is held.
func (w *ward) leaving(all bool) *pecv1.Message {
	w.t.Helper()
	w.stopAt(beforeTheDot)
	m := w.send(recipient)
	w.reached(beforeTheDot)
	w.line.hold(all)
	w.letGo(beforeTheDot, false)
	return m
}

// toldOnce asserts that every state was told once, whoever died in between.
func (w *ward) toldOnce() {
	w.t.Helper()
	times := map[string]int{}
	for _, e := range heard[*pecv1.DeliveryStateChanged](w.house) {
		times[e.GetMessage()[strings.LastIndexByte(e.GetMessage(), '/'):]+" "+e.GetState()]++
	}
	for what, n := range times {
		require.Equal(w.t, 1, n, what)
	}
}
