package pecgateway_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// TestPasswordAge: the days of a password count from when it was given, or made at the provider, and not from when somebody said how
// many they are; what is changed besides warns of nothing twice, and the same password once more is no younger.
func TestPasswordAge(t *testing.T) {
	h := open(t, quick)
	box := h.add(recipient)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	rome, err := time.LoadLocation("Europe/Rome")
	require.NoError(t, err)
	begin := time.Now()
	after := func(days int) string {
		y, m, d := begin.In(rome).Date()
		return time.Date(y, m, d+days, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	}
	codes := func() map[string]int {
		out := map[string]int{}
		for _, ev := range h.unwell() {
			out[ev.GetCode()]++
		}
		return out
	}
	terms := func(in *pecv1.MailboxTerms, paths ...string) *pecv1.MailboxTerms {
		t.Helper()
		p, err := h.policy(box, &pecv1.MailboxPolicy{Terms: in}, paths...)
		require.NoError(t, err)
		return p.GetTerms()
	}
	give := func(secret string) {
		t.Helper()
		_, err := h.api.ChangeMailboxPassword(t.Context(), &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: secret})
		require.NoError(t, err)
	}

	h.ahead.Add(int64(80 * 24 * time.Hour))
	said := terms(&pecv1.MailboxTerms{PasswordDays: 90}, "terms.password_days")
	require.Equal(t, []string{after(0), after(90)}, []string{said.GetPasswordSetDate(), said.GetPasswordExpireDate()}, "it was given with the mailbox")
	h.eventually("10 days before", func() bool { return codes()["PASSWORD_EXPIRING"] == 1 })
	_, err = h.policy(box, &pecv1.MailboxPolicy{Notice: &pecv1.IncomingNotice{Language: "en"}}, "notice")
	require.NoError(t, err)
	give(h.secretOf(recipient))
	require.Equal(t, after(90), terms(&pecv1.MailboxTerms{SendingSuspended: true}, "terms.sending_suspended").GetPasswordExpireDate(), "the same password is as old as it was")
	h.ahead.Add(int64(5 * 24 * time.Hour))
	h.eventually("5 days before", func() bool { return codes()["PASSWORD_EXPIRING"] >= 2 })
	require.Equal(t, map[string]int{"PASSWORD_EXPIRING": 2}, codes(), "each warning once, whatever is changed besides")

	// Its owner knows better: it was made ten days before it was given.
	said = terms(&pecv1.MailboxTerms{PasswordSetDate: after(-10)}, "terms.password_set_date")
	require.Equal(t, []string{after(-10), after(80)}, []string{said.GetPasswordSetDate(), said.GetPasswordExpireDate()})
	h.eventually("it has ended", func() bool { return codes()["PASSWORD_EXPIRED"] == 1 })
	said = terms(&pecv1.MailboxTerms{PasswordDays: 120}, "terms.password_days")
	require.Equal(t, []string{after(-10), after(110)}, []string{said.GetPasswordSetDate(), said.GetPasswordExpireDate()}, "what was stated stays")
	for _, wrong := range []string{after(86), "2026-02-30"} {
		_, err = h.policy(box, &pecv1.MailboxPolicy{Terms: &pecv1.MailboxTerms{PasswordSetDate: wrong}}, "terms.password_set_date")
		requireFault(t, err, "DATE_INVALID")
	}
	require.Equal(t, after(120), terms(nil, "terms.password_set_date").GetPasswordExpireDate(), "nobody states it any more")

	give(h.password(recipient)) // a new one, at the provider and here
	p, err := h.desk().GetMailboxPolicy(t.Context(), &pecv1.GetMailboxPolicyRequest{Name: box.GetName() + "/policy"})
	require.NoError(t, err)
	require.Equal(t, []string{after(85), after(205)}, []string{p.GetTerms().GetPasswordSetDate(), p.GetTerms().GetPasswordExpireDate()})
	require.Equal(t, after(205), terms(&pecv1.MailboxTerms{PasswordDays: 120}, "terms").GetPasswordExpireDate(), "also when its terms are said anew")
	h.invariants(box)
}

// TestPasswordIsGivenAgain: a new password could not be written down, and is given once more. It is new all the same.
func TestPasswordIsGivenAgain(t *testing.T) {
	h := open(t, quick)
	box := h.add(recipient)
	h.eventually("read for the first time", func() bool { return h.box(box).GetSync().GetDone() })
	p, err := h.policy(box, &pecv1.MailboxPolicy{Terms: &pecv1.MailboxTerms{PasswordDays: 90}}, "terms.password_days")
	require.NoError(t, err)
	before := p.GetTerms().GetPasswordSetDate()
	h.ahead.Add(int64(10 * 24 * time.Hour))
	admin := pgtest.Admin(t, h.DB("pec-gateway"))
	exec := func(statement string) {
		t.Helper()
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''the disk is full''; END'`)
	exec(`CREATE TRIGGER refuse BEFORE UPDATE OF password_time ON mailbox_policy FOR EACH ROW EXECUTE FUNCTION refuse()`)
	give := &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: h.password(recipient)}
	_, err = h.api.ChangeMailboxPassword(t.Context(), give)
	require.Error(t, err)
	exec(`DROP TRIGGER refuse ON mailbox_policy`)
	_, err = h.api.ChangeMailboxPassword(t.Context(), give)
	require.NoError(t, err)
	p, err = h.desk().GetMailboxPolicy(t.Context(), &pecv1.GetMailboxPolicyRequest{Name: box.GetName() + "/policy"})
	require.NoError(t, err)
	require.NotEqual(t, before, p.GetTerms().GetPasswordSetDate(), "its days begin when it was given")
	h.invariants(box)
}
