package invoice

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/compose"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/invoice/internal/db"
)

// prepared is a draft with everything that it takes from elsewhere.
type prepared struct {
	request compose.Request
	series  *seriesName // nil: the draft has its own number
	pattern pattern
	// next is what the series would give now, lastDate the latest date it gave a number to.
	next     int64
	lastDate string
}

// prepare completes a draft in a transaction that only reads: address book, price list, company,
// progressive, and the state of the series. The draft itself is not changed.
//
// Invalid DRAFT_INVALID, NAME_INVALID; NotFound CONTACT_NOT_FOUND, ITEM_NOT_FOUND, SERIES_NOT_FOUND.
func (s *Service) prepare(ctx context.Context, tx pgx.Tx, company *tenancyv1.Company, parent name, draft *invoicev1.Draft, series string) (*prepared, error) {
	d := proto.CloneOf(draft)
	if err := lookUp(ctx, tx, entries{}, parent.tenant, d); err != nil {
		return nil, err
	}
	fillCompany(d, company)
	if d.Transmission == nil {
		d.Transmission = &invoicev1.Transmission{}
	}
	if d.Transmission.GetProgressive() == "" {
		n, err := q(tx).NextProgressive(ctx)
		if err != nil {
			return nil, fmt.Errorf("invoice: progressive: %w", err)
		}
		d.Transmission.Progressive = progressive(n)
	}
	p := &prepared{}
	if series != "" {
		if err := p.peek(ctx, tx, parent, d, series); err != nil {
			return nil, err
		}
	}
	raw, err := protojson.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("invoice: draft: %w", err)
	}
	if p.request, err = compose.ReadRequest(raw); err != nil {
		return nil, fmt.Errorf("invoice: draft: %w", err)
	}
	return p, nil
}

// peek looks at the series and writes the number that it would give into the draft.
func (p *prepared) peek(ctx context.Context, tx pgx.Tx, parent name, d *invoicev1.Draft, series string) error {
	n, err := parseSeries(series, "series")
	if err != nil {
		return err
	}
	if n.tenant != parent.tenant || n.company != parent.company {
		return fault.Invalid("SERIES_OF_ANOTHER", "series: %s is not one of the company that issues the document", n).
			WithField("series", "SERIES_OF_ANOTHER", "belongs to another company")
	}
	if d.GetDocument().GetNumber() != "" {
		return fault.Invalid("NUMBER_AND_SERIES", "draft.document.number: there is a number %q and a series to give one: leave one out", d.GetDocument().GetNumber()).
			WithField("draft.document.number", "NUMBER_AND_SERIES", "comes from the series")
	}
	date := d.GetDocument().GetDate()
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return fault.Invalid("DRAFT_INVALID", "draft.document.date: %q is no date, and the year of the series follows from it: write it as 2026-03-31", date).
			WithField("draft.document.date", "00200", "is no date")
	}
	row, err := q(tx).PeekSeries(ctx, db.PeekSeriesParams{TenantID: n.tenant, CompanyID: n.company, ID: n.id, Year: yearOf(date)})
	if errors.Is(err, pgx.ErrNoRows) {
		return atField(seriesMissing(n), "series")
	}
	if err != nil {
		return fmt.Errorf("invoice: series: %w", err)
	}
	p.series, p.next, p.lastDate = &n, row.Next, row.LastDate
	if p.pattern, err = parsePattern(row.Pattern, "series"); err != nil {
		return err
	}
	d.Document.Number, err = p.pattern.fits(n.String(), row.Next, int(yearOf(date)))
	return err
}

// compose writes the file and admits it. Invalid DRAFT_INVALID with a field violation for each problem:
// the path in the draft, and the code of the control or DRAFT_INVALID as reason.
func (p *prepared) compose(company *tenancyv1.Company, now time.Time) (*admission, *compose.Report, error) {
	xml, report, err := compose.Compose(p.request)
	if err != nil {
		return nil, nil, draftFault(err)
	}
	a, err := admit(xml, company, now)
	if err != nil {
		return nil, nil, inDraft(err)
	}
	if p.series != nil && p.lastDate > p.request.Document.Date {
		if err := a.warn(backwards(p.series, p.request.Document.Date, p.lastDate)); err != nil {
			return nil, nil, err
		}
	}
	return a, &report, nil
}

// backwards warns of a date before one that the series has given a number to.
func backwards(series *seriesName, date, last string) violation {
	return violation{Code: "SERIES_DATE_BACKWARDS", Severity: "warning", Actual: date, Expected: last + " or later",
		Message: fmt.Sprintf("%s gave a number to a document of %s already: numbers and dates run in different directions", series, last),
		Hint:    "give the document a later date, or number it in another series"}
}

// fillCompany puts the company into its place in the document, where the draft does not say who it is.
// What the platform does not know of a company, as its address, stays for the draft or the address book.
func fillCompany(d *invoicev1.Draft, c *tenancyv1.Company) {
	place := &d.Seller
	self := isSelfIssued(d.GetDocument().GetType()) || d.GetIssuedBy() == "CC"
	if self {
		place = &d.Buyer
	}
	if *place == nil {
		*place = &invoicev1.DraftParty{}
	}
	own := *place
	if own.GetVatNumber() == "" && own.GetTaxCode() == "" {
		if vat := c.GetVatNumber(); len(vat) > 2 {
			own.VatCountry, own.VatNumber = vat[:2], vat[2:]
		}
		own.TaxCode = c.GetTaxCode()
	}
	if own.GetName() == "" && own.GetFirstName() == "" && own.GetLastName() == "" {
		own.Name = c.GetDisplayName()
	}
	// Who issues for itself receives for itself. spec: AllA-1.9 §3.2
	if self && c.GetRecipientCode() != "" && d.GetTransmission().GetRecipientCode() == "" && d.GetTransmission().GetCertifiedMail() == "" {
		if d.Transmission == nil {
			d.Transmission = &invoicev1.Transmission{}
		}
		d.Transmission.RecipientCode = c.GetRecipientCode()
	}
}

// progressive writes a ProgressivoInvio of ten letters and digits: another one for each n. Multiplying by
// a number that neither 2 nor 3 divides only shuffles, so that nobody reads off how many there are.
func progressive(n int64) string {
	const (
		letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		size    = 3656158440062976 // 36^10
		shuffle = 2259629016784853
	)
	hi, lo := bits.Mul64(uint64(n%size), shuffle)
	v := bits.Rem64(hi, lo, size)
	out := make([]byte, 10)
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = letters[v%36]
		v /= 36
	}
	return string(out)
}

// draftFault turns what is wrong with a request into field violations.
func draftFault(err error) error {
	var wrong *compose.Error
	if !errors.As(err, &wrong) {
		return fmt.Errorf("invoice: compose: %w", err)
	}
	f := fault.Invalid("DRAFT_INVALID", "draft: no invoice can be made of it: %d problem(s), the first: %s", len(wrong.Problems), wrong.Problems[0])
	for i, p := range wrong.Problems {
		if i == maxFindings {
			f.Message += fmt.Sprintf("; %d are not shown", len(wrong.Problems)-i)
			break
		}
		code := p.Code
		if code == "" {
			code = "DRAFT_INVALID"
		}
		f = f.WithField(draftPath(p.Path), code, p.What+": "+p.Hint)
	}
	return f
}

// draftPath turns a path of the composer ($.lines[0].vatRate) into one of the request
// (draft.lines[0].vat_rate). What is no such path is about the whole draft.
func draftPath(path string) string {
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return "draft"
	}
	out, message := "draft", (&invoicev1.Draft{}).ProtoReflect().Descriptor()
	for rest != "" && message != nil {
		var step string
		step, rest, _ = strings.Cut(strings.TrimPrefix(rest, "."), ".")
		word, index, _ := strings.Cut(step, "[")
		field := message.Fields().ByJSONName(word)
		if field == nil {
			return out
		}
		out += "." + string(field.Name())
		if index != "" {
			out += "[" + index
		}
		message = nil
		if field.Kind() == protoreflect.MessageKind {
			message = field.Message()
		}
	}
	return out
}

// inDraft moves what admit says of the content to the draft that it was composed from.
func inDraft(err error) error {
	f := fault.Of(err)
	if f == nil || f.Kind == fault.KindInternal || len(f.Fields) == 0 {
		return err
	}
	places := map[string]string{"00403": "draft.document.date", "SELLER_MISMATCH": "draft.seller", "00404": "draft.document.number", "00425": "draft.document.number"}
	out := *f
	out.Message = "draft" + strings.TrimPrefix(f.Message, "content")
	out.Fields = nil
	for _, x := range f.Fields {
		if x.Path == "content" {
			x.Path = "draft"
			if place := places[x.Code]; place != "" {
				x.Path = place
			}
		}
		out.Fields = append(out.Fields, x)
	}
	return &out
}

// ComposeInvoice shows what CreateInvoice would make of a draft. Nothing is stored and no number used.
func (s *Service) ComposeInvoice(ctx context.Context, req *invoicev1.ComposeInvoiceRequest) (*invoicev1.ComposeInvoiceResponse, error) {
	company, err := s.companies.get(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	parent, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	var p *prepared
	err = s.db.Tx(ctx, parent.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = s.prepare(ctx, tx, company, parent, req.GetDraft(), req.GetSeries())
		return err
	})
	if err != nil {
		return nil, err
	}
	a, report, err := p.compose(company, s.now())
	if err != nil {
		return nil, err
	}
	resp := &invoicev1.ComposeInvoiceResponse{Content: a.content, Totals: totals(&report.Totals),
		IssueTerm: issueTerm(a.files[0].Type, a.files[0].Date)}
	for _, c := range report.Changes {
		resp.Changes = append(resp.Changes, &invoicev1.TextChange{Path: c.Path, From: c.From, To: c.To, Reason: c.Reason})
	}
	for _, x := range report.Advice {
		resp.Advice = append(resp.Advice, &invoicev1.Advice{Path: x.Path, Text: x.Text})
	}
	for i := range a.warnings {
		resp.Violations = append(resp.Violations, a.warnings[i].present())
	}
	return resp, nil
}

func totals(t *compose.Totals) *invoicev1.Totals {
	out := &invoicev1.Totals{Taxable: t.Taxable, Tax: t.Tax, SplitTax: t.SplitTax, Withholdings: t.Withholdings, Document: t.Document, Payable: t.Payable}
	for _, x := range t.Summaries {
		out.Summaries = append(out.Summaries, &invoicev1.VatSummary{Rate: x.Rate, Nature: x.Nature, Collectability: x.Collectability,
			LegalReference: x.LegalReference, Rounding: x.Rounding, Taxable: x.Taxable, Tax: x.Tax})
	}
	return out
}
