package auth

import (
	"time"

	"ceralacca.dev/services/internal/fault"
)

// Suspension of a tenant or of a reseller that holds now: the caller begins nothing new.
type Suspension struct {
	Subject string // tenants/{tenant}; or resellers/{reseller}, with all its tenants
	Party   string // RoleOperator or RoleReseller: who suspended, and who lifts it
	Reason  string // as it was given
	Since   time.Time
}

// Refusal is the one answer to whatever may not begin meanwhile: Precondition TENANT_SUSPENDED, with
// since when, why, who lifts it, and what goes on.
func (s *Suspension) Refusal() *fault.Fault {
	by, lifts := "an operator of the platform", "an operator"
	if s.Party == RoleReseller {
		by, lifts = "its reseller", "the reseller"
	}
	return fault.Precondition("TENANT_SUSPENDED",
		"%s has been suspended since %s by %s (%s): nothing new begins until %s lifts it; "+
			"what is there is read, searched, shown, exported and verified as ever, what comes in is received, and what was accepted before is finished",
		s.Subject, s.Since.UTC().Format(time.RFC3339), by, s.Reason, lifts)
}
