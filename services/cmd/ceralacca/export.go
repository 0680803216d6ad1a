package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func (c *cli) exportCommand() *cobra.Command {
	var company, filter, kind, output string
	cmd := verb("export", "Write invoices as one file: a ZIP of documents, or tables for accounting", args(), func(ctx context.Context, _ []string) error {
		if err := need("kind", kind); err != nil {
			return err
		}
		wanted, err := enumOf("kind", "EXPORT_KIND_", kind, invoicev1.ExportKind_value)
		if err != nil {
			return err
		}
		parent, err := c.within("companies", company)
		if err != nil {
			return err
		}
		api, err := c.batches()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := api.ExportInvoices(ctx, &invoicev1.ExportInvoicesRequest{Parent: parent, Filter: filter, Kind: invoicev1.ExportKind(wanted)})
		if err != nil {
			return err
		}
		return c.writeExport(stream, output)
	})
	cmd.Long = cmd.Short + `.

documents is a ZIP with what was sent (or the original) and the receipts of each invoice, and an index.csv;
headers-csv has one row for each document, lines-csv for each line, vat-csv for each VAT summary; json has one object
for each document on a line of its own. CSV is UTF-8 with a byte order mark, commas and decimal points; a text that a
spreadsheet would take for a formula has an apostrophe before it. The newest invoices come first.`
	cmd.Flags().StringVar(&kind, "kind", "", "documents, headers-csv, lines-csv, vat-csv or json")
	cmd.Flags().StringVar(&company, "company", "-", "only of this company")
	cmd.Flags().StringVar(&filter, "filter", "", `as in ceralacca invoice ls, for example: issue_date >= "2026-01-01"`)
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	return cmd
}

// writeExport writes the chunks and says how much it was.
func (c *cli) writeExport(stream invoicev1.BatchService_ExportInvoicesClient, output string) error {
	written := 0
	err := c.download(output, func() ([]byte, error) {
		part, err := stream.Recv()
		written += len(part.GetContent())
		return part.GetContent(), err
	})
	if err != nil || output == "" {
		return err
	}
	if c.format == formatJSON {
		printJSON(c.out, map[string]any{"file": output, "size": written})
		return nil
	}
	fmt.Fprintf(c.out, "%s: %d bytes\n", output, written)
	return nil
}

func (c *cli) importCommand() *cobra.Command {
	var company, externalID, requestID, metadata string
	cmd := verb("import FILE", "Import an invoice issued elsewhere, for preservation only", args("FILE"), func(ctx context.Context, given []string) error {
		if company == "" {
			return usage("no company: give --company or set CERALACCA_COMPANY")
		}
		if requestID == "" {
			requestID = uuid.NewString()
		}
		req := &invoicev1.ImportInvoiceRequest{FileName: filepath.Base(given[0]), ExternalId: externalID, RequestId: requestID}
		var err error
		if req.Metadata, err = c.metadata(metadata); err != nil {
			return err
		}
		if req.Parent, err = c.within("companies", company); err != nil {
			return err
		}
		if req.Content, err = c.readInvoice(given[0]); err != nil {
			return err
		}
		api, err := c.batches()
		if err != nil {
			return err
		}
		made, err := api.ImportInvoice(ctx, req)
		if err != nil {
			return repeatError{err, requestID}
		}
		return c.print(made, func() { c.showInvoice(made) })
	})
	cmd.Long = cmd.Short + `.

An XML or .p7m invoice says itself what it is. A PDF needs --metadata: JSON, or @FILE that holds it, for example
{"document_type": "TD01", "number": "7/2019", "issue_date": "2019-05-04", "total_amount": "122.00",
 "seller": {"vat_number": "IT01234567897", "display_name": "Rossi S.r.l."}, "buyer": {"tax_code": "RSSMRA80A01H501U"}}`
	cmd.Flags().StringVar(&company, "company", os.Getenv("CERALACCA_COMPANY"), "company that is its seller or buyer (CERALACCA_COMPANY)")
	cmd.Flags().StringVar(&metadata, "metadata", "", "what a PDF does not say by itself: JSON, or @FILE")
	cmd.Flags().StringVar(&externalID, "external-id", "", "your own reference")
	cmd.Flags().StringVar(&requestID, "request-id", "", "UUID of this request; repeat it to repeat the request safely")
	return cmd
}

func (c *cli) metadata(text string) (*invoicev1.ImportMetadata, error) {
	if text == "" {
		return nil, nil
	}
	raw := []byte(text)
	if file, ok := strings.CutPrefix(text, "@"); ok {
		var err error
		raw, err = c.read(file)
		if err != nil {
			return nil, err
		}
	}
	m := &invoicev1.ImportMetadata{}
	if err := protojson.Unmarshal(raw, m); err != nil {
		return nil, usage("--metadata: %s", notThisJSON(raw, err))
	}
	return m, nil
}
