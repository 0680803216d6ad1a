package sdigateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/client"
)

// Boundaries of the channels: the statements between which a killed process may have left something.
var (
	sendingByCoop = []boundary{
		{"reserved", "transmission", "INSERT", ""},
		{"attempt counted, not called", "transmission", "UPDATE", "NEW.attempts > OLD.attempts"},
		{"answered, not recorded", "transmission", "UPDATE", "OLD.sent_at IS NULL AND NEW.sent_at IS NOT NULL"},
		{"receipt in hand, not saved", "message", "INSERT", ""},
		{"receipt saved, not applied", "message", "UPDATE", "OLD.applied_at IS NULL AND NEW.applied_at IS NOT NULL"},
	}
	sendingByFTP = []boundary{
		{"reserved", "transmission", "INSERT", ""},
		{"support named", "support", "INSERT", "NEW.kind = 'FI'"},
		{"support made, not shown", "support", "UPDATE", "NEW.state = 'SHOWN' AND OLD.state = 'GATHERED'"},
		{"support about to be read", "support", "UPDATE", "OLD.opened_at IS NULL AND NEW.opened_at IS NOT NULL"},
		{"support about to be removed", "support", "UPDATE", "OLD.taken_at IS NULL AND NEW.taken_at IS NOT NULL"},
		{"outcome in hand, not saved", "support", "INSERT", "NEW.kind = 'EO'"},
		{"outcome saved, not applied", "support", "UPDATE", "NEW.state = 'ACCEPTED'"},
		{"accepted, not recorded", "transmission", "UPDATE", "OLD.sent_at IS NULL AND NEW.sent_at IS NOT NULL"},
		{"messages in hand, not saved", "support", "INSERT", "NEW.kind = 'FO' AND NEW.state = 'RECEIVED'"},
		{"messages unpacked, not saved", "message", "INSERT", ""},
		{"receipt saved, not applied", "message", "UPDATE", "OLD.applied_at IS NULL AND NEW.applied_at IS NOT NULL"},
	}
	sendingByPost = []boundary{
		{"reserved", "transmission", "INSERT", ""},
		{"message about to be written down", "pec_mailing", "INSERT", ""},
		{"bound, not asked for", "transmission", "UPDATE", "OLD.mailing_id IS NULL AND NEW.mailing_id IS NOT NULL"},
		{"asked for, not told", "pec_mailing", "UPDATE", "OLD.facts & 1 = 0 AND NEW.facts & 1 <> 0"},
		{"delivered, not known", "pec_mailing", "UPDATE", "OLD.facts & 16 = 0 AND NEW.facts & 16 <> 0"},
		{"delivered, not recorded", "transmission", "UPDATE", "OLD.sent_at IS NULL AND NEW.sent_at IS NOT NULL"},
		{"answer of SdI in hand, not known", "pec_arrival", "INSERT", ""},
		{"answer unpacked, not saved", "message", "INSERT", ""},
		{"answer saved, not finished", "pec_arrival", "UPDATE", "NEW.state = 'READ'"},
		{"receipt saved, not applied", "message", "UPDATE", "OLD.applied_at IS NULL AND NEW.applied_at IS NOT NULL"},
	}
	receivingByPost = []boundary{
		{"letter in hand, not known", "pec_arrival", "INSERT", ""},
		{"unpacked, not known", "inbound_file", "INSERT", ""},
		{"file known, not delivered", "inbound_delivery", "INSERT", ""},
		{"received, not finished", "pec_arrival", "UPDATE", "NEW.state = 'READ'"},
		{"understood, not placed", "inbound_file", "UPDATE", "OLD.tenant_id = '' AND NEW.tenant_id <> ''"},
	}
	receivingByCoop = []boundary{
		{"file durable, not known", "inbound_file", "INSERT", ""},
		{"file known, not delivered", "inbound_delivery", "INSERT", ""},
		{"understood, not placed", "inbound_file", "UPDATE", "OLD.tenant_id = '' AND NEW.tenant_id <> ''"},
	}
	receivingByFTP = []boundary{
		{"support in hand, not saved", "support", "INSERT", "NEW.kind = 'FO' AND NEW.state = 'RECEIVED'"},
		{"unpacked, not kept", "support_document", "INSERT", ""},
		{"handed on, not marked", "support_document", "UPDATE", "OLD.handed_at IS NULL AND NEW.handed_at IS NOT NULL"},
		{"marked, not received", "inbound_file", "INSERT", ""},
		{"understood, not placed", "inbound_file", "UPDATE", "OLD.tenant_id = '' AND NEW.tenant_id <> ''"},
	}
)

// The process is killed at every boundary of every channel, in both directions: SdI counts each document once, and
// everything is told once.
func TestKilledAtEachBoundary(t *testing.T) {
	t.Parallel()
	for ways, c := range map[string]struct{ sending, receiving []boundary }{
		"SDICOOP": {everyBoundary(sendingByCoop), everyBoundary(receivingByCoop)},
		"SDIFTP":  {everyBoundary(sendingByFTP), everyBoundary(receivingByFTP)},
		"PEC":     {everyBoundary(sendingByPost), everyBoundary(receivingByPost)},
	} {
		t.Run(ways, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, ways, 1)
			for i, b := range c.sending {
				t.Run("sending, "+b.name, func(t *testing.T) { w.sendAcross(t, b, ways, i) })
			}
			for i, b := range c.receiving {
				t.Run("receiving, "+b.name, func(t *testing.T) { w.receiveAcross(t, b, i) })
			}
			w.settledOnce(t, len(c.sending))
			require.Equal(t, len(c.receiving), w.counted(t, "SELECT count(*) FROM inbound_file WHERE tenant_id <> ''"))
			require.Zero(t, w.counted(t, "SELECT count(*) FROM support_document WHERE handed_at IS NULL"))
		})
	}
}

// sendAcross kills the gateway at a boundary of a document's way to SdI and back.
func (w *ward) sendAcross(t *testing.T, b boundary, ways string, n int) {
	w.stopAt(t, b)
	invoice := w.accept(t, "FPR12", "SBXRC00", fmt.Sprintf("K%d", n))
	w.killAt(t, b, w.gates[0])
	w.start(t, w.gates[0])
	if ways == "SDICOOP" { // SdI tries its receipt again twelve hours later
		eventually(t, "the receipt", func() (bool, string) {
			counts, err := w.sandbox.Counts(t.Context())
			require.NoError(t, err)
			if counts.ReceiptsPending > 0 && counts.CallbackErrors > 0 {
				_, err = w.sandbox.Advance(t.Context(), 12*time.Hour)
				require.NoError(t, err)
			}
			return counts.ReceiptsDelivered == n+1, fmt.Sprintf("%+v", counts)
		})
	}
	w.awaitOf(t, invoice, "InvoiceTransmitted", "InvoiceDelivered")
}

// receiveAcross kills the gateway at a boundary of a received document's way.
func (w *ward) receiveAcross(t *testing.T, b boundary, n int) {
	w.stopAt(t, b)
	r := client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: fmt.Sprintf("KR%d", n)}}
	if w.post != nil {
		r.ToPEC = w.post.GetAddress()
	}
	d, err := w.sandbox.Deliver(t.Context(), r)
	require.NoError(t, err)
	w.killAt(t, b, w.gates[0])
	w.start(t, w.gates[0])
	eventually(t, "the delivery", func() (bool, string) {
		list, err := w.sandbox.Deliveries(t.Context(), d.ID)
		require.NoError(t, err)
		last := list[len(list)-1]
		if last.DeliveredAt == nil && last.LastError != "" { // SdI tries again six hours later
			_, err = w.sandbox.Advance(t.Context(), 6*time.Hour)
			require.NoError(t, err)
		}
		return last.DeliveredAt != nil, fmt.Sprintf("%+v", last)
	})
	w.awaitInbound(t, d.ID)
}
