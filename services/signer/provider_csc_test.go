package signer_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/remotesign"
	"ceralacca.dev/services/signer/internal/provider/providertest"
)

// consortium is a signer whose holders have their keys at providers that speak the API of the Cloud Signature
// Consortium: "first", the sandbox's of version 1, which lets nobody in without a client certificate and whose
// account is in Vault; "second", a signer of this house, of version 2; and "stated", the sandbox's again, of which
// the operator states that it is qualified.
type consortium struct {
	*abroad
	far    *rssp
	farKey string // of an API of far
	wire   *line
}

func openConsortium(t *testing.T) *consortium {
	t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	c := &consortium{abroad: &abroad{world: remotesign.New(remotesign.Options{CA: authority})}, far: openCSC(t, "")}
	c.wire = &line{signer: "http://" + c.far.HTTP}
	dir := t.TempDir()
	write := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	mux := http.NewServeMux()
	mux.Handle("/csc/v1/", c.world.CSC1())
	mux.Handle("/csc/v2/", c.wire)
	open := httptest.NewTLSServer(mux)
	t.Cleanup(open.Close)
	us, err := authority.IssueClient("ceralacca")
	require.NoError(t, err)
	closed := httptest.NewUnstartedServer(mux)
	roots := x509.NewCertPool()
	roots.AddCert(authority.Certificate())
	closed.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS12}
	closed.StartTLS()
	t.Cleanup(closed.Close)
	pemOf := func(s *httptest.Server) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	}
	key := c.far.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"credentials.write", "credentials.read", "credentials.sign"}})
	token := write("token", []byte(key))
	c.house = openWith(t, nil, fmt.Sprintf(`  providers:
    - {name: first, kind: csc, address: %q, ca_file: %q, cert_file: %q, key_file: %q, secret: secret/data/signer/far, timeout: 2s}
    - {name: second, kind: csc, address: %q, ca_file: %q, login: external, user_file: %q, password_file: %q, bind_passwords: true, timeout: 5s}
    - {name: stated, kind: csc, address: %q, ca_file: %q, user_file: %q, password_file: %q, timeout: 2s, qualified: true}
`, closed.URL+"/csc/v1", write("closed.pem", pemOf(closed)), write("us.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: us.Certificate().Raw})), write("us.key", keyPEM(t, us.Key)),
		open.URL+"/csc/v2", write("open.pem", pemOf(open)), write("user", []byte("unused")), token,
		open.URL+"/csc/v1", filepath.Join(dir, "open.pem"), write("account", []byte(remotesign.AppUser)), write("password", []byte(remotesign.AppPassword))))
	c.roots = write("issuers.pem", append(append([]byte(nil), authority.CertPEM()...), c.far.ca.CertPEM()...))
	conn := c.DialKey("signer", c.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}))
	c.auth, c.documents, c.providers = signv1.NewAuthorizationServiceClient(conn), signv1.NewDocumentServiceClient(conn), signv1.NewProviderServiceClient(conn)
	c.farKey = key
	return c
}

func keyPEM(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// enrolAt makes a credential of a key at a provider of version 1.
func (c *consortium) enrolAt(t *testing.T, provider, user, level string) (*far, *signv1.Credential) {
	t.Helper()
	_, err := c.world.Enrol(client.RemoteHolderRequest{User: user, PIN: remotePIN, CommonName: "Anna Verdi", Qualified: level == "says qualified"})
	require.NoError(t, err)
	made, err := c.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{
		Parent: company, RequestId: uuid.NewString(), Key: &signv1.RemoteKey{Provider: provider, Id: user},
	})
	require.NoError(t, err)
	return &far{abroad: c.abroad, user: user, kind: "SMS", name: made.GetName()}, made
}

// TestConsortium: from the challenge to a signature that openssl verifies, with the key at a provider of the API's
// version 1 and of version 2, which is this platform on the other side; and answers that are lost.
func TestConsortium(t *testing.T) {
	t.Parallel()
	c := openConsortium(t)
	t.Run("version 1, client certificate, account in Vault", c.versionOne)
	t.Run("version 2, this platform", c.versionTwo)
	t.Run("level", c.levels)
	t.Run("signature request", c.goesThroughARequest)
}

// goesRound signs two documents of one challenge and wants openssl to agree.
func (c *consortium) goesRound(t *testing.T, f *far, authorize func(*signv1.Challenge) string) {
	t.Helper()
	documents, hashes := hashesOf(2)
	ch := f.challenge(t, hashes)
	req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: authorize(ch), DocumentSha256: hashes, RequestId: uuid.NewString()}
	got, err := f.auth.SignHashes(t.Context(), req)
	require.NoError(t, err)
	for i, s := range got.GetSignatures() {
		c.opensslDetached(t, s.GetCms(), documents[i])
	}
	again, err := f.auth.SignHashes(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, got.GetSignatures()[1].GetCms(), again.GetSignatures()[1].GetCms(), "the same request has the same answer")
	req.RequestId = uuid.NewString()
	_, err = f.auth.SignHashes(t.Context(), req)
	requireCode(t, "AUTHORIZATION_USED", err)

	// A whole document, attached; and a form that the provider did not authorize, which leaves nothing.
	text := []byte("a contract, with the key elsewhere")
	ch = f.challenge(t, [][]byte{hashOf(text)})
	sign := &signv1.SignDocumentsRequest{Credential: f.name, Challenge: ch.GetName(), Authorization: authorize(ch), Form: inXML, RequestId: uuid.NewString(),
		Documents: []*signv1.DocumentToSign{{Source: &signv1.DocumentToSign_Content{Content: []byte("<f/>")}}}}
	_, err = f.documents.SignDocuments(t.Context(), sign)
	requireCode(t, "HASH_NOT_AUTHORIZED", err)
	sign.Form, sign.Documents[0].Source = attached, &signv1.DocumentToSign_Content{Content: text}
	whole, err := f.documents.SignDocuments(t.Context(), sign)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "contract.p7m")
	require.NoError(t, os.WriteFile(file, whole.GetDocuments()[0].GetContent(), 0o600))
	said, err := cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", file, "-CAfile", c.roots, "-purpose", "any", "-out", file+".out")
	require.NoError(t, err, said)
}

// lost has an answer lost on its way back, and wants nothing to be repeated; the way out is another challenge.
func (c *consortium) lost(t *testing.T, f *far, authorize func(*signv1.Challenge) string, lose func(), signed func() int) {
	t.Helper()
	_, hashes := hashesOf(1)
	before := signed()
	ch := f.challenge(t, hashes)
	req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: authorize(ch), DocumentSha256: hashes, RequestId: uuid.NewString()}
	lose()
	for range 2 {
		_, err := f.auth.SignHashes(t.Context(), req)
		requireCode(t, unknown, err)
	}
	require.Equal(t, before+1, signed(), "it was signed there, once")
	got, err := f.auth.GetChallenge(t.Context(), &signv1.GetChallengeRequest{Name: ch.GetName()})
	require.NoError(t, err)
	require.Equal(t, signv1.ChallengeState_CHALLENGE_STATE_OUTCOME_UNKNOWN, got.GetState())
	calls := f.calls(t, signv1.ProviderCallState_PROVIDER_CALL_STATE_UNKNOWN)
	require.NotEmpty(t, calls)
	require.Equal(t, ch.GetName(), calls[0].GetChallenge())
	_, err = f.providers.ResolveProviderCall(t.Context(), &signv1.ResolveProviderCallRequest{
		Name: calls[0].GetName(), Resolution: signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_SIGNED, Note: "in the provider's list",
	})
	require.NoError(t, err)
	ch = f.challenge(t, hashes)
	_, err = f.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: authorize(ch), DocumentSha256: hashes, RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Equal(t, before+2, signed())
}

func (c *consortium) versionOne(t *testing.T) {
	f, made := c.enrolAt(t, "first", "holder-one", "")
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, made.GetLevel())
	authorize := func(ch *signv1.Challenge) string {
		c.exec(t, `UPDATE provider_session SET otp_sent_at = otp_sent_at - interval '1 minute' WHERE otp_sent_at IS NOT NULL`)
		return f.authorize(t, ch)
	}
	c.goesRound(t, f, authorize)
	c.lost(t, f, authorize, func() { f.fail(t, client.RemoteCutAfter, "signatures/signHash", 0, 1) }, func() int { return f.signed(t) })
	c.plans(t, f, authorize)
	holdings, err := c.providers.ListHoldings(t.Context(), &signv1.ListHoldingsRequest{Parent: f.name})
	require.NoError(t, err)
	require.EqualValues(t, 2, holdings.GetHoldings()[0].GetScal())
}

func (c *consortium) versionTwo(t *testing.T) {
	p := c.far.personWith(t, c.farKey, p256, "+393400000001")
	made, err := c.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{
		Parent: company, RequestId: uuid.NewString(), Key: &signv1.RemoteKey{Provider: "second", Id: p.id},
	})
	require.NoError(t, err)
	f := &far{abroad: c.abroad, name: made.GetName()}
	authorize := func(ch *signv1.Challenge) string {
		c.far.exec(t, `UPDATE otp_message SET sent_at = sent_at - interval '1 minute', sent_today = 0`)
		c.exec(t, `UPDATE provider_session SET otp_sent_at = otp_sent_at - interval '1 minute' WHERE otp_sent_at IS NOT NULL`)
		_, err := f.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		require.NoError(t, err)
		given, err := f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: p.password(t)})
		require.NoError(t, err)
		return given.GetAuthorization()
	}
	c.goesRound(t, f, authorize)
	c.planned(t, f, authorize, inXML, []byte("<f><a>1</a></f>"), nil)
	c.lost(t, f, authorize, func() { c.wire.fail(csc2.SignHash, providertest.CutAfter, 0) }, func() (n int) {
		require.NoError(t, pgtest.Admin(t, c.far.DB("signer")).QueryRow(context.Background(),
			`SELECT coalesce(sum(cardinality(signed_sha256)), 0) FROM challenge WHERE credential_id = $1 AND state = 'SIGNED'`, p.id).Scan(&n))
		return n
	})
	// A password that is wrong is the holder's fault: nothing is unknown, and the breaker stays closed.
	_, hashes := hashesOf(1)
	ch := f.challenge(t, hashes)
	_, err = f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: goodPIN, Otp: "00000000"})
	requireCode(t, "AUTHENTICATION_FAILED", err)
	list, err := c.providers.ListProviders(t.Context(), &signv1.ListProvidersRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	for _, p := range list.GetProviders() {
		require.Equal(t, "closed", p.GetBreaker(), p.GetName())
	}
}

// levels: qualified is what the operator states of the provider and the certificate says of itself, both.
func (c *consortium) levels(t *testing.T) {
	qualified, advanced := signv1.SignatureLevel_SIGNATURE_LEVEL_QUALIFIED, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED
	for i, l := range []struct {
		provider, certificate string
		want                  signv1.SignatureLevel
	}{
		{"stated", "says qualified", qualified}, {"stated", "says nothing", advanced}, {"first", "says qualified", advanced},
	} {
		f, made := c.enrolAt(t, l.provider, fmt.Sprintf("level-%d", i), l.certificate)
		require.Equal(t, l.want, made.GetLevel(), l)
		_, hashes := hashesOf(1)
		ch := f.challenge(t, hashes)
		require.Equal(t, l.want, ch.GetLevel(), l)
		got, err := f.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: f.authorize(t, ch), DocumentSha256: hashes, RequestId: uuid.NewString()})
		require.NoError(t, err)
		require.Equal(t, l.want, got.GetLevel(), l)
		list, err := c.providers.ListHoldings(t.Context(), &signv1.ListHoldingsRequest{Parent: f.name})
		require.NoError(t, err)
		require.Equal(t, l.want, list.GetHoldings()[0].GetLevel(), l)
	}
}
