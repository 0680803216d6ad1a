package pecgateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
)

// reception hands bytes to the providers' point of reception, as any server can.
func (p *post) reception(from, to string, raw []byte) {
	p.t.Helper()
	pool := x509.NewCertPool()
	require.True(p.t, pool.AppendCertsFromPEM(p.world.CAPEM()))
	mx, err := gosmtp.DialStartTLS(p.world.Endpoints().PEC.MXAddr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	require.NoError(p.t, err)
	defer mx.Close()
	require.NoError(p.t, mx.SendMail(from, []string{to}, bytes.NewReader(raw)))
}

// TestC17EnvelopesThatComeBack: the whole transport envelope of a message of ours comes into the mailbox that sent it: as it is, given
// back by a server or passed on by somebody, with a changed byte, and inside a delivery report. Its provider wraps each in an
// anomaly envelope. Each is shown as the anomaly that it is, beside the message that it names, with what is in it byte by byte; no
// state moves and nobody is told of a forgery. A mailbox that the message did not leave from shows it beside nothing, and an
// envelope that lies in the sender's mailbox unwrapped, put there by another program, moves nothing either. The receipt that comes after
// all counts. TESTPLAN C17.
func TestC17EnvelopesThatComeBack(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	const silent, other = "senza-ricevuta@alfa.test", "attesa@alfa.test" // the first gets what is sent to it, and its provider says nothing of that
	box := p.add(other)
	m := p.send(silent)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.settle()
	p.kept(p.mailbox(), box)
	whole := p.envelope(t, silent, m)
	changed := bytes.Replace(whole, []byte("Identificativo messaggio"), []byte("identificativo messaggio"), 1)
	if bytes.Equal(whole, changed) {
		changed = bytes.Replace(whole, []byte("Identificativo"), []byte("identificativo"), 1)
	}
	require.NotEqual(t, whole, changed)
	report := []byte("From: MAILER-DAEMON@example.test\r\nTo: " + sender + "\r\nSubject: Undelivered Mail Returned to Sender\r\nMessage-ID: <dsn@example.test>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/report; report-type=delivery-status; boundary=DSN\r\n\r\n--DSN\r\nContent-Type: text/plain\r\n\r\nnon consegnato\r\n--DSN\r\n" +
		"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; example.test\r\n\r\nFinal-Recipient: rfc822; " + silent + "\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n" +
		"--DSN\r\nContent-Type: message/rfc822\r\n\r\n" + string(whole) + "\r\n--DSN--\r\n")
	told := func() [3]int {
		changes := 0 // whether the answer to the hand-over or the acceptance is recorded first is nobody's matter
		for _, ev := range heard[*pecv1.DeliveryStateChanged](p.house) {
			if ev.GetState() != "MESSAGE_STATE_SUBMITTED" {
				changes++
			}
		}
		return [3]int{changes, len(heard[*pecv1.ReceiptVerified](p.house)), len(heard[*pecv1.ClaimNotProven](p.house))}
	}
	before := [3]int{1, 1, 0}
	p.eventually("the acceptance is told", func() bool { return told() == before })
	way := p.get(m.GetName())
	for what, c := range map[string]struct {
		from  string
		raw   []byte
		doubt string
	}{
		"given back by a server":   {"", whole, "WRAPPED_MAIL: it holds what says that it is posta-certificata"},
		"passed on by somebody":    {"x@example.test", append([]byte("X-Passed-On: yes\r\n"), whole...), "WRAPPED_MAIL: it holds what says that it is posta-certificata"},
		"with a changed byte":      {"", changed, "WRAPPED_MAIL: it holds what says that it is posta-certificata"},
		"inside a delivery report": {"", report, "DELIVERY_REPORT: " + silent + ", failed (5.1.1)"},
	} {
		p.reception(c.from, sender, c.raw)
		p.settle()
		p.kept(p.mailbox())
		got := p.receipts(p.mailbox())[0]
		require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ANOMALY, got.GetKind(), what)
		require.True(t, got.GetProven(), "%s: the provider's own envelope holds: %v", what, got.GetDoubts())
		require.Equal(t, m.GetName(), got.GetAbout(), what)
		require.Contains(t, strings.Join(p.get(got.GetName()).GetDoubts(), "\n"), c.doubt, what)
		raw, err := p.bytesOf(got)
		require.ErrorIs(t, err, io.EOF)
		r, err := pec.ReadBytes(raw)
		require.NoError(t, err)
		require.Nil(t, r.Daticert, "%s: the daticert of what came back is not that of the anomaly", what)
		inner, err := r.OriginalMessage()
		require.NoError(t, err)
		bytesInside, err := io.ReadAll(inner.Raw())
		require.NoError(t, err)
		require.Equal(t, string(c.raw), string(bytesInside), what)
	}
	p.reception("", other, whole)
	p.settle()
	p.kept(box)
	got := p.receipts(box)
	require.Len(t, got, 1)
	require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ANOMALY, got[0].GetKind())
	require.Empty(t, got[0].GetAbout(), "that mailbox sent no such message")
	require.NoError(t, p.sandbox.InjectPEC(t.Context(), sender, client.PECInject{Data: whole}))
	p.kept(p.mailbox())
	bare := p.receipts(p.mailbox())[0]
	require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ENVELOPE, bare.GetKind(), "unwrapped it is what its signature says")
	require.Empty(t, bare.GetAbout())

	p.eventually("everything is told", func() bool { return p.query(`SELECT count(*) FROM outbox`) == 0 })
	require.Equal(t, before, told(), "no state, no receipt, no forgery")
	now := p.get(m.GetName())
	require.Equal(t, way.GetState(), now.GetState())
	require.Equal(t, way.GetContradictions(), now.GetContradictions())
	require.Equal(t, "waiting", now.GetRecipients()[0].GetState())
	require.Equal(t, 1, p.query(`SELECT count(*) FROM fact WHERE receipt_id IS NOT NULL`), "the acceptance alone")

	require.NoError(t, p.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "avvenuta-consegna", MsgID: m.GetMessageId(),
		Identificativo: now.GetProviderId(), Recipient: silent, How: "valid"}))
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	p.everything()
}
