package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tsp"
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

// verifySubmission verifies a report, which brings its own receipt, by the log, by its signature and by the time stamp beside it.
func (c *cli) verifySubmission(file string, content, p7m []byte, in custody.Input, i *inspection, key string, quorum int) error {
	if key == "" {
		return usage("a report is verified by the log: give --log-key; ceralacca conserve log -o FILE writes one")
	}
	policy, err := c.quorumPolicy(key, quorum)
	if err != nil {
		return err
	}
	name := filepath.Base(file)
	report, err := custody.VerifySubmission(content, policy, in.Stamps)
	if err != nil {
		report = &custody.Report{Problems: []custody.Problem{{Code: custody.SubmissionInvalid, What: name, Message: err.Error()}}}
	}
	if p7m == nil {
		report.Unshown = append(report.Unshown, "the signature: the report was given without it (.p7m)")
		return c.verdict(report, name)
	}
	c.judgeSubmission(report, i, name, file+".tsr", p7m)
	if i.roots == nil {
		report.Holds = append(report.Holds, noRoots)
	}
	return c.verdict(report, name)
}

// judgeSubmission judges who signed a report, and when.
func (c *cli) judgeSubmission(report *custody.Report, i *inspection, name, stamp string, p7m []byte) {
	at := c.submissionStamp(report, i, stamp, p7m)
	sd, verdict, err := cades.Verify(p7m, cades.VerifyOptions{Roots: i.roots, TSARoots: i.roots, At: at})
	if err == nil {
		err = verdict.Err()
	}
	if err == nil && sd.Detached {
		err = errors.New("the signature is of something else")
	}
	if err != nil {
		report.Problems = append(report.Problems, custody.Problem{Code: custody.SubmissionInvalid, What: name, Message: err.Error()})
	} else {
		report.Holds = append(report.Holds, "the signature of the report")
	}
}

// submissionStamp judges the time stamp that conserve rdv writes beside a signed report, and gives the time to judge its signer at: the
// stamp's, since certificates end long before what they signed, and now when there is none that holds.
func (c *cli) submissionStamp(report *custody.Report, i *inspection, file string, p7m []byte) time.Time {
	raw, err := c.readUpTo(file, 1<<20)
	if err != nil {
		report.Unshown = append(report.Unshown, "the time stamp: it is not beside the report ("+filepath.Base(file)+")")
		return i.at
	}
	token, err := tsp.ParseToken(raw)
	if err == nil {
		digest := sha256.Sum256(p7m)
		err = token.Verify(tsp.VerifyOptions{Digest: digest[:], Roots: i.roots})
	}
	if err != nil {
		report.Problems = append(report.Problems, custody.Problem{Code: custody.SubmissionInvalid, What: filepath.Base(file), Message: err.Error()})
		return i.at
	}
	report.Holds = append(report.Holds, "the time stamp of the report, "+token.Info.Time.UTC().Format(time.RFC3339))
	return token.Info.Time
}
