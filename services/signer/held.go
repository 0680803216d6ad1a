package signer

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/provider"
)

// held is a challenge whose signatures a provider makes.
type held struct {
	credential db.Credential
	challenge  db.Challenge
	session    db.ProviderSession
	holding    db.CredentialHolding
	remote     *remote
	chain      []*x509.Certificate
}

func (h *held) name() string { return nameOfChallenge(h.credential, h.challenge.ID) }

func (h *held) key() provider.Credential {
	return provider.Credential{ID: h.holding.RemoteID, User: h.holding.RemoteUser}
}

func (h *held) detail() map[string]string {
	return map[string]string{"provider": h.holding.Provider, "documents": fmt.Sprint(len(h.challenge.Hashes))}
}

// loadHeld reads a challenge of the caller's with all that its provider has to do with it.
func (s *Service) loadHeld(ctx context.Context, q *db.Queries, full string, name credentialName, id uuid.UUID) (*held, error) {
	h := &held{}
	var err error
	if h.credential, err = signatory(ctx, q, name); err != nil {
		return nil, err
	}
	if h.challenge, err = ownChallenge(ctx, q, full, name, id); err != nil {
		return nil, err
	}
	if h.challenge.HoldingID == nil {
		return nil, fault.Precondition("CHALLENGE_CLOSED", "the challenge was begun with a key in Vault: make another")
	}
	return h, s.loadHolding(ctx, q, h)
}

// loadHolding reads what belongs to a challenge that is there: the key, the session, who holds it.
func (s *Service) loadHolding(ctx context.Context, q *db.Queries, h *held) (err error) {
	if h.holding, err = q.GetHolding(ctx, *h.challenge.HoldingID); err != nil {
		return fmt.Errorf("signer: read holding: %w", err)
	}
	if h.session, err = q.GetSession(ctx, h.challenge.ID); err != nil {
		return fmt.Errorf("signer: read session: %w", err)
	}
	if h.session.OtpKind != "" {
		h.holding.OtpID, h.holding.OtpKind = h.session.OtpID, h.session.OtpKind
	}
	if h.remote, err = s.remote(h.holding.Provider); err != nil {
		return err
	}
	h.chain, err = chainOf(h.holding.Chain)
	return err
}

func chainOf(ders [][]byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for _, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("signer: certificate of a provider: %w", err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// challengeHeld begins a challenge with the key that the provider of this day holds. The signing time is
// fixed here, and with it what will be signed.
func (s *Service) challengeHeld(ctx context.Context, name credentialName, hashes [][]byte, plan *signv1.SigningPlan, device string) (*signv1.Challenge, error) {
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	h, err := s.holdingOf(ctx, name, now)
	if err != nil {
		return nil, err
	}
	if len(hashes) > int(h.holding.Multisign) {
		return nil, fault.Invalid(provider.TooManyHashes, "document_sha256: %d documents: provider %s authorizes %d at a time", len(hashes), h.holding.Provider, h.holding.Multisign)
	}
	if err = s.chooseDevice(ctx, h, device); err != nil {
		return nil, err
	}
	h.challenge.Hashes, h.session.SigningTime = hashes, now.Truncate(time.Second)
	authorized, err := s.toAuthorize(ctx, h, name, plan)
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.InsertHeldChallenge(ctx, db.InsertHeldChallengeParams{
			ID: id, Caller: callerOf(ctx), Hashes: hashes, Digest: digestOf(hashes), At: now, ExpiresAt: now.Add(s.cfg.Authorization.ChallengeTTL), HoldingID: h.holding.ID,
		})
		if err != nil {
			return fmt.Errorf("signer: insert challenge: %w", err)
		}
		if n == 0 {
			return s.succeededOr(ctx, q, h.credential,
				fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s has no certificate that is valid now: renew it at provider %s and switch to it", nameOfCredential(h.credential), h.holding.Provider))
		}
		if err = q.InsertSession(ctx, db.InsertSessionParams{
			ChallengeID: id, SigningTime: h.session.SigningTime, Authorized: authorized, OtpID: h.session.OtpID, OtpKind: h.session.OtpKind,
		}); err != nil {
			return fmt.Errorf("signer: insert session: %w", err)
		}
		if h.challenge, err = q.GetChallenge(ctx, db.GetChallengeParams{ID: id, CredentialID: name.id, Caller: callerOf(ctx)}); err != nil {
			return fmt.Errorf("signer: read challenge: %w", err)
		}
		detail := h.detail()
		detail["digest"] = fmt.Sprintf("%x", h.challenge.Digest)
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "challenge.create", Resource: h.name(), Detail: detail})
	})
	if err != nil {
		return nil, err
	}
	return s.challengeMessage(h.credential, h.challenge), nil
}

// chooseDevice asks the provider for a device of the holder's that is not the one of the holding.
func (s *Service) chooseDevice(ctx context.Context, h *held, kind string) error {
	if kind == "" || kind == h.holding.OtpKind {
		return nil
	}
	from, err := s.remote(h.holding.Provider)
	if err != nil {
		return err
	}
	d, err := from.Describe(ctx, h.key())
	if err != nil {
		return provider.Fault(err)
	}
	for _, o := range d.OTP {
		if string(o.Kind) == kind {
			h.session.OtpID, h.session.OtpKind = o.ID, kind
			return nil
		}
	}
	return fault.Invalid("OTP_KIND", "device: the holder has no device of kind %q at provider %s", kind, h.holding.Provider).
		WithField("device", "OTP_KIND", "the holder has none of this kind")
}

// holdingOf reads a credential with the key that a provider holds for it at that time.
func (s *Service) holdingOf(ctx context.Context, name credentialName, at time.Time) (*held, error) {
	h := &held{}
	err := s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		_, err := q.AdoptHoldings(ctx, db.AdoptHoldingsParams{At: at, One: &name.id})
		if err != nil {
			return fmt.Errorf("signer: adopt holding: %w", err)
		}
		if h.credential, err = signatory(ctx, q, name); err != nil {
			return err
		}
		if h.holding, err = q.HoldingAt(ctx, db.HoldingAtParams{CredentialID: name.id, At: at}); err != nil {
			return fmt.Errorf("signer: read holding: %w", err)
		}
		h.credential.Qualified = h.holding.Qualified
		_, err = s.remote(h.holding.Provider)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.chain, err = chainOf(h.holding.Chain)
	return h, err
}

// sendHeld has the provider send a password.
func (s *Service) sendHeld(ctx context.Context, full string, name credentialName, id uuid.UUID) (*signv1.SendOtpResponse, error) {
	var h *held
	now := pg.Time(s.now())
	err := s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		if h, err = s.loadHeld(ctx, q, full, name, id); err != nil {
			return err
		}
		if h.challenge.State != "OPEN" || !s.now().Before(h.challenge.ExpiresAt) {
			return fault.Precondition("CHALLENGE_CLOSED", "the challenge is authorized already or its time is over: make another")
		}
		if !provider.OTPKind(h.holding.OtpKind).Sent() {
			return nil
		}
		n, err := q.MarkOtpSent(ctx, db.MarkOtpSentParams{ChallengeID: id, At: &now, Before: ptr(now.Add(-messagePause))})
		if err != nil {
			return fmt.Errorf("signer: mark password: %w", err)
		}
		if n == 0 {
			return fault.Exhausted(messagePause, "OTP_SENT_TOO_OFTEN", "a password was sent less than %s ago: use it, or wait", messagePause)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "otp.send", Resource: h.name(), Detail: h.detail()})
	})
	if err != nil {
		return nil, err
	}
	resp := &signv1.SendOtpResponse{Type: map[string]signv1.OtpDeviceType{
		"SMS": signv1.OtpDeviceType_OTP_DEVICE_TYPE_SMS, "EMAIL": signv1.OtpDeviceType_OTP_DEVICE_TYPE_EMAIL,
		"PUSH": signv1.OtpDeviceType_OTP_DEVICE_TYPE_PUSH, "APP": signv1.OtpDeviceType_OTP_DEVICE_TYPE_TOTP,
	}[h.holding.OtpKind]}
	device := provider.OTPDevice{ID: h.holding.OtpID, Kind: provider.OTPKind(h.holding.OtpKind)}
	if !device.Kind.Sent() {
		return resp, nil
	}
	hashes, err := provider.Hashes(h.session.Authorized)
	if err == nil {
		resp.Number, err = h.remote.SendOTP(ctx, h.key(), device, hashes)
	}
	if err != nil {
		undo := s.db.Tx(context.WithoutCancel(ctx), name.tenant, func(ctx context.Context, tx pgx.Tx) error {
			return db.New(tx).UnmarkOtpSent(ctx, db.UnmarkOtpSentParams{ChallengeID: id, At: &now})
		})
		return nil, errors.Join(provider.Fault(err), undo)
	}
	resp.ExpireTime = timestamppb.New(h.challenge.ExpiresAt)
	return resp, nil
}

// authorizeHeld shows the factors to the provider, once, after having written down that it will.
func (s *Service) authorizeHeld(ctx context.Context, full string, name credentialName, id uuid.UUID, f factors) (*signv1.AuthorizeChallengeResponse, error) {
	var h *held
	var call uuid.UUID
	err := s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		if h, err = s.loadHeld(ctx, q, full, name, id); err != nil {
			return err
		}
		if h.challenge.State == "OUTCOME_UNKNOWN" {
			return outcomeUnknown()
		}
		if call, err = s.writeCall(ctx, q, h, "AUTHORIZE", len(h.challenge.Hashes)); err != nil {
			return err
		}
		_, err = s.tryChallenge(ctx, q, full, name, id)
		return err
	})
	if err != nil {
		return nil, s.inTheWay(ctx, name.tenant, id, "AUTHORIZE", err)
	}
	out, cancel := s.leave(ctx, h, 1)
	defer cancel()
	hashes, err := provider.Hashes(h.session.Authorized)
	var grant provider.Grant
	if err == nil {
		grant, err = h.remote.Authorize(out, h.key(), hashes, provider.Factors{PIN: f.pin, OTP: f.otp, Device: h.holding.OtpID})
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return s.recordAuthorization(out, h, call, secret, grant, err)
}

// recordAuthorization writes down what the provider answered, and turns a grant into an authorization.
func (s *Service) recordAuthorization(ctx context.Context, h *held, call uuid.UUID, secret []byte, grant provider.Grant, answer error) (*signv1.AuthorizeChallengeResponse, error) {
	now := pg.Time(s.now())
	until := now.Add(s.cfg.Authorization.AuthorizationTTL)
	if answer == nil && grant.Expires.Before(until) {
		until = pg.Time(grant.Expires)
	}
	revoked := false
	err := s.db.Tx(ctx, h.credential.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := s.endCall(ctx, tx, h, call, answer, 0)
		if err != nil {
			return err
		}
		act := telemetry.Act{Action: "challenge.authorize", Resource: h.name(), Detail: h.detail(), Outcome: "ok"}
		if answer != nil {
			if provider.OutcomeOf(answer) == provider.Busy {
				return q.GiveBackTry(ctx, h.challenge.ID)
			}
			act.Outcome = fault.Of(provider.Fault(answer)).Code
			return telemetry.Audit(ctx, tx, act)
		}
		sealed, err := seal(secret, h.challenge.ID, grant)
		if err != nil {
			return err
		}
		if err = q.SealGrant(ctx, db.SealGrantParams{ChallengeID: h.challenge.ID, Sealed: sealed, GrantExpiresAt: ptr(pg.Time(grant.Expires))}); err != nil {
			return fmt.Errorf("signer: seal grant: %w", err)
		}
		sum := sha256.Sum256(secret)
		n, err := q.AuthorizeHeld(ctx, db.AuthorizeHeldParams{ID: h.challenge.ID, Caller: callerOf(ctx), AuthorizationSha256: sum[:], At: &now, ExpiresAt: until})
		if err != nil {
			return fmt.Errorf("signer: authorize: %w", err)
		}
		if revoked = n == 0; revoked {
			act.Outcome = "CREDENTIAL_NOT_ACTIVE"
		}
		return telemetry.Audit(ctx, tx, act)
	})
	switch {
	case err != nil:
		return nil, err
	case answer != nil:
		return nil, s.tell(answer)
	case revoked:
		return nil, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "the credential was revoked while the provider authorized: nothing is signed")
	}
	return &signv1.AuthorizeChallengeResponse{Authorization: base64.RawURLEncoding.EncodeToString(secret), ExpireTime: timestamppb.New(until)}, nil
}

// sealKey makes the key that a grant is encrypted under from the authorization, which nobody but the caller has.
func sealKey(secret []byte, challenge uuid.UUID) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, challenge[:], "ceralacca provider grant", 32)
	if err != nil {
		return nil, fmt.Errorf("signer: grant: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("signer: grant: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

type sealedGrant struct {
	Token   []byte    `json:"token"`
	Expires time.Time `json:"expires"`
}

func seal(secret []byte, challenge uuid.UUID, g provider.Grant) ([]byte, error) {
	aead, err := sealKey(secret, challenge)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(sealedGrant{g.Token, g.Expires})
	if err != nil {
		return nil, fmt.Errorf("signer: grant: %w", err)
	}
	return aead.Seal(nil, nil, plain, challenge[:]), nil
}

// unseal opens a grant with the authorization. It is gone when the challenge has ended.
func unseal(authorization string, challenge uuid.UUID, sealed []byte) (provider.Grant, error) {
	secret, err := base64.RawURLEncoding.DecodeString(authorization)
	if err != nil || sealed == nil {
		return provider.Grant{}, fault.Precondition(provider.GrantSpent, "the provider's authorization is used or over: ask the signer again")
	}
	aead, err := sealKey(secret, challenge)
	if err != nil {
		return provider.Grant{}, err
	}
	plain, err := aead.Open(nil, nil, sealed, challenge[:])
	if err != nil {
		return provider.Grant{}, fault.Denied("AUTHORIZATION_INVALID", "this is not the authorization of the challenge")
	}
	var g sealedGrant
	if err := json.Unmarshal(plain, &g); err != nil {
		return provider.Grant{}, fmt.Errorf("signer: grant: %w", err)
	}
	return provider.Grant{Token: g.Token, Expires: g.Expires}, nil
}
