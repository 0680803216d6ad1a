package signer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// codeSucceeded: another credential has taken this one's place.
const codeSucceeded = "CREDENTIAL_SUCCEEDED"

// SetSuccessor has a credential take another's place from a date on. A key in Vault and one at a provider are two
// credentials: the certificate is another, and PIN and devices are the provider's. Which one a request is for is decided
// where it begins; what was begun goes on with the credential that it began with.
func (s *Service) SetSuccessor(ctx context.Context, req *signv1.SetSuccessorRequest) (*signv1.CredentialStatus, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	from, err := effective(req.GetEffectiveTime(), now)
	if err != nil {
		return nil, err
	}
	act := telemetry.Act{Action: "credential.succeed", Resource: name.full(), Detail: map[string]string{"successor": req.GetSuccessor(), "effective": from.UTC().Format(time.RFC3339)}}
	if req.GetSuccessor() == "" {
		act.Detail = map[string]string{"successor": "none"}
	}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if req.GetSuccessor() == "" {
			if _, err := lockOwn(ctx, q, req.GetName(), name); err != nil {
				return err
			}
			if n, err := q.EndSuccessor(ctx, name.id); err != nil || n == 0 {
				return err
			}
			return telemetry.Audit(ctx, tx, act)
		}
		by, err := parseCredentialName("successor", req.GetSuccessor())
		if err != nil {
			return err
		}
		if err := s.fitSuccessor(ctx, q, name, by, from); err != nil {
			return err
		}
		n, err := q.PutSuccessor(ctx, db.PutSuccessorParams{CredentialID: name.id, TenantID: name.tenant, SuccessorID: by.id, EffectiveFrom: from, At: now})
		if err != nil {
			return fmt.Errorf("signer: put successor: %w", err)
		}
		if n == 0 {
			return fault.Precondition("SUCCESSOR_IN_FORCE", "name: another credential has its place already: set the successor of that one, or end this one first (an empty successor)")
		}
		return telemetry.Audit(ctx, tx, act)
	})
	if err != nil {
		return nil, err
	}
	return s.GetCredentialStatus(ctx, &signv1.GetCredentialStatusRequest{Name: req.GetName()})
}

// fitSuccessor refuses a credential that cannot take another's place.
func (s *Service) fitSuccessor(ctx context.Context, q *db.Queries, name, by credentialName, from time.Time) error {
	unfit := func(format string, a ...any) error {
		return fault.Precondition("SUCCESSOR_UNFIT", "successor: "+format, a...).WithField("successor", "SUCCESSOR_UNFIT", "cannot take its place")
	}
	if by.tenant != name.tenant || by.company != name.company {
		return unfit("it is of another company")
	}
	// Both are locked, always in the same order: two that would succeed each other cannot be set at the same time.
	rows := map[uuid.UUID]db.Credential{}
	first, second := name, by
	if cmp.Compare(first.id.String(), second.id.String()) > 0 {
		first, second = second, first
	}
	for _, n := range []credentialName{first, second} {
		row, err := lockOwn(ctx, q, n.full(), n)
		if err != nil {
			return err
		}
		rows[n.id] = row
	}
	old, next := rows[name.id], rows[by.id]
	circle, err := q.Follows(ctx, db.FollowsParams{CredentialID: by.id, SuccessorID: name.id})
	if err != nil {
		return fmt.Errorf("signer: read successors: %w", err)
	}
	holder, err := holderOf(ctx, q, old)
	if err != nil {
		return err
	}
	other, err := holderOf(ctx, q, next)
	if err != nil {
		return err
	}
	switch {
	case by.id == name.id || circle:
		return fault.Precondition("SUCCESSOR_CIRCLE", "successor: each would take the other's place")
	case next.Kind != old.Kind:
		return unfit("it is of kind %s, and %s is of kind %s", next.Kind, name.full(), old.Kind)
	case next.State != "ACTIVE":
		return unfit("it is %s: it needs its certificate first, and signs from then on", next.State)
	case from.Before(*next.NotBefore) || !from.Before(*next.NotAfter):
		return unfit("its certificate is valid from %s until %s", next.NotBefore.UTC().Format(time.RFC3339), next.NotAfter.UTC().Format(time.RFC3339))
	case old.Kind == personKind && (holder == "" || holder != other):
		return unfit("both have to be of one holder: who holds a key in Vault is said with its PIN, and who one at a provider when its credential is made")
	}
	return nil
}

// successor is who has taken the place of a credential, nil when nobody has.
func successor(ctx context.Context, q *db.Queries, id uuid.UUID, at time.Time) (*db.Credential, error) {
	row, err := q.SuccessorAt(ctx, db.SuccessorAtParams{CredentialID: id, At: at})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // nobody
	}
	if err != nil {
		return nil, fmt.Errorf("signer: read successor: %w", err)
	}
	return &row, nil
}

// successorNow is successor in a transaction of its own.
func (s *Service) successorNow(ctx context.Context, name credentialName) (next *db.Credential, err error) {
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		next, err = successor(ctx, db.New(tx), name.id, pg.Time(s.now()))
		return err
	})
	return next, err
}

// succeededOr is why a credential begins nothing: another has its place, or else err.
func (s *Service) succeededOr(ctx context.Context, q *db.Queries, c db.Credential, err error) error {
	next, failed := successor(ctx, q, c.ID, pg.Time(s.now()))
	if failed != nil {
		return failed
	}
	if next == nil {
		return err
	}
	return fault.Precondition(codeSucceeded, "%s has taken the place of %s: name that one", nameOfCredential(*next), nameOfCredential(c))
}

// tookPlace says whether a credential has the place of another now, or had it before the one that has it now: what was begun with it
// then ends with it, by whichever name.
func (s *Service) tookPlace(ctx context.Context, q *db.Queries, of uuid.UUID, by credentialName) (bool, error) {
	ok, err := q.TookPlace(ctx, db.TookPlaceParams{CredentialID: of, SuccessorID: by.id, CompanyID: by.company, At: pg.Time(s.now())})
	if err != nil {
		return false, fmt.Errorf("signer: read successors: %w", err)
	}
	return ok, nil
}

// ofCredential refuses a challenge that is neither of the credential that was named nor of one that took its place.
func (s *Service) ofCredential(ctx context.Context, challenge, named credentialName) error {
	if challenge == named {
		return nil
	}
	ok := false
	err := s.db.Tx(ctx, named.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		ok, err = s.tookPlace(ctx, db.New(tx), named.id, challenge)
		return err
	})
	if err == nil && (!ok || challenge.tenant != named.tenant) {
		err = fault.Invalid("CHALLENGE_MISMATCH", "challenge: it is not of the credential %s", named.full())
	}
	return err
}

// namedOrNext says whether a credential is the one that was named, or took its place. Nobody named: it is.
func (s *Service) namedOrNext(ctx context.Context, q *db.Queries, named string, c db.Credential) (bool, error) {
	if named == "" || named == nameOfCredential(c) {
		return true, nil
	}
	name, err := parseCredentialName("credential", named)
	if err != nil {
		return false, err
	}
	return s.tookPlace(ctx, q, name.id, partsOf(c))
}
