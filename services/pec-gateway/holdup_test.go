package pecgateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/client"
)

// TestI4DeskOfOneHoldsUpNobody: of mailboxes whose day cannot be handed over, whose notice cannot be made or whose term cannot be told, all others
// have theirs.
func TestI4DeskOfOneHoldsUpNobody(t *testing.T) {
	t.Parallel()
	h := open(t, quick)
	rome, err := time.LoadLocation("Europe/Rome")
	require.NoError(t, err)
	y, m, d := time.Now().In(rome).Date()
	h.ahead.Store(int64(time.Until(time.Date(y, m, d+1, 12, 0, 0, 0, rome)))) // at noon: for some time after midnight the day before is open
	h.believe()
	var boxes []*pecv1.Mailbox
	for i := range 5 {
		address := fmt.Sprintf("ufficio%d@beta.test", i)
		_, err := h.sandbox.SetPECMailbox(t.Context(), client.PECMailbox{Address: address, Password: "sandbox"})
		require.NoError(t, err)
		boxes = append(boxes, h.add(address))
	}
	good := map[string]bool{boxes[1].GetName(): true, boxes[3].GetName(): true}
	admin := pgtest.Admin(t, h.DB("pec-gateway"))
	for _, table := range []string{"preserved_day", "notice_owed"} {
		what := map[string]string{"preserved_day": "INSERT", "notice_owed": "DELETE"}[table]
		_, err = admin.Exec(t.Context(), fmt.Sprintf(`CREATE FUNCTION refuse_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN RAISE EXCEPTION 'refused in this test'; END $$;
			CREATE TRIGGER refuse BEFORE %[2]s ON %[1]s FOR EACH ROW WHEN (%[3]s.mailbox_id NOT IN ('%[4]s', '%[5]s')) EXECUTE FUNCTION refuse_%[1]s()`,
			table, what, map[string]string{"INSERT": "NEW", "DELETE": "OLD"}[what], lastOf(boxes[1].GetName()), lastOf(boxes[3].GetName())))
		require.NoError(t, err)
	}
	_, err = admin.Exec(t.Context(), fmt.Sprintf(`CREATE FUNCTION refuse_told() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'refused in this test'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE OF warned_mailbox ON mailbox_policy FOR EACH ROW
			WHEN (NEW.warned_mailbox IS NOT NULL AND NEW.mailbox_id NOT IN ('%s', '%s')) EXECUTE FUNCTION refuse_told()`, lastOf(boxes[1].GetName()), lastOf(boxes[3].GetName())))
	require.NoError(t, err)
	for _, box := range boxes {
		h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
		_, err := h.policy(box, &pecv1.MailboxPolicy{
			Preservation: &pecv1.PreservationRule{Daily: true}, Notice: &pecv1.IncomingNotice{Addresses: []string{"a@o.test"}},
			Terms: &pecv1.MailboxTerms{ExpireDate: time.Now().AddDate(0, 0, 20).Format(time.DateOnly)},
		}, "preservation", "notice", "terms")
		require.NoError(t, err)
		h.inject(box.GetAddress(), plain("per "+box.GetAddress()))
	}
	h.kept(boxes...)
	h.ahead.Add(int64(24 * time.Hour))
	closed, noticed, warned := map[string]bool{}, map[string]bool{}, map[string]bool{}
	h.eventually("the two have their day, their notice and their warning", func() bool {
		for _, ev := range heard[*pecv1.MailboxDayClosed](h) {
			closed[ev.GetMailbox()] = true
		}
		for _, ev := range heard[*pecv1.IncomingNoticeDue](h) {
			noticed[ev.GetMailbox()] = true
		}
		for _, ev := range heard[*pecv1.MailboxDegraded](h) {
			if ev.GetCode() == "MAILBOX_EXPIRING" {
				warned[ev.GetMailbox()] = true
			}
		}
		return len(closed) == 2 && len(noticed) == 2 && len(warned) == 2
	})
	require.Equal(t, []map[string]bool{good, good, good}, []map[string]bool{closed, noticed, warned})

	_, err = admin.Exec(t.Context(), `DROP TRIGGER refuse ON preserved_day; DROP TRIGGER refuse ON notice_owed; DROP TRIGGER refuse ON mailbox_policy`)
	require.NoError(t, err)
	h.eventually("nothing is in the way any more: all have", func() bool {
		return len(heard[*pecv1.MailboxDayClosed](h)) == 5 && len(heard[*pecv1.IncomingNoticeDue](h)) == 5 && h.degraded("MAILBOX_EXPIRING") == 5
	})
	h.invariants(boxes...)
}
