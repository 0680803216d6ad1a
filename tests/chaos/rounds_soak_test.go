//go:build soak

package chaos

import "ceralacca.dev/tests/harness"

const (
	killRounds   = 5
	outageRounds = 3
)

var (
	outageModes   = harness.Modes
	exchangeModes = harness.Modes
)
