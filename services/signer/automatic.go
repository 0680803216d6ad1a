package signer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/provider"
)

// mandated is the caller of challenges that no caller made: what is signed at a provider without a person.
const mandated = "service:signer"

// secretsPath is where secrets of automatic signatures are in Vault, below it by tenant: no tenant names another's.
const secretsPath = "secret/data/signer/automatic/"

// codeNoSecret: the secret of a credential is not in Vault.
const codeNoSecret = "PROVIDER_SECRET_MISSING"

var pathSegment = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// secret reads what a provider signs for without a person.
func (s *Service) secret(ctx context.Context, tenant, name string) (provider.Secret, error) {
	if !pathSegment.MatchString(tenant) || !pathSegment.MatchString(name) {
		return provider.Secret{}, fault.Invalid("SECRET_NAME", "key.secret: a key that signs without a person needs the name of its secret, such as seal-2027").
			WithField("key.secret", "SECRET_NAME", "is missing")
	}
	path := secretsPath + tenant + "/" + name
	fields, err := s.vault.readSecret(ctx, path)
	if err != nil {
		return provider.Secret{}, err
	}
	out := provider.Secret{Password: fields["password"], User: fields["user"], Domain: fields["domain"]}
	if out.Password == "" {
		return out, fault.Precondition(codeNoSecret, "Vault has no %s with the field password: write it (vault kv put), and then reactivate the credential or ask again", strings.Replace(path, "/data/", "/", 1))
	}
	return out, nil
}

// asking has digests signed at a provider.
type asking = func(ctx context.Context, missing []provider.Hash) ([][]byte, error)

// automatically asks with the secret of the holding. What the secret is refused for is not the holder's wrong password:
// there is none, and nobody is to be told to try again.
func (s *Service) automatically(h *held) asking {
	return func(ctx context.Context, missing []provider.Hash) ([][]byte, error) {
		secret, err := s.secret(ctx, h.credential.TenantID, h.holding.Secret)
		if err != nil { // nothing has left
			outcome := provider.Refused
			if !fault.Permanent(err) {
				outcome = provider.Busy
			}
			return nil, provider.Errorf(outcome, fault.Of(err).Code, "%s", fault.Of(err).Message).With(err)
		}
		values, err := h.remote.SignAutomatically(ctx, h.key(), secret, missing)
		var e *provider.Error
		if errors.As(err, &e) && e.Outcome == provider.UserFault {
			code, what := provider.AccountRefused, "does not take the secret"
			if e.Code == provider.FactorsLocked {
				code, what = provider.CredentialDisabled, "has locked the key after the secret"
			}
			err = provider.Errorf(provider.Refused, code, "provider %s %s %q of credential %s: write the right one to Vault, then reactivate the credential or ask again",
				h.holding.Provider, what, h.holding.Secret, nameOfCredential(h.credential)).With(err)
		}
		return values, err
	}
}

// mandatedUnknown is outcomeUnknown where no holder can begin anew.
func mandatedUnknown(err error) error {
	if fault.Of(err).Code != provider.OutcomeUnknown {
		return err
	}
	return fault.Precondition(provider.OutcomeUnknown,
		"the provider's answer was lost: the documents may have been signed there. Nothing is repeated: look at the provider's own list and resolve the call (ceralacca credential calls, resolve); then ask anew").With(err)
}

// borrow has all signed that sign wants, and gives the key that has signed it. It may come again: what there is already is
// not asked for, and what may have been signed never.
func (s *Service) borrow(ctx context.Context, h *held, sign signFunc) (*readyCredential, time.Time, error) {
	at := h.session.SigningTime.UTC()
	if h.challenge.State == "OUTCOME_UNKNOWN" {
		return nil, at, mandatedUnknown(outcomeUnknown())
	}
	wanted, err := h.collect(ctx, sign)
	if err != nil {
		return nil, at, err
	}
	made, err := s.signAtProvider(ctx, h, s.automatically(h), wanted)
	if err != nil {
		return nil, at, mandatedUnknown(err)
	}
	return h.by(&borrowedKey{public: h.chain[0].PublicKey, made: made}), at, nil
}

// mandatedIntent is what both kinds of intents have.
type mandatedIntent struct {
	id, holding uuid.UUID
	nobody      []byte // the digest of an authorization that nobody has
	at          time.Time
}

func (s *Service) mandatedIntent(ctx context.Context, q *db.Queries, credential uuid.UUID) (mandatedIntent, error) {
	m := mandatedIntent{at: pg.Time(s.now())}
	var err error
	if m.id, err = pg.NewID(); err != nil {
		return m, err
	}
	h, err := q.HoldingAt(ctx, db.HoldingAtParams{CredentialID: credential, At: m.at})
	if err != nil {
		return m, fmt.Errorf("signer: read holding: %w", err)
	}
	m.holding = h.ID
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	sum := sha256.Sum256(secret)
	m.nobody = sum[:]
	return m, nil
}

// fix writes the session of an intent: the signing time, with which what is signed is known.
func (m mandatedIntent) fix(ctx context.Context, q *db.Queries) error {
	err := q.InsertSession(ctx, db.InsertSessionParams{ChallengeID: m.id, SigningTime: m.at.Truncate(time.Second), Authorized: [][]byte{}})
	if err != nil {
		return fmt.Errorf("signer: insert session: %w", err)
	}
	return nil
}

// intendMandated writes down, in the transaction that counts a request under a mandate, that a provider is to sign it.
func (s *Service) intendMandated(ctx context.Context, q *db.Queries, c db.Credential, row db.DocumentSigning) error {
	m, err := s.mandatedIntent(ctx, q, c.ID)
	if err != nil {
		return err
	}
	n, err := q.InsertMandatedChallenge(ctx, db.InsertMandatedChallengeParams{
		ID: m.id, Caller: mandated, Digest: digestOf(row.Hashes), ExpiresAt: m.at.Add(resumeFor), At: m.at, HoldingID: m.holding, Nobody: m.nobody, SigningID: row.ID,
	})
	if err != nil {
		return fmt.Errorf("signer: insert challenge: %w", err)
	}
	if n == 0 {
		return fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s has no certificate that is valid now: renew it at its provider and switch to it", nameOfCredential(c))
	}
	return m.fix(ctx, q)
}

// loadMandated reads an intent with all that its provider has to do with it.
func (s *Service) loadMandated(ctx context.Context, q *db.Queries, ch db.Challenge) (*held, error) {
	h := &held{challenge: ch}
	var err error
	if h.credential, err = q.GetCredential(ctx, ch.CredentialID); err != nil {
		return nil, fmt.Errorf("signer: read credential: %w", err)
	}
	return h, s.loadHolding(ctx, q, h)
}

// handOf is who signs a request under a mandate, and when: the key in Vault, now, or the one that a provider has lent.
func (s *Service) handOf(ctx context.Context, c db.Credential, row db.DocumentSigning, sign signFunc) (*readyCredential, time.Time, error) {
	if c.Provider == "" {
		by, err := s.ready.load(ctx, c)
		return by, s.now().UTC().Truncate(time.Second), err // signing-time has whole seconds
	}
	var h *held
	err := s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		ch, err := q.ChallengeOfSigning(ctx, &row.ID)
		if err != nil {
			return fmt.Errorf("signer: read challenge: %w", err)
		}
		h, err = s.loadMandated(ctx, q, ch)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return s.borrow(ctx, h, sign)
}

// toLend is a credential whose provider is asked for each document.
func toLend(c db.Credential) *readyCredential {
	return &readyCredential{id: c.ID, name: nameOfCredential(c), version: c.Version, lent: true, tenant: c.TenantID}
}

// bothTenants runs fn in a transaction that sees a signature and the credential that is to make it, for the tenant of
// the credential: a role's signs for other tenants, and what it does at its provider is its own tenant's.
func (s *Service) bothTenants(ctx context.Context, o *outcome, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if o.by.tenant == o.row.TenantID {
		return s.db.Tx(ctx, o.by.tenant, fn)
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return fn(pg.WithTenant(ctx, o.by.tenant), tx) })
}

// borrowForOne has a provider sign the document that o is about: a company's invoice, or what a role signs.
func (s *Service) borrowForOne(ctx context.Context, o *outcome, content []byte) error {
	var h *held
	err := s.bothTenants(ctx, o, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		ch, err := q.ChallengeOfSignature(ctx, &o.row.ID)
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && ch.State == "OUTCOME_UNKNOWN") {
			if ch, err = s.intendOne(ctx, q, o, ch); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("signer: read challenge: %w", err)
		}
		h, err = s.loadMandated(ctx, q, ch)
		return err
	})
	if err != nil {
		return err
	}
	o.by, o.at, err = s.borrow(ctx, h, func(ctx context.Context, _ []byte, by *readyCredential, at time.Time) ([]byte, error) {
		return cades.Sign(ctx, content, by.signer, cades.Options{SigningTime: at})
	})
	return err
}

// intendOne writes down that one document is to be signed at a provider. before is the intent whose outcome is not known,
// if there is one: while nobody has looked, it stays the answer.
func (s *Service) intendOne(ctx context.Context, q *db.Queries, o *outcome, before db.Challenge) (db.Challenge, error) {
	m, err := s.mandatedIntent(ctx, q, o.by.id)
	if err != nil {
		return before, err
	}
	n, err := q.InsertOneChallenge(ctx, db.InsertOneChallengeParams{
		ID: m.id, Caller: mandated, Digest: digestOf([][]byte{o.row.OriginalSha256}), ExpiresAt: m.at.Add(resumeFor), At: m.at, HoldingID: m.holding, Nobody: m.nobody,
		SignatureID: o.row.ID, CredentialID: o.by.id,
	})
	if err != nil {
		return before, fmt.Errorf("signer: insert challenge: %w", err)
	}
	if n == 1 {
		if err := m.fix(ctx, q); err != nil {
			return before, err
		}
		return q.ChallengeOfSignature(ctx, &o.row.ID)
	}
	if before.State == "OUTCOME_UNKNOWN" {
		return before, nil
	}
	return before, fault.Aborted("SIGNATURE_NOT_RECORDED", "the signature was made, or its credential ended, a moment ago")
}

// qualifiedOf are those signatures that a provider made with a key that is called qualified.
func qualifiedOf(ctx context.Context, q *db.Queries, ids ...uuid.UUID) (map[uuid.UUID]bool, error) {
	list, err := q.QualifiedSignatures(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("signer: read level: %w", err)
	}
	out := map[uuid.UUID]bool{}
	for _, id := range list {
		if id != nil {
			out[*id] = true
		}
	}
	return out, nil
}
