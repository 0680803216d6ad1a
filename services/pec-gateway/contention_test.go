package pecgateway_test

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// inside gives the means of a ward to a gateway that runs within the test.
func (h *house) inside(t *testing.T) *ward {
	t.Helper()
	h.outside = h.DB("pec-gateway")
	return &ward{post: &post{house: h}, admin: pgtest.Admin(t, h.outside)}
}

// behindOne is a mailbox at Dovecot with one message that was not handed out, and now would be.
func (h *house) behindOne(w *wire) *pecv1.Mailbox {
	h.t.Helper()
	h.believe()
	h.account(recipient)
	h.deliver(recipient, plain("prima"))
	h.deliver(recipient, plain("guasta"), dovecot.Delivery{Size: 50})
	box := h.keep(recipient, through(w))
	h.eventually("it goes on without one", func() bool { return len(h.list(box)) == 1 && h.degraded("MESSAGE_UNFETCHABLE") == 1 })
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	require.NoError(h.t, h.dovecot.Repair(recipient))
	h.lookedAgain(box)
	return box
}

// TestOneLookRecordsTwice: while a batch is being recorded, the same look takes in a message that was left behind. Both say that they
// have the mailbox and then count in its row: they wait for each other in turn, never in a ring, and the mailbox is well throughout.
func TestOneLookRecordsTwice(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	line := h.wireTo(h.dovecot.IMAPS())
	box := h.behindOne(line)
	w := h.inside(t)
	b := boundary{"received, its place not written", "location", "INSERT", ""}
	require.NoError(t, h.pauseReading(box))
	h.eventually("nobody reads it", func() bool { line.mu.Lock(); defer line.mu.Unlock(); return len(line.open) == 0 })
	h.execute(`UPDATE unfetched SET next_time = now() - interval '1 minute'`)
	h.deliver(recipient, plain("intanto"))
	w.stopAt(b)
	_, err := h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	w.reached(b)
	h.eventually("the other one waits too", func() bool {
		var n int
		require.NoError(t, w.admin.QueryRow(t.Context(), `WITH here AS (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1)
			SELECT (SELECT count(*) FROM here) + (SELECT count(*) FROM pg_stat_activity WHERE pg_blocking_pids(pid) && ARRAY(SELECT pid FROM here))`, w.lockKey()).Scan(&n))
		return n >= 2
	})
	w.letGo(b, false)
	h.kept(box)
	h.lookedAgain(box)
	require.Len(t, h.list(box), 3)
	require.NotContains(t, h.log.String(), "DATABASE_CONTENTION")
	require.Zero(t, h.degraded("DATABASE_CONTENTION"))
	require.Zero(t, h.query(`SELECT failures FROM mailbox`))
	h.invariants(box)
}

// TestContentionIsTriedAgain: a transaction that loses its locks is run again at once, and nothing is said of the mailbox. What lasts is
// told under its own name.
func TestContentionIsTriedAgain(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	box := h.keep(recipient)
	h.lookedAgain(box)
	w := h.inside(t)
	loses := func(times string) {
		w.sql(`DROP TRIGGER IF EXISTS test_loses ON location`, `DROP SEQUENCE IF EXISTS test_lost`, `CREATE SEQUENCE test_lost`,
			`CREATE OR REPLACE FUNCTION test_loses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
				IF nextval('`+h.outside.Schema()+`.test_lost') <= `+times+` THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
				RETURN NEW; END $$`,
			`CREATE TRIGGER test_loses BEFORE INSERT ON location FOR EACH ROW EXECUTE FUNCTION test_loses()`)
	}
	loses("2")
	h.deliver(recipient, plain("contesa"))
	h.kept(box)
	var tries int
	require.NoError(t, w.admin.QueryRow(t.Context(), `SELECT last_value FROM test_lost`).Scan(&tries))
	require.Equal(t, 3, tries, "two that failed, and the one that did not")
	require.NotContains(t, h.log.String(), "mailbox not read")

	loses("1000000")
	h.deliver(recipient, plain("contesa a lungo"))
	h.eventually("it is told", func() bool { return h.degraded("DATABASE_CONTENTION") == 1 })
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_DEGRADED, h.box(box).GetState())
	loses("0")
	h.kept(box)
	h.eventually("well again", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_ACTIVE })
	require.Equal(t, 1, h.degraded("DATABASE_CONTENTION"), "once")
	h.invariants(box)
}

// TestRecoveredMailboxFailsAnew: a mailbox that was degraded is read again, in the session in which it was found well the connection
// ends once: that is its first failure and not the fourth.
func TestRecoveredMailboxFailsAnew(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	var closed atomic.Bool
	w.when(func(line string, near net.Conn) bool {
		if closed.Load() && strings.Contains(line, " LIST ") {
			_ = near.Close()
			return true
		}
		return false
	})
	box := h.keep(recipient, through(w))
	h.lookedAgain(box)
	closed.Store(true)
	w.cut()
	h.eventually("degraded", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_DEGRADED })
	closed.Store(false)
	h.eventually("well again", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_ACTIVE })
	looks := h.watchLooks(w, box, "LIST")
	w.cut()
	shown := h.afterOne(looks)
	require.True(t, strings.HasPrefix(shown, "ACTIVE "), shown)
	w.when(nil)
	h.lookedAgain(box)
	h.invariants(box)
}
