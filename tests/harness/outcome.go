package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// Again says that an error is one to repeat the call after.
func Again(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return false
}

// AwaitState waits until an invoice is in one of the states, and preserved when that is wanted.
func (c *Customer) AwaitState(ctx context.Context, name string, preserved bool, states ...invoicev1.InvoiceState) (*invoicev1.Invoice, error) {
	var last *invoicev1.Invoice
	for {
		got, err := c.Invoices.GetInvoice(c.Ctx(ctx), &invoicev1.GetInvoiceRequest{Name: name})
		switch {
		case err == nil:
			last = got
			for _, state := range states {
				if got.GetState() == state && (!preserved || got.GetPreserveTime() != nil) {
					return got, nil
				}
			}
		case !Again(err):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("%s is %s, preserved since %v; wanted %v: %w", name, last.GetState(), last.GetPreserveTime().AsTime(), states, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Events reads the whole log of the tenant as it stands.
func (c *Customer) Events(ctx context.Context) ([]*invoicev1.Event, error) {
	var all []*invoicev1.Event
	for token := ""; ; {
		page, err := c.Invoices.ListEvents(c.Ctx(ctx), &invoicev1.ListEventsRequest{Parent: c.Tenant, PageToken: token, PageSize: 1000})
		if err != nil {
			return nil, err
		}
		if len(page.GetEvents()) == 0 {
			return all, nil
		}
		all = append(all, page.GetEvents()...)
		token = page.GetNextPageToken()
	}
}

// CheckLog says what is wrong with a tenant's log: a gap, a double, a position out of order.
func CheckLog(events []*invoicev1.Event) error {
	seen := map[string]bool{}
	for i, e := range events {
		if e.GetPosition() != int64(i+1) {
			return fmt.Errorf("event %s is at position %d, want %d", e.GetName(), e.GetPosition(), i+1)
		}
		if seen[e.GetName()] {
			return fmt.Errorf("event %s is in the log twice", e.GetName())
		}
		seen[e.GetName()] = true
	}
	return nil
}

// Parked lists what could not be handled anywhere.
func (p *Platform) Parked(ctx context.Context) ([]*operationsv1.ParkedEvent, error) {
	var all []*operationsv1.ParkedEvent
	for _, name := range p.names() {
		target := name
		if name == "all" {
			target = "invoice"
		}
		api, err := p.Operations(target)
		if err != nil {
			return nil, err
		}
		page, err := api.ListParkedEvents(As(ctx, p.OperatorKey), &operationsv1.ListParkedEventsRequest{PageSize: 1000})
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetParkedEvents()...)
	}
	return all, nil
}

// Unmatched lists the messages of SdI that belong to no transmission.
func (p *Platform) Unmatched(ctx context.Context) ([]*sdiv1.Message, error) {
	conn, err := p.Conn("sdi-gateway")
	if err != nil {
		return nil, err
	}
	list, err := sdiv1.NewSdiServiceClient(conn).ListUnmatchedMessages(As(ctx, p.OperatorKey), &sdiv1.ListUnmatchedMessagesRequest{PageSize: 1000})
	return list.GetMessages(), err
}

// Stream collects events until stop says so.
func (c *Customer) Stream(ctx context.Context, after int64, visit func(*invoicev1.Event) (stop bool)) error {
	stream, err := c.Invoices.StreamEvents(c.Ctx(ctx), &invoicev1.StreamEventsRequest{Parent: c.Tenant, AfterPosition: after})
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if answer.GetEvent() != nil && visit(answer.GetEvent()) {
			return nil
		}
	}
}
