package signer

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/vault"
)

// codeKeyRefused: the key in Vault could leave it, or is not the one that the credential needs.
const codeKeyRefused = "KEY_REFUSED"

// transit is Vault's signing engine. Vault paths: <transit>/keys/<key> (create, read),
// <transit>/sign/<key> (update), sys/health (public).
// serviceAccountToken is where Kubernetes puts the token of a pod.
const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path

type transit struct {
	cfg     VaultConfig
	client  *api.Client
	breaker *run.Breaker
	session *vault.Session
}

func openTransit(cfg VaultConfig, breaker *run.Breaker, log *slog.Logger) (*transit, error) {
	session, err := vault.Open(vault.Config{
		Address: cfg.Address, CAFile: cfg.CAFile, Namespace: cfg.Namespace, AppRole: cfg.AppRole,
		RoleIDFile: cfg.RoleIDFile, SecretIDFile: cfg.SecretIDFile, TokenFile: cfg.TokenFile, Timeout: cfg.Timeout,
		Kubernetes: cfg.Kubernetes, KubernetesRole: cfg.KubernetesRole, KubernetesTokenFile: cmp.Or(cfg.KubernetesTokenFile, serviceAccountToken),
	}, log)
	if err != nil {
		return nil, run.BadField("vault", "%v", err)
	}
	return &transit{cfg: cfg, client: session.Client(), breaker: breaker, session: session}, nil
}

// call runs fn behind the breaker. A token that Vault no longer takes is replaced once.
func (t *transit) call(ctx context.Context, what string, fn func(ctx context.Context) (*api.Secret, error)) (*api.Secret, error) {
	var secret *api.Secret
	err := t.breaker.Do(ctx, func(ctx context.Context) error {
		var err error
		secret, err = t.session.Do(ctx, what, fn)
		return err
	})
	return secret, err
}

// keyMaking is how long Vault may take to make an RSA key: many seconds of a slow processor, and no sign that it is
// away.
const keyMaking = 25 * time.Second

// patient is the client for what makes keys.
func (t *transit) patient() (*api.Client, error) {
	c, err := t.client.CloneWithHeaders()
	if err != nil {
		return nil, fmt.Errorf("signer: vault client: %w", err)
	}
	c.SetToken(t.client.Token())
	c.SetClientTimeout(max(keyMaking, t.cfg.Timeout))
	return c, nil
}

var transitTypes = map[string]string{"EC_P256": "ecdsa-p256", "RSA_3072": "rsa-3072"}

// createKey makes the key if it is not there; it can never be exported.
func (t *transit) createKey(ctx context.Context, name, keyType string) error {
	_, err := t.call(ctx, "making a key", func(ctx context.Context) (*api.Secret, error) {
		client, err := t.patient()
		if err != nil {
			return nil, err
		}
		return client.Logical().WriteWithContext(ctx, t.cfg.Transit+"/keys/"+name, map[string]any{
			"type": transitTypes[keyType], "exportable": false, "allow_plaintext_backup": false,
		})
	})
	return err
}

// keyInfo is what Vault says of a key.
type keyInfo struct {
	latest  int
	publics map[int]crypto.PublicKey // by version
}

// readKey reads a key and refuses one that could leave Vault or is of another type. exportable can
// be switched on later by whoever may write the key's config; the signer's policy does not allow
// that to itself, and this check finds it when somebody else did.
func (t *transit) readKey(ctx context.Context, name, keyType string) (keyInfo, error) {
	secret, err := t.call(ctx, "reading a key", func(ctx context.Context) (*api.Secret, error) {
		return t.client.Logical().ReadWithContext(ctx, t.cfg.Transit+"/keys/"+name)
	})
	if err != nil {
		return keyInfo{}, err
	}
	if secret == nil {
		return keyInfo{}, fault.Precondition(codeKeyRefused, "Vault has no key %s", name)
	}
	for _, flag := range []string{"exportable", "allow_plaintext_backup"} {
		value, ok := secret.Data[flag].(bool)
		if !ok || value {
			return keyInfo{}, fault.Precondition(codeKeyRefused, "key %s has %s set: it could leave Vault and is not used", name, flag)
		}
	}
	if got, _ := secret.Data["type"].(string); got != transitTypes[keyType] {
		return keyInfo{}, fault.Precondition(codeKeyRefused, "key %s is %q in Vault, %q is expected", name, got, transitTypes[keyType])
	}
	return parseKeyInfo(secret)
}

func parseKeyInfo(secret *api.Secret) (keyInfo, error) {
	bad := func(format string, a ...any) (keyInfo, error) {
		return keyInfo{}, fault.Internal(vault.CodeFailed, "Vault's answer about a key: "+format, a...)
	}
	latest, ok := secret.Data["latest_version"].(json.Number)
	if !ok {
		return bad("no latest_version")
	}
	n, err := strconv.Atoi(latest.String())
	if err != nil {
		return bad("latest_version %q", latest)
	}
	versions, ok := secret.Data["keys"].(map[string]any)
	if !ok {
		return bad("no versions")
	}
	info := keyInfo{latest: n, publics: map[int]crypto.PublicKey{}}
	for number, v := range versions {
		n, err := strconv.Atoi(number)
		if err != nil {
			return bad("version %q", number)
		}
		fields, ok := v.(map[string]any)
		if !ok {
			return bad("version %d is %T", n, v)
		}
		text, _ := fields["public_key"].(string)
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return bad("version %d has no public key", n)
		}
		info.publics[n], err = x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return bad("version %d: %v", n, err)
		}
	}
	return info, nil
}

// signDigests signs SHA-256 digests with one version of a key, in one call. There is one result per
// digest, in order, or an error for all.
func (t *transit) signDigests(ctx context.Context, name string, version int, public crypto.PublicKey, digests [][]byte) ([]signResult, error) {
	ask := signRequest{Input: make([]signInput, len(digests)), Version: version, Prehashed: true, Hash: "sha2-256"}
	for i, d := range digests {
		ask.Input[i].Input = d
	}
	switch public.(type) {
	case *rsa.PublicKey:
		ask.Algorithm = "pkcs1v15"
	case *ecdsa.PublicKey:
		ask.Marshaling = "asn1"
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, fmt.Errorf("signer: %w", err)
	}
	secret, err := t.call(ctx, "signing", func(ctx context.Context) (*api.Secret, error) {
		return t.client.Logical().WriteBytesWithContext(ctx, t.cfg.Transit+"/sign/"+name, body)
	})
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, fault.Internal(vault.CodeFailed, "Vault answered a signature with nothing")
	}
	list, _ := secret.Data["batch_results"].([]any)
	// HTTP 200 promises nothing about the items: each is looked at, and they are counted.
	if len(list) != len(digests) {
		return nil, fault.Internal(vault.CodeFailed, "Vault answered %d digests with %d signatures", len(digests), len(list))
	}
	results := make([]signResult, len(list))
	for i, item := range list {
		results[i].signature, results[i].err = parseSignature(item, version)
	}
	return results, nil
}

// signRequest is what travels for a batch.
type signRequest struct {
	Input      []signInput `json:"batch_input"`
	Version    int         `json:"key_version"`
	Prehashed  bool        `json:"prehashed"`
	Hash       string      `json:"hash_algorithm"`
	Algorithm  string      `json:"signature_algorithm,omitempty"`
	Marshaling string      `json:"marshaling_algorithm,omitempty"`
}

type signInput struct {
	Input []byte `json:"input"`
}

type signResult struct {
	signature []byte
	err       error
}

// parseSignature reads "vault:v<version>:<base64>".
func parseSignature(item any, version int) ([]byte, error) {
	fields, _ := item.(map[string]any)
	if text, _ := fields["error"].(string); text != "" {
		return nil, fault.Internal(vault.CodeFailed, "Vault refused a digest").With(fmt.Errorf("vault: %s", text))
	}
	text, _ := fields["signature"].(string)
	encoded, ok := strings.CutPrefix(text, "vault:v"+strconv.Itoa(version)+":")
	if !ok {
		return nil, fault.Internal(vault.CodeFailed, "Vault signed with another version of the key than %d", version)
	}
	sig, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fault.Internal(vault.CodeFailed, "Vault's signature is not base64").With(err)
	}
	return sig, nil
}

// readAccount reads user and password from a KV version 2 secret.
func (t *transit) readAccount(ctx context.Context, path string) (user, password string, err error) {
	fields, err := t.readSecret(ctx, path)
	if err != nil {
		return "", "", err
	}
	user, password = fields["user"], fields["password"]
	if user == "" || password == "" {
		return "", "", fault.Precondition("PROVIDER_ACCOUNT_MISSING", "%s in Vault has no user and password", path)
	}
	return user, password, nil
}

// readSecret reads the fields of a KV version 2 secret that are text; none, when there is no such secret.
func (t *transit) readSecret(ctx context.Context, path string) (map[string]string, error) {
	secret, err := t.call(ctx, "reading a secret", func(ctx context.Context) (*api.Secret, error) {
		return t.client.Logical().ReadWithContext(ctx, path)
	})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	if secret != nil {
		data, _ := secret.Data["data"].(map[string]any)
		for name, value := range data {
			if text, ok := value.(string); ok {
				out[name] = text
			}
		}
	}
	return out, nil
}
