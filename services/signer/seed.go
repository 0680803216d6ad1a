package signer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/vault"
)

// Seeds of hardware tokens are keys of a transit engine of their own: the totp engine knows neither
// counters nor tokens that are out of step. They come wrapped under the engine's own key, so this process
// never has one; and they can be used here, and not read.

// seedName is a token's key in Vault. Like the others it tells nothing of customers.
func seedName(token uuid.UUID) string { return keyPrefix + "token-" + token.String() }

// seedAlgorithms are Vault's names of the hashes.
var seedAlgorithms = map[string]struct {
	name string
	size int
}{"SHA1": {"sha1", 20}, "SHA256": {"sha2-256", 32}, "SHA512": {"sha2-512", 64}}

// wrappingKey reads the public key for imports. Vault makes it when it is first asked for it or for an import.
// Vault paths: <oath>/wrapping_key (read).
func (t *transit) wrappingKey(ctx context.Context) (string, error) {
	secret, err := t.call(ctx, "reading the wrapping key", func(ctx context.Context) (*api.Secret, error) {
		client, err := t.patient()
		if err != nil {
			return nil, err
		}
		return client.Logical().ReadWithContext(ctx, t.cfg.OATH+"/wrapping_key")
	})
	if err != nil {
		return "", err
	}
	if secret == nil {
		return "", fault.Internal(vault.CodeFailed, "Vault has no wrapping key at %s", t.cfg.OATH)
	}
	text, _ := secret.Data["public_key"].(string)
	if text == "" {
		return "", fault.Internal(vault.CodeFailed, "Vault's answer about the wrapping key has none")
	}
	return text, nil
}

// importSeed hands a wrapped seed over, and looks whether it can leave again.
// Vault paths: <oath>/keys/<token>/import (update), <oath>/keys/<token> (read).
func (t *transit) importSeed(ctx context.Context, token uuid.UUID, wrapped []byte) error {
	refused := fault.Invalid("SEED_REFUSED", "wrapped_seed: Vault cannot unwrap it, or it is no seed: wrap it again under the present GetSeedWrappingKey").
		WithField("wrapped_seed", "SEED_REFUSED", "cannot be unwrapped")
	bad := false
	_, err := t.call(ctx, "importing a seed", func(ctx context.Context) (*api.Secret, error) {
		client, err := t.patient()
		if err != nil {
			return nil, err
		}
		secret, err := client.Logical().WriteWithContext(ctx, t.cfg.OATH+"/keys/"+seedName(token)+"/import", map[string]any{
			"ciphertext": base64.StdEncoding.EncodeToString(wrapped), "type": "hmac", "hash_function": "SHA256",
			"exportable": false, "allow_plaintext_backup": false, "allow_rotation": false,
		})
		// Vault answers 500 to a wrapping that it cannot open: that is about the seed and not about Vault.
		var answer *api.ResponseError
		bad = errors.As(err, &answer) && (answer.StatusCode == http.StatusBadRequest || answer.StatusCode == http.StatusInternalServerError)
		if bad {
			return nil, nil //nolint:nilnil // said below
		}
		return secret, err
	})
	switch {
	case err != nil:
		return err
	case bad:
		return refused
	}
	secret, err := t.call(ctx, "reading a seed's settings", func(ctx context.Context) (*api.Secret, error) {
		return t.client.Logical().ReadWithContext(ctx, t.cfg.OATH+"/keys/"+seedName(token))
	})
	if err != nil {
		return err
	}
	if secret == nil {
		return refused
	}
	for _, flag := range []string{"exportable", "allow_plaintext_backup"} {
		value, ok := secret.Data[flag].(bool)
		if !ok || value {
			return fault.Precondition(codeKeyRefused, "the seed of the token has %s set in Vault: it could leave it and is not used", flag)
		}
	}
	return nil
}

// seedMACs gives HMACs by a seed. Vault paths: <oath>/hmac/<token> (update).
func (t *transit) seedMACs(ctx context.Context, token uuid.UUID, algorithm string, inputs ...[]byte) ([][]byte, error) {
	a, ok := seedAlgorithms[algorithm]
	if !ok {
		return nil, fmt.Errorf("signer: token with algorithm %q", algorithm)
	}
	return t.hmacs(ctx, t.cfg.OATH+"/hmac/"+seedName(token), 1, a.name, a.size, inputs)
}

// deleteSeed deletes a seed for good. Vault paths: <oath>/keys/<token>/config (update, deletion_allowed
// alone), <oath>/keys/<token> (delete).
func (t *transit) deleteSeed(ctx context.Context, token uuid.UUID) error {
	path := t.cfg.OATH + "/keys/" + seedName(token)
	_, err := t.call(ctx, "deleting a seed", func(ctx context.Context) (*api.Secret, error) {
		_, err := t.client.Logical().WriteWithContext(ctx, path+"/config", map[string]any{"deletion_allowed": true})
		var answer *api.ResponseError
		if errors.As(err, &answer) && (answer.StatusCode == http.StatusBadRequest || answer.StatusCode == http.StatusNotFound) {
			return nil, nil //nolint:nilnil // there is none: it was deleted before
		}
		if err != nil {
			return nil, err
		}
		return t.client.Logical().DeleteWithContext(ctx, path)
	})
	return err
}
