package notification

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// TestNoticeWithout: a notice loses the messages that were destroyed, counts them, and keeps the others as they were.
func TestNoticeWithout(t *testing.T) {
	t.Parallel()
	const a, b = `{"message":"m/1","sender":"a@x","recipient":"r","subject":"uno","receive_time":"t","certified":true}`, `{"message":"m/2","sender":"b@x","recipient":"r","subject":"due","receive_time":"t","certified":false}`
	notice := []byte(`{"type":"pec.incoming_notice","timestamp":"2026-01-01T00:00:00Z","data":{"messages":[` + a + `,` + b + `],"more":2,"subject":"box"}}`)
	left, err := without(notice, map[string]bool{"m/1": true, "m/3": true})
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"pec.incoming_notice","timestamp":"2026-01-01T00:00:00Z","data":{"messages":[`+b+`],"more":3,"subject":"box"}}`, string(left))
	left, err = without(notice, map[string]bool{"m/3": true})
	require.NoError(t, err)
	require.Nil(t, left)
	_, err = without([]byte("{"), nil)
	require.Error(t, err)
}

// TestDestroyedDeliveries: of what was told about a document that the archive has destroyed type, times and outcome stay; the body and
// what the other side said go, nothing of it is sent any more, and what is about other documents stays as it was.
func TestDestroyedDeliveries(t *testing.T) {
	w := start(t, ", retry_schedule: [1h]")
	r := receive(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) })
	e := w.endpoint(r.URL, "invoice.rejected")
	other := strings.Replace(invoiceName, invoiceName[len(invoiceName)-4:], "ffff", 1)
	w.state("acme", rejected(), &sdiv1.InvoiceDiscarded{Invoice: other, SdiId: "43"})
	w.eventually(func() bool {
		return w.count(`SELECT count(*) FROM delivery WHERE jsonb_array_length(attempts) = 1`) == 2
	}, "tried once")
	w.state("acme", &conservationv1.UnitsDestroyed{Disposal: "tenants/acme/disposals/d1", Package: "tenants/acme/packages/p1", Part: 1, Subjects: []string{invoiceName}})
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM delivery WHERE destroyed_by <> ''`) == 1 }, "reduced")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM delivery WHERE invoice = $1 AND payload = '{}' AND address = '' AND next_attempt_time IS NULL AND attempts::text NOT LIKE '%error%'`, invoiceName))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM delivery WHERE invoice = $1 AND destroyed_by = '' AND encode(payload, 'escape') LIKE '%43%'`, other))
	for _, d := range w.deliveries(e.GetName()) {
		if d.GetInvoice() == other {
			require.Equal(t, notificationv1.DeliveryState_DELIVERY_STATE_PENDING, d.GetState())
			continue
		}
		require.Equal(t, notificationv1.DeliveryState_DELIVERY_STATE_FAILED, d.GetState())
		require.Len(t, d.GetAttempts(), 1)
		_, err := w.api.RedeliverDelivery(t.Context(), &notificationv1.RedeliverDeliveryRequest{Name: d.GetName()})
		requireFault(t, err, "DOCUMENT_DESTROYED")
	}
}
