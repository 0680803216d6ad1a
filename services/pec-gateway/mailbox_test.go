package pecgateway_test

import (
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
			Parent: parent, Mailbox: &pecv1.Mailbox{Address: address, Provider: "sandbox", Label: label}, Password: password, Untested: true})
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
