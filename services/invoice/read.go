package invoice

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

// defaultPage is the size of a page whose request says 0.
const defaultPage = 50

func pageSize(asked int32) int32 {
	if asked == 0 {
		return defaultPage
	}
	return asked
}

// parentName reads tenants/{tenant}/companies/{company}; the request was validated against it.
func parentName(parent string) (name, error) {
	p := strings.Split(parent, "/")
	if len(p) != 4 {
		return name{}, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}/companies/{company}", parent).
			WithField("parent", "NAME_INVALID", "is no name of a company")
	}
	return name{tenant: p[1], company: p[3]}, nil
}

func invoiceMissing(name string) error {
	return fault.NotFound("INVOICE_NOT_FOUND", "there is no invoice %s", name)
}

// GetInvoice reads one invoice with its documents.
func (s *Service) GetInvoice(ctx context.Context, req *invoicev1.GetInvoiceRequest) (*invoicev1.Invoice, error) {
	n, err := parseName(req.GetName())
	if err != nil {
		return nil, invoiceMissing(req.GetName())
	}
	var resp *invoicev1.Invoice
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).GetInvoice(ctx, db.GetInvoiceParams{TenantID: n.tenant, ID: n.id})
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && n.company != "-" && row.CompanyID != n.company) {
			return invoiceMissing(req.GetName())
		}
		if err != nil {
			return fmt.Errorf("invoice: read %s: %w", n.id, err)
		}
		documents, err := q(tx).ListDocuments(ctx, db.ListDocumentsParams{TenantID: n.tenant, InvoiceIds: []uuid.UUID{n.id}})
		if err != nil {
			return fmt.Errorf("invoice: documents of %s: %w", n.id, err)
		}
		resp, err = present(&row, documents)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListInvoices reads invoices newest first, those that the filter selects. Invalid FILTER_INVALID,
// PAGE_TOKEN_INVALID.
func (s *Service) ListInvoices(ctx context.Context, req *invoicev1.ListInvoicesRequest) (*invoicev1.ListInvoicesResponse, error) {
	n, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	p, err := invoiceFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	p.TenantID, p.PageSize = n.tenant, pageSize(req.GetPageSize())+1
	if n.company != "-" {
		p.CompanyID = &n.company
	}
	hash := pg.FilterHash("invoices", req.GetParent(), req.GetFilter())
	var before uuid.UUID
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &before)
	if err != nil {
		return nil, err
	}
	if found {
		p.BeforeID = &before
	}
	resp := &invoicev1.ListInvoicesResponse{}
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListInvoices(ctx, p)
		if err != nil {
			return fmt.Errorf("invoice: list: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.Invoice) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		resp.Invoices, err = presentAll(ctx, tx, n.tenant, rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func presentAll(ctx context.Context, tx pgx.Tx, tenant string, rows []db.Invoice) ([]*invoicev1.Invoice, error) {
	ids := make([]uuid.UUID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	list, err := q(tx).ListDocuments(ctx, db.ListDocumentsParams{TenantID: tenant, InvoiceIds: ids})
	if err != nil {
		return nil, fmt.Errorf("invoice: documents: %w", err)
	}
	documents := map[uuid.UUID][]db.ListDocumentsRow{}
	for _, d := range list {
		documents[d.InvoiceID] = append(documents[d.InvoiceID], d)
	}
	out := make([]*invoicev1.Invoice, len(rows))
	for i := range rows {
		out[i], err = present(&rows[i], documents[rows[i].ID])
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// GetDocument gives the bytes of one document after checking their hash. NotFound DOCUMENT_NOT_FOUND;
// Precondition DOCUMENT_DESTROYED.
func (s *Service) GetDocument(ctx context.Context, req *invoicev1.GetDocumentRequest) (*invoicev1.GetDocumentResponse, error) {
	missing := fault.NotFound("DOCUMENT_NOT_FOUND", "there is no document %s: GetInvoice lists those that there are", req.GetName())
	n, err := parseName(req.GetName())
	parts := strings.Split(req.GetName(), "/")
	if err != nil || len(parts) != 8 {
		return nil, missing
	}
	var row db.GetDocumentRow
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		row, err = q(tx).GetDocument(ctx, db.GetDocumentParams{TenantID: n.tenant, InvoiceID: n.id, ID: parts[7], CompanyID: n.company})
		if err != nil {
			return err
		}
		return notDestroyed(&db.Invoice{ID: n.id, TenantID: n.tenant, CompanyID: n.company, DestroyedBy: row.DestroyedBy, DestroyTime: row.DestroyTime})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("invoice: document %s: %w", req.GetName(), err)
	}
	ref, err := blob.ParseURI(row.Uri)
	if err != nil {
		return nil, fmt.Errorf("invoice: stored reference: %w", err)
	}
	content, err := s.blobs.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	kind := invoicev1.DocumentKind(row.Kind)
	return &invoicev1.GetDocumentResponse{Content: content, Document: &invoicev1.Document{
		Name: req.GetName(), Kind: kind, ReceiptType: row.ReceiptType,
		FileName:  fileName(n.id.String(), row.SentName, row.MediaType, row.FileName),
		MediaType: row.MediaType, Size: ref.Size, Sha256: ref.SHA256[:], CreateTime: timestamppb.New(row.CreateTime),
	}}, nil
}
