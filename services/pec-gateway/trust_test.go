package pecgateway_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// TestC9FirstSeenCertificates: a certificate whose chain and name hold and that no list names proves nothing
// until a person approves it; then the receipt that waited counts, and both reports stand.
func TestC9FirstSeenCertificates(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	_, err := h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{AuthoritiesPem: h.authorities()})
	require.NoError(t, err)
	box := h.add(sender)
	name := h.sent(box, "ours@alfa.test", recipient)
	require.NoError(t, h.sandbox.ForgePEC(t.Context(), client.PECForge{Mailbox: sender, Tipo: "accettazione", MsgID: "ours@alfa.test", Recipient: recipient, How: "valid"}))
	h.kept(box)
	receipt := h.receipts(box)[0]
	require.Equal(t, "valid-cert-unlisted", receipt.GetVerification().GetStatus())
	require.False(t, receipt.GetProven())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, h.get(name).GetState())
	seen, err := h.trust.ListSeenCertificates(t.Context(), &pecv1.ListSeenCertificatesRequest{State: pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_PENDING})
	require.NoError(t, err)
	require.Len(t, seen.GetCertificates(), 1)
	cert := seen.GetCertificates()[0]
	require.Equal(t, receipt.GetVerification().GetCertificateSha256(), cert.GetSha256())

	tenantTrust := pecv1.NewPecTrustServiceClient(h.Tenant("pec-gateway", tenant))
	decide := &pecv1.DecideSeenCertificateRequest{Sha256: cert.GetSha256(), Approve: true, Provider: "Gestore Alfa SANDBOX", Reason: "compared with the supervisory body's list"}
	_, err = tenantTrust.DecideSeenCertificate(t.Context(), decide)
	require.Error(t, err, "a tenant does not decide for all")
	got, err := h.trust.DecideSeenCertificate(t.Context(), decide)
	require.NoError(t, err)
	require.NotEmpty(t, got.GetDecidedBy())
	_, err = h.trust.DecideSeenCertificate(t.Context(), decide)
	requireFault(t, err, "CERTIFICATE_DECIDED")
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_PENDING, h.get(name).GetState(), "no retroactive change without a person (G7)")

	again, err := h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: receipt.GetName()})
	require.NoError(t, err)
	require.True(t, again.GetProven(), "%v", again.GetDoubts())
	require.Equal(t, name, again.GetAbout())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, h.get(name).GetState())
	require.Equal(t, 2, h.query(`SELECT count(*) FROM report`))
	require.Equal(t, 2, h.query(`SELECT count(*) FROM audit_entry WHERE action = 'pectrust.change'`))
	h.invariants(box)
}

// TestC11ImportKeepsEarlierCertificates: the signed index is believed under the right authority only, and a
// second import changes nothing.
func TestC11ImportKeepsEarlierCertificates(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	index, err := h.sandbox.PECIndex(t.Context())
	require.NoError(t, err)
	_, err = h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{Index: index, IndexAuthorityPem: h.authorities()})
	requireFault(t, err, "INDEX_INVALID")
	_, err = h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{Index: index})
	requireFault(t, err, "AUTHORITY_REQUIRED")
	got, err := h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{
		Index: index, IndexAuthorityPem: string(h.world.CAPEM()), AuthoritiesPem: h.authorities()})
	require.NoError(t, err)
	require.EqualValues(t, 2, got.GetProvidersAdded())
	require.EqualValues(t, 2, got.GetAuthoritiesAdded())
	ldif := "dn: providerName=Gestore Alfa SANDBOX,o=postacert\nproviderName: Gestore Alfa SANDBOX\nproviderCertificateHash: " + strings.Repeat("ab", 20) + "\nmanagedDomains: nuova.test\n"
	got, err = h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{Index: []byte(ldif)})
	require.NoError(t, err)
	require.EqualValues(t, 1, got.GetProvidersChanged())
	list, err := h.trust.ListTrustedProviders(t.Context(), &pecv1.ListTrustedProvidersRequest{})
	require.NoError(t, err)
	require.Equal(t, "2", list.GetVersion())
	require.Len(t, list.GetProviders(), 2)
	require.Contains(t, list.GetProviders()[0].GetDomains(), "nuova.test")
	require.Contains(t, list.GetProviders()[0].GetDomains(), "alfa.test")
	require.Len(t, list.GetProviders()[0].GetCertificatesSha1(), 2)
}
