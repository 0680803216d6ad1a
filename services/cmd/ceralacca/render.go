package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/render"
)

// renderings are the formats of invoice render.
var renderings = map[string]func(io.Writer, *fatturapa.File, render.Options) error{"html": render.HTML, "pdf": render.PDF}

func (c *cli) renderCommand() *cobra.Command {
	var format, output, logo string
	var o render.Options
	cmd := verb("render FILE", "Write an invoice as HTML or PDF to read and print, offline", args("FILE"), func(_ context.Context, given []string) error {
		if ext := strings.ToLower(filepath.Ext(output)); format == "" && output != "" && ext != ".html" && ext != ".htm" && ext != ".pdf" {
			return usage("-o %s: a page ends in .html or .pdf; say with --format html or --format pdf what is meant", output)
		}
		if format == "" {
			format = formatOf(output)
		}
		paint, ok := renderings[format]
		if !ok {
			return usage("--format %q is not known: give html or pdf", format)
		}
		readable, err := render.Readable(o.Accent)
		if err != nil {
			return usage("--color: %v", err)
		}
		file, err := c.invoiceFile(given[0])
		if err != nil {
			return err
		}
		if logo != "" {
			o.Logo, err = c.readFlag("--logo", logo, largestFile)
			if err != nil {
				return err
			}
		}
		if given[0] != "-" {
			o.FileName = filepath.Base(given[0])
		}
		var page bytes.Buffer
		err = paint(&page, file, o)
		if err != nil {
			return usage("%s", plain(err))
		}
		if o.Accent != "" && !strings.EqualFold(o.Accent, readable) {
			fmt.Fprintf(c.errOut, "note: %s cannot be read on white; %s is used, which is the same colour darker\n", o.Accent, readable)
		}
		if output == "" {
			_, err = c.out.Write(page.Bytes())
			return err
		}
		return put(output, shared, page.Bytes())
	})
	cmd.Long = cmd.Short + `.

FILE is an invoice in XML or signed (.p7m); - is standard input. Both formats hold every field, all documents of a lot
and the attachments, and no script. Nothing is judged: see ceralacca invoice check for the invoice and ceralacca
inspect for its signature.`
	flags := cmd.Flags()
	flags.StringVar(&format, "format", "", "html or pdf; when empty, as the ending of --output says, else html")
	flags.StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	flags.StringVar(&o.Lang, "lang", "it", "language: it or en")
	flags.StringVar(&logo, "logo", "", "picture for the top: PNG, JPEG, GIF or WebP of at most 512 KiB")
	flags.StringVar(&o.Accent, "color", "", "colour of headings and rules, such as #004488; darkened where it cannot be read on white")
	flags.BoolVar(&o.Courtesy, "courtesy", false, "mark as a courtesy copy")
	return cmd
}

// formatOf guesses what somebody wants from the name of the file.
func formatOf(output string) string {
	if strings.EqualFold(filepath.Ext(output), ".pdf") {
		return "pdf"
	}
	return "html"
}

// invoiceFile reads an invoice, out of its signature if it has one.
func (c *cli) invoiceFile(name string) (*fatturapa.File, error) {
	raw, err := c.read(name)
	if err != nil {
		return nil, err
	}
	content, err := unwrap(raw)
	if err != nil {
		return nil, usage("%s: %s", name, plain(err))
	}
	file, err := fatturapa.Parse(content)
	if err != nil {
		return nil, usage("%s: %s", name, plain(err))
	}
	return file, nil
}
