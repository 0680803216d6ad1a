package signer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
)

// A holder whose device is an app approves there. To a client this is a challenge whose response comes by another way than through it
// (ChallengeResponseOOB): getChallenge gives the number that it shows, authorize brings the PIN and the digests and an object without
// value, and the answer is a handle until the app has answered. spec: CSC-2.0.0.2 §8.3.1.5, §11.6, §11.7, §11.8

// promise makes the number that the client shows. The app is asked by authorize, which brings what is to be signed: who has no PIN to
// show makes no telephone ring.
func (c *cscCall) promise(ctx context.Context, a asked) (*csc2.ChallengeResponse, error) {
	s := c.service
	ask, number, err := s.newQuestion(ctx, a)
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, c.caller.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).PromiseNumber(ctx, db.PromiseNumberParams{
			ID: ask.id, CredentialID: a.credential.ID, Caller: callerOf(ctx), NumberMac: ask.mac, ExpiresAt: pg.Time(s.now()).Add(pushTTL),
		})
		if err != nil {
			return fmt.Errorf("signer: promise number: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &csc2.ChallengeResponse{Challenge: number}, nil
}

// promised is the question whose number the client was given last.
func (c *cscCall) promised(ctx context.Context, q *db.Queries, a asked) (question, error) {
	row, err := q.TakeNumber(ctx, db.TakeNumberParams{CredentialID: a.credential.ID, Caller: callerOf(ctx), At: pg.Time(c.service.now())})
	if errors.Is(err, pgx.ErrNoRows) {
		return question{}, csc.Invalid("The authentication object %s has no challenge: call credentials/getChallenge before each authorization", authOTP)
	}
	if err != nil {
		return question{}, fmt.Errorf("signer: take number: %w", err)
	}
	return question{row.ID, row.NumberMac}, nil
}

// authorizeInApp is authorize for a holder who approves in an app.
func (c *cscCall) authorizeInApp(ctx context.Context, req *csc2.AuthorizeRequest, row offered, what bound) (*csc2.SADResponse, error) {
	if what.left > 0 { // the app shows what it approves, and of these there is nothing to be shown
		return nil, csc.Invalid("Invalid value for parameter numSignatures")
	}
	pin, err := approvable(req.AuthData)
	if err != nil {
		return nil, err
	}
	if err := c.usable(row.Credential); err != nil {
		return nil, err
	}
	s, name := c.service, partsOf(row.Credential)
	var a asked
	var ch db.Challenge
	var ask question
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if a, err = withDevice(ctx, q, name); err != nil {
			return err
		}
		if a.device.Type != devicePush { // it was replaced a moment ago
			return csc.InvalidParameter("authData")
		}
		if ch, err = c.waiting(ctx, tx, a, what); err != nil {
			return err
		}
		a.binding = ch.ID
		if ask, err = c.promised(ctx, q, a); err != nil {
			return err
		}
		if ch, err = s.tryChallenge(ctx, q, nameOfChallenge(a.credential, ch.ID), name, ch.ID); err != nil {
			return err
		}
		return s.count(ctx, q, a)
	})
	if err != nil {
		return nil, err
	}
	return c.askApproval(ctx, a, ch, ask, pin)
}

// askApproval judges the PIN, tells nobody, and asks the app. What it gives is the handle, whether the PIN was right or not: a client
// learns of both factors together.
func (c *cscCall) askApproval(ctx context.Context, a asked, ch db.Challenge, ask question, pin string) (*csc2.SADResponse, error) {
	s := c.service
	hash, err := s.pins.hash(ctx, pin, a.pin.Salt, costOf(a.pin))
	if err != nil {
		return nil, s.unjudged(ctx, a, ch, err)
	}
	macs, err := s.factorMACs(ctx, a, hash, ask.id.String())
	if err != nil {
		return nil, s.unjudged(ctx, a, ch, err)
	}
	handle := make([]byte, sadSecret)
	_, _ = rand.Read(handle) // never fails
	sum := sha256.Sum256(handle)
	_, err = s.askApp(ctx, a, ask, ch.Hashes, func(ctx context.Context, q *db.Queries) error {
		err := q.InsertApproval(ctx, db.InsertApprovalParams{
			ID: ask.id, NumberMac: ask.mac, ExpiresAt: ch.ExpiresAt, ChallengeID: ch.ID, HandleSha256: sum[:],
			PinRight: hmac.Equal(macs[0], a.pin.Mac), PinVersion: a.pin.Version, OtpMac: macs[1],
		})
		if err != nil {
			return fmt.Errorf("signer: insert approval: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, s.unjudged(ctx, a, ch, err)
	}
	return &csc2.SADResponse{Handle: base64.RawURLEncoding.EncodeToString(handle)}, nil
}

// check says how far an authorization is that an app is asked for: the same handle while it has not answered, and then once the SAD,
// or that one of the factors was wrong.
func (c *cscCall) check(ctx context.Context, req *csc2.CheckRequest) (*csc2.SADResponse, error) {
	s := c.service
	handle, err := base64.RawURLEncoding.Strict().DecodeString(req.Handle)
	if err != nil || len(handle) != sadSecret {
		return nil, csc.InvalidParameter("handle")
	}
	sum := sha256.Sum256(handle)
	var waits bool
	var taken db.TakeApprovalRow
	var a asked
	var ch db.Challenge
	err = s.db.Tx(ctx, c.caller.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(s.now())
		if waits, err = q.WaitsForApproval(ctx, db.WaitsForApprovalParams{HandleSha256: sum[:], Caller: callerOf(ctx), At: now}); err != nil || waits {
			return err
		}
		taken, err = q.TakeApproval(ctx, db.TakeApprovalParams{HandleSha256: sum[:], Caller: callerOf(ctx), At: now})
		if errors.Is(err, pgx.ErrNoRows) {
			return csc.InvalidParameter("handle")
		}
		if err != nil {
			return fmt.Errorf("signer: take approval: %w", err)
		}
		name := credentialName{c.caller.Tenant, taken.CompanyID, taken.CredentialID}
		if a, err = withDevice(ctx, q, name); err != nil {
			return err
		}
		ch, err = ownChallenge(ctx, q, name.full(), name, *taken.ChallengeID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if waits {
		return &csc2.SADResponse{Handle: req.Handle}, nil
	}
	a.binding, a.pin.Version = ch.ID, *taken.PinVersion // what was judged, and not what has come since
	v := verdict{pin: *taken.PinRight, mac: taken.OtpMac}
	if v.otp, err = s.checkPush(ctx, a, taken.ID.String()); err != nil {
		return nil, s.keepAttempt(ctx, a, ch, err)
	}
	given, err := s.authorize(ctx, a, ch, v)
	if err != nil {
		return nil, err
	}
	return c.sadFor(ch, given)
}

// approvable says whether PIN and approval are what was shown. spec: CSC-2.0.0.2 §8.3.1.5
func approvable(shown []csc2.AuthValue) (pin string, err error) {
	approves := false
	for _, v := range shown {
		switch {
		case v.ID == authPIN:
			pin = v.Value
		case v.ID == authOTP && v.Value == "":
			approves = true
		default:
			return "", csc.InvalidParameter("authData")
		}
	}
	if pin == "" || !approves {
		return "", csc.Invalid("Missing (or invalid type) array parameter authData")
	}
	return pin, nil
}
