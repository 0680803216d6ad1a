//go:build soak && linux

package sdigateway_test

import (
	"bufio"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/sandbox/client"
)

var (
	memoryFor  = flag.Duration("memory-for", 3*time.Minute, "how long TestMemoryStaysFlat works; the full measure is 1h")
	memoryRate = flag.Int("memory-rate", 40, "documents sent a second; every tenth second one is received")
)

// sample is the memory of a process.
type sample struct {
	at        time.Duration
	rss, heap float64 // MB
	files     int
}

// TestMemoryStaysFlat works a gateway in a process of its own for a while - documents sent, receipts taken in, invoices
// received - and prints what memory it holds. After a warm-up of a third of the time it may not grow.
func TestMemoryStaysFlat(t *testing.T) {
	w := newWard(t, "SDICOOP", 1)
	t.Cleanup(func() { debug.FreeOSMemory() })
	begin := time.Now()
	var curve []sample
	files, told := 0, 0
	fmt.Printf("%8s %10s %10s %10s\n", "minute", "RSS MB", "heap MB", "files")
	for next := begin; time.Since(begin) < *memoryFor; next = next.Add(time.Second) {
		for range *memoryRate {
			w.accept(t, "FPR12", "SBXRC00", fmt.Sprintf("M%d", files))
			files++
		}
		if files%(10**memoryRate) == 0 {
			_, err := w.sandbox.Deliver(t.Context(), client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: fmt.Sprintf("MR%d", files)}})
			require.NoError(t, err)
		}
		for len(w.heard) > 0 {
			<-w.heard
			told++
		}
		if s := w.memory(t, w.gates[0], begin, files); len(curve) == 0 || s.at-curve[len(curve)-1].at >= *memoryFor/36 {
			curve = append(curve, s)
			fmt.Printf("%8.1f %10.1f %10.1f %10d\n", s.at.Minutes(), s.rss, s.heap, s.files)
		}
		time.Sleep(time.Until(next.Add(time.Second)))
	}
	eventually(t, "the end of what is under way", func() (bool, string) {
		n := w.counted(t, "SELECT count(*) FROM transmission WHERE state = 'DELIVERED'")
		return n == files, fmt.Sprintf("%d of %d", n, files)
	})
	warm, last := curve[len(curve)/3:2*len(curve)/3], curve[2*len(curve)/3:]
	rss := func(s sample) float64 { return s.rss }
	heap := func(s sample) float64 { return s.heap }
	fmt.Printf("# %d files, %d events; RSS %.1f MB then, %.1f MB at the end; heap %.1f MB then, %.1f MB at the end\n",
		files, told, median(warm, rss), median(last, rss), median(warm, heap), median(last, heap))
	require.Less(t, median(last, rss), median(warm, rss)*1.15+8, "resident memory grows")
	require.Less(t, median(last, heap), median(warm, heap)*1.25+8, "the heap grows")
}

func median(list []sample, of func(sample) float64) float64 {
	var values []float64
	for _, s := range list {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// memory reads what a gateway holds: resident as the system says, the heap as its own metrics say.
func (w *ward) memory(t *testing.T, g *gateway, begin time.Time, files int) sample {
	t.Helper()
	s := sample{at: time.Since(begin), files: files}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			require.NoError(t, err)
			s.rss = kb / 1e3
		}
	}
	resp, err := http.Get(g.metrics)
	require.NoError(t, err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_memstats_heap_inuse_bytes "); ok {
			bytes, err := strconv.ParseFloat(rest, 64)
			require.NoError(t, err)
			s.heap = bytes / 1e6
		}
	}
	require.NotZero(t, s.heap, "the metric of the heap")
	return s
}
