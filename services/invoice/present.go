package invoice

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/invoice/internal/db"
)

// present writes a row and its documents as the resource. A row without id is one that was only
// checked: it has no name, and neither have its documents.
func present(row *db.Invoice, documents []db.ListDocumentsRow) (*invoicev1.Invoice, error) {
	inv := &invoicev1.Invoice{
		State: invoicev1.InvoiceState(row.State), Format: row.Format, RecipientCode: row.RecipientCode,
		Seller:     &invoicev1.Party{VatNumber: row.SellerVatNumber, TaxCode: row.SellerTaxCode, DisplayName: row.SellerName},
		Buyer:      &invoicev1.Party{VatNumber: row.BuyerVatNumber, TaxCode: row.BuyerTaxCode, DisplayName: row.BuyerName},
		ExternalId: row.ExternalID, FileName: row.FileName, SdiId: row.SdiID, Package: row.Package, TraceId: row.TraceID,
		CreateTime: timestamppb.New(row.CreateTime), UpdateTime: timestamppb.New(row.UpdateTime),
	}
	stored := row.ID != [16]byte{}
	if stored {
		inv.Name, inv.Etag = nameOf(row).String(), strconv.Quote(strconv.Itoa(int(row.Version)))
	}
	for _, link := range []struct {
		to  *uuid.UUID
		set *string
	}{{row.Corrects, &inv.Corrects}, {row.CorrectedBy, &inv.CorrectedBy}} {
		if link.to != nil {
			*link.set = name{row.TenantID, row.CompanyID, *link.to}.String()
		}
	}
	if row.BatchID != nil {
		inv.Batch = batchName{row.TenantID, row.CompanyID, *row.BatchID}.String()
	}
	inv.Destruction = destruction(row)
	if row.PreserveTime != nil {
		inv.PreserveTime = timestamppb.New(*row.PreserveTime)
	}
	if inv.GetState() == invoicev1.InvoiceState_INVOICE_STATE_FAILED {
		inv.Failure = row.Failure
	}
	bodies, err := bodiesOf(row)
	if err != nil {
		return nil, err
	}
	for _, b := range bodies {
		inv.Bodies = append(inv.Bodies, &invoicev1.Body{DocumentType: b.Type, Number: b.Number, IssueDate: b.Date,
			Currency: b.Currency, TotalAmount: b.Total, IssueTerm: issueTerm(b.Type, b.Date)})
	}
	inv.Violations, err = violationsOf(row)
	if err != nil {
		return nil, err
	}
	for _, d := range documents {
		doc, err := presentDocument(row, d)
		if err != nil {
			return nil, err
		}
		inv.Documents = append(inv.Documents, doc)
	}
	return inv, nil
}

// issueTerm is the last day to send a document, counted from its date; nil for types that have no such term.
func issueTerm(documentType, date string) *invoicev1.IssueTerm {
	d, ok := fatturapa.IssueDeadline(documentType, fatturapa.Date(date))
	if !ok {
		return nil
	}
	return &invoicev1.IssueTerm{Date: string(d.Day), Clause: d.Law}
}

// violationsOf lists the warnings of our checks and, after a rejection, the errors of SdI.
func violationsOf(row *db.Invoice) ([]*invoicev1.Violation, error) {
	var out []*invoicev1.Violation
	for _, raw := range [][]byte{row.Warnings, row.Rejections} {
		if len(raw) <= len("[]") { // the usual case, worth no decoder
			continue
		}
		var list []violation
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf("invoice: violations of %s: %w", row.ID, err)
		}
		for _, v := range list {
			out = append(out, v.present())
		}
	}
	return out, nil
}

func presentDocument(row *db.Invoice, d db.ListDocumentsRow) (*invoicev1.Document, error) {
	ref, err := blob.ParseURI(d.Uri)
	if err != nil {
		return nil, fmt.Errorf("invoice: stored reference: %w", err)
	}
	doc := &invoicev1.Document{
		Kind: invoicev1.DocumentKind(d.Kind), ReceiptType: d.ReceiptType, FileName: d.FileName, MediaType: d.MediaType,
		Size: ref.Size, Sha256: ref.SHA256[:], CreateTime: timestamppb.New(d.CreateTime),
	}
	if row.ID != [16]byte{} {
		doc.Name = nameOf(row).String() + "/documents/" + d.ID
		doc.FileName = fileName(row.ID.String(), row.FileName, d.MediaType, d.FileName)
	}
	return doc, nil
}

// fileName is what a document is called when it is saved: the name at SdI once it is known, else the
// id of the invoice; receipts keep theirs.
func fileName(id, sent, mediaType, own string) string {
	stem := id
	if sent != "" {
		stem = strings.TrimSuffix(strings.TrimSuffix(sent, ".p7m"), ".xml")
	}
	switch {
	case own != "":
		return own
	case mediaType == mediaP7M:
		return stem + ".xml.p7m"
	}
	return stem + ".xml"
}
