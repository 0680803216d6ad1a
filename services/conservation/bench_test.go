package conservation

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/internal/vault"
)

// BenchmarkIntake takes settled invoices (document, receipt, metadata) into custody: with the platform's store
// alone, and with two synced and read-back replicas. Target on two cores: 500 units/s with two replicas.
func BenchmarkIntake(b *testing.B) {
	for name, section := range map[string]string{"one-store": "  storage: {probe: 5s}\n", "two-replicas": ""} {
		b.Run(name, func(b *testing.B) {
			h := openWith(b, false, section)
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
			objects := 0
			h.rowsOf(b, `SELECT count(*) FROM archive_object`, &objects)
			b.ReportMetric(float64(objects)/float64(b.N), "objects/unit")
		})
	}
}

// BenchmarkScrub reads both copies of b.N intake objects of 1 MiB. Target: half of the disk's sequential speed.
func BenchmarkScrub(b *testing.B) {
	h := openWith(b, false, "")
	ctx := context.Background()
	var bytesAll int64
	for range b.N {
		id := uuid.New()
		raw := noise(1 << 20)
		o := &object{
			id: id, kind: kindIntake, retain: time.Now().Add(aDay),
			Object: vault.Object{Key: "tenants/acme/intake/" + id.String(), Size: int64(len(raw)), SHA256: sha256.Sum256(raw)},
		}
		h.service.replicas.place(o)
		require.NoError(b, h.service.replicas.write(ctx, o, bytes.NewReader(raw)))
		require.NoError(b, h.service.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			return h.service.replicas.record(ctx, tx, "acme", []*object{o})
		}))
		bytesAll += 2 * o.Size
	}
	h.admin(b, `UPDATE archive_copy SET check_due = now()`)
	began := time.Now()
	for _, disk := range h.disks {
		require.NoError(b, filepath.WalkDir(disk, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			_, err = os.ReadFile(path)
			return err
		}))
	}
	plain := time.Since(began)
	b.ResetTimer()
	f := &findings{}
	require.NoError(b, h.service.scrub(ctx, f))
	b.StopTimer()
	require.Equal(b, bytesAll, f.Bytes)
	b.ReportMetric(float64(bytesAll)/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(plain.Seconds()/b.Elapsed().Seconds(), "of-plain-reading")
}

func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out)
	return out
}

// BenchmarkSeal closes and seals one package of b.N units; run it with -benchtime 10000x. Targets on two cores for
// 10,000 units: sealed in under 60 s, its index built in under 0.5 s.
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
