package pecgateway_test

import (
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/sandbox/client"
)

// spoilKept changes a byte of what the archive has of a message.
func (h *house) spoilKept(m *pecv1.Message) {
	h.t.Helper()
	name := hex.EncodeToString(m.GetContent().GetSha256())
	require.NoError(h.t, filepath.WalkDir(filepath.Join(h.opts.Dir, "blobs"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != name {
			return err
		}
		raw, err := os.ReadFile(path)
		require.NoError(h.t, err)
		raw[len(raw)/2] ^= 1
		require.NoError(h.t, os.Chmod(path, 0o600))
		return os.WriteFile(path, raw, 0o600)
	}))
}

// TestG6RoomIsMade: our own mailbox fills up at a real Dovecot. By the policy the oldest messages are removed there, by UID
// EXPUNGE and down to the level that it names, and no other: not the young ones, not the one that another program marked as
// deleted, not the one that the archive does not give back, not one that is not preserved when only preserved ones may go.
// Here all of them stay.
func TestG6RoomIsMade(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{QuotaKiB: 1000})
	h.believe()
	box := h.keep(recipient)
	fill := func(name string, kib int) {
		h.deliver(recipient, plain(name)+strings.Repeat(strings.Repeat("0", 1022)+"\n", kib-1)+"\n")
	}
	for _, name := range []string{"rovinata", "prima", "seconda", "terza", "marcata"} {
		fill(name, 150)
	}
	h.kept(box)
	list := h.list(box)
	require.Len(t, list, 5)
	byName := map[string]*pecv1.Message{}
	old := func() {
		for i, name := range []string{"rovinata", "prima", "seconda", "terza", "marcata"} {
			h.execute(`UPDATE message SET receive_time = now() - interval '60 days' + $2 * interval '1 minute' WHERE id = $1`, uuid.MustParse(byName[name].GetName()[len(box.GetName())+len("/messages/"):]), i)
		}
	}
	for _, m := range list {
		for _, name := range []string{"rovinata", "prima", "seconda", "terza", "marcata"} {
			if strings.Contains(m.GetSubject(), name) {
				byName[name] = h.get(m.GetName())
			}
		}
	}
	other := h.stranger(recipient)
	other.say("SELECT INBOX")
	other.say(`STORE 5 +FLAGS.SILENT (\Deleted)`)
	h.spoilKept(byName["rovinata"])
	fill("giovane", 170)
	h.kept(box)
	before := h.offered(recipient)
	require.Len(t, before, 6)

	_, err := h.policy(box, &pecv1.MailboxPolicy{Room: &pecv1.RoomRule{Enabled: true, AtPercent: 60, ToPercent: 70}}, "room")
	requireFault(t, err, "ROOM_INVALID")
	_, err = h.policy(box, &pecv1.MailboxPolicy{Room: &pecv1.RoomRule{Enabled: true, AtPercent: 80, ToPercent: 65, PreservedOnly: true}}, "room")
	require.NoError(t, err)
	old()
	h.lookedAgain(box)
	h.lookedAgain(box)
	require.Equal(t, before, h.offered(recipient), "nothing of it is preserved")
	h.ahead.Add(int64(11 * time.Minute)) // it is not looked all the time for what may be removed
	_, err = h.policy(box, &pecv1.MailboxPolicy{Room: &pecv1.RoomRule{Enabled: true, AtPercent: 80, ToPercent: 65}}, "room")
	require.NoError(t, err)
	want := maps.Clone(before)
	for _, name := range []string{"prima", "seconda"} {
		delete(want, hex.EncodeToString(byName[name].GetContent().GetSha256()))
	}
	var left map[string]bool
	h.eventually("room is made", func() bool {
		left = h.offered(recipient)
		return maps.Equal(left, want)
	})
	h.eventually("it is written down", func() bool { return h.get(byName["seconda"].GetName()).GetProviderRemoveTime() != nil })
	require.Nil(t, h.get(byName["terza"].GetName()).GetProviderRemoveTime())
	require.Len(t, h.list(box), 6, "here nothing is removed")
	h.eventually("the damage of the archive is told", func() bool { return h.degraded("ARCHIVE_DAMAGED") == 1 })
	h.eventually("the room is known", func() bool { return h.box(box).GetQuota().GetLevel() == pecv1.QuotaLevel_QUOTA_LEVEL_GOOD })
	h.lookedAgain(box)
	require.Equal(t, left, h.offered(recipient))
	require.Positive(t, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'mailbox.room' AND detail->>'removed' IS NOT NULL`))
	other.say("LOGOUT")
	h.invariants(box)
}

// TestG6RoomAfterACrash: messages that were about to be removed when the process ended, some of them removed already, are
// ended by the next one.
func TestG6RoomAfterACrash(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{QuotaKiB: 1000})
	h.believe()
	box := h.keep(recipient)
	for _, name := range []string{"prima", "seconda", "terza"} {
		h.deliver(recipient, plain(name)+strings.Repeat(strings.Repeat("0", 1022)+"\n", 299)+"\n")
	}
	h.kept(box)
	h.execute(`UPDATE message SET receive_time = now() - interval '60 days'`)
	h.execute(`INSERT INTO removal (tenant_id, mailbox_id, folder, uid_validity, uid, message_id, size, intend_time)
		SELECT l.tenant_id, l.mailbox_id, l.folder, l.uid_validity, l.uid, l.message_id, m.size, now() FROM location l JOIN message m ON m.id = l.message_id`)
	other := h.stranger(recipient)
	other.say("SELECT INBOX")
	other.say(`STORE 1 +FLAGS.SILENT (\Deleted)`)
	other.say("EXPUNGE") // what the process did before it ended
	_, err := h.policy(box, &pecv1.MailboxPolicy{Room: &pecv1.RoomRule{Enabled: true, AtPercent: 50, ToPercent: 40}}, "room")
	require.NoError(t, err)
	h.eventually("both are ended", func() bool {
		return h.query(`SELECT count(*) FROM removal WHERE outcome = 'gone'`) == 1 && h.query(`SELECT count(*) FROM removal WHERE outcome = 'removed'`) == 1
	})
	require.Len(t, h.offered(recipient), 1)
	require.Len(t, h.list(box), 3)
	h.invariants(box)
}

// TestG6FullMailboxOfARecipient: a provider that turns mail for a full mailbox away at once, one that tries for a day and
// one that tries for two: what comes late counts, what never comes is said with its cause.
func TestG6FullMailboxOfARecipient(t *testing.T) {
	t.Parallel()
	p := openPost(t, watching)
	p.believe()
	full := func(policy, address string) *pecv1.Message {
		_, err := p.sandbox.SetPECProvider(t.Context(), client.PECProvider{ID: "beta", Full: policy})
		require.NoError(t, err)
		_, err = p.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: address, Quota: 10})
		require.NoError(t, err)
		m := p.send(address)
		p.eventually("accepted", func() bool { return p.get(m.GetName()).GetProviderId() != "" })
		return m
	}
	recipientOf := func(m *pecv1.Message) *pecv1.RecipientOutcome { return p.get(m.GetName()).GetRecipients()[0] }
	at := func(m *pecv1.Message, state, cause string) {
		t.Helper()
		p.eventually(state+" "+cause, func() bool { r := recipientOf(m); return r.GetState() == state && r.GetCause() == cause })
	}
	at(full("error", "piena0@beta.test"), "not-delivered", "mailbox-full")
	day, gone := full("retry24h", "piena20@beta.test"), full("retry24h", "mai24@beta.test")
	p.pass(20 * time.Hour)
	at(day, "waiting", "") // taken in charge, so that the notice of 12 hours is not due. spec: RFC6109 §3.1.6
	at(gone, "waiting", "")
	_, err := p.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: "piena20@beta.test", Quota: 1 << 20})
	require.NoError(t, err)
	p.pass(2 * time.Hour)
	at(day, "delivered", "")
	require.False(t, recipientOf(day).GetLate(), "no notice came before")
	at(gone, "waiting", "")
	p.pass(3 * time.Hour) // the second notice, and the end of the day
	at(gone, "not-delivered", "mailbox-full")
	p.state(gone, pecv1.MessageState_MESSAGE_STATE_FAILED)
	p.state(day, pecv1.MessageState_MESSAGE_STATE_DELIVERED)

	late, never := full("retry48h", "piena30@beta.test"), full("retry48h", "mai@beta.test")
	p.pass(24 * time.Hour)
	at(late, "not-delivered-in-time", "")
	at(never, "not-delivered-in-time", "")
	p.pass(6 * time.Hour)
	_, err = p.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: "piena30@beta.test", Quota: 1 << 20})
	require.NoError(t, err)
	p.pass(2 * time.Hour)
	at(late, "delivered", "")
	require.True(t, recipientOf(late).GetLate())
	p.pass(20 * time.Hour)
	at(never, "not-delivered", "mailbox-full")
	p.invariants()
	p.house.invariants(p.mailbox())
}

// execute changes rows of the gateway behind its back, as time would.
func (h *house) execute(sql string, args ...any) {
	h.t.Helper()
	(&post{house: h}).exec(sql, args...)
}
