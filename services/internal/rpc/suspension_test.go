package rpc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
)

// TestSuspended: a suspended caller is refused what does not say that it goes on, after and not instead of who may
// call; over gRPC and over HTTP (Admit) alike.
func TestSuspended(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	read := func(bearer, name string) error {
		_, err := w.as("", bearer).GetTenant(ctx, &tenancyv1.GetTenantRequest{Name: name})
		return err
	}
	write := func(bearer string) error {
		_, err := w.as("", bearer).UpdateCompany(ctx, &tenancyv1.UpdateCompanyRequest{Company: &tenancyv1.Company{Name: "tenants/t1/companies/c1", DisplayName: "C"}})
		return err
	}
	create := func(bearer string) error {
		_, err := w.as("", bearer).CreateTenant(ctx, &tenancyv1.CreateTenantRequest{TenantId: "t9", Tenant: &tenancyv1.Tenant{Reseller: "resellers/r1", DisplayName: "T"}})
		return err
	}
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"a tenant reads":                     {read("suspended", "tenants/t1"), ""},
		"a tenant begins":                    {write("suspended"), "TENANT_SUSPENDED"},
		"scope comes first":                  {write("suspended reader"), "SCOPE_MISSING"},
		"a reseller reads":                   {read("suspended reseller", "tenants/t1"), ""},
		"a reseller begins":                  {create("suspended reseller"), "TENANT_SUSPENDED"},
		"role comes first":                   {create("suspended"), "ROLE_NOT_ALLOWED"},
		"an operator is not bound":           {create("suspended operator"), ""},
		"somebody else's stays out of sight": {read("suspended", "tenants/t2"), "FOREIGN_RESOURCE"},
	} {
		if c.code == "" {
			require.NoError(t, c.err, name)
			continue
		}
		require.Error(t, c.err, name)
		require.Equal(t, c.code, fault.Of(c.err).Code, name)
	}
	f := fault.Of(write("suspended"))
	require.Equal(t, fault.KindPrecondition, f.Kind)
	require.Equal(t, "tenants/t1 has been suspended since 2026-11-01T09:00:00Z by its reseller (unpaid): nothing new begins until the reseller lifts it; "+
		"what is there is read, searched, shown, exported and verified as ever, what comes in is received, and what was accepted before is finished", f.Message)

	_, _, err := w.server.Admit(ctx, tenancyv1.TenancyService_UpdateCompany_FullMethodName, "Bearer suspended")
	require.Equal(t, "TENANT_SUSPENDED", fault.Of(err).Code)
	_, who, err := w.server.Admit(ctx, tenancyv1.TenancyService_GetTenant_FullMethodName, "Bearer suspended")
	require.NoError(t, err)
	require.Equal(t, auth.RoleTenant, who.Role)
	require.Contains(t, w.log.String(), "fault=TENANT_SUSPENDED", "the access log names it")
}
