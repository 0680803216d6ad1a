package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

func (c *cli) deadlinesCommand() *cobra.Command {
	return verb("deadlines", "Until when documents must be sealed, and how many are; of all tenants without --tenant (operators)", args(), func(ctx context.Context, _ []string) error {
		tenant := "tenants/-"
		var err error
		if c.tenant != "" {
			tenant, err = c.tenantName()
			if err != nil {
				return err
			}
		}
		conn, err := c.dial()
		if err != nil {
			return err
		}
		list, err := conservationv1.NewDeadlineServiceClient(conn).ListDeadlines(ctx, &conservationv1.ListDeadlinesRequest{Parent: tenant})
		if err != nil {
			return err
		}
		return c.print(list, func() { c.showYears(list.GetFiscalYears()) })
	})
}

func (c *cli) showYears(years []*conservationv1.FiscalYear) {
	var rows [][]string
	for _, y := range years {
		rows = append(rows, []string{
			last(y.GetTenant()), fmt.Sprint(y.GetFiscalYear()), y.GetEndDate(), y.GetDeadline(), fmt.Sprint(y.GetDaysLeft()),
			fmt.Sprint(y.GetUnits()), fmt.Sprintf("%d%%", y.GetPercentSealed()), fmt.Sprint(y.GetWaitingUnits()),
		})
	}
	c.table([]string{"TENANT", "YEAR", "ENDS", "DEADLINE", "DAYS LEFT", "UNITS", "SEALED", "WAITING"}, rows)
}

func (c *cli) fiscalYearCommand() *cobra.Command {
	var year int32
	var end, deadline string
	cmd := verb("fiscal-year", "Say when a fiscal year ends that is not the calendar year, or a deadline that the law has moved", args(), func(ctx context.Context, _ []string) error {
		if year == 0 || end == "" {
			return usage("--year and --end are needed: ceralacca conserve fiscal-year --year 2026 --end 2026-06-30")
		}
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		conn, err := c.dial()
		if err != nil {
			return err
		}
		y, err := conservationv1.NewDeadlineServiceClient(conn).SetFiscalYear(ctx, &conservationv1.SetFiscalYearRequest{Parent: tenant, FiscalYear: year, EndDate: end, Deadline: deadline})
		if err != nil {
			return err
		}
		return c.print(y, func() { c.showYears([]*conservationv1.FiscalYear{y}) })
	})
	cmd.Flags().Int32Var(&year, "year", 0, "fiscal year")
	cmd.Flags().StringVar(&end, "end", "", "its last day, such as 2026-06-30")
	cmd.Flags().StringVar(&deadline, "deadline", "", "until when its documents must be sealed; thirteen months after its end when empty")
	return cmd
}
