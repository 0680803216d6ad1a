package invoice

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
)

// maxCompanies bounds the memory; beyond it everything is asked again.
const maxCompanies = 10_000

// companies remembers the data of companies for a short while, so that a busy one costs one question
// each few seconds. What tenancy refuses or cannot answer is not remembered.
type companies struct {
	client tenancyv1.TenancyServiceClient
	ttl    time.Duration
	now    func() time.Time
	flight singleflight.Group

	mu    sync.RWMutex
	known map[string]knownCompany
}

type knownCompany struct {
	company *tenancyv1.Company
	until   time.Time
}

func newCompanies(client tenancyv1.TenancyServiceClient, ttl time.Duration, now func() time.Time) *companies {
	return &companies{client: client, ttl: ttl, now: now, known: map[string]knownCompany{}}
}

// get gives the company of this name; the caller does not change it. NotFound COMPANY_NOT_FOUND or
// TENANT_NOT_FOUND; Unavailable when tenancy is away.
func (c *companies) get(ctx context.Context, name string) (*tenancyv1.Company, error) {
	c.mu.RLock()
	k, ok := c.known[name]
	c.mu.RUnlock()
	if ok && c.now().Before(k.until) {
		return k.company, nil
	}
	answer := c.flight.DoChan(name, func() (any, error) {
		// Detached: the first asker going away must not fail the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		company, err := c.client.GetCompany(ctx, &tenancyv1.GetCompanyRequest{Name: name})
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.known) >= maxCompanies {
			clear(c.known)
		}
		c.known[name] = knownCompany{company: company, until: c.now().Add(c.ttl)}
		return company, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-answer:
		company, _ := r.Val.(*tenancyv1.Company)
		return company, r.Err
	}
}
