package tenancy_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/tenancy"
)

// world is a running tenancy service with one reseller that has two tenants, and a second reseller.
type world struct {
	*runtest.Process
	t        *testing.T
	operator tenancyv1.TenancyServiceClient
}

func start(t *testing.T) *world {
	t.Helper()
	key, err := auth.NewKey(false)
	require.NoError(t, err)
	w := startWith(t, key, runtest.Options{})
	w.reseller("north")
	w.reseller("south")
	w.tenant("acme", "north")
	w.tenant("brio", "south")
	return w
}

func startWith(t *testing.T, key string, opts runtest.Options) *world {
	t.Helper()
	file := filepath.Join(t.TempDir(), "operator.key")
	require.NoError(t, os.WriteFile(file, []byte(key+"\n"), 0o600))
	opts.Targets = append([]run.Target{tenancy.Target}, opts.Targets...)
	opts.Config = "tenancy: {bootstrap_operator_key_file: " + file + ", last_use_interval: 1s}\n"
	p := runtest.Start(t, opts)
	return &world{Process: p, t: t, operator: client(p.DialKey("tenancy", key))}
}

func client(conn grpc.ClientConnInterface) tenancyv1.TenancyServiceClient {
	return tenancyv1.NewTenancyServiceClient(conn)
}

func (w *world) reseller(id string) {
	w.t.Helper()
	_, err := w.operator.CreateReseller(w.t.Context(), &tenancyv1.CreateResellerRequest{ResellerId: id, Reseller: &tenancyv1.Reseller{DisplayName: id}})
	require.NoError(w.t, err)
}

func (w *world) tenant(id, reseller string) {
	w.t.Helper()
	_, err := w.operator.CreateTenant(w.t.Context(), tenantRequest(id, reseller))
	require.NoError(w.t, err)
}

func tenantRequest(id, reseller string) *tenancyv1.CreateTenantRequest {
	return &tenancyv1.CreateTenantRequest{TenantId: id, Tenant: &tenancyv1.Tenant{DisplayName: id, Reseller: "resellers/" + reseller}}
}

// as connects with a new key of the parent; no scopes means all.
func (w *world) as(parent string, scopes ...string) tenancyv1.TenancyServiceClient {
	w.t.Helper()
	if len(scopes) == 0 {
		scopes = []string{"*"}
	}
	key, err := w.operator.CreateApiKey(w.t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: parent, ApiKey: &tenancyv1.ApiKey{Scopes: scopes}})
	require.NoError(w.t, err)
	return client(w.DialKey("tenancy", key.GetSecret()))
}

func companyRequest(tenant, id string, n int) *tenancyv1.CreateCompanyRequest {
	return &tenancyv1.CreateCompanyRequest{Parent: "tenants/" + tenant, CompanyId: id, Company: &tenancyv1.Company{
		DisplayName: id, VatNumber: "IT" + fatturapatest.VATNumber(n), SignaturePolicy: tenancyv1.SignaturePolicy_SIGNATURE_POLICY_ALWAYS}}
}

func requireFault(t *testing.T, err error, code, field string) {
	t.Helper()
	f := fault.Of(err)
	require.NotNil(t, f, "want %s", code)
	require.Equal(t, code, f.Code, "%v", err)
	if field != "" {
		require.NotEmpty(t, f.Fields)
		require.Equal(t, field, f.Fields[0].Path)
	}
}

func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	err := w.DB("tenancy").System(w.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, args...).Scan(&n)
	})
	require.NoError(w.t, err)
	return n
}

func TestCompanyLifeIsAudited(t *testing.T) {
	w := start(t)
	acme := w.as("tenants/acme", "tenancy.read", "tenancy.write")
	made, err := acme.CreateCompany(t.Context(), companyRequest("acme", "main", 1))
	require.NoError(t, err)
	require.Equal(t, "tenants/acme/companies/main", made.GetName())
	require.NotEmpty(t, made.GetEtag())

	read, err := acme.GetCompany(t.Context(), &tenancyv1.GetCompanyRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.True(t, proto.Equal(made, read), "%v and %v", made, read)

	change := &tenancyv1.Company{Name: made.GetName(), DisplayName: "Main", RecipientCode: "ABCDEF1", Etag: made.GetEtag()}
	changed, err := acme.UpdateCompany(t.Context(), &tenancyv1.UpdateCompanyRequest{Company: change,
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"recipient_code"}}})
	require.NoError(t, err)
	require.Equal(t, "main", changed.GetDisplayName(), "not in the mask")
	require.Equal(t, "ABCDEF1", changed.GetRecipientCode())
	require.NotEqual(t, made.GetEtag(), changed.GetEtag())

	_, err = acme.UpdateCompany(t.Context(), &tenancyv1.UpdateCompanyRequest{Company: change})
	requireFault(t, err, "ETAG_MISMATCH", "company.etag")
	require.Equal(t, fault.KindAborted, fault.Of(err).Kind)

	list, err := acme.ListCompanies(t.Context(), &tenancyv1.ListCompaniesRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetCompanies(), 1)

	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'company.create' AND resource = $1 AND tenant_id = 'acme' AND actor LIKE 'key:tenants/acme/apiKeys/%'`, made.GetName()))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'company.update' AND detail->>'fields' = 'recipient_code'`))
	require.Equal(t, 2, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'reseller.create'`))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'key.bootstrap' AND actor = 'service:tenancy'`))
}

func TestBadCompanies(t *testing.T) {
	w := start(t)
	_, err := w.operator.CreateCompany(t.Context(), companyRequest("acme", "main", 1))
	require.NoError(t, err)
	edit := func(f func(*tenancyv1.CreateCompanyRequest)) *tenancyv1.CreateCompanyRequest {
		r := companyRequest("acme", "other", 2)
		f(r)
		return r
	}
	for name, c := range map[string]struct {
		req         *tenancyv1.CreateCompanyRequest
		code, field string
	}{
		"id taken":         {companyRequest("acme", "main", 2), "COMPANY_EXISTS", "company_id"},
		"identity taken":   {companyRequest("acme", "other", 1), "COMPANY_IDENTITY_EXISTS", "company.vat_number"},
		"wrong digit":      {edit(func(r *tenancyv1.CreateCompanyRequest) { r.Company.VatNumber = "IT01234567890" }), "VAT_NUMBER_INVALID", "company.vat_number"},
		"wrong tax code":   {edit(func(r *tenancyv1.CreateCompanyRequest) { r.Company.TaxCode = "RSSMRA85T10A562T" }), "TAX_CODE_INVALID", "company.tax_code"},
		"no identity":      {edit(func(r *tenancyv1.CreateCompanyRequest) { r.Company.VatNumber = "" }), "COMPANY_IDENTITY_REQUIRED", "company.vat_number"},
		"no name":          {edit(func(r *tenancyv1.CreateCompanyRequest) { r.Company.DisplayName = "" }), "REQUEST_INVALID", "company.display_name"},
		"unknown tenant":   {companyRequest("nobody", "main", 2), "TENANT_NOT_FOUND", ""},
		"id with capitals": {edit(func(r *tenancyv1.CreateCompanyRequest) { r.CompanyId = "Main" }), "REQUEST_INVALID", "company_id"},
	} {
		_, err := w.operator.CreateCompany(t.Context(), c.req)
		requireFault(t, err, c.code, c.field)
		require.Equal(t, 1, w.count(`SELECT count(*) FROM company`), name)
		require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'company.create'`), name)
	}
	main := "tenants/acme/companies/main"
	_, err = w.operator.UpdateCompany(t.Context(), &tenancyv1.UpdateCompanyRequest{Company: &tenancyv1.Company{Name: main, DisplayName: "x", VatNumber: "IT" + fatturapatest.VATNumber(3)}})
	requireFault(t, err, "COMPANY_IDENTITY_FIXED", "company.vat_number")
	_, err = w.operator.UpdateCompany(t.Context(), &tenancyv1.UpdateCompanyRequest{Company: &tenancyv1.Company{Name: main, DisplayName: "x"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"create_time"}}})
	requireFault(t, err, "UPDATE_MASK_INVALID", "update_mask")
	_, err = w.operator.UpdateCompany(t.Context(), &tenancyv1.UpdateCompanyRequest{Company: &tenancyv1.Company{Name: "companies/main", DisplayName: "x"}})
	requireFault(t, err, "NAME_INVALID", "company.name")
	_, err = w.operator.GetCompany(t.Context(), &tenancyv1.GetCompanyRequest{Name: "tenants/acme/companies/nothing"})
	requireFault(t, err, "COMPANY_NOT_FOUND", "")
}

func TestTenantsAndResellersSeeOnlyTheirOwn(t *testing.T) {
	w := start(t)
	for _, tenant := range []string{"acme", "brio"} {
		_, err := w.operator.CreateCompany(t.Context(), companyRequest(tenant, "main", 1))
		require.NoError(t, err)
	}
	acme, north := w.as("tenants/acme"), w.as("resellers/north")

	_, err := acme.GetCompany(t.Context(), &tenancyv1.GetCompanyRequest{Name: "tenants/brio/companies/main"})
	requireFault(t, err, "FOREIGN_RESOURCE", "name")
	_, err = acme.CreateTenant(t.Context(), tenantRequest("fresh", "north"))
	requireFault(t, err, "ROLE_NOT_ALLOWED", "")
	_, err = acme.CreateApiKey(t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: "tenants/brio", ApiKey: &tenancyv1.ApiKey{Scopes: []string{"*"}}})
	requireFault(t, err, "FOREIGN_RESOURCE", "parent")

	_, err = north.GetCompany(t.Context(), &tenancyv1.GetCompanyRequest{Name: "tenants/acme/companies/main"})
	require.NoError(t, err)
	_, err = north.GetCompany(t.Context(), &tenancyv1.GetCompanyRequest{Name: "tenants/brio/companies/main"})
	requireFault(t, err, "TENANT_NOT_FOUND", "") // like one that does not exist
	_, err = north.CreateTenant(t.Context(), tenantRequest("fresh", "south"))
	requireFault(t, err, "FOREIGN_RESOURCE", "")
	_, err = north.CreateTenant(t.Context(), tenantRequest("fresh", "north"))
	require.NoError(t, err)
	_, err = north.CreateApiKey(t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: "tenants/brio", ApiKey: &tenancyv1.ApiKey{Scopes: []string{"*"}}})
	requireFault(t, err, "TENANT_NOT_FOUND", "")
	_, err = north.CreateApiKey(t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: "operators/me", ApiKey: &tenancyv1.ApiKey{Scopes: []string{"*"}}})
	requireFault(t, err, "FOREIGN_RESOURCE", "")
	_, err = north.CreateReseller(t.Context(), &tenancyv1.CreateResellerRequest{ResellerId: "east", Reseller: &tenancyv1.Reseller{DisplayName: "x"}})
	requireFault(t, err, "ROLE_NOT_ALLOWED", "")
	_, err = north.ListTenants(t.Context(), &tenancyv1.ListTenantsRequest{})
	requireFault(t, err, "PARENT_REQUIRED", "parent")
	own, err := north.ListTenants(t.Context(), &tenancyv1.ListTenantsRequest{Parent: "resellers/north"})
	require.NoError(t, err)
	require.Len(t, own.GetTenants(), 2)

	// The same boundary, below the API: the role of the service sees no row of another tenant.
	for _, table := range []string{"tenant", "company", "api_key", "audit_entry"} {
		err = w.DB("tenancy").Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			var mine, foreign int
			err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE tenant_id = 'acme'), count(*) FILTER (WHERE tenant_id <> 'acme') FROM `+table).Scan(&mine, &foreign)
			require.Positive(t, mine, table)
			require.Zero(t, foreign, table)
			return err
		})
		require.NoError(t, err)
	}
	err = w.DB("tenancy").Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE company SET display_name = 'stolen' WHERE tenant_id = 'brio'`)
		require.Zero(t, tag.RowsAffected())
		return err
	})
	require.NoError(t, err)
	err = w.DB("tenancy").Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO company VALUES ('brio', 'x', 'x', 'IT1', '', '', 1, 1, now(), now())`)
		return err
	})
	requireFault(t, err, "DATABASE_DENIED", "")
}

func TestKeysNeverGrantWhatTheirMakerLacks(t *testing.T) {
	w := start(t)
	keeper := w.as("tenants/acme", "keys.write", "keys.read", "invoices.read")
	make := func(c tenancyv1.TenancyServiceClient, k *tenancyv1.ApiKey) error {
		_, err := c.CreateApiKey(t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: "tenants/acme", ApiKey: k})
		return err
	}
	require.NoError(t, make(keeper, &tenancyv1.ApiKey{Scopes: []string{"invoices.read"}}))
	requireFault(t, make(keeper, &tenancyv1.ApiKey{Scopes: []string{"invoices.read", "invoices.write"}}), "SCOPE_NOT_HELD", "api_key.scopes[1]")
	requireFault(t, make(keeper, &tenancyv1.ApiKey{Scopes: []string{"*"}}), "SCOPE_NOT_HELD", "api_key.scopes[0]")
	requireFault(t, make(keeper, &tenancyv1.ApiKey{}), "SCOPES_REQUIRED", "api_key.scopes")
	requireFault(t, make(keeper, &tenancyv1.ApiKey{Scopes: []string{"invoices.read"}, Live: true}), "KEY_ENVIRONMENT_NOT_HELD", "api_key.live")
	requireFault(t, make(keeper, &tenancyv1.ApiKey{Scopes: []string{"invoices.read"}, ExpireTime: timestamppb.New(time.Now().Add(-time.Minute))}), "EXPIRE_TIME_PAST", "api_key.expire_time")
	requireFault(t, make(w.as("tenants/acme", "invoices.read"), &tenancyv1.ApiKey{Scopes: []string{"invoices.read"}}), "SCOPE_MISSING", "")
	requireFault(t, make(keeper, &tenancyv1.ApiKey{Scopes: []string{"EVERYTHING"}}), "REQUEST_INVALID", "api_key.scopes[0]")
}

func TestKeyLife(t *testing.T) {
	w := start(t)
	made, err := w.operator.CreateApiKey(t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: "tenants/acme",
		ApiKey: &tenancyv1.ApiKey{DisplayName: "till", Scopes: []string{"keys.read"}}})
	require.NoError(t, err)
	require.Regexp(t, `^cl_test_`, made.GetSecret())
	require.Equal(t, made.GetSecret()[:14], made.GetPrefix())
	till := client(w.DialKey("tenancy", made.GetSecret()))
	read, err := till.GetApiKey(t.Context(), &tenancyv1.GetApiKeyRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.Empty(t, read.GetSecret())
	require.Zero(t, w.count(`SELECT count(*) FROM api_key WHERE api_key::text LIKE '%' || $1 || '%'`, made.GetSecret()[8:40]), "the secret is nowhere")

	// Other services ask by hash; a tenant may not.
	services := client(w.DialAs("tenancy", "invoice"))
	who, err := services.ResolveApiKey(t.Context(), &tenancyv1.ResolveApiKeyRequest{SecretSha256: auth.HashKey(made.GetSecret())})
	require.NoError(t, err)
	require.Equal(t, "tenant resellers/north tenants/acme", who.GetRole()+" "+who.GetReseller()+" "+who.GetTenant())
	_, err = till.ResolveApiKey(t.Context(), &tenancyv1.ResolveApiKeyRequest{SecretSha256: auth.HashKey(made.GetSecret())})
	requireFault(t, err, "ROLE_NOT_ALLOWED", "")

	require.Eventually(t, func() bool {
		return w.count(`SELECT count(*) FROM api_key WHERE last_use_time = date_trunc('minute', last_use_time) AND prefix = $1`, made.GetPrefix()) == 1
	}, 10*time.Second, 50*time.Millisecond, "last use is written, to the minute")

	revoked, err := w.operator.RevokeApiKey(t.Context(), &tenancyv1.RevokeApiKeyRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.NotNil(t, revoked.GetRevokeTime())
	again, err := w.operator.RevokeApiKey(t.Context(), &tenancyv1.RevokeApiKeyRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.True(t, proto.Equal(revoked.GetRevokeTime(), again.GetRevokeTime()))
	_, err = till.GetApiKey(t.Context(), &tenancyv1.GetApiKeyRequest{Name: made.GetName()})
	requireFault(t, err, "API_KEY_REVOKED", "")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'key.revoke'`))

	stranger, err := auth.NewKey(true)
	require.NoError(t, err)
	_, err = client(w.DialKey("tenancy", stranger)).GetTenant(t.Context(), &tenancyv1.GetTenantRequest{Name: "tenants/acme"})
	requireFault(t, err, "API_KEY_UNKNOWN", "")
	_, err = client(w.DialKey("tenancy", stranger[:20])).GetTenant(t.Context(), &tenancyv1.GetTenantRequest{Name: "tenants/acme"})
	requireFault(t, err, "API_KEY_MALFORMED", "")
	_, err = w.operator.RevokeApiKey(t.Context(), &tenancyv1.RevokeApiKeyRequest{Name: "tenants/acme/apiKeys/none"})
	requireFault(t, err, "API_KEY_NOT_FOUND", "")
}

func TestKeyExpires(t *testing.T) {
	w := start(t)
	made, err := w.operator.CreateApiKey(t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: "tenants/acme",
		ApiKey: &tenancyv1.ApiKey{Scopes: []string{"*"}, ExpireTime: timestamppb.New(time.Now().Add(300 * time.Millisecond))}})
	require.NoError(t, err)
	ask := client(w.DialAs("tenancy", "invoice"))
	require.Eventually(t, func() bool {
		_, err := ask.ResolveApiKey(t.Context(), &tenancyv1.ResolveApiKeyRequest{SecretSha256: auth.HashKey(made.GetSecret())})
		return err != nil && fault.Of(err).Code == "API_KEY_EXPIRED"
	}, 5*time.Second, 20*time.Millisecond)
}

func TestRepeatedRequestsMakeOneThing(t *testing.T) {
	w := start(t)
	req := companyRequest("acme", "main", 1)
	req.RequestId = uuid.NewString()
	const n = 100
	answers, errs := make([]*tenancyv1.Company, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i], errs[i] = w.operator.CreateCompany(t.Context(), req) })
	}
	wg.Wait()
	for i := range n {
		require.NoError(t, errs[i])
		require.True(t, proto.Equal(answers[0], answers[i]))
	}
	require.Equal(t, 1, w.count(`SELECT count(*) FROM company`))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'company.create'`))

	other := companyRequest("acme", "another", 2)
	other.RequestId = req.GetRequestId()
	_, err := w.operator.CreateCompany(t.Context(), other)
	requireFault(t, err, "REQUEST_ID_REUSED", "request_id")

	again := tenantRequest("twice", "north")
	again.RequestId = uuid.NewString()
	first, err := w.operator.CreateTenant(t.Context(), again)
	require.NoError(t, err)
	second, err := w.operator.CreateTenant(t.Context(), again)
	require.NoError(t, err)
	require.True(t, proto.Equal(first, second))
	again.RequestId = ""
	_, err = w.operator.CreateTenant(t.Context(), again)
	requireFault(t, err, "TENANT_EXISTS", "tenant_id")
	_, err = w.operator.CreateTenant(t.Context(), tenantRequest("orphan", "nowhere"))
	requireFault(t, err, "RESELLER_NOT_FOUND", "tenant.reseller")
}

func TestPages(t *testing.T) {
	w := start(t)
	var want []string
	for _, id := range []string{"aa", "bb", "cc", "dd", "ee"} {
		_, err := w.operator.CreateCompany(t.Context(), companyRequest("acme", id, int(id[0])))
		require.NoError(t, err)
		want = append(want, "tenants/acme/companies/"+id)
	}
	var got []string
	req := &tenancyv1.ListCompaniesRequest{Parent: "tenants/acme", PageSize: 2}
	for {
		page, err := w.operator.ListCompanies(t.Context(), req)
		require.NoError(t, err)
		for _, c := range page.GetCompanies() {
			got = append(got, c.GetName())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
		_, err = w.operator.ListCompanies(t.Context(), &tenancyv1.ListCompaniesRequest{Parent: "tenants/brio", PageToken: req.PageToken})
		requireFault(t, err, pg.CodePageToken, "page_token")
	}
	require.Equal(t, want, got)
	_, err := w.operator.ListTenants(t.Context(), &tenancyv1.ListTenantsRequest{PageToken: "nonsense"})
	requireFault(t, err, pg.CodePageToken, "page_token")
	all, err := w.operator.ListTenants(t.Context(), &tenancyv1.ListTenantsRequest{PageSize: 1})
	require.NoError(t, err)
	require.Len(t, all.GetTenants(), 1)
	require.NotEmpty(t, all.GetNextPageToken())
	resellers, err := w.operator.ListResellers(t.Context(), &tenancyv1.ListResellersRequest{})
	require.NoError(t, err)
	require.Len(t, resellers.GetResellers(), 2)
}

func TestAnotherBootstrapKeyRevokesTheOneBefore(t *testing.T) {
	first, err := auth.NewKey(true)
	require.NoError(t, err)
	second, err := auth.NewKey(true)
	require.NoError(t, err)
	one := startWith(t, first, runtest.Options{})
	one.reseller("north")
	shared := map[string]*pg.DB{"tenancy": one.DB("tenancy")}
	two := startWith(t, second, runtest.Options{DB: shared})
	two.reseller("south")
	_, err = client(two.DialKey("tenancy", first)).ListResellers(t.Context(), &tenancyv1.ListResellersRequest{})
	requireFault(t, err, "API_KEY_REVOKED", "")
	list, err := two.operator.ListApiKeys(t.Context(), &tenancyv1.ListApiKeysRequest{Parent: "operators/bootstrap"})
	require.NoError(t, err)
	require.Len(t, list.GetApiKeys(), 2)
}
