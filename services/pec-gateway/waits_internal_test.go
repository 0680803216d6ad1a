package pecgateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestB7WaitsEndWithinALook: a wait for announcements and the answer to its end together last no longer than the pause between two
// looks, and no wait comes near the half hour after which servers log a client out, whatever is configured. TESTPLAN B7.
func TestB7WaitsEndWithinALook(t *testing.T) {
	t.Parallel()
	for _, poll := range []time.Duration{10 * time.Second, 20 * time.Second, time.Minute, 10 * time.Minute, time.Hour} {
		for _, idle := range []time.Duration{10 * time.Second, 20 * time.Minute, 28 * time.Minute} {
			c := defaultConfig()
			c.PollEvery, c.IdleFor = poll, idle
			most, answer := c.waits()
			require.LessOrEqual(t, most+answer, min(poll, idle), "%s %s", poll, idle)
			require.GreaterOrEqual(t, most, min(poll, idle)/2)
			require.GreaterOrEqual(t, answer, leastAnswer)
			require.LessOrEqual(t, answer, c.Timeout)
			require.Less(t, most, 29*time.Minute)
		}
	}
	c := defaultConfig()
	most, answer := c.waits()
	require.Equal(t, []time.Duration{45 * time.Second, 15 * time.Second}, []time.Duration{most, answer})
	c.IdleFor = 30 * time.Minute
	require.ErrorContains(t, c.Validate(), "idle_for")
}
