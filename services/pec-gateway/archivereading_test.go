package pecgateway_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// oneByOne reads one message in each turn, and begins a new round as soon as one is over.
const oneByOne = "  archive: {every: 20ms, bytes: 1, round_every: 10ms, ask_every: 1h}\n"

// blobOf is the file that has the bytes of a message.
func (h *house) blobOf(m *pecv1.Message) string {
	h.t.Helper()
	sum := hex.EncodeToString(m.GetContent().GetSha256())
	file := filepath.Join(h.opts.Dir, "blobs", "tenants", tenant, sum[:2], sum)
	require.FileExists(h.t, file)
	return file
}

// overwrite puts other bytes into a file behind the store's back.
func (h *house) overwrite(file string, change func(raw []byte) []byte) {
	h.t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(h.t, err)
	require.NoError(h.t, os.Chmod(file, 0o600))
	require.NoError(h.t, os.WriteFile(file, change(bytes.Clone(raw)), 0o600))
}

func flip(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw }

// damaged lists what the archive does not give back, by subject or name; whole again too.
func (h *house) damaged(parent string, repairedToo bool) map[string]*pecv1.DamagedMessage {
	h.t.Helper()
	got, err := h.desk().ListDamagedMessages(h.t.Context(), &pecv1.ListDamagedMessagesRequest{Parent: parent, RepairedToo: repairedToo})
	require.NoError(h.t, err)
	out := map[string]*pecv1.DamagedMessage{}
	for _, d := range got.GetMessages() {
		out[d.GetMessage()] = d
	}
	return out
}

// readThrough waits until everything that is kept was read from its beginning to its end.
func (h *house) readThrough() {
	h.t.Helper()
	reading := func() *pecv1.ArchiveReading {
		got, err := h.desk().ListDamagedMessages(h.t.Context(), &pecv1.ListDamagedMessagesRequest{Parent: parent + "/mailboxes/-"})
		require.NoError(h.t, err)
		return got.GetReading()
	}
	last := reading()
	round := last.GetRound()
	h.eventually("two rounds", func() bool {
		last = reading()
		return last.GetRound() >= round+2
	})
	require.False(h.t, last.GetLastEndTime().AsTime().Before(last.GetLastStartTime().AsTime()))
}

// bytesOf reads a message from the archive.
func (h *house) bytesOf(m *pecv1.Message) ([]byte, error) {
	stream, err := h.api.GetMessageContent(h.t.Context(), &pecv1.GetMessageContentRequest{Name: m.GetName()})
	require.NoError(h.t, err)
	var out []byte
	for {
		part, err := stream.Recv()
		if err != nil {
			return out, err
		}
		out = append(out, part.GetData()...)
	}
}

// TestG2FlippedBitIsFoundAndMended: bytes in the archive change while nobody reads them. The reading of everything finds each, over
// IMAP and over POP3; it is told once for a mailbox, shown in the hub, and what its provider still has is fetched again, if it has
// the hash that was written down when it came. What the provider has no more waits for somebody who restores it. TESTPLAN G2.
func TestG2FlippedBitIsFoundAndMended(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, oneByOne, dovecot.Options{})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	for _, name := range []string{"girato", "troncato", "perso", "altrove", "cancellato", "sano"} {
		h.deliver(recipient, plain(name))
	}
	h.account("pop@beta.test")
	h.deliver("pop@beta.test", plain("pop"))
	box, pop := h.keep(recipient, through(w)), h.keep("pop@beta.test", overPOP3)
	h.kept(box, pop)
	bySubject := map[string]*pecv1.Message{}
	for _, m := range append(h.list(box), h.list(pop)...) {
		bySubject[m.GetSubject()] = m
	}
	sent := h.get(h.sent(box, "nostra@alfa.test", sender))
	bySubject["nostra"] = sent
	h.readThrough()
	require.Empty(t, h.damaged(parent+"/mailboxes/-", true))

	// Nobody looks into the mailboxes while the archive is damaged.
	pause := func() {
		for _, b := range []*pecv1.Mailbox{box, pop} {
			_, err := h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: b.GetName()})
			require.NoError(t, err)
		}
	}
	resume := func() {
		for _, b := range []*pecv1.Mailbox{box, pop} {
			_, err := h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: b.GetName()})
			require.NoError(t, err)
		}
	}
	pause()
	other := h.stranger(recipient)
	other.say("SELECT INBOX")
	other.say(`UID STORE 5 +FLAGS.SILENT (\Deleted)`)
	other.say("UID EXPUNGE 5")
	other.say("LOGOUT")
	whole := map[string][]byte{}
	for name, m := range bySubject {
		raw, err := os.ReadFile(h.blobOf(m))
		require.NoError(t, err)
		whole[name] = raw
	}
	for _, name := range []string{"girato", "altrove", "cancellato", "nostra", "pop"} {
		h.overwrite(h.blobOf(bySubject[name]), flip)
	}
	h.overwrite(h.blobOf(bySubject["troncato"]), func(raw []byte) []byte { return raw[:len(raw)-7] })
	require.NoError(t, os.Remove(h.blobOf(bySubject["perso"])))
	h.eventually("each is found", func() bool { return len(h.damaged(parent+"/mailboxes/-", false)) == 7 })
	h.readThrough()
	require.Len(t, h.damaged(parent+"/mailboxes/-", true), 7, "and no other")
	for name, code := range map[string]string{"girato": "BLOB_CORRUPT", "troncato": "BLOB_CORRUPT", "perso": "BLOB_NOT_FOUND", "nostra": "BLOB_CORRUPT", "pop": "BLOB_CORRUPT"} {
		require.Equal(t, code, h.damaged(parent+"/mailboxes/-", false)[bySubject[name].GetName()].GetCode(), name)
	}
	require.Len(t, h.damaged(pop.GetName(), false), 1)
	h.eventually("one is told for each mailbox", func() bool { return h.degraded("ARCHIVE_DAMAGED") == 2 })
	hub, err := h.desk().GetHub(t.Context(), &pecv1.GetHubRequest{Parent: parent})
	require.NoError(t, err)
	for _, e := range hub.GetEntries() {
		require.Contains(t, e.GetTroubles(), "ARCHIVE_DAMAGED")
		require.EqualValues(t, map[string]int{box.GetName(): 6, pop.GetName(): 1}[e.GetMailbox()], e.GetDamaged())
	}
	require.Equal(t, 7, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'message.damaged'`))

	// One comes over the wire as something else: that is not what came.
	var lie atomic.Bool
	lie.Store(true)
	w.alter(func(said []byte) []byte {
		if lie.Load() {
			return bytes.Replace(said, []byte("Subject: altrove"), []byte("Subject: altrovE"), 1)
		}
		return said
	})
	resume()
	repaired := func(names ...string) {
		for _, name := range names {
			h.eventually(name+" is mended", func() bool {
				return h.damaged(parent+"/mailboxes/-", true)[bySubject[name].GetName()].GetRepairTime() != nil
			})
			require.Equal(t, "PROVIDER", h.damaged(parent+"/mailboxes/-", true)[bySubject[name].GetName()].GetRepairedFrom())
			raw, err := h.bytesOf(bySubject[name])
			require.ErrorContains(t, err, "EOF")
			require.Equal(t, whole[name], raw)
		}
	}
	repaired("girato", "troncato", "perso", "pop")
	h.lookedAgain(box)
	open := h.damaged(box.GetName(), false)
	require.Len(t, open, 3, "%v", open)
	require.NotNil(t, open[bySubject["altrove"].GetName()].GetAskTime(), "the provider was asked")
	for _, name := range []string{"cancellato", "nostra"} {
		require.Contains(t, open, bySubject[name].GetName())
	}
	lie.Store(false)
	h.ahead.Add(int64(2 * time.Hour)) // it is asked again
	repaired("altrove")

	// The rest is restored by hand.
	for _, name := range []string{"cancellato", "nostra"} {
		h.overwrite(h.blobOf(bySubject[name]), func([]byte) []byte { return whole[name] })
	}
	h.eventually("the store gives them back", func() bool { return len(h.damaged(parent+"/mailboxes/-", false)) == 0 })
	require.Equal(t, "STORE", h.damaged(box.GetName(), true)[sent.GetName()].GetRepairedFrom())
	require.Equal(t, 7, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'message.repaired'`))
	require.Equal(t, 2, h.degraded("ARCHIVE_DAMAGED"))
	pause() // the server forgets the numbers of one mailbox at a time, and is away for the other
	for _, b := range []*pecv1.Mailbox{box, pop} {
		_, err = h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: b.GetName()})
		require.NoError(t, err)
		h.lookedAgain(b)
		h.invariants(b)
		_, err = h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: b.GetName()})
		require.NoError(t, err)
	}
}

// TestG2FoundBeforeItWasMended: a message is found damaged, and put back before that is written down. It is whole then: what was found
// is of before. TESTPLAN G2.
func TestG2FoundBeforeItWasMended(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, oneByOne, dovecot.Options{})
	h.believe()
	box := h.keep(recipient)
	h.deliver(recipient, plain("girato"))
	h.kept(box)
	_, err := h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()}) // nobody fetches it again
	require.NoError(t, err)
	m := h.list(box)[0]
	whole, err := os.ReadFile(h.blobOf(m))
	require.NoError(t, err)
	admin := pgtest.Admin(t, h.DB("pec-gateway"))
	id := m.GetName()[strings.LastIndex(m.GetName(), "/")+1:]
	noted := func(action string) int {
		return h.query(`SELECT count(*) FROM audit_entry WHERE action = $1 AND resource = $2`, action, m.GetName())
	}

	// Once for a message that was never damaged, once for one that is known to be, once for one that was mended before.
	for i, known := range []bool{false, true, false} {
		before := noted("message.damaged")
		if known {
			h.overwrite(h.blobOf(m), flip)
			h.eventually("it is known", func() bool { return len(h.damaged(box.GetName(), false)) == 1 })
			before++
		}
		tx, err := admin.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `SELECT FROM message WHERE id = $1 FOR UPDATE`, id)
		require.NoError(t, err)
		if !known {
			h.overwrite(h.blobOf(m), flip)
		}
		h.eventually("what was found is about to be noted", func() bool {
			var n int
			require.NoError(t, admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE $1::integer = ANY (pg_blocking_pids(pid))`, tx.Conn().PgConn().PID()).Scan(&n))
			return n == 1
		})
		h.overwrite(h.blobOf(m), func([]byte) []byte { return whole })
		_, err = tx.Exec(t.Context(), `INSERT INTO damaged_message (tenant_id, message_id, mailbox_id, code, reason, find_time, look_time, repair_time, repaired_from)
			SELECT tenant_id, id, mailbox_id, 'BLOB_CORRUPT', '', now(), now(), now(), 'PROVIDER' FROM message WHERE id = $1
			ON CONFLICT (tenant_id, message_id) DO UPDATE SET repair_time = now(), repaired_from = 'PROVIDER'`, id)
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
		h.readThrough()
		require.Empty(t, h.damaged(box.GetName(), false), i)
		require.Equal(t, "PROVIDER", h.damaged(box.GetName(), true)[m.GetName()].GetRepairedFrom(), i)
		require.Equal(t, before, noted("message.damaged"), i)
		require.Zero(t, noted("message.repaired"), i)
	}
	h.overwrite(h.blobOf(m), flip)
	before := noted("message.damaged")
	h.eventually("it is damaged again, and that is told", func() bool { return len(h.damaged(box.GetName(), false)) == 1 })
	require.Equal(t, before+1, noted("message.damaged"))
}

// TestG2ReadingGoesOn: the reading of what is kept ends in the middle of a round and goes on there; a round reads each message
// once. While the store is away nothing is taken for damaged. TESTPLAN G2.
func TestG2ReadingGoesOn(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, strings.Replace(oneByOne, "every: 20ms", "every: 50ms", 1), dovecot.Options{})
	h.believe()
	box := h.keep(recipient)
	const messages = 12
	for i := range messages {
		h.deliver(recipient, plain("m"+string(rune('a'+i))))
	}
	h.kept(box)
	admin, schema := pgtest.Admin(t, h.DB("pec-gateway")), h.DB("pec-gateway").Schema()
	for _, statement := range []string{
		`CREATE TABLE test_read (n bigserial, round bigint, messages bigint, at_message text)`, `GRANT SELECT ON test_read TO PUBLIC`,
		`CREATE FUNCTION test_read() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			INSERT INTO ` + schema + `.test_read (round, messages, at_message) VALUES (NEW.round, NEW.messages, NEW.at_message::text); RETURN NULL; END $$`,
		`CREATE TRIGGER test_read AFTER UPDATE ON archive_reading FOR EACH ROW
			WHEN ((OLD.round, OLD.messages) IS DISTINCT FROM (NEW.round, NEW.messages)) EXECUTE FUNCTION test_read()`,
	} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	type reading struct {
		Round, Messages int64
		AtMessage       string
	}
	// steps is how the reading went on since the table is kept, the last one last.
	steps := func() []reading {
		rows, err := admin.Query(t.Context(), `SELECT round, messages, at_message FROM test_read ORDER BY n`)
		require.NoError(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[reading])
		require.NoError(t, err)
		return list
	}
	at := func() reading {
		if list := steps(); len(list) > 0 {
			return list[len(list)-1]
		}
		return reading{}
	}
	first := int64(h.query(`SELECT round FROM archive_reading`))
	middle := func() bool { r := at(); return r.Round > first && r.Messages > 0 && r.Messages < messages }
	var cut reading
	for cut.Round == 0 {
		h.eventually("the middle of a round of all", middle)
		h.Stop()
		if middle() { // still
			cut = at()
		}
		h.start()
	}
	h.eventually("the round ends", func() bool { return at().Round > cut.Round })
	var round []reading
	for _, r := range steps() {
		if r.Round == cut.Round && r.Messages > 0 {
			round = append(round, r)
		}
	}
	require.Contains(t, round, cut)
	require.Len(t, round, messages, "%v", round)
	for i, r := range round {
		require.EqualValues(t, i+1, r.Messages, "%v", round)
		require.True(t, i == 0 || r.AtMessage > round[i-1].AtMessage, "%v", round)
	}

	// The store is away: a file is where its folder has to be, and nothing can be written either; or its disk is not mounted, and the folder
	// is there and empty.
	blobs := filepath.Join(h.opts.Dir, "blobs")
	for _, inItsPlace := range []func() error{
		func() error { return os.WriteFile(blobs, nil, 0o600) },
		func() error { return os.Mkdir(blobs, 0o700) },
	} {
		require.NoError(t, os.Rename(blobs, blobs+".away"))
		require.NoError(t, inItsPlace())
		stood := func() int { return strings.Count(h.log.String(), "kept messages were not read again") }
		before := stood()
		h.eventually("the reading stands still", func() bool {
			return stood() >= before+2 || h.query(`SELECT count(*) FROM damaged_message`) > 0
		})
		require.Zero(t, h.query(`SELECT count(*) FROM damaged_message`), "what cannot be read now is not damaged")
		still := at()
		require.NoError(t, os.Remove(blobs))
		require.NoError(t, os.Rename(blobs+".away", blobs))
		h.eventually("it goes on", func() bool { return at() != still })
	}
	h.readThrough()
	require.Empty(t, h.damaged(box.GetName(), true))
	h.eventually("read again", func() bool { return h.box(box).GetProblemCode() == "" })
	h.invariants(box)
}
