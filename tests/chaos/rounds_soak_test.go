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

var (
	outageModes   = harness.Modes
	exchangeModes = harness.Modes
)
