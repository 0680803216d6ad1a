package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

// source is the content of an invoice or the data to compose it from.
type source struct {
	content []byte
	draft   *invoicev1.Draft
}

func (c *cli) source(file string, draft bool) (s source, err error) {
	if draft {
		s.draft, err = c.readDraft(file)
		return s, err
	}
	s.content, err = c.readInvoice(file)
	return s, err
}

// readInvoice reads a file that is to be sent: an empty one never leaves this machine.
func (c *cli) readInvoice(file string) ([]byte, error) {
	content, err := c.read(file)
	if err == nil && len(content) == 0 {
		err = usage("%s is empty: give the invoice itself", file)
	}
	return content, err
}

func (c *cli) correctCommand() *cobra.Command {
	var request changes
	var series, externalID string
	var draft bool
	cmd := verb("correct INVOICE FILE", "Send a corrected invoice in place of one that was rejected or refused", args("INVOICE", "FILE"), func(ctx context.Context, given []string) error {
		id, err := request.id()
		if err != nil {
			return err
		}
		if series != "" && !draft {
			return usage("--series numbers a draft: give --draft too")
		}
		in, err := c.source(given[1], draft)
		if err != nil {
			return err
		}
		name, err := c.fullInvoiceName(ctx, given[0])
		if err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		if series, err = c.seriesName(companyOf(name), series); err != nil {
			return err
		}
		made, err := api.CorrectInvoice(ctx, &invoicev1.CorrectInvoiceRequest{Name: name, Content: in.content, Draft: in.draft, Series: series,
			ExternalId: externalID, RequestId: id})
		if err != nil {
			return repeatError{err, id}
		}
		return c.print(made, func() { c.showInvoice(made) })
	})
	cmd.Long = cmd.Short + `.

FILE is the corrected FatturaPA file, or with --draft its data in JSON, where number and date may be left out: they stay
those of the old invoice. The new invoice has a file name of its own; the old one and its documents stay, and each
names the other. ceralacca invoice compare shows what was changed.`
	cmd.Flags().BoolVar(&draft, "draft", false, "FILE is data in JSON, as for ceralacca invoice new")
	cmd.Flags().StringVar(&series, "series", "", "with --draft: take a new number from this series")
	cmd.Flags().StringVar(&externalID, "external-id", "", "your own reference")
	cmd.Flags().StringVar(&request.requestID, "request-id", "", "UUID of this request; repeat it to repeat the request safely")
	return cmd
}

// companyOf is the resource name of the company of a resource within it.
func companyOf(name string) string {
	slashes := 0
	for i := range len(name) {
		if name[i] == '/' {
			if slashes++; slashes == 4 {
				return name[:i]
			}
		}
	}
	return name
}

func (c *cli) compareCommand() *cobra.Command {
	var base string
	cmd := verb("compare INVOICE", "Show where an invoice differs from the one that it corrects, or from another", args("INVOICE"), func(ctx context.Context, given []string) error {
		name, err := c.fullInvoiceName(ctx, given[0])
		if err != nil {
			return err
		}
		if base, err = c.fullInvoiceName(ctx, base); err != nil {
			return err
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		answer, err := api.CompareInvoices(ctx, &invoicev1.CompareInvoicesRequest{Name: name, Base: base})
		if err != nil {
			return err
		}
		return c.print(answer, func() {
			if len(answer.GetDifferences()) == 0 {
				fmt.Fprintln(c.out, "no difference")
			}
			for _, d := range answer.GetDifferences() {
				fmt.Fprintln(c.out, d.GetXpath())
				if d.GetBefore() != "" {
					fmt.Fprintln(c.out, "  - "+d.GetBefore())
				}
				if d.GetAfter() != "" {
					fmt.Fprintln(c.out, "  + "+d.GetAfter())
				}
			}
		})
	})
	cmd.Flags().StringVar(&base, "base", "", "invoice to compare with; the one that it corrects when empty")
	return cmd
}
