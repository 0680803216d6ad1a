//go:build soak && linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
)

// TestVerifyLargeFileInFlatMemory judges a p7m of 200 MB and writes its content out, in a process of its own
// that takes less than 32 MB of memory, the program included.
func TestVerifyLargeFileInFlatMemory(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "ceralacca")
	said, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(said))
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	content := bytes.Repeat([]byte("0123456789abcdef"), 200<<20/16)
	file, err := os.Create(filepath.Join(dir, "large.bin.p7m"))
	require.NoError(t, err)
	require.NoError(t, cades.SignStream(context.Background(), file, bytes.NewReader(content), cades.Signer{Chain: pair.Chain, Key: pair.Key}, cades.Options{SigningTime: cmstest.Now}))
	require.NoError(t, file.Close())
	cmd := exec.CommandContext(t.Context(), program, "verify", file.Name(), "--extract", dir)
	said, err = cmd.CombinedOutput()
	require.Error(t, err, "nobody told it whom to trust")
	require.Equal(t, exitIndeterminate, cmd.ProcessState.ExitCode(), string(said))
	require.Contains(t, string(said), "intact: yes")
	sum := sha256.Sum256(content)
	require.Contains(t, string(said), hex.EncodeToString(sum[:]))
	saved, err := os.Stat(filepath.Join(dir, "large.bin"))
	require.NoError(t, err)
	require.EqualValues(t, len(content), saved.Size())
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	require.True(t, ok)
	require.Less(t, usage.Maxrss, int64(32<<10), "KiB")
}
