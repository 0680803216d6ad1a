//go:build !soak

package conservation

// Single-byte changes that our verifier judges, and those among them that verifica.sh judges too.
const (
	flips    = 600
	scripted = 12
)

// quickly kills processes at some boundaries only.
const quickly = true
