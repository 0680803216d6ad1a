package pecgateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
)

// TestC2C10C18D2D4D5D6FaultsOnCommand: the sandbox's provider of the recipient does each thing wrong that it can do on
// command, and the gateway says which it was. Nothing that is doubtful moves a recipient; what a provider signed and is
// merely odd does.
func TestC2C10C18D2D4D5D6FaultsOnCommand(t *testing.T) {
	t.Parallel()
	p := openPost(t, quickly+quick)
	p.believe()
	for kind, want := range map[string]struct {
		status, says string // of the verification; in a doubt or a finding
		moves        bool
		told         string // code of ClaimNotProven
	}{
		client.FaultPECExpiredSigner:  {"untrusted-signer", "was not valid", false, "FALSE_CLAIM"},
		client.FaultPECEarlySigner:    {"untrusted-signer", "was not valid", false, "FALSE_CLAIM"},
		client.FaultPECOtherProvider:  {"valid", pec.CodeForeignDomain, false, "DOUBTFUL_CLAIM"},
		client.FaultPECNoSigner:       {"unparsable", "", false, "FALSE_CLAIM"},
		client.FaultPECBareLF:         {"valid", "", true, ""},
		client.FaultPECList:           {"unparsable", "", false, "FALSE_CLAIM"},
		client.FaultPECWrongZone:      {"valid", pec.CodeClock, true, ""},
		client.FaultPECNoZone:         {"valid", pec.CodeDate, false, "DOUBTFUL_CLAIM"},
		client.FaultPECNoMsgID:        {"valid", "", true, ""},
		client.FaultPECOtherMsgID:     {"valid", pec.CodeMsgID, false, "DOUBTFUL_CLAIM"},
		client.FaultPECOtherTipo:      {"valid", pec.CodeTipo, false, "DOUBTFUL_CLAIM"},
		client.FaultPECUnknownTipo:    {"valid", pec.CodeUnknownTipo, false, "UNKNOWN_TYPE"},
		client.FaultPECOtherRecipient: {"valid", pec.CodeConsegna, false, "DOUBTFUL_CLAIM"},
		client.FaultPECDoctype:        {"valid", "", true, ""},
		client.FaultPECTwoDaticert:    {"unparsable", pec.CodeSeveralDaticert, false, "FALSE_CLAIM"},
	} {
		t.Run(kind, func(t *testing.T) {
			known := map[string]bool{}
			for _, r := range p.receipts(p.mailbox()) {
				known[r.GetName()] = true
			}
			p.fault(kind, func(f *client.Fault) { f.Name, f.Type = sender, "avvenuta-consegna" })
			m := p.send(recipient)
			var odd *pecv1.Message
			p.eventually("what the provider did is here", func() bool {
				p.settle()
				for _, r := range p.receipts(p.mailbox()) {
					if !known[r.GetName()] && strings.HasPrefix(r.GetSubject(), "CONSEGNA") {
						odd = p.get(r.GetName())
					}
				}
				state := p.get(m.GetName()).GetState()
				return odd != nil && (state == pecv1.MessageState_MESSAGE_STATE_ACCEPTED || state == pecv1.MessageState_MESSAGE_STATE_DELIVERED)
			})
			v := odd.GetVerification()
			require.Equal(t, want.status, v.GetStatus(), v.GetReason())
			require.Contains(t, fmt.Sprint(v.GetReason(), odd.GetDoubts(), v.GetFindings()), want.says)
			if want.moves {
				p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
				return
			}
			require.False(t, odd.GetProven())
			require.NotEmpty(t, odd.GetDoubts())
			p.eventually("somebody is told", func() bool { return p.claims(odd) != "" })
			require.Equal(t, want.told, p.claims(odd))
			require.Equal(t, "waiting", p.get(m.GetName()).GetRecipients()[0].GetState())
		})
	}
	p.invariants()
	p.house.invariants(p.mailbox())
}

// claims are the codes under which somebody was told that a message may be forged.
func (h *house) claims(m *pecv1.Message) string {
	var out []string
	for _, ev := range heard[*pecv1.ClaimNotProven](h) {
		if ev.GetMessage() == m.GetName() {
			out = append(out, ev.GetCode())
		}
	}
	return strings.Join(out, " ")
}

// TestE8DeliveryReportsAreLinked: a report of ordinary mail, by itself or as the anomaly in which the provider wraps it,
// stands beside the message that it names, whether it names our Message-ID or the provider's identifier and whether or not
// that was known yet. It moves nothing, and one about somebody else's message stands alone.
func TestE8DeliveryReportsAreLinked(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	const outside = "qualcuno@example.test"
	report := func(id string) string {
		return "From: MAILER-DAEMON@example.test\nTo: " + sender + "\nSubject: Undelivered\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nsorry\n" +
			"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.test\n\nFinal-Recipient: rfc822; " + outside + "\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 unknown\n\n" +
			"--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <" + id + ">\n\n--b--\n"
	}
	linked := func(m *pecv1.Message) []*pecv1.Message {
		return p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) {
			r.About, r.Kind = m.GetName(), pecv1.MessageKind_MESSAGE_KIND_ORDINARY
		})
	}
	m := p.send(outside)
	got := p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED) // forwarded: all that certified mail can say
	p.inject(sender, report(m.GetMessageId()))
	p.inject(sender, report(got.GetProviderId())+"\n")
	p.inject(sender, report("altro@example.test"))
	p.kept(p.mailbox())
	require.Len(t, linked(m), 2)
	for _, r := range linked(m) {
		require.False(t, r.GetProven())
		require.Contains(t, strings.Join(r.GetDoubts(), " "), "DELIVERY_REPORT: "+outside+", failed (5.1.1)")
	}
	require.Equal(t, "forwarded-to-ordinary-mail", p.get(m.GetName()).GetRecipients()[0].GetState())
	told := len(heard[*pecv1.ReceiptVerified](p.house))

	// The report is faster than the acceptance: it is linked when the provider's identifier becomes known.
	p.fault(client.FaultPECLate, func(f *client.Fault) { f.Name, f.Type, f.After = sender, "accettazione", "1h" })
	late := p.send(outside)
	p.state(late, pecv1.MessageState_MESSAGE_STATE_SUBMITTED)
	var id string
	p.eventually("the provider has it", func() bool {
		for _, s := range p.submissions() {
			if s.MsgID == late.GetMessageId() {
				id = s.Identificativo
			}
		}
		return id != ""
	})
	p.inject(sender, report(id)+"\n\n")
	p.kept(p.mailbox())
	require.Empty(t, linked(late))
	p.advance(2 * time.Hour)
	p.eventually("it is linked", func() bool { return len(linked(late)) == 1 })
	p.eventually("one receipt more is told: the acceptance", func() bool { return len(heard[*pecv1.ReceiptVerified](p.house)) == told+1 })
	p.invariants()
	p.house.invariants(p.mailbox())
}

// TestE8ReportInAnAnomaly: what a provider's own mail server reports back comes as an anomaly, and is linked too.
func TestE8ReportInAnAnomaly(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	p.fault(client.FaultMailReject, func(f *client.Fault) { f.Name = "respinto@example.test" })
	m := p.send("respinto@example.test")
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	p.settle()
	p.eventually("the anomaly is linked", func() bool {
		list := p.list(p.mailbox(), func(r *pecv1.ListMessagesRequest) {
			r.About, r.Kind = m.GetName(), pecv1.MessageKind_MESSAGE_KIND_ANOMALY
		})
		return len(list) == 1 && strings.Contains(strings.Join(list[0].GetDoubts(), " "), "DELIVERY_REPORT: respinto@example.test, failed")
	})
	require.Equal(t, "forwarded-to-ordinary-mail", p.get(m.GetName()).GetRecipients()[0].GetState())
	p.invariants()
	p.house.invariants(p.mailbox())
}
