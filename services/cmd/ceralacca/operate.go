package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// operations gives the operators' API of every process that --server names.
func (c *cli) operations() (map[string]operationsv1.OperationsServiceClient, error) {
	r, err := c.dial()
	if err != nil {
		return nil, err
	}
	conns := map[string]*grpc.ClientConn{"": r.all}
	if r.all == nil {
		conns = r.byService
	}
	apis := map[string]operationsv1.OperationsServiceClient{}
	for name, conn := range conns {
		apis[name] = operationsv1.NewOperationsServiceClient(conn)
	}
	return apis, nil
}

// operationsOf gives the API of the process that hosts the service of services/{service}/....
func (c *cli) operationsOf(name string) (operationsv1.OperationsServiceClient, error) {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || parts[0] != "services" {
		return nil, usage("%q is not services/{service}/parkedEvents/{id}; ceralacca parked ls shows the names", name)
	}
	apis, err := c.operations()
	if err != nil {
		return nil, err
	}
	for _, key := range []string{parts[1], ""} {
		if apis[key] != nil {
			return apis[key], nil
		}
	}
	return nil, usage("--server names no address for %s", parts[1])
}

func (c *cli) parkedCommand() *cobra.Command {
	list := verb("ls", "List events and jobs that could not be handled", args(), func(ctx context.Context, _ []string) error {
		apis, err := c.operations()
		if err != nil {
			return err
		}
		all := &operationsv1.ListParkedEventsResponse{}
		for _, api := range apis {
			for token := ""; ; {
				page, err := api.ListParkedEvents(ctx, &operationsv1.ListParkedEventsRequest{PageSize: 1000, PageToken: token})
				if err != nil {
					return err
				}
				all.ParkedEvents = append(all.ParkedEvents, page.GetParkedEvents()...)
				token = page.GetNextPageToken()
				if token == "" {
					break
				}
			}
		}
		return c.print(all, func() {
			var rows [][]string
			for _, p := range all.GetParkedEvents() {
				rows = append(rows, []string{p.GetName(), p.GetKind(), p.GetHandler(), p.GetTenant(), p.GetCode(), fmt.Sprint(p.GetAttempts()), when(p.GetParkTime())})
			}
			c.table([]string{"PARKED", "KIND", "HANDLER", "TENANT", "CODE", "ATTEMPTS", "SINCE"}, rows)
		})
	})
	show := verb("show PARKED", "Show one with its payload", args("PARKED"), func(ctx context.Context, given []string) error {
		api, err := c.operationsOf(given[0])
		if err != nil {
			return err
		}
		p, err := api.GetParkedEvent(ctx, &operationsv1.GetParkedEventRequest{Name: given[0]})
		if err != nil {
			return err
		}
		return c.print(p, func() {
			c.fields("name", p.GetName(), "kind", p.GetKind(), "handler", p.GetHandler(), "subject", p.GetSubject(), "event", p.GetEventId(),
				"tenant", p.GetTenant(), "correlation", p.GetCorrelation(), "code", p.GetCode(), "message", p.GetMessage(),
				"attempts", p.GetAttempts(), "happened", when(p.GetEventTime()), "parked", when(p.GetParkTime()), "trace", p.GetTraceId())
			fmt.Fprintln(c.out, p.GetPayloadJson())
		})
	})
	retry := verb("retry PARKED", "Hand it to its handler again", args("PARKED"), func(ctx context.Context, given []string) error {
		api, err := c.operationsOf(given[0])
		if err != nil {
			return err
		}
		p, err := api.RetryParkedEvent(ctx, &operationsv1.RetryParkedEventRequest{Name: given[0]})
		if err != nil {
			return err
		}
		return c.print(p, func() { fmt.Fprintln(c.out, "handed over again:", p.GetName()) })
	})
	var reason string
	drop := verb("drop PARKED", "Give up on it; the reason is kept", args("PARKED"), func(ctx context.Context, given []string) error {
		if reason == "" {
			return usage("no reason: give --reason, it goes into the audit record")
		}
		api, err := c.operationsOf(given[0])
		if err != nil {
			return err
		}
		empty, err := api.DropParkedEvent(ctx, &operationsv1.DropParkedEventRequest{Name: given[0], Reason: reason})
		if err != nil {
			return err
		}
		return c.print(empty, func() { fmt.Fprintln(c.out, "dropped:", given[0]) })
	})
	drop.Flags().StringVar(&reason, "reason", "", "why")
	return group("parked", "Events and jobs that could not be handled (operators)", list, show, retry, drop)
}

func (c *cli) breakersCommand() *cobra.Command {
	return verb("breakers", "Circuit breakers on calls to the outside (operators)", args(), func(ctx context.Context, _ []string) error {
		apis, err := c.operations()
		if err != nil {
			return err
		}
		all := &operationsv1.ListBreakersResponse{}
		for _, api := range apis {
			page, err := api.ListBreakers(ctx, &operationsv1.ListBreakersRequest{})
			if err != nil {
				return err
			}
			all.Breakers = append(all.Breakers, page.GetBreakers()...)
		}
		return c.print(all, func() {
			var rows [][]string
			for _, b := range all.GetBreakers() {
				rows = append(rows, []string{b.GetService(), b.GetBreaker(), b.GetState(), when(b.GetChangeTime()), fmt.Sprint(b.GetRequests()), fmt.Sprint(b.GetFailures()), b.GetLastError()})
			}
			c.table([]string{"SERVICE", "BREAKER", "STATE", "SINCE", "CALLS", "FAILURES", "LAST ERROR"}, rows)
		})
	})
}

func (c *cli) auditCommand() *cobra.Command {
	var resource string
	cmd := verb("audit SERVICE", "Who did what in a service, newest first (operators)", args("SERVICE"), func(ctx context.Context, given []string) error {
		api, err := c.operationsOf("services/" + given[0])
		if err != nil {
			return err
		}
		page, err := api.ListAuditEntries(ctx, &operationsv1.ListAuditEntriesRequest{Service: given[0], Resource: resource, PageSize: 200})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, e := range page.GetAuditEntries() {
				rows = append(rows, []string{when(e.GetTime()), e.GetActor(), e.GetAction(), e.GetResource(), e.GetOutcome()})
			}
			c.table([]string{"TIME", "WHO", "DID", "ON", "OUTCOME"}, rows)
		})
	})
	cmd.Flags().StringVar(&resource, "resource", "", "only acts on this resource")
	return cmd
}

func (c *cli) configCommand() *cobra.Command {
	return verb("config", "The configuration in force, secrets masked (operators)", args(), func(ctx context.Context, _ []string) error {
		apis, err := c.operations()
		if err != nil {
			return err
		}
		for _, api := range apis {
			answer, err := api.GetEffectiveConfig(ctx, &operationsv1.GetEffectiveConfigRequest{})
			if err != nil {
				return err
			}
			err = c.print(answer, func() { fmt.Fprintln(c.out, answer.GetYaml()) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *cli) sdiCommand() *cobra.Command {
	var state, invoice string
	list := verb("ls", "Transmissions of the tenant, newest first", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		wanted := sdiv1.TransmissionState_value["TRANSMISSION_STATE_"+strings.ToUpper(state)]
		if state != "" && wanted == 0 {
			return usage("--state %q is none of reserved, sent, delivered, available, delivery_pending, rejected, accepted, refused, term_expired, attested", state)
		}
		if invoice != "" {
			invoice, err = c.invoiceName(invoice)
			if err != nil {
				return err
			}
		}
		conn, err := c.dial()
		if err != nil {
			return err
		}
		page, err := sdiv1.NewSdiServiceClient(conn).ListTransmissions(ctx, &sdiv1.ListTransmissionsRequest{
			Parent: tenant, Invoice: invoice, State: sdiv1.TransmissionState(wanted), PageSize: 200,
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, t := range page.GetTransmissions() {
				rows = append(rows, []string{t.GetFileName(), enum("TRANSMISSION_STATE_", t.GetState()), t.GetSdiId(), fmt.Sprint(t.GetAttempts()), when(t.GetUpdateTime()), t.GetLastError()})
			}
			c.table([]string{"FILE", "STATE", "SDI ID", "ATTEMPTS", "UPDATED", "LAST ERROR"}, rows)
		})
	})
	list.Flags().StringVar(&state, "state", "", "only in this state, such as reserved")
	list.Flags().StringVar(&invoice, "invoice", "", "only of this invoice (full name)")
	unmatched := verb("unmatched", "Messages of SdI that belong to nothing of ours (operators)", args(), func(ctx context.Context, _ []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		page, err := sdiv1.NewSdiServiceClient(conn).ListUnmatchedMessages(ctx, &sdiv1.ListUnmatchedMessagesRequest{PageSize: 200})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, m := range page.GetMessages() {
				rows = append(rows, []string{m.GetName(), m.GetType(), m.GetFileName(), m.GetSdiId(), when(m.GetReceiveTime()), m.GetProblem()})
			}
			c.table([]string{"MESSAGE", "TYPE", "FILE", "SDI ID", "RECEIVED", "PROBLEM"}, rows)
		})
	})
	var output string
	save := verb("save MESSAGE", "Write the bytes of an unmatched message (operators)", args("MESSAGE"), func(ctx context.Context, given []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		answer, err := sdiv1.NewSdiServiceClient(conn).GetUnmatchedMessage(ctx, &sdiv1.GetUnmatchedMessageRequest{Name: prefixed("messages/", given[0])})
		if err != nil {
			return err
		}
		if output == "" {
			_, err = c.out.Write(answer.GetContent())
			return err
		}
		return os.WriteFile(output, answer.GetContent(), 0o644)
	})
	save.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	return group("sdi", "Transmissions to SdI and its messages", list, unmatched, save)
}
