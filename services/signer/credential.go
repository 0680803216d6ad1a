package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/provider"
)

// keyPrefix begins the name of each of our keys in Vault. The rest is the credential's id: names in
// Vault's audit log tell nothing about customers.
const keyPrefix = "ceralacca-"

// requestSpace makes credential ids from request ids, so that a repeat finds what it began.
var requestSpace = uuid.MustParse("5f7ee1c8-6a9f-4c53-9a51-6c2a07a8e7d4")

// FinishCredentialArgs asks for the key of a credential whose making was cut short.
type FinishCredentialArgs struct {
	Tenant string    `json:"tenant"`
	ID     uuid.UUID `json:"id"`
}

// Kind names the job.
func (FinishCredentialArgs) Kind() string { return "finish_credential" }

// CreateCredential makes a key in Vault and a certificate request for it. The row comes first: a
// crash leaves the intent, and a job (or the repeated request) makes the key under the same name.
func (s *Service) CreateCredential(ctx context.Context, req *signv1.CreateCredentialRequest) (*signv1.Credential, error) {
	ids, ok := cut(req.GetParent(), "tenants", "companies")
	if !ok || ids[1] == "-" {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}/companies/{company}", req.GetParent())
	}
	id, err := credentialID(ids[0], req.GetRequestId())
	if err != nil {
		return nil, err
	}
	err = s.keyAllowed(strings.TrimPrefix(req.GetCredential().GetKeyType().String(), "KEY_TYPE_"))
	if err != nil {
		return nil, err
	}
	want := db.InsertCredentialParams{
		ID: id, TenantID: ids[0], CompanyID: ids[1], At: pg.Time(s.now()),
		Kind:       strings.TrimPrefix(req.GetCredential().GetKind().String(), "CREDENTIAL_KIND_"),
		KeyType:    strings.TrimPrefix(req.GetCredential().GetKeyType().String(), "KEY_TYPE_"),
		CommonName: req.GetCredential().GetCommonName(),
		KeyName:    keyPrefix + id.String(),
	}
	if transitTypes[want.KeyType] == "" {
		return nil, fault.Invalid("KEY_TYPE_REFUSED", "credential.key_type: keys in Vault are EC_P256 or RSA_3072").
			WithField("credential.key_type", "KEY_TYPE_REFUSED", "is for keys at providers")
	}
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		return s.intendCredential(ctx, tx, want)
	})
	if err != nil {
		return nil, err
	}
	made, err := s.makeKey(ctx, ids[0], id)
	if err != nil {
		return nil, err
	}
	return credentialMessage(made), nil
}

func credentialID(tenant, requestID string) (uuid.UUID, error) {
	if requestID == "" {
		return pg.NewID()
	}
	return uuid.NewSHA1(requestSpace, []byte(tenant+"\x00"+strings.ToLower(requestID))), nil
}

func (s *Service) intendCredential(ctx context.Context, tx pgx.Tx, want db.InsertCredentialParams) error {
	q := db.New(tx)
	n, err := q.InsertCredential(ctx, want)
	if err != nil {
		return fmt.Errorf("signer: insert credential: %w", err)
	}
	if n == 0 {
		have, err := q.GetCredential(ctx, want.ID)
		if err != nil {
			return fmt.Errorf("signer: read credential: %w", err)
		}
		if have.CompanyID != want.CompanyID || have.Kind != want.Kind || have.KeyType != want.KeyType || have.CommonName != want.CommonName {
			return fault.Conflict("REQUEST_ID_REUSED", "request_id was used for another credential: use a new one").
				WithField("request_id", "REQUEST_ID_REUSED", "was used for another credential")
		}
		return nil
	}
	err = telemetry.Audit(ctx, tx, telemetry.Act{
		Action:   "credential.create",
		Resource: "tenants/" + want.TenantID + "/companies/" + want.CompanyID + "/credentials/" + want.ID.String(),
		Detail:   map[string]string{"kind": want.Kind, "key_type": want.KeyType},
	})
	if err != nil {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, FinishCredentialArgs{Tenant: want.TenantID, ID: want.ID}, nil)
}

// finishCredential is the job that makes sure that the key exists.
func (s *Service) finishCredential(ctx context.Context, job *river.Job[FinishCredentialArgs]) error {
	_, err := s.makeKey(ctx, job.Args.Tenant, job.Args.ID)
	return err
}

// makeKey brings a credential to its key and request. It may run twice at the same time: Vault
// keeps the first key of a name, and the first to record wins.
func (s *Service) makeKey(ctx context.Context, tenant string, id uuid.UUID) (db.Credential, error) {
	c, err := s.credential(ctx, tenant, id)
	if err != nil || c.KeyVersion > 0 {
		return c, err
	}
	err = s.vault.createKey(ctx, c.KeyName, c.KeyType)
	if err != nil {
		return c, err
	}
	info, err := s.vault.readKey(ctx, c.KeyName, c.KeyType)
	if err != nil {
		return c, err
	}
	public, ok := info.publics[1]
	if !ok {
		return c, fault.Precondition(codeKeyRefused, "key %s has no version 1 in Vault any more", c.KeyName)
	}
	spki, csr, err := s.request(ctx, c, 1, public)
	if err != nil {
		return c, err
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		_, err := q.SetKey(ctx, db.SetKeyParams{
			ID: id, KeyVersion: 1, PublicKey: spki, CsrPem: csr, At: pg.Time(s.now()),
		})
		if err != nil {
			return err
		}
		c, err = q.GetCredential(ctx, id)
		return err
	})
	if err != nil {
		return c, fmt.Errorf("signer: record key of %s: %w", c.KeyName, err)
	}
	return c, nil
}

// credential reads one row of tenant's.
func (s *Service) credential(ctx context.Context, tenant string, id uuid.UUID) (db.Credential, error) {
	var c db.Credential
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		c, err = db.New(tx).GetCredential(ctx, id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return c, noCredential("tenants/" + tenant + "/companies/-/credentials/" + id.String())
	}
	return c, err
}

// GetCredential reads a credential.
func (s *Service) GetCredential(ctx context.Context, req *signv1.GetCredentialRequest) (*signv1.Credential, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if c.CompanyID != name.company {
		return nil, noCredential(req.GetName())
	}
	return credentialMessage(c), nil
}

// lastID sorts after every id: lists begin below it.
var lastID = uuid.Max

const defaultPage = 50

// ListCredentials lists the credentials of a company, or of a tenant (company "-"), newest first.
func (s *Service) ListCredentials(ctx context.Context, req *signv1.ListCredentialsRequest) (*signv1.ListCredentialsResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants", "companies")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}/companies/{company}", req.GetParent())
	}
	company := ids[1]
	if company == "-" {
		company = ""
	}
	size, before, filter := int(req.GetPageSize()), lastID, pg.FilterHash("credentials", ids[0], company)
	if size == 0 {
		size = defaultPage
	}
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.Credential
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListCredentials(ctx, db.ListCredentialsParams{
			TenantID: ids[0], CompanyID: company, Before: before, Page: int32(size + 1), //nolint:gosec // at most 1001
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &signv1.ListCredentialsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Credential) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, c := range rows {
		resp.Credentials = append(resp.Credentials, credentialMessage(c))
	}
	return resp, nil
}

// ImportCertificate makes a credential ready, or renews its certificate, and lets the signatures
// that waited for it go on. The key is looked at again: it must still be unable to leave Vault.
func (s *Service) ImportCertificate(ctx context.Context, req *signv1.ImportCertificateRequest) (*signv1.Credential, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(req.GetCertificatePem())
	if err != nil {
		return nil, err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if c.CompanyID != name.company {
		return nil, noCredential(req.GetName())
	}
	if c.Provider != "" {
		return nil, heldElsewhere(c)
	}
	if c.KeyVersion == 0 {
		return nil, fault.Precondition("KEY_NOT_READY", "the key of this credential is still being made: try again in a moment")
	}
	set, err := s.certified(ctx, c, chain[0])
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(set.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("signer: public key of %s: %w", c.KeyName, err)
	}
	// One that is not valid yet is judged as of the day when it will sign.
	at, act := s.now(), s.activate
	if overlaps(c, chain[0], at) {
		at, act = chain[0].NotBefore, s.await
	}
	err = checkCertificate(chain, public, at)
	if err != nil {
		return nil, err
	}
	_, err = s.vault.readKey(ctx, c.KeyName, c.KeyType)
	if err != nil {
		return nil, err
	}
	set.At = pg.Time(s.now())
	for _, cert := range chain {
		set.Chain = append(set.Chain, cert.Raw)
	}
	notBefore, notAfter := pg.Time(chain[0].NotBefore), pg.Time(chain[0].NotAfter)
	set.NotBefore, set.NotAfter = &notBefore, &notAfter
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		c, err = act(ctx, tx, set)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.ready.forget(c.ID)
	return credentialMessage(c), nil
}

// waitedFor are the failures that a new certificate mends, or, with keys at providers, another key, or a reactivation once
// the secret or the contract is right.
var waitedFor = []string{
	codeNoCredential, codeKeyRefused, codeNoSecret, "PROVIDER_NOT_CONFIGURED",
	provider.AccountRefused, provider.CredentialUnknown, provider.CredentialDisabled, provider.Undocumented, provider.NotAutomatic,
}

func (s *Service) activate(ctx context.Context, tx pgx.Tx, set db.SetCertificateParams) (db.Credential, error) {
	q := db.New(tx)
	c, err := q.LockCredential(ctx, set.ID)
	if err != nil {
		return c, fmt.Errorf("signer: lock credential: %w", err)
	}
	if c.State == "REVOKED" {
		return c, fault.Precondition("CREDENTIAL_REVOKED", "the credential is revoked for good: create another")
	}
	err = q.SetCertificate(ctx, set)
	if err != nil {
		return c, fmt.Errorf("signer: set certificate: %w", err)
	}
	err = keep(ctx, q, c, set, set.At, &set.At)
	if err != nil {
		return c, err
	}
	err = telemetry.Audit(ctx, tx, telemetry.Act{
		Action: "credential.import_certificate", Resource: nameOfCredential(c),
		Detail: map[string]string{"not_after": set.NotAfter.Format("2006-01-02")},
	})
	if err != nil {
		return c, err
	}
	err = s.resume(ctx, tx, c)
	if err != nil {
		return c, err
	}
	return q.GetCredential(ctx, c.ID)
}

// resume lets the signatures go on that waited for a credential of this company.
func (s *Service) resume(ctx context.Context, tx pgx.Tx, c db.Credential) error {
	if c.Kind != "AUTOMATIC" {
		return nil
	}
	ids, err := db.New(tx).ResumeFailed(ctx, db.ResumeFailedParams{TenantID: c.TenantID, CompanyID: c.CompanyID, Codes: waitedFor})
	if err != nil {
		return fmt.Errorf("signer: resume: %w", err)
	}
	return s.promise(ctx, tx, c.TenantID, ids)
}

// RevokeCredential ends a credential. What is in hand at this moment is not released: the record of
// a signature asks for an active credential.
func (s *Service) RevokeCredential(ctx context.Context, req *signv1.RevokeCredentialRequest) (*signv1.Credential, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	var c db.Credential
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		c, err = q.LockCredential(ctx, name.id)
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && c.CompanyID != name.company) {
			return noCredential(req.GetName())
		}
		if err != nil || c.State == "REVOKED" {
			return err
		}
		err = q.RevokeCredential(ctx, db.RevokeCredentialParams{ID: c.ID, At: pg.Time(s.now())})
		if err != nil {
			return fmt.Errorf("signer: revoke: %w", err)
		}
		devices, err := q.RemoveDevices(ctx, db.RemoveDevicesParams{CredentialID: c.ID, At: ptr(pg.Time(s.now()))})
		if err != nil {
			return fmt.Errorf("signer: remove devices: %w", err)
		}
		err = s.forgetDevices(ctx, tx, devices...)
		if err != nil {
			return err
		}
		err = q.EndSuspension(ctx, c.ID)
		if err != nil {
			return fmt.Errorf("signer: end suspension: %w", err)
		}
		err = s.tellState(ctx, tx, c, "REVOKED", "", "la tua credenziale di firma è stata revocata")
		if err != nil {
			return err
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "credential.revoke", Resource: nameOfCredential(c)})
		if err != nil {
			return err
		}
		c, err = q.GetCredential(ctx, c.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.ready.forget(c.ID)
	return credentialMessage(c), nil
}
