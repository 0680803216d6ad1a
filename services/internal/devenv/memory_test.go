//go:build linux

package devenv

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInMemory(t *testing.T) {
	base := t.TempDir()
	none, err := inMemory(base, ^uint64(0))
	require.NoError(t, err)
	require.Nil(t, none, "no machine has so much room")
	require.NoError(t, none.Remove())

	// What a killed process left is deleted, what is in use or half made is not.
	for _, name := range []string{"left", "used"} {
		require.NoError(t, os.MkdirAll(filepath.Join(base, memoryPrefix+name, "deep"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(base, memoryPrefix+name, "lock"), nil, 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(base, memoryPrefix+"fresh"), 0o700))
	used, err := TryLock(filepath.Join(base, memoryPrefix+"used", "lock"), true)
	require.NoError(t, err)
	defer used.Unlock()
	_, err = inMemory(base, ^uint64(0))
	require.NoError(t, err)
	require.NoDirExists(t, filepath.Join(base, memoryPrefix+"left"))
	require.DirExists(t, filepath.Join(base, memoryPrefix+"used"))
	require.DirExists(t, filepath.Join(base, memoryPrefix+"fresh"))

	m, err := InMemory()
	require.NoError(t, err)
	if m == nil {
		t.Log("this machine has no room in memory")
		return
	}
	require.NoError(t, os.WriteFile(filepath.Join(m.Dir, "file"), []byte("x"), 0o600))
	other, err := TryLock(filepath.Join(m.Dir, "lock"), true)
	require.NoError(t, err)
	require.Nil(t, other, "it is ours until it is removed")
	require.NoError(t, m.Remove())
	require.NoDirExists(t, m.Dir)
}

func TestMemoryOfMachineAndGroup(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	require.EqualValues(t, 2048<<10, available(write("meminfo", "MemTotal:  4096 kB\nMemAvailable:   2048 kB\n")))
	require.Zero(t, available(filepath.Join(dir, "missing")))

	require.Equal(t, ^uint64(0), spare(dir), "no group, no limit")
	write("memory.max", "max\n")
	require.Equal(t, ^uint64(0), spare(dir))
	write("memory.max", "1000\n")
	require.Zero(t, spare(dir), "what is used is not known")
	write("memory.current", "400\n")
	require.EqualValues(t, 600, spare(dir))
	write("memory.current", "1200\n")
	require.Zero(t, spare(dir))
}
