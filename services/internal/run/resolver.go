package run

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// keyResolver answers who an API key belongs to: from the tenancy target when
// this process hosts it, else by asking it over gRPC; cached for auth.key_ttl.
type keyResolver struct {
	cache *auth.Cache

	mu   sync.RWMutex
	next auth.Resolver
}

func newKeyResolver(ttl time.Duration, now func() time.Time) *keyResolver {
	k := &keyResolver{}
	k.cache = auth.NewCache(auth.ResolverFunc(k.ask), ttl, now)
	return k
}

// Resolve answers from the cache or asks.
func (k *keyResolver) Resolve(ctx context.Context, bearer string) (auth.Caller, error) {
	return k.cache.Resolve(ctx, bearer)
}

func (k *keyResolver) set(r auth.Resolver) {
	k.mu.Lock()
	k.next = r
	k.mu.Unlock()
}

func (k *keyResolver) isSet() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.next != nil
}

func (k *keyResolver) ask(ctx context.Context, bearer string) (auth.Caller, error) {
	k.mu.RLock()
	next := k.next
	k.mu.RUnlock()
	if next == nil {
		return auth.Caller{}, fault.Unavailable("KEYS_NOT_READY", "this process cannot check API keys yet: try again")
	}
	return next.Resolve(ctx, bearer)
}

// remoteKeys asks the tenancy service. Only the hash of the key travels.
type remoteKeys struct {
	client tenancyv1.TenancyServiceClient
}

func newRemoteKeys(conn grpc.ClientConnInterface) remoteKeys {
	return remoteKeys{client: tenancyv1.NewTenancyServiceClient(conn)}
}

// Resolve asks the tenancy service whose key this is.
func (r remoteKeys) Resolve(ctx context.Context, bearer string) (auth.Caller, error) {
	resp, err := r.client.ResolveApiKey(ctx, &tenancyv1.ResolveApiKeyRequest{SecretSha256: auth.HashKey(bearer)})
	if err != nil {
		f := fault.Of(err)
		if f.Kind == fault.KindUnauthenticated || f.Kind == fault.KindUnavailable {
			return auth.Caller{}, err
		}
		// Whatever else tenancy says is about this process, not the caller.
		return auth.Caller{}, fault.Unavailable("KEYS_NOT_READY", "API keys cannot be checked now: try again").With(err)
	}
	return auth.Caller{
		Kind: auth.KindKey, ID: resp.GetApiKey(), Role: resp.GetRole(),
		Reseller: strings.TrimPrefix(resp.GetReseller(), "resellers/"),
		Tenant:   strings.TrimPrefix(resp.GetTenant(), "tenants/"),
		Scopes:   resp.GetScopes(), Live: resp.GetLive(), Suspension: suspension(resp.GetSuspension()),
	}, nil
}

// standing asks the tenancy service whether a tenant or reseller is suspended.
func (r remoteKeys) standing(ctx context.Context, name string) (*auth.Suspension, error) {
	resp, err := r.client.GetStanding(ctx, &tenancyv1.GetStandingRequest{Name: name})
	if err != nil {
		if fault.Of(err).Code == "UNIMPLEMENTED" {
			return nil, nil //nolint:nilnil // a tenancy service of an earlier release suspends nobody
		}
		return nil, fault.Unavailable("STANDING_NOT_READY", "whether %s is suspended cannot be asked now: try again", name).With(err)
	}
	return suspension(resp.GetSuspension()), nil
}

func suspension(s *tenancyv1.Suspension) *auth.Suspension {
	if s == nil {
		return nil
	}
	party := auth.RoleOperator
	if s.GetParty() == tenancyv1.SuspensionParty_SUSPENSION_PARTY_RESELLER {
		party = auth.RoleReseller
	}
	return &auth.Suspension{Subject: s.GetSubject(), Party: party, Reason: s.GetReason(), Since: s.GetSuspendTime().AsTime()}
}

// standings answers whether a tenant or reseller is suspended, for callers who
// come with a token of an identity provider: a key brings its answer along.
type standings struct {
	cache *auth.Cache // what it is asked for is a name, and of the caller only Suspension counts

	mu   sync.RWMutex
	next func(ctx context.Context, name string) (*auth.Suspension, error)
}

func newStandings(ttl time.Duration, now func() time.Time) *standings {
	s := &standings{}
	s.cache = auth.NewCache(auth.ResolverFunc(s.ask), ttl, now)
	return s
}

func (s *standings) of(ctx context.Context, c auth.Caller) (*auth.Suspension, error) {
	var name string
	switch c.Role {
	case auth.RoleTenant:
		name = "tenants/" + c.Tenant
	case auth.RoleReseller:
		name = "resellers/" + c.Reseller
	default:
		return nil, nil //nolint:nilnil // operators are never suspended
	}
	answer, err := s.cache.Resolve(ctx, name)
	return answer.Suspension, err
}

func (s *standings) set(fn func(ctx context.Context, name string) (*auth.Suspension, error)) {
	s.mu.Lock()
	s.next = fn
	s.mu.Unlock()
}

func (s *standings) ask(ctx context.Context, name string) (c auth.Caller, err error) {
	s.mu.RLock()
	next := s.next
	s.mu.RUnlock()
	if next == nil {
		return auth.Caller{}, fault.Unavailable("STANDING_NOT_READY", "this process cannot ask yet whether %s is suspended: try again", name)
	}
	c.Suspension, err = next(ctx, name)
	return c, err
}
