package signer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

func nameOfChallenge(c db.Credential, id uuid.UUID) string {
	return nameOfCredential(c) + "/challenges/" + id.String()
}

func parseChallengeName(name string) (credentialName, uuid.UUID, error) {
	return parseBelow(name, "challenges", "CHALLENGE_NOT_FOUND", "challenge")
}

func noChallenge(name string) error {
	return fault.NotFound("CHALLENGE_NOT_FOUND", "there is no challenge %s of yours: make another", name)
}

// sortedHashes checks the digests of documents and gives them in order.
// Errors are Invalid: HASH_LENGTH, HASH_TWICE.
func sortedHashes(hashes [][]byte) ([][]byte, error) {
	for i, h := range hashes {
		if len(h) != sha256.Size {
			return nil, fault.Invalid("HASH_LENGTH", "document_sha256[%d]: %d bytes: a SHA-256 digest has %d", i, len(h), sha256.Size).
				WithField(fmt.Sprintf("document_sha256[%d]", i), "HASH_LENGTH", "is not 32 bytes")
		}
	}
	sorted := slices.Clone(hashes)
	slices.SortFunc(sorted, bytes.Compare)
	for i := 1; i < len(sorted); i++ {
		if bytes.Equal(sorted[i-1], sorted[i]) {
			return nil, fault.Invalid("HASH_TWICE", "document_sha256: %x is there twice: name each document once", sorted[i][:4]).
				WithField("document_sha256", "HASH_TWICE", "holds a document twice")
		}
	}
	return sorted, nil
}

func digestOf(sorted [][]byte) []byte {
	sum := sha256.Sum256(bytes.Join(sorted, nil))
	return sum[:]
}

// CreateChallenge fixes what a person is asked to sign, for the caller and nobody else. Who names a credential whose place
// another has taken gets a challenge of that one.
//
// It does not wait for the disk. Whatever comes of a challenge (a password that is sent for it, an authorization) is a
// later commit that is synced, and brings the challenge to disk with it; one that a crash of the database takes away is
// one that nothing came of, whose caller is told to make another.
func (s *Service) CreateChallenge(ctx context.Context, req *signv1.CreateChallengeRequest) (*signv1.Challenge, error) {
	name, err := parseCredentialName("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	hashes, err := sortedHashes(req.GetDocumentSha256())
	if err != nil {
		return nil, err
	}
	if n := int(req.GetSignatureCount()); n != 0 && n != len(hashes) {
		return nil, fault.Invalid("SIGNATURE_COUNT", "signature_count: %d signatures for %d documents: each document is signed once", n, len(hashes)).
			WithField("signature_count", "SIGNATURE_COUNT", "is not the number of documents")
	}
	made, err := s.createChallenge(ctx, req, name, hashes)
	if err == nil || fault.Of(err).Kind != fault.KindPrecondition {
		return made, err
	}
	next, failed := s.successorNow(ctx, name)
	switch {
	case failed != nil:
		return nil, failed
	case next == nil:
		return nil, err
	}
	return s.createChallenge(ctx, req, partsOf(*next), hashes)
}

func (s *Service) createChallenge(ctx context.Context, req *signv1.CreateChallengeRequest, name credentialName, hashes [][]byte) (*signv1.Challenge, error) {
	var a asked
	var made db.Challenge
	err := s.db.TxUnsynced(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		q := db.New(tx)
		a, err = withDevice(ctx, q, name)
		if err != nil {
			return err
		}
		if err = s.isDevice(ctx, q, a, req.GetDevice()); err != nil {
			return err
		}
		made, err = s.openChallenge(ctx, tx, a, hashes, len(hashes))
		return err
	})
	if errors.Is(err, errHeld) {
		return s.challengeHeld(ctx, name, hashes, req.GetPlan(), req.GetDevice())
	}
	if err != nil {
		return nil, err
	}
	return s.challengeMessage(a.credential, made), nil
}

// isDevice refuses a device that passwords for the credential do not come from, by what is wrong with it.
func (s *Service) isDevice(ctx context.Context, q *db.Queries, a asked, device string) error {
	if device == "" {
		return nil
	}
	name, id, err := parseDeviceName(device)
	if err != nil {
		return err
	}
	if id == a.device.ID && name.full() == a.name() {
		return s.cooled(ctx, q, a)
	}
	if name.full() != a.name() {
		return fault.NotFound("OTP_DEVICE_NOT_FOUND", "device: %s is no device of %s", device, a.name())
	}
	other, err := ownDevice(ctx, q, name, id)
	if err != nil {
		return err
	}
	return fault.Precondition("OTP_DEVICE_STATE", "device: %s is %s: the active device is %s", device, other.device.State, nameOfDevice(a.credential, a.device.ID))
}

// openChallenge writes a challenge down, for the caller of ctx. hashes are sorted; signatures is how many
// the signer is asked for in all.
func (s *Service) openChallenge(ctx context.Context, tx pgx.Tx, a asked, hashes [][]byte, signatures int) (db.Challenge, error) {
	id, err := pg.NewID()
	if err != nil {
		return db.Challenge{}, err
	}
	q, now := db.New(tx), pg.Time(s.now())
	made, err := q.InsertChallenge(ctx, db.InsertChallengeParams{
		ID: id, CredentialID: a.credential.ID, Caller: callerOf(ctx), Hashes: hashes, Digest: digestOf(hashes),
		At: now, ExpiresAt: now.Add(s.cfg.Authorization.ChallengeTTL),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return db.Challenge{}, s.succeededOr(ctx, q, a.credential,
			fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s has no certificate that is valid now: import one", a.name()))
	}
	if err != nil {
		return made, fmt.Errorf("signer: insert challenge: %w", err)
	}
	detail := map[string]string{"documents": fmt.Sprint(len(hashes)), "digest": fmt.Sprintf("%x", made.Digest)}
	if signatures != len(hashes) {
		detail["signatures"] = fmt.Sprint(signatures)
	}
	return made, telemetry.Audit(ctx, tx, telemetry.Act{Action: "challenge.create", Resource: nameOfChallenge(a.credential, id), Detail: detail})
}

func (s *Service) challengeMessage(c db.Credential, ch db.Challenge) *signv1.Challenge {
	state := ch.State
	if state != "SIGNED" && state != "OUTCOME_UNKNOWN" && !s.now().Before(ch.ExpiresAt) {
		state = "EXPIRED"
	}
	return &signv1.Challenge{
		Name: nameOfChallenge(c, ch.ID), DocumentSha256: ch.Hashes, Digest: ch.Digest, SignatureCount: int32(len(ch.Hashes)), //nolint:gosec // at most 500
		State:      signv1.ChallengeState(signv1.ChallengeState_value["CHALLENGE_STATE_"+state]),
		ExpireTime: timestamppb.New(ch.ExpiresAt), CreateTime: timestamppb.New(ch.CreatedAt), Level: levelOf(c.Qualified),
	}
}

// ownChallenge reads a challenge that the caller made.
func ownChallenge(ctx context.Context, q *db.Queries, full string, name credentialName, id uuid.UUID) (db.Challenge, error) {
	ch, err := q.GetChallenge(ctx, db.GetChallengeParams{ID: id, CredentialID: name.id, Caller: callerOf(ctx)})
	if errors.Is(err, pgx.ErrNoRows) {
		return ch, noChallenge(full)
	}
	if err != nil {
		return ch, fmt.Errorf("signer: read challenge: %w", err)
	}
	return ch, nil
}

// GetChallenge reads a challenge of the caller's.
func (s *Service) GetChallenge(ctx context.Context, req *signv1.GetChallengeRequest) (*signv1.Challenge, error) {
	name, id, err := parseChallengeName(req.GetName())
	if err != nil {
		return nil, err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if c.CompanyID != name.company {
		return nil, noChallenge(req.GetName())
	}
	var ch db.Challenge
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		ch, err = ownChallenge(ctx, db.New(tx), req.GetName(), name, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.challengeMessage(c, ch), nil
}

// keepWithin is how long an error waits for its attempt to be written down.
const keepWithin = 5 * time.Second

// AuthorizeChallenge turns PIN and password into one authorization for one challenge.
//
// The attempt is counted before it is judged, so that attempts at the same time are not more than one after the other,
// and that commit does not wait for the disk: it is there when the caller hears anything of PIN and password. Right or
// wrong is answered after authorize has committed, which is synced and brings the attempt to disk before itself; where an
// error is answered, unjudged has committed likewise. Who makes the database crash in between has taken an
// attempt back whose outcome nobody was told. Lock-outs are part of the count, and as durable.
func (s *Service) AuthorizeChallenge(ctx context.Context, req *signv1.AuthorizeChallengeRequest) (*signv1.AuthorizeChallengeResponse, error) {
	name, id, err := parseChallengeName(req.GetName())
	if err != nil {
		return nil, err
	}
	var a asked
	var ch db.Challenge
	err = s.db.TxUnsynced(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withDevice(ctx, q, name)
		if err != nil {
			return err
		}
		a.binding = id
		ch, err = s.tryChallenge(ctx, q, req.GetName(), name, id)
		if err != nil {
			return err
		}
		return s.count(ctx, q, a)
	})
	if errors.Is(err, errHeld) {
		return s.authorizeHeld(ctx, req.GetName(), name, id, factors{req.GetPin(), req.GetOtp()})
	}
	if err != nil {
		return nil, err
	}
	v, err := s.judge(ctx, a, factors{req.GetPin(), req.GetOtp()})
	if err != nil {
		return nil, s.unjudged(ctx, a, ch, err)
	}
	given, err := s.authorize(ctx, a, ch, v)
	if err == nil {
		s.rehash(ctx, a, req.GetPin())
	}
	return given, err
}

// unjudged answers an attempt that came to an error before it was judged: it is given back where something was away.
func (s *Service) unjudged(ctx context.Context, a asked, ch db.Challenge, err error) error {
	if fault.Of(err).Kind == fault.KindUnavailable && ctx.Err() == nil {
		return s.giveBack(ctx, a, err, func(ctx context.Context, q *db.Queries) error { return q.GiveBackTry(ctx, ch.ID) })
	}
	return s.keepAttempt(ctx, a, ch, err)
}

// keepAttempt writes down that an attempt came to an error. The error may tell of PIN or password by where it came up,
// so the attempt, which this commit brings to disk, is there before it is answered.
func (s *Service) keepAttempt(ctx context.Context, a asked, ch db.Challenge, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepWithin) // also for a caller who hangs up
	defer cancel()
	kept := s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "challenge.authorize", Resource: nameOfChallenge(a.credential, ch.ID), Outcome: fault.Of(err).Code, Detail: a.detail(),
		})
	})
	if kept != nil {
		s.log.WarnContext(ctx, "an attempt that came to an error is not written down", "credential", a.name(), "error", kept.Error())
	}
	return err
}

// tryChallenge takes one of the attempts of an open challenge.
func (s *Service) tryChallenge(ctx context.Context, q *db.Queries, full string, name credentialName, id uuid.UUID) (db.Challenge, error) {
	now := pg.Time(s.now())
	ch, err := q.TryChallenge(ctx, db.TryChallengeParams{ID: id, CredentialID: name.id, Caller: callerOf(ctx), At: now, Allowed: challengeAttempts})
	if err == nil {
		return ch, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return ch, fmt.Errorf("signer: try challenge: %w", err)
	}
	ch, err = ownChallenge(ctx, q, full, name, id)
	switch {
	case err != nil:
		return ch, err
	case !now.Before(ch.ExpiresAt):
		return ch, fault.Precondition("CHALLENGE_EXPIRED", "the challenge was open until %s: make another", ch.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return ch, fault.Precondition("CHALLENGE_CLOSED", "the challenge is authorized already or had its %d attempts: make another", challengeAttempts)
}

// authorize is the step that happens once: see the statement.
func (s *Service) authorize(ctx context.Context, a asked, ch db.Challenge, v verdict) (*signv1.AuthorizeChallengeResponse, error) {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	sum := sha256.Sum256(secret)
	now := pg.Time(s.now())
	until, right := now.Add(s.cfg.Authorization.AuthorizationTTL), false
	err := s.db.Tx(ctx, a.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.Authorize(ctx, db.AuthorizeParams{
			ID: ch.ID, Caller: callerOf(ctx), AuthorizationSha256: sum[:], At: &now, ExpiresAt: until, PinRight: v.pin, OtpRight: v.otp,
			PinVersion: a.pin.Version, DeviceID: a.device.ID, Mac: v.mac, Forget: now.Add(-keepSpent),
		})
		if err != nil {
			return fmt.Errorf("signer: authorize: %w", err)
		}
		right = n == 1
		act := telemetry.Act{Action: "challenge.authorize", Resource: nameOfChallenge(a.credential, ch.ID), Outcome: codeWrong, Detail: a.detail()}
		if right {
			act.Outcome = "ok"
			err := q.ForgiveAttempt(ctx, db.ForgiveAttemptParams{TenantID: a.credential.TenantID, Subjects: a.subjects(), Cleared: a.name()})
			if err != nil {
				return fmt.Errorf("signer: clear attempts: %w", err)
			}
			err = s.tellUse(ctx, tx, a, ch)
			if err != nil {
				return err
			}
		}
		return telemetry.Audit(ctx, tx, act)
	})
	if err != nil {
		return nil, s.keepAttempt(ctx, a, ch, err)
	}
	if !right {
		return nil, wrong()
	}
	return &signv1.AuthorizeChallengeResponse{
		Authorization: base64.RawURLEncoding.EncodeToString(secret), ExpireTime: timestamppb.New(until),
		OtpDevice: nameOfDevice(a.credential, a.device.ID),
	}, nil
}
