package invoice

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

const (
	exportPage  = 100
	exportChunk = 128 << 10 // of one message
	exportBytes = 16 << 20  // of documents in memory at a time
)

// exported is one invoice of an export. file is nil where there is none to parse: a PDF.
type exported struct {
	row       *db.Invoice
	bodies    []body
	documents []db.ListDocumentsRow
	file      *fatturapa.File
}

// exporter writes one kind of file, an invoice at a time.
type exporter interface {
	add(ctx context.Context, e *exported) error
	close() error
}

// ExportInvoices writes the invoices that a filter selects, newest first, as one file in chunks. It holds
// one page of rows and a few documents in memory, and no transaction while the caller reads; invoices that were destroyed and those that
// come in meanwhile are not in it. Invalid FILTER_INVALID.
func (b *batches) ExportInvoices(req *invoicev1.ExportInvoicesRequest, stream grpc.ServerStreamingServer[invoicev1.ExportInvoicesResponse]) error {
	n, err := parentName(req.GetParent())
	if err != nil {
		return err
	}
	p, err := invoiceFilter(req.GetFilter())
	if err != nil {
		return err
	}
	p.TenantID, p.PageSize, p.Standing = n.tenant, exportPage, true
	if n.company != "-" {
		p.CompanyID = &n.company
	}
	// Data leaves: the record of it does not depend on how far the caller reads.
	err = b.db.Tx(stream.Context(), n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "invoices.export", Resource: req.GetParent(),
			Detail: map[string]string{"kind": req.GetKind().String(), "filter": req.GetFilter()}})
	})
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(chunks{stream}, exportChunk)
	e, parse, err := b.exporter(req.GetKind(), out)
	if err != nil {
		return err
	}
	for {
		page, err := b.exportPage(stream.Context(), p)
		if err != nil {
			return err
		}
		if err := b.exportAll(stream.Context(), e, page, parse); err != nil {
			return err
		}
		if len(page) < exportPage {
			break
		}
		p.BeforeID = &page[len(page)-1].row.ID
	}
	if err := e.close(); err != nil {
		return err
	}
	return out.Flush()
}

// exporter makes the writer of a kind; parse says whether it needs the documents' data.
func (b *batches) exporter(kind invoicev1.ExportKind, out *bufio.Writer) (e exporter, parse bool, err error) {
	switch kind {
	case invoicev1.ExportKind_EXPORT_KIND_DOCUMENTS:
		e, err = newZipExport(b.blobs, out)
		return e, false, err
	case invoicev1.ExportKind_EXPORT_KIND_JSON:
		return newJSONExport(out), true, nil
	default:
		e, err = newCSVExport(kind, out)
		return e, true, err
	}
}

// chunks sends what is written to it.
type chunks struct {
	stream grpc.ServerStreamingServer[invoicev1.ExportInvoicesResponse]
}

// Write implements io.Writer.
func (c chunks) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, exportChunk)
		if err := c.stream.Send(&invoicev1.ExportInvoicesResponse{Content: p[sent : sent+n]}); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

func (b *batches) exportPage(ctx context.Context, p db.ListInvoicesParams) ([]*exported, error) {
	var page []*exported
	err := b.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListInvoices(ctx, p)
		if err != nil {
			return fmt.Errorf("invoice: list for export: %w", err)
		}
		ids, byID := make([]uuid.UUID, len(rows)), make(map[uuid.UUID]*exported, len(rows))
		for i := range rows {
			e := &exported{row: &rows[i]}
			e.bodies, err = bodiesOf(e.row)
			if err != nil {
				return err
			}
			ids[i], byID[rows[i].ID] = rows[i].ID, e
			page = append(page, e)
		}
		documents, err := q(tx).ListDocuments(ctx, db.ListDocumentsParams{TenantID: p.TenantID, InvoiceIds: ids})
		if err != nil {
			return fmt.Errorf("invoice: documents for export: %w", err)
		}
		for _, d := range documents {
			byID[d.InvoiceID].documents = append(byID[d.InvoiceID].documents, d)
		}
		return nil
	})
	return page, err
}

// exportAll writes a page. Documents are read and parsed side by side, as many as fit the memory, and
// written in order.
func (b *batches) exportAll(ctx context.Context, e exporter, page []*exported, parse bool) error {
	for len(page) > 0 {
		n, size := 0, int64(0)
		for n < len(page) && (n == 0 || size < exportBytes) {
			size += originalSize(page[n])
			n++
		}
		if parse {
			g, ctx := errgroup.WithContext(ctx)
			g.SetLimit(2 * runtime.GOMAXPROCS(0))
			for _, x := range page[:n] {
				g.Go(func() error { return b.parseOriginal(ctx, x) })
			}
			if err := g.Wait(); err != nil {
				return err
			}
		}
		for _, x := range page[:n] {
			if err := e.add(ctx, x); err != nil {
				return err
			}
			x.file = nil
		}
		page = page[n:]
	}
	return nil
}

func exportOriginal(e *exported) *db.ListDocumentsRow {
	for i := range e.documents {
		if e.documents[i].Kind == int16(invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL) {
			return &e.documents[i]
		}
	}
	return nil
}

func originalSize(e *exported) int64 {
	d := exportOriginal(e)
	if d == nil {
		return 0
	}
	ref, err := blob.ParseURI(d.Uri)
	if err != nil {
		return 0 // reported where it is read
	}
	return ref.Size
}

// parseOriginal reads the data of an invoice out of its file.
func (b *batches) parseOriginal(ctx context.Context, e *exported) error {
	d := exportOriginal(e)
	if d == nil || d.MediaType == mediaPDF {
		return nil
	}
	content, err := readBlob(ctx, b.blobs, d.Uri)
	if err != nil {
		return err
	}
	if cms.Looks(content) {
		content, _, err = cms.Open(content)
		if err != nil {
			return fmt.Errorf("invoice: envelope of %s: %w", e.row.ID, err)
		}
	}
	e.file, err = fatturapa.Parse(content)
	if err != nil {
		return fmt.Errorf("invoice: parse %s: %w", e.row.ID, err)
	}
	if len(e.file.Bodies) != len(e.bodies) {
		return fmt.Errorf("invoice: parse %s: %w", e.row.ID, errors.New("the file has other documents than its row"))
	}
	return nil
}

func readBlob(ctx context.Context, blobs blob.Store, uri string) ([]byte, error) {
	ref, err := blob.ParseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("invoice: stored reference: %w", err)
	}
	return blobs.Get(ctx, ref)
}
