package signer

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// Reasons of suspensions that an authority's word makes.
const (
	codeCertificateRevoked   = "CERTIFICATE_REVOKED"
	codeCertificateSuspended = "CERTIFICATE_SUSPENDED"
)

// ownQuestions is how many fetches one certificate of ours may cause.
const ownQuestions = 8

// watchCertificates asks the authorities about the certificates in use, at the start and every hour: one
// that was revoked or suspended elsewhere must not go on signing here, where what it signs would be worth
// nothing. It finds that within the time for which answers are remembered.
func (s *Service) watchCertificates(ctx context.Context) error {
	if !s.cfg.Verification.Online {
		<-ctx.Done()
		return nil
	}
	ctx = telemetry.WithActor(ctx, watchActor)
	tick := time.NewTicker(recheckKey)
	defer tick.Stop()
	for {
		if err := s.checkCertificates(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "certificates in use not looked at", "code", fault.Of(err).Code, "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Service) checkCertificates(ctx context.Context) error {
	after := uuid.Nil
	for {
		var rows []db.Credential
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			rows, err = db.New(tx).CertificatesInUse(ctx, after)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, c := range rows {
			after = c.ID
			if code := s.askAuthority(ctx, c); code != "" {
				s.log.ErrorContext(ctx, "the authority has withdrawn a certificate in use: its credential is suspended", "credential", nameOfCredential(c), "code", code)
				if err := s.suspendFor(ctx, c, code); err != nil {
					return err
				}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
}

// askAuthority gives the reason to suspend a credential, "" when its certificate is good or nothing could be
// learnt: an authority that is away stops nobody.
func (s *Service) askAuthority(ctx context.Context, c db.Credential) string {
	if len(c.Chain) < 2 {
		return ""
	}
	cert, err := x509.ParseCertificate(c.Chain[0])
	if err != nil {
		return ""
	}
	issuer, err := x509.ParseCertificate(c.Chain[1])
	if err != nil || len(cert.OCSPServer)+len(cert.CRLDistributionPoints) == 0 {
		return ""
	}
	evidence, err := s.verifier.client.Ask(ownQuestions)(ctx, cert, issuer)
	if err != nil {
		s.log.WarnContext(ctx, "revocation of a certificate in use not known", "credential", nameOfCredential(c), "error", err.Error())
	}
	switch evidence.About(cert, issuer, s.now()).Revocation {
	case validation.StateRevoked:
		return codeCertificateRevoked
	case validation.StateSuspended:
		return codeCertificateSuspended
	}
	return ""
}
