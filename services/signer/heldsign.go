package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/provider"
)

// signFunc makes one file of a document with the key of by.
type signFunc = func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error)

type signatures map[provider.Hash][]byte

// errCollected ends the making of a file where its digest is known and its signature is not.
var errCollected = errors.New("digest collected")

// borrowedKey is a key that is elsewhere. It gives the signatures that were made there, and tells which
// digest it was asked for that it has none of.
type borrowedKey struct {
	public crypto.PublicKey
	made   signatures
	asked  *provider.Hash
}

// Public is the key's public half.
func (k *borrowedKey) Public() crypto.PublicKey { return k.public }

// Sign gives a signature that was made.
func (k *borrowedKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, fmt.Errorf("signer: providers sign SHA-256 digests without PSS; this one has %d bytes of %v", len(digest), opts.HashFunc())
	}
	hash := provider.Hash(digest)
	if made := k.made[hash]; made != nil {
		return made, nil
	}
	if k.asked != nil {
		*k.asked = hash
		return nil, errCollected
	}
	return nil, fault.Internal("SIGNATURE_MISSING", "the file wants a signature that was not asked of the provider")
}

// collect makes each file up to its signature: what is to be signed follows from documents, form,
// certificate and signing time, and from nothing else.
func (h *held) collect(ctx context.Context, sign signFunc) ([]provider.Hash, error) {
	out := make([]provider.Hash, 0, len(h.challenge.Hashes))
	for _, document := range h.challenge.Hashes {
		var asked provider.Hash
		key := &borrowedKey{public: h.chain[0].PublicKey, asked: &asked}
		_, err := sign(ctx, document, h.by(key), h.session.SigningTime.UTC())
		switch {
		case errors.Is(err, errCollected):
			out = append(out, asked)
		case err != nil:
			return nil, err
		default:
			return nil, fault.Internal("SIGNATURE_MISSING", "a file came about without a signature")
		}
	}
	return out, nil
}

func (h *held) by(key *borrowedKey) *readyCredential {
	return &readyCredential{
		id: h.credential.ID, name: nameOfCredential(h.credential), version: h.credential.Version, signer: cades.Signer{Chain: h.chain, Key: key}, lent: true, qualified: h.holding.Qualified,
	}
}

// signHeld makes the files of a challenge with signatures of its provider.
func (s *Service) signHeld(ctx context.Context, c db.Credential, ch db.Challenge, authorization string, sign signFunc) (db.Challenge, error) {
	l, err := s.lent(ctx, c, ch, authorization, sign)
	if err != nil {
		return ch, err
	}
	ch, err = s.finishChallenge(ctx, c, ch, l.by, l.at, sign)
	if err == nil {
		s.closeHeld(ctx, l.held, authorization)
	}
	return ch, err
}

// lending is a key that has signed elsewhere what it was asked for.
type lending struct {
	held *held
	by   *readyCredential
	at   time.Time
}

// lent has all signed that sign wants, under the holder's authorization. Signatures that came back once are kept, and never
// asked for again: the same request goes on where it was. closeHeld ends it when the files are recorded.
func (s *Service) lent(ctx context.Context, c db.Credential, ch db.Challenge, authorization string, sign signFunc) (lending, error) {
	if ch.State == "OUTCOME_UNKNOWN" {
		return lending{}, outcomeUnknown()
	}
	var h *held
	name := credentialName{tenant: c.TenantID, company: c.CompanyID, id: c.ID}
	err := s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		h, err = s.loadHeld(ctx, db.New(tx), nameOfChallenge(c, ch.ID), name, ch.ID)
		return err
	})
	if err != nil {
		return lending{}, err
	}
	wanted, err := h.collect(ctx, sign)
	if err != nil {
		return lending{}, err
	}
	if err := h.authorizedAll(wanted); err != nil {
		return lending{}, err
	}
	made, err := s.signAtProvider(ctx, h, func(ctx context.Context, missing []provider.Hash) ([][]byte, error) {
		grant, err := unseal(authorization, h.challenge.ID, h.session.Sealed)
		if err != nil { // nothing has left
			return nil, provider.Errorf(provider.Refused, provider.GrantSpent, "the provider's authorization is used or over: ask the signer again").With(err)
		}
		return h.remote.SignHashes(ctx, h.key(), grant, missing)
	}, wanted)
	if err != nil {
		return lending{}, err
	}
	return lending{h, h.by(&borrowedKey{public: h.chain[0].PublicKey, made: made}), h.session.SigningTime.UTC()}, nil
}

// authorizedAll refuses what the provider would, before anything leaves.
func (h *held) authorizedAll(wanted []provider.Hash) error {
	if h.holding.Scal != 2 {
		return nil
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(h.session.Authorized, func(a []byte) bool { return provider.Hash(a) == w }) {
			return fault.Precondition("FORM_NOT_AUTHORIZED",
				"form: provider %s was not asked to authorize this form of these documents: make the challenge with a plan that names form and documents (without one it is for CAdES, attached or detached)", h.holding.Provider).
				WithField("form", "FORM_NOT_AUTHORIZED", "is not what the provider authorized")
		}
	}
	return nil
}

// errNothingMissing: another run of the same request has got them all.
var errNothingMissing = errors.New("nothing is missing")

// signAtProvider has those signed that were not yet. What is asked is written down first; what comes back
// is verified with the certificate and kept before anybody sees it.
func (s *Service) signAtProvider(ctx context.Context, h *held, ask asking, wanted []provider.Hash) (signatures, error) {
	var made signatures
	var missing []provider.Hash
	var call uuid.UUID
	err := s.db.Tx(ctx, h.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		if made, err = kept(ctx, q, h.challenge.ID); err != nil {
			return err
		}
		if missing = without(wanted, made); len(missing) == 0 {
			return errNothingMissing
		}
		// The place of the one call is taken first, and what was kept is looked at again in it: a run that
		// held the place before may have got everything.
		if call, err = s.writeCall(ctx, q, h, "SIGN", len(missing)); err != nil {
			return err
		}
		if made, err = kept(ctx, q, h.challenge.ID); err != nil {
			return err
		}
		if missing = without(wanted, made); len(missing) == 0 {
			return errNothingMissing // and the call is not written down
		}
		return q.CountHashes(ctx, db.CountHashesParams{ID: call, Hashes: int32(len(missing))}) //nolint:gosec // at most 500
	})
	if errors.Is(err, errNothingMissing) {
		return made, nil
	}
	if err != nil {
		return nil, s.inTheWay(ctx, h.credential.TenantID, h.challenge.ID, "SIGN", err)
	}
	out, cancel := s.leave(ctx, h, len(missing))
	defer cancel()
	values, err := ask(out, missing)
	return s.recordSignatures(out, h, call, missing, values, made, err)
}

// recordSignatures keeps what holds. A value that the certificate does not verify is thrown away, and what
// the provider did is not known.
func (s *Service) recordSignatures(ctx context.Context, h *held, call uuid.UUID, asked []provider.Hash, values [][]byte, made signatures, answer error) (signatures, error) {
	if len(values) > len(asked) || (answer == nil && len(values) != len(asked)) {
		answer = provider.Errorf(provider.Unknown, provider.OutcomeUnknown, "the provider answered %d digests with %d signatures", len(asked), len(values))
		values = nil
	}
	var hashes, good [][]byte
	for i, value := range values {
		if err := checkValue(h.chain[0], asked[i], value); err != nil {
			answer = provider.Errorf(provider.Unknown, "SIGNATURE_NOT_VERIFIED", "the provider's signature does not verify with the certificate and is thrown away").With(err)
			break
		}
		made[asked[i]] = value
		hashes, good = append(hashes, asked[i][:]), append(good, value)
	}
	err := s.db.Tx(ctx, h.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := s.endCall(ctx, tx, h, call, answer, len(good))
		if err != nil || len(good) == 0 {
			return err
		}
		err = q.KeepSignatures(ctx, db.KeepSignaturesParams{ChallengeID: h.challenge.ID, Hashes: hashes, Signatures: good, At: pg.Time(s.now())})
		if err != nil {
			return fmt.Errorf("signer: keep signatures: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if answer != nil {
		return nil, s.tell(answer)
	}
	return made, nil
}

// checkValue verifies a signature value with a certificate.
func checkValue(cert *x509.Certificate, hash provider.Hash, value []byte) error {
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, hash[:], value)
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(k, hash[:], value) {
			return nil
		}
	}
	return errors.New("the signature is not of the certificate's key")
}

func kept(ctx context.Context, q *db.Queries, challenge uuid.UUID) (signatures, error) {
	rows, err := q.KeptSignatures(ctx, challenge)
	if err != nil {
		return nil, fmt.Errorf("signer: read signatures: %w", err)
	}
	out := signatures{}
	for _, r := range rows {
		out[provider.Hash(r.Hash)] = r.Signature
	}
	return out, nil
}

func without(wanted []provider.Hash, made signatures) []provider.Hash {
	var missing []provider.Hash
	for _, w := range wanted {
		if made[w] == nil && !slices.Contains(missing, w) {
			missing = append(missing, w)
		}
	}
	return missing
}

// closeHeld gives the grant up at the provider, and forgets it. The signatures are there: a failure changes nothing.
func (s *Service) closeHeld(ctx context.Context, h *held, authorization string) {
	if grant, err := unseal(authorization, h.challenge.ID, h.session.Sealed); err == nil {
		if err := h.remote.Close(ctx, h.key(), grant); err != nil {
			s.log.DebugContext(ctx, "session at a provider not closed", "provider", h.holding.Provider, "outcome", provider.OutcomeOf(err).String())
		}
	}
	err := s.db.Tx(ctx, h.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).ForgetGrant(ctx, h.challenge.ID)
	})
	if err != nil {
		s.log.WarnContext(ctx, "a grant that was used stays, encrypted", "challenge", h.name(), "error", err.Error())
	}
}
