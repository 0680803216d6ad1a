package pecgateway_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/bus"
)

func stampOf(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

const quick = "  desk: {every: 50ms, notice_pause: 1s}\n"

func (h *house) desk() pecv1.PecDeskServiceClient {
	return pecv1.NewPecDeskServiceClient(h.Tenant("pec-gateway", tenant))
}

// policy changes parts of how a mailbox is run.
func (h *house) policy(box *pecv1.Mailbox, p *pecv1.MailboxPolicy, paths ...string) (*pecv1.MailboxPolicy, error) {
	h.t.Helper()
	p.Name = box.GetName() + "/policy"
	return h.desk().UpdateMailboxPolicy(h.t.Context(), &pecv1.UpdateMailboxPolicyRequest{Policy: p, UpdateMask: mask(paths...)})
}

func withAttachment(subject, body, file string) string {
	return "From: Ditta Rossi <mario@example.test>\nTo: " + recipient + "\nSubject: " + subject + "\nMessage-ID: <" + uuid.NewString() + "@example.test>\n" +
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain; charset=utf-8\n\n" + body +
		"\n--x\nContent-Type: application/pdf; name=\"" + file + "\"\nContent-Disposition: attachment; filename=\"" + file + "\"\n\n%PDF\n--x--\n"
}

// TestFoldersAndSearch: folders of our own in which messages are filed without touching the provider's, and every way to
// look for a message.
func TestFoldersAndSearch(t *testing.T) {
	h := open(t, quick)
	h.believe()
	box, other := h.add(recipient), h.add(sender)
	h.inject(recipient, withAttachment("Preventivo caldaia", "La città è perché così, prezzo 1200.", "preventivo-2026.pdf"))
	h.inject(recipient, plain("riunione"))
	h.send(recipient)
	h.kept(box)
	before := h.shape(recipient)
	desk := h.desk()
	names := func(change func(*pecv1.ListMessagesRequest)) []string {
		var out []string
		for _, m := range h.list(box, change) {
			out = append(out, strings.Fields(m.GetSubject())[0])
		}
		return out
	}
	h.eventually("words are entered", func() bool { return h.query(`SELECT count(*) FROM word_owed`) == 0 })
	yes, no := true, false
	for name, c := range map[string]struct {
		ask  func(*pecv1.ListMessagesRequest)
		want []string
	}{
		"sender":           {func(r *pecv1.ListMessagesRequest) { r.From = "MARIO@" }, []string{"riunione", "Preventivo"}},
		"certified sender": {func(r *pecv1.ListMessagesRequest) { r.From = sender }, []string{"POSTA"}},
		"recipient":        {func(r *pecv1.ListMessagesRequest) { r.To = "nessuno@" }, nil},
		"subject":          {func(r *pecv1.ListMessagesRequest) { r.Subject = "CALDAIA" }, []string{"Preventivo"}},
		"type":             {func(r *pecv1.ListMessagesRequest) { r.Type = "posta-certificata" }, []string{"POSTA"}},
		"kind":             {func(r *pecv1.ListMessagesRequest) { r.Kind = pecv1.MessageKind_MESSAGE_KIND_ORDINARY }, []string{"riunione", "Preventivo"}},
		"proven":           {func(r *pecv1.ListMessagesRequest) { r.Proven = &yes }, []string{"POSTA"}},
		"unproven":         {func(r *pecv1.ListMessagesRequest) { r.Proven = &no }, []string{"riunione", "Preventivo"}},
		"file":             {func(r *pecv1.ListMessagesRequest) { r.Attachment = "preventivo-2026" }, []string{"Preventivo"}},
		"file of original": {func(r *pecv1.ListMessagesRequest) { r.Attachment = "offerta.pdf" }, []string{"POSTA"}},
		"without files":    {func(r *pecv1.ListMessagesRequest) { r.HasAttachment = &no }, []string{"riunione"}},
		"words of text":    {func(r *pecv1.ListMessagesRequest) { r.Text = "citta PERCHE 1200" }, []string{"Preventivo"}},
		"word begun":       {func(r *pecv1.ListMessagesRequest) { r.Text = "riuni" }, []string{"riunione"}},
		"words inside":     {func(r *pecv1.ListMessagesRequest) { r.Text = "buongiorno offerta" }, []string{"POSTA"}},
		"words of two":     {func(r *pecv1.ListMessagesRequest) { r.Text = "riunione caldaia" }, nil},
		"from now on":      {func(r *pecv1.ListMessagesRequest) { r.StartTime = stampOf(time.Now().Add(time.Hour)) }, nil},
		"until now":        {func(r *pecv1.ListMessagesRequest) { r.EndTime = stampOf(time.Now().Add(time.Hour)); r.Text = "caldaia" }, []string{"Preventivo"}},
		"all mailboxes":    {func(r *pecv1.ListMessagesRequest) { r.Parent = parent + "/mailboxes/-"; r.Text = "caldaia" }, []string{"Preventivo"}},
	} {
		require.Equal(t, c.want, trimmed(names(c.ask)), name)
	}
	first, err := h.api.ListMessages(t.Context(), &pecv1.ListMessagesRequest{Parent: box.GetName(), PageSize: 2})
	require.NoError(t, err)
	require.Len(t, first.GetMessages(), 2)
	rest, err := h.api.ListMessages(t.Context(), &pecv1.ListMessagesRequest{Parent: box.GetName(), PageSize: 2, PageToken: first.GetNextPageToken()})
	require.NoError(t, err)
	require.Len(t, rest.GetMessages(), 1)
	_, err = h.api.ListMessages(t.Context(), &pecv1.ListMessagesRequest{Parent: box.GetName(), Subject: "x", PageToken: first.GetNextPageToken()})
	requireFault(t, err, "PAGE_TOKEN_INVALID")
	_, err = h.api.ListMessages(t.Context(), &pecv1.ListMessagesRequest{Parent: box.GetName(), Text: "..."})
	requireFault(t, err, "TEXT_WITHOUT_WORDS")

	_, err = desk.CreateFolder(t.Context(), &pecv1.CreateFolderRequest{Parent: box.GetName(), Folder: "Clienti"})
	require.NoError(t, err)
	_, err = desk.CreateFolder(t.Context(), &pecv1.CreateFolderRequest{Parent: box.GetName(), Folder: "Clienti"})
	requireFault(t, err, "FOLDER_EXISTS")
	message := h.list(box, func(r *pecv1.ListMessagesRequest) { r.Text = "caldaia" })[0].GetName()
	_, err = desk.MoveMessages(t.Context(), &pecv1.MoveMessagesRequest{Parent: box.GetName(), Messages: []string{message}, Folder: "Fornitori"})
	requireFault(t, err, "FOLDER_NOT_FOUND")
	_, err = desk.MoveMessages(t.Context(), &pecv1.MoveMessagesRequest{Parent: other.GetName(), Messages: []string{message}, Folder: "INBOX"})
	requireFault(t, err, "MESSAGE_NOT_FOUND")
	for _, want := range []int32{1, 0} {
		moved, err := desk.MoveMessages(t.Context(), &pecv1.MoveMessagesRequest{Parent: box.GetName(), Messages: []string{message, message}, Folder: "Clienti"})
		require.NoError(t, err)
		require.Equal(t, want, moved.GetMoved())
	}
	_, err = desk.DeleteFolder(t.Context(), &pecv1.DeleteFolderRequest{Parent: box.GetName(), Folder: "Clienti"})
	requireFault(t, err, "FOLDER_NOT_EMPTY")
	_, err = desk.DeleteFolder(t.Context(), &pecv1.DeleteFolderRequest{Parent: box.GetName(), Folder: "INBOX"})
	requireFault(t, err, "FOLDER_NOT_FOUND")
	renamed, err := desk.RenameFolder(t.Context(), &pecv1.RenameFolderRequest{Parent: box.GetName(), Folder: "Clienti", NewName: "Clienti 2026"})
	require.NoError(t, err)
	require.EqualValues(t, 1, renamed.GetMessages())
	require.Len(t, h.list(box, func(r *pecv1.ListMessagesRequest) { r.Folder = "Clienti 2026" }), 1)
	folders, err := desk.ListFolders(t.Context(), &pecv1.ListFoldersRequest{Parent: box.GetName()})
	require.NoError(t, err)
	require.Len(t, folders.GetFolders(), 2)
	require.Equal(t, "Clienti 2026 true 1", fmt.Sprint(folders.GetFolders()[0].GetName(), " ", folders.GetFolders()[0].GetOwn(), " ", folders.GetFolders()[0].GetMessages()))
	h.lookedAgain(box)
	require.Equal(t, before, h.shape(recipient), "the provider's mailbox is not touched")
	require.Equal(t, "Clienti 2026", h.get(message).GetFolder())
	h.invariants(box, other)
}

func trimmed(list []string) []string {
	for i, s := range list {
		list[i] = strings.TrimSuffix(s, ":")
	}
	return list
}

// TestE14RulesAndForward: the first rule that fits counts; certified mail cannot be kept away or sent on; what a program
// sent, or what the platform sent on before, goes to nobody.
func TestE14RulesAndForward(t *testing.T) {
	h := open(t, quick)
	h.believe()
	box := h.add(recipient)
	from := h.add(sender)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	ordinary, certified := pecv1.RuleScope_RULE_SCOPE_ORDINARY, pecv1.RuleScope_RULE_SCOPE_CERTIFIED
	rule := func(scope pecv1.RuleScope, action pecv1.RuleAction, change ...func(*pecv1.MailRule)) *pecv1.MailRule {
		r := &pecv1.MailRule{Scope: scope, Action: action}
		for _, fn := range change {
			fn(r)
		}
		return r
	}
	for code, r := range map[string]*pecv1.MailRule{
		"FOLDER_NOT_FOUND":   rule(certified, pecv1.RuleAction_RULE_ACTION_MOVE, func(r *pecv1.MailRule) { r.Folder = "Nessuna" }),
		"ADDRESS_CERTIFIED":  rule(ordinary, pecv1.RuleAction_RULE_ACTION_FORWARD, func(r *pecv1.MailRule) { r.ForwardTo = "altro@alfa.test" }),
		"ADDRESS_IN_KEEPING": rule(ordinary, pecv1.RuleAction_RULE_ACTION_FORWARD, func(r *pecv1.MailRule) { r.ForwardTo = "casella@ordinaria.test" }),
	} {
		if code == "ADDRESS_IN_KEEPING" {
			_, err := h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{Parent: parent, Password: "x", Untested: true, Mailbox: &pecv1.Mailbox{Address: "casella@ordinaria.test", Provider: "sandbox"}})
			require.NoError(t, err)
		}
		_, err := h.policy(box, &pecv1.MailboxPolicy{Rules: []*pecv1.MailRule{r}}, "rules")
		requireFault(t, err, code)
	}
	for _, r := range []*pecv1.MailRule{rule(certified, pecv1.RuleAction_RULE_ACTION_REJECT), rule(certified, pecv1.RuleAction_RULE_ACTION_FORWARD), rule(ordinary, pecv1.RuleAction_RULE_ACTION_FORWARD)} {
		_, err := h.policy(box, &pecv1.MailboxPolicy{Rules: []*pecv1.MailRule{r}}, "rules")
		requireFault(t, err, "RULE_INVALID")
	}
	_, err := h.desk().CreateFolder(t.Context(), &pecv1.CreateFolderRequest{Parent: box.GetName(), Folder: "Offerte"})
	require.NoError(t, err)
	p, err := h.policy(box, &pecv1.MailboxPolicy{Rules: []*pecv1.MailRule{
		rule(pecv1.RuleScope_RULE_SCOPE_MAIL, pecv1.RuleAction_RULE_ACTION_MOVE, func(r *pecv1.MailRule) { r.Folder, r.Subject = "Offerte", "offerta" }),
		rule(ordinary, pecv1.RuleAction_RULE_ACTION_REJECT, func(r *pecv1.MailRule) { r.Senders = []string{"@molesto.test"} }),
		rule(ordinary, pecv1.RuleAction_RULE_ACTION_FORWARD, func(r *pecv1.MailRule) { r.ForwardTo = "ufficio@ordinaria.test" }),
	}}, "rules")
	require.NoError(t, err)
	_, err = h.desk().DeleteFolder(t.Context(), &pecv1.DeleteFolderRequest{Parent: box.GetName(), Folder: "Offerte"})
	requireFault(t, err, "FOLDER_IN_RULE")
	p.Etag = `"77"`
	_, err = h.policy(box, p, "rules")
	requireFault(t, err, "ETAG_MISMATCH")

	h.send(recipient) // "Offerta n. 1", certified
	for _, m := range []struct{ subject, head string }{
		{"inoltrami", ""}, {"risposta automatica", "Auto-Submitted: auto-replied\n"}, {"tornato", "X-Ceralacca-Forward: 1\n"}, {"rimbalzo", "Return-Path: <>\n"},
	} {
		h.inject(recipient, m.head+plain(m.subject))
	}
	h.inject(recipient, strings.Replace(plain("pubblicita"), "mario@example.test", "x@molesto.test", 1))
	h.inject(recipient, strings.Replace(plain("da chi riceve"), "mario@example.test", "ufficio@ordinaria.test", 1))
	h.kept(box)
	h.eventually("one is sent on", func() bool { return len(heard[*pecv1.ForwardDue](h)) > 0 })
	h.invariants(box, from)
	sent := heard[*pecv1.ForwardDue](h)
	require.Len(t, sent, 1)
	require.Equal(t, "inoltrami", sent[0].GetTitle())
	require.Equal(t, "ufficio@ordinaria.test", sent[0].GetAddress())
	require.Equal(t, h.content(&pecv1.GetMessageContentRequest{Name: sent[0].GetMessage()}).Len(), int(sent[0].GetContent().GetSize()), "as it came")
	filed := h.list(box, func(r *pecv1.ListMessagesRequest) { r.Folder = "Offerte" })
	require.Len(t, filed, 1)
	require.True(t, filed[0].GetProven())
	away, err := h.api.ListQuarantinedMessages(t.Context(), &pecv1.ListQuarantinedMessagesRequest{Parent: box.GetName()})
	require.NoError(t, err)
	require.Len(t, away.GetMessages(), 1)
	require.Equal(t, "ORDINARY_REJECTED mail that is not certified is kept away by rule 2 of the mailbox", away.GetMessages()[0].GetCode()+" "+away.GetMessages()[0].GetReason())
	require.Equal(t, 1, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'message.forward'`))
}

// TestE15NoticesOfIncomingMail: at most two ordinary addresses are told, of sender, recipient and subject alone; a flood of 500
// certified ones is one notice; the filter and a rule that notifies; our own notices, one that bounced, and receipts make none.
func TestE15NoticesOfIncomingMail(t *testing.T) {
	h := open(t, "  desk: {every: 50ms, notice_pause: 24h}\n")
	h.believe()
	h.inject(recipient, plain("vecchio"))
	box := h.add(recipient)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	_, err := h.policy(box, &pecv1.MailboxPolicy{Notice: &pecv1.IncomingNotice{Addresses: []string{"a@o.test", "b@o.test", "c@o.test"}}}, "notice")
	require.Error(t, err, "two at most")
	_, err = h.policy(box, &pecv1.MailboxPolicy{Notice: &pecv1.IncomingNotice{Addresses: []string{"a@beta.test"}}}, "notice")
	requireFault(t, err, "ADDRESS_CERTIFIED")
	_, err = h.policy(box, &pecv1.MailboxPolicy{
		Notice: &pecv1.IncomingNotice{Addresses: []string{"a@o.test", "b@o.test"}, Senders: []string{"@example.test"}, Language: "en"},
		Rules:  []*pecv1.MailRule{{Scope: pecv1.RuleScope_RULE_SCOPE_CERTIFIED, Action: pecv1.RuleAction_RULE_ACTION_KEEP, Notify: true}},
	}, "notice", "rules")
	require.NoError(t, err)
	h.inject(recipient, plain("prima"))
	h.eventually("told at once", func() bool { return len(heard[*pecv1.IncomingNoticeDue](h)) == 1 })
	first := heard[*pecv1.IncomingNoticeDue](h)[0]
	require.Equal(t, []string{"a@o.test", "b@o.test"}, first.GetAddresses())
	require.Len(t, first.GetMessages(), 1)
	require.Equal(t, "mario@example.test "+recipient+" prima false", fmt.Sprint(first.GetMessages()[0].GetSender(), " ", first.GetMessages()[0].GetRecipient(), " ",
		first.GetMessages()[0].GetTitle(), " ", first.GetMessages()[0].GetCertified()))

	h.inject(recipient, plain("onda"))
	h.inject(recipient, "X-Ceralacca-Notice: 1\n"+plain("il nostro avviso"))
	h.inject(recipient, "Return-Path: <>\n"+plain("il nostro avviso torna indietro"))
	h.inject(recipient, strings.Replace(plain("altri"), "mario@example.test", "x@altri.test", 1))
	h.flood(500, recipient)
	h.settle()
	h.kept(box)
	h.lookedAgain(box)
	require.Equal(t, 500, h.query(`SELECT count(*) FROM message WHERE kind = $1 AND proven`, int16(pecv1.MessageKind_MESSAGE_KIND_ENVELOPE)))
	require.Equal(t, 501, h.query(`SELECT count(*) FROM notice_owed`), "the certified ones, which a rule tells of, and one that the filter lets pass")
	require.Len(t, heard[*pecv1.IncomingNoticeDue](h), 1, "the next one waits")
	h.ahead.Add(int64(25 * time.Hour))
	h.eventually("the others are told together", func() bool { return len(heard[*pecv1.IncomingNoticeDue](h)) == 2 })
	second := heard[*pecv1.IncomingNoticeDue](h)[1]
	require.Len(t, second.GetMessages(), 20)
	require.EqualValues(t, 481, second.GetMore())
	for _, m := range second.GetMessages() {
		if m.GetCertified() {
			require.Equal(t, sender+" "+recipient, m.GetSender()+" "+m.GetRecipient())
			require.Regexp(t, `^POSTA CERTIFICATA: Offerta n\. \d+ – perché così$`, m.GetTitle())
		}
	}
	var told []string // of a message: which it is, when it came, and nothing of what is in it
	fields := (&pecv1.NoticedMessage{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		told = append(told, string(fields.Get(i).Name()))
	}
	require.ElementsMatch(t, []string{"message", "sender", "recipient", "title", "receive_time", "certified"}, told)
	require.Zero(t, h.query(`SELECT count(*) FROM notice_owed`))
	require.Equal(t, 2, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'mailbox.notice'`))
	h.invariants(box)
}

// TestMailboxAndPasswordEnd: its owner is told before and after, each time once; after the end nothing is sent and what
// comes is received; when the contract ends everything that the provider has is compared with what is here, and what was passed over
// is fetched, as the provider will delete it; a new password begins its time anew. TESTPLAN G5.
func TestMailboxAndPasswordEnd(t *testing.T) {
	h := open(t, quick)
	h.believe()
	box := h.add(recipient)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	end := time.Now().AddDate(0, 0, 20).Format(time.DateOnly)
	p, err := h.policy(box, &pecv1.MailboxPolicy{Terms: &pecv1.MailboxTerms{ExpireDate: end, PasswordDays: 90}}, "terms")
	require.NoError(t, err)
	require.NotEmpty(t, p.GetTerms().GetPasswordExpireDate())
	codes := func() map[string]int {
		out := map[string]int{}
		for _, ev := range h.unwell() {
			if ev.GetCode() != "MAILBOX_AUTH_FAILED" { // a look between the change at the provider and the one here is refused
				out[ev.GetCode()]++
			}
		}
		return out
	}
	h.eventually("20 days before", func() bool { return codes()["MAILBOX_EXPIRING"] == 1 })
	h.ahead.Add(int64(10 * 24 * time.Hour))
	h.eventually("10 days before", func() bool { return codes()["MAILBOX_EXPIRING"] == 2 })
	send := func() error {
		_, err := h.api.SendMessage(t.Context(), &pecv1.SendMessageRequest{Parent: box.GetName(), To: []string{sender}, Subject: "x", Text: "y", RequestId: uuid.NewString()})
		return err
	}
	h.inject(recipient, plain("prima"))
	h.kept(box)
	h.lookedAgain(box)
	h.passOver(box, func(next int) int {
		h.inject(recipient, plain("passata oltre"))
		return next + 1
	})
	h.lookedAgain(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 1)
	require.Nil(t, h.box(box).GetSync().GetWholeTime())
	h.ahead.Add(int64(15 * 24 * time.Hour))
	h.eventually("after the end", func() bool { return codes()["MAILBOX_EXPIRED"] == 1 })
	h.eventually("everything was compared", func() bool { return h.box(box).GetSync().GetWholeTime() != nil })
	h.kept(box)
	require.Len(t, h.list(box), 2)
	require.Equal(t, 1, h.query(`SELECT count(*) FROM whole_reading WHERE reason = 'MAILBOX_EXPIRED'`))
	requireFault(t, send(), "MAILBOX_EXPIRED")
	h.inject(recipient, plain("arriva"))
	h.kept(box)
	hub, err := h.desk().GetHub(t.Context(), &pecv1.GetHubRequest{Parent: parent})
	require.NoError(t, err)
	require.EqualValues(t, 1, hub.GetTroubled())
	require.Equal(t, []string{"MAILBOX_EXPIRED"}, hub.GetEntries()[0].GetTroubles())
	require.Equal(t, "MAILBOX_EXPIRED", hub.GetEntries()[0].GetSendingHeld())

	_, err = h.policy(box, &pecv1.MailboxPolicy{Terms: &pecv1.MailboxTerms{PasswordDays: 90, SendingSuspended: true}}, "terms")
	require.NoError(t, err)
	requireFault(t, send(), "MAILBOX_SENDING_SUSPENDED")
	h.ahead.Add(int64(60 * 24 * time.Hour)) // 85 days after the password was given
	h.eventually("the password ends", func() bool { return codes()["PASSWORD_EXPIRING"] == 1 })
	_, err = h.api.ChangeMailboxPassword(t.Context(), &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: h.password(recipient)})
	require.NoError(t, err)
	got, err := h.desk().GetMailboxPolicy(t.Context(), &pecv1.GetMailboxPolicyRequest{Name: box.GetName() + "/policy"})
	require.NoError(t, err)
	require.Greater(t, got.GetTerms().GetPasswordExpireDate(), p.GetTerms().GetPasswordExpireDate())
	_, err = h.policy(box, &pecv1.MailboxPolicy{Terms: &pecv1.MailboxTerms{}}, "terms")
	require.NoError(t, err)
	require.NoError(t, send())
	require.Equal(t, map[string]int{"MAILBOX_EXPIRING": 2, "MAILBOX_EXPIRED": 1, "PASSWORD_EXPIRING": 1}, codes())
	h.eventually("what was let go is delivered", func() bool {
		h.settle()
		return len(h.list(box, func(r *pecv1.ListMessagesRequest) { r.State = pecv1.MessageState_MESSAGE_STATE_DELIVERED })) == 1
	})
	h.invariants(box)
}

// TestPolicyFieldByField: who changes one thing of how a mailbox is run leaves the rest as it is; senders whom nobody can be are
// refused, since they would fit no message for ever.
func TestPolicyFieldByField(t *testing.T) {
	t.Parallel()
	h := open(t, quick)
	box := h.add(recipient)
	p, err := h.policy(box, &pecv1.MailboxPolicy{
		Terms:  &pecv1.MailboxTerms{ExpireDate: "2999-12-31", PasswordDays: 90, SendingSuspended: true},
		Notice: &pecv1.IncomingNotice{Addresses: []string{"a@o.test"}, Senders: []string{"@example.test"}, Language: "en"},
		Room:   &pecv1.RoomRule{Enabled: true, AtPercent: 95, KeepDays: 60, PreservedOnly: true},
	}, "terms", "notice", "room")
	require.NoError(t, err)
	require.NotEmpty(t, p.GetTerms().GetPasswordExpireDate())
	p, err = h.policy(box, &pecv1.MailboxPolicy{Terms: &pecv1.MailboxTerms{ExpireDate: "2999-06-30"}, Notice: &pecv1.IncomingNotice{Senders: []string{"anna@example.test"}},
		Room: &pecv1.RoomRule{ToPercent: 50}}, "terms.expire_date", "notice.senders", "room.to_percent")
	require.NoError(t, err)
	require.Equal(t, "2999-06-30 90 true", fmt.Sprint(p.GetTerms().GetExpireDate(), " ", p.GetTerms().GetPasswordDays(), " ", p.GetTerms().GetSendingSuspended()))
	require.Equal(t, "[a@o.test] [anna@example.test] en", fmt.Sprint(p.GetNotice().GetAddresses(), p.GetNotice().GetSenders(), " ", p.GetNotice().GetLanguage()))
	require.Equal(t, "true 95 50 60 true", fmt.Sprint(p.GetRoom().GetEnabled(), p.GetRoom().GetAtPercent(), p.GetRoom().GetToPercent(), p.GetRoom().GetKeepDays(), " ", p.GetRoom().GetPreservedOnly()))
	p, err = h.policy(box, &pecv1.MailboxPolicy{}, "terms.password_days", "terms.sending_suspended", "notice.addresses")
	require.NoError(t, err)
	require.Equal(t, "2999-06-30 0 false ", fmt.Sprint(p.GetTerms().GetExpireDate(), " ", p.GetTerms().GetPasswordDays(), p.GetTerms().GetSendingSuspended(), " ", p.GetTerms().GetPasswordExpireDate()))
	require.Empty(t, p.GetNotice().GetAddresses())
	for _, path := range []string{"terms.password_expire_date", "terms.", "rules.senders", "terms.nothing", "name"} {
		_, err = h.policy(box, &pecv1.MailboxPolicy{}, path)
		requireFault(t, err, "FIELD_NOT_CHANGEABLE")
	}
	_, err = h.policy(box, &pecv1.MailboxPolicy{Notice: &pecv1.IncomingNotice{Addresses: []string{"a@beta.test"}}}, "notice.addresses")
	h.believe()
	require.NoError(t, err, "nobody said that it is certified mail")
	_, err = h.policy(box, &pecv1.MailboxPolicy{Notice: &pecv1.IncomingNotice{Addresses: []string{"a@beta.test"}}}, "notice.addresses")
	requireFault(t, err, "ADDRESS_CERTIFIED")
	for _, sender := range []string{"boh", "example.test", "anna@", "a b@c.test", "<anna@example.test>", "@@x.test"} {
		_, err = h.policy(box, &pecv1.MailboxPolicy{Notice: &pecv1.IncomingNotice{Senders: []string{sender}}}, "notice.senders")
		requireFault(t, err, "SENDER_INVALID")
		_, err = h.policy(box, &pecv1.MailboxPolicy{Rules: []*pecv1.MailRule{{Scope: pecv1.RuleScope_RULE_SCOPE_MAIL, Action: pecv1.RuleAction_RULE_ACTION_KEEP, Senders: []string{sender}}}}, "rules")
		requireFault(t, err, "SENDER_INVALID")
	}
	h.invariants(box)
}

// TestG8LogOfMessages: everything that happened to messages, found by identifier, address, time, event and subject, exported
// as a table that no spreadsheet runs, and changed by nobody.
func TestG8LogOfMessages(t *testing.T) {
	h := open(t, quick)
	h.believe()
	from, to := h.add(sender), h.add(recipient)
	h.eventually("both are read", func() bool { return h.box(from).GetSync().GetDone() && h.box(to).GetSync().GetDone() })
	sent, err := h.api.SendMessage(t.Context(), &pecv1.SendMessageRequest{Parent: from.GetName(), To: []string{recipient}, Subject: "=1+1 atto", Text: "y", RequestId: uuid.NewString()})
	require.NoError(t, err)
	h.eventually("delivered", func() bool {
		h.settle()
		return h.get(sent.GetName()).GetState() == pecv1.MessageState_MESSAGE_STATE_DELIVERED
	})
	list := func(f *pecv1.LogFilter) []*pecv1.LogEntry {
		page, err := h.desk().ListLogEntries(t.Context(), &pecv1.ListLogEntriesRequest{Parent: parent + "/mailboxes/-", Filter: f})
		require.NoError(t, err)
		return page.GetEntries()
	}
	events := func(f *pecv1.LogFilter) string {
		var out []string
		for _, e := range list(f) {
			out = append([]string{e.GetEvent()}, out...)
		}
		return strings.Join(out, " ")
	}
	h.eventually("the whole way", func() bool { // receipts may be faster than the record of the answer to the hand-over
		got := events(&pecv1.LogFilter{Identifier: sent.GetMessageId()})
		return strings.Count(got, "received") == 3 && strings.Contains(got, "submitted")
	})
	way := events(&pecv1.LogFilter{Identifier: "<" + sent.GetMessageId() + ">"})
	for _, want := range []string{"queued", "submitted", "accepted", "delivered"} {
		require.Equal(t, 1, strings.Count(way, want), way)
	}
	accepted := list(&pecv1.LogFilter{Event: "accepted"})
	require.Len(t, accepted, 1)
	require.Equal(t, "accettazione proven", accepted[0].GetType()+" "+accepted[0].GetProof())
	require.NotEmpty(t, accepted[0].GetReceipt())
	require.NotNil(t, accepted[0].GetCertifiedTime())
	require.Len(t, list(&pecv1.LogFilter{Identifier: accepted[0].GetProviderId(), Event: "delivered"}), 1)
	require.NotEmpty(t, list(&pecv1.LogFilter{Address: strings.ToUpper(recipient)}))
	require.Empty(t, list(&pecv1.LogFilter{Address: "nessuno@alfa.test"}))
	require.Empty(t, list(&pecv1.LogFilter{StartTime: stampOf(time.Now().Add(time.Hour))}))
	require.NotEmpty(t, list(&pecv1.LogFilter{Subject: "ATTO", Type: "posta-certificata"}))
	_, err = h.desk().ListLogEntries(t.Context(), &pecv1.ListLogEntriesRequest{Parent: from.GetName(), Filter: &pecv1.LogFilter{Event: "boh"}})
	requireFault(t, err, "EVENT_UNKNOWN")

	stream, err := h.desk().ExportLog(t.Context(), &pecv1.ExportLogRequest{Parent: parent + "/mailboxes/-"})
	require.NoError(t, err)
	raw := drain(t, func() ([]byte, error) { r, err := stream.Recv(); return r.GetData(), err })
	rows, err := csv.NewReader(raw).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, len(list(nil))+1)
	require.Equal(t, "'=1+1 atto", rows[1][9], "a formula is none")
	require.Error(t, h.DB("pec-gateway").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE log_entry SET subject = 'altro'`)
		return err
	}))
	require.Zero(t, h.query(`SELECT (SELECT count(*) FROM message WHERE direction = 1) + (SELECT count(*) FROM fact) - (SELECT count(*) FROM log_entry)`), "nothing is left out")
	h.invariants(from, to)
}

// inCustody plays the archive: it says of a message or a day that it is in custody, and sealed.
func (h *house) inCustody(subject, unit string, sealed bool) {
	h.t.Helper()
	events := []proto.Message{&conservationv1.UnitTakenInCharge{Unit: unit, Subject: subject, Time: timestamppb.Now()}}
	if sealed {
		events = append(events, &conservationv1.UnitPreserved{Unit: unit, Subject: subject, Package: parent + "/packages/p1"})
	}
	require.NoError(h.t, h.DB("probe").Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		for _, ev := range events {
			if err := h.Host("probe").Bus.Emit(bus.WithCorrelation(ctx, subject), tx, ev); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestG1DaysAreHandedOver: everything that a mailbox sent and received, day by day and each message once, with a register
// that names all of it by the SHA-256 of its bytes, and the register before it by its own; what comes late is in the next set; days on which nobody looked are closed in their order.
func TestG1DaysAreHandedOver(t *testing.T) {
	h := open(t, quick)
	rome, err := time.LoadLocation("Europe/Rome")
	require.NoError(t, err)
	y, m, d := time.Now().In(rome).Date()
	h.ahead.Store(int64(time.Until(time.Date(y, m, d+1, 12, 0, 0, 0, rome)))) // at noon: for some time after midnight the day before is open
	h.believe()
	h.inject(recipient, plain("prima dell'accensione"))
	box := h.add(recipient)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	h.ahead.Add(int64(24 * time.Hour)) // what was there is of an earlier day
	_, err = h.policy(box, &pecv1.MailboxPolicy{Preservation: &pecv1.PreservationRule{Daily: true}}, "preservation")
	require.NoError(t, err)
	sent, err := h.api.SendMessage(t.Context(), &pecv1.SendMessageRequest{Parent: box.GetName(), To: []string{sender}, Subject: "nostro", Text: "y", RequestId: uuid.NewString()})
	require.NoError(t, err)
	h.inject(recipient, plain("del giorno"))
	h.kept(box)
	h.eventually("delivered", func() bool {
		h.settle()
		return h.get(sent.GetName()).GetState() == pecv1.MessageState_MESSAGE_STATE_DELIVERED
	})
	h.kept(box)
	h.ahead.Add(int64(3 * 24 * time.Hour))
	days := func() []*pecv1.PreservedDay {
		page, err := h.desk().ListPreservedDays(t.Context(), &pecv1.ListPreservedDaysRequest{Parent: box.GetName()})
		require.NoError(t, err)
		return page.GetDays()
	}
	h.eventually("three days are closed", func() bool { return len(heard[*pecv1.MailboxDayClosed](h)) == 3 })
	list := days()
	require.Len(t, list, 3)
	require.EqualValues(t, 0, list[0].GetMessages())
	require.EqualValues(t, 4, list[2].GetMessages(), "what we sent, its two receipts, and what came")
	h.eventually("each is told", func() bool { return len(heard[*pecv1.MessageHandedOver](h)) == 4 })
	once, about := map[string]bool{}, 0
	for _, ev := range heard[*pecv1.MessageHandedOver](h) {
		require.False(t, once[ev.GetMessage()])
		once[ev.GetMessage()] = true
		require.Equal(t, list[2].GetDay(), ev.GetDay())
		require.Len(t, ev.GetContent().GetSha256(), 32)
		if ev.GetAbout() == sent.GetName() {
			about++
			require.Len(t, ev.GetAboutSha256(), 32)
		}
	}
	require.Equal(t, 2, about)
	require.Equal(t, 4, h.registersHold(box))
	require.False(t, list[2].GetComplete(), "nothing is in custody yet")
	for message := range once {
		h.inCustody(message, parent+"/units/"+message[len(message)-36:], true)
	}
	h.inCustody(box.GetName()+"/days/"+list[2].GetDay(), parent+"/units/register", false)
	h.eventually("complete", func() bool { d := days()[2]; return d.GetComplete() && d.GetSealed() == 4 })
	got := h.get(sent.GetName()).GetPreservation()
	require.Equal(t, list[2].GetDay()+" "+parent+"/packages/p1", got.GetDay()+" "+got.GetPackage())

	// Chosen ones: each once, also those of before.
	old := h.list(box, func(r *pecv1.ListMessagesRequest) { r.Subject = "accensione" })[0].GetName()
	for _, want := range []int32{1, 0} {
		out, err := h.desk().PreserveMessages(t.Context(), &pecv1.PreserveMessagesRequest{Parent: box.GetName(), Messages: []string{old, sent.GetName()}})
		require.NoError(t, err)
		require.Equal(t, want, out.GetHandedOver())
	}
	h.eventually("told", func() bool { return len(heard[*pecv1.MessageHandedOver](h)) == 5 })
	h.invariants(box)
	require.Len(t, heard[*pecv1.MailboxDayClosed](h), 3, "closed once each")
}

// TestG1EdgesOfADay: what comes in the last moment of a day in Rome is of that day and what comes in the first of the next is
// not; what is recorded when its day is closed already is in the next set. Each message is in one, also after a restart, and the
// registers of the days are a chain.
func TestG1EdgesOfADay(t *testing.T) {
	t.Parallel()
	h := open(t, quick)
	h.believe()
	box := h.add(recipient)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	rome, err := time.LoadLocation("Europe/Rome")
	require.NoError(t, err)
	y, m, d := time.Now().In(rome).Date()
	noon := func(days int) time.Time { return time.Date(y, m, d+days, 12, 0, 0, 0, rome) }
	midnight := time.Date(y, m, d+2, 0, 0, 0, 0, rome)
	comes := func(subject string, at time.Time) {
		h.inject(recipient, plain(subject))
		h.kept(box)
		h.execute(`UPDATE message SET receive_time = $2 WHERE subject = $1`, subject, at)
	}
	h.ahead.Store(int64(time.Until(noon(1))))
	comes("ultimo", midnight.Add(-time.Microsecond))
	comes("primo", midnight)
	_, err = h.policy(box, &pecv1.MailboxPolicy{Preservation: &pecv1.PreservationRule{Daily: true}}, "preservation")
	require.NoError(t, err)
	sets := func(days int) map[string][]string {
		h.eventually("the days are closed", func() bool { return len(heard[*pecv1.MailboxDayClosed](h)) == days })
		out := map[string][]string{}
		h.eventually("and told", func() bool {
			clear(out)
			n := int64(0)
			for _, ev := range heard[*pecv1.MailboxDayClosed](h) {
				n += ev.GetMessageCount()
			}
			for _, ev := range heard[*pecv1.MessageHandedOver](h) {
				out[ev.GetDay()] = append(out[ev.GetDay()], ev.GetTitle())
			}
			return int64(len(heard[*pecv1.MessageHandedOver](h))) == n
		})
		return out
	}
	day := func(days int) string { return noon(days).Format(time.DateOnly) }
	h.ahead.Store(int64(time.Until(noon(2))))
	require.Equal(t, map[string][]string{day(1): {"ultimo"}}, sets(1))
	comes("in ritardo", noon(1))
	h.ahead.Store(int64(time.Until(noon(3))))
	got := sets(2)
	require.ElementsMatch(t, []string{"primo", "in ritardo"}, got[day(2)])
	require.Equal(t, []string{"ultimo"}, got[day(1)])
	require.Equal(t, 3, h.registersHold(box))

	// Once more, by another process, and then the next day: what is closed stays as it is.
	h.Stop()
	h.start()
	comes("il giorno dopo", noon(3))
	h.ahead.Store(int64(time.Until(noon(4))))
	again := sets(3)
	require.Equal(t, []string{"il giorno dopo"}, again[day(3)])
	delete(again, day(3))
	require.Equal(t, got, again)
	require.Equal(t, 4, h.registersHold(box))
	h.invariants(box)
}

// TestPresets: the providers whose servers are known, with what to know of them.
func TestPresets(t *testing.T) {
	h := open(t, "")
	got, err := h.desk().ListProviderPresets(t.Context(), &pecv1.ListProviderPresetsRequest{})
	require.NoError(t, err)
	byName := map[string]*pecv1.ProviderPreset{}
	for _, p := range got.GetPresets() {
		byName[p.GetProvider()] = p
		require.NotEmpty(t, p.GetNote(), p.GetProvider())
	}
	require.Len(t, byName, 6)
	require.Equal(t, "imaps.pec.aruba.it:993", byName["aruba"].GetServers().GetImap())
	require.EqualValues(t, 6, byName["legalmail"].GetPerMinute())
	require.Empty(t, byName["generic"].GetServers().GetImap())
}
