package main

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func (c *cli) numbering() (invoicev1.SeriesServiceClient, error) {
	conn, err := c.dial()
	return invoicev1.NewSeriesServiceClient(conn), err
}

// inCompany is --company of commands that work within one.
func inCompany(cmd *cobra.Command, company *string) *cobra.Command {
	cmd.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company (CERALACCA_COMPANY)")
	return cmd
}

// companyName is tenants/{tenant}/companies/{company} of --company.
func (c *cli) companyName(company string) (string, error) {
	if company == "" {
		return "", usage("no company: give --company or set CERALACCA_COMPANY")
	}
	return c.within("companies", company)
}

// seriesName completes the id of a series; empty stays empty.
func (c *cli) seriesName(company, id string) (string, error) {
	if id == "" {
		return "", nil
	}
	if strings.Contains(id, "/") {
		return id, nil
	}
	parent, err := c.companyName(company)
	if err != nil {
		return "", err
	}
	return parent + "/series/" + id, nil
}

func (c *cli) seriesCommand() *cobra.Command {
	return group("series", "Numbers of invoices: series per company and year", c.seriesCreate(), c.seriesGet(), c.seriesList(), c.seriesSetNext())
}

func (c *cli) seriesCreate() *cobra.Command {
	var company, pattern, display string
	cmd := verb("create ID", "Create a series; ID begins with a letter, then a-z, 0-9 and -", args("ID"), func(ctx context.Context, given []string) error {
		parent, err := c.companyName(company)
		if err != nil {
			return err
		}
		api, err := c.numbering()
		if err != nil {
			return err
		}
		made, err := api.CreateSeries(ctx, &invoicev1.CreateSeriesRequest{Parent: parent, SeriesId: given[0], RequestId: uuid.NewString(),
			Series: &invoicev1.Series{Pattern: pattern, DisplayName: display}})
		if err != nil {
			return err
		}
		return c.print(made, func() { c.showSeries(made) })
	})
	cmd.Flags().StringVar(&pattern, "pattern", "{number}", "how a number is written: text with {number} or {number:05}, {year}, {yy}")
	cmd.Flags().StringVar(&display, "display-name", "", "name that people see")
	return inCompany(cmd, &company)
}

func (c *cli) seriesGet() *cobra.Command {
	var company string
	cmd := verb("get SERIES", "Show a series and where each year stands", args("SERIES"), func(ctx context.Context, given []string) error {
		name, err := c.seriesName(company, given[0])
		if err != nil {
			return err
		}
		api, err := c.numbering()
		if err != nil {
			return err
		}
		found, err := api.GetSeries(ctx, &invoicev1.GetSeriesRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(found, func() { c.showSeries(found) })
	})
	return inCompany(cmd, &company)
}

func (c *cli) seriesList() *cobra.Command {
	var company string
	cmd := c.lister(verb("ls", "List the series of a company", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.companyName(company)
		if err != nil {
			return err
		}
		api, err := c.numbering()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*invoicev1.ListSeriesResponse, error) {
			return api.ListSeries(ctx, &invoicev1.ListSeriesRequest{Parent: parent, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			var rows [][]string
			for _, s := range all.GetSeries() {
				year, next := "", ""
				if n := len(s.GetYears()); n > 0 {
					year, next = strconv.Itoa(int(s.GetYears()[n-1].GetYear())), strconv.FormatInt(s.GetYears()[n-1].GetNext(), 10)
				}
				rows = append(rows, []string{last(s.GetName()), s.GetPattern(), year, next, s.GetDisplayName()})
			}
			c.table([]string{"SERIES", "PATTERN", "YEAR", "NEXT", "DISPLAY NAME"}, rows)
		})
	}))
	return inCompany(cmd, &company)
}

func (c *cli) seriesSetNext() *cobra.Command {
	var company string
	cmd := verb("set-next SERIES YEAR NUMBER", "Say with which number a year begins, while it has given none", args("SERIES", "YEAR", "NUMBER"), func(ctx context.Context, given []string) error {
		name, err := c.seriesName(company, given[0])
		if err != nil {
			return err
		}
		year, err := strconv.ParseInt(given[1], 10, 32)
		if err != nil {
			return usage("%q is no year", given[1])
		}
		next, err := strconv.ParseInt(given[2], 10, 64)
		if err != nil {
			return usage("%q is no number", given[2])
		}
		api, err := c.numbering()
		if err != nil {
			return err
		}
		changed, err := api.UpdateSeries(ctx, &invoicev1.UpdateSeriesRequest{RequestId: uuid.NewString(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"years"}},
			Series: &invoicev1.Series{Name: name, Years: []*invoicev1.SeriesYear{{Year: int32(year), Next: next}}}})
		if err != nil {
			return err
		}
		return c.print(changed, func() { c.showSeries(changed) })
	})
	return inCompany(cmd, &company)
}

func (c *cli) showSeries(s *invoicev1.Series) {
	c.fields("name", s.GetName(), "display name", s.GetDisplayName(), "pattern", s.GetPattern(), "created", when(s.GetCreateTime()), "updated", when(s.GetUpdateTime()))
	var rows [][]string
	for _, y := range s.GetYears() {
		rows = append(rows, []string{strconv.Itoa(int(y.GetYear())), strconv.FormatInt(y.GetNext(), 10), strconv.FormatInt(y.GetGiven(), 10), y.GetLastDate()})
	}
	if len(rows) > 0 {
		c.table([]string{"YEAR", "NEXT", "GIVEN", "LAST DATE"}, rows)
	}
}
