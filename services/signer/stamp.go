package signer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// TSAConfig is a time-stamp authority.
type TSAConfig struct {
	// Name is for people and for the circuit breaker, tsa-<name>.
	Name string `yaml:"name"`
	// URL takes RFC 3161 requests over HTTP.
	URL string `yaml:"url"`
	// CAFile holds the certificates to trust for it, PEM.
	CAFile string `yaml:"ca_file"`
	// Timeout of one request; 10s when it is not set.
	Timeout time.Duration `yaml:"timeout"`
}

// DocumentsConfig is about signatures on whole documents.
type DocumentsConfig struct {
	// MaxSize is how many bytes the documents of one request have together at most; they are held in
	// memory while they are signed.
	MaxSize int64 `yaml:"max_size"`
	// MaxHeld is how many bytes the documents of all requests have together that are signed at the same time: others
	// wait for a few seconds, and are then told to come again. What is made of them is held beside them. max_size
	// at least.
	MaxHeld int64 `yaml:"max_held"`
	// StampsPerMonth is how many time-stamps a tenant may have in a month, where UpdateStampQuota has
	// not said otherwise.
	StampsPerMonth int32 `yaml:"stamps_per_month"`
}

func (c *Config) validateStamps(bad func(when bool, path, format string, a ...any)) {
	seen := map[string]bool{}
	for i, t := range c.TSA {
		path := fmt.Sprintf("tsa[%d]", i)
		bad(t.Name == "" || seen[t.Name], path+".name", "must be there, and another for each authority")
		seen[t.Name] = true
		u, err := url.Parse(t.URL)
		bad(err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"), path+".url", "%q is no http(s) address", t.URL)
		bad(t.CAFile == "", path+".ca_file", "is missing: a time-stamp is worth what its authority is")
		bad(t.Timeout < 0 || t.Timeout > time.Minute, path+".timeout", "must be between 0s and 1m")
	}
	bad(c.Documents.MaxSize < 1<<10 || c.Documents.MaxSize > 1<<30, "documents.max_size", "must be between 1024 and 1073741824 bytes")
	bad(c.Documents.MaxHeld < 0, "documents.max_held", "cannot be negative")
	bad(c.Documents.StampsPerMonth < 0, "documents.stamps_per_month", "cannot be negative")
}

// authority is a time-stamp authority behind its circuit breaker.
type authority struct {
	name    string
	client  *tsp.Client
	breaker *run.Breaker
}

func openAuthorities(list []TSAConfig, h *run.Host) ([]*authority, error) {
	var out []*authority
	for i, t := range list {
		raw, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, run.BadField(fmt.Sprintf("tsa[%d].ca_file", i), "cannot be read: %v", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(raw) {
			return nil, run.BadField(fmt.Sprintf("tsa[%d].ca_file", i), "%s holds no PEM certificate", t.CAFile)
		}
		timeout := t.Timeout
		if timeout == 0 {
			timeout = 10 * time.Second
		}
		out = append(out, &authority{name: t.Name, breaker: h.Breaker("tsa-" + t.Name), client: &tsp.Client{
			URL: t.URL, HTTP: &http.Client{Timeout: timeout}, Roots: roots, Now: h.Now,
		}})
	}
	return out, nil
}

// stamp asks for a token over a digest. What is wrong with an answer counts against the authority as
// much as silence: the next one is asked.
func (a *authority) stamp(ctx context.Context, digest []byte, nonce *big.Int) (*tsp.Token, error) {
	var token *tsp.Token
	err := a.breaker.Do(ctx, func(ctx context.Context) error {
		var err error
		token, err = a.client.StampNonce(ctx, digest, nonce)
		var refused *tsp.RefusedError
		switch {
		case err == nil || errors.Is(err, context.Canceled):
			return err
		case errors.As(err, &refused) && !refused.Temporary():
			return fault.Precondition("TSA_REFUSED", "%s refuses to stamp: %v", a.name, refused).With(err)
		}
		return fault.Unavailable("TSA_UNAVAILABLE", "%s gave no good stamp: %v", a.name, err).With(err)
	})
	return token, err
}

func noAuthorities() error {
	return fault.Precondition("TSA_NOT_CONFIGURED", "this installation has no time-stamp authority: set signer.tsa, or do without timestamp")
}

// stamper stamps for a tenant, by its quota.
func (s *Service) stamper(tenant string) cades.Stamp {
	return func(ctx context.Context, digest []byte) ([]byte, error) {
		token, _, err := s.stampFor(ctx, tenant, digest)
		if err != nil {
			return nil, err
		}
		return token.Raw, nil
	}
}

// stampFor counts a stamp and has the first authority that does it well make it. What none made is
// given back.
func (s *Service) stampFor(ctx context.Context, tenant string, digest []byte) (*tsp.Token, string, error) {
	return s.stampWith(ctx, tenant, digest, nil)
}

// stampWith is stampFor with a nonce that the caller has chosen; nil: one is made.
func (s *Service) stampWith(ctx context.Context, tenant string, digest []byte, nonce *big.Int) (*tsp.Token, string, error) {
	if len(s.stamps) == 0 {
		return nil, "", noAuthorities()
	}
	month := s.now().UTC().Format("2006-01")
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).TakeStamps(ctx, db.TakeStampsParams{TenantID: tenant, Month: month, Stamps: 1, Standard: s.cfg.Documents.StampsPerMonth})
		if err != nil {
			return fmt.Errorf("signer: count time-stamps: %w", err)
		}
		if n == 0 {
			return fault.Precondition("STAMP_QUOTA_USED", "tenants/%s has used all its time-stamps of %s: wait for the next month, or ask for a larger quota", tenant, month)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	var said []string
	var last error
	for _, a := range s.stamps {
		token, err := a.stamp(ctx, digest, nonce)
		if err == nil {
			return token, a.name, nil
		}
		said, last = append(said, fault.Of(err).Message), err
		if ctx.Err() != nil {
			break
		}
	}
	// The caller may be gone: the quota is his all the same.
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Vault.Timeout)
	defer cancel()
	err = s.db.Tx(back, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).GiveStampsBack(ctx, db.GiveStampsBackParams{TenantID: tenant, Month: month, Stamps: 1})
	})
	return nil, "", fault.Unavailable("TSA_UNAVAILABLE", "no authority stamped: %s", strings.Join(said, "; ")).With(errors.Join(last, err))
}

// CreateTimestamp stamps a digest.
func (s *Service) CreateTimestamp(ctx context.Context, req *signv1.CreateTimestampRequest) (*signv1.CreateTimestampResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	token, by, err := s.stampFor(ctx, ids[0], req.GetSha256())
	if err != nil {
		return nil, err
	}
	tsr, err := (&tsp.Response{Status: tsp.Granted, Token: token.Raw}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("signer: time-stamp: %w", err)
	}
	return &signv1.CreateTimestampResponse{Tsr: tsr, Time: timestamppb.New(token.Info.Time), Authority: by}, nil
}

// GetStampQuota says what a tenant may use in a month, and has used in this one.
func (s *Service) GetStampQuota(ctx context.Context, req *signv1.GetStampQuotaRequest) (*signv1.StampQuota, error) {
	tenant, err := quotaOwner(req.GetName())
	if err != nil {
		return nil, err
	}
	return s.stampQuota(ctx, tenant)
}

func quotaOwner(name string) (string, error) {
	tenant, ok := strings.CutSuffix(name, "/stampQuota")
	ids, whole := cut(tenant, "tenants")
	if !ok || !whole {
		return "", fault.Invalid("NAME_INVALID", "name: %q is not tenants/{tenant}/stampQuota", name)
	}
	return ids[0], nil
}

func (s *Service) stampQuota(ctx context.Context, tenant string) (*signv1.StampQuota, error) {
	month := s.now().UTC().Format("2006-01")
	var row db.GetStampUseRow
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).GetStampUse(ctx, db.GetStampUseParams{TenantID: tenant, Month: month, Standard: s.cfg.Documents.StampsPerMonth})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("signer: read quota: %w", err)
	}
	return &signv1.StampQuota{Name: "tenants/" + tenant + "/stampQuota", PerMonth: row.PerMonth, Used: row.Used, Month: month}, nil
}

// UpdateStampQuota sets what a tenant may use in a month.
func (s *Service) UpdateStampQuota(ctx context.Context, req *signv1.UpdateStampQuotaRequest) (*signv1.StampQuota, error) {
	q := req.GetStampQuota()
	tenant, err := quotaOwner(q.GetName())
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).SetStampQuota(ctx, db.SetStampQuotaParams{TenantID: tenant, PerMonth: q.GetPerMonth()})
		if err != nil {
			return fmt.Errorf("signer: set quota: %w", err)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "stamp_quota.set", Resource: q.GetName(), Detail: map[string]string{"per_month": fmt.Sprint(q.GetPerMonth())},
		})
	})
	if err != nil {
		return nil, err
	}
	return s.stampQuota(ctx, tenant)
}
