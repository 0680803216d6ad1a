package auth_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

func TestCallerTravelsInContext(t *testing.T) {
	_, ok := auth.From(t.Context())
	require.False(t, ok)
	want := auth.Caller{Kind: auth.KindKey, ID: "tenants/t1/apiKeys/k1", Role: auth.RoleTenant, Tenant: "t1"}
	got, ok := auth.From(auth.With(t.Context(), want))
	require.True(t, ok)
	require.Equal(t, want, got)
	require.Equal(t, "key:tenants/t1/apiKeys/k1", got.Actor())
	require.Equal(t, "anonymous", auth.Caller{}.Actor())
}

func TestScopes(t *testing.T) {
	c := auth.Caller{Scopes: []string{"invoices.read"}}
	require.True(t, c.Has("invoices.read"))
	require.False(t, c.Has("invoices.write"))
	require.False(t, c.Has(""), "no scope is no permission")
	all := auth.Caller{Scopes: []string{"*"}}
	require.True(t, all.Has("anything.at.all"))
	require.False(t, all.Has(""))
}

func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, live := range []bool{true, false} {
		for range 200 {
			key, err := auth.NewKey(live)
			require.NoError(t, err)
			require.False(t, seen[key])
			seen[key] = true
			require.Len(t, key, 57)
			require.True(t, auth.IsKey(key))
			got, err := auth.CheckKey(key)
			require.NoError(t, err)
			require.Equal(t, live, got)
			require.True(t, strings.HasPrefix(key, auth.Visible(key)))
			require.Len(t, auth.Visible(key), 14)
			sum := sha256.Sum256([]byte(key[8:51]))
			require.Equal(t, sum[:], auth.HashKey(key), "the hash is of the secret part")
		}
	}
}

// TestKeyTypos: a changed, lost or added character is noticed without a look-up.
func TestKeyTypos(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		key, err := auth.NewKey(true)
		require.NoError(rt, err)
		at := rapid.IntRange(0, len(key)-1).Draw(rt, "at")
		letter := rapid.StringMatching(`[0-9A-Za-z]`).Draw(rt, "letter")
		for _, bad := range []string{
			key[:at] + key[at+1:],
			key[:at] + letter + key[at:],
		} {
			_, err := auth.CheckKey(bad)
			require.Error(rt, err)
		}
		if changed := key[:at] + letter + key[at+1:]; changed != key {
			_, err := auth.CheckKey(changed)
			require.Error(rt, err, changed)
			require.Equal(rt, fault.KindUnauthenticated, fault.Of(err).Kind)
			require.NotContains(rt, err.Error(), key[20:40], "errors do not repeat secrets")
		}
	})
}

func FuzzCheckKey(f *testing.F) {
	f.Add("cl_test_")
	f.Add("cl_live_0000000000000000000000000000000000000000000000000")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, key string) {
		_, err := auth.CheckKey(key)
		if err == nil && (!auth.IsKey(key) || len(key) != 57) {
			t.Fatalf("%q was accepted", key)
		}
		if len(auth.HashKey(key)) != sha256.Size {
			t.Fatal("a hash of another length")
		}
	})
}

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	c.at = c.at.Add(d)
	c.mu.Unlock()
}

func TestCache(t *testing.T) {
	var asked atomic.Int32
	var answer atomic.Pointer[error]
	next := auth.ResolverFunc(func(_ context.Context, bearer string) (auth.Caller, error) {
		asked.Add(1)
		if err := answer.Load(); err != nil {
			return auth.Caller{}, *err
		}
		return auth.Caller{ID: bearer}, nil
	})
	clk := &clock{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	cache := auth.NewCache(next, 5*time.Second, clk.now)
	ask := func(bearer string) error {
		c, err := cache.Resolve(t.Context(), bearer)
		if err == nil {
			require.Equal(t, bearer, c.ID)
		}
		return err
	}
	require.NoError(t, ask("a"))
	require.NoError(t, ask("a"))
	require.NoError(t, ask("b"))
	require.EqualValues(t, 2, asked.Load(), "one question per credential")

	revoked := error(auth.Unauthenticated("API_KEY_REVOKED", "revoked"))
	answer.Store(&revoked)
	clk.add(4 * time.Second)
	require.NoError(t, ask("a"), "remembered")
	clk.add(2 * time.Second)
	require.ErrorIs(t, ask("a"), revoked, "a revocation holds after the TTL")
	require.ErrorIs(t, ask("a"), revoked)
	require.EqualValues(t, 3, asked.Load(), "refusals are remembered")

	away := error(fault.Unavailable("AWAY", "away"))
	answer.Store(&away)
	require.ErrorIs(t, ask("c"), away)
	require.ErrorIs(t, ask("c"), away)
	require.EqualValues(t, 5, asked.Load(), "outages are not remembered")

	answer.Store(nil)
	cache.Forget()
	require.NoError(t, ask("a"), "forgotten refusals are asked again")
}

// TestCacheAsksOnce: many concurrent calls with one key are one question, and
// the first asker going away does not fail the others.
func TestCacheAsksOnce(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	cache := auth.NewCache(auth.ResolverFunc(func(ctx context.Context, bearer string) (auth.Caller, error) {
		asked.Add(1)
		select {
		case <-release:
		case <-ctx.Done():
			return auth.Caller{}, ctx.Err()
		}
		return auth.Caller{ID: bearer}, nil
	}), time.Minute, time.Now)

	first, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { _, err := cache.Resolve(first, "a"); gone <- err }()
	require.Eventually(t, func() bool { return asked.Load() == 1 }, 5*time.Second, time.Millisecond)
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { _, errs[i] = cache.Resolve(t.Context(), "a") })
	}
	leave()
	require.ErrorIs(t, <-gone, context.Canceled)
	close(release)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, asked.Load())
}

func TestBearers(t *testing.T) {
	key, err := auth.NewKey(false)
	require.NoError(t, err)
	keys := auth.ResolverFunc(func(_ context.Context, bearer string) (auth.Caller, error) {
		return auth.Caller{Kind: auth.KindKey}, nil
	})
	_, err = auth.Bearers{Keys: keys}.Resolve(t.Context(), "eyJ.a.b")
	require.Equal(t, "CREDENTIAL_UNKNOWN", fault.Of(err).Code)
	_, err = auth.Bearers{Keys: keys}.Resolve(t.Context(), key[:30])
	require.Equal(t, "API_KEY_MALFORMED", fault.Of(err).Code, "a damaged key is refused without a look-up")
	c, err := auth.Bearers{Keys: keys}.Resolve(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, auth.KindKey, c.Kind)
}
