package auth

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"ceralacca.dev/services/internal/fault"
)

// cacheLimit bounds the number of remembered credentials; beyond it the cache
// is emptied, which costs one look-up per active caller.
const cacheLimit = 10000

// Cache remembers the answers of another resolver for a short while, so that a
// busy caller costs one look-up per TTL. A revoked key therefore works for at
// most TTL more. Refusals are remembered too, so that a client with a bad key
// in a loop does not reach the database; outages are not.
//
// Credentials are remembered by hash: a memory dump holds no key.
type Cache struct {
	next Resolver
	ttl  time.Duration
	now  func() time.Time

	mu      sync.RWMutex
	entries map[string]cacheEntry
	flight  singleflight.Group
}

type cacheEntry struct {
	caller  Caller
	err     error
	expires time.Time
}

// NewCache wraps next. A ttl of zero asks next every time.
func NewCache(next Resolver, ttl time.Duration, now func() time.Time) *Cache {
	return &Cache{next: next, ttl: ttl, now: now, entries: map[string]cacheEntry{}}
}

// Resolve answers from memory or asks the wrapped resolver; concurrent
// questions about the same credential are asked once.
func (c *Cache) Resolve(ctx context.Context, bearer string) (Caller, error) {
	if c.ttl <= 0 {
		return c.next.Resolve(ctx, bearer)
	}
	sum := sha256.Sum256([]byte(bearer))
	key := string(sum[:])
	c.mu.RLock()
	entry, ok := c.entries[key]
	c.mu.RUnlock()
	if ok && c.now().Before(entry.expires) {
		return entry.caller, entry.err
	}
	result := c.flight.DoChan(key, func() (any, error) {
		// Detached: the first asker going away must not fail the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		caller, err := c.next.Resolve(ctx, bearer)
		if err == nil || fault.Of(err).Kind == fault.KindUnauthenticated {
			c.remember(key, cacheEntry{caller: caller, err: err, expires: c.now().Add(c.ttl)})
		}
		return caller, err
	})
	select {
	case <-ctx.Done():
		return Caller{}, ctx.Err()
	case r := <-result:
		caller, _ := r.Val.(Caller)
		return caller, r.Err
	}
}

// Forget drops everything remembered: the next question of each caller goes to
// the wrapped resolver. The tenancy service calls it after a revocation.
func (c *Cache) Forget() {
	c.mu.Lock()
	clear(c.entries)
	c.mu.Unlock()
}

func (c *Cache) remember(key string, entry cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= cacheLimit {
		clear(c.entries)
	}
	c.entries[key] = entry
}
