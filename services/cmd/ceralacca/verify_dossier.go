package main

import (
	"context"
	"fmt"
	"strings"

	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/validation"
	reports "ceralacca.dev/services/format/validation/verdict"
)

// kindDossier is the kind of the bundle of a signature request.
const kindDossier = "dossier"

// verifyDossier judges the bundle of a signature request.
func (c *cli) verifyDossier(ctx context.Context, j *judgement, file dossier.Source, v *verification, o validation.Options) *judgement {
	switch {
	case v.online:
		j.Error = "a bundle is judged here: leave --online out"
		return j
	case v.report != "":
		j.Error = "--report: of a bundle there is none: use --format json"
		return j
	}
	r, err := dossier.Verify(ctx, file, o)
	if err != nil {
		j.Error = strings.TrimPrefix(err.Error(), "dossier: ")
		return j
	}
	j.Dossier = r
	j.Report = &validation.Report{Conclusion: r.Conclusion, Kind: kindDossier, At: o.At}
	text := j.Report.Text()
	j.Text = text.EN
	if v.lang == "it" {
		j.Text = text.IT
	}
	return j
}

// showDossier shows what a bundle tells, after its verdict.
func (c *cli) showDossier(r *dossier.Report, lang string) {
	pick := func(t validation.Text) string { return reports.Pick(t, lang) }
	for _, f := range r.Faults {
		fmt.Fprintf(c.out, "  ! %s\n", printable(f))
	}
	fmt.Fprintf(c.out, "  %s  %s  %s\n", r.Request.Name, r.Request.State, printable(r.Request.Title))
	for _, one := range []struct {
		name   string
		report *validation.Report
	}{{dossier.SealName, r.Seal}, {dossier.StampName, r.Stamp}} {
		if one.report != nil {
			fmt.Fprintf(c.out, "  %s: %s %s\n", one.name, pick(one.report.Verdict.Word()), one.report.Sub)
		}
	}
	for _, d := range r.Documents {
		fmt.Fprintf(c.out, "  %s: %s %s\n", printable(d.Path), pick(d.Verdict.Word()), d.Sub)
		for i := range d.Signatures {
			s := &d.Signatures[i]
			name := ""
			if s.Signer != nil {
				name = s.Signer.Name
			}
			fmt.Fprintf(c.out, "    %s: %s %s\n", printable(name), pick(s.Verdict.Word()), s.Sub)
		}
	}
	for _, e := range r.Events {
		fmt.Fprintf(c.out, "  %4d  %s  %-10s  %s  %s\n", e.Sequence, e.Time, e.Action, printable(e.Actor), last(e.Participant))
	}
}
