package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecVouchCommand() *cobra.Command {
	return group("vouch", "The word of a person for mail that was copied into a mailbox after the certificates of its signers had ended", c.pecVouch(), c.pecVouchings(), c.pecVouchEnd())
}

func (c *cli) pecVouch() *cobra.Command {
	var from, until string
	req := &pecv1.VouchForCopiesRequest{}
	cmd := verb("copies MAILBOX", "Vouch for what was copied into a mailbox within a period", args("MAILBOX"), func(ctx context.Context, given []string) error {
		err := need("from", from, "until", until, "reason", req.Reason)
		if err != nil {
			return err
		}
		for _, f := range []struct {
			flag, text string
			to         **timestamppb.Timestamp
		}{{"--from", from, &req.ArriveFrom}, {"--until", until, &req.ArriveUntil}} {
			at, err := time.Parse(time.RFC3339, f.text)
			if err != nil {
				return usage("%s: %q is no moment: use for example 2026-11-22T14:00:00+01:00", f.flag, f.text)
			}
			*f.to = timestamppb.New(at)
		}
		req.Parent, err = c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pecDelivery()
		if err != nil {
			return err
		}
		w, err := api.VouchForCopies(ctx, req)
		if err != nil {
			return err
		}
		return c.print(w, func() { c.showVouching(w) })
	})
	cmd.Long = cmd.Short + ".\n\nMail that was taken to another provider bears the day of the copying, and what was signed with a certificate that had ended by then is not\n" +
		"proven (valid-cert-ended). Whoever saw to the copying says by this that what came in it lay in the mailbox before: it counts as proven by\n" +
		"his word, receipts of our messages for their states too, and reports and evidence say so. It is for nothing but valid-cert-ended, and not\n" +
		"for what is still to come: make the period as short as the copying was. ceralacca pec message get shows when a message came (judged for)."
	cmd.Flags().StringVar(&from, "from", "", "when the copying began, as the provider's server dates the copies, for example 2026-11-22T14:00:00+01:00")
	cmd.Flags().StringVar(&until, "until", "", "when it was over")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record; it stands in the evidence")
	return cmd
}

func (c *cli) pecVouchEnd() *cobra.Command {
	req := &pecv1.EndVouchingRequest{}
	cmd := verb("end VOUCHING", "Take a word back: what counted by it alone does not any more", args("VOUCHING"), func(ctx context.Context, given []string) error {
		err := need("reason", req.Reason)
		if err != nil {
			return err
		}
		req.Name = given[0]
		if box, id, ok := strings.Cut(given[0], "/"); !ok {
			return usage("%q is no word: give its name as ceralacca pec vouch ls shows it, or MAILBOX/ID", given[0])
		} else if box != "tenants" {
			box, err = c.pecMailbox(ctx, box)
			if err != nil {
				return err
			}
			req.Name = box + "/vouchings/" + id
		}
		api, err := c.pecDelivery()
		if err != nil {
			return err
		}
		w, err := api.EndVouching(ctx, req)
		if err != nil {
			return err
		}
		return c.print(w, func() { c.showVouching(w) })
	})
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record")
	return cmd
}

func (c *cli) pecVouchings() *cobra.Command {
	return c.lister(verb("ls MAILBOX", "Whose word counts, what for and why, and how much counts by it", args("MAILBOX"), func(ctx context.Context, given []string) error {
		mailbox, err := c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pecDelivery()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListVouchingsResponse, error) {
			return api.ListVouchings(ctx, &pecv1.ListVouchingsRequest{Parent: mailbox, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			if len(page.GetVouchings()) == 0 {
				fmt.Fprintln(c.out, "nobody vouched for anything in this mailbox")
			}
			for i, w := range page.GetVouchings() {
				if i > 0 {
					fmt.Fprintln(c.out)
				}
				c.showVouching(w)
			}
		})
	}))
}

func (c *cli) showVouching(w *pecv1.Vouching) {
	judged := "going on"
	if w.GetJudgeTime() != nil {
		judged = "done " + when(w.GetJudgeTime())
	}
	c.fields("vouching", w.GetName(), "for what came from", when(w.GetArriveFrom()), "until", when(w.GetArriveUntil()), "reason", w.GetReason(), "by", w.GetVouchedBy(),
		"on", when(w.GetVouchTime()), "judging anew", judged, "messages that count by it", w.GetMessages(), "receipts of ours among them", w.GetReceipts(),
		"messages that could not be judged", w.GetFailedMessages(), "taken back", strings.TrimSpace(when(w.GetEndTime())+" "+w.GetEndedBy()+" "+w.GetEndReason()))
}
