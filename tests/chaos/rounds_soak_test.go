//go:build soak

package chaos

import (
	"time"

	"ceralacca.dev/tests/harness"
)

const (
	patience     = 20 * time.Minute
	killRounds   = 5
	outageRounds = 3
)

// killedAt are the services that are killed at a boundary: all of them.
func killedAt(_ string, processes []string) []string { return processes }

var (
	outageModes   = harness.Modes
	exchangeModes = harness.Modes
)
