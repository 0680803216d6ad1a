package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// pecText shows what a person reads in a message.
func (c *cli) pecText() *cobra.Command {
	cmd := verb("show MAILBOX/MESSAGE", "The text of a message, safe to read: no HTML, nothing that loads or runs", args("MAILBOX/MESSAGE"), func(ctx context.Context, given []string) error {
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
		stream, err := api.GetMessageContent(ctx, &pecv1.GetMessageContentRequest{Name: name, What: &pecv1.GetMessageContentRequest_Text{Text: true}})
		if err != nil {
			return err
		}
		text := &pecv1.GetMessageContentResponse{}
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if r.GetFileName() != "" {
				text.FileName, text.MediaType = r.GetFileName(), r.GetMediaType()
			}
			text.Data = append(text.Data, r.GetData()...)
		}
		return c.print(text, func() { c.showPecText(m, text.GetData()) })
	})
	cmd.Long = cmd.Short + ".\n\nIt is the text of the original inside the envelope. HTML is reduced to its words; the target of each link stands beside it; images, forms and\n" +
		"scripts are left out. A valid signature is the provider's: it says who sent the message, not that its content is harmless."
	return cmd
}

func (c *cli) showPecText(m *pecv1.Message, text []byte) {
	sender := m.GetCertifiedSender()
	switch {
	case m.GetDirection() == pecv1.MessageDirection_MESSAGE_DIRECTION_SENT:
		sender = m.GetFrom()
	case sender == "":
		sender = m.GetFrom() + " (claimed, not proven)"
	}
	c.fields("from", sender, "to", strings.Join(m.GetTo(), ", "), "subject", m.GetSubject(), "certified time", when(m.GetCertifiedTime()))
	for _, p := range m.GetParts() {
		if p.GetDanger() != "" {
			fmt.Fprintf(c.out, "DANGER: part %d, %s: %s\n", p.GetNumber(), p.GetFileName(), p.GetDanger())
		}
	}
	fmt.Fprintf(c.out, "\n%s", text)
}

// mayFetch refuses a file that should not be opened without thought, unless that was said.
func (c *cli) mayFetch(ctx context.Context, api pecv1.PecServiceClient, name string, part int32, dangerous bool) error {
	if part == 0 || dangerous {
		return nil
	}
	m, err := api.GetMessage(ctx, &pecv1.GetMessageRequest{Name: name})
	if err != nil {
		return err
	}
	for _, p := range m.GetParts() {
		if p.GetNumber() == part && p.GetDanger() != "" {
			return usage("part %d, %s, is dangerous: %s. Say --dangerous to fetch it all the same; do not open it on this machine", part, p.GetFileName(), p.GetDanger())
		}
	}
	return nil
}

// showContentCheck says whether what was delivered is what was sent.
func (c *cli) showContentCheck(k *pecv1.ContentCheck) {
	if k == nil {
		return
	}
	fmt.Fprintln(c.out, "content delivered:", strings.ToLower(strings.ReplaceAll(enum("CONTENT_VERDICT_", k.GetVerdict()), "_", " ")), "("+k.GetReceiptType()+")", k.GetNote())
	for _, d := range k.GetDifferences() {
		fmt.Fprintln(c.out, "differs:", d)
	}
	for _, f := range k.GetFiles() {
		fmt.Fprintf(c.out, "hash of %s: %s %s\n", f.GetFileName(), map[bool]string{true: "the same", false: "ANOTHER"}[f.GetMatch()], f.GetVariant())
	}
}

// showRegisteredMail shows European registered mail for what it is.
func (c *cli) showRegisteredMail(r *pecv1.RegisteredMail) {
	if r == nil {
		return
	}
	verdict := "NOT VERIFIED"
	if r.GetVerified() {
		verdict = "verified"
	}
	fmt.Fprintln(c.out, "\nEuropean registered mail (REM), no PEC:", verdict)
	c.fields("event", strings.TrimSpace(r.GetEvent()+" "+r.GetReason()), "evidence", r.GetEvidenceId(), "original", r.GetOriginalMessageId(),
		"policies", strings.Join(r.GetPolicies(), " "), "digest of the original", r.GetOriginalDigest())
	var rows [][]string
	for _, e := range r.GetEvidence() {
		state := e.GetProblem()
		if e.GetVerified() {
			state = "verified"
		}
		rows = append(rows, []string{e.GetEvidenceId(), e.GetEvent(), strings.Join(e.GetReasons(), " "), when(e.GetTime()), e.GetLevel(), e.GetSigner(), state})
	}
	c.table([]string{"EVIDENCE", "EVENT", "REASONS", "TIME", "LEVEL", "SIGNER", "SIGNATURE"}, rows)
}
