package invoice

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
)

// reject lets SdI refuse an invoice, or the public body.
func (w *world) reject(inv *invoicev1.Invoice) *invoicev1.Invoice {
	w.t.Helper()
	w.state("acme", w.events(inv, []facts{factTransmitted, factNS})...)
	return w.becomes(inv.GetName(), invoicev1.InvoiceState_INVOICE_STATE_REJECTED)
}

func (w *world) correct(old *invoicev1.Invoice, req *invoicev1.CorrectInvoiceRequest) (*invoicev1.Invoice, error) {
	req.Name = old.GetName()
	return w.api.CorrectInvoice(w.t.Context(), req)
}

// A rejected invoice is corrected, the correction too, and so on; each knows its neighbours, and all that
// was sent stays.
func TestCorrectionsMakeAChain(t *testing.T) {
	w := start(t)
	first, err := w.createDraft(draft("12/A"), "")
	require.NoError(t, err)
	rejected := w.reject(first)
	require.Len(t, rejected.GetDocuments(), 2)
	require.Zero(t, w.count(`SELECT count(*) FROM held_number`))

	d := draft("")
	d.Document.Date = ""
	d.Lines[0].UnitPrice = "55.00"
	second, err := w.correct(first, &invoicev1.CorrectInvoiceRequest{Draft: d, RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.Equal(t, "12/A 2026-03-16 134.20", strings.Join([]string{second.GetBodies()[0].GetNumber(), second.GetBodies()[0].GetIssueDate(), second.GetBodies()[0].GetTotalAmount()}, " "))
	require.Equal(t, first.GetName(), second.GetCorrects())
	require.NotEqual(t, progressivo.FindString(w.original(first)), progressivo.FindString(w.original(second)))
	old := w.get(first.GetName())
	require.Equal(t, second.GetName(), old.GetCorrectedBy())
	require.Equal(t, invoicev1.InvoiceState_INVOICE_STATE_REJECTED, old.GetState())
	require.Len(t, old.GetDocuments(), 2)
	require.NotEqual(t, rejected.GetEtag(), old.GetEtag())
	require.Equal(t, 1, w.count(`SELECT count(*) FROM held_number WHERE invoice_id = $1`, strings.TrimPrefix(second.GetName(), acmeMain+"/invoices/")), "the number changed hands")

	_, err = w.correct(first, &invoicev1.CorrectInvoiceRequest{Draft: draft("")})
	requireFault(t, err, "ALREADY_CORRECTED", "name", "ALREADY_CORRECTED")
	require.Contains(t, err.Error(), second.GetName())
	_, err = w.correct(second, &invoicev1.CorrectInvoiceRequest{Draft: draft("")})
	requireFault(t, err, "NOT_CORRECTABLE", "name", "NOT_CORRECTABLE")
	require.Contains(t, err.Error(), "INVOICE_STATE_ACCEPTED")

	w.reject(second)
	third, err := w.correct(second, &invoicev1.CorrectInvoiceRequest{Content: file("12/A")})
	require.NoError(t, err)
	require.Equal(t, second.GetName(), third.GetCorrects())
	require.Equal(t, third.GetName(), w.get(second.GetName()).GetCorrectedBy())
	require.Equal(t, second.GetName(), w.get(first.GetName()).GetCorrectedBy(), "the first link stays")
	w.eventually(func() bool { w.n.mu.Lock(); defer w.n.mu.Unlock(); return w.n.accepted[third.GetName()] != nil }, "the correction goes its way")
	w.n.mu.Lock()
	require.Equal(t, second.GetName(), w.n.accepted[third.GetName()].GetCorrects(), "and says what it corrects")
	w.n.mu.Unlock()

	compared, err := w.api.CompareInvoices(t.Context(), &invoicev1.CompareInvoicesRequest{Name: second.GetName()})
	require.NoError(t, err)
	changed := map[string]string{}
	for _, x := range compared.GetDifferences() {
		changed[x.GetXpath()] = x.GetBefore() + " -> " + x.GetAfter()
	}
	body := "/FatturaElettronica/FatturaElettronicaBody"
	require.Equal(t, "50.00 -> 55.00", changed[body+"/DatiBeniServizi/DettaglioLinee/PrezzoUnitario"])
	require.Equal(t, "122.00 -> 134.20", changed[body+"/DatiGenerali/DatiGeneraliDocumento/ImportoTotaleDocumento"])
	require.Contains(t, changed, "/FatturaElettronica/FatturaElettronicaHeader/DatiTrasmissione/ProgressivoInvio")
	require.Len(t, changed, 6, "%v", changed)
	_, err = w.api.CompareInvoices(t.Context(), &invoicev1.CompareInvoicesRequest{Name: first.GetName()})
	requireFault(t, err, "NOTHING_TO_COMPARE", "base", "NOTHING_TO_COMPARE")
	same, err := w.api.CompareInvoices(t.Context(), &invoicev1.CompareInvoicesRequest{Name: first.GetName(), Base: first.GetName()})
	require.NoError(t, err)
	require.Empty(t, same.GetDifferences())
}

func TestCorrectionOfARefusal(t *testing.T) {
	w := start(t)
	content := fileOf(fatturapatest.Options{Formato: "FPA12", Numero: "9"})
	inv := w.create(content)
	_, err := w.correct(inv, &invoicev1.CorrectInvoiceRequest{Content: content})
	requireFault(t, err, "NOT_CORRECTABLE", "name", "NOT_CORRECTABLE")
	w.state("acme", w.events(inv, []facts{factSigned, factTransmitted, factRC, factEC02})...)
	w.becomes(inv.GetName(), invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED)

	name := w.series("pa", "PA{number}")
	d := draft("")
	d.Buyer.Kind, d.Transmission = "publicBody", &invoicev1.Transmission{RecipientCode: "UFABC1"}
	d.Document.Collectability = "S"
	_, err = w.correct(inv, &invoicev1.CorrectInvoiceRequest{Draft: &invoicev1.Draft{}, Series: name})
	require.Equal(t, "DRAFT_INVALID", fault.Of(err).Code)
	require.Empty(t, w.get(inv.GetName()).GetCorrectedBy(), "what is refused leaves nothing behind")
	again, err := w.correct(inv, &invoicev1.CorrectInvoiceRequest{Draft: d, Series: name})
	require.NoError(t, err)
	require.Equal(t, "PA1", again.GetBodies()[0].GetNumber(), "a new number")
	require.Equal(t, inv.GetName(), again.GetCorrects())
}

// Of many at the same time one corrects the invoice; the others learn which.
func TestOneCorrectionAtATime(t *testing.T) {
	w := start(t)
	inv := w.create(file("1"))
	w.reject(inv)
	const n = 20
	made, errs := make([]*invoicev1.Invoice, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { made[i], errs[i] = w.correct(inv, &invoicev1.CorrectInvoiceRequest{Content: file("1")}) })
	}
	wg.Wait()
	var winner *invoicev1.Invoice
	for i := range n {
		if errs[i] == nil {
			require.Nil(t, winner, "two corrections")
			winner = made[i]
		}
	}
	require.NotNil(t, winner)
	for i := range n {
		if errs[i] != nil {
			requireFault(t, errs[i], "ALREADY_CORRECTED", "name", "ALREADY_CORRECTED")
			require.Contains(t, errs[i].Error(), winner.GetName())
		}
	}
}

// The same request at the same time and later has the same answer.
func TestRepeatedCorrectionIsOne(t *testing.T) {
	w := start(t)
	inv := w.create(file("1"))
	w.reject(inv)
	name := w.series("fe", "N{number}")
	req := &invoicev1.CorrectInvoiceRequest{Name: inv.GetName(), Draft: draft(""), Series: name, RequestId: uuid.NewString()}
	const n = 10
	made, errs := make([]*invoicev1.Invoice, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { made[i], errs[i] = w.api.CorrectInvoice(t.Context(), req) })
	}
	wg.Wait()
	for i := range n {
		require.NoError(t, errs[i])
		require.True(t, proto.Equal(made[0], made[i]))
	}
	require.Equal(t, "N1", made[0].GetBodies()[0].GetNumber())
	require.Equal(t, 1, w.count(`SELECT given::int FROM series_year`))
	req.Draft.Lines[0].Quantity = "3"
	_, err := w.api.CorrectInvoice(t.Context(), req)
	requireFault(t, err, "REQUEST_ID_REUSED", "request_id", "REUSED")
	_, err = w.api.CorrectInvoice(t.Context(), &invoicev1.CorrectInvoiceRequest{Name: acmeMain + "/invoices/" + uuid.NewString(), Draft: draft("1")})
	requireFault(t, err, "INVOICE_NOT_FOUND", "", "")
}

func TestLateCorrectionWarns(t *testing.T) {
	in := &intake{rejected: "2026-03-20"}
	for day, warns := range map[string]bool{"2026-03-20": false, "2026-03-25": false, "2026-03-26": true, "2026-04-30": true} {
		at, err := time.Parse(time.DateOnly, day)
		require.NoError(t, err)
		a := &admission{}
		require.NoError(t, in.late(a, at.Add(12*time.Hour)))
		require.Equal(t, warns, len(a.warnings) == 1, day)
	}
	a := &admission{}
	require.NoError(t, (&intake{}).late(a, time.Now()))
	require.Empty(t, a.warnings)
}
