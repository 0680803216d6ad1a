// Package online gets from elsewhere what the judgement of signatures needs: OCSP responses and
// revocation lists of certificates, and EU trusted lists.
//
// Every address in a certificate or a list was written by somebody else. They are called by http
// and https only, never at an address that is not public (unless the configuration opens its
// network), with limits of time, size, redirects and number, and what comes back is verified before
// it is kept. What could not be had is an error that the report shows, never a guess.
//
// It refuses to look for issuers by the addresses in certificates (AIA caIssuers): anchors come
// from trusted lists, and asking for revocation begins only when a chain to one was found.
package online

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"ceralacca.dev/services/internal/guard"
)

// Limits of one fetch.
const (
	maxOCSP      = 64 << 10
	maxAddress   = 2048
	maxRedirects = 3
	maxAddresses = 4 // tried of one certificate, of each kind
)

// Config of a Client. Now and Timeout are required.
type Config struct {
	Guard   guard.Guard
	Timeout time.Duration // of one fetch, from name resolution to the last byte
	MaxCRL  int64         // bytes of one revocation list
	MaxList int64         // bytes of one trusted list
	Memory  int           // bytes that the cache of revocation data may hold
	Now     func() time.Time
}

// Client fetches and remembers.
type Client struct {
	cfg    Config
	http   *http.Client
	cache  *cache
	flight singleflight.Group
}

// New makes a client; it connects to nothing.
func New(cfg Config) *Client {
	return &Client{cfg: cfg, http: cfg.Guard.Client(cfg.Timeout), cache: newCache(cfg.Memory, cfg.Now)}
}

// checkAddress refuses what is never called.
func checkAddress(raw string) (*url.URL, error) {
	if len(raw) > maxAddress {
		return nil, fmt.Errorf("an address of %d characters is not called", len(raw))
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is no address that can be called", raw)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q is not called: only http and https are", raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q is no address that can be called", raw)
	case u.User != nil:
		return nil, fmt.Errorf("an address of %s with a user name in it is not called", u.Hostname())
	}
	return u, nil
}

// request is one fetch.
type request struct {
	address, contentType string
	body                 []byte // nil: GET
	limit                int64
}

// get makes a fetch, with redirects (of GET only), each of them checked like the first address.
func (c *Client) get(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	u, err := checkAddress(r.address)
	for n := 0; err == nil; n++ {
		if n > maxRedirects {
			return nil, fmt.Errorf("%s: more than %d redirects", u.Host, maxRedirects)
		}
		var body []byte
		var next string
		body, next, err = c.once(ctx, u, r)
		if err != nil || next == "" {
			return body, err
		}
		var to *url.URL
		if to, err = u.Parse(next); err == nil {
			u, err = checkAddress(to.String())
		}
	}
	return nil, err
}

// once gives the body, or where a redirect leads.
func (c *Client) once(ctx context.Context, u *url.URL, r request) (body []byte, next string, err error) {
	method := http.MethodGet
	if r.body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", u.Host, err)
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err // without the whole address a second time
		}
		return nil, "", fmt.Errorf("%s: %w", u.Host, err)
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && to != "" && r.body == nil {
		return nil, to, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%s answered %s", u.Host, resp.Status)
	}
	if resp.ContentLength > r.limit {
		return nil, "", fmt.Errorf("%s: the answer has %d bytes, the limit is %d", u.Host, resp.ContentLength, r.limit)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, r.limit+1))
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", u.Host, err)
	}
	if int64(len(body)) > r.limit {
		return nil, "", fmt.Errorf("%s: the answer is longer than the limit of %d bytes", u.Host, r.limit)
	}
	return body, "", nil
}

// cache remembers a bounded number of bytes; what was used longest ago goes first.
type cache struct {
	now    func() time.Time
	budget int

	mu    sync.Mutex
	held  int
	clock uint64
	items map[string]*item
}

type item struct {
	value   any // evidence, or an error that is not asked for again at once
	size    int
	expires time.Time
	used    uint64
}

func newCache(budget int, now func() time.Time) *cache {
	return &cache{now: now, budget: budget, items: map[string]*item{}}
}

func (c *cache) get(key string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.items[key]
	if it == nil {
		return nil, false
	}
	if !c.now().Before(it.expires) {
		c.drop(key)
		return nil, false
	}
	c.clock++
	it.used = c.clock
	return it.value, true
}

func (c *cache) put(key string, value any, size int, expires time.Time) {
	const overhead = 256
	size += len(key) + overhead
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
	if size > c.budget || !c.now().Before(expires) {
		return
	}
	for c.held+size > c.budget {
		oldest, at := "", ^uint64(0)
		for k, it := range c.items {
			if it.used < at {
				oldest, at = k, it.used
			}
		}
		c.drop(oldest)
	}
	c.clock++
	c.items[key] = &item{value: value, size: size, expires: expires, used: c.clock}
	c.held += size
}

func (c *cache) drop(key string) {
	if it := c.items[key]; it != nil {
		c.held -= it.size
		delete(c.items, key)
	}
}
