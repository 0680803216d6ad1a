package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecTrust() (pecv1.PecTrustServiceClient, error) {
	conn, err := c.dial()
	return pecv1.NewPecTrustServiceClient(conn), err
}

func (c *cli) pecTrustCommand() *cobra.Command {
	list := c.lister(verb("ls", "Providers whose signatures count", args(), func(ctx context.Context, _ []string) error {
		api, err := c.pecTrust()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListTrustedProvidersResponse, error) {
			return api.ListTrustedProviders(ctx, &pecv1.ListTrustedProvidersRequest{PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, p := range page.GetProviders() {
				rows = append(rows, []string{p.GetDisplayName(), strings.Join(p.GetDomains(), " "),
					fmt.Sprint(max(len(p.GetCertificatesSha256()), len(p.GetCertificatesSha1()))), when(p.GetUpdateTime()), when(p.GetAbsentSince()), withdrawnText(p.GetWithdrawn())})
			}
			c.table([]string{"PROVIDER", "DOMAINS", "CERTIFICATES", "CHANGED", "ABSENT FROM THE INDEX SINCE", "WITHDRAWN"}, rows)
			fmt.Fprintf(c.out, "version %s, %d authorities\n", page.GetVersion(), len(page.GetAuthorities()))
		})
	}))
	return group("trust", "Whose signatures on certified mail count (operators)", list, c.pecTrustImport(), c.pecSeen(), c.pecDecide("approve", true), c.pecDecide("refuse", false),
		c.pecWithdraw(), c.pecReinstate(), c.pecWithdrawals())
}

func (c *cli) pecTrustImport() *cobra.Command {
	var authorities, indexAuthority string
	var revoked []string
	cmd := verb("import [INDEX]", "Take providers from an index (LDIF, plain or signed) and authorities from a file", args("[INDEX]"), func(ctx context.Context, given []string) error {
		req := &pecv1.ImportTrustListRequest{}
		var err error
		noIndex := len(given) == 0 || given[0] == "-"
		if !noIndex {
			if req.Index, err = c.readFlag("INDEX", given[0], largestFile); err != nil {
				return err
			}
		}
		for _, f := range []struct {
			flag, path string
			to         *string
		}{{"--authorities", authorities, &req.AuthoritiesPem}, {"--index-authority", indexAuthority, &req.IndexAuthorityPem}} {
			if f.path == "" {
				continue
			}
			text, err := c.readFlag(f.flag, f.path, largestFile)
			if err != nil {
				return err
			}
			*f.to = string(text)
		}
		if noIndex && authorities == "" && len(revoked) == 0 {
			return usage("nothing to import: give INDEX, --authorities or --crl")
		}
		for _, path := range revoked {
			list, err := c.readFlag("--crl", path, largestFile)
			if err != nil {
				return err
			}
			req.RevocationLists = append(req.RevocationLists, list)
		}
		api, err := c.pecTrust()
		if err != nil {
			return err
		}
		got, err := api.ImportTrustList(ctx, req)
		if err != nil {
			return err
		}
		return c.print(got, func() {
			c.fields("version", got.GetVersion(), "providers added", got.GetProvidersAdded(), "providers changed", got.GetProvidersChanged(), "authorities added", got.GetAuthoritiesAdded(),
				"revocation lists added", got.GetRevocationListsAdded(), "not in this index", strings.Join(got.GetAbsentProviders(), ", "),
				"named by it and withdrawn", strings.Join(got.GetStandingWithdrawals(), ", "))
		})
	})
	cmd.Long = cmd.Short + ".\n\nWithout INDEX (or with -) authorities and lists of revoked certificates are taken alone: those of registered mail (REM), for example. What is known stays: a renewal keeps the earlier certificates, for old receipts stay true."
	cmd.Flags().StringVar(&authorities, "authorities", "", "authorities behind the providers' certificates, PEM")
	cmd.Flags().StringArrayVar(&revoked, "crl", nil, "list of revoked certificates of one of the authorities, DER or PEM; may be repeated")
	cmd.Flags().StringVar(&indexAuthority, "index-authority", "", "authority behind the signature of a signed index, PEM")
	return cmd
}

func (c *cli) pecSeen() *cobra.Command {
	var all bool
	cmd := c.lister(verb("seen", "Certificates that signed well and that the list does not name", args(), func(ctx context.Context, _ []string) error {
		api, err := c.pecTrust()
		if err != nil {
			return err
		}
		state := pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_PENDING
		if all {
			state = pecv1.SeenCertificateState_SEEN_CERTIFICATE_STATE_UNSPECIFIED
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListSeenCertificatesResponse, error) {
			return api.ListSeenCertificates(ctx, &pecv1.ListSeenCertificatesRequest{State: state, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, s := range page.GetCertificates() {
				rows = append(rows, []string{s.GetSha256(), enum("SEEN_CERTIFICATE_STATE_", s.GetState()), strings.Join(s.GetAddresses(), " "), fmt.Sprint(s.GetMessages()),
					when(s.GetFirstSeenTime()), s.GetSubject(), s.GetIssuer()})
			}
			c.table([]string{"CERTIFICATE", "STATE", "SIGNS AS", "MESSAGES", "FIRST SEEN", "SUBJECT", "ISSUER"}, rows)
		})
	}))
	cmd.Flags().BoolVar(&all, "all", false, "also those decided")
	return cmd
}

func (c *cli) pecDecide(name string, approve bool) *cobra.Command {
	req := &pecv1.DecideSeenCertificateRequest{Approve: approve}
	short := "Refuse a certificate for good"
	if approve {
		short = "Add a seen certificate to a provider"
	}
	cmd := verb(name+" SHA256", short, args("SHA256"), func(ctx context.Context, given []string) error {
		if err := need("reason", req.Reason); err != nil {
			return err
		}
		req.Sha256 = strings.ToLower(given[0])
		api, err := c.pecTrust()
		if err != nil {
			return err
		}
		got, err := api.DecideSeenCertificate(ctx, req)
		if err != nil {
			return err
		}
		return c.print(got, func() {
			c.fields("certificate", got.GetSha256(), "state", enum("SEEN_CERTIFICATE_STATE_", got.GetState()), "provider", got.GetProvider(), "decided by", got.GetDecidedBy())
		})
	})
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record")
	if approve {
		cmd.Flags().StringVar(&req.Provider, "provider", "", "provider that it belongs to, as the certificate's subject names it")
	}
	return cmd
}

func withdrawnText(list []*pecv1.WithdrawnTrust) string {
	var out []string
	for _, w := range list {
		what := "all of it"
		if len(w.GetCertificate()) > 12 {
			what = w.GetCertificate()[:12] + "..."
		}
		out = append(out, what+" "+withdrawnFrom(w))
	}
	return strings.Join(out, "; ")
}

func withdrawnFrom(w *pecv1.WithdrawnTrust) string {
	if w.GetEffectiveTime() == nil {
		return "from the beginning"
	}
	return "from " + when(w.GetEffectiveTime())
}

func (c *cli) pecWithdraw() *cobra.Command {
	req := &pecv1.WithdrawTrustRequest{}
	var from string
	cmd := verb("withdraw PROVIDER", "End the trust in a provider, or in one of its certificates", args("PROVIDER"), func(ctx context.Context, given []string) error {
		err := need("reason", req.Reason)
		if err != nil {
			return err
		}
		req.Provider, req.Certificate = given[0], strings.ToLower(req.Certificate)
		if (from == "") == !req.FromBeginning {
			return usage("give --from or --from-beginning: what was signed before --from stays proven, with --from-beginning nothing does")
		}
		if from != "" {
			at, err := time.Parse(time.RFC3339, from)
			if err != nil {
				return usage("--from: %q is no moment: use for example 2026-11-22T14:00:00+01:00", from)
			}
			req.EffectiveTime = timestamppb.New(at)
		}
		api, err := c.pecTrust()
		if err != nil {
			return err
		}
		got, err := api.WithdrawTrust(ctx, req)
		if err != nil {
			return err
		}
		return c.print(got, func() { c.showWithdrawal(got) })
	})
	cmd.Long = cmd.Short + ".\n\nMessages that were proven by it and are not any more get a new report beside the earlier ones. No state of a sent message\n" +
		"changes by that: one that stands on such a receipt is shown as contradicted and told, and a person decides. A later index that\n" +
		"still names what is withdrawn brings nothing back; reinstate does."
	cmd.Flags().StringVar(&req.Certificate, "certificate", "", "SHA-256 or SHA-1 as the list names it; all of the provider when empty")
	cmd.Flags().StringVar(&from, "from", "", "the moment from which on it counts no more, for example 2026-11-22T14:00:00+01:00")
	cmd.Flags().BoolVar(&req.FromBeginning, "from-beginning", false, "it was never to be trusted")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record; tenants see it")
	return cmd
}

func (c *cli) pecReinstate() *cobra.Command {
	req := &pecv1.ReinstateTrustRequest{}
	cmd := verb("reinstate WITHDRAWAL", "Take a withdrawal back", args("WITHDRAWAL"), func(ctx context.Context, given []string) error {
		err := need("reason", req.Reason)
		if err != nil {
			return err
		}
		req.Name = "trustWithdrawals/" + strings.TrimPrefix(given[0], "trustWithdrawals/")
		api, err := c.pecTrust()
		if err != nil {
			return err
		}
		got, err := api.ReinstateTrust(ctx, req)
		if err != nil {
			return err
		}
		return c.print(got, func() { c.showWithdrawal(got) })
	})
	cmd.Long = cmd.Short + ".\n\nMessages stay as they were judged meanwhile, until a person has them read again (pec message reread MAILBOX --unproven)."
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record")
	return cmd
}

func (c *cli) pecWithdrawals() *cobra.Command {
	return c.lister(verb("withdrawals", "What was withdrawn, by whom and why, and how far the judging anew is", args(), func(ctx context.Context, _ []string) error {
		api, err := c.pecTrust()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListTrustWithdrawalsResponse, error) {
			return api.ListTrustWithdrawals(ctx, &pecv1.ListTrustWithdrawalsRequest{PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			if len(page.GetWithdrawals()) == 0 {
				fmt.Fprintln(c.out, "no provider and no certificate was withdrawn")
			}
			for i, w := range page.GetWithdrawals() {
				if i > 0 {
					fmt.Fprintln(c.out)
				}
				c.showWithdrawal(w)
			}
		})
	}))
}

func (c *cli) showWithdrawal(w *pecv1.TrustWithdrawal) {
	judged := "going on"
	switch {
	case w.GetJudgeTime() != nil:
		judged = "done " + when(w.GetJudgeTime())
	case w.GetEndTime() != nil:
		judged = "ended with the withdrawal"
	}
	c.fields("withdrawal", w.GetName(), "provider", w.GetProvider(), "certificate", w.GetWithdrawn().GetCertificate(), "withdrawn", withdrawnFrom(w.GetWithdrawn()),
		"reason", w.GetWithdrawn().GetReason(), "decided by", w.GetDecidedBy(), "on", when(w.GetDecideTime()), "trust list", w.GetVersion(),
		"judging anew", judged, "messages not proven any more", w.GetUnprovenMessages(), "receipts that states stand on", w.GetDoubtedReceipts(),
		"messages that could not be judged", w.GetFailedMessages(),
		"taken back", strings.TrimSpace(when(w.GetEndTime())+" "+w.GetEndedBy()+" "+w.GetEndReason()))
}
