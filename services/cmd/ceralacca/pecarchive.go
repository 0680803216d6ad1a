package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecArchive() *cobra.Command {
	var output string
	export := c.atMailbox("export MAILBOX", "Everything of a mailbox in one ZIP, each message byte by byte", args("MAILBOX"),
		func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, _ []string) error {
			stream, err := api.ExportMailbox(ctx, &pecv1.ExportMailboxRequest{Name: mailbox})
			if err != nil {
				return err
			}
			return c.download(output, func() ([]byte, error) {
				r, err := stream.Recv()
				return r.GetData(), err
			})
		})
	export.Flags().StringVarP(&output, "file", "f", "", "file to write; standard output when empty")
	restore := c.atMailbox("restore MAILBOX FILE", "Take an exported mailbox into one that is suspended; what it has already is left as it is", args("MAILBOX", "FILE"),
		func(ctx context.Context, api pecv1.PecDeskServiceClient, mailbox string, given []string) error {
			_, err := os.Stat(given[0])
			if err != nil {
				return usage("%v", err)
			}
			content, err := c.uploadAttachment(ctx, mailbox[:strings.Index(mailbox, "/mailboxes/")], given[0])
			if err != nil {
				return err
			}
			all := &pecv1.RestoreMailboxResponse{}
			for !all.GetDone() {
				got, err := api.RestoreMailbox(ctx, &pecv1.RestoreMailboxRequest{Name: mailbox, Archive: content, Position: all.GetPosition()})
				if err != nil {
					return err
				}
				all.Position, all.Done = got.GetPosition(), got.GetDone()
				all.Restored, all.Known = all.GetRestored()+got.GetRestored(), all.GetKnown()+got.GetKnown()
			}
			return c.print(all, func() { c.fields("restored", all.GetRestored(), "there before", all.GetKnown()) })
		})
	return group("archive", "Take a whole mailbox out, and into another one", export, restore)
}
