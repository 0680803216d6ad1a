package sdigateway

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whoever asks, whenever, with whatever clock: in no span of time leave more files than its length times the rate
// and what the bucket holds.
func TestRateIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 1000).Draw(t, "rate")
		full := max(1, rate/4)
		start := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
		tokens, since := rapid.Float64Range(0, full).Draw(t, "tokens"), start
		type leaving struct {
			at time.Time
			n  float64
		}
		var all []leaving
		clock := start
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			clock = clock.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			now := clock.Add(-time.Duration(rapid.IntRange(0, 500).Draw(t, "behind")) * time.Millisecond) // of another replica
			have := refill(tokens, since, now, rate)
			n := math.Floor(min(have, float64(rapid.IntRange(0, drainTogether).Draw(t, "wanted"))))
			if n < 1 {
				continue // nothing is written down
			}
			if now.Before(since) {
				now = since
			}
			tokens, since = have-n, now
			all = append(all, leaving{now, n})
		}
		for i := range all {
			sum := 0.0
			for j := i; j < len(all); j++ {
				sum += all[j].n
				if bound := full + all[j].at.Sub(all[i].at).Seconds()*rate; sum > bound+1e-6 {
					t.Fatalf("%v files in %v at %v a second (bound %v)", sum, all[j].at.Sub(all[i].at), rate, bound)
				}
			}
		}
	})
	require.True(t, math.IsInf(refill(0, time.Now(), time.Now(), 0), 1), "no rate, no bound")
}

func TestBackoff(t *testing.T) {
	for n, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute} {
		require.Equal(t, want, backoff(10*time.Second, time.Minute, int32(n)))
	}
	require.Equal(t, time.Minute, backoff(time.Second, time.Minute, math.MaxInt32))
	require.Equal(t, 2*time.Minute, backoff(2*time.Minute, time.Minute, 3), "never less than the first")
}

func TestRedeliveries(t *testing.T) {
	now := at(t, "2026-11-22 03:00:00")
	var files []sentFile
	for _, sent := range []string{"2026-08-30 23:59:59", "2026-08-31 00:00:00", "2026-09-13 12:00:00", "2026-09-14 12:00:00", "2026-11-06 23:59:59", "2026-11-07 00:00:00", "2026-11-21 12:00:00"} {
		files = append(files, sentFile{at(t, sent).UTC(), sent[:10]})
	}
	requests, tooRecent := redeliveries(files, now)
	require.Equal(t, 2, tooRecent)
	var got [][]string
	for _, r := range requests {
		got = append(got, append([]string{r.first.Format(time.DateOnly) + ".." + r.last.Format(time.DateOnly)}, r.sdiIDs...))
		require.LessOrEqual(t, r.last.Sub(r.first), redeliverySpan*24*time.Hour)
	}
	require.Equal(t, [][]string{
		{"2026-08-30..2026-09-13", "2026-08-30", "2026-08-31", "2026-09-13"},
		{"2026-09-14..2026-09-14", "2026-09-14"},
		{"2026-11-06..2026-11-06", "2026-11-06"},
	}, got)
}
