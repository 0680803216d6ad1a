package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

func (c *cli) lives() (signv1.CredentialServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewCredentialServiceClient(conn), err
}

// credentialLife are the commands about a credential after its first certificate.
func (c *cli) credentialLife(company *string) []*cobra.Command {
	var reason string
	suspend := c.credentialAct("suspend", "Suspend a credential: it signs nothing until it is reactivated", company,
		func(ctx context.Context, _ signv1.SignServiceClient, name string) (*signv1.Credential, error) {
			if err := need("reason", reason); err != nil {
				return nil, err
			}
			api, err := c.lives()
			if err != nil {
				return nil, err
			}
			return api.SuspendCredential(ctx, &signv1.SuspendCredentialRequest{Name: name, Reason: reason})
		})
	suspend.Flags().StringVar(&reason, "reason", "", "why; it is in the audit record: no personal data")
	reactivate := c.credentialAct("reactivate", "End the suspension of a credential", company,
		func(ctx context.Context, _ signv1.SignServiceClient, name string) (*signv1.Credential, error) {
			api, err := c.lives()
			if err != nil {
				return nil, err
			}
			return api.ReactivateCredential(ctx, &signv1.ReactivateCredentialRequest{Name: name})
		})
	return []*cobra.Command{suspend, reactivate, c.credentialSucceed(company), c.credentialRenew(company), c.credentialStatus(company), c.credentialExpiring(), c.credentialPolicy()}
}

func (c *cli) credentialSucceed(company *string) *cobra.Command {
	var by, from string
	var nobody bool
	cmd := verb("succeed CREDENTIAL", "Have another credential take a credential's place, from a date on: between a key in Vault and one at a provider", args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		name, err := c.credentialName(*company, given[0])
		if err != nil {
			return err
		}
		if (by == "") != nobody {
			return usage("say who takes its place (--by CREDENTIAL), or that nobody does (--nobody)")
		}
		req := &signv1.SetSuccessorRequest{Name: name}
		if by != "" {
			if req.Successor, err = c.credentialName(*company, by); err != nil {
				return err
			}
		}
		if from != "" {
			if req.EffectiveTime, err = parseTime("from", from); err != nil {
				return err
			}
		}
		api, err := c.lives()
		if err != nil {
			return err
		}
		s, err := api.SetSuccessor(ctx, req)
		if err != nil {
			return err
		}
		return c.print(s, func() {
			c.fields("name", s.GetCredential().GetName(), "successor", s.GetSuccessor(), "from", when(s.GetSuccessorTime()))
		})
	})
	cmd.Flags().StringVar(&by, "by", "", "the credential that takes its place")
	cmd.Flags().StringVar(&from, "from", "", "date; now when not set. What was begun before goes on with the credential of before")
	cmd.Flags().BoolVar(&nobody, "nobody", false, "end the succession: the credential signs itself")
	cmd.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	return cmd
}

func (c *cli) credentialRenew(company *string) *cobra.Command {
	var newKey bool
	cmd := verb("renew CREDENTIAL", "Make the request for the next certificate; import it when it is certified", args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		name, err := c.credentialName(*company, given[0])
		if err != nil {
			return err
		}
		api, err := c.lives()
		if err != nil {
			return err
		}
		r, err := api.RenewCredential(ctx, &signv1.RenewCredentialRequest{Name: name, NewKey: newKey})
		if err != nil {
			return err
		}
		return c.print(r, func() {
			c.fields("credential", r.GetCredential(), "key version", fmt.Sprint(r.GetKeyVersion()), "asked for", when(r.GetCreateTime()))
			fmt.Fprint(c.out, r.GetCsrPem())
		})
	})
	cmd.Flags().BoolVar(&newKey, "new-key", false, "make a new version of the key; otherwise the present one is certified again")
	cmd.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	return cmd
}

func (c *cli) credentialStatus(company *string) *cobra.Command {
	cmd := verb("status CREDENTIAL", "Show a credential with its suspension, its renewal and all its certificates", args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		name, err := c.credentialName(*company, given[0])
		if err != nil {
			return err
		}
		api, err := c.lives()
		if err != nil {
			return err
		}
		s, err := api.GetCredentialStatus(ctx, &signv1.GetCredentialStatusRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(s, func() {
			k := s.GetCredential()
			renewal := ""
			if s.GetRenewal() != nil {
				renewal = fmt.Sprintf("of key version %d, asked for %s", s.GetRenewal().GetKeyVersion(), when(s.GetRenewal().GetCreateTime()))
			}
			c.fields("name", k.GetName(), "state", enum("CREDENTIAL_STATE_", k.GetState()), "kind", enum("CREDENTIAL_KIND_", k.GetKind()),
				"level", enum("SIGNATURE_LEVEL_", k.GetLevel()), "key version", fmt.Sprint(s.GetKeyVersion()), "expires", when(k.GetExpireTime()),
				"suspended", when(s.GetSuspendTime()), "because", s.GetSuspendReason(), "renewal", renewal,
				"successor", s.GetSuccessor(), "from", when(s.GetSuccessorTime()))
			var rows [][]string
			for _, x := range s.GetCertificates() {
				rows = append(rows, []string{enum("CERTIFICATE_USE_", x.GetUse()), fmt.Sprint(x.GetKeyVersion()), when(x.GetValidFrom()), when(x.GetValidUntil()), x.GetSerial(), x.GetIssuer()})
			}
			c.table([]string{"USE", "KEY", "FROM", "UNTIL", "SERIAL", "ISSUER"}, rows)
		})
	})
	cmd.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	return cmd
}

func (c *cli) credentialExpiring() *cobra.Command {
	var days int32
	var all bool
	cmd := c.lister(verb("expiring", "List credentials whose certificate ends soon and has no successor", args(), func(ctx context.Context, _ []string) error {
		parent := "tenants/-"
		if !all {
			var err error
			if parent, err = c.tenantName(); err != nil {
				return err
			}
		}
		api, err := c.lives()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*signv1.ListExpiringCredentialsResponse, error) {
			return api.ListExpiringCredentials(ctx, &signv1.ListExpiringCredentialsRequest{Parent: parent, Days: days, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, x := range page.GetCredentials() {
				warned := ""
				if x.GetWarnedDays() > 0 {
					warned = fmt.Sprintf("%d days before", x.GetWarnedDays())
				}
				rows = append(rows, []string{x.GetCredential().GetName(), fmt.Sprint(x.GetDaysLeft()), when(x.GetCredential().GetExpireTime()), warned, x.GetCredential().GetCommonName()})
			}
			c.table([]string{"CREDENTIAL", "DAYS", "EXPIRES", "WARNED", "NAME"}, rows)
		})
	}))
	cmd.Flags().Int32Var(&days, "days", 60, "within how many days")
	cmd.Flags().BoolVar(&all, "all-tenants", false, "of all tenants (operators)")
	return cmd
}

func (c *cli) credentialPolicy() *cobra.Command {
	return verb("policy", "Show which keys may be made, and until when each is relied on", args(), func(ctx context.Context, _ []string) error {
		api, err := c.lives()
		if err != nil {
			return err
		}
		p, err := api.GetKeyPolicy(ctx, &signv1.GetKeyPolicyRequest{})
		if err != nil {
			return err
		}
		return c.print(p, func() {
			var rows [][]string
			for _, e := range p.GetEntries() {
				until, may := "no end is set", "yes"
				if e.GetReliedOnUntil() != nil {
					until = when(e.GetReliedOnUntil())
				}
				if !e.GetAllowed() {
					may = "no"
				}
				rows = append(rows, []string{enum("KEY_TYPE_", e.GetKeyType()), e.GetAlgorithm(), until, may, e.GetSource()})
			}
			c.table([]string{"KEY", "ALGORITHM", "RELIED ON UNTIL", "MAY BE MADE", "SOURCE"}, rows)
		})
	})
}
