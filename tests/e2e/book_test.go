package e2e

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/tests/harness"
)

// TestBook fills address book and price list with the command line tool, invoices from them with a draft
// that names them and nothing else, and takes copies for people in the look of the company.
func TestBook(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx := t.Context()
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		user := terminal{t, p, c.Key, c.Tenant}
		fillBook(t, user)

		draft := &invoicev1.Draft{
			Seller: &invoicev1.DraftParty{Contact: c.Tenant + "/contacts/us", VatNumber: c.VAT},
			Buyer:  &invoicev1.DraftParty{Contact: c.Tenant + "/contacts/ferro"},
			Document: &invoicev1.DraftDocument{
				Date: time.Now().Format(time.DateOnly), Number: "B-1",
			},
			Lines: []*invoicev1.Line{{Item: c.Tenant + "/items/hour", Quantity: "3"}, {Item: c.Tenant + "/items/hour", UnitPrice: "100.00", Description: "Ora urgente"}},
		}
		made, err := c.Invoices.CreateInvoice(c.Ctx(ctx), &invoicev1.CreateInvoiceRequest{Parent: c.Company, Draft: draft})
		require.NoError(t, err)
		require.Equal(t, "Ferro & Figli S.r.l.", made.GetBuyer().GetDisplayName())
		require.Equal(t, "SBXRC00", made.GetRecipientCode(), "the file goes where the contact receives")
		require.Equal(t, "414.80", made.GetBodies()[0].GetTotalAmount(), "3 x 80.00 + 100.00, and 22% of VAT")
		_, err = c.AwaitState(ctx, made.GetName(), true, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
		require.NoError(t, err)
		copies(t, user, made.GetName())

		draft.Document.Number, draft.Buyer.Contact = "B-2", c.Tenant+"/contacts/nobody"
		_, err = c.Invoices.CreateInvoice(c.Ctx(ctx), &invoicev1.CreateInvoiceRequest{Parent: c.Company, Draft: draft})
		require.Equal(t, codes.NotFound, status.Code(err), "%v", err)
		require.ErrorContains(t, err, "contacts/nobody")

		// An invoice stays what it was when the book changes.
		user.does("contacts", "delete", "ferro")
		user.refused(3, "CONTACT_NOT_FOUND", "contacts", "get", "ferro")
		require.Contains(t, user.does("invoice", "document", made.GetName(), "original"), "Ferro &amp; Figli S.r.l.")

		other, err := p.Onboard(ctx, 2)
		require.NoError(t, err)
		stranger := terminal{t, p, other.Key, c.Tenant}
		stranger.refused(4, "FOREIGN_RESOURCE", "contacts", "ls")
		stranger.refused(4, "FOREIGN_RESOURCE", "render", made.GetName())
		stranger.refused(4, "FOREIGN_RESOURCE", "look", "get", "--company", "main")
	})
}

func fillBook(t *testing.T, user terminal) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	address := `"address": {"street": "Via del Ferro 3", "post_code": "20121", "city": "Milano", "province": "MI"}`
	ferro := write("ferro.json", `{"party": {"name": "Ferro & Figli S.r.l.", "vat_number": "IT01234567897", `+address+`}, "recipient_code": "SBXRC00", "external_id": "crm-1"}`)
	made := user.does("contacts", "create", "ferro", ferro)
	require.Equal(t, "IT 01234567897", "IT "+strings.TrimPrefix(field(t, made, "VAT number"), "IT "))
	user.refused(1, "CONTACT_EXISTS", "contacts", "create", "ferro", write("same.json", `{"party": {"name": "X", "vat_number": "01234567897", `+address+`}}`))
	user.refused(1, "EXTERNAL_ID_TAKEN", "contacts", "create", "twin", ferro)
	user.refused(1, "CONTACT_INVALID", "contacts", "create", "wrong", write("wrong.json", `{"party": {"name": "X", "vat_number": "01234567890", `+address+`}}`))
	user.does("contacts", "create", "us", write("us.json", `{"party": {"name": "Customer", "vat_number": "01234567897", "tax_regime": "RF01", `+address+`}}`))
	require.Contains(t, user.says("contacts", "ls", "--filter", `display_name:"FERRO"`), "Milano")
	require.Contains(t, user.says("contacts", "get", "ferro"), "SBXRC00")

	stale := write("stale.json", user.does("contacts", "get", "ferro", "--format", "json"))
	require.Equal(t, "crm-2", field(t, user.does("contacts", "update", "ferro", write("id.json", `{"external_id": "crm-2"}`)), "external id"))
	user.refused(5, "ETAG_MISMATCH", "contacts", "update", "ferro", stale)
	user.refused(1, "UPDATE_MASK_INVALID", "contacts", "update", "ferro", write("id.json", `{"external_id": "crm-3"}`), "--fields", "create_time")

	user.does("items", "create", "hour", write("hour.json", `{"line": {"description": "Ora di consulenza", "unit": "h", "unit_price": "75.00", "vat_rate": "22.00"}}`))
	user.refused(1, "ITEM_INVALID", "items", "create", "bad", write("bad.json", `{"line": {"description": "Ora", "unit_price": "1,50"}}`))
	require.Equal(t, "80.00", field(t, user.does("items", "update", "hour", write("price.json", `{"line": {"unit_price": "80.00"}}`), "--fields", "line.unit_price"), "price"))
	require.Contains(t, user.says("items", "ls", "--filter", `description:"consulenza"`), "80.00")
	require.Contains(t, user.says("items", "get", "hour"), "Ora di consulenza")
}

// copies renders an invoice in both formats, before and after the company has a look of its own.
func copies(t *testing.T, user terminal, invoice string) {
	dir := t.TempDir()
	short := invoice[strings.LastIndexByte(invoice, '/')+1:]
	require.Equal(t, "it", field(t, user.says("look", "get", "--company", "main"), "language"))
	var logo bytes.Buffer
	require.NoError(t, png.Encode(&logo, image.NewGray(image.Rect(0, 0, 90, 30))))
	file := filepath.Join(dir, "logo.png")
	require.NoError(t, os.WriteFile(file, logo.Bytes(), 0o600))
	user.does("look", "set", "--company", "main", "--logo", file, "--color", "#004488", "--language", "en")
	user.refused(1, "LOOK_INVALID", "look", "set", "--company", "main", "--color", "#ffff00")
	user.refused(1, "LOOK_INVALID", "look", "set", "--company", "main", "--logo", filepath.Join("testdata", "..", "book_test.go"))
	saved := filepath.Join(dir, "saved.png")
	user.says("look", "get", "--company", "main", "-o", saved)
	back, err := os.ReadFile(saved)
	require.NoError(t, err)
	require.Equal(t, logo.Bytes(), back)

	page := filepath.Join(dir, "invoice.html")
	user.does("render", short, "--as", "html", "-o", page)
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, want := range []string{`<html lang="en">`, "#004488", "data:image/png", "Ferro &amp; Figli S.r.l.", "Courtesy copy", "Ora urgente"} {
		require.Contains(t, string(raw), want)
	}
	paper := filepath.Join(dir, "invoice.pdf")
	user.does("render", short, "--as", "pdf", "-o", paper, "--language", "it")
	raw, err = os.ReadFile(paper)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(raw, []byte("%PDF-")))
	user.refused(3, "INVOICE_NOT_FOUND", "render", "01990000-0000-7000-8000-000000000000")
}
