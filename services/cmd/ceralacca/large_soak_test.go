//go:build soak && linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

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
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	most := peakOf(t, cmd.Process.Pid)
	require.Error(t, cmd.Wait(), "nobody told it whom to trust")
	said = out.Bytes()
	require.Equal(t, exitIndeterminate, cmd.ProcessState.ExitCode(), string(said))
	require.Contains(t, string(said), "intact: yes")
	sum := sha256.Sum256(content)
	require.Contains(t, string(said), hex.EncodeToString(sum[:]))
	saved, err := os.Stat(filepath.Join(dir, "large.bin"))
	require.NoError(t, err)
	require.EqualValues(t, len(content), saved.Size())
	require.Positive(t, most)
	require.Less(t, most, 32<<10, "KiB")
}

// peakOf follows a process to its end and gives the most memory that it held, in KiB. What the kernel accounts at the
// end (ru_maxrss) would count this test's own memory too: the process began as a copy of it.
func peakOf(t *testing.T, pid int) (most int) {
	t.Helper()
	for {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		require.NoError(t, err) // not waited for: it is there until it is
		found := peak.FindSubmatch(raw)
		if found == nil { // it has ended: no memory any more
			return most
		}
		kib, err := strconv.Atoi(string(found[1]))
		require.NoError(t, err)
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(name) == "ceralacca" {
			most = max(most, kib)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var peak = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)
