//go:build unix

package sdigateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/client"
)

var (
	sendFiles  = flag.Int("send-files", 4000, "files to send as they come")
	drainFiles = flag.Int("drain-files", 3000, "files of the backlog to drain; the full measure is 100000")
	drainRate  = flag.Float64("drain-rate", 250, "configured rate of the drain, files a second")
)

func row(name string, value float64, unit, target string) {
	fmt.Printf("%-52s %12.2f %-20s (target %s)\n", name, value, unit, target)
}

// cpuTime is what this process has used so far: the gateway, its embedded NATS, and what asks it.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReport is what `make bench-sdi` shows. The gateway runs on one core; the sandbox and PostgreSQL, which
// syncs every commit to disk here, are processes of their own on the same machine.
func BenchmarkReport(b *testing.B) {
	for range b.N {
		reportOnce(b)
	}
}

func reportOnce(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	g := setupWith(b, options{
		sandbox: startSandbox(b), db: durable(b), watch: true, config: fmt.Sprintf("  drain_rate: %v\n", *drainRate), quiet: true,
	})
	reportSending(b, g)
	first := heapInUse()
	reportCallbacks(b, g)
	reportDrain(b, g)
	reportMemory(first, *sendFiles+*drainFiles)
}

// heapInUse is what lives in this process after a collection: the gateway, its embedded NATS, and what asks it.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// reportMemory says what the later work has left in memory; TestMemoryStaysFlat, under the build tag soak, looks at it
// for as long as one likes.
func reportMemory(first uint64, files int) {
	last := heapInUse()
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	row("sdi: heap after the first files, streams of the broker included", float64(first)/1e6, "MB", "-")
	row("sdi: heap for each further file, the same", float64(last-min(first, last))/1e3/float64(max(files-*sendFiles, 1)), "kB", "-")
	row(fmt.Sprintf("sdi: most memory (RSS) while handling %d files", files), float64(u.Maxrss)/1e3, "MB", "-")
}

// startSandbox runs the simulators in a process of their own.
func startSandbox(b *testing.B) client.Endpoints {
	b.Helper()
	program := filepath.Join(b.TempDir(), "ceralacca-sandbox")
	out, err := exec.CommandContext(b.Context(), "go", "build", "-o", program, "ceralacca.dev/services/cmd/ceralacca-sandbox").CombinedOutput()
	require.NoError(b, err, "%s", out)
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, "--ecdsa-receipts", "--lax-signatures", "--keep-files", "100")
	pipe, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { cancel(); _ = cmd.Wait() })
	line, err := bufio.NewReader(pipe).ReadBytes('\n')
	require.NoError(b, err)
	var e client.Endpoints
	require.NoError(b, json.Unmarshal(line, &e))
	return e
}

// durable is a schema on a server that loses nothing at a power cut.
func durable(b *testing.B) *pg.DB {
	b.Helper()
	_, db := pgtest.Durable(b, "sdi-gateway", filepath.Join(b.TempDir(), "pg"), 16)
	return db
}

// promise tells the gateway of n invoices, sixteen stored at a time, a hundred in a transaction.
func (b *bundle) promise(t testing.TB, code string, n int) {
	t.Helper()
	owner := b.Host("invoice")
	var all sync.WaitGroup
	slots := make(chan struct{}, 16)
	events := make([]*invoicev1.InvoiceAccepted, n)
	run := uuid.NewString()[:4]
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			content := fatturapatest.Invoice(fatturapatest.Options{Numero: fmt.Sprintf("%s/%d", run, i), CodiceDestinatario: code, Lines: 10})
			ref, err := owner.Blobs.Put(context.Background(), "t1", content)
			if err != nil {
				t.Error(err)
				return
			}
			events[i] = &invoicev1.InvoiceAccepted{
				Invoice: "tenants/t1/companies/c1/invoices/" + uuid.NewString(), Format: "FPR12", RecipientCode: code,
				Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/xml"},
			}
		})
	}
	all.Wait()
	for chunk := range slices.Chunk(events, 100) {
		require.NoError(t, owner.DB.Tx(context.Background(), "t1", func(ctx context.Context, tx pgx.Tx) error {
			for _, ev := range chunk {
				err := owner.Bus.Emit(bus.WithCorrelation(ctx, uuid.NewString()), tx, ev)
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// until polls a count until it reaches n.
func (b *bundle) until(t testing.TB, query string, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Minute); b.count(t, query) < n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not reach %d", query, n)
		}
	}
}

const (
	countSent = "SELECT count(*) FROM transmission WHERE sent_at IS NOT NULL"
	countHeld = "SELECT count(*) FROM transmission WHERE held <> ''"
)

// reportSending measures files on their way: reserved, sent, recorded and told, from the moment that they wait
// behind a pause which is ended without a rate. The reservation is in the figure of the CPU.
func reportSending(b *testing.B, g *bundle) {
	n := *sendFiles
	before := g.count(b, countSent)
	cpu, begin := cpuTime(), time.Now()
	g.promise(b, "SBXNONE", n)
	stored := time.Since(begin)
	g.until(b, countSent, before+n)
	took, used := time.Since(begin), cpuTime()-cpu
	fmt.Printf("# %d files of %d lines; storing them took %.1f s of %.1f s\n", n, 10, stored.Seconds(), took.Seconds())
	row("sdi: files stored, reserved and sent, one core", float64(n)/took.Seconds(), "files/s", ">= 300")
	row("sdi: processor time of a file, tester included", used.Seconds()*1000/float64(n), "ms", "<= 3.33")
}

// reportCallbacks pushes a receipt for every file sent, as SdI would, over sixteen connections.
func reportCallbacks(b *testing.B, g *bundle) {
	var files []*sdiv1.Transmission
	for token := ""; ; {
		page, err := g.api.ListTransmissions(context.Background(), &sdiv1.ListTransmissionsRequest{Parent: "tenants/t1", PageSize: 1000, PageToken: token})
		require.NoError(b, err)
		files = append(files, page.GetTransmissions()...)
		token = page.GetNextPageToken()
		if token == "" {
			break
		}
	}
	transport := g.httpClient(b, true).Transport.(*http.Transport)
	transport.MaxIdleConnsPerHost = 64
	caller := &sdi.Client{HTTP: &http.Client{Transport: transport, Timeout: time.Minute}, URL: "https://" + g.callback + "/"}
	now := time.Now()
	cpu, begin := cpuTime(), time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(files); i = next.Add(1) - 1 {
				f := files[i]
				rc := &sdi.RicevutaConsegna{DataOraConsegna: now, Destinatario: sdi.Destinatario{Codice: "ABC1234", Descrizione: "x"}}
				rc.IdentificativoSdI, rc.NomeFile, rc.DataOraRicezione, rc.MessageID = f.GetSdiId(), f.GetFileName(), now, fmt.Sprint(i)
				xml, err := sdi.WriteMessage(rc, sdi.SchemaPA)
				if err == nil {
					name := sdi.NewMessageName(f.GetFileName(), sdi.RC, 1).XMLName()
					err = caller.Notifica(context.Background(), sdi.OpRicevutaConsegna, sdi.FileSdI{IdentificativoSdI: f.GetSdiId(), NomeFile: name, File: xml})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	taken := time.Since(begin)
	row("sdi: callbacks taken in, every commit synced", float64(len(files))/taken.Seconds(), "messages/s", ">= 500")
	g.until(b, "SELECT count(*) FROM transmission WHERE state = 'DELIVERED'", len(files))
	row("sdi: callbacks taken in, read and told", float64(len(files))/time.Since(begin).Seconds(), "messages/s", "-")
	row("sdi: processor time of a callback, tester included", (cpuTime()-cpu).Seconds()*1000/float64(len(files)), "ms", "-")
}

// reportDrain lets a backlog go after a pause. The rate is looked at where the gateway's calls begin; what the exchange
// sees is that, blurred by how long each call is on its way.
func reportDrain(b *testing.B, g *bundle) {
	ctx := context.Background()
	n := *drainFiles
	pause, err := g.operations().PauseSending(ctx, &sdiv1.PauseSendingRequest{Reason: "measure"})
	require.NoError(b, err)
	before := g.count(b, countSent)
	begin := time.Now()
	g.promise(b, "SBXNONE", n)
	g.until(b, countHeld, n)
	row("sdi: files put into the backlog", float64(n)/time.Since(begin).Seconds(), "files/s", "-")
	cpu, begin := cpuTime(), time.Now()
	_, err = g.operations().ResumeSending(ctx, &sdiv1.ResumeSendingRequest{Name: pause.GetName()})
	require.NoError(b, err)
	g.until(b, countSent, before+n)
	took := time.Since(begin)
	row(fmt.Sprintf("sdi: drain of %d files at %v files/s", n, *drainRate), float64(n)/took.Seconds(), "files/s", ">= 167")
	row("sdi: 100000 files at that speed", 100000/(float64(n)/took.Seconds()), "s", "< 600")
	row("sdi: processor time of a drained file", (cpuTime()-cpu).Seconds()*1000/float64(n), "ms", "-")
	page, err := g.sandbox.Received(ctx, client.Query{Limit: before + n})
	require.NoError(b, err)
	var at []time.Time
	for _, f := range page.Files[before:] {
		at = append(at, f.At)
	}
	slices.SortFunc(at, time.Time.Compare)
	begun := g.begun.backlog()
	require.GreaterOrEqual(b, len(begun), n)
	row("sdi: calls begun again, their answer or its record being lost", float64(len(begun)-n), "calls", "-")
	for _, span := range []time.Duration{time.Second, 10 * time.Second} {
		row(fmt.Sprintf("sdi: most calls begun in any %v of the drain", span), float64(mostIn(begun, span)), "calls",
			fmt.Sprintf("<= %.0f", *drainRate*span.Seconds()+burst(*drainRate)))
	}
	row("sdi: most files that the exchange took in any 10s", float64(mostIn(at, 10*time.Second)), "files", "-")
	b.ReportMetric(float64(n)/took.Seconds(), "drained/s")
}
