package signer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// A SAD is an authorization of a challenge with the id of the challenge before it: the same 256 random
// bits that AuthorizeChallenge gives, kept as SHA-256 in the same row.

const sadSecret = 32

func sadOf(challenge uuid.UUID, authorization string) (string, error) {
	secret, err := base64.RawURLEncoding.DecodeString(authorization)
	if err != nil || len(secret) != sadSecret {
		return "", fmt.Errorf("signer: authorization of %d bytes: %w", len(secret), err)
	}
	return base64.RawURLEncoding.EncodeToString(append(challenge[:], secret...)), nil
}

// parseSAD gives the challenge and its authorization.
func parseSAD(sad string) (uuid.UUID, string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sad)
	if err != nil || len(raw) != len(uuid.UUID{})+sadSecret {
		return uuid.Nil, "", csc.InvalidParameter("SAD")
	}
	return uuid.UUID(raw[:16]), base64.RawURLEncoding.EncodeToString(raw[16:]), nil
}

// bound is what an authorization is asked for.
type bound struct {
	hashes [][]byte // sorted
	left   int32    // signatures beyond them
}

// boundOf checks the digests and the number of signatures.
func (c *cscCall) boundOf(hashes [][]byte, algorithm string, signatures int) (bound, error) {
	if len(hashes) == 0 { // SCAL 2: the digests come before the authorization. spec: CSC-2.0.0.2 §11.6 hashes
		return bound{}, csc.Invalid("Missing (or invalid type) array parameter hashes")
	}
	if algorithm != csc.SHA256 {
		return bound{}, csc.InvalidParameter("hashAlgorithmOID")
	}
	switch {
	case signatures > cscMultisign || len(hashes) > cscMultisign:
		return bound{}, csc.Invalid("Numbers of signatures is too high")
	case signatures < len(hashes), signatures > len(hashes) && c.service.cfg.CSC.TransactionTTL == 0:
		return bound{}, csc.Invalid("Invalid value for parameter numSignatures")
	}
	sorted, err := sortedHashes(hashes)
	return bound{sorted, int32(signatures - len(hashes))}, err //nolint:gosec // at most 499
}

// usable says why a credential that is named cannot be authorized, in the words of the specification.
func (c *cscCall) usable(cred db.Credential) error {
	if cred.NotAfter != nil && !c.service.now().Before(*cred.NotAfter) {
		return csc.Invalid("Signing certificate is expired")
	}
	return nil
}

// beforehand is what a password is bound to that is sent before anything is known of the documents, as
// the specification has it: to the caller and the credential. The SAD is bound to documents all the same.
func beforehand(caller string, credential uuid.UUID) uuid.UUID {
	return uuid.NewSHA1(credential, []byte("csc\x00"+caller))
}

// challenge sends a password to the holder's device: for the digests that are named, or else, where the
// configuration lets it, for whatever this caller asks next. For an app it gives the number to be shown. spec: CSC-2.0.0.2 §11.8
func (c *cscCall) challenge(ctx context.Context, req *csc2.ChallengeRequest) (any, error) {
	row, err := c.one(ctx, req.CredentialID)
	if err != nil {
		return nil, err
	}
	if req.AuthObjectID != "" && req.AuthObjectID != authOTP {
		return nil, csc.InvalidParameter("authObjectID")
	}
	if err := c.usable(row.Credential); err != nil {
		return nil, err
	}
	if row.next != nil && len(req.Hashes) == 0 { // nothing was begun that a password could end
		return nil, disabled(nil)
	}
	inApp := row.DeviceType == devicePush && req.AuthObjectID != "" // sendOTP has no number to give
	var what *bound
	if len(req.Hashes) > 0 || !c.service.cfg.CSC.OTPWithoutHashes && !inApp {
		b, err := c.boundOf(req.Hashes, req.HashAlgorithm, max(req.NumSignatures, len(req.Hashes)))
		if err != nil {
			return nil, err
		}
		what = &b
	}
	var a asked
	text := "per autorizzare una firma chiesta dall'applicazione che stai usando"
	err = c.service.db.Tx(ctx, c.caller.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withDevice(ctx, q, credentialName{c.caller.Tenant, row.Credential.CompanyID, row.Credential.ID})
		if err != nil {
			return err
		}
		if inApp {
			return nil
		}
		if a.device.Type == "TOTP" || a.device.Type == "TOKEN" { // it shows passwords by itself: there is nothing to be sent
			return csc.InvalidParameter("authObjectID")
		}
		if what == nil {
			a.binding = beforehand(callerOf(ctx), a.credential.ID)
			return nil
		}
		ch, err := c.waiting(ctx, tx, a, *what)
		a.binding = ch.ID
		if err != nil {
			return err
		}
		text = fmt.Sprintf("per firmare %d documenti, impronta %s", len(ch.Hashes), hex.EncodeToString(ch.Digest[:4]))
		if what.left > 0 { // the digest is not of these, and the text does not seem to say so
			text += fmt.Sprintf(", e altri %d che l'applicazione sceglie dopo", what.left)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if inApp {
		return c.promise(ctx, a)
	}
	_, err = c.service.sendPassword(ctx, a, text)
	return nil, err
}

// waiting gives the challenge for these digests that waits for PIN and password: the one that the caller
// opened before, or a new one.
func (c *cscCall) waiting(ctx context.Context, tx pgx.Tx, a asked, what bound) (db.Challenge, error) {
	q, now := db.New(tx), pg.Time(c.service.now())
	name := credentialName{id: a.credential.ID}
	id, err := q.FindOpenChallenge(ctx, db.FindOpenChallengeParams{
		CredentialID: a.credential.ID, Caller: callerOf(ctx), Digest: digestOf(what.hashes), At: now, Allowed: challengeAttempts, SignaturesLeft: what.left,
	})
	if err == nil {
		return ownChallenge(ctx, q, "", name, id)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return db.Challenge{}, fmt.Errorf("signer: find challenge: %w", err)
	}
	ch, err := c.service.openChallenge(ctx, tx, a, what.hashes, len(what.hashes)+int(what.left))
	if err != nil {
		return ch, err
	}
	err = q.InsertTransaction(ctx, db.InsertTransactionParams{ChallengeID: ch.ID, SignaturesLeft: what.left})
	if err != nil {
		return ch, fmt.Errorf("signer: insert transaction: %w", err)
	}
	return ch, nil
}

// factorsOf finds PIN and password among what was shown. spec: CSC-2.0.0.2 §8.3
func factorsOf(shown []csc2.AuthValue) (factors, error) {
	var f factors
	for _, v := range shown {
		switch v.ID {
		case authPIN:
			f.pin = v.Value
		case authOTP:
			f.otp = v.Value
		default:
			return f, csc.InvalidParameter("authData")
		}
	}
	if f.pin == "" || f.otp == "" {
		return f, csc.Invalid("Missing (or invalid type) array parameter authData")
	}
	return f, nil
}

// authorize turns PIN and password into a SAD for these digests. spec: CSC-2.0.0.2 §11.6
func (c *cscCall) authorize(ctx context.Context, req *csc2.AuthorizeRequest) (*csc2.SADResponse, error) {
	s := c.service
	row, err := c.one(ctx, req.CredentialID)
	if err != nil {
		return nil, err
	}
	what, err := c.boundOf(req.Hashes, req.HashAlgorithm, req.NumSignatures)
	if err != nil {
		return nil, err
	}
	if row.DeviceType == devicePush {
		return c.authorizeInApp(ctx, req, row, what)
	}
	shown, err := factorsOf(req.AuthData)
	if err != nil {
		return nil, err
	}
	if err := c.usable(row.Credential); err != nil {
		return nil, err
	}
	var a asked
	var ch db.Challenge
	name := credentialName{c.caller.Tenant, row.Credential.CompanyID, row.Credential.ID}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		a, err = withDevice(ctx, q, name)
		if err != nil {
			return err
		}
		ch, err = c.waiting(ctx, tx, a, what)
		if err != nil {
			return err
		}
		a.binding, err = c.sentFor(ctx, q, a, ch.ID)
		if err != nil {
			return err
		}
		ch, err = s.tryChallenge(ctx, q, nameOfChallenge(a.credential, ch.ID), name, ch.ID)
		if err != nil {
			return err
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	v, err := s.judge(ctx, a, shown)
	if err != nil {
		return nil, s.unjudged(ctx, a, ch, err)
	}
	given, err := s.authorize(ctx, a, ch, v)
	if err != nil {
		return nil, err
	}
	return c.sadFor(ch, given)
}

func (c *cscCall) sadFor(ch db.Challenge, given *signv1.AuthorizeChallengeResponse) (*csc2.SADResponse, error) {
	sad, err := sadOf(ch.ID, given.GetAuthorization())
	return &csc2.SADResponse{SAD: sad, ExpiresIn: secondsUntil(given.GetExpireTime().AsTime(), c.service.now())}, err
}

// sentFor is what the password must have been sent for: the challenge, or beforehand where that is allowed.
func (c *cscCall) sentFor(ctx context.Context, q *db.Queries, a asked, challenge uuid.UUID) (uuid.UUID, error) {
	if !c.service.cfg.CSC.OTPWithoutHashes {
		return challenge, nil
	}
	before := beforehand(callerOf(ctx), a.credential.ID)
	binding, err := q.MessageBinding(ctx, db.MessageBindingParams{DeviceID: a.device.ID, At: pg.Time(c.service.now())})
	switch {
	case err == nil && binding == before:
		return before, nil
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return challenge, fmt.Errorf("signer: read password: %w", err)
	}
	return challenge, nil
}

func secondsUntil(end, now time.Time) int {
	return max(1, int(end.Sub(now).Round(time.Second).Seconds()))
}

// extend gives the next SAD of a transaction, for digests that were not known before, within the number that the
// signer authorized beside the digests that were known. The SAD before stays what it is: good once, for its own
// digests, and for no others. spec: CSC-2.0.0.2 §11.9
func (c *cscCall) extend(ctx context.Context, req *csc2.ExtendRequest) (*csc2.SADResponse, error) {
	s := c.service
	row, err := c.one(ctx, req.CredentialID)
	if err != nil {
		return nil, err
	}
	what, err := c.boundOf(req.Hashes, req.HashAlgorithm, len(req.Hashes))
	if err != nil {
		return nil, err
	}
	from, authorization, err := parseSAD(req.SAD)
	if err != nil {
		return nil, err
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	next := make([]byte, sadSecret)
	_, _ = rand.Read(next) // never fails
	sum, now := sha256.Sum256(next), pg.Time(s.now())
	until, after := now.Add(s.cfg.Authorization.AuthorizationTTL), now.Add(-s.cfg.CSC.TransactionTTL)
	err = s.db.Tx(ctx, c.caller.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		ch, err := ownChallenge(ctx, q, req.CredentialID, credentialName{id: row.Credential.ID}, from)
		if err != nil {
			return err
		}
		if err := proves(ch, authorization); err != nil {
			return err
		}
		n, err := q.ExtendTransaction(ctx, db.ExtendTransactionParams{
			Hashes: what.hashes, ChallengeID: from, CredentialID: row.Credential.ID, Caller: callerOf(ctx),
			AuthorizationSha256: ch.AuthorizationSha256, AuthorizedAfter: &after, At: now, ID: id, Digest: digestOf(what.hashes),
			ExpiresAt: until, NextAuthorizationSha256: sum[:],
		})
		if err != nil {
			return fmt.Errorf("signer: extend transaction: %w", err)
		}
		if n == 0 {
			return c.notExtended(ch, after)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "authorization.extend", Resource: nameOfChallenge(row.Credential, from),
			Detail: map[string]string{
				"by": nameOfChallenge(row.Credential, id), "documents": fmt.Sprint(len(what.hashes)),
				"digest": hex.EncodeToString(digestOf(what.hashes)), "device": nameOfDevice(row.Credential, *ch.DeviceID),
			},
		})
	})
	if err != nil {
		return nil, err
	}
	sad, err := sadOf(id, base64.RawURLEncoding.EncodeToString(next))
	return &csc2.SADResponse{SAD: sad, ExpiresIn: secondsUntil(until, now)}, err
}

// notExtended says why a SAD was not extended, as far as its row tells.
func (c *cscCall) notExtended(ch db.Challenge, after time.Time) error {
	now := c.service.now()
	switch {
	case ch.AuthorizedAt == nil || !ch.AuthorizedAt.After(after), ch.State == "AUTHORIZED" && !now.Before(ch.ExpiresAt):
		return csc.Invalid("SAD expired")
	}
	return csc.Invalid("Numbers of signatures is too high")
}
