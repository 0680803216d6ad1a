package sdigateway_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/client"
)

func private(code, number string) document {
	return document{Options: fatturapatest.Options{Numero: number, CodiceDestinatario: code}}
}

// message delivers a message of the public bodies' flow about a file, as SdI would have written it.
func (b *bundle) message(t *testing.T, about *sdiv1.Transmission, content sdi.Contenuto, when time.Time) {
	t.Helper()
	h := content.Testa()
	h.IdentificativoSdI, h.NomeFile, h.DataOraRicezione, h.MessageID = about.GetSdiId(), about.GetFileName(), when, "1"
	xml, err := sdi.WriteMessage(content, sdi.SchemaPA)
	require.NoError(t, err)
	name := sdi.NewMessageName(about.GetFileName(), content.Tipo(), 1).XMLName()
	op, ok := sdi.OperationFor(content.Tipo())
	require.True(t, ok)
	caller := &sdi.Client{HTTP: b.httpClient(t, true), URL: "https://" + b.callback + "/"}
	require.NoError(t, caller.Notifica(context.Background(), op, sdi.FileSdI{IdentificativoSdI: about.GetSdiId(), NomeFile: name, File: xml}))
}

// public sends an FPA12 file about which the sandbox says nothing: its message is dropped.
func (b *bundle) public(t *testing.T, number string) *sdiv1.Transmission {
	t.Helper()
	_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: client.FaultDrop, Count: 1})
	require.NoError(t, err)
	invoice := b.acceptDocument(t, document{Options: fatturapatest.Options{Formato: "FPA12", Numero: number, CodiceDestinatario: "SBXNON"}})
	require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	return b.transmission(t, invoice)
}

// awaitTerm is the next event, which tells of a term.
func (b *bundle) awaitTerm(t *testing.T, invoice string, kind sdiv1.DeadlineKind, passed bool) {
	t.Helper()
	got, ok := b.await(t).(*sdiv1.DeadlineReached)
	require.True(t, ok)
	require.Equal(t, invoice, got.GetInvoice())
	require.Equal(t, kind, got.GetKind())
	require.Equal(t, passed, got.GetPassed())
}

func (b *bundle) deadlines(t *testing.T, overdue bool) []*sdiv1.Deadline {
	t.Helper()
	list, err := b.operations().ListDeadlines(context.Background(), &sdiv1.ListDeadlinesRequest{Parent: "tenants/t1", Overdue: overdue})
	require.NoError(t, err)
	return list.GetDeadlines()
}

const day = 24 * time.Hour

// Every term on a clock that moves: what is owed by SdI, by the body and by the customer.
func TestTerms(t *testing.T) {
	t.Parallel()
	clock := &testClock{}
	b := setupWith(t, options{now: clock.now, config: "  deadline_every: 100ms\n"})
	ctx := context.Background()

	t.Run("silence of SdI", func(t *testing.T) {
		invoice := b.acceptDocument(t, private("SBXNONE", "silent"))
		require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
		require.Len(t, b.deadlines(t, false), 1)
		require.Empty(t, b.deadlines(t, true))
		clock.advance(6*day + time.Hour)
		b.awaitTerm(t, invoice, sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT, true)
		overdue := b.deadlines(t, true)
		require.Len(t, overdue, 1)
		require.Contains(t, overdue[0].GetAdvice(), "do not send it under another name")
		about := b.transmission(t, invoice)
		_, err := b.operations().ResendTransmission(ctx, &sdiv1.ResendTransmissionRequest{Name: about.GetName(), Reason: "silence"})
		require.Equal(t, "SDI_OUTCOME_KNOWN", fault.Of(err).Code)
		// Months late the receipt comes, and ends it.
		clock.advance(60 * day)
		b.deliver(t, about.GetSdiId(), "IT01234567897_late_RC_001.xml", []byte(strings.ReplaceAll(privateRC, "%FILE%", about.GetFileName())))
		require.IsType(t, &sdiv1.InvoiceDelivered{}, b.await(t))
		require.Empty(t, b.deadlines(t, false))
	})

	t.Run("a discard that nobody corrects", func(t *testing.T) {
		invoice := b.acceptDocument(t, private("SB00423", "wrong"))
		got := b.awaitAll(t, 2)
		by := got["InvoiceDiscarded"].(*sdiv1.InvoiceDiscarded).GetResendByTime().AsTime()
		require.Equal(t, "23:59:59", by.In(sdi.Roma()).Format(time.TimeOnly))
		clock.advance(by.Sub(clock.now()) - 12*time.Hour)
		b.awaitTerm(t, invoice, sdiv1.DeadlineKind_DEADLINE_KIND_RESEND, false)
		clock.advance(13 * time.Hour)
		b.awaitTerm(t, invoice, sdiv1.DeadlineKind_DEADLINE_KIND_RESEND, true)
		require.Len(t, b.deadlines(t, true), 1)
	})

	t.Run("a discard that is corrected", func(t *testing.T) {
		invoice := b.acceptDocument(t, private("SB00423", "wrong again"))
		b.awaitAll(t, 2)
		c := private("SBXRC00", "corrected")
		c.corrects = invoice
		b.acceptDocument(t, c)
		b.awaitAll(t, 2)
		require.Len(t, b.deadlines(t, false), 1, "only the one that nobody corrected")
		clock.advance(6 * day)
		eventually(t, "the end of the term", func() (bool, string) {
			n := b.count(t, "SELECT count(*) FROM transmission WHERE due_at IS NOT NULL")
			return n == 1, "still there"
		})
		require.Empty(t, b.heard, "nothing is told of a term that was kept")
	})

	t.Run("a public body", func(t *testing.T) {
		about := b.public(t, "body")
		b.message(t, about, &sdi.NotificaMancataConsegna{Descrizione: "x"}, clock.now())
		require.IsType(t, &sdiv1.InvoiceNotDelivered{}, b.await(t))
		clock.advance(11*day + time.Hour)
		b.awaitTerm(t, about.GetInvoice(), sdiv1.DeadlineKind_DEADLINE_KIND_ATTESTATION, true)
		b.message(t, about, &sdi.RicevutaConsegna{DataOraConsegna: clock.now(), Destinatario: sdi.Destinatario{Codice: "SBXNON", Descrizione: "x"}}, clock.now())
		require.IsType(t, &sdiv1.InvoiceDelivered{}, b.await(t))
		require.Equal(t, sdiv1.TrafficLight_TRAFFIC_LIGHT_YELLOW, b.transmission(t, about.GetInvoice()).GetLight())
		clock.advance(5 * day) // fifteen days after the notice of the failure
		b.awaitTerm(t, about.GetInvoice(), sdiv1.DeadlineKind_DEADLINE_KIND_OUTCOME, true)
		require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED, b.transmission(t, about.GetInvoice()).GetState(), "silence changes nothing")
		b.message(t, about, &sdi.NotificaDecorrenzaTermini{Descrizione: "x"}, clock.now())
		require.IsType(t, &sdiv1.InvoiceTermExpired{}, b.await(t))
		require.Nil(t, b.transmission(t, about.GetInvoice()).GetDeadline())
	})

	t.Run("pages", func(t *testing.T) {
		for _, number := range []string{"p1", "p2", "p3"} {
			b.acceptDocument(t, private("SBXNONE", number))
			require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
		}
		req := &sdiv1.ListDeadlinesRequest{Parent: "tenants/-", Kind: sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT, PageSize: 2}
		first, err := b.operations().ListDeadlines(ctx, req)
		require.NoError(t, err)
		require.Len(t, first.GetDeadlines(), 2)
		req.PageToken = first.GetNextPageToken()
		second, err := b.operations().ListDeadlines(ctx, req)
		require.NoError(t, err)
		require.Len(t, second.GetDeadlines(), 1)
		require.Empty(t, second.GetNextPageToken())
		req.Kind = sdiv1.DeadlineKind_DEADLINE_KIND_RESEND
		_, err = b.operations().ListDeadlines(ctx, req)
		require.Equal(t, "PAGE_TOKEN_INVALID", fault.Of(err).Code)
	})
}

// A call whose outcome is open is not repeated by a person either; what was given up is.
func TestResend(t *testing.T) {
	t.Parallel()
	b := setupWith(t, options{resendAfter: "1h"})
	ctx := context.Background()
	resend := func(name string) error {
		_, err := b.operations().ResendTransmission(ctx, &sdiv1.ResendTransmissionRequest{Name: name, Reason: "the customer asks"})
		return err
	}
	_, err := b.sandbox.AddFault(ctx, client.Fault{Kind: client.FaultCutAfterAccept, Count: 1})
	require.NoError(t, err)
	invoice := b.acceptDocument(t, private("SBXSLOW", "open"))
	open := b.awaitPending(t, "RETRY", 1)[0]
	require.Equal(t, invoice, open.GetInvoice())
	require.Equal(t, "SDI_OUTCOME_UNKNOWN", fault.Of(resend(open.GetName())).Code)

	_, err = b.sandbox.AddFault(ctx, client.Fault{Kind: client.FaultEI03, Count: 1})
	require.NoError(t, err)
	given := b.acceptDocument(t, private("SBXRC00", "given up"))
	require.Equal(t, "SDI_EI03", b.await(t).(*sdiv1.TransmissionFailed).GetCode())
	eventually(t, "the parked job", func() (bool, string) {
		return b.count(t, "SELECT count(*) FROM parked_event") == 1, "none parked"
	})
	require.NoError(t, resend(b.transmission(t, given).GetName()))
	b.awaitAll(t, 2)
	require.Equal(t, "SDI_OUTCOME_KNOWN", fault.Of(resend(b.transmission(t, given).GetName())).Code)
	require.Equal(t, fault.KindNotFound, fault.Of(resend("tenants/t1/transmissions/"+uuid.NewString())).Kind)
	require.Equal(t, 3, b.audited(t, "transmission.resend"), "refusals too")
	b.once(t, 2)
}

// A message that belongs to nothing is attached by a person's decision, and says so.
func TestClaim(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	for _, kind := range []string{client.FaultWrongHash, client.FaultMalformed} {
		_, err := b.sandbox.AddFault(ctx, client.Fault{Kind: kind, Count: 1})
		require.NoError(t, err)
		b.acceptDocument(t, private("SBXRC00", kind))
		require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	}
	kept := map[string]*sdiv1.Message{}
	eventually(t, "two messages kept aside", func() (bool, string) {
		list, err := b.api.ListUnmatchedMessages(ctx, &sdiv1.ListUnmatchedMessagesRequest{})
		require.NoError(t, err)
		for _, m := range list.GetMessages() {
			code, _, _ := strings.Cut(m.GetProblem(), ":")
			kept[code] = m
		}
		return kept["SDI_HASH_MISMATCH"] != nil && kept["SDI_MESSAGE_UNREADABLE"] != nil, list.String()
	})
	id := kept["SDI_HASH_MISMATCH"].GetSdiId()
	list, err := b.api.ListTransmissions(ctx, &sdiv1.ListTransmissionsRequest{Parent: "tenants/t1"})
	require.NoError(t, err)
	var about *sdiv1.Transmission
	for _, each := range list.GetTransmissions() {
		if each.GetSdiId() == id {
			about = each
		}
	}
	require.NotNil(t, about)
	claim := func(message, transmission string) (*sdiv1.Transmission, error) {
		return b.operations().ClaimMessage(ctx, &sdiv1.ClaimMessageRequest{Name: message, Transmission: transmission, Reason: "compared with the portal"})
	}
	_, err = claim(kept["SDI_MESSAGE_UNREADABLE"].GetName(), about.GetName())
	require.Equal(t, "SDI_MESSAGE_UNREADABLE", fault.Of(err).Code)
	_, err = claim(kept["SDI_HASH_MISMATCH"].GetName(), "tenants/t1/transmissions/"+uuid.NewString())
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind)
	_, err = claim(kept["SDI_HASH_MISMATCH"].GetName(), strings.Replace(about.GetName(), "tenants/t1", "tenants/t2", 1))
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind)
	got, err := claim(kept["SDI_HASH_MISMATCH"].GetName(), about.GetName())
	require.NoError(t, err)
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED, got.GetState())
	require.Equal(t, sdiv1.TrafficLight_TRAFFIC_LIGHT_GREEN, got.GetLight())
	require.Contains(t, got.GetMessages()[0].GetProblem(), "compared with the portal")
	require.IsType(t, &sdiv1.InvoiceDelivered{}, b.await(t))
	_, err = claim(kept["SDI_HASH_MISMATCH"].GetName(), about.GetName())
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind, "once")
	require.Equal(t, 1, b.audited(t, "message.claim"))
}

// What is missing is listed, with the requests that a person can make; what is too recent is said to be.
func TestReconcile(t *testing.T) {
	t.Parallel()
	clock := &testClock{}
	b := setupWith(t, options{now: clock.now})
	ctx := context.Background()
	invoice := b.acceptDocument(t, private("SBXNONE", "old"))
	require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	clock.advance(40 * day)
	b.acceptDocument(t, private("SBXNONE", "recent"))
	require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	clock.advance(7 * day)
	about := b.transmission(t, invoice)
	got, err := b.operations().Reconcile(ctx, &sdiv1.ReconcileRequest{})
	require.NoError(t, err)
	require.Len(t, got.GetMissing(), 2)
	require.Equal(t, about.GetFileName(), got.GetMissing()[0].GetFileName())
	require.Len(t, got.GetRequests(), 1)
	require.Equal(t, []string{about.GetSdiId()}, got.GetRequests()[0].GetSdiIds())
	require.EqualValues(t, 1, got.GetTooRecent())
	require.Equal(t, 1, b.audited(t, "sdi.reconcile"))
	_, err = b.operations().Reconcile(ctx, &sdiv1.ReconcileRequest{FromTime: timestamppb.New(clock.now()), ToTime: timestamppb.New(clock.now().Add(-day))})
	require.Equal(t, "SDI_PERIOD", fault.Of(err).Code)
}

// What a receipt's signature is worth is kept beside it; it decides nothing.
func TestReceiptSignatures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		fault string
		want  sdiv1.MessageSignature_Verdict
	}{
		{"", sdiv1.MessageSignature_VERDICT_HOLDS},
		{client.FaultBadSig, sdiv1.MessageSignature_VERDICT_BROKEN},
		{client.FaultUnsigned, sdiv1.MessageSignature_VERDICT_ABSENT},
	} {
		if c.fault != "" {
			_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: c.fault, Count: 1})
			require.NoError(t, err)
		}
		invoice := b.acceptDocument(t, private("SBXRC00", "s"+c.fault))
		b.awaitAll(t, 2)
		m := b.transmission(t, invoice).GetMessages()[0]
		require.Equal(t, c.want, m.GetSignature().GetVerdict(), m.String())
		if c.want == sdiv1.MessageSignature_VERDICT_HOLDS {
			require.Contains(t, m.GetSignature().GetSigner(), "SANDBOX")
			require.False(t, m.GetSignature().GetTrusted(), "no authority is configured")
			require.NotNil(t, m.GetSignature().GetSigningTime())
		}
	}
}
