package sdigateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// However late files use their tokens, and however many want them: no span of time sees more calls begin than its
// length times the rate and the burst.
func TestRateIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 2000).Draw(t, "rate")
		clock := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
		tokens, since := rapid.Float64Range(0, bucket(rate)).Draw(t, "tokens"), clock
		var begun []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			clock = clock.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			have := refill(tokens, since, clock, rate)
			n := math.Floor(min(have, float64(rapid.IntRange(0, drainTogether).Draw(t, "wanted"))))
			if n < 1 {
				continue // nothing is written down
			}
			tokens, since = have-n, clock
			first, each := rapid.IntRange(0, 150).Draw(t, "first"), rapid.IntRange(0, 20).Draw(t, "each")
			for i := range int(n) {
				late := time.Duration(first+i*each) * time.Millisecond
				if late < tokenLasts {
					begun = append(begun, clock.Add(late))
				}
			}
		}
		slices.SortFunc(begun, time.Time.Compare)
		// The calls i to j are j-i+1 in t[j]-t[i]: above their length times the rate they are (j-rate·t[j]) - (i-rate·t[i]) + 1.
		least := math.Inf(1)
		for i, at := range begun {
			ahead := float64(i) - rate*at.Sub(begun[0]).Seconds()
			least = min(least, ahead)
			if above := ahead - least + 1; above > burst(rate)+1e-6 {
				t.Fatalf("%v calls above %v a second, %d calls in all (burst %v)", above, rate, len(begun), burst(rate))
			}
		}
	})
	require.True(t, math.IsInf(refill(0, time.Now(), time.Now(), 0), 1), "no rate, no bound")
}

func TestStepFitsTheBucket(t *testing.T) {
	for _, rate := range []float64{0.1, 1, 7, 8, 31, 250, 500, 1e4} {
		require.LessOrEqual(t, stepOf(rate), bucket(rate))
		require.LessOrEqual(t, burst(rate), max(1, rate/8)+rate/8)
	}
}

func TestRefill(t *testing.T) {
	now := at(t, "2026-11-22 03:00:00")
	require.InDelta(t, 11.0, refill(10, now.Add(-time.Second/100), now, 100), 1e-9)
	require.InDelta(t, 12.5, refill(10, now.Add(-time.Hour), now, 100), 1e-9, "no more than the bucket holds")
	require.InDelta(t, 10.0, refill(10, now.Add(time.Hour), now, 100), 1e-9, "a clock that went back")
}

type counted int

func (c *counted) RoundTrip(*http.Request) (*http.Response, error) {
	*c++
	return &http.Response{Body: http.NoBody}, nil
}

// A call whose token is void does not begin; one without a rate, and one that is no backlog's, do.
func TestLateCallDoesNotBegin(t *testing.T) {
	var begun counted
	gate := submissions{&begun}
	for _, c := range []struct {
		turn *turn
		want error
	}{
		{nil, nil}, {&turn{}, nil}, {&turn{until: time.Now().Add(time.Hour)}, nil}, {&turn{until: time.Now()}, errTurnOver},
	} {
		ctx := t.Context()
		if c.turn != nil {
			ctx = context.WithValue(ctx, turnKey{}, c.turn)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://sdi.example", nil)
		require.NoError(t, err)
		before := begun
		resp, err := gate.RoundTrip(req)
		if !errors.Is(err, c.want) {
			t.Fatalf("%+v: %v", c.turn, err)
		}
		if err == nil {
			require.NoError(t, resp.Body.Close())
			before++
		}
		require.Equal(t, before, begun)
	}
	require.EqualValues(t, 3, begun)
}
