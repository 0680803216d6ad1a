package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecDrafts() (pecv1.PecDraftServiceClient, error) {
	conn, err := c.dial()
	return pecv1.NewPecDraftServiceClient(conn), err
}

func (c *cli) pecDraftCommand() *cobra.Command {
	return group("draft", "Messages that are being written: nothing of them leaves before they are sent", c.pecDraftSave(), c.pecDraftList(), c.pecDraftGet(),
		c.pecDraftChange(), c.pecDraftSend(), c.pecDraftDelete())
}

// draft is what the flags say as a draft, files apart.
func (f *letterFlags) draft(c *cli) (*pecv1.Draft, string, error) {
	req, err := f.letter(c)
	if err != nil {
		return nil, "", err
	}
	return &pecv1.Draft{
		To: req.GetTo(), Cc: req.GetCc(), Subject: req.GetSubject(), Text: req.GetText(), Html: req.GetHtml(), ReceiptType: req.GetReceiptType(),
		FromName: req.GetFromName(), InReplyTo: req.GetInReplyTo(),
	}, req.GetRequestId(), nil
}

func (c *cli) pecDraftSave() *cobra.Command {
	var f letterFlags
	cmd := verb("save MAILBOX", "Keep a message that is not finished", args("MAILBOX"), func(ctx context.Context, given []string) error {
		d, id, err := f.draft(c)
		if err != nil {
			return err
		}
		mailbox, err := c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		d.Attachments, err = c.uploadAttachments(ctx, mailbox, f.files)
		if err != nil {
			return err
		}
		api, err := c.pecDrafts()
		if err != nil {
			return err
		}
		kept, err := api.CreateDraft(ctx, &pecv1.CreateDraftRequest{Parent: mailbox, Draft: d, RequestId: id})
		if err != nil {
			return repeatError{err, id}
		}
		return c.print(kept, func() { c.showPecDraft(kept) })
	})
	cmd.Long = cmd.Short + ".\n\nIt may lack anything: what a provider would refuse is looked at when it is sent."
	f.composeOn(f.add(cmd, ""))
	return cmd
}

// atDraft runs fn with the full name of the draft that is given.
func (c *cli) atDraft(use, short string, fn func(ctx context.Context, api pecv1.PecDraftServiceClient, name string) error) *cobra.Command {
	return verb(use, short, args("MAILBOX/DRAFT"), func(ctx context.Context, given []string) error {
		name := given[0]
		if !strings.HasPrefix(name, "tenants/") {
			box, draft, ok := strings.Cut(name, "/")
			if !ok {
				return usage("%q is no draft: give MAILBOX/DRAFT, for example ufficio@pec.example/%s, or a full name", name, name)
			}
			mailbox, err := c.pecMailbox(ctx, box)
			if err != nil {
				return err
			}
			name = mailbox + "/drafts/" + draft
		}
		api, err := c.pecDrafts()
		if err != nil {
			return err
		}
		return fn(ctx, api, name)
	})
}

func (c *cli) pecDraftList() *cobra.Command {
	cmd := c.lister(verb("ls MAILBOX", "Drafts of a mailbox, the last changed first", args("MAILBOX"), func(ctx context.Context, given []string) error {
		mailbox, err := c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pecDrafts()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListDraftsResponse, error) {
			return api.ListDrafts(ctx, &pecv1.ListDraftsRequest{Parent: mailbox, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDrafts() {
				rows = append(rows, []string{last(d.GetName()), when(d.GetUpdateTime()), strings.Join(d.GetTo(), " "), d.GetSubject(), fmt.Sprint(len(d.GetAttachments()))})
			}
			c.table([]string{"DRAFT", "CHANGED", "TO", "SUBJECT", "FILES"}, rows)
		})
	}))
	return cmd
}

func (c *cli) pecDraftGet() *cobra.Command {
	return c.atDraft("get MAILBOX/DRAFT", "Show a draft", func(ctx context.Context, api pecv1.PecDraftServiceClient, name string) error {
		d, err := api.GetDraft(ctx, &pecv1.GetDraftRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(d, func() { c.showPecDraft(d) })
	})
}

func (c *cli) showPecDraft(d *pecv1.Draft) {
	var files []string
	for _, a := range d.GetAttachments() {
		files = append(files, fmt.Sprintf("%s (%d bytes)", a.GetFileName(), a.GetContent().GetSize()))
	}
	c.fields("draft", d.GetName(), "to", strings.Join(d.GetTo(), " "), "cc", strings.Join(d.GetCc(), " "), "subject", d.GetSubject(), "files", strings.Join(files, ", "),
		"receipt", strings.ToLower(enum("RECEIPT_TYPE_", d.GetReceiptType())), "answers", d.GetInReplyTo(), "changed", when(d.GetUpdateTime()), "etag", d.GetEtag())
	if d.GetText() != "" {
		fmt.Fprintf(c.out, "\n%s\n", d.GetText())
	}
}

func (c *cli) pecDraftChange() *cobra.Command {
	var f letterFlags
	var etag string
	var cmd *cobra.Command
	cmd = c.atDraft("change MAILBOX/DRAFT", "Change what the flags name", func(ctx context.Context, api pecv1.PecDraftServiceClient, name string) error {
		mask := &fieldmaskpb.FieldMask{}
		for _, p := range []struct{ flag, path string }{
			{"to", "to"}, {"cc", "cc"}, {"subject", "subject"}, {"text", "text"}, {"text-file", "text"}, {"html-file", "html"}, {"attach", "attachments"},
			{"receipt", "receipt_type"}, {"from-name", "from_name"}, {"in-reply-to", "in_reply_to"},
		} {
			if cmd.Flags().Changed(p.flag) {
				mask.Paths = append(mask.Paths, p.path)
			}
		}
		d, _, err := f.draft(c)
		if err != nil {
			return err
		}
		d.Name, d.Etag = name, etag
		if cmd.Flags().Changed("attach") {
			files := f.files
			if len(files) == 1 && files[0] == "" {
				files = nil
			}
			d.Attachments, err = c.uploadAttachments(ctx, name, files)
			if err != nil {
				return err
			}
		}
		d, err = api.UpdateDraft(ctx, &pecv1.UpdateDraftRequest{Draft: d, UpdateMask: mask})
		if err != nil {
			return err
		}
		return c.print(d, func() { c.showPecDraft(d) })
	})
	cmd.Long = cmd.Short + ".\n\nAn empty value empties a field, --attach \"\" takes all files out; --attach replaces the files of the draft. With --etag, as ceralacca pec draft get\n" +
		"shows it, the change is refused when somebody else was faster."
	f.composeOn(cmd)
	cmd.Flags().StringVar(&etag, "etag", "", "version that was read")
	return cmd
}

func (c *cli) pecDraftSend() *cobra.Command {
	var f letterFlags
	var etag string
	cmd := c.atDraft("send MAILBOX/DRAFT", "Send a draft; the draft is gone then", func(ctx context.Context, api pecv1.PecDraftServiceClient, name string) error {
		id, err := f.id()
		if err != nil {
			return err
		}
		m, err := api.SendDraft(ctx, &pecv1.SendDraftRequest{Name: name, Etag: etag, RequestId: id, AllowSplit: f.split})
		if err != nil {
			return repeatError{err, id}
		}
		return c.print(m, func() { c.showPecSent(m) })
	})
	cmd.Long = cmd.Short + ".\n\nIt is held to the checks of ceralacca pec send; when one refuses it, the draft stays as it is. The same --request-id never sends twice."
	f.splitOn(f.add(cmd, ""))
	cmd.Flags().StringVar(&etag, "etag", "", "version that was read: another is not sent")
	return cmd
}

func (c *cli) pecDraftDelete() *cobra.Command {
	var etag string
	cmd := c.atDraft("rm MAILBOX/DRAFT", "Remove a draft for good", func(ctx context.Context, api pecv1.PecDraftServiceClient, name string) error {
		_, err := api.DeleteDraft(ctx, &pecv1.DeleteDraftRequest{Name: name, Etag: etag})
		return err
	})
	cmd.Flags().StringVar(&etag, "etag", "", "version that was read: another is not removed")
	return cmd
}
