package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
)

func (c *cli) documents() (signv1.DocumentServiceClient, error) {
	conn, err := c.dial()
	return signv1.NewDocumentServiceClient(conn), err
}

// formNames turns p7m,pdf into forms.
func formNames(list string) ([]signv1.SignatureForm, error) {
	var out []signv1.SignatureForm
	for _, name := range strings.Split(list, ",") {
		form, ok := forms[strings.TrimSpace(name)]
		if !ok {
			return nil, usage("--forms: %q is none of p7s, p7m, add, xml, pdf", name)
		}
		out = append(out, form)
	}
	return out, nil
}

func (c *cli) mandateCommand() *cobra.Command {
	return group("mandate", "What automatic credentials and seals may sign without a person", c.mandateCreate(), c.mandateList(),
		c.mandateAct("get", "Show a mandate and what was used of it", func(ctx context.Context, api signv1.DocumentServiceClient, name string) (*signv1.Mandate, error) {
			return api.GetMandate(ctx, &signv1.GetMandateRequest{Name: name})
		}),
		c.mandateAct("revoke", "End a mandate: it is final, and what is being signed under it is not released", func(ctx context.Context, api signv1.DocumentServiceClient, name string) (*signv1.Mandate, error) {
			return api.RevokeMandate(ctx, &signv1.RevokeMandateRequest{Name: name})
		}))
}

func (c *cli) mandateCreate() *cobra.Command {
	var company, description, list, from, until string
	var all int64
	var day int32
	var follow bool
	cmd := verb("create CREDENTIAL", "Let a credential sign documents, within limits", args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		if err := need("description", description, "until", until); err != nil {
			return err
		}
		name, err := c.credentialName(company, given[0])
		if err != nil {
			return err
		}
		m := &signv1.Mandate{Description: description, MaxDocuments: all, MaxPerDay: day, FollowSuccessor: follow}
		if m.Forms, err = formNames(list); err != nil {
			return err
		}
		if m.StartTime, err = parseTime("from", from); err != nil {
			return err
		}
		if m.StartTime == nil {
			m.StartTime = timestamppb.New(c.now())
		}
		if m.EndTime, err = parseTime("until", until); err != nil {
			return err
		}
		api, err := c.documents()
		if err != nil {
			return err
		}
		made, err := api.CreateMandate(ctx, &signv1.CreateMandateRequest{Parent: name, Mandate: m})
		if err != nil {
			return err
		}
		return c.print(made, func() { c.showMandate(made) })
	})
	f := cmd.Flags()
	f.StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	f.StringVar(&description, "description", "", "what it is for, and by which deed")
	f.StringVar(&list, "forms", "p7m", "forms, with commas: p7s, p7m, add, xml, pdf")
	f.Int64Var(&all, "max", 1000, "documents in all")
	f.Int32Var(&day, "max-per-day", 100, "documents in one day, UTC")
	f.StringVar(&from, "from", "", "date or time from which it holds; now when empty")
	f.StringVar(&until, "until", "", "date or time until which it holds")
	f.BoolVar(&follow, "follow-successor", false, "it is also for the credential of the same owner that takes this one's place (credential succeed)")
	return cmd
}

func (c *cli) showMandate(m *signv1.Mandate) {
	var names []string
	for _, form := range m.GetForms() {
		for name, f := range forms {
			if f == form {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	c.fields("name", m.GetName(), "description", m.GetDescription(), "forms", strings.Join(names, ", "),
		"used", fmt.Sprintf("%d of %d", m.GetUsedDocuments(), m.GetMaxDocuments()), "used today", fmt.Sprintf("%d of %d", m.GetUsedToday(), m.GetMaxPerDay()),
		"from", when(m.GetStartTime()), "until", when(m.GetEndTime()), "follows", yes(m.GetFollowSuccessor()), "revoked", when(m.GetRevokeTime()))
}

func (c *cli) mandateList() *cobra.Command {
	var company string
	cmd := c.lister(verb("ls CREDENTIAL", "List the mandates of a credential, newest first", args("CREDENTIAL"), func(ctx context.Context, given []string) error {
		parent, err := c.credentialName(company, given[0])
		if err != nil {
			return err
		}
		api, err := c.documents()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*signv1.ListMandatesResponse, error) {
			return api.ListMandates(ctx, &signv1.ListMandatesRequest{Parent: parent, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, m := range page.GetMandates() {
				rows = append(rows, []string{last(m.GetName()), fmt.Sprintf("%d/%d", m.GetUsedDocuments(), m.GetMaxDocuments()), when(m.GetEndTime()), when(m.GetRevokeTime()), m.GetDescription()})
			}
			c.table([]string{"MANDATE", "USED", "UNTIL", "REVOKED", "FOR"}, rows)
		})
	}))
	cmd.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company of a short name (CERALACCA_COMPANY)")
	return cmd
}

func (c *cli) mandateAct(use, short string, act func(context.Context, signv1.DocumentServiceClient, string) (*signv1.Mandate, error)) *cobra.Command {
	return verb(use+" MANDATE", short, args("MANDATE"), func(ctx context.Context, given []string) error {
		api, err := c.documents()
		if err != nil {
			return err
		}
		m, err := act(ctx, api, given[0])
		if err != nil {
			return err
		}
		return c.print(m, func() { c.showMandate(m) })
	})
}

// stampCommand gets time-stamps; stamp quota shows and sets what a tenant may have.
func (c *cli) stampCommand() *cobra.Command {
	var set int32
	quota := verb("quota", "Show how many time stamps the tenant may have in a month, and has used; operators set it with --set", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.documents()
		if err != nil {
			return err
		}
		name := tenant + "/stampQuota"
		var q *signv1.StampQuota
		if set >= 0 {
			q, err = api.UpdateStampQuota(ctx, &signv1.UpdateStampQuotaRequest{StampQuota: &signv1.StampQuota{Name: name, PerMonth: set}})
		} else {
			q, err = api.GetStampQuota(ctx, &signv1.GetStampQuotaRequest{Name: name})
		}
		if err != nil {
			return err
		}
		return c.print(q, func() { c.fields("month", q.GetMonth(), "used", fmt.Sprintf("%d of %d", q.GetUsed(), q.GetPerMonth())) })
	})
	quota.Flags().Int32Var(&set, "set", -1, "time stamps in a month (operators)")
	return group("stamp", "Time stamps (RFC 3161)", c.stampCreate(), quota)
}

func (c *cli) stampCreate() *cobra.Command {
	var force bool
	cmd := verb("create FILE...", "Get a time stamp over each FILE: FILE.tsr (openssl ts -verify -data FILE -in FILE.tsr); only digests travel", args("FILE..."), func(ctx context.Context, given []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.documents()
		if err != nil {
			return err
		}
		for _, name := range given {
			out := name + ".tsr"
			if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) && !force {
				return usage("%s is there already: --force writes over it", out)
			}
			hash, err := hashFile(name)
			if err != nil {
				return err
			}
			made, err := api.CreateTimestamp(ctx, &signv1.CreateTimestampRequest{Parent: parent, Sha256: hash})
			if err != nil {
				return err
			}
			if err := replaceWith(out, shared, made.GetTsr()); err != nil {
				return usage("%v", err)
			}
			err = c.print(made, func() {
				c.fields("file", printable(out), "time", when(made.GetTime()), "authority", made.GetAuthority())
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().BoolVar(&force, "force", false, "write over time stamps that are there")
	return cmd
}

// sealCommand signs by mandate.
func (c *cli) sealCommand() *cobra.Command {
	var how signing
	var mandate string
	cmd := verb("seal FILE...", "Sign files under a mandate, without a person", args("FILE..."), func(ctx context.Context, given []string) error {
		if err := errors.Join(need("mandate", mandate), how.check()); err != nil {
			return err
		}
		credential, _, ok := strings.Cut(mandate, "/mandates/")
		if !ok {
			return usage("--mandate: %q is not {credential}/mandates/{id}", mandate)
		}
		files, err := prepare(given, how)
		if err != nil {
			return err
		}
		h, err := c.handOf(files, how)
		if err != nil {
			return err
		}
		h.Credential, h.Mandate = credential, mandate
		return c.finish(ctx, h, files, how)
	})
	cmd.Flags().StringVar(&mandate, "mandate", os.Getenv("CERALACCA_MANDATE"), "the mandate, by its whole name (CERALACCA_MANDATE)")
	how.flags(cmd, "p7m")
	return cmd
}
