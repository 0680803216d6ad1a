package invoice

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/invoice/internal/db"
)

// CheckInvoice judges any file by the rules in force at a date. What is wrong with the invoice or with a
// signature is the answer, not an error; an error says that there is no invoice to judge: Invalid
// INVOICE_UNREADABLE, INVOICE_TOO_LARGE, DATE_INVALID.
func (s *Service) CheckInvoice(ctx context.Context, req *invoicev1.CheckInvoiceRequest) (*invoicev1.CheckInvoiceResponse, error) {
	parent, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	if len(req.GetContent()) > maxContent {
		return nil, tooLarge(len(req.GetContent()))
	}
	at := s.now()
	if req.GetDate() != "" {
		day, err := time.Parse(time.DateOnly, req.GetDate())
		if err != nil {
			return nil, fault.Invalid("DATE_INVALID", "date: %q is no date of the calendar: write it as 2026-03-31", req.GetDate()).
				WithField("date", "DATE_INVALID", "is no date of the calendar")
		}
		at = day.Add(12 * time.Hour) // noon, which is the same day in Rome
	}
	f, err := signature.Read(req.GetContent(), signature.Options{At: at})
	if err != nil {
		return nil, unreadable(err)
	}
	o := fatturapa.Options{At: at, FileName: req.GetFileName()}
	if req.GetUseLedger() {
		if o.Ledger, err = s.ledger(ctx, parent.tenant, f.Invoice, req.GetFileName()); err != nil {
			return nil, err
		}
	}
	return checked(fatturapa.Check(f.Invoice, o), f.Report, req.GetLanguageCode()), nil
}

// checked writes the findings on invoice and signatures in a language.
func checked(r *fatturapa.Report, signatures *signature.Report, language string) *invoicev1.CheckInvoiceResponse {
	resp := &invoicev1.CheckInvoiceResponse{Valid: r.Valid() && len(signatures.Findings) == 0, RulePack: r.RulePack, SchemaVersion: r.SchemaVersion,
		Omitted: int32(r.Omitted), NeedsAuthorityData: slices.Concat(signatures.NeedsAuthority, r.NeedsAuthority)}
	slices.Sort(resp.NeedsAuthorityData)
	resp.NeedsAuthorityData = slices.Compact(resp.NeedsAuthorityData)
	for _, list := range [][]fatturapa.Finding{signatures.Findings, r.Findings} {
		for i := range list {
			x := &list[i]
			resp.Violations = append(resp.Violations, &invoicev1.Violation{Code: x.Code, Severity: string(x.Severity),
				Message: x.Message.In(language), Hint: x.Hint.In(language), Xpath: x.XPath, JsonPath: x.JSONPath, Line: int32(x.Line),
				Actual: x.ActualIn(language), Expected: x.ExpectedIn(language), Clause: x.Clause})
		}
	}
	for i := range signatures.Signatures {
		x := &signatures.Signatures[i]
		one := &invoicev1.SignatureCheck{Format: x.Form, Intact: intact(x), Signer: x.Signer()}
		if !x.SigningTime.IsZero() {
			one.SigningTime = timestamppb.New(x.SigningTime)
		}
		for _, c := range x.Checks {
			if c.Verdict == cms.Failed {
				one.Problems = append(one.Problems, c.Name+": "+c.Reason)
			}
		}
		one.Problems = append(one.Problems, x.Warnings...)
		resp.Signatures = append(resp.Signatures, one)
	}
	return resp
}

// intact says whether the bytes are those that were signed, whoever signed and when.
func intact(s *signature.Signature) bool {
	passed := false
	for _, c := range s.Checks {
		switch c.Name {
		case "signature", "digest", "content type", "document":
			if c.Verdict == cms.Failed {
				return false
			}
			passed = passed || c.Verdict == cms.Passed
		}
	}
	return passed
}

// ledger answers what the tenant has sent and holds, for the documents of one file and for its name.
func (s *Service) ledger(ctx context.Context, tenant string, file *fatturapa.File, fileName string) (fatturapa.Ledger, error) {
	asked, used := map[fatturapa.DocumentKey]string{}, false
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		used, err = q(tx).FileNameUsed(ctx, db.FileNameUsedParams{TenantID: tenant, FileName: fileName})
		if err != nil {
			return fmt.Errorf("invoice: who was sent as %q: %w", fileName, err)
		}
		for i := range file.Bodies {
			byAllegato, byElenco := file.Keys(&file.Bodies[i])
			for _, key := range []fatturapa.DocumentKey{byAllegato, byElenco} {
				if _, done := asked[key]; done || key.Numero == "" {
					continue
				}
				holder, err := holderOf(ctx, tx, tenant, key)
				if err != nil {
					return err
				}
				asked[key] = holder
			}
		}
		return nil
	})
	if err != nil {
		return fatturapa.Ledger{}, err
	}
	return fatturapa.Ledger{
		FileNameUsed: func(string) bool { return used },
		Issued: func(key fatturapa.DocumentKey) (string, bool) {
			which := asked[key]
			return which, which != ""
		},
	}, nil
}

// holderOf names the invoice that holds a number, "" for none.
func holderOf(ctx context.Context, tx pgx.Tx, tenant string, key fatturapa.DocumentKey) (string, error) {
	series := []string{seriesInvoice, seriesSelf}
	if key.CreditNote {
		series = []string{seriesCredit}
	}
	for _, one := range series {
		rows, err := q(tx).ListHeld(ctx, db.ListHeldParams{TenantID: tenant, Issuer: key.Party, Year: int16(key.Year), Series: one + string(key.Data),
			Numbers: []string{key.Numero}})
		if err != nil {
			return "", fmt.Errorf("invoice: who holds a number: %w", err)
		}
		if len(rows) > 0 {
			return name{tenant, rows[0].CompanyID, rows[0].InvoiceID}.String(), nil
		}
	}
	return "", nil
}
