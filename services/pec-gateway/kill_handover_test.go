package pecgateway_test

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/blob"
)

// TestG1KilledWhileADayIsHandedOver: the gateway, a process of its own, is killed while it hands over a day of 450
// messages: between two parts of it, when the register is written and the day is not closed, and when the day is closed and
// nobody was told. The next one goes on where it was: each message is handed over once, the day is closed once, and its
// register names all of it.
func TestG1KilledWhileADayIsHandedOver(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.believe()
	box := w.add(recipient)
	w.inject(recipient, plain("una"))
	w.kept(box)
	const messages = 450
	id := box.GetName()[strings.LastIndexByte(box.GetName(), '/')+1:]
	w.sql("UPDATE message SET receive_time = now() - interval '3 days'",
		fmt.Sprintf(`INSERT INTO message (tenant_id, id, mailbox_id, direction, kind, state, subject, folder, content_uri, sha256, size, receive_time, create_time)
			SELECT tenant_id, gen_random_uuid(), mailbox_id, 1, kind, state, 'copia ' || n, folder, content_uri, sha256(n::text::bytea), size, receive_time, create_time
			FROM message, generate_series(2, %d) n`, messages))
	var last uuid.UUID
	require.NoError(t, w.admin.QueryRow(t.Context(), `SELECT id FROM message WHERE mailbox_id = $1 ORDER BY id DESC OFFSET 10 LIMIT 1`, id).Scan(&last))
	for i, b := range everyBoundary([]boundary{
		{"two parts handed over, not the third", "preserved_message", "INSERT", fmt.Sprintf("NEW.message_id = '%s'", last)},
		{"all handed over, the day not closed", "preserved_day", "UPDATE", "OLD.close_time IS NULL AND NEW.close_time IS NOT NULL"},
		{"the day closed, nobody told", "outbox", "INSERT", "NEW.subject LIKE '%mailbox_day_closed%'"},
	}) {
		w.step(b.name, func(t *testing.T) {
			w.stopAt(b)
			if i == 0 {
				desk := pecv1.NewPecDeskServiceClient(w.conns[len(w.conns)-2])
				_, err := desk.UpdateMailboxPolicy(t.Context(), &pecv1.UpdateMailboxPolicyRequest{UpdateMask: mask("preservation"),
					Policy: &pecv1.MailboxPolicy{Name: box.GetName() + "/policy", Preservation: &pecv1.PreservationRule{Daily: true, Earlier: true}}})
				require.NoError(t, err)
			}
			w.killAt(b)
			w.run()
		})
	}
	w.eventually("the day is closed", func() bool { return len(heard[*pecv1.MailboxDayClosed](w.house)) > 0 })
	w.eventually("all are told", func() bool {
		return len(heard[*pecv1.MessageHandedOver](w.house)) >= messages && w.query(`SELECT count(*) FROM outbox`) == 0
	})
	once := map[string]string{}
	for _, ev := range heard[*pecv1.MessageHandedOver](w.house) {
		require.Empty(t, once[ev.GetMessage()], "handed over twice")
		once[ev.GetMessage()] = hex.EncodeToString(ev.GetContent().GetSha256())
	}
	require.Len(t, once, messages)
	closed := heard[*pecv1.MailboxDayClosed](w.house)
	require.Len(t, closed, 1, "closed twice")
	require.EqualValues(t, messages, closed[0].GetMessageCount())
	require.Equal(t, messages, w.query(`SELECT count(*) FROM preserved_message`))
	w.kill()
	store, err := blob.OpenFS(filepath.Join(w.opts.Dir, "blobs"))
	require.NoError(t, err)
	ref, err := blob.ParseURI(closed[0].GetRegister().GetUri())
	require.NoError(t, err)
	raw, err := store.Get(t.Context(), ref)
	require.NoError(t, err)
	rows, err := registerChain([]string{closed[0].GetDay()}, [][]byte{raw})
	require.NoError(t, err)
	require.Len(t, rows[0], messages)
	for _, l := range rows[0] {
		require.Equal(t, once[l[1]], l[13], l[1])
	}
}
