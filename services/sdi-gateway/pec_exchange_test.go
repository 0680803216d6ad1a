package sdigateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// forgedAddress is the one that the sandbox's forged letters assign.
const forgedAddress = "sdi66@" + pec.SdIDomain

// sends has an invoice go to SdI by certified mail, alone, and gives the address that it went to.
func (p *post) sends(t *testing.T, number string) string {
	t.Helper()
	p.awaitOf(t, p.accept(t, "FPR12", "SBXRC00", number), "InvoiceTransmitted", "InvoiceDelivered")
	return p.mailings(t)[0].GetAddress()
}

// assigned waits until SdI has assigned n addresses to the mailbox and gives them, the one that counts first.
func (p *post) assigned(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	eventually(t, fmt.Sprintf("%d assigned addresses", n), func() (bool, string) {
		got, err := p.channel.GetPecChannel(t.Context(), &sdiv1.GetPecChannelRequest{Company: postman})
		require.NoError(t, err)
		out = nil
		for _, a := range got.GetAssigned() {
			out = append(out, a.GetAddress())
		}
		require.LessOrEqual(t, len(out), n, got.String())
		return len(out) == n && got.GetAddress() == out[0], got.String()
	})
	return out
}

// writes sends words without a file from the mailbox of the company, as a person does.
func (p *post) writes(t *testing.T, to string) {
	t.Helper()
	_, err := p.mail.SendMessage(t.Context(), &pecv1.SendMessageRequest{Parent: p.box.GetName(), To: []string{to}, Subject: "Richiesta", Text: "Buongiorno.\n",
		RequestId: uuid.NewString()})
	require.NoError(t, err)
}

// awaitArrivals waits until so many messages that say that they come from SdI are in a state.
func (p *post) awaitArrivals(t *testing.T, state string, n int) (list []*sdiv1.PecArrival) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d arrivals %s", n, state), func() (bool, string) {
		list = p.arrivals(t, state)
		return len(list) == n, fmt.Sprint(list)
	})
	return list
}

// received waits for the messages with a subject in the mailbox of the company.
func (p *post) received(t *testing.T, subject string, n int) (list []*pecv1.Message) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages %q", n, subject), func() (bool, string) {
		got, err := p.mail.ListMessages(t.Context(), &pecv1.ListMessagesRequest{Parent: p.box.GetName(), Subject: subject,
			Direction: pecv1.MessageDirection_MESSAGE_DIRECTION_RECEIVED})
		require.NoError(t, err)
		list = got.GetMessages()
		return len(list) == n, got.String()
	})
	return list
}

// stranger writes to the mailbox of the company that SdI assigns another address: with a password as the user of a
// provider, without one as any server.
func (p *post) stranger(t *testing.T, from, password, subject, more string) {
	t.Helper()
	at, err := p.sandbox.Endpoints(t.Context())
	require.NoError(t, err)
	authority, err := os.ReadFile(filepath.Join(p.certs, "ca.crt"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(authority))
	conf := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	var c *gosmtp.Client
	if password == "" {
		c, err = gosmtp.DialStartTLS(at.PEC.MXAddr, conf)
		require.NoError(t, err)
	} else {
		c, err = gosmtp.DialTLS(at.PEC.SMTPSAddr, conf)
		require.NoError(t, err)
		require.NoError(t, c.Auth(sasl.NewPlainClient("", from, password)))
	}
	defer c.Close()
	raw := "From: " + from + "\r\nTo: " + companyBox + "\r\nSubject: " + subject + "\r\nDate: " + time.Now().Format(time.RFC1123Z) +
		"\r\nMessage-ID: <" + uuid.NewString() + "@stranger.test>\r\n" + more + "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" +
		"Il nuovo indirizzo da utilizzare per inviare le prossime fatture al Sistema di Interscambio e' " + forgedAddress + "\r\n"
	require.NoError(t, c.SendMail(from, []string{companyBox}, strings.NewReader(raw)))
}

// TestE16ForgedAssignments: the first message goes to SdI's first address, its answer assigns another, and the second message goes there.
// Letters that assign a third are forged in every way: not signed, changed, signed by a person, by another provider, with a certificate
// of another time; certified for somebody who is not SdI, with and without SdI's name where the answer would go; ordinary mail from
// SdI's address. Each is kept with its reason, and nothing follows from any. What is answered to words without a file is a
// courtesy: it is read, and nothing is filed. TESTPLAN E16.
func TestE16ForgedAssignments(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	require.Equal(t, pec.SdIFirst, p.sends(t, "first"))
	address := p.assigned(t, 1)[0]
	require.NotContains(t, []string{pec.SdIFirst, forgedAddress}, address)
	require.Equal(t, address, p.sends(t, "second"))
	p.awaitArrivals(t, "READ", 2)

	for _, mode := range fault.Forgeries {
		_, err := p.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultLetterForged, Mode: mode, Name: companyBox})
		require.NoError(t, err)
		p.writes(t, address)
	}
	courtesies := p.awaitArrivals(t, "READ", 2+len(fault.Forgeries))[:len(fault.Forgeries)]
	for _, a := range courtesies {
		require.Equal(t, address, a.GetSender())
		require.Empty(t, a.GetFileNames())
		require.Empty(t, a.GetProblem())
	}
	p.stranger(t, "destinatario@beta.test", "sandbox", "Altri", "")
	p.stranger(t, "destinatario@beta.test", "sandbox", "Risposte altrove", "Reply-To: "+forgedAddress+"\r\n")
	p.stranger(t, forgedAddress, "", "Posta ordinaria", "")
	kept := p.awaitArrivals(t, "QUARANTINED", len(fault.Forgeries)+2)
	codes := map[string]int{}
	for _, a := range kept {
		code, _, _ := strings.Cut(a.GetProblem(), ":")
		codes[code]++
		require.NotEqual(t, forgedAddress, a.GetSender(), "nothing proves who sent it")
		require.Empty(t, a.GetFileNames())
		require.NotEmpty(t, a.GetContent().GetUri(), "its bytes are where they were")
	}
	require.Equal(t, map[string]int{"PEC_NOT_PROVEN": len(fault.Forgeries) - 1, "PEC_FOREIGN": 1, "PEC_NOT_SDI": 2}, codes)
	other := p.received(t, "Altri", 1)[0]
	require.True(t, other.GetProven(), "it is certified, and its sender is not SdI")
	require.Equal(t, "destinatario@beta.test", other.GetCertifiedSender())
	for _, a := range p.arrivals(t, "") {
		require.NotEqual(t, other.GetName(), a.GetMessage(), "it does not even say that it comes from SdI")
	}

	require.Equal(t, []string{address}, p.assigned(t, 1))
	require.Equal(t, address, p.sends(t, "third"))
	require.Equal(t, 1, p.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'pec_address.assign'"))
	p.once(t, 3)
	counts, err := p.sandbox.Counts(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, counts.Requests, "words are no file")
	require.Equal(t, 3+len(fault.Forgeries), counts.Letters)
	require.Zero(t, counts.LettersAstray)
	require.Empty(t, p.heard)
	require.Zero(t, p.count(t, "SELECT count(*) FROM parked_event"))
}

// TestE16AddressThatChanges: SdI assigns another address later, with a receipt, with a courtesy without attachment, and with an
// invoice that it brings unasked: the next message goes there each time, and each change is in the records with the letter that proves
// it. The answer of a public body goes to where its invoice came from all the same. The letter that assigned the first address
// moves nothing back when it comes once more. TESTPLAN E16.
func TestE16AddressThatChanges(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	ctx := t.Context()
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	require.Equal(t, pec.SdIFirst, p.sends(t, "1"))
	first := p.assigned(t, 1)[0]
	letter := p.received(t, "Ricevuta di consegna", 1)[0]

	d, err := p.sandbox.Deliver(ctx, client.DeliveryRequest{RecipientCode: officeCode, ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1)}})
	require.NoError(t, err)
	came, ok := p.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	require.Equal(t, d.ID, came.GetSdiId())

	p.order(t, client.FaultLetterChanged)
	require.Equal(t, first, p.sends(t, "2"), "its receipt changes the address of the next")
	list := p.assigned(t, 2)
	second := list[0]
	require.Equal(t, []string{second, first}, list)
	require.NotEqual(t, first, second)

	_, err = p.inbound.SendOutcome(ctx, &sdiv1.SendOutcomeRequest{Name: came.GetInboundInvoice(), Kind: sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_ACCEPTED,
		RequestId: uuid.NewString()})
	require.NoError(t, err)
	settled, ok := p.await(t).(*sdiv1.InboundOutcomeSettled)
	require.True(t, ok)
	require.True(t, settled.GetTaken(), settled.String())
	require.Equal(t, first, p.mailings(t)[0].GetAddress(), "where the invoice came from")
	eventually(t, "SdI's having the outcome", func() (bool, string) {
		list, err := p.sandbox.Deliveries(ctx, d.ID)
		require.NoError(t, err)
		return len(list[0].Outcomes) == 1, fmt.Sprintf("%+v", list)
	})

	p.writes(t, first) // which nobody looks at any more
	p.order(t, client.FaultLetterChanged)
	p.writes(t, second)
	list = p.assigned(t, 3)
	third := list[0]
	require.Equal(t, []string{third, second, first}, list)
	require.Equal(t, third, p.sends(t, "3"))

	p.order(t, client.FaultLetterChanged)
	_, err = p.sandbox.Deliver(ctx, client.DeliveryRequest{ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1), Number: "2"}})
	require.NoError(t, err)
	_, ok = p.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	list = p.assigned(t, 4)
	require.Equal(t, []string{third, second, first}, list[1:])

	held, err := p.sandbox.PECMessages(ctx, companyBox)
	require.NoError(t, err)
	i := slices.IndexFunc(held, func(m client.PECMessage) bool {
		return m.Tipo == "posta-certificata" && strings.Contains(m.Subject, "Ricevuta di consegna")
	})
	require.GreaterOrEqual(t, i, 0)
	raw, err := p.sandbox.PECRaw(ctx, held[i].ID)
	require.NoError(t, err)
	require.True(t, bytes.Contains(raw, []byte(letter.GetProviderId())))
	read := 0
	eventually(t, "all that came being read", func() (bool, string) {
		read = len(p.arrivals(t, "READ"))
		return read == len(p.arrivals(t, "")), fmt.Sprint(read)
	})
	require.NoError(t, p.sandbox.InjectPEC(ctx, companyBox, client.PECInject{Data: append([]byte("X-Again: yes\r\n"), raw...)}))
	p.awaitArrivals(t, "READ", read+1)
	require.Equal(t, list, p.assigned(t, 4))
	require.Equal(t, list[0], p.sends(t, "4"))

	got, err := p.channel.GetPecChannel(ctx, &sdiv1.GetPecChannelRequest{Company: postman})
	require.NoError(t, err)
	proofs := map[string]bool{}
	for _, a := range got.GetAssigned() {
		proofs[a.GetMessage()] = true
		m, err := p.mail.GetMessage(ctx, &pecv1.GetMessageRequest{Name: a.GetMessage()})
		require.NoError(t, err)
		require.True(t, m.GetProven())
		require.True(t, a.GetAssignTime().AsTime().Equal(m.GetCertifiedTime().AsTime()))
		require.Equal(t, 1, p.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'pec_address.assign' AND detail->>'address' = '"+a.GetAddress()+"' AND detail->>'message' = '"+a.GetMessage()+"'"))
	}
	require.Len(t, proofs, 4)
	require.Empty(t, p.arrivals(t, "QUARANTINED"))
	counts, err := p.sandbox.Counts(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, counts.LettersAstray, "what was written to the address of before, by hand")
	p.once(t, 4)
}

// TestE16NoticesAreNoReceipts: what SdI says of a file is the content of a certified message and no receipt of one, whatever its subject
// is, also where that says (SIMULAZIONE). A Ricevuta di consegna delivers no message of ours, a Notifica di mancata consegna and
// a Notifica di scarto fail none, and the provider's receipt of delivery delivers no invoice. TESTPLAN E16.
func TestE16NoticesAreNoReceipts(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	ctx := t.Context()
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	for _, f := range []client.Fault{
		{Kind: client.FaultLetterSimulation, Name: companyBox, Count: 100},
		{Kind: client.FaultPECDrop, Name: companyBox, Type: "avvenuta-consegna"},
	} {
		_, err := p.sandbox.AddFault(ctx, f)
		require.NoError(t, err)
	}
	delivered := p.accept(t, "FPR12", "SBXRC00", "RC")
	p.awaitOf(t, delivered, "InvoiceTransmitted", "InvoiceDelivered")
	p.assigned(t, 1)
	unreceived := p.mailings(t)[0]

	cases := map[string]sdiv1.TransmissionState{
		"SBXMC00": sdiv1.TransmissionState_TRANSMISSION_STATE_AVAILABLE,
		"SB00423": sdiv1.TransmissionState_TRANSMISSION_STATE_REJECTED,
		"SBXNONE": sdiv1.TransmissionState_TRANSMISSION_STATE_SENT,
	}
	of := map[string]string{}
	for code := range cases {
		of[code] = p.accept(t, "FPR12", code, code)
	}
	p.awaitAllCount(t, 2*len(cases)-1)
	d, err := p.sandbox.Deliver(ctx, client.DeliveryRequest{ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1)}})
	require.NoError(t, err)
	came, ok := p.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	require.Equal(t, d.ID, came.GetSdiId())

	kinds := map[string]int{}
	for _, a := range p.awaitArrivals(t, "READ", 4) {
		m, err := p.mail.GetMessage(ctx, &pecv1.GetMessageRequest{Name: a.GetMessage()})
		require.NoError(t, err)
		require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ENVELOPE, m.GetKind(), m.GetSubject())
		require.True(t, m.GetProven())
		require.Empty(t, m.GetAbout(), "it is a receipt of nothing")
		require.Contains(t, m.GetSubject(), "(SIMULAZIONE)")
		for _, words := range []string{"Ricevuta di consegna", "Notifica di mancata consegna", "Notifica di scarto", "Invio File"} {
			if strings.Contains(m.GetSubject(), words) {
				kinds[words]++
			}
		}
	}
	require.Equal(t, map[string]int{"Ricevuta di consegna": 1, "Notifica di mancata consegna": 1, "Notifica di scarto": 1, "Invio File": 1}, kinds)

	for code, want := range cases {
		require.Equal(t, want, p.transmission(t, of[code]).GetState(), code)
	}
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED, p.transmission(t, delivered).GetState())
	for _, m := range p.mailings(t) {
		want, recipient, mailing := pecv1.MessageState_MESSAGE_STATE_DELIVERED, "delivered", "DELIVERED"
		if m.GetId() == unreceived.GetId() {
			want, recipient, mailing = pecv1.MessageState_MESSAGE_STATE_ACCEPTED, "waiting", "ACCEPTED"
		}
		eventually(t, "the message "+m.GetAddress()+" being "+mailing, func() (bool, string) {
			got, err := p.way.GetDelivery(ctx, &pecv1.GetDeliveryRequest{Name: m.GetMessage()})
			require.NoError(t, err)
			now := p.mailings(t)
			i := slices.IndexFunc(now, func(x *sdiv1.PecMailing) bool { return x.GetId() == m.GetId() })
			return got.GetState() == want && len(got.GetRecipients()) == 1 && got.GetRecipients()[0].GetState() == recipient && now[i].GetState() == mailing,
				got.String() + now[i].String()
		})
	}
	require.Empty(t, p.heard)
	require.Empty(t, p.arrivals(t, "QUARANTINED"))
	p.once(t, 1+len(cases))
}
