package pecgateway_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/pec-gateway/internal/sinktest"
	"ceralacca.dev/services/sandbox/client"
)

// sinks is a gateway whose mailboxes send through servers of others' making.
type sinks struct{ *post }

// openSinks has the gateway trust those servers.
func openSinks(t *testing.T, all ...*sinktest.Sink) *sinks {
	t.Helper()
	h := prepare(t, quickly)
	file := filepath.Join(h.opts.Dir, "ca.pem")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, s := range all {
		text = append(append(text, '\n'), s.Certificate()...)
	}
	require.NoError(t, os.WriteFile(file, text, 0o600))
	h.start()
	p := &sinks{&post{house: h}}
	p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
	return p
}

// through takes a mailbox into keeping that sends through a sink, and sends a message.
func (p *sinks) through(address string, s *sinktest.Sink, untested bool) *pecv1.Message {
	p.t.Helper()
	m, err := p.api.CreateMailbox(p.t.Context(), &pecv1.CreateMailboxRequest{
		Parent: parent, Password: p.password(address), RequestId: uuid.NewString(), Untested: untested,
		Mailbox: &pecv1.Mailbox{Address: address, Provider: "sandbox", Servers: &pecv1.MailboxServers{Smtp: s.Address()}},
	})
	require.NoError(p.t, err)
	p.box = m.GetName()
	return p.send("a@beta.test", "b@beta.test", "c@beta.test")
}

// TestA1A2A3A8A9A10PostfixAsTheProvider: Postfix's smtp-sink in each phase that it can fail in, between the gateway and
// its mailboxes. Once the fault is over what was not taken leaves under the same Message-ID, once; what was refused for
// good does not; and what may have been taken waits for a person.
func TestA1A2A3A8A9A10PostfixAsTheProvider(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		options []string
		outcome string
		phase   string
		cause   string
		after   string // the end is marked once the content has left
	}{
		{"A1 MAIL", []string{"-q", "mail"}, "deferred", "mail", "network", "sent"},
		{"A1 RCPT", []string{"-q", "rcpt"}, "deferred", "rcpt", "network", "sent"},
		{"A2 DATA", []string{"-q", "data"}, "deferred", "data", "network", "sent"},
		{"A3 dot", []string{"-q", "."}, "unknown", "dot", "network", "asked"},
		{"A8 421", []string{"-Q", "mail"}, "deferred", "mail", "busy", "sent"},
		{"A8 450", []string{"-r", "rcpt"}, "deferred", "rcpt", "recipients", "sent"},
		{"A8 451 after the dot", []string{"-r", "."}, "deferred", "dot", "busy", "sent"},
		{"A9 550", []string{"-f", "rcpt"}, "refused", "rcpt", "recipients", "refused"},
		{"A10 too much", []string{"-f", "mail", "-B", `550 MAIL from: "x" blocked "Class Of Service" - Too much traffic from this sender`}, "deferred", "mail", "throttled", "later"},
	}
	good := sinktest.Start(t)
	var all []*sinktest.Sink
	for _, c := range cases {
		all = append(all, sinktest.Start(t, c.options...))
	}
	p := openSinks(t, all...)
	taken := func(m *pecv1.Message) int {
		n := 0
		for _, raw := range good.Kept() {
			n += bytes.Count(raw, []byte("Message-ID: <"+m.GetMessageId()+">"))
		}
		return n
	}
	want := 0
	var boxes []*pecv1.Mailbox
	for i, c := range cases {
		m := p.through("a"+uuid.NewString()[:8]+"@alfa.test", all[i], false)
		boxes = append(boxes, p.mailbox())
		p.eventually(c.name, func() bool {
			d := p.way(m)
			return len(d.GetAttempts()) > 0 && d.GetAttempts()[0].GetOutcome() != ""
		})
		a := p.way(m).GetAttempts()[0]
		require.Equal(t, []string{c.outcome, c.phase, c.cause}, []string{a.GetOutcome(), a.GetPhase(), a.GetCause()}, "%s: %v", c.name, a)
		switch c.after {
		case "asked":
			d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
			require.Len(t, d.GetAttempts(), 1, "%s: it was sent again without a word", c.name)
			require.Zero(t, taken(m), c.name)
			continue
		case "refused":
			d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
			require.Equal(t, pecv1.MessageState_MESSAGE_STATE_REJECTED, d.GetState())
			require.Len(t, a.GetRefusedRecipients(), 3)
			require.Zero(t, taken(m), c.name)
			continue
		}
		all[i].Behind(good)
		if c.after == "later" {
			require.Equal(t, pecv1.DeliveryStep_DELIVERY_STEP_QUEUED, p.way(m).GetStep())
			p.ahead.Add(int64(70 * time.Second))
			p.resume()
		}
		d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		require.Equal(t, "accepted", d.GetAttempts()[len(d.GetAttempts())-1].GetOutcome(), c.name)
		want++
		require.Equal(t, 1, taken(m), c.name)
	}
	require.Equal(t, want, good.Count())
	p.everything()
	p.house.invariants(boxes...)
}

// TestE7SentByAnotherProgram: swaks, a stranger's program, sends through the mailbox that we read. Its receipts are kept,
// proven, and belong to no message of ours.
func TestE7SentByAnotherProgram(t *testing.T) {
	t.Parallel()
	require.NoError(t, devenv.RequirePeers(t.Context(), os.Stderr, devenv.Peer{Command: "swaks", Package: "swaks"}))
	h := open(t, "")
	h.believe()
	box := h.add(sender)
	host, port, _ := strings.Cut(h.world.Endpoints().PEC.SMTPSAddr, ":")
	require.NotEmpty(t, host)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, h.world.CAPEM(), 0o600))
	out, err := exec.CommandContext(t.Context(), "swaks", "--server", "localhost", "--port", port, "--tls-on-connect", "--tls-verify", "--tls-ca-path", ca, "--auth", "PLAIN", //nolint:gosec // of the test
		"--auth-user", sender, "--auth-password", h.secretOf(sender), "--from", sender, "--to", recipient, "--header", "Subject: da swaks",
		"--header", "Message-Id: <swaks@alfa.test>", "--body", "una riga\n.\nfine").CombinedOutput()
	require.NoError(t, err, "%s", out)
	h.settle()
	h.kept(box)
	list := h.receipts(box)
	require.Len(t, list, 2)
	for _, r := range list {
		require.True(t, r.GetProven(), r.GetDoubts())
		require.Empty(t, r.GetAbout())
		require.Contains(t, r.GetSubject(), "da swaks")
	}
	log, err := h.sandbox.PECSubmissions(t.Context(), sender)
	require.NoError(t, err)
	require.Equal(t, []string{"swaks@alfa.test"}, msgids(log))
	h.invariants(box)
}

func msgids(list []client.PECSubmission) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.MsgID)
	}
	return out
}
