package signer_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/bus"
)

// BenchmarkInvoices signs 10 kB invoices end to end: event, intent, Vault, verification, blob, event.
// The process's own CPU time covers signer, probe and NATS; Vault and PostgreSQL are other processes.
func BenchmarkInvoices(b *testing.B) {
	for name, key := range map[string]signv1.KeyType{"P-256": p256, "RSA-3072": rsa3072} {
		b.Run(name, func(b *testing.B) {
			h := open(b)
			h.credential(b, company, automatic, key)
			events := make([]*invoicev1.InvoiceAccepted, b.N)
			filler := strings.Repeat("<DettaglioLinee>riga</DettaglioLinee>", 270)
			for i := range events {
				ref, err := h.probe.host.Blobs.Put(context.Background(), "acme", fmt.Appendf(nil, "<f n='%d'>%s</f>", i, filler))
				require.NoError(b, err)
				events[i] = &invoicev1.InvoiceAccepted{
					Invoice: company + "/invoices/" + uuid.NewString(), Format: "FPR12", Sign: true, Original: blobOf(ref),
				}
			}
			b.ResetTimer()
			began, cpu := time.Now(), cpuTime(b)
			for len(events) > 0 {
				n := min(len(events), 100)
				err := h.probe.host.DB.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
					for _, ev := range events[:n] {
						err := h.probe.host.Bus.Emit(bus.WithCorrelation(ctx, ev.GetInvoice()), tx, ev)
						if err != nil {
							return err
						}
					}
					return nil
				})
				require.NoError(b, err)
				events = events[n:]
			}
			for len(h.probe.signedOf("")) < b.N {
				time.Sleep(2 * time.Millisecond)
			}
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "signatures/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/signature")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
