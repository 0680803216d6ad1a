package vault_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	devvault "ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/internal/vault"
)

const clusterIssuer = "https://kubernetes.default.svc.cluster.local"

// apiServer plays what Vault asks of a cluster's API server, which is one call: whether a token of a service account is
// good. It has given the tokens out itself, as the kubelet has them for pods.
// spec: Kubernetes API, authentication.k8s.io/v1 TokenReview
type apiServer struct {
	*httptest.Server
	t        *testing.T
	key      *ecdsa.PrivateKey
	reviewer string // whose token Vault shows to be allowed to ask
	asked    atomic.Int32

	mu   sync.Mutex
	gone map[string]bool // service accounts that were deleted
}

// account is a service account of the cluster.
type account struct{ namespace, name, uid string }

// claims are what is in a projected token. spec: Kubernetes, Service account token volume projection
type claims struct {
	Issuer     string           `json:"iss"`
	Subject    string           `json:"sub"`
	Audience   []string         `json:"aud"` // always a list
	IssuedAt   *jwt.NumericDate `json:"iat"`
	NotBefore  *jwt.NumericDate `json:"nbf"`
	Expiry     *jwt.NumericDate `json:"exp"`
	ID         string           `json:"jti"`
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		Pod            object `json:"pod"`
		ServiceAccount object `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

type object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

type tokenReview struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       reviewSpec   `json:"spec"`
	Status     reviewStatus `json:"status"`
}

type reviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences,omitempty"`
}

type reviewStatus struct {
	Authenticated bool        `json:"authenticated"`
	User          *reviewUser `json:"user,omitempty"`
	Audiences     []string    `json:"audiences,omitempty"`
	Error         string      `json:"error,omitempty"`
}

type reviewUser struct {
	Username string `json:"username"`
	UID      string `json:"uid"`
}

func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &apiServer{t: t, key: key, gone: map[string]bool{}}
	a.reviewer = a.token(account{"vault", "vault", uuid.NewString()}, clusterIssuer)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", a.review)
	a.Server = httptest.NewTLSServer(mux)
	t.Cleanup(a.Close)
	return a
}

// token is what the kubelet puts into a pod of that account, for that audience.
func (a *apiServer) token(who account, audience string) string {
	a.t.Helper()
	return a.tokenBy(a.key, who, audience)
}

func (a *apiServer) tokenBy(key *ecdsa.PrivateKey, who account, audience string) string {
	a.t.Helper()
	now := time.Now()
	c := claims{
		Issuer: clusterIssuer, Subject: "system:serviceaccount:" + who.namespace + ":" + who.name, Audience: []string{audience},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)), ID: uuid.NewString(),
	}
	c.Kubernetes.Namespace, c.Kubernetes.ServiceAccount = who.namespace, object{who.name, who.uid}
	c.Kubernetes.Pod = object{who.name + "-7d9f", uuid.NewString()}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	require.NoError(a.t, err)
	text, err := jwt.Signed(signer).Claims(c).Serialize()
	require.NoError(a.t, err)
	return text
}

func (a *apiServer) review(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var in tokenReview
	if r.Header.Get("Authorization") != "Bearer "+a.reviewer || json.NewDecoder(r.Body).Decode(&in) != nil {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}`))
		return
	}
	a.asked.Add(1)
	in.APIVersion, in.Kind, in.Status = "authentication.k8s.io/v1", "TokenReview", a.judge(in.Spec)
	in.Spec.Token = ""
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(in)
}

func (a *apiServer) judge(spec reviewSpec) reviewStatus {
	parsed, err := jwt.ParseSigned(spec.Token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return reviewStatus{Error: "invalid bearer token"}
	}
	var c claims
	err = parsed.Claims(&a.key.PublicKey, &c)
	if err != nil {
		return reviewStatus{Error: "invalid bearer token"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone[c.Kubernetes.ServiceAccount.UID] || c.Expiry.Time().Before(time.Now()) {
		return reviewStatus{Error: "token has been invalidated"}
	}
	var both []string
	for _, audience := range spec.Audiences {
		if slices.Contains(c.Audience, audience) {
			both = append(both, audience)
		}
	}
	return reviewStatus{Authenticated: len(both) > 0, Audiences: both, User: &reviewUser{c.Subject, c.Kubernetes.ServiceAccount.UID}}
}

func (a *apiServer) remove(who account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone[who.uid] = true
}

// cluster is a real Vault with its own kubernetes login, the role that is shipped, and the API server that it asks.
type cluster struct {
	*devvault.Server
	api *apiServer
	pod account
}

// openCluster is set up as the signer's README says. ttl, unless empty, is in place of the role's.
func openCluster(t *testing.T, ttl string) *cluster {
	t.Helper()
	server, err := devvault.Start(t.Context(), devvault.Options{Private: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	root, err := devenv.Root()
	require.NoError(t, err)
	_, err = server.Provision(t.Context(), filepath.Join(root, "deploy", "vault"))
	require.NoError(t, err)
	c := &cluster{server, startAPIServer(t), account{"ceralacca", "signer", uuid.NewString()}}
	admin, err := server.Client()
	require.NoError(t, err)
	require.NoError(t, admin.Sys().EnableAuthWithOptions("kubernetes", &api.EnableAuthOptions{Type: "kubernetes"}))
	_, err = admin.Logical().Write("auth/kubernetes/config", map[string]any{
		"kubernetes_host":    c.api.URL,
		"kubernetes_ca_cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.api.Certificate().Raw})),
		"token_reviewer_jwt": c.api.reviewer, "disable_local_ca_jwt": true, // this Vault is in no pod
	})
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(root, "deploy", "vault", "signer.kubernetes.json"))
	require.NoError(t, err)
	var role map[string]any
	require.NoError(t, json.Unmarshal(raw, &role))
	if ttl != "" {
		role["token_ttl"] = ttl
	}
	_, err = admin.Logical().Write("auth/kubernetes/role/signer", role)
	require.NoError(t, err)
	return c
}

func (c *cluster) open(t *testing.T, token string) *vault.Session {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	s, err := vault.Open(vault.Config{Address: c.Addr, Kubernetes: "kubernetes", KubernetesRole: "signer", KubernetesTokenFile: file, Timeout: 5 * time.Second}, runtest.Quiet())
	require.NoError(t, err)
	return s
}

// sign does what the signer has its login for.
func sign(ctx context.Context, s *vault.Session, key string) error {
	_, err := s.Do(ctx, "making a key", func(ctx context.Context) (*api.Secret, error) {
		return s.Client().Logical().WriteWithContext(ctx, "transit/keys/"+key, map[string]any{"type": "ecdsa-p256", "exportable": false, "allow_plaintext_backup": false})
	})
	if err != nil {
		return err
	}
	_, err = s.Do(ctx, "signing", func(ctx context.Context) (*api.Secret, error) {
		return s.Client().Logical().WriteWithContext(ctx, "transit/sign/"+key, map[string]any{
			"input": base64.StdEncoding.EncodeToString(make([]byte, 32)), "prehashed": true, "hash_algorithm": "sha2-256",
		})
	})
	return err
}

// TestKubernetesLogin: Vault's own kubernetes login takes the token of a pod, by the role that is shipped, and gives one
// with the signer's rights and no more, which is renewed; one that Vault has forgotten is replaced.
func TestKubernetesLogin(t *testing.T) {
	t.Parallel()
	c := openCluster(t, "3s")
	s := c.open(t, c.api.token(c.pod, "vault"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Keep(ctx) }()
	require.NoError(t, sign(t.Context(), s, "of-a-pod"))
	require.Positive(t, c.api.asked.Load(), "Vault asks the cluster")
	_, err := s.Do(t.Context(), "listing policies", func(ctx context.Context) (*api.Secret, error) {
		return s.Client().Logical().ReadWithContext(ctx, "sys/policies/acl/signer")
	})
	require.Equal(t, vault.CodeDenied, fault.Of(err).Code, "no more than the policy")

	admin, err := c.Client()
	require.NoError(t, err)
	renewals := map[string]bool{}
	require.Eventually(t, func() bool {
		found, err := admin.Auth().Token().Lookup(s.Client().Token())
		if err == nil && found.Data["last_renewal"] != nil {
			renewals[found.Data["last_renewal"].(string)] = true
		}
		return len(renewals) >= 2
	}, time.Minute, 50*time.Millisecond, "the token is renewed before it ends")

	before, asked := s.Client().Token(), c.api.asked.Load()
	require.NoError(t, admin.Auth().Token().RevokeTree(before))
	require.NoError(t, sign(t.Context(), s, "of-a-pod"), "a token that was revoked is replaced")
	require.NotEqual(t, before, s.Client().Token())
	require.Greater(t, c.api.asked.Load(), asked)
	cancel()
	require.NoError(t, <-ended)
}

// TestKubernetesLoginRefused: who is not the signer's service account, or is it no longer, gets nothing, and is told where to look.
func TestKubernetesLoginRefused(t *testing.T) {
	t.Parallel()
	c := openCluster(t, "")
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	removed := account{"ceralacca", "signer", uuid.NewString()}
	c.api.remove(removed)
	for what, token := range map[string]string{
		"no token at all":             "token of a pod",
		"another account":             c.api.token(account{"ceralacca", "notification", uuid.NewString()}, "vault"),
		"another namespace":           c.api.token(account{"default", "signer", uuid.NewString()}, "vault"),
		"for another audience":        c.api.token(c.pod, clusterIssuer),
		"signed by somebody else":     c.api.tokenBy(stranger, c.pod, "vault"),
		"of an account that was here": c.api.token(removed, "vault"),
	} {
		err := sign(t.Context(), c.open(t, token), "of-nobody")
		require.Equal(t, vault.CodeDenied, fault.Of(err).Code, what)
		require.ErrorContains(t, err, "Kubernetes login", what)
		require.ErrorContains(t, err, "bound to", what)
		require.False(t, strings.Contains(err.Error(), token), what)
	}
	require.NoError(t, sign(t.Context(), c.open(t, c.api.token(c.pod, "vault")), "of-nobody"))
	missing, err := vault.Open(vault.Config{Address: c.Addr, Kubernetes: "kubernetes", KubernetesRole: "signer", KubernetesTokenFile: filepath.Join(t.TempDir(), "none"), Timeout: time.Second}, runtest.Quiet())
	require.NoError(t, err)
	require.ErrorContains(t, sign(t.Context(), missing, "of-nobody"), "service account")
}
