package compose

import (
	"fmt"
	"math/big"

	"ceralacca.dev/services/format/fatturapa"
)

// The formats.
const (
	PublicFormat     = "FPA12"
	PrivateFormat    = "FPR12"
	SimplifiedFormat = "FSM10"
)

// Limits of a request: more lines than NumeroLinea can count, and blocks whose
// number nothing else bounds.
const (
	maxLines = 9999
	maxBlock = 1000
	// maxSize is the largest file that SdI takes.
	// spec: AllA-1.9 §1.3.1 (00003)
	maxSize = 5_000_000
)

// composer holds one request on its way.
type composer struct {
	req       Request
	format    string
	docType   string
	recipient string
	w         writer
	problems  []Problem
	report    Report

	lines     []lineSum
	funds     []fundSum
	summaries []summarySum
	withheld  []*big.Rat
	total     *big.Rat // ImportoTotaleDocumento
	payable   *big.Rat
}

// Compose writes the XML of a document in UTF-8, without signature. The same
// request always gives the same bytes. A request that cannot be composed gives an
// [*Error] with every problem found; the report then holds what was computed
// until then.
func Compose(r Request) (xml []byte, report Report, err error) {
	c := &composer{req: r}
	xml = c.build()
	if len(c.problems) > 0 {
		return nil, c.report, &Error{Problems: c.problems}
	}
	if err := c.prove(xml); err != nil {
		return nil, c.report, err
	}
	return xml, c.report, nil
}

// build writes the document; what is wrong is in c.problems.
func (c *composer) build() []byte {
	c.settle()
	if !c.bounded() {
		return nil
	}
	c.checkParties()
	if c.format == SimplifiedFormat {
		c.simplified()
	} else {
		c.computeTotals()
		c.ordinary()
	}
	if len(c.problems) == 0 && c.w.b.Len() > maxSize {
		c.refuse("00003", "$.attachments", fmt.Sprintf("the document has %d bytes", c.w.b.Len()), fmt.Sprintf("shrink the attachments: at most %d are allowed", maxSize))
	}
	return c.w.b.Bytes()
}

// settle fills in what follows from the rest.
func (c *composer) settle() {
	r := &c.req
	if r.Document.Type == "TD21" || r.Document.Type == "TD27" {
		if r.Buyer == (Party{}) {
			r.Buyer = r.Seller
			r.Buyer.Kind = Business
		}
	}
	c.format = r.Format
	if c.format == "" {
		c.format = PrivateFormat
		if r.Buyer.kind() == PublicBody {
			c.format = PublicFormat
		}
	}
	c.docType = r.Document.Type
	list := documentTypes
	if c.format == SimplifiedFormat {
		list = simplifiedTypes
	}
	if c.docType == "" {
		c.docType = list[0]
	}
	if !in([]string{PublicFormat, PrivateFormat, SimplifiedFormat}, c.format) {
		c.fail("$.format", c.format+" is no format", "use FPA12, FPR12 or FSM10, or leave it empty")
	}
	if !in(list, c.docType) {
		c.fail("$.document.type", c.docType+" is no type of document of "+c.format, "use one of "+list[0]+" to "+list[len(list)-1])
	}
	c.settleRecipient()
	c.report.Format, c.report.DocumentType, c.report.RecipientCode = c.format, c.docType, c.recipient
}

// bounded refuses requests that no document can hold.
func (c *composer) bounded() bool {
	r := &c.req
	if len(r.Lines) == 0 {
		c.fail("$.lines", "there is no line", "give at least one")
		return false
	}
	if len(r.Lines) > maxLines {
		c.fail("$.lines", fmt.Sprintf("%d lines", len(r.Lines)), "divide the document: at most 9999 lines can be numbered")
		return false
	}
	blocks := []struct {
		name string
		n    int
	}{{"document.causes", len(r.Document.Causes)}, {"orders", len(r.Orders)}, {"contracts", len(r.Contracts)}, {"agreements", len(r.Agreements)},
		{"receptions", len(r.Receptions)}, {"linkedInvoices", len(r.LinkedInvoices)}, {"workProgress", len(r.WorkProgress)},
		{"deliveries", len(r.Deliveries)}, {"funds", len(r.Funds)}, {"withholdings", len(r.Withholdings)}, {"payments", len(r.Payments)},
		{"attachments", len(r.Attachments)}}
	ok := true
	for _, b := range blocks {
		if b.n > maxBlock {
			c.fail("$."+b.name, fmt.Sprintf("%d elements", b.n), fmt.Sprintf("at most %d are taken", maxBlock))
			ok = false
		}
	}
	return ok
}

// prove lets the checker judge the result. An error there is one that this
// package should have found in the request; it is still no document to send.
func (c *composer) prove(xml []byte) error {
	f, err := fatturapa.Parse(xml)
	if err != nil {
		return fmt.Errorf("reading back the composed invoice: %w", err)
	}
	checked := fatturapa.Check(f, fatturapa.Options{})
	c.report.Warnings = checked.Warnings()
	wrong := &Error{}
	for _, x := range checked.Errors() {
		wrong.Problems = append(wrong.Problems, Problem{Path: x.XPath, What: x.Message.EN + " [" + x.Actual + "]", Hint: x.Hint.EN, Code: x.Code})
	}
	if len(wrong.Problems) > 0 {
		return wrong
	}
	return nil
}
