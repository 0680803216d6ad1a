package main

import (
	"context"
	"io"
	"os"
	"path"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func (c *cli) invoices() (invoicev1.InvoiceServiceClient, error) {
	conn, err := c.dial()
	return invoicev1.NewInvoiceServiceClient(conn), err
}

func (c *cli) invoiceCommand() *cobra.Command {
	return group("invoice", "Invoices", c.submitCommand(), c.getCommand(), c.listCommand(), c.documentCommand())
}

// read reads a file, or standard input for -.
func (c *cli) read(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(c.in)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, usage("%v", err)
	}
	return raw, nil
}

func (c *cli) submitCommand() *cobra.Command {
	var company, requestID, externalID string
	var validateOnly bool
	cmd := verb("submit FILE", "Submit a FatturaPA file; - reads standard input", args("FILE"), func(ctx context.Context, given []string) error {
		if company == "" {
			return usage("no company: give --company")
		}
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		content, err := c.read(given[0])
		if err != nil {
			return err
		}
		if requestID == "" {
			requestID = uuid.NewString()
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		made, err := api.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{
			Parent: parent, Content: content, ExternalId: externalID, RequestId: requestID, ValidateOnly: validateOnly,
		})
		if err != nil {
			return err
		}
		return c.print(made, func() { c.showInvoice(made) })
	})
	cmd.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company that issues it (CERALACCA_COMPANY)")
	cmd.Flags().StringVar(&requestID, "request-id", "", "UUID of this request; repeat it to repeat the request safely")
	cmd.Flags().StringVar(&externalID, "external-id", "", "your own reference")
	cmd.Flags().BoolVar(&validateOnly, "validate-only", false, "check only, store nothing")
	return cmd
}

func (c *cli) getCommand() *cobra.Command {
	return verb("get INVOICE", "Show an invoice", args("INVOICE"), func(ctx context.Context, given []string) error {
		name, err := c.invoiceName(given[0])
		if err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		found, err := api.GetInvoice(ctx, &invoicev1.GetInvoiceRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(found, func() { c.showInvoice(found) })
	})
}

func (c *cli) showInvoice(i *invoicev1.Invoice) {
	c.fields("name", i.GetName(), "state", enum("INVOICE_STATE_", i.GetState()), "failure", i.GetFailure(), "format", i.GetFormat(),
		"seller", party(i.GetSeller()), "buyer", party(i.GetBuyer()), "recipient code", i.GetRecipientCode(), "external id", i.GetExternalId(),
		"file name", i.GetFileName(), "SdI id", i.GetSdiId(), "preserved", when(i.GetPreserveTime()), "package", i.GetPackage(),
		"created", when(i.GetCreateTime()), "updated", when(i.GetUpdateTime()), "trace", i.GetTraceId())
	var rows [][]string
	for _, b := range i.GetBodies() {
		rows = append(rows, []string{b.GetDocumentType(), b.GetNumber(), b.GetIssueDate(), b.GetTotalAmount() + " " + b.GetCurrency()})
	}
	if len(rows) > 0 {
		c.table([]string{"TYPE", "NUMBER", "DATE", "TOTAL"}, rows)
	}
	rows = nil
	for _, d := range i.GetDocuments() {
		rows = append(rows, []string{path.Base(d.GetName()), enum("DOCUMENT_KIND_", d.GetKind()), d.GetReceiptType(), d.GetFileName(), when(d.GetCreateTime())})
	}
	if len(rows) > 0 {
		c.table([]string{"DOCUMENT", "KIND", "RECEIPT", "FILE", "CREATED"}, rows)
	}
	rows = nil
	for _, v := range i.GetViolations() {
		rows = append(rows, []string{v.GetCode(), v.GetSeverity(), v.GetXpath(), v.GetMessage()})
	}
	if len(rows) > 0 {
		c.table([]string{"CODE", "SEVERITY", "WHERE", "MESSAGE"}, rows)
	}
}

func party(p *invoicev1.Party) string {
	return strings.TrimSpace(strings.Join([]string{p.GetDisplayName(), p.GetVatNumber(), p.GetTaxCode()}, " "))
}

func (c *cli) listCommand() *cobra.Command {
	var company, filter string
	var limit int
	cmd := verb("ls", "List invoices, newest first", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		all := &invoicev1.ListInvoicesResponse{}
		for len(all.Invoices) < limit {
			page, err := api.ListInvoices(ctx, &invoicev1.ListInvoicesRequest{
				Parent: parent, Filter: filter, PageToken: all.NextPageToken, PageSize: int32(min(limit-len(all.Invoices), 1000)),
			})
			if err != nil {
				return err
			}
			all.Invoices = append(all.Invoices, page.GetInvoices()...)
			all.NextPageToken = page.GetNextPageToken()
			if all.NextPageToken == "" {
				break
			}
		}
		return c.print(all, func() {
			var rows [][]string
			for _, i := range all.GetInvoices() {
				number, date := "", ""
				if len(i.GetBodies()) > 0 {
					number, date = i.GetBodies()[0].GetNumber(), i.GetBodies()[0].GetIssueDate()
				}
				rows = append(rows, []string{path.Base(i.GetName()), enum("INVOICE_STATE_", i.GetState()), number, date, i.GetBuyer().GetDisplayName(), i.GetFileName(), i.GetSdiId()})
			}
			c.table([]string{"INVOICE", "STATE", "NUMBER", "DATE", "BUYER", "FILE", "SDI ID"}, rows)
		})
	})
	cmd.Aliases = []string{"list"}
	cmd.Flags().StringVar(&company, "company", "-", "only of this company")
	cmd.Flags().StringVar(&filter, "filter", "", `for example: state = REJECTED AND issue_date >= "2026-01-01"`)
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	return cmd
}

func (c *cli) documentCommand() *cobra.Command {
	var output string
	cmd := verb("document INVOICE DOCUMENT", "Write the bytes of a document of an invoice", args("INVOICE", "DOCUMENT"), func(ctx context.Context, given []string) error {
		name, err := c.invoiceName(given[0])
		if err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		answer, err := api.GetDocument(ctx, &invoicev1.GetDocumentRequest{Name: name + "/documents/" + path.Base(given[1])})
		if err != nil {
			return err
		}
		if output == "" {
			_, err = c.out.Write(answer.GetContent())
			return err
		}
		return os.WriteFile(output, answer.GetContent(), 0o644)
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	return cmd
}
