//go:build unix

package fatturapa_test

import (
	"archive/zip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// BenchmarkZIP checks a ZIP of ten thousand invoices with the command line tool, as a
// user does, and one of a thousand, to see whether memory grows with the archive.
func BenchmarkZIP(b *testing.B) {
	for range b.N {
		dir := b.TempDir()
		tool := filepath.Join(dir, "ceralacca")
		if out, err := exec.Command("go", "build", "-o", tool, "ceralacca.dev/services/cmd/ceralacca").CombinedOutput(); err != nil {
			b.Fatalf("building the tool: %v: %s", err, out)
		}
		_, _, small := checkZIP(b, tool, writeZIP(b, filepath.Join(dir, "small.zip"), 1000), 1000)
		archive := writeZIP(b, filepath.Join(dir, "large.zip"), 10_000)
		best, cpu, memory := checkZIP(b, tool, archive, 10_000)
		for range runs - 1 {
			again, its, peak := checkZIP(b, tool, archive, 10_000)
			best, cpu, memory = min(best, again), min(cpu, its), max(memory, peak)
		}
		row("ceralacca invoice check, ZIP of 10000, time", best.Seconds(), "s", fmt.Sprintf("< 2 on two cores; %d here", runtime.NumCPU()))
		row("ceralacca invoice check, ZIP of 10000, CPU", cpu.Seconds(), "cpu-seconds", "< 4")
		row("ceralacca invoice check, ZIP of 10000, memory", float64(memory)/1e6, "MB at the peak", "-")
		row("memory for 10000 / memory for 1000", float64(memory)/float64(small), "ratio", "< 1.5, flat")
		b.ReportMetric(best.Seconds(), "s/10000")
	}
}

// writeZIP makes an archive of distinct invoices of about 10 kB.
func writeZIP(b *testing.B, name string, n int) string {
	b.Helper()
	f, err := os.Create(name)
	require.NoError(b, err)
	w := zip.NewWriter(f)
	for i := range n {
		m, err := w.Create(fmt.Sprintf("IT01234567890_%05d.xml", i))
		require.NoError(b, err)
		_, err = m.Write(fatturapatest.Invoice(fatturapatest.Options{Size: 10_000, Numero: fmt.Sprint(i + 1), Data: "2026-03-16"}))
		require.NoError(b, err)
	}
	require.NoError(b, w.Close())
	require.NoError(b, f.Close())
	return name
}

// checkZIP runs the tool and gives time, CPU time and the largest memory in bytes.
func checkZIP(b *testing.B, tool, name string, n int) (elapsed, cpu time.Duration, memory int64) {
	b.Helper()
	cmd := exec.Command(tool, "invoice", "check", "--names", "--at", "2026-06-01", name)
	var out strings.Builder
	cmd.Stdout = &out
	start := time.Now()
	require.NoError(b, cmd.Run())
	elapsed = time.Since(start)
	require.Contains(b, out.String(), fmt.Sprintf("files: %d; valid: %d;", n, n))
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	require.True(b, ok)
	memory = usage.Maxrss
	if runtime.GOOS == "linux" {
		memory *= 1024
	}
	return elapsed, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), memory
}
