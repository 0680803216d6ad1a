package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// postCommand is certified mail as a channel to SdI.
func (c *cli) postCommand() *cobra.Command {
	return group("pec", "Certified mail as a channel to SdI: the mailbox of a company, the address that SdI assigned, what was sent and what came",
		c.postSet(), c.postShow(), c.postList(), c.postMailings(), c.postArrivals())
}

func (c *cli) post() (sdiv1.SdiPecServiceClient, error) {
	conn, err := c.dial()
	return sdiv1.NewSdiPecServiceClient(conn), err
}

func (c *cli) postSet() *cobra.Command {
	var company, prefer, reason string
	cmd := verb("set [MAILBOX]", "Have a company send from a certified mailbox (its id or its address), alone or beside the other channels", oneOrNone("MAILBOX"),
		func(ctx context.Context, given []string) error {
			req := &sdiv1.SetPecChannelRequest{Reason: reason,
				Preference: sdiv1.PecPreference(sdiv1.PecPreference_value["PEC_PREFERENCE_"+strings.ToUpper(prefer)])}
			if req.GetPreference() == sdiv1.PecPreference_PEC_PREFERENCE_UNSPECIFIED {
				return usage("--prefer: %q is none of only, first, last and never", prefer)
			}
			var err error
			req.Company, err = c.companyName(company)
			if err == nil && len(given) > 0 {
				req.Mailbox, err = c.pecMailbox(ctx, given[0])
			}
			if err != nil {
				return err
			}
			api, err := c.post()
			if err != nil {
				return err
			}
			got, err := api.SetPecChannel(ctx, req)
			if err != nil {
				return err
			}
			return c.print(got, func() { c.postTable([]*sdiv1.PecChannel{got}) })
		})
	cmd.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "of whom (CERALACCA_COMPANY)")
	cmd.Flags().StringVar(&prefer, "prefer", "only", "only: by certified mail alone; first or last: before or after the other channels; never: take it away")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return cmd
}

// oneOrNone takes one argument at most.
func oneOrNone(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) > 1 {
			return usage("%q is one argument too many after %s: %s", given[1], name, cmd.UseLine())
		}
		return nil
	}
}

func (c *cli) postShow() *cobra.Command {
	var company string
	cmd := verb("show", "The mailbox of a company, the address that messages to SdI go to, and every address that SdI assigned", args(), func(ctx context.Context, _ []string) error {
		name, err := c.companyName(company)
		if err != nil {
			return err
		}
		api, err := c.post()
		if err != nil {
			return err
		}
		got, err := api.GetPecChannel(ctx, &sdiv1.GetPecChannelRequest{Company: name})
		if err != nil {
			return err
		}
		return c.print(got, func() {
			c.postTable([]*sdiv1.PecChannel{got})
			var rows [][]string
			for _, a := range got.GetAssigned() {
				rows = append(rows, []string{a.GetAddress(), when(a.GetAssignTime()), when(a.GetLearnTime()), a.GetMessage()})
			}
			c.table([]string{"ASSIGNED", "CERTIFIED", "LEARNED", "BY MESSAGE"}, rows)
		})
	})
	cmd.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "of whom (CERALACCA_COMPANY)")
	return cmd
}

func (c *cli) postTable(list []*sdiv1.PecChannel) {
	var rows [][]string
	for _, p := range list {
		state := "healthy"
		if !p.GetHealthy() {
			state = "unhealthy"
		}
		reason := p.GetReason()
		if reason == "" {
			reason = p.GetDoubt()
		}
		rows = append(rows, []string{p.GetCompany(), p.GetMailbox(), strings.ToLower(strings.TrimPrefix(p.GetPreference().String(), "PEC_PREFERENCE_")),
			p.GetAddress(), state, fmt.Sprint(p.GetWaiting()), p.GetUpdatedBy(), reason})
	}
	c.table([]string{"COMPANY", "MAILBOX", "PREFERENCE", "SENDS TO", "STATE", "WAITING", "SET BY", "REASON"}, rows)
}

func (c *cli) postList() *cobra.Command {
	return c.lister(verb("ls", "Companies that have a mailbox for SdI; operators see all tenants without --tenant", args(), func(ctx context.Context, _ []string) error {
		api, err := c.post()
		if err != nil {
			return err
		}
		parent, err := c.tenantOrAll()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListPecChannelsResponse, error) {
			return api.ListPecChannels(ctx, &sdiv1.ListPecChannelsRequest{Parent: parent, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.postTable(page.GetChannels()) })
	}))
}

func (c *cli) postMailings() *cobra.Command {
	var state string
	cmd := c.lister(verb("sent", "Messages to SdI, newest first", args(), func(ctx context.Context, _ []string) error {
		api, err := c.post()
		if err != nil {
			return err
		}
		parent, err := c.tenantOrAll()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListPecMailingsResponse, error) {
			return api.ListPecMailings(ctx, &sdiv1.ListPecMailingsRequest{Parent: parent, State: state, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, m := range page.GetMailings() {
				rows = append(rows, []string{when(m.GetCreateTime()), m.GetState(), m.GetAddress(), strings.Join(m.GetFileNames(), " "), m.GetMessage(), m.GetProblem()})
			}
			c.table([]string{"ASKED", "STATE", "TO", "FILES", "MESSAGE", "PROBLEM"}, rows)
		})
	}))
	cmd.Flags().StringVar(&state, "state", "", "only in this state: REQUESTED, QUEUED, UNKNOWN, SUBMITTED, ACCEPTED, DELIVERED, FAILED, OVERDUE")
	return cmd
}

func (c *cli) postArrivals() *cobra.Command {
	var state string
	cmd := c.lister(verb("received", "Messages that say that they come from SdI, newest first; unproven ones are in quarantine and change nothing", args(), func(ctx context.Context, _ []string) error {
		api, err := c.post()
		if err != nil {
			return err
		}
		parent, err := c.tenantOrAll()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListPecArrivalsResponse, error) {
			return api.ListPecArrivals(ctx, &sdiv1.ListPecArrivalsRequest{Parent: parent, State: state, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, a := range page.GetArrivals() {
				rows = append(rows, []string{when(a.GetReceiveTime()), a.GetState(), a.GetSender(), strings.Join(a.GetFileNames(), " "), a.GetMessage(), a.GetProblem()})
			}
			c.table([]string{"RECEIVED", "STATE", "SENDER", "FILES", "MESSAGE", "PROBLEM"}, rows)
		})
	}))
	cmd.Flags().StringVar(&state, "state", "", "only in this state: TAKEN, READ, QUARANTINED")
	return cmd
}
