package run_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

// TestBreaker: absences open it, refusals and cancelled callers do not, and it
// closes again by itself.
func TestBreaker(t *testing.T) {
	p := runtest.Start(t, runtest.Options{Targets: []run.Target{idle("invoice")}, Config: "breaker: {failures: 3, open: 1m}\n"})
	b := p.Host("invoice").Breaker("sdi")
	require.Same(t, b, p.Host("invoice").Breaker("sdi"))
	called := 0
	do := func(err error) error {
		return b.Do(t.Context(), func(context.Context) error { called++; return err })
	}
	refused, away := fault.Invalid("REFUSED", "no"), fault.Unavailable("AWAY", "gone")
	for range 10 {
		require.ErrorIs(t, do(refused), refused)
		require.ErrorIs(t, do(context.Canceled), context.Canceled)
	}
	require.Equal(t, "closed", b.State().State)
	for range 2 {
		require.ErrorIs(t, do(away), away)
	}
	require.NoError(t, do(nil), "a success in between starts the count again")
	for range 3 {
		require.ErrorIs(t, do(away), away)
	}
	require.Equal(t, "open", b.State().State)
	require.EqualValues(t, 5, b.State().Failures)
	require.Contains(t, b.State().LastError, "AWAY")

	before := called
	err := do(nil)
	require.Equal(t, "BREAKER_OPEN", fault.Of(err).Code)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
	require.Equal(t, time.Minute, fault.Of(err).RetryAfter)
	require.Equal(t, before, called, "nothing was called")
	require.Contains(t, get(t, "http://"+p.Admin+"/breakers?target=invoice", 200), `"open"`)

	b = run.NewBreaker("tsa", run.BreakerConfig{Failures: 1, Open: 50 * time.Millisecond}, time.Now)
	require.ErrorIs(t, do(away), away)
	require.Eventually(t, func() bool { return do(nil) == nil }, 5*time.Second, 20*time.Millisecond)
	require.Equal(t, "closed", b.State().State)
	require.ErrorContains(t, do(errors.New("untyped")), "untyped")
}
