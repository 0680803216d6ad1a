package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
)

func (c *cli) rdvCommand() *cobra.Command {
	var output string
	cmd := verb("rdv DEPOSIT|SUBMISSION|UNIT", "Write the signed and stamped report of what was taken in charge (rapporto di versamento): OUTPUT, OUTPUT.p7m, OUTPUT.p7m.tsr", args("DEPOSIT, SUBMISSION or UNIT"), func(ctx context.Context, given []string) error {
		api, _, err := c.deposits()
		if err != nil {
			return err
		}
		collection := "deposits"
		for _, other := range []string{"submissions", "units"} {
			if strings.Contains(given[0], other+"/") {
				collection = other
			}
		}
		name, err := c.within(collection, strings.TrimPrefix(given[0], collection+"/"))
		if err != nil {
			return err
		}
		r, err := api.GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: name})
		if err != nil {
			return err
		}
		if output == "" && c.format == formatText {
			_, err = c.out.Write(r.GetContent())
			return err
		}
		for ending, raw := range map[string][]byte{"": r.GetContent(), ".p7m": r.GetSigned(), ".p7m.tsr": r.GetTimeStamp()} {
			if output == "" {
				break
			}
			err = keep(output+ending, raw)
			if err != nil {
				return err
			}
		}
		return c.print(r, func() {
			c.fields("deposit", r.GetDeposit(), "submission", r.GetSubmission(), "stamped", when(r.GetStampTime()), "written", output+" "+output+".p7m "+output+".p7m.tsr")
		})
	})
	cmd.Long = cmd.Short + `.

It says what the archive took in charge and when, with its place in the log of evidence, and nothing of what is in the documents.
A deposit has a report of its own. What comes by event (invoices, certified mail) is gathered into submissions with a report each:
conserve submissions lists them, and units/UNIT names the one that a document is in.
  ceralacca conserve verify rdv.xml.p7m --log-key log.key --roots roots.pem
  openssl cms -verify -binary -inform DER -in rdv.xml.p7m -CAfile roots.pem -purpose any -out rdv.xml
  openssl ts -verify -in rdv.xml.p7m.tsr -data rdv.xml.p7m -CAfile roots.pem`
	cmd.Flags().StringVarP(&output, "output", "o", "", "file for the report; the report alone on standard output when empty")
	return cmd
}

func (c *cli) submissionsCommand() *cobra.Command {
	cmd := c.lister(verb("submissions", "What came by event, in submissions with a report each (conserve rdv submissions/SUBMISSION), newest first", args(), func(ctx context.Context, _ []string) error {
		api, tenant, err := c.deposits()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*conservationv1.ListSubmissionsResponse, error) {
			return api.ListSubmissions(ctx, &conservationv1.ListSubmissionsRequest{Parent: tenant, PageSize: size, PageToken: token})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() {
			var rows [][]string
			for _, s := range page.GetSubmissions() {
				rows = append(rows, []string{last(s.GetName()), fmt.Sprintf("%d-%d", s.GetFirstSequence(), s.GetLastSequence()), fmt.Sprint(s.GetUnitCount()), when(s.GetCreateTime()), when(s.GetReportTime())})
			}
			c.table([]string{"SUBMISSION", "NUMBERS IN THE LOG", "DOCUMENTS", "SINCE", "REPORT"}, rows)
		})
	}))
	return cmd
}

func (c *cli) statementCommand() *cobra.Command {
	var mailbox, address string
	var off bool
	cmd := verb("statement", "Whether the day's checkpoint of the log is sent by certified mail; with --mailbox and --to, send it from now on", args(), func(ctx context.Context, _ []string) error {
		if (mailbox == "") != (address == "") || (off && mailbox != "") {
			return usage("--mailbox and --to go together, or --off alone")
		}
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.evidence()
		if err != nil {
			return err
		}
		var m *conservationv1.StatementMail
		if off || mailbox != "" {
			req := &conservationv1.SetStatementMailRequest{Parent: tenant, Address: address}
			if mailbox != "" {
				req.Mailbox, err = c.within("mailboxes", mailbox)
				if err != nil {
					return err
				}
			}
			m, err = api.SetStatementMail(ctx, req)
		} else {
			m, err = api.GetStatementMail(ctx, &conservationv1.GetStatementMailRequest{Parent: tenant})
		}
		if err != nil {
			return err
		}
		return c.print(m, func() {
			if m.GetMailbox() == "" {
				fmt.Fprintln(c.out, "not sent by certified mail: give --mailbox and --to")
				return
			}
			c.fields("mailbox", m.GetMailbox(), "to", m.GetAddress(), "size sent last", m.GetSentSize(), "sent", when(m.GetSendTime()), "trouble", m.GetTrouble())
		})
	})
	cmd.Flags().StringVar(&mailbox, "mailbox", "", "the tenant's mailbox that sends it")
	cmd.Flags().StringVar(&address, "to", "", "address of certified mail; the mailbox's own will do, better one elsewhere")
	cmd.Flags().BoolVar(&off, "off", false, "send none any more")
	return cmd
}

// openSubmission gives the content of a report (RdV), and the signed form when that was given; nil: it is none.
func openSubmission(raw []byte) (content, p7m []byte) {
	if custody.IsSubmission(raw) {
		return raw, nil
	}
	sd, err := cms.Parse(raw)
	if err == nil && custody.IsSubmission(sd.Content()) {
		return sd.Content(), raw
	}
	return nil, nil
}

// verifySubmission verifies a report, which brings its own receipt.
func (c *cli) verifySubmission(name string, content, p7m []byte, in custody.Input, i *inspection, key string, more bool) error {
	if more || in.Complete {
		return usage("a report brings its own receipt: --receipt, --checkpoint and --complete are for preservation packages")
	}
	if key == "" {
		return usage("a report is verified by the log: give --log-key; ceralacca conserve log -o FILE writes one")
	}
	policy, err := c.logPolicy(key)
	if err != nil {
		return err
	}
	report, err := custody.VerifySubmission(content, policy, in.Stamps)
	if err != nil {
		report = &custody.Report{Problems: []custody.Problem{{Code: custody.SubmissionInvalid, What: name, Message: err.Error()}}}
	}
	if p7m == nil {
		report.Unshown = append(report.Unshown, "the signature: the report was given without it (.p7m)")
		return c.verdict(report, name)
	}
	_, verdict, err := cades.Verify(p7m, cades.VerifyOptions{Roots: i.roots, At: i.at})
	if err == nil {
		err = verdict.Err()
	}
	if err != nil {
		report.Problems = append(report.Problems, custody.Problem{Code: custody.SubmissionInvalid, What: name, Message: err.Error()})
	} else {
		report.Holds = append(report.Holds, "the signature of the report")
	}
	return c.verdict(report, name)
}
