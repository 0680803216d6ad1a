package pecgateway

import (
	"bytes"
	"context"
	"crypto/sha1" // the index of providers names certificates so. spec: RFC6109 §5.6
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// certificates reads PEM. Faults: Invalid CERTIFICATE_INVALID.
func certificates(field, text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		block, more := pem.Decode(rest)
		if block == nil {
			if strings.TrimSpace(string(rest)) != "" {
				return nil, fault.Invalid("CERTIFICATE_INVALID", "%s: there is something that is no PEM certificate", field).WithField(field, "CERTIFICATE_INVALID", "is no PEM")
			}
			return out, nil
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.Invalid("CERTIFICATE_INVALID", "%s: certificate %d cannot be read: %v", field, len(out)+1, err).WithField(field, "CERTIFICATE_INVALID", "cannot be read")
		}
		out, rest = append(out, cert), more
	}
}

// ImportTrustList adds what an index of providers and authorities say. Providers are matched by name;
// certificates and domains are added to those known, so that a renewal keeps the earlier ones: old
// receipts stay true. Faults: Invalid INDEX_INVALID, CERTIFICATE_INVALID.
func (s *Service) ImportTrustList(ctx context.Context, req *pecv1.ImportTrustListRequest) (*pecv1.ImportTrustListResponse, error) {
	entries, err := s.readIndex(req)
	if err != nil {
		return nil, err
	}
	authorities, err := certificates("authorities_pem", req.GetAuthoritiesPem())
	if err != nil {
		return nil, err
	}
	revoked, err := revocationLists(req.GetRevocationLists())
	if err != nil {
		return nil, err
	}
	out := &pecv1.ImportTrustListResponse{}
	err = s.changeTrust(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, cert := range authorities {
			n, err := q(tx).InsertAuthority(ctx, db.InsertAuthorityParams{Sha256: fingerprint(cert), Certificate: cert.Raw,
				Subject: trim(cert.Subject.String(), 1000), CreateTime: pg.Time(s.now())})
			if err != nil {
				return err
			}
			out.AuthoritiesAdded += int32(n)
		}
		for _, e := range entries {
			added, changed, err := s.mergeProvider(ctx, tx, providerRow(e))
			if err != nil {
				return err
			}
			out.ProvidersAdded, out.ProvidersChanged = out.ProvidersAdded+count(added), out.ProvidersChanged+count(changed)
		}
		err = s.compareIndex(ctx, tx, entries, out)
		if err != nil {
			return err
		}
		out.RevocationListsAdded, err = s.keepRevocationLists(ctx, tx, revoked)
		if err != nil {
			return err
		}
		version, err := s.trustChanged(ctx, tx, importText(out))
		out.Version = strconv.FormatInt(version, 10)
		return err
	})
	return out, err
}

func count(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// readIndex reads the LDIF, taken out of its signature when it has one.
func (s *Service) readIndex(req *pecv1.ImportTrustListRequest) ([]pec.IndiceEntry, error) {
	index := req.GetIndex()
	if len(index) == 0 {
		return nil, nil
	}
	bad := func(err error) error {
		return fault.Invalid("INDEX_INVALID", "index: %v", err).WithField("index", "INDEX_INVALID", "cannot be read or is not signed by the authority given")
	}
	if index[0] != 0x30 && !bytes.HasPrefix(index, []byte("-----BEGIN")) { // no CMS, DER or PEM
		entries, err := pec.ParseIndice(index)
		if err != nil {
			return nil, bad(err)
		}
		return entries, nil
	}
	roots := x509.NewCertPool()
	list, err := certificates("index_authority_pem", req.GetIndexAuthorityPem())
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.Invalid("AUTHORITY_REQUIRED", "index_authority_pem: a signed index is believed only under the authority that you give").
			WithField("index_authority_pem", "AUTHORITY_REQUIRED", "is empty")
	}
	for _, c := range list {
		roots.AddCert(c)
	}
	entries, err := pec.OpenIndice(index, roots, s.now())
	if err != nil {
		return nil, bad(err)
	}
	return entries, nil
}

// providerRow is an entry of the index as a row. Certificates in it are kept by both hashes.
func providerRow(e pec.IndiceEntry) db.TrustProvider {
	row := db.TrustProvider{Name: strings.Join(strings.Fields(e.Name), " ")}
	for _, d := range e.Domains {
		row.Domains = append(row.Domains, strings.ToLower(strings.TrimSpace(d)))
	}
	for _, h := range e.Hashes {
		row.Sha1 = append(row.Sha1, strings.ToLower(strings.TrimSpace(h)))
	}
	for _, c := range e.Certificates {
		short := sha1.Sum(c.Raw)
		row.Sha256, row.Sha1 = append(row.Sha256, fingerprint(c)), append(row.Sha1, hex.EncodeToString(short[:]))
	}
	return row
}

// mergeProvider adds to a provider, or makes it.
func (s *Service) mergeProvider(ctx context.Context, tx pgx.Tx, in db.TrustProvider) (added, changed bool, err error) {
	have, err := q(tx).GetProvider(ctx, in.Name)
	added = errors.Is(err, pgx.ErrNoRows)
	if err != nil && !added {
		return false, false, err
	}
	next := db.PutProviderParams{Name: in.Name, Signers: union(have.Signers, in.Signers), Domains: union(have.Domains, in.Domains),
		Sha256: union(have.Sha256, in.Sha256), Sha1: union(have.Sha1, in.Sha1), UpdateTime: pg.Time(s.now())}
	changed = !added && (len(next.Signers) != len(have.Signers) || len(next.Domains) != len(have.Domains) ||
		len(next.Sha256) != len(have.Sha256) || len(next.Sha1) != len(have.Sha1))
	if !added && !changed {
		return false, false, nil
	}
	return added, changed, q(tx).PutProvider(ctx, next)
}

func union(a, b []string) []string {
	out := append([]string{}, a...)
	for _, v := range b {
		if v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// trustChanged numbers the change and records who made it.
func (s *Service) trustChanged(ctx context.Context, tx pgx.Tx, change string) (int64, error) {
	err := q(tx).InsertTrustChange(ctx, db.InsertTrustChangeParams{Change: trim(change, 1000), ChangeTime: pg.Time(s.now())})
	if err != nil {
		return 0, err
	}
	version, err := q(tx).TrustVersion(ctx)
	if err != nil {
		return 0, err
	}
	return version, telemetry.Audit(ctx, tx, telemetry.Act{Action: "pectrust.change", Resource: fmt.Sprintf("pecTrustList/%d", version), Detail: map[string]string{"change": change}})
}

// ListTrustedProviders shows the list.
func (s *Service) ListTrustedProviders(ctx context.Context, req *pecv1.ListTrustedProvidersRequest) (*pecv1.ListTrustedProvidersResponse, error) {
	out := &pecv1.ListTrustedProvidersResponse{}
	filter := pg.FilterHash("pecProviders")
	var after string
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &after)
	if err != nil {
		return nil, err
	}
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		version, err := q(tx).TrustVersion(ctx)
		if err != nil {
			return err
		}
		out.Version = strconv.FormatInt(version, 10)
		rows, err := q(tx).ListProviders(ctx) // some tens
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r db.TrustProvider) bool { return after != "" && r.Name <= after })
		rows, out.NextPageToken, err = pg.Page(rows, int(pageSize(req.GetPageSize())), filter, func(r db.TrustProvider) []any { return []any{r.Name} })
		if err != nil {
			return err
		}
		standing, err := withdrawals(ctx, tx)
		if err != nil {
			return err
		}
		for _, r := range rows {
			p := &pecv1.TrustedProvider{DisplayName: r.Name, Signers: r.Signers, Domains: r.Domains, CertificatesSha256: r.Sha256,
				CertificatesSha1: r.Sha1, UpdateTime: timestamppb.New(r.UpdateTime), AbsentSince: stamp(r.AbsentSince)}
			for _, w := range standing[r.Name] {
				p.Withdrawn = append(p.Withdrawn, showWithdrawn(w))
			}
			out.Providers = append(out.Providers, p)
		}
		authorities, err := q(tx).ListAuthorities(ctx)
		for _, a := range authorities {
			out.Authorities = append(out.Authorities, a.Subject)
		}
		return err
	})
	return out, err
}

// ListSeenCertificates shows what waits for a decision, and what was decided.
func (s *Service) ListSeenCertificates(ctx context.Context, req *pecv1.ListSeenCertificatesRequest) (*pecv1.ListSeenCertificatesResponse, error) {
	filter := pg.FilterHash("seenCertificates", req.GetState().String())
	var last string
	found, err := pg.DecodePageToken(req.GetPageToken(), filter, &last)
	if err != nil {
		return nil, err
	}
	var after *string
	if found {
		after = &last
	}
	size := pageSize(req.GetPageSize())
	out := &pecv1.ListSeenCertificatesResponse{}
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListSeen(ctx, db.ListSeenParams{State: int16(req.GetState()), After: after, PageSize: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.SeenCertificate) []any { return []any{r.Sha256} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			out.Certificates = append(out.Certificates, showSeen(r))
		}
		return err
	})
	return out, err
}

func showSeen(r db.SeenCertificate) *pecv1.SeenCertificate {
	return &pecv1.SeenCertificate{
		Sha256: r.Sha256, Subject: r.Subject, Issuer: r.Issuer, Addresses: r.Addresses, NotBefore: timestamppb.New(r.NotBefore),
		NotAfter: timestamppb.New(r.NotAfter), FirstSeenTime: timestamppb.New(r.FirstSeenTime), State: pecv1.SeenCertificateState(r.State),
		CertificatePem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})),
		Messages:       r.Messages, Provider: r.Provider, DecidedBy: r.DecidedBy,
	}
}

// DecideSeenCertificate is the decision of a person about a certificate seen for the first time. Messages
// received before keep their reports; ReadMessageAgain judges one anew. Faults: NotFound
// CERTIFICATE_NOT_SEEN; Precondition CERTIFICATE_DECIDED; Invalid PROVIDER_REQUIRED.
func (s *Service) DecideSeenCertificate(ctx context.Context, req *pecv1.DecideSeenCertificateRequest) (*pecv1.SeenCertificate, error) {
	provider := strings.Join(strings.Fields(req.GetProvider()), " ")
	if req.GetApprove() && provider == "" {
		return nil, fault.Invalid("PROVIDER_REQUIRED", "provider: name the provider that the certificate belongs to").WithField("provider", "PROVIDER_REQUIRED", "is empty")
	}
	var out *pecv1.SeenCertificate
	err := s.changeTrust(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockSeen(ctx, req.GetSha256())
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.NotFound("CERTIFICATE_NOT_SEEN", "no message was signed with certificate %s", req.GetSha256())
		}
		if err != nil {
			return err
		}
		if row.State != int16(pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_PENDING) {
			return fault.Precondition("CERTIFICATE_DECIDED", "about certificate %s %s decided already", row.Sha256, row.DecidedBy)
		}
		row.State, row.DecidedBy = int16(pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_REFUSED), telemetry.Actor(ctx)
		act := "certificate refused: " + row.Sha256
		if req.GetApprove() {
			row.State, row.Provider = int16(pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_APPROVED), provider
			act = "certificate approved for " + provider + ": " + row.Sha256
			_, _, err = s.mergeProvider(ctx, tx, db.TrustProvider{Name: provider, Signers: nil, Sha256: []string{row.Sha256}})
			if err != nil {
				return err
			}
		}
		now := pg.Time(s.now())
		err = q(tx).DecideSeen(ctx, db.DecideSeenParams{Sha256: row.Sha256, State: row.State, Provider: row.Provider, DecidedBy: row.DecidedBy,
			DecideTime: &now, Reason: trim(req.GetReason(), 1000)})
		if err != nil {
			return err
		}
		out = showSeen(row)
		_, err = s.trustChanged(ctx, tx, act+" ("+req.GetReason()+")")
		return err
	})
	return out, err
}
