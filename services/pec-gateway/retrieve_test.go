package pecgateway_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/client"
)

func (h *house) inject(address, text string, change ...func(*client.PECInject)) {
	h.t.Helper()
	in := client.PECInject{Data: []byte(strings.ReplaceAll(text, "\n", "\r\n"))}
	for _, fn := range change {
		fn(&in)
	}
	require.NoError(h.t, h.sandbox.InjectPEC(h.t.Context(), address, in))
}

func plain(subject string) string {
	return "From: Mario <mario@example.test>\nTo: " + recipient + "\nSubject: " + subject + "\nMessage-ID: <" + subject + "@example.test>\n\nciao\n"
}

// TestB2B5SeenAndTwice: what another program marked as read is received all the same, and the same bytes in
// two folders and under two numbers are one message in several places.
func TestB2B5SeenAndTwice(t *testing.T) {
	h := open(t, "")
	h.believe()
	h.inject(recipient, plain("letto"), func(in *client.PECInject) { in.Flags = []string{`\Seen`} })
	h.inject(recipient, plain("doppio"), func(in *client.PECInject) { in.Times = 2 })
	h.inject(recipient, plain("doppio"), func(in *client.PECInject) { in.Folder = "Trash" })
	box := h.add(recipient)
	h.kept(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 2)
	require.Equal(t, 3, h.query(`SELECT count(*) FROM location l JOIN message m ON m.id = l.message_id WHERE m.subject = 'doppio'`))
	for _, m := range h.list(box) {
		require.Equal(t, pecv1.MessageKind_MESSAGE_KIND_ORDINARY, m.GetKind())
		require.Empty(t, m.GetDoubts(), "ordinary mail claims nothing")
	}
	h.invariants(box)
}

// TestB4CutInTheMiddle: the connection is cut in the middle of a message; nothing of it is kept by half and
// the rest comes.
func TestB4CutInTheMiddle(t *testing.T) {
	h := open(t, "")
	h.believe()
	h.fault(client.FaultPECIMAPCut, func(f *client.Fault) { f.Count = 2 })
	for i := range 5 {
		h.inject(recipient, plain(fmt.Sprintf("m%d", i))+strings.Repeat("riga\n", 5000))
	}
	box := h.add(recipient)
	h.kept(box)
	require.Len(t, h.list(box), 5)
	h.invariants(box)
}

// TestB11POP3: a mailbox without IMAP; nothing is deleted, nothing is received twice.
func TestB11POP3(t *testing.T) {
	h := open(t, "")
	h.believe()
	box := h.add(recipient, func(m *pecv1.Mailbox) { m.Access = pecv1.MailboxAccess_MAILBOX_ACCESS_POP3 })
	h.send(recipient)
	h.inject(recipient, plain("uno")+".\n..\n.fine\n")
	h.kept(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 2)
	h.invariants(box)
	require.NoError(t, h.sandbox.ChangePECUIDValidity(t.Context(), recipient))
	h.lookedAgain(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 2)
}

// TestB6StoppedInTheMiddle: the gateway ends in the middle of its work and goes on; each message is received
// once and told once.
func TestB6StoppedInTheMiddle(t *testing.T) {
	h := open(t, "")
	h.believe()
	box := h.add(recipient)
	for i := range 20 {
		h.inject(recipient, plain(fmt.Sprintf("a%d", i)))
	}
	h.kept(box)
	h.Stop() // in the middle of its work for all we know
	for i := range 20 {
		h.inject(recipient, plain(fmt.Sprintf("b%d", i)))
	}
	h.start()
	h.kept(box)
	require.Len(t, h.list(box), 40)
	h.eventually("each is told once", func() bool { return len(heard[*pecv1.MessageReceived](h)) == 40 })
	h.invariants(box)
}

// TestB14TwoReplicas: two processes preside over one mailbox in turns; the one that holds it ends, the other goes
// on, and each message is received once and told once.
func TestB14TwoReplicas(t *testing.T) {
	server, err := nats.Start(t.Context(), nats.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	h := open(t, "", func(o *runtest.Options) { o.NATS = server.URL() })
	h.believe()
	box := h.add(recipient)
	other := h.opts // another process on the same schema, bus and archive
	other.Dir = t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(h.opts.Dir, "blobs"), filepath.Join(other.Dir, "blobs")))
	other.DB = map[string]*pg.DB{"pec-gateway": pgtest.Again(t, h.DB("pec-gateway")), "probe": pgtest.Again(t, h.DB("probe"))}
	second := runtest.Start(t, other)
	for i := range 20 {
		h.inject(recipient, plain(fmt.Sprintf("a%d", i)))
	}
	h.kept(box)
	h.Stop()
	for i := range 20 {
		h.inject(recipient, plain(fmt.Sprintf("b%d", i)))
	}
	h.Process = second
	h.api = pecv1.NewPecServiceClient(second.Tenant("pec-gateway", tenant))
	h.kept(box)
	require.Len(t, h.list(box), 40)
	h.eventually("each is told once", func() bool { return len(heard[*pecv1.MessageReceived](h)) == 40 })
	h.invariants(box)
}

// TestG4OneHangsOneFloods: a mailbox whose provider takes the connection and never answers, one whose password does not hold and
// one full of mail do not keep a fourth from its messages, with one worker for all of them. (How soon, among 500: make bench-pec.)
func TestG4OneHangsOneFloods(t *testing.T) {
	h := open(t, "  workers: 1\n", func(o *runtest.Options) { o.Config = strings.Replace(o.Config, "timeout: 5s", "timeout: 1s", 1) })
	h.believe()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	var taken atomic.Int32
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			taken.Add(1)
			defer c.Close()
		}
	}()
	for i := range 301 {
		h.inject(sender, plain(fmt.Sprintf("onda%d", i)))
	}
	untested := func(in *pecv1.Mailbox, password string) *pecv1.Mailbox {
		m, err := h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{Parent: parent, Mailbox: in, Password: password, RequestId: uuid.NewString(), Untested: true})
		require.NoError(t, err)
		return m
	}
	hanging := untested(&pecv1.Mailbox{Address: "muta@gamma.test", Provider: "generic", Servers: &pecv1.MailboxServers{Imap: silent.Addr().String()}}, "x")
	locked := untested(&pecv1.Mailbox{Address: "altro@beta.test", Provider: "sandbox"}, "sbagliata")
	flood, quiet := h.add(sender), h.add(recipient)
	h.inject(recipient, plain("importante"))
	h.eventually("the quiet one has its message", func() bool { return len(h.list(quiet)) == 1 })
	h.eventually("the silent server is tried", func() bool { return taken.Load() > 0 })
	for box, code := range map[*pecv1.Mailbox]string{hanging: "MAILBOX_SERVER_AWAY", locked: "MAILBOX_AUTH_FAILED"} {
		h.eventually(box.GetAddress()+" is shown as "+code, func() bool {
			got := h.box(box)
			return got.GetState() == pecv1.MailboxState_MAILBOX_STATE_DEGRADED && got.GetProblemCode() == code
		})
	}
	before := taken.Load()
	h.inject(recipient, plain("altrettanto"))
	h.eventually("and the next", func() bool { return len(h.list(quiet)) == 2 })
	h.eventually("the silent server is tried again", func() bool { return taken.Load() > before })
	h.kept(flood)
	h.eventually("all are kept", func() bool { return h.box(flood).GetSync().GetDone() })
	require.EqualValues(t, 301, h.box(flood).GetCounts().GetMessages())
	h.invariants(flood, quiet)
}

// TestI4OddMessagesGoAlone: what cannot be read is kept, stands in quarantine with its reason, and stops
// nothing.
func TestI4OddMessagesGoAlone(t *testing.T) {
	h := open(t, "  max_message: 1048576\n")
	h.believe()
	box := h.add(recipient)
	deep := "From: a@b.test\nSubject: parti\nContent-Type: multipart/mixed; boundary=x\n\n" + strings.Repeat("--x\n\nz\n", 12_000) + "--x--\n"
	h.inject(recipient, plain("prima"))
	h.inject(recipient, deep)
	h.inject(recipient, "From: a@b.test\nSubject: grande\n\n"+strings.Repeat("0123456789abcdef\n", 70_000))
	h.inject(recipient, plain("dopo"))
	h.kept(box)
	require.Len(t, h.list(box), 2)
	page, err := h.api.ListQuarantinedMessages(t.Context(), &pecv1.ListQuarantinedMessagesRequest{Parent: box.GetName()})
	require.NoError(t, err)
	codes := map[string]string{}
	for _, m := range page.GetMessages() {
		codes[m.GetCode()] = m.GetReason()
		require.NotEmpty(t, m.GetReason())
		require.Equal(t, h.content(&pecv1.GetMessageContentRequest{Name: m.GetName()}).Len(), int(m.GetContent().GetSize()))
	}
	require.Contains(t, codes, "MESSAGE_UNREADABLE")
	require.Contains(t, codes, "MESSAGE_TOO_LARGE")
	require.EqualValues(t, 2, h.box(box).GetCounts().GetQuarantined())
	h.invariants(box)
}

// TestE14OrdinaryMail: each rule for mail that is not certified; certified mail is not touched by any.
func TestE14OrdinaryMail(t *testing.T) {
	h := open(t, "")
	h.believe()
	box := h.add(recipient, func(m *pecv1.Mailbox) {
		m.OrdinaryRule = &pecv1.OrdinaryRule{Action: pecv1.OrdinaryAction_ORDINARY_ACTION_MOVE, Folder: "Posta ordinaria"}
	})
	h.inject(recipient, plain("spostata"))
	h.send(recipient)
	h.kept(box)
	moved := h.list(box, func(r *pecv1.ListMessagesRequest) { r.Folder = "Posta ordinaria" })
	require.Len(t, moved, 1)
	require.Equal(t, "spostata", moved[0].GetSubject())
	_, err := h.api.UpdateMailbox(t.Context(), &pecv1.UpdateMailboxRequest{
		Mailbox:    &pecv1.Mailbox{Name: box.GetName(), OrdinaryRule: &pecv1.OrdinaryRule{Action: pecv1.OrdinaryAction_ORDINARY_ACTION_REJECT}},
		UpdateMask: mask("ordinary_rule"),
	})
	require.NoError(t, err)
	h.inject(recipient, plain("respinta"))
	h.send(recipient)
	h.kept(box)
	require.Len(t, h.list(box), 3, "two envelopes and what was moved before")
	page, err := h.api.ListQuarantinedMessages(t.Context(), &pecv1.ListQuarantinedMessagesRequest{Parent: box.GetName()})
	require.NoError(t, err)
	require.Len(t, page.GetMessages(), 1)
	require.Equal(t, "ORDINARY_REJECTED", page.GetMessages()[0].GetCode())
	_, err = h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: page.GetMessages()[0].GetName()})
	require.NoError(t, err)
	again, err := h.api.ListQuarantinedMessages(t.Context(), &pecv1.ListQuarantinedMessagesRequest{Parent: box.GetName()})
	require.NoError(t, err)
	require.Len(t, again.GetMessages(), 1, "read again it is kept away as before")
	require.Equal(t, page.GetMessages()[0].GetReason(), again.GetMessages()[0].GetReason())
	require.Len(t, h.list(box), 3)
	h.eventually("three are told", func() bool { return len(heard[*pecv1.MessageReceived](h)) == 3 })
	h.invariants(box)
}

// content is what GetMessageContent streams.
func (h *house) content(req *pecv1.GetMessageContentRequest) *bytes.Buffer {
	h.t.Helper()
	stream, err := h.api.GetMessageContent(h.t.Context(), req)
	require.NoError(h.t, err)
	return drain(h.t, func() ([]byte, error) {
		r, err := stream.Recv()
		return r.GetData(), err
	})
}
