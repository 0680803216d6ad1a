package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

const remotePIN = "24681357"

// abroad is a signer with two providers, played by the sandbox.
type abroad struct {
	*house
	world     *remotesign.World
	roots     string // file with the authority of the holders
	auth      signv1.AuthorizationServiceClient
	documents signv1.DocumentServiceClient
	providers signv1.ProviderServiceClient
	shown     []string // passwords
}

func openAbroad(t *testing.T, log io.Writer) *abroad {
	t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	a := &abroad{world: remotesign.New(remotesign.Options{CA: authority})}
	mux := http.NewServeMux()
	mux.Handle("/ArubaSignService/ArubaSignService", a.world.ARSS())
	mux.Handle("/SignEngineWeb/sign-services", a.world.SWS())
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	a.roots = write("issuers.pem", authority.CertPEM())
	tlsCA := write("tls.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	user, password := write("user", []byte(remotesign.AppUser)), write("password", []byte(remotesign.AppPassword))
	config := fmt.Sprintf(`  providers:
    - {name: aruba, kind: arss, address: %[1]q, ca_file: %[2]q, issuers_file: %[3]q, user_file: %[4]q, password_file: %[5]q, timeout: 700ms,
       domain: sandbox, hsm: COSIGN, otp: [SMS, APP], codes: {"9001": locked, "9002": spent, "9003": unknown, "9004": busy}}
    - {name: namirial, kind: sws, address: %[6]q, ca_file: %[2]q, issuers_file: %[3]q, timeout: 700ms, qualified: true,
       codes: {"9000": wrong, "9001": locked, "9002": spent, "9004": busy}}
`, server.URL+"/ArubaSignService/ArubaSignService", tlsCA, a.roots, user, password, server.URL+"/SignEngineWeb/sign-services")
	a.house = openWith(t, log, config)
	key := a.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	conn := a.DialKey("signer", key)
	a.auth, a.documents, a.providers = signv1.NewAuthorizationServiceClient(conn), signv1.NewDocumentServiceClient(conn), signv1.NewProviderServiceClient(conn)
	return a
}

// far is somebody whose key is at a provider.
type far struct {
	*abroad
	user, kind string
	name       string
}

func (a *abroad) enrol(t *testing.T, provider, user, kind string) *far {
	t.Helper()
	f := &far{abroad: a, user: user, kind: kind}
	c, err := a.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{
		Parent: company, RequestId: uuid.NewString(), Key: a.key(t, provider, user, kind),
	})
	require.NoError(t, err)
	require.Equal(t, signv1.CredentialState_CREDENTIAL_STATE_ACTIVE, c.GetState())
	require.Equal(t, provider, c.GetProvider())
	require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, c.GetLevel(), "the sandbox's certificates do not say that they are qualified")
	f.name = c.GetName()
	return f
}

func (a *abroad) key(t *testing.T, provider, user, kind string) *signv1.RemoteKey {
	t.Helper()
	_, err := a.world.Enrol(client.RemoteHolderRequest{User: user, PIN: remotePIN, CommonName: "Anna Verdi"})
	require.NoError(t, err)
	if provider == "namirial" {
		return &signv1.RemoteKey{Provider: provider, Id: user, OtpKind: kind}
	}
	return &signv1.RemoteKey{Provider: provider, Id: "AS0", User: user, OtpKind: kind}
}

func (f *far) challenge(t *testing.T, hashes [][]byte) *signv1.Challenge {
	t.Helper()
	ch, err := f.auth.CreateChallenge(t.Context(), &signv1.CreateChallengeRequest{Parent: f.name, DocumentSha256: hashes})
	require.NoError(t, err)
	return ch
}

// password asks for one and looks at the telephone.
func (f *far) password(t *testing.T, ch *signv1.Challenge) string {
	t.Helper()
	if f.kind != "APP" {
		_, err := f.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		require.NoError(t, err)
	}
	o, err := f.world.OTP(f.user, f.kind)
	require.NoError(t, err)
	f.shown = append(f.shown, o.Password)
	return o.Password
}

func (f *far) authorize(t *testing.T, ch *signv1.Challenge) string {
	t.Helper()
	given, err := f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: remotePIN, Otp: f.password(t, ch)})
	require.NoError(t, err)
	return given.GetAuthorization()
}

// signing is a request that is authorized and not yet made.
func (f *far) signing(t *testing.T, hashes [][]byte) *signv1.SignHashesRequest {
	t.Helper()
	ch := f.challenge(t, hashes)
	return &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: f.authorize(t, ch), DocumentSha256: hashes, RequestId: uuid.NewString()}
}

func (f *far) signed(t *testing.T) int {
	t.Helper()
	h, err := f.world.Holder(f.user)
	require.NoError(t, err)
	return len(h.Signed)
}

func (f *far) fail(t *testing.T, kind, operation string, skip, count int) {
	t.Helper()
	require.NoError(t, f.world.AddFault(client.RemoteFault{Kind: kind, Operation: operation, Skip: skip, Count: count, DelayMS: 60_000}))
}

func (f *far) calls(t *testing.T, state signv1.ProviderCallState) []*signv1.ProviderCall {
	t.Helper()
	list, err := f.providers.ListProviderCalls(t.Context(), &signv1.ListProviderCallsRequest{Parent: "tenants/acme", State: state})
	require.NoError(t, err)
	return list.GetProviderCalls()
}

func (a *abroad) opensslDetached(t *testing.T, cms, document []byte) {
	t.Helper()
	dir := t.TempDir()
	in, doc := filepath.Join(dir, "in.p7s"), filepath.Join(dir, "doc")
	require.NoError(t, os.WriteFile(in, cms, 0o600))
	require.NoError(t, os.WriteFile(doc, document, 0o600))
	said, err := exec.Command("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", in, "-content", doc, "-CAfile", a.roots,
		"-purpose", "any", "-out", filepath.Join(dir, "out")).CombinedOutput()
	require.NoError(t, err, "%s", said)
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.Of(err).Code, "%v", err)
}

const unknown = "PROVIDER_OUTCOME_UNKNOWN"

// TestProviders is one signer with two providers, and what can happen between them.
func TestProviders(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := openAbroad(t, &log)
	for _, c := range []struct {
		name string
		test func(*testing.T, *abroad)
	}{
		{"signs hashes", providerSignsHashes}, {"signs documents", providerSignsDocuments}, {"wrong factors", providerWrongFactors},
		{"outcome unknown", providerOutcomeUnknown}, {"call of a dead process", providerCallOfADeadProcess},
		{"goes on where it was", providerGoesOnWhereItWas}, {"grant that is over", providerGrantIsOver}, {"switch", providerSwitch}, {"device of a challenge", providerDevice}, {"away", providerAway},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, a) })
	}
	secrets := newHoard(remotePIN)
	for i, shown := range a.shown {
		secrets.keepCode(fmt.Sprintf("password %d", i), shown)
	}
	require.Greater(t, secrets.size(), 5)
	for _, table := range []string{"provider_session", "provider_call", "provider_signature", "audit_entry", "challenge", "credential_holding"} {
		var rows string
		require.NoError(t, pgtest.Admin(t, a.DB("signer")).QueryRow(context.Background(), "SELECT coalesce(string_agg(x::text, E'\n'), '') FROM "+table+" x").Scan(&rows))
		require.NotEmpty(t, rows, "%s has no rows: the search would find nothing", table)
		require.Empty(t, secrets.in(rows), "%s holds a secret", table)
	}
	a.Stop()
	require.Empty(t, secrets.in(log.String()), "the log holds a secret")
}

func providerSignsHashes(t *testing.T, a *abroad) {
	for _, c := range []struct{ provider, user, kind string }{{"aruba", "anna", "SMS"}, {"aruba", "bruno", "APP"}, {"namirial", "RHIP0000001", "SMS"}} {
		f := a.enrol(t, c.provider, c.user, c.kind)
		documents, hashes := hashesOf(5)
		ch := f.challenge(t, hashes)
		otp := f.password(t, ch)
		given, err := f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: remotePIN, Otp: otp})
		require.NoError(t, err)
		req := &signv1.SignHashesRequest{Name: ch.GetName(), Authorization: given.GetAuthorization(), DocumentSha256: hashes, RequestId: uuid.NewString()}
		got, err := f.auth.SignHashes(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED, got.GetLevel())
		for i, s := range got.GetSignatures() {
			a.opensslDetached(t, s.GetCms(), documents[i])
		}
		again, err := f.auth.SignHashes(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, got.GetSignatures()[0].GetCms(), again.GetSignatures()[0].GetCms(), "the same request has the same answer")
		other := &signv1.SignHashesRequest{Name: req.GetName(), Authorization: req.GetAuthorization(), DocumentSha256: hashes, RequestId: uuid.NewString()}
		_, err = f.auth.SignHashes(t.Context(), other)
		requireCode(t, "AUTHORIZATION_USED", err)
		require.Equal(t, 5, f.signed(t))
		for _, refused := range []func() error{
			func() error {
				_, err := f.auth.SetPin(t.Context(), &signv1.SetPinRequest{Name: f.name, Holder: holder, NewPin: goodPIN})
				return err
			},
			func() error {
				_, err := f.auth.CreateOtpDevice(t.Context(), &signv1.CreateOtpDeviceRequest{Parent: f.name, OtpDevice: totp, Pin: goodPIN})
				return err
			},
		} {
			requireCode(t, "CREDENTIAL_HELD_BY_PROVIDER", refused())
		}
	}
	list, err := a.providers.ListProviders(t.Context(), &signv1.ListProvidersRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetProviders(), 2)
	require.Equal(t, "closed", list.GetProviders()[0].GetBreaker())
}

func providerSignsDocuments(t *testing.T, a *abroad) {
	f := a.enrol(t, "namirial", "RHIP0000002", "APP")
	pdf := onePage("Sold")
	for form, content := range map[signv1.SignatureForm][]byte{
		signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED:  []byte("a contract"),
		signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED: []byte("<f><a>1</a></f>"),
		signv1.SignatureForm_SIGNATURE_FORM_PADES:           pdf,
	} {
		ch := f.challenge(t, [][]byte{hashOf(content)})
		got, err := f.documents.SignDocuments(t.Context(), &signv1.SignDocumentsRequest{
			Credential: f.name, Challenge: ch.GetName(), Authorization: f.authorize(t, ch), Form: form, RequestId: uuid.NewString(),
			Documents: []*signv1.DocumentToSign{{Source: &signv1.DocumentToSign_Content{Content: content}}},
		})
		require.NoError(t, err, form.String())
		file := got.GetDocuments()[0].GetContent()
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, file, 0o600))
		said := ""
		switch form {
		case signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED:
			said, err = cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", path, "-CAfile", a.roots, "-purpose", "any", "-out", path+".out")
		case signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED:
			said, err = cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
				"--id-attr:Id", "http://www.w3.org/2000/09/xmldsig#:KeyInfo", "--trusted-pem", a.roots, path)
		default:
			said, err = cmstest.Run(t, "poppler-utils", "pdfsig", "-nocert", path)
			require.Contains(t, said, "Signature is Valid")
		}
		require.NoError(t, err, said)
	}
	require.Equal(t, 3, f.signed(t))
}

func providerWrongFactors(t *testing.T, a *abroad) {
	f := a.enrol(t, "aruba", "carla", "APP")
	_, hashes := hashesOf(1)
	ch := f.challenge(t, hashes)
	try := func(pin, otp string) error {
		_, err := f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: pin, Otp: otp})
		return err
	}
	requireCode(t, "AUTHENTICATION_FAILED", try("11223344", f.password(t, ch)))
	requireCode(t, "AUTHENTICATION_FAILED", try(remotePIN, "000000"))
	// Nobody is there: the attempt is not counted, and the password is good afterwards.
	otp := f.password(t, ch)
	f.fail(t, client.RemoteBusy, "opensession", 0, 1)
	requireCode(t, "PROVIDER_UNAVAILABLE", try(remotePIN, otp))
	require.NoError(t, try(remotePIN, otp))
	requireCode(t, "CHALLENGE_CLOSED", try(remotePIN, otp))
	ch = f.challenge(t, hashes)
	for range 3 {
		requireCode(t, "AUTHENTICATION_FAILED", try(remotePIN, "000000"))
	}
	requireCode(t, "CHALLENGE_CLOSED", try(remotePIN, f.password(t, ch)))
	require.Zero(t, f.signed(t))
	list, err := a.providers.ListProviders(t.Context(), &signv1.ListProvidersRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Equal(t, "closed", list.GetProviders()[0].GetBreaker())
}

// providerOutcomeUnknown: the signature was made, the answer was lost. It is never made again.
func providerOutcomeUnknown(t *testing.T, a *abroad) {
	for i, trouble := range []string{client.RemoteCutAfter, client.Remote500After, client.RemoteGarbage, client.RemoteDelay, client.RemoteBadSig} {
		f := a.enrol(t, "aruba", fmt.Sprintf("dario%d", i), "APP")
		_, hashes := hashesOf(1)
		req := f.signing(t, hashes)
		f.fail(t, trouble, "signhash", 0, 1)
		for range 3 {
			_, err := f.auth.SignHashes(t.Context(), req)
			requireCode(t, unknown, err)
		}
		eventually(t, "the provider signs", func() bool { return f.signed(t) == 1 })
		ch, err := f.auth.GetChallenge(t.Context(), &signv1.GetChallengeRequest{Name: req.GetName()})
		require.NoError(t, err)
		require.Equal(t, signv1.ChallengeState_CHALLENGE_STATE_OUTCOME_UNKNOWN, ch.GetState())
		call := f.calls(t, signv1.ProviderCallState_PROVIDER_CALL_STATE_UNKNOWN)[0]
		require.Equal(t, req.GetName(), call.GetChallenge())
		done, err := f.providers.ResolveProviderCall(t.Context(), &signv1.ResolveProviderCallRequest{
			Name: call.GetName(), Resolution: signv1.ProviderCallResolution_PROVIDER_CALL_RESOLUTION_SIGNED, Note: "in the provider's list",
		})
		require.NoError(t, err)
		require.Equal(t, signv1.ProviderCallState_PROVIDER_CALL_STATE_RESOLVED, done.GetState())
		_, err = f.auth.SignHashes(t.Context(), req)
		requireCode(t, unknown, err) // resolving opens nothing again
		require.Equal(t, 1, f.signed(t))
		_, err = f.auth.SignHashes(t.Context(), f.signing(t, hashes)) // the way out
		require.NoError(t, err)
		require.Equal(t, 2, f.signed(t))
	}
	f := a.enrol(t, "aruba", "elena", "APP")
	_, hashes := hashesOf(1)
	ch := f.challenge(t, hashes)
	otp := f.password(t, ch)
	f.fail(t, client.RemoteCutAfter, "opensession", 0, 1)
	for range 2 {
		_, err := f.auth.AuthorizeChallenge(t.Context(), &signv1.AuthorizeChallengeRequest{Name: ch.GetName(), Pin: remotePIN, Otp: otp})
		requireCode(t, unknown, err)
	}
}

// providerCallOfADeadProcess: the row is there before the request leaves, and whoever made it never
// comes to write down the answer. The database plays the end of the process: it takes no answer any more.
func providerCallOfADeadProcess(t *testing.T, a *abroad) {
	f := a.enrol(t, "namirial", "RHIP0000003", "APP")
	_, hashes := hashesOf(1)
	req := f.signing(t, hashes)
	f.exec(t, `CREATE FUNCTION dead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the process is dead'; END $$`)
	f.exec(t, `CREATE TRIGGER dead BEFORE UPDATE OF state ON provider_call FOR EACH ROW EXECUTE FUNCTION dead()`)
	_, err := f.auth.SignHashes(t.Context(), req)
	require.Error(t, err)
	require.Equal(t, 1, f.signed(t))
	f.exec(t, `DROP TRIGGER dead ON provider_call`)
	eventually(t, "the call is given up", func() bool {
		_, err := f.auth.SignHashes(t.Context(), req)
		code := fault.Of(err).Code
		require.Contains(t, []string{"REQUEST_IN_HAND", unknown}, code)
		return code == unknown
	})
	require.Equal(t, 1, f.signed(t))
	call := f.calls(t, signv1.ProviderCallState_PROVIDER_CALL_STATE_UNKNOWN)[0]
	require.Equal(t, "PROVIDER_NO_ANSWER_RECORDED", call.GetCode())
}

func providerGoesOnWhereItWas(t *testing.T, a *abroad) {
	f := a.enrol(t, "namirial", "RHIP0000004", "APP")
	documents, hashes := hashesOf(6)
	req := f.signing(t, hashes)
	f.fail(t, client.RemoteBusy, "signPkcs1", 4, 1)
	_, err := f.auth.SignHashes(t.Context(), req)
	requireCode(t, "PROVIDER_UNAVAILABLE", err)
	require.Equal(t, 4, f.signed(t))
	var wait sync.WaitGroup
	for range 20 { // the same request, many times at once: each digest is signed once
		wait.Go(func() {
			_, err := f.auth.SignHashes(context.WithoutCancel(t.Context()), req)
			if err != nil && fault.Of(err).Code != "REQUEST_IN_HAND" {
				t.Errorf("%v", err)
			}
		})
	}
	wait.Wait()
	got, err := f.auth.SignHashes(t.Context(), req)
	require.NoError(t, err)
	for i, s := range got.GetSignatures() {
		a.opensslDetached(t, s.GetCms(), documents[i])
	}
	require.Equal(t, 6, f.signed(t))
	require.Equal(t, int32(4), f.calls(t, signv1.ProviderCallState_PROVIDER_CALL_STATE_BUSY)[0].GetSignatureCount())
}

// providerGrantIsOver: who authorizes and never signs leaves nothing behind once the provider's session is over.
func providerGrantIsOver(t *testing.T, a *abroad) {
	f := a.enrol(t, "namirial", "RHIP0000006", "APP")
	_, hashes := hashesOf(1)
	ch := f.challenge(t, hashes)
	f.authorize(t, ch)
	id := ch.GetName()[strings.LastIndex(ch.GetName(), "/")+1:]
	kept := func() (n int) {
		require.NoError(t, pgtest.Admin(t, a.DB("signer")).QueryRow(t.Context(),
			"SELECT count(*) FROM provider_session WHERE challenge_id = $1 AND sealed IS NOT NULL", id).Scan(&n))
		return n
	}
	require.Equal(t, 1, kept())
	f.exec(t, `UPDATE provider_session SET grant_expires_at = clock_timestamp() WHERE challenge_id = $1`, uuid.MustParse(id))
	eventually(t, "the grant is forgotten", func() bool { return kept() == 0 })
}

func providerSwitch(t *testing.T, a *abroad) {
	f := a.enrol(t, "aruba", "fabio", "APP")
	_, hashes := hashesOf(1)
	before := f.challenge(t, hashes)
	to := a.key(t, "namirial", "RHIP0000005", "APP")
	_, err := f.providers.SwitchProvider(t.Context(), &signv1.SwitchProviderRequest{Name: f.name, Key: to, EffectiveTime: timestamppb.New(time.Now().Add(-time.Hour))})
	requireCode(t, "EFFECTIVE_TIME", err)
	made, err := f.providers.SwitchProvider(t.Context(), &signv1.SwitchProviderRequest{Name: f.name, Key: to, EffectiveTime: timestamppb.New(time.Now().Add(time.Hour))})
	require.NoError(t, err)
	c, err := f.client.GetCredential(t.Context(), &signv1.GetCredentialRequest{Name: f.name})
	require.NoError(t, err)
	require.Equal(t, "aruba", c.GetProvider(), "the date has not come")
	still := f.challenge(t, hashes)
	id := made.GetName()[strings.LastIndex(made.GetName(), "/")+1:]
	f.exec(t, `UPDATE credential_holding SET effective_from = clock_timestamp() WHERE id = $1`, uuid.MustParse(id)) // an hour later
	moved := &far{abroad: a, user: "RHIP0000005", kind: "APP", name: f.name}
	after := moved.challenge(t, hashes)
	c, err = f.client.GetCredential(t.Context(), &signv1.GetCredentialRequest{Name: f.name})
	require.NoError(t, err)
	require.Equal(t, "namirial", c.GetProvider())
	require.Equal(t, made.GetCertificatePem(), c.GetCertificatePem())
	for _, old := range []*signv1.Challenge{before, still} { // begun before: with the key of before
		_, err := f.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: old.GetName(), Authorization: f.authorize(t, old), DocumentSha256: hashes, RequestId: uuid.NewString()})
		require.NoError(t, err)
	}
	require.Equal(t, []int{2, 0}, []int{f.signed(t), moved.signed(t)})
	_, err = f.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: after.GetName(), Authorization: moved.authorize(t, after), DocumentSha256: hashes, RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Equal(t, []int{2, 1}, []int{f.signed(t), moved.signed(t)})
	list, err := f.providers.ListHoldings(t.Context(), &signv1.ListHoldingsRequest{Parent: f.name})
	require.NoError(t, err)
	require.Len(t, list.GetHoldings(), 2)

	// Another device of the same key is a switch like any other.
	_, err = f.providers.SwitchProvider(t.Context(), &signv1.SwitchProviderRequest{Name: f.name, Key: &signv1.RemoteKey{Provider: to.GetProvider(), Id: to.GetId(), OtpKind: "SMS"}})
	require.NoError(t, err)
	texted := &far{abroad: a, user: "RHIP0000005", kind: "SMS", name: f.name}
	last := texted.challenge(t, hashes)
	_, err = f.auth.SignHashes(t.Context(), &signv1.SignHashesRequest{Name: last.GetName(), Authorization: texted.authorize(t, last), DocumentSha256: hashes, RequestId: uuid.NewString()})
	require.NoError(t, err)
	local := a.credential(t, company, person, signv1.KeyType_KEY_TYPE_EC_P256)
	_, err = f.providers.SwitchProvider(t.Context(), &signv1.SwitchProviderRequest{Name: local.GetName(), Key: to})
	requireCode(t, "CREDENTIAL_NOT_HELD", err)
}

func providerAway(t *testing.T, a *abroad) {
	f := a.enrol(t, "aruba", "gina", "SMS")
	_, hashes := hashesOf(1)
	ch := f.challenge(t, hashes)
	f.fail(t, client.Remote500, "sendCredentialAuth", 0, 5)
	for range 5 {
		_, err := f.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		requireCode(t, "PROVIDER_UNAVAILABLE", err)
	}
	list, err := a.providers.ListProviders(t.Context(), &signv1.ListProvidersRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Equal(t, "open", list.GetProviders()[0].GetBreaker())
	eventually(t, "the breaker lets one through", func() bool {
		_, err := f.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
		return err == nil
	})
	_, err = f.auth.SendOtp(t.Context(), &signv1.SendOtpRequest{Challenge: ch.GetName()})
	requireCode(t, "OTP_SENT_TOO_OFTEN", err)
	_, err = a.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{Parent: company, Key: &signv1.RemoteKey{Provider: "aruba", Id: "AS0", User: "nobody"}})
	requireCode(t, "PROVIDER_CREDENTIAL_UNKNOWN", err)
	_, err = a.providers.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{Parent: company, Key: &signv1.RemoteKey{Provider: "other", Id: "x"}})
	requireCode(t, "PROVIDER_NOT_CONFIGURED", err)
}

func hashOf(content []byte) []byte {
	sum := sha256.Sum256(content)
	return sum[:]
}
