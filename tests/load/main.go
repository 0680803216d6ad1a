// Command load measures the whole pipeline: services, PostgreSQL, NATS, Vault and the sandbox together on
// this machine. Invoices enter through CreateInvoice and are finished when they are signed, sent, delivered,
// in the archive's custody, and the customer was told. It prints lines `name value unit (target ...)`.
//
// Throughput is the number of finished invoices over the time from the first submission to the last
// finish: a backlog that builds up counts against it. CPU time is that of the operating system, by process.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/tests/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var o options
	flag.DurationVar(&o.duration, "duration", 60*time.Second, "how long invoices are submitted as fast as they are taken")
	flag.IntVar(&o.workers, "workers", 32, "submitters at the same time")
	flag.IntVar(&o.customers, "customers", 1, "tenants that the invoices belong to; with more, what is done together per tenant is less")
	flag.IntVar(&o.ahead, "ahead", 1200, "invoices that may be under way: the load follows the pipeline instead of flooding it")
	flag.StringVar(&o.modes, "mode", "one-process,many-processes", "shapes of the deployment to measure, in turn")
	flag.StringVar(&o.keys, "keys", "p256,rsa3072", "signing keys to measure, in turn")
	flag.BoolVar(&o.rsaReceipts, "rsa-receipts", false, "the sandbox signs its receipts with RSA-2048, as SdI does, instead of P-256: 1.3 ms of CPU time more for each, that a real exchange spends elsewhere")
	flag.DurationVar(&o.latency, "latency", 20*time.Second, "how long CreateInvoice is called 50 times a second for its latency; 0 is not at all")
	flag.Parse()
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

type options struct {
	duration, latency         time.Duration
	workers, customers, ahead int
	modes, keys               string
	rsaReceipts               bool
}

func (o options) run(ctx context.Context) error {
	for _, mode := range harness.Modes {
		for _, key := range []string{"p256", "rsa3072"} {
			if !slices.Contains(strings.Split(o.modes, ","), string(mode)) || !slices.Contains(strings.Split(o.keys, ","), key) {
				continue
			}
			err := o.measure(ctx, mode, key)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", mode, key, err)
			}
		}
	}
	return nil
}

// measure brings a platform up, loads it and prints its figures.
func (o options) measure(ctx context.Context, mode harness.Mode, key string) (err error) {
	dir, err := os.MkdirTemp("", "ceralacca-load")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := harness.Start(ctx, harness.Options{Mode: mode, Dir: dir, RSA: key == "rsa3072", ECDSAReceipts: !o.rsaReceipts})
	if err != nil {
		return err
	}
	defer func() {
		stopErr := p.Stop()
		if err == nil {
			err = stopErr
		}
	}()
	r := &round{options: o, key: strings.ReplaceAll(key+"_"+string(mode), "-", "_"), platform: p}
	err = r.prepare(ctx)
	if err != nil {
		return err
	}
	if o.latency > 0 && key == "p256" && mode == harness.OneProcess {
		err = r.pace(ctx)
		if err != nil {
			return err
		}
	}
	return r.flood(ctx)
}

// round is one platform under load.
type round struct {
	options
	key       string
	platform  *harness.Platform
	customers []*harness.Customer

	submitted, finished atomic.Int64
	lastFinish          atomic.Int64 // unix nanoseconds
}

func (r *round) prepare(ctx context.Context) error {
	err := r.platform.Prepare(ctx)
	if err != nil {
		return err
	}
	for n := range r.options.customers {
		c, err := r.platform.Onboard(ctx, n)
		if err != nil {
			return err
		}
		r.customers = append(r.customers, c)
		go r.watch(ctx, c)
	}
	return nil
}

// watch counts the invoices that a customer's log says are in custody.
func (r *round) watch(ctx context.Context, c *harness.Customer) {
	var after int64
	for ctx.Err() == nil {
		err := c.Stream(ctx, after, func(e *invoicev1.Event) bool {
			after = e.GetPosition()
			if e.GetType() == "preservation.taken_in_charge" {
				r.lastFinish.Store(time.Now().UnixNano())
				r.finished.Add(1)
			}
			return false
		})
		if err != nil && ctx.Err() == nil && !harness.Again(err) {
			return // the platform is going down
		}
	}
}

func (r *round) submit(ctx context.Context, n int64) (time.Duration, error) {
	c := r.customers[n%int64(len(r.customers))]
	content := c.XML("FPR12", "SBXRC00", fmt.Sprintf("L-%d", n))
	begun := time.Now()
	_, err := c.Invoices.CreateInvoice(c.Ctx(ctx), &invoicev1.CreateInvoiceRequest{Parent: c.Company, Content: content, RequestId: uuid.NewString()})
	return time.Since(begun), err
}

// pace calls CreateInvoice 50 times a second and reports its latency.
func (r *round) pace(ctx context.Context) error {
	const rate = 50
	var mu sync.Mutex
	var took []time.Duration
	var failed atomic.Int64
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for range int(r.latency.Seconds()) * rate {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			d, err := r.submit(ctx, r.submitted.Add(1))
			if err != nil {
				failed.Add(1)
				return
			}
			mu.Lock()
			took = append(took, d)
			mu.Unlock()
		}()
	}
	wg.Wait()
	if failed.Load() > 0 {
		return fmt.Errorf("%d of %d calls failed", failed.Load(), r.submitted.Load())
	}
	slices.Sort(took)
	fmt.Printf("create_invoice_p50_at_50_per_s %.1f ms\n", milliseconds(took[len(took)/2]))
	fmt.Printf("create_invoice_p99_at_50_per_s %.1f ms (target < 50)\n", milliseconds(took[len(took)*99/100]))
	return r.drain(ctx)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// drain waits until everything submitted is finished.
func (r *round) drain(ctx context.Context) error {
	deadline := time.Now().Add(3 * time.Minute)
	for r.finished.Load() < r.submitted.Load() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d invoices are not finished after 3 minutes", r.submitted.Load()-r.finished.Load(), r.submitted.Load())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// flood submits as fast as the pipeline finishes, and reports throughput and CPU time.
func (r *round) flood(ctx context.Context) error {
	before, err := cpuByName(r.platform)
	if err != nil {
		return err
	}
	offset := r.submitted.Load()
	begun := time.Now()
	problems := make(chan error, r.workers)
	var wg sync.WaitGroup
	for range r.workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for time.Since(begun) < r.duration && ctx.Err() == nil {
				if r.submitted.Load()-r.finished.Load() > int64(r.ahead) {
					time.Sleep(2 * time.Millisecond)
					continue
				}
				_, err := r.submit(ctx, r.submitted.Add(1))
				if err != nil {
					problems <- err
					return
				}
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-problems:
		return err
	default:
	}
	err = r.drain(ctx)
	if err != nil {
		return err
	}
	took := time.Unix(0, r.lastFinish.Load()).Sub(begun)
	n := r.submitted.Load() - offset
	target := ""
	if strings.HasPrefix(r.key, "p256") {
		target = " (target >= 150, stretch 280)"
	}
	fmt.Printf("pipeline_%s %.1f invoices/s%s\n", r.key, float64(n)/took.Seconds(), target)
	fmt.Printf("pipeline_%s_count %d invoices in %.1f s\n", r.key, n, took.Seconds())
	return r.account(ctx, before, n)
}

// account checks that nothing was lost or doubled, and prints who spent the CPU time.
func (r *round) account(ctx context.Context, before map[string]time.Duration, n int64) error {
	after, err := cpuByName(r.platform)
	if err != nil {
		return err
	}
	counts, err := r.platform.Sandbox.Counts(ctx)
	if err != nil {
		return err
	}
	if int64(counts.Invoices) != r.submitted.Load() || counts.RepeatedNames+counts.RepeatedContents+counts.RepeatedInvoices != 0 {
		return fmt.Errorf("SdI counts %d invoices of %d, repeated names %d, contents %d, invoices %d",
			counts.Invoices, r.submitted.Load(), counts.RepeatedNames, counts.RepeatedContents, counts.RepeatedInvoices)
	}
	names := make([]string, 0, len(after))
	for name := range after {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int((after[b] - before[b]) - (after[a] - before[a])) })
	var sum time.Duration
	for _, name := range names {
		spent := after[name] - before[name]
		sum += spent
		fmt.Printf("cpu_%s_%s %.2f ms/invoice\n", r.key, name, milliseconds(spent)/float64(n))
	}
	fmt.Printf("cpu_%s_total %.2f ms/invoice\n", r.key, milliseconds(sum)/float64(n))
	return nil
}
