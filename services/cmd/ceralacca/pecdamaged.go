package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecDamaged() *cobra.Command {
	var all bool
	cmd := c.lister(c.atMailbox("damaged MAILBOX", "Messages that the archive does not give back as they came; - for all mailboxes", args("MAILBOX"),
		func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
			page, err := collect(c, func(token string, size int32) (*pecv1.ListDamagedMessagesResponse, error) {
				return api.ListDamagedMessages(ctx, &pecv1.ListDamagedMessagesRequest{Parent: mailbox, RepairedToo: all, PageToken: token, PageSize: size})
			})
			if err != nil {
				return err
			}
			return c.print(page, func() {
				var rows [][]string
				for _, d := range page.GetMessages() {
					rows = append(rows, []string{d.GetMessage(), d.GetCode(), when(d.GetFindTime()), when(d.GetAskTime()), strings.TrimSpace(when(d.GetRepairTime()) + " " + d.GetRepairedFrom())})
				}
				c.table([]string{"MESSAGE", "DAMAGE", "FOUND", "PROVIDER ASKED", "REPAIRED"}, rows)
				r := page.GetReading()
				fmt.Fprintf(c.out, "round %d of reading everything: began %s", r.GetRound(), cmp.Or(when(r.GetStartTime()), "not yet"))
				if r.GetLastEndTime() != nil {
					fmt.Fprintf(c.out, "; the last whole one went from %s to %s", when(r.GetLastStartTime()), when(r.GetLastEndTime()))
				}
				fmt.Fprintln(c.out)
			})
		}))
	cmd.Long = cmd.Short + ".\n\nEverything that is kept is read again, round after round, and held to its hash. What the provider still has is fetched once more; the rest waits\nuntil somebody restores the store."
	cmd.Flags().BoolVar(&all, "all", false, "those too that are whole again")
	return cmd
}

func (c *cli) pecStrike() *cobra.Command {
	var reason string
	var reinstate bool
	cmd := verb("strike MAILBOX/RECEIPT", "Decide that a receipt does not count which is not proven any more, or counts by a person's word alone", args("MAILBOX/RECEIPT"), func(ctx context.Context, given []string) error {
		err := need("reason", reason)
		if err != nil {
			return err
		}
		name, err := c.pecMessageName(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pecDelivery()
		if err != nil {
			return err
		}
		m, err := api.StrikeReceipt(ctx, &pecv1.StrikeReceiptRequest{Name: name, Reason: reason, Reinstate: reinstate})
		if err != nil {
			return err
		}
		return c.print(m, func() {
			c.fields("message", m.GetName(), "state", enum("MESSAGE_STATE_", m.GetState()), "contradictions", strings.Join(m.GetContradictions(), "; "))
			var rows [][]string
			for _, r := range m.GetRecipients() {
				rows = append(rows, []string{r.GetAddress(), r.GetState(), when(r.GetTime()), r.GetCause()})
			}
			c.table([]string{"RECIPIENT", "STATE", "AT", "CAUSE"}, rows)
		})
	})
	cmd.Long = cmd.Short + ".\n\nThe trust in who signed it was withdrawn (ceralacca pec trust withdraw), and the state of the sent message stands on it until a person decides;\nor somebody vouched for it together with others (ceralacca pec vouch).\nThe state becomes what the other receipts add up to. --reinstate takes that back."
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.Flags().BoolVar(&reinstate, "reinstate", false, "it was struck out, and counts again")
	return cmd
}
