package fatturapa

import (
	"strconv"
	"strings"
)

// Severity says what a finding means for the file.
type Severity string

// The severities. An error makes SdI reject the file, as far as all official
// texts agree; a warning is the disputed side of a rule, or a local check that
// SdI makes against its registers.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Text is a sentence in the two languages of the package.
type Text struct {
	IT string `json:"it"`
	EN string `json:"en"`
}

// In returns the sentence in a language: "en" is English, all else Italian.
func (t Text) In(lang string) string {
	if lang == "en" {
		return t.EN
	}
	return t.IT
}

// Finding is one thing wrong with a file.
type Finding struct {
	Code     string   `json:"code"`               // permanent code of SdI, e.g. "00423"
	Severity Severity `json:"severity"`           // error or warning
	Message  Text     `json:"message"`            // what is wrong
	Hint     Text     `json:"hint"`               // how to mend it
	XPath    string   `json:"xpath,omitempty"`    // where, e.g. /FatturaElettronica/FatturaElettronicaBody[2]/DatiGenerali
	JSONPath string   `json:"jsonPath,omitempty"` // the same place in the JSON form, e.g. $.FatturaElettronicaBody[1].DatiGenerali
	Line     int      `json:"line,omitempty"`     // from 1; 0 when the finding is about the file
	Actual   string   `json:"actual,omitempty"`   // the value found; words in it are English
	Expected string   `json:"expected,omitempty"` // the value, or kind of value, expected; words in it are English
	// ActualIT and ExpectedIT say the same in Italian; "" when there are no words in
	// Actual and Expected.
	ActualIT   string `json:"actualIT,omitempty"`
	ExpectedIT string `json:"expectedIT,omitempty"`
	Clause     string `json:"clause,omitempty"` // the clause of the official text
	// NeedsAuthorityData marks a local check of what only a register can decide.
	NeedsAuthorityData bool `json:"needsAuthorityData,omitempty"`
}

// ActualIn returns the value found in a language: "en" is English, all else Italian.
func (x *Finding) ActualIn(lang string) string { return either(lang, x.ActualIT, x.Actual) }

// ExpectedIn returns the value expected in a language: "en" is English, all else
// Italian.
func (x *Finding) ExpectedIn(lang string) string { return either(lang, x.ExpectedIT, x.Expected) }

func either(lang, italian, english string) string {
	if lang == "en" || italian == "" {
		return english
	}
	return italian
}

// said is what a finding says of a value: in words of both languages, or as value.
func (x *Finding) said(actual, expected Text) {
	x.Actual, x.Expected = clip(actual.EN), clip(expected.EN)
	if actual.IT != actual.EN {
		x.ActualIT = clip(actual.IT)
	}
	if expected.IT != expected.EN {
		x.ExpectedIT = clip(expected.IT)
	}
}

// plain is a value that reads the same in both languages.
func plain(s string) Text { return Text{s, s} }

// Report is the outcome of checking a file.
type Report struct {
	Findings []Finding
	// Omitted counts the findings beyond the cap.
	Omitted int
	// RulePack is the name of the rules that were applied, e.g. "1.9.1".
	RulePack string
	// SchemaVersion is the version of the schema that was applied, e.g. "1.2.3".
	SchemaVersion string
	// NeedsAuthority lists the codes of the controls that apply to the file and
	// that only SdI can decide, with its registers. The slice is shared: do not
	// write to it.
	NeedsAuthority []string
}

// Valid reports whether there is no finding of severity error.
func (r *Report) Valid() bool {
	for i := range r.Findings {
		if r.Findings[i].Severity == SeverityError {
			return false
		}
	}
	return true
}

// Errors returns the findings of severity error.
func (r *Report) Errors() []Finding { return r.with(SeverityError) }

// Warnings returns the findings of severity warning.
func (r *Report) Warnings() []Finding { return r.with(SeverityWarning) }

func (r *Report) with(s Severity) []Finding {
	var out []Finding
	for i := range r.Findings {
		if r.Findings[i].Severity == s {
			out = append(out, r.Findings[i])
		}
	}
	return out
}

// clip shortens a value for a finding: a jumbo field must not make a jumbo report.
func clip(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}

// JSONPath returns the path of an element in the JSON form: elements that the
// schema lets occur more than once are arrays, counted from 0.
func (f *File) JSONPath(id NodeID) string {
	var chain []NodeID
	for n := id; n != 0; n = f.nodes[n].parent {
		chain = append(chain, n)
	}
	d := f.newestTable().root
	var b strings.Builder
	b.WriteByte('$')
	for i := len(chain) - 1; i >= 0; i-- {
		n := chain[i]
		b.WriteByte('.')
		b.WriteString(f.localName(n))
		index, count := f.place(n)
		repeats := count > 1
		var below *typeDef
		if q := d.position(&f.nodes[n]); q > 0 {
			repeats = repeats || d.pos[q].repeats
			below = d.pos[q].typ
		}
		if repeats {
			b.WriteString("[" + strconv.Itoa(index-1) + "]")
		}
		d = below
	}
	return b.String()
}

// newestTable is the newest version of the schema of the file.
func (f *File) newestTable() *schemaTable {
	return tableFor(f.Schema, versionsAt(f.Schema, 0)[0])
}
