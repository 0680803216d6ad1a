package fatturapa

import (
	"slices"
	"time"
)

// maxFindings is the most errors that a rejection of SdI lists.
//
// spec: MessaggiTypes 1.1 and MessaggiFatturaTypes 1.0, ListaErrori
const maxFindings = 200

// maxSize is the largest file that SdI takes.
const maxSize = 5_000_000

// CheckDigits says what a wrong check digit is worth. The official examples carry
// numbers that fail it, so by default it is a warning.
type CheckDigits uint8

// The ways to treat wrong check digits.
const (
	CheckDigitsWarn CheckDigits = iota
	CheckDigitsOff
	CheckDigitsError
)

// DocumentKey identifies a document as SdI does when it looks for duplicates.
//
// spec: AllA-1.9 App.1, controls 00404 and 00409
type DocumentKey struct {
	Party      string // country and VAT number of the party that issues
	CreditNote bool   // credit notes are compared with credit notes only
	Numero     string
	Year       int  // of Data
	Data       Date // the whole date, for documents with Art73 only
}

// Ledger answers from what the caller has sent before. Nil functions leave the
// controls 00002 and 00404 to SdI.
type Ledger struct {
	// FileNameUsed reports whether a file of this name was ever sent, whatever
	// became of it.
	FileNameUsed func(name string) bool
	// Issued reports whether a document that was neither rejected by SdI nor
	// refused by a public body has this key, and names it.
	Issued func(key DocumentKey) (which string, ok bool)
}

// Options chooses the rules and gives what a file does not say of itself.
type Options struct {
	// At is when SdI receives the file: it selects schema version and rules, and
	// dates after it are errors (00403). Zero means the newest rules and no such
	// check.
	At time.Time
	// FileName is the name under which the file is sent; "" leaves it unchecked.
	FileName string
	// SchemaVersion overrides the version that At selects.
	SchemaVersion string
	// Ledger is what was sent before.
	Ledger Ledger
	// CheckDigits treats wrong check digits of VAT numbers and tax codes.
	CheckDigits CheckDigits
}

// Check judges a file: structure first (00200), then every control that can be
// decided from the file, its name and the ledger. With more than fifty format
// errors no further control is made, as SdI does. It never fails: what cannot be
// judged is not reported as wrong.
func Check(f *File, o Options) *Report {
	day := romeDay(o.At)
	r := &Report{RulePack: packAt(day).name}
	formatErrors := structureInForce(f, o, day, r)
	r.NeedsAuthority = authorityCodes(f, day)
	if formatErrors > maxFormatFindings {
		return r
	}
	c := check{f: f, o: &o, r: r, day: day, pack: packAt(day)}
	c.run()
	return r
}

// structureInForce applies the version of the schema that is in force. While two
// are, a file is well formed if either takes it.
func structureInForce(f *File, o Options, day int, r *Report) int {
	versions := versionsAt(f.Schema, day)
	if o.SchemaVersion != "" && belongs(f.Schema, o.SchemaVersion) {
		versions = []string{o.SchemaVersion}
	}
	best := -1
	for _, v := range versions {
		try := Report{}
		n := checkStructure(f, tableFor(f.Schema, v), &try)
		if best < 0 || n < best {
			best = n
			r.Findings, r.Omitted, r.SchemaVersion = try.Findings, try.Omitted, v
		}
		if n == 0 {
			break
		}
	}
	return best
}

// check is one run over one file.
type check struct {
	f      *File
	o      *Options
	r      *Report
	day    int
	pack   rulePack
	rule   *rule
	body   *Body
	sums   []rateSum // scratch of the summary rules, for the body sumsOf
	sumsOf *Body
}

// run applies every rule that is in force and of the kind of the file. Archive
// files are checked for their structure only: SdI takes them no more, and the
// controls of their time were others.
func (c *check) run() {
	if c.f.Schema == SchemaArchive10 || c.f.Schema == SchemaArchive11 {
		return
	}
	kind := kindOf(c.f)
	for i := range rules {
		c.rule = &rules[i]
		if c.rule.kinds&kind == 0 || c.rule.authority || !c.rule.inForce(c.day) {
			continue
		}
		if c.rule.file != nil {
			c.body = nil
			c.rule.file(c)
			continue
		}
		for j := range c.f.Bodies {
			c.body = &c.f.Bodies[j]
			c.rule.each(c, c.body)
		}
	}
}

// report adds a finding of the current rule, in its own severity. Actual and
// expected are values or names of elements, that need no translation.
func (c *check) report(id NodeID, actual, expected string) {
	c.reportAs(c.rule.severity, id, plain(actual), plain(expected), nil)
}

// reportText is report where words are needed.
func (c *check) reportText(id NodeID, actual, expected Text) {
	c.reportAs(c.rule.severity, id, actual, expected, nil)
}

// dispute adds a warning of the current rule: the case in which the official
// texts disagree. which names the texts.
func (c *check) dispute(id NodeID, actual, expected, which string) {
	c.disputeText(id, plain(actual), plain(expected), which)
}

// disputeText is dispute where words are needed.
func (c *check) disputeText(id NodeID, actual, expected Text, which string) {
	c.reportAs(SeverityWarning, id, actual, expected, func(x *Finding) { x.Clause += "; " + which })
}

// unsure adds a warning that only a register can turn into certainty.
func (c *check) unsure(s Severity, id NodeID, actual, expected Text) {
	c.reportAs(s, id, actual, expected, func(x *Finding) { x.NeedsAuthorityData = true })
}

func (c *check) reportAs(s Severity, id NodeID, actual, expected Text, change func(*Finding)) {
	if len(c.r.Findings) >= maxFindings {
		c.r.Omitted++
		return
	}
	x := Finding{Code: c.rule.code, Severity: s, Message: c.rule.message, Hint: c.rule.hint,
		XPath: c.f.XPath(id), JSONPath: c.f.JSONPath(id), Line: c.f.Line(id),
		Clause: c.rule.clause}
	x.said(actual, expected)
	if change != nil {
		change(&x)
	}
	c.r.Findings = append(c.r.Findings, x)
}

// at returns the element to which a finding points: a child, or the parent when
// the child is missing.
func (c *check) at(parent NodeID, t tag) NodeID {
	if ch := c.f.child(parent, t); ch != 0 {
		return ch
	}
	return parent
}

// kindOf tells the flows apart: the rules differ.
func kindOf(f *File) kinds {
	switch {
	case f.Schema == SchemaSimplified:
		return simplified
	case f.Schema == SchemaArchive10 || f.Schema == SchemaArchive11 || f.Formato() == "FPA12":
		return public
	}
	return private
}

// oneOf reports whether a code is in a list.
func oneOf(code string, list ...string) bool { return slices.Contains(list, code) }
