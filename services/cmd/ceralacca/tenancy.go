package main

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
)

func (c *cli) tenancy() (tenancyv1.TenancyServiceClient, error) {
	conn, err := c.dial()
	return tenancyv1.NewTenancyServiceClient(conn), err
}

// verb makes a command whose function runs with the arguments.
func verb(use, short string, positional cobra.PositionalArgs, fn func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: positional, RunE: func(cmd *cobra.Command, given []string) error {
		return fn(cmd.Context(), given)
	}}
}

func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(verbs...)
	return cmd
}

func (c *cli) resellerCommand() *cobra.Command {
	var display string
	create := verb("create ID", "Create a reseller", args("ID"), func(ctx context.Context, given []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		r, err := api.CreateReseller(ctx, &tenancyv1.CreateResellerRequest{
			ResellerId: given[0], Reseller: &tenancyv1.Reseller{DisplayName: display}, RequestId: uuid.NewString(),
		})
		if err != nil {
			return err
		}
		return c.print(r, func() { c.fields("name", r.GetName(), "display name", r.GetDisplayName()) })
	})
	create.Flags().StringVar(&display, "display-name", "", "name that people see")
	list := verb("ls", "List resellers", args(), func(ctx context.Context, _ []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		var all tenancyv1.ListResellersResponse
		for token := ""; ; {
			page, err := api.ListResellers(ctx, &tenancyv1.ListResellersRequest{PageToken: token, PageSize: 1000})
			if err != nil {
				return err
			}
			all.Resellers = append(all.Resellers, page.GetResellers()...)
			token = page.GetNextPageToken()
			if token == "" {
				break
			}
		}
		return c.print(&all, func() {
			var rows [][]string
			for _, r := range all.GetResellers() {
				rows = append(rows, []string{r.GetName(), r.GetDisplayName(), when(r.GetCreateTime())})
			}
			c.table([]string{"RESELLER", "DISPLAY NAME", "CREATED"}, rows)
		})
	})
	return group("reseller", "Partners that onboard tenants", create, list)
}

func (c *cli) tenantCommand() *cobra.Command {
	var display, reseller string
	create := verb("create ID", "Create a tenant", args("ID"), func(ctx context.Context, given []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		t, err := api.CreateTenant(ctx, &tenancyv1.CreateTenantRequest{
			TenantId: given[0], Tenant: &tenancyv1.Tenant{DisplayName: display, Reseller: prefixed("resellers/", reseller)}, RequestId: uuid.NewString(),
		})
		if err != nil {
			return err
		}
		return c.print(t, func() { c.showTenant(t) })
	})
	create.Flags().StringVar(&display, "display-name", "", "name that people see")
	create.Flags().StringVar(&reseller, "reseller", "", "reseller that the tenant belongs to")
	get := verb("get ID", "Show a tenant", args("ID"), func(ctx context.Context, given []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		t, err := api.GetTenant(ctx, &tenancyv1.GetTenantRequest{Name: prefixed("tenants/", given[0])})
		if err != nil {
			return err
		}
		return c.print(t, func() { c.showTenant(t) })
	})
	var parent string
	list := verb("ls", "List tenants", args(), func(ctx context.Context, _ []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		var all tenancyv1.ListTenantsResponse
		for token := ""; ; {
			page, err := api.ListTenants(ctx, &tenancyv1.ListTenantsRequest{Parent: prefixed("resellers/", parent), PageToken: token, PageSize: 1000})
			if err != nil {
				return err
			}
			all.Tenants = append(all.Tenants, page.GetTenants()...)
			token = page.GetNextPageToken()
			if token == "" {
				break
			}
		}
		return c.print(&all, func() {
			var rows [][]string
			for _, t := range all.GetTenants() {
				rows = append(rows, []string{t.GetName(), t.GetDisplayName(), t.GetReseller(), when(t.GetCreateTime())})
			}
			c.table([]string{"TENANT", "DISPLAY NAME", "RESELLER", "CREATED"}, rows)
		})
	})
	list.Flags().StringVar(&parent, "reseller", "", "only the tenants of this reseller")
	return group("tenant", "Customers", create, get, list)
}

func prefixed(prefix, name string) string {
	if name == "" || strings.HasPrefix(name, prefix) {
		return name
	}
	return prefix + name
}

func (c *cli) showTenant(t *tenancyv1.Tenant) {
	c.fields("name", t.GetName(), "display name", t.GetDisplayName(), "reseller", t.GetReseller(), "created", when(t.GetCreateTime()))
}

func (c *cli) companyCommand() *cobra.Command {
	var company tenancyv1.Company
	var policy string
	create := verb("create ID", "Create a company of the tenant", args("ID"), func(ctx context.Context, given []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		chosen, ok := tenancyv1.SignaturePolicy_value["SIGNATURE_POLICY_"+strings.ToUpper(policy)]
		if !ok || chosen == 0 {
			return usage("--signature is none, auto or always, not %q", policy)
		}
		company.SignaturePolicy = tenancyv1.SignaturePolicy(chosen)
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		made, err := api.CreateCompany(ctx, &tenancyv1.CreateCompanyRequest{
			Parent: parent, CompanyId: given[0], Company: &company, RequestId: uuid.NewString(),
		})
		if err != nil {
			return err
		}
		return c.print(made, func() { c.showCompany(made) })
	})
	create.Flags().StringVar(&company.DisplayName, "display-name", "", "name that people see")
	create.Flags().StringVar(&company.VatNumber, "vat", "", "VAT number with its country, IT01234567897")
	create.Flags().StringVar(&company.TaxCode, "tax-code", "", "tax code, 11 digits or 16 characters")
	create.Flags().StringVar(&company.RecipientCode, "recipient-code", "", "code on which the company receives")
	create.Flags().StringVar(&policy, "signature", "auto", "none, auto (where SdI demands it) or always")
	get := verb("get COMPANY", "Show a company", args("COMPANY"), func(ctx context.Context, given []string) error {
		name, err := c.within("companies", given[0])
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		found, err := api.GetCompany(ctx, &tenancyv1.GetCompanyRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(found, func() { c.showCompany(found) })
	})
	list := verb("ls", "List the companies of the tenant", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		page, err := api.ListCompanies(ctx, &tenancyv1.ListCompaniesRequest{Parent: parent, PageSize: 1000})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, co := range page.GetCompanies() {
				rows = append(rows, []string{co.GetName(), co.GetDisplayName(), co.GetVatNumber(), enum("SIGNATURE_POLICY_", co.GetSignaturePolicy())})
			}
			c.table([]string{"COMPANY", "DISPLAY NAME", "VAT NUMBER", "SIGNATURE"}, rows)
		})
	})
	return group("company", "Fiscal identities of the tenant", create, get, list)
}

func (c *cli) showCompany(co *tenancyv1.Company) {
	c.fields("name", co.GetName(), "display name", co.GetDisplayName(), "VAT number", co.GetVatNumber(), "tax code", co.GetTaxCode(),
		"recipient code", co.GetRecipientCode(), "signature", enum("SIGNATURE_POLICY_", co.GetSignaturePolicy()), "created", when(co.GetCreateTime()))
}

func (c *cli) keyCommand() *cobra.Command {
	var display, expires, parent string
	var scopes []string
	var live bool
	create := verb("create", "Create an API key; it is shown once", args(), func(ctx context.Context, _ []string) error {
		owner, err := c.keyOwner(parent)
		if err != nil {
			return err
		}
		until, err := parseTime("expires", expires)
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		key, err := api.CreateApiKey(ctx, &tenancyv1.CreateApiKeyRequest{
			Parent: owner, ApiKey: &tenancyv1.ApiKey{DisplayName: display, Scopes: scopes, Live: live, ExpireTime: until},
		})
		if err != nil {
			return err
		}
		return c.print(key, func() {
			c.fields("name", key.GetName(), "scopes", strings.Join(key.GetScopes(), " "), "expires", when(key.GetExpireTime()), "key", key.GetSecret())
		})
	})
	create.Flags().StringVar(&display, "display-name", "", "what the key is for")
	create.Flags().StringSliceVar(&scopes, "scopes", []string{"*"}, "what it may do: invoices.write, invoices.read, keys.write, ...; * is everything of its owner")
	create.Flags().StringVar(&expires, "expires", "", "date or time of its end")
	create.Flags().BoolVar(&live, "live", false, "cl_live_ instead of cl_test_")
	list := verb("ls", "List keys", args(), func(ctx context.Context, _ []string) error {
		owner, err := c.keyOwner(parent)
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		page, err := api.ListApiKeys(ctx, &tenancyv1.ListApiKeysRequest{Parent: owner, PageSize: 1000})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, k := range page.GetApiKeys() {
				rows = append(rows, []string{k.GetName(), k.GetPrefix() + "...", strings.Join(k.GetScopes(), " "), when(k.GetLastUseTime()), when(k.GetExpireTime()), when(k.GetRevokeTime())})
			}
			c.table([]string{"KEY", "BEGINS", "SCOPES", "LAST USED", "EXPIRES", "REVOKED"}, rows)
		})
	})
	revoke := verb("revoke KEY", "Revoke a key; it is final", args("KEY"), func(ctx context.Context, given []string) error {
		name := given[0]
		if !strings.Contains(name, "/") {
			owner, err := c.keyOwner(parent)
			if err != nil {
				return err
			}
			name = owner + "/apiKeys/" + name
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		key, err := api.RevokeApiKey(ctx, &tenancyv1.RevokeApiKeyRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(key, func() { c.fields("name", key.GetName(), "revoked", when(key.GetRevokeTime())) })
	})
	cmd := group("key", "API keys", create, list, revoke)
	cmd.PersistentFlags().StringVar(&parent, "owner", "", "tenants/ID, resellers/ID or operators/ID; the tenant when empty")
	return cmd
}

func (c *cli) keyOwner(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	return c.tenantName()
}
