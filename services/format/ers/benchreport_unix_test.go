//go:build unix

package ers_test

import (
	"crypto"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/ers"
)

// best measures f five times and gives the CPU time of one of its n acts in the best of them:
// what else a machine does can only make a run slower.
func best(n int, f func()) time.Duration {
	cpu := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	least := time.Duration(1<<63 - 1)
	for range 5 {
		begun := cpu()
		f()
		least = min(least, cpu()-begun)
	}
	return least / time.Duration(n)
}

func row(name string, value float64, unit string) { fmt.Printf("%-44s %12.2f %s\n", name, value, unit) }

// BenchmarkReport is what `make bench-ers` shows first: name, value and unit on a line, in CPU
// time of one core. A batch has 2,000 groups of two small objects.
func BenchmarkReport(b *testing.B) {
	for range b.N {
		reportOnce(b)
	}
}

func reportOnce(b *testing.B) {
	c := newClerk(b, 5)
	var subjects []ers.Subject
	for i := range 2_000 {
		subjects = append(subjects, ers.Initial(docs(fmt.Sprint(i), 2)...))
	}
	build := func(subjects []ers.Subject) (records [][]byte) {
		batch, err := ers.NewBatch(crypto.SHA256, subjects)
		require.NoError(b, err)
		sealed, err := batch.Seal(c.stamp(b, crypto.SHA256, batch.Root()))
		require.NoError(b, err)
		for i := range subjects {
			der, err := sealed.Record(i)
			require.NoError(b, err)
			records = append(records, der)
		}
		return records
	}
	var records [][]byte
	one := best(len(subjects), func() { records = build(subjects) })
	row("ers_build", float64(time.Second)/float64(one), "records/s/core")
	row("ers_record_size", float64(len(records[0])), "B")
	var renewals []ers.Subject
	one = best(len(records), func() {
		renewals = renewals[:0]
		for _, raw := range records {
			r, err := ers.Parse(raw)
			require.NoError(b, err)
			renewals = append(renewals, ers.Restamp(r))
		}
	})
	row("ers_parse", float64(time.Second)/float64(one), "records/s/core")
	one = best(len(records), func() { build(renewals) })
	row("ers_restamp", float64(time.Second)/float64(one), "records/s/core")
	r, group := aged(b)
	one = best(200, func() {
		for range 200 {
			_, err := r.Verify(group, ers.VerifyOptions{Whole: true})
			require.NoError(b, err)
		}
	})
	row("ers_verify_four_stamps", float64(one.Nanoseconds())/1000, "us")
}
