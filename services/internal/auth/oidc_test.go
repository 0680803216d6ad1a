package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// issuer is an OpenID Connect provider as far as token verification goes: a
// discovery document, a key set that can be rotated, signed tokens.
type issuer struct {
	*httptest.Server
	mu   sync.Mutex
	id   string
	key  *ecdsa.PrivateKey
	down bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	i.rotate(t, "one")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/auth",
			"token_endpoint": i.URL + "/token", "id_token_signing_alg_values_supported": []string{"ES256"},
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: &i.key.PublicKey, KeyID: i.id, Algorithm: "ES256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down := i.down
		i.mu.Unlock()
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) rotate(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	i.mu.Lock()
	i.id, i.key = id, key
	i.mu.Unlock()
}

func (i *issuer) setDown(down bool) {
	i.mu.Lock()
	i.down = down
	i.mu.Unlock()
}

// token signs claims; the standard ones are filled in unless given.
func (i *issuer) token(t *testing.T, now time.Time, claims map[string]any) string {
	t.Helper()
	full := map[string]any{
		"iss": i.URL, "aud": "ceralacca", "sub": "marta", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for k, v := range claims {
		full[k] = v
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: i.id}}, nil)
	require.NoError(t, err)
	body, err := json.Marshal(full)
	require.NoError(t, err)
	signed, err := signer.Sign(body)
	require.NoError(t, err)
	text, err := signed.CompactSerialize()
	require.NoError(t, err)
	return text
}

func TestOIDC(t *testing.T) {
	i, now := newIssuer(t), time.Now()
	o, err := auth.NewOIDC(auth.OIDCConfig{Issuer: i.URL, Audience: "ceralacca", Now: func() time.Time { return now }})
	require.NoError(t, err)

	tenant := map[string]any{"ceralacca_role": "tenant", "ceralacca_tenant": "acme", "scope": "invoices.read invoices.write"}
	c, err := o.Resolve(t.Context(), i.token(t, now, tenant))
	require.NoError(t, err)
	require.Equal(t, auth.Caller{Kind: auth.KindOIDC, ID: "marta", Role: "tenant", Tenant: "acme", Live: true,
		Scopes: []string{"invoices.read", "invoices.write"}}, c)

	c, err = o.Resolve(t.Context(), i.token(t, now, map[string]any{"ceralacca_role": "operator", "scope": []string{"*"}}))
	require.NoError(t, err)
	require.Equal(t, []string{"*"}, c.Scopes)

	i.rotate(t, "two")
	_, err = o.Resolve(t.Context(), i.token(t, now, tenant))
	require.NoError(t, err, "a rotated key is fetched")

	good := i.token(t, now, tenant)
	for name, c := range map[string]struct{ token, code string }{
		"expired":          {i.token(t, now, map[string]any{"exp": now.Add(-time.Minute).Unix()}), "TOKEN_EXPIRED"},
		"other audience":   {i.token(t, now, map[string]any{"aud": "somebody"}), "TOKEN_INVALID"},
		"other issuer":     {i.token(t, now, map[string]any{"iss": "https://elsewhere.example"}), "TOKEN_INVALID"},
		"changed":          {good[:len(good)-8] + "AAAAAAAA", "TOKEN_INVALID"},
		"no token":         {"gibberish", "TOKEN_INVALID"},
		"no role":          {i.token(t, now, nil), "TOKEN_CLAIM_INVALID"},
		"strange role":     {i.token(t, now, map[string]any{"ceralacca_role": "root"}), "TOKEN_CLAIM_INVALID"},
		"service role":     {i.token(t, now, map[string]any{"ceralacca_role": "service"}), "TOKEN_CLAIM_INVALID"},
		"no tenant":        {i.token(t, now, map[string]any{"ceralacca_role": "tenant"}), "TOKEN_CLAIM_INVALID"},
		"no reseller":      {i.token(t, now, map[string]any{"ceralacca_role": "reseller"}), "TOKEN_CLAIM_INVALID"},
		"role is a number": {i.token(t, now, map[string]any{"ceralacca_role": 7}), "TOKEN_CLAIM_INVALID"},
		"scope is a map":   {i.token(t, now, map[string]any{"ceralacca_role": "operator", "scope": map[string]any{}}), "TOKEN_CLAIM_INVALID"},
	} {
		_, err := o.Resolve(t.Context(), c.token)
		require.Error(t, err, name)
		require.Equal(t, c.code, fault.Of(err).Code, name)
		require.Equal(t, fault.KindUnauthenticated, fault.Of(err).Kind, name)
	}
}

// TestOIDCAway: a provider that is away is an outage, not a bad token, and
// tokens are accepted once it is back.
func TestOIDCAway(t *testing.T) {
	i, now := newIssuer(t), time.Now()
	i.setDown(true)
	o, err := auth.NewOIDC(auth.OIDCConfig{Issuer: i.URL, Audience: "ceralacca"})
	require.NoError(t, err)
	token := i.token(t, now, map[string]any{"ceralacca_role": "operator"})
	_, err = o.Resolve(t.Context(), token)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
	i.setDown(false)
	_, err = o.Resolve(t.Context(), token)
	require.NoError(t, err)
	i.rotate(t, "two")
	i.setDown(true)
	_, err = o.Resolve(t.Context(), i.token(t, now, map[string]any{"ceralacca_role": "operator"}))
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind, "its keys cannot be fetched")
}

func TestOIDCConfig(t *testing.T) {
	_, err := auth.NewOIDC(auth.OIDCConfig{Issuer: "https://idp.example"})
	require.ErrorContains(t, err, "audience")
}
