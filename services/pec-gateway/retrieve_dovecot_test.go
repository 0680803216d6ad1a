package pecgateway_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/client"
)

// TestB1UIDValidityAtDovecot: Dovecot forgets its numbers while new mail comes; what is known by its bytes is not
// received twice and nothing is missed. B2, B5: read by another, the same bytes copied by another, flags as they were.
func TestB1UIDValidityAtDovecot(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{Prefix: "INBOX."})
	h.believe()
	h.account(recipient)
	h.deliver(recipient, plain("letto"), dovecot.Delivery{Flags: "S"})
	for i := range 40 {
		h.deliver(recipient, plain(fmt.Sprintf("m%d", i)))
	}
	box := h.keep(recipient)
	h.kept(box)
	other := h.stranger(recipient)
	other.say("CREATE INBOX.Copie")
	other.say("SELECT INBOX")
	other.say("UID COPY 1:3 INBOX.Copie")
	other.say(`UID STORE 2 +FLAGS.SILENT (\Seen \Flagged)`)
	other.say("LOGOUT")
	require.NoError(t, h.dovecot.ChangeUIDValidity(t.Context(), recipient))
	h.deliver(recipient, plain("nuovo"))
	h.kept(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 42)
	h.eventually("both numbers of a message are known", func() bool {
		return h.query(`SELECT count(DISTINCT uid_validity) FROM location WHERE folder = 'INBOX'`) == 2
	})
	require.Positive(t, h.query(`SELECT count(*) FROM location WHERE folder = 'INBOX.Copie'`))
	h.invariants(box)
}

// TestB1NumbersGivenAgain: a server that was put back to an earlier day gives numbers again that it had given, under the same
// UIDVALIDITY. What comes under them is received, what is known is not received twice, and each number leads to what stands there now.
func TestB1NumbersGivenAgain(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	h.stranger(recipient).say("CREATE Archivio")
	for _, folder := range []string{"", "Archivio"} {
		h.deliver(recipient, plain("prima"+folder), dovecot.Delivery{Folder: folder})
		h.deliver(recipient, plain("seconda"+folder), dovecot.Delivery{Folder: folder})
	}
	box := h.keep(recipient)
	h.kept(box)
	h.lookedAgain(box)
	require.NoError(t, h.pauseReading(box))
	// As if four more had been read before: the server does not know of them, nor that it gave their numbers.
	h.execute(`UPDATE folder SET next_uid = 7`)
	h.execute(`INSERT INTO location (tenant_id, mailbox_id, folder, uid_validity, uid, message_id)
		SELECT tenant_id, mailbox_id, folder, uid_validity, '3', message_id FROM location WHERE uid = '1'`)
	for _, folder := range []string{"", "Archivio"} {
		h.deliver(recipient, plain("terza"+folder), dovecot.Delivery{Folder: folder})
	}
	_, err := h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	h.kept(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 6)
	require.Equal(t, 2, h.query(`SELECT count(*) FROM folder WHERE next_uid = 4`))
	require.Equal(t, 2, h.query(`SELECT count(*) FROM location l JOIN message m ON m.id = l.message_id WHERE l.uid = '3' AND m.subject LIKE 'terza%'`))
	h.invariants(box)
}

// TestB3AnotherProgramDeletes: between our search and our fetch another program deletes one message and moves
// another; they are passed over, nobody is alarmed, the cursor is behind them, and who looks at the mailbox sees that they were there.
func TestB3AnotherProgramDeletes(t *testing.T) {
	t.Parallel()
	// The fetch waits for the other program. On a machine without a processor to spare that takes longer than a gateway of these
	// tests waits for its server, or keeps a mailbox: a second visit, of which TestB3VisitRepeated tells, would be another case.
	h := openDovecot(t, "", dovecot.Options{}, func(o *runtest.Options) {
		o.Config = strings.NewReplacer("timeout: 5s", "timeout: 1m", "lease: 2s", "lease: 1m").Replace(o.Config)
	})
	w, box := h.deletedMeanwhile(false)
	require.GreaterOrEqual(t, len(h.list(box)), 10, "two were deleted before they were fetched, unless the server still had them")
	require.Equal(t, 13, h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`))
	require.Equal(t, 1, w.connections(), "one visit")
	var missed []string // the server may still give what it was told to remove
	for _, uid := range []int{3, 5, 12} {
		if h.query(`SELECT count(*) FROM location WHERE folder = 'INBOX' AND uid = $1`, fmt.Sprint(uid)) == 0 {
			missed = append(missed, fmt.Sprint("INBOX ", uid))
		}
	}
	require.Equal(t, missed, h.went(box))
	h.deliver(recipient, plain("dopo"))
	h.kept(box)

	// What comes and goes between two looks leaves a gap, and is seen by it.
	require.NoError(t, h.pauseReading(box))
	h.eventually("nobody reads it", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.open) == 0 })
	other := h.stranger(recipient)
	for _, subject := range []string{"fugace", "fugace anch'essa", "resta"} {
		h.deliver(recipient, plain(subject))
	}
	other.say("SELECT INBOX")
	other.say(`UID STORE 14:15 +FLAGS.SILENT (\Deleted)`)
	other.say("UID EXPUNGE 14:15")
	other.say("LOGOUT")
	_, err := h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	h.kept(box)
	require.Equal(t, append(missed, "INBOX 14", "INBOX 15"), h.went(box))
	require.Equal(t, 17, h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`))
	require.Empty(t, heard[*pecv1.MailboxDegraded](h), "a message that somebody deleted is no fault of the mailbox")
	h.invariants(box)
}

// TestB3VisitRepeated: the connection ends in that moment, and the next visit finds neither of the two. The cursor is behind what
// it fetched: the last number, which nobody has any more, is not passed by what the server says of numbers to come (UIDNEXT),
// and what comes after it is received.
func TestB3VisitRepeated(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	_, box := h.deletedMeanwhile(true)
	require.Len(t, h.list(box), 10)
	require.Equal(t, 12, h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`))
	h.deliver(recipient, plain("dopo"))
	h.kept(box)
	require.Len(t, h.list(box), 11)
	require.Equal(t, 14, h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`))
	require.Equal(t, []string{"INBOX 12"}, h.went(box), "the others went before the first reading was over: who knows since when")
	require.Empty(t, heard[*pecv1.MailboxDegraded](h))
	h.invariants(box)
}

// went are the numbers that the gateway never got; what is shown of the mailbox counts them, and the audit trail names each once.
func (h *house) went(box *pecv1.Mailbox) []string {
	h.t.Helper()
	id := box.GetName()[strings.LastIndex(box.GetName(), "/")+1:]
	var out []string
	var named int
	require.NoError(h.t, h.DB("pec-gateway").System(h.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT folder || ' ' || uid FROM gone WHERE mailbox_id = $1 ORDER BY folder, uid`, uuid.MustParse(id))
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT count(*) FROM audit_entry, regexp_split_to_table(detail->>'uids', ' ') WHERE action = 'mailbox.gone' AND resource = $1`, box.GetName()).Scan(&named)
	}))
	got := h.box(box).GetCounts()
	require.EqualValues(h.t, len(out), got.GetGone())
	require.Equal(h.t, len(out), named)
	require.Equal(h.t, len(out) > 0, got.GetGoneTime() != nil)
	return out
}

// pauseReading puts a mailbox to rest: who reads it just now writes nothing down any more.
func (h *house) pauseReading(box *pecv1.Mailbox) error {
	_, err := h.api.SuspendMailbox(h.t.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()})
	return err
}

// deletedMeanwhile has twelve messages read over a wire. When they are fetched, another program deletes the third and the last
// and moves the fifth; then the fetch goes on, or the connection ends.
func (h *house) deletedMeanwhile(cut bool) (*wire, *pecv1.Mailbox) {
	h.t.Helper()
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	for i := range 12 {
		h.deliver(recipient, plain(fmt.Sprintf("m%d", i)))
	}
	other := h.stranger(recipient)
	other.say("CREATE Spostati")
	other.say("SELECT INBOX")
	var once atomic.Bool
	w.when(func(line string, near net.Conn) bool {
		if !strings.Contains(line, "UID FETCH") || once.Swap(true) {
			return false
		}
		other.say(`UID STORE 3,12 +FLAGS.SILENT (\Deleted)`)
		other.say("UID EXPUNGE 3,12")
		other.say("UID MOVE 5 Spostati")
		other.say("LOGOUT")
		if cut {
			_ = near.Close()
		}
		return cut
	})
	box := h.keep(recipient, through(w))
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	h.kept(box)
	h.eventually("what was moved is found where it is now", func() bool {
		return h.query(`SELECT count(*) FROM location WHERE folder = 'Spostati'`) == 1
	})
	return w, box
}

// TestB4BrokenConversations: the server says goodbye, refuses one message, writes nonsense behind an answer. Only
// the message at fault is tried again, and no goroutine stays behind.
func TestB4BrokenConversations(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	for i := range 6 {
		h.deliver(recipient, plain(fmt.Sprintf("m%d", i)))
	}
	var step atomic.Int32
	w.when(func(line string, to net.Conn) bool {
		tag, rest, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(rest, "UID FETCH") {
			return false
		}
		said := ""
		switch step.Add(1) {
		case 1:
			said = "* BYE shutting down\r\n"
		case 2:
			said = tag + " OK done\r\n%% nonsense (\r\n"
		case 3:
			said = tag + " NO [SERVERBUG] one of them cannot be read\r\n"
		case 4:
			said = "* 1 FETCH (UID 1 BODY[] {5000}\r\nhalf of it"
		default:
			return false
		}
		_, _ = to.Write([]byte(said))
		if n := step.Load(); n == 1 || n == 4 {
			_ = to.Close()
		}
		return true
	})
	box := h.keep(recipient, through(w))
	h.kept(box)
	require.GreaterOrEqual(t, step.Load(), int32(4))
	require.Len(t, h.list(box), 6)
	h.invariants(box)
	_, err := h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	h.Stop() // together with other tests of the package: this one's connections end with the process at the latest
	h.eventually("no connection of the gateway is left", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.open) == 0
	})
}

// TestB6StoppedBeforeTheRecord: the bytes are in the archive and the gateway ends before the transaction that
// records them. The next one finds them there and receives each message once.
func TestB6StoppedBeforeTheRecord(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	box := h.keep(recipient)
	h.lookedAgain(box)
	tx, err := pgtest.Admin(t, h.DB("pec-gateway")).Begin(context.Background())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE message IN SHARE MODE`) // it is read, and no message is recorded from here on
	require.NoError(t, err)
	var want []string
	for i := range 5 {
		text := plain(fmt.Sprintf("m%d", i))
		want = append(want, hexSum([]byte(text)))
		h.deliver(recipient, text)
	}
	archived := func() int {
		n := 0
		for _, sum := range want {
			if _, err := os.Stat(filepath.Join(h.opts.Dir, "blobs", "tenants", tenant, sum[:2], sum)); err == nil {
				n++
			}
		}
		return n
	}
	h.eventually("they are in the archive", func() bool { return archived() > 0 })
	require.Zero(t, h.query(`SELECT count(*) FROM message`))
	stopped := make(chan struct{})
	go func() { h.Stop(); close(stopped) }()
	h.eventually("the gateway lets go", func() bool {
		select {
		case <-stopped:
			return true
		default:
			return false
		}
	})
	require.NoError(t, tx.Rollback(context.Background()))
	h.start()
	h.kept(box)
	require.Equal(t, 5, archived())
	require.Len(t, h.list(box), 5)
	h.eventually("each is told once", func() bool { return len(heard[*pecv1.MessageReceived](h)) == 5 })
	h.invariants(box)
}

// TestB7SilentConnection: a connection dies without a word while the gateway waits for announcements: what it says is swallowed,
// and nobody hangs up. That is found out at the first thing that it says, and the first look over another connection brings
// everything that came meanwhile. (By the clock: TestB7HalfOpen, TestB7IdleLimit, TestB7WaitsEndWithinALook.)
func TestB7SilentConnection(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{}, func(o *runtest.Options) {
		o.Config = strings.Replace(o.Config, "timeout: 5s", "timeout: 1s", 1)
	})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	box := h.keep(recipient, through(w))
	h.deliver(recipient, plain("prima"))
	h.kept(box)
	var mu sync.Mutex
	var swallowed []string
	there := map[net.Conn][]int{} // messages that were here when each look over another connection began
	var coming sync.RWMutex       // no look begins while messages come
	w.when(func(line string, near net.Conn) bool {
		looks := strings.Contains(line, " LIST ")
		n := 0
		if looks {
			coming.RLock()
			defer coming.RUnlock()
			n = h.query(`SELECT count(*) FROM message`)
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case w.silent(near):
			swallowed = append(swallowed, strings.TrimSpace(line))
		case looks:
			there[near] = append(there[near], n)
		}
		return false
	})
	before := w.connections()
	func() {
		coming.Lock()
		defer coming.Unlock()
		mu.Lock()
		w.freeze()
		clear(there)
		mu.Unlock()
		for i := range 3 {
			h.deliver(recipient, plain(fmt.Sprintf("dopo%d", i)))
		}
	}()
	h.kept(box)
	var twice []int // a machine that is busy may not answer in time on one, and then there is a third connection
	h.eventually("a second look over one of them", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, looks := range there {
			if len(looks) >= 2 && (twice == nil || looks[0] < twice[0]) {
				twice = looks
			}
		}
		return twice != nil
	})
	mu.Lock()
	require.LessOrEqual(t, len(swallowed), 1, "%q: one word without an answer is enough", swallowed)
	require.Equal(t, 4, twice[1], "the first look brings everything")
	if len(there) == 1 {
		require.Equal(t, 1, twice[0])
	}
	mu.Unlock()
	require.Greater(t, w.connections(), before)
	require.Len(t, h.list(box), 4)
	h.invariants(box)
}

// TestB9Sizes: the server announces a wrong size; the message is received whole, and the difference is said. A large
// message of another program goes through a file, not through memory. (A hundred MB: TestB9HundredMegabytes, soak.)
func TestB9Sizes(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	h.deliver(recipient, plain("bugia"))
	large := append([]byte(strings.ReplaceAll(plain("grande"), "\n", "\r\n")), bytes.Repeat([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"), 5<<20/64)...)
	h.stranger(recipient).store("INBOX", "", large)
	w := h.wireTo(h.dovecot.IMAPS())
	w.alter(func(said []byte) []byte {
		return bytes.Replace(said, []byte("(UID 1 RFC822.SIZE 1"), []byte("(UID 1 RFC822.SIZE 9"), 1)
	})
	box := h.keep(recipient, through(w))
	h.kept(box)
	doubts := map[string]string{}
	for _, m := range h.list(box) {
		doubts[m.GetSubject()] = strings.Join(m.GetDoubts(), " ")
	}
	require.Contains(t, doubts["bugia"], "SIZE_DIFFERS")
	require.NotContains(t, doubts["grande"], "SIZE_DIFFERS")
	h.invariants(box)
}

// TestB9ServerStumbles: Dovecot hangs up at a message whose size it has written down wrongly. The mailbox goes on
// without it, its owner is told once, and when the provider has mended it the message comes. I4.
func TestB9ServerStumbles(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	h.deliver(recipient, plain("prima"))
	h.deliver(recipient, plain("guasta"), dovecot.Delivery{Size: 50})
	h.deliver(recipient, plain("dopo"))
	box := h.keep(recipient)
	h.eventually("the mailbox goes on without it", func() bool { return len(h.list(box)) == 2 && h.degraded("MESSAGE_UNFETCHABLE") == 1 })
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	require.NoError(t, h.dovecot.Repair(recipient))
	h.kept(box)
	h.eventually("it is not behind any more", func() bool { return h.query(`SELECT count(*) FROM unfetched`) == 0 })
	require.Equal(t, 1, h.degraded("MESSAGE_UNFETCHABLE"))
	h.invariants(box)
}

// TestB10Folders: a prefix, a name beyond ASCII, a folder that a rule of the webmail moves receipts to, the folder of
// what was sent: everything is read, what stands among the sent is told to nobody as received.
func TestB10Folders(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{Prefix: "INBOX."})
	h.believe()
	h.account(sender)
	other := h.stranger(sender)
	for _, folder := range []string{"Ricevute.2026", "Sent", "Attivit&AOA- conclusa", "Posta inviata"} {
		other.say(fmt.Sprintf("CREATE %q", "INBOX."+folder))
	}
	box := h.keep(sender)
	name := h.sent(box, "nostra@alfa.test", recipient)
	h.deliver(sender, h.receiptBytes(client.PECForge{Tipo: "accettazione", MsgID: "nostra@alfa.test", Recipient: recipient, How: "valid"}),
		dovecot.Delivery{Folder: "Ricevute.2026"})
	h.deliver(sender, plain("spedita"), dovecot.Delivery{Folder: "Sent"})
	h.deliver(sender, plain("archiviata"), dovecot.Delivery{Folder: "Attivit&AOA- conclusa"})
	h.deliver(sender, plain("italiana"), dovecot.Delivery{Folder: "Posta inviata"})
	h.deliver(sender, plain("normale"))
	h.kept(box)
	h.eventually("the receipt counts wherever it stands", func() bool { return h.get(name).GetState() == pecv1.MessageState_MESSAGE_STATE_ACCEPTED })
	folders := map[string]bool{}
	for _, m := range h.receipts(box) {
		folders[m.GetFolder()] = true
	}
	for _, want := range []string{"INBOX", "INBOX.Ricevute.2026", "INBOX.Sent", "INBOX.Attività conclusa", "INBOX.Posta inviata"} {
		require.True(t, folders[want], "%s among %v", want, folders)
	}
	h.eventually("four are told", func() bool { return len(heard[*pecv1.MessageReceived](h)) == 4 })
	h.invariants(box)
}

// TestB10SentFolderWithoutAMark: the server says of no folder that it is the one of what was sent (RFC 6154), so its name says it. What the
// owner sent with another program is kept, told to nobody as received, and no rule sends it on.
func TestB10SentFolderWithoutAMark(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, quick, dovecot.Options{Prefix: "INBOX."})
	h.believe()
	h.account(sender)
	other := h.stranger(sender)
	for _, folder := range []string{"Sent", "Posta inviata", "Clienti", "Clienti.Inviata"} {
		other.say(fmt.Sprintf("CREATE %q", "INBOX."+folder))
	}
	w := h.wireTo(h.dovecot.IMAPS())
	w.alter(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`\Sent`), []byte(`\Marked`)) })
	box := h.keep(sender, through(w))
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	_, err := h.policy(box, &pecv1.MailboxPolicy{Rules: []*pecv1.MailRule{{
		Scope: pecv1.RuleScope_RULE_SCOPE_ORDINARY, Action: pecv1.RuleAction_RULE_ACTION_FORWARD, ForwardTo: "anna@o.test"}}}, "rules")
	require.NoError(t, err)
	h.deliver(sender, plain("spedita"), dovecot.Delivery{Folder: "Sent"})
	h.deliver(sender, plain("inviata"), dovecot.Delivery{Folder: "Posta inviata"})
	h.deliver(sender, plain("del cliente"), dovecot.Delivery{Folder: "Clienti.Inviata"})
	h.deliver(sender, plain("normale"))
	h.kept(box)
	told := func() (out []string) {
		for _, ev := range heard[*pecv1.ForwardDue](h) {
			out = append(out, ev.GetTitle())
		}
		slices.Sort(out)
		return out
	}
	h.eventually("two are sent on", func() bool { return len(told()) >= 2 })
	h.lookedAgain(box)
	require.Equal(t, []string{"del cliente", "normale"}, told(), "a folder of that name inside another is its owner's own")
	require.Len(t, heard[*pecv1.MessageReceived](h), 2)
	h.invariants(box)
}

// TestB12AppendedForgery: another program stores a forged receipt, with the flags of one that was read. It moves
// nothing.
func TestB12AppendedForgery(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	box := h.keep(sender)
	name := h.sent(box, "nostra@alfa.test", recipient)
	other := h.stranger(sender)
	for _, how := range []string{"unsigned", "wrong_signer", "bad_signature", "broken_mime"} {
		raw := h.receiptBytes(client.PECForge{Tipo: "avvenuta-consegna", MsgID: "nostra@alfa.test", Recipient: recipient, How: how})
		other.store("INBOX", `\Seen`, []byte(raw))
	}
	h.kept(box)
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, h.get(name).GetState())
	for _, m := range h.receipts(box) {
		require.False(t, m.GetProven())
		require.NotEmpty(t, m.GetDoubts())
	}
	require.Empty(t, heard[*pecv1.ReceiptVerified](h))
	h.invariants(box)
}

// TestB13QuotaAtDovecot: each level is told once as the mailbox fills, and once more after room was made; a server
// that does not speak of room leaves it unknown.
func TestB13QuotaAtDovecot(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{QuotaKiB: 1000})
	h.believe()
	box := h.keep(recipient)
	fill := func(name string, kib int) {
		h.deliver(recipient, plain(name)+strings.Repeat(strings.Repeat("0", 1022)+"\n", kib-1)+"\n")
	}
	level := func(want pecv1.QuotaLevel) {
		h.eventually(want.String(), func() bool { return h.box(box).GetQuota().GetLevel() == want })
	}
	fill("metà", 500)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_GOOD)
	fill("settanta", 220)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_WARNING)
	fill("novanta", 200)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_CRITICAL)
	fill("pieno", 100)
	level(pecv1.QuotaLevel_QUOTA_LEVEL_FULL)
	told := func() int { return h.degraded("MAILBOX_QUOTA") }
	h.eventually("each level is told", func() bool { return told() == 3 })
	h.kept(box)
	other := h.stranger(recipient)
	other.say("SELECT INBOX")
	other.say(`UID STORE 2:3 +FLAGS.SILENT (\Deleted)`)
	other.say("UID EXPUNGE 2:3")
	level(pecv1.QuotaLevel_QUOTA_LEVEL_GOOD)
	h.lookedAgain(box)
	require.Equal(t, 3, told())
	require.Len(t, h.list(box), 4, "what the owner deletes there stays here")
	h.invariants(box)
}

// TestB15LoginThrottled: the provider lets in no more connections of this user. The password is not doubted, pauses
// grow to the longest, there is never more than one connection, somebody is told once, and when there is room again the mailbox is read.
func TestB15LoginThrottled(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{Connections: 1}, func(o *runtest.Options) {
		o.Config = strings.NewReplacer("retry_every: 100ms", "retry_every: 60ms", "retry_most: 400ms", "retry_most: 480ms").Replace(o.Config)
	})
	h.believe()
	h.account(recipient)
	h.deliver(recipient, plain("attesa"))
	other := h.stranger(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	box := h.keep(recipient, through(w))
	h.eventually("it is not let in", func() bool { return h.box(box).GetProblemCode() != "" })
	require.Equal(t, "MAILBOX_SERVER_AWAY", h.box(box).GetProblemCode(), h.box(box).GetProblem())
	require.Empty(t, h.list(box))
	h.eventually("it is tried again and again", func() bool { return w.connections() >= 6 })
	w.mu.Lock()
	times, most := slices.Clone(w.times), w.most
	w.mu.Unlock()
	for i, least := range []time.Duration{60, 120, 240, 480, 480} {
		require.GreaterOrEqual(t, times[i+1].Sub(times[i]), least*time.Millisecond, "pause %d", i+1)
	}
	require.Equal(t, 1, most, "one connection at a time")
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_DEGRADED, h.box(box).GetState())
	h.eventually("somebody is told", func() bool { return h.degraded("MAILBOX_SERVER_AWAY") == 1 })
	require.Zero(t, h.degraded("MAILBOX_AUTH_FAILED"), "the password is not doubted")
	other.say("LOGOUT")
	h.kept(box)
	h.eventually("active", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_ACTIVE })
	require.Equal(t, 1, h.query(`SELECT count(*) FROM mailbox WHERE quota_level = 0`), "no GETQUOTA: unknown")
	h.lookedAgain(box)
	w.mu.Lock()
	require.Equal(t, 1, w.most, "one connection is all that the gateway ever asks for")
	w.mu.Unlock()
	require.Equal(t, 1, h.degraded("MAILBOX_SERVER_AWAY"))
	h.invariants(box)
}

// TestI4OddBytesAtDovecot: what no standard allows comes as the server gives it, is kept so, and stops nothing.
func TestI4OddBytesAtDovecot(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	odd := map[string]string{
		"NUL":           "Subject: nul\n\nuno\x00due\n",
		"8 bit":         "Subject: perch\xe9\n\n\xff\xfe\n",
		"no header":     "\nsolo un corpo\n",
		"no body":       "Subject: solo intestazioni\n",
		"one line":      "x",
		"bare CR":       "Subject: cr\n\nuno\rdue\n",
		"dots":          "Subject: punti\n\n.\n..\n.fine\n",
		"long line":     "Subject: lunga\n\n" + strings.Repeat("a", 200_000) + "\n",
		"long header":   "Subject: " + strings.Repeat("parola ", 5000) + "\n\nciao\n",
		"brace":         "Subject: {10}\n\n{5}\n) a1 OK done\n* BYE\n",
		"many headers":  strings.Repeat("X-Riga: valore\n", 5000) + "\nciao\n",
		"unclosed mime": "Subject: aperta\nContent-Type: multipart/signed; boundary=b\n\n--b\n\nmai chiusa\n",
	}
	for _, text := range odd {
		h.deliver(recipient, text)
	}
	h.stranger(recipient).store("INBOX", `\Draft`, []byte("Subject: lf soltanto\n\nriga\naltra\n"))
	h.deliver(recipient, plain("buona"))
	box := h.keep(recipient)
	h.kept(box)
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	require.EqualValues(t, len(odd)+2, h.box(box).GetCounts().GetMessages())
	require.Empty(t, heard[*pecv1.MailboxDegraded](h))
	h.invariants(box)
}
