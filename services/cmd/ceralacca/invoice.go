package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
)

func (c *cli) invoices() (invoicev1.InvoiceServiceClient, error) {
	conn, err := c.dial()
	return invoicev1.NewInvoiceServiceClient(conn), err
}

func (c *cli) invoiceCommand() *cobra.Command {
	return group("invoice", "Submit, correct, compare, list, show, compose, check, convert and render invoices", c.submitCommand(), c.correctCommand(), c.compareCommand(), c.getCommand(), c.listCommand(), c.documentCommand(),
		c.newCommand(), c.checkCommand(), c.convertCommand(), c.renderCommand())
}

// read reads a file, or standard input for -.
func (c *cli) read(name string) ([]byte, error) { return c.readUpTo(name, largestFile) }

func (c *cli) readUpTo(name string, largest int64) ([]byte, error) {
	if name == "-" {
		return readAll("standard input", c.in, largest)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usage("%v", err)
	}
	defer f.Close()
	return readAll(name, f, largest)
}

// largestFile is beyond every invoice, message and certificate; packages are larger.
const (
	largestFile    = 15 << 20
	largestText    = 64 << 10 // keys, tokens and phrases
	largestPackage = 2 << 30
)

func readAll(name string, r io.Reader, largest int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, largest+1))
	if err != nil {
		return nil, usage("%v", err)
	}
	if int64(len(raw)) > largest {
		return nil, usage("%s is larger than %s: that is no file for this command", name, bytesInWords(largest))
	}
	return raw, nil
}

func bytesInWords(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// readFlag reads the file that a flag names.
func (c *cli) readFlag(flag, name string, largest int64) ([]byte, error) {
	if name == "" {
		return nil, usage("%s is missing: name a file", flag)
	}
	raw, err := c.readUpTo(name, largest)
	if err != nil {
		return nil, usage("%s: %v", flag, err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, usage("%s: %s is empty", flag, name)
	}
	return raw, nil
}

// save writes content to a file, or to standard output when there is none: as JSON the whole answer then.
func (c *cli) save(file string, content []byte, answer proto.Message) error {
	if file == "" {
		return c.print(answer, func() { _, _ = c.out.Write(content) })
	}
	return put(file, shared, content)
}

// wantsNumber says of a draft that was refused for its number where this tool has one from.
func wantsNumber(err error, without bool) error {
	var f *fault.Fault
	if without && errors.As(err, &f) && slices.ContainsFunc(f.Fields, func(v fault.Field) bool { return v.Path == "draft.document.number" }) {
		return hintedError{err, "--series SERIES gives the next number of a series (ceralacca series ls; ceralacca series create makes one)"}
	}
	return err
}

func (c *cli) submitCommand() *cobra.Command {
	var company, requestID, externalID, series string
	var validateOnly, draft bool
	cmd := verb("submit FILE", "Submit a FatturaPA file, signed or not, or the data of an invoice; - reads standard input", args("FILE"), func(ctx context.Context, given []string) error {
		if company == "" {
			return usage("no company: give --company or set CERALACCA_COMPANY")
		}
		if requestID == "" {
			requestID = uuid.NewString()
		} else if _, err := uuid.Parse(requestID); err != nil {
			return usage("--request-id: %q is no UUID", requestID)
		}
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		if series != "" && !draft {
			return usage("--series numbers a draft: give --draft too")
		}
		in, err := c.source(given[0], draft)
		if err != nil {
			return err
		}
		if series, err = c.seriesName(parent, series); err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		made, err := api.CreateInvoice(ctx, &invoicev1.CreateInvoiceRequest{
			Parent: parent, Content: in.content, Draft: in.draft, Series: series, ExternalId: externalID, RequestId: requestID, ValidateOnly: validateOnly,
		})
		if err != nil {
			return wantsNumber(repeatError{err, requestID}, draft && series == "")
		}
		if validateOnly && c.format == formatText {
			fmt.Fprintln(c.out, "valid; nothing was stored")
		}
		return c.print(made, func() { c.showInvoice(made) })
	})
	cmd.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company that issues it (CERALACCA_COMPANY)")
	cmd.Flags().StringVar(&requestID, "request-id", "", "UUID of this request; repeat it to repeat the request safely")
	cmd.Flags().StringVar(&externalID, "external-id", "", "your own reference")
	cmd.Flags().BoolVar(&draft, "draft", false, "FILE is data in JSON, as for ceralacca invoice new; the company fills in who sells")
	cmd.Flags().StringVar(&series, "series", "", "with --draft: the series that gives the number")
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
		"corrects", i.GetCorrects(), "corrected by", i.GetCorrectedBy(), "file name", i.GetFileName(), "SdI id", i.GetSdiId(), "preserved", when(i.GetPreserveTime()), "package", i.GetPackage(), "destroyed", destroyed(i.GetDestruction()),
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
		rows = append(rows, []string{last(d.GetName()), enum("DOCUMENT_KIND_", d.GetKind()), d.GetReceiptType(), d.GetFileName(), when(d.GetCreateTime())})
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
	cmd := c.lister(verb("ls", "List invoices, newest first", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*invoicev1.ListInvoicesResponse, error) {
			return api.ListInvoices(ctx, &invoicev1.ListInvoicesRequest{Parent: parent, Filter: filter, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			var rows [][]string
			for _, i := range all.GetInvoices() {
				number, date := "", ""
				if len(i.GetBodies()) > 0 {
					number, date = i.GetBodies()[0].GetNumber(), i.GetBodies()[0].GetIssueDate()
				}
				rows = append(rows, []string{last(i.GetName()), enum("INVOICE_STATE_", i.GetState()), number, date, i.GetBuyer().GetDisplayName(), i.GetFileName(), i.GetSdiId()})
			}
			c.table([]string{"INVOICE", "STATE", "NUMBER", "DATE", "BUYER", "FILE", "SDI ID"}, rows)
		})
	}))
	cmd.Flags().StringVar(&company, "company", "-", "only of this company")
	cmd.Flags().StringVar(&filter, "filter", "", `for example: state = REJECTED AND issue_date >= "2026-01-01"`)
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
		found, err := api.GetInvoice(ctx, &invoicev1.GetInvoiceRequest{Name: name})
		if err != nil {
			return err
		}
		document, err := pickDocument(found, given[1])
		if err != nil {
			return err
		}
		answer, err := api.GetDocument(ctx, &invoicev1.GetDocumentRequest{Name: document})
		if err != nil {
			return err
		}
		return c.save(output, answer.GetContent(), answer)
	})
	cmd.Long = cmd.Short + `.

DOCUMENT is original, signed, the type of a receipt such as RC, or the id of a document as ceralacca invoice get
lists it. An operator's key may not read documents.`
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	return cmd
}

// pickDocument finds the one document that a word means: its id, its kind, or the type of a receipt.
func pickDocument(i *invoicev1.Invoice, word string) (string, error) {
	var ids, byType []string
	for _, d := range i.GetDocuments() {
		if last(d.GetName()) == last(word) {
			return d.GetName(), nil
		}
		if d.GetReceiptType() != "" && strings.EqualFold(d.GetReceiptType(), word) {
			byType = append(byType, d.GetName())
		}
		ids = append(ids, last(d.GetName()))
	}
	switch len(byType) {
	case 1:
		return byType[0], nil
	case 0:
		return "", fault.NotFound("DOCUMENT_NOT_FOUND", "the invoice has no document %q: it has %s", word, strings.Join(ids, ", "))
	}
	return "", usage("the invoice has %d receipts %s: name one by its id: %s", len(byType), word, strings.Join(ids, ", "))
}

// fullInvoiceName is the name of an invoice with its company, which the server is asked for when it was left out.
func (c *cli) fullInvoiceName(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	name, err := c.invoiceName(name)
	if err != nil || !strings.Contains(name, "/companies/-/") {
		return name, err
	}
	api, err := c.invoices()
	if err != nil {
		return "", err
	}
	found, err := api.GetInvoice(ctx, &invoicev1.GetInvoiceRequest{Name: name})
	return found.GetName(), err
}
