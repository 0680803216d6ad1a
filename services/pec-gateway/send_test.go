package pecgateway_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/client"
)

// quickly are the pauses of sending in tests.
const quickly = `  sending: {retry_every: 20ms, retry_most: 50ms, unknown_after: 300ms, answer_timeout: 5s, lease: 6s}
`

// post is a gateway with one mailbox that sends.
type post struct {
	*house
	box      string
	delivery pecv1.PecDeliveryServiceClient
}

func openPost(t testing.TB, extra string) *post {
	t.Helper()
	if extra == "" {
		extra = quickly
	}
	p := &post{house: open(t, extra)}
	p.begin()
	return p
}

func (p *post) begin() {
	p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
	m := p.add(sender)
	p.box = m.GetName()
}

func (p *post) request(to ...string) *pecv1.SendMessageRequest {
	return &pecv1.SendMessageRequest{
		Parent: p.box, To: to, Subject: "Disdetta – perché così", Text: "Buongiorno,\n.\nÈ tutto.", RequestId: uuid.NewString(),
		Attachments: []*pecv1.Attachment{{FileName: "contratto.pdf", MediaType: "application/pdf", Data: []byte("%PDF-1.4 prova")}},
	}
}

func (p *post) send(to ...string) *pecv1.Message {
	p.t.Helper()
	m, err := p.api.SendMessage(p.t.Context(), p.request(to...))
	require.NoError(p.t, err)
	return m
}

func (p *post) way(m *pecv1.Message) *pecv1.Delivery {
	p.t.Helper()
	d, err := p.delivery.GetDelivery(p.t.Context(), &pecv1.GetDeliveryRequest{Name: m.GetName()})
	require.NoError(p.t, err)
	return d
}

// reaches waits until the message has come to a step.
func (p *post) reaches(m *pecv1.Message, step pecv1.DeliveryStep) *pecv1.Delivery {
	p.t.Helper()
	var d *pecv1.Delivery
	p.eventually("the message reaches "+step.String(), func() bool {
		d = p.way(m)
		return d.GetStep() == step
	})
	return d
}

// submissions is the count of the providers: what they took, not what we believe. TESTPLAN I3.
func (p *post) submissions() []client.PECSubmission {
	p.t.Helper()
	list, err := p.sandbox.PECSubmissions(p.t.Context(), sender)
	require.NoError(p.t, err)
	return list
}

func (p *post) exec(sql string, args ...any) {
	p.t.Helper()
	require.NoError(p.t, p.DB("pec-gateway").System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

// invariants of sending: the provider has no message more often than its end was marked, or than it was asked for (I3), no
// state of a recipient without a receipt (I2), no secret in a log (I6).
func (p *post) invariants() {
	p.t.Helper()
	times := map[string]int{}
	for _, s := range p.submissions() {
		if !p.others[s.MsgID] { // what the owner's webmail sends is none of ours
			times[s.MsgID]++
		}
	}
	for msgid, n := range times {
		marked := p.query(`SELECT count(*) FROM sending_attempt a JOIN message m ON m.id = a.message_id WHERE m.message_id = $1 AND a.dot_at IS NOT NULL`, msgid)
		require.LessOrEqual(p.t, n, marked, "I3: the provider has %s more often than its end was marked", msgid)
		again := p.query(`SELECT count(*) FROM audit_entry a JOIN message m ON a.resource LIKE '%/' || m.id WHERE a.action = 'message.resend' AND m.message_id = $1`, msgid)
		require.LessOrEqual(p.t, n, 1+again, "I3: the provider has %s more often than it was asked for", msgid)
	}
	require.Zero(p.t, p.query(`SELECT count(*) FROM (SELECT message_id FROM sending_attempt WHERE outcome = 'accepted' GROUP BY message_id HAVING count(*) > 1) x`))
	require.Zero(p.t, p.query(`SELECT count(*) FROM recipient r WHERE r.state <> 'waiting' AND NOT EXISTS (
		SELECT FROM fact f WHERE f.message_id = r.message_id AND f.receipt_id IS NOT NULL)`))
	require.NotContains(p.t, p.log.String(), "AUTH PLAIN")
	require.NotContains(p.t, p.log.String(), "Buongiorno")
}

// everything is asserted after each case whose mailbox is there to be read: with the invariants of sending those of receiving
// (I1, I4, I5, I7). What is under way is waited for: it would be taken for a change.
func (p *post) everything() {
	p.t.Helper()
	p.invariants()
	p.eventually("nothing is about to leave, and nobody is about to be asked", func() bool {
		return p.query(`SELECT count(*) FROM sending WHERE step IN ('leaving', 'unknown') OR step = 'queued' AND attempts = 0`) == 0
	})
	p.settle() // receipts of what has just left
	p.house.invariants(p.mailbox())
}

// TestA19A20A21Send: the bytes that the provider has are those that we keep, under our Message-ID; a request that
// comes twice, at the same time or later, sends once. TESTPLAN A19, A20, A21.
func TestA19A20A21Send(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	req := p.request(recipient, "altro@beta.test")
	req.Cc, req.Html = []string{"conoscenza@beta.test", recipient}, "<p>Buongiorno</p>"
	req.FromName = "Società \"Esempio\"\r\nBcc: x@y.test"
	names := make([]string, 4)
	var wait sync.WaitGroup
	for i := range names {
		wait.Go(func() {
			m, err := p.api.SendMessage(t.Context(), req)
			if err == nil {
				names[i] = m.GetName()
			}
		})
	}
	wait.Wait()
	again, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	for _, n := range names {
		require.Equal(t, again.GetName(), n)
	}
	d := p.reaches(again, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Len(t, d.GetAttempts(), 1)
	require.Equal(t, "accepted", d.GetAttempts()[0].GetOutcome())
	require.NotNil(t, d.GetAttempts()[0].GetDotTime())
	require.Contains(t, d.GetAttempts()[0].GetTls(), "TLS 1.3")
	require.Len(t, d.GetRecipients(), 3)
	list := p.submissions()
	require.Len(t, list, 1)
	require.Equal(t, again.GetMessageId(), list[0].MsgID)
	require.Equal(t, req.GetSubject(), list[0].Subject)
	require.Equal(t, fmt.Sprintf("%x", again.GetContent().GetSha256()), list[0].SHA256, "the provider has other bytes than we keep")
	require.Equal(t, []string{recipient, "altro@beta.test", "conoscenza@beta.test"}, list[0].To)
	raw, err := p.sandbox.PECSubmitted(t.Context(), list[0].Identificativo)
	require.NoError(t, err)
	m, err := pec.ParseBytes(raw)
	require.NoError(t, err)
	require.Zero(t, m.Root.Header.Count("Bcc"))
	require.Equal(t, "contratto.pdf", m.Root.Attachments()[0].Sent)

	other := proto.CloneOf(req)
	other.Subject = "altro"
	_, err = p.api.SendMessage(t.Context(), other)
	requireFault(t, err, "REQUEST_ID_REUSED")
	p.everything()
}

// TestUpload: a file that comes in pieces is attached as it came; one of another tenant is not.
func TestUpload(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	data := bytes.Repeat([]byte("dati "), 300_000)
	up, err := p.delivery.UploadAttachment(t.Context())
	require.NoError(t, err)
	for i := 0; i < len(data); i += 1 << 19 {
		part := &pecv1.UploadAttachmentRequest{Data: data[i:min(i+1<<19, len(data))]}
		if i == 0 {
			part.Parent = parent
		}
		require.NoError(t, up.Send(part))
	}
	kept, err := up.CloseAndRecv()
	require.NoError(t, err)
	req := p.request(recipient)
	req.Attachments = []*pecv1.Attachment{{FileName: "grande.bin", Content: kept.GetContent()}}
	m, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	raw, err := p.sandbox.PECSubmitted(t.Context(), p.submissions()[0].Identificativo)
	require.NoError(t, err)
	parsed, err := pec.ParseBytes(raw)
	require.NoError(t, err)
	got, err := parsed.Root.Attachments()[0].Part.Bytes(0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))

	ref, err := p.Host("pec-gateway").Blobs.Put(t.Context(), "other", []byte("x"))
	require.NoError(t, err)
	req = p.request(recipient)
	req.Attachments = []*pecv1.Attachment{{FileName: "x", Content: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: 1}}}
	_, err = p.api.SendMessage(t.Context(), req)
	requireFault(t, err, "ATTACHMENT_FOREIGN")
	req.RequestId, req.Attachments = uuid.NewString(), []*pecv1.Attachment{{FileName: "x"}}
	_, err = p.api.SendMessage(t.Context(), req)
	requireFault(t, err, "ATTACHMENT_CONTENT")
	p.everything()
}

// TestA15A17A18Preflight: what the provider would refuse is refused before anything leaves, with the way to mend
// it; with consent a message to many becomes several. TESTPLAN A15, A17, A18.
func TestA15A17A18Preflight(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	many := make([]string, 51)
	for i := range many {
		many[i] = fmt.Sprintf("n%d@beta.test", i)
	}
	req := p.request(many...)
	_, err := p.api.SendMessage(t.Context(), req)
	requireFault(t, err, "MESSAGE_NOT_ACCEPTABLE")
	fields := fault.Of(err).Fields
	require.Len(t, fields, 1)
	require.Equal(t, "TOO_MANY_RECIPIENTS", fields[0].Code)
	require.Contains(t, fields[0].Message, "allow_split")

	large := p.request(recipient, "altro@beta.test")
	large.Attachments[0].Data = bytes.Repeat([]byte{1}, 11_200_000) // 15.3 MB on the way, twice
	_, err = p.api.SendMessage(t.Context(), large)
	requireFault(t, err, "MESSAGE_NOT_ACCEPTABLE")
	require.Equal(t, "TOO_LARGE", fault.Of(err).Fields[0].Code)
	require.Zero(t, p.query(`SELECT count(*) FROM message`))

	req.AllowSplit, req.RequestId = true, uuid.NewString()
	m, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	require.Len(t, m.GetSplit(), 2)
	seen := map[string]bool{}
	for _, name := range m.GetSplit() {
		d := p.reaches(&pecv1.Message{Name: name}, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		require.Equal(t, "accepted", d.GetAttempts()[0].GetOutcome(), d)
	}
	// the provider says 250 first and works on the message afterwards
	p.eventually("the access point has judged both", func() bool {
		return !slices.ContainsFunc(p.submissions(), func(s client.PECSubmission) bool { return len(s.Events) == 0 })
	})
	for _, s := range p.submissions() {
		require.True(t, s.Accepted, s.Events)
		for _, a := range s.To {
			require.False(t, seen[a], "%s gets it twice", a)
			seen[a] = true
		}
	}
	require.Len(t, seen, 51)
	p.everything()
}

// TestA1A2A8RefusedForNow: the same message under the same Message-ID is tried again until it is taken; it
// counts once. Others of the mailbox do not wait for one that its recipients hold up. TESTPLAN A1, A2, A6, A8.
func TestA1A2A8RefusedForNow(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	_, err := p.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultPECDefer, Count: 2})
	require.NoError(t, err)
	m := p.send(recipient)
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Len(t, d.GetAttempts(), 3)
	for i, want := range []string{"deferred", "deferred", "accepted"} {
		require.Equal(t, want, d.GetAttempts()[i].GetOutcome())
	}
	require.EqualValues(t, 451, d.GetAttempts()[0].GetCode())
	list := p.submissions()
	require.Len(t, list, 1)
	require.Equal(t, m.GetMessageId(), list[0].MsgID)

	stuck := p.send("temperror@beta.test", recipient)
	next := p.send(recipient)
	p.reaches(next, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	d = p.way(stuck)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, d.GetState())
	require.Equal(t, "recipients", d.GetAttempts()[0].GetCause())
	require.Equal(t, []string{"temperror@beta.test: 451 4.3.0 try again later (sandbox)"}, d.GetAttempts()[0].GetRefusedRecipients())
	require.Len(t, p.submissions(), 2, "nobody gets a message whose recipients are not all taken")
	p.everything()
}

// TestA9RefusedForGood: one of five recipients is unknown: nobody gets it, the caller is told which.
// TESTPLAN A9.
func TestA9RefusedForGood(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	m := p.send("a@beta.test", "b@beta.test", "permerror@beta.test", "c@beta.test", "d@beta.test")
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_REJECTED, d.GetState())
	require.Len(t, d.GetAttempts(), 1)
	require.Equal(t, []string{"permerror@beta.test: 550 5.1.1 no such mailbox (sandbox)"}, d.GetAttempts()[0].GetRefusedRecipients())
	require.Empty(t, p.submissions())
	p.everything()
}

// TestA3OutcomeUnknown: a connection cut after the final dot. Nothing is sent again by itself; after the
// time a person is asked, and only that person's word sends it again. TESTPLAN A3.
func TestA3OutcomeUnknown(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	m := p.send("taglia@beta.test")
	d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_UNKNOWN)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_OUTCOME_UNKNOWN, d.GetState())
	require.Len(t, d.GetAttempts(), 1)
	require.Equal(t, "dot", d.GetAttempts()[0].GetPhase())
	resolve := func(decision pecv1.DeliveryDecision, risk bool) error {
		_, err := p.delivery.ResolveMessage(t.Context(), &pecv1.ResolveMessageRequest{Name: m.GetName(), Decision: decision, Reason: "prova", AcceptSecondSending: risk})
		return err
	}
	requireFault(t, resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND, true), "DECISION_TOO_EARLY")
	_, err := p.delivery.CancelMessage(t.Context(), &pecv1.CancelMessageRequest{Name: m.GetName()})
	requireFault(t, err, "MESSAGE_HAS_LEFT")

	d = p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	require.Contains(t, d.GetAdvice(), "Safe: WAIT")
	require.Len(t, d.GetAttempts(), 1, "it was sent again without a word")
	p.eventually("somebody is asked", func() bool { return len(heard[*pecv1.DeliveryDecisionNeeded](p.house)) == 1 })
	requireFault(t, resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND, false), "RISK_NOT_TAKEN")
	require.NoError(t, resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_WAIT, false))
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	require.NoError(t, resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_RESEND, true))
	p.eventually("the second attempt ends unknown too", func() bool {
		d = p.way(m)
		return len(d.GetAttempts()) == 2 && d.GetAttempts()[1].GetOutcome() == "unknown"
	})
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DECISION_NEEDED)
	require.NoError(t, resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_ABANDON, false))
	d = p.way(m)
	require.Equal(t, pecv1.DeliveryStep_DELIVERY_STEP_CANCELLED, d.GetStep())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_CANCELLED, d.GetState())
	requireFault(t, resolve(pecv1.DeliveryDecision_DELIVERY_DECISION_WAIT, false), "OUTCOME_IS_KNOWN")
	require.Empty(t, p.submissions())
	require.Equal(t, 3, p.query(`SELECT count(*) FROM audit_entry WHERE action IN ('message.wait', 'message.resend', 'message.abandon')`))
	p.everything()
}

// TestA5A6Lost: the process ends in the middle of an attempt. Before the end of the content was marked
// nothing can have been taken, and the message leaves again under its Message-ID; after it the outcome
// is unknown. TESTPLAN A5, A6.
func TestA5A6Lost(t *testing.T) {
	t.Parallel()
	for name, dot := range map[string]bool{"before the dot": false, "after the dot": true} {
		t.Run(name, func(t *testing.T) {
			p := openPost(t, "")
			p.suspend(true)
			m := p.send(recipient)
			p.eventually("the queue is held", func() bool { return p.way(m).GetHeld() != "" })
			id := m.GetName()[strings.LastIndexByte(m.GetName(), '/')+1:]
			p.exec(`UPDATE sending SET step = 'leaving', attempts = attempts + 1 WHERE message_id = $1`, id)
			p.exec(`INSERT INTO sending_attempt (tenant_id, message_id, number, start_at, dot_at)
				SELECT tenant_id, message_id, attempts, now(), CASE WHEN $2 THEN now() END FROM sending WHERE message_id = $1`, id, dot)
			p.suspend(false)
			p.send("altro@beta.test") // whoever comes next finds the lost attempt
			p.resume()
			if dot {
				d := p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_UNKNOWN)
				require.Equal(t, "unknown", d.GetAttempts()[len(d.GetAttempts())-1].GetOutcome())
				p.eventually("the other one leaves", func() bool { return len(p.submissions()) == 1 })
			} else {
				p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
				p.eventually("both leave", func() bool { return len(p.submissions()) == 2 })
				require.Equal(t, m.GetMessageId(), p.submissions()[0].MsgID, "order is kept")
			}
			p.everything()
		})
	}
}

func (p *post) suspend(yes bool) {
	p.t.Helper()
	state := "active"
	if yes {
		state = "suspended"
	}
	_, err := p.sandbox.SetPECMailbox(p.t.Context(), client.PECMailbox{Address: sender, State: state})
	require.NoError(p.t, err)
}

func (p *post) resume() {
	p.t.Helper()
	_, err := p.delivery.ResumeSending(p.t.Context(), &pecv1.ResumeSendingRequest{Name: p.box})
	require.NoError(p.t, err)
}

// alarms counts how often somebody was told that nothing leaves.
func (p *post) alarms() int {
	n := 0
	for _, e := range p.unwell() {
		if strings.HasPrefix(e.GetReason(), "SENDING_") {
			n++
		}
	}
	return n
}

// TestG5Suspended: while the provider lets nothing leave, the queue is held with one attempt and one
// alarm; what waits can be taken back; the rest leaves in order when it is over. TESTPLAN G5.
func TestG5Suspended(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.suspend(true)
	var all []*pecv1.Message
	for range 4 {
		all = append(all, p.send(recipient))
	}
	p.eventually("the queue is held", func() bool { return strings.HasPrefix(p.way(all[0]).GetHeld(), "SENDING_SUSPENDED: 5.7.1") })
	list, err := p.delivery.ListDeliveries(t.Context(), &pecv1.ListDeliveriesRequest{Parent: p.box})
	require.NoError(t, err)
	require.Len(t, list.GetDeliveries(), 4)
	require.EqualValues(t, 3, list.GetDeliveries()[3].GetAhead())
	d, err := p.delivery.CancelMessage(t.Context(), &pecv1.CancelMessageRequest{Name: all[1].GetName(), Reason: "errore"})
	require.NoError(t, err)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_CANCELLED, d.GetState())
	p.suspend(false)
	p.resume()
	p.eventually("the others leave", func() bool { return len(p.submissions()) == 3 })
	for i, m := range []*pecv1.Message{all[0], all[2], all[3]} {
		require.Equal(t, m.GetMessageId(), p.submissions()[i].MsgID, "order")
	}
	p.eventually("somebody is told", func() bool { return p.alarms() > 0 && p.query(`SELECT count(*) FROM outbox`) == 0 })
	require.Equal(t, 1, p.alarms())
	require.Equal(t, 1, p.query(`SELECT count(*) FROM sending_attempt WHERE cause = 'suspended'`))
	p.everything()
}

// TestG5EachStateIsShown: suspended by its provider, with its protocols off, and in use again: each is shown, and everything that
// can be read is fetched meanwhile and afterwards. (A password: TestG5PasswordChanged; a contract that ends: TestMailboxAndPasswordEnd.) TESTPLAN G5.
func TestG5EachStateIsShown(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	set := func(state string) {
		_, err := p.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, State: state})
		require.NoError(t, err)
	}
	troubles := func() []string {
		hub, err := p.desk().GetHub(t.Context(), &pecv1.GetHubRequest{Parent: parent})
		require.NoError(t, err)
		require.Len(t, hub.GetEntries(), 1)
		return hub.GetEntries()[0].GetTroubles()
	}
	p.eventually("read for the first time", func() bool { return p.mailbox().GetSync().GetDone() })
	require.Empty(t, troubles())

	set("suspended")
	p.inject(sender, plain("durante"))
	m := p.send(recipient)
	p.eventually("sending is off", func() bool { return slices.Equal(troubles(), []string{"SENDING_SUSPENDED"}) })
	require.Equal(t, 1, p.query(`SELECT count(*) FROM sending_attempt`), "one attempt shows it")
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_SUSPENDED, p.mailbox().GetState())
	require.Equal(t, "SENDING_SUSPENDED", p.mailbox().GetProblemCode())
	require.Contains(t, p.mailbox().GetProblem(), "5.7.1")
	p.kept(p.mailbox())
	p.eventually("everything that is there is compared with what is here", func() bool { return p.mailbox().GetSync().GetWholeTime() != nil })

	set("disabled")
	p.inject(sender, plain("chiusa"))
	require.NoError(t, p.sandbox.ChangePECUIDValidity(t.Context(), sender)) // cuts the session
	p.eventually("nobody gets in", func() bool {
		return p.mailbox().GetState() == pecv1.MailboxState_MAILBOX_STATE_DEGRADED && slices.Contains(troubles(), "MAILBOX_AUTH_FAILED")
	})
	require.Len(t, p.receipts(p.mailbox()), 1, "what was fetched stays")

	set("active")
	_, err := p.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: p.box})
	require.NoError(t, err)
	p.resume()
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	p.eventually("in use again", func() bool { return len(troubles()) == 0 })
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_ACTIVE, p.mailbox().GetState())
	p.kept(p.mailbox())
	require.Len(t, p.submissions(), 1)
	p.everything()
}

// TestA12A13LoginRefused: a password that does not open any more. For three hours there is one alarm, the queue is held, and the
// provider refuses two logins for sending and two for reading in any hour, however many messages come to wait, a replica starts
// anew or a job looks too early; so it does not lock the mailbox, which it would after five. With the new password everything
// leaves, each message once and in order. TESTPLAN A12, A13.
func TestA12A13LoginRefused(t *testing.T) {
	t.Parallel()
	p := &post{house: open(t, quickly, func(o *runtest.Options) {
		o.Config = strings.Replace(o.Config, "login_retry: 400ms", "login_retry: 40m", 1)
	})}
	p.begin()
	p.believe()
	p.eventually("read for the first time", func() bool { return p.mailbox().GetSync().GetDone() })
	var all []*pecv1.Message
	send := func() *pecv1.Message {
		all = append(all, p.send(recipient))
		return all[len(all)-1]
	}
	p.reaches(send(), pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	_, err := p.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender, Password: "scaduta", LockAfter: 5})
	require.NoError(t, err)
	provider := func(door string) (times []time.Time) {
		box, err := p.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: sender})
		require.NoError(t, err)
		require.Equal(t, "active", box.State)
		for _, r := range box.RefusedLogins {
			if r.Door == door {
				times = append(times, r.At)
			}
		}
		return times
	}
	m := send()
	p.eventually("the queue is held", func() bool { return strings.HasPrefix(p.way(m).GetHeld(), "SENDING_LOGIN_REFUSED: ") })
	rests := func() { // one job waits for the end of the pause, and none has anything to do now
		p.eventually("the queue rests", func() bool {
			return p.query(`SELECT count(*) FROM river_job WHERE kind = 'pec_submit' AND state IN ('available', 'running', 'retryable')`) == 0 &&
				p.query(`SELECT count(*) FROM river_job WHERE kind = 'pec_submit' AND state = 'scheduled' AND scheduled_at > now() + interval '9 minutes'`) == 1
		})
	}
	rests()
	planned, refused := p.way(m).GetNextAttemptTime().AsTime(), 1
	for minutes := 15; minutes <= 180; minutes += 15 {
		if minutes == 60 {
			p.Stop()
			p.start()
			p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
		}
		p.pass(15 * time.Minute)
		if minutes%30 == 0 {
			send() // one more does not make another login
		}
		// The job that waits has the clock of the machine; it looks now, whether its time has come or not.
		p.exec(`UPDATE river_job SET state = 'available', scheduled_at = now() WHERE kind = 'pec_submit' AND state = 'scheduled'`)
		if p.opts.Now().After(planned) {
			refused++
			p.eventually("another login", func() bool { return p.way(m).GetNextAttemptTime().AsTime().After(planned) })
			planned = p.way(m).GetNextAttemptTime().AsTime()
		}
		rests()
		require.Equal(t, refused, p.query(`SELECT count(*) FROM sending_attempt WHERE cause = 'credentials'`), "after %d minutes", minutes)
		require.True(t, strings.HasPrefix(p.way(m).GetHeld(), "SENDING_LOGIN_REFUSED: "))
	}
	require.Len(t, provider("smtp"), refused)
	require.Equal(t, 5, refused, "at once, and after 45, 90, 135 and 180 minutes")
	p.eventually("a new session for reading is refused", func() bool { return len(provider("imap")) >= 2 })
	for _, door := range []string{"smtp", "imap"} {
		times := provider(door)
		for i := 2; i < len(times); i++ {
			require.Greater(t, times[i].Sub(times[i-2]), time.Hour, "%s: two logins in an hour at most, %v", door, times)
		}
	}
	p.eventually("somebody is told of both", func() bool { return p.alarms() > 0 && p.degraded("MAILBOX_AUTH_FAILED") > 0 })
	require.Equal(t, 1, p.alarms())
	require.Equal(t, 1, p.degraded("MAILBOX_AUTH_FAILED"))
	require.Len(t, p.submissions(), 1)

	fresh := p.password(sender)
	_, err = p.api.ChangeMailboxPassword(t.Context(), &pecv1.ChangeMailboxPasswordRequest{Name: p.box, Password: fresh})
	require.NoError(t, err)
	p.eventually("all leave", func() bool { return len(p.submissions()) == len(all) })
	for i, s := range p.submissions() {
		require.Equal(t, all[i].GetMessageId(), s.MsgID, "order")
	}
	require.Equal(t, 1, p.alarms())
	p.everything()
}

// TestA11Rate: never more in a minute than the provider allows, in order, across a restart. TESTPLAN A11.
func TestA11Rate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "limits.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"sandbox": {"per_minute": 3}}`), 0o600))
	p := openPost(t, strings.Replace(quickly, "sending: {", fmt.Sprintf("sending: {limits_file: %q, ", file), 1))
	_, err := p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", PerMinute: 3})
	require.NoError(t, err)
	var all []*pecv1.Message
	for range 8 {
		all = append(all, p.send(recipient))
	}
	for i, want := range []int{3, 6, 8} {
		p.reaches(all[want-1], pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		require.Len(t, p.submissions(), want)
		if i == 0 { // a replica more changes nothing: what it knows is in the database
			p.Stop()
			p.start()
			p.delivery = pecv1.NewPecDeliveryServiceClient(p.Tenant("pec-gateway", tenant))
			p.resume()
		}
		_, err = p.sandbox.Advance(t.Context(), 66*time.Second)
		require.NoError(t, err)
		p.ahead.Add(int64(66 * time.Second))
		p.resume()
	}
	for i, s := range p.submissions() {
		require.Equal(t, all[i].GetMessageId(), s.MsgID, "order")
	}
	require.Zero(t, p.query(`SELECT count(*) FROM sending_attempt WHERE cause = 'throttled'`), "the provider had to say that it was too much")
	p.everything()
}

// TestA10Throttled: the answer that looks permanent and is not. The mailbox pauses and goes on at half its
// rate; nothing is refused. Other mailboxes at the same provider go on meanwhile at theirs. TESTPLAN A10.
func TestA10Throttled(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	const colleague = "collega@alfa.test"
	other := &post{house: p.house, box: p.add(colleague).GetName(), delivery: p.delivery}
	for range 4 {
		p.send(recipient)
	}
	p.eventually("four leave", func() bool { return len(p.submissions()) == 4 })
	p.fault(client.FaultPECThrottle, func(f *client.Fault) { f.Name = sender })
	m := p.send(recipient)
	p.eventually("the provider says that it is too much", func() bool {
		d := p.way(m)
		return len(d.GetAttempts()) == 1 && d.GetAttempts()[0].GetCause() == "throttled"
	})
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, p.way(m).GetState())
	rate := func(p *post) int {
		return p.query(`SELECT per_minute FROM sending_queue WHERE mailbox_id::text = right($1, 36)`, p.box)
	}
	require.Equal(t, 2, rate(p), "half of four")
	require.True(t, p.way(m).GetNextAttemptTime().AsTime().After(time.Now().Add(50*time.Second)))

	next := p.send(recipient)
	for range 6 { // more than the paused one had in its minute, one after the other
		o := other.send(recipient)
		other.state(o, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		require.Len(t, other.way(o).GetAttempts(), 1)
	}
	require.Zero(t, rate(other), "nobody told this one that it sends too much")
	require.Empty(t, p.troubles(other.box))
	list, err := p.sandbox.PECSubmissions(t.Context(), colleague)
	require.NoError(t, err)
	require.Len(t, list, 6)
	require.Len(t, p.way(m).GetAttempts(), 1, "it waits")
	require.Empty(t, p.way(next).GetAttempts(), "and so does what comes after it")
	require.Len(t, p.submissions(), 4)
	p.ahead.Add(int64(70 * time.Second))
	p.resume()
	p.reaches(m, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	p.reaches(next, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	require.Equal(t, 2, rate(p))
	p.eventually("both are counted", func() bool { return len(p.submissions()) == 6 })
	require.Zero(t, p.query(`SELECT count(*) FROM message WHERE state = $1`, int(pecv1.MessageState_MESSAGE_STATE_REJECTED)))
	p.everything()
	other.everything()
}

// TestRequestedByEvent: another service asks by an event; it is sent once however often the event comes,
// and what cannot be sent comes back as a refusal.
func TestRequestedByEvent(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	ask := func(req *pecv1.SendMessageRequest, times int) {
		for range times {
			p.requested(req)
		}
	}
	req := p.request(recipient)
	ask(req, 3)
	p.eventually("it is sent", func() bool { return len(p.submissions()) == 1 })
	p.eventually("its name is told", func() bool { return len(heard[*pecv1.MessageQueued](p.house)) == 1 })
	require.Equal(t, req.GetRequestId(), heard[*pecv1.MessageQueued](p.house)[0].GetRequestId())
	require.Equal(t, p.submissions()[0].MsgID, heard[*pecv1.MessageQueued](p.house)[0].GetMessageId())
	bad := p.request("nessun indirizzo")
	ask(bad, 1)
	p.eventually("it is refused", func() bool { return len(heard[*pecv1.MessageRequestRefused](p.house)) == 1 })
	require.Equal(t, "MESSAGE_NOT_ACCEPTABLE", heard[*pecv1.MessageRequestRefused](p.house)[0].GetCode())
	require.Len(t, p.submissions(), 1)
	p.everything()
}
