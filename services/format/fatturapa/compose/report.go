package compose

import (
	"fmt"
	"strings"

	"ceralacca.dev/services/format/fatturapa"
)

// Report says what was made of a request.
type Report struct {
	Format        string `json:"format"`        // FPA12, FPR12 or FSM10
	DocumentType  string `json:"documentType"`  // TD01 to TD29
	RecipientCode string `json:"recipientCode"` // as written
	// Changes are the texts that could not be written as they were given.
	Changes []Change `json:"changes,omitempty"`
	// Advice is what is legal and perhaps not meant.
	Advice    []Advice        `json:"advice,omitempty"`
	Totals    Totals          `json:"totals"`
	StampDuty StampDutyReport `json:"stampDuty"`
	// Warnings are the findings of fatturapa.Check, none of which is an error.
	Warnings []fatturapa.Finding `json:"warnings,omitempty"`
}

// Change is a text that was altered.
type Change struct {
	Path   string `json:"path"` // in the request, e.g. $.lines[0].description
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// Advice is a hint on one place of the request.
type Advice struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Totals are the amounts of the document, with two decimals each.
type Totals struct {
	Taxable      string    `json:"taxable"` // lines and funds, without VAT
	Tax          string    `json:"tax"`
	SplitTax     string    `json:"splitTax"`     // the part of Tax under split payment
	Withholdings string    `json:"withholdings"` // what the buyer keeps back
	Document     string    `json:"document"`     // ImportoTotaleDocumento
	Payable      string    `json:"payable"`      // Document less SplitTax and Withholdings
	Summaries    []Summary `json:"summaries,omitempty"`
}

// Summary is one DatiRiepilogo.
type Summary struct {
	Rate           string `json:"rate"`
	Nature         string `json:"nature,omitempty"`
	Collectability string `json:"collectability,omitempty"`
	LegalReference string `json:"legalReference,omitempty"`
	Rounding       string `json:"rounding,omitempty"`
	Taxable        string `json:"taxable"`
	Tax            string `json:"tax"`
}

// StampDutyReport says whether stamp duty is due, as far as the amounts tell.
type StampDutyReport struct {
	Base      string `json:"base"`      // amounts outside VAT that count
	Suggested string `json:"suggested"` // "2.00" when Base is above 77.47, else ""
	Practice  string `json:"practice"`  // what was done: "", "absorbed" or "recharged"
	Amount    string `json:"amount"`    // as written, "" when none
}

// Problem is one reason why a request cannot be composed.
type Problem struct {
	Path string `json:"path"` // in the request
	What string `json:"what"`
	Hint string `json:"hint"`
	Code string `json:"code,omitempty"` // of the control of SdI that would refuse it
}

func (p Problem) String() string {
	s := p.Path + ": " + p.What
	if p.Code != "" {
		s += " (" + p.Code + ")"
	}
	return s + "; " + p.Hint
}

// Error lists everything that is wrong with a request, in the order of the
// document.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return fmt.Sprintf("the invoice cannot be composed: %s", strings.Join(lines, "\n"))
}

// maxProblems bounds the list: after so many the rest is noise.
const maxProblems = 100

// fail notes a problem.
func (c *composer) fail(path, what, hint string) { c.refuse("", path, what, hint) }

// refuse notes a problem that a control of SdI would find.
func (c *composer) refuse(code, path, what, hint string) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, Problem{Path: path, What: what, Hint: hint, Code: code})
	}
}

// advise notes a hint.
func (c *composer) advise(path, text string) {
	c.report.Advice = append(c.report.Advice, Advice{Path: path, Text: text})
}

// changed notes an altered text.
func (c *composer) changed(path, from, to, reason string) {
	c.report.Changes = append(c.report.Changes, Change{Path: path, From: from, To: to, Reason: reason})
}
