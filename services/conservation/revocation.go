package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/ocsp"
	"golang.org/x/sync/singleflight"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/revocation"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/guard"
	"ceralacca.dev/services/internal/pg"
)

// RevocationConfig says how it is asked whether the certificates of signatures and time stamps were revoked when a package was sealed.
type RevocationConfig struct {
	// Fetch is whether the issuers are asked, where the certificates say: for their lists, or else by OCSP. What cannot be had is noted
	// in the package and holds nothing up.
	Fetch bool `yaml:"fetch"`
	// Timeout is for all the questions of one signature or one time stamp together.
	Timeout time.Duration `yaml:"timeout"`
	// Reuse is for how long an answer serves all signatures and stamps, and never past its own end. A revocation that the issuer tells of
	// meanwhile is heard so much later. 0s asks every time.
	Reuse time.Duration `yaml:"reuse"`
	// MaxList is the largest list in bytes. It goes into each package.
	MaxList int64 `yaml:"max_list"`
	// AllowNetworks are networks (CIDR) that may be called although they are not public.
	AllowNetworks []string `yaml:"allow_networks"`
}

func defaultRevocation() RevocationConfig {
	return RevocationConfig{Fetch: true, Timeout: 10 * time.Second, Reuse: 10 * time.Minute, MaxList: 4 << 20}
}

func (c RevocationConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.Timeout < 10*time.Millisecond || c.Timeout > time.Minute, "revocation.timeout", "must be between 10ms and 1m")
	bad(c.Reuse < 0 || c.Reuse > 24*time.Hour, "revocation.reuse", "must be between 0s and 24h")
	bad(c.MaxList < 1<<10 || c.MaxList > mostList, "revocation.max_list", "must be between 1024 and 67108864 bytes")
	_, err := guard.New(c.AllowNetworks)
	bad(err != nil, "revocation.allow_networks", "%v", err)
}

const (
	codeCredentialRevoked = "CREDENTIAL_REVOKED"

	revocationPoints = 4        // asked of one certificate, of each kind
	revocationOCSP   = 64 << 10 // of one answer
	revocationHeard  = 16       // answers are remembered at most: a platform has a credential and a few authorities
)

// Names of the tag files, which the manifest of tag files covers and the index cannot name: it is signed before they are fetched.
const (
	revocationDir  = "revocation/"
	revocationNote = revocationDir + "revocation.json"
	// With the endings of package revocation.
	revocationOfSignature = "PIndex.xml.p7m"
	revocationOfStamp     = "PIndex.xml.p7m.tsr"
)

// revocations is what was asked when a package was sealed.
type revocations struct {
	Asked     time.Time       `json:"asked"`
	Signature revocation.Said `json:"signature"`
	Stamp     revocation.Said `json:"time_stamp"`
}

// tags are the files of the bag. The note says what was asked and what is lacking, without the lists.
func (r revocations) tags() (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, said := range map[string]revocation.Said{revocationOfSignature: r.Signature, revocationOfStamp: r.Stamp} {
		for ending, content := range said.Files() {
			files[revocationDir+name+ending] = content
		}
	}
	note := revocations{Asked: r.Asked, Signature: revocation.Said{Lacks: r.Signature.Lacks}, Stamp: revocation.Said{Lacks: r.Stamp.Lacks}}
	raw, err := json.Marshal(note)
	if err != nil {
		return nil, fmt.Errorf("conservation: %s: %w", revocationNote, err)
	}
	files[revocationNote] = append(raw, '\n')
	return files, nil
}

// issuers fetches what issuers say of their certificates, each list and each answer once while it may be reused, whoever asks.
type issuers struct {
	cfg  RevocationConfig
	http *http.Client
	now  func() time.Time

	flight singleflight.Group
	mu     sync.Mutex
	said   map[string]heard // by what was asked
}

// heard is an answer of an issuer.
type heard struct {
	raw       []byte
	at, until time.Time // when it was asked for, and until when it may be reused
}

func newIssuers(cfg RevocationConfig, now func() time.Time) (*issuers, error) {
	reach, err := guard.New(cfg.AllowNetworks)
	if err != nil {
		return nil, err
	}
	return &issuers{cfg: cfg, http: reach.Client(cfg.Timeout), now: now, said: map[string]heard{}}, nil
}

// chain asks of each certificate of a chain but its root. Nothing that goes wrong is an error: it is said what is lacking. at is when the
// oldest of the answers was asked for, and zero when there are none.
func (a *issuers) chain(ctx context.Context, chain []*x509.Certificate) (said revocation.Said, at time.Time) {
	if !a.cfg.Fetch {
		said.Lacks = []string{"issuers are not asked: conservation.revocation.fetch is off"}
		return said, at
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	for i, cert := range chain {
		if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			break // a root: it is trusted or not
		}
		if i+1 == len(chain) {
			said.Lacks = append(said.Lacks, fmt.Sprintf("%s: the certificate of its issuer is not known", cert.Subject))
			break
		}
		asked, err := a.one(ctx, cert, chain[i+1], i > 0 && len(said.CRLs) == 0, &said)
		switch {
		case err != nil:
			said.Lacks = append(said.Lacks, fmt.Sprintf("%s: %v", cert.Subject, err))
		case at.IsZero() || asked.Before(at):
			at = asked
		}
	}
	return said, at
}

// one asks of a certificate: for the list first, which other programs can read too, then the responder. An issuer's list is of no use
// to them without one of the signer's own certificate.
func (a *issuers) one(ctx context.Context, cert, issuer *x509.Certificate, respondersOnly bool, said *revocation.Said) (at time.Time, err error) {
	var errs []error
	points := cert.CRLDistributionPoints[:min(len(cert.CRLDistributionPoints), revocationPoints)]
	if respondersOnly {
		points = nil
	}
	for _, from := range points {
		h, err := a.list(ctx, from, issuer)
		var list *x509.RevocationList
		if err == nil {
			list, err = validation.ParseCRL(h.raw)
		}
		if err == nil {
			err = a.tells(validation.Evidence{CRLs: []*x509.RevocationList{list}}, cert, issuer)
		}
		if err == nil {
			said.CRLs = append(said.CRLs, list.Raw)
			return h.at, nil
		}
		errs = append(errs, fmt.Errorf("list: %w", err))
	}
	for _, from := range cert.OCSPServer[:min(len(cert.OCSPServer), revocationPoints)] {
		h, err := a.answer(ctx, from, cert, issuer)
		if err == nil {
			err = a.tells(validation.Evidence{OCSPs: [][]byte{h.raw}}, cert, issuer)
		}
		if err == nil {
			said.OCSPs = append(said.OCSPs, h.raw)
			return h.at, nil
		}
		errs = append(errs, fmt.Errorf("OCSP: %w", err))
	}
	if len(errs) == 0 {
		return at, errors.New("it names no list and no responder")
	}
	return at, errors.Join(errs...)
}

// list is an issuer's list, with its signature.
func (a *issuers) list(ctx context.Context, from string, issuer *x509.Certificate) (heard, error) {
	return a.once(ctx, fmt.Sprintf("list %x %s", sha256.Sum256(issuer.Raw), from), func(ctx context.Context) ([]byte, time.Time, error) {
		raw, err := a.fetch(ctx, http.MethodGet, from, nil, a.cfg.MaxList)
		if err != nil {
			return nil, time.Time{}, err
		}
		list, err := validation.ParseCRL(raw)
		if err == nil {
			err = list.CheckSignatureFrom(issuer)
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		return list.Raw, list.NextUpdate, nil
	})
}

// answer is what a responder says of a certificate.
func (a *issuers) answer(ctx context.Context, from string, cert, issuer *x509.Certificate) (heard, error) {
	return a.once(ctx, fmt.Sprintf("answer %x %x %s", sha256.Sum256(cert.Raw), sha256.Sum256(issuer.Raw), from), func(ctx context.Context) ([]byte, time.Time, error) {
		question, err := ocsp.CreateRequest(cert, issuer, nil)
		if err != nil {
			return nil, time.Time{}, err
		}
		raw, err := a.fetch(ctx, http.MethodPost, from, question, revocationOCSP)
		if err != nil {
			return nil, time.Time{}, err
		}
		answer, err := ocsp.ParseResponseForCert(raw, cert, issuer)
		if err != nil {
			return nil, time.Time{}, err
		}
		return raw, answer.NextUpdate, nil
	})
}

// once asks, or gives what was heard when it may be reused; who asks the same at the same time is told the same. What went wrong is not
// remembered. What does not say when it ends is not reused.
func (a *issuers) once(ctx context.Context, question string, ask func(context.Context) (raw []byte, ends time.Time, err error)) (heard, error) {
	a.mu.Lock()
	h, ok := a.said[question]
	a.mu.Unlock()
	if now := a.now(); ok && now.Before(h.until) && !now.Before(h.at) { // a clock that was put back knows nothing of ends
		return h, nil
	}
	result := a.flight.DoChan(question, func() (any, error) {
		// Detached: the first asker going away must not fail the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timeout)
		defer cancel()
		h := heard{at: a.now()}
		var ends time.Time
		var err error
		h.raw, ends, err = ask(ctx)
		if err != nil {
			return heard{}, err
		}
		h.until = h.at.Add(a.cfg.Reuse)
		if ends.Before(h.until) {
			h.until = ends
		}
		a.remember(question, h)
		return h, nil
	})
	select {
	case <-ctx.Done():
		return heard{}, ctx.Err()
	case r := <-result:
		h, _ := r.Val.(heard)
		return h, r.Err
	}
}

// remember keeps what may be reused, and of too many answers those that last the longest.
func (a *issuers) remember(question string, h heard) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	a.said[question] = h
	maps.DeleteFunc(a.said, func(_ string, h heard) bool { return !now.Before(h.until) })
	for len(a.said) > revocationHeard {
		first := question
		for q, h := range a.said {
			if h.until.Before(a.said[first].until) {
				first = q
			}
		}
		delete(a.said, first)
	}
}

// tells refuses what says nothing of a certificate now: a list or an answer that was to be replaced by a newer one, as a server that nobody
// tends goes on giving out, or a list of other certificates. Kept, it would be in the way of whoever does say something, and programs that
// look at no times would take it for a good word.
func (a *issuers) tells(e validation.Evidence, cert, issuer *x509.Certificate) error {
	if now := a.now(); e.About(cert, issuer, now).Revocation == validation.StateUnknown {
		return fmt.Errorf("at %s it says nothing of this certificate: it is too old, or of others", now.UTC().Format(time.RFC3339))
	}
	return nil
}

func (a *issuers) fetch(ctx context.Context, method, at string, body []byte, limit int64) ([]byte, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("%.200q is no address that is called", at)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/ocsp-request")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", u.Host, resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s: it is larger than %d bytes", u.Host, limit)
	}
	return raw, err
}

// signerChain is whose signature a p7m bears.
func (s *Service) signerChain(p7m []byte, at time.Time) ([]*x509.Certificate, error) {
	sd, report, err := cades.Verify(p7m, cades.VerifyOptions{})
	if err != nil {
		return nil, err
	}
	if len(report.Signers) == 0 || report.Signers[0].Certificate == nil {
		return nil, errors.New("the certificate of the signature is not in it")
	}
	return revocation.Chain(report.Signers[0].Certificate, sd.Certificates, s.credentialRoots, at), nil
}

// stampChain is whose a time stamp is.
func (s *Service) stampChain(token *tsp.Token) ([]*x509.Certificate, error) {
	report := cades.Judge(token.Signed, cades.VerifyOptions{})
	if len(report.Signers) == 0 || report.Signers[0].Certificate == nil {
		return nil, errors.New("the certificate of the time stamp is not in it")
	}
	return revocation.Chain(report.Signers[0].Certificate, token.Signed.Certificates, s.roots, token.Info.Time), nil
}

// askRevocation asks once when a package was stamped, and keeps what was said: each attempt to write the archive takes the same.
func (s *Service) askRevocation(ctx context.Context, p db.Package) (*revocations, error) {
	kept, err := s.keptRevocation(ctx, p)
	if kept != nil || err != nil {
		return kept, err
	}
	signed, err := s.blobs.Get(ctx, refOf(p.TenantID, p.SignedSha256, p.SignedSize))
	if err != nil {
		return nil, err
	}
	stamp, err := s.blobs.Get(ctx, refOf(p.TenantID, p.StampSha256, p.StampSize))
	if err != nil {
		return nil, err
	}
	r := revocations{Asked: pg.Time(s.now()).UTC()}
	chain, err := s.signerChain(signed, *p.StampTime)
	if err != nil {
		return nil, fault.Internal("SIGNATURE_NOT_VERIFIED", "package %s: %v", p.ID, err)
	}
	var heard [2]time.Time
	r.Signature, heard[0] = s.issuers.chain(ctx, chain)
	token, err := tsp.ParseToken(stamp)
	if err == nil {
		chain, err = s.stampChain(token)
	}
	if err != nil {
		return nil, fault.Internal("STAMP_NOT_VERIFIED", "package %s: %v", p.ID, err)
	}
	r.Stamp, heard[1] = s.issuers.chain(ctx, chain)
	for _, at := range heard { // of what was asked for before, then
		if at = pg.Time(at).UTC(); !at.IsZero() && at.Before(r.Asked) {
			r.Asked = at
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	err = s.keepRevocation(ctx, p, r)
	if err != nil {
		return nil, err
	}
	return s.keptRevocation(ctx, p) // of two that ask at once the first
}

// keepRevocation keeps what was said of a package's certificates, unless something is kept.
func (s *Service) keepRevocation(ctx context.Context, p db.Package, r revocations) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("conservation: revocation: %w", err)
	}
	ref, err := s.blobs.Put(ctx, p.TenantID, raw)
	if err != nil {
		return err
	}
	err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).KeepRevocation(ctx, db.KeepRevocationParams{Package: p.ID, TenantID: p.TenantID, Sha256: ref.SHA256[:], Size: ref.Size, At: r.Asked})
	})
	if err != nil {
		return fmt.Errorf("conservation: revocation: %w", err)
	}
	return nil
}

// revocationAgain keeps what a package that is restored brings of it; packages up to layout 3 bring nothing.
func (s *Service) revocationAgain(ctx context.Context, file io.ReaderAt, size int64, p db.Package, f *findings) error {
	r, err := revocationIn(file, size, p.ID.String()+"/"+revocationDir)
	if err != nil {
		f.bad(packageName(p.TenantID, p.ID), "what issuers said of its certificates cannot be read: %v", err)
		return nil
	}
	if r == nil {
		return nil
	}
	return s.keepRevocation(ctx, p, *r)
}

// mostList is the most that max_list may be, in bytes: no file of them in a package is larger.
const mostList = 64 << 20

// revocationIn reads it from the tag files of a package; nil: it has none.
func revocationIn(file io.ReaderAt, size int64, dir string) (*revocations, error) {
	z, err := zip.NewReader(file, size)
	if err != nil {
		return nil, fmt.Errorf("no readable ZIP: %w", err)
	}
	files := map[string][]byte{}
	for _, e := range z.File {
		name, ok := strings.CutPrefix(e.Name, dir)
		if !ok {
			continue
		}
		files[revocationDir+name], err = readEntry(e, mostList)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	note, ok := files[revocationNote]
	if !ok {
		return nil, nil //nolint:nilnil // nobody was asked
	}
	r := &revocations{}
	err = json.Unmarshal(note, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", revocationNote, err)
	}
	for name, to := range map[string]*revocation.Said{revocationOfSignature: &r.Signature, revocationOfStamp: &r.Stamp} {
		said, err := revocation.Parse(files[revocationDir+name+revocation.Lists], files[revocationDir+name+revocation.Answers])
		if err != nil {
			return nil, fmt.Errorf("%s%s: %w", revocationDir, name, err)
		}
		to.CRLs, to.OCSPs = said.CRLs, said.OCSPs
	}
	return r, nil
}

// keptRevocation is what was said when a package was sealed; nil: nobody was asked, as before layout 4.
func (s *Service) keptRevocation(ctx context.Context, p db.Package) (*revocations, error) {
	var row db.RevocationOfRow
	err := s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).RevocationOf(ctx, p.ID)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // nobody was asked
	}
	if err != nil {
		return nil, fmt.Errorf("conservation: revocation: %w", err)
	}
	raw, err := s.blobs.Get(ctx, blob.Ref{Tenant: p.TenantID, SHA256: [32]byte(row.Sha256), Size: row.Size})
	if err != nil {
		return nil, err
	}
	r := &revocations{}
	err = json.Unmarshal(raw, r)
	if err != nil {
		return nil, fmt.Errorf("conservation: revocation of package %s: %w", p.ID, err)
	}
	return r, nil
}

// revocation judges the certificates of a signature or a stamp by what the package brings, for a time.
func (j *judge) revocation(what, name string, at time.Time, chain func() ([]*x509.Certificate, error)) {
	lists, answers := j.kept[revocationDir+name+revocation.Lists], j.kept[revocationDir+name+revocation.Answers]
	if lists == nil && answers == nil {
		return // nobody said anything: the note in the package says why
	}
	certs, err := chain()
	if err != nil {
		return // said by who judges the signature
	}
	if _, problem := revocation.Beside(lists, answers, certs, at); problem != "" {
		j.bad("the certificates of the %s: %s", what, problem)
	}
}
