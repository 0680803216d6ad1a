//go:build soak

package pecgateway_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// wrongs are what may go wrong in the day, at the providers and on the way.
var wrongs = []string{
	client.FaultPECCutBefore, client.FaultPECCutAfter, client.FaultPECDefer, client.FaultPECThrottle, client.FaultPECAuth, client.FaultPECReject, client.FaultPECMX,
	client.FaultPECDuplicate, client.FaultPECDrop, client.FaultPECLate, client.FaultPECBadSignature, client.FaultPECUnsigned, client.FaultPECWrongSigner,
	client.FaultPECBrokenMIME, client.FaultPECExpiredSigner, client.FaultPECOtherProvider, client.FaultPECNoSigner, client.FaultPECBareLF, client.FaultPECList,
	client.FaultPECWrongZone, client.FaultPECNoMsgID, client.FaultPECOtherMsgID, client.FaultPECOtherTipo, client.FaultPECUnknownTipo, client.FaultPECOtherRecipient, client.FaultPECTwoDaticert,
	client.FaultPECIMAPCut, client.FaultPECIMAPSlow,
}

// TestG10ADayOfFaults: a day of two providers and four mailboxes on the virtual clock, half an hour at a time: letters of
// every outcome between them and from elsewhere, forged receipts, faults drawn by lot, and a gateway that ends and begins
// again. When it is over all invariants hold, and no message left more often than it was handed over. TESTPLAN G10.
func TestG10ADayOfFaults(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number
	rng := rand.New(rand.NewPCG(seed, 6109))
	t.Logf("seed %d", seed)
	p := openPost(t, watching+quick)
	p.believe()
	boxes := []*pecv1.Mailbox{p.mailbox()}
	for _, address := range []string{"seconda@alfa.test", recipient, "altra@beta.test"} {
		boxes = append(boxes, p.add(address))
	}
	whom := []string{recipient, "altra@beta.test", sender, "seconda@alfa.test", "inesistente@beta.test", "qualcuno@example.test", "dopo-13h@beta.test", "dopo-30h@beta.test",
		"muta@beta.test", "contraddetta@beta.test", "non-accettata@beta.test"}
	var sent []*pecv1.Message
	again := func() {
		p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
		for _, b := range boxes {
			_, err := p.delivery.ResumeSending(t.Context(), &pecv1.ResumeSendingRequest{Name: b.GetName()})
			require.NoError(t, err)
		}
	}
	for half := range 48 {
		for range rng.IntN(3) {
			p.fault(wrongs[rng.IntN(len(wrongs))], func(f *client.Fault) {
				f.Count, f.DelayMS, f.After = 1+rng.IntN(2), 300, fmt.Sprint(1+rng.IntN(9), "h")
			})
		}
		for range 1 + rng.IntN(4) {
			req := p.request(whom[rng.IntN(len(whom))])
			if other := whom[rng.IntN(len(whom))]; other != req.GetTo()[0] {
				req.To = append(req.To, other)
			}
			req.Parent, req.Subject = boxes[rng.IntN(len(boxes))].GetName(), "Lettera "+uuid.NewString()
			m, err := p.api.SendMessage(t.Context(), req)
			require.NoError(t, err)
			sent = append(sent, m)
		}
		if rng.IntN(3) == 0 {
			about := sent[rng.IntN(len(sent))]
			how := []string{"unsigned", "bad_signature", "wrong_signer"}[rng.IntN(3)]
			require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "avvenuta-consegna", MsgID: about.GetMessageId(), Recipient: recipient, How: how}))
		}
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // it is stopped anywhere in its work
		if half%6 == 5 {
			p.Stop()
			p.start()
		}
		p.pass(30 * time.Minute)
		again()
	}
	require.NoError(t, p.sandbox.ClearFaults(t.Context()))
	for range 8 { // notices, late deliveries, and what was put off
		p.pass(6 * time.Hour)
		again()
		p.eventually("nothing waits to leave", func() bool {
			return p.query(`SELECT count(*) FROM sending WHERE step IN ('queued', 'leaving', 'unknown')`) == 0
		})
		p.kept(boxes...)
	}
	p.eventually("receipts that came before what tells whose they are are counted", func() bool {
		return p.query(`SELECT count(*) FROM message r JOIN message m ON m.tenant_id = r.tenant_id AND m.mailbox_id = r.mailbox_id AND m.direction = 2
			AND m.identificativo = r.identificativo
			WHERE r.direction = 1 AND r.proven AND r.about_id IS NULL AND r.reference = '' AND r.identificativo <> '' AND r.tipo <> 'posta-certificata'`) == 0
	})
	p.turn() // what silence means is said
	taken := map[string]int{}
	for _, b := range boxes {
		list, err := p.sandbox.PECSubmissions(t.Context(), b.GetAddress())
		require.NoError(t, err)
		for _, s := range list {
			taken[s.MsgID]++
		}
	}
	states := map[string]int{}
	for _, m := range sent {
		if taken[m.GetMessageId()] > 1 {
			t.Log(p.way(m))
			for _, b := range boxes {
				list, _ := p.sandbox.PECSubmissions(t.Context(), b.GetAddress())
				for _, s := range list {
					if s.MsgID == m.GetMessageId() {
						t.Logf("%+v", s)
					}
				}
			}
		}
		require.LessOrEqual(t, taken[m.GetMessageId()], 1, "I3: %s left twice", m.GetName())
		states[p.get(m.GetName()).GetState().String()]++
	}
	for _, b := range boxes {
		p.eventually(b.GetAddress()+" is well", func() bool { return p.house.box(b).GetState() == pecv1.MailboxState_MAILBOX_STATE_ACTIVE })
	}
	t.Logf("%d messages were sent, %d taken by the providers: %v", len(sent), len(taken), states)
	p.invariants()
	p.house.invariants(boxes...)
}
