package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/compose"
)

// composed is what invoice new says of a request. The names inside totals, changes, advice and problems are
// those of the request.
type composed struct {
	File          string                   `json:"file"`   // the request
	Valid         bool                     `json:"valid"`  // composed, and without a finding of severity error
	Output        string                   `json:"output"` // where the XML went; empty: it is in xml
	XML           string                   `json:"xml,omitempty"`
	Format        string                   `json:"format,omitempty"`
	DocumentType  string                   `json:"document_type,omitempty"`
	RecipientCode string                   `json:"recipient_code,omitempty"`
	Totals        *compose.Totals          `json:"totals,omitempty"`
	StampDuty     *compose.StampDutyReport `json:"stamp_duty,omitempty"`
	Changes       []compose.Change         `json:"changes"` // texts that could not be written as given
	Advice        []compose.Advice         `json:"advice"`  // what is legal and perhaps not meant
	Findings      []checkFinding           `json:"findings"`
	Problems      []compose.Problem        `json:"problems"` // why nothing was composed
}

func (c *cli) newCommand() *cobra.Command {
	var output, at string
	cmd := verb("new FILE", "Compose an invoice from plain data in JSON, offline", args("FILE"), func(_ context.Context, given []string) error {
		day, err := parseTime("at", at)
		if err != nil {
			return err
		}
		raw, err := c.read(given[0])
		if err != nil {
			return err
		}
		request, err := compose.ReadRequest(raw)
		if err != nil {
			return usage("%s: %s; see ceralacca invoice new --help for the form", given[0], jsonInWords(raw, err))
		}
		o := fatturapa.Options{At: c.now()}
		if day != nil {
			o.At = day.AsTime()
		}
		return c.compose(given[0], output, request, o)
	})
	cmd.Long = cmd.Short + `.

FILE is one request in JSON with business data only; - is standard input. Totals, VAT summaries and the conventions for
buyers abroad, consumers and public bodies are worked out. The XML goes to standard output or to the file of -o; what
was transliterated, what seems forgotten (such as stamp duty) and what the rules of SdI find goes to standard error.
With --format json all of it is one object on standard output.

A short request:

  {"transmission": {"progressive": "00001"},
   "seller": {"name": "Officine Rossi S.r.l.", "vatNumber": "01234567897",
     "address": {"street": "Via Roma 1", "postCode": "35122", "city": "Padova", "province": "PD"}},
   "buyer": {"name": "Bianchi S.p.A.", "vatNumber": "07643520567",
     "address": {"street": "Via Milano 2", "postCode": "20121", "city": "Milano", "province": "MI"}},
   "document": {"date": "2026-11-20", "number": "2026/1"},
   "lines": [{"description": "Consulenza", "quantity": "2", "unitPrice": "100.00", "vatRate": "22"}]}

Exit code 0: composed, without errors; 1: the request has a problem, or a rule finds an error; 2: FILE cannot be read.`
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().StringVar(&at, "at", "", "day of sending, such as 2026-05-15: its rules are applied; today when empty")
	return cmd
}

// compose writes the invoice and says what was made of the request.
func (c *cli) compose(name, output string, request compose.Request, o fatturapa.Options) error {
	xml, report, err := compose.Compose(request)
	out := composed{File: name, Output: output, Format: report.Format, DocumentType: report.DocumentType, RecipientCode: report.RecipientCode,
		Changes: report.Changes, Advice: report.Advice}
	var wrong *compose.Error
	switch {
	case errors.As(err, &wrong):
		out.Output, out.Problems = "", wrong.Problems
	case err != nil:
		return usage("%s: %v", name, err)
	default:
		file, err := fatturapa.Parse(xml)
		if err != nil {
			return usage("%s: reading the composed invoice back: %v", name, err)
		}
		checked := fatturapa.Check(file, o)
		out.Valid, out.Totals, out.StampDuty = checked.Valid(), &report.Totals, &report.StampDuty
		for i := range checked.Findings {
			out.Findings = append(out.Findings, findingOf(&checked.Findings[i], "en"))
		}
		if output != "" {
			if err = put(output, shared, xml); err != nil {
				return err
			}
		} else {
			out.XML = string(xml)
		}
	}
	c.showComposed(&out)
	if !out.Valid {
		return quietError(exitRefused)
	}
	return nil
}

// showComposed prints XML and report, in text on two streams.
func (c *cli) showComposed(r *composed) {
	if c.format == formatJSON {
		r.Changes, r.Advice = filled(r.Changes), filled(r.Advice)
		r.Findings, r.Problems = filled(r.Findings), filled(r.Problems)
		printJSON(c.out, r)
		return
	}
	_, _ = io.WriteString(c.out, r.XML)
	say := func(format string, words ...string) {
		safe := make([]any, len(words))
		for i, w := range words {
			safe[i] = printable(w)
		}
		fmt.Fprintf(c.errOut, format+"\n", safe...)
	}
	for _, p := range r.Problems {
		code := ""
		if p.Code != "" {
			code = " " + p.Code
		}
		say("error%s %s: %s\n  mend: %s", code, p.Path, p.What, p.Hint)
	}
	for _, x := range r.Changes {
		say("changed %s: %q is written %q: %s", x.Path, x.From, x.To, x.Reason)
	}
	for _, x := range r.Advice {
		say("advice %s: %s", x.Path, x.Text)
	}
	for _, f := range r.Findings {
		say("%s %s %s: %s [%s]\n  mend: %s", f.Severity, f.Code, f.JSONPath, f.Message, f.Actual, f.Hint)
	}
	if t := r.Totals; t != nil {
		say("%s %s to %s: taxable %s, VAT %s, total %s, to pay %s", r.Format, r.DocumentType, r.RecipientCode, t.Taxable, t.Tax, t.Document, t.Payable)
	}
}

// filled makes an empty list of none, so that JSON has [] and never null.
func filled[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (c *cli) convertCommand() *cobra.Command {
	var output string
	var lossy bool
	cmd := verb("convert FILE", "Turn an invoice into JSON, or that JSON into XML, offline", args("FILE"), func(_ context.Context, given []string) error {
		raw, err := c.read(given[0])
		if err != nil {
			return err
		}
		var content []byte
		if looksLikeJSON(raw) {
			content, err = fatturapa.FromJSON([]byte(strings.TrimPrefix(string(raw), "\uFEFF")))
			if err != nil {
				return usage("%s: %s", given[0], plain(err))
			}
		} else {
			content, err = c.toJSON(given[0], raw, lossy)
			if err != nil {
				return err
			}
		}
		if output == "" {
			_, err = c.out.Write(content)
			return err
		}
		return put(output, shared, content)
	})
	cmd.Long = cmd.Short + `.

FILE is an invoice in XML or signed (.p7m), which becomes JSON, or the JSON that this command writes, which becomes XML;
- is standard input. The keys are the names of the format, every value is a text exactly as in the file, and what the
format lets occur more than once is always an array. Nothing is judged: see ceralacca invoice check.

No data is lost: the JSON becomes an invoice with the same values again. Signatures are left out, with a note on standard
error, since no other form of a file can keep them. What the format does not know (an element or attribute of somebody's
own) has no place in the JSON: it is named and nothing is written, or with --lossy it is left out.

Exit code 0: converted; 1: data would be lost; 2: FILE cannot be read.`
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().BoolVar(&lossy, "lossy", false, "leave out what the format does not know")
	return cmd
}

// looksLikeJSON goes by the first character.
func looksLikeJSON(raw []byte) bool {
	text := strings.TrimLeft(strings.TrimPrefix(string(raw[:min(len(raw), 4096)]), "\uFEFF"), " \t\r\n")
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")
}

// toJSON converts an invoice and says on standard error what is left out.
func (c *cli) toJSON(name string, raw []byte, lossy bool) ([]byte, error) {
	content, err := unwrap(raw)
	if err != nil {
		return nil, usage("%s: %s", name, plain(err))
	}
	file, err := fatturapa.Parse(content)
	if err != nil {
		return nil, usage("%s: %s", name, plain(err))
	}
	if lost := file.JSONLoss(); len(lost) > 0 {
		for _, at := range lost {
			fmt.Fprintf(c.errOut, "ceralacca: %s has no place in the JSON form\n", printable(at))
		}
		if !lossy {
			fmt.Fprintln(c.errOut, "ceralacca: nothing was written; --lossy leaves it out")
			return nil, quietError(exitRefused)
		}
	}
	if file.Signed || len(content) != len(raw) {
		fmt.Fprintln(c.errOut, "ceralacca: the signature is left out: it holds for the original file only")
	}
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(json.RawMessage(file.JSON()))
	return []byte(out.String()), err
}
