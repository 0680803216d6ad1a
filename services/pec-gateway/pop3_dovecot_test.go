package pecgateway_test

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
)

// TestB11POP3AtDovecot: unique ids that are given to other messages after the server was restored, messages deleted
// by another program, no unique ids at all: everything is received once, nothing is deleted or marked.
func TestB11POP3AtDovecot(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{ReuseUIDL: true})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.POP3S())
	for i := range 6 {
		h.deliver(recipient, plain(fmt.Sprintf("m%d", i)))
	}
	box := h.keep(recipient, overPOP3, through(w))
	h.kept(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 6)
	var fetched atomic.Int32
	w.when(func(line string, _ net.Conn) bool {
		if strings.HasPrefix(line, "RETR") {
			fetched.Add(1)
		}
		return false
	})
	h.lookedAgain(box)
	h.lookedAgain(box)
	require.Zero(t, fetched.Load(), "what is known is not fetched again")
	w.when(nil)

	// Two are deleted, all numbers forgotten: what comes now gets ids that others had.
	other := h.stranger(recipient)
	other.say("SELECT INBOX")
	other.say(`UID STORE 1:2 +FLAGS.SILENT (\Deleted)`)
	other.say("UID EXPUNGE 1:2")
	other.say("LOGOUT")
	require.NoError(t, h.dovecot.ChangeUIDValidity(t.Context(), recipient))
	h.deliver(recipient, plain("m6"))
	h.deliver(recipient, plain("m7"))
	h.kept(box)
	require.Len(t, h.list(box), 8)

	// The server knows no unique ids, and then no TOP either.
	for i, without := range []string{"UIDL", "UIDL TOP"} {
		w.when(func(line string, to net.Conn) bool {
			word := strings.ToUpper(strings.Fields(line + " x")[0])
			if !strings.Contains(without, word) {
				return false
			}
			_, _ = to.Write([]byte("-ERR unknown command\r\n"))
			return true
		})
		h.deliver(recipient, plain(fmt.Sprintf("senza%d", i)))
		h.kept(box)
		h.lookedAgain(box)
		require.Len(t, h.list(box), 9+i)
	}
	require.Zero(t, h.degraded("MESSAGE_UNFETCHABLE"))
	h.invariants(box)
}

// TestB11GivenAgainWithoutTOP: a server without TOP gives unique ids to other messages. That they have other sizes shows it; what came under
// the ids is received, and then they are gone by again.
func TestB11GivenAgainWithoutTOP(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{ReuseUIDL: true})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.POP3S())
	var fetched atomic.Int32
	w.when(func(line string, to net.Conn) bool {
		switch strings.ToUpper(strings.Fields(line + " x")[0]) {
		case "RETR":
			fetched.Add(1)
		case "TOP":
			_, _ = to.Write([]byte("-ERR unknown command\r\n"))
			return true
		}
		return false
	})
	letter := func(n int) string { return plain(fmt.Sprintf("m%d %s", n, strings.Repeat("x", 10*n))) }
	for i := range 4 {
		h.deliver(recipient, letter(i))
	}
	box := h.keep(recipient, overPOP3, through(w))
	h.kept(box)
	other := h.stranger(recipient)
	other.say("SELECT INBOX")
	other.say(`UID STORE 1:2 +FLAGS.SILENT (\Deleted)`)
	other.say("UID EXPUNGE 1:2")
	other.say("LOGOUT")
	require.NoError(t, h.dovecot.ChangeUIDValidity(t.Context(), recipient))
	h.deliver(recipient, letter(4))
	h.deliver(recipient, letter(5))
	h.kept(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 6)
	before := fetched.Load()
	h.lookedAgain(box)
	h.lookedAgain(box)
	require.Equal(t, before, fetched.Load(), "what is known is not fetched again")
	h.invariants(box)
}

// TestB13RoomOverPOP3: POP3 has no word for room. What its server lists is added up and held against the capacity that
// the owner told: each level is told once, as computed; without a capacity no level is claimed.
func TestB13RoomOverPOP3(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	letter := func(n int) string { return plain(fmt.Sprintf("m%d %s", n, strings.Repeat("x", 10_000))) }
	h.deliver(recipient, letter(0))
	box := h.keep(recipient, overPOP3)
	h.kept(box)
	h.lookedAgain(box)
	q := h.box(box).GetQuota()
	require.True(t, q.GetComputed())
	require.Zero(t, q.GetLimit())
	require.Equal(t, pecv1.QuotaLevel_QUOTA_LEVEL_UNSPECIFIED, q.GetLevel(), "without a capacity it is not known")
	one := q.GetUsed()
	require.Greater(t, one, int64(10_000))

	_, err := h.api.UpdateMailbox(t.Context(), &pecv1.UpdateMailboxRequest{Mailbox: &pecv1.Mailbox{Name: box.GetName(), Capacity: one * 20}, UpdateMask: mask("capacity")})
	require.NoError(t, err)
	level := func(want pecv1.QuotaLevel) {
		t.Helper()
		h.eventually(want.String(), func() bool { return h.box(box).GetQuota().GetLevel() == want })
	}
	level(pecv1.QuotaLevel_QUOTA_LEVEL_GOOD)
	n := 1
	for _, step := range []struct {
		messages int
		level    pecv1.QuotaLevel
		told     int
	}{{15, pecv1.QuotaLevel_QUOTA_LEVEL_WARNING, 1}, {19, pecv1.QuotaLevel_QUOTA_LEVEL_CRITICAL, 2}, {21, pecv1.QuotaLevel_QUOTA_LEVEL_FULL, 3}} {
		for ; n < step.messages; n++ {
			h.deliver(recipient, letter(n))
		}
		level(step.level)
		h.lookedAgain(box)
		h.eventually("it is told", func() bool { return h.degraded("MAILBOX_QUOTA") == step.told })
	}
	last := h.unwell()
	require.Contains(t, last[len(last)-1].GetReason(), "computed")
	hub, err := h.desk().GetHub(t.Context(), &pecv1.GetHubRequest{Parent: parent})
	require.NoError(t, err)
	require.True(t, hub.GetEntries()[0].GetQuota().GetComputed())
	h.invariants(box)
}
