package clock_test

import (
	"sync"
	"testing"
	"time"

	"ceralacca.dev/services/sandbox/clock"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAdvanceFiresInOrderAndNested(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := clock.New(func() time.Time { return start })
	defer c.Close()
	c.Freeze()
	var fired []string
	c.At(start.Add(48*time.Hour), func(time.Time) { fired = append(fired, "b") })
	c.At(start.Add(24*time.Hour), func(due time.Time) {
		fired = append(fired, "a")
		require.Equal(t, start.Add(24*time.Hour), c.Now(), "a timer sees its own instant")
		c.At(due.Add(12*time.Hour), func(time.Time) { fired = append(fired, "nested") })
	})
	c.At(start.Add(100*time.Hour), func(time.Time) { fired = append(fired, "never") })
	now, err := c.Advance(72 * time.Hour)
	require.NoError(t, err)
	require.Equal(t, start.Add(72*time.Hour), now)
	require.Equal(t, []string{"a", "nested", "b"}, fired)
	require.Equal(t, 1, c.State().Timers)
	_, err = c.Advance(-time.Second)
	require.ErrorContains(t, err, "cannot go back")
}

func TestRunsWithRealTime(t *testing.T) {
	c := clock.New(nil)
	defer c.Close()
	fired := make(chan time.Time, 2)
	due, past := c.Now().Add(20*time.Millisecond), c.Now().Add(-time.Hour)
	c.At(due, func(d time.Time) { fired <- d })
	c.At(past, func(d time.Time) { fired <- d }) // on a busy machine the other may have fired by now
	require.ElementsMatch(t, []time.Time{due, past}, []time.Time{<-fired, <-fired})
	require.False(t, c.Now().Before(due))
}

func TestFreezeAndResume(t *testing.T) {
	c := clock.New(nil)
	defer c.Close()
	c.Freeze()
	a := c.Now()
	time.Sleep(5 * time.Millisecond)
	require.Equal(t, a, c.Now())
	var mu sync.Mutex
	late := false
	c.At(a.Add(time.Millisecond), func(time.Time) { mu.Lock(); late = true; mu.Unlock() })
	time.Sleep(10 * time.Millisecond)
	mu.Lock()
	require.False(t, late, "a frozen clock fires nothing")
	mu.Unlock()
	c.Resume()
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return late }, 20*time.Second, time.Millisecond)
}

// TestNeverBack: whatever is done to it, the clock does not go back.
func TestNeverBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := clock.New(nil)
		defer c.Close()
		last := c.Now()
		for _, op := range rapid.SliceOfN(rapid.IntRange(0, 3), 1, 20).Draw(t, "ops") {
			switch op {
			case 0:
				c.Freeze()
			case 1:
				c.Resume()
			case 2:
				if _, err := c.Advance(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "d"))); err != nil {
					t.Fatal(err)
				}
			case 3:
				c.At(last, func(time.Time) {})
			}
			if now := c.Now(); now.Before(last) {
				t.Fatalf("from %v back to %v", last, now)
			} else {
				last = now
			}
		}
	})
}
