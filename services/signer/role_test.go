package signer_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/sandbox/client"
)

// signsForARole: the platform's own credential for conservation has its key at a provider, and signs for other tenants.
// What it did there is the platform's; the signature is the tenant's. An answer that is lost is not asked for again until
// somebody has looked.
func (m *machine) signsForARole(t *testing.T) {
	const platform = "tenants/platform/companies/archive"
	operator := m.Operator("signer")
	providers := signv1.NewProviderServiceClient(operator)
	key, user := m.robot(t, "namirial")
	c, err := providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{Parent: platform, Kind: role, Key: key, RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Equal(t, role, c.GetKind())
	_, err = providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{
		Parent: platform, Kind: role, Key: key, Holder: "tenants/platform/users/u-1", RequestId: uuid.NewString()})
	requireCode(t, "HOLDER_OF_A_PERSON", err)

	service := signv1.NewSignServiceClient(m.DialAs("signer", "conservation"))
	sign := func(content, credential string) *signv1.SignBlobRequest {
		ref, err := m.probe.host.Blobs.Put(t.Context(), "acme", []byte(content))
		require.NoError(t, err)
		return &signv1.SignBlobRequest{Parent: "tenants/acme", Credential: platform + "/credentials/" + credential, Subject: "tenants/acme/packages/" + content,
			Content: blobOf(ref), RequestId: uuid.NewString()}
	}
	for _, credential := range []string{"-", last(c.GetName())} {
		req := sign("index by "+credential, credential)
		got, err := service.SignBlob(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_QUALIFIED, got.GetLevel())
		require.Equal(t, c.GetName(), got.GetCredential())
		m.opensslWhole(t, m.get(t, got.GetSigned()), []byte("index by "+credential))
		again, err := service.SignBlob(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, got.GetSigned().GetSha256(), again.GetSigned().GetSha256())
		require.Equal(t, got.GetLevel(), again.GetLevel())
		read, err := signv1.NewSignServiceClient(operator).GetSignature(t.Context(), &signv1.GetSignatureRequest{Name: got.GetName()})
		require.NoError(t, err)
		require.Equal(t, got.GetLevel(), read.GetLevel(), "also where only the tenant's own rows are seen")
	}
	require.Equal(t, 2, m.signedBy(t, user))

	lost := sign("lost", "-")
	require.NoError(t, m.world.AddFault(client.RemoteFault{Kind: client.Remote500After, Operation: "signPkcs1"}))
	for range 3 {
		_, err = service.SignBlob(t.Context(), lost)
		requireCode(t, unknown, err)
	}
	require.Equal(t, 3, m.signedBy(t, user))
	calls, err := providers.ListProviderCalls(t.Context(), &signv1.ListProviderCallsRequest{Parent: "tenants/platform", State: signv1.ProviderCallState_PROVIDER_CALL_STATE_UNKNOWN})
	require.NoError(t, err)
	require.Len(t, calls.GetProviderCalls(), 1)
	_, err = providers.ResolveProviderCall(t.Context(), &signv1.ResolveProviderCallRequest{
		Name: calls.GetProviderCalls()[0].GetName(), Resolution: signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_SIGNED, Note: "in the list"})
	require.NoError(t, err)
	got, err := service.SignBlob(t.Context(), lost)
	require.NoError(t, err)
	m.opensslWhole(t, m.get(t, got.GetSigned()), []byte("lost"))
	require.Equal(t, 4, m.signedBy(t, user))
}
