package main

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
)

const suspendHelp = `

While it holds, nothing new begins: no invoice, no certified message, no signature, no time stamp, no deposit, no new
credential, mailbox or company, and no new key that does more than read. Each such call is refused with TENANT_SUSPENDED,
since when, why (the reason given here) and who lifts it. All else goes on: reading, searching, exporting, showing and
verifying, inspectors, reception of invoices and certified mail with their notices, preservation of what was taken in,
legal holds, deadlines. What was accepted before is finished. Other services follow within auth.key_ttl (5s).`

// suspendTenantCommands are suspend and resume of a tenant.
func (c *cli) suspendTenantCommands() []*cobra.Command {
	var reason string
	suspend := verb("suspend ID", "Let a tenant begin nothing new", args("ID"), func(ctx context.Context, given []string) error {
		err := need("reason", reason)
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		t, err := api.SuspendTenant(ctx, &tenancyv1.SuspendTenantRequest{Name: prefixed("tenants/", given[0]), Reason: reason, RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(t, func() { c.showTenant(t) })
	})
	suspend.Long = suspend.Short + `. Operators suspend any tenant, a reseller its own: independently of each
other, and each lifts its own suspension. A repeat changes nothing.` + suspendHelp
	suspend.Flags().StringVar(&reason, "reason", "", "why; the tenant reads it")
	var both bool
	resume := verb("resume ID", "Lift the suspension of a tenant", args("ID"), func(ctx context.Context, given []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		t, err := api.ResumeTenant(ctx, &tenancyv1.ResumeTenantRequest{Name: prefixed("tenants/", given[0]), AlsoReseller: both, RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(t, func() { c.showTenant(t) })
	})
	resume.Long = resume.Short + `: the operators' with the key of an operator, the reseller's with the
key of the reseller. The answer shows what still holds.`
	resume.Flags().BoolVar(&both, "also-reseller", false, "of an operator: lift the suspension of the reseller too")
	return []*cobra.Command{suspend, resume}
}

// suspendResellerCommands are suspend and resume of a reseller.
func (c *cli) suspendResellerCommands() []*cobra.Command {
	var reason string
	suspend := verb("suspend ID", "Let a reseller and all its tenants begin nothing new", args("ID"), func(ctx context.Context, given []string) error {
		err := need("reason", reason)
		if err != nil {
			return err
		}
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		r, err := api.SuspendReseller(ctx, &tenancyv1.SuspendResellerRequest{Name: prefixed("resellers/", given[0]), Reason: reason, RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(r, func() { c.showReseller(r) })
	})
	suspend.Long = suspend.Short + `. Only operators do it. A repeat changes nothing.` + suspendHelp
	suspend.Flags().StringVar(&reason, "reason", "", "why; the reseller and its tenants read it")
	resume := verb("resume ID", "Lift the suspension of a reseller; those of single tenants stay", args("ID"), func(ctx context.Context, given []string) error {
		api, err := c.tenancy()
		if err != nil {
			return err
		}
		r, err := api.ResumeReseller(ctx, &tenancyv1.ResumeResellerRequest{Name: prefixed("resellers/", given[0]), RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(r, func() { c.showReseller(r) })
	})
	return []*cobra.Command{suspend, resume}
}

// suspended is one suspension in a line: since when, by whom, why.
func suspended(s *tenancyv1.Suspension) string {
	if s == nil {
		return ""
	}
	words := []string{s.GetSubject(), "since", when(s.GetSuspendTime()), "by", strings.ToLower(enum("SUSPENSION_PARTY_", s.GetParty()))}
	if s.GetActor() != "" {
		words = append(words, "("+s.GetActor()+")")
	}
	return strings.Join(words, " ") + ": " + s.GetReason()
}
