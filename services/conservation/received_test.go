package conservation

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/bus"
)

// deliver emits events of the gateway about received invoices.
func (h *house) deliver(t *testing.T, events ...proto.Message) {
	t.Helper()
	for _, ev := range events {
		require.NoError(t, h.probe.DB.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			return h.probe.Bus.Emit(bus.WithCorrelation(ctx, "received"), tx, ev)
		}))
	}
}

func (h *house) received(t *testing.T, sdiID, content string) *sdiv1.InboundInvoiceReceived {
	t.Helper()
	name := "IT09876543217_" + sdiID[len(sdiID)-5:] + ".xml"
	return &sdiv1.InboundInvoiceReceived{
		InboundInvoice: company + "/inboundInvoices/" + uuid.NewString(), SdiId: sdiID, FileName: name, Format: "FPR12",
		Original: h.put(t, content), Metadata: h.put(t, "<MT n='"+sdiID+"'/>"), ReceiveTime: timestamppb.New(time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)),
	}
}

func (h *house) unitOf(t *testing.T, subject string) *conservationv1.Unit {
	t.Helper()
	var units []*conservationv1.Unit
	h.await(t, "the unit of "+subject, func() bool {
		list, err := h.client.ListUnits(t.Context(), &conservationv1.ListUnitsRequest{Parent: "tenants/acme", Subject: subject})
		require.NoError(t, err)
		units = list.GetUnits()
		return len(units) > 0
	})
	require.Len(t, units, 1, "one unit for a document")
	return units[0]
}

// A received invoice is one unit with SdI's metadata, however often its event comes; the same IdentificativoSdI as
// issued is another. What the term's end adds joins it. What no reader understands is kept all the same.
func TestReceivedInvoicesAreKept(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	lot := string(fatturapatest.Invoice(fatturapatest.Options{Numero: "R/1", Bodies: 2}))
	first := h.received(t, "30000000001", lot)
	h.deliver(t, first, first, first)
	unit := h.unitOf(t, first.GetInboundInvoice())
	require.Equal(t, "FISC", unit.GetClass())
	require.EqualValues(t, 2026, unit.GetFiscalYear())
	require.Len(t, unit.GetFiles(), 3, "document, MT, metadata")

	own := h.invoice(t, 1)
	own.SdiId = first.GetSdiId()
	h.settle(t, t.Context(), own)
	h.unitOf(t, own.GetInvoice())

	broken := h.received(t, "30000000002", "\x00 no invoice")
	broken.Format, broken.Metadata = "", nil
	h.deliver(t, broken)
	require.Len(t, h.unitOf(t, broken.GetInboundInvoice()).GetFiles(), 2)

	over := &sdiv1.InboundTermExpired{InboundInvoice: first.GetInboundInvoice(), SdiId: first.GetSdiId(), FileName: "IT09876543217_00001_DT_001.xml",
		Content: h.put(t, "<DT/>"), ReceiveTime: timestamppb.Now()}
	h.deliver(t, over, over)
	h.await(t, "the notice in the unit", func() bool { return len(h.unitOf(t, first.GetInboundInvoice()).GetFiles()) == 4 })

	h.closePackage(t)
	h.await(t, "the package", func() bool { _, preserved, _ := h.counts(); return preserved == 3 })
	metadata := h.metadata(t, first.GetInboundInvoice())
	for _, want := range []string{"Fattura passiva", "<TipologiaDiFlusso>E</TipologiaDiFlusso>", "acquisizione di un documento informatico per via telematica",
		"Lotto di 2 fatture", "Metadati di invio SdI (MT)", "Ricevuta SdI DT", "sdi:30000000001"} {
		require.Contains(t, metadata, want)
	}
	var refused int
	require.NoError(t, h.DB("conservation").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM unit WHERE state = 'REFUSED'").Scan(&refused)
	}))
	require.Zero(t, refused)

	late := &sdiv1.InboundTermExpired{InboundInvoice: broken.GetInboundInvoice(), FileName: "IT09876543217_00002_DT_001.xml", Content: h.put(t, "<DT 2/>")}
	h.deliver(t, late)
	h.await(t, "the integration", func() bool {
		list, err := h.client.ListUnits(t.Context(), &conservationv1.ListUnitsRequest{Parent: "tenants/acme", Subject: broken.GetInboundInvoice()})
		require.NoError(t, err)
		return len(list.GetUnits()) == 2
	})
}

// metadata reads the metadata file of a unit as it is kept.
func (h *house) metadata(t *testing.T, subject string) string {
	t.Helper()
	var raw []byte
	require.NoError(t, h.DB("conservation").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT f.content FROM unit_file f JOIN unit u ON u.id = f.unit_id WHERE u.subject = $1 AND f.role = 'metadata'", subject).Scan(&raw)
	}))
	return strings.TrimSpace(string(raw))
}

// The year of a received document is that of its date, unless that cannot be true.
func TestReceivedYear(t *testing.T) {
	t.Parallel()
	at := time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC)
	for date, want := range map[string]int32{"2026-12-31": 2026, "2027-01-02": 2027, "2031-01-01": 2027, "1970-01-01": 2027, "x": 2027} {
		require.Equal(t, want, receivedYear(date, at), date)
	}
}
