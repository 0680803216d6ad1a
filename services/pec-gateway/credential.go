package pecgateway

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/vault"
)

// keyring keeps the passwords of mailboxes in Vault's key-value engine, version 2.
// Vault paths: <kv>/data/pec-gateway/mailboxes/<tenant>/<mailbox> (create, update, read),
// <kv>/metadata/... (delete).
type keyring struct {
	mount   string
	breaker *run.Breaker
	session *vault.Session
}

func openKeyring(cfg VaultConfig, breaker *run.Breaker, log *slog.Logger) (*keyring, error) {
	session, err := vault.Open(cfg.session(), log)
	if err != nil {
		return nil, run.BadField("vault", "%v", err)
	}
	return &keyring{mount: cfg.KV, breaker: breaker, session: session}, nil
}

func (k *keyring) path(kind, tenant string, mailbox uuid.UUID) string {
	return k.mount + "/" + kind + "/pec-gateway/mailboxes/" + tenant + "/" + mailbox.String()
}

func (k *keyring) call(ctx context.Context, what string, fn func(ctx context.Context) (*api.Secret, error)) (*api.Secret, error) {
	var secret *api.Secret
	err := k.breaker.Do(ctx, func(ctx context.Context) error {
		var err error
		secret, err = k.session.Do(ctx, what, fn)
		return err
	})
	return secret, err
}

// put keeps a password as the newest version.
func (k *keyring) put(ctx context.Context, tenant string, mailbox uuid.UUID, password string) error {
	_, err := k.call(ctx, "the keeping of a mailbox's password", func(ctx context.Context) (*api.Secret, error) {
		return k.session.Client().Logical().WriteWithContext(ctx, k.path("data", tenant, mailbox),
			map[string]any{"data": map[string]any{"password": password}})
	})
	return err
}

// get gives the password. Faults: Precondition MAILBOX_NO_PASSWORD; those of Vault.
func (k *keyring) get(ctx context.Context, tenant string, mailbox uuid.UUID) (string, error) {
	secret, err := k.call(ctx, "the reading of a mailbox's password", func(ctx context.Context) (*api.Secret, error) {
		return k.session.Client().Logical().ReadWithContext(ctx, k.path("data", tenant, mailbox))
	})
	if err != nil {
		return "", err
	}
	if secret != nil {
		data, _ := secret.Data["data"].(map[string]any)
		if password, _ := data["password"].(string); password != "" {
			return password, nil
		}
	}
	return "", fault.Precondition(codeNoPassword, "Vault has no password of this mailbox: give it one with ChangeMailboxPassword")
}

// codeNoPassword: a mailbox whose password Vault does not have.
const codeNoPassword = "MAILBOX_NO_PASSWORD"

// drop forgets a password with all its versions.
func (k *keyring) drop(ctx context.Context, tenant string, mailbox uuid.UUID) error {
	_, err := k.call(ctx, "the forgetting of a mailbox's password", func(ctx context.Context) (*api.Secret, error) {
		return k.session.Client().Logical().DeleteWithContext(ctx, k.path("metadata", tenant, mailbox))
	})
	return err
}
