package pecgateway_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/run/runtest"
)

// shownAt is what is shown of a mailbox as each look of the gateway begins. The gateway waits for it: what is shown at the second
// look was found out by the first.
type shownAt struct {
	mu     sync.Mutex
	since  bool
	shown  []string
	failed []int // looks in a row that failed, before each
}

// watchLooks counts looks by a command from the next login on.
func (h *house) watchLooks(w *wire, box *pecv1.Mailbox, command string) *shownAt {
	l := &shownAt{}
	w.when(func(line string, _ net.Conn) bool {
		_, said, _ := strings.Cut(line, " ")
		l.mu.Lock()
		defer l.mu.Unlock()
		l.since = l.since || strings.HasPrefix(said, "LOGIN ")
		if !l.since || !strings.HasPrefix(said, command+" ") {
			return false
		}
		m, err := h.api.GetMailbox(h.t.Context(), &pecv1.GetMailboxRequest{Name: box.GetName()})
		l.shown = append(l.shown, fmt.Sprint(strings.TrimPrefix(m.GetState().String(), "MAILBOX_STATE_"), " ", m.GetProblemCode(), err))
		l.failed = append(l.failed, h.query(`SELECT failures FROM mailbox`))
		return false
	})
	return l
}

// second is what the first look found out.
func (h *house) second(l *shownAt) string {
	h.t.Helper()
	h.eventually("a second look", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.shown) >= 2
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shown[1]
}

// afterOne is what one look that failed found out.
func (h *house) afterOne(l *shownAt) string {
	h.t.Helper()
	var shown string
	var failed int
	h.eventually("a look after one that failed", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.IndexFunc(l.failed, func(n int) bool { return n > 0 })
		if i >= 0 {
			shown, failed = l.shown[i], l.failed[i]
		}
		return i >= 0
	})
	require.Equal(h.t, 1, failed)
	return shown
}

// TestG5ReadOnlyAtDovecot: the provider lets nothing be changed in a mailbox any more. One look shows that, somebody is told, and
// everything that is there is fetched: also what the provider did not hand out before, long before it would have been asked for
// again, and what a wrong number would have passed over for ever. It is in use again as soon as the provider says so. TESTPLAN G5.
func TestG5ReadOnlyAtDovecot(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{Rights: true})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	h.deliver(recipient, plain("prima"))
	h.deliver(recipient, plain("guasta"), dovecot.Delivery{Size: 50})
	box := h.keep(recipient, through(w))
	h.eventually("it goes on without one", func() bool { return len(h.list(box)) == 1 && h.degraded("MESSAGE_UNFETCHABLE") == 1 })
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	require.Nil(t, h.box(box).GetSync().GetWholeTime())
	h.execute(`UPDATE unfetched SET next_time = now() + interval '1 day'`)
	other := h.stranger(recipient)
	h.passOver(box, func(int) int {
		next := 0
		require.NoError(t, h.dovecot.Repair(recipient))
		h.deliver(recipient, plain("passata oltre"))
		h.eventually("the server knows of it", func() bool {
			said := other.say("SELECT INBOX")
			number := regexp.MustCompile(`\[UIDNEXT (\d+)\]`).FindStringSubmatch(said)
			require.Len(t, number, 2, said)
			var err error
			next, err = strconv.Atoi(number[1])
			return err == nil && strings.Contains(said, "* 3 EXISTS")
		})
		return next
	})
	h.lookedAgain(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 1)
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_ACTIVE, h.box(box).GetState())

	require.NoError(t, h.dovecot.SetRights(recipient, "lr"))
	looks := h.watchLooks(w, box, "LIST")
	w.cut() // the server knows of rights when a session begins
	require.Equal(t, "SUSPENDED MAILBOX_READ_ONLY<nil>", h.second(looks))
	h.kept(box)
	require.Len(t, h.list(box), 3)
	h.eventually("everything was compared", func() bool { return h.box(box).GetSync().GetWholeTime() != nil })
	require.Contains(t, h.box(box).GetProblem(), "renew it")
	h.eventually("somebody is told", func() bool { return h.degraded("MAILBOX_READ_ONLY") == 1 })
	hub, err := h.desk().GetHub(t.Context(), &pecv1.GetHubRequest{Parent: parent})
	require.NoError(t, err)
	require.Equal(t, []string{"MAILBOX_READ_ONLY"}, hub.GetEntries()[0].GetTroubles())
	h.deliver(recipient, plain("arriva ancora"))
	h.kept(box)

	require.NoError(t, h.dovecot.SetRights(recipient, "lrwstipekxa"))
	looks = h.watchLooks(w, box, "LIST")
	w.cut()
	shown := h.second(looks)
	require.True(t, strings.HasPrefix(shown, "ACTIVE "), shown)
	h.lookedAgain(box)
	require.Equal(t, 1, h.degraded("MAILBOX_READ_ONLY"))
	w.when(nil)
	h.invariants(box)
}

// passOver has a message come of which the gateway believes that it has read it: comes is given the number that is read next, and gives
// the one that the server will use next then.
func (h *house) passOver(box *pecv1.Mailbox, comes func(next int) int) {
	h.t.Helper()
	require.NoError(h.t, h.pauseReading(box))
	next := comes(h.query(`SELECT next_uid FROM folder WHERE name = 'INBOX'`))
	h.execute(`UPDATE folder SET next_uid = $1 WHERE name = 'INBOX'`, next)
	_, err := h.api.ResumeMailbox(h.t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(h.t, err)
}

// lets says whether the server lets a user in with the password that the gateway has.
func (h *house) lets(address string) bool {
	h.t.Helper()
	conn, err := tls.Dial("tcp", h.dovecot.IMAPS(), h.clientTLS())
	require.NoError(h.t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "a LOGIN %s %s\r\nb LOGOUT\r\n", address, h.secrets[address])
	require.NoError(h.t, err)
	said, _ := io.ReadAll(conn)
	return strings.Contains(string(said), "a OK ")
}

// TestG5DoorsClosedAtDovecot: the password is changed at the provider, or IMAP is switched off there, and the server keeps the open
// session. The gateway logs in anew before long, and that one look shows it; nobody cut anything. What came meanwhile is fetched
// once the door is open again. TESTPLAN G5.
func TestG5DoorsClosedAtDovecot(t *testing.T) {
	t.Parallel()
	// A server takes its time over a refusal, longer with each.
	h := openDovecot(t, "  session_for: 500ms\n", dovecot.Options{}, func(o *runtest.Options) {
		o.Config = strings.Replace(o.Config, "timeout: 5s", "timeout: 30s", 1)
	})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	box := h.keep(recipient, through(w))
	h.lookedAgain(box)
	for i, door := range []struct {
		what        string
		close, open func() error
	}{
		{"another password", func() error { return h.dovecot.SetPassword(recipient, "un-altra") }, func() error { return h.dovecot.SetPassword(recipient, h.secrets[recipient]) }},
		{"IMAP switched off", func() error { return h.dovecot.Refuse(recipient, "IMAP-disabled") }, func() error { return h.dovecot.Refuse(recipient, "") }},
	} {
		require.NoError(t, door.close())
		h.eventually(door.what, func() bool { return !h.lets(recipient) })
		looks := h.watchLooks(w, box, "LOGIN")
		h.deliver(recipient, plain(door.what))
		require.Equal(t, "DEGRADED MAILBOX_AUTH_FAILED<nil>", h.afterOne(looks), door.what)
		h.eventually("it is told", func() bool { return h.degraded("MAILBOX_AUTH_FAILED") == i+1 })
		w.when(nil)
		require.NoError(t, door.open())
		h.eventually("in use again", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_ACTIVE })
		h.kept(box)
		require.Equal(t, i+1, h.degraded("MAILBOX_AUTH_FAILED"), "once")
	}
	h.invariants(box)
}

// TestServerHangsUpAtLogout: a server that closes the connection instead of saying goodbye, each time that a session has lasted for long
// enough, is read like any other.
func TestServerHangsUpAtLogout(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "  session_for: 200ms\n", dovecot.Options{})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	box := h.keep(recipient, through(w))
	h.lookedAgain(box)
	var left atomic.Int64
	w.when(func(line string, near net.Conn) bool {
		if !strings.Contains(line, " LOGOUT") {
			return false
		}
		left.Add(1)
		_ = near.Close()
		return true
	})
	h.eventually("some sessions", func() bool { return left.Load() >= 4 })
	h.deliver(recipient, plain("intanto"))
	h.kept(box)
	require.NotContains(t, h.log.String(), "mailbox not read")
	require.Empty(t, h.box(box).GetProblemCode())
	w.when(nil)
	h.invariants(box)
}
