package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/tests/harness"
)

// TestDraftToDelivery: data become an invoice with the next number of a series; SdI rejects it; the
// corrected one takes its number, is another file for SdI, and is delivered. Then a file that the customer
// has signed goes out as it is.
func TestDraftToDelivery(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		hand := terminal{t, p, c.Key, strings.TrimPrefix(c.Tenant, "tenants/")}
		year := time.Now().Format("2006")

		hand.does("series", "create", "fe", "--company", "main", "--pattern", "FE/{year}/{number:03}")
		hand.does("series", "set-next", "fe", year, "41", "--company", "main")
		require.Contains(t, hand.says("series", "ls", "--company", "main"), "FE/{year}/{number:03}")
		hand.refused(3, "SERIES_NOT_FOUND", "series", "get", "none", "--company", "main")

		wrong, right := draftFile(t, "SB00423", "22"), draftFile(t, "SBXRC00", "22.00")
		require.Contains(t, hand.says("invoice", "submit", "--company", "main", "--draft", wrong, "--series", "fe", "--validate-only"), "FE/"+year+"/041")
		sent := hand.does("invoice", "submit", "--company", "main", "--draft", wrong, "--series", "fe")
		first := field(t, sent, "name")
		require.Contains(t, sent, "FE/"+year+"/041")
		_, err = c.AwaitState(ctx, first, false, invoicev1.InvoiceState_INVOICE_STATE_REJECTED)
		require.NoError(t, err)

		corrected := hand.does("invoice", "correct", first, right, "--draft")
		second := field(t, corrected, "name")
		require.Equal(t, first, field(t, corrected, "corrects"))
		require.Contains(t, corrected, "FE/"+year+"/041", "the number stays")
		after, err := c.AwaitState(ctx, second, true, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
		require.NoError(t, err)
		before, err := c.Invoices.GetInvoice(c.Ctx(ctx), &invoicev1.GetInvoiceRequest{Name: first})
		require.NoError(t, err)
		require.Equal(t, second, before.GetCorrectedBy())
		require.NotEqual(t, before.GetFileName(), after.GetFileName())
		require.Len(t, before.GetDocuments(), 3, "what was sent and what SdI said of it stay")
		compared := hand.says("invoice", "compare", second)
		require.Contains(t, compared, "CodiceDestinatario\n  - SB00423\n  + SBXRC00\n")
		hand.refused(1, "ALREADY_CORRECTED", "invoice", "correct", first, right, "--draft")
		hand.refused(1, "NOT_CORRECTABLE", "invoice", "correct", second, right, "--draft")
		require.Contains(t, hand.says("series", "get", "fe", "--company", "main"), year+"  42    1")

		third := field(t, hand.does("invoice", "submit", "--company", "main", signedByHand(ctx, t, c)), "name")
		own, err := c.AwaitState(ctx, third, true, invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(own.GetFileName(), ".xml.p7m"), own.GetFileName())
		for _, d := range own.GetDocuments() {
			require.NotEqual(t, invoicev1.DocumentKind_DOCUMENT_KIND_SIGNED, d.GetKind(), "it was not signed again")
		}

		atSdI, err := c.Sent(ctx)
		require.NoError(t, err)
		require.Equal(t, harness.Sent{Accepted: 3}, atSdI)
		parked, err := c.Parked(ctx)
		require.NoError(t, err)
		require.Empty(t, parked)
	})
}

// draftFile writes the data of an invoice; amounts as numbers and as text.
func draftFile(t *testing.T, code, rate string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "draft.json")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `{
  "transmission": {"recipientCode": %q},
  "seller": {"address": {"street": "Via Roma 1", "postCode": "35122", "city": "Padova", "province": "PD"}},
  "buyer": {"name": "Bianchi S.p.A.", "vatNumber": "07643520567",
    "address": {"street": "Via Milano 2", "postCode": "20121", "city": "Milano", "province": "MI"}},
  "document": {"date": %q},
  "lines": [{"description": "Consulenza", "quantity": 2, "unitPrice": 100.10, "vatRate": %q}]
}`, code, time.Now().Format(time.DateOnly), rate), 0o600))
	return file
}

// signedByHand is an invoice in an envelope that the customer made.
func signedByHand(ctx context.Context, t *testing.T, c *harness.Customer) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SANDBOX own hand"}}, key)
	require.NoError(t, err)
	issued, err := c.Platform.Sandbox.SignCSR(ctx, request, "signing")
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(issued.CertPEM))
	certificate, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	p7m, err := cades.Sign(ctx, c.XML("FPR12", "SBXRC00", "OWN-1"), cades.Signer{Chain: []*x509.Certificate{certificate}, Key: key},
		cades.Options{SigningTime: time.Now().Add(-time.Second)})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "own.xml.p7m")
	require.NoError(t, os.WriteFile(file, p7m, 0o600))
	return file
}
