package pecgateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
)

// outcomes are the states of the recipients of a message, by the part of the address before the @.
func outcomes(m *pecv1.Message) map[string]string {
	out := map[string]string{}
	for _, r := range m.GetRecipients() {
		local, _, _ := strings.Cut(r.GetAddress(), "@")
		out[local] = strings.TrimSpace(r.GetState() + " " + r.GetCause())
	}
	return out
}

// toldOf waits until all that was emitted is heard, and has others told of a state of a message once.
func (p *post) toldOf(m *pecv1.Message, state pecv1.MessageState) {
	p.t.Helper()
	times := func() (n int) {
		for _, e := range heard[*pecv1.DeliveryStateChanged](p.house) {
			if e.GetMessage() == m.GetName() && e.GetState() == state.String() {
				n++
			}
		}
		return n
	}
	p.eventually(state.String()+" is told, and whatever else waits", func() bool { return times() > 0 && p.query(`SELECT count(*) FROM outbox`) == 0 })
	require.Equal(p.t, 1, times(), state)
}

// TestE2E5E6E8E9E13Receipts: receipts in every order and combination that providers make, counted for the right
// recipients; contradictions are raised and nothing is dropped.
func TestE2E5E6E8E9E13Receipts(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	are := func(m *pecv1.Message, want map[string]string) *pecv1.Message {
		t.Helper()
		var got *pecv1.Message
		require.Eventually(t, func() bool {
			got = p.get(m.GetName())
			return fmt.Sprint(outcomes(got)) == fmt.Sprint(want)
		}, within, tick, "%v", want)
		return got
	}
	// deliveries are the kinds of the receipts of delivery about a message, by the recipient that each is about.
	deliveries := func(m *pecv1.Message) map[string]string {
		out := map[string]string{}
		for _, r := range p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) {
			r.About, r.Kind = m.GetName(), pecv1.MessageKind_MESSAGE_KIND_DELIVERY
		}) {
			xml := p.content(&pecv1.GetMessageContentRequest{Name: r.GetName(), What: &pecv1.GetMessageContentRequest_Certification{Certification: true}})
			d, _, err := pec.ParseDaticert(xml.Bytes())
			require.NoError(t, err)
			require.NotContains(t, out, strings.ToLower(d.Consegna), "two receipts about one recipient")
			out[strings.ToLower(d.Consegna)] = p.get(r.GetName()).GetContentCheck().GetReceiptType()
		}
		return out
	}
	statesOf := func(m *pecv1.Message, addresses ...string) []string {
		var out []string
		for _, a := range addresses {
			for _, r := range m.GetRecipients() {
				if strings.EqualFold(r.GetAddress(), a) {
					out = append(out, r.GetState())
				}
			}
		}
		return out
	}
	t.Run("E2 delivered before it was accepted", func(t *testing.T) {
		m := p.send("accetta-tardi@beta.test", "muta@beta.test")
		are(m, map[string]string{"accetta-tardi": "delivered", "muta": "waiting"})
		p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED) // the delivery shows it
		p.advance(90 * time.Minute)
		p.eventually("the acceptance comes", func() bool {
			return len(p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) {
				r.About, r.Kind = m.GetName(), pecv1.MessageKind_MESSAGE_KIND_ACCEPTANCE
			})) == 1
		})
		p.eventually("it is put together with the delivery", func() bool { return p.get(m.GetName()).GetProviderId() != "" })
		got := are(m, map[string]string{"accetta-tardi": "delivered", "muta": "waiting"})
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, got.GetState())
		require.Empty(t, got.GetContradictions())
		p.toldOf(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED) // by the delivery, and not once more by the acceptance
	})
	t.Run("E5 delivered and not delivered", func(t *testing.T) {
		m := p.send("contraddetta@beta.test", "doppia@beta.test")
		got := are(m, map[string]string{"contraddetta": "delivered", "doppia": "delivered"})
		p.eventually("the contradiction is raised", func() bool {
			got = p.get(m.GetName())
			return len(got.GetContradictions()) == 1
		})
		require.Contains(t, got.GetContradictions()[0], "contraddetta@beta.test")
		p.eventually("all four receipts are kept", func() bool {
			return len(p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) { r.About = m.GetName() })) >= 4
		})
	})
	t.Run("E6 accepted twice", func(t *testing.T) {
		m := p.send(recipient)
		p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: m.GetMessageId(),
			Identificativo: "opec2.altro@pec.alfa.test", Recipient: recipient, How: "valid"}))
		p.eventually("the second submission is raised", func() bool {
			return strings.Contains(strings.Join(p.get(m.GetName()).GetContradictions(), " "), "accepted 2 times")
		})
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_DELIVERED, p.get(m.GetName()).GetState())
	})
	t.Run("E8 recipients without certified mail", func(t *testing.T) {
		m := p.send(recipient, "qualcuno@example.test")
		got := are(m, map[string]string{"destinatario": "delivered", "qualcuno": "forwarded-to-ordinary-mail"})
		got = p.state(got, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		dsn := "From: MAILER-DAEMON@example.test\nTo: " + sender + "\nSubject: Undelivered\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nsorry\n" +
			"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.test\n\nFinal-Recipient: rfc822; qualcuno@example.test\nAction: failed\nStatus: 5.1.1\n\n" +
			"--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <" + m.GetMessageId() + ">\n\n--b--\n"
		p.inject(sender, dsn)
		p.kept(p.mailbox())
		require.Equal(t, outcomes(got), outcomes(p.get(m.GetName())), "a report of ordinary mail proves nothing")
	})
	t.Run("E9 why it was not delivered", func(t *testing.T) {
		m := p.send("inesistente@beta.test", "piena@beta.test", "no-dominio@beta.test", "virus@beta.test")
		got := are(m, map[string]string{"inesistente": "not-delivered no-mailbox", "piena": "not-delivered mailbox-full",
			"no-dominio": "not-delivered no-domain", "virus": "not-delivered virus"})
		got = p.state(got, pecv1.MessageState_MESSAGE_STATE_FAILED)
		for _, r := range got.GetRecipients() {
			require.True(t, r.GetFinal())
		}
		require.Contains(t, got.GetRecipients()[1].GetDetail(), "5.2.2", "the provider's own words")
	})
	t.Run("E13 named twice, and in copy", func(t *testing.T) {
		req := p.request(recipient, "destinatario@alfa.test", strings.ToUpper(recipient[:1])+recipient[1:])
		req.Cc = []string{recipient, "muta@beta.test"}
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		p.eventually("each counts once", func() bool {
			got := p.get(m.GetName())
			n := 0
			for _, r := range got.GetRecipients() {
				if r.GetState() == "delivered" {
					n++
				}
			}
			return n == 2 && len(got.GetRecipients()) == 3
		})
		p.kept(p.mailbox())
		require.Equal(t, map[string]string{recipient: "completa", "destinatario@alfa.test": "completa"}, deliveries(m))
		require.Equal(t, "delivered waiting delivered", strings.Join(statesOf(p.get(m.GetName()), recipient, "muta@beta.test", "destinatario@alfa.test"), " "))
	})
	t.Run("E13 a recipient in copy has a receipt without the content", func(t *testing.T) {
		for kind, full := range map[pecv1.ReceiptType]string{pecv1.ReceiptType_RECEIPT_TYPE_COMPLETE: "completa", pecv1.ReceiptType_RECEIPT_TYPE_BRIEF: "breve"} {
			req := p.request(recipient)
			req.Cc, req.ReceiptType = []string{"destinatario@alfa.test", "inesistente@beta.test"}, kind
			m, err := p.api.SendMessage(t.Context(), req)
			require.NoError(t, err)
			p.state(m, pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED)
			p.eventually("both receipts are here", func() bool { return len(deliveries(m)) == 2 })
			require.Equal(t, map[string]string{recipient: full, "destinatario@alfa.test": "sintetica"}, deliveries(m))
			require.Equal(t, []string{"delivered", "delivered", "not-delivered"}, statesOf(p.get(m.GetName()), recipient, "destinatario@alfa.test", "inesistente@beta.test"))
			for _, r := range p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) {
				r.About, r.Kind = m.GetName(), pecv1.MessageKind_MESSAGE_KIND_DELIVERY
			}) {
				check, parts := p.get(r.GetName()).GetContentCheck(), 0
				for _, f := range p.get(r.GetName()).GetParts() {
					if f.GetOriginal() {
						parts++
					}
				}
				require.Equal(t, check.GetReceiptType() != "sintetica", parts > 0, "what was sent comes back in it: %v", p.get(r.GetName()).GetParts())
				require.Equal(t, check.GetReceiptType() == "sintetica", check.GetVerdict() == pecv1.ContentVerdict_CONTENT_VERDICT_NOT_COMPARED, check)
				require.True(t, r.GetProven(), r.GetDoubts())
			}
			require.Empty(t, p.get(m.GetName()).GetContradictions())
		}
	})
	p.invariants()
	p.house.invariants(p.mailbox())
}

// TestE11HalfAYearLater: a delivery that comes long after the message was given up, and after the message was sealed in conservation,
// reopens it, once. What is sealed stays as it is and is not handed over again; the receipt follows it there and names it by its hash.
func TestE11HalfAYearLater(t *testing.T) {
	t.Parallel()
	p := openPost(t, watching)
	p.believe()
	m := p.send("dopo-4380h@beta.test")
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.pass(25 * time.Hour)
	p.eventually("the second notice is there", func() bool { return p.way(m).GetRecipients()[0].GetState() == "not-delivered-in-time" })
	p.pass(72 * time.Hour)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_FAILED)
	handOver := func(name string) int32 {
		out, err := p.desk().PreserveMessages(t.Context(), &pecv1.PreserveMessagesRequest{Parent: p.box, Messages: []string{name}})
		require.NoError(t, err)
		return out.GetHandedOver()
	}
	handed := func(name string) (out []*pecv1.MessageHandedOver) {
		for _, ev := range heard[*pecv1.MessageHandedOver](p.house) {
			if ev.GetMessage() == name {
				out = append(out, ev)
			}
		}
		return out
	}
	require.EqualValues(t, 1, handOver(m.GetName()))
	p.eventually("it is handed over", func() bool { return len(handed(m.GetName())) == 1 })
	p.inCustody(m.GetName(), parent+"/units/"+m.GetName()[len(m.GetName())-36:], true)
	p.eventually("it is in custody and sealed", func() bool { // two events, and whichever is handled first
		got := p.get(m.GetName()).GetPreservation()
		return got.GetUnit() != "" && got.GetPackage() != ""
	})
	before, bytes := p.get(m.GetName()).GetPreservation(), p.content(&pecv1.GetMessageContentRequest{Name: m.GetName()}).String()

	p.pass(183 * 24 * time.Hour)
	got := p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	require.True(t, got.GetRecipients()[0].GetLate())
	require.Empty(t, got.GetContradictions())
	require.True(t, proto.Equal(before, got.GetPreservation()), "%v %v", before, got.GetPreservation())
	require.Equal(t, bytes, p.content(&pecv1.GetMessageContentRequest{Name: m.GetName()}).String())
	require.Zero(t, handOver(m.GetName()), "it is there already")
	receipt := p.delivered(m)
	require.EqualValues(t, 1, handOver(receipt.GetName()))
	p.eventually("the receipt is handed over", func() bool { return len(handed(receipt.GetName())) == 1 })
	require.Equal(t, m.GetName(), handed(receipt.GetName())[0].GetAbout())
	require.Equal(t, m.GetContent().GetSha256(), handed(receipt.GetName())[0].GetAboutSha256())
	require.Len(t, handed(m.GetName()), 1)
	p.toldOf(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	p.invariants()
	p.house.invariants(p.mailbox())
}

// TestE1EveryOrderOfReceipts: the receipts of one message, genuine ones of every kind, come into mailboxes in as many
// orders, some twice. What is derived is the same everywhere: states, times, causes and contradictions.
func TestE1EveryOrderOfReceipts(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	to := []string{recipient, "contraddetta@beta.test", "dopo-30h@beta.test", "inesistente@beta.test", "qualcuno@example.test"}
	m := p.send(to...)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	for _, d := range []time.Duration{13, 11, 8} {
		p.pass(d * time.Hour)
	}
	require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: m.GetMessageId(),
		Identificativo: "opec9.altro@pec.alfa.test", Recipient: recipient, How: "valid"}))
	p.state(m, pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED)
	p.kept(p.mailbox())
	list, err := p.sandbox.PECMessages(t.Context(), sender)
	require.NoError(t, err)
	var receipts []client.PECInject
	for _, r := range list {
		raw, err := p.sandbox.PECRaw(t.Context(), r.ID)
		require.NoError(t, err)
		receipts = append(receipts, client.PECInject{Data: raw})
	}
	require.GreaterOrEqual(t, len(receipts), 9, "two acceptances, three deliveries, two failures, two notices")
	want := p.derived(m.GetName())
	require.Contains(t, want, "accepted 2 times")
	require.Contains(t, want, "delivered and not delivered")
	names := make([]string, manyOrders)
	boxes := make([]*pecv1.Mailbox, manyOrders)
	rng := rand.New(rand.NewPCG(6, 109))
	for i := range names {
		address := fmt.Sprintf("ordine%d@alfa.test", i)
		boxes[i] = p.add(address)
		names[i] = p.sent(boxes[i], m.GetMessageId(), to...)
		p.exec(`UPDATE message SET content_uri = $2 WHERE id::text = right($1, 36)`, names[i], m.GetContent().GetUri())
		order := rng.Perm(len(receipts))
		for _, k := range append(order, order[:i%len(order)]...) { // some come again, under new numbers
			require.NoError(t, p.sandbox.InjectPEC(t.Context(), address, receipts[k]))
		}
	}
	p.kept(boxes...)
	for i, name := range names {
		if !assert.Eventually(t, func() bool { return p.derived(name) == want }, within, tick, "order %d", i) {
			require.Equal(t, want, p.derived(name), "order %d", i)
		}
	}
	p.house.invariants(boxes[0], boxes[manyOrders-1])
}

// derived is everything that follows from the receipts of a message.
func (p *post) derived(name string) string {
	p.t.Helper()
	var out string
	require.NoError(p.t, p.DB("pec-gateway").System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT m.state || ' ' || m.identificativo || ' ' || m.contradictions::text || ' ' || m.stall_code || ' ' ||
			(SELECT string_agg(r.address || '=' || r.state || ' ' || r.late || ' ' || r.final || ' ' || coalesce(r.at::text, '') || ' ' || r.cause, ', ' ORDER BY position)
			 FROM recipient r WHERE r.message_id = m.id) FROM message m WHERE m.id::text = right($1, 36)`, name).Scan(&out)
	}))
	return out
}
