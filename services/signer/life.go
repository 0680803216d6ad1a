package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// lockOwn locks the row of a credential by its name.
func lockOwn(ctx context.Context, q *db.Queries, full string, name credentialName) (db.Credential, error) {
	c, err := q.LockCredential(ctx, name.id)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && c.CompanyID != name.company) {
		return c, noCredential(full)
	}
	if err != nil {
		return c, fmt.Errorf("signer: lock credential: %w", err)
	}
	return c, nil
}

func suspended(c db.Credential) error {
	return fault.Precondition("CREDENTIAL_SUSPENDED", "credential %s is suspended: reactivate it first", nameOfCredential(c))
}

// tellState tells that a credential is in another state: the bus, and the holder of a personal one.
func (s *Service) tellState(ctx context.Context, tx pgx.Tx, c db.Credential, state, reason, sentence string) error {
	err := s.bus.Emit(bus.WithCorrelation(ctx, c.ID.String()), tx, &signv1.CredentialStateChanged{
		Credential: nameOfCredential(c), State: state, Reason: reason, Time: timestamppb.New(pg.Time(s.now())),
	})
	if err != nil || sentence == "" {
		return err
	}
	return s.notify(ctx, tx, c, fmt.Sprintf("%s: %s (%s).", s.cfg.Authorization.Issuer, sentence, s.now().UTC().Format("02/01/2006 15:04 UTC")))
}

// suspend stops a credential inside tx.
func (s *Service) suspend(ctx context.Context, tx pgx.Tx, c db.Credential, reason string) error {
	q, now := db.New(tx), pg.Time(s.now())
	n, err := q.SuspendCredential(ctx, db.SuspendCredentialParams{ID: c.ID, At: now})
	if err != nil {
		return fmt.Errorf("signer: suspend: %w", err)
	}
	if n == 0 {
		return fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s is %s: only an active one is suspended", nameOfCredential(c), c.State)
	}
	err = q.InsertSuspension(ctx, db.InsertSuspensionParams{CredentialID: c.ID, TenantID: c.TenantID, Reason: reason, At: now})
	if err != nil {
		return fmt.Errorf("signer: suspend: %w", err)
	}
	err = s.tellState(ctx, tx, c, "SUSPENDED", reason, "la tua credenziale di firma è stata sospesa")
	if err != nil {
		return err
	}
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: "credential.suspend", Resource: nameOfCredential(c), Detail: map[string]string{"reason": reason}})
}

// SuspendCredential stops a credential until it is reactivated.
func (s *Service) SuspendCredential(ctx context.Context, req *signv1.SuspendCredentialRequest) (*signv1.Credential, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	var c db.Credential
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		c, err = lockOwn(ctx, q, req.GetName(), name)
		if err != nil || c.State == "SUSPENDED" {
			return err
		}
		err = s.suspend(ctx, tx, c, req.GetReason())
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

// ReactivateCredential ends a suspension. A key that could leave Vault stays out of use, and a certificate
// that its authority has revoked.
func (s *Service) ReactivateCredential(ctx context.Context, req *signv1.ReactivateCredentialRequest) (*signv1.Credential, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	_, err = s.vault.readKey(ctx, c.KeyName, c.KeyType)
	if err != nil {
		return nil, err
	}
	if s.cfg.Verification.Online && s.askAuthority(ctx, c) == codeCertificateRevoked {
		return nil, fault.Precondition(codeCertificateRevoked, "the certificate of %s was revoked by its authority: make another credential", req.GetName())
	}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		c, err = lockOwn(ctx, q, req.GetName(), name)
		if err != nil {
			return err
		}
		n, err := q.ReactivateCredential(ctx, db.ReactivateCredentialParams{ID: c.ID, At: pg.Time(s.now())})
		if err != nil {
			return fmt.Errorf("signer: reactivate: %w", err)
		}
		if n == 0 {
			return fault.Precondition("CREDENTIAL_NOT_SUSPENDED", "credential %s is %s: only a suspended one is reactivated", req.GetName(), c.State)
		}
		err = q.EndSuspension(ctx, c.ID)
		if err != nil {
			return fmt.Errorf("signer: reactivate: %w", err)
		}
		err = s.tellState(ctx, tx, c, "ACTIVE", "", "la tua credenziale di firma è stata riattivata")
		if err != nil {
			return err
		}
		err = s.resume(ctx, tx, c)
		if err != nil {
			return err
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "credential.reactivate", Resource: req.GetName()})
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

// GetCredentialStatus shows all that is known of a credential.
func (s *Service) GetCredentialStatus(ctx context.Context, req *signv1.GetCredentialStatusRequest) (*signv1.CredentialStatus, error) {
	name, err := parseCredentialName("name", req.GetName())
	if err != nil {
		return nil, err
	}
	out := &signv1.CredentialStatus{}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		c, err := q.GetCredential(ctx, name.id)
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && c.CompanyID != name.company) {
			return noCredential(req.GetName())
		}
		if err != nil {
			return err
		}
		out.Credential, out.KeyVersion = credentialMessage(c), c.KeyVersion
		halt, err := q.GetSuspension(ctx, c.ID)
		if err == nil {
			out.SuspendTime, out.SuspendReason = timestamppb.New(halt.SuspendedAt), halt.Reason
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		renewal, err := q.GetRenewal(ctx, c.ID)
		if err == nil {
			out.Renewal = renewalMessage(c, renewal)
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		next, err := q.GetSuccessor(ctx, c.ID)
		if err == nil {
			out.Successor, out.SuccessorTime = nameOfCredential(next.Credential), timestamppb.New(next.EffectiveFrom)
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		list, err := q.ListCertificates(ctx, c.ID)
		if err != nil {
			return err
		}
		out.Certificates, err = certificateMessages(list)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func certificateMessages(list []db.CredentialCertificate) ([]*signv1.CredentialCertificate, error) {
	var out []*signv1.CredentialCertificate
	current := -1 // the one that was put to use last
	for i, row := range list {
		cert, err := x509.ParseCertificate(row.Chain[0])
		if err != nil {
			return nil, fmt.Errorf("signer: kept certificate: %w", err)
		}
		m := &signv1.CredentialCertificate{
			KeyVersion: row.KeyVersion, Serial: fmt.Sprintf("%x", cert.SerialNumber), Subject: cert.Subject.String(), Issuer: cert.Issuer.String(),
			ValidFrom: timestamppb.New(row.NotBefore), ValidUntil: timestamppb.New(row.NotAfter), ImportTime: timestamppb.New(row.ImportedAt),
			Use: signv1.CertificateUse_CERTIFICATE_USE_PAST,
		}
		switch {
		case row.UsedFrom == nil && row.DroppedAt == nil:
			m.Use = signv1.CertificateUse_CERTIFICATE_USE_NEXT
		case row.UsedFrom != nil && (current < 0 || row.UsedFrom.After(*list[current].UsedFrom)):
			current = i
		}
		out = append(out, m)
	}
	if current >= 0 {
		out[current].Use = signv1.CertificateUse_CERTIFICATE_USE_CURRENT
	}
	return out, nil
}
