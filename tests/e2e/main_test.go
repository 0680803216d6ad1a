// Package e2e takes documents through the whole platform as customers and operators do, over its public wire
// and with its command line tool, in both shapes of a deployment: one process, and one process per service.
//
// The scenarios share one platform per shape (harness.Share): starting one costs more than most scenarios do.
// Each makes customers of its own, asks of them what was sent and what was parked, and may kill processes, but
// never breaks a server or orders a fault; what must do so, or needs another configuration, takes a platform
// of its own (harness.T). They hold in any order: go test -shuffle=on -count=3.
package e2e

import (
	"os"
	"testing"
	"time"

	"ceralacca.dev/tests/harness"
)

// patience is how long one scenario may take before it is a failure. It bounds nothing else.
const patience = 5 * time.Minute

// TestMain takes the shared platforms down.
func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }

// inBothModes runs a scenario on one process and on one process per service. Neither waits for the other, nor for
// other scenarios than the one that has the platform of its shape: they wait most of the time.
func inBothModes(t *testing.T, scenario func(t *testing.T, p *harness.Platform)) {
	t.Helper()
	t.Parallel()
	for _, mode := range harness.Modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			scenario(t, harness.Share(t, mode))
		})
	}
}
