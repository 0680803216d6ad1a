package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

func (c *cli) pecMessageCommand() *cobra.Command {
	return group("message", "Messages received and sent", c.pecMessages(), c.pecGet(), c.pecText(), c.pecDownload(), c.pecEvidence(), c.pecAgain(), c.pecMove(), c.pecHeaders())
}

func (c *cli) pecMessages() *cobra.Command {
	req := &pecv1.ListMessagesRequest{}
	var kind, state, direction, since, until string
	var files, noFiles, unproven bool
	cmd := c.lister(verb("ls MAILBOX", "List messages, newest first; - for all mailboxes", args("MAILBOX"), func(ctx context.Context, given []string) error {
		parent, err := c.pecParent(ctx, given[0])
		if err != nil {
			return err
		}
		req.Parent = parent
		k, err := enumOf("kind", "MESSAGE_KIND_", kind, pecv1.MessageKind_value)
		if err != nil {
			return err
		}
		s, err := enumOf("state", "MESSAGE_STATE_", state, pecv1.MessageState_value)
		if err != nil {
			return err
		}
		d, err := enumOf("direction", "MESSAGE_DIRECTION_", direction, pecv1.MessageDirection_value)
		if err != nil {
			return err
		}
		req.Kind, req.State, req.Direction = pecv1.MessageKind(k), pecv1.MessageState(s), pecv1.MessageDirection(d)
		if req.StartTime, err = parseTime("since", since); err != nil {
			return err
		}
		if req.EndTime, err = parseTime("until", until); err != nil {
			return err
		}
		if files || noFiles {
			req.HasAttachment = &files
		}
		if unproven {
			req.Proven = new(bool)
			if req.Direction == pecv1.MessageDirection_MESSAGE_DIRECTION_UNSPECIFIED { // what we sent is no claim of anybody
				req.Direction = pecv1.MessageDirection_MESSAGE_DIRECTION_RECEIVED
			}
		}
		if req.About != "" {
			if req.About, err = c.pecMessageName(ctx, req.About); err != nil {
				return err
			}
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*pecv1.ListMessagesResponse, error) {
			req.PageToken, req.PageSize = token, size
			return api.ListMessages(ctx, req)
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.messageTable(page.GetMessages()) })
	}))
	fs := cmd.Flags()
	fs.StringVar(&req.Folder, "folder", "", "only in this folder")
	fs.StringVar(&req.From, "from", "", "part of the sender")
	fs.StringVar(&req.To, "to", "", "part of a recipient")
	fs.StringVar(&req.Subject, "subject", "", "part of the subject")
	fs.StringVar(&req.Text, "text", "", "words that are all in it: sender, recipients, subject, names of files, text; the beginning of a word will do")
	fs.StringVar(&req.Attachment, "attachment", "", "part of the name of a file in it")
	fs.BoolVar(&files, "with-files", false, "only with files")
	fs.BoolVar(&noFiles, "without-files", false, "only without files")
	fs.StringVar(&req.Type, "type", "", "posta-certificata, accettazione, avvenuta-consegna, ...")
	fs.StringVar(&req.MessageId, "message-id", "", "Message-ID, or the provider's identifier")
	fs.StringVar(&req.About, "about", "", "receipts of this sent message, as MAILBOX/MESSAGE or by its full name")
	fs.StringVar(&kind, "kind", "", "envelope, acceptance, delivery, delivery-failure, anomaly, ordinary, ...")
	fs.StringVar(&state, "state", "", "received, pending, accepted, delivered, ...")
	fs.StringVar(&direction, "direction", "", "received or sent")
	fs.StringVar(&since, "since", "", "received from then on, as 2026-01-31 or 2026-01-31T10:00:00Z")
	fs.StringVar(&until, "until", "", "received before")
	fs.BoolVar(&unproven, "unproven", false, "only what is not proven: ordinary mail, forgeries, signers that nobody approved")
	return cmd
}

func (c *cli) messageTable(list []*pecv1.Message) {
	var rows [][]string
	for _, m := range list {
		proof := "proven"
		switch {
		case m.GetDirection() == pecv1.MessageDirection_MESSAGE_DIRECTION_SENT:
			proof = "ours"
		case m.GetKind() == pecv1.MessageKind_MESSAGE_KIND_REGISTERED: // proof of another kind, and none of certified mail
			proof = map[bool]string{true: "REM verified", false: "REM NOT VERIFIED"}[m.GetRegisteredMail().GetVerified()]
		case m.GetKind() == pecv1.MessageKind_MESSAGE_KIND_ORDINARY && len(m.GetDoubts()) == 0:
			proof = "-"
		case !m.GetProven():
			proof = "NOT PROVEN"
		case m.GetVerification().GetVouched() != nil:
			proof = "VOUCHED FOR"
		}
		from := m.GetCertifiedSender()
		if from == "" {
			from = m.GetFrom()
		}
		rows = append(rows, []string{last(m.GetName()), when(m.GetReceiveTime()), kindOf(m), enum("MESSAGE_STATE_", m.GetState()), proof, from, m.GetSubject()})
	}
	c.table([]string{"MESSAGE", "RECEIVED", "KIND", "STATE", "PROOF", "FROM", "SUBJECT"}, rows)
}

// kindOf is what a received message is; one that was sent has no kind of its own.
func kindOf(m *pecv1.Message) string {
	if m.GetDirection() == pecv1.MessageDirection_MESSAGE_DIRECTION_SENT {
		return "SENT"
	}
	return enum("MESSAGE_KIND_", m.GetKind())
}

// pecMessageName completes MAILBOX/MESSAGE; a full name stands as it is.
func (c *cli) pecMessageName(ctx context.Context, given string) (string, error) {
	if strings.HasPrefix(given, "tenants/") {
		return given, nil
	}
	box, message, ok := strings.Cut(given, "/")
	if !ok {
		return "", usage("%q is no message: give MAILBOX/MESSAGE, for example ufficio@pec.example/%s, or a full name", given, given)
	}
	name, err := c.pecMailbox(ctx, box)
	return name + "/messages/" + message, err
}

func (c *cli) pecGet() *cobra.Command {
	return verb("get MAILBOX/MESSAGE", "Show a message: who sent it, what is proven, what is in it", args("MAILBOX/MESSAGE"), func(ctx context.Context, given []string) error {
		name, err := c.pecMessageName(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		m, err := api.GetMessage(ctx, &pecv1.GetMessageRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(m, func() { c.showPecMessage(m) })
	})
}

func (c *cli) showPecMessage(m *pecv1.Message) {
	v, from, came := m.GetVerification(), "from (claimed)", "received"
	if m.GetDirection() == pecv1.MessageDirection_MESSAGE_DIRECTION_SENT {
		from, came = "from", "written"
	}
	c.fields("name", m.GetName(), "kind", strings.TrimSpace(kindOf(m)+" "+m.GetType()), "state", enum("MESSAGE_STATE_", m.GetState()),
		"proven", m.GetProven(), "certified sender", m.GetCertifiedSender(), "certified time", when(m.GetCertifiedTime()), from, m.GetFrom(),
		"to", strings.Join(m.GetTo(), ", "), "subject", m.GetSubject(), came, when(m.GetReceiveTime()), "folder", m.GetFolder(), "message id", m.GetMessageId(),
		"provider's id", m.GetProviderId(), "about", m.GetAbout(), "signature", strings.TrimSpace(v.GetStatus()+" "+v.GetReason()), "signed by", v.GetProvider(),
		"certificate", v.GetCertificateSha256(), "revocation", v.GetRevocation(), "judged for", when(v.GetJudgeTime()), "trust list", v.GetTrustList())
	if w := v.GetVouched(); w != nil {
		fmt.Fprintf(c.out, "counts by the word of %s, given on %s: %s\nnot shown: %s\n", w.GetBy(), when(w.GetTime()), w.GetReason(), w.GetNotShown())
	}
	if m.GetRefusal() != "" {
		fmt.Fprintln(c.out, "refused:", m.GetRefusal())
	}
	if p := m.GetPreservation(); p != nil {
		fmt.Fprintln(c.out, "preservation:", preservationText(p))
	}
	if at := m.GetProviderRemoveTime(); at != nil {
		fmt.Fprintln(c.out, "removed at the provider:", when(at))
	}
	if d := m.GetDestruction(); d != nil {
		fmt.Fprintln(c.out, "destroyed:", destroyed(d))
	}
	for _, d := range m.GetDoubts() {
		fmt.Fprintln(c.out, "doubt:", d)
	}
	for _, d := range m.GetContradictions() {
		fmt.Fprintln(c.out, "contradiction:", d)
	}
	c.showContentCheck(m.GetContentCheck())
	c.showRegisteredMail(m.GetRegisteredMail())
	var rows [][]string
	for _, r := range m.GetRecipients() {
		rows = append(rows, []string{r.GetAddress(), r.GetState(), when(r.GetTime()), strings.TrimSpace(r.GetCause() + " " + r.GetDetail())})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table([]string{"RECIPIENT", "OUTCOME", "TIME", "CAUSE"}, rows)
	}
	rows = nil
	for _, p := range m.GetParts() {
		sent := ""
		if p.GetSentName() != "" && p.GetSentName() != p.GetFileName() {
			sent = strconv.QuoteToASCII(p.GetSentName()) // it may control a terminal
		}
		rows = append(rows, []string{fmt.Sprint(p.GetNumber()), p.GetFileName(), p.GetMediaType(), fmt.Sprint(p.GetSize()), p.GetDanger(), sent})
	}
	if len(rows) > 0 {
		fmt.Fprintln(c.out)
		c.table([]string{"PART", "FILE", "TYPE", "BYTES", "DANGER", "SENT AS"}, rows)
	}
}

// preservationText says how far the archive is with a message.
func preservationText(p *pecv1.MessagePreservation) string {
	text := "handed over " + when(p.GetHandOverTime())
	if p.GetDay() != "" {
		text += " in the set of " + p.GetDay()
	}
	switch {
	case p.GetPackage() != "":
		return text + ", sealed in " + p.GetPackage()
	case p.GetUnit() != "":
		return text + ", in custody as " + p.GetUnit()
	}
	return text + ", not in custody yet"
}

func (c *cli) pecDownload() *cobra.Command {
	var output string
	var original, certification, dangerous bool
	var part int32
	cmd := verb("download MAILBOX/MESSAGE", "The bytes of a message, or of a part of it", args("MAILBOX/MESSAGE"), func(ctx context.Context, given []string) error {
		name, err := c.pecMessageName(ctx, given[0])
		if err != nil {
			return err
		}
		req := &pecv1.GetMessageContentRequest{Name: name}
		switch {
		case original:
			req.What = &pecv1.GetMessageContentRequest_Original{Original: true}
		case certification:
			req.What = &pecv1.GetMessageContentRequest_Certification{Certification: true}
		case part > 0:
			req.What = &pecv1.GetMessageContentRequest_Part{Part: part}
		}
		api, err := c.pec()
		if err == nil {
			err = c.mayFetch(ctx, api, name, part, dangerous)
		}
		if err != nil {
			return err
		}
		stream, err := api.GetMessageContent(ctx, req)
		if err != nil {
			return err
		}
		return c.download(output, func() ([]byte, error) {
			r, err := stream.Recv()
			return r.GetData(), err
		})
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().BoolVar(&original, "original", false, "the message inside the envelope or the receipt (postacert.eml)")
	cmd.Flags().BoolVar(&certification, "certification", false, "the certification data (daticert.xml)")
	cmd.Flags().Int32Var(&part, "part", 0, "a file, by the number that get shows")
	cmd.Flags().BoolVar(&dangerous, "dangerous", false, "with --part: also a file that get warns of")
	return cmd
}

func (c *cli) pecEvidence() *cobra.Command {
	var output string
	cmd := verb("evidence MAILBOX/MESSAGE", "A ZIP that proves a message without the platform: openssl verifies it", args("MAILBOX/MESSAGE"), func(ctx context.Context, given []string) error {
		name, err := c.pecMessageName(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.pec()
		if err != nil {
			return err
		}
		stream, err := api.GetMessageEvidence(ctx, &pecv1.GetMessageEvidenceRequest{Name: name})
		if err != nil {
			return err
		}
		return c.download(output, func() ([]byte, error) {
			r, err := stream.Recv()
			return r.GetData(), err
		})
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	return cmd
}
