package sdigateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/sandbox/client"
)

// world is a gateway and an exchange whose clocks move together, as the one of the real world does.
type world struct {
	*bundle
	clock *testClock
	early []proto.Message // heard before those that were waited for: events of two types have no order
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{clock: &testClock{}}
	w.bundle = setupWith(t, options{now: w.clock.now, config: "  deadline_every: 100ms\n"})
	t.Cleanup(func() { assert.Empty(t, w.early, "events that nothing waited for") })
	return w
}

// pass lets time go by for both.
func (w *world) pass(t *testing.T, by time.Duration) {
	t.Helper()
	w.clock.advance(by)
	_, err := w.sandbox.Advance(t.Context(), by)
	require.NoError(t, err)
}

// comes waits for the event of this type, which must be about this invoice.
func comes[E proto.Message](t *testing.T, w *world, invoice string) E {
	t.Helper()
	is := func(ev proto.Message) bool { _, ok := ev.(E); return ok }
	for !slices.ContainsFunc(w.early, is) {
		w.early = append(w.early, w.await(t))
	}
	i := slices.IndexFunc(w.early, is)
	ev := w.early[i]
	w.early = slices.Delete(w.early, i, i+1)
	about, ok := ev.(interface{ GetInvoice() string })
	require.True(t, ok)
	require.Equal(t, invoice, about.GetInvoice())
	return ev.(E) //nolint:forcetypeassert // it was chosen by its type
}

func (w *world) publicTo(t *testing.T, code, number string) string {
	t.Helper()
	invoice := w.acceptDocument(t, document{Options: fatturapatest.Options{Formato: "FPA12", Numero: number, CodiceDestinatario: code}, signed: true})
	comes[*sdiv1.InvoiceTransmitted](t, w, invoice)
	return invoice
}

// The waits of the exchange, one after the other, on one clock: what SdI says comes when it must, and what it does not
// say is told by the gateway.
func TestWaitsOfTheExchange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("no outcome in five days", func(t *testing.T) {
		invoice := w.acceptDocument(t, private("SBXNONE", "silent"))
		comes[*sdiv1.InvoiceTransmitted](t, w, invoice)
		w.pass(t, 4*day)
		require.Empty(t, w.deadlines(t, true))
		w.pass(t, 2*day)
		w.awaitTerm(t, invoice, sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT, true)
	})
	t.Run("sent again within five days of the NS", func(t *testing.T) {
		invoice := w.acceptDocument(t, private("SB00423", "discarded"))
		got := w.awaitAll(t, 2)
		require.Contains(t, got, "InvoiceDiscarded")
		by := got["InvoiceDiscarded"].(*sdiv1.InvoiceDiscarded).GetResendByTime().AsTime()
		w.pass(t, by.Sub(w.clock.now())-12*time.Hour)
		w.awaitTerm(t, invoice, sdiv1.DeadlineKind_DEADLINE_KIND_RESEND, false)
		again := private("SBXRC00", "corrected")
		again.corrects = invoice
		w.acceptDocument(t, again)
		require.Contains(t, w.awaitAll(t, 2), "InvoiceDelivered")
		w.pass(t, 3*day)
		require.Empty(t, w.heard, "a term that was kept is not told of")
	})
	t.Run("delivery by PEC fails after forty hours of silence", func(t *testing.T) {
		invoice := w.acceptDocument(t, private("SBXMC40", "forty"))
		comes[*sdiv1.InvoiceTransmitted](t, w, invoice)
		w.pass(t, 39*time.Hour)
		require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_SENT, w.transmission(t, invoice).GetState())
		w.pass(t, time.Hour+time.Minute)
		comes[*sdiv1.InvoiceNotDelivered](t, w, invoice)
		require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_AVAILABLE, w.transmission(t, invoice).GetState())
		require.Contains(t, w.transmission(t, invoice).GetLightReason(), "customer is to be told")
	})
	t.Run("delivery by SDICoop fails after four attempts in eighteen hours", func(t *testing.T) {
		invoice := w.acceptDocument(t, private("SBXMC18", "eighteen"))
		comes[*sdiv1.InvoiceTransmitted](t, w, invoice)
		w.pass(t, 18*time.Hour+time.Minute)
		comes[*sdiv1.InvoiceNotDelivered](t, w, invoice)
	})
	t.Run("a public body is silent for fifteen days", func(t *testing.T) {
		invoice := w.publicTo(t, "SBXRC0", "body")
		comes[*sdiv1.InvoiceDelivered](t, w, invoice)
		w.pass(t, 15*day+time.Minute) // SdI counts hours, the gateway whole days: SdI's DT is first
		comes[*sdiv1.InvoiceTermExpired](t, w, invoice)
		require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_TERM_EXPIRED, w.transmission(t, invoice).GetState())
		require.Contains(t, w.transmission(t, invoice).GetLightReason(), "silence is neither")
	})
	t.Run("a public body is silent, and so is SdI", func(t *testing.T) {
		_, err := w.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultDrop, Count: 1, Type: "DT"})
		require.NoError(t, err)
		invoice := w.publicTo(t, "SBXRC0", "nobody")
		comes[*sdiv1.InvoiceDelivered](t, w, invoice)
		w.pass(t, 17*day)
		w.awaitTerm(t, invoice, sdiv1.DeadlineKind_DEADLINE_KIND_OUTCOME, true)
		require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED, w.transmission(t, invoice).GetState())
	})
	t.Run("a public body cannot be reached: MC, then AT after ten days", func(t *testing.T) {
		invoice := w.publicTo(t, "SBXMC0", "unreachable")
		comes[*sdiv1.InvoiceNotDelivered](t, w, invoice)
		require.Equal(t, sdiv1.DeadlineKind_DEADLINE_KIND_ATTESTATION, w.transmission(t, invoice).GetDeadline().GetKind())
		w.pass(t, 10*day+time.Minute)
		comes[*sdiv1.InvoiceAttested](t, w, invoice)
		require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_ATTESTED, w.transmission(t, invoice).GetState())
		require.Nil(t, w.transmission(t, invoice).GetDeadline())
	})
	t.Run("a receipt comes months late", func(t *testing.T) {
		_, err := w.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultDrop, Count: 1, Type: "RC"})
		require.NoError(t, err)
		invoice := w.acceptDocument(t, private("SBXRC00", "late"))
		comes[*sdiv1.InvoiceTransmitted](t, w, invoice)
		w.pass(t, 120*day)
		w.awaitTerm(t, invoice, sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT, true)
		require.NoError(t, w.sandbox.Resend(t.Context(), w.transmission(t, invoice).GetSdiId()))
		comes[*sdiv1.InvoiceDelivered](t, w, invoice)
		require.Equal(t, sdiv1.TrafficLight_TRAFFIC_LIGHT_GREEN, w.transmission(t, invoice).GetLight())
	})
}

// Our own fifteen days: told a day before their end, listed, and told once more when they are over; an answer ends them.
func TestOurOwnTermToAnswer(t *testing.T) {
	t.Parallel()
	r := setupReceiver(t)
	late, _ := r.received(t, "D1", 1)
	answered, _ := r.received(t, "D2", 1)
	for range 2 {
		require.IsType(t, &sdiv1.InboundInvoiceReceived{}, r.await(t))
	}
	_, err := r.answer(t, &sdiv1.SendOutcomeRequest{Name: answered, Kind: accepted})
	require.NoError(t, err)
	r.settled(t, answered)
	require.IsType(t, &sdiv1.InboundOutcomeSettled{}, r.await(t))
	due := func(overdue bool) []string {
		list, err := r.inbound.ListInboundDeadlines(t.Context(), &sdiv1.ListInboundDeadlinesRequest{Parent: "tenants/-", Overdue: overdue})
		require.NoError(t, err)
		var names []string
		for _, f := range list.GetInboundInvoices() {
			names = append(names, f.GetName())
		}
		return names
	}
	require.Equal(t, []string{late}, due(false), "who has answered owes nothing")
	require.Empty(t, due(true))
	file, err := r.inbound.GetInboundInvoice(t.Context(), &sdiv1.GetInboundInvoiceRequest{Name: late})
	require.NoError(t, err)
	for _, passed := range []bool{false, true} {
		at := file.GetAnswerBy().AsTime().Add(-12 * time.Hour)
		if passed {
			at = file.GetAnswerBy().AsTime().Add(time.Hour)
		}
		r.later.Store(int64(time.Until(at)))
		r.poll(t)
		ev, ok := r.await(t).(*sdiv1.InboundDeadlineReached)
		require.True(t, ok)
		require.Equal(t, late, ev.GetInboundInvoice())
		require.Equal(t, passed, ev.GetPassed())
	}
	require.Equal(t, []string{late}, due(true))
	r.poll(t)
	require.Empty(t, r.heard, "each is told once")
	require.Equal(t, 3, r.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'sdi.poll'"))
}

// poll has the gateway look at everything now, as an operator may.
func (r *receiver) poll(t *testing.T) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(r.certs, "operator.key"))
	require.NoError(t, err)
	_, err = sdiv1.NewSdiOperationsServiceClient(r.DialKey("sdi-gateway", string(key))).TriggerPoll(t.Context(), &sdiv1.TriggerPollRequest{})
	require.NoError(t, err)
}

// envelope signs a file as CAdES with a certificate of nobody's: who signed is not what is tested.
func envelope(t *testing.T, content []byte) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	p7m, err := cades.Sign(t.Context(), content, cades.Signer{Chain: []*x509.Certificate{cert}, Key: key}, cades.Options{SigningTime: time.Now()})
	require.NoError(t, err)
	return p7m
}

// A poll gathers at once what waits for a support, and reads again what supports brought.
func TestPollGathers(t *testing.T) {
	t.Parallel()
	b := setup(t, sftpLines(t, "SDIFTP", "gather_for: 1h"))
	invoice := b.accept(t, "FPR12", "SBXRC00", "1")
	eventually(t, "the document that waits", func() (bool, string) {
		n := b.count(t, "SELECT count(*) FROM transmission WHERE support_id IS NULL")
		return n == 1, fmt.Sprint(n)
	})
	require.NoError(t, b.sandbox.PassiveFTP(t.Context(), fiscalID, client.FTPFile{Name: "IT09876543217_00001.xml", Data: []byte("<a/>")}))
	eventually(t, "the file without metadata", func() (bool, string) {
		n := b.count(t, "SELECT count(*) FROM support_document WHERE handed_at IS NULL AND problem <> ''")
		return n == 1, fmt.Sprint(n)
	})
	got, err := b.operations().TriggerPoll(t.Context(), &sdiv1.TriggerPollRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 1, got.GetSupportsGathered())
	require.EqualValues(t, 1, got.GetSupportsReread())
	b.awaitOf(t, invoice, "InvoiceTransmitted", "InvoiceDelivered")
	_, err = sdiv1.NewSdiOperationsServiceClient(b.Tenant("sdi-gateway", "t1")).TriggerPoll(t.Context(), &sdiv1.TriggerPollRequest{})
	require.Error(t, err, "operators only")
}
