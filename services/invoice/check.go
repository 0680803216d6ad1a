package invoice

import (
	"fmt"
	"time"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/internal/fault"
)

// maxFindings bounds the list in one answer.
const maxFindings = 100

// check applies the controls that can be decided without the registers of SdI, as they are in force
// now. Errors refuse the file, INVOICE_INVALID, with one field violation each; warnings come back.
// The name of the file is not known yet, and numbers used before are refused when it is stored.
func check(file *fatturapa.File, now time.Time) ([]violation, error) {
	report := fatturapa.Check(file, fatturapa.Options{At: now})
	failed := report.Errors()
	if len(failed) == 0 {
		return violations(report.Warnings()), nil
	}
	f := fault.Invalid("INVOICE_INVALID", "content: SdI would refuse this file: %d error(s), the first: %s", len(failed)+report.Omitted, explain(&failed[0]))
	for i := range failed {
		if i == maxFindings {
			f.Message += fmt.Sprintf("; %d are not shown", len(failed)-maxFindings+report.Omitted)
			break
		}
		f = f.WithField("content", failed[i].Code, explain(&failed[i]))
	}
	return nil, f
}

// explain says on one line what is wrong, where, and how to mend it.
func explain(f *fatturapa.Finding) string {
	s := f.Code + ": " + f.Message.EN
	if f.XPath != "" {
		s += " at " + f.XPath
	}
	if f.Line > 0 {
		s += fmt.Sprintf(" (line %d)", f.Line)
	}
	if f.Actual != "" || f.Expected != "" {
		s += fmt.Sprintf(": found %q, expected %q", f.Actual, f.Expected)
	}
	if f.Hint.EN != "" {
		s += ": " + f.Hint.EN
	}
	return s
}

func violations(findings []fatturapa.Finding) []violation {
	out := make([]violation, 0, min(len(findings), maxFindings))
	for i := range findings {
		if i == maxFindings {
			break
		}
		f := &findings[i]
		out = append(out, violation{Code: f.Code, Severity: string(f.Severity), Message: f.Message.EN, Hint: f.Hint.EN,
			XPath: f.XPath, Line: f.Line, Actual: f.Actual, Expected: f.Expected, JSONPath: f.JSONPath, Clause: f.Clause})
	}
	return out
}
