package invoice

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/invoice/internal/db"
)

// CompareInvoices lists where two invoices differ, as they were accepted: signatures are left out.
//
// NotFound INVOICE_NOT_FOUND; Precondition NOTHING_TO_COMPARE when no base is given and the invoice
// corrects none.
func (s *Service) CompareInvoices(ctx context.Context, req *invoicev1.CompareInvoicesRequest) (*invoicev1.CompareInvoicesResponse, error) {
	after, row, err := s.parsed(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	base := req.GetBase()
	if base == "" {
		if row.Corrects == nil {
			return nil, fault.Precondition("NOTHING_TO_COMPARE", "%s corrects no other invoice: say with base what it is compared with", req.GetName()).
				WithField("base", "NOTHING_TO_COMPARE", "is needed here")
		}
		base = name{row.TenantID, row.CompanyID, *row.Corrects}.String()
	}
	before, _, err := s.parsed(ctx, base)
	if err != nil {
		return nil, err
	}
	c := comparison{}
	c.elements(before.Root(), after.Root())
	return &invoicev1.CompareInvoicesResponse{Differences: c.found}, nil
}

// parsed reads the original of an invoice.
func (s *Service) parsed(ctx context.Context, resource string) (*fatturapa.File, *db.Invoice, error) {
	n, err := parseName(resource)
	if err != nil {
		return nil, nil, invoiceMissing(resource)
	}
	var row db.Invoice
	var d db.GetDocumentRow
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		row, err = q(tx).GetInvoice(ctx, db.GetInvoiceParams{TenantID: n.tenant, ID: n.id})
		if err != nil {
			return err
		}
		if n.company != "-" && row.CompanyID != n.company {
			return pgx.ErrNoRows
		}
		err = notDestroyed(&row)
		if err != nil {
			return err
		}
		d, err = q(tx).GetDocument(ctx, db.GetDocumentParams{TenantID: n.tenant, InvoiceID: n.id, ID: "original", CompanyID: row.CompanyID})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, invoiceMissing(resource)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("invoice: read %s: %w", resource, err)
	}
	ref, err := blob.ParseURI(d.Uri)
	if err != nil {
		return nil, nil, fmt.Errorf("invoice: stored reference: %w", err)
	}
	content, err := s.blobs.Get(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	xml, _, err := signature.Unwrap(content)
	if err != nil {
		return nil, nil, unreadable(err)
	}
	file, err := fatturapa.Parse(xml)
	if err != nil {
		return nil, nil, unreadable(err)
	}
	return file, &row, nil
}

const (
	// maxDifferences bounds one answer: whoever changed more has written another invoice.
	maxDifferences = 5_000
	// maxShown bounds one value in it; attachments are megabytes.
	maxShown = 1_000
	// maxAligned bounds the work of finding which of many repeated elements is which.
	maxAligned = 4_000_000
	xmlDSig    = "http://www.w3.org/2000/09/xmldsig#"
)

// comparison gathers the differences of two files, in the order of the document.
type comparison struct{ found []*invoicev1.Difference }

func (c *comparison) add(xpath, before, after string) {
	if len(c.found) < maxDifferences {
		c.found = append(c.found, &invoicev1.Difference{Xpath: xpath, Before: shown(before), After: shown(after)})
	}
}

func shown(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "… (" + strconv.Itoa(len(s)) + " bytes)"
}

// elements compares two elements of the same name.
func (c *comparison) elements(before, after fatturapa.Element) {
	for _, attribute := range []string{"versione", "SistemaEmittente"} {
		b, _ := before.Attr(attribute)
		a, _ := after.Attr(attribute)
		if a != b {
			c.add(after.XPath()+"/@"+attribute, b, a)
		}
	}
	if !before.HasChildren() && !after.HasChildren() {
		if b, a := strings.TrimSpace(before.Text()), strings.TrimSpace(after.Text()); b != a {
			c.add(after.XPath(), b, a)
		}
		return
	}
	order, old := grouped(before)
	more, new := grouped(after)
	for _, name := range more {
		if old[name] == nil {
			order = append(order, name)
		}
	}
	for _, name := range order {
		c.siblings(old[name], new[name])
	}
}

// grouped sorts the children of an element by name, names in the order of their first.
func grouped(e fatturapa.Element) (order []string, byName map[string][]fatturapa.Element) {
	byName = map[string][]fatturapa.Element{}
	for child := range e.Children() {
		if child.Namespace() == xmlDSig {
			continue
		}
		if byName[child.Name()] == nil {
			order = append(order, child.Name())
		}
		byName[child.Name()] = append(byName[child.Name()], child)
	}
	return order, byName
}

// siblings compares the children of one name. Equal ones are matched first, so that a line put in the
// middle is one new line and not a change of all that follow; what is left between two matches is compared
// in its order, and the surplus is new or gone.
func (c *comparison) siblings(before, after []fatturapa.Element) {
	var b, a int
	for _, m := range append(matches(before, after), [2]int{len(before), len(after)}) {
		for b < m[0] && a < m[1] {
			c.elements(before[b], after[a])
			b, a = b+1, a+1
		}
		for ; b < m[0]; b++ {
			c.leaves(before[b], func(path, text string) { c.add(path, text, "") })
		}
		for ; a < m[1]; a++ {
			c.leaves(after[a], func(path, text string) { c.add(path, "", text) })
		}
		b, a = m[0]+1, m[1]+1
	}
}

// leaves visits the elements with text of a tree.
func (c *comparison) leaves(e fatturapa.Element, visit func(path, text string)) {
	if !e.HasChildren() {
		visit(e.XPath(), strings.TrimSpace(e.Text()))
		return
	}
	for child := range e.Children() {
		if len(c.found) < maxDifferences {
			c.leaves(child, visit)
		}
	}
}

// matches pairs equal elements of two lists, a longest common subsequence. One each is always a pair, to be
// compared; lists too long for the table are paired by place.
func matches(before, after []fatturapa.Element) [][2]int {
	n, m := len(before), len(after)
	if n == 0 || m == 0 || (n == 1 && m == 1) {
		return nil
	}
	old, now := texts(before), texts(after)
	head := 0
	for head < n && head < m && old[head] == now[head] {
		head++
	}
	tail := 0
	for tail < n-head && tail < m-head && old[n-1-tail] == now[m-1-tail] {
		tail++
	}
	var out [][2]int
	for i := range head {
		out = append(out, [2]int{i, i})
	}
	out = append(out, common(old[head:n-tail], now[head:m-tail], head)...)
	for i := tail; i > 0; i-- {
		out = append(out, [2]int{n - i, m - i})
	}
	return out
}

// common is the longest common subsequence of two lists, shifted by an offset; empty when the table for it
// would be too large.
func common(old, now []string, offset int) (out [][2]int) {
	n, m := len(old), len(now)
	if n == 0 || m == 0 || n*m > maxAligned {
		return nil
	}
	length := make([]uint16, (n+1)*(m+1))
	at := func(i, j int) *uint16 { return &length[i*(m+1)+j] }
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if old[i] == now[j] {
				*at(i, j) = *at(i+1, j+1) + 1
			} else {
				*at(i, j) = max(*at(i+1, j), *at(i, j+1))
			}
		}
	}
	for i, j := 0, 0; i < n && j < m; {
		switch {
		case old[i] == now[j]:
			out = append(out, [2]int{i + offset, j + offset})
			i, j = i+1, j+1
		case *at(i+1, j) >= *at(i, j+1):
			i++
		default:
			j++
		}
	}
	return out
}

// texts writes each tree in one string, so that trees can be told apart.
func texts(list []fatturapa.Element) []string {
	out := make([]string, len(list))
	var b strings.Builder
	for i, e := range list {
		b.Reset()
		canonical(&b, e)
		out[i] = b.String()
	}
	return out
}

func canonical(b *strings.Builder, e fatturapa.Element) {
	b.WriteByte('<')
	b.WriteString(e.Name())
	b.WriteByte('>')
	if !e.HasChildren() {
		b.WriteString(strconv.Quote(strings.TrimSpace(e.Text())))
	}
	for child := range e.Children() {
		canonical(b, child)
	}
	b.WriteString("</>")
}
