package signer_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
)

const (
	automatic = signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC
	role      = signv1.CredentialKind_CREDENTIAL_KIND_ROLE
	p256      = signv1.KeyType_KEY_TYPE_EC_P256
	rsa3072   = signv1.KeyType_KEY_TYPE_RSA_3072
)

func code(t testing.TB, err error, kind fault.Kind, want string) {
	t.Helper()
	require.Error(t, err)
	f := fault.Of(err)
	require.Equal(t, want, f.Code, "%v", err)
	require.Equal(t, kind, f.Kind, "%v", err)
}

func TestCredentialLife(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	req := &signv1.CreateCredentialRequest{
		Parent: company, RequestId: uuid.NewString(),
		Credential: &signv1.Credential{Kind: automatic, KeyType: p256, CommonName: "Alfa"},
	}
	c, err := h.client.CreateCredential(ctx, req)
	require.NoError(t, err)
	require.Equal(t, signv1.CredentialState_CREDENTIAL_STATE_PENDING_CERTIFICATE, c.GetState())
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, c.GetLevel())
	block, _ := pem.Decode([]byte(c.GetCsrPem()))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(t, err)
	require.NoError(t, csr.CheckSignature())
	require.Equal(t, "Alfa", csr.Subject.CommonName)

	again, err := h.client.CreateCredential(ctx, req)
	require.NoError(t, err)
	require.Equal(t, c.GetName(), again.GetName())
	require.Equal(t, c.GetCsrPem(), again.GetCsrPem())
	req.Credential.CommonName = "Beta"
	_, err = h.client.CreateCredential(ctx, req)
	code(t, err, fault.KindConflict, "REQUEST_ID_REUSED")

	bad := func(want, pemText string) {
		t.Helper()
		_, err := h.client.ImportCertificate(ctx, &signv1.ImportCertificateRequest{Name: c.GetName(), CertificatePem: pemText})
		code(t, err, fault.KindInvalid, want)
	}
	good := h.issue(t, c.GetCsrPem(), ca.ProfileSigning)
	bad("CERTIFICATE_PEM", "hello")
	bad("CERTIFICATE_PEM", strings.ReplaceAll(good, "CERTIFICATE", "PRIVATE KEY"))
	bad("CERTIFICATE_NOT_FOR_SIGNING", h.issue(t, c.GetCsrPem(), ca.ProfileAuthentication))
	bad("CERTIFICATE_CHAIN", strings.TrimSuffix(good, string(h.ca.CertPEM())))
	other, err := ca.New(ca.Options{})
	require.NoError(t, err)
	bad("CERTIFICATE_CHAIN", strings.TrimSuffix(good, string(h.ca.CertPEM()))+string(other.CertPEM()))
	expired, err := h.ca.SignCSRValid(block.Bytes, ca.ProfileSigning, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	bad("CERTIFICATE_EXPIRED", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: expired.Raw}))+string(h.ca.CertPEM()))
	foreign, err := h.client.CreateCredential(ctx, &signv1.CreateCredentialRequest{
		Parent: company, Credential: &signv1.Credential{Kind: role, KeyType: rsa3072, CommonName: "Gamma"},
	})
	require.NoError(t, err)
	bad("CERTIFICATE_KEY_MISMATCH", h.issue(t, foreign.GetCsrPem(), ca.ProfileSigning))

	ready := h.certify(t, c, ca.ProfileSigning)
	require.Equal(t, 2, strings.Count(ready.GetCertificatePem(), "BEGIN CERTIFICATE"))
	require.NotNil(t, ready.GetExpireTime())

	page, err := h.client.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: "tenants/acme/companies/-", PageSize: 1})
	require.NoError(t, err)
	require.Len(t, page.GetCredentials(), 1)
	page2, err := h.client.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: "tenants/acme/companies/-", PageSize: 1, PageToken: page.GetNextPageToken()})
	require.NoError(t, err)
	require.Len(t, page2.GetCredentials(), 1)
	require.Empty(t, page2.GetNextPageToken())
	require.NotEqual(t, page.GetCredentials()[0].GetName(), page2.GetCredentials()[0].GetName())
	_, err = h.client.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: company, PageToken: page.GetNextPageToken()})
	code(t, err, fault.KindInvalid, "PAGE_TOKEN_INVALID")

	revoked, err := h.client.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: c.GetName()})
	require.NoError(t, err)
	require.Equal(t, signv1.CredentialState_CREDENTIAL_STATE_REVOKED, revoked.GetState())
	_, err = h.client.ImportCertificate(ctx, &signv1.ImportCertificateRequest{Name: c.GetName(), CertificatePem: good})
	code(t, err, fault.KindPrecondition, "CREDENTIAL_REVOKED")
	for _, name := range []string{company + "/credentials/nonsense", company + "/credentials/" + uuid.NewString(), "tenants/acme/companies/other/credentials/" + strings.Split(c.GetName(), "/")[5]} {
		_, err = h.client.GetCredential(ctx, &signv1.GetCredentialRequest{Name: name})
		code(t, err, fault.KindNotFound, "CREDENTIAL_NOT_FOUND")
	}
	var acts int
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM audit_entry WHERE resource = $1`, c.GetName()).Scan(&acts))
	require.Equal(t, 3, acts, "create, import, revoke")
}

func TestOtherTenantsSeeNothing(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	c := h.credential(t, company, automatic, p256)
	stranger := signv1.NewSignServiceClient(h.Tenant("signer", "other"))
	_, err := stranger.GetCredential(ctx, &signv1.GetCredentialRequest{Name: c.GetName()})
	code(t, err, fault.KindDenied, "FOREIGN_RESOURCE")
	_, err = stranger.GetCredential(ctx, &signv1.GetCredentialRequest{Name: strings.Replace(c.GetName(), "acme", "other", 1)})
	code(t, err, fault.KindNotFound, "CREDENTIAL_NOT_FOUND")
	list, err := stranger.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: "tenants/other/companies/-"})
	require.NoError(t, err)
	require.Empty(t, list.GetCredentials())
	err = h.DB("signer").Tx(ctx, "other", func(ctx context.Context, tx pgx.Tx) error {
		var n int
		for _, table := range []string{"credential", "signature"} {
			err := tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n)
			require.NoError(t, err)
			require.Zero(t, n, table)
		}
		_, err := tx.Exec(ctx, `UPDATE credential SET tenant_id = 'other'`)
		return err
	})
	require.NoError(t, err)
	_, err = h.client.GetCredential(ctx, &signv1.GetCredentialRequest{Name: c.GetName()})
	require.NoError(t, err, "still acme's")
}

func TestKeyThatCouldLeaveVaultIsRefused(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	c, err := h.client.CreateCredential(ctx, &signv1.CreateCredentialRequest{
		Parent: company, Credential: &signv1.Credential{Kind: automatic, KeyType: p256, CommonName: "Alfa"},
	})
	require.NoError(t, err)
	root, err := h.vault.Client()
	require.NoError(t, err)
	key := "transit/keys/ceralacca-" + strings.Split(c.GetName(), "/")[5]
	_, err = root.Logical().Write(key+"/config", map[string]any{"exportable": true})
	require.NoError(t, err)
	_, err = h.client.ImportCertificate(ctx, &signv1.ImportCertificateRequest{Name: c.GetName(), CertificatePem: h.issue(t, c.GetCsrPem(), ca.ProfileSigning)})
	code(t, err, fault.KindPrecondition, "KEY_REFUSED")
}

func TestAcceptedInvoicesAreSignedOnce(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]signv1.KeyType{"P-256": p256, "RSA-3072": rsa3072} {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			c := h.credential(t, company, automatic, key)
			rotate(t, h, c) // the certificate's version of the key goes on signing
			const n = 60
			contents := map[string][]byte{}
			for i := range n {
				content := fmt.Appendf(nil, "<fattura>%d %s</fattura>", i, strings.Repeat("x", i*50))
				contents[h.probe.accept(t, true, content, 1+i%3)] = content
			}
			silent := h.probe.accept(t, false, []byte("<no/>"), 1)
			eventually(t, "all signed", func() bool { return len(h.probe.signedOf("")) >= n })
			require.Len(t, h.probe.signedOf(""), n)
			require.Empty(t, h.probe.signedOf(silent))
			checked := 0
			for subject, content := range contents {
				events := h.probe.signedOf(subject)
				require.Len(t, events, 1)
				require.Equal(t, "FPR12", events[0].GetFormat())
				if checked++; checked <= 5 {
					h.opensslAccepts(t, h.get(t, events[0].GetSigned()), content)
				}
				sig, err := h.client.GetSignature(context.Background(), &signv1.GetSignatureRequest{Name: events[0].GetSignature()})
				require.NoError(t, err)
				require.Equal(t, signv1.SignatureState_SIGNATURE_STATE_DONE, sig.GetState())
				require.Equal(t, c.GetName(), sig.GetCredential())
			}
			list, err := h.client.ListSignatures(context.Background(), &signv1.ListSignaturesRequest{Parent: "tenants/acme", PageSize: 1000})
			require.NoError(t, err)
			require.Len(t, list.GetSignatures(), n)
		})
	}
}

func rotate(t *testing.T, h *house, c *signv1.Credential) {
	t.Helper()
	root, err := h.vault.Client()
	require.NoError(t, err)
	_, err = root.Logical().Write("transit/keys/ceralacca-"+strings.Split(c.GetName(), "/")[5]+"/rotate", nil)
	require.NoError(t, err)
}

func TestWithoutCredentialItWaitsForOne(t *testing.T) {
	t.Parallel()
	h := open(t)
	subject := h.probe.accept(t, true, []byte("<fattura/>"), 1)
	eventually(t, "told that it failed", func() bool { return len(h.probe.failedOf(subject)) == 1 })
	require.Equal(t, "NO_ACTIVE_CREDENTIAL", h.probe.failedOf(subject)[0].GetCode())
	list, err := h.client.ListSignatures(context.Background(), &signv1.ListSignaturesRequest{Parent: "tenants/acme", Subject: subject})
	require.NoError(t, err)
	require.Equal(t, signv1.SignatureState_SIGNATURE_STATE_FAILED, list.GetSignatures()[0].GetState())
	require.Contains(t, list.GetSignatures()[0].GetFailure(), "NO_ACTIVE_CREDENTIAL")

	h.credential(t, "tenants/acme/companies/another", automatic, p256)
	h.credential(t, company, role, p256)
	require.Empty(t, h.probe.signedOf(subject), "neither another company's credential nor a role's signs invoices")
	h.credential(t, company, automatic, p256)
	eventually(t, "signed", func() bool { return len(h.probe.signedOf(subject)) == 1 })
	h.opensslAccepts(t, h.get(t, h.probe.signedOf(subject)[0].GetSigned()), []byte("<fattura/>"))
}

func TestVaultAwayAndBack(t *testing.T) {
	t.Parallel()
	ownVault(t)
	h, ctx := open(t), context.Background()
	h.credential(t, company, automatic, p256)
	require.NoError(t, h.vault.Stop())
	var subjects []string
	for i := range 10 {
		subjects = append(subjects, h.probe.accept(t, true, fmt.Appendf(nil, "<f n='%d'/>", i), 2))
	}
	_, err := h.client.CreateCredential(ctx, &signv1.CreateCredentialRequest{
		Parent: company, Credential: &signv1.Credential{Kind: automatic, KeyType: p256, CommonName: "Alfa"},
	})
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind, "%v", err)
	time.Sleep(1500 * time.Millisecond)
	require.Empty(t, h.probe.signedOf(""))
	require.NoError(t, h.vault.Restart(ctx))
	eventually(t, "signed after the return", func() bool { return len(h.probe.signedOf("")) >= len(subjects) })
	time.Sleep(300 * time.Millisecond)
	for _, s := range subjects {
		require.Len(t, h.probe.signedOf(s), 1)
		require.Empty(t, h.probe.failedOf(s))
	}
	// The key whose making was cut short is made by its job.
	eventually(t, "the interrupted credential has its request", func() bool {
		list, err := h.client.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: company})
		require.NoError(t, err)
		for _, c := range list.GetCredentials() {
			if c.GetCsrPem() == "" {
				return false
			}
		}
		return len(list.GetCredentials()) == 2
	})
	var parked int
	require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM parked_event`).Scan(&parked))
	require.Zero(t, parked)
}

func TestRevokedWhileItSigns(t *testing.T) {
	t.Parallel()
	ownVault(t)
	h, ctx := open(t), context.Background()
	c := h.credential(t, company, automatic, p256)
	warm := h.probe.accept(t, true, []byte("<warm/>"), 1)
	eventually(t, "warm", func() bool { return len(h.probe.signedOf(warm)) == 1 })
	require.NoError(t, h.vault.Pause())
	subject := h.probe.accept(t, true, []byte("<fattura/>"), 1)
	eventually(t, "the job is at work: it hangs in Vault", func() bool {
		var running int
		require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM river_job WHERE kind = 'sign' AND state = 'running'`).Scan(&running))
		return running > 0
	})
	_, err := h.client.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: c.GetName()})
	require.NoError(t, err)
	require.NoError(t, h.vault.Resume())
	eventually(t, "not released", func() bool { return len(h.probe.failedOf(subject)) == 1 })
	require.Equal(t, "NO_ACTIVE_CREDENTIAL", h.probe.failedOf(subject)[0].GetCode())
	require.Empty(t, h.probe.signedOf(subject))
}

func TestMissingDocumentFailsAlone(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	h.credential(t, company, automatic, p256)
	lost := h.probe.accept(t, true, []byte("<lost/>"), 0)
	require.NotEmpty(t, lost)
	err := h.probe.host.DB.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
		for i := range 5 {
			ev := accepted(t, h, i)
			if i == 2 {
				ev.Original.Sha256[0] ^= 1
				ref := refOf(ev.GetOriginal())
				ev.Original.Uri = ref
			}
			err := h.probe.host.Bus.Emit(ctx, tx, ev)
			if err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	eventually(t, "four signed", func() bool { return len(h.probe.signedOf("")) == 4 })
	eventually(t, "one failed", func() bool {
		h.probe.mu.Lock()
		defer h.probe.mu.Unlock()
		return len(h.probe.failed) == 1 && h.probe.failed[0].GetCode() == "BLOB_NOT_FOUND"
	})
}

func TestSignBlob(t *testing.T) {
	t.Parallel()
	h, ctx := open(t), context.Background()
	platform := "tenants/platform/companies/archive"
	c := h.credential(t, platform, role, p256)
	invoices := h.credential(t, company, automatic, p256)
	service := signv1.NewSignServiceClient(h.DialAs("signer", "conservation"))
	content := []byte(strings.Repeat("<PIndex/>", 50_000)) // over the second reader's limit
	ref, err := h.probe.host.Blobs.Put(ctx, "acme", content)
	require.NoError(t, err)
	req := &signv1.SignBlobRequest{
		Parent: "tenants/acme", Credential: platform + "/credentials/-", Subject: "tenants/acme/packages/1",
		Content: blobOf(ref), RequestId: uuid.NewString(),
	}
	var wg sync.WaitGroup
	answers := make([]*signv1.Signature, 20)
	for i := range answers {
		wg.Go(func() {
			for {
				answer, err := service.SignBlob(ctx, req)
				if err == nil {
					answers[i] = answer
					return
				}
				if fault.Permanent(err) {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, a := range answers {
		require.Equal(t, answers[0].GetSigned().GetUri(), a.GetSigned().GetUri(), "one signature, whoever asks")
	}
	require.Equal(t, c.GetName(), answers[0].GetCredential())
	h.opensslAccepts(t, h.get(t, answers[0].GetSigned()), content)
	require.Empty(t, h.probe.signedOf(""), "no event: the caller has the answer")

	orders := func() (n int) {
		require.NoError(t, pgtest.Admin(t, h.DB("signer")).QueryRow(ctx, `SELECT count(*) FROM signature WHERE purpose = 'BLOB'`).Scan(&n))
		return n
	}
	req.Subject = "tenants/acme/packages/2"
	_, err = service.SignBlob(ctx, req)
	code(t, err, fault.KindConflict, "REQUEST_ID_REUSED")

	// A certificate that may not sign signs nothing, and no order is kept of it; what it signed is given all the same.
	_, report, err := cades.Verify(h.get(t, answers[0].GetSigned()), cades.VerifyOptions{})
	require.NoError(t, err)
	sum := sha256.Sum256(report.Signers[0].Certificate.Raw)
	without := proto.CloneOf(req)
	without.RefusedCertificates = [][]byte{sum[:]}
	for range 3 {
		without.RequestId, without.Credential = uuid.NewString(), c.GetName()
		_, err = service.SignBlob(ctx, without)
		code(t, err, fault.KindPrecondition, "CERTIFICATE_REFUSED")
		without.Credential = platform + "/credentials/-"
		_, err = service.SignBlob(ctx, without)
		code(t, err, fault.KindPrecondition, "NO_ACTIVE_CREDENTIAL")
	}
	require.Equal(t, 1, orders())
	without.Subject = "tenants/acme/packages/1"
	same, err := service.SignBlob(ctx, without)
	require.NoError(t, err)
	require.Equal(t, answers[0].GetName(), same.GetName())
	second := h.credential(t, platform, role, p256)
	without.Subject = "tenants/acme/packages/3"
	other, err := service.SignBlob(ctx, without)
	require.NoError(t, err)
	require.Equal(t, second.GetName(), other.GetCredential())
	require.Equal(t, 2, orders())

	req.RequestId, req.Credential = uuid.NewString(), invoices.GetName()
	_, err = service.SignBlob(ctx, req)
	code(t, err, fault.KindPrecondition, "CREDENTIAL_WRONG_KIND")
	req.RequestId, req.Credential = uuid.NewString(), company+"/credentials/-"
	_, err = service.SignBlob(ctx, req)
	code(t, err, fault.KindPrecondition, "NO_ACTIVE_CREDENTIAL")
	require.Equal(t, 2, orders(), "what cannot be signed is not ordered")
	req.RequestId, req.Parent, req.Credential = uuid.NewString(), "tenants/other", c.GetName()
	_, err = service.SignBlob(ctx, req)
	code(t, err, fault.KindDenied, "FOREIGN_BLOB")
	_, err = signv1.NewSignServiceClient(h.DialAs("signer", "invoice")).SignBlob(ctx, req)
	code(t, err, fault.KindDenied, "SERVICE_NOT_ALLOWED")
}
