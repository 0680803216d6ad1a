package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/tests/harness"
)

// TestCustomersEndpointFails has the customer's endpoint refuse everything for a while, then every third
// call, then take calls and lose the answer. It gets every event in the end, repeats under the same id.
func TestCustomersEndpointFails(t *testing.T) {
	t.Parallel()
	s := newScene(t, harness.OneProcess)
	s.hook.Refuse(func(int) bool { return true })
	s.arrive(t, s.submitMany(t, private, 10)...)
	time.Sleep(3 * time.Second)
	byID, _, _ := s.hook.Taken()
	require.Empty(t, byID, "the endpoint has refused everything")

	s.hook.Refuse(func(n int) bool { return n%3 == 0 })
	s.arrive(t, s.submitMany(t, private, 10)...)
	s.hook.Lose(func(n int) bool { return n%4 == 0 })
	s.arrive(t, s.submitMany(t, private, 10)...)
	s.hook.Refuse(nil)
	s.hook.Lose(nil)
	s.settle(t, leftovers{})
	byID, _, _ = s.hook.Taken()
	again := 0
	for _, n := range byID {
		again += n - 1
	}
	require.Positive(t, again, "answers were lost, so those events came again")
}
