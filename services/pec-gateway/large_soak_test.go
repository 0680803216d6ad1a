//go:build soak

package pecgateway_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv/dovecot"
)

// TestB9HundredMegabytes: a message of a hundred megabytes is received through a file: memory does not notice.
func TestB9HundredMegabytes(t *testing.T) {
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	box := h.keep(recipient)
	h.lookedAgain(box)
	peak := peakOf(h, box, 100<<20)
	t.Logf("%.1f MB of heap at most", peak)
	require.Less(t, peak, 16.0)
	h.kept(box)
	h.invariants(box)
}
