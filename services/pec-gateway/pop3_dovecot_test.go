package pecgateway_test

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

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
