//go:build unix

package invoice

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"archive/zip"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// What ten thousand invoices of 10 kB cost from the first byte of the upload to the last outcome: files a
// second, CPU of this process (client, service, bus; without PostgreSQL) for each, and how much
// the live heap grew.
func BenchmarkBatch(b *testing.B) {
	const n = 10_000
	files := make([][]byte, n)
	for i := range files {
		files[i] = fileOf(fatturapatest.Options{Numero: fmt.Sprint(i), Size: 10_000})
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for i, content := range files {
		f, err := z.Create(fmt.Sprintf("%05d.xml", i))
		require.NoError(b, err)
		_, err = f.Write(content)
		require.NoError(b, err)
	}
	require.NoError(b, z.Close())
	for _, kind := range []invoicev1.BatchKind{invoicev1.BatchKind_BATCH_KIND_CREATE, invoicev1.BatchKind_BATCH_KIND_CHECK} {
		for _, how := range []string{"files", "archive"} {
			b.Run(kind.String()[len("BATCH_KIND_"):]+"/"+how, func(b *testing.B) {
				for range b.N {
					benchmarkBatch(b, kind, files, map[string][]byte{"archive": archive.Bytes()}[how])
				}
			})
		}
	}
}

func benchmarkBatch(b *testing.B, kind invoicev1.BatchKind, files [][]byte, archive []byte) {
	b.StopTimer()
	w := startBeating(b, time.Second)
	api := w.batches()
	runtime.GC()
	stop, grown := make(chan struct{}), make(chan uint64)
	go func() { grown <- liveGrowth(stop) }()
	before := cpu(b)
	b.StartTimer()
	began := time.Now()
	stream, err := api.CreateInvoices(b.Context())
	require.NoError(b, err)
	send := func(req *invoicev1.CreateInvoicesRequest) { require.NoError(b, stream.Send(req)) }
	send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_Head{Head: &invoicev1.BatchHead{Parent: acmeMain, Kind: kind, RequestId: uuid.NewString()}}})
	const chunk = 512 << 10
	for at := 0; at < len(archive); at += chunk {
		send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_Chunk{Chunk: &invoicev1.ArchiveChunk{Offset: int64(at), Content: archive[at:min(at+chunk, len(archive))]}}})
	}
	for i := range files {
		if archive == nil {
			send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_File{File: &invoicev1.BatchUpload{Index: int64(i), FileName: "x.xml", Content: files[i]}}})
		}
	}
	batch, err := stream.CloseAndRecv()
	require.NoError(b, err)
	received := time.Since(began)
	for batch.GetState() == invoicev1.BatchState_BATCH_STATE_RUNNING {
		time.Sleep(50 * time.Millisecond)
		batch, err = api.GetBatch(b.Context(), &invoicev1.GetBatchRequest{Name: batch.GetName()})
		require.NoError(b, err)
	}
	took := time.Since(began)
	b.StopTimer()
	require.EqualValues(b, len(files), batch.GetCreated())
	spent := cpu(b) - before
	close(stop)
	n := float64(len(files))
	b.ReportMetric(n/took.Seconds(), "files/s")
	b.ReportMetric(n/received.Seconds(), "received/s")
	b.ReportMetric(float64(spent.Microseconds())/n, "cpu-µs/file")
	b.ReportMetric(float64(<-grown)/(1<<20), "live-growth-MiB")
}

// liveGrowth samples what the collector found in use, and gives how much it grew at most: the files and the
// archive of the benchmark itself were there before.
func liveGrowth(stop <-chan struct{}) (most uint64) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	first := sample[0].Value.Uint64()
	for {
		select {
		case <-stop:
			return most
		case <-time.After(20 * time.Millisecond):
			metrics.Read(sample)
			live := sample[0].Value.Uint64()
			most = max(most, live-min(first, live))
		}
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
