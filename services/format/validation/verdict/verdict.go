// Package verdict shows a validation report to people, in Italian or English: as a page of HTML, as a
// PDF, and as JSON for programs.
//
// It owns the order and the words; the dress is that of render, so a report looks like the views
// of invoices. It refuses to judge: nothing is here that the report does not say. Sentences that
// tell the detail are English in both languages, and marked so; the verdicts, the sub-indications
// and their meaning are not.
package verdict

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/format/fatturapa/render"
	"ceralacca.dev/services/format/validation"
)

// File is what the report is about.
type File struct {
	Name   string // "": not said
	Size   int64  // bytes
	SHA256 []byte
	// Notes are what the reader must know beside the report, for instance a trusted list that could
	// not be had.
	Notes []string
}

// Options chooses language and dress; see render.Options.
type Options struct {
	Lang   string // "it" or "en"; "" is Italian
	Logo   []byte
	Accent string
}

// HTML writes the report as a page that stands alone. Errors: options that cannot be used, and w's.
func HTML(w io.Writer, r *validation.Report, f File, o Options) error {
	return of(r, f, o.Lang).HTML(w, render.Options{Lang: o.Lang, Logo: o.Logo, Accent: o.Accent})
}

// PDF writes the report as pages. Errors: as of HTML.
func PDF(w io.Writer, r *validation.Report, f File, o Options) error {
	return of(r, f, o.Lang).PDF(w, render.Options{Lang: o.Lang, Logo: o.Logo, Accent: o.Accent})
}

// JSON writes the report for programs; lang is of the field text.
func JSON(w io.Writer, r *validation.Report, f File, lang string) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	err := e.Encode(struct {
		File   string `json:"file,omitempty"`
		Size   int64  `json:"size"`
		SHA256 string `json:"sha256"`
		*validation.Report
		Text  string   `json:"text"`
		Notes []string `json:"notes,omitempty"`
	}{f.Name, f.Size, hex.EncodeToString(f.SHA256), r, Pick(r.Text(), lang), f.Notes})
	if err != nil {
		return fmt.Errorf("verdict: writing the report: %w", err)
	}
	return nil
}

// Pick gives a text in a language; everything but "en" is Italian.
func Pick(t validation.Text, lang string) string {
	if lang == "en" {
		return t.EN
	}
	return t.IT
}

// writer turns a report into the parts of a page.
type writer struct{ lang string }

func (w writer) say(word string) string { return Word(word, w.lang) }

func of(r *validation.Report, f File, lang string) *render.Page {
	if lang == "" {
		lang = "it"
	}
	w := writer{lang}
	name := f.Name
	if name == "" {
		name = w.say("file without a name")
	}
	g := &render.Page{
		Title: w.say("validation report") + " · " + name, Heading: w.say("validation report"), Author: "Ceralacca",
		Date: r.At.UTC().Format(time.DateOnly), Foot: w.say("foot"), Notes: f.Notes,
	}
	head := fields{w: w}
	head.chief("verdict", Pick(r.Verdict.Word(), lang))
	head.conclusion(r.Conclusion)
	head.add("kind", r.Kind)
	head.time("time of judgement", r.At)
	head.add("size", strconv.FormatInt(f.Size, 10)+" byte")
	head.add("SHA-256", hex.EncodeToString(f.SHA256))
	if r.Extracted != nil {
		head.add("content", strconv.FormatInt(r.Extracted.Size(), 10)+" byte")
	}
	first := render.Part{Title: name, Sections: []render.Section{{Fields: head.list, Lines: w.warnings(r.Warnings)}}}
	g.Parts = append(g.Parts, first)
	for i := range r.Signatures {
		g.Parts = append(g.Parts, w.signature(i+1, &r.Signatures[i]))
	}
	for i := range r.Stamps {
		g.Parts = append(g.Parts, render.Part{Title: w.say("time stamp") + " " + strconv.Itoa(i+1), Sections: w.stamp("", &r.Stamps[i])})
	}
	return g
}

// fields gathers names and values; empty values are left out.
type fields struct {
	w    writer
	list []render.Field
}

func (f *fields) add(word, value string) {
	if value != "" {
		f.list = append(f.list, render.Field{Name: sentence(f.w.say(word)), Value: value})
	}
}

func (f *fields) chief(word, value string) {
	f.list = append(f.list, render.Field{Name: sentence(f.w.say(word)), Value: value, Chief: true})
}

func (f *fields) time(word string, t time.Time) {
	if !t.IsZero() {
		f.add(word, t.UTC().Format("2006-01-02 15:04:05")+" UTC")
	}
}

func (f *fields) conclusion(c validation.Conclusion) {
	if c.Sub != "" {
		f.add("sub-indication", string(c.Sub))
	}
	f.add("meaning", Pick(c.Text(), f.w.lang))
	f.add("detail", c.Reason)
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	r := []rune(s)
	return strings.ToUpper(string(r[:1])) + string(r[1:])
}

func (w writer) warnings(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, sentence(w.say("warning"))+": "+s)
	}
	return out
}

func (w writer) signature(n int, s *validation.Signature) render.Part {
	f := fields{w: w}
	f.chief("verdict", Pick(s.Verdict.Word(), w.lang))
	f.conclusion(s.Conclusion)
	if p := s.Signer; p != nil {
		f.add("signer", p.Name)
		f.add("id", p.ID)
		f.add("organization", p.Organization)
		f.add("country", p.Country)
		f.add("issuer", p.Issuer)
		f.add("serial", p.Serial)
	}
	f.add("form", strings.TrimSpace(s.Form+" "+s.Field))
	if s.CounterSigns > 0 {
		f.add("counter-signature of signature", strconv.Itoa(s.CounterSigns))
	}
	f.add("level", s.Level)
	intact := "no"
	if s.Integrity {
		intact = "yes"
	}
	f.add("intact", w.say(intact))
	f.time("stated time", s.Claimed)
	word := "judged at"
	if s.Proven {
		word = "proven time"
	}
	f.time(word, s.BestTime)
	f.add("qualification", w.say(s.Qualification.Result))
	f.add("detail", s.Qualification.Reason)
	f.add("trust service", strings.TrimSpace(s.Qualification.Country+" "+s.Qualification.Service))
	part := render.Part{Title: fmt.Sprintf("%s %d", sentence(w.say("signature")), n)}
	part.Sections = append(part.Sections, render.Section{Fields: f.list, Lines: w.warnings(s.Warnings)}, w.chain(s.Chain))
	if len(s.Checks) > 0 {
		part.Sections = append(part.Sections, w.checks(s.Checks))
	}
	if len(s.Algorithms) > 0 {
		part.Sections = append(part.Sections, w.algorithms(s.Algorithms))
	}
	for i := range s.Stamps {
		part.Sections = append(part.Sections, w.stamp(fmt.Sprintf("%s %d", sentence(w.say("time stamp")), i+1), &s.Stamps[i])...)
	}
	return part
}

func (w writer) chain(links []validation.Link) render.Section {
	f := fields{w: w}
	for _, l := range links {
		said := l.NotBefore.UTC().Format(time.DateOnly) + " – " + l.NotAfter.UTC().Format(time.DateOnly)
		switch {
		case l.Anchor:
			said += ", " + w.say("trusted")
		case l.Revocation != "":
			said += ", " + w.say("revocation") + ": " + w.say(l.Revocation)
			if l.Source != "" {
				said += " (" + l.Source + ")"
			}
		}
		f.add(l.Subject, said)
	}
	s := render.Section{Heading: sentence(w.say("chain")), Fields: f.list}
	if len(links) == 0 {
		s.Lines = []string{sentence(w.say("no chain"))}
	}
	return s
}

func (w writer) checks(list []validation.Check) render.Section {
	f := fields{w: w}
	for _, c := range list {
		said := w.say(c.Outcome)
		if c.Reason != "" {
			said += " (" + c.Reason + ")"
		}
		f.add(c.Name, said)
	}
	return render.Section{Heading: sentence(w.say("checks")), Fields: f.list}
}

func (w writer) algorithms(list []validation.Algorithm) render.Section {
	f := fields{w: w}
	for _, a := range list {
		said := a.Name
		switch {
		case !a.OK:
			said += ", " + w.say("not relied on")
		case !a.Until.IsZero():
			said += ", " + w.say("relied on until") + " " + a.Until.Format(time.DateOnly)
		}
		f.add(a.Use, said)
	}
	return render.Section{Heading: sentence(w.say("algorithms")), Fields: f.list}
}

func (w writer) stamp(heading string, s *validation.Stamp) []render.Section {
	f := fields{w: w}
	f.add("verdict", Pick(s.Verdict.Word(), w.lang))
	f.conclusion(s.Conclusion)
	f.time("time", s.Time)
	f.add("authority", s.Authority)
	f.add("qualified", w.say(s.Qualified))
	out := []render.Section{{Heading: heading, Fields: f.list}}
	if len(s.Chain) > 0 {
		out = append(out, w.chain(s.Chain))
	}
	return out
}
