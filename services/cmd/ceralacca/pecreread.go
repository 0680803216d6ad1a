package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecAgain() *cobra.Command {
	var unproven bool
	cmd := verb("reread MAILBOX/MESSAGE | MAILBOX --unproven", "Judge the kept bytes by the trust list of today", args("MAILBOX/MESSAGE"), func(ctx context.Context, given []string) error {
		if unproven {
			return c.rereadUnproven(ctx, given[0])
		}
		name, err := c.pecMessageName(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		m, err := api.ReadMessageAgain(ctx, &pecv1.ReadMessageAgainRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(m, func() { c.showPecMessage(m) })
	})
	cmd.Flags().BoolVar(&unproven, "unproven", false, "every message of the mailbox that claims to be certified mail and is not proven; - for all mailboxes")
	cmd.Long = "Judge the kept bytes by the trust list of today.\n\n" +
		"After a provider's new certificate was approved or imported, --unproven does it for all that waited for that: a receipt\n" +
		"that is proven now counts now. Earlier reports are kept. Without a person nothing is judged anew."
	return cmd
}

// rereadUnproven judges again, page by page, what says that it is certified mail and is not proven. It may be ended
// and begun anew: what is proven by then is not asked for again.
func (c *cli) rereadUnproven(ctx context.Context, mailbox string) error {
	parent, err := c.pecParent(ctx, mailbox)
	if err != nil {
		return err
	}
	api, err := c.pec()
	if err != nil {
		return err
	}
	read := &pecv1.ListMessagesResponse{}
	proven := 0
	req := &pecv1.ListMessagesRequest{Parent: parent, Direction: pecv1.MessageDirection_MESSAGE_DIRECTION_RECEIVED, Proven: new(bool), PageSize: 500}
	for {
		page, err := api.ListMessages(ctx, req)
		if err != nil {
			return err
		}
		for _, m := range page.GetMessages() {
			if m.GetType() == "" {
				continue // ordinary mail, which claims nothing
			}
			now, err := api.ReadMessageAgain(ctx, &pecv1.ReadMessageAgainRequest{Name: m.GetName()})
			if err != nil {
				return hintedError{err, fmt.Sprintf("at %s, after %d messages that were read again; the same command begins anew", m.GetName(), len(read.GetMessages()))}
			}
			if now.GetProven() {
				proven++
			}
			read.Messages = append(read.Messages, now)
		}
		req.PageToken = page.GetNextPageToken()
		if req.PageToken == "" {
			break
		}
	}
	return c.print(read, func() {
		if len(read.GetMessages()) > 0 {
			c.messageTable(read.GetMessages())
		}
		fmt.Fprintf(c.out, "%d read again, %d of them proven now\n", len(read.GetMessages()), proven)
	})
}
