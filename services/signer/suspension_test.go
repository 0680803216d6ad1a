package signer_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/auth"
)

// TestSuspendedTenant: no signature, stamp or credential is made, over gRPC and over the CSC API, also not with an
// authorization that was given before; what is there is listed, and invoices that were accepted before are signed.
func TestSuspendedTenant(t *testing.T) {
	t.Parallel()
	r := openCSC(t, "")
	p := r.person(t, p256, "+393331112299")
	r.credential(t, company, automatic, p256)
	hashes := digests("a contract")
	sad := p.sad(t, hashes, 1)
	r.Suspend("acme", "unpaid")

	_, err := p.signHash(t, sad, hashes)
	var refusal *csc.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, csc.CodeAccessDenied, refusal.Code)
	require.Contains(t, refusal.Description, "tenants/acme has been suspended since 2026-11-01T09:00:00Z by an operator of the platform (unpaid)")
	var list csc2.ListResponse
	require.NoError(t, p.post(t, csc2.List, csc2.ListRequest{CredentialInfo: true}, &list))
	require.Contains(t, list.CredentialIDs, p.id)

	conn := r.DialKey("signer", r.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	api := signv1.NewSignServiceClient(conn)
	_, err = api.CreateCredential(t.Context(), &signv1.CreateCredentialRequest{Parent: company, RequestId: uuid.NewString(),
		Credential: &signv1.Credential{Kind: seal, KeyType: p256, CommonName: "Alfa"}})
	requireCode(t, "TENANT_SUSPENDED", err)
	_, err = signv1.NewDocumentServiceClient(conn).CreateTimestamp(t.Context(), &signv1.CreateTimestampRequest{Parent: "tenants/acme", Sha256: hashes[0]})
	requireCode(t, "TENANT_SUSPENDED", err)
	_, err = api.GetCredential(t.Context(), &signv1.GetCredentialRequest{Name: p.name})
	require.NoError(t, err)
	subject := r.probe.accept(t, true, []byte("<fattura>accepted before</fattura>"), 1)
	eventually(t, "it is signed", func() bool { return len(r.probe.signedOf(subject)) == 1 })

	r.Resume("acme")
	sigs, err := p.signHash(t, sad, hashes)
	require.NoError(t, err, "the authorization was not used up")
	p.verify(t, hashes[0], sigs[0])
}
