package devenv

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFreeAddress(t *testing.T) {
	address, port, err := FreeAddress()
	require.NoError(t, err)
	require.GreaterOrEqual(t, port, firstPort)
	require.Less(t, port, lastPort)
	l, err := net.Listen("tcp", address)
	require.NoError(t, err, "it is free")
	require.NoError(t, l.Close())
}

// What one process was given, no other is, though nobody listens there.
func TestFreeAddressIsHeld(t *testing.T) {
	_, port, err := FreeAddress()
	require.NoError(t, err)
	l, err := TryLock(portLock(port), true)
	require.NoError(t, err)
	require.Nil(t, l)
}
