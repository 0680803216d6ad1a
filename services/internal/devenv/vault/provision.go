package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// Engine paths and names that Provision creates and the policies speak of.
const (
	TransitPath = "transit"
	TOTPPath    = "totp"
	OATHPath    = "oath"
	KVPath      = "secret"
	AppRolePath = "approle"
	SignerRole  = "signer"
	PECRole     = "pec-gateway"
)

// Credentials are what a service logs in with (AppRole).
type Credentials struct {
	Role     string
	RoleID   string
	SecretID string
}

// Client returns an API client with the server's own token.
func (s *Server) Client() (*api.Client, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, fmt.Errorf("devenv/vault: VAULT_* environment: %w", config.Error)
	}
	config.Address = s.Addr
	config.Timeout = 30 * time.Second
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("devenv/vault: %w", err)
	}
	client.SetToken(s.Token)
	// A VAULT_NAMESPACE meant for another server would break every path.
	if !s.external {
		client.ClearNamespace()
	}
	return client, nil
}

// Healthy returns nil when the server answers, initialised and unsealed.
func (s *Server) Healthy(ctx context.Context) error {
	client, err := s.Client()
	if err != nil {
		return err
	}
	health, err := client.Sys().HealthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("devenv/vault: %s does not answer: %w", s.Addr, err)
	}
	if !health.Initialized || health.Sealed {
		return fmt.Errorf("devenv/vault: %s is not ready: initialised %t, sealed %t", s.Addr, health.Initialized, health.Sealed)
	}
	return nil
}

// Provision mounts transit (twice: keys, and seeds of tokens), totp, kv-v2 and approle, writes every policy of
// policies (a folder of NAME.hcl files) and makes one AppRole per policy whose
// tokens have that policy and nothing else. It returns fresh credentials by role
// name. Doing it again changes nothing but the secret ids.
func (s *Server) Provision(ctx context.Context, policies string) (map[string]Credentials, error) {
	client, err := s.Client()
	if err != nil {
		return nil, err
	}
	err = mount(ctx, client)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(policies, "*.hcl"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(fmt.Errorf("devenv/vault: no policy (*.hcl) in %s", policies), err)
	}
	roles := make(map[string]Credentials, len(files))
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".hcl")
		rules, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("devenv/vault: %w", err)
		}
		err = client.Sys().PutPolicyWithContext(ctx, name, string(rules))
		if err != nil {
			return nil, fmt.Errorf("devenv/vault: policy %s: %w", file, err)
		}
		roles[name], err = role(ctx, client, name)
		if err != nil {
			return nil, fmt.Errorf("devenv/vault: role %s: %w", name, err)
		}
	}
	return roles, nil
}

func mount(ctx context.Context, client *api.Client) error {
	mounts := map[string]*api.MountInput{
		TransitPath: {Type: "transit", Description: "signing keys: never exported"},
		TOTPPath:    {Type: "totp", Description: "one-time codes of remote signatures"},
		OATHPath:    {Type: "transit", Description: "seeds of hardware tokens: never exported"},
		KVPath:      {Type: "kv", Description: "configuration secrets", Options: map[string]string{"version": "2"}},
	}
	have, err := client.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("devenv/vault: list engines: %w", err)
	}
	for path, input := range mounts {
		existing, ok := have[path+"/"]
		if ok && existing.Type == input.Type {
			continue
		}
		if ok {
			return fmt.Errorf("devenv/vault: %s/ is already mounted, as %s and not %s: this Vault serves something else", path, existing.Type, input.Type)
		}
		err = client.Sys().MountWithContext(ctx, path, input)
		if err != nil {
			return fmt.Errorf("devenv/vault: mount %s: %w", path, err)
		}
	}
	auths, err := client.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("devenv/vault: list logins: %w", err)
	}
	if _, ok := auths[AppRolePath+"/"]; ok {
		return nil
	}
	err = client.Sys().EnableAuthWithOptionsWithContext(ctx, AppRolePath, &api.EnableAuthOptions{Type: "approle"})
	if err != nil {
		return fmt.Errorf("devenv/vault: enable approle: %w", err)
	}
	return nil
}

func role(ctx context.Context, client *api.Client, name string) (Credentials, error) {
	path := "auth/" + AppRolePath + "/role/" + name
	_, err := client.Logical().WriteWithContext(ctx, path, map[string]any{
		"token_policies": name, "token_no_default_policy": true,
		"token_ttl": "1h", "token_max_ttl": "24h", "bind_secret_id": true,
	})
	if err != nil {
		return Credentials{}, err
	}
	roleID, err := client.Logical().ReadWithContext(ctx, path+"/role-id")
	if err != nil {
		return Credentials{}, err
	}
	secretID, err := client.Logical().WriteWithContext(ctx, path+"/secret-id", nil)
	if err != nil {
		return Credentials{}, err
	}
	made := Credentials{Role: name}
	made.RoleID, err = text(roleID, "role_id")
	if err != nil {
		return Credentials{}, err
	}
	made.SecretID, err = text(secretID, "secret_id")
	return made, err
}

func text(secret *api.Secret, field string) (string, error) {
	if secret == nil {
		return "", fmt.Errorf("answer without %s", field)
	}
	value, ok := secret.Data[field].(string)
	if !ok || value == "" {
		return "", fmt.Errorf("answer without %s", field)
	}
	return value, nil
}

// Login exchanges credentials for a token, as the signer does, and returns a
// client that has nothing but that token's rights.
func (s *Server) Login(ctx context.Context, c Credentials) (*api.Client, error) {
	client, err := s.Client()
	if err != nil {
		return nil, err
	}
	client.ClearToken()
	secret, err := client.Logical().WriteWithContext(ctx, "auth/"+AppRolePath+"/login", map[string]any{"role_id": c.RoleID, "secret_id": c.SecretID})
	var refused *api.ResponseError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest {
		return nil, fmt.Errorf("devenv/vault: role %s: credentials refused: %w", c.Role, err)
	}
	if err != nil {
		return nil, fmt.Errorf("devenv/vault: role %s: login: %w", c.Role, err)
	}
	if secret == nil || secret.Auth == nil {
		return nil, fmt.Errorf("devenv/vault: role %s: login answered without a token", c.Role)
	}
	client.SetToken(secret.Auth.ClientToken)
	return client, nil
}
