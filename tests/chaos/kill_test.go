package chaos

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/tests/harness"
)

// boundaries are the steps of an invoice's journey as its customer sees them end. The last is a package
// that has been closed and is being indexed, signed, stamped and written.
var boundaries = []string{
	"invoice.accepted", "invoice.signed", "invoice.transmitted", "invoice.delivered", "preservation.taken_in_charge", sealing,
}

const sealing = "package.closed"

// TestServiceKilledAtEachBoundary kills services at every boundary: in the quick run those that end the step and take
// up the next one, and each at two boundaries at least; with the build tag soak every service at every boundary.
func TestServiceKilledAtEachBoundary(t *testing.T) {
	t.Parallel()
	killMatrix(t, harness.ManyProcesses, harness.Targets)
}

// TestPlatformKilledAtEachBoundary kills the process that hosts all services at every boundary.
func TestPlatformKilledAtEachBoundary(t *testing.T) {
	t.Parallel()
	killMatrix(t, harness.OneProcess, []string{"all"})
}

func killMatrix(t *testing.T, mode harness.Mode, processes []string) {
	s := newScene(t, mode)
	stop := s.traffic(t, 100*time.Millisecond)
	for round := range killRounds {
		for _, boundary := range boundaries {
			for _, process := range killedAt(boundary, processes) {
				t.Run(boundary+"/"+process, func(t *testing.T) { s.killAt(t, boundary, process, round) })
			}
		}
	}
	stop()
	// A gateway that is killed between SdI's answer and its record cannot know that there was one.
	s.settle(t, leftovers{repeats: killRounds * len(boundaries)})
}

// killAt kills a process at the moment that an invoice passes a boundary; in later rounds a little after.
func (s *scene) killAt(t *testing.T, boundary, process string, round int) {
	chosen, err := s.submit(private)
	require.NoError(t, err)
	if boundary == sealing {
		require.NoError(t, s.log.await(chosen, "preservation.taken_in_charge"))
		_, err = s.seal("")
		require.NoError(t, err)
	} else {
		require.NoError(t, s.log.await(chosen, boundary))
	}
	if round > 0 {
		time.Sleep(rand.N(60 * time.Millisecond)) //nolint:gosec // which moment it is does not matter, only that it varies
	}
	require.NoError(t, s.p.Restart(process))
	require.NoError(t, s.p.AwaitReady(s.ctx))
}
