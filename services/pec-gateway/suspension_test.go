package pecgateway_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// TestSuspendedTenant: mail goes on coming in and being read, its password can be changed, and what was accepted for
// sending before leaves; nothing new is sent, and no mailbox is added.
func TestSuspendedTenant(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	ctx := t.Context()
	box := p.add(recipient)
	before := p.send(recipient)
	p.Suspend(tenant, "canone non pagato")

	_, err := p.api.SendMessage(ctx, p.request(recipient))
	requireFault(t, err, "TENANT_SUSPENDED")
	require.ErrorContains(t, err, "canone non pagato")
	_, err = p.api.CreateMailbox(ctx, &pecv1.CreateMailboxRequest{Parent: parent, Mailbox: &pecv1.Mailbox{Address: "nuova@alfa.test", Provider: "sandbox"}, Password: "x", RequestId: uuid.NewString()})
	requireFault(t, err, "TENANT_SUSPENDED")
	up, err := p.delivery.UploadAttachment(ctx)
	require.NoError(t, err)
	_, err = up.CloseAndRecv()
	requireFault(t, err, "TENANT_SUSPENDED")

	p.reaches(before, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	p.house.send(recipient) // by the webmail of its provider
	p.kept(box)
	inbox := p.list(box)
	require.NotEmpty(t, inbox)
	require.NotEmpty(t, p.get(inbox[0].GetName()).GetHeaders())
	_, err = p.desk().GetHub(ctx, &pecv1.GetHubRequest{Parent: parent})
	require.NoError(t, err)
	_, err = p.api.ChangeMailboxPassword(ctx, &pecv1.ChangeMailboxPasswordRequest{Name: box.GetName(), Password: p.password(recipient)})
	require.NoError(t, err, "or reception would end with the password")

	p.Resume(tenant)
	p.reaches(p.send(recipient), pecv1.DeliveryStep_DELIVERY_STEP_DONE)
	p.everything()
	p.house.invariants(box)
}
