package invoice

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

func (w *world) check(req *invoicev1.CheckInvoiceRequest) *invoicev1.CheckInvoiceResponse {
	w.t.Helper()
	req.Parent = acmeMain
	resp, err := w.api.CheckInvoice(w.t.Context(), req)
	require.NoError(w.t, err)
	return resp
}

func codesOf(resp *invoicev1.CheckInvoiceResponse) (out []string) {
	for _, v := range resp.GetViolations() {
		out = append(out, v.GetCode()+" "+v.GetSeverity())
	}
	return out
}

func TestCheckInvoice(t *testing.T) {
	w := start(t)
	resp := w.check(&invoicev1.CheckInvoiceRequest{Content: file("1")})
	require.True(t, resp.GetValid())
	require.NotEmpty(t, resp.GetRulePack())
	require.NotEmpty(t, resp.GetNeedsAuthorityData())
	require.Empty(t, resp.GetSignatures())

	wrong := bytes.Replace(file("1"), []byte("<Numero>1<"), []byte("<Numero>A<"), 1)
	resp = w.check(&invoicev1.CheckInvoiceRequest{Content: wrong, LanguageCode: "en"})
	require.False(t, resp.GetValid())
	require.Equal(t, []string{"00425 error"}, codesOf(resp))
	v := resp.GetViolations()[0]
	require.Contains(t, v.GetXpath(), "/DatiGeneraliDocumento/Numero")
	require.Contains(t, v.GetJsonPath(), "DatiGeneraliDocumento.Numero")
	require.NotEmpty(t, v.GetClause())
	italian := w.check(&invoicev1.CheckInvoiceRequest{Content: wrong})
	require.NotEqual(t, v.GetMessage(), italian.GetViolations()[0].GetMessage())

	// The rules are those of the day: a date to come is one until it has come, and TD29 is of 2025.
	td29 := fileOf(fatturapatest.Options{TipoDocumento: "TD29", Data: "2024-06-01"})
	require.False(t, w.check(&invoicev1.CheckInvoiceRequest{Content: td29, Date: "2024-07-01"}).GetValid())
	require.Contains(t, codesOf(w.check(&invoicev1.CheckInvoiceRequest{Content: file("1"), Date: "2026-03-15"})), "00403 error")
	require.NotContains(t, codesOf(w.check(&invoicev1.CheckInvoiceRequest{Content: file("1"), Date: "2026-03-16"})), "00403 error")
	require.Contains(t, codesOf(w.check(&invoicev1.CheckInvoiceRequest{Content: file("1"), FileName: "invoice.xml"})), "00001 error")

	_, err := w.api.CheckInvoice(t.Context(), &invoicev1.CheckInvoiceRequest{Parent: acmeMain, Content: file("1"), Date: "2026-02-30"})
	requireFault(t, err, "DATE_INVALID", "date", "DATE_INVALID")
	_, err = w.api.CheckInvoice(t.Context(), &invoicev1.CheckInvoiceRequest{Parent: acmeMain, Content: []byte("hello")})
	requireFault(t, err, "INVOICE_UNREADABLE", "content", "NOT_XML")
	_, err = w.api.CheckInvoice(t.Context(), &invoicev1.CheckInvoiceRequest{Parent: acmeMain, Content: bytes.Repeat([]byte(" "), maxContent+1)})
	requireFault(t, err, "INVOICE_TOO_LARGE", "content", "00003")
	w.nothingBehind()
}

// Signatures are judged apart, in any wrapping, and never keep the invoice from being judged.
func TestCheckSignedInvoice(t *testing.T) {
	w := start(t)
	h, before := newHand(t), time.Now().Add(-time.Minute)
	twice := h.p7m(h.p7m(file("1"), before), before)
	resp := w.check(&invoicev1.CheckInvoiceRequest{Content: twice})
	require.True(t, resp.GetValid(), "%v", resp)
	require.Len(t, resp.GetSignatures(), 2)
	require.True(t, resp.GetSignatures()[0].GetIntact())
	require.Contains(t, resp.GetSignatures()[0].GetSigner(), "Maria Rossi")
	require.Equal(t, "CAdES", resp.GetSignatures()[0].GetFormat())
	require.NotNil(t, resp.GetSignatures()[0].GetSigningTime())

	broken := h.p7m(file("1"), before)
	broken[bytes.Index(broken, []byte("Acme"))] ^= 1
	resp = w.check(&invoicev1.CheckInvoiceRequest{Content: broken})
	require.False(t, resp.GetValid())
	require.Equal(t, []string{"00102 error"}, codesOf(resp))
	require.False(t, resp.GetSignatures()[0].GetIntact())
	require.NotEmpty(t, resp.GetSignatures()[0].GetProblems())

	resp = w.check(&invoicev1.CheckInvoiceRequest{Content: h.xml(file("1"))})
	require.True(t, resp.GetValid())
	require.Equal(t, "XAdES", resp.GetSignatures()[0].GetFormat())
}

// The ledger of the tenant says what SdI would: a number is used once.
func TestCheckAgainstTheLedger(t *testing.T) {
	w := start(t)
	inv := w.create(file("1"))
	require.True(t, w.check(&invoicev1.CheckInvoiceRequest{Content: file("1")}).GetValid(), "only when asked")
	resp := w.check(&invoicev1.CheckInvoiceRequest{Content: file("1"), UseLedger: true})
	require.Equal(t, []string{"00404 error"}, codesOf(resp))
	require.Equal(t, inv.GetName(), resp.GetViolations()[0].GetExpected())
	for _, free := range [][]byte{file("2"), fileOf(fatturapatest.Options{Numero: "1", Data: "2025-03-16"}), fileOf(fatturapatest.Options{Numero: "1", TipoDocumento: "TD04"})} {
		require.True(t, w.check(&invoicev1.CheckInvoiceRequest{Content: free, UseLedger: true}).GetValid())
	}
	lot := bytes.ReplaceAll(fileOf(fatturapatest.Options{Numero: "5", Bodies: 2}), []byte("<Numero>5/2<"), []byte("<Numero>5<"))
	require.Equal(t, []string{"00409 error"}, codesOf(w.check(&invoicev1.CheckInvoiceRequest{Content: lot, UseLedger: true})))

	w.reject(inv)
	require.True(t, w.check(&invoicev1.CheckInvoiceRequest{Content: file("1"), UseLedger: true}).GetValid(), "given back")
	var sent string // events come in any order: the rejection may be there before the name
	w.eventually(func() bool { sent = w.get(inv.GetName()).GetFileName(); return sent != "" }, "the name that was sent")
	for _, name := range []string{sent, strings.ToLower(sent)} { // a name is never given back
		require.Contains(t, codesOf(w.check(&invoicev1.CheckInvoiceRequest{Content: file("1"), FileName: name, UseLedger: true})), "00002 error")
	}
	require.True(t, w.check(&invoicev1.CheckInvoiceRequest{Content: file("1"), FileName: "IT01234567897_ZZZZZ.xml", UseLedger: true}).GetValid())

	other, err := invoicev1.NewInvoiceServiceClient(w.Tenant("invoice", "brio")).CheckInvoice(t.Context(), &invoicev1.CheckInvoiceRequest{Parent: brioMain, Content: file("1"), UseLedger: true})
	require.NoError(t, err)
	require.True(t, other.GetValid(), "the ledger is of the tenant")
}
