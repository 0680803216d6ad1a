//go:build unix

package conservation

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run/runtest"
)

var (
	benchUnits     = flag.Int("units", 5000, "units that are taken in, twice: paced, and as fast as it goes")
	benchRate      = flag.Int("rate", 500, "units settled in a second while their way is timed")
	benchDeposits  = flag.Int("deposits", 200, "documents that producers hand over themselves, at each pace")
	benchPaces     = flag.String("paces", "10,20,40", "deposits in a second while the way to their reports is timed")
	benchPackage   = flag.Int("package", 10_000, "units of the package that is sealed")
	benchScrub     = flag.Int("scrub", 512, "objects of 1 MiB that the scrub reads, in both replicas")
	benchDocuments = flag.Int("documents", 1_000_000, "documents that are searched; the aim speaks of 10000000")
	benchMost      = flag.Int("most", 1_000_000, "largest archive of the curve of costs")
	benchKeep      = flag.String("keep", "", "folder that keeps the database of the search: it is filled once, and gone on with where it broke")
	benchQueries   = flag.Int("queries", 1000, "searches in each state of the caches; with 0 the stock of -keep is filled and nothing is asked")
)

func figure(name string, value float64, unit, target string) {
	fmt.Printf("%-88s %12.2f %-12s (target %s)\n", name, value, unit, target)
}

// cpuTime is what this process has used so far: the archive, the signer, the broker, and what asks them.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// quantile of times, which it sorts.
func quantile(took []time.Duration, p float64) time.Duration {
	slices.Sort(took)
	return took[int(p*float64(len(took)-1))]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkReport is what `make bench-conservation` shows. Everything runs on this machine: the archive with its log, the signer
// with its Vault, authorities, the broker, and a PostgreSQL of the archive's own that syncs each commit.
func BenchmarkReport(b *testing.B) {
	b.Run("intake", reportIntake)
	b.Run("deposits", reportDeposits)
	b.Run("seal", reportSeal)
	b.Run("scrub", reportScrub)
	b.Run("search", reportSearch)
	b.Run("cost", reportCost)
}

// durable is a server that loses nothing at a power cut, with the archive's schema.
func durable(b *testing.B, dir string) (*postgres.Cluster, *pg.DB) {
	b.Helper()
	return pgtest.Durable(b, "conservation", dir, 16)
}

// openBench is a house as in production: two replicas, a log, probes at their usual pace, no spans kept.
func openBench(b *testing.B, db *pg.DB, lines ...string) *house {
	b.Helper()
	text, err := x509.MarshalPKCS8PrivateKey(logSeed())
	require.NoError(b, err)
	key := filepath.Join(b.TempDir(), "log.key")
	require.NoError(b, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600))
	disks := [2]string{b.TempDir(), b.TempDir()}
	h := openWith(b, true, fmt.Sprintf("  log: {origin: %s, key_file: %q}\n  storage: {primary: {fs: {dir: %q}}, second: {fs: {dir: %q}}}\n", origin, key, disks[0], disks[1])+strings.Join(lines, ""),
		func(o *runtest.Options) {
			o.DB, o.SpanProcessors, o.LogLevel = map[string]*pg.DB{"conservation": db}, nil, "warn"
		})
	h.disks = disks
	return h
}

// A document and a receipt of usual size.
var (
	benchDocument = strings.Repeat("<DettaglioLinee><Descrizione>Carta, penne e quaderni</Descrizione></DettaglioLinee>", 100)
	benchReceipt  = strings.Repeat("<RicevutaConsegna/>", 100)
)

// settled makes settled invoices whose bytes are in the platform's store, sixteen at a time, of which none was there before.
func (h *house) settled(b *testing.B, n int) []*invoicev1.InvoiceSettled {
	b.Helper()
	events, slots, run := make([]*invoicev1.InvoiceSettled, n), make(chan struct{}, 16), uuid.NewString()[:8]
	var all sync.WaitGroup
	put := func(content string) *eventv1.Blob {
		ref, err := h.probe.Blobs.Put(context.Background(), "acme", []byte(content))
		if err != nil {
			b.Error(err)
		}
		return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mimeXML}
	}
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			name := fmt.Sprintf("IT01234567897_%s_%d.xml", run, i)
			events[i] = &invoicev1.InvoiceSettled{
				Invoice: company + "/invoices/" + uuid.NewString(), SdiId: fmt.Sprint(run, i), FileName: name,
				Transmitted: put(fmt.Sprintf("<FatturaElettronica n='%s/%d'>%s</FatturaElettronica>", run, i, benchDocument)),
				Receipts:    []*invoicev1.Receipt{{Type: "RC", FileName: strings.TrimSuffix(name, ".xml") + "_RC_001.xml", Content: put(fmt.Sprintf("<RC n='%s/%d'>%s</RC>", run, i, benchReceipt))}},
				FiscalYear:  year, State: "INVOICE_STATE_DELIVERED",
				Bodies:          []*invoicev1.SettledBody{{DocumentType: "TD01", Number: fmt.Sprintf("%d/A", i), IssueDate: "2026-10-05"}},
				SellerVatNumber: "IT01234567897", SellerTaxCode: "01234567897", SellerName: "Alfa S.r.l.",
				BuyerVatNumber: fmt.Sprintf("IT%011d", i%500), BuyerName: fmt.Sprintf("Cliente %d S.p.A.", i%500),
			}
		})
	}
	all.Wait()
	require.False(b, b.Failed())
	return events
}

// awaitTaken waits until so many units are known to be in charge.
func (h *house) awaitTaken(want int) {
	for taken, _, _ := h.counts(); taken < want; taken, _, _ = h.counts() {
		time.Sleep(2 * time.Millisecond)
	}
}

// reportIntake settles invoices at a pace, and then as fast as they are taken in.
func reportIntake(b *testing.B) {
	_, db := durable(b, filepath.Join(b.TempDir(), "pg"))
	h := openBench(b, db, fmt.Sprintf("  deposits: {event_reports: %s}\n", defaultDeposits().EventReports))
	h.awaitAfter(b, h.settled(b, 100)) // pools, caches and folders are there
	paced := h.settled(b, *benchUnits)
	reports := h.listen(b)
	gap, settledAt := time.Second/time.Duration(*benchRate), make(map[string]time.Time, len(paced))
	began, already := time.Now(), len(h.taken)
	for i, ev := range paced {
		time.Sleep(time.Until(began.Add(time.Duration(i) * gap)))
		settledAt[ev.GetInvoice()] = time.Now()
		h.settle(b, context.Background(), ev)
	}
	given := float64(len(paced)) / time.Since(began).Seconds()
	h.awaitTaken(already + len(paced))
	var took []time.Duration
	h.mu.Lock()
	for i, ev := range h.taken[already:] {
		took = append(took, h.heard[already+i].Sub(settledAt[ev.GetSubject()]))
	}
	h.mu.Unlock()
	what := fmt.Sprintf("conservation: from settled to told that it is in charge, at %.0f units/s, two synced replicas,", given)
	figure(what+" p50", ms(quantile(took, 0.5)), "ms", "-")
	figure(what+" p99", ms(quantile(took, 0.99)), "ms", "< 1000")
	reported := reports.took(b, *benchUnits)
	figure("conservation: from taken in charge to the signed, stamped RdV that has it, with the log's proof, the same units, p50", ms(quantile(reported, 0.5)), "ms", "-")
	figure("conservation: the same, p99", ms(quantile(reported, 0.99)), "ms", "< 1000")
	stated := h.statedAfter(b, *benchUnits)
	figure("conservation: from taken in charge to its leaf in the log, the same units, p99", ms(quantile(stated, 0.99)), "ms", "< 1000")

	rush := h.settled(b, *benchUnits)
	already, cpu := len(h.taken), cpuTime(b)
	began = time.Now()
	h.settleAll(b, rush)
	h.awaitTaken(already + len(rush))
	figure("conservation: intake with two synced and read-back replicas and the log", float64(len(rush))/time.Since(began).Seconds(), "units/s", "> 500")
	figure("conservation: processor time of it, all but PostgreSQL", float64((cpuTime(b)-cpu).Microseconds())/float64(len(rush)), "µs/unit", "-")
}

func (h *house) awaitAfter(b *testing.B, events []*invoicev1.InvoiceSettled) {
	b.Helper()
	already := len(h.taken)
	h.settleAll(b, events)
	h.awaitTaken(already + len(events))
}

// statedAfter is how long the last n units waited for their leaf.
func (h *house) statedAfter(b *testing.B, n int) (took []time.Duration) {
	b.Helper()
	admin, pending := pgtest.Admin(b, h.DB("conservation")), 1
	for pending > 0 {
		require.NoError(b, admin.QueryRow(context.Background(), `SELECT count(*) FROM log_pending`).Scan(&pending))
		time.Sleep(20 * time.Millisecond)
	}
	rows, err := admin.Query(context.Background(), `SELECT extract(epoch FROM l.settled_at - u.created_at)::float8 FROM unit u JOIN log_leaf l ON l.subject_id = u.id ORDER BY u.id DESC LIMIT $1`, n)
	require.NoError(b, err)
	for rows.Next() {
		var seconds float64
		require.NoError(b, rows.Scan(&seconds))
		took = append(took, time.Duration(seconds*float64(time.Second)))
	}
	require.NoError(b, rows.Err())
	require.Len(b, took, n)
	return took
}

// reportSeal closes and seals a package, and reports on one document of it.
func reportSeal(b *testing.B) {
	_, db := durable(b, filepath.Join(b.TempDir(), "pg"))
	h := openBench(b, db)
	h.awaitAfter(b, h.settled(b, *benchPackage))
	n := strconv.Itoa(*benchPackage)
	began := time.Now()
	p := h.closePackage(b)
	require.EqualValues(b, *benchPackage, p.GetUnitCount())
	for p.GetState() != conservationv1.PackageState_PACKAGE_STATE_SEALED {
		time.Sleep(20 * time.Millisecond)
		p = h.pack(b, p.GetName())
	}
	figure("conservation: a package of "+n+" units from its closing to sealed, in both replicas", time.Since(began).Seconds(), "s", "< 60")
	figure("conservation: its ZIP", float64(p.GetArchive().GetSize())/1e6, "MB", "-")
	row, err := h.service.pack(context.Background(), "acme", sealArgs(b, p.GetName()))
	require.NoError(b, err)
	made := make([]time.Duration, 11)
	for i := range made {
		began = time.Now()
		_, err = h.service.writeIndex(context.Background(), row)
		require.NoError(b, err)
		made[i] = time.Since(began)
	}
	first := made[0]
	figure("conservation: its index made and stored, synced: median of eleven", quantile(made, 0.5).Seconds(), "s", "< 0.5")
	figure("conservation: the first of them", first.Seconds(), "s", "-")
	figure("conservation: slowest of them", made[len(made)-1].Seconds(), "s", "-")
	file := filepath.Join(b.TempDir(), "PIndex.xml")
	require.NoError(b, os.WriteFile(file, h.download(b, p.GetName(), conservationv1.PackageFile_PACKAGE_FILE_INDEX), 0o600))
	schema := reference(b, "sincro", "PIndex-2020_parer.xsd")
	lint(b, file, schema) // fails the run
	figure("conservation: that index is for xmllint "+map[bool]string{true: "well-formed", false: "valid"}[schema == ""], 1, "", "1")

	page, err := h.client.ListUnits(context.Background(), &conservationv1.ListUnitsRequest{Parent: "tenants/acme", Package: p.GetName(), PageSize: 1})
	require.NoError(b, err)
	api := h.reader()
	ask := func() (bool, error) {
		r, err := api.GetIntegrityReport(context.Background(), &conservationv1.GetIntegrityReportRequest{Name: page.GetUnits()[0].GetName()})
		return r.GetIntact(), err
	}
	h.await(b, "in the log", func() bool { _, err := ask(); return err == nil })
	took := make([]time.Duration, 10)
	for i := range took {
		began = time.Now()
		intact, err := ask()
		took[i] = time.Since(began)
		require.NoError(b, err)
		require.True(b, intact)
	}
	figure("conservation: report on the integrity of one of its documents, both replicas read whole, slowest of ten", quantile(took, 1).Seconds(), "s", "< 2")
}
