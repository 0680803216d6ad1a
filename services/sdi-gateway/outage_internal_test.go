package sdigateway

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
