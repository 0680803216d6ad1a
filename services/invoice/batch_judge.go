package invoice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

// task is one file of a batch on its way to its outcome. A state of fileWaiting means that it has none yet.
type task struct {
	row     *db.BatchFile
	content []byte
	outcome
	arrival *arrival // admitted, and to become an invoice
	checked *admission
}

// outcome is what is written about a file.
type outcome struct {
	state      int16
	code       string
	message    string
	violations []violation
	invoice    uuid.UUID
	company    string
}

func (t *task) refuse(err error) {
	f := fault.Of(err)
	t.state, t.code, t.message = fileRefused, f.Code, f.Message
	for _, field := range f.Fields {
		t.violations = append(t.violations, violation{Code: field.Code, Severity: "error", Message: field.Message})
	}
}

func (t *task) ignore(message string) { t.state, t.message = fileIgnored, message }

// judgeAll judges files side by side, as many as there are processors. Only what is no fault of the files
// is an error.
func judgeAll(tasks []*task, kind invoicev1.BatchKind, tenant string, company *tenancyv1.Company, now time.Time) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, t := range tasks {
		if t.state != fileWaiting {
			continue
		}
		g.Go(func() error { return t.judge(kind, tenant, company, now) })
	}
	return g.Wait()
}

// judge decides what a file is and whether it is taken. A defect of ours that one file brings to light ends
// that file, not the batch.
func (t *task) judge(kind invoicev1.BatchKind, tenant string, company *tenancyv1.Company, now time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.refuse(fault.Internal("PANIC", "this file could not be judged by a defect of ours: send it to us").With(fmt.Errorf("panic: %v\n%s", p, debug.Stack())))
			err = nil
		}
	}()
	if done := t.sniff(kind); done {
		return nil
	}
	var a *admission
	received := false
	if kind == invoicev1.BatchKind_BATCH_KIND_IMPORT {
		a, received, err = admitImport(t.content, nil, company, now)
	} else {
		a, err = admit(t.content, company, now)
	}
	switch {
	case err != nil && !fault.Permanent(err):
		return err
	case err != nil:
		if m := sdiMessage(t.row.FileName, t.content, err); m != "" {
			t.ignore(m)
			return nil
		}
		t.refuse(err)
		return nil
	case repeatsItself(a.held):
		t.refuse(contentFault("INVOICE_INVALID", "00409", "two documents of the file have the same number: give each its own"))
		return nil
	}
	t.checked = a
	if kind == invoicev1.BatchKind_BATCH_KIND_CHECK {
		return nil
	}
	r, err := newArrival(a, tenant)
	if err != nil {
		return err
	}
	r.received, r.externalID = received, t.row.ExternalID
	// Users' ids are UUIDs, so this one is never one of theirs.
	r.requestID = fmt.Sprintf("%s/%d", t.row.BatchID, t.row.Idx)
	r.requestHash = r.ref.SHA256[:]
	if kind == invoicev1.BatchKind_BATCH_KIND_IMPORT {
		r.ownName = importName(t.row.FileName, r)
	}
	t.arrival = r
	return nil
}

// newArrival gives an admitted file its id.
func newArrival(a *admission, tenant string) (*arrival, error) {
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	return &arrival{a: a, id: id, ref: blob.Of(tenant, a.content)}, nil
}

// sniff gives the outcome of what is plainly no invoice.
func (t *task) sniff(kind invoicev1.BatchKind) (done bool) {
	content, name := t.content, t.row.FileName
	switch what := systemFile(name); {
	case what != "":
		t.ignore(what)
	case bytes.HasPrefix(content, []byte("PK\x03\x04")), bytes.HasPrefix(content, []byte("PK\x05\x06")), isArchiveName(name):
		t.refuse(fault.Invalid(codeNested, "%s", nestedMessage))
	case bytes.HasPrefix(content, []byte("%PDF-")) && kind == invoicev1.BatchKind_BATCH_KIND_IMPORT:
		t.refuse(fault.Invalid("METADATA_REQUIRED", "a PDF does not say by itself what it is: import it alone, with its metadata"))
	case !endsLikeInvoice(name) && !startsLikeInvoice(content):
		t.ignore(kindByName(name))
	default:
		return false
	}
	return true
}

// startsLikeInvoice reports whether the bytes could be XML or a signed file, whatever the name says.
func startsLikeInvoice(content []byte) bool {
	head := bytes.TrimSpace(bytes.TrimPrefix(content[:min(len(content), 256)], []byte("\xef\xbb\xbf")))
	if bytes.HasPrefix(head, []byte("<!DOCTYPE html")) || bytes.HasPrefix(head, []byte("<html")) {
		return false
	}
	return bytes.HasPrefix(head, []byte("<")) || cms.Looks(content)
}

// sdiMessage says that a file which is no invoice is a message of SdI; empty when it is none.
func sdiMessage(name string, content []byte, why error) string {
	f := fault.Of(why)
	if f.Code != "INVOICE_UNREADABLE" || len(f.Fields) == 0 || (f.Fields[0].Code != "WRONG_ROOT" && f.Fields[0].Code != "NAMESPACE") {
		return ""
	}
	if cms.Looks(content) {
		inner, _, err := cms.Open(content)
		if err != nil {
			return ""
		}
		content = inner
	}
	m, err := sdi.ParseMessage(path.Base(strings.ReplaceAll(name, `\`, "/")), content)
	if err != nil {
		return ""
	}
	if m.Type() == sdi.MT {
		return "the metadata that SdI sends with a file (MT), and no invoice"
	}
	return fmt.Sprintf("a message of SdI (%s), and no invoice", m.Type())
}

func repeatsItself(held []heldNumber) bool {
	if len(held) < 2 {
		return false
	}
	seen := make(map[heldNumber]bool, len(held))
	for _, h := range held {
		if seen[h] {
			return true
		}
		seen[h] = true
	}
	return false
}

// holders finds which numbers are held, by which invoice.
func (s *Service) holders(ctx context.Context, tenant string, admitted []*admission) (map[heldNumber]db.FindHoldersRow, error) {
	p := db.FindHoldersParams{TenantID: tenant}
	for _, a := range admitted {
		for _, h := range a.held {
			p.Issuers, p.Years = append(p.Issuers, h.issuer), append(p.Years, h.year)
			p.Series, p.Numbers = append(p.Series, h.series), append(p.Numbers, h.number)
		}
	}
	if len(p.Numbers) == 0 {
		return nil, nil
	}
	var rows []db.FindHoldersRow
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = q(tx).FindHolders(ctx, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("invoice: find who holds numbers: %w", err)
	}
	out := make(map[heldNumber]db.FindHoldersRow, len(rows))
	for _, r := range rows {
		out[heldNumber{r.Issuer, r.FiscalYear, r.Series, r.Number}] = r
	}
	return out, nil
}

// heldBy says who holds a number.
func heldBy(tenant string, row db.FindHoldersRow) string {
	return fmt.Sprintf("number %q of the same issuer and year is held by %s (%s): change the number, or use that invoice",
		row.Number, name{tenant, row.CompanyID, row.ID}, invoicev1.InvoiceState(row.State))
}

// holdersOf is Conflict INVOICE_DUPLICATE when a number of the file is held.
func (s *Service) holdersOf(ctx context.Context, tenant string, a *admission) error {
	held, err := s.holders(ctx, tenant, []*admission{a})
	if err != nil {
		return err
	}
	for _, row := range held {
		message := heldBy(tenant, row)
		return fault.Conflict("INVOICE_DUPLICATE", "content: %s", message).WithField("content", "00404", message)
	}
	return nil
}

func encodeViolations(list []violation) ([]byte, error) {
	if len(list) == 0 {
		return []byte("[]"), nil
	}
	raw, err := json.Marshal(list[:min(len(list), maxFindings)])
	if err != nil {
		return nil, fmt.Errorf("invoice: violations: %w", err)
	}
	return raw, nil
}

// errBatchEnded ends a run whose batch was cancelled meanwhile.
var errBatchEnded = errors.New("invoice: the batch ended meanwhile")
