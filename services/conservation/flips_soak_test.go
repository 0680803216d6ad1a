//go:build soak

package conservation

// The same with verifica.sh on every one.
const (
	flips    = 1000
	scripted = 1000
)

// quickly kills processes at some boundaries only.
const quickly = false

// depositsLinted: the five hundred of the list; give -rapid.checks=1500.
const depositsLinted = 500
