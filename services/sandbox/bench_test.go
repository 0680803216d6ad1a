package sandbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"github.com/stretchr/testify/require"
)

// BenchmarkInvoice is one invoice through the sandbox: submission, judgement, signed receipt,
// callback; the transmitter's share is in the figure. cpu-us/op is processor time.
func BenchmarkInvoice(b *testing.B) {
	for name, ecdsaReceipts := range map[string]bool{"rsa2048": false, "p256": true} {
		b.Run(name, func(b *testing.B) { benchInvoice(b, sandbox.Config{ECDSAReceipts: ecdsaReceipts}) })
	}
}

func benchInvoice(b *testing.B, cfg sandbox.Config) {
	ctx := context.Background()
	srv, err := sandbox.Start(ctx, cfg)
	require.NoError(b, err)
	defer srv.Close()
	var got atomic.Int64
	endpoint := httptest.NewUnstartedServer(sdi.TrasmissioneFattureHandler(func(*http.Request, sdi.Operation, sdi.FileSdI) error {
		got.Add(1)
		return nil
	}, sdi.ServerOptions{}))
	acc, err := client.New(srv.Endpoints().ControlURL).Accredit(ctx, client.AccreditationRequest{
		FiscalID: fiscalID, CallbackURL: "https://" + endpoint.Listener.Addr().String(),
	})
	require.NoError(b, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(acc.CAPEM))
	server, err := tls.X509KeyPair([]byte(acc.ServerCertPEM), []byte(acc.ServerKeyPEM))
	require.NoError(b, err)
	endpoint.TLS = &tls.Config{Certificates: []tls.Certificate{server}}
	endpoint.StartTLS()
	defer endpoint.Close()
	own, err := tls.X509KeyPair([]byte(acc.ClientCertPEM), []byte(acc.ClientKeyPEM))
	require.NoError(b, err)
	c := &sdi.Client{URL: srv.Endpoints().SdIURL, HTTP: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: pool}, MaxIdleConnsPerHost: 16,
	}}}
	var seq atomic.Int64
	start := cpu()
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := seq.Add(1)
			prog, _ := sdi.Progressivo(uint64(i))
			r, err := c.RiceviFile(ctx, sdi.FileSdIBase{
				NomeFile: "IT" + fiscalID + "_" + prog + ".xml",
				File:     fatturapatest.Invoice(fatturapatest.Options{Numero: fmt.Sprint(i), CodiceDestinatario: "ABC1234", Lines: 10}),
			})
			if err != nil || !r.Accepted() {
				b.Errorf("%+v %v", r, err)
				return
			}
		}
	})
	for got.Load() < seq.Load() {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "invoices/s")
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/float64(b.N), "heap-B/op") // what one invoice leaves behind
}

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	if err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
