package pecgateway_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/pec-gateway/internal/sinktest"
)

// smallServer is an SMTP server (go-smtp's) that takes little, and says so.
type smallServer struct {
	mu    sync.Mutex
	begun int // MAIL commands
	taken []string
}

func startSmall(t *testing.T, change func(*gosmtp.Server)) (*smallServer, string) {
	t.Helper()
	s := &smallServer{}
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return s, nil }))
	server.Domain, server.ReadTimeout, server.WriteTimeout = "localhost", time.Minute, time.Minute
	change(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return s, l.Addr().String()
}

func (s *smallServer) Reset()        {}
func (s *smallServer) Logout() error { return nil }

func (s *smallServer) Mail(string, *gosmtp.MailOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
	return nil
}

func (s *smallServer) Rcpt(string, *gosmtp.RcptOptions) error { return nil }

func (s *smallServer) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.taken = append(s.taken, string(raw))
	}
	return err
}

func (s *smallServer) count() (begun, taken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun, len(s.taken)
}

// TestA15ServerSmallerThanOurLimit: what our limits let pass and the server's EHLO SIZE does not is not even begun: the message is
// REJECTED after one attempt whose words have both sizes, nobody waits for it, other services hear that it surely did not leave, and the
// log says so. What is small enough leaves before and after it: the queue is not held. TESTPLAN A15.
func TestA15ServerSmallerThanOurLimit(t *testing.T) {
	t.Parallel()
	const most = 40_000
	small, address := startSmall(t, func(s *gosmtp.Server) { s.MaxMessageBytes = most })
	front := sinktest.Start(t)
	front.BehindAddress(address)
	p := openSinks(t, front)
	first := p.through(sender, front, false)
	p.reaches(first, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	req := p.request(recipient, "altro@beta.test")
	req.Attachments[0].Data = []byte(strings.Repeat("0123456789", 5_000))
	m, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err, "our limits let it pass")
	size := m.GetContent().GetSize()
	require.Greater(t, size, int64(most))
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	last := p.send(recipient)
	p.reaches(last, pecv1.DeliveryStep_DELIVERY_STEP_DONE)

	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_REJECTED, d.GetState())
	require.Len(t, d.GetAttempts(), 1)
	a := d.GetAttempts()[0]
	require.Equal(t, []string{"refused", "mail", "size"}, []string{a.GetOutcome(), a.GetPhase(), a.GetCause()}, a)
	require.Equal(t, fmt.Sprintf("the message has %d bytes, the server takes at most %d", size, most), a.GetText())
	require.Zero(t, a.GetCode(), "the server was not asked")
	require.Nil(t, a.GetDotTime())
	require.Empty(t, d.GetHeld())
	shown := p.get(m.GetName())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_REJECTED, shown.GetState())
	require.Len(t, shown.GetRecipients(), 2)
	begun, taken := small.count()
	require.Equal(t, []int{2, 2}, []int{begun, taken}, "the first and the last, and not a word of the one between")
	for _, sent := range []*pecv1.Message{first, last} {
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_SUBMITTED, p.way(sent).GetState())
		require.Equal(t, 1, strings.Count(strings.Join(small.taken, ""), "Message-ID: <"+sent.GetMessageId()+">"))
	}

	told := func() (out []*pecv1.DeliveryStateChanged) {
		for _, ev := range heard[*pecv1.DeliveryStateChanged](p.house) {
			if ev.GetMessage() == m.GetName() && ev.GetState() == "MESSAGE_STATE_REJECTED" {
				out = append(out, ev)
			}
		}
		return out
	}
	p.eventually("it is told", func() bool { return len(told()) == 1 })
	require.True(t, told()[0].GetSurelyNotSent())
	page, err := p.desk().ListLogEntries(t.Context(), &pecv1.ListLogEntriesRequest{Parent: p.box, Filter: &pecv1.LogFilter{Identifier: m.GetMessageId()}})
	require.NoError(t, err)
	var events []string
	for _, e := range page.GetEntries() {
		events = append(events, e.GetEvent())
	}
	require.Equal(t, []string{"rejected", "queued"}, events)
	again, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, m.GetName(), again.GetName(), "the same request is the same message, refused as it is")
	req.RequestId = uuid.NewString()
	other, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	p.reaches(other, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Equal(t, "size", p.way(other).GetAttempts()[0].GetCause())
	require.Len(t, told(), 1, "once")
	require.Zero(t, p.alarms())
	p.everything()
}

// TestA17ServerTakesFewerThanOurLimit: a server that says "later" to the third recipient would say so for ever. The message is REJECTED
// after one attempt whose words have the number that it takes, nobody gets it, and what has fewer recipients leaves after it. TESTPLAN A17.
func TestA17ServerTakesFewerThanOurLimit(t *testing.T) {
	t.Parallel()
	small, address := startSmall(t, func(s *gosmtp.Server) { s.MaxRecipients = 2 })
	front := sinktest.Start(t)
	front.BehindAddress(address)
	p := openSinks(t, front)
	m := p.through(sender, front, false) // to three
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	next := p.send("a@beta.test", "b@beta.test")
	p.reaches(next, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_REJECTED, d.GetState())
	require.Len(t, d.GetAttempts(), 1, "not again and again")
	a := d.GetAttempts()[0]
	require.Equal(t, []string{"refused", "rcpt", "too-many-recipients"}, []string{a.GetOutcome(), a.GetPhase(), a.GetCause()}, a)
	require.True(t, strings.HasPrefix(a.GetText(), "the server takes at most 2 recipients in one message: 452 "), a.GetText())
	require.Nil(t, a.GetDotTime())
	begun, taken := small.count()
	require.Equal(t, []int{2, 1}, []int{begun, taken})
	require.Contains(t, small.taken[0], "Message-ID: <"+next.GetMessageId()+">")
	require.Zero(t, p.alarms())
	p.everything()
}

// TestA17DovecotTakesAThousand: Dovecot as the server for sending, with Postfix's smtp-sink behind it. It says "later" to recipient 1,001,
// and would for ever: the message is REJECTED after one attempt, with the number that it takes, and nobody gets it. A thousand pass, and
// what arrives behind both servers is what we keep: dots, long lines and accents. TESTPLAN A17, A19.
func TestA17DovecotTakesAThousand(t *testing.T) {
	t.Parallel()
	sink := sinktest.Start(t)
	file := filepath.Join(t.TempDir(), "limits.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"generic": {"recipients": 2000, "volume": 100000000000}}`), 0o600))
	extra := strings.Replace(quickly, "sending: {", fmt.Sprintf("sending: {limits_file: %q, ", file), 1)
	p := &post{house: openDovecot(t, extra, dovecot.Options{Relay: sink.Plain()})}
	p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
	p.box = p.keep(sender, func(m *pecv1.Mailbox) { m.Servers.Smtp = p.dovecot.Submissions() }).GetName()
	tested, err := p.api.TestMailbox(t.Context(), &pecv1.TestMailboxRequest{Name: p.box})
	require.NoError(t, err)
	require.True(t, tested.GetPassed(), "%v", tested.GetSteps())
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("n%d@beta.test", i)
	}
	text := "Buongiorno,\n.\n..\n.fine\n" + strings.Repeat("riga lunga ", 300) + "\nperché così\n"
	for _, n := range []int{1001, 1000} {
		req := p.request(many[:1000]...)
		req.Cc, req.Text = many[1000:n], text
		m, err := p.api.SendMessage(t.Context(), req)
		require.NoError(t, err, "our limits let it pass")
		d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		require.Len(t, d.GetAttempts(), 1, "not again and again")
		a := d.GetAttempts()[0]
		if n > 1000 {
			require.Equal(t, pecv1.MessageState_MESSAGE_STATE_REJECTED, d.GetState(), a)
			require.Equal(t, "refused rcpt too-many-recipients", a.GetOutcome()+" "+a.GetPhase()+" "+a.GetCause())
			require.True(t, strings.HasPrefix(a.GetText(), "the server takes at most 1000 recipients in one message: 451 4.5.3 "), a.GetText())
			require.Nil(t, a.GetDotTime())
			require.Zero(t, sink.Count(), "nobody got it")
			continue
		}
		require.Equal(t, "accepted", a.GetOutcome(), a)
		require.Equal(t, pecv1.MessageState_MESSAGE_STATE_SUBMITTED, d.GetState())
		require.Equal(t, 1, sink.Count())
		got := string(sink.Kept()[0])
		require.Equal(t, 1000, strings.Count(got, "X-Rcpt-Args:"))
		kept := p.content(&pecv1.GetMessageContentRequest{Name: m.GetName()}).String()
		require.True(t, strings.HasSuffix(strings.TrimRight(strings.ReplaceAll(got, "\r\n", "\n"), "\n"), strings.TrimRight(strings.ReplaceAll(kept, "\r\n", "\n"), "\n")),
			"what arrived is not what is kept")
	}
	require.Zero(t, p.alarms())
	p.everything()
}
