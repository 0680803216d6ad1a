package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecDelivery() (pecv1.PecDeliveryServiceClient, error) {
	conn, err := c.dial()
	return pecv1.NewPecDeliveryServiceClient(conn), err
}

// letterFlags describe a message to be sent.
type letterFlags struct {
	changes
	to, cc, files                                []string
	subject, text, textFile, html, receipt, name string
	reply                                        string
	split                                        bool
}

func (c *cli) pecSend() *cobra.Command {
	var f letterFlags
	cmd := verb("send MAILBOX", "Send a message through a mailbox, by its id or address", args("MAILBOX"), func(ctx context.Context, given []string) error {
		req, err := f.request(c)
		if err != nil {
			return err
		}
		req.Parent, err = c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		req.Attachments, err = c.uploadAttachments(ctx, req.GetParent(), f.files)
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		m, err := api.SendMessage(ctx, req)
		if err != nil {
			return repeatError{err, req.GetRequestId()}
		}
		return c.print(m, func() { c.showPecSent(m) })
	})
	cmd.Long = cmd.Short + ".\n\nIt is written down and handed over as soon as the provider's limits allow; ceralacca pec status shows its way. The same --request-id never sends twice."
	f.composeOn(f.add(cmd, ""))
	f.splitOn(cmd)
	return cmd
}

// showPecSent shows a message that was just written down.
func (c *cli) showPecSent(m *pecv1.Message) {
	c.fields("message", m.GetName(), "message id", m.GetMessageId(), "state", enum("MESSAGE_STATE_", m.GetState()), "bytes", fmt.Sprint(m.GetContent().GetSize()),
		"split into", strings.Join(m.GetSplit(), " "))
}

// composeOn has the flags that say what is in a message on a command.
func (f *letterFlags) composeOn(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.to, "to", nil, "recipients, separated by commas")
	fs.StringSliceVar(&f.cc, "cc", nil, "further recipients, who are named too")
	fs.StringVar(&f.subject, "subject", "", "subject")
	fs.StringVar(&f.text, "text", "", "text of the message")
	fs.StringVar(&f.textFile, "text-file", "", "file with the text; - for standard input")
	fs.StringVar(&f.html, "html-file", "", "file with the same text as HTML")
	fs.StringArrayVar(&f.files, "attach", nil, "file to attach; may be repeated")
	fs.StringVar(&f.receipt, "receipt", "complete", "what delivery receipts repeat: complete, brief or synthetic")
	fs.StringVar(&f.name, "from-name", "", "name to be shown beside the address")
	fs.StringVar(&f.reply, "in-reply-to", "", "Message-ID of the message that is answered")
}

func (f *letterFlags) splitOn(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.split, "allow-split", false, "send several messages when one would pass the provider's limits: each is a legal act of its own")
}

func (f *letterFlags) request(c *cli) (*pecv1.SendMessageRequest, error) {
	err := need("to", strings.Join(f.to, ","), "subject", f.subject)
	if err != nil {
		return nil, err
	}
	return f.letter(c)
}

// letter is what the flags say, complete or not.
func (f *letterFlags) letter(c *cli) (*pecv1.SendMessageRequest, error) {
	id, err := f.id()
	if err != nil {
		return nil, err
	}
	receipt, err := enumOf("receipt", "RECEIPT_TYPE_", f.receipt, pecv1.ReceiptType_value)
	if err != nil {
		return nil, err
	}
	req := &pecv1.SendMessageRequest{
		To: f.to, Cc: f.cc, Subject: f.subject, Text: f.text, ReceiptType: pecv1.ReceiptType(receipt), RequestId: id, AllowSplit: f.split,
		FromName: f.name, InReplyTo: f.reply,
	}
	switch {
	case f.textFile != "" && f.text != "":
		return nil, usage("--text and --text-file are two texts: give one")
	case f.textFile != "":
		raw, err := c.readFlag("--text-file", f.textFile, largestFile)
		if err != nil {
			return nil, err
		}
		req.Text = string(raw)
	}
	if f.html != "" {
		raw, err := c.readFlag("--html-file", f.html, largestFile)
		if err != nil {
			return nil, err
		}
		req.Html = string(raw)
	}
	return req, nil
}

// uploadAttachments sends the files that go with a message of a mailbox.
func (c *cli) uploadAttachments(ctx context.Context, mailbox string, files []string) ([]*pecv1.Attachment, error) {
	var out []*pecv1.Attachment
	for _, file := range files {
		content, err := c.uploadAttachment(ctx, strings.Join(strings.Split(mailbox, "/")[:2], "/"), file)
		if err != nil {
			return nil, err
		}
		out = append(out, &pecv1.Attachment{FileName: filepath.Base(file), Content: content, MediaType: mediaTypeOf(file)})
	}
	return out, nil
}

// mediaTypeOf is what a file is by its name's ending, so that the reader's mail program opens it; empty when the ending says nothing.
// Texts stay without: their charset is not known. The table is ours: that of the machine differs from one to the next. spec: RFC5751 §3.2.1 (.p7m), IANA's registry of media types
func mediaTypeOf(file string) string {
	return map[string]string{
		".pdf": "application/pdf", ".xml": "application/xml", ".p7m": "application/pkcs7-mime", ".p7s": "application/pkcs7-signature",
		".tsr": "application/timestamp-reply", ".zip": "application/zip", ".json": "application/json",
		".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".tif": "image/tiff", ".tiff": "image/tiff",
		".odt": "application/vnd.oasis.opendocument.text", ".ods": "application/vnd.oasis.opendocument.spreadsheet",
		".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	}[strings.ToLower(filepath.Ext(file))]
}

// uploadAttachment sends a file in pieces.
func (c *cli) uploadAttachment(ctx context.Context, tenant, file string) (*eventv1.Blob, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, usage("--attach: %v", err)
	}
	defer func() { _ = in.Close() }() // only read
	api, err := c.pecDelivery()
	if err != nil {
		return nil, err
	}
	up, err := api.UploadAttachment(ctx)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, uploadChunk)
	for parent := tenant; ; parent = "" {
		n, err := io.ReadFull(in, buf)
		if n > 0 || parent != "" {
			if sendErr := up.Send(&pecv1.UploadAttachmentRequest{Parent: parent, Data: buf[:n]}); sendErr != nil {
				break // the answer says why
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, usage("--attach: %v", err)
		}
	}
	kept, err := up.CloseAndRecv()
	return kept.GetContent(), err
}

// pecDeliveryVerb is a command about one sent message.
func (c *cli) pecDeliveryVerb(use, short string, call func(ctx context.Context, api pecv1.PecDeliveryServiceClient, name string) (*pecv1.Delivery, error)) *cobra.Command {
	return verb(use, short, args("MAILBOX/MESSAGE"), func(ctx context.Context, given []string) error {
		name, err := c.pecMessageName(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pecDelivery()
		if err != nil {
			return err
		}
		d, err := call(ctx, api, name)
		if err != nil {
			return err
		}
		return c.print(d, func() { c.showPecDelivery(d) })
	})
}

func (c *cli) showPecDelivery(d *pecv1.Delivery) {
	c.fields("message", d.GetMessage(), "subject", d.GetSubject(), "message id", d.GetMessageId(), "step", enum("DELIVERY_STEP_", d.GetStep()),
		"state", enum("MESSAGE_STATE_", d.GetState()), "created", when(d.GetCreateTime()), "next attempt", when(d.GetNextAttemptTime()),
		"refused", d.GetRefusal(), "held", d.GetHeld(), "somebody is asked", when(d.GetDecisionTime()), "overdue", strings.TrimSpace(d.GetStallCode()+" "+when(d.GetStallTime())),
		"advice", d.GetAdvice())
	var rows [][]string
	for _, a := range d.GetAttempts() {
		rows = append(rows, []string{fmt.Sprint(a.GetNumber()), when(a.GetStartTime()), a.GetOutcome(), a.GetPhase(), a.GetCause(), strings.Join(append([]string{a.GetText()}, a.GetRefusedRecipients()...), "; ")})
	}
	if len(rows) > 0 {
		c.table([]string{"ATTEMPT", "BEGAN", "OUTCOME", "PHASE", "CAUSE", "ANSWER"}, rows)
	}
	rows = nil
	for _, r := range d.GetRecipients() {
		rows = append(rows, []string{r.GetAddress(), r.GetState(), when(r.GetTime()), strings.TrimSpace(r.GetCause() + " " + r.GetDetail())})
	}
	c.table([]string{"RECIPIENT", "STATE", "AT", "CAUSE"}, rows)
}

func (c *cli) pecStatus() *cobra.Command {
	return c.pecDeliveryVerb("status MAILBOX/MESSAGE", "The way of a sent message: attempts, what is awaited, recipients", func(ctx context.Context, api pecv1.PecDeliveryServiceClient, name string) (*pecv1.Delivery, error) {
		return api.GetDelivery(ctx, &pecv1.GetDeliveryRequest{Name: name})
	})
}

func (c *cli) pecCancel() *cobra.Command {
	var reason string
	cmd := c.pecDeliveryVerb("cancel MAILBOX/MESSAGE", "Take back a message that still waits", func(ctx context.Context, api pecv1.PecDeliveryServiceClient, name string) (*pecv1.Delivery, error) {
		return api.CancelMessage(ctx, &pecv1.CancelMessageRequest{Name: name, Reason: reason})
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

func (c *cli) pecResolve() *cobra.Command {
	var decision, reason string
	var twice bool
	cmd := c.pecDeliveryVerb("resolve MAILBOX/MESSAGE", "Decide about a message whose outcome is unknown", func(ctx context.Context, api pecv1.PecDeliveryServiceClient, name string) (*pecv1.Delivery, error) {
		err := need("decision", decision, "reason", reason)
		if err != nil {
			return nil, err
		}
		d, err := enumOf("decision", "DELIVERY_DECISION_", decision, pecv1.DeliveryDecision_value)
		if err != nil {
			return nil, err
		}
		return api.ResolveMessage(ctx, &pecv1.ResolveMessageRequest{Name: name, Decision: pecv1.DeliveryDecision(d), Reason: reason, AcceptSecondSending: twice})
	})
	cmd.Long = cmd.Short + ".\n\nwait is safe: receipts are awaited once more. resend sends the same bytes again; when the provider had them already, the addressee gets the message\n" +
		"twice, each with full legal effect: say --accept-second-sending. abandon sends nothing; receipts that come all the same still count."
	cmd.Flags().StringVar(&decision, "decision", "", "wait, resend or abandon")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.Flags().BoolVar(&twice, "accept-second-sending", false, "with resend: that the message may be sent twice is accepted")
	return cmd
}

func (c *cli) pecQueue() *cobra.Command {
	var resume bool
	cmd := c.lister(verb("queue MAILBOX", "What waits to leave a mailbox, what waits for a decision and what is overdue", args("MAILBOX"), func(ctx context.Context, given []string) error {
		mailbox, err := c.pecMailbox(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pecDelivery()
		if err != nil {
			return err
		}
		if resume {
			_, err = api.ResumeSending(ctx, &pecv1.ResumeSendingRequest{Name: mailbox})
			if err != nil {
				return err
			}
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListDeliveriesResponse, error) {
			return api.ListDeliveries(ctx, &pecv1.ListDeliveriesRequest{Parent: mailbox, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, d := range page.GetDeliveries() {
				rows = append(rows, []string{d.GetMessage(), enum("DELIVERY_STEP_", d.GetStep()), d.GetSubject(), when(d.GetNextAttemptTime()), d.GetHeld(), d.GetStallCode()})
			}
			c.table([]string{"MESSAGE", "STEP", "SUBJECT", "NEXT ATTEMPT", "HELD", "OVERDUE"}, rows)
		})
	}))
	cmd.Flags().BoolVar(&resume, "resume", false, "let everything that waits try at once: the login or the provider was mended")
	return cmd
}
