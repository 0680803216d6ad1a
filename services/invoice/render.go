package invoice

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/render"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/invoice/internal/db"
)

// largestRendering leaves room for the rest of the message: gRPC here carries at most 16 MiB.
const largestRendering = 16<<20 - 64<<10

// RenderInvoice writes a copy of the original for people, HTML or PDF, in the look of the company: every
// document of a lot, every field, marked as a courtesy copy. NotFound INVOICE_NOT_FOUND; Precondition
// NOT_RENDERABLE for an original that is no FatturaPA file, such as an imported PDF, and
// RENDERING_TOO_LARGE.
func (s *Service) RenderInvoice(ctx context.Context, req *invoicev1.RenderInvoiceRequest) (*invoicev1.RenderInvoiceResponse, error) {
	n, err := parseName(req.GetName())
	if err != nil {
		return nil, invoiceMissing(req.GetName())
	}
	var invoice db.Invoice
	var original db.ListDocumentsRow
	var look db.Look
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		invoice, original, err = originalOf(ctx, tx, n, req.GetName())
		if err != nil {
			return err
		}
		look, err = lookOf(ctx, tx, n.tenant, invoice.CompanyID)
		return err
	})
	if err != nil {
		return nil, err
	}
	file, err := s.readOriginal(ctx, req.GetName(), original)
	if err != nil {
		return nil, err
	}
	o := render.Options{Lang: req.GetLanguageCode(), Logo: look.Logo, Accent: look.AccentColor, Courtesy: true, FileName: invoice.FileName}
	if o.Lang == "" {
		o.Lang = look.LanguageCode
	}
	write, media := render.HTML, "text/html; charset=utf-8"
	if req.GetFormat() == invoicev1.RenderFormat_RENDER_FORMAT_PDF {
		write, media = render.PDF, "application/pdf"
	}
	var page bytes.Buffer
	if err := write(&page, file, o); err != nil {
		return nil, fmt.Errorf("invoice: render %s: %w", invoice.ID, err)
	}
	if page.Len() > largestRendering {
		return nil, fault.Precondition("RENDERING_TOO_LARGE",
			"%s with its attachments is %d bytes as %s, and a message carries at most %d: get the original with GetDocument and render it with the command line tool",
			req.GetName(), page.Len(), media, largestRendering)
	}
	return &invoicev1.RenderInvoiceResponse{MediaType: media, Content: page.Bytes()}, nil
}

// originalOf reads an invoice and where its original is.
func originalOf(ctx context.Context, tx pgx.Tx, n name, asked string) (invoice db.Invoice, original db.ListDocumentsRow, err error) {
	invoice, err = q(tx).GetInvoice(ctx, db.GetInvoiceParams{TenantID: n.tenant, ID: n.id})
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && n.company != "-" && invoice.CompanyID != n.company) {
		return invoice, original, invoiceMissing(asked)
	}
	if err != nil {
		return invoice, original, fmt.Errorf("invoice: read %s: %w", n.id, err)
	}
	err = notDestroyed(&invoice)
	if err != nil {
		return invoice, original, err
	}
	documents, err := q(tx).ListDocuments(ctx, db.ListDocumentsParams{TenantID: n.tenant, InvoiceIds: []uuid.UUID{n.id}})
	if err != nil {
		return invoice, original, fmt.Errorf("invoice: documents of %s: %w", n.id, err)
	}
	for _, d := range documents {
		if d.ID == "original" {
			return invoice, d, nil
		}
	}
	return invoice, original, fmt.Errorf("invoice: %s has no original", n.id)
}

// readOriginal reads the file in the blob store, out of its signature if it is in one.
func (s *Service) readOriginal(ctx context.Context, asked string, original db.ListDocumentsRow) (*fatturapa.File, error) {
	if original.MediaType == "application/pdf" {
		return nil, fault.Precondition("NOT_RENDERABLE", "the original of %s is a PDF and needs no rendering: get it with GetDocument, %s/documents/original", asked, asked)
	}
	ref, err := blob.ParseURI(original.Uri)
	if err != nil {
		return nil, fmt.Errorf("invoice: stored reference: %w", err)
	}
	content, err := s.blobs.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	content, _, err = signature.Unwrap(content)
	var file *fatturapa.File
	if err == nil {
		file, err = fatturapa.Parse(content)
	}
	if err != nil {
		return nil, fault.Precondition("NOT_RENDERABLE", "the original of %s is no FatturaPA file that can be read: get it with GetDocument, %s/documents/original", asked, asked).With(err)
	}
	return file, nil
}
