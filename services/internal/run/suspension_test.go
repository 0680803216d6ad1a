package run_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

// register is as much of a tenancy service as says who is suspended, by name.
type register struct {
	tenancyv1.UnimplementedTenancyServiceServer
	asked atomic.Int32
}

func (r *register) GetStanding(_ context.Context, req *tenancyv1.GetStandingRequest) (*tenancyv1.GetStandingResponse, error) {
	r.asked.Add(1)
	if req.GetName() != "tenants/late" {
		return &tenancyv1.GetStandingResponse{State: tenancyv1.TenancyState_TENANCY_STATE_ACTIVE}, nil
	}
	return &tenancyv1.GetStandingResponse{State: tenancyv1.TenancyState_TENANCY_STATE_SUSPENDED, Suspension: &tenancyv1.Suspension{
		Subject: "tenants/late", Party: tenancyv1.SuspensionParty_SUSPENSION_PARTY_RESELLER, Reason: "unpaid",
		SuspendTime: timestamppb.New(time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC))}}, nil
}

// identities is an OpenID Connect provider, as far as tokens of tenants need one.
func identities(t *testing.T) (issuer string, token func(tenant string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	answer := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", answer(map[string]any{
		"issuer": server.URL, "jwks_uri": server.URL + "/keys", "authorization_endpoint": server.URL + "/auth", "token_endpoint": server.URL + "/token",
		"id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
	}))
	mux.HandleFunc("GET /keys", answer(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "one", Algorithm: "ES256", Use: "sig"}}}))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	require.NoError(t, err)
	return server.URL, func(tenant string) string {
		body, err := json.Marshal(map[string]any{"iss": server.URL, "aud": "ceralacca", "sub": "marta", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
			"ceralacca_role": "tenant", "ceralacca_tenant": tenant, "scope": "tenancy.read tenancy.write"})
		require.NoError(t, err)
		signed, err := signer.Sign(body)
		require.NoError(t, err)
		text, err := signed.CompactSerialize()
		require.NoError(t, err)
		return text
	}
}

// TestTokensOfSuspendedTenants: whoever comes with a token of an identity provider has no key that could tell of a
// suspension; tenancy is asked by name, once per TTL, and while it is away nobody is let in by doubt.
func TestTokensOfSuspendedTenants(t *testing.T) {
	tls, owner := t.TempDir(), &register{}
	home := runtest.Start(t, runtest.Options{TLSDir: tls, Targets: []run.Target{{Name: "tenancy", Start: func(_ context.Context, h *run.Host) error {
		tenancyv1.RegisterTenancyServiceServer(h.RPC, owner)
		return nil
	}}}})
	issuer, token := identities(t)
	far := runtest.Start(t, runtest.Options{TLSDir: tls, Peers: map[string]string{"tenancy": home.RPC},
		Config: fmt.Sprintf("auth: {oidc: {issuer: %q, audience: ceralacca}}\n", issuer),
		Targets: []run.Target{{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
			tenancyv1.RegisterTenancyServiceServer(h.RPC, &register{}) // methods that any tenant may call: all are unwritten
			return nil
		}}}})
	code := func(tenant string, begins bool) string {
		api := tenancyv1.NewTenancyServiceClient(far.DialKey("invoice", token(tenant)))
		var err error
		if begins {
			_, err = api.CreateCompany(t.Context(), &tenancyv1.CreateCompanyRequest{Parent: "tenants/" + tenant, CompanyId: "main", Company: &tenancyv1.Company{DisplayName: "M"}})
		} else {
			_, err = api.GetTenant(t.Context(), &tenancyv1.GetTenantRequest{Name: "tenants/" + tenant})
		}
		require.Error(t, err)
		return fault.Of(err).Code
	}
	require.Equal(t, "TENANT_SUSPENDED", code("late", true))
	require.Equal(t, "UNIMPLEMENTED", code("late", false), "reading goes on to the method")
	require.EqualValues(t, 1, owner.asked.Load(), "the answer is remembered")
	require.Equal(t, "UNIMPLEMENTED", code("prompt", true))

	held, err := far.Host("invoice").Suspension(t.Context(), "late")
	require.NoError(t, err)
	require.Equal(t, &auth.Suspension{Subject: "tenants/late", Party: auth.RoleReseller, Reason: "unpaid", Since: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)}, held)
	home.Stop()
	require.Equal(t, "STANDING_NOT_READY", code("third", false))
}
