//go:build soak

package conservation

// The same with verifica.sh on every one.
const (
	flips    = 1000
	scripted = 1000
)

// quickly kills processes at some boundaries only.
const quickly = false
