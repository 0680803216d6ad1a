package bus_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus"
)

// ownCPU is the CPU time of this process: bus, handlers and the nats-server in it.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// postgresCPU is the CPU time of all postgres processes of the machine, where /proc tells it.
func postgresCPU() time.Duration {
	var ticks int64
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	for _, f := range stats {
		raw, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(raw), "(postgres)") {
			continue
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		fields := strings.Fields(rest)
		for _, i := range []int{11, 12} { // utime and stime
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err == nil {
				ticks += n
			}
		}
	}
	return time.Duration(ticks) * (time.Second / 100)
}

func report(b *testing.B, n int, began time.Time, own, pgs time.Duration) {
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "events/s")
	b.ReportMetric(float64((ownCPU()-own).Microseconds())/float64(n), "cpu-µs/event")
	b.ReportMetric(float64((postgresCPU()-pgs).Microseconds())/float64(n), "pg-µs/event")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEmitToHandled is the whole way of an event: one transaction each to emit it, relay,
// JetStream, and a handler that writes one row.
func BenchmarkEmitToHandled(b *testing.B) {
	for _, tenants := range []int{1, 50} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			w := newWorld(b)
			var handled atomic.Int64
			done := make(chan struct{})
			p := w.start(b, func(bs *bus.Bus) {
				bus.On(bs, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
					_, err := tx.Exec(ctx, `INSERT INTO request_log (tenant_id, method, request_id, request_hash, response) VALUES ($1, 'm', $2, '', '')`,
						bus.Meta(ctx).Tenant, ev.GetInvoice())
					if handled.Add(1) == int64(b.N) {
						close(done)
					}
					return err
				})
			})
			b.ResetTimer()
			began, own, pgs := time.Now(), ownCPU(), postgresCPU()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						err := p.tryEmit(context.Background(), fmt.Sprintf("t%d", i%int64(tenants)), strconv.FormatInt(i, 10))
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			<-done
			report(b, b.N, began, own, pgs)
		})
	}
}

// BenchmarkDeliver is what consuming alone costs: the events are in the stream already.
func BenchmarkDeliver(b *testing.B) {
	w := newWorld(b)
	feed(b, w, b.N)
	var handled atomic.Int64
	done := make(chan struct{})
	b.ResetTimer()
	began, own, pgs := time.Now(), ownCPU(), postgresCPU()
	w.start(b, func(bs *bus.Bus) {
		bus.On(bs, "c", func(context.Context, pgx.Tx, *invoicev1.InvoiceAccepted) error {
			if handled.Add(1) == int64(b.N) {
				close(done)
			}
			return nil
		})
	})
	<-done
	report(b, b.N, began, own, pgs)
}

// BenchmarkRelay is what publishing alone costs: the rows are in the outbox already.
func BenchmarkRelay(b *testing.B) {
	w := newWorld(b)
	fill(b, w.open(b), b.N)
	b.ResetTimer()
	began, own, pgs := time.Now(), ownCPU(), postgresCPU()
	w.start(b, nil)
	for w.scalar(`SELECT count(*) FROM (SELECT FROM outbox LIMIT 1) AS rest`) > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	report(b, b.N, began, own, pgs)
}

// BenchmarkEmit is the caller's share: a transaction that emits, in batches of one and of hundred.
func BenchmarkEmit(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("per-tx=%d", batch), func(b *testing.B) {
			w := newWorld(b)
			p := w.open(b)
			b.ResetTimer()
			began, own, pgs := time.Now(), ownCPU(), postgresCPU()
			n := 0
			for b.Loop() {
				fill(b, p, batch)
				n += batch
			}
			report(b, n, began, own, pgs)
		})
	}
}

// fill commits n events.
func fill(b *testing.B, p *process, n int) {
	b.Helper()
	for n > 0 {
		some := min(n, 1000)
		n -= some
		require.NoError(b, p.db.Tx(context.Background(), "anna", func(ctx context.Context, tx pgx.Tx) error {
			for i := range some {
				err := p.Emit(ctx, tx, &invoicev1.InvoiceAccepted{Invoice: strconv.Itoa(i), Format: "FPR12", RecipientCode: "0000000"})
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// feed publishes n events and stops the bus that did it.
func feed(b *testing.B, w *world, n int) {
	b.Helper()
	p := w.start(b, nil)
	fill(b, p, n)
	w.settled(p)
	p.stop()
}

// BenchmarkSteady is a load that a pipeline has, far below what is possible: n events a second, each
// in a transaction of its own. What counts is the CPU time of one event.
func BenchmarkSteady(b *testing.B) {
	for _, rate := range []int{100, 400, 1500} {
		for _, linger := range []time.Duration{-1, 2 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond} {
			b.Run(fmt.Sprintf("rate=%d/linger=%s", rate, max(linger, 0)), func(b *testing.B) { steady(b, rate, linger) })
		}
	}
}

func steady(b *testing.B, rate int, linger time.Duration) {
	w := newWorld(b)
	n := 3 * rate
	var handled atomic.Int64
	var late atomic.Int64
	done := make(chan struct{})
	p := w.start(b, func(bs *bus.Bus) {
		bus.On(bs, "c", func(ctx context.Context, _ pgx.Tx, _ *invoicev1.InvoiceAccepted) error {
			late.Add(int64(time.Since(bus.Meta(ctx).Time)))
			if handled.Add(1) == int64(n) {
				close(done)
			}
			return nil
		})
	}, func(c *bus.Config) { c.Linger = linger })
	began, own, pgs := time.Now(), ownCPU(), postgresCPU()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var wg sync.WaitGroup
	for i := range n {
		<-tick.C
		wg.Go(func() {
			err := p.tryEmit(context.Background(), "anna", strconv.Itoa(i))
			if err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	<-done
	report(b, n, began, own, pgs)
	b.ReportMetric(float64(late.Load())/float64(n)/1e6, "ms-late")
}

// BenchmarkLatency is the time from the commit of one event to its handling on an idle bus.
func BenchmarkLatency(b *testing.B) {
	w := newWorld(b)
	handled := make(chan struct{}, 1)
	p := w.start(b, func(bs *bus.Bus) {
		bus.On(bs, "c", func(context.Context, pgx.Tx, *invoicev1.InvoiceAccepted) error {
			handled <- struct{}{}
			return nil
		})
	})
	for b.Loop() {
		fill(b, p, 1)
		<-handled
	}
}
