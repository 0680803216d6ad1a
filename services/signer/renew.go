package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// rotateKey makes the next version of a key; versions that are pinned sign on. Vault paths:
// <transit>/keys/<key>/rotate (update).
func (t *transit) rotateKey(ctx context.Context, name string) error {
	_, err := t.call(ctx, "making the next version of a key", func(ctx context.Context) (*api.Secret, error) {
		client, err := t.patient()
		if err != nil {
			return nil, err
		}
		return client.Logical().WriteWithContext(ctx, t.cfg.Transit+"/keys/"+name+"/rotate", nil)
	})
	return err
}

// request makes a certificate request with one version of a key.
func (s *Service) request(ctx context.Context, c db.Credential, version int, public crypto.PublicKey) (spki []byte, csrPEM string, err error) {
	spki, err = x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, "", fmt.Errorf("signer: public key of %s: %w", c.KeyName, err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: c.CommonName},
	}, within{s.vault.key(c.KeyName, version, public), ctx})
	if err != nil {
		return nil, "", fmt.Errorf("signer: certificate request of %s: %w", c.KeyName, err)
	}
	return spki, encodePEM("CERTIFICATE REQUEST", csr), nil
}

func renewalMessage(c db.Credential, r db.CredentialRenewal) *signv1.CredentialRenewal {
	return &signv1.CredentialRenewal{Credential: nameOfCredential(c), KeyVersion: r.KeyVersion, CsrPem: r.CsrPem, CreateTime: timestamppb.New(r.CreatedAt)}
}

// RenewCredential makes the request for the next certificate. A crash after the new version was made leaves
// a version that nothing names; the next call makes another.
func (s *Service) RenewCredential(ctx context.Context, req *signv1.RenewCredentialRequest) (*signv1.CredentialRenewal, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	var c db.Credential
	var waiting *db.CredentialRenewal
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		c, waiting, err = renewable(ctx, db.New(tx), req.GetName(), name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if waiting != nil && (waiting.KeyVersion != c.KeyVersion) == req.GetNewKey() {
		return renewalMessage(c, *waiting), nil
	}
	put, err := s.prepareRenewal(ctx, c, req.GetNewKey())
	if err != nil {
		return nil, err
	}
	var made db.CredentialRenewal
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		now, err := lockOwn(ctx, q, req.GetName(), name)
		if err != nil {
			return err
		}
		if now.State == "REVOKED" || now.KeyVersion != c.KeyVersion {
			return fault.Aborted("CREDENTIAL_CHANGED", "the credential changed a moment ago: look at it again")
		}
		if err = q.PutRenewal(ctx, put); err != nil {
			return fmt.Errorf("signer: put renewal: %w", err)
		}
		if made, err = q.GetRenewal(ctx, c.ID); err != nil {
			return fmt.Errorf("signer: read renewal: %w", err)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "credential.renew", Resource: nameOfCredential(c), Detail: map[string]string{"key_version": fmt.Sprint(put.KeyVersion)},
		})
	})
	if err != nil {
		return nil, err
	}
	return renewalMessage(c, made), nil
}

// prepareRenewal makes the request, and before it the new version of the key if one is wanted.
func (s *Service) prepareRenewal(ctx context.Context, c db.Credential, newKey bool) (db.PutRenewalParams, error) {
	put := db.PutRenewalParams{CredentialID: c.ID, TenantID: c.TenantID, KeyVersion: c.KeyVersion, At: pg.Time(s.now())}
	err := s.keyAllowed(c.KeyType)
	if err != nil {
		return put, err
	}
	if newKey {
		if err = s.vault.rotateKey(ctx, c.KeyName); err != nil {
			return put, err
		}
	}
	info, err := s.vault.readKey(ctx, c.KeyName, c.KeyType)
	if err != nil {
		return put, err
	}
	if newKey {
		put.KeyVersion = int32(info.latest) //nolint:gosec // Vault counts from 1
	}
	public, ok := info.publics[int(put.KeyVersion)]
	if !ok {
		return put, fault.Precondition(codeKeyRefused, "key %s has no version %d in Vault any more", c.KeyName, put.KeyVersion)
	}
	put.PublicKey, put.CsrPem, err = s.request(ctx, c, int(put.KeyVersion), public)
	return put, err
}

// renewable reads a credential that can be renewed, and the request that waits already.
func renewable(ctx context.Context, q *db.Queries, full string, name credentialName) (db.Credential, *db.CredentialRenewal, error) {
	c, err := lockOwn(ctx, q, full, name)
	if err != nil {
		return c, nil, err
	}
	switch c.State {
	case "REVOKED":
		return c, nil, fault.Precondition("CREDENTIAL_REVOKED", "credential %s is revoked for good: create another", full)
	case "PENDING_CERTIFICATE":
		return c, nil, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s waits for its first certificate: have its csr_pem certified", full)
	}
	r, err := q.GetRenewal(ctx, c.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, nil, nil
	}
	if err != nil {
		return c, nil, fmt.Errorf("signer: read renewal: %w", err)
	}
	return c, &r, nil
}

// certified says which version of the key a certificate is for: the one that signs, or the one of the
// request that waits.
func (s *Service) certified(ctx context.Context, c db.Credential, leaf *x509.Certificate) (db.SetCertificateParams, error) {
	set := db.SetCertificateParams{ID: c.ID, KeyVersion: c.KeyVersion, PublicKey: c.PublicKey, CsrPem: c.CsrPem}
	err := s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		r, err := db.New(tx).GetRenewal(ctx, c.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("signer: read renewal: %w", err)
		}
		spki, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
		if err == nil && bytes.Equal(spki, r.PublicKey) {
			set.KeyVersion, set.PublicKey, set.CsrPem = r.KeyVersion, r.PublicKey, r.CsrPem
		}
		return nil
	})
	return set, err
}

// overlaps says whether a certificate that is not valid yet can wait: the present one signs until then.
func overlaps(c db.Credential, leaf *x509.Certificate, now time.Time) bool {
	return now.Before(leaf.NotBefore) && c.NotAfter != nil && (c.State == "ACTIVE" || c.State == "SUSPENDED") && !leaf.NotBefore.After(*c.NotAfter)
}

// keep writes a certificate into the history of its credential, with usedFrom when it signs from now on, and
// ends the request that it answers.
func keep(ctx context.Context, q *db.Queries, c db.Credential, set db.SetCertificateParams, now time.Time, usedFrom *time.Time) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	err = q.DropNextCertificate(ctx, db.DropNextCertificateParams{CredentialID: c.ID, At: &now})
	if err != nil {
		return fmt.Errorf("signer: drop next certificate: %w", err)
	}
	err = q.InsertCertificate(ctx, db.InsertCertificateParams{
		ID: id, TenantID: c.TenantID, CredentialID: c.ID, KeyVersion: set.KeyVersion, PublicKey: set.PublicKey, CsrPem: set.CsrPem,
		Chain: set.Chain, NotBefore: *set.NotBefore, NotAfter: *set.NotAfter, At: now, UsedFrom: usedFrom,
	})
	if err != nil {
		return fmt.Errorf("signer: insert certificate: %w", err)
	}
	err = q.EndRenewal(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("signer: end renewal: %w", err)
	}
	return nil
}

// await keeps a certificate that will sign once it is valid.
func (s *Service) await(ctx context.Context, tx pgx.Tx, set db.SetCertificateParams) (db.Credential, error) {
	q := db.New(tx)
	c, err := q.LockCredential(ctx, set.ID)
	if err != nil {
		return c, fmt.Errorf("signer: lock credential: %w", err)
	}
	if c.State != "ACTIVE" && c.State != "SUSPENDED" {
		return c, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s is %s: it has no certificate that signs until the new one is valid", nameOfCredential(c), c.State)
	}
	err = keep(ctx, q, c, set, set.At, nil)
	if err != nil {
		return c, err
	}
	return c, telemetry.Audit(ctx, tx, telemetry.Act{
		Action: "credential.import_certificate", Resource: nameOfCredential(c),
		Detail: map[string]string{"not_before": set.NotBefore.Format(time.DateOnly), "not_after": set.NotAfter.Format(time.DateOnly)},
	})
}
