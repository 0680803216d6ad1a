package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

func (c *cli) sdiCommand() *cobra.Command {
	var state, invoice string
	list := c.lister(verb("ls", "Transmissions of the tenant, newest first", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		wanted, err := enumOf("state", "TRANSMISSION_STATE_", state, sdiv1.TransmissionState_value)
		if err != nil {
			return err
		}
		invoice, err = c.fullInvoiceName(ctx, invoice)
		if err != nil {
			return err
		}
		conn, err := c.dial()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListTransmissionsResponse, error) {
			return sdiv1.NewSdiServiceClient(conn).ListTransmissions(ctx, &sdiv1.ListTransmissionsRequest{
				Parent: tenant, Invoice: invoice, State: sdiv1.TransmissionState(wanted), PageToken: token, PageSize: size,
			})
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
	}))
	list.Flags().StringVar(&state, "state", "", "only in this state, such as reserved")
	list.Flags().StringVar(&invoice, "invoice", "", "only of this invoice")
	unmatched := c.lister(verb("unmatched", "Messages of SdI that belong to nothing of ours (operators)", args(), func(ctx context.Context, _ []string) error {
		conn, err := c.dial()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListUnmatchedMessagesResponse, error) {
			return sdiv1.NewSdiServiceClient(conn).ListUnmatchedMessages(ctx, &sdiv1.ListUnmatchedMessagesRequest{PageToken: token, PageSize: size})
		})
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
	}))
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
		return c.save(output, answer.GetContent(), answer)
	})
	save.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	verbs := append([]*cobra.Command{list, unmatched, save}, c.exchangeCommands()...)
	return group("sdi", "Transmissions to SdI and its messages", append(verbs, c.channelCommands()...)...)
}
