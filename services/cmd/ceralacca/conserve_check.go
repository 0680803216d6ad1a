package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) checks() (conservationv1.CheckServiceClient, error) {
	conn, err := c.dial()
	return conservationv1.NewCheckServiceClient(conn), err
}

func checkKind(given string) (conservationv1.CheckKind, error) {
	kind := conservationv1.CheckKind_value["CHECK_KIND_"+strings.ToUpper(strings.ReplaceAll(given, "-", "_"))]
	if kind == 0 {
		return 0, usage("%q is no check: scrub, deep, completeness, restore-drill, renewal, inventory or restore", given)
	}
	return conservationv1.CheckKind(kind), nil
}

func (c *cli) checkArchiveCommand() *cobra.Command {
	var wait time.Duration
	cmd := verb("check KIND", "Check the archive now: scrub, deep, completeness, restore-drill, renewal, inventory or restore (operators)", args("KIND"), func(ctx context.Context, given []string) error {
		kind, err := checkKind(given[0])
		if err != nil {
			return err
		}
		api, err := c.checks()
		if err != nil {
			return err
		}
		req := &conservationv1.RunCheckRequest{Kind: kind}
		if c.tenant != "" {
			req.Tenant, err = c.tenantName()
			if err != nil {
				return err
			}
		}
		r, err := api.RunCheck(ctx, req)
		for until := c.now().Add(wait); err == nil && r.GetState() == conservationv1.CheckState_CHECK_STATE_RUNNING && c.now().Before(until); {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
			r, err = api.GetReport(ctx, &conservationv1.GetReportRequest{Name: r.GetName()})
		}
		if err != nil {
			return err
		}
		return c.showReport(r, "")
	})
	cmd.Long = cmd.Short + `.

scrub reads the copies that are due and compares their digests; deep judges packages from their bytes alone; completeness
compares settled and received invoices, units and the log; restore-drill makes a tenant's rows again from the second replica alone; renewal renews
evidence records before their time stamps end; inventory compares what the replicas list with the rows. With --tenant
only that tenant is checked. Received invoices that completeness misses are taken in, from what the gateway has: where rows were
lost, make a restore before. All of them also come by themselves (conservation.checks), and leave a signed report.

restore writes back what is lost: copies of the primary replica from the second one, and rows of units, packages and search from
the objects. It never comes by itself, adds only, and leaves a report too.

Exit code 0: good, or still running. 1: the check found problems, or could not be made.`
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for the end")
	return cmd
}

// showReport prints a report and gives the exit code of its verdict.
func (c *cli) showReport(r *conservationv1.CheckReport, output string) error {
	err := c.print(r, func() {
		c.fields("report", r.GetName(), "kind", enum("CHECK_KIND_", r.GetKind()), "state", enum("CHECK_STATE_", r.GetState()),
			"tenant", r.GetTenant(), "began", when(r.GetBeginTime()), "ended", when(r.GetEndTime()), "written", output)
		if len(r.GetContent()) > 0 {
			fmt.Fprintln(c.out, string(r.GetContent()))
		}
	})
	if err == nil && (r.GetState() == conservationv1.CheckState_CHECK_STATE_PROBLEMS || r.GetState() == conservationv1.CheckState_CHECK_STATE_FAILED) {
		return quietError(exitRefused)
	}
	return err
}

func (c *cli) reportsCommand() *cobra.Command {
	var kind string
	cmd := c.lister(verb("reports", "Reports of checks, newest first (operators)", args(), func(ctx context.Context, _ []string) error {
		req := &conservationv1.ListReportsRequest{}
		var err error
		if kind != "" {
			req.Kind, err = checkKind(kind)
			if err != nil {
				return err
			}
		}
		api, err := c.checks()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListReportsResponse, error) {
			return api.ListReports(ctx, &conservationv1.ListReportsRequest{Kind: req.GetKind(), PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, r := range page.GetReports() {
				rows = append(rows, []string{last(r.GetName()), enum("CHECK_KIND_", r.GetKind()), enum("CHECK_STATE_", r.GetState()), last(r.GetTenant()), when(r.GetBeginTime()), when(r.GetEndTime())})
			}
			c.table([]string{"REPORT", "KIND", "STATE", "TENANT", "BEGAN", "ENDED"}, rows)
		})
	}))
	cmd.Flags().StringVar(&kind, "kind", "", "only of this kind")
	return cmd
}

func (c *cli) reportCommand() *cobra.Command {
	var output, page, receipt string
	cmd := verb("report REPORT", "Show a report, and write its signed form or a page to print (operators)", args("REPORT"), func(ctx context.Context, given []string) error {
		api, err := c.checks()
		if err != nil {
			return err
		}
		r, err := api.GetReport(ctx, &conservationv1.GetReportRequest{Name: "reports/" + last(given[0])})
		if err != nil {
			return err
		}
		if output != "" && len(r.GetSigned()) == 0 {
			return fault.Unavailable("REPORT_NOT_READY", "the report is being signed: ask again in a few seconds")
		}
		if receipt != "" && len(r.GetReceipt()) == 0 {
			return fault.Unavailable("RECEIPT_NOT_READY", "the log does not state the report yet: ask again in a few seconds (where no log is kept it never does)")
		}
		if page != "" {
			if len(r.GetContent()) == 0 {
				return fault.Unavailable("REPORT_NOT_READY", "the check is not at its end: ask again in a minute")
			}
			html, err := pageOfCheck(r.GetContent())
			if err == nil {
				err = keep(page, html)
			}
			if err != nil {
				return err
			}
		}
		err = keep(output, r.GetSigned())
		if err == nil {
			err = keep(receipt, r.GetReceipt())
		}
		if err != nil {
			return err
		}
		return c.showReport(r, strings.Join(strings.Fields(output+" "+page+" "+receipt), " "))
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the signed report (.p7m)")
	cmd.Flags().StringVar(&page, "page", "", "file for a page to print (.html)")
	cmd.Flags().StringVar(&receipt, "receipt", "", "file for the proof that the log states the signed report")
	return cmd
}
