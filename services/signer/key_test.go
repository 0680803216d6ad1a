package signer

import (
	"crypto"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
)

// TestQueueOfAKeyIsBounded: who comes on top of a full queue is told to come again.
func TestQueueOfAKeyIsBounded(t *testing.T) {
	t.Parallel()
	k := &vaultKey{vault: &transit{cfg: VaultConfig{Batch: 1, InFlight: 1}}, flying: 1, waiting: make([]*wish, mostWaiting)}
	_, err := k.SignContext(t.Context(), make([]byte, 32), crypto.SHA256)
	require.Equal(t, "KEY_BUSY", fault.Of(err).Code)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
	require.Positive(t, fault.Of(err).RetryAfter)
	require.Len(t, k.waiting, mostWaiting)
}
