package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/render"
)

func (c *cli) renderCommand() *cobra.Command {
	var output, logo string
	var o render.Options
	cmd := verb("render FILE", "Write an invoice as an HTML page to read and print, offline", args("FILE"), func(_ context.Context, given []string) error {
		raw, err := c.read(given[0])
		if err != nil {
			return err
		}
		if logo != "" {
			o.Logo, err = os.ReadFile(logo)
			if err != nil {
				return usage("--logo: %v", err)
			}
		}
		content, err := unwrap(raw)
		if err != nil {
			return usage("%s: %v", given[0], err)
		}
		file, err := fatturapa.Parse(content)
		if err != nil {
			return usage("%s: %v", given[0], err)
		}
		if given[0] != "-" {
			o.FileName = filepath.Base(given[0])
		}
		var page bytes.Buffer
		err = render.HTML(&page, file, o)
		if err != nil {
			return usage("%v", err)
		}
		if output == "" {
			_, err = c.out.Write(page.Bytes())
			return err
		}
		err = os.WriteFile(output, page.Bytes(), 0o644)
		if err != nil {
			return usage("--output: %v", err)
		}
		return nil
	})
	cmd.Long = cmd.Short + `.

FILE is an invoice in XML or signed (.p7m); - is standard input. The page holds every field, all documents of a lot
and the attachments, and no script. Nothing is judged: see ceralacca invoice check for the invoice and ceralacca
inspect for its signature.`
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().StringVar(&o.Lang, "lang", "it", "language of the page: it or en")
	cmd.Flags().StringVar(&logo, "logo", "", "picture for the top: PNG, JPEG, GIF or WebP of at most 512 KiB")
	cmd.Flags().StringVar(&o.Accent, "accent", "", "colour of headings, such as #004488")
	cmd.Flags().BoolVar(&o.Courtesy, "courtesy", false, "mark the page as a courtesy copy")
	return cmd
}
