package pecgateway_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/auth"
)

// TestG9DenialsAreRecorded: whoever guesses the name of a mailbox that is not for him, or does what he may not, stands in
// the audit records with what was asked, once for many equal refusals; whoever may is not there.
func TestG9DenialsAreRecorded(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	open, labelled := h.add(recipient), h.add(sender, func(m *pecv1.Mailbox) { m.Label = "direzione" })
	caller := func(id string, scopes ...string) pecv1.PecServiceClient {
		return pecv1.NewPecServiceClient(h.DialKey("pec-gateway", h.Key(auth.Caller{ID: parent + "/apiKeys/" + id, Role: auth.RoleTenant, Tenant: tenant, Scopes: scopes})))
	}
	desk := pecv1.NewPecDeskServiceClient(h.Tenant("pec-gateway", tenant))
	_, err := desk.SetMailboxAccess(t.Context(), &pecv1.SetMailboxAccessRequest{Permissions: &pecv1.MailboxPermissions{Name: open.GetName(), Grants: []*pecv1.MailboxGrant{
		{Caller: "key:lettore", Right: pecv1.MailboxRight_MAILBOX_RIGHT_READ}, {Caller: "key:capo", Right: pecv1.MailboxRight_MAILBOX_RIGHT_MANAGE},
	}}})
	require.NoError(t, err)
	reader := caller("lettore", "pec.read", "pec.write")
	for range 20 {
		_, err = reader.GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: labelled.GetName()})
		requireFault(t, err, "MAILBOX_NOT_FOUND")
	}
	_, err = reader.SuspendMailbox(t.Context(), &pecv1.SuspendMailboxRequest{Name: open.GetName()})
	requireFault(t, err, "MAILBOX_RIGHT_MISSING")
	_, err = caller("nessuno", "pec.read").GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: open.GetName()})
	requireFault(t, err, "MAILBOX_NOT_FOUND")
	_, err = caller("direttore", "pec.read", "mailbox.direzione").GetMailbox(t.Context(), &pecv1.GetMailboxRequest{Name: labelled.GetName()})
	require.NoError(t, err)

	times := func(actor, mailbox, method, code string) int {
		return h.query(`SELECT coalesce(sum((detail->>'times')::int), 0) FROM audit_entry WHERE action = 'mailbox.denied' AND outcome = 'denied' AND tenant_id = $1
			AND actor = $2 AND resource = $3 AND detail->>'method' = $4 AND detail->>'code' = $5`, tenant, "key:"+parent+"/apiKeys/"+actor, mailbox, method, code)
	}
	h.eventually("all are recorded", func() bool {
		return times("lettore", labelled.GetName(), pecv1.PecService_GetMailbox_FullMethodName, "MAILBOX_NOT_FOUND") == 20 &&
			times("lettore", open.GetName(), pecv1.PecService_SuspendMailbox_FullMethodName, "MAILBOX_RIGHT_MISSING") == 1 &&
			times("nessuno", open.GetName(), pecv1.PecService_GetMailbox_FullMethodName, "MAILBOX_NOT_FOUND") == 1
	})
	require.Zero(t, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'mailbox.denied' AND actor NOT IN ($1, $2)`, "key:"+parent+"/apiKeys/lettore", "key:"+parent+"/apiKeys/nessuno"))
	require.Less(t, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'mailbox.denied' AND resource = $1`, labelled.GetName()), 20, "equal refusals make one record")
	h.invariants(open, labelled)
}
