//go:build unix

package tlog_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/tlog"
)

// cpuTime is what this process has used so far, garbage collection included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// best measures f five times and gives the CPU time of one of its n acts in the best of them:
// what else a machine does can only make a run slower.
func best(n int, f func()) time.Duration {
	least := time.Duration(1<<63 - 1)
	for range 5 {
		begun := cpuTime()
		f()
		least = min(least, cpuTime()-begun)
	}
	return least / time.Duration(n)
}

func row(name string, value float64, unit string) { fmt.Printf("%-44s %12.2f %s\n", name, value, unit) }

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// BenchmarkReport is what `make bench-tlog` shows first: name, value and unit on a line, in CPU
// time of one core. The log has a million entries, an entry 400 bytes where it is written.
func BenchmarkReport(b *testing.B) {
	for range b.N {
		reportOnce(b)
	}
}

func reportOnce(b *testing.B) {
	ctx := context.Background()
	d := &discard{}
	l, err := tlog.Open(ctx, d, tlog.EmptyTree())
	require.NoError(b, err)
	const n = 100_000
	one := best(n, func() {
		for range n {
			_, err := l.Append(ctx, leaf400)
			require.NoError(b, err)
		}
	})
	row("tlog_append", float64(time.Second)/float64(one), "entries/s/core")
	entryBytes := (l.Size() - l.Size()%tlog.TileWidth) * int64(2+len(leaf400))
	row("tlog_tile_bytes", float64(d.bytes-entryBytes)/float64(l.Size()), "B/entry")
	writes := d.writes
	one = best(100, func() {
		for range 100 {
			for range 500 {
				_, err := l.Append(ctx, leaf400)
				require.NoError(b, err)
			}
			_, err := l.Commit(ctx)
			require.NoError(b, err)
		}
	})
	row("tlog_commit_500", micros(one), "us")
	row("tlog_commit_500_writes", float64(d.writes-writes)/500, "files")
	reportProofs(b)
}

func reportProofs(b *testing.B) {
	ctx := context.Background()
	s, tree := million(b)
	const at = 654321
	leaf := tlog.LeafHash([]byte{at & 0xff, at >> 8 & 0xff, at >> 16, 0, 0, 0, 0, 0})
	proof, err := tlog.Inclusion(ctx, s, tree, at)
	require.NoError(b, err)
	for _, m := range []struct {
		name string
		n    int
		act  func(i int, p *tlog.Prover) error
	}{
		{"tlog_inclusion_build", 50, func(int, *tlog.Prover) error { _, err := tlog.Inclusion(ctx, s, tree, at); return err }},
		{"tlog_inclusion_build_of_500", 500, func(i int, p *tlog.Prover) error { _, err := p.Inclusion(ctx, int64(at+i)); return err }},
		{"tlog_inclusion_verify", 5000, func(int, *tlog.Prover) error { return tlog.CheckInclusion(proof, tree, at, leaf) }},
		{"tlog_consistency_build", 50, func(int, *tlog.Prover) error { _, err := tlog.Consistency(ctx, s, at, tree); return err }},
		{"tlog_open", 200, func(int, *tlog.Prover) error { _, err := tlog.Open(ctx, s, tree); return err }},
	} {
		one := best(m.n, func() {
			p := tlog.NewProver(s, tree)
			for i := range m.n {
				require.NoError(b, m.act(i, p))
			}
		})
		row(m.name, micros(one), "us")
	}
	w := newWorld(b)
	r, entry := receipt(b, w)
	raw, err := r.Marshal()
	require.NoError(b, err)
	one := best(200, func() {
		for range 200 {
			r, err := tlog.ParseReceipt(raw)
			require.NoError(b, err)
			_, err = r.Verify(entry, w.policy, tlog.StampPolicy{})
			require.NoError(b, err)
		}
	})
	row("tlog_receipt_verify", micros(one), "us (one log, two witnesses)")
	row("tlog_receipt_size", float64(len(raw)), "B")
}
