package devenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// The ports that FreeAddress chooses from lie below those that systems give to outgoing connections
// (32768 and up on Linux, 49152 and up elsewhere): such a port could be taken between the choice and
// its use, and again while a server that is to come back on it is down.
const (
	firstPort = 10_000
	lastPort  = 32_000
)

// FreeAddress finds a port of the loopback interface that nobody uses, for a server that is told its
// port before it starts. Where a program can listen on port 0 itself, that is better. No other process
// of this user gets the port from FreeAddress while this one lives, whether its server is up or not.
func FreeAddress() (address string, port int, err error) {
	for range 100 {
		port = firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // a port is no secret
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		var mine *FileLock
		mine, err = TryLock(portLock(port), true)
		if err != nil {
			return "", 0, err
		}
		if mine == nil {
			continue
		}
		var l net.Listener
		l, err = net.Listen("tcp", address)
		if err == nil {
			return address, port, l.Close() // the lock goes with the process
		}
		mine.Unlock()
	}
	return "", 0, fmt.Errorf("devenv: no free port between %d and %d on 127.0.0.1: %w", firstPort, lastPort, err)
}

// portLock is held by the process that was given the port. It is not below os.TempDir: processes that keep their
// temporary files elsewhere have the same ports.
func portLock(port int) string {
	return filepath.Join("/tmp", fmt.Sprintf("ceralacca-ports-%d", os.Getuid()), strconv.Itoa(port))
}
