package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
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
		if after < 0 {
			return usage("--after is a position, 0 or more, not %d", after)
		}
		for connected := false; ; connected = true {
			before := after
			after, err = c.follow(ctx, api, &invoicev1.StreamEventsRequest{Parent: tenant, AfterPosition: after, Filter: filter})
			if ctx.Err() != nil {
				return nil
			}
			// A tail that has shown something outlives a restart of the server and goes on where it was.
			if fault.Of(err).Kind != fault.KindUnavailable || !connected && after == before {
				return err
			}
			fmt.Fprintf(c.errOut, "ceralacca: %s; connecting again after position %d\n", c.describeError(err).Message, after)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
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

// follow shows a stream until it breaks and says up to which position it came.
func (c *cli) follow(ctx context.Context, api invoicev1.InvoiceServiceClient, req *invoicev1.StreamEventsRequest) (int64, error) {
	position := req.GetAfterPosition()
	stream, err := api.StreamEvents(ctx, req)
	if err != nil {
		return position, err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return position, fault.Unavailable("STREAM_ENDED", "the server ended the stream")
		}
		if err != nil {
			return position, err
		}
		position = max(position, answer.GetPosition())
		if answer.GetEvent() == nil {
			continue // a heartbeat
		}
		err = c.printLine(answer.GetEvent(), func() { c.showEvent(answer.GetEvent()) })
		if err != nil {
			return position, err
		}
	}
}

func (c *cli) showEvent(e *invoicev1.Event) {
	fmt.Fprintf(c.out, "%6d  %s  %-28s  %s\n", e.GetPosition(), when(e.GetTime()), e.GetType(), last(e.GetInvoice()))
}
