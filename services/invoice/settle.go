package invoice

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/invoice/internal/db"
)

// settle states InvoiceSettled for the invoices of emits, once each: the row says that it was done.
func (s *Service) settle(ctx context.Context, tx pgx.Tx, tenant string, rows map[uuid.UUID]*db.Invoice, emits map[uuid.UUID]func(proto.Message) error) error {
	if len(emits) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, 0, len(emits))
	for id := range emits {
		ids = append(ids, id)
	}
	documents, err := q(tx).ListDocuments(ctx, db.ListDocumentsParams{TenantID: tenant, InvoiceIds: ids})
	if err != nil {
		return fmt.Errorf("invoice: documents of settled invoices: %w", err)
	}
	receipts := map[uuid.UUID][]*invoicev1.Receipt{}
	for _, d := range documents {
		if d.Kind != int16(invoicev1.DocumentKind_DOCUMENT_KIND_RECEIPT) {
			continue
		}
		b, err := blobOf(d.Uri, d.MediaType)
		if err != nil {
			return err
		}
		receipts[d.InvoiceID] = append(receipts[d.InvoiceID], &invoicev1.Receipt{Type: d.ReceiptType, FileName: d.FileName, Content: b})
	}
	for _, id := range ids {
		ev, err := settled(rows[id], receipts[id])
		if err != nil {
			return err
		}
		if err := emits[id](ev); err != nil {
			return err
		}
	}
	return nil
}

func settled(row *db.Invoice, receipts []*invoicev1.Receipt) (*invoicev1.InvoiceSettled, error) {
	transmitted, err := blobOf(row.TransmittedUri, row.TransmittedType)
	if err != nil {
		return nil, err
	}
	ev := &invoicev1.InvoiceSettled{
		Invoice: nameOf(row).String(), SdiId: row.SdiID, FileName: row.FileName, Transmitted: transmitted, Receipts: receipts,
		State: invoicev1.InvoiceState(row.State).String(), Format: row.Format,
		SellerVatNumber: row.SellerVatNumber, SellerTaxCode: row.SellerTaxCode, SellerName: row.SellerName,
		BuyerVatNumber: row.BuyerVatNumber, BuyerTaxCode: row.BuyerTaxCode, BuyerName: row.BuyerName,
	}
	bodies, err := bodiesOf(row)
	if err != nil {
		return nil, err
	}
	for i, b := range bodies {
		if i == 0 {
			ev.FiscalYear = int32(yearOf(b.Date))
		}
		ev.Bodies = append(ev.Bodies, &invoicev1.SettledBody{DocumentType: b.Type, Number: b.Number, IssueDate: b.Date})
	}
	return ev, nil
}

func blobOf(uri, mediaType string) (*eventv1.Blob, error) {
	ref, err := blob.ParseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("invoice: stored reference: %w", err)
	}
	return &eventv1.Blob{Uri: uri, Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaType}, nil
}

func nameOf(row *db.Invoice) name { return name{row.TenantID, row.CompanyID, row.ID} }

// body is one document of the file as it is kept in the row.
type body struct {
	Type     string `json:"type"`
	Number   string `json:"number"`
	Date     string `json:"date"`
	Currency string `json:"currency,omitempty"`
	Total    string `json:"total,omitempty"` // as written; empty when absent
	Art73    bool   `json:"art73,omitempty"` // numbered by day, DPR 633/72 art. 73
}

func bodiesOf(row *db.Invoice) ([]body, error) {
	var bodies []body
	if err := json.Unmarshal(row.Bodies, &bodies); err != nil {
		return nil, fmt.Errorf("invoice: bodies of %s: %w", row.ID, err)
	}
	return bodies, nil
}
