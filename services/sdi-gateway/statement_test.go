package sdigateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/client"
)

// A list of SdI's is compared with our books: what differs is said in words, kept for operators, told once, and changes
// no state.
func TestCompareStatement(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	good := b.accept(t, "FPR12", "SBXRC00", "good")
	b.awaitOf(t, good, "InvoiceTransmitted", "InvoiceDelivered")
	b.order(t, client.FaultDrop) // its RC never comes
	silent := b.accept(t, "FPR12", "SBXRC00", "silent")
	b.awaitOf(t, silent, "InvoiceTransmitted")
	other := b.accept(t, "FPR12", "SBXNONE", "other")
	b.awaitOf(t, other, "InvoiceTransmitted")
	left := b.accept(t, "FPR12", "SBXNONE", "left out")
	b.awaitOf(t, left, "InvoiceTransmitted")
	unsent := b.accept(t, "FPR12", "SBXRC00", "unsent")
	b.awaitOf(t, unsent, "InvoiceTransmitted", "InvoiceDelivered")

	of := b.transmission
	req := &sdiv1.CompareStatementRequest{Source: "portal.csv", Lines: []*sdiv1.StatementLine{
		{SdiId: of(t, good).GetSdiId(), FileName: strings.ToLower(of(t, good).GetFileName()), State: "RC"},
		{FileName: strings.TrimSuffix(of(t, unsent).GetFileName(), ".xml"), State: "RICEVUTO"},
		{SdiId: of(t, silent).GetSdiId(), State: "RC"},
		{SdiId: "1", FileName: of(t, other).GetFileName()},
		{FileName: "IT01234567897_ZZZZZ.xml", State: "RC"},
	}, FromTime: timestamppb.New(time.Now().Add(-time.Hour)), ToTime: timestamppb.New(time.Now().Add(time.Hour))}
	compare := func() map[string]*sdiv1.StatementDifference {
		got, err := b.operations().CompareStatement(ctx, req)
		require.NoError(t, err)
		require.EqualValues(t, 2, got.GetAgreed())
		list := map[string]*sdiv1.StatementDifference{}
		for _, d := range got.GetDifferences() {
			list[d.GetCode()] = d
		}
		require.Len(t, list, 4)
		require.Len(t, got.GetDifferences(), 4)
		return list
	}
	got := compare()
	require.Equal(t, silent, got["STATEMENT_MESSAGE_MISSING"].GetInvoice())
	require.Contains(t, got["STATEMENT_MESSAGE_MISSING"].GetMessage(), "SdI has made RC and we have not received it")
	require.Equal(t, other, got["STATEMENT_OTHER_ID"].GetInvoice())
	require.Empty(t, got["STATEMENT_NOT_OURS"].GetInvoice())
	require.Equal(t, left, got["STATEMENT_LACKS"].GetInvoice())
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_SENT, of(t, silent).GetState(), "a list changes no state")
	told := map[string]bool{}
	for range 3 {
		ev, ok := b.await(t).(*sdiv1.StatementDiffered)
		require.True(t, ok)
		require.Equal(t, "portal.csv", ev.GetSource())
		told[ev.GetInvoice()] = true
	}
	require.Equal(t, map[string]bool{silent: true, other: true, left: true}, told)
	for _, d := range compare() {
		require.True(t, d.GetKnown())
	}
	require.Empty(t, b.heard, "each is told once")
	shown, err := sdiv1.NewSdiChannelServiceClient(b.Operator("sdi-gateway")).ListSupportDifferences(ctx, &sdiv1.ListSupportDifferencesRequest{})
	require.NoError(t, err)
	require.Len(t, shown.GetDifferences(), 4)
	require.Equal(t, "portal.csv", shown.GetDifferences()[0].GetSource())
	require.Equal(t, 2, b.audited(t, "sdi.statement"))

	_, err = b.operations().CompareStatement(ctx, &sdiv1.CompareStatementRequest{Source: "x", Lines: []*sdiv1.StatementLine{{State: "RC"}}})
	require.Equal(t, "STATEMENT_LINE", fault.Of(err).Code)
	_, err = sdiv1.NewSdiOperationsServiceClient(b.Tenant("sdi-gateway", "t1")).CompareStatement(ctx, req)
	require.Equal(t, fault.KindDenied, fault.Of(err).Kind)
}
