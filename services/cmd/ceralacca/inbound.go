package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// inboundCommand is what SdI delivers to the companies, and what public bodies answer.
func (c *cli) inboundCommand() *cobra.Command {
	return group("inbound", "Invoices that the tenant's companies received, and their outcomes",
		c.inboundList(), c.inboundGet(), c.inboundDownload(), c.inboundOutcome(), c.inboundDeadlines(), c.inboundQuarantine(), c.inboundClaim())
}

func (c *cli) inbound() (sdiv1.InboundServiceClient, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	return sdiv1.NewInboundServiceClient(conn), nil
}

func (c *cli) inboundList() *cobra.Command {
	var company, state, since, sdiID string
	list := c.lister(verb("ls", "Received invoices, newest first", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantName()
		if err != nil {
			return err
		}
		wanted, err := enumOf("state", "INBOUND_STATE_", state, sdiv1.InboundState_value)
		if err != nil {
			return err
		}
		from, err := parseTime("since", since)
		if err != nil {
			return err
		}
		api, err := c.inbound()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListInboundInvoicesResponse, error) {
			return api.ListInboundInvoices(ctx, &sdiv1.ListInboundInvoicesRequest{
				Parent: tenant + "/companies/" + strings.TrimPrefix(company, tenant+"/companies/"), State: sdiv1.InboundState(wanted),
				ReceivedSince: from, SdiId: sdiID, PageToken: token, PageSize: size,
			})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.inboundTable("INVOICE", page.GetInboundInvoices()) })
	}))
	list.Flags().StringVar(&company, "company", "-", "only of this company; - for all of the tenant")
	list.Flags().StringVar(&state, "state", "", "received, awaiting_outcome, answered or term_expired")
	list.Flags().StringVar(&since, "since", "", "only received at or after this time, such as 2026-03-01T00:00:00Z")
	list.Flags().StringVar(&sdiID, "sdi-id", "", "only with this IdentificativoSdI")
	return list
}

func (c *cli) inboundDeadlines() *cobra.Command {
	var overdue bool
	var before string
	list := c.lister(verb("deadlines", "Received invoices that await the answer of a public body, the nearest term first; of all tenants without --tenant (operators)", args(), func(ctx context.Context, _ []string) error {
		tenant, err := c.tenantOrAll()
		if err != nil {
			return err
		}
		until, err := parseTime("before", before)
		if err != nil {
			return err
		}
		api, err := c.inbound()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListInboundDeadlinesResponse, error) {
			return api.ListInboundDeadlines(ctx, &sdiv1.ListInboundDeadlinesRequest{Parent: tenant, Overdue: overdue, DueBefore: until, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.inboundTable("INVOICE", page.GetInboundInvoices()) })
	}))
	list.Flags().BoolVar(&overdue, "overdue", false, "only those whose term is over")
	list.Flags().StringVar(&before, "before", "", "only those whose term ends before this time, such as 2026-03-01T00:00:00Z")
	return list
}

// inboundTable shows one line for each file; a lot shows its first document and how many more there are.
func (c *cli) inboundTable(first string, list []*sdiv1.InboundInvoice) {
	var rows [][]string
	for _, f := range list {
		number, date, total := "", "", ""
		if b := f.GetBodies(); len(b) > 0 {
			number, date, total = b[0].GetNumber(), b[0].GetDate(), b[0].GetTotal()
			if len(b) > 1 {
				number += fmt.Sprintf(" (+%d)", len(b)-1)
			}
		}
		state := enum("INBOUND_STATE_", f.GetState())
		if f.GetState() == sdiv1.InboundState_INBOUND_STATE_QUARANTINED {
			state = f.GetReasonCode()
		}
		rows = append(rows, []string{f.GetName(), state, f.GetSdiId(), f.GetSeller().GetName(), number, date, total, when(f.GetReceiveTime()), when(f.GetAnswerBy())})
	}
	c.table([]string{first, "STATE", "SDI ID", "SELLER", "NUMBER", "DATE", "TOTAL", "RECEIVED", "ANSWER BY"}, rows)
}

func (c *cli) inboundGet() *cobra.Command {
	return verb("get INVOICE", "Show a received invoice with its documents, deliveries and outcomes", args("INVOICE"), func(ctx context.Context, given []string) error {
		api, err := c.inbound()
		if err != nil {
			return err
		}
		f, err := api.GetInboundInvoice(ctx, &sdiv1.GetInboundInvoiceRequest{Name: given[0]})
		if err != nil {
			return err
		}
		return c.print(f, func() { c.showInbound(f) })
	})
}

func (c *cli) showInbound(f *sdiv1.InboundInvoice) {
	c.fields("name", f.GetName(), "state", enum("INBOUND_STATE_", f.GetState()), "reason", strings.TrimSpace(f.GetReasonCode()+" "+f.GetReason()),
		"SdI id", f.GetSdiId(), "file", f.GetFileName(), "format", f.GetFormat(), "recipient code", f.GetRecipientCode(), "found by", f.GetRoutedBy(),
		"seller", partyText(f.GetSeller()), "buyer", partyText(f.GetBuyer()), "received", when(f.GetReceiveTime()),
		"answer by", when(f.GetAnswerBy()), "term over", when(f.GetExpireTime()), "destroyed", destroyed(f.GetDestruction()))
	var rows [][]string
	for _, b := range f.GetBodies() {
		outcome := ""
		if o := b.GetOutcome(); o != nil {
			outcome = enum("INBOUND_OUTCOME_KIND_", o.GetKind()) + " " + enum("INBOUND_OUTCOME_STATE_", o.GetState())
		}
		rows = append(rows, []string{fmt.Sprint(b.GetPosition()), b.GetDocumentType(), b.GetNumber(), b.GetDate(), b.GetTotal(), b.GetCurrency(), outcome})
	}
	c.table([]string{"DOCUMENT", "TYPE", "NUMBER", "DATE", "TOTAL", "CURRENCY", "OUTCOME"}, rows)
	rows = nil
	for _, d := range f.GetDeliveries() {
		rows = append(rows, []string{fmt.Sprint(d.GetAttempt()), when(d.GetReceiveTime()), d.GetMetadataFileName(), d.GetProblem()})
	}
	c.table([]string{"DELIVERY", "RECEIVED", "METADATA", "PROBLEM"}, rows)
	rows = nil
	for _, o := range f.GetOutcomes() {
		rows = append(rows, []string{o.GetFileName(), fmt.Sprint(o.GetPosition()), enum("INBOUND_OUTCOME_KIND_", o.GetKind()),
			enum("INBOUND_OUTCOME_STATE_", o.GetState()), strings.TrimSpace(o.GetCode() + " " + o.GetMessage())})
	}
	if len(rows) > 0 {
		c.table([]string{"OUTCOME", "DOCUMENT", "ANSWER", "STATE", "WHY"}, rows)
	}
}

func partyText(p *sdiv1.InboundParty) string {
	return strings.TrimSpace(strings.Join(strings.Fields(p.GetName()+" "+p.GetVatNumber()+" "+p.GetTaxCode()), " "))
}

func (c *cli) inboundDownload() *cobra.Command {
	var output, kind string
	cmd := verb("download INVOICE", "Write the bytes of a received invoice", args("INVOICE"), func(ctx context.Context, given []string) error {
		wanted, err := enumOf("kind", "INBOUND_DOCUMENT_KIND_", kind, sdiv1.InboundDocumentKind_value)
		if err != nil {
			return err
		}
		api, err := c.inbound()
		if err != nil {
			return err
		}
		doc, err := api.GetInboundDocument(ctx, &sdiv1.GetInboundDocumentRequest{Name: given[0], Kind: sdiv1.InboundDocumentKind(wanted)})
		if err != nil {
			return err
		}
		return c.save(output, doc.GetContent(), doc)
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().StringVar(&kind, "kind", "original", "original (as SdI delivered it), metadata (MT) or content (out of its signature envelope)")
	return cmd
}

func (c *cli) inboundOutcome() *cobra.Command {
	var cause, description string
	var position int32
	cmd := verb("outcome INVOICE accepted|refused", "Answer an invoice for a public body, within fifteen days", args("INVOICE", "accepted|refused"), func(ctx context.Context, given []string) error {
		kind, err := enumOf("the outcome", "INBOUND_OUTCOME_KIND_", given[1], sdiv1.InboundOutcomeKind_value)
		if err != nil {
			return err
		}
		why, err := enumOf("cause", "REFUSAL_CAUSE_", cause, sdiv1.RefusalCause_value)
		if err != nil {
			return err
		}
		api, err := c.inbound()
		if err != nil {
			return err
		}
		f, err := api.SendOutcome(ctx, &sdiv1.SendOutcomeRequest{
			Name: given[0], Kind: sdiv1.InboundOutcomeKind(kind), Cause: sdiv1.RefusalCause(why), Description: description, Position: position,
			RequestId: uuid.NewString(),
		})
		if err != nil {
			return err
		}
		return c.print(f, func() { c.showInbound(f) })
	})
	cmd.Flags().Int32Var(&position, "document", 0, "document of a lot, 1 for the first; 0: the whole file")
	cmd.Flags().StringVar(&cause, "cause", "", "of a refusal: not_our_operation, cig_cup, medical_device, medicine or commitment_act")
	cmd.Flags().StringVar(&description, "description", "", "further words of the outcome")
	return cmd
}

func (c *cli) inboundQuarantine() *cobra.Command {
	return c.lister(verb("quarantine", "Files that found no company, oldest first (operators)", args(), func(ctx context.Context, _ []string) error {
		api, err := c.inbound()
		if err != nil {
			return err
		}
		page, err := collect(c, func(token string, size int32) (*sdiv1.ListQuarantineResponse, error) {
			return api.ListQuarantine(ctx, &sdiv1.ListQuarantineRequest{PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(page, func() { c.inboundTable("FILE", page.GetInboundFiles()) })
	}))
}

func (c *cli) inboundClaim() *cobra.Command {
	var company, reason string
	cmd := verb("claim FILE", "Give a file in quarantine to a company (operators); audited", args("FILE"), func(ctx context.Context, given []string) error {
		err := need("company", company, "reason", reason)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(company, "tenants/") {
			tenant, err := c.tenantName()
			if err != nil {
				return err
			}
			company = tenant + "/companies/" + company
		}
		api, err := c.inbound()
		if err != nil {
			return err
		}
		f, err := api.ClaimInboundDocument(ctx, &sdiv1.ClaimInboundDocumentRequest{Name: prefixed("inboundFiles/", given[0]), Company: company, Reason: reason})
		if err != nil {
			return err
		}
		return c.print(f, func() { c.showInbound(f) })
	})
	cmd.Flags().StringVar(&company, "company", "", "tenants/T/companies/C, or C of --tenant")
	cmd.Flags().StringVar(&reason, "reason", "", "why it is theirs; kept in the audit record")
	return cmd
}
