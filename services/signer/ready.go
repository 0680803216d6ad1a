package signer

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/signer/internal/db"
)

// recheckKey is how long a key that was seen to be unable to leave Vault is believed.
const recheckKey = time.Hour

// readyCredential is a credential that can sign: parsed certificates and the key in Vault.
type readyCredential struct {
	id      uuid.UUID
	name    string
	version int32
	signer  cades.Signer
	checked time.Time
	// lent: the key is at a provider, which is asked for each document; signer is empty until it has signed.
	lent      bool
	tenant    string // of a lent one: a role's signs for other tenants
	qualified bool

	reader cades.Reader
	// attached, detached: the second reader has read such a file of this credential.
	attached, detached atomic.Bool
}

// readyCredentials remembers what signing needs, by credential and version of its row: the row says
// which version holds, so nothing stale is ever used, and nothing but the row is read per signature.
type readyCredentials struct {
	vault *transit
	now   func() time.Time

	mu   sync.Mutex
	byID map[uuid.UUID]*readyCredential
}

func newReadyCredentials(vault *transit, now func() time.Time) *readyCredentials {
	return &readyCredentials{vault: vault, now: now, byID: map[uuid.UUID]*readyCredential{}}
}

func (r *readyCredentials) forget(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

// have gives what is remembered of that version, nil when it is to be loaded.
func (r *readyCredentials) have(id uuid.UUID, version int32) *readyCredential {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.byID[id]
	if c == nil || c.version != version || r.now().Sub(c.checked) > recheckKey {
		return nil
	}
	return c
}

// load makes a row ready: it parses the certificates and looks at the key in Vault.
func (r *readyCredentials) load(ctx context.Context, row db.Credential) (*readyCredential, error) {
	if c := r.have(row.ID, row.Version); c != nil {
		return c, nil
	}
	if row.State != "ACTIVE" {
		return nil, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s is %s", nameOfCredential(row), row.State)
	}
	c := &readyCredential{id: row.ID, name: nameOfCredential(row), version: row.Version, checked: r.now()}
	for _, der := range row.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("signer: certificate of %s: %w", c.name, err)
		}
		c.signer.Chain = append(c.signer.Chain, cert)
	}
	_, err := r.vault.readKey(ctx, row.KeyName, row.KeyType)
	if err != nil {
		return nil, err
	}
	// The certificate's key, not the one Vault shows now: a signature by another is refused by cms.
	c.signer.Key = r.vault.key(row.KeyName, int(row.KeyVersion), c.signer.Chain[0].PublicKey)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[row.ID] = c
	return c, nil
}
