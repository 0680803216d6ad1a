package conservation

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

// BenchmarkIntake takes settled invoices (document, receipt, metadata) into custody.
func BenchmarkIntake(b *testing.B) {
	h := open(b, true)
	events := make([]*invoicev1.InvoiceSettled, b.N)
	for i := range events {
		events[i] = h.invoice(b, i)
	}
	b.ResetTimer()
	began, cpu := time.Now(), cpuTime(b)
	h.settleAll(b, events)
	for taken, _, _ := h.counts(); taken < b.N; taken, _, _ = h.counts() {
		time.Sleep(2 * time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "units/s")
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/unit")
}

// BenchmarkSeal closes and seals one package of b.N units; run it with -benchtime 10000x.
func BenchmarkSeal(b *testing.B) {
	h := open(b, true)
	events := make([]*invoicev1.InvoiceSettled, b.N)
	for i := range events {
		events[i] = h.invoice(b, i)
	}
	h.settleAll(b, events)
	for taken, _, _ := h.counts(); taken < b.N; taken, _, _ = h.counts() {
		time.Sleep(2 * time.Millisecond)
	}
	b.ResetTimer()
	began := time.Now()
	p := h.awaitSealed(b, h.closePackage(b).GetName())
	b.ReportMetric(time.Since(began).Seconds(), "seconds/package")
	b.ReportMetric(float64(p.GetArchive().GetSize())/float64(b.N), "bytes/unit")
	require.EqualValues(b, min(b.N, 10_000), p.GetUnitCount())
	index := time.Now()
	row, err := h.service.pack(context.Background(), "acme", sealArgs(b, p.GetName()))
	require.NoError(b, err)
	_, err = h.service.writeIndex(context.Background(), row)
	require.NoError(b, err)
	b.ReportMetric(time.Since(index).Seconds(), "seconds/index")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
