package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func (c *cli) lookCommand() *cobra.Command {
	return group("look", "How rendered documents of a company look", c.lookGet(), c.lookSet())
}

// lookName is the look of the company that --company names.
func (c *cli) lookName(company string) (string, error) {
	if company == "" {
		return "", usage("no company: give --company or set CERALACCA_COMPANY")
	}
	parent, err := c.within("companies", company)
	return parent + "/look", err
}

func companyFlag(cmd *cobra.Command, company *string) {
	cmd.Flags().StringVar(company, "company", os.Getenv("CERALACCA_COMPANY"), "company whose look it is (CERALACCA_COMPANY)")
}

func (c *cli) lookGet() *cobra.Command {
	var company, output string
	cmd := verb("get", "Show the look of a company", args(), func(ctx context.Context, _ []string) error {
		name, err := c.lookName(company)
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		look, err := api.GetLook(ctx, &invoicev1.GetLookRequest{Name: name})
		if err != nil {
			return err
		}
		if output != "" {
			if len(look.GetLogo()) == 0 {
				return usage("--output: %s has no logo to write", name)
			}
			if err := put(output, shared, look.GetLogo()); err != nil {
				return err
			}
		}
		return c.print(look, func() { c.showLook(look) })
	})
	companyFlag(cmd, &company)
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write the logo to")
	return cmd
}

func (c *cli) lookSet() *cobra.Command {
	var company, logo, etag string
	var look invoicev1.Look
	f := &changes{}
	var cmd *cobra.Command
	cmd = verb("set", "Change the look of a company: what the flags name", args(), func(ctx context.Context, _ []string) error {
		name, err := c.lookName(company)
		if err != nil {
			return err
		}
		mask := &fieldmaskpb.FieldMask{}
		for _, flag := range []struct{ name, path string }{{"logo", "logo"}, {"color", "accent_color"}, {"language", "language_code"}} {
			if cmd.Flags().Changed(flag.name) {
				mask.Paths = append(mask.Paths, flag.path)
			}
		}
		if len(mask.GetPaths()) == 0 {
			return usage("nothing to change: give --logo, --color or --language")
		}
		if logo != "" {
			look.Logo, err = c.readUpTo(logo, largestLogo)
			if err != nil {
				return err
			}
		}
		id, err := f.id()
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		look.Name, look.Etag = name, etag
		changed, err := api.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &look, UpdateMask: mask, RequestId: id})
		if err != nil {
			return repeatError{err, id}
		}
		return c.print(changed, func() { c.showLook(changed) })
	})
	companyFlag(cmd, &company)
	cmd.Flags().StringVar(&logo, "logo", "", "picture, PNG or JPEG of at most 512 KiB; an empty value takes it away")
	cmd.Flags().StringVar(&look.AccentColor, "color", "", "colour of headings, such as #004488; an empty value gives the default back")
	cmd.Flags().StringVar(&look.LanguageCode, "language", "", "it or en")
	cmd.Flags().StringVar(&etag, "etag", "", "change only this version")
	return f.add(cmd, "")
}

// largestLogo is beyond what the service takes; it tells how much that is.
const largestLogo = 4 << 20

func (c *cli) showLook(l *invoicev1.Look) {
	logo := "none"
	if n := len(l.GetLogo()); n > 0 {
		logo = fmt.Sprintf("%d bytes", n)
	}
	c.fields("name", l.GetName(), "logo", logo, "color", l.GetAccentColor(), "language", l.GetLanguageCode(),
		"updated", when(l.GetUpdateTime()), "etag", l.GetEtag())
}

// renderOnline writes an invoice that the server keeps; ceralacca invoice render does the same to a file.
func (c *cli) renderOnline() *cobra.Command {
	var as, output, language string
	cmd := verb("render INVOICE", "Write a courtesy copy of an invoice, HTML or PDF, in the look of its company", args("INVOICE"), func(ctx context.Context, given []string) error {
		name, err := c.invoiceName(given[0])
		if err != nil {
			return err
		}
		if err := need("as", as); err != nil {
			return err
		}
		format, err := enumOf("as", "RENDER_FORMAT_", as, invoicev1.RenderFormat_value)
		if err != nil {
			return err
		}
		if language != "" && language != "it" && language != "en" {
			return usage("--language is it or en, not %q", language)
		}
		api, err := c.invoices()
		if err != nil {
			return err
		}
		page, err := api.RenderInvoice(ctx, &invoicev1.RenderInvoiceRequest{Name: name, Format: invoicev1.RenderFormat(format), LanguageCode: language})
		if err != nil {
			return err
		}
		return c.save(output, page.GetContent(), page)
	})
	cmd.Flags().StringVar(&as, "as", "html", "html or pdf")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; standard output when empty")
	cmd.Flags().StringVar(&language, "language", "", "it or en; that of the look when empty")
	return cmd
}
