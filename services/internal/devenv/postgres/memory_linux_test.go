package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A backend that ends keeps its part of the shared memory for a moment after its process looks gone; a server that is started just then
// refuses the folder, and is started again.
func TestRestartWaitsForTheMemoryOfEndedBackends(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Dir: openDir(t)})
	raw, err := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	require.NoError(t, err)
	lines := strings.Split(string(raw), "\n")
	require.Greater(t, len(lines), 6)
	var key, id int
	_, err = fmt.Sscan(lines[6], &key, &id)
	require.NoError(t, err, lines[6])
	memory, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
	require.NoError(t, err)
	require.NoError(t, c.Kill())
	released := make(chan error, 1)
	time.AfterFunc(700*time.Millisecond, func() { released <- unix.SysvShmDetach(memory) })
	require.NoError(t, c.Restart(t.Context()))
	require.NoError(t, <-released)
	require.NoError(t, ping(t.Context(), c.URL("")))
}
