//go:build unix

package fatturapa_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

var reportDocs = flag.Int("report-docs", 4000, "files of about 10 kB to measure with")

// runs is how often each thing is measured: the best counts, since what else a
// machine does can only make a run slower.
const runs = 5

// cpuTime is what this process has used so far, garbage collection included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func row(name string, value float64, unit, target string) {
	fmt.Printf("%-44s %12.2f %-16s (target %s)\n", name, value, unit, target)
}

// BenchmarkReport is what `make bench-fatturapa` shows first: name, value, unit and
// target on a line, beside libxml2 on the same files where the official schema is
// at hand. CPU time is counted, not time on the clock, so that other work on the
// machine disturbs little.
func BenchmarkReport(b *testing.B) {
	for range b.N {
		reportOnce(b)
	}
}

func reportOnce(b *testing.B) {
	best, ratio, size := largeInvoice(b)
	row(fmt.Sprintf("fatturapa: %.1f MB, 10000 lines, full check", float64(size)/1e6), float64(best.Microseconds())/1000, "ms", "< 150")
	row("fatturapa: memory of that invoice / its size", ratio, "ratio", "< 5")
	dir := b.TempDir()
	var files []string
	var raws [][]byte
	var bytes int
	for i := range *reportDocs {
		raw := fatturapatest.Invoice(fatturapatest.Options{Size: 10_000, Numero: fmt.Sprint(i + 1)})
		bytes += len(raw)
		if len(raws) < 200 { // few: a large heap would spare the garbage collector its work
			raws = append(raws, raw)
		}
		name := fmt.Sprintf("%05d.xml", i)
		files = append(files, name)
		require.NoError(b, os.WriteFile(filepath.Join(dir, name), raw, 0o644))
	}
	alone := bestOf(func() {
		for i, name := range files {
			f, err := fatturapa.Parse(raws[i%len(raws)])
			require.NoError(b, err)
			fatturapa.Check(f, fatturapa.Options{FileName: name})
		}
	})
	row("fatturapa: parse+structure+rules, 10 kB", float64(len(files))/alone.Seconds(), "docs/cpu-second", ">= 10000")
	ours := checkFiles(b, dir, files) // libxml2 reads its files too
	row("fatturapa: the same with reading the files", float64(len(files))/ours.Seconds(), "docs/cpu-second", ">= 10000")
	row("fatturapa: throughput", float64(bytes)/ours.Seconds()/1e6, "MB/cpu-second", "-")
	b.ReportMetric(float64(len(files))/ours.Seconds(), "docs/cpu-s")
	if !haveReference(b) {
		fmt.Println("xmllint or the official schema is not here: no comparison")
		return
	}
	theirs := xmllintCPU(b, dir, files) - xmllintCPU(b, dir, files[:1])
	row("libxml2: parse+schema, same files", float64(len(files))/theirs.Seconds(), "docs/cpu-second", "-")
	row("fatturapa / libxml2", theirs.Seconds()/ours.Seconds(), "ratio", ">= 1.00")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-libxml2")
	reportSamples(b)
}

// reportSamples compares on the files from the wild that fit the schema, each many
// times over.
func reportSamples(b *testing.B) {
	folder, err := filepath.Abs(filepath.Join(reference, "samples"))
	require.NoError(b, err)
	paths, err := filepath.Glob(folder + "/*.xml")
	require.NoError(b, err)
	var files []string
	var raws [][]byte
	size := 0
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(b, err)
		f, err := fatturapa.Parse(raw)
		if err != nil || f.Schema != fatturapa.SchemaOrdinary || len(raw) > 100_000 { // one is two megabytes of Causale
			continue
		}
		if r, err := fatturapa.CheckStructure(f, fatturapa.StructureOptions{}); err == nil && r.Valid() {
			files, raws = append(files, filepath.Base(p)), append(raws, raw)
			size += len(raw)
		}
	}
	if len(files) == 0 {
		fmt.Println("the samples are not here: no comparison on them")
		return
	}
	many := slices.Repeat(files, max(1, *reportDocs/len(files)))
	alone := bestOf(func() {
		for i, name := range many {
			f, err := fatturapa.Parse(raws[i%len(raws)])
			require.NoError(b, err)
			fatturapa.Check(f, fatturapa.Options{FileName: name})
		}
	})
	ours := bestOf(func() {
		for _, name := range many {
			raw, err := os.ReadFile(filepath.Join(folder, name))
			require.NoError(b, err)
			f, err := fatturapa.Parse(raw)
			require.NoError(b, err)
			fatturapa.Check(f, fatturapa.Options{FileName: name})
		}
	})
	theirs := xmllintCPU(b, folder, many) - xmllintCPU(b, folder, many[:1])
	row(fmt.Sprintf("fatturapa: all checks, %d samples of %.1f kB", len(files), float64(size)/float64(len(files))/1000), float64(len(many))/alone.Seconds(), "docs/cpu-second", ">= 10000")
	row("fatturapa: the same with reading the files", float64(len(many))/ours.Seconds(), "docs/cpu-second", ">= 10000")
	row("libxml2: parse+schema, same samples", float64(len(many))/theirs.Seconds(), "docs/cpu-second", "-")
	row("fatturapa / libxml2 on samples", theirs.Seconds()/ours.Seconds(), "ratio", ">= 1.00")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-libxml2-samples")
}

// bestOf is the CPU time of the best of several runs.
func bestOf(run func()) time.Duration {
	best := time.Duration(1<<63 - 1)
	for range runs {
		runtime.GC()
		start := cpuTime()
		run()
		best = min(best, cpuTime()-start)
	}
	return best
}

// The memory of a large invoice does not depend on the machine, so it is a test.
func TestLargeInvoiceTakesLittleMemory(t *testing.T) {
	_, ratio, _ := largeInvoice(t)
	require.Less(t, ratio, 5.0)
}

// checkFiles reads and checks every file, one after the other, and returns the
// CPU time of the best of several runs.
func checkFiles(t testing.TB, dir string, files []string) time.Duration {
	best := time.Duration(1<<63 - 1)
	var before, after runtime.MemStats
	for range runs {
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := cpuTime()
		for _, name := range files {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			f, err := fatturapa.Parse(raw)
			require.NoError(t, err)
			if r := fatturapa.Check(f, fatturapa.Options{FileName: "IT01234567890_" + name}); !r.Valid() {
				t.Fatal(name, r.Findings)
			}
		}
		best = min(best, cpuTime()-start)
		runtime.ReadMemStats(&after)
	}
	n := uint64(len(files))
	row("fatturapa: allocation, reading included", float64((after.TotalAlloc-before.TotalAlloc)/n)/1000, "kB/doc", "-")
	row("fatturapa: allocations, reading included", float64((after.Mallocs-before.Mallocs)/n), "allocs/doc", "-")
	return best
}

// xmllintCPU is the CPU time of one xmllint process over many files.
func xmllintCPU(t testing.TB, dir string, files []string) time.Duration {
	xsd, err := filepath.Abs(filepath.Join(reference, "xsd/offline/VFPR12_1.2.3.xsd"))
	require.NoError(t, err)
	best := time.Duration(1<<63 - 1)
	for range runs {
		cmd := exec.Command("xmllint", append([]string{"--nonet", "--noout", "--schema", xsd}, files...)...)
		cmd.Dir = dir
		require.NoError(t, cmd.Run())
		best = min(best, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	return best
}

// largeInvoice checks an invoice of ten thousand lines: the best time of several
// runs, and everything allocated in a run, garbage included, over the file size.
func largeInvoice(t testing.TB) (best time.Duration, ratio float64, size int) {
	raw := fatturapatest.Invoice(fatturapatest.Options{Lines: 10_000})
	require.Less(t, len(raw), 4_900_000)
	var before, after runtime.MemStats
	best = time.Duration(1<<63 - 1)
	for range runs {
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		f, err := fatturapa.Parse(raw)
		require.NoError(t, err)
		r := fatturapa.Check(f, fatturapa.Options{})
		best = min(best, time.Since(start))
		runtime.ReadMemStats(&after)
		require.Empty(t, r.Findings)
		require.Len(t, f.Bodies[0].DatiBeniServizi.DettaglioLinee, 10_000)
	}
	return best, float64(after.TotalAlloc-before.TotalAlloc) / float64(len(raw)), len(raw)
}
