package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	"ceralacca.dev/services/internal/fault"
)

// instance is the operators' API of one process.
type instance struct {
	server string // one of the services that it hosts; empty when one address serves all
	api    operationsv1.OperationsServiceClient
}

// operations gives the operators' API of every process that --server names, each address once.
func (c *cli) operations() ([]instance, error) {
	r, err := c.dial()
	if err != nil {
		return nil, err
	}
	conns := map[string]*grpc.ClientConn{"": r.all}
	names := []string{""}
	if r.all == nil {
		conns, names = r.byService, services
	}
	var all []instance
	var seen []string
	for _, name := range names {
		if conn := conns[name]; conn != nil && !slices.Contains(seen, conn.Target()) {
			seen = append(seen, conn.Target())
			all = append(all, instance{name, operationsv1.NewOperationsServiceClient(conn)})
		}
	}
	return all, nil
}

// everywhere asks every process. What those that answer say is shown though others cannot be asked; the first
// error is the command's then, and names them all.
func (c *cli) everywhere(ask func(instance) error) error {
	all, err := c.operations()
	if err != nil {
		return err
	}
	var first *fault.Fault
	var silent []string
	for _, one := range all {
		err := ask(one)
		var words usageError
		switch {
		case err == nil:
			continue
		case errors.As(err, &words):
			return err
		}
		silent = append(silent, one.server)
		if first == nil {
			first = c.explain(fault.Of(err))
		}
	}
	switch {
	case first == nil:
		return nil
	case len(all) == 1:
		return first
	}
	named := *first
	named.Message = fmt.Sprintf("%d of %d processes could not be asked (%s): %s", len(silent), len(all), strings.Join(silent, ", "), first.Message)
	return &named
}

// operationsOf gives the API of the process that hosts a service.
func (c *cli) operationsOf(service string) (operationsv1.OperationsServiceClient, error) {
	if !slices.Contains(services, service) {
		return nil, usage("there is no service %q; there are %s", service, strings.Join(services, ", "))
	}
	r, err := c.dial()
	if err != nil {
		return nil, err
	}
	conn := r.all
	if conn == nil {
		conn = r.byService[service]
	}
	if conn == nil {
		return nil, usage("--server names no address for %s", service)
	}
	return operationsv1.NewOperationsServiceClient(conn), nil
}

func (c *cli) parkedCommand() *cobra.Command {
	return group("parked", "Events and jobs that could not be handled (operators)", c.parkedList(), c.parkedShow(), c.parkedRetry(), c.parkedDrop())
}

func (c *cli) parkedList() *cobra.Command {
	var service string
	cmd := c.lister(verb("ls", "List events and jobs that could not be handled", args(), func(ctx context.Context, _ []string) error {
		if service != "" && !slices.Contains(services, service) {
			return usage("--service %q is none of %v", service, services)
		}
		all := &operationsv1.ListParkedEventsResponse{}
		failed := c.everywhere(func(one instance) error {
			if service != "" && one.server != "" && one.server != service {
				return nil
			}
			page, err := collect(c, func(token string, size int32) (*operationsv1.ListParkedEventsResponse, error) {
				return one.api.ListParkedEvents(ctx, &operationsv1.ListParkedEventsRequest{Service: service, PageSize: size, PageToken: token})
			})
			all.ParkedEvents = append(all.ParkedEvents, page.GetParkedEvents()...)
			return err
		})
		if failed != nil && len(all.ParkedEvents) == 0 {
			return failed
		}
		err := c.print(all, func() {
			var rows [][]string
			for _, p := range all.GetParkedEvents() {
				rows = append(rows, []string{p.GetName(), p.GetKind(), p.GetHandler(), p.GetTenant(), p.GetCode(), fmt.Sprint(p.GetAttempts()), when(p.GetParkTime())})
			}
			c.table([]string{"PARKED", "KIND", "HANDLER", "TENANT", "CODE", "ATTEMPTS", "SINCE"}, rows)
		})
		if err != nil {
			return err
		}
		return failed
	}))
	cmd.Flags().StringVar(&service, "service", "", "only of this service")
	return cmd
}

func (c *cli) parkedShow() *cobra.Command {
	return verb("show PARKED", "Show one with its payload", args("PARKED"), func(ctx context.Context, given []string) error {
		api, err := c.parkedAPI(given[0])
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
}

func (c *cli) parkedRetry() *cobra.Command {
	return verb("retry PARKED...", "Hand events or jobs to their handlers again", args("PARKED..."), func(ctx context.Context, given []string) error {
		for _, name := range given {
			api, err := c.parkedAPI(name)
			if err != nil {
				return err
			}
			p, err := api.RetryParkedEvent(ctx, &operationsv1.RetryParkedEventRequest{Name: name})
			if err != nil {
				return err
			}
			err = c.printLine(p, func() { fmt.Fprintln(c.out, "handed over again:", p.GetName()) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *cli) parkedDrop() *cobra.Command {
	var reason string
	cmd := verb("drop PARKED...", "Give up on events or jobs; the reason is kept", args("PARKED..."), func(ctx context.Context, given []string) error {
		if reason == "" {
			return usage("no reason: give --reason, it goes into the audit record")
		}
		for _, name := range given {
			api, err := c.parkedAPI(name)
			if err != nil {
				return err
			}
			empty, err := api.DropParkedEvent(ctx, &operationsv1.DropParkedEventRequest{Name: name, Reason: reason})
			if err != nil {
				return err
			}
			err = c.printLine(empty, func() { fmt.Fprintln(c.out, "dropped:", name) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func (c *cli) breakersCommand() *cobra.Command {
	return verb("breakers", "Circuit breakers on calls to the outside (operators)", args(), func(ctx context.Context, _ []string) error {
		all := &operationsv1.ListBreakersResponse{}
		failed := c.everywhere(func(one instance) error {
			page, err := one.api.ListBreakers(ctx, &operationsv1.ListBreakersRequest{})
			all.Breakers = append(all.Breakers, page.GetBreakers()...)
			return err
		})
		if failed != nil && len(all.Breakers) == 0 {
			return failed
		}
		err := c.print(all, func() {
			var rows [][]string
			for _, b := range all.GetBreakers() {
				rows = append(rows, []string{b.GetService(), b.GetBreaker(), b.GetState(), when(b.GetChangeTime()), fmt.Sprint(b.GetRequests()), fmt.Sprint(b.GetFailures()), b.GetLastError()})
			}
			c.table([]string{"SERVICE", "BREAKER", "STATE", "SINCE", "CALLS", "FAILURES", "LAST ERROR"}, rows)
		})
		if err != nil {
			return err
		}
		return failed
	})
}

func (c *cli) auditCommand() *cobra.Command {
	var resource string
	cmd := c.lister(verb("audit SERVICE", "Who did what in a service, newest first (operators)", args("SERVICE"), func(ctx context.Context, given []string) error {
		api, err := c.operationsOf(given[0])
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*operationsv1.ListAuditEntriesResponse, error) {
			return api.ListAuditEntries(ctx, &operationsv1.ListAuditEntriesRequest{Service: given[0], Resource: resource, PageToken: token, PageSize: size})
		})
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
	}))
	cmd.Flags().StringVar(&resource, "resource", "", "only acts on this resource")
	return cmd
}

// effective is the configuration of one process.
type effective struct {
	Server string `json:"server,omitempty"`
	YAML   string `json:"yaml"`
}

func (c *cli) configCommand() *cobra.Command {
	return verb("config", "The configuration in force, secrets masked (operators)", args(), func(ctx context.Context, _ []string) error {
		var all []effective
		failed := c.everywhere(func(one instance) error {
			answer, err := one.api.GetEffectiveConfig(ctx, &operationsv1.GetEffectiveConfigRequest{})
			if err == nil {
				all = append(all, effective{Server: one.server, YAML: answer.GetYaml()})
			}
			return err
		})
		if failed != nil && len(all) == 0 {
			return failed
		}
		if c.format == formatJSON {
			printJSON(c.out, map[string]any{"processes": all})
			return failed
		}
		for _, one := range all {
			if one.Server != "" {
				fmt.Fprintf(c.out, "# %s\n", one.Server)
			}
			fmt.Fprintln(c.out, one.YAML)
		}
		return failed
	})
}

// parkedAPI gives the API of the process that hosts the service of services/{service}/parkedEvents/{id}.
func (c *cli) parkedAPI(name string) (operationsv1.OperationsServiceClient, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "services" || parts[2] != "parkedEvents" {
		return nil, usage("%q is not services/{service}/parkedEvents/{id}; ceralacca parked ls shows the names", name)
	}
	return c.operationsOf(parts[1])
}
