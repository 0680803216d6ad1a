package online

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/validation"
)

const (
	// longest is how long anything is remembered, whatever it says of itself: a revocation must show.
	longest = 12 * time.Hour
	// shortest is for a response that says nothing of its own end.
	shortest = time.Minute
	// again is how long an address that failed is left alone.
	again = 30 * time.Second
)

// Ask gives the judge of one file its source of revocation data: the responder first, then the
// lists. At most fetches go out for it, whatever the file holds. spec: RFC6960 §4.1; RFC5280 §4.2.1.13
func (c *Client) Ask(fetches int64) validation.Ask {
	var left atomic.Int64
	left.Store(fetches)
	return func(ctx context.Context, cert, issuer *x509.Certificate) (validation.Evidence, error) {
		spend := func() error {
			if left.Add(-1) < 0 {
				return fmt.Errorf("the file makes more than %d questions necessary", fetches)
			}
			return nil
		}
		var errs []error
		for _, address := range first(cert.OCSPServer) {
			raw, err := c.response(ctx, address, cert, issuer, spend)
			if err == nil {
				return validation.Evidence{OCSPs: [][]byte{raw}}, nil
			}
			errs = append(errs, fmt.Errorf("OCSP: %w", err))
		}
		for _, address := range first(cert.CRLDistributionPoints) {
			list, err := c.list(ctx, address, issuer, spend)
			if err == nil {
				return validation.Evidence{CRLs: []*x509.RevocationList{list}}, nil
			}
			errs = append(errs, fmt.Errorf("CRL: %w", err))
		}
		if len(errs) == 0 {
			return validation.Evidence{}, errors.New("the certificate names no OCSP responder and no revocation list")
		}
		return validation.Evidence{}, errors.Join(errs...)
	}
}

func first(addresses []string) []string { return addresses[:min(len(addresses), maxAddresses)] }

// remembered gives what the cache holds under key, or makes it; several who ask at the same time
// wait for one fetch. An error is remembered too, for a moment.
func remembered[T any](ctx context.Context, c *Client, key string, fetch func(context.Context) (T, int, time.Time, error), spend func() error) (T, error) {
	var none T
	if v, ok := c.cache.get(key); ok {
		if err, failed := v.(error); failed {
			return none, err
		}
		return v.(T), nil
	}
	if err := spend(); err != nil {
		return none, err
	}
	done := c.flight.DoChan(key, func() (any, error) {
		// Not the caller's end: others wait for the same answer. The fetch has its own.
		v, size, expires, err := fetch(context.WithoutCancel(ctx))
		if err != nil {
			c.cache.put(key, err, len(err.Error()), c.cfg.Now().Add(again))
			return nil, err
		}
		c.cache.put(key, v, size, expires)
		return v, nil
	})
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case r := <-done:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(T), nil
	}
}

// response gets an OCSP response about a certificate that its issuer, or whom the issuer named,
// signed. No nonce is sent: the responders of qualified authorities answer with responses made
// before, and the time in them is judged.
func (c *Client) response(ctx context.Context, address string, cert, issuer *x509.Certificate, spend func() error) ([]byte, error) {
	key := "ocsp " + digest(issuer.RawSubjectPublicKeyInfo) + " " + cert.SerialNumber.Text(16) + " " + address
	return remembered(ctx, c, key, func(ctx context.Context) ([]byte, int, time.Time, error) {
		question, err := ocsp.CreateRequest(cert, issuer, nil)
		if err != nil {
			return nil, 0, time.Time{}, err
		}
		raw, err := c.get(ctx, request{address: address, contentType: "application/ocsp-request", body: question, limit: maxOCSP})
		if err != nil {
			return nil, 0, time.Time{}, err
		}
		r, err := ocsp.ParseResponseForCert(raw, cert, issuer)
		if err != nil {
			return nil, 0, time.Time{}, fmt.Errorf("response: %w", err)
		}
		if r.Status == ocsp.Unknown {
			return nil, 0, time.Time{}, errors.New("the responder does not know the certificate")
		}
		now := c.cfg.Now()
		if !r.NextUpdate.IsZero() && now.After(r.NextUpdate) {
			return nil, 0, time.Time{}, fmt.Errorf("the response was good until %s", r.NextUpdate.UTC().Format(time.RFC3339))
		}
		return raw, len(raw), until(now, r.NextUpdate), nil
	}, spend)
}

// list gets a revocation list that the issuer signed and that is in force.
func (c *Client) list(ctx context.Context, address string, issuer *x509.Certificate, spend func() error) (*x509.RevocationList, error) {
	key := "crl " + digest(issuer.RawSubjectPublicKeyInfo) + " " + address
	return remembered(ctx, c, key, func(ctx context.Context) (*x509.RevocationList, int, time.Time, error) {
		raw, err := c.get(ctx, request{address: address, limit: c.cfg.MaxCRL})
		if err != nil {
			return nil, 0, time.Time{}, err
		}
		l, err := validation.ParseCRL(raw)
		if err != nil {
			return nil, 0, time.Time{}, err
		}
		if err := l.CheckSignatureFrom(issuer); err != nil {
			return nil, 0, time.Time{}, fmt.Errorf("the list is not signed by the issuer of the certificate: %w", err)
		}
		now := c.cfg.Now()
		if !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
			return nil, 0, time.Time{}, fmt.Errorf("the list was good until %s", l.NextUpdate.UTC().Format(time.RFC3339))
		}
		const parsed = 4 // times the size of the file
		return l, parsed * len(raw), until(now, l.NextUpdate), nil
	}, spend)
}

// until is how long an answer is remembered.
func until(now, next time.Time) time.Time {
	switch last := now.Add(longest); {
	case next.IsZero():
		return now.Add(shortest)
	case next.After(last):
		return last
	}
	return next
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
