package invoice

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
)

func (w *world) render(name string, format invoicev1.RenderFormat, language string) *invoicev1.RenderInvoiceResponse {
	w.t.Helper()
	r, err := w.api.RenderInvoice(w.t.Context(), &invoicev1.RenderInvoiceRequest{Name: name, Format: format, LanguageCode: language})
	require.NoError(w.t, err)
	return r
}

func TestRenderInvoice(t *testing.T) {
	w := start(t)
	inv := w.create(file("R-1/2026"))
	plain := string(w.render(inv.GetName(), 0, "").GetContent())
	require.Contains(t, plain, `<html lang="it">`)
	require.Contains(t, plain, "R-1/2026")
	require.Contains(t, plain, "Acme S.r.l.")
	require.Contains(t, plain, "Copia di cortesia")
	require.NotContains(t, plain, "<img")
	english := w.render(inv.GetName(), invoicev1.RenderFormat_RENDER_FORMAT_HTML, "en")
	require.Equal(t, "text/html; charset=utf-8", english.GetMediaType())
	require.Contains(t, string(english.GetContent()), `<html lang="en">`)

	logo := pngOf(t, 120, 40)
	_, err := w.book("acme").UpdateLook(t.Context(), &invoicev1.UpdateLookRequest{
		Look: &invoicev1.Look{Name: acmeMain + "/look", Logo: logo, AccentColor: "#004488", LanguageCode: "en"}})
	require.NoError(t, err)
	dressed := string(w.render(inv.GetName(), 0, "").GetContent())
	require.Contains(t, dressed, `<html lang="en">`)
	require.Contains(t, dressed, "#004488")
	require.Contains(t, dressed, "data:image/png;base64,"+base64.StdEncoding.EncodeToString(logo))
	require.Contains(t, string(w.render(inv.GetName(), 0, "it").GetContent()), `<html lang="it">`)

	paper := w.render(inv.GetName(), invoicev1.RenderFormat_RENDER_FORMAT_PDF, "")
	require.Equal(t, "application/pdf", paper.GetMediaType())
	require.True(t, bytes.HasPrefix(paper.GetContent(), []byte("%PDF-")))
	require.Equal(t, paper.GetContent(), w.render(inv.GetName(), invoicev1.RenderFormat_RENDER_FORMAT_PDF, "").GetContent(), "the same invoice gives the same bytes")

	// Another company of the tenant has its own look, and none yet.
	twin, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: "tenants/acme/companies/twin", Content: file("R-2/2026")})
	require.NoError(t, err)
	require.NotContains(t, string(w.render(twin.GetName(), 0, "").GetContent()), "<img")
}

// TestRenderEveryFormat: lots and simplified invoices are shown whole.
func TestRenderEveryFormat(t *testing.T) {
	w := start(t)
	lot := w.create(fileOf(fatturapatest.Options{Numero: "L-1", Bodies: 3}))
	page := string(w.render(lot.GetName(), 0, "").GetContent())
	require.Equal(t, 3, strings.Count(page, "<article"))
	require.NotEmpty(t, w.render(lot.GetName(), invoicev1.RenderFormat_RENDER_FORMAT_PDF, "").GetContent())
	small := w.create(fileOf(fatturapatest.Options{Numero: "S-1", Formato: "FSM10"}))
	require.Contains(t, string(w.render(small.GetName(), 0, "").GetContent()), "S-1")
	require.NotEmpty(t, w.render(small.GetName(), invoicev1.RenderFormat_RENDER_FORMAT_PDF, "").GetContent())
}

func TestRenderRefuses(t *testing.T) {
	w := start(t)
	inv := w.create(file("R-3"))
	for name, code := range map[string]string{
		acmeMain + "/invoices/0190a8c0-0000-7000-8000-000000000000":       "INVOICE_NOT_FOUND",
		acmeMain + "/invoices/x":                                          "INVOICE_NOT_FOUND",
		strings.Replace(inv.GetName(), "/main/", "/twin/", 1):             "INVOICE_NOT_FOUND",
		strings.Replace(inv.GetName(), "tenants/acme", "tenants/brio", 1): "FOREIGN_RESOURCE",
	} {
		_, err := w.api.RenderInvoice(t.Context(), &invoicev1.RenderInvoiceRequest{Name: name})
		requireFault(t, err, code, "", "")
	}
	_, err := invoicev1.NewInvoiceServiceClient(w.Tenant("invoice", "brio")).RenderInvoice(t.Context(), &invoicev1.RenderInvoiceRequest{Name: inv.GetName()})
	requireFault(t, err, "FOREIGN_RESOURCE", "", "")

	// An original that is no FatturaPA file, as an import may bring.
	id := inv.GetName()[strings.LastIndexByte(inv.GetName(), '/')+1:]
	replace := func(content, media string) {
		ref := w.stored("acme", content)
		err := w.DB("invoice").Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE document SET uri = $1, media_type = $2 WHERE invoice_id = $3 AND id = 'original'`, ref.URI(), media, id)
			return err
		})
		require.NoError(t, err)
	}
	for content, media := range map[string]string{"%PDF-1.7 an invoice on paper": "application/pdf", "<other/>": "application/xml", "no XML at all": "application/xml"} {
		replace(content, media)
		_, err := w.api.RenderInvoice(t.Context(), &invoicev1.RenderInvoiceRequest{Name: inv.GetName(), Format: invoicev1.RenderFormat_RENDER_FORMAT_PDF})
		requireFault(t, err, "NOT_RENDERABLE", "", "")
		require.Equal(t, fault.KindPrecondition, fault.Of(err).Kind)
		require.ErrorContains(t, err, inv.GetName()+"/documents/original")
	}
}
