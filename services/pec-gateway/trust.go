package pecgateway

import (
	"context"
	"crypto/x509"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// trusted is the trust list as verification wants it, of one version.
type trusted struct {
	version int64
	list    *pec.TrustList
	chains  *pec.ChainCache
	revoked []*x509.RevocationList
}

// trustCache keeps the newest list that was read.
type trustCache struct {
	mu  sync.Mutex
	now *trusted
}

// trustNow gives the trust list as it is now: one small query when it did not change.
func (s *Service) trustNow(ctx context.Context) (*trusted, error) {
	s.trusts.mu.Lock()
	defer s.trusts.mu.Unlock()
	err := s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		version, err := q(tx).TrustVersion(ctx)
		if err != nil || s.trusts.now != nil && s.trusts.now.version == version {
			return err
		}
		s.trusts.now, err = loadTrust(ctx, tx, version)
		return err
	})
	return s.trusts.now, err
}

func loadTrust(ctx context.Context, tx pgx.Tx, version int64) (*trusted, error) {
	list := &pec.TrustList{Version: strconv.FormatInt(version, 10), Roots: x509.NewCertPool()}
	providers, err := q(tx).ListProviders(ctx)
	if err != nil {
		return nil, err
	}
	withdrawn, err := withdrawals(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, p := range providers {
		known := pec.Provider{Name: p.Name, Signers: p.Signers, Domains: p.Domains, Certificates: p.Sha256, CertificatesSHA1: p.Sha1}
		for _, w := range withdrawn[p.Name] {
			known.Withdrawals = append(known.Withdrawals, withdrawalOf(w))
		}
		list.Providers = append(list.Providers, known)
	}
	list.Index()
	authorities, err := q(tx).ListAuthorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range authorities {
		cert, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			return nil, fmt.Errorf("pec-gateway: authority %s of the trust list: %w", a.Sha256, err)
		}
		list.Roots.AddCert(cert)
		list.Intermediates = append(list.Intermediates, cert) // issuers of lists of revoked certificates
	}
	revoked, err := loadRevocationLists(ctx, tx)
	return &trusted{version: version, list: list, chains: &pec.ChainCache{}, revoked: revoked}, err
}

// verification says what a message of a mailbox is judged by. Certificates have to be valid when the
// provider's server took the message in; where it does not say, or says a time to come, at the moment
// in the message itself. An acceptance has to come from the mailbox's own provider.
func (t *trusted) verification(box db.Mailbox, received, now time.Time) pec.Verification {
	v := pec.Verification{Trust: t.list, Now: now, Chains: t.chains, Revocations: t.revoked, Home: box.HomeProvider}
	if !received.IsZero() && !received.After(now.Add(24*time.Hour)) {
		v.At = received
	}
	if v.Home == "" {
		if p := t.list.Manager(pec.Domain(box.Address)); p != nil {
			v.Home = p.Name
		}
	}
	return v
}

// seeCertificate remembers a certificate that no list names, for a person to decide.
func (s *Service) seeCertificate(ctx context.Context, tx pgx.Tx, cert *x509.Certificate, addresses []string) error {
	if cert == nil {
		return nil
	}
	if addresses == nil {
		addresses = []string{}
	}
	return q(tx).SeeCertificate(ctx, db.SeeCertificateParams{
		Sha256: fingerprint(cert), Certificate: cert.Raw, Subject: trim(cert.Subject.String(), 1000), Issuer: trim(cert.Issuer.String(), 1000),
		Addresses: addresses, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, FirstSeenTime: pg.Time(s.now()),
	})
}
