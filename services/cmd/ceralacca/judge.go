package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/signature"
)

// shrink is what to do about a file that was not read to its end.
var shrink = fatturapa.Text{IT: "Ridurre gli allegati o dividere il lotto", EN: "Shrink the attachments or split the lot"}

// judge reads and checks one file. What is wrong with its signatures is told apart.
func (k *checker) judge(u *checkUnit) checked {
	r := checked{File: u.name}
	f, err := u.open()
	if err != nil {
		r.Error = inWords(err)
		return r
	}
	raw, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	_ = f.Close() // nothing was written
	if err != nil {
		r.Error = inWords(err)
		return r
	}
	if len(raw) > largestFile {
		x := signature.Refusal(&fatturapa.ParseError{Code: fatturapa.ErrTooLarge})
		x.Actual, x.Hint = fmt.Sprintf("> %d", largestFile), shrink
		r.refuse(k.lang, x)
		return r
	}
	file, err := signature.Read(raw, signature.Options{At: k.at, Roots: k.roots})
	if err != nil {
		k.unread(&r, u, raw, err)
		return r
	}
	o := fatturapa.Options{At: k.at, CheckDigits: k.digits}
	if k.names && u.name != "-" {
		o.FileName = path.Base(filepath.ToSlash(u.name))
	}
	k.describe(&r, file, fatturapa.Check(file.Invoice, o))
	return r
}

// describe writes the two reports into the outcome.
func (k *checker) describe(r *checked, file *signature.File, report *fatturapa.Report) {
	valid := report.Valid()
	r.Format, r.Documents, r.Rules, r.Omitted = file.Invoice.Formato(), len(file.Invoice.Bodies), report.RulePack, report.Omitted
	r.NeedsAuthority = report.NeedsAuthority
	for i := range report.Findings {
		r.Findings = append(r.Findings, findingOf(&report.Findings[i], k.lang))
	}
	r.SignatureWarnings = file.Report.Warnings
	for i := range file.Report.Signatures {
		r.Signatures = append(r.Signatures, describeSignature(&file.Report.Signatures[i]))
		r.SignatureWarnings = append(r.SignatureWarnings, file.Report.Signatures[i].Warnings...)
	}
	for i := range file.Report.Findings {
		x := findingOf(&file.Report.Findings[i], k.lang)
		r.SignatureFindings = append(r.SignatureFindings, x)
		if k.signatures {
			r.Findings = append(r.Findings, x)
			valid = false
		}
	}
	r.Valid = &valid
}

// findingOf is a finding in one language.
func findingOf(x *fatturapa.Finding, lang string) checkFinding {
	return checkFinding{
		Code: x.Code, Severity: string(x.Severity), Message: x.Message.In(lang), Hint: x.Hint.In(lang), XPath: x.XPath, JSONPath: x.JSONPath,
		Line: x.Line, Actual: x.ActualIn(lang), Expected: x.ExpectedIn(lang), Clause: x.Clause, NeedsAuthorityData: x.NeedsAuthorityData,
	}
}

// unread tells a message of SdI that lies beside invoices from an invoice that cannot be read.
func (k *checker) unread(r *checked, u *checkUnit, raw []byte, err error) {
	var parse *fatturapa.ParseError
	if errors.As(err, &parse) && u.inside && (parse.Code == fatturapa.ErrRoot || parse.Code == fatturapa.ErrNamespace) {
		content, _, _ := signature.Unwrap(raw) // it was unwrapped before
		if m, err := sdi.ParseMessage(path.Base(filepath.ToSlash(u.name)), content); err == nil {
			r.Skipped = fatturapa.Text{IT: "un messaggio del SdI (", EN: "a message of SdI ("}.In(k.lang) + string(m.Type()) + ")"
			return
		}
	}
	r.refuse(k.lang, signature.Refusal(err))
}

// unwrap takes the invoice out of its signature envelopes, if it is in one.
func unwrap(raw []byte) ([]byte, error) {
	content, _, err := signature.Unwrap(raw)
	var broken *signature.EnvelopeError
	if errors.As(err, &broken) {
		return nil, broken.Err // says it all
	}
	return content, err
}

// refuse makes the outcome of a file that SdI would refuse unread.
func (r *checked) refuse(lang string, x fatturapa.Finding) {
	invalid := false
	r.Valid = &invalid
	r.Findings = append(r.Findings, findingOf(&x, lang))
}
