package pecgateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
)

// delivered is the delivery receipt about a message.
func (p *post) delivered(m *pecv1.Message) *pecv1.Message {
	p.t.Helper()
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	list := p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) {
		r.About, r.Kind = m.GetName(), pecv1.MessageKind_MESSAGE_KIND_DELIVERY
	})
	require.Len(p.t, list, 1)
	return list[0]
}

// TestE12ReceiptsAgainstWhatWasSent: in every profile and for every kind of receipt, what was delivered is compared with
// the bytes that we sent; which liberty the provider took is recorded.
func TestE12ReceiptsAgainstWhatWasSent(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	for _, profile := range pec.Profiles() {
		_, err := p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: "beta", Profile: profile.Name})
		require.NoError(t, err)
		for kind, want := range map[pecv1.ReceiptType]struct {
			receipt string
			verdict pecv1.ContentVerdict
		}{
			pecv1.ReceiptType_RECEIPT_TYPE_COMPLETE:  {"completa", pecv1.ContentVerdict_CONTENT_VERDICT_SAME},
			pecv1.ReceiptType_RECEIPT_TYPE_BRIEF:     {"breve", pecv1.ContentVerdict_CONTENT_VERDICT_SAME},
			pecv1.ReceiptType_RECEIPT_TYPE_SYNTHETIC: {"sintetica", pecv1.ContentVerdict_CONTENT_VERDICT_NOT_COMPARED},
		} {
			req := p.request(recipient)
			req.ReceiptType = kind
			req.Attachments = append(req.Attachments, &pecv1.Attachment{FileName: "fattura è.xml.p7m", MediaType: "application/pkcs7-mime", Data: []byte("0\x80 firmata")},
				&pecv1.Attachment{FileName: "lettera.txt", MediaType: "text/plain", Data: []byte("riga\nsenza fine")})
			m, err := p.api.SendMessage(t.Context(), req)
			require.NoError(t, err)
			check := p.delivered(m).GetContentCheck()
			require.Equal(t, want.receipt, check.GetReceiptType(), profile.Name)
			require.Equal(t, want.verdict, check.GetVerdict(), "%s %s: %v", profile.Name, want.receipt, check)
			require.Empty(t, check.GetDifferences())
			if want.receipt == "breve" {
				require.Len(t, check.GetFiles(), 3)
				for _, f := range check.GetFiles() {
					require.True(t, f.GetMatch(), f)
					require.NotEmpty(t, f.GetVariant())
				}
			}
		}
		// Without attachments there is nothing to be hashed, and what comes back is all of it.
		req := p.request(recipient)
		req.ReceiptType, req.Attachments = pecv1.ReceiptType_RECEIPT_TYPE_BRIEF, nil
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		check := p.delivered(m).GetContentCheck()
		require.Equal(t, "breve", check.GetReceiptType(), profile.Name)
		require.Equal(t, pecv1.ContentVerdict_CONTENT_VERDICT_SAME, check.GetVerdict(), "%s: %v", profile.Name, check)
		require.Empty(t, check.GetFiles())
	}
	require.Empty(t, heard[*pecv1.DeliveredContentDiffers](p.house))
	p.everything()
}

// TestE12AnotherContent: a proven receipt that repeats another content counts as a delivery and is flagged: on the
// receipt, on the message, and by an event. What is kept of the message is what was sent: the test changes that.
func TestE12AnotherContent(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	for _, c := range []struct {
		kind pecv1.ReceiptType
		bare bool // without attachments
		says string
	}{
		{pecv1.ReceiptType_RECEIPT_TYPE_BRIEF, false, `the hash of "contratto.pdf" is not that of the file that was sent`},
		{pecv1.ReceiptType_RECEIPT_TYPE_BRIEF, true, "the content is not the one that was sent"},
		{pecv1.ReceiptType_RECEIPT_TYPE_COMPLETE, false, "the content is not the one that was sent"},
	} {
		kind, says := c.kind, c.says
		p.suspend(true)
		req := p.request(recipient)
		req.ReceiptType = kind
		if c.bare {
			req.Attachments = nil
		}
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err)
		p.eventually("the queue is held", func() bool { return p.way(m).GetHeld() != "" })
		// The provider gets one content; by the time of its receipt another one stands for what was sent.
		other := p.request(recipient)
		other.ReceiptType, other.Attachments[0].Data = kind, []byte("%PDF-1.4 un altro")
		if c.bare {
			other.Attachments, other.Text = nil, "un altro testo"
		}
		o, err := p.api.SendMessage(t.Context(), other)
		require.NoError(t, err)
		p.fault(client.FaultPECLate, func(f *client.Fault) { f.Type, f.After, f.Count = "avvenuta-consegna", "1h", 2 })
		p.suspend(false)
		p.resume()
		p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		p.reaches(o, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		p.exec(`UPDATE message SET content_uri = $2 WHERE id::text = right($1, 36)`, m.GetName(), o.GetContent().GetUri())
		p.advance(2 * time.Hour)
		receipt := p.delivered(m)
		check := receipt.GetContentCheck()
		require.Equal(t, pecv1.ContentVerdict_CONTENT_VERDICT_DIFFERS, check.GetVerdict())
		require.Contains(t, check.GetDifferences(), says)
		require.Contains(t, fmt.Sprint(receipt.GetDoubts()), says)
		got := p.get(m.GetName())
		require.Len(t, got.GetContradictions(), 1)
		require.Contains(t, got.GetContradictions()[0], says)
		require.Equal(t, "delivered", got.GetRecipients()[0].GetState(), "the delivery counts")
		p.eventually("it is told", func() bool {
			for _, e := range heard[*pecv1.DeliveredContentDiffers](p.house) {
				if e.GetMessage() == m.GetName() && e.GetReceipt() == receipt.GetName() {
					return e.GetDifferences() > 0
				}
			}
			return false
		})
		require.Empty(t, p.get(o.GetName()).GetContradictions())
	}
	p.house.invariants(p.mailbox())
}
