package tenancy_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

const (
	active    = tenancyv1.TenancyState_TENANCY_STATE_ACTIVE
	suspended = tenancyv1.TenancyState_TENANCY_STATE_SUSPENDED
	operators = tenancyv1.SuspensionParty_SUSPENSION_PARTY_OPERATOR
	resellers = tenancyv1.SuspensionParty_SUSPENSION_PARTY_RESELLER
)

func suspendAcme(reason string) *tenancyv1.SuspendTenantRequest {
	return &tenancyv1.SuspendTenantRequest{Name: "tenants/acme", Reason: reason}
}

func resumeAcme() *tenancyv1.ResumeTenantRequest {
	return &tenancyv1.ResumeTenantRequest{Name: "tenants/acme"}
}

// TestSuspendedTenantReadsAndBeginsNothing: over the wire, by the tenant's own key, at once in this process.
func TestSuspendedTenantReadsAndBeginsNothing(t *testing.T) {
	t.Parallel()
	w := start(t)
	ctx := t.Context()
	acme, north := w.as("tenants/acme"), w.as("resellers/north")
	_, err := acme.CreateCompany(ctx, companyRequest("acme", "main", 1))
	require.NoError(t, err)

	made, err := w.operator.SuspendTenant(ctx, suspendAcme("  two years unpaid "))
	require.NoError(t, err)
	require.Equal(t, suspended, made.GetState())
	require.Len(t, made.GetSuspensions(), 1)
	held := made.GetSuspensions()[0]
	require.Equal(t, "tenants/acme two years unpaid", held.GetSubject()+" "+held.GetReason())
	require.Equal(t, operators, held.GetParty())
	require.Contains(t, held.GetActor(), "key:operators/", "an operator is told who")

	read, err := acme.GetTenant(ctx, &tenancyv1.GetTenantRequest{Name: "tenants/acme"})
	require.NoError(t, err, "reading goes on")
	require.Equal(t, suspended, read.GetState())
	require.Empty(t, read.GetSuspensions()[0].GetActor(), "the tenant is told why, not by which key")
	_, err = acme.GetCompany(ctx, &tenancyv1.GetCompanyRequest{Name: "tenants/acme/companies/main"})
	require.NoError(t, err)

	_, err = acme.CreateCompany(ctx, companyRequest("acme", "second", 2))
	requireFault(t, err, "TENANT_SUSPENDED", "")
	f := fault.Of(err)
	require.Equal(t, fault.KindPrecondition, f.Kind)
	for _, part := range []string{"tenants/acme", "two years unpaid", held.GetSuspendTime().AsTime().Format(time.RFC3339), "an operator lifts it"} {
		require.Contains(t, f.Message, part)
	}
	_, err = north.CreateCompany(ctx, companyRequest("acme", "second", 2))
	requireFault(t, err, "TENANT_SUSPENDED", "")
	_, err = north.CreateTenant(ctx, tenantRequest("fresh", "north"))
	require.NoError(t, err, "its reseller is not suspended")
	_, err = w.operator.CreateCompany(ctx, companyRequest("acme", "second", 2))
	require.NoError(t, err, "operators are not bound")

	// Keys expire: those that read can be made, others not.
	key := func(scopes ...string) error {
		_, err := acme.CreateApiKey(ctx, &tenancyv1.CreateApiKeyRequest{Parent: "tenants/acme", ApiKey: &tenancyv1.ApiKey{Scopes: scopes}})
		return err
	}
	require.NoError(t, key("archive.read", "invoices.read"))
	requireFault(t, key("archive.read", "invoices.write"), "TENANT_SUSPENDED", "api_key.scopes[1]")
	requireFault(t, key("*"), "TENANT_SUSPENDED", "api_key.scopes[0]")

	// What other services are told: with the key, and of the name.
	asker := client(w.DialAs("tenancy", "pec-gateway"))
	fresh, err := w.operator.CreateApiKey(ctx, &tenancyv1.CreateApiKeyRequest{Parent: "tenants/acme", ApiKey: &tenancyv1.ApiKey{Scopes: []string{"*"}}})
	require.NoError(t, err)
	who, err := asker.ResolveApiKey(ctx, &tenancyv1.ResolveApiKeyRequest{SecretSha256: auth.HashKey(fresh.GetSecret())})
	require.NoError(t, err)
	require.Equal(t, "two years unpaid", who.GetSuspension().GetReason())
	require.Empty(t, who.GetSuspension().GetActor())
	for name, want := range map[string]tenancyv1.TenancyState{"tenants/acme": suspended, "tenants/brio": active, "tenants/nobody": active, "resellers/north": active} {
		got, err := asker.GetStanding(ctx, &tenancyv1.GetStandingRequest{Name: name})
		require.NoError(t, err)
		require.Equal(t, want, got.GetState(), name)
	}
	_, err = acme.GetStanding(ctx, &tenancyv1.GetStandingRequest{Name: "tenants/acme"})
	requireFault(t, err, "ROLE_NOT_ALLOWED", "")

	back, err := w.operator.ResumeTenant(ctx, resumeAcme())
	require.NoError(t, err)
	require.Equal(t, active, back.GetState())
	require.Empty(t, back.GetSuspensions())
	_, err = acme.CreateCompany(ctx, companyRequest("acme", "third", 3))
	require.NoError(t, err)
	for action, n := range map[string]int{"tenant.suspend": 1, "tenant.resume": 1} {
		require.Equal(t, n, w.count(`SELECT count(*) FROM audit_entry WHERE action = $1 AND resource = 'tenants/acme' AND tenant_id = 'acme'`, action))
	}
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'tenant.suspend' AND detail->>'reason' = 'two years unpaid'`))
}

// TestWhoSuspendsAndWhoLifts: two parties, independent of each other; nobody lifts what another put.
func TestWhoSuspendsAndWhoLifts(t *testing.T) {
	t.Parallel()
	w := start(t)
	ctx := t.Context()
	acme, north, south := w.as("tenants/acme"), w.as("resellers/north"), w.as("resellers/south")
	state := func(c *tenancyv1.Tenant, err error) (tenancyv1.TenancyState, int) {
		require.NoError(t, err)
		return c.GetState(), len(c.GetSuspensions())
	}
	same := func(want tenancyv1.TenancyState, holding int, c *tenancyv1.Tenant, err error) {
		t.Helper()
		got, n := state(c, err)
		require.Equal(t, want, got)
		require.Equal(t, holding, n)
	}

	_, err := acme.SuspendTenant(ctx, suspendAcme("me"))
	requireFault(t, err, "ROLE_NOT_ALLOWED", "")
	_, err = acme.ResumeTenant(ctx, resumeAcme())
	requireFault(t, err, "ROLE_NOT_ALLOWED", "")
	_, err = south.SuspendTenant(ctx, suspendAcme("not mine"))
	requireFault(t, err, "TENANT_NOT_FOUND", "")
	_, err = w.operator.SuspendTenant(ctx, &tenancyv1.SuspendTenantRequest{Name: "tenants/nobody", Reason: "x"})
	requireFault(t, err, "TENANT_NOT_FOUND", "")
	for _, reason := range []string{"", "  \t ", "two\nlines"} {
		_, err = w.operator.SuspendTenant(ctx, suspendAcme(reason))
		requireFault(t, err, "REQUEST_INVALID", "reason")
	}

	one, err := north.SuspendTenant(ctx, suspendAcme("unpaid"))
	same(suspended, 1, one, err)
	require.Contains(t, one.GetSuspensions()[0].GetActor(), "key:resellers/north")
	again, err := north.SuspendTenant(ctx, suspendAcme("another reason"))
	same(suspended, 1, again, err)
	require.True(t, proto.Equal(one, again), "a repeat changes nothing: %v and %v", one, again)
	_, err = w.operator.ResumeTenant(ctx, resumeAcme())
	requireFault(t, err, "SUSPENDED_BY_RESELLER", "")

	both, err := w.operator.SuspendTenant(ctx, suspendAcme("fraud"))
	same(suspended, 2, both, err)
	require.Equal(t, operators, both.GetSuspensions()[0].GetParty(), "the operators' is told first")
	require.Equal(t, resellers, both.GetSuspensions()[1].GetParty())
	left, err := north.ResumeTenant(ctx, resumeAcme())
	same(suspended, 1, left, err)
	_, err = north.ResumeTenant(ctx, resumeAcme())
	requireFault(t, err, "SUSPENDED_BY_OPERATOR", "")
	require.Equal(t, fault.KindDenied, fault.Of(err).Kind)
	free, err := w.operator.ResumeTenant(ctx, resumeAcme())
	same(active, 0, free, err)
	free, err = north.ResumeTenant(ctx, resumeAcme())
	same(active, 0, free, err)

	// An operator over the head of the reseller, when it says so.
	_, err = north.SuspendTenant(ctx, suspendAcme("unpaid"))
	require.NoError(t, err)
	free, err = w.operator.ResumeTenant(ctx, &tenancyv1.ResumeTenantRequest{Name: "tenants/acme", AlsoReseller: true})
	same(active, 0, free, err)
	require.Equal(t, 3, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'tenant.suspend'`))
	require.Equal(t, 3, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'tenant.resume'`))
}

// TestSuspensionOnce: the same request twice is one act, and a change meanwhile is not written over.
func TestSuspensionOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	ctx := t.Context()
	before, err := w.operator.GetTenant(ctx, &tenancyv1.GetTenantRequest{Name: "tenants/acme"})
	require.NoError(t, err)
	req := suspendAcme("unpaid")
	req.RequestId, req.Etag = uuid.NewString(), before.GetEtag()
	one, err := w.operator.SuspendTenant(ctx, req)
	require.NoError(t, err)
	require.NotEqual(t, before.GetEtag(), one.GetEtag())
	two, err := w.operator.SuspendTenant(ctx, req)
	require.NoError(t, err)
	require.True(t, proto.Equal(one, two), "the first answer again: %v and %v", one, two)
	req.Reason = "something else"
	_, err = w.operator.SuspendTenant(ctx, req)
	requireFault(t, err, "REQUEST_ID_REUSED", "")
	stale := resumeAcme()
	stale.Etag = before.GetEtag()
	_, err = w.operator.ResumeTenant(ctx, stale)
	requireFault(t, err, "ETAG_MISMATCH", "etag")
	require.Equal(t, fault.KindAborted, fault.Of(err).Kind)
	stale.Etag = one.GetEtag()
	_, err = w.operator.ResumeTenant(ctx, stale)
	require.NoError(t, err)
}

// TestSuspendedReseller: it and all its tenants, those of others not.
func TestSuspendedReseller(t *testing.T) {
	t.Parallel()
	w := start(t)
	ctx := t.Context()
	acme, brio, north := w.as("tenants/acme"), w.as("tenants/brio"), w.as("resellers/north")
	_, err := north.SuspendReseller(ctx, &tenancyv1.SuspendResellerRequest{Name: "resellers/north", Reason: "me"})
	requireFault(t, err, "ROLE_NOT_ALLOWED", "")
	_, err = w.operator.SuspendReseller(ctx, &tenancyv1.SuspendResellerRequest{Name: "resellers/nobody", Reason: "x"})
	requireFault(t, err, "RESELLER_NOT_FOUND", "")

	first, err := w.operator.SuspendReseller(ctx, &tenancyv1.SuspendResellerRequest{Name: "resellers/north", Reason: "insolvent", RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Equal(t, suspended, first.GetState())
	again, err := w.operator.SuspendReseller(ctx, &tenancyv1.SuspendResellerRequest{Name: "resellers/north", Reason: "twice"})
	require.NoError(t, err)
	require.True(t, proto.Equal(first, again), "%v and %v", first, again)
	_, err = w.operator.ResumeReseller(ctx, &tenancyv1.ResumeResellerRequest{Name: "resellers/north", Etag: `"1"`})
	requireFault(t, err, "ETAG_MISMATCH", "etag")

	_, err = north.CreateTenant(ctx, tenantRequest("fresh", "north"))
	requireFault(t, err, "TENANT_SUSPENDED", "")
	require.Contains(t, fault.Of(err).Message, "resellers/north has been suspended since")
	_, err = acme.CreateCompany(ctx, companyRequest("acme", "main", 1))
	requireFault(t, err, "TENANT_SUSPENDED", "")
	require.Contains(t, fault.Of(err).Message, "insolvent")
	_, err = brio.CreateCompany(ctx, companyRequest("brio", "main", 2))
	require.NoError(t, err, "another reseller's")
	self, err := north.GetReseller(ctx, &tenancyv1.GetResellerRequest{Name: "resellers/north"})
	require.NoError(t, err)
	require.Equal(t, "insolvent", self.GetSuspension().GetReason())
	_, err = north.SuspendTenant(ctx, suspendAcme("mine as well"))
	require.NoError(t, err, "to end things is open to it")
	_, err = north.ResumeTenant(ctx, resumeAcme())
	requireFault(t, err, "TENANT_SUSPENDED", "")

	list := func(s tenancyv1.TenancyState) (ids []string) {
		resp, err := w.operator.ListTenants(ctx, &tenancyv1.ListTenantsRequest{State: s, PageSize: 1})
		for ; err == nil; resp, err = w.operator.ListTenants(ctx, &tenancyv1.ListTenantsRequest{State: s, PageSize: 1, PageToken: resp.GetNextPageToken()}) {
			for _, one := range resp.GetTenants() {
				require.True(t, s == 0 || one.GetState() == s)
				ids = append(ids, one.GetName())
			}
			if resp.GetNextPageToken() == "" {
				return ids
			}
		}
		require.NoError(t, err)
		return nil
	}
	require.Equal(t, []string{"tenants/acme"}, list(suspended))
	require.Equal(t, []string{"tenants/brio"}, list(active))
	require.Len(t, list(0), 2)

	tenant, err := w.operator.ResumeTenant(ctx, &tenancyv1.ResumeTenantRequest{Name: "tenants/acme", AlsoReseller: true})
	require.NoError(t, err)
	require.Equal(t, suspended, tenant.GetState(), "its reseller still is")
	_, err = w.operator.ResumeTenant(ctx, resumeAcme())
	requireFault(t, err, "RESELLER_SUSPENDED", "")
	free, err := w.operator.ResumeReseller(ctx, &tenancyv1.ResumeResellerRequest{Name: "resellers/north", Etag: first.GetEtag()})
	require.NoError(t, err)
	require.Equal(t, active, free.GetState())
	_, err = acme.CreateCompany(ctx, companyRequest("acme", "main", 1))
	require.NoError(t, err)
}

// TestSuspensionsAreTold: each change is one event, a repeat none.
func TestSuspensionsAreTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	var ear bustest.Ear
	note := func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf(format, a...))
	}
	listener := run.Target{Name: "listener", Start: func(_ context.Context, h *run.Host) error {
		bustest.Hear(&ear, h.Bus, "suspended", func(ctx context.Context, ev *tenancyv1.TenantSuspended) {
			note("%s suspended by %s in %q, %t", ev.GetTenant(), ev.GetParty(), bus.Meta(ctx).Tenant, ev.GetSuspendTime().IsValid())
		})
		bustest.Hear(&ear, h.Bus, "resumed", func(ctx context.Context, ev *tenancyv1.TenantResumed) {
			note("%s resumed by %s in %q, %t", ev.GetTenant(), ev.GetParty(), bus.Meta(ctx).Tenant, ev.GetStillSuspended())
		})
		bustest.Hear(&ear, h.Bus, "reseller-suspended", func(ctx context.Context, ev *tenancyv1.ResellerSuspended) {
			note("%s suspended by %s in %q, %t", ev.GetReseller(), ev.GetParty(), bus.Meta(ctx).Tenant, ev.GetSuspendTime().IsValid())
		})
		bustest.Hear(&ear, h.Bus, "reseller-resumed", func(ctx context.Context, ev *tenancyv1.ResellerResumed) {
			note("%s resumed by %s in %q", ev.GetReseller(), ev.GetParty(), bus.Meta(ctx).Tenant)
		})
		return nil
	}}
	key, err := auth.NewKey(false)
	require.NoError(t, err)
	w := startWith(t, key, runtest.Options{Targets: []run.Target{listener}})
	w.reseller("north")
	w.tenant("acme", "north")
	ctx, north := t.Context(), w.as("resellers/north")
	for range 2 {
		_, err = north.SuspendTenant(ctx, suspendAcme("unpaid"))
		require.NoError(t, err)
		_, err = w.operator.SuspendTenant(ctx, suspendAcme("fraud"))
		require.NoError(t, err)
	}
	for range 2 {
		_, err = w.operator.SuspendReseller(ctx, &tenancyv1.SuspendResellerRequest{Name: "resellers/north", Reason: "insolvent"})
		require.NoError(t, err)
	}
	for range 2 {
		_, err = w.operator.ResumeReseller(ctx, &tenancyv1.ResumeResellerRequest{Name: "resellers/north"})
		require.NoError(t, err)
	}
	for range 2 {
		_, err = w.operator.ResumeTenant(ctx, &tenancyv1.ResumeTenantRequest{Name: "tenants/acme", AlsoReseller: true})
		require.NoError(t, err)
	}
	want := []string{
		`resellers/north suspended by SUSPENSION_PARTY_OPERATOR in "", true`, `resellers/north resumed by SUSPENSION_PARTY_OPERATOR in ""`,
		`tenants/acme suspended by SUSPENSION_PARTY_OPERATOR in "acme", true`, `tenants/acme suspended by SUSPENSION_PARTY_RESELLER in "acme", true`,
		`tenants/acme resumed by SUSPENSION_PARTY_OPERATOR in "acme", false`, `tenants/acme resumed by SUSPENSION_PARTY_RESELLER in "acme", false`,
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		mu.Lock()
		defer mu.Unlock()
		assert.ElementsMatch(c, want, told)
	}, time.Minute, 50*time.Millisecond)
}
