package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
)

func jetstreamCopy(m *jetstream.RawStreamMsg) *nats.Msg {
	return &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
}

// fate is what happens to one event on its way.
type fate struct {
	tenant     string
	rolledBack bool
	failures   int  // transient errors before it can be handled
	poison     bool // permanent error
	repeats    int  // further copies on the wire
}

// Whatever mixture of rollbacks, repeats, transient and permanent errors: every committed event is
// handled exactly once or parked exactly once, and no other ever is.
func TestEveryCommittedEventIsHandledOnceOrParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	fates := map[string]*fate{}
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			mu.Lock()
			f := fates[ev.GetInvoice()]
			failing := f.failures > 0
			if failing {
				f.failures--
			}
			mu.Unlock()
			err := note(ctx, tx, "c", ev.GetInvoice())
			switch {
			case err != nil:
				return err
			case f.poison:
				return fault.Precondition("POISON", "poison")
			case failing:
				return errors.New("transient")
			}
			return nil
		})
	}, func(c *bus.Config) { c.MaxBatch, c.Backoff = 8, time.Millisecond })
	js := w.shorten(t, p)
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		plan := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) fate {
			return fate{
				tenant:     rapid.SampledFrom([]string{"anna", "bruno", "carla"}).Draw(r, "tenant"),
				rolledBack: rapid.IntRange(0, 9).Draw(r, "rollback") == 0,
				failures:   rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(r, "failures"),
				poison:     rapid.IntRange(0, 9).Draw(r, "poison") == 0,
				repeats:    rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(r, "repeats"),
			}
		}), 1, 30).Draw(r, "plan")
		committed, parked := map[string]bool{}, map[string]bool{}
		for i := range plan {
			f := &plan[i]
			name := fmt.Sprintf("run%d-%d", run, i)
			mu.Lock()
			fates[name] = f
			mu.Unlock()
			oops := errors.New("rolled back")
			err := p.db.Tx(t.Context(), f.tenant, func(ctx context.Context, tx pgx.Tx) error {
				err := p.Emit(bus.WithCorrelation(ctx, name), tx, &invoicev1.InvoiceAccepted{Invoice: name})
				if f.rolledBack {
					return errors.Join(err, oops)
				}
				return err
			})
			switch {
			case f.rolledBack:
				require.ErrorIs(r, err, oops)
			case f.poison:
				require.NoError(r, err)
				parked[name] = true
			default:
				require.NoError(r, err)
				committed[name] = true
			}
		}
		w.settled(p)
		repeat(r, js, fates, &mu, fmt.Sprintf("run%d-", run))
		w.settled(p)
		for name, n := range w.noted("c") {
			require.Equal(r, 1, n, name)
			delete(committed, name)
			require.False(r, parked[name], "%s was handled and should be parked", name)
		}
		require.Empty(r, committed, "events were lost")
		list, _, err := p.ListParked(t.Context(), bus.Filter{PageSize: 1000})
		require.NoError(r, err)
		seen := map[string]bool{}
		for _, row := range list {
			require.False(r, seen[row.Correlation], "parked twice")
			seen[row.Correlation] = true
			delete(parked, row.Correlation)
		}
		require.Empty(r, parked, "poison is missing among the parked")
	})
}

// repeat puts further copies of this run's events on the wire, past the duplicate window.
func repeat(r *rapid.T, js jetstream.JetStream, fates map[string]*fate, mu *sync.Mutex, run string) {
	wanted := false
	mu.Lock()
	for name, f := range fates {
		wanted = wanted || (strings.HasPrefix(name, run) && f.repeats > 0)
	}
	mu.Unlock()
	if !wanted {
		return
	}
	time.Sleep(110 * time.Millisecond)
	ctx := context.Background()
	s, err := js.Stream(ctx, "INVOICE")
	require.NoError(r, err)
	last := s.CachedInfo().State.LastSeq
	for seq := last; seq > 0; seq-- {
		m, err := s.GetMsg(ctx, seq)
		require.NoError(r, err)
		name := m.Header.Get("Ceralacca-Correlation")
		if !strings.HasPrefix(name, run) {
			return
		}
		mu.Lock()
		n := fates[name].repeats
		mu.Unlock()
		for range n {
			c := jetstreamCopy(m)
			c.Header = nats.Header{}
			for k, v := range m.Header {
				c.Header[k] = v
			}
			_, err = js.PublishMsg(ctx, c)
			require.NoError(r, err)
		}
	}
}
