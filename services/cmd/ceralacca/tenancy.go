package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

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
	create := verb("create ID", "Create a reseller; ID is 2 to 39 of a-z, 0-9 and -", args("ID"), func(ctx context.Context, given []string) error {
		err := need("display-name", display)
		if err != nil {
			return err
		}
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
		return c.print(r, func() { c.showReseller(r) })
	})
	create.Flags().StringVar(&display, "display-name", "", "name that people see")
	get := verb("get ID", "Show a reseller", args("ID"), func(ctx context.Context, given []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		r, err := api.GetReseller(ctx, &tenancyv1.GetResellerRequest{Name: prefixed("resellers/", given[0])})
		if err != nil {
			return err
		}
		return c.print(r, func() { c.showReseller(r) })
	})
	list := c.lister(verb("ls", "List resellers", args(), func(ctx context.Context, _ []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*tenancyv1.ListResellersResponse, error) {
			return api.ListResellers(ctx, &tenancyv1.ListResellersRequest{PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			var rows [][]string
			for _, r := range all.GetResellers() {
				rows = append(rows, []string{r.GetName(), r.GetDisplayName(), enum("TENANCY_STATE_", r.GetState()), when(r.GetCreateTime())})
			}
			c.table([]string{"RESELLER", "DISPLAY NAME", "STATE", "CREATED"}, rows)
		})
	}))
	return group("reseller", "Partners that onboard tenants", append(c.suspendResellerCommands(), create, get, list)...)
}

func (c *cli) showReseller(r *tenancyv1.Reseller) {
	c.fields("name", r.GetName(), "display name", r.GetDisplayName(), "state", enum("TENANCY_STATE_", r.GetState()),
		"suspended", suspended(r.GetSuspension()), "created", when(r.GetCreateTime()))
}

func (c *cli) tenantCommand() *cobra.Command {
	var display, reseller string
	create := verb("create ID", "Create a tenant; ID is 2 to 39 of a-z, 0-9 and -", args("ID"), func(ctx context.Context, given []string) error {
		err := need("display-name", display)
		if err != nil {
			return err
		}
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
	create.Flags().StringVar(&reseller, "reseller", "", "reseller that the tenant belongs to; a reseller's own when its key is used")
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
	var parent, state string
	list := c.lister(verb("ls", "List tenants", args(), func(ctx context.Context, _ []string) error {
		only, err := enumOf("state", "TENANCY_STATE_", state, tenancyv1.TenancyState_value)
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*tenancyv1.ListTenantsResponse, error) {
			return api.ListTenants(ctx, &tenancyv1.ListTenantsRequest{Parent: prefixed("resellers/", parent), State: tenancyv1.TenancyState(only), PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			var rows [][]string
			for _, t := range all.GetTenants() {
				rows = append(rows, []string{t.GetName(), t.GetDisplayName(), t.GetReseller(), enum("TENANCY_STATE_", t.GetState()), when(t.GetCreateTime())})
			}
			c.table([]string{"TENANT", "DISPLAY NAME", "RESELLER", "STATE", "CREATED"}, rows)
		})
	}))
	list.Flags().StringVar(&parent, "reseller", "", "only the tenants of this reseller")
	list.Flags().StringVar(&state, "state", "", "only those that are active or suspended")
	return group("tenant", "Customers of the platform", append(c.suspendTenantCommands(), create, get, list)...)
}

func prefixed(prefix, name string) string {
	if name == "" || strings.HasPrefix(name, prefix) {
		return name
	}
	return prefix + name
}

func (c *cli) showTenant(t *tenancyv1.Tenant) {
	pairs := []any{"name", t.GetName(), "display name", t.GetDisplayName(), "reseller", t.GetReseller(), "state", enum("TENANCY_STATE_", t.GetState())}
	for _, s := range t.GetSuspensions() {
		pairs = append(pairs, "suspended", suspended(s))
	}
	c.fields(append(pairs, "created", when(t.GetCreateTime()))...)
}

func (c *cli) companyCommand() *cobra.Command {
	var company tenancyv1.Company
	var policy string
	create := verb("create ID", "Create a company of the tenant; ID is 2 to 39 of a-z, 0-9 and -", args("ID"), func(ctx context.Context, given []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		err = need("display-name", company.GetDisplayName(), "signature", policy)
		if err != nil {
			return err
		}
		chosen, err := enumOf("signature", "SIGNATURE_POLICY_", policy, tenancyv1.SignaturePolicy_value)
		if err != nil {
			return err
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
	companyFlags(create, &company)
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
	list := c.lister(verb("ls", "List the companies of the tenant", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*tenancyv1.ListCompaniesResponse, error) {
			return api.ListCompanies(ctx, &tenancyv1.ListCompaniesRequest{Parent: parent, PageToken: token, PageSize: size})
		})
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
	}))
	return group("company", "Fiscal identities of the tenant", create, get, list, c.companyUpdate())
}

func companyFlags(cmd *cobra.Command, company *tenancyv1.Company) {
	cmd.Flags().StringVar(&company.DisplayName, "display-name", "", "name that people see")
	cmd.Flags().StringVar(&company.VatNumber, "vat", "", "VAT number with its country, IT01234567897; once set it stays")
	cmd.Flags().StringVar(&company.TaxCode, "tax-code", "", "tax code, 11 digits or 16 characters; once set it stays")
	cmd.Flags().StringVar(&company.RecipientCode, "recipient-code", "", "code on which the company receives")
	cmd.Flags().StringSliceVar(&company.RecipientCodes, "recipient-codes", nil, "further codes on which it receives, such as the offices of a public body: A1,B2")
	cmd.Flags().StringSliceVar(&company.PecAddresses, "pec-addresses", nil, "certified addresses on which it receives")
}

// companyUpdate changes what its flags name and nothing else.
func (c *cli) companyUpdate() *cobra.Command {
	var given tenancyv1.Company
	var policy string
	var cmd *cobra.Command
	cmd = verb("update COMPANY", "Change a company: what the flags name", args("COMPANY"), func(ctx context.Context, words []string) error {
		name, err := c.within("companies", words[0])
		if err != nil {
			return err
		}
		chosen, err := enumOf("signature", "SIGNATURE_POLICY_", policy, tenancyv1.SignaturePolicy_value)
		if err != nil {
			return err
		}
		given.SignaturePolicy = tenancyv1.SignaturePolicy(chosen)
		paths := map[string]string{"display-name": "display_name", "vat": "vat_number", "tax-code": "tax_code",
			"recipient-code": "recipient_code", "recipient-codes": "recipient_codes", "pec-addresses": "pec_addresses", "signature": "signature_policy"}
		maps.DeleteFunc(paths, func(flag, _ string) bool { return !cmd.Flags().Changed(flag) })
		if len(paths) == 0 {
			return usage("nothing to change: give --display-name, --recipient-code, --recipient-codes, --pec-addresses, --signature, --vat or --tax-code")
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		// The whole company goes back with its etag: a change that somebody else made meanwhile is not lost.
		company, err := api.GetCompany(ctx, &tenancyv1.GetCompanyRequest{Name: name})
		if err != nil {
			return err
		}
		mask := &fieldmaskpb.FieldMask{Paths: slices.Sorted(maps.Values(paths))}
		for _, path := range mask.Paths {
			field := given.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(path))
			value := given.ProtoReflect().Get(field)
			if field.IsList() && !value.List().IsValid() {
				company.ProtoReflect().Clear(field) // an empty list was given
				continue
			}
			company.ProtoReflect().Set(field, value)
		}
		changed, err := api.UpdateCompany(ctx, &tenancyv1.UpdateCompanyRequest{Company: company, UpdateMask: mask, RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(changed, func() { c.showCompany(changed) })
	})
	companyFlags(cmd, &given)
	cmd.Flags().StringVar(&policy, "signature", "", "none, auto (where SdI demands it) or always")
	return cmd
}

func (c *cli) showCompany(co *tenancyv1.Company) {
	c.fields("name", co.GetName(), "display name", co.GetDisplayName(), "VAT number", co.GetVatNumber(), "tax code", co.GetTaxCode(),
		"recipient code", co.GetRecipientCode(), "further codes", strings.Join(co.GetRecipientCodes(), " "), "PEC addresses", strings.Join(co.GetPecAddresses(), " "), "signature", enum("SIGNATURE_POLICY_", co.GetSignaturePolicy()), "created", when(co.GetCreateTime()))
}
