//go:build !soak

package chaos

import (
	"time"

	"ceralacca.dev/tests/harness"
)

// patience is how long one scene may take before it is a failure. It bounds nothing else.
const patience = 5 * time.Minute

// killRounds is how often each service is killed at each boundary.
const killRounds = 1

// outageRounds is how often each server goes away in each way.
const outageRounds = 1

// outageModes and exchangeModes are the shapes in which servers and SdI are broken.
var (
	outageModes   = []harness.Mode{harness.ManyProcesses}
	exchangeModes = []harness.Mode{harness.OneProcess}
)
