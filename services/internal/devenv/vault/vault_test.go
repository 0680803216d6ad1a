package vault

import (
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	o.Private, o.Progress = true, os.Stderr
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

func policies(t *testing.T) string {
	t.Helper()
	root, err := devenv.Root()
	require.NoError(t, err)
	return filepath.Join(root, "deploy", "vault")
}

func digest() map[string]any {
	sum := sha256.Sum256([]byte("document"))
	return map[string]any{
		"input": base64.StdEncoding.EncodeToString(sum[:]), "prehashed": true,
		"hash_algorithm": "sha2-256", "marshaling_algorithm": "asn1", "key_version": 1,
	}
}

func TestSignerHasLeastPrivilege(t *testing.T) {
	s := start(t, Options{})
	roles, err := s.Provision(t.Context(), policies(t))
	require.NoError(t, err)
	again, err := s.Provision(t.Context(), policies(t))
	require.NoError(t, err, "provisioning twice is allowed")
	require.Equal(t, roles[SignerRole].RoleID, again[SignerRole].RoleID)
	client, err := s.Login(t.Context(), roles[SignerRole])
	require.NoError(t, err)

	write := func(path string, data map[string]any) error {
		_, err := client.Logical().WriteWithContext(t.Context(), path, data)
		return err
	}
	require.NoError(t, write("transit/keys/company", map[string]any{"type": "ecdsa-p256", "exportable": false}))
	require.NoError(t, write("transit/keys/rsa", map[string]any{"type": "rsa-3072"}))
	require.NoError(t, write("transit/sign/company", digest()))
	pkcs1 := digest()
	pkcs1["signature_algorithm"] = "pkcs1v15"
	require.NoError(t, write("transit/sign/rsa", pkcs1))
	_, err = client.Logical().ReadWithContext(t.Context(), "transit/keys/company")
	require.NoError(t, err)
	require.NoError(t, write("transit/keys/company/csr", nil))
	_, err = client.Auth().Token().LookupSelfWithContext(t.Context())
	require.NoError(t, err)
	mac := map[string]any{"batch_input": []map[string]any{{"input": "AAAA"}}, "key_version": 1, "algorithm": "sha2-256"}
	require.NoError(t, write("transit/hmac/company", mac))
	require.NoError(t, write("totp/keys/holder", map[string]any{"generate": true, "issuer": "i", "account_name": "a"}))
	require.NoError(t, write("totp/code/holder", map[string]any{"code": "000000"}))

	require.NoError(t, write("transit/keys/company/rotate", nil))
	_, err = client.Logical().ReadWithContext(t.Context(), "oath/wrapping_key")
	require.NoError(t, err)

	wholeDocument, weak := digest(), digest()
	wholeDocument["prehashed"] = false
	weak["hash_algorithm"] = "sha1"
	denied := map[string]map[string]any{
		"transit/keys/leaky":                 {"type": "ecdsa-p256", "exportable": true},
		"transit/keys/copied":                {"type": "ecdsa-p256", "allow_plaintext_backup": true},
		"transit/keys/aes":                   {"type": "aes256-gcm96"},
		"transit/keys/company/config":        {"exportable": true},
		"transit/sign/company":               wholeDocument,
		"transit/sign/rsa":                   weak,
		"transit/hmac/rsa":                   {"batch_input": mac["batch_input"], "algorithm": "sha2-512"},
		"transit/keys/company/import":        {"ciphertext": "AAAA", "type": "ecdsa-p256"},
		"transit/keys/company/trim":          {"min_available_version": 1},
		"transit/encrypt/company":            {"plaintext": "AAAA"},
		"transit/datakey/plaintext/a":        nil,
		"transit/restore/company":            {"backup": "AAAA"},
		"transit/random/32":                  nil,
		"transit/cache-config":               {"size": 0},
		"oath/keys/made":                     {"type": "hmac"},
		"oath/keys/token/import":             {"ciphertext": "AAAA", "type": "hmac", "exportable": true},
		"oath/keys/other/import":             {"ciphertext": "AAAA", "type": "ecdsa-p256"},
		"oath/keys/token/config":             {"exportable": true},
		"oath/keys/token/rotate":             nil,
		"oath/hmac/token":                    {"batch_input": mac["batch_input"], "algorithm": "sha2-384"},
		"oath/sign/token":                    mac,
		"secret/data/pec-gateway/a":          {"data": map[string]any{"a": "b"}},
		"auth/approle/role/signer/secret-id": nil,
		"sys/seal":                           nil,
		"sys/audit/file":                     {"type": "file"},
		"sys/mounts/other":                   {"type": "transit"},
		"identity/entity":                    nil,
		"transit/verify/company":             {"hmac": "vault:v1:AAAA", "input": "AAAA"},
		"sys/policies/acl/signer":            {"policy": `path "*" { capabilities = ["sudo"] }`},
		"secret/data/signer/key":             {"data": map[string]any{"a": "b"}},
	}
	for path, data := range denied {
		requireDenied(t, write(path, data), path)
	}
	unsaid := digest()
	delete(unsaid, "prehashed")
	requireDenied(t, write("transit/sign/company", unsaid), "a document for Vault to hash")
	for _, path := range []string{"transit/export/signing-key/company", "transit/backup/company", "totp/code/holder", "totp/keys/holder", "secret/data/other",
		"transit/keys", "transit/export/hmac-key/company", "oath/export/hmac-key/token", "oath/backup/token", "oath/keys", "totp/keys", "secret/metadata/signer",
		"secret/data/pec-gateway/mailboxes/a/b", "sys/policies/acl/signer", "sys/audit", "auth/approle/role/signer/role-id"} {
		_, err = client.Logical().ReadWithContext(t.Context(), path)
		requireDenied(t, err, path)
	}
	_, err = client.Logical().DeleteWithContext(t.Context(), "transit/keys/company")
	requireDenied(t, err, "delete key")

	_, err = s.Login(t.Context(), Credentials{Role: SignerRole, RoleID: roles[SignerRole].RoleID, SecretID: "wrong"})
	require.ErrorContains(t, err, "credentials refused")
}

func requireDenied(t *testing.T, err error, path string) {
	t.Helper()
	var answer *api.ResponseError
	require.ErrorAs(t, err, &answer, path)
	require.Equal(t, 403, answer.StatusCode, path)
}

func TestKeysSurviveKillAndRestart(t *testing.T) {
	s := start(t, Options{Dir: filepath.Join(t.TempDir(), "vault"), Audit: filepath.Join(t.TempDir(), "audit.log")})
	roles, err := s.Provision(t.Context(), policies(t))
	require.NoError(t, err)
	client, err := s.Login(t.Context(), roles[SignerRole])
	require.NoError(t, err)
	_, err = client.Logical().WriteWithContext(t.Context(), "transit/keys/company", map[string]any{"type": "ecdsa-p256"})
	require.NoError(t, err)
	addr, token := s.Addr, s.Token

	require.NoError(t, s.Kill())
	require.Error(t, s.Healthy(t.Context()))
	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, addr, s.Addr)
	require.Equal(t, token, s.Token)
	_, err = client.Logical().WriteWithContext(t.Context(), "transit/sign/company", digest())
	require.NoError(t, err, "the service's token and key are still good")
}

func TestPauseHoldsRequestsAndResumeAnswersThem(t *testing.T) {
	s := start(t, Options{})
	require.NoError(t, s.Pause())
	answered := make(chan error, 1)
	go func() { answered <- s.Healthy(t.Context()) }()
	select {
	case err := <-answered:
		t.Fatalf("a frozen server answered: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	require.NoError(t, s.Resume())
	require.NoError(t, <-answered)
	require.NoError(t, s.Pause())
	require.NoError(t, s.Stop(), "a frozen server can be stopped")
}

func TestSurvivorOnTheFolderIsStopped(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	first := start(t, Options{Dir: dir})
	second := start(t, Options{Dir: dir}) // as if the first launcher had been killed
	require.False(t, child.Runs(first.PID(), first.bin) && first.PID() != second.PID())
	require.NoError(t, second.Healthy(t.Context()))
}

func TestExternalServer(t *testing.T) {
	s := start(t, Options{})
	t.Setenv("VAULT_ADDR", s.Addr)
	t.Setenv("VAULT_TOKEN", s.Token)
	given, err := Start(t.Context(), Options{})
	require.NoError(t, err)
	require.True(t, given.External())
	require.ErrorContains(t, given.Restart(t.Context()), "not ours")
	require.ErrorContains(t, given.Kill(), "not ours")
	require.NoError(t, given.Stop())
	require.NoError(t, s.Healthy(t.Context()), "stopping an external server leaves it alone")

	t.Setenv("VAULT_TOKEN", "")
	_, err = Start(t.Context(), Options{})
	require.ErrorContains(t, err, "VAULT_TOKEN")
	t.Setenv("VAULT_TOKEN", "x")
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	_, err = Start(t.Context(), Options{})
	require.ErrorContains(t, err, "unset VAULT_ADDR")
}

func TestProvisionWithoutPolicies(t *testing.T) {
	s := start(t, Options{})
	_, err := s.Provision(t.Context(), t.TempDir())
	require.ErrorContains(t, err, "no policy")
}
