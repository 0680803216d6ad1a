package sdigateway_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
)

// The term for a first message runs from the day that SdI states, by whatever channel it states it: the answer of
// RiceviFile, or the outcome of a support.
func TestTermRunsFromSdIsDay(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]func(*bundle) string{"SDICOOP": nil, "SDIFTP": {sftpLines(t, "SDIFTP", "")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, lines...)
			_, err := b.sandbox.Advance(t.Context(), 23*time.Hour) // SdI's calendar is a day ahead, but for an hour
			require.NoError(t, err)
			invoice := b.accept(t, "FPR12", "SBXNONE", "1")
			b.awaitOf(t, invoice, "InvoiceTransmitted")
			page, err := b.sandbox.Received(t.Context(), client.Query{})
			require.NoError(t, err)
			require.Len(t, page.Files, 1)
			y, m, d := page.Files[0].At.In(sdi.Roma()).Date()
			due := b.transmission(t, invoice).GetDeadline()
			require.Equal(t, sdiv1.DeadlineKind_DEADLINE_KIND_RECEIPT, due.GetKind())
			require.True(t, time.Date(y, m, d+5, 23, 59, 59, 0, sdi.Roma()).Equal(due.GetDueTime().AsTime()), "%s after %s", due.GetDueTime().AsTime(), page.Files[0].At)
		})
	}
}
