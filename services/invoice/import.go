package invoice

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

const (
	mediaPDF  = "application/pdf"
	formatPDF = "PDF"

	// maxPDF is larger than an invoice file may be: scans are.
	maxPDF = 12_000_000

	// seriesReceived goes before the series of a number that a supplier gave: the tenant may have another
	// company that gave itself the same.
	seriesReceived = "R"
)

// ImportInvoice takes in an invoice that was issued elsewhere. It is neither signed nor sent; it goes into
// custody as it is. What the checks find is kept as warnings, since old files obey old rules.
//
// Its number is held, so that the platform does not issue it again and the same invoice is not imported
// twice. Invalid INVOICE_TOO_LARGE, INVOICE_UNREADABLE, INVOICE_INVALID, PARTY_MISMATCH, METADATA_REQUIRED,
// METADATA_UNEXPECTED, DATE_OUT_OF_RANGE; Conflict INVOICE_DUPLICATE, REQUEST_ID_REUSED.
func (b *batches) ImportInvoice(ctx context.Context, req *invoicev1.ImportInvoiceRequest) (*invoicev1.Invoice, error) {
	company, err := b.companies.get(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	n, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	if err := printable("external_id", req.GetExternalId()); err != nil {
		return nil, err
	}
	now := pg.Time(b.now())
	a, received, err := admitImport(req.GetContent(), req.GetMetadata(), company, now)
	if err != nil {
		return nil, err
	}
	r, err := newArrival(a, n.tenant)
	if err != nil {
		return nil, err
	}
	r.requestID, r.externalID, r.received = req.GetRequestId(), req.GetExternalId(), received
	r.requestHash, err = importHash(req)
	if err != nil {
		return nil, err
	}
	r.ownName = importName(req.GetFileName(), r)
	earlier, err := b.importedBefore(ctx, n.tenant, r)
	if earlier != nil || err != nil {
		return earlier, err
	}
	if err := b.holdersOf(ctx, n.tenant, a); err != nil {
		return nil, err
	}
	if _, err := b.blobs.Put(ctx, n.tenant, req.GetContent()); err != nil {
		return nil, err
	}
	in := &arrivals{tenant: n.tenant, company: n.company, imported: true, now: now, list: []*arrival{r}}
	err = b.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error { return b.storeMany(ctx, tx, in) })
	if pg.Constraint(err) == "invoice_request" {
		return b.importedBefore(ctx, n.tenant, r)
	}
	if err != nil {
		return nil, err
	}
	if r.lost {
		if earlier, err = b.importedBefore(ctx, n.tenant, r); earlier != nil || err != nil {
			return earlier, err
		}
		if err := b.holdersOf(ctx, n.tenant, a); err != nil {
			return nil, err
		}
		return nil, fault.Aborted("NUMBER_CONTENDED", "another call took the number of this document and gave it back: try again")
	}
	a.row.Version = 1
	return present(&a.row, []db.ListDocumentsRow{{ID: "original", Kind: int16(invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL),
		FileName: r.ownName, MediaType: a.media, Uri: r.ref.URI(), CreateTime: now}})
}

// importedBefore gives the invoice of a request id that was used before; nil when it was not.
func (b *batches) importedBefore(ctx context.Context, tenant string, r *arrival) (*invoicev1.Invoice, error) {
	if r.requestID == "" {
		return nil, nil
	}
	var resp *invoicev1.Invoice
	err := b.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).FindByRequest(ctx, db.FindByRequestParams{TenantID: tenant, RequestID: r.requestID})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("invoice: find request %s: %w", r.requestID, err)
		}
		if !bytes.Equal(row.RequestHash, r.requestHash) {
			return fault.Conflict("REQUEST_ID_REUSED",
				"request_id %s was used before with another request, which made %s: use a new id for a new request", r.requestID, nameOf(&row)).
				WithField("request_id", "REUSED", "belongs to an earlier, different request")
		}
		list, err := presentAll(ctx, tx, tenant, []db.Invoice{row})
		if err != nil {
			return err
		}
		resp = list[0]
		return nil
	})
	return resp, err
}

func importHash(req *invoicev1.ImportInvoiceRequest) ([]byte, error) {
	metadata, err := proto.MarshalOptions{Deterministic: true}.Marshal(req.GetMetadata())
	if err != nil {
		return nil, fmt.Errorf("invoice: metadata: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "import %q %q %q %q %x", req.GetParent(), req.GetExternalId(), req.GetFileName(), metadata, sha256.Sum256(req.GetContent())))
	return sum[:], nil
}

// admitImport reads a file that was issued elsewhere. received: the company is the buyer.
func admitImport(content []byte, metadata *invoicev1.ImportMetadata, company *tenancyv1.Company, now time.Time) (a *admission, received bool, err error) {
	pdf := bytes.HasPrefix(content, []byte("%PDF-"))
	limit := maxContent
	if pdf {
		limit = maxPDF
	}
	switch {
	case len(content) > limit:
		return nil, false, contentFault("INVOICE_TOO_LARGE", "00003", fmt.Sprintf("the file has %d bytes, at most %d are taken", len(content), limit))
	case pdf && metadata == nil:
		return nil, false, fault.Invalid("METADATA_REQUIRED", "metadata: a PDF does not say by itself what it is: give type, number, date and parties").
			WithField("metadata", "METADATA_REQUIRED", "is required with a PDF")
	case !pdf && metadata != nil:
		return nil, false, fault.Invalid("METADATA_UNEXPECTED", "metadata: an XML invoice says itself what it is: leave metadata out, or send the PDF").
			WithField("metadata", "METADATA_UNEXPECTED", "is for PDF only")
	}
	buyerIssues := false
	if pdf {
		a, err = describePDF(content, metadata)
	} else {
		a, buyerIssues, err = readImport(content)
	}
	if err != nil {
		return nil, false, err
	}
	for i, b := range a.files {
		if y := int(yearOf(b.Date)); y < 2000 || y > now.Year()+1 {
			return nil, false, contentFault("DATE_OUT_OF_RANGE", "DATE_OUT_OF_RANGE", fmt.Sprintf("document %d is of %s: dates from 2000 to next year are taken", i+1, b.Date))
		}
	}
	received, err = sideOf(a, buyerIssues, company)
	if err != nil {
		return nil, false, err
	}
	if received {
		holdReceived(a)
	}
	return a, received, nil
}

// readImport reads an invoice file, in whatever wrapping. buyerIssues: the file says that the buyer wrote it.
func readImport(content []byte) (a *admission, buyerIssues bool, err error) {
	a = &admission{content: content, media: mediaXML}
	inner := content
	if cms.Looks(content) {
		a.media = mediaP7M
		var layers []*cms.SignedData
		inner, layers, err = cms.Open(content)
		if err != nil {
			return nil, false, contentFault("INVOICE_UNREADABLE", "ENVELOPE", fmt.Sprintf("the signature envelope cannot be read (%v): fetch the file again, in binary mode", err))
		}
		if len(layers) > 0 && layers[len(layers)-1].Detached {
			return nil, false, contentFault("INVOICE_UNREADABLE", "DETACHED", "a detached signature: the invoice is not in the file")
		}
	}
	file, err := fatturapa.Parse(inner)
	if err != nil {
		return nil, false, unreadable(err)
	}
	if err := a.describe(file, file.Formato()); err != nil {
		return nil, false, err
	}
	// The rules of its own day: what was good then is no fault now.
	day, err := time.Parse(time.DateOnly, a.files[0].Date)
	if err != nil {
		return nil, false, fmt.Errorf("invoice: date of an import: %w", err)
	}
	found := violations(fatturapa.Check(file, fatturapa.Options{At: day}).Findings)
	for i := range found {
		found[i].Severity = string(fatturapa.SeverityWarning)
	}
	return a, file.Header.SoggettoEmittente == "CC", a.warn(found...)
}

// describePDF makes the row of a PDF from what the caller says about it.
func describePDF(content []byte, m *invoicev1.ImportMetadata) (*admission, error) {
	for field, text := range map[string]string{"number": m.GetNumber(),
		"seller.vat_number": m.GetSeller().GetVatNumber(), "seller.tax_code": m.GetSeller().GetTaxCode(), "seller.display_name": m.GetSeller().GetDisplayName(),
		"buyer.vat_number": m.GetBuyer().GetVatNumber(), "buyer.tax_code": m.GetBuyer().GetTaxCode(), "buyer.display_name": m.GetBuyer().GetDisplayName()} {
		if err := printable("metadata."+field, text); err != nil {
			return nil, err
		}
	}
	if _, err := time.Parse(time.DateOnly, m.GetIssueDate()); err != nil {
		return nil, fault.Invalid("METADATA_INVALID", "metadata.issue_date: %q is no date: write it as 2026-03-31", m.GetIssueDate()).
			WithField("metadata.issue_date", "METADATA_INVALID", "is no date")
	}
	if m.GetSeller().GetDisplayName() == "" && m.GetSeller().GetVatNumber() == "" && m.GetSeller().GetTaxCode() == "" {
		return nil, fault.Invalid("METADATA_INVALID", "metadata.seller: say who issued it: a name, VAT number or tax code").
			WithField("metadata.seller", "METADATA_INVALID", "is empty")
	}
	currency := m.GetCurrency()
	if currency == "" {
		currency = "EUR"
	}
	a := &admission{content: content, media: mediaPDF}
	a.files = []body{{Type: m.GetDocumentType(), Number: m.GetNumber(), Date: m.GetIssueDate(), Currency: currency, Total: m.GetTotalAmount()}}
	r := &a.row
	r.Format, r.Number, r.Rejections = formatPDF, m.GetNumber(), []byte("[]")
	r.SellerVatNumber, r.SellerTaxCode, r.SellerName = strings.ToUpper(m.GetSeller().GetVatNumber()), strings.ToUpper(m.GetSeller().GetTaxCode()), m.GetSeller().GetDisplayName()
	r.BuyerVatNumber, r.BuyerTaxCode, r.BuyerName = strings.ToUpper(m.GetBuyer().GetVatNumber()), strings.ToUpper(m.GetBuyer().GetTaxCode()), m.GetBuyer().GetDisplayName()
	a.held = heldNumbers(a.files, fiscalID(r.SellerVatNumber, r.SellerTaxCode), fiscalID(r.BuyerVatNumber, r.BuyerTaxCode))
	var err error
	r.Bodies, err = json.Marshal(a.files)
	if err != nil {
		return nil, fmt.Errorf("invoice: bodies: %w", err)
	}
	return a, a.warn()
}

// sideOf says whether the company received the document rather than issued it. PARTY_MISMATCH when it is
// neither party.
func sideOf(a *admission, buyerIssues bool, company *tenancyv1.Company) (received bool, err error) {
	r := &a.row
	is := func(vat, tax string) bool {
		return same(vat, company.GetVatNumber()) || same(tax, company.GetTaxCode()) || same(vat, "IT"+company.GetTaxCode()) || same("IT"+tax, company.GetVatNumber())
	}
	seller, buyer := is(r.SellerVatNumber, r.SellerTaxCode), is(r.BuyerVatNumber, r.BuyerTaxCode)
	issuer, other := seller, buyer
	if buyerIssues || isSelfIssued(a.files[0].Type) {
		issuer, other = buyer, seller
	}
	if issuer || other {
		return !issuer, nil
	}
	message := fmt.Sprintf("seller has VAT number %q and tax code %q, buyer %q and %q, but %s has VAT number %q and tax code %q: import it under one of its parties",
		r.SellerVatNumber, r.SellerTaxCode, r.BuyerVatNumber, r.BuyerTaxCode, company.GetName(), company.GetVatNumber(), company.GetTaxCode())
	return false, fault.Invalid("PARTY_MISMATCH", "content: %s", message).WithField("content", "PARTY_MISMATCH", message)
}

// holdReceived holds the numbers of a received document for its issuer, apart from those that the tenant
// issues; an issuer without any code has no numbers to tell apart.
func holdReceived(a *admission) {
	held := a.held[:0]
	for _, h := range a.held {
		if h.issuer != "" {
			h.series = seriesReceived + h.series
			held = append(held, h)
		}
	}
	a.held = held
}

// importName is the name under which an imported file is kept: the one that it came with, with an ending
// that says what it is.
func importName(given string, r *arrival) string {
	base := shownName(path.Base(strings.ReplaceAll(given, `\`, "/")))
	if given == "" || base == "." || base == "/" || base == ".." {
		base = r.id.String()
	}
	lower := strings.ToLower(base)
	ending := map[string]string{mediaXML: ".xml", mediaP7M: ".p7m", mediaPDF: ".pdf"}[r.a.media]
	switch {
	case strings.HasSuffix(lower, ending):
		return base
	case r.a.media == mediaP7M && !strings.HasSuffix(lower, ".xml"):
		return base + ".xml.p7m"
	}
	return base + ending
}
