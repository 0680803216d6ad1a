package pecgateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// watching are the pauses of tests in which time passes.
var watching = strings.Replace(quickly, "sending: {", "sending: {look_every: 50ms, ", 1)

// stalls gives the codes that were told of a message, in order.
func (p *post) stalls(m *pecv1.Message) []string {
	var out []string
	for _, e := range heard[*pecv1.DeliveryStalled](p.house) {
		if e.GetMessage() == m.GetName() {
			out = append(out, e.GetCode())
		}
	}
	return out
}

// overdue waits until a message shows a code, "" for none, and gives its way.
func (p *post) overdue(m *pecv1.Message, code string) *pecv1.Delivery {
	p.t.Helper()
	var d *pecv1.Delivery
	p.eventually("the message shows "+code, func() bool {
		d = p.way(m)
		return d.GetStallCode() == code
	})
	return d
}

// TestE10Silence: a message that is taken and then not heard of is told about after two hours, once, with its
// mailbox; one that was accepted and of which nothing more comes after twenty-six. No state is invented, and a
// receipt that comes after all ends it.
func TestE10Silence(t *testing.T) {
	t.Parallel()
	p := openPost(t, watching)
	p.believe()
	// Of "ignorata" nothing is ever heard; of the other one the notices that are due get lost.
	lost, second := p.send("ignorata@beta.test"), p.send("ignorata+2@beta.test")
	p.fault(client.FaultPECDrop, func(f *client.Fault) { f.Type, f.Count = "preavviso-errore-consegna", 2 })
	mute := p.send("muta@beta.test")
	p.reaches(lost, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	p.reaches(second, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	p.state(mute, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.pass(119 * time.Minute)
	p.turn()
	require.Empty(t, heard[*pecv1.DeliveryStalled](p.house), "it is early")
	p.pass(2 * time.Minute)
	d := p.overdue(lost, "ACCEPTANCE_MISSING")
	p.overdue(second, "ACCEPTANCE_MISSING")
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_SUBMITTED, d.GetState(), "silence is no state")
	require.Contains(t, d.GetAdvice(), "do not send it again")
	require.NotNil(t, d.GetStallTime())
	p.eventually("both are told", func() bool { return len(p.stalls(lost))+len(p.stalls(second)) == 2 })
	p.eventually("one alarm for the mailbox", func() bool { return p.alarms() == 1 })
	list, err := p.delivery.ListDeliveries(t.Context(), &pecv1.ListDeliveriesRequest{Parent: p.box})
	require.NoError(t, err)
	require.Len(t, list.GetDeliveries(), 2, "what is overdue is shown among what waits")

	p.pass(25 * time.Hour)
	d = p.overdue(mute, "NOTICE_MISSING")
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, d.GetState())
	require.Equal(t, "waiting", d.GetRecipients()[0].GetState())
	p.eventually("it is told", func() bool { return len(p.stalls(mute)) == 1 })
	ev := heard[*pecv1.DeliveryStalled](p.house)
	require.EqualValues(t, 1, ev[len(ev)-1].GetRecipients())

	// The delivery comes after all, by the recipient's own provider.
	require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: lost.GetMessageId(), Recipient: "ignorata@beta.test", How: "valid"}))
	p.state(lost, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.overdue(lost, "")
	p.turn()
	require.Equal(t, []string{"ACCEPTANCE_MISSING"}, p.stalls(lost), "told once")
	p.invariants()
	p.house.invariants(p.mailbox())
}

// TestE2E10AcceptanceMissingAfterADelivery: a receipt shows that a message was accepted, and the acceptance itself has not come an hour
// later. Somebody is told, once, whether all recipients have the message, one of them or none; the state is what it was. The acceptance
// that comes after all ends it. TESTPLAN E2, E10.
func TestE2E10AcceptanceMissingAfterADelivery(t *testing.T) {
	t.Parallel()
	p := openPost(t, watching)
	p.believe()
	p.fault(client.FaultPECLate, func(f *client.Fault) { f.Type, f.Count, f.After = "accettazione", 2, "90m" })
	all, some := p.send(recipient), p.send(recipient, "muta@beta.test")
	p.state(all, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	p.state(some, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.fault(client.FaultPECDrop, func(f *client.Fault) { f.Type, f.Count = "accettazione", 1 })
	none := p.send("inesistente@beta.test")
	p.state(none, pecv1.MessageState_MESSAGE_STATE_FAILED)
	p.pass(58 * time.Minute)
	p.turn()
	require.Empty(t, heard[*pecv1.DeliveryStalled](p.house), "it is early")
	p.pass(3 * time.Minute)
	for m, state := range map[*pecv1.Message]pecv1.MessageState{all: pecv1.MessageState_MESSAGE_STATE_DELIVERED,
		some: pecv1.MessageState_MESSAGE_STATE_ACCEPTED, none: pecv1.MessageState_MESSAGE_STATE_FAILED} {
		d := p.overdue(m, "ACCEPTANCE_MISSING")
		require.Equal(t, state, d.GetState())
		require.Contains(t, d.GetAdvice(), "the proof of when it was sent")
		p.eventually("it is told", func() bool { return len(p.stalls(m)) == 1 })
	}
	for _, ev := range heard[*pecv1.DeliveryStalled](p.house) {
		require.Contains(t, ev.GetAdvice(), "the proof of when it was sent")
	}
	require.Zero(t, p.alarms(), "the mailbox sends: documents of others need not be kept from it")
	list, err := p.delivery.ListDeliveries(t.Context(), &pecv1.ListDeliveriesRequest{Parent: p.box})
	require.NoError(t, err)
	require.Len(t, list.GetDeliveries(), 3, "they are shown among what waits, also what is delivered")

	p.pass(30 * time.Minute) // the late acceptances
	p.overdue(all, "")
	p.overdue(some, "")
	p.overdue(none, "ACCEPTANCE_MISSING")
	p.state(all, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: none.GetMessageId(),
		Identificativo: p.get(none.GetName()).GetProviderId(), Recipient: "inesistente@beta.test", How: "valid"}))
	p.overdue(none, "")
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_FAILED, p.get(none.GetName()).GetState())
	p.turn()
	for _, m := range []*pecv1.Message{all, some, none} {
		require.Equal(t, []string{"ACCEPTANCE_MISSING"}, p.stalls(m), "told once")
		require.Empty(t, p.get(m.GetName()).GetContradictions())
	}
	require.Zero(t, p.alarms())
	p.everything()
}

// turn waits until overdue messages were looked at once more.
func (p *post) turn() {
	p.t.Helper()
	last := func() int {
		return p.query(`SELECT coalesce(max((extract(epoch FROM scheduled_at) * 1000)::bigint % 1000000000), 0) FROM river_job WHERE kind = 'pec_look'`)
	}
	for range 2 {
		before := last()
		p.eventually("another look", func() bool { return last() != before })
	}
}

func (p *post) mailbox() *pecv1.Mailbox { return p.house.box(&pecv1.Mailbox{Name: p.box}) }

// TestE3E4NoticesAndDeliveries: every combination of the notices of 12 and 24 hours with a delivery; the second notice
// is told as overdue, a delivery after it corrects the state once, and after two more days of silence it is final.
func TestE3E4NoticesAndDeliveries(t *testing.T) {
	t.Parallel()
	p := openPost(t, watching)
	p.believe()
	way := map[string]*pecv1.Message{}
	for _, local := range []string{"muta", "presa", "dopo-13h", "dopo-30h", "dopo-60h", "senza-ricevuta"} {
		way[local] = p.send(local + "@beta.test")
		p.state(way[local], pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	}
	are := func(want map[string]string) {
		t.Helper()
		for local, state := range want {
			p.eventually(fmt.Sprintf("%s is %s", local, state), func() bool { return p.way(way[local]).GetRecipients()[0].GetState() == state })
		}
	}
	p.pass(12*time.Hour + time.Minute)
	are(map[string]string{"muta": "late", "presa": "waiting", "dopo-13h": "late", "dopo-30h": "late", "senza-ricevuta": "waiting"})
	p.pass(2 * time.Hour)
	are(map[string]string{"dopo-13h": "delivered"})
	require.True(t, p.way(way["dopo-13h"]).GetRecipients()[0].GetLate())
	p.pass(10 * time.Hour)
	are(map[string]string{"muta": "not-delivered-in-time", "presa": "not-delivered-in-time", "dopo-30h": "not-delivered-in-time",
		"dopo-60h": "not-delivered-in-time", "senza-ricevuta": "not-delivered-in-time"})
	require.Contains(t, p.overdue(way["muta"], "DELIVERY_OVERDUE").GetAdvice(), "without a delivery receipt nothing was served")
	require.Empty(t, p.stalls(way["dopo-13h"]))
	p.pass(7 * time.Hour)
	are(map[string]string{"dopo-30h": "delivered"})
	p.overdue(way["dopo-30h"], "")
	p.pass(30 * time.Hour)
	are(map[string]string{"dopo-60h": "delivered"})
	p.pass(13 * time.Hour)
	p.overdue(way["muta"], "")
	ends := map[string]string{}
	for local, m := range way {
		ends[local] = "MESSAGE_STATE_DELIVERED"
		if !strings.HasPrefix(local, "dopo-") {
			ends[local] = "MESSAGE_STATE_FAILED"
		}
		shown := p.state(m, pecv1.MessageState(pecv1.MessageState_value[ends[local]]))
		require.Equal(t, strings.HasPrefix(local, "dopo-"), shown.GetRecipients()[0].GetLate(), local)
		require.Empty(t, shown.GetContradictions(), "%s: what comes late contradicts nothing", local)
	}
	told := func() map[string]int {
		changes := map[string]int{}
		for _, e := range heard[*pecv1.DeliveryStateChanged](p.house) {
			changes[e.GetMessage()+" "+e.GetState()]++
		}
		return changes
	}
	p.eventually("each end is told", func() bool {
		for local, m := range way {
			if told()[m.GetName()+" "+ends[local]] == 0 {
				return false
			}
		}
		return true
	})
	for what, n := range told() {
		require.Equal(t, 1, n, "%s: told more than once", what)
	}
	p.invariants()
	p.house.invariants(p.mailbox())
}
