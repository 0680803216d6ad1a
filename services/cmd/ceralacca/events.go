package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/spf13/cobra"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func (c *cli) eventsCommand() *cobra.Command {
	var after int64
	var filter string
	tail := verb("tail", "Events of the tenant as they happen, after those that are there", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		stream, err := api.StreamEvents(ctx, &invoicev1.StreamEventsRequest{Parent: tenant, AfterPosition: after, Filter: filter})
		if err != nil {
			return err
		}
		for {
			answer, err := stream.Recv()
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if answer.GetEvent() == nil {
				continue
			}
			err = c.printLine(answer.GetEvent(), func() { c.showEvent(answer.GetEvent()) })
			if err != nil {
				return err
			}
		}
	})
	tail.Flags().Int64Var(&after, "after", 0, "begin after this position; 0 is from the first event")
	list := verb("ls", "Events that are there, and end", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		for token := ""; ; {
			page, err := api.ListEvents(ctx, &invoicev1.ListEventsRequest{Parent: tenant, Filter: filter, PageToken: token, PageSize: 1000})
			if err != nil {
				return err
			}
			for _, e := range page.GetEvents() {
				err = c.printLine(e, func() { c.showEvent(e) })
				if err != nil {
					return err
				}
			}
			if len(page.GetEvents()) == 0 {
				return nil
			}
			token = page.GetNextPageToken()
		}
	})
	cmd := group("events", "The tenant's event log", tail, list)
	cmd.PersistentFlags().StringVar(&filter, "filter", "", `for example: type = "invoice.rejected"`)
	return cmd
}

func (c *cli) showEvent(e *invoicev1.Event) {
	fmt.Fprintf(c.out, "%6d  %s  %-28s  %s\n", e.GetPosition(), when(e.GetTime()), e.GetType(), path.Base(e.GetInvoice()))
}
