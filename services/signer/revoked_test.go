package signer_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// inVault is a key of which a test has the public half.
type inVault struct{ public crypto.PublicKey }

func (k inVault) Public() crypto.PublicKey { return k.public }

func (k inVault) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the key is in Vault")
}

// TestCertificateWithdrawnByItsAuthority: what the authority has revoked or suspended signs no more, and
// the reason says so; an authority that is away stops nobody.
func TestCertificateWithdrawnByItsAuthority(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	m := openMessagesWith(t, nil, nil, "  verification: {allow_networks: [127.0.0.0/8]}\n")
	made, err := m.client.CreateCredential(t.Context(), &signv1.CreateCredentialRequest{Parent: company, RequestId: uuid.NewString(),
		Credential: &signv1.Credential{Kind: signv1.CredentialKind_CREDENTIAL_KIND_ROLE, KeyType: p256, CommonName: "Alfa di prova"}})
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(made.GetCsrPem()))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(t, err)
	pair := o.pki.Issue(t, "Alfa di prova", inVault{csr.PublicKey}, func(c *x509.Certificate) { c.OCSPServer = []string{o.responder.URL} })
	name := made.GetName()
	_, err = m.client.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{Name: name,
		CertificatePem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Cert.Raw})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.pki.Root.Raw}))})
	require.NoError(t, err)

	after := func(status, reason, answer int) {
		t.Helper()
		o.status, o.reason, o.answer = status, reason, answer
		before := o.asked.Load()
		m.again(t)
		eventually(t, "the authority is asked", func() bool { return o.asked.Load() > before })
	}
	becomes := func(state signv1.CredentialState, reason string) {
		t.Helper()
		eventually(t, reason, func() bool {
			got, err := m.life().GetCredentialStatus(t.Context(), &signv1.GetCredentialStatusRequest{Name: name})
			return err == nil && got.GetCredential().GetState() == state && got.GetSuspendReason() == reason
		})
	}
	for answer, status := range map[int]int{http.StatusOK: ocsp.Good, http.StatusServiceUnavailable: ocsp.Revoked} {
		after(status, 0, answer)
		require.NoError(t, m.signBlob(t, name, "text"))
		require.Zero(t, m.acts(t, "credential.suspend", name))
	}
	after(ocsp.Revoked, ocsp.CertificateHold, http.StatusOK)
	becomes(signv1.CredentialState_CREDENTIAL_STATE_SUSPENDED, "CERTIFICATE_SUSPENDED")
	require.Error(t, m.signBlob(t, name, "text"))
	_, err = m.life().ReactivateCredential(t.Context(), &signv1.ReactivateCredentialRequest{Name: name})
	require.NoError(t, err, "who knows that it was lifted is not kept waiting")

	after(ocsp.Revoked, ocsp.KeyCompromise, http.StatusOK)
	becomes(signv1.CredentialState_CREDENTIAL_STATE_SUSPENDED, "CERTIFICATE_REVOKED")
	require.Error(t, m.signBlob(t, name, "text"))
	_, err = m.life().ReactivateCredential(t.Context(), &signv1.ReactivateCredentialRequest{Name: name})
	code(t, err, fault.KindPrecondition, "CERTIFICATE_REVOKED")
	require.Equal(t, 2, m.acts(t, "credential.suspend", name))
}
