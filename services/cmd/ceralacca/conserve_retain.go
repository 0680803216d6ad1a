package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) retention() (conservationv1.RetentionServiceClient, string, error) {
	tenant, err := c.tenantName()
	if err != nil {
		return nil, "", err
	}
	conn, err := c.dial()
	return conservationv1.NewRetentionServiceClient(conn), tenant, err
}

// closePackageCommand is conserve close.
func (c *cli) closePackageCommand() *cobra.Command {
	var year int32
	var class string
	cmd := verb("close", "Close a package over the documents that wait, of one fiscal year and class, and seal it", args(), func(ctx context.Context, _ []string) error {
		if year == 0 {
			return usage("no fiscal year: give --year, such as --year %d", c.now().Year())
		}
		api, tenant, err := c.archive()
		if err != nil {
			return err
		}
		p, err := api.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: tenant, FiscalYear: year, Class: class, RequestId: uuid.NewString()})
		if err != nil {
			return err
		}
		return c.print(p, func() { c.showPackage(p) })
	})
	cmd.Flags().Int32Var(&year, "year", 0, "fiscal year of the package")
	cmd.Flags().StringVar(&class, "class", "", "FISC, FISC-PA, PEC, REG or ALTRO; FISC when empty")
	return cmd
}

func (c *cli) retentionCommand() *cobra.Command {
	var class string
	var years int32
	cmd := verb("retention", "How long documents of each class are kept; with --class and --years, keep one longer from now on", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.retention()
		if err != nil {
			return err
		}
		var rules []*conservationv1.RetentionRule
		if class != "" || years != 0 {
			r, err := api.SetRetentionRule(ctx, &conservationv1.SetRetentionRuleRequest{Parent: tenant, Class: class, Years: years})
			if err != nil {
				return err
			}
			rules = append(rules, r)
		} else {
			list, err := api.ListRetentionRules(ctx, &conservationv1.ListRetentionRulesRequest{Parent: tenant})
			if err != nil {
				return err
			}
			rules = list.GetRules()
		}
		return c.print(&conservationv1.ListRetentionRulesResponse{Rules: rules}, func() {
			var rows [][]string
			for _, r := range rules {
				rows = append(rows, []string{r.GetClass(), fmt.Sprint(r.GetYears()), fmt.Sprint(r.GetLeastYears()), r.GetDescription(), r.GetBasis()})
			}
			c.table([]string{"CLASS", "YEARS", "AT LEAST", "DOCUMENTS", "BY"}, rows)
		})
	})
	cmd.Flags().StringVar(&class, "class", "", "class to keep longer")
	cmd.Flags().Int32Var(&years, "years", 0, "from the end of the year after the fiscal year")
	return cmd
}

func (c *cli) holdCommand() *cobra.Command {
	var h conservationv1.Hold
	set := verb("set", "Hold a unit, a package, a fiscal year or class, or with nothing of those everything: it is not destroyed", args(), func(ctx context.Context, _ []string) error {
		if h.GetReason() == "" {
			return usage("--reason is needed, such as the number of the dispute")
		}
		api, tenant, err := c.retention()
		if err != nil {
			return err
		}
		if h.GetUnit() != "" {
			h.Unit, err = c.within("units", h.GetUnit())
		}
		if err == nil && h.GetPackage() != "" {
			h.Package, err = c.within("packages", h.GetPackage())
		}
		if err != nil {
			return err
		}
		got, err := api.CreateHold(ctx, &conservationv1.CreateHoldRequest{Parent: tenant, Hold: &h})
		if err != nil {
			return err
		}
		return c.print(got, func() { c.showHolds([]*conservationv1.Hold{got}) })
	})
	set.Flags().StringVar(&h.Unit, "unit", "", "this document")
	set.Flags().StringVar(&h.Package, "package", "", "this package")
	set.Flags().Int32Var(&h.FiscalYear, "year", 0, "this fiscal year")
	set.Flags().StringVar(&h.Class, "class", "", "this class, with or without --year")
	set.Flags().StringVar(&h.Reason, "reason", "", "why")
	var reason string
	lift := verb("lift HOLD", "End a hold", args("HOLD"), func(ctx context.Context, given []string) error {
		if reason == "" {
			return usage("--reason is needed")
		}
		api, _, err := c.retention()
		if err != nil {
			return err
		}
		name, err := c.within("holds", given[0])
		if err != nil {
			return err
		}
		got, err := api.LiftHold(ctx, &conservationv1.LiftHoldRequest{Name: name, Reason: reason})
		if err != nil {
			return err
		}
		return c.print(got, func() { c.showHolds([]*conservationv1.Hold{got}) })
	})
	lift.Flags().StringVar(&reason, "reason", "", "why")
	var active bool
	list := verb("ls", "List holds, newest first", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.retention()
		if err != nil {
			return err
		}
		got, err := api.ListHolds(ctx, &conservationv1.ListHoldsRequest{Parent: tenant, Active: active})
		if err != nil {
			return err
		}
		return c.print(got, func() { c.showHolds(got.GetHolds()) })
	})
	list.Flags().BoolVar(&active, "active", false, "only those that still hold")
	return group("hold", "Legal hold: what is not destroyed, whatever its term", set, lift, list)
}

func (c *cli) showHolds(list []*conservationv1.Hold) {
	var rows [][]string
	for _, h := range list {
		what := strings.TrimSpace(last(h.GetUnit()) + " " + last(h.GetPackage()) + " " + h.GetClass())
		if h.GetFiscalYear() != 0 {
			what = strings.TrimSpace(what + fmt.Sprintf(" %d", h.GetFiscalYear()))
		}
		if what == "" {
			what = "everything"
		}
		rows = append(rows, []string{last(h.GetName()), what, h.GetReason(), h.GetSetBy(), when(h.GetCreateTime()), h.GetLiftedBy(), when(h.GetLiftTime())})
	}
	c.table([]string{"HOLD", "WHAT", "REASON", "BY", "SINCE", "LIFTED BY", "LIFTED"}, rows)
}

const disposalHelp = `
  1. ceralacca conserve scarto propose                       the list: packages whose term is over and that nothing holds
  2. ceralacca conserve scarto authorize DISPOSAL ...        the producer's word, for all of it or a part; for public bodies the
                                                             Soprintendenza's too
  3. ceralacca conserve scarto release DISPOSAL --person X   twice, by two operators
  4. ceralaccad conservation erase --config eraser.yaml      a program of its own, whose credentials may delete
  5. ceralacca conserve scarto report DISPOSAL -o FILE       signed, and itself preserved; with --receipt FILE and its proof, which
                                                             ceralacca conserve verify needs
  6. ceralacca conserve scarto complete DISPOSAL             once no backup holds the documents any more`

func (c *cli) scartoCommand() *cobra.Command {
	cmd := group("scarto", "Destruction by the rules: list, authorisation, two persons, report",
		append(c.disposalSteps(), c.proposeCommand(), c.authorizeCommand(), c.disposalsCommand(), c.disposalReportCommand())...)
	cmd.Long = cmd.Short + ".\n" + disposalHelp
	return cmd
}

func (c *cli) proposeCommand() *cobra.Command {
	req := &conservationv1.ProposeDisposalRequest{}
	cmd := verb("propose", "Make the list of packages that may be destroyed", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.retention()
		if err != nil {
			return err
		}
		req.Parent = tenant
		d, err := api.ProposeDisposal(ctx, req)
		if err != nil {
			return err
		}
		return c.print(d, func() { c.showDisposal(d) })
	})
	cmd.Flags().Int32Var(&req.FiscalYear, "year", 0, "only of this fiscal year")
	cmd.Flags().StringVar(&req.Class, "class", "", "only of this class")
	cmd.Flags().BoolVar(&req.PublicBody, "public-body", false, "the tenant is a public body, or its archive of historic interest: the Soprintendenza's authorisation is needed")
	return cmd
}

// authorityFlags adds flags that name who authorises.
func authorityFlags(cmd *cobra.Command, prefix, who string) func(c *cli) (*conservationv1.DisposalAuthority, error) {
	var a conservationv1.DisposalAuthority
	var deed string
	cmd.Flags().StringVar(&a.Person, prefix+"person", "", who+": who authorises")
	cmd.Flags().StringVar(&a.Reference, prefix+"reference", "", who+": reference of the deed, such as its protocol number")
	cmd.Flags().StringVar(&a.Date, prefix+"date", "", who+": date of the deed, such as 2026-01-15")
	cmd.Flags().StringVar(&deed, prefix+"deed", "", who+": file of the signed deed, .p7m or PDF")
	return func(c *cli) (*conservationv1.DisposalAuthority, error) {
		if a.GetPerson()+a.GetReference()+a.GetDate()+deed == "" {
			return nil, nil //nolint:nilnil // none is given
		}
		if deed != "" {
			raw, err := c.readUpTo(deed, 1<<20)
			if err != nil {
				return nil, err
			}
			a.Deed, a.DeedName = raw, filepath.Base(deed)
		}
		return &a, nil
	}
}

func (c *cli) authorizeCommand() *cobra.Command {
	var packages []string
	var producer, authority func(*cli) (*conservationv1.DisposalAuthority, error)
	cmd := verb("authorize DISPOSAL", "Note the producer's authorisation; what --package leaves out is kept", args("DISPOSAL"), func(ctx context.Context, given []string) error {
		p, err := producer(c)
		if err != nil {
			return err
		}
		if p == nil {
			return usage("--person, --reference and --date of the producer's authorisation are needed")
		}
		req := &conservationv1.AuthorizeDisposalRequest{Producer: p}
		req.Soprintendenza, err = authority(c)
		if err != nil {
			return err
		}
		for _, p := range packages {
			name, err := c.within("packages", p)
			if err != nil {
				return err
			}
			req.Packages = append(req.Packages, name)
		}
		return c.onDisposal(given[0], func(api conservationv1.RetentionServiceClient, name string) (*conservationv1.Disposal, error) {
			req.Name = name
			return api.AuthorizeDisposal(ctx, req)
		})
	})
	producer, authority = authorityFlags(cmd, "", "the producer"), authorityFlags(cmd, "soprintendenza-", "the Soprintendenza")
	cmd.Flags().StringArrayVar(&packages, "package", nil, "only this package of the list; may be given several times")
	return cmd
}

// disposalVerb is a step of a disposal that exists: its name, what the step needs, one call.
type disposalVerb struct {
	use, short         string
	flag, means, needs string // the one word that the step needs; empty: none
	call               func(ctx context.Context, api conservationv1.RetentionServiceClient, name, word string) (*conservationv1.Disposal, error)
}

func (c *cli) disposalStep(v disposalVerb) *cobra.Command {
	var word string
	cmd := verb(v.use+" DISPOSAL", v.short, args("DISPOSAL"), func(ctx context.Context, given []string) error {
		if v.flag != "" && word == "" {
			return usage("--%s is needed: %s", v.flag, v.needs)
		}
		return c.onDisposal(given[0], func(api conservationv1.RetentionServiceClient, name string) (*conservationv1.Disposal, error) {
			return v.call(ctx, api, name, word)
		})
	})
	if v.flag != "" {
		cmd.Flags().StringVar(&word, v.flag, "", v.means)
	}
	return cmd
}

// onDisposal calls for a disposal by its name and shows what comes back.
func (c *cli) onDisposal(id string, call func(api conservationv1.RetentionServiceClient, name string) (*conservationv1.Disposal, error)) error {
	api, _, err := c.retention()
	if err != nil {
		return err
	}
	name, err := c.within("disposals", id)
	if err != nil {
		return err
	}
	d, err := call(api, name)
	if err != nil {
		return err
	}
	return c.print(d, func() { c.showDisposal(d) })
}

func (c *cli) disposalSteps() []*cobra.Command {
	type retention = conservationv1.RetentionServiceClient
	type disposal = conservationv1.Disposal
	var steps []*cobra.Command
	for _, v := range []disposalVerb{
		{"release", "Release the destruction (operators): it takes two of them, each with an account of its own", "person", "your name", "who releases it, for the report",
			func(ctx context.Context, api retention, name, word string) (*disposal, error) {
				return api.ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: name, Person: word})
			}},
		{"complete", "State that no backup holds the documents any more (operators)", "statement", "how it is known", "how it is known, such as the date of the oldest generation of backups",
			func(ctx context.Context, api retention, name, word string) (*disposal, error) {
				return api.CompleteDisposal(ctx, &conservationv1.CompleteDisposalRequest{Name: name, Statement: word})
			}},
		{"withdraw", "End a disposal of which nothing was destroyed", "", "", "", func(ctx context.Context, api retention, name, _ string) (*disposal, error) {
			return api.WithdrawDisposal(ctx, &conservationv1.WithdrawDisposalRequest{Name: name})
		}},
		{"get", "Show a disposal with its list", "", "", "", func(ctx context.Context, api retention, name, _ string) (*disposal, error) {
			return api.GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
		}},
	} {
		steps = append(steps, c.disposalStep(v))
	}
	return steps
}

func (c *cli) showDisposal(d *conservationv1.Disposal) {
	c.fields("name", d.GetName(), "state", enum("DISPOSAL_STATE_", d.GetState()), "proposed", when(d.GetCreateTime()), "by", d.GetProposedBy(),
		"authorised by", strings.TrimSpace(d.GetProducer().GetPerson()+" "+d.GetProducer().GetReference()), "soprintendenza", d.GetSoprintendenza().GetReference(),
		"released by", strings.Join(d.GetReleasedBy(), ", "), "ended", when(d.GetEndTime()), "last error", d.GetLastError(), "backups", d.GetCompletion())
	var rows [][]string
	for _, i := range d.GetItems() {
		rows = append(rows, []string{last(i.GetPackage()), fmt.Sprint(i.GetFiscalYear()), i.GetClass(), fmt.Sprint(i.GetUnitCount()), when(i.GetRetainedUntil()), enum("DISPOSAL_ITEM_STATE_", i.GetState()), i.GetNote()})
	}
	if len(rows) > 0 {
		c.table([]string{"PACKAGE", "YEAR", "CLASS", "UNITS", "RETAINED UNTIL", "STATE", "NOTE"}, rows)
	}
}

func (c *cli) disposalsCommand() *cobra.Command {
	return verb("ls", "List disposals, newest first", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.retention()
		if err != nil {
			return err
		}
		list, err := api.ListDisposals(ctx, &conservationv1.ListDisposalsRequest{Parent: tenant})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, d := range list.GetDisposals() {
				rows = append(rows, []string{last(d.GetName()), enum("DISPOSAL_STATE_", d.GetState()), when(d.GetCreateTime()), d.GetProducer().GetReference(), when(d.GetEndTime()), d.GetLastError()})
			}
			c.table([]string{"DISPOSAL", "STATE", "PROPOSED", "AUTHORISATION", "ENDED", "LAST ERROR"}, rows)
		})
	})
}

func (c *cli) disposalReportCommand() *cobra.Command {
	var output, receipt string
	cmd := verb("report DISPOSAL", "The report of what was destroyed; with -o its signed form (.p7m), with --receipt its proof", args("DISPOSAL"), func(ctx context.Context, given []string) error {
		api, _, err := c.retention()
		if err != nil {
			return err
		}
		name, err := c.within("disposals", given[0])
		if err != nil {
			return err
		}
		r, err := api.GetDisposalReport(ctx, &conservationv1.GetDisposalReportRequest{Name: name})
		if err != nil {
			return err
		}
		if output != "" && len(r.GetSigned()) == 0 {
			return fault.Unavailable("REPORT_NOT_READY", "the report is being signed: ask again in a few seconds")
		}
		if receipt != "" && len(r.GetReceipt()) == 0 {
			return fault.Unavailable("RECEIPT_NOT_READY", "the log does not state the report yet: ask again in a few seconds (where no log is kept it never does)")
		}
		err = keep(output, r.GetSigned())
		if err == nil {
			err = keep(receipt, r.GetReceipt())
		}
		if err != nil {
			return err
		}
		return c.print(r, func() { fmt.Fprintln(c.out, string(r.GetContent())) })
	})
	cmd.Long = cmd.Short + `.

It names what was destroyed by its digest, by whose authorisation and by whom it was released, and nothing of what was in it. Keep report and
proof: whoever has them verifies them without the archive, however long it is gone.
  ceralacca conserve scarto report DISPOSAL -o scarto.p7m --receipt scarto.receipt
  ceralacca conserve verify scarto.p7m --roots roots.pem --log-key log.key --receipt scarto.receipt
  openssl cms -verify -binary -inform DER -in scarto.p7m -CAfile roots.pem -purpose any -out scarto.json`
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the signed report (.p7m)")
	cmd.Flags().StringVar(&receipt, "receipt", "", "file for the proof that the log states the signed report")
	return cmd
}
