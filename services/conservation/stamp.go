package conservation

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
)

// authority is a time-stamp authority behind its circuit breaker.
type authority struct {
	name    string
	client  *tsp.Client
	breaker *run.Breaker
}

func newAuthority(cfg TSAConfig, roots *x509.CertPool, tolerance time.Duration, breaker *run.Breaker, now func() time.Time) *authority {
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	return &authority{name: cfg.Name, breaker: breaker, client: &tsp.Client{
		URL: cfg.URL, HTTP: &http.Client{Timeout: timeout}, Roots: roots, Now: now, Skew: tolerance,
	}}
}

// stamp asks for a token over a digest. What is wrong with an answer counts against the authority
// as much as silence: the next one is asked.
func (a *authority) stamp(ctx context.Context, digest []byte) (*tsp.Token, error) {
	return a.stampHash(ctx, crypto.SHA256, digest)
}

// stampHash is stamp for a digest by another hash.
func (a *authority) stampHash(ctx context.Context, h crypto.Hash, digest []byte) (*tsp.Token, error) {
	var token *tsp.Token
	err := a.breaker.Do(ctx, func(ctx context.Context) error {
		var err error
		token, err = a.client.StampHash(ctx, h, digest)
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

// stampIndex stamps the signed index of a package. spec: DMEF-2014 art. 3 c. 2
func (s *Service) stampIndex(ctx context.Context, p db.Package) (result, error) {
	reply, at, err := s.stampDigestBy(ctx, p.SignedSha256, func(token *tsp.Token) error {
		chain, err := s.stampChain(token)
		if err != nil {
			return err
		}
		if link, _ := s.revokedNow(ctx, chain); link != nil {
			return fmt.Errorf("its issuer says that its certificate (%s) was revoked on %s", link.Subject, link.RevokedAt.UTC().Format(time.RFC3339))
		}
		return nil
	})
	if err != nil {
		return result{}, err
	}
	ref, err := s.blobs.Put(ctx, p.TenantID, reply)
	if err != nil {
		return result{}, err
	}
	return result{ref: ref, time: at}, nil
}

// stampDigest has the first authority stamp a digest that does it well. The token comes as a whole response (.tsr), the form
// that openssl ts reads.
func (s *Service) stampDigest(ctx context.Context, digest []byte) (reply []byte, at time.Time, err error) {
	return s.stampDigestBy(ctx, digest, func(*tsp.Token) error { return nil })
}

// stampDigestBy passes over authorities whose token is not admitted, and notes when none is left.
func (s *Service) stampDigestBy(ctx context.Context, digest []byte, admit func(*tsp.Token) error) (reply []byte, at time.Time, err error) {
	reply, at, err = s.askAuthorities(ctx, digest, admit)
	if err != nil && fault.Of(err).Code != "TSA_UNAVAILABLE" {
		return nil, at, err
	}
	err = s.outages.stamped(ctx, err)
	if err != nil {
		return nil, at, err
	}
	return reply, at, nil
}

func (s *Service) askAuthorities(ctx context.Context, digest []byte, admit func(*tsp.Token) error) (reply []byte, at time.Time, err error) {
	var said []string
	var last error
	for _, a := range s.stamps {
		token, err := a.stamp(ctx, digest)
		if err == nil {
			err = admit(token)
			if err != nil {
				err = fault.Unavailable("TSA_UNAVAILABLE", "%s: %v", a.name, err)
			}
		}
		if err != nil {
			said, last = append(said, fault.Of(err).Message), err
			continue
		}
		reply, err = (&tsp.Response{Status: tsp.Granted, Token: token.Raw}).Marshal()
		if err != nil {
			return nil, at, fmt.Errorf("conservation: stamp: %w", err)
		}
		return reply, token.Info.Time, nil
	}
	return nil, at, fault.Unavailable("TSA_UNAVAILABLE", "no authority stamped: %s", strings.Join(said, "; ")).With(last)
}
