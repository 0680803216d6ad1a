package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// channelCommands are what operators see of the channels to SdI.
func (c *cli) channelCommands() []*cobra.Command {
	channels := verb("channels", "Ways to SdI, and whether new documents go there (operators)", args(), func(ctx context.Context, _ []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		list, err := sdiv1.NewSdiChannelServiceClient(conn).ListChannels(ctx, &sdiv1.ListChannelsRequest{})
		if err != nil {
			return err
		}
		return c.print(list, func() {
			var rows [][]string
			for _, ch := range list.GetChannels() {
				state := "healthy"
				if !ch.GetHealthy() {
					state = "unhealthy"
				}
				rows = append(rows, []string{ch.GetName(), state, fmt.Sprint(ch.GetWaiting()), when(ch.GetContactTime()), ch.GetReason()})
			}
			c.table([]string{"CHANNEL", "STATE", "WAITING", "LAST CONTACT", "REASON"}, rows)
		})
	})
	return []*cobra.Command{channels, c.supportsCommand(), c.differencesCommand(), c.postCommand()}
}

func (c *cli) supportsCommand() *cobra.Command {
	var kind, state string
	supports := c.lister(verb("supports", "Files of the SDIFTP channel, newest first (operators)", args(), func(ctx context.Context, _ []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListSupportsResponse, error) {
			return sdiv1.NewSdiChannelServiceClient(conn).ListSupports(ctx, &sdiv1.ListSupportsRequest{Kind: kind, State: state, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, s := range page.GetSupports() {
				rows = append(rows, []string{s.GetName(), s.GetState(), fmt.Sprint(s.GetDocuments()), fmt.Sprint(s.GetSize()), s.GetOutcome(), when(s.GetCreateTime()), s.GetProblem()})
			}
			c.table([]string{"NAME", "STATE", "DOCUMENTS", "BYTES", "OUTCOME", "CREATED", "PROBLEM"}, rows)
		})
	}))
	supports.Flags().StringVar(&kind, "kind", "", "only FI, FO, EO, ER or ST")
	supports.Flags().StringVar(&state, "state", "", "only in this state: GATHERED, SHOWN, TAKEN, ACCEPTED, REFUSED, WITHDRAWN; ARRIVING, RECEIVED, READ, QUARANTINED")
	return supports
}

func (c *cli) differencesCommand() *cobra.Command {
	return c.lister(verb("differences", "Where SdI's counts and reports of supports do not agree with our books (operators)", args(), func(ctx context.Context, _ []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListSupportDifferencesResponse, error) {
			return sdiv1.NewSdiChannelServiceClient(conn).ListSupportDifferences(ctx, &sdiv1.ListSupportDifferencesRequest{PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDifferences() {
				rows = append(rows, []string{d.GetName(), d.GetProblem(), d.GetSource(), when(d.GetFindTime())})
			}
			c.table([]string{"NAME", "PROBLEM", "SOURCE", "FOUND"}, rows)
		})
	}))
}
