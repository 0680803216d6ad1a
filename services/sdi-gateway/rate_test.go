package sdigateway_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/stretchr/testify/require"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/sandbox/client"
)

// submissions notes when the gateway's calls of RiceviFile begin, as its own traces say.
type submissions struct {
	mu sync.Mutex
	at []time.Time // of the backlog's
}

func (s *submissions) OnStart(_ context.Context, span sdktrace.ReadWriteSpan) {
	if span.Name() != "sdi submission" {
		return
	}
	for _, a := range span.Attributes() {
		if a.Key == "sdi.backlog" && a.Value.AsBool() {
			s.mu.Lock()
			s.at = append(s.at, span.StartTime())
			s.mu.Unlock()
		}
	}
}

func (s *submissions) OnEnd(sdktrace.ReadOnlySpan)      {}
func (s *submissions) Shutdown(context.Context) error   { return nil }
func (s *submissions) ForceFlush(context.Context) error { return nil }

// backlog is when those of the backlog began, in order.
func (s *submissions) backlog() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(slices.Values(s.at), time.Time.Compare)
}

// burst is what the README promises beside the rate.
func burst(rate float64) float64 { return max(1, rate/8) + rate/8 }

// mostIn is how many of the times lie in any span of that length.
func mostIn(at []time.Time, span time.Duration) (most int) {
	for i, j := 0, 0; j < len(at); j++ {
		for at[j].Sub(at[i]) > span {
			i++
		}
		most = max(most, j-i+1)
	}
	return most
}

// The backlog keeps to its rate where calls begin, although connections are few and answers slow, some files fail and
// go again.
func TestBacklogKeepsToItsRate(t *testing.T) { // not beside other tests: traces are the process's
	const rate, files = 40.0, 48
	b := setupWith(t, options{config: fmt.Sprintf("  drain_rate: %v\n  workers: 2\n", rate), watch: true})
	pause, err := b.operations().PauseSending(t.Context(), &sdiv1.PauseSendingRequest{Reason: "gather"})
	require.NoError(t, err)
	for n := range files {
		b.acceptDocument(t, document{Options: fatturapatest.Options{Numero: fmt.Sprint(n), CodiceDestinatario: "SBXNONE"}})
	}
	b.awaitPending(t, "PAUSED", files)
	for _, f := range []client.Fault{{Kind: client.FaultDelay, Count: 12, DelayMS: 200}, {Kind: client.FaultEI02, Count: 2}} {
		_, err = b.sandbox.AddFault(t.Context(), f)
		require.NoError(t, err)
	}
	_, err = b.operations().ResumeSending(t.Context(), &sdiv1.ResumeSendingRequest{Name: pause.GetName()})
	require.NoError(t, err)
	b.awaitAllCount(t, files)
	b.once(t, files)
	begun := b.begun.backlog()
	require.GreaterOrEqual(t, len(begun), files, "those that failed went again")
	for i := range begun {
		for j := i; j < len(begun); j++ {
			span := begun[j].Sub(begun[i])
			require.LessOrEqual(t, float64(j-i+1), rate*span.Seconds()+burst(rate), "calls within %v", span)
		}
	}
}
