package signer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/provider"
)

// codeHeld: what was asked for is the business of the provider that holds the key.
const codeHeld = "CREDENTIAL_HELD_BY_PROVIDER"

var errHeld = fault.Precondition(codeHeld, "held by a provider")

func heldElsewhere(c db.Credential) error {
	return fault.Precondition(codeHeld, "the key of %s is at provider %s: its PIN, its devices and its certificate are kept there", nameOfCredential(c), c.Provider)
}

// found is a key as its provider describes it, checked.
type found struct {
	remote  *remote
	key     *signv1.RemoteKey
	chain   []*x509.Certificate
	keyType string
	scal    int
	multi   int
	otp     provider.OTPDevice
}

// look asks a provider for a key and checks that it may sign as a credential of that kind.
func (s *Service) look(ctx context.Context, tenant, kind string, key *signv1.RemoteKey) (found, error) {
	f := found{key: key}
	var err error
	if f.remote, err = s.remote(key.GetProvider()); err != nil {
		return f, err
	}
	d, err := s.describe(ctx, f, tenant, kind)
	if err != nil {
		return f, err
	}
	if d.Status != provider.Enabled || len(d.Chain) == 0 {
		return f, fault.Precondition(provider.CredentialDisabled, "key.id: the provider does not sign with this certificate now")
	}
	f.chain = complete(d.Chain, f.remote.issuers)
	if err := checkCertificate(f.chain, f.chain[0].PublicKey, s.now()); err != nil {
		return f, err
	}
	if f.keyType = keyTypeOf(f.chain[0]); f.keyType == "" {
		return f, fault.Precondition("KEY_TYPE_UNKNOWN", "key.id: signatures are made with RSA of 2048, 3072 and 4096 bits and with P-256; this key is another")
	}
	f.scal, f.multi = d.SCAL, d.Multisign
	if kind != personKind {
		return f, nil
	}
	if len(d.OTP) == 0 {
		return f, fault.Precondition("NO_OTP_DEVICE", "key.id: the provider names no device for one-time passwords: a person signs with one")
	}
	for _, o := range d.OTP {
		if key.GetOtpKind() == "" || string(o.Kind) == key.GetOtpKind() {
			f.otp = o
			return f, nil
		}
	}
	return f, fault.Invalid("OTP_KIND", "key.otp_kind: the holder has no device of kind %s at the provider", key.GetOtpKind()).
		WithField("key.otp_kind", "OTP_KIND", "the holder has none of this kind")
}

const personKind = "PERSON"

// describe asks what the provider says of a key: of one that signs without a person, with its secret.
func (s *Service) describe(ctx context.Context, f found, tenant, kind string) (provider.Description, error) {
	who := provider.Credential{ID: f.key.GetId(), User: f.key.GetUser()}
	if kind == personKind {
		if f.key.GetSecret() != "" {
			return provider.Description{}, fault.Invalid("SECRET_OF_A_PERSON", "key.secret: a person signs with their own PIN and password, which are kept nowhere").
				WithField("key.secret", "SECRET_OF_A_PERSON", "is for kinds AUTOMATIC, SEAL and ROLE")
		}
		d, err := f.remote.Describe(ctx, who)
		return d, provider.Fault(err)
	}
	secret, err := s.secret(ctx, tenant, f.key.GetSecret())
	if err != nil {
		return provider.Description{}, err
	}
	d, err := f.remote.DescribeAutomatic(ctx, who, secret)
	return d, provider.Fault(err)
}

// kindOfHeld reads the kind of a credential at a provider.
func kindOfHeld(kind signv1.CredentialKind) (string, error) {
	switch kind {
	case signv1.CredentialKind_CREDENTIAL_KIND_UNSPECIFIED, signv1.CredentialKind_CREDENTIAL_KIND_PERSON:
		return personKind, nil
	case signv1.CredentialKind_CREDENTIAL_KIND_AUTOMATIC:
		return "AUTOMATIC", nil
	case signv1.CredentialKind_CREDENTIAL_KIND_SEAL:
		return "SEAL", nil
	case signv1.CredentialKind_CREDENTIAL_KIND_ROLE:
		return "ROLE", nil
	}
	return "", fault.Invalid("KIND_NOT_AT_PROVIDERS", "kind: keys at providers are of kind PERSON, AUTOMATIC, SEAL or ROLE").WithField("kind", "KIND_NOT_AT_PROVIDERS", "is none of PERSON, AUTOMATIC, SEAL and ROLE")
}

// complete adds issuers that the provider does not give. A chain that stays too short is refused later.
func complete(chain, issuers []*x509.Certificate) []*x509.Certificate {
	out := append([]*x509.Certificate(nil), chain...)
	for len(out) < 10 {
		last := out[len(out)-1]
		if bytes.Equal(last.RawIssuer, last.RawSubject) {
			break
		}
		before := len(out)
		for _, i := range issuers {
			if bytes.Equal(i.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(i) == nil {
				out = append(out, i)
				break
			}
		}
		if len(out) == before {
			break
		}
	}
	return out
}

func keyTypeOf(cert *x509.Certificate) string {
	switch k := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return "EC_P256"
		}
	case *rsa.PublicKey:
		return map[int]string{2048: "RSA_2048", 3072: "RSA_3072", 4096: "RSA_4096"}[k.N.BitLen()]
	}
	return ""
}

// saysQualified reads whether a certificate calls itself qualified, by the law of the Union, with its key
// in a QSCD. spec: EN319412-5 §4.2.1, §4.2.2
func saysQualified(cert *x509.Certificate) bool {
	st, err := validation.StatementsOf(cert)
	return err == nil && st.Compliance && len(st.Countries) == 0 && st.Device
}

func (f found) qualified() bool { return f.remote.cfg.Qualified && saysQualified(f.chain[0]) }

func (f found) row(credential uuid.UUID, from, now time.Time) (db.InsertHoldingParams, error) {
	id, err := pg.NewID()
	return db.InsertHoldingParams{
		ID: id, CredentialID: credential, Provider: f.key.GetProvider(), RemoteID: f.key.GetId(), RemoteUser: f.key.GetUser(), KeyType: f.keyType,
		Chain: raws(f.chain), NotBefore: pg.Time(f.chain[0].NotBefore), NotAfter: pg.Time(f.chain[0].NotAfter),
		Scal: int32(f.scal), Multisign: int32(min(f.multi, 500)), //nolint:gosec // 1 or 2; at most 500
		OtpID: f.otp.ID, OtpKind: string(f.otp.Kind), Qualified: f.qualified(), EffectiveFrom: pg.Time(from), At: now, Secret: f.key.GetSecret(),
	}, err
}

func raws(chain []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, c := range chain {
		out = append(out, c.Raw)
	}
	return out
}

// CreateProviderCredential makes a credential of a key at a provider.
func (s *Service) CreateProviderCredential(ctx context.Context, req *signv1.CreateProviderCredentialRequest) (*signv1.Credential, error) {
	ids, ok := cut(req.GetParent(), "tenants", "companies")
	if !ok || ids[1] == "-" {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}/companies/{company}", req.GetParent())
	}
	id, err := credentialID(ids[0], req.GetRequestId())
	if err != nil {
		return nil, err
	}
	kind, err := kindOfHeld(req.GetKind())
	if err != nil {
		return nil, err
	}
	holder, err := holderOfKey(ids[0], kind, req.GetHolder())
	if err != nil {
		return nil, err
	}
	f, err := s.look(ctx, ids[0], kind, req.GetKey())
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	holding, err := f.row(id, now, now)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(f.chain[0].PublicKey)
	if err != nil {
		return nil, fmt.Errorf("signer: public key: %w", err)
	}
	var made db.Credential
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.InsertHeldCredential(ctx, db.InsertHeldCredentialParams{
			ID: id, TenantID: ids[0], CompanyID: ids[1], Kind: kind, KeyType: f.keyType, CommonName: f.chain[0].Subject.CommonName, KeyName: keyPrefix + id.String(),
			PublicKey: spki, Chain: holding.Chain, NotBefore: &holding.NotBefore, NotAfter: &holding.NotAfter,
			Provider: holding.Provider, Qualified: holding.Qualified, At: now,
		})
		if err != nil {
			return fmt.Errorf("signer: insert credential: %w", err)
		}
		if n == 1 {
			if _, err = q.InsertHolding(ctx, holding); err != nil {
				return fmt.Errorf("signer: insert holding: %w", err)
			}
			if holder != "" {
				if err = q.InsertHolder(ctx, db.InsertHolderParams{CredentialID: id, TenantID: ids[0], Holder: holder, At: now}); err != nil {
					return fmt.Errorf("signer: insert holder: %w", err)
				}
			}
		}
		if made, err = q.GetCredential(ctx, id); err != nil {
			return fmt.Errorf("signer: read credential: %w", err)
		}
		if n == 0 { // the same request again
			return s.sameHolding(ctx, q, made, ids[1], kind, req.GetKey())
		}
		if err := s.resume(ctx, tx, made); err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "credential.create", Resource: nameOfCredential(made), Detail: map[string]string{"kind": kind, "provider": holding.Provider, "key_type": f.keyType},
		})
	})
	if err != nil {
		return nil, err
	}
	return credentialMessage(made), nil
}

// holderOfKey reads whose credential it is to be.
func holderOfKey(tenant, kind, holder string) (string, error) {
	switch {
	case holder == "":
		return "", nil
	case kind != personKind:
		return "", fault.Invalid("HOLDER_OF_A_PERSON", "holder: is for kind PERSON: who signs without a person is the company").
			WithField("holder", "HOLDER_OF_A_PERSON", "is for kind PERSON")
	case !strings.HasPrefix(holder, "tenants/"+tenant+"/users/"):
		return "", holderForeign(holder, tenant)
	}
	return holder, nil
}

func (s *Service) sameHolding(ctx context.Context, q *db.Queries, c db.Credential, company, kind string, key *signv1.RemoteKey) error {
	list, err := q.ListHoldings(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("signer: read holdings: %w", err)
	}
	if c.CompanyID == company && c.Kind == kind && len(list) > 0 {
		if first := list[len(list)-1]; first.Provider == key.GetProvider() && first.RemoteID == key.GetId() && first.RemoteUser == key.GetUser() {
			return nil
		}
	}
	return fault.Conflict("REQUEST_ID_REUSED", "request_id was used for another credential: use a new one").
		WithField("request_id", "REQUEST_ID_REUSED", "was used for another credential")
}

// SwitchProvider has another key take a credential's place from a date on.
func (s *Service) SwitchProvider(ctx context.Context, req *signv1.SwitchProviderRequest) (*signv1.Holding, error) {
	c, err := s.heldCredential(ctx, "name", req.GetName())
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	from, err := effective(req.GetEffectiveTime(), now)
	if err != nil {
		return nil, err
	}
	f, err := s.look(ctx, c.TenantID, c.Kind, req.GetKey())
	if err != nil {
		return nil, err
	}
	if !from.Before(f.chain[0].NotAfter) {
		return nil, fault.Invalid("EFFECTIVE_TIME", "effective_time: the new certificate ends before, on %s", f.chain[0].NotAfter.UTC().Format(time.RFC3339))
	}
	row, err := f.row(c.ID, from, now)
	if err != nil {
		return nil, err
	}
	var made db.CredentialHolding
	err = s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.InsertHolding(ctx, row)
		if pg.Constraint(err) == "credential_holding_date" {
			return fault.Conflict("HOLDING_EXISTS", "effective_time: another switch begins at the same time")
		}
		if err != nil {
			return fmt.Errorf("signer: insert holding: %w", err)
		}
		if n == 0 {
			return fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s is revoked", nameOfCredential(c))
		}
		if _, err = q.AdoptHoldings(ctx, db.AdoptHoldingsParams{At: now, One: &c.ID}); err != nil {
			return fmt.Errorf("signer: adopt holding: %w", err)
		}
		if made, err = q.GetHolding(ctx, row.ID); err != nil {
			return fmt.Errorf("signer: read holding: %w", err)
		}
		if err := s.resume(ctx, tx, c); err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "credential.switch_provider", Resource: nameOfCredential(c),
			Detail: map[string]string{"from_provider": c.Provider, "to_provider": row.Provider, "effective": from.UTC().Format(time.RFC3339)},
		})
	})
	if err != nil {
		return nil, err
	}
	return holdingMessage(c, made), nil
}

// effective is the date from which another key is used: now, or later.
func effective(t *timestamppb.Timestamp, now time.Time) (time.Time, error) {
	if t == nil {
		return now, nil
	}
	from := pg.Time(t.AsTime())
	const slack = time.Minute // a caller's clock
	if from.Before(now.Add(-slack)) {
		return from, fault.Invalid("EFFECTIVE_TIME", "effective_time: %s is over: what was signed since was signed with another key", from.UTC().Format(time.RFC3339)).
			WithField("effective_time", "EFFECTIVE_TIME", "is in the past")
	}
	return maxTime(from, now), nil
}

func maxTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// heldCredential reads a credential whose key a provider holds.
func (s *Service) heldCredential(ctx context.Context, field, full string) (db.Credential, error) {
	name, err := parseCredentialName(field, full)
	if err != nil {
		return db.Credential{}, err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	switch {
	case err != nil:
		return c, err
	case c.CompanyID != name.company:
		return c, noCredential(full)
	case c.Provider == "":
		return c, fault.Precondition("CREDENTIAL_NOT_HELD", "the key of %s is in Vault and stays there: make another credential of the provider's key, and have it take this one's place (SetSuccessor)", full)
	}
	return c, nil
}

// ListHoldings lists who held and will hold a credential's key.
func (s *Service) ListHoldings(ctx context.Context, req *signv1.ListHoldingsRequest) (*signv1.ListHoldingsResponse, error) {
	c, err := s.heldCredential(ctx, "parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	resp := &signv1.ListHoldingsResponse{}
	err = s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		list, err := q.ListHoldings(ctx, c.ID)
		if err != nil {
			return err
		}
		holder, err := holderOf(ctx, q, c)
		for _, h := range list {
			m := holdingMessage(c, h)
			m.Holder = holder
			resp.Holdings = append(resp.Holdings, m)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func holdingMessage(c db.Credential, h db.CredentialHolding) *signv1.Holding {
	return &signv1.Holding{
		Name:    nameOfCredential(c) + "/holdings/" + h.ID.String(),
		Key:     &signv1.RemoteKey{Provider: h.Provider, Id: h.RemoteID, User: h.RemoteUser, OtpKind: h.OtpKind, Secret: h.Secret},
		KeyType: signv1.KeyType(signv1.KeyType_value["KEY_TYPE_"+h.KeyType]), Level: levelOf(h.Qualified), Scal: h.Scal, Multisign: h.Multisign,
		CertificatePem: encodePEM("CERTIFICATE", h.Chain...), ExpireTime: timestamppb.New(h.NotAfter),
		EffectiveTime: timestamppb.New(h.EffectiveFrom), CreateTime: timestamppb.New(h.CreatedAt),
	}
}

func levelOf(qualified bool) signv1.SignatureLevel {
	if qualified {
		return signv1.SignatureLevel_SIGNATURE_LEVEL_QUALIFIED
	}
	return signv1.SignatureLevel_SIGNATURE_LEVEL_ADVANCED
}

// withHolding is a credential with the level of the key that a challenge was begun with.
func withHolding(ctx context.Context, q *db.Queries, c db.Credential, ch db.Challenge) (db.Credential, error) {
	if ch.HoldingID == nil {
		return c, nil
	}
	h, err := q.GetHolding(ctx, *ch.HoldingID)
	if err != nil {
		return c, fmt.Errorf("signer: read holding: %w", err)
	}
	c.Qualified = h.Qualified
	return c, nil
}

// signatory is personal, for keys at providers too.
func signatory(ctx context.Context, q *db.Queries, name credentialName) (db.Credential, error) {
	c, err := personal(ctx, q, name)
	if errors.Is(err, errHeld) {
		return c, nil
	}
	return c, err
}

// signing reads a credential and a challenge of the caller's with it.
func signing(ctx context.Context, q *db.Queries, full string, name credentialName, id uuid.UUID) (db.Credential, db.Challenge, error) {
	both, err := q.GetSigning(ctx, db.GetSigningParams{CredentialID: name.id, ID: id, Caller: callerOf(ctx)})
	if err == nil {
		err = fit(both.Credential, name)
		if errors.Is(err, errHeld) {
			err = nil
		}
		return both.Credential, both.Challenge, err
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return db.Credential{}, db.Challenge{}, fmt.Errorf("signer: read challenge: %w", err)
	}
	c, err := signatory(ctx, q, name) // one of both is missing: which
	if err != nil {
		return c, db.Challenge{}, err
	}
	ch, err := ownChallenge(ctx, q, full, name, id)
	return c, ch, err
}
