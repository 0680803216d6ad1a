package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/sandbox/client"
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

// Parked lists what could not be handled of the customer's, or of the platform's own.
func (c *Customer) Parked(ctx context.Context) ([]*operationsv1.ParkedEvent, error) {
	all, err := c.Platform.Parked(ctx)
	return slices.DeleteFunc(all, func(e *operationsv1.ParkedEvent) bool {
		tenant := "tenants/" + strings.TrimPrefix(e.GetTenant(), "tenants/")
		return e.GetTenant() != "" && tenant != c.Tenant && tenant != platformTenant
	}), err
}

// Sent counts the files that SdI took from a customer. Repeats are what exactly-once is judged by, as in the
// sandbox's client.Counts.
type Sent struct {
	Accepted                                          int
	RepeatedNames, RepeatedContents, RepeatedInvoices int
}

// Sent asks the sandbox SdI what it took from the customer.
func (c *Customer) Sent(ctx context.Context) (Sent, error) {
	page, err := c.Platform.Sandbox.Received(ctx, client.Query{Limit: 1_000_000})
	if err != nil {
		return Sent{}, err
	}
	names, own := map[string]int{}, map[string]bool{}
	for _, f := range page.Files {
		key := strings.ToUpper(f.Name) // SdI does not tell letters by case
		names[key]++
		for _, invoice := range f.Invoices {
			own[key] = own[key] || strings.HasSuffix(invoice.Seller, c.VAT)
		}
	}
	var sent Sent
	contents := map[string]string{}
	for _, f := range page.Files {
		key := strings.ToUpper(f.Name)
		if !own[key] {
			// A repeat of a name is discarded unread; it counts with the file whose name it has.
			if len(f.Invoices) == 0 && names[key] == 1 {
				return Sent{}, fmt.Errorf("SdI took a file that is nobody's: %s, with the errors %v", f.Name, f.Errors)
			}
			continue
		}
		sent.Accepted++
		if first, known := contents[f.SHA256]; known && first != key {
			sent.RepeatedContents++
		}
		contents[f.SHA256] = key
		if slices.Contains(f.Errors, "00404") {
			sent.RepeatedInvoices++
		}
	}
	for key := range own {
		if own[key] && names[key] > 1 {
			sent.RepeatedNames++
		}
	}
	return sent, nil
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
