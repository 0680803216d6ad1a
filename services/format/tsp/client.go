package tsp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"
)

// maxResponse bounds what is read from an authority; tokens have 2 to 10 kB.
const maxResponse = 1 << 20

// defaultSkew is how far the authority's clock may be from ours.
const defaultSkew = 5 * time.Minute

// Client asks one authority over HTTP. URL, HTTP, Roots and Now are required.
type Client struct {
	URL    string
	HTTP   *http.Client          // with the time-out that the caller wants
	Policy asn1.ObjectIdentifier // nil: the authority's default
	Roots  *x509.CertPool        // whom to trust; there is no default
	Now    func() time.Time
	Skew   time.Duration // between the clocks, 5 minutes by default
	Rand   io.Reader     // of the nonce; crypto/rand by default
	// Header is added to the request (basic authentication of commercial authorities).
	Header http.Header
}

// Stamp gets a token over a SHA-256 and makes every check on it.
// Errors: *TransportError, *RefusedError, *TokenError; ctx's own when it ended.
func (c *Client) Stamp(ctx context.Context, sha256Digest []byte) (*Token, error) {
	return c.StampNonce(ctx, sha256Digest, nil)
}

// StampNonce is Stamp with a nonce of the caller's, which must be positive; nil: one is made.
func (c *Client) StampNonce(ctx context.Context, sha256Digest []byte, nonce *big.Int) (*Token, error) {
	return c.stamp(ctx, crypto.SHA256, sha256Digest, nonce)
}

// StampHash is Stamp for a digest by another hash (SHA-256, SHA-384, SHA-512), as the hash trees of evidence
// records want. Errors: those of Stamp; ErrHash.
func (c *Client) StampHash(ctx context.Context, h crypto.Hash, digest []byte) (*Token, error) {
	return c.stamp(ctx, h, digest, nil)
}

func (c *Client) stamp(ctx context.Context, h crypto.Hash, digest []byte, nonce *big.Int) (*Token, error) {
	if c.URL == "" || c.HTTP == nil || c.Roots == nil || c.Now == nil {
		return nil, errors.New("tsp: client lacks URL, HTTP, Roots or Now")
	}
	if nonce == nil {
		var err error
		if nonce, err = c.nonce(); err != nil {
			return nil, err
		}
	}
	req := Request{Hash: h, Digest: digest, Policy: c.Policy, Nonce: nonce, CertReq: true}
	body, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	answer, err := c.post(ctx, body)
	if err != nil {
		return nil, err
	}
	resp, err := ParseResponse(answer)
	if err != nil {
		return nil, &TokenError{FaultMalformed, err.Error()}
	}
	if err := resp.Err(); err != nil {
		return nil, err
	}
	tok, err := ParseToken(resp.Token)
	if err != nil {
		return nil, &TokenError{FaultMalformed, err.Error()}
	}
	now := c.Now()
	if err := tok.Verify(VerifyOptions{Digest: digest, Nonce: nonce, Policy: c.Policy, Roots: c.Roots, At: now}); err != nil {
		return nil, err
	}
	skew := c.Skew
	if skew == 0 {
		skew = defaultSkew
	}
	if d := tok.Info.Time.Sub(now).Abs(); d > skew+tok.Info.Accuracy {
		return nil, faulty(FaultTime, "it is %s away from our clock", d.Round(time.Second))
	}
	return tok, nil
}

// StampToken is Stamp for callers that want the token's bytes only (cades.Options.Timestamp).
func (c *Client) StampToken(ctx context.Context, sha256Digest []byte) ([]byte, error) {
	tok, err := c.Stamp(ctx, sha256Digest)
	if err != nil {
		return nil, err
	}
	return tok.Raw, nil
}

// nonce is 64 bits, never zero. spec: RFC3161 §2.4.1
func (c *Client) nonce() (*big.Int, error) {
	src := c.Rand
	if src == nil {
		src = rand.Reader
	}
	var b [8]byte
	if _, err := io.ReadFull(src, b[:]); err != nil {
		return nil, fmt.Errorf("tsp: nonce: %w", err)
	}
	n := new(big.Int).SetBytes(b[:])
	return n.SetBit(n, 63, 1), nil
}

func (c *Client) post(ctx context.Context, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("tsp: request to %s: %w", c.URL, err)
	}
	for k, v := range c.Header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", MIMERequest)
	req.Header.Set("Accept", MIMEResponse)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, &TransportError{Err: err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if resp.StatusCode != http.StatusOK {
		return nil, &TransportError{Status: resp.StatusCode, Err: err}
	}
	if err != nil {
		return nil, &TransportError{Err: err}
	}
	if len(answer) > maxResponse {
		return nil, &TokenError{FaultMalformed, fmt.Sprintf("answer is longer than %d bytes", maxResponse)}
	}
	return answer, nil
}
