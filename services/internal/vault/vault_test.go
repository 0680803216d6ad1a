package vault_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	devvault "ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/internal/vault"
)

// cluster is a real Vault whose kubernetes login is played in front of it: the dev Vault has no API server to ask
// about service accounts. What comes out of the login is a token of the real Vault, with the signer's policy, and
// every other call goes through.
type cluster struct {
	*devvault.Server
	url      string
	logins   atomic.Int32
	renewals atomic.Int32
}

// spec: Vault API, kubernetes auth method, POST /auth/kubernetes/login
func openCluster(t *testing.T, ttl string) *cluster {
	t.Helper()
	server, err := devvault.Start(t.Context(), devvault.Options{Private: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	root, err := devenv.Root()
	require.NoError(t, err)
	_, err = server.Provision(t.Context(), filepath.Join(root, "deploy", "vault"))
	require.NoError(t, err)
	admin, err := server.Client()
	require.NoError(t, err)
	target, err := url.Parse(server.Addr)
	require.NoError(t, err)
	c := &cluster{Server: server}
	through := httputil.NewSingleHostReverseProxy(target)
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/auth/kubernetes/login", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Role, Jwt string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Role != "signer" || in.Jwt != "token of the pod" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":["permission denied"]}`))
			return
		}
		c.logins.Add(1)
		made, err := admin.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"signer"}, NoDefaultPolicy: true, TTL: ttl, NoParent: true})
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{
			"client_token": made.Auth.ClientToken, "lease_duration": made.Auth.LeaseDuration, "renewable": made.Auth.Renewable, "policies": made.Auth.Policies,
		}})
	})
	mux.HandleFunc("/v1/auth/token/renew-self", func(w http.ResponseWriter, r *http.Request) {
		c.renewals.Add(1)
		through.ServeHTTP(w, r)
	})
	mux.Handle("/", through)
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	c.url = web.URL
	return c
}

func (c *cluster) open(t *testing.T, token string) *vault.Session {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	s, err := vault.Open(vault.Config{Address: c.url, Kubernetes: "kubernetes", KubernetesRole: "signer", KubernetesTokenFile: file, Timeout: 5 * time.Second}, runtest.Quiet())
	require.NoError(t, err)
	return s
}

func lookup(ctx context.Context, s *vault.Session) error {
	_, err := s.Do(ctx, "looking", func(ctx context.Context) (*api.Secret, error) {
		return s.Client().Auth().Token().LookupSelfWithContext(ctx)
	})
	return err
}

// TestKubernetesLogin: the pod's token gives a token of Vault that has the signer's rights, and is renewed; one
// that Vault has forgotten is replaced.
func TestKubernetesLogin(t *testing.T) {
	c := openCluster(t, "3s")
	s := c.open(t, "token of the pod\n")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Keep(ctx) }()
	require.NoError(t, lookup(t.Context(), s))
	_, err := s.Do(t.Context(), "listing policies", func(ctx context.Context) (*api.Secret, error) {
		return s.Client().Logical().ReadWithContext(ctx, "sys/policies/acl/signer")
	})
	require.Equal(t, vault.CodeDenied, fault.Of(err).Code, "no more than the policy")
	require.Eventually(t, func() bool { return c.renewals.Load() >= 2 }, 30*time.Second, 20*time.Millisecond, "the token is renewed before it ends")
	require.NoError(t, lookup(t.Context(), s))

	admin, err := c.Client()
	require.NoError(t, err)
	before := c.logins.Load()
	require.NoError(t, admin.Auth().Token().RevokeTree(s.Client().Token()))
	require.NoError(t, lookup(t.Context(), s), "a token that was revoked is replaced")
	require.Greater(t, c.logins.Load(), before)
	cancel()
	require.NoError(t, <-ended)
}

func TestKubernetesLoginRefused(t *testing.T) {
	c := openCluster(t, "1h")
	s := c.open(t, "of another pod")
	err := lookup(t.Context(), s)
	require.Equal(t, vault.CodeDenied, fault.Of(err).Code)
	require.ErrorContains(t, err, "Kubernetes login")
	require.ErrorContains(t, err, "bound to")
	missing, err := vault.Open(vault.Config{Address: c.url, Kubernetes: "kubernetes", KubernetesRole: "signer", KubernetesTokenFile: filepath.Join(t.TempDir(), "none"), Timeout: time.Second}, runtest.Quiet())
	require.NoError(t, err)
	require.ErrorContains(t, lookup(t.Context(), missing), "service account")
}
