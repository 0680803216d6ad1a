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

// killedAt are the services that are killed at a boundary: who ended the step, who takes up the next, and one that
// only serves them.
func killedAt(boundary string, processes []string) []string {
	if len(processes) == 1 {
		return processes // it hosts them all
	}
	return map[string][]string{
		"invoice.accepted":             {"invoice", "signer", "tenancy"},
		"invoice.signed":               {"signer", "sdi-gateway", "pec-gateway"},
		"invoice.transmitted":          {"sdi-gateway", "invoice", "notification"},
		"invoice.delivered":            {"sdi-gateway", "invoice", "conservation"},
		"preservation.taken_in_charge": {"conservation", "notification", "pec-gateway"},
		sealing:                        {"conservation", "signer", "tenancy"},
	}[boundary]
}

// outageRounds is how often each server goes away in each way.
const outageRounds = 1

// outageModes and exchangeModes are the shapes in which servers and SdI are broken.
var (
	outageModes   = []harness.Mode{harness.ManyProcesses}
	exchangeModes = []harness.Mode{harness.OneProcess}
)
