package signer_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/remotesign"
)

// machine is a signer whose companies have keys for automatic signature at three providers.
type machine struct {
	*abroad
	log *syncBuffer
}

func openMachine(t *testing.T) *machine {
	t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	m := &machine{abroad: &abroad{world: remotesign.New(remotesign.Options{CA: authority})}, log: &syncBuffer{}}
	mux := http.NewServeMux()
	mux.Handle("/ArubaSignService/ArubaSignService", m.world.ARSS())
	mux.Handle("/SignEngineWeb/sign-services", m.world.SWS())
	mux.Handle("/csc/v1/", m.world.CSC1())
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	m.roots = write("issuers.pem", authority.CertPEM())
	tlsCA := write("tls.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	account := fmt.Sprintf("ca_file: %q, issuers_file: %q, timeout: 2s", tlsCA, m.roots)
	m.house = openWith(t, m.log, fmt.Sprintf(`  providers:
    - {name: aruba, kind: arss, address: %[1]q, secret: secret/data/signer/far, domain: sandbox, hsm: COSIGN, %[2]s,
       automatic_domain: faSandbox, automatic_otp: dsign, codes: {"9001": locked, "9002": spent, "9003": unknown}}
    - {name: personal, kind: arss, address: %[1]q, secret: secret/data/signer/far, domain: sandbox, otp: [APP], %[2]s}
    - {name: namirial, kind: sws, address: %[3]q, %[2]s, qualified: true, codes: {"9000": wrong, "9001": locked, "9004": busy}}
    - {name: intesi, kind: csc, address: %[4]q, secret: secret/data/signer/far, %[2]s}
`, server.URL+"/ArubaSignService/ArubaSignService", account, server.URL+"/SignEngineWeb/sign-services", server.URL+"/csc/v1"))
	conn := m.DialKey("signer", m.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	m.auth, m.documents, m.providers = signv1.NewAuthorizationServiceClient(conn), signv1.NewDocumentServiceClient(conn), signv1.NewProviderServiceClient(conn)
	return m
}

var robots atomic.Int64

// robot is a key that signs without a person.
func (m *machine) robot(t *testing.T, provider string) (*signv1.RemoteKey, string) {
	t.Helper()
	user := fmt.Sprintf("AHI%07d", robots.Add(1))
	_, err := m.world.Enrol(client.RemoteHolderRequest{User: user, PIN: remotePIN, CommonName: "Alfa Srl", Automatic: true, Qualified: provider == "namirial"})
	require.NoError(t, err)
	if provider == "aruba" || provider == "personal" {
		return &signv1.RemoteKey{Provider: provider, Id: "AS0", User: user, Secret: "delegate"}, user
	}
	return &signv1.RemoteKey{Provider: provider, Id: user, Secret: "pin"}, user
}

func (m *machine) create(t *testing.T, kind signv1.CredentialKind, key *signv1.RemoteKey) (*signv1.Credential, error) {
	t.Helper()
	return m.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{Parent: company, Kind: kind, Key: key, RequestId: uuid.NewString()})
}

func (m *machine) mandateFor(t *testing.T, credential string) string {
	t.Helper()
	made, err := m.documents.CreateMandate(t.Context(), &signv1.CreateMandateRequest{Parent: credential, Mandate: &signv1.Mandate{
		Description: "Delivery notes", Forms: []signv1.SignatureForm{attached, detached, inXML, inPDF}, MaxDocuments: 100, MaxPerDay: 100,
		StartTime: timestamppb.New(time.Now().Add(-time.Hour)), EndTime: timestamppb.New(time.Now().Add(time.Hour)),
	}})
	require.NoError(t, err)
	return made.GetName()
}

func byMandate(credential, mandate string, form signv1.SignatureForm, documents ...[]byte) *signv1.SignDocumentsRequest {
	r := &signv1.SignDocumentsRequest{Credential: credential, Mandate: mandate, Form: form, RequestId: uuid.NewString()}
	for _, d := range documents {
		r.Documents = append(r.Documents, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: d}})
	}
	return r
}

func (m *machine) signedBy(t *testing.T, user string) int {
	t.Helper()
	h, err := m.world.Holder(user)
	require.NoError(t, err)
	return len(h.Signed)
}

func (m *machine) opensslWhole(t *testing.T, p7m, content []byte) {
	t.Helper()
	file := cmstest.File(t, "in.p7m", p7m)
	said, err := cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", file, "-CAfile", m.roots, "-purpose", "any", "-out", file+".out")
	require.NoError(t, err, said)
	got, err := os.ReadFile(file + ".out")
	require.NoError(t, err)
	require.Equal(t, content, got)
}

// TestAutomaticAtProviders: documents under a mandate and a company's invoices, with keys at ARSS, SWS and CSC that sign
// without a person; only digests go there, an answer that is lost is never asked for twice, and the secrets are in Vault
// and nowhere else.
func TestAutomaticAtProviders(t *testing.T) {
	t.Parallel()
	m := openMachine(t)
	t.Run("documents", m.signsDocuments)
	t.Run("answer lost", m.losesAnAnswer)
	t.Run("refused", m.refusesWhatIsNotAutomatic)
	t.Run("invoices", m.signsInvoices)
	t.Run("role", m.signsForARole)
	for _, secret := range []string{remotePIN, remotesign.DelegatePassword} {
		for _, table := range []string{"challenge", "provider_session", "provider_call", "credential_holding", "audit_entry", "document_signing"} {
			var n int
			require.NoError(t, pgtest.Admin(t, m.DB("signer")).QueryRow(context.Background(), "SELECT count(*) FROM "+table+" x WHERE x::text LIKE '%' || $1 || '%'", secret).Scan(&n))
			require.Zero(t, n, "%s holds a secret", table)
		}
		require.NotContains(t, m.log.String(), secret)
	}
}

func (m *machine) signsDocuments(t *testing.T) {
	for provider, level := range map[string]signv1.SignatureLevel{
		"aruba": signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, "namirial": signv1.SignatureLevel_SIGNATURE_LEVEL_QUALIFIED, "intesi": signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED,
	} {
		key, user := m.robot(t, provider)
		c, err := m.create(t, seal, key)
		require.NoError(t, err, provider)
		require.Equal(t, seal, c.GetKind())
		require.Equal(t, level, c.GetLevel(), provider)
		mandate := m.mandateFor(t, c.GetName())
		one, two := []byte("first note of "+provider), []byte("second note of "+provider)
		req := byMandate(c.GetName(), mandate, attached, one, two)
		got, err := m.documents.SignDocuments(t.Context(), req)
		require.NoError(t, err, provider)
		require.Equal(t, level, got.GetLevel())
		m.opensslWhole(t, got.GetDocuments()[0].GetContent(), one)
		m.opensslWhole(t, got.GetDocuments()[1].GetContent(), two)
		again, err := m.documents.SignDocuments(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, got.GetDocuments()[0].GetContent(), again.GetDocuments()[0].GetContent(), "the same request has the same answer")
		require.Equal(t, 2, m.signedBy(t, user), "and nothing is signed for it")

		got, err = m.documents.SignDocuments(t.Context(), byMandate(c.GetName(), mandate, inXML, []byte("<note><n>1</n></note>")))
		require.NoError(t, err, provider)
		said, err := cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
			"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo", "--trusted-pem", m.roots, cmstest.File(t, "note.xml", got.GetDocuments()[0].GetContent()))
		require.NoError(t, err, said)
		got, err = m.documents.SignDocuments(t.Context(), byMandate(c.GetName(), mandate, inPDF, onePage("Note")))
		require.NoError(t, err, provider)
		said, err = cmstest.Run(t, "poppler-utils", "pdfsig", "-nocert", cmstest.File(t, "note.pdf", got.GetDocuments()[0].GetContent()))
		require.NoError(t, err, said)
		require.Contains(t, said, "Signature is Valid")
	}
}

// losesAnAnswer: it was signed and nobody heard of it. The request says so for ever; another one signs.
func (m *machine) losesAnAnswer(t *testing.T) {
	key, user := m.robot(t, "namirial")
	c, err := m.create(t, seal, key)
	require.NoError(t, err)
	mandate := m.mandateFor(t, c.GetName())
	notes := [][]byte{[]byte("note a"), []byte("note b"), []byte("note c")}
	req := byMandate(c.GetName(), mandate, attached, notes...)
	require.NoError(t, m.world.AddFault(client.RemoteFault{Kind: client.RemoteBusy, Operation: "signPkcs1", Skip: 1}))
	_, err = m.documents.SignDocuments(t.Context(), req)
	requireCode(t, "PROVIDER_UNAVAILABLE", err)
	require.Equal(t, 1, m.signedBy(t, user))
	got, err := m.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err, "what took nothing may be asked again; what is there is not")
	require.Equal(t, 3, m.signedBy(t, user))
	m.opensslWhole(t, got.GetDocuments()[2].GetContent(), notes[2])

	req = byMandate(c.GetName(), mandate, attached, []byte("note d"))
	require.NoError(t, m.world.AddFault(client.RemoteFault{Kind: client.RemoteCutAfter, Operation: "signPkcs1"}))
	for range 3 {
		_, err = m.documents.SignDocuments(t.Context(), req)
		requireCode(t, unknown, err)
	}
	require.Equal(t, 4, m.signedBy(t, user))
	f := &far{abroad: m.abroad}
	call := f.calls(t, signv1.ProviderCallState_PROVIDER_CALL_STATE_UNKNOWN)[0]
	require.Equal(t, "namirial", call.GetProvider())
	_, err = m.providers.ResolveProviderCall(t.Context(), &signv1.ResolveProviderCallRequest{
		Name: call.GetName(), Resolution: signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_SIGNED, Note: "in the list"})
	require.NoError(t, err)
	_, err = m.documents.SignDocuments(t.Context(), req)
	requireCode(t, unknown, err)
	req.RequestId = uuid.NewString()
	_, err = m.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, 5, m.signedBy(t, user))
}

func (m *machine) refusesWhatIsNotAutomatic(t *testing.T) {
	person, err := m.world.Enrol(client.RemoteHolderRequest{User: "RHIP9000001", PIN: remotePIN, CommonName: "Anna Verdi"})
	require.NoError(t, err)
	aruba, _ := m.robot(t, "personal")
	nothing, _ := m.robot(t, "namirial")
	nothing.Secret = "never-written"
	foreign, _ := m.robot(t, "namirial")
	foreign.Secret = "../other/pin"
	unnamed, _ := m.robot(t, "namirial")
	unnamed.Secret = ""
	for name, r := range map[string]struct {
		kind signv1.CredentialKind
		key  *signv1.RemoteKey
		code string
	}{
		"a device of a person's, SWS":            {seal, &signv1.RemoteKey{Provider: "namirial", Id: person.User, Secret: "pin"}, "PROVIDER_NOT_AUTOMATIC"},
		"a credential that wants an OTP, CSC":    {automatic, &signv1.RemoteKey{Provider: "intesi", Id: person.User, Secret: "pin"}, "PROVIDER_NOT_AUTOMATIC"},
		"a contract without automatic signature": {automatic, aruba, "PROVIDER_NOT_AUTOMATIC"},
		"no secret in Vault":                     {seal, nothing, "PROVIDER_SECRET_MISSING"},
		"no name of a secret":                    {seal, unnamed, "SECRET_NAME"},
		"a secret of a person":                   {signv1.CredentialKind_CREDENTIAL_KIND_PERSON, &signv1.RemoteKey{Provider: "intesi", Id: person.User, Secret: "pin"}, "SECRET_OF_A_PERSON"},
		"a role that wants an OTP":               {role, &signv1.RemoteKey{Provider: "intesi", Id: person.User, Secret: "pin"}, "PROVIDER_NOT_AUTOMATIC"},
	} {
		_, err := m.create(t, r.kind, r.key)
		require.Error(t, err, name)
		require.Equal(t, r.code, fault.Of(err).Code, "%s: %v", name, err)
	}
	_, err = m.create(t, seal, foreign)
	require.Equal(t, fault.KindInvalid, fault.Of(err).Kind, "another tenant's secret cannot be named: %v", err)

	// The secret is wrong: what is asked for fails by name, is not taken for a holder's wrong password, and goes on when
	// the right one is there.
	key, user := m.robot(t, "namirial")
	key.Secret = "s-" + uuid.NewString()
	vaultClient, err := m.vault.Client()
	require.NoError(t, err)
	write := func(password string) {
		t.Helper()
		_, err := vaultClient.Logical().Write("secret/data/signer/automatic/acme/"+key.GetSecret(), map[string]any{"data": map[string]any{"password": password}})
		require.NoError(t, err)
	}
	write("11223344")
	c, err := m.create(t, seal, key)
	require.NoError(t, err, "a certificate is read without the secret")
	req := byMandate(c.GetName(), m.mandateFor(t, c.GetName()), attached, []byte("a note"))
	_, err = m.documents.SignDocuments(t.Context(), req)
	requireCode(t, "PROVIDER_ACCOUNT_REFUSED", err)
	require.Zero(t, m.signedBy(t, user))
	write(remotePIN)
	_, err = m.documents.SignDocuments(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, 1, m.signedBy(t, user))
}

// signsInvoices: accepted invoices are signed by the company's key at a provider; a lost answer is told, and goes on once
// somebody has looked.
func (m *machine) signsInvoices(t *testing.T) {
	key, user := m.robot(t, "namirial")
	waiting := m.probe.accept(t, true, []byte("<waiting/>"), 1)
	eventually(t, "nobody can sign", func() bool { return len(m.probe.failedOf(waiting)) == 1 })
	c, err := m.create(t, automatic, key)
	require.NoError(t, err)
	eventually(t, "what waited for a credential goes on", func() bool { return len(m.probe.signedOf(waiting)) == 1 })
	content := []byte("<fattura>1</fattura>")
	subject := m.probe.accept(t, true, content, 3)
	eventually(t, "signed", func() bool { return len(m.probe.signedOf(subject)) == 1 })
	ev := m.probe.signedOf(subject)[0]
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_QUALIFIED, ev.GetLevel())
	m.opensslWhole(t, m.get(t, ev.GetSigned()), content)
	signature, err := signv1.NewSignServiceClient(m.Operator("signer")).GetSignature(t.Context(), &signv1.GetSignatureRequest{Name: ev.GetSignature()})
	require.NoError(t, err)
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_QUALIFIED, signature.GetLevel())
	require.Equal(t, c.GetName(), signature.GetCredential())
	require.Equal(t, 2, m.signedBy(t, user), "once each, however often it was told")

	require.NoError(t, m.world.AddFault(client.RemoteFault{Kind: client.Remote500After, Operation: "signPkcs1"}))
	lost := m.probe.accept(t, true, []byte("<fattura>2</fattura>"), 1)
	eventually(t, "its outcome is not known", func() bool { return len(m.probe.failedOf(lost)) == 1 })
	require.Equal(t, unknown, m.probe.failedOf(lost)[0].GetCode())
	require.Equal(t, 3, m.signedBy(t, user))
	again := m.probe.accept(t, true, []byte("<fattura>3</fattura>"), 1)
	eventually(t, "the others go on", func() bool { return len(m.probe.signedOf(again)) == 1 })
	require.Equal(t, 4, m.signedBy(t, user))
	require.Empty(t, m.probe.signedOf(lost))
	f := &far{abroad: m.abroad}
	_, err = m.providers.ResolveProviderCall(t.Context(), &signv1.ResolveProviderCallRequest{
		Name:       f.calls(t, signv1.ProviderCallState_PROVIDER_CALL_STATE_UNKNOWN)[0].GetName(),
		Resolution: signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_NOT_SIGNED, Note: "not in the list",
	})
	require.NoError(t, err)
	eventually(t, "it is signed once somebody has looked", func() bool { return len(m.probe.signedOf(lost)) == 1 })
	require.Equal(t, 5, m.signedBy(t, user))
	m.opensslWhole(t, m.get(t, m.probe.signedOf(lost)[0].GetSigned()), []byte("<fattura>2</fattura>"))
	require.False(t, bytes.Contains([]byte(m.log.String()), []byte("panic")))
}
