package pecgateway_test

import (
	"net"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// TestPasswordsStayInVault: neither the database nor the log nor an answer has the password (I6), and a
// repeat of the request makes no second mailbox.
func TestPasswordsStayInVault(t *testing.T) {
	h := open(t, "")
	secret := "S3gretissima-" + uuid.NewString()
	req := &pecv1.CreateMailboxRequest{
		Parent: parent, Mailbox: &pecv1.Mailbox{Address: "nessuno@alfa.test", Provider: "sandbox"}, Password: secret,
		RequestId: uuid.NewString(), Untested: true,
	}
	made, err := h.api.CreateMailbox(t.Context(), req)
	require.NoError(t, err)
	again, err := h.api.CreateMailbox(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, made.GetName(), again.GetName())
	_, err = h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{Parent: parent, Mailbox: req.GetMailbox(), Password: secret, Untested: true})
	requireFault(t, err, "MAILBOX_EXISTS")

	require.NotContains(t, h.log.String(), secret)
	require.NotContains(t, h.dump(), secret)
	require.NotContains(t, made.String(), secret)

	_, err = h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{
		Parent: parent, Mailbox: &pecv1.Mailbox{Address: "x@alfa.test", Provider: "poste"}, Password: secret, Untested: true})
	requireFault(t, err, "PROVIDER_UNKNOWN")
}

// TestLabelsKeepMailboxesApart: a key without the scope of a mailbox's label does not see it.
func TestLabelsKeepMailboxesApart(t *testing.T) {
	h := open(t, "")
	add := func(address, label string) *pecv1.Mailbox {
		m, err := h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{
			Parent: parent, Mailbox: &pecv1.Mailbox{Address: address, Provider: "sandbox", Label: label}, Password: "any", Untested: true})
		require.NoError(t, err)
		return m
	}
	free, legal := add(sender, ""), add(recipient, "legal")
	for _, c := range []struct {
		scopes []string
		sees   []string
	}{
		{[]string{"pec.read"}, []string{free.GetName()}},
		{[]string{"pec.read", "mailbox.sales"}, []string{free.GetName()}},
		{[]string{"pec.read", "mailbox.legal"}, []string{legal.GetName(), free.GetName()}},
	} {
		api := pecv1.NewPecServiceClient(h.Tenant("pec-gateway", tenant, c.scopes...))
		list, err := api.ListMailboxes(t.Context(), &pecv1.ListMailboxesRequest{Parent: parent})
		require.NoError(t, err)
		var names []string
		for _, m := range list.GetMailboxes() {
			names = append(names, m.GetName())
		}
		require.Equal(t, c.sees, names)
		_, err = api.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: legal.GetName()})
		if len(c.sees) == 1 {
			requireFault(t, err, "MAILBOX_NOT_FOUND")
		} else {
			require.NoError(t, err)
		}
	}
	other := pecv1.NewPecServiceClient(h.Tenant("pec-gateway", "rival"))
	_, err := other.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: free.GetName()})
	require.Error(t, err)
	_, err = other.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: "tenants/rival/mailboxes/" + free.GetName()[len(parent+"/mailboxes/"):]})
	requireFault(t, err, "MAILBOX_NOT_FOUND")
}

// TestOnboardingSaysWhatIsWrong: each step of the test with its verdict; nothing is made of a mailbox that
// does not open.
func TestOnboardingSaysWhatIsWrong(t *testing.T) {
	h := open(t, "")
	secret := h.password(sender)
	at := h.world.Endpoints().PEC
	_, port, err := net.SplitHostPort(at.IMAPSAddr)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		servers  *pecv1.MailboxServers
		access   pecv1.MailboxAccess
		password string
		fails    pecv1.ProbeStep
		code     string
	}{
		"good":           {password: secret},
		"good over POP3": {password: secret, access: pecv1.MailboxAccess_MAILBOX_ACCESS_POP3},
		"no such server": {servers: &pecv1.MailboxServers{Imap: "nessuno.invalid:993"}, password: secret, fails: pecv1.ProbeStep_PROBE_STEP_DNS, code: "MAILBOX_SERVER_UNKNOWN"},
		"nobody listens": {servers: &pecv1.MailboxServers{Imap: "127.0.0.1:1"}, password: secret, fails: pecv1.ProbeStep_PROBE_STEP_TLS, code: "MAILBOX_SERVER_AWAY"},
		"wrong name":     {servers: &pecv1.MailboxServers{Imap: "127.0.0.2:" + port}, password: secret, fails: pecv1.ProbeStep_PROBE_STEP_TLS},
		"wrong password": {password: "sbagliata", fails: pecv1.ProbeStep_PROBE_STEP_AUTH, code: "MAILBOX_AUTH_FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &pecv1.Mailbox{Address: sender, Provider: "sandbox", Servers: c.servers, Access: c.access}
			got, err := h.api.TestMailbox(t.Context(), &pecv1.TestMailboxRequest{Parent: parent, Mailbox: in, Password: c.password})
			require.NoError(t, err)
			require.Len(t, got.GetSteps(), 5)
			require.Equal(t, c.fails == 0, got.GetPassed(), "%v", got.GetSteps())
			for _, step := range got.GetSteps() {
				if step.GetStep() == c.fails {
					require.Equal(t, pecv1.ProbeVerdict_PROBE_VERDICT_FAILED, step.GetVerdict(), "%v", step)
					if c.code != "" {
						require.Equal(t, c.code, step.GetCode(), "%v", step)
					}
					require.NotContains(t, step.GetDetail(), c.password)
				}
			}
			if c.fails != 0 {
				_, err = h.api.CreateMailbox(t.Context(), &pecv1.CreateMailboxRequest{Parent: parent, Mailbox: in, Password: c.password})
				requireFault(t, err, "MAILBOX_TEST_FAILED")
			}
		})
	}
	require.Zero(t, h.query(`SELECT count(*) FROM mailbox`))
}

// TestG5PasswordChanged: a password that does not hold any more degrades the mailbox, told once and not
// tried over and over; the new one mends it at once. Suspended means that nobody looks.
func TestG5PasswordChanged(t *testing.T) {
	h := open(t, "")
	h.believe()
	box := h.add(recipient)
	h.lookedAgain(box)
	fresh := h.password(recipient)                                             // at the provider
	require.NoError(t, h.sandbox.ChangePECUIDValidity(t.Context(), recipient)) // cuts the session
	h.eventually("degraded", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_DEGRADED })
	require.Equal(t, "MAILBOX_AUTH_FAILED", h.box(box).GetProblemCode())
	h.eventually("told", func() bool { return len(heard[*pecv1.MailboxDegraded](h)) == 1 })
	_, err := h.api.ChangeMailboxPassword(t.Context(), &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: "no"})
	requireFault(t, err, "MAILBOX_TEST_FAILED")
	_, err = h.api.ChangeMailboxPassword(t.Context(), &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: fresh})
	require.NoError(t, err)
	h.eventually("active", func() bool { return h.box(box).GetState() == pecv1.MailboxState_MAILBOX_STATE_ACTIVE })
	require.Empty(t, h.box(box).GetProblemCode())

	_, err = h.api.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	require.Equal(t, pecv1.MailboxState_MAILBOX_STATE_PAUSED, h.box(box).GetState())
	h.inject(recipient, plain("intanto"))
	require.Empty(t, h.list(box))
	_, err = h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	h.kept(box)
	require.Len(t, heard[*pecv1.MailboxDegraded](h), 1)
	h.invariants(box)
}
