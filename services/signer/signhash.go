package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.mozilla.org/pkcs7"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// resumeFor is how long the request that used an authorization may go on, should Vault be away.
const resumeFor = time.Hour

// SignHashes uses an authorization: the first request that brings it has it, and may come again until
// it has all its signatures. Nothing is released before all are made and recorded.
func (s *Service) SignHashes(ctx context.Context, req *signv1.SignHashesRequest) (*signv1.SignHashesResponse, error) {
	name, id, err := parseChallengeName(req.GetName())
	if err != nil {
		return nil, err
	}
	hashes, err := sortedHashes(req.GetDocumentSha256())
	if err != nil {
		return nil, err
	}
	var c db.Credential
	var ch db.Challenge
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		c, ch, err = signing(ctx, q, req.GetName(), name, id)
		if err != nil {
			return err
		}
		c, err = withHolding(ctx, q, c, ch)
		if err != nil {
			return err
		}
		err = covers(ch, req.GetAuthorization(), hashes)
		if err != nil {
			return err
		}
		ch, err = s.useAuthorization(ctx, tx, c, ch, req.GetRequestId(), "")
		return err
	})
	if err != nil {
		return nil, err
	}
	d := &documents{made: map[[sha256.Size]byte][]byte{}}
	if ch.State != "SIGNED" {
		ch, err = s.signChallenge(ctx, c, ch, req.GetAuthorization(), func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
			return d.keep(signHash(ctx, hash, by, at))
		})
		if err != nil {
			return nil, err
		}
	}
	return s.release(ctx, c, ch, req.GetDocumentSha256(), d)
}

// covers says whether this is the authorization of the challenge, and these are its documents.
// hashes are sorted.
func covers(ch db.Challenge, authorization string, hashes [][]byte) error {
	secret, err := base64.RawURLEncoding.DecodeString(authorization)
	if err != nil || !matches(ch, secret) {
		return fault.Denied("AUTHORIZATION_INVALID", "this is not the authorization of the challenge")
	}
	i := 0
	for _, h := range hashes {
		for i < len(ch.Hashes) && bytes.Compare(ch.Hashes[i], h) < 0 {
			i++
		}
		if i == len(ch.Hashes) || !bytes.Equal(ch.Hashes[i], h) {
			return fault.Denied("HASH_NOT_AUTHORIZED", "document_sha256: %x... is not among the documents that were authorized", h[:4]).
				WithField("document_sha256", "HASH_NOT_AUTHORIZED", "holds a document that was not authorized")
		}
	}
	if len(hashes) != len(ch.Hashes) {
		return fault.Invalid("HASHES_MISSING", "document_sha256: %d of %d documents: an authorization is used once, for all of them", len(hashes), len(ch.Hashes)).
			WithField("document_sha256", "HASHES_MISSING", "does not hold all the documents of the challenge")
	}
	return nil
}

// matches says whether a secret is the authorization of the challenge.
func matches(ch db.Challenge, secret []byte) bool {
	sum := sha256.Sum256(secret)
	return subtle.ConstantTimeCompare(sum[:], ch.AuthorizationSha256) == 1
}

// useAuthorization gives the authorization to one request, and knows that request when it comes again,
// which must want the same output.
func (s *Service) useAuthorization(ctx context.Context, tx pgx.Tx, c db.Credential, ch db.Challenge, requestID, output string) (db.Challenge, error) {
	q, now := db.New(tx), pg.Time(s.now())
	used, err := q.UseAuthorization(ctx, db.UseAuthorizationParams{
		ID: ch.ID, CredentialID: c.ID, Caller: callerOf(ctx), AuthorizationSha256: ch.AuthorizationSha256,
		RequestID: &requestID, Output: output, At: &now, ExpiresAt: now.Add(resumeFor),
	})
	full := nameOfChallenge(c, ch.ID)
	if err == nil {
		return used, telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "authorization.use", Resource: full, Detail: map[string]string{"device": deviceOf(c, used)},
		})
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return ch, fmt.Errorf("signer: use authorization: %w", err)
	}
	ch, err = ownChallenge(ctx, q, full, credentialName{id: c.ID}, ch.ID)
	switch {
	case err != nil:
		return ch, err
	case ch.RequestID != nil && *ch.RequestID != requestID:
		return ch, fault.Precondition("AUTHORIZATION_USED", "the authorization was used by another request: ask the signer again")
	case ch.RequestID != nil && ch.Output != output:
		return ch, fault.Conflict("REQUEST_ID_REUSED", "request_id was used for the same documents in another form: the authorization is used").
			WithField("request_id", "REQUEST_ID_REUSED", "was used for another form")
	case ch.State != "SIGNED" && !now.Before(ch.ExpiresAt):
		return ch, fault.Precondition("AUTHORIZATION_EXPIRED", "the authorization ended at %s: ask the signer again", ch.ExpiresAt.UTC().Format(time.RFC3339))
	case ch.RequestID == nil:
		return ch, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "the credential cannot sign now: look at its certificate")
	}
	return ch, nil
}

// signChallenge makes all the signatures in memory, then stores them, then records them together.
func (s *Service) signChallenge(ctx context.Context, c db.Credential, ch db.Challenge, authorization string, sign signFunc) (db.Challenge, error) {
	if ch.HoldingID != nil {
		return s.signHeld(ctx, c, ch, authorization, sign)
	}
	by, err := s.ready.load(ctx, c)
	if err != nil {
		return ch, err
	}
	at := s.now().UTC().Truncate(time.Second) // signing-time has whole seconds
	return s.finishChallenge(ctx, c, ch, by, at, sign)
}

// deviceOf is whose password authorized a challenge: a device, or the provider that knows it.
func deviceOf(c db.Credential, ch db.Challenge) string {
	if ch.DeviceID == nil {
		return "provider"
	}
	return nameOfDevice(c, *ch.DeviceID)
}

// finishChallenge makes the files, stores them and records them.
func (s *Service) finishChallenge(ctx context.Context, c db.Credential, ch db.Challenge, by *readyCredential, at time.Time, sign signFunc) (db.Challenge, error) {
	var err error
	record := db.RecordChallengeParams{ID: ch.ID, RequestID: ch.RequestID, SigningTime: &at}
	record.SignedSha256, record.SignedSizes, err = s.makeAll(ctx, c.TenantID, ch.Hashes, ch.Output != "", func(ctx context.Context, hash []byte) ([]byte, error) {
		return sign(ctx, hash, by, at)
	})
	if err != nil {
		return ch, err
	}
	err = s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		record.At = ptr(pg.Time(s.now()))
		full := nameOfChallenge(c, ch.ID)
		recorded, err := q.RecordChallenge(ctx, record)
		if errors.Is(err, pgx.ErrNoRows) {
			ch, err = ownChallenge(ctx, q, full, credentialName{id: c.ID}, ch.ID)
			if err == nil && ch.State != "SIGNED" { // else the same request, sent twice, was here first
				err = fault.Precondition("CREDENTIAL_NOT_ACTIVE", "the credential was revoked or the hour passed while it signed: nothing is released")
			}
			return err
		}
		if err != nil {
			return fmt.Errorf("signer: record challenge: %w", err)
		}
		ch = recorded
		if ch.Output != "" {
			if err := forgetMade(ctx, q, c.TenantID, ch.SignedSha256); err != nil {
				return err
			}
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "challenge.sign", Resource: full,
			Detail: map[string]string{"documents": fmt.Sprint(len(ch.Hashes)), "device": deviceOf(c, ch)},
		})
	})
	return ch, err
}

// signHash makes one detached CAdES-BES and reads it back.
func signHash(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
	der, err := cades.SignDetached(ctx, hash, by.signer, cades.Options{SigningTime: at, ReadBack: true})
	if err != nil {
		return nil, fmt.Errorf("signer: %w", err)
	}
	err = verifyDetached(der, hash, by)
	if err != nil {
		return nil, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signature just made does not verify and is thrown away").With(err)
	}
	return der, nil
}

// verifyDetached reads a signature without its content, as verifyOutput does one with it: the digest that is signed is
// the one that was authorized, and what is signed is signed by the certificate. spec: RFC5652 §5.4
func verifyDetached(der, hash []byte, by *readyCredential) error {
	leaf := by.signer.Chain[0]
	err := by.reader.Detached(der, hash, leaf)
	if err != nil || by.detached.Load() {
		return err
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		return fmt.Errorf("second reader: %w", err)
	}
	signer := p7.GetOnlySigner()
	if signer == nil || !signer.Equal(leaf) || len(p7.Content) != 0 {
		return errors.New("second reader: other signer, or content")
	}
	var digest []byte
	err = p7.UnmarshalSignedAttribute(pkcs7.OIDAttributeMessageDigest, &digest)
	if err != nil || !bytes.Equal(digest, hash) {
		return errors.New("second reader: other digest")
	}
	signed, err := asn1.MarshalWithParams(p7.Signers[0].AuthenticatedAttributes, "set")
	if err != nil {
		return fmt.Errorf("second reader: %w", err)
	}
	algorithm := x509.SHA256WithRSA
	if leaf.PublicKeyAlgorithm == x509.ECDSA {
		algorithm = x509.ECDSAWithSHA256
	}
	err = leaf.CheckSignature(algorithm, signed, p7.Signers[0].EncryptedDigest)
	if err != nil {
		return fmt.Errorf("second reader: %w", err)
	}
	by.detached.Store(true)
	return nil
}

// release gives the signatures in the order of the request: those that it made, and from the store those that an
// earlier one made.
func (s *Service) release(ctx context.Context, c db.Credential, ch db.Challenge, order [][]byte, d *documents) (*signv1.SignHashesResponse, error) {
	byHash := map[[sha256.Size]byte]int{}
	for i, h := range ch.Hashes {
		byHash[[sha256.Size]byte(h)] = i
	}
	resp := &signv1.SignHashesResponse{Credential: nameOfCredential(c), Level: levelOf(c.Qualified)}
	for _, h := range order {
		i := byHash[[sha256.Size]byte(h)]
		der := d.made[[sha256.Size]byte(ch.SignedSha256[i])]
		if der == nil {
			var err error
			if der, err = s.blobs.Get(ctx, refOf(c.TenantID, ch.SignedSha256[i], ch.SignedSizes[i])); err != nil {
				return nil, err
			}
		}
		resp.Signatures = append(resp.Signatures, &signv1.HashSignature{DocumentSha256: h, Cms: der, SigningTime: timestamppb.New(*ch.SigningTime)})
	}
	return resp, nil
}
