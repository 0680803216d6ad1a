package bus_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/bus/bustest"
)

// What a test keeps of an event is not rolled back with the transaction in which it was heard.
func TestAnEventIsHeardOnceWhenItsTransactionIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ear bustest.Ear
	var mu sync.Mutex
	heard, other, lost := map[string]int{}, map[string]int{}, 0
	hear := func(b *bus.Bus) {
		bustest.Hear(&ear, b, "c", func(_ context.Context, ev *invoicev1.InvoiceAccepted) {
			mu.Lock()
			defer mu.Unlock()
			heard[ev.GetInvoice()]++
			if lost < 5 {
				lost += w.scalar(`SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE relation = 'inbox'::regclass AND mode = 'RowExclusiveLock'`)
			}
		})
		bustest.Hear(&ear, b, "other", func(_ context.Context, ev *invoicev1.InvoiceAccepted) {
			mu.Lock()
			defer mu.Unlock()
			other[ev.GetInvoice()]++
		})
	}
	p := w.start(t, hear)
	want := map[string]int{}
	for _, name := range names("inv", 60) {
		want[name] = 1
		p.emit(t, "anna", name)
	}
	w.settled(p)
	p.stop()
	again := w.start(t, hear, w.second(t))
	again.emit(t, "anna", "after")
	want["after"] = 1
	w.settled(again)
	mu.Lock()
	defer mu.Unlock()
	require.GreaterOrEqual(t, lost, 5, "transactions")
	require.Equal(t, want, heard)
	require.Equal(t, want, other, "another consumer hears for itself")
}
