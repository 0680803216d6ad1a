package signer_test

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
)

const aDay = 24 * time.Hour

func (h *house) life() signv1.CredentialServiceClient {
	return signv1.NewCredentialServiceClient(h.Operator("signer"))
}

// events counts what was told of a kind about a credential: rows of the outbox are gone once they are sent,
// so it is the audit record and the probe that are asked.
func (h *house) acts(t testing.TB, action, resource string) (n int) {
	t.Helper()
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(context.Background(),
		`SELECT count(*) FROM audit_entry WHERE action = $1 AND resource = $2`, action, resource).Scan(&n))
	return n
}

func (h *house) signBlob(t testing.TB, credential, content string) error {
	t.Helper()
	ref, err := h.probe.host.Blobs.Put(context.Background(), "acme", []byte(content))
	require.NoError(t, err)
	_, err = signv1.NewSignServiceClient(h.DialAs("signer", "conservation")).SignBlob(context.Background(), &signv1.SignBlobRequest{
		Parent: "tenants/acme", Credential: credential, Subject: "s-" + uuid.NewString(), Content: blobOf(ref), RequestId: uuid.NewString(),
	})
	return err
}

// TestSuspendAndReactivate: a suspended credential does nothing of any kind; then it does again.
func TestSuspendAndReactivate(t *testing.T) {
	t.Parallel()
	m := openMessages(t)
	s := m.person(t, holder)
	s.enrolSent(t, sms, phone)
	ch := s.challenge(t, "before")
	_, err := s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	require.NoError(t, err)
	given, err := s.authorize(ch, s.lastPassword(t, phone))
	require.NoError(t, err)

	life := m.life()
	_, err = life.ReactivateCredential(t.Context(), &signv1.ReactivateCredentialRequest{Name: s.name})
	code(t, err, fault.KindPrecondition, "CREDENTIAL_NOT_SUSPENDED")
	stopped, err := life.SuspendCredential(t.Context(), &signv1.SuspendCredentialRequest{Name: s.name, Reason: "telephone lost"})
	require.NoError(t, err)
	require.Equal(t, signv1.CredentialState_CREDENTIAL_STATE_SUSPENDED, stopped.GetState())
	again, err := life.SuspendCredential(t.Context(), &signv1.SuspendCredentialRequest{Name: s.name, Reason: "again"})
	require.NoError(t, err, "twice is once")
	require.Equal(t, stopped.GetEtag(), again.GetEtag())
	status, err := life.GetCredentialStatus(t.Context(), &signv1.GetCredentialStatusRequest{Name: s.name})
	require.NoError(t, err)
	require.Equal(t, "telephone lost", status.GetSuspendReason())
	require.NotNil(t, status.GetSuspendTime())

	sign := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: ch.GetDocumentSha256(), RequestId: uuid.NewString()}
	_, err = s.auth.SignHashes(t.Context(), sign)
	code(t, err, fault.KindPrecondition, "CREDENTIAL_SUSPENDED")
	sum := sha256.Sum256([]byte("x"))
	_, err = s.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: s.name, DocumentSha256: [][]byte{sum[:]}})
	code(t, err, fault.KindPrecondition, "CREDENTIAL_SUSPENDED")
	_, err = s.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: s.name, NewPin: "59260471", Pin: goodPIN, Otp: "00000000"})
	code(t, err, fault.KindPrecondition, "CREDENTIAL_SUSPENDED")
	role := m.credential(t, company, signv1.CredentialKind_CREDENTIAL_KIND_ROLE, p256).GetName()
	require.NoError(t, m.signBlob(t, role, "one"))
	_, err = life.SuspendCredential(t.Context(), &signv1.SuspendCredentialRequest{Name: role, Reason: "audit"})
	require.NoError(t, err)
	code(t, m.signBlob(t, role, "two"), fault.KindPrecondition, "CREDENTIAL_NOT_ACTIVE")
	_, err = m.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: role, CertificatePem: m.issue(t, stoppedCSR(t, m.house, role), ca.ProfileSigning)})
	require.NoError(t, err)
	code(t, m.signBlob(t, role, "three"), fault.KindPrecondition, "CREDENTIAL_NOT_ACTIVE") // a new certificate ends no suspension
	_, err = life.ReactivateCredential(t.Context(), &signv1.ReactivateCredentialRequest{Name: role})
	require.NoError(t, err)
	require.NoError(t, m.signBlob(t, role, "four"))

	back, err := life.ReactivateCredential(t.Context(), &signv1.ReactivateCredentialRequest{Name: s.name})
	require.NoError(t, err)
	require.Equal(t, signv1.CredentialState_CREDENTIAL_STATE_ACTIVE, back.GetState())
	_, err = s.auth.SignHashes(t.Context(), sign)
	require.NoError(t, err, "what was authorized before may go on, while it holds")
	_, err = m.client.RevokeCredential(t.Context(), &signv1.RevokeCredentialRequest{Name: s.name})
	require.NoError(t, err)
	_, err = life.SuspendCredential(t.Context(), &signv1.SuspendCredentialRequest{Name: s.name, Reason: "late"})
	code(t, err, fault.KindPrecondition, "CREDENTIAL_NOT_ACTIVE")
	_, err = life.ReactivateCredential(t.Context(), &signv1.ReactivateCredentialRequest{Name: s.name})
	code(t, err, fault.KindPrecondition, "CREDENTIAL_NOT_SUSPENDED") // revoked is for good
	eventually(t, "the bus was told of each", func() bool { return m.probe.states(s.name) == "SUSPENDED ACTIVE REVOKED" })
}

func stoppedCSR(t testing.TB, h *house, name string) string {
	t.Helper()
	c, err := h.client.GetCredential(context.Background(), &signv1.GetCredentialRequest{Name: name})
	require.NoError(t, err)
	return c.GetCsrPem()
}

// TestRenewal: on the same key and on a new version, with validity that overlaps; PINs stay right.
func TestRenewal(t *testing.T) {
	t.Parallel()
	c := &clock{}
	m := openMessagesWith(t, nil, c, "  keys: {check_every: 50ms}\n")
	s := m.person(t, holder)
	s.enrolSent(t, sms, phone)
	life := m.life()
	use := func() {
		t.Helper()
		m.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 hour'`)
		ch := s.challenge(t, uuid.NewString())
		_, err := s.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		require.NoError(t, err)
		given, err := s.authorize(ch, s.lastPassword(t, phone))
		require.NoError(t, err, "the PIN is the same, whatever the version of the key")
		_, err = s.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: ch.GetDocumentSha256(), RequestId: uuid.NewString()})
		require.NoError(t, err)
	}
	status := func() *signv1.CredentialStatus {
		t.Helper()
		got, err := life.GetCredentialStatus(t.Context(), &signv1.GetCredentialStatusRequest{Name: s.name})
		require.NoError(t, err)
		return got
	}
	fresh, err := m.client.CreateCredential(t.Context(), &signv1.CreateCredentialRequest{Parent: company, Credential: &signv1.Credential{Kind: automatic, KeyType: p256, CommonName: "New"}})
	require.NoError(t, err)
	_, err = life.RenewCredential(t.Context(), &signv1.RenewCredentialRequest{Name: fresh.GetName()})
	code(t, err, fault.KindPrecondition, "CREDENTIAL_NOT_ACTIVE")

	same, err := life.RenewCredential(t.Context(), &signv1.RenewCredentialRequest{Name: s.name})
	require.NoError(t, err)
	require.EqualValues(t, 1, same.GetKeyVersion())
	again, err := life.RenewCredential(t.Context(), &signv1.RenewCredentialRequest{Name: s.name})
	require.NoError(t, err)
	require.Equal(t, same.GetCsrPem(), again.GetCsrPem(), "a repeat gives the request that waits")
	use()
	_, err = m.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: s.name, CertificatePem: m.issue(t, same.GetCsrPem(), ca.ProfileSigning)})
	require.NoError(t, err)
	require.Nil(t, status().GetRenewal())
	use()

	// A new version, whose certificate is valid from tomorrow: today's signs until then.
	renewed, err := life.RenewCredential(t.Context(), &signv1.RenewCredentialRequest{Name: s.name, NewKey: true})
	require.NoError(t, err)
	require.EqualValues(t, 2, renewed.GetKeyVersion())
	require.EqualValues(t, 2, status().GetRenewal().GetKeyVersion())
	use()
	future, err := ca.New(ca.Options{Now: func() time.Time { return c.now().Add(aDay) }})
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(renewed.GetCsrPem()))
	cert, err := future.SignCSR(block.Bytes, ca.ProfileSigning)
	require.NoError(t, err)
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(future.CertPEM())
	_, err = m.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: s.name, CertificatePem: chain})
	require.NoError(t, err)
	now := status()
	require.EqualValues(t, 1, now.GetKeyVersion())
	require.Equal(t, []signv1.CertificateUse{signv1.CertificateUse_CERTIFICATE_USE_NEXT, signv1.CertificateUse_CERTIFICATE_USE_CURRENT, signv1.CertificateUse_CERTIFICATE_USE_PAST}, uses(now))
	use()
	c.advance(aDay)
	eventually(t, "the next certificate signs", func() bool { return status().GetKeyVersion() == 2 })
	require.Equal(t, []signv1.CertificateUse{signv1.CertificateUse_CERTIFICATE_USE_CURRENT, signv1.CertificateUse_CERTIFICATE_USE_PAST, signv1.CertificateUse_CERTIFICATE_USE_PAST}, uses(status()))
	use()

	// One for a key that was never asked about is refused.
	stranger := m.credential(t, company, person, p256)
	_, err = m.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: s.name, CertificatePem: stranger.GetCertificatePem()})
	code(t, err, fault.KindInvalid, "CERTIFICATE_KEY_MISMATCH")
}

func uses(s *signv1.CredentialStatus) (out []signv1.CertificateUse) {
	for _, c := range s.GetCertificates() {
		out = append(out, c.GetUse())
	}
	return out
}

// TestExpiryWarnings: at 60, 30 and 7 days, each once, by event, mail and in the operators' list; none when
// the next certificate waits.
func TestExpiryWarnings(t *testing.T) {
	t.Parallel()
	c := &clock{}
	m := openMessagesWith(t, nil, c, "  keys: {check_every: 30ms}\n")
	s := m.person(t, holder)
	_, err := s.devices.SetHolderContact(t.Context(), &signv1.SetHolderContactRequest{Name: s.name, Email: "maria.rossi@example.com", Pin: goodPIN})
	require.NoError(t, err)
	life := m.life()
	have, err := m.client.GetCredential(t.Context(), &signv1.GetCredentialRequest{Name: s.name})
	require.NoError(t, err)
	end := have.GetExpireTime().AsTime()
	list := func() []*signv1.ExpiringCredential {
		t.Helper()
		got, err := life.ListExpiringCredentials(t.Context(), &signv1.ListExpiringCredentialsRequest{Parent: "tenants/-"})
		require.NoError(t, err)
		return got.GetCredentials()
	}
	require.Empty(t, list())
	given := 0
	for _, days := range []int{60, 30, 7} {
		c.advance(end.Add(-time.Duration(days) * aDay).Add(time.Hour).Sub(c.now()))
		given++
		eventually(t, "the bus is told", func() bool { return len(m.probe.expiring(s.name)) == given })
		eventually(t, "the holder is told", func() bool {
			n := 0
			for _, mail := range m.provider.Sent("maria.rossi@example.com") {
				if strings.Contains(mail.Text, "scade il "+end.UTC().Format("02/01/2006")) {
					n++
				}
			}
			return n == given
		})
		require.EqualValues(t, days, m.probe.expiring(s.name)[given-1].GetDays())
		require.Len(t, list(), 1)
		require.EqualValues(t, days, list()[0].GetWarnedDays())
		require.EqualValues(t, days-1, list()[0].GetDaysLeft())
	}
	m.again(t)
	s.dial()
	life = m.life()
	other := m.person(t, holder) // its certificate is made of an authority of today: 3 years
	eventually(t, "a look was taken after the restart", func() bool { return m.acts(t, "credential.warn", s.name) == 3 })
	require.Empty(t, m.probe.expiring(other.name))

	// A next certificate that waits ends the alarm.
	renewed, err := life.RenewCredential(t.Context(), &signv1.RenewCredentialRequest{Name: s.name})
	require.NoError(t, err)
	future, err := ca.New(ca.Options{Now: func() time.Time { return end.Add(-aDay) }})
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(renewed.GetCsrPem()))
	cert, err := future.SignCSR(block.Bytes, ca.ProfileSigning)
	require.NoError(t, err)
	_, err = m.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: s.name,
		CertificatePem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(future.CertPEM())})
	require.NoError(t, err)
	require.Empty(t, list())
}

// TestKeysAreLookedAtAtTheStart: somebody made a key exportable while nobody looked. The start finds it
// before any use.
func TestKeysAreLookedAtAtTheStart(t *testing.T) {
	t.Parallel()
	m := openMessages(t)
	name := m.credential(t, company, automatic, p256).GetName()
	good := m.credential(t, "tenants/acme/companies/other", automatic, p256).GetName()
	root, err := m.vault.Client()
	require.NoError(t, err)
	_, err = root.Logical().Write("transit/keys/ceralacca-"+last(name)+"/config", map[string]any{"exportable": true})
	require.NoError(t, err)
	m.again(t)
	eventually(t, "it is suspended", func() bool {
		got, err := m.life().GetCredentialStatus(t.Context(), &signv1.GetCredentialStatusRequest{Name: name})
		return err == nil && got.GetCredential().GetState() == signv1.CredentialState_CREDENTIAL_STATE_SUSPENDED && got.GetSuspendReason() == "KEY_REFUSED"
	})
	_, err = m.life().ReactivateCredential(t.Context(), &signv1.ReactivateCredentialRequest{Name: name})
	code(t, err, fault.KindPrecondition, "KEY_REFUSED")
	fine, err := m.client.GetCredential(t.Context(), &signv1.GetCredentialRequest{Name: good})
	require.NoError(t, err)
	require.Equal(t, signv1.CredentialState_CREDENTIAL_STATE_ACTIVE, fine.GetState())
}

// TestKeyPolicy: the table says what may be made and until when; a house may be stricter.
func TestKeyPolicy(t *testing.T) {
	t.Parallel()
	h := openWith(t, nil, "  keys: {rsa_3072_until: \"2027-06-30\"}\n")
	got, err := h.life().GetKeyPolicy(t.Context(), &signv1.GetKeyPolicyRequest{})
	require.NoError(t, err)
	require.Len(t, got.GetEntries(), 2)
	for _, e := range got.GetEntries() {
		switch e.GetKeyType() {
		case p256:
			require.True(t, e.GetAllowed())
			require.Nil(t, e.GetReliedOnUntil())
		default:
			require.Equal(t, "RSA-3072", e.GetAlgorithm())
			require.False(t, e.GetAllowed())
			require.Equal(t, "signer.keys", e.GetSource())
		}
	}
	_, err = h.client.CreateCredential(t.Context(), &signv1.CreateCredentialRequest{Parent: company, Credential: &signv1.Credential{Kind: automatic, KeyType: rsa3072, CommonName: "A"}})
	code(t, err, fault.KindPrecondition, "KEY_TYPE_NOT_ALLOWED")
}
